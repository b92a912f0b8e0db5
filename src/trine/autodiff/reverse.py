"""Reverse mode: from the cotangents of outputs to those of inputs, as nodes of the same graph.

The gradient rules record ordinary operations, so the result can be differentiated again. Broadcasting and promotion are
undone here, once, for every rule. Contributions to one value are added in the order in which its readers were created.

Source: Griewank and Walther, Evaluating Derivatives, 2nd edition, 2008, chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from trine.context import using
from trine.ir.graph import ABSTRACT, TRACKED, Node, Type, reach
from trine.ops.base import IDENTITY, Op, Output, Placeholder, apply
from trine.ops.elementwise import add, cast
from trine.ops.movement import broadcast_to, reshape
from trine.ops.reduction import Sum

Rule = Callable[[Node, Any], Sequence[Node | None]]
RULES: Final[dict[type[Op], Rule]] = {}  # rules of operations that hold graphs; `autodiff.regions` fills it


def gradients(outputs: Sequence[Node], cotangents: Sequence[Node], wrt: Sequence[Node]) -> list[Node | None]:
    """The cotangent of each node in `wrt`, in its type; None where the outputs do not depend on it.

    Args:
        outputs: float nodes.
        cotangents: one for each output, of its type.
        wrt: nodes at which the walk stops.
    """
    targets = {node.serial for node in wrt}
    found = reach(outputs, lambda node: node.serial in targets or not node.flags & TRACKED)
    needed = set(targets)
    for node in found:
        # a detached value reads its input, and passes nothing to it
        if node.flags & TRACKED and any(i.serial in needed for i in node.inputs):
            needed.add(node.serial)
    parts: dict[int, list[Any]] = {}
    for node, cotangent in zip(outputs, cotangents, strict=True):
        parts.setdefault(node.serial, []).append(cotangent)
    totals: dict[int, Node] = {}
    for node in reversed(found):
        arrived = parts.pop(node.serial, None)
        if arrived is None or node.serial not in needed:
            continue
        with using(site=node.site):
            total: Any = _totals(arrived, len(node.type)) if node.op.several else _added(arrived)
            if node.serial in targets:
                totals[node.serial] = total
                continue
            _spread(node, total, needed, parts)
    return [totals.get(node.serial) for node in wrt]


def _spread(node: Node, total: Any, needed: set[int], parts: dict[int, list[Any]]) -> None:
    """Give each needed input of `node` its part of the cotangent."""
    op = node.op
    if isinstance(op, Output):
        parts.setdefault(node.inputs[0].serial, []).append((op.index, total))
        return
    rule = RULES.get(type(op))
    grads = rule(node, total) if rule is not None else op.gradient(total, node, *node.inputs)
    for value, grad in zip(node.inputs, grads, strict=True):
        if grad is not None and value.serial in needed:
            parts.setdefault(value.serial, []).append(fitted(grad.node, value.type))


def _added(arrived: list[Node]) -> Node:
    """Readers come in reverse order of creation, so the sum starts from the end."""
    total = arrived[-1]
    for part in arrived[-2::-1]:
        total = add(total, part)
    return total


def _totals(arrived: list[tuple[int, Node]], count: int) -> tuple[Node | None, ...]:
    each: list[list[Node]] = [[] for _ in range(count)]
    for index, part in arrived:
        each[index].append(part)
    return tuple(_added(parts) if parts else None for parts in each)


def fitted(grad: Node, wanted: Type) -> Node:
    """A cotangent summed over broadcast axes, cast and broadcast to the type of the value it belongs to."""
    if grad.type == wanted:
        return grad
    extra = grad.ndim - len(wanted.shape)
    if extra >= 0:
        axes = [i for i in range(grad.ndim) if i < extra or (wanted.shape[i - extra] == 1 and grad.shape[i] != 1)]
        if axes:
            grad = apply(Sum(tuple(axes)), grad)
            grad = reshape(grad, wanted.shape) if grad.shape != wanted.shape else grad
    return cast(broadcast_to(grad, wanted.shape), wanted.dtype)


_READS: dict[tuple[Op, tuple[Any, ...], tuple[bool, ...]], tuple[bool, tuple[bool, ...]]] = {}


def residuals(node: Node) -> tuple[bool, tuple[bool, ...]]:
    """What the gradient rule of this application reads: whether its result, and which inputs.

    Found by running the rule once on placeholders, and remembered.
    """
    wanted = tuple(bool(i.flags & TRACKED) for i in node.inputs)
    if type(node.op) in RULES or isinstance(node.op, Output) or node.op is IDENTITY:
        return type(node.op) in RULES, (type(node.op) in RULES,) * len(node.inputs)
    key = (node.op, tuple(i.type for i in node.inputs), wanted)
    found = _READS.get(key)
    if found is None:
        found = _dry_run(node, wanted)
        if len(_READS) >= 4096:
            _READS.clear()
        _READS[key] = found
    return found


def _dry_run(node: Node, wanted: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
    hole = Placeholder()
    g, out = Node(hole, (), node.type, ABSTRACT), Node(hole, (), node.type, ABSTRACT)
    inputs = [Node(hole, (), i.type, ABSTRACT) for i in node.inputs]
    with using(grad=False, capture=None, site=node.site):
        grads = node.op.gradient(g, out, *inputs)
    kept = [g.node for g, want in zip(grads, wanted, strict=True) if g is not None and want]
    read = {n.serial for n in reach(kept)}
    return out.serial in read, tuple(i.serial in read for i in inputs)
