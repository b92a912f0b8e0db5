"""Transactions over handles: every re-bind is remembered, undone on an error, and committed in one swap."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from trine.context import CURRENT, Journal
from trine.ir.graph import Node


class Transaction:
    """Remembers the state of each handle before its first re-bind; `rollback` restores all of them.

    Attributes:
        before: (handle, node, gradient, requires) by the handle's identity, in order of the first write.
    """

    def __init__(self, outer: Journal | None = None) -> None:
        """Start empty; writes are passed on to an outer journal, which wants to know of them too."""
        self.before: dict[int, tuple[Any, Node, Any, bool]] = {}
        self.outer = outer

    def write(self, handle: Any) -> None:
        """Remember the handle as it is now."""
        if id(handle) not in self.before:
            self.before[id(handle)] = (handle, handle.node, handle._grad, handle._requires)
        if self.outer is not None:
            self.outer.write(handle)

    def rollback(self) -> None:
        """Point every handle at what it held before."""
        before = list(self.before.values())

        def restore() -> None:
            for handle, node, gradient, requires in before:
                handle.node, handle._grad, handle._requires = node, gradient, requires

        undisturbed(restore)
        self.before.clear()


class transaction:
    """A block whose re-binds of handles are all undone when it ends by an exception, Ctrl-C included.

    No generator: one that Ctrl-C cuts off on the way out of a block that went well would undo it when it is collected.
    """

    def __enter__(self) -> Transaction:
        """Begin to remember."""
        self._outer = CURRENT.get()
        self._journal = Transaction(self._outer.journal)
        try:
            CURRENT.set(self._outer.replace(journal=self._journal))
        except BaseException:
            CURRENT.set(self._outer)
            raise
        return self._journal

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Undo what the block did if it failed."""
        CURRENT.set(self._outer)  # a Ctrl-C on the way out of an inner block may have left that block's
        if kind is not None:
            self._journal.rollback()


def commit(bindings: Sequence[tuple[Any, Node]], gradients: Sequence[tuple[Any, Any]] = ()) -> None:
    """Point each handle at its new node, and give each its new `.grad`: all of them, or none if a signal comes first.

    Args:
        bindings: handles and nodes.
        gradients: handles and tensors, or None for a gradient that is taken away.
    """
    journal = CURRENT.get().journal

    def swap() -> None:
        for handle, node in bindings:
            if journal is not None:
                journal.write(handle)
            handle.node = node
        for handle, gradient in gradients:
            if journal is not None:
                journal.write(handle)
            handle._grad = gradient

    undisturbed(swap)


def undisturbed(action: Callable[[], None]) -> None:
    """Run `action` with Ctrl-C held back until it is done; then the program's own handler gets it.

    The handler is exchanged rather than the signal masked: the system may hand a signal to any thread, but its Python
    handler runs in the main thread, between two instructions. Other threads are never interrupted by one.
    """
    theirs = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(theirs):
        action()
        return
    arrived: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: arrived.append((number, frame)))
    try:
        action()
    finally:
        signal.signal(signal.SIGINT, theirs)
        if arrived:
            theirs(*arrived[0])
