"""Batching: from a graph written for one example to the graph over a new leading axis (`vmap`).

Nodes are taken in order of creation. One that depends on no batched value stays as it is; for the others, the `batch`
rule of the operation records what does the same for all examples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trine import dtypes
from trine.autodiff import regions  # noqa: F401 - who can batch control flow can differentiate it
from trine.context import using
from trine.ir.graph import TRACKED, Graph, Node, Type, reach
from trine.ops.base import IDENTITY, Op, Output, apply, literal, source
from trine.ops.control import Cond, Scan, While, apply_scan
from trine.ops.elementwise import bitwise_invert, cast, where
from trine.ops.indexing import take
from trine.ops.movement import broadcast_to, moveaxis, reshape
from trine.ops.reduction import any as any_of
from trine.ops.reduction import argmax
from trine.ops.region import inside, record
from trine.shapes import Size

Batched = tuple[Node, bool]  # a value, and whether its first axis is the batch
Rule = Callable[[Any, Size, Sequence[Batched]], list[Batched]]
RULES: Final[dict[type[Op], Rule]] = {}  # operations that hold graphs: one entry per result
_NODE: Final = literal(0, dtypes.float32)  # regions are recorded on nodes, not on handles


def batch(outputs: Sequence[Node], placeholders: Sequence[Node], values: Sequence[Node], size: Size) -> list[Node]:
    """The outputs over a new leading axis of length `size`.

    Args:
        outputs: nodes recorded for one example.
        placeholders: what stands for one example in them.
        values: for each placeholder, the examples stacked on axis 0.
        size: their number.
    """
    given = {hole.serial: (value, True) for hole, value in zip(placeholders, values, strict=True)}
    stop = set(given)
    nodes = reach(outputs, lambda node: node.serial in stop or node.buffer is not None)
    place = _walk(nodes, given, size)
    return [_wide(place[node.serial], size) for node in outputs]


def batch_graph(
    graph: Graph, batched: Sequence[bool], size: Size, force: Sequence[bool] = ()
) -> tuple[Graph, list[bool]]:
    """A graph over a new leading axis of the inputs marked, and which of its outputs have that axis.

    Args:
        graph: for one example.
        batched: which inputs get the axis.
        size: its length.
        force: outputs that get the axis even if they do not depend on a batched input.
    """
    marks: list[bool] = []

    def body(*holes: Node) -> list[Node]:
        found = _inner(graph, list(zip(holes, batched, strict=True)), size)
        wanted = force or [False] * len(found)
        found = [(_wide(x, size), True) if w else x for x, w in zip(found, wanted, strict=True)]
        marks.extend(has for _, has in found)
        return [node for node, _ in found]

    types = [_wide_type(x.type, size) if has else x.type for x, has in zip(graph.inputs, batched, strict=True)]
    region = record("vmap", types, body, _NODE, hoist=False)
    return region.graph(), marks


def _inner(graph: Graph, inputs: Sequence[Batched], size: Size) -> list[Batched]:
    """The outputs of a nested graph on inputs some of which are batched."""
    given = {hole.serial: value for hole, value in zip(graph.inputs, inputs, strict=True)}
    place = _walk(graph.nodes, given, size)
    return [place[node.serial] for node in graph.outputs]


def _walk(nodes: Sequence[Node], given: Mapping[int, Batched], size: Size) -> dict[int, Batched]:
    """For each node, what stands for it over the batch."""
    place: dict[int, Batched] = dict(given)
    several: dict[int, list[Batched]] = {}
    for node in nodes:
        if node.serial in place:
            continue
        if isinstance(node.op, Output) and node.inputs and node.inputs[0].serial in several:
            place[node.serial] = several[node.inputs[0].serial][node.op.index]
            continue
        values = [place[i.serial] for i in node.inputs] if node.buffer is None else []
        if all(value is old for (value, _), old in zip(values, node.inputs, strict=False)):
            place[node.serial] = (node, False)
            continue
        with using(site=node.site):
            if node.op.several:
                several[node.serial] = _several(node, values, size)
                place[node.serial] = (node, False)  # read only through its results
            else:
                place[node.serial] = _one(node, values, size)
    return place


def _one(node: Node, values: Sequence[Batched], size: Size) -> Batched:
    nodes, flags = [value for value, _ in values], [has for _, has in values]
    if node.op is IDENTITY and node.flags & TRACKED:
        return values[0]
    cut = not node.flags & TRACKED and (node.op is IDENTITY or any(i.flags & TRACKED for i in node.inputs))
    with using(**({"grad": False} if cut else {})):
        if any(flags):
            return node.op.batch(size, flags, *nodes), True
        return (apply(node.op, *nodes) if nodes else source(node.op, Node)), False


def _several(node: Node, values: Sequence[Batched], size: Size) -> list[Batched]:
    count = len(node.type)
    if not any(has for _, has in values):
        whole = apply(node.op, *[value for value, _ in values])
        return [(apply(Output(i), whole), False) for i in range(count)]
    rule = RULES.get(type(node.op))
    if rule is not None:
        return rule(node.op, size, values)
    whole = node.op.batch(size, [has for _, has in values], *[value for value, _ in values])
    return [(apply(Output(i), whole), True) for i in range(count)]


def _wide(value: Batched, size: Size) -> Node:
    """The value with a batch axis, repeated along it where it had none."""
    node, has = value
    return node if has else broadcast_to(node, (size, *node.shape))


def _wide_type(kind: Type, size: Size) -> Type:
    return Type((size, *kind.shape), kind.dtype)


def _chosen(condition: Node, yes: Node, no: Node) -> Node:
    """Example by example, `yes` where the condition of shape [size] holds."""
    return where(reshape(condition, (condition.shape[0], *(1,) * (yes.ndim - 1))), yes, no)


# -- Control flow ------------------------------------------------------------------------------------------------------


def _cond(op: Cond, size: Size, values: Sequence[Batched]) -> list[Batched]:
    """With one predicate for all examples, a `Cond` of batched branches; otherwise `where` selects from both."""
    (pred, several), operands = values[0], values[1:]
    if several:
        both = [_partly(op.then, pred, operands, size), _partly(op.otherwise, bitwise_invert(pred), operands, size)]
        return [(_chosen(pred, yes, no), True) for yes, no in zip(*both, strict=True)]
    flags = [has for _, has in operands]
    marks = [batch_graph(graph, flags, size)[1] for graph in (op.then, op.otherwise)]
    force = [a or b for a, b in zip(*marks, strict=True)]
    branches = [batch_graph(graph, flags, size, force)[0] for graph in (op.then, op.otherwise)]
    whole = apply(Cond(*branches), pred, *[x for x, _ in operands])
    return [(apply(Output(i), whole), has) for i, has in enumerate(force)]


def _partly(graph: Graph, going: Node, operands: Sequence[Batched], size: Size) -> list[Node]:
    """The results of a branch for the examples that take it, if any does; the others' are not meant to be read."""
    flags = [has for _, has in operands]

    def run(mine: Node, *holes: Node) -> list[Node]:
        return [_wide(x, size) for x in _inner(graph, _guarded(mine, list(zip(holes, flags, strict=True))), size)]

    def skip(*holes: Node) -> list[Node]:
        return [broadcast_to(literal(False, y.dtype), (size, *y.shape)) for y in graph.outputs]

    inputs = [going, *[x for x, _ in operands]]
    branches = [record("vmap", [x.type for x in inputs], f, _NODE, hoist=False).graph() for f in (run, skip)]
    whole = apply(Cond(*branches), any_of(going), *inputs)
    return [apply(Output(i), whole) for i in range(len(graph.outputs))]


