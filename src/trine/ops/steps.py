"""Graphs run with NumPy, one operation after the other: by the reference back end, and inside control flow.

Every operation that computes sees contiguous arrays, so that results depend on values and shapes alone, never on the
strides that an earlier operation happened to leave.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trine.errors import TrineError
from trine.ir.graph import Graph
from trine.ops.base import Array, Op


class StepError(Exception):
    """An error of one node while a program ran.

    Attributes:
        position: the node's position in the graph.
        error: what the operation raised.
    """

    def __init__(self, position: int, error: TrineError) -> None:
        """Hold both."""
        super().__init__(position, error)
        self.position = position
        self.error = error


class Steps:
    """A closed graph as a list of steps: operation, input slots, output slot, slots to free."""

    def __init__(self, graph: Graph) -> None:
        """Number the nodes and find the last use of each."""
        slot = {node.serial: i for i, node in enumerate(graph.nodes)}
        given = {node.serial for node in graph.inputs}
        last: dict[int, int] = {}
        self.empty: list[Any] = [None] * len(graph.nodes)
        self.steps: list[tuple[int, Op, tuple[int, ...], list[int]]] = []
        for i, node in enumerate(graph.nodes):
            if node.serial in given:
                continue
            if node.buffer is not None:
                self.empty[i] = node.buffer
                continue
            sources = tuple(slot[value.serial] for value in node.inputs)
            last.update(dict.fromkeys(sources, len(self.steps)))
            self.steps.append((i, node.op, sources, []))
        self.inputs = [slot[node.serial] for node in graph.inputs]
        self.outputs = [slot[node.serial] for node in graph.outputs]
        kept = {*self.outputs, *(i for i, constant in enumerate(self.empty) if constant is not None)}
        for source, step in last.items():
            if source not in kept:
                self.steps[step][3].append(source)

    def run(self, arrays: Sequence[Any], bind: Callable[[Op], Op] | None = None) -> list[Any]:
        """The outputs for these inputs; `bind` gives symbolic sizes in an operation's attributes their numbers.

        Raises:
            StepError: an operation raised.
        """
        values = self.empty.copy()
        for i, array in zip(self.inputs, arrays, strict=True):
            values[i] = array
        for i, op, sources, dead in self.steps:
            try:
                values[i] = execute(op if bind is None else bind(op), [values[s] for s in sources])
            except TrineError as error:
                raise StepError(i, error) from None
            for s in dead:
                values[s] = None
        return [values[i] for i in self.outputs]

    def inner(self, arrays: Sequence[Any]) -> list[Any]:
        """The outputs inside of another operation, whose error an error in here becomes."""
        try:
            return self.run(arrays)
        except StepError as failed:
            raise failed.error from None


_STEPS: weakref.WeakKeyDictionary[Op, dict[int, Steps]] = weakref.WeakKeyDictionary()


def runner(op: Op, graph: Graph) -> Callable[[Sequence[Any]], list[Any]]:
    """What runs a graph that `op` holds, on arrays; its steps are remembered as long as `op` lives."""
    known = _STEPS.setdefault(op, {})
    found = known.get(id(graph))
    if found is None:
        found = known[id(graph)] = Steps(graph)
    return found.inner


def execute(op: Op, arrays: Sequence[Any]) -> Any:
    """The result of one operation on arrays: read-only, and a tuple for operations with several results."""
    if op.form not in ("movement", "output") and not op.several:
        arrays = [np.ascontiguousarray(a) if isinstance(a, np.ndarray) and a.ndim else a for a in arrays]
    result = op.reference(*arrays)
    return tuple(read_only(part) for part in result) if isinstance(result, tuple) else read_only(result)


def read_only(array: Any) -> Array:
    """The array, or a view of it that cannot be written."""
    out = np.asarray(array)
    if out.flags.writeable:
        out = out.view()
        out.flags.writeable = False
    return out
