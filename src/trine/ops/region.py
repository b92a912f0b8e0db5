"""Nested graphs: recorded by calling a function on placeholders, and closed over what it reads.

A region is recorded once, whatever the values are. What its nodes read from outside becomes inputs of the graph, so
that a graph holds no values but Python numbers, and two recordings of one program give equal graphs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from trine.context import CURRENT, Capture, using
from trine.dtypes import DType
from trine.errors import CaptureError, Site
from trine.ir.graph import ABSTRACT, TRACKED, Graph, Node, Type, Value, moment, reach
from trine.ops.base import IDENTITY, LITERAL, Placeholder, differentiable, user_site, wrap

_HOLE: Final = Placeholder()
_NUMBERS: weakref.WeakValueDictionary[tuple[DType, bytes], Node] = weakref.WeakValueDictionary()


class Watch:
    """Sees what a region reads and re-binds; what was made before it is passed on to the capture around it.

    Attributes:
        name: the function that records, for errors.
        start: nodes with a smaller serial are from outside.
        outer: the capture around the region, if any.
        handles: the handle through which each outer node was read, by the node's serial.
    """

    def __init__(self, name: str, start: int, outer: Capture | None) -> None:
        """Start at a serial."""
        self.name = name
        self.start = start
        self.outer: Any = outer
        self.handles: dict[int, Value] = {}

    def read(self, handle: Any) -> None:
        """Remember the handle: outside, the value is read through it, too."""
        node = handle.node
        if node.serial not in self.handles or isinstance(self.handles[node.serial], Node):
            self.handles[node.serial] = handle
        if self.outer is not None and node.serial < self.outer.start:
            self.outer.read(handle)

    def asks(self, handle: Any) -> None:
        """Whether a tensor wants gradients is asked: the capture around wants to know."""
        if self.outer is not None:
            self.outer.asks(handle)

    def read_grad(self, handle: Any) -> None:
        """A gradient from before was read: the business of the capture around."""
        if self.outer is not None:
            self.outer.read_grad(handle)

    def called(self, module: Any) -> None:
        """A module was called: the business of the capture around."""
        if self.outer is not None:
            self.outer.called(module)

    def force(self) -> None:
        """A value is needed: the capture around wants to know; whether it exists, the engine sees."""
        if self.outer is not None:
            self.outer.force()

    def write(self, handle: Any) -> None:
        """A handle made inside may be re-bound; one from outside may not, since the region runs any number of times.

        Raises:
            CaptureError: a handle from outside.
        """
        if handle.node.serial < self.start:
            raise CaptureError(self.name, "a tensor from outside is re-bound inside the function, which is recorded "
                               "once and runs any number of times", got=str(handle.type),
                               fix="carry it: pass it in, return its new value, and re-bind it after the call").locate(
                Site(*user_site()))  # fmt: skip


def inside() -> bool:
    """Whether a region is being recorded."""
    return isinstance(CURRENT.get().capture, Watch)


class Region:
    """What a function recorded between its placeholders and its results.

    Attributes:
        inputs: the placeholders.
        outputs: the nodes returned; an entry may be replaced by a literal before the region is closed.
        hoist: whether what was recorded inside but depends on no placeholder is computed outside, once.
        watch: what was read.
    """

    def __init__(self, inputs: list[Node], outputs: list[Node], hoist: bool, watch: Watch) -> None:
        """Hold the parts; use `record`."""
        self.inputs = inputs
        self.outputs = outputs
        self.hoist = hoist
        self.watch = watch

    def _nodes(self) -> list[Node]:
        """The nodes that belong to the region, in order of creation."""
        start = self.watch.start
        own = {node.serial for node in self.inputs}

        def outer(node: Node) -> bool:
            return node.serial < start or node.buffer is not None or node.serial in own

        found = [node for node in reach(self.outputs, outer) if not outer(node)]
        if not self.hoist:
            return found
        depends = set(own)
        for node in found:
            if any(i.serial in depends for i in node.inputs):
                depends.add(node.serial)
        return [node for node in found if node.serial in depends]

    def outside(self) -> list[Node]:
        """The nodes that the region reads and that are not part of it, in order of first use."""
        nodes = self._nodes()
        own = {node.serial for node in (*self.inputs, *nodes)}
        read: dict[int, Node] = {}
        for value in (*(i for node in nodes for i in node.inputs), *self.outputs):
            if value.serial not in own and value.op is not LITERAL:
                read.setdefault(value.serial, value)
        return list(read.values())

    def handle(self, node: Node, like: Value) -> Any:
        """The handle through which an outer node was read; one of the class of `like` where there was none."""
        found = self.watch.handles.get(node.serial)
        return wrap(node, like) if found is None else found

    def graph(self, constants: Sequence[Node] = ()) -> Graph:
        """The closed graph, made of nodes of its own; its inputs are the placeholders, then `constants`.

        History that was cut inside stays cut: an `Identity` stands there, and no other `Identity` is left.
        """
        place: dict[int, Node] = {}
        for node in (*self.inputs, *constants):
            hole = node.op if isinstance(node.op, Placeholder) else _HOLE
            place[node.serial] = Node(hole, (), node.type, ABSTRACT)
        holes = list(place.values())
        made = {node.serial: node for node in holes}

        def add(node: Node) -> Node:
            made[node.serial] = node
            return node

        def value(node: Node) -> Node:
            if node.serial not in place:
                place[node.serial] = add(_number(node) if node.op is LITERAL else node)
            return place[node.serial]

        for node in self._nodes():
            inputs = tuple([value(i) for i in node.inputs])
            if node.op is IDENTITY and node.flags & TRACKED:
                place[node.serial] = inputs[0]
                continue
            cut = node.op is not IDENTITY and differentiable(node.type) and _cuts(node)
            if cut and node.op.several:
                inputs = tuple([add(Node(IDENTITY, (i,), i.type, ABSTRACT, node.site)) for i in inputs])
            new = add(Node(node.op, inputs, node.type, ABSTRACT, node.site))
            if cut and not node.op.several:
                new = add(Node(IDENTITY, (new,), new.type, ABSTRACT, node.site))
            place[node.serial] = new
        outputs = [value(node) for node in self.outputs]
        return Graph.ordered(holes, outputs, list(made.values()))


def closed(inputs: Sequence[Node], outputs: Sequence[Node]) -> Graph:
    """The closed graph from placeholders to outputs: see `Region.graph`; nodes with a value become constants."""
    return Region(list(inputs), list(outputs), False, Watch("graph", -1, None)).graph()


def _cuts(node: Node) -> bool:
    """Whether history ends here: a tracked value is read and the result is not tracked."""
    return not node.flags & TRACKED and any(i.flags & TRACKED for i in node.inputs)


def record(
    name: str,
    types: Iterable[Type],
    function: Callable[..., Sequence[Value]],
    like: Value,
    *,
    tracked: Sequence[bool] | None = None,
    hoist: bool = True,
) -> Region:
    """What `function` records when it is called on a placeholder of each type.

    Args:
        name: the function that the user called, for errors.
        types: of the placeholders.
        function: from handles of the class of `like` to a sequence of them.
        like: gives the class.
        tracked: which placeholders gradients flow to; all of float type unless given.
        hoist: see `Region`.

    Raises:
        CaptureError: the function re-binds a handle from outside, or asks for a value that depends on a placeholder.
    """
    start = moment()
    kinds = list(types)
    flags = [kind.dtype.is_float for kind in kinds] if tracked is None else tracked
    holes = [Node(_HOLE, (), t, ABSTRACT | (TRACKED if f else 0)) for t, f in zip(kinds, flags, strict=True)]
    watch = Watch(name, start, CURRENT.get().capture)
    with using(capture=watch, journal=watch, grad=True):
        outputs = function(*[wrap(hole, like) for hole in holes])
        for out in outputs:
            if out.node.serial < start and out.node.op is not LITERAL:
                watch.read(out)
    return Region(holes, [out.node for out in outputs], hoist, watch)


def _number(node: Node) -> Node:
    """The literal of this value: one node for each, so that equal regions are equal graphs."""
    key = (node.dtype, np.asarray(node.buffer).tobytes())
    return _NUMBERS.setdefault(key, Node(LITERAL, (), node.type, 0, None, node.buffer))
