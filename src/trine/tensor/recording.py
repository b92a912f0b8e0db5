"""Recording a function once: what it read, what it re-bound, what it returned.

`trine.compile` replays recordings, `trine.trace` makes graphs of them, files store them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trine import tree
from trine.context import CURRENT, using
from trine.ir.graph import TRACKED, Leaf, Node, moment
from trine.ops.base import IDENTITY, LITERAL
from trine.tensor.journal import Transaction
from trine.tensor.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input of a recording comes from at a replay.

    Attributes:
        kind: "argument", "handle" (the value a handle points at) or "grad" (its gradient).
        position: the argument's number.
        handle: the handle.
    """

    kind: str
    position: int = -1
    handle: Tensor | None = None

    @property
    def node(self) -> Node | None:
        """The node of a handle or gradient now; None where there is no gradient."""
        assert self.handle is not None
        if self.kind == "handle":
            return self.handle.node
        return None if self.handle._grad is None else self.handle._grad.node

    def __eq__(self, other: object) -> bool:
        """Whether both mean the same place."""
        return isinstance(other, Source) and (self.kind, self.position) == (other.kind, other.position) and (
            self.handle is other.handle)  # fmt: skip

    def __hash__(self) -> int:
        """Consistent with equality."""
        return hash((self.kind, self.position, id(self.handle)))


@dataclass(frozen=True, slots=True)
class Write:
    """A handle that a recording re-binds.

    Attributes:
        handle: the handle.
        kind: "handle" for its value, "grad" for its gradient.
        node: the new node; None for a gradient that is taken away.
    """

    handle: Tensor
    kind: str
    node: Node | None


class StepCapture:
    """Watches a function run: see `trine.context.Capture`.

    Attributes:
        start: nodes with a smaller serial were recorded before.
        sources: where values from outside come from, by the serial of their node.
        aliases: pairs of places that held the same value.
        absent: handles, by identity, that had no gradient from before when it was asked for.
        asked: handles, by identity, of which it was asked whether they want gradients.
        gradients: the handles that owned a gradient from before, by the identity of that gradient.
        called_modules: the modules called, each with its version before the call.
        forced: whether a value was needed before the end.
    """

    def __init__(self, journal: Transaction) -> None:
        """Start now; the journal says what was re-bound since."""
        self.start = 0
        self.sources: dict[int, Source] = {}
        self.aliases: set[tuple[Source, Source]] = set()
        self.absent: dict[int, Tensor] = {}
        self.asked: dict[int, Tensor] = {}
        self.gradients: dict[int, Tensor] = {}
        self.called_modules: dict[int, tuple[Any, int]] = {}
        self.functions: list[Any] = []
        self.forced = False
        self._journal = journal

    def argument(self, node: Node, position: int) -> None:
        """Name a node an argument."""
        self.sources[node.serial] = Source("argument", position)

    def read(self, handle: Any) -> None:
        """Remember the handle that a value came through; values that come as nodes have one already or are constant."""
        if isinstance(handle, Tensor) and handle.node.op is not LITERAL:
            owner = self.gradients.get(id(handle))
            self._came(handle.node, Source("handle", handle=handle) if owner is None else Source("grad", handle=owner))

    def read_grad(self, handle: Tensor) -> None:
        """Remember that a gradient from before was read, or that there was none."""
        gradient = handle._grad
        if gradient is not None:
            if gradient.node.serial < self.start:
                self.gradients[id(gradient)] = handle
                self._came(gradient.node, Source("grad", handle=handle))
            return
        before = self._journal.before.get(id(handle))
        if before is None or before[2] is None:
            self.absent[id(handle)] = handle

    def _came(self, node: Node, source: Source) -> None:
        known = self.sources.setdefault(node.serial, source)
        if known is not source and known != source and known.kind != "argument":
            self.aliases.add((known, source))

    def asks(self, handle: Tensor) -> None:
        """Remember that the step may depend on whether a tensor wants gradients."""
        if handle.node.serial < self.start:
            self.asked[id(handle)] = handle

    def called(self, module: Any) -> None:
        """Remember a module and its version."""
        self.called_modules.setdefault(id(module), (module, module.version))

    def uses(self, function: Any) -> None:
        """Remember a function of the user's that Trine's own code calls: a loss, a metric."""
        self.functions.append(function)

    def force(self) -> None:
        """A value is needed now: the step cannot be replayed without its Python."""
        self.forced = True


@dataclass(slots=True)
class Recording:
    """One run of a function.

    Attributes:
        result: the leaves it returned, tensors and other objects.
        structure: the container they came in.
        writes: the handles it re-bound, with their last values.
        capture: what it read.
        journal: the handles as they were before; `rollback` undoes the run.
    """

    result: list[Any]
    structure: tree.Structure
    writes: list[Write]
    capture: StepCapture
    journal: Transaction

    @property
    def touched(self) -> set[int]:
        """The identities of the handles that it re-bound or whose gradient it asked for."""
        asked = {*self.capture.absent, *map(id, self.capture.gradients.values())}
        return asked | {id(write.handle) for write in self.writes}


def record(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], nodes: Sequence[Node]
) -> Recording:
    """Run `function` once and watch; `nodes` are those of the arguments. An exception undoes every re-bind."""
    outer = CURRENT.get()
    journal = Transaction(outer.journal)
    capture = StepCapture(journal)
    for position, node in enumerate(nodes):
        capture.argument(node, position)
    capture.start = moment()
    try:
        with using(capture=capture, journal=journal):
            returned = function(*args, **kwargs)
        leaves, structure = tree.flatten(returned)
        return Recording(leaves, structure, _writes(journal, capture), capture, journal)
    except BaseException:
        CURRENT.set(outer)  # a Ctrl-C on the way out of an inner block may have left that block's
        journal.rollback()
        raise


def _writes(journal: Transaction, capture: StepCapture) -> list[Write]:
    """What is re-bound of that which lives on; handles and gradients made inside do not."""
    writes: list[Write] = []
    for handle, node, gradient, _ in journal.before.values():
        if node.serial >= capture.start:
            continue
        owner = capture.gradients.get(id(handle))
        now: Node = handle.node
        if now is not node and owner is None:
            writes.append(Write(handle, "handle", now))
        elif now is not node and owner is not None and owner._grad is handle:  # p.grad *= 0.5
            writes.append(Write(owner, "grad", now))
        new = handle._grad
        if new is not gradient:
            writes.append(Write(handle, "grad", None if new is None else new.node))
    return writes


def rebound(handle: Tensor, node: Node) -> Node:
    """The node for a handle that a replay re-binds: a leaf if it wants gradients and the value has no history."""
    if type(node) is Leaf:
        node.owner = weakref.ref(handle)
    if not handle._requires or node.flags & TRACKED:
        return node
    leaf = Leaf(IDENTITY, () if node.buffer is not None else (node,), node.type, TRACKED, node.site, node.buffer)
    leaf.owner = weakref.ref(handle)
    return leaf
