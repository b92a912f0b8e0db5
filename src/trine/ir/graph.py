"""The graph: types, nodes, values, and closed graphs (regions).

A `Node` is one application of an operation to other nodes. It is also the value that the operation returns: nodes with
several results have a tuple of types, and an `Output` node picks one of them. Nodes are numbered in order of creation,
so sorting by `serial` is a topological order; no walk here is recursive.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from trine.dtypes import DType
from trine.errors import Where
from trine.shapes import Shape, format_shape

if TYPE_CHECKING:
    from trine.ops.base import Op

TRACKED: Final = 1  # depends on a leaf that wants a gradient
ABSTRACT: Final = 2  # depends on a placeholder, so it has no value
CONSUMED: Final = 4  # its history was used up by backward()
PENDING: Final = 8  # in the recorder's list of values not computed yet

_serial: Final = count().__next__


class Type(NamedTuple):
    """What is known of a value before it exists: its shape (sizes or symbols) and its data type."""

    shape: Shape
    dtype: DType

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __str__(self) -> str:
        """`f32[32, 96]`."""
        return f"{self.dtype.code}{format_shape(self.shape)}"


def moment() -> int:
    """A serial that parts the nodes made before this call from those made after it."""
    return _serial()


def single(kind: Any) -> bool:
    """Whether a node's type is that of one value, not a tuple of types."""
    return isinstance(kind, Type)


class Value:
    """The base of graph nodes and of the handles users hold: something with a node, a shape and a dtype.

    Every operation is written once for any `Value`; it returns the class of its first handle argument.
    """

    __slots__ = ()
    node: Node

    @property
    def type(self) -> Type:
        """Shape and data type."""
        return self.node.type

    @property
    def shape(self) -> Shape:
        """The sizes: a tuple of `int | Dim`."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """The data type."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.type.shape)


class Node(Value):
    """One application of `op` to `inputs`.

    Attributes:
        op: the primitive; a leaf keeps the one it had, and has no inputs.
        inputs: the nodes it reads; empty once the value is there and no gradient needs the history.
        type: shape and dtype of the result; a tuple of types for operations with several results.
        flags: TRACKED, ABSTRACT, CONSUMED, PENDING.
        buffer: the value in the back end's form, or None while it is not computed.
        site: the user's line and the layers that recorded it.
        serial: the position in the order of creation.
    """

    __slots__ = ("__weakref__", "buffer", "flags", "inputs", "op", "serial", "site", "type")

    def __init__(
        self, op: Op, inputs: tuple[Node, ...], type: Any, flags: int = 0, site: Where | None = None, buffer: Any = None
    ) -> None:
        """Record the application; use `trine.ops.base.apply`, which infers the type."""
        self.op = op
        self.inputs = inputs
        self.type = type
        self.flags = flags
        self.site = site
        self.buffer = buffer
        self.serial = _serial()

    type: Type  # a slot here, a property of handles; a tuple of types where the operation has several results

    @property
    def node(self) -> Node:  # type: ignore[override]  # a node is its own node
        """Itself."""
        return self

    def __repr__(self) -> str:
        """`<7: add -> f32[3]>`."""
        return f"<{self.serial}: {self.op.name} -> {self.type}>"


class Leaf(Node):
    """A node at which gradients stop and are handed to the handle that owned it when it was recorded.

    Attributes:
        owner: a weak reference to that handle.
    """

    __slots__ = ("owner",)
    owner: weakref.ref[Any]


def reach(roots: Iterable[Node], stop: Any = None) -> list[Node]:
    """All nodes that `roots` depend on, themselves included, in order of creation.

    Args:
        roots: where to start.
        stop: nodes whose inputs are not followed: a callable of a node, or None to follow all.
    """
    seen: set[int] = set()
    found: list[Node] = []
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.serial in seen:
            continue
        seen.add(node.serial)
        found.append(node)
        if stop is None or not stop(node):
            stack.extend(node.inputs)
    found.sort(key=_by_serial)
    return found


def _by_serial(node: Node) -> int:
    return node.serial


class Graph:
    """A closed graph: everything its outputs need is an input, a constant, or a node in it.

    It is the body of `cond`, `while_loop` and `scan`, the result of `trine.trace`, what a file holds and what a back
    end compiles. Two graphs are equal when they have the same structure, whatever their nodes are.

    Attributes:
        inputs: placeholder nodes, in the order of the call.
        outputs: the nodes whose values a run returns.
        nodes: all nodes in topological order, inputs and constants included.
    """

    __slots__ = ("_key", "inputs", "nodes", "outputs")

    def __init__(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
        """Close over `outputs`; the walk stops at inputs and at nodes whose value is known."""
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        stop = {node.serial for node in inputs}
        found = reach(self.outputs, lambda node: node.serial in stop or node.buffer is not None)
        present = {node.serial for node in found}
        self.nodes = tuple(node for node in self.inputs if node.serial not in present) + tuple(found)
        self._key: tuple[Any, ...] | None = None

    @classmethod
    def ordered(cls, inputs: Sequence[Node], outputs: Sequence[Node], nodes: Sequence[Node]) -> Graph:
        """A graph whose nodes are given, in topological order: unread inputs keep their place."""
        graph = cls.__new__(cls)
        graph.inputs, graph.outputs, graph.nodes = tuple(inputs), tuple(outputs), tuple(nodes)
        graph._key = None
        return graph

    @property
    def constants(self) -> tuple[Node, ...]:
        """The nodes whose value is part of the graph."""
        inputs = {node.serial for node in self.inputs}
        return tuple(node for node in self.nodes if node.buffer is not None and node.serial not in inputs)

    @property
    def key(self) -> tuple[Any, ...]:
        """The structure as a hashable tuple: operations, types, edges, outputs. Constants count by identity."""
        if self._key is None:
            position = {node.serial: i for i, node in enumerate(self.nodes)}
            inputs = {node.serial for node in self.inputs}
            rows = tuple(
                (node.type, "input" if node.serial in inputs else id(node.buffer))
                if node.serial in inputs or node.buffer is not None
                else (node.op, node.type, tuple(position[i.serial] for i in node.inputs))
                for node in self.nodes
            )
            ends = (tuple(position[n.serial] for n in self.inputs), tuple(position[n.serial] for n in self.outputs))
            self._key = (rows, ends)
        return self._key

    def __eq__(self, other: object) -> bool:
        """Whether both have the same structure."""
        return self is other or (isinstance(other, Graph) and self.key == other.key)

    def __hash__(self) -> int:
        """Consistent with equality."""
        return hash(self.key)
