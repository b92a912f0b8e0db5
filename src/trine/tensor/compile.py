"""`trine.compile`: a step is recorded, compared with a second recording, and then replayed without its Python.

The contract is `docs/semantics.md`, "A captured step": guards say when a recording holds, handles that the step
re-binds are outputs of its program, and an exception leaves every handle as it was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from functools import update_wrapper
from threading import RLock
from types import MethodType
from typing import Any, Final, Generic, ParamSpec, TypeVar

import numpy as np

from trine import tree
from trine.context import CURRENT, Context
from trine.engine import ENGINE
from trine.errors import CaptureError, Site
from trine.ir.graph import ABSTRACT, TRACKED, Node
from trine.ops.base import IDENTITY, user_site
from trine.tensor.guards import first_broken, guards
from trine.tensor.recording import Recording, Source, record
from trine.tensor.replay import Entry
from trine.tensor.tensor import Tensor, to_tensor

P = ParamSpec("P")
R = TypeVar("R")
_BY_VALUE: Final = frozenset((bool, int, str, bytes))  # others count by identity: equal need not mean the same
KINDS_KEPT: Final = 32  # kinds of calls of one function
VARIANTS_KEPT: Final = 4  # recordings of one kind: with and without gradients from before, for example


class Same:
    """An object in a key, equal to itself alone, and held so that no other takes its address."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        """Hold it."""
        self.held = held

    def __eq__(self, other: object) -> bool:
        """Whether both hold one object."""
        return isinstance(other, Same) and self.held is other.held

    def __hash__(self) -> int:
        """Consistent with equality."""
        return id(self.held)


class Call:
    """The arguments of one call, sorted.

    A tensor that wants gradients, or that the step re-binds, is part of the recording like one read from outside: it is
    passed as it is. Any other is an input: the function gets a handle of its own on the same value.

    Attributes:
        leaves: all arguments, arrays as tensors.
        structure: the container they came in.
        inputs: the handles that are inputs, each once.
        key: what another call must share to replay a recording of this one.
    """

    def __init__(self, leaves: list[Any], structure: tree.Structure, rebound: frozenset[int], context: Context) -> None:
        """Sort; `rebound` are the places of arguments that the step re-binds."""
        self.leaves = leaves
        self.structure = structure
        self.inputs: list[Tensor] = []
        number: dict[int, int] = {}
        parts: list[Any] = []
        for i, x in enumerate(leaves):
            if not isinstance(x, Tensor):
                parts.append(_static(x))
            elif x._requires or i in rebound:
                parts.append(Same(x))
            else:
                if id(x) not in number:
                    number[id(x)] = len(self.inputs)
                    self.inputs.append(x)
                parts.append((number[id(x)], x.type, x.node.flags & TRACKED))
        self.key = (structure, tuple(parts), context.grad, context.training, context.policy)

    @property
    def static(self) -> list[Any]:
        """The arguments that are no tensors."""
        return [leaf for leaf in self.leaves if not isinstance(leaf, Tensor)]

    def opened(self) -> tuple[Any, list[Tensor]]:
        """The arguments with a handle of the function's own for each input, and those handles."""
        fresh = [Tensor(_on(x.node)) for x in self.inputs]
        place = {id(x): f for x, f in zip(self.inputs, fresh, strict=True)}
        return tree.unflatten(self.structure, [place.get(id(leaf), leaf) for leaf in self.leaves]), fresh


