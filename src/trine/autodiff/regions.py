"""Reverse mode through nested graphs: the rules of `cond` and `scan`, and why `while_loop` has none.

A rule records a region that applies the nested graph again and differentiates it, so its result is ordinary control
flow that can be differentiated in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trine.autodiff.reverse import RULES, gradients
from trine.errors import GradientError, Site
from trine.ir.graph import TRACKED, Graph, Node, Type
from trine.ops.base import Output, apply, literal
from trine.ops.control import Cond, Scan, While, apply_scan, saved_carries, saving
from trine.ops.elementwise import add
from trine.ops.inline import inline
from trine.ops.movement import broadcast_to
from trine.ops.region import Region, inside, record

Total = Sequence[Node | None]


def _wanted(values: Sequence[Node]) -> list[int]:
    return [i for i, x in enumerate(values) if x.flags & TRACKED and x.dtype.is_float]


def _zeros(kind: Type) -> Node:
    return broadcast_to(literal(0.0, kind.dtype), kind.shape)


def _cond(node: Node, total: Total) -> list[Node | None]:
    """A `Cond` on the same predicate whose branches are the vector-Jacobian products of the branches."""
    op: Any = node.op
    pred, *operands = node.inputs
    wanted = _wanted(operands)
    live = [i for i, part in enumerate(total) if part is not None]
    cotangents = [part for part in total if part is not None]
    reached: set[int] = set()

    def branch(graph: Graph) -> Region:
        def body(*holes: Node) -> list[Node]:
            values, given = holes[: len(operands)], holes[len(operands) :]
            outputs = inline(graph, values)
            found = gradients([outputs[i] for i in live], given, [values[i] for i in wanted])
            reached.update(i for i, g in zip(wanted, found, strict=True) if g is not None)
            return [_zeros(values[i].type) if g is None else g for i, g in zip(wanted, found, strict=True)]

        types = [x.type for x in (*operands, *cotangents)]
        tracked = [i in wanted for i in range(len(types))]
        return record("cond", types, body, pred, tracked=tracked, hoist=False)

    regions = [branch(op.then), branch(op.otherwise)]
    constants = list({n.serial: n for region in regions for n in region.outside()}.values())
    made = Cond(*[region.graph(constants) for region in regions])
    out = apply(made, pred, *operands, *cotangents, *constants)
    found: list[Node | None] = [None] * len(node.inputs)
    for place, i in enumerate(wanted):
        if i in reached:
            found[1 + i] = apply(Output(place), out)
    return found


def _while(node: Node, total: Total) -> list[Node | None]:
    """A loop of unknown length stores nothing to go back by.

    Raises:
        GradientError: always.
    """
    raise GradientError("while_loop", "a gradient is asked for, but the number of steps is not bounded, so none "
                        "was stored", got=", ".join(str(kind) for kind in node.type),
                        fix="trine.while_loop(cond_fn, body_fn, init, max_steps=n)").locate(
        Site(*node.site) if node.site else None)  # fmt: skip


def _scan(node: Node, total: Total) -> list[Node | None]:
    """A scan the other way over the stored carries: each step differentiates the body and adds up for the constants."""
    op: Any = node.op
    carries, sequences, constants = op.split(node.inputs)
    floats = [i for i, c in enumerate(carries) if c.dtype.is_float]
    wanted_x, wanted_k = _wanted(sequences), _wanted(constants)
    live = [i for i, part in enumerate(total) if i >= len(carries) and part is not None]
    reached: set[int] = set()

    def body(*holes: Node) -> list[Node]:
        rest = iter(holes)
        before, sums, old, xs, given, fixed = (
            [next(rest) for _ in group] for group in (floats, wanted_k, carries, sequences, live, constants)
        )
        outputs = inline(op.body, [*old, *xs, *fixed])
        wrt = [*(old[i] for i in floats), *(xs[i] for i in wanted_x), *(fixed[i] for i in wanted_k)]
        found = gradients([outputs[i] for i in (*floats, *live)], [*before, *given], wrt)
        reached.update(i for i, g in enumerate(found) if g is not None)
        filled = [_zeros(x.type) if g is None else g for x, g in zip(wrt, found, strict=True)]
        middle = len(floats) + len(wanted_x)
        summed = [s if g is None else add(s, g) for s, g in zip(sums, found[middle:], strict=True)]
        return [*filled[: len(floats)], *summed, *filled[len(floats) : middle]]

    starts = [total[i] if total[i] is not None else _zeros(carries[i].type) for i in floats]
    starts += [_zeros(constants[i].type) for i in wanted_k]
    stacks = [*_stored(node, op), *sequences, *(total[i] for i in live)]
    types = [x.type for x in starts if x is not None]
    types += [Type(x.shape[1:], x.dtype) for x in stacks] + [x.type for x in constants]
    tracked = [False] * len(starts) + [c.dtype.is_float for c in carries]
    tracked += [i in wanted_x for i in range(len(sequences))] + [False] * len(live)
    tracked += [i in wanted_k for i in range(len(constants))]
    region = record("scan", types, body, node, tracked=tracked)
    hoisted = region.outside()
    back = Scan(region.graph(hoisted), len(starts), len(stacks), op.length, not op.reverse)
    out = apply_scan(back, [*starts, *stacks, *constants, *hoisted], save=not inside())
    shift = len(carries) + len(sequences)
    places = list(enumerate(floats))
    places += [(len(starts) + j, len(carries) + i) for j, i in enumerate(wanted_x) if len(floats) + j in reached]
    middle = len(floats) + len(wanted_x)
    places += [(len(floats) + j, shift + i) for j, i in enumerate(wanted_k) if middle + j in reached]
    found: list[Node | None] = [None] * len(node.inputs)
    for place, i in places:
        found[i] = apply(Output(place), out)
    return found


def _stored(node: Node, op: Scan) -> list[Node]:
    """The carries before each step, stacked; the scan runs once more where it did not store them."""
    kept = node
    if None in saved_carries(op):
        op = saving(op)
        kept = apply(op, *node.inputs)
    return [apply(Output(i), kept) for i in saved_carries(op) if i is not None]


RULES[Cond] = _cond
RULES[While] = _while
RULES[Scan] = _scan