def _guarded(going: Node, values: Sequence[Batched]) -> list[Batched]:
    """The inputs with those of the first example that goes on in place of those of the examples that do not.

    So no index out of range is raised, and no infinity enters a gradient, that a loop over the examples does not have.
    """
    if going.shape[0] == 0:
        return list(values)
    first = argmax(cast(going, dtypes.int32))
    return [(_chosen(going, x, take(x, first, axis=0)), True) if has else (x, False) for x, has in values]


def _spread(graph: Graph, flags: list[bool], carries: int, size: Size) -> list[bool]:
    """Which carries are batched once the body has run often enough: the least fixed point from `flags`."""
    carried = flags[:carries]
    while True:
        after = batch_graph(graph, [*carried, *flags[carries:]], size)[1][:carries]
        grown = [a or b for a, b in zip(carried, after, strict=True)]
        if grown == carried:
            return carried
        carried = grown


def _while(op: While, size: Size, values: Sequence[Batched]) -> list[Batched]:
    """It runs until every example is done; those that are done keep their carry."""
    count = len(op.body.outputs)
    flags = [has for _, has in values]
    carried = _spread(op.body, flags, count, size)
    fixed = flags[count:]
    condition, (own,) = batch_graph(op.condition, [*carried, *fixed], size)
    if own:
        carried = [True] * count
        condition, body = _until_all_done(op, size, fixed)
    else:
        body = batch_graph(op.body, [*carried, *fixed], size, carried)[0]
    start = [_wide(x, size) if has else x[0] for x, has in zip(values[:count], carried, strict=True)]
    whole = apply(While(condition, body), *start, *[x for x, _ in values[count:]])
    return [(apply(Output(i), whole), has) for i, has in enumerate(carried)]


