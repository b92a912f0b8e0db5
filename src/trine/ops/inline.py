"""Graphs applied again: on other values, and with numbers for their symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from trine.context import CURRENT, using
from trine.errors import ShapeError, Site
from trine.ir.graph import Graph, Node, Type, Value, single
from trine.ops.base import IDENTITY, Op, apply, source, user_site
from trine.ops.control import Scan, apply_scan
from trine.shapes import Dim, Size, bind_all, substitute


def inline(graph: Graph, inputs: Sequence[Value], where: str = "graph") -> list[Node]:
    """The outputs of `graph` on other inputs: its operations recorded again, its symbols bound to their sizes.

    Inputs are handles where there are any, so that a capture sees them being read. History that the graph cuts stays
    cut, and scans store what their gradient reads. A line that a file could not keep becomes the caller's.

    Raises:
        ShapeError: a shape does not fit, or one symbol would have two sizes.
    """
    bindings: Mapping[str, Size] = {}
    specs = [hole.type.shape if single(hole.type) else () for hole in graph.inputs]
    actual: list[Any] = [x.type.shape if single(x.type) else () for x in inputs]
    if any(isinstance(n, Dim) for shape in specs for n in shape) and specs != actual:
        try:
            bindings = bind_all(where, specs, actual)
        except ShapeError as error:
            raise error.locate(Site(*user_site())) from None
    outer, here = CURRENT.get().grad, user_site()
    place: dict[int, Any] = {hole.serial: x for hole, x in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        if node.serial in place:
            continue
        if node.buffer is not None:
            place[node.serial] = node
            continue
        op = bound(node.op, bindings) if bindings else node.op
        values = [place[i.serial] for i in node.inputs]
        site = node.site if node.site is None or node.site[0].co_filename else (*here[:2], node.site[2])
        with using(site=site, grad=outer and op is not IDENTITY):
            if isinstance(op, Scan):
                place[node.serial] = apply_scan(op, values, save=True)
            else:
                place[node.serial] = apply(op, *values) if values else source(op, Node)
    return [place[node.serial].node for node in graph.outputs]


def bound(op: Op, bindings: Mapping[str, Size]) -> Op:
    """The operation with sizes for the symbols in its attributes, and in the graphs that it holds."""
    changes: dict[str, Any] = {}
    for name in op.__match_args__:
        old = getattr(op, name)
        new = _bound(old, bindings)
        if new is not old:
            changes[name] = new
    return replace(op, **changes) if changes else op


def _bound_type(kind: Any, bindings: Mapping[str, Size]) -> Any:
    parts = tuple(_bound(part, bindings) for part in ((kind,) if single(kind) else kind))
    return parts[0] if single(kind) else parts


def _bound(value: Any, bindings: Mapping[str, Size]) -> Any:
    if isinstance(value, Dim):
        return substitute(value, bindings)
    if isinstance(value, Type):
        return Type(_bound(value.shape, bindings), value.dtype)
    if isinstance(value, Graph):
        return _bound_graph(value, tuple(sorted(bindings.items(), key=lambda pair: pair[0])))
    if type(value) is tuple:
        parts = tuple(_bound(part, bindings) for part in value)
        return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    return value


@lru_cache(maxsize=256)
def _bound_graph(graph: Graph, bindings: tuple[tuple[str, Size], ...]) -> Graph:
    names = dict(bindings)
    place: dict[int, Node] = {}
    for node in graph.nodes:
        if node.buffer is not None:
            place[node.serial] = node
            continue
        inputs = tuple(place[i.serial] for i in node.inputs)
        place[node.serial] = Node(bound(node.op, names), inputs, _bound_type(node.type, names), node.flags, node.site)
    nodes = list(place.values())
    return Graph.ordered([place[n.serial] for n in graph.inputs], [place[n.serial] for n in graph.outputs], nodes)
