"""One recording of a step, ready to be replayed: a program, where its inputs come from, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trine import tree
from trine.backends.base import StepError
from trine.context import using
from trine.engine import ENGINE, Prepared
from trine.errors import CaptureError, Site, Where
from trine.ir.graph import TRACKED, Leaf, Node, reach
from trine.ops.base import CONSTANT, LITERAL, Op, apply, user_site
from trine.ops.base import source as source_node
from trine.tensor.guards import Guard
from trine.tensor.journal import commit
from trine.tensor.recording import Recording, Source, rebound
from trine.tensor.tensor import Tensor

_SIMPLE = (bool, int, float, str, bytes, type(None))


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of a recording: where its inputs are among the leaves and the rows before it.

    Attributes:
        op: the operation.
        type: of its result.
        site: the user's line.
        inputs: numbers of values.
        tracked: whether it kept its history.
    """

    op: Op
    type: Any
    site: Where | None
    inputs: tuple[int, ...]
    tracked: bool


class Slot(NamedTuple):
    """A value of a recording by its number, and its type."""

    number: int
    type: Any


class Given(NamedTuple):
    """An input by its number: what is returned is the handle that the caller passed."""

    position: int


class Target(NamedTuple):
    """Something that a recording re-binds.

    Attributes:
        handle: the handle.
        kind: "handle" for its value, "grad" for its gradient.
        slot: the new value; None for a gradient that is taken away.
    """

    handle: Tensor
    kind: str
    slot: Slot | None


class Entry:
    """A recording; it holds no values but constants.

    Values are numbered: first the leaves of the program, then the rows.

    Attributes:
        sources: where each leaf comes from: a `Source`, or a constant node.
        rows: the operations.
        outputs: the numbers of the values that survive.
        result: what each leaf that the function returns is: a `Slot`, a `Given`, or the very object.
        targets: what is re-bound.
        guards: what must still be the same.
        confirmed: whether a second recording was equal.
        attempts: recordings that differed from the one before, for no reason that a guard knows.
        moved: whether a guard was broken before the next recording.
        segmented: whether a value was needed inside, so that the Python runs every time.
        history: whether results carry gradients, so that the operations are recorded again rather than run.
    """

    def __init__(self, name: str, recording: Recording, inputs: Sequence[Tensor], guards: list[Guard]) -> None:
        """Number the values of a recording and find its program.

        Args:
            name: of the function, for errors.
            recording: one run.
            inputs: the handles that the function was given.
            guards: what must hold for a replay.
        """
        self.guards = guards
        self.confirmed = False
        self.attempts = 0
        self.moved = False
        self.segmented = recording.capture.forced
        self.structure = recording.structure
        start = recording.capture.start
        given = {id(x): i for i, x in enumerate(inputs)}
        written = {id(write.handle) for write in recording.writes}
        kept = [_kept(leaf, given, written, start) for leaf in recording.result]
        roots = [leaf.node for leaf, keep in zip(recording.result, kept, strict=True) if keep is None]
        roots += [write.node for write in recording.writes if write.node is not None]
        self.history = any(node.flags & TRACKED and type(node) is not Leaf for node in roots)
        prepared = _prepared(
            name, recording, list({node.serial: node for node in roots}.values()), [x.node for x in inputs]
        )
        sources = recording.capture.sources
        self.program = prepared.program
        self.sources: list[Source | Node] = [sources.get(leaf.serial, leaf) for leaf in prepared.leaves]
        number = {leaf.serial: i for i, leaf in enumerate(prepared.leaves)}
        number |= {node.serial: len(prepared.leaves) + i for i, node in enumerate(prepared.order)}
        self.rows = [Row(n.op, n.type, n.site, e, bool(n.flags & TRACKED))
                     for n, e in zip(prepared.order, prepared.edges, strict=True)]  # fmt: skip
        self.outputs = [number[node.serial] for node in prepared.outputs]
        self.result: list[Any] = [
            Slot(number[leaf.node.serial], leaf.type) if keep is None else keep[0]
            for leaf, keep in zip(recording.result, kept, strict=True)
        ]
        self.targets = [
            Target(w.handle, w.kind, None if w.node is None else Slot(number[w.node.serial], w.node.type))
            for w in recording.writes
        ]
        if self.segmented:  # its Python runs every time: nothing of it is needed again, its values least of all
            self.sources, self.rows = [], []
        self._first: Prepared | None = prepared

    def run_first(self) -> None:
        """Compute what was just recorded into its own nodes, unless it stays recorded with its history."""
        prepared, self._first = self._first, None
        if prepared is None or self.history:
            return
        buffers = prepared.run([leaf.buffer for leaf in prepared.leaves])
        for node, buffer in zip(prepared.outputs, buffers, strict=True):
            node.buffer = buffer
            node.inputs = ()

    def differs(self, other: Entry) -> str:
        """What another recording of the same call does differently; empty if nothing."""
        if self.segmented != other.segmented:
            return "a value was needed in one of them"
        for mine, theirs in zip(self.rows, other.rows, strict=False):
            if mine.op is not theirs.op or mine.type != theirs.type or mine.inputs != theirs.inputs:
                where = f" at {Site(*theirs.site)}" if theirs.site else ""
                return f"{mine.op.name} -> {mine.type} became {theirs.op.name} -> {theirs.type}{where}"
        if len(self.rows) != len(other.rows) or len(self.sources) != len(other.sources):
            return f"{len(self.rows)} operations on {len(self.sources)} values became {len(other.rows)} on " + str(
                len(other.sources))  # fmt: skip
        for mine_source, their_source in zip(self.sources, other.sources, strict=True):
            text = _source_difference(mine_source, their_source)
            if text:
                return text
        if [(id(t.handle), t.kind, t.slot) for t in self.targets] != [
            (id(t.handle), t.kind, t.slot) for t in other.targets
        ]:
            return "other tensors are re-bound"
        if self.structure != other.structure:
            return "the result has another structure"
        return next(filter(None, map(_result_difference, self.result, other.result)), "")

    def replay(self, handles: Sequence[Tensor]) -> Any:
        """The result for new arguments; every handle points at its new value afterwards, or none does."""
        leaves = [self._leaf(source, handles) for source in self.sources]
        values = self._recorded_again(leaves) if self.history else self._run(leaves)
        made = {slot: values(slot) for slot in self.result if isinstance(slot, Slot)}
        result = [
            Tensor(made[x]) if isinstance(x, Slot) else handles[x.position] if isinstance(x, Given) else x
            for x in self.result
        ]
        new = [(t.handle, t.kind, None if t.slot is None else values(t.slot)) for t in self.targets]
        commit([(h, rebound(h, n)) for h, kind, n in new if kind == "handle" and n is not None],
               [(h, None if n is None else Tensor(n)) for h, kind, n in new if kind == "grad"])  # fmt: skip
        return tree.unflatten(self.structure, result)

    def _leaf(self, source: Source | Node, handles: Sequence[Tensor]) -> Node:
        if isinstance(source, Node):
            return source
        node = handles[source.position].node if source.kind == "argument" else source.node
        assert node is not None  # a guard holds that the gradient exists
        if node.buffer is None and not self.history:
            ENGINE.evaluate((node,))
        return node

    def _run(self, leaves: list[Node]) -> Callable[[Slot], Node]:
        try:
            buffers = self.program.run([leaf.buffer for leaf in leaves])
        except StepError as failed:
            site = self.rows[failed.position - len(leaves)].site
            raise failed.error.locate(Site(*site) if site else None) from None
        made = dict(zip(self.outputs, buffers, strict=True))

        def value(slot: Slot) -> Node:
            buffer = made[slot.number] if slot.number in made else leaves[slot.number].buffer
            return Node(CONSTANT, (), slot.type, 0, None, buffer)

        return value

    def _recorded_again(self, leaves: list[Node]) -> Callable[[Slot], Node]:
        """The operations on the present values, without the user's Python: gradients flow where they did."""
        values = list(leaves)
        for row in self.rows:
            with using(site=row.site, grad=row.tracked):
                inputs = [values[i] for i in row.inputs]
                values.append(apply(row.op, *inputs) if inputs else source_node(row.op, Node))
        return lambda slot: values[slot.number]