def _until_all_done(op: While, size: Size, fixed: Sequence[bool]) -> tuple[Graph, Graph]:
    """The condition "any example goes on", and a body that moves only those that do."""
    count = len(op.body.outputs)
    flags = [*[True] * count, *fixed]

    def test(*holes: Node) -> list[Node]:
        return [any_of(_inner(op.condition, list(zip(holes, flags, strict=True)), size)[0][0])]

    def step(*holes: Node) -> list[Node]:
        values = list(zip(holes, flags, strict=True))
        going = _inner(op.condition, values, size)[0][0]
        after = _inner(op.body, _guarded(going, values), size)
        return [_chosen(going, _wide(new, size), old) for new, old in zip(after, holes, strict=False)]

    types = [_wide_type(x.type, size) if has else x.type for x, has in zip(op.body.inputs, flags, strict=True)]
    test_region, step_region = (record("vmap", types, f, _NODE, hoist=False) for f in (test, step))
    return test_region.graph(), step_region.graph()


def _scan(op: Scan, size: Size, values: Sequence[Batched]) -> list[Batched]:
    """A scan of the batched body; the batch axis of sequences and results stands behind the axis it goes along."""
    carries, sequences, constants = op.split(values)
    flags = [has for _, has in values]
    carried = _spread(op.body, flags, op.carries, size)
    inputs = [*carried, *flags[op.carries :]]
    marks = batch_graph(op.body, inputs, size)[1]
    body, marks = batch_graph(op.body, inputs, size, [*carried, *marks[op.carries :]])
    start = [_wide(x, size) if has else x[0] for x, has in zip(carries, carried, strict=True)]
    stacks = [moveaxis(x, 0, 1) if has else x for x, has in sequences]
    made = Scan(body, op.carries, op.sequences, op.length, op.reverse)
    whole = apply_scan(made, [*start, *stacks, *[x for x, _ in constants]], save=not inside())
    results = [apply(Output(i), whole) for i in range(len(marks))]
    ends = list(zip(results[: op.carries], carried, strict=True))
    return ends + [(moveaxis(y, 1, 0) if has else y, has)
                   for y, has in zip(results[op.carries :], marks[op.carries :], strict=True)]  # fmt: skip


RULES[Cond] = _cond
RULES[While] = _while
RULES[Scan] = _scan
