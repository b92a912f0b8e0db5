"""`backward()`: gradients handed to the handles that owned the leaves."""

from __future__ import annotations

import weakref
from typing import Any

from trine.autodiff.reverse import gradients
from trine.context import CURRENT, using
from trine.engine import ENGINE
from trine.errors import CaptureError, GradientError, ShapeError, Site
from trine.ir.graph import CONSUMED, TRACKED, Leaf, Node, reach
from trine.ops.base import alias, literal, user_site
from trine.ops.elementwise import add
from trine.ops.movement import broadcast_to
from trine.tensor.journal import commit


def backward(root: Any, gradient: Any | None, retain: bool) -> None:
    """Add the gradient of `root` to `.grad` of every handle whose leaf it depends on; see `Tensor.backward`."""
    node: Node = root.node
    found = _history(node)
    leaves = _owned(found)
    outer = CURRENT.get()
    try:
        new = _new_gradients(root, gradient, leaves)
    except BaseException:
        CURRENT.set(outer)  # a Ctrl-C on the way out of an inner block may have left that block's
        raise
    commit((), new)
    if not retain:
        _consume(found)
    if CURRENT.get().capture is None and node.buffer is None:
        ENGINE.roots.append(weakref.ref(node))


def _new_gradients(root: Any, gradient: Any | None, leaves: list[Leaf]) -> list[tuple[Any, Any]]:
    """Each handle that owns a leaf, and its gradient with the new part added."""
    node: Node = root.node
    new = []
    with using(grad=False):
        seed = alias(gradient).node if gradient is not None else _one(root)
        if seed.type != node.type:
            raise ShapeError("backward", f"the gradient to start from has the type of the tensor, {node.type}",
                             got=str(seed.type)).locate(Site(*user_site()))  # fmt: skip
        for leaf, result in zip(leaves, gradients([node], [seed], leaves), strict=True):
            owner = leaf.owner()
            if result is not None and owner is not None:
                new.append((owner, type(owner)(_accumulated(owner, result))))
    return new


def _history(node: Node) -> list[Node]:
    """The part of the graph that gradients flow through."""
    if not node.flags & TRACKED:
        if node.flags & CONSUMED:
            raise _used_up(node)
        rule = "no leaf that wants a gradient is part of this value"
        fix = "trine.asarray(..., requires_grad=True), and no no_grad() around it"
        if not node.dtype.is_float:
            rule, fix = f"{node.dtype.name} carries no gradient", "start from a float, such as the loss"
        raise GradientError("backward", rule, got=f"{node.op.name} -> {node.type}", fix=fix).locate(Site(*user_site()))
    found = reach([node], lambda n: type(n) is Leaf or not n.flags & TRACKED)
    capture = CURRENT.get().capture
    for inner in found:
        if inner.flags & CONSUMED:
            raise _used_up(inner)
        if capture is not None and inner.serial < capture.start and inner.inputs and type(inner) is not Leaf:
            raise _from_before(inner)
    return [n for n in found if n.flags & TRACKED]


def _from_before(node: Node) -> CaptureError:
    made = CaptureError("backward", "the step goes on from a history that was recorded before it",
                        got=f"{node.op.name} -> {node.type}" + (f" of {Site(*node.site)}" if node.site else ""),
                        fix="record it inside the step, or detach() what is passed in")  # fmt: skip
    made.locate(Site(*user_site()))
    return made


def _used_up(node: Node) -> GradientError:
    made = GradientError("backward", "this history was used up by an earlier backward()",
                         got=f"{node.op.name} -> {node.type}" + (f" of {Site(*node.site)}" if node.site else ""),
                         fix="backward(retain_graph=True) the first time, or detach() what is carried")  # fmt: skip
    made.locate(Site(*user_site()))
    return made


def _owned(found: list[Node]) -> list[Leaf]:
    """The leaves, each of another handle."""
    leaves = [n for n in found if type(n) is Leaf]
    owners: dict[int, Leaf] = {}
    for leaf in leaves:
        owner = leaf.owner()
        if owner is None:
            continue
        other = owners.setdefault(id(owner), leaf)
        if other is not leaf:
            lines = " and ".join(str(Site(*n.site)) for n in (other, leaf) if n.site)
            raise GradientError("backward", "two versions of one parameter are part of this value",
                                got=f"{leaf.type}, bound at {lines}",
                                fix="call backward() before the parameter is re-bound").locate(
                Site(*user_site()))  # fmt: skip
    return leaves


def _one(root: Any) -> Node:
    if any(n != 1 for n in root.shape):
        raise ShapeError("backward", f"starts from one number, not from shape {list(root.shape)}", got=str(root.type),
                         fix="reduce it first: loss.mean().backward(), or pass gradient=").locate(
            Site(*user_site()))  # fmt: skip
    return broadcast_to(literal(1.0, root.dtype), root.shape)


def _accumulated(owner: Any, result: Node) -> Node:
    """The gradient so far plus the new one; a pending one is computed first, so that loops keep memory flat."""
    old = owner.grad
    if old is None:
        return result
    if old.node.buffer is None and CURRENT.get().capture is None:
        ENGINE.evaluate((old.node,))
    total: Node = add(old.node, result)
    return total


def _consume(found: list[Node]) -> None:
    """Take the history away: computed nodes let go of their inputs, the others keep them until they are computed."""
    for node in found:
        if type(node) is not Leaf:
            node.flags = node.flags & ~TRACKED | CONSUMED
            if node.buffer is not None:
                node.inputs = ()