class Compiled(Generic[P, R]):
    """A step that replays its recording; made by `trine.compile`.

    Attributes:
        function: the function itself.
        recorded: how often its Python ran.
        replayed: how often a program ran in its place.
        broken: what a guard said that failed at the last call; empty if none did.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        """Wrap a function or a module."""
        self.function = function
        self.recorded = 0
        self.replayed = 0
        self.broken = ""
        self._entries: OrderedDict[Any, list[Entry]] = OrderedDict()
        self._rebound: frozenset[int] = frozenset()  # places of arguments that the step re-binds
        self._lock = RLock()
        update_wrapper(self, function, updated=())

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method, where a class holds the step."""
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns, and re-binds what it re-binds."""
        context = CURRENT.get()
        leaves, structure = tree.flatten((args, kwargs))
        leaves = [to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if context.capture is not None or any(x.node.flags & ABSTRACT for x in tensors):
            return self.function(*args, **kwargs)
        try:
            return self._call(leaves, structure, context)  # type: ignore[no-any-return]  # the class of the handle given
        except BaseException:
            CURRENT.set(context)  # a Ctrl-C on the way out of an inner block may have left that block's
            raise

    def _call(self, leaves: list[Any], structure: tree.Structure, context: Context) -> Any:
        """Replay where a recording fits, record otherwise."""
        ENGINE.evaluate([x.node for x in leaves if isinstance(x, Tensor)])
        while True:
            call = Call(leaves, structure, self._rebound, context)
            entry = self._fitting(call.key)
            if entry is not None and not entry.segmented:
                self.replayed += 1
                return entry.replay(call.inputs)
            recording, fresh = self._run(call)
            changed = {id(f) for f in fresh} | {id(x) for x in call.inputs}
            changed &= recording.touched
            if not changed:
                return self._finish(call, recording, fresh)
            recording.journal.rollback()
            own = {id(f): id(x) for f, x in zip(fresh, call.inputs, strict=True)}
            changed = {own.get(i, i) for i in changed}
            self._rebound |= {i for i, leaf in enumerate(leaves) if id(leaf) in changed}

    def _fitting(self, key: Any) -> Entry | None:
        """The confirmed recording whose guards all hold, if any."""
        self.broken = ""
        with self._lock:
            entries = list(self._entries.get(key, ()))
        for entry in entries:
            if entry.confirmed:
                broken = first_broken(entry.guards)
                if broken is None:
                    return entry
                self.broken = broken.broken
        return None

    def _run(self, call: Call) -> tuple[Recording, list[Tensor]]:
        """Run the Python and watch."""
        self.recorded += 1
        before = self._unconfirmed(call.key)
        if before is not None and (broken := first_broken(before.guards)) is not None:
            before.moved = True
            self.broken = self.broken or broken.broken
        (args, kwargs), fresh = call.opened()
        return record(self.function, args, kwargs, [f.node for f in fresh]), fresh

    def _finish(self, call: Call, recording: Recording, fresh: Sequence[Tensor]) -> Any:
        """Compare with the recording before, compute, keep."""
        before = self._unconfirmed(call.key)
        try:
            entry = Entry(self._name, recording, fresh, guards(self.function, recording, call.static))
            entry.confirmed = entry.segmented
            if before is not None and not entry.segmented:
                self._compare(before, entry)
            entry.run_first()
        except BaseException:
            recording.journal.rollback()
            raise
        with self._lock:
            kept = [e for e in self._entries.pop(call.key, ()) if e.confirmed and not e.segmented]
            self._entries[call.key] = [entry, *kept][:VARIANTS_KEPT]
            if len(self._entries) > KINDS_KEPT:
                self._entries.popitem(last=False)
        own = {id(f): x for f, x in zip(fresh, call.inputs, strict=True)}
        return tree.unflatten(recording.structure, [own.get(id(leaf), leaf) for leaf in recording.result])

    def _unconfirmed(self, key: Any) -> Entry | None:
        with self._lock:
            return next((entry for entry in self._entries.get(key, ()) if not entry.confirmed), None)

    def _compare(self, before: Entry, entry: Entry) -> None:
        """Confirm a recording that is equal to the one before it.

        The first call may build parameters and state, and something may have changed between the calls: it is the
        second difference without a reason that is refused.
        """
        side_effect = first_broken([guard for guard in before.guards if not guard.state])
        moved = before.moved
        difference = before.differs(entry)
        if not difference and side_effect is not None and not moved:
            difference = f"{side_effect.broken} by the step itself"
        if not difference:
            entry.confirmed = not moved or side_effect is None
            return
        entry.attempts = before.attempts if moved else before.attempts + 1
        if entry.attempts > 1:
            fix = "pass what changes as an argument, keep it in a tensor that is re-bound with assign(), or leave "
            fix += "trine.compile away (in fit: run_eagerly=True)"
            raise CaptureError(self._name, f"two calls record different steps: {difference}",
                               got="a replay would repeat the first", fix=fix).locate(Site(*user_site()))  # fmt: skip

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__qualname__", type(self.function).__name__))

    def explain(self) -> str:
        """What was recorded for each kind of call: operations, inputs, what is re-bound, guards."""
        lines = [f"{self._name}: recorded {self.recorded} times, replayed {self.replayed} times"]
        for entry in [entry for entries in self._entries.values() for entry in entries]:
            state = "runs its Python (a value is needed inside)" if entry.segmented else (
                "replayed with its history" if entry.history else "replayed") if entry.confirmed else (
                "not compared yet")  # fmt: skip
            handles = sum(isinstance(s, Source) and s.kind != "argument" for s in entry.sources)
            lines.append(f"  {state}: {len(entry.rows)} operations, {handles} tensors read, "
                         f"{len(entry.targets)} re-bound, {len(entry.guards)} guards")  # fmt: skip
        return "\n".join(lines)


def _on(node: Node) -> Node:
    """A node on the value of another one: what was read through it is told apart from what was read through that."""
    history = node.flags & TRACKED
    return Node(IDENTITY, (node,) if history else (), node.type, history, None, node.buffer)


def _static(value: Any) -> Any:
    """What stands for an argument that is no tensor: numbers and texts by value and type, 0.0 apart from -0.0."""
    if isinstance(value, float | np.floating):
        return (type(value), float(value).hex())
    if isinstance(value, np.integer | np.bool_):
        return (type(value), value.item())
    return (type(value), value) if type(value) in _BY_VALUE or isinstance(value, Enum) else Same(value)


def compile(function: Callable[P, R]) -> Compiled[P, R]:
    """The function, recorded once and then replayed as one program.

    Tensors and NumPy arrays among the arguments are inputs. Anything else is part of the recording, and so is a tensor
    that wants gradients or that the function re-binds: another one records anew. Tensors that the function reads from
    outside (parameters, optimiser state) are read at every call, and those that it re-binds are re-bound at every call.
    The second call records again and compares.

    Raises:
        CaptureError: two recordings of the same call differ.

    Example:
        >>> import trine
        >>> square = trine.compile(lambda x: x * x)
        >>> [square(trine.asarray(float(i))).item() for i in range(4)]
        [0.0, 1.0, 4.0, 9.0]
    """
    return Compiled(function)
