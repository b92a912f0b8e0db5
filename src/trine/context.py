"""What is true while a piece of the user's program runs: gradients on or off, training or not, the layers on the stack.

One immutable `Context` per thread and task, replaced as a whole. Recording reads it once per operation.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from trine.errors import Where

if TYPE_CHECKING:
    from trine.dtypes import DType


class Journal(Protocol):
    """Sees which handles a piece of program re-binds: transactions undo them, captures make them outputs."""

    def write(self, handle: Any) -> None:
        """`handle` is about to be re-bound, or its `.grad` is about to change."""


class Capture(Protocol):
    """Sees which handles from outside a piece of program reads, and whether it needs a value before its end.

    Attributes:
        start: nodes with a smaller serial were recorded before.
    """

    start: int

    def read(self, handle: Any) -> None:
        """`handle`, made before the start, is an input of an operation."""

    def asks(self, handle: Any) -> None:
        """Whether `handle` wants gradients is asked."""

    def force(self) -> None:
        """A value is needed now."""


class Context:
    """The state that recording depends on; never changed, only replaced (`replace`)."""

    __slots__ = ("capture", "grad", "journal", "path", "policy", "site", "training")

    def __init__(
        self,
        grad: bool = True,
        training: bool | None = None,
        path: str = "",
        site: Where | None = None,
        journal: Journal | None = None,
        capture: Capture | None = None,
        policy: tuple[DType, DType] | None = None,
    ) -> None:
        """Hold the parts.

        Args:
            grad: whether operations keep the history that gradients need.
            training: the mode that `fit`, `evaluate` and `predict` set; None outside of them.
            path: the layers on the stack, outermost first, for error messages and profiles.
            site: the user's line where it is known already; None means: look at the stack.
            journal: sees handles being re-bound; None when nobody watches.
            capture: sees handles being read; None when nobody watches.
            policy: (parameter dtype, compute dtype) of layers; None is float32 for both.
        """
        self.grad = grad
        self.training = training
        self.path = path
        self.site = site
        self.journal = journal
        self.capture = capture
        self.policy = policy

    def replace(self, **changes: Any) -> Context:
        """A context like this one with some parts changed."""
        parts = {name: getattr(self, name) for name in Context.__slots__}
        return Context(**(parts | changes))


CURRENT: Final[ContextVar[Context]] = ContextVar("trine.context", default=Context())  # noqa: B039 - never mutated


class using(ContextDecorator):
    """Run a block, or a function, under a changed context: `with using(grad=False): ...`.

    A class and not a generator: a Ctrl-C on the way in or out leaves nothing behind that sets the context back later.
    """

    def __init__(self, **changes: Any) -> None:
        """Hold the changes until the block is entered."""
        self._changes = changes

    def __enter__(self) -> None:
        """Change the context, or, when interrupted, leave it as it is."""
        self._outer = CURRENT.get()
        try:
            CURRENT.set(self._outer.replace(**self._changes))
        except BaseException:
            CURRENT.set(self._outer)
            raise

    def __exit__(self, *exception: object) -> None:
        """Set the context back."""
        CURRENT.set(self._outer)

    def _recreate_cm(self) -> using:
        return using(**self._changes)  # a decorated function may call itself