def _kept(leaf: Any, given: dict[int, int], written: set[int], start: int) -> tuple[Any] | None:
    """What a returned leaf stays at every replay: an argument, the very object; None for a value of the program."""
    if not isinstance(leaf, Tensor):
        return (leaf,)
    if id(leaf) in given:
        return (Given(given[id(leaf)]),)
    outside = leaf.node.serial < start and leaf.node.op is not LITERAL
    return (leaf,) if id(leaf) in written or outside else None


def _prepared(name: str, recording: Recording, roots: list[Node], nodes: Sequence[Node]) -> Prepared:
    """The program of what was recorded since the start and leads to the roots."""
    start, sources = recording.capture.start, recording.capture.sources
    found = reach(roots, lambda n: n.serial < start or n.buffer is not None)
    outside = [n for n in found if n.serial < start]
    for node in outside:
        if node.serial not in sources and node.op is not CONSTANT and node.op is not LITERAL:
            raise CaptureError(name, "the step goes on from a history that was recorded before it",
                               got=f"{node.op.name} -> {node.type}" + (f" of {Site(*node.site)}" if node.site else ""),
                               fix="record it inside the step, or detach() what is passed in").locate(
                Site(*user_site()))  # fmt: skip
    with using(capture=None):
        ENGINE.evaluate(outside)
    order = [n for n in found if n.serial >= start and n.buffer is None]
    inside = {n.serial for n in order}
    given = {n.serial for n in nodes}
    passed = [n for n in roots if n.serial not in inside and n.serial not in given]
    return ENGINE.prepare(order, [n for n in roots if n.serial in inside], [*nodes, *passed])


def _source_difference(mine: Source | Node, theirs: Source | Node) -> str:
    if isinstance(mine, Source) or isinstance(theirs, Source):
        return "" if mine == theirs else "a value comes from another tensor"
    old, new = np.asarray(mine.buffer), np.asarray(theirs.buffer)
    if old is new or (old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()):
        return ""
    if old.size == 1 and new.size == 1:
        return f"a number changed from {old.item()!r} to {new.item()!r}"
    return f"a constant {theirs.type} made inside has other values"


def _result_difference(mine: Any, theirs: Any) -> str:
    same = mine is theirs or (
        type(mine) is type(theirs) and isinstance(mine, (*_SIMPLE, Slot, Given)) and mine == theirs
    )
    if same or (mine != mine and theirs != theirs and isinstance(mine, float)):
        return ""
    if isinstance(mine, Slot | Given | Tensor) or isinstance(theirs, Slot | Given | Tensor):
        return "the result has other tensors"
    return f"the result holds {mine!r:.40}, then {theirs!r:.40}"
