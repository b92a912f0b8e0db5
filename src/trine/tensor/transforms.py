"""Functions of functions: `grad`, `value_and_grad`, `vmap`, and `no_grad`.

Each runs the function once on handles of this graph and works on what it recorded, so they nest in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from trine import tree
from trine.autodiff.batching import batch
from trine.autodiff.reverse import gradients
from trine.context import CURRENT, using
from trine.errors import ArgumentError, DTypeError, ShapeError, Site
from trine.ir.graph import ABSTRACT, TRACKED, Node, Type, moment, reach
from trine.ops.base import IDENTITY, Placeholder, literal, user_site
from trine.ops.movement import broadcast_to, moveaxis
from trine.ops.region import Watch
from trine.shapes import Size
from trine.tensor.journal import Transaction
from trine.tensor.tensor import Tensor, to_tensor


def no_grad() -> using:
    """A block whose operations keep no history: `with trine.no_grad(): ...`.

    A handle that is re-bound inside becomes a leaf: how parameters are updated by hand.
    """
    return using(grad=False)


def grad(function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The function that returns the gradient of `function`, which returns one float number.

    Args:
        function: from tensors, or containers of them, to a tensor of one element.
        argnums: which positional arguments to differentiate by; a sequence gives a tuple of gradients.
        has_aux: whether `function` returns a pair whose second part is passed through.

    Returns:
        A function of the same arguments; its result has the structure, shapes and dtypes of those differentiated by.

    Raises:
        ShapeError: the result has more than one element.
        DTypeError: an argument to differentiate by, or the result, is not a float.

    Example:
        >>> import trine
        >>> trine.grad(lambda x: (x ** 3).sum())(trine.asarray([1.0, 2.0]))
        tensor([ 3., 12.])
    """
    both = value_and_grad(function, argnums, has_aux)

    @wraps(function)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, slope = both(*args, **kwargs)
        return (slope, value[1]) if has_aux else slope

    return gradient


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The function that returns the value of `function` and its gradient; see `grad`.

    Example:
        >>> import trine
        >>> value, slope = trine.value_and_grad(lambda x: (x ** 2).sum())(trine.asarray([3.0]))
        >>> value.item(), slope.item()
        (9.0, 6.0)
    """
    single = isinstance(argnums, int)
    numbers: tuple[int, ...] = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @wraps(function)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        if any(not -len(args) <= n < len(args) for n in numbers):
            raise ArgumentError("grad", f"argnums is out of range: arguments count from 0 to {len(args) - 1}",
                                got=f"argnums={argnums}").locate(Site(*user_site()))  # fmt: skip
        chosen = [n % len(args) for n in numbers]
        outer, watch = CURRENT.get().grad, Transaction(CURRENT.get().journal)
        with using(grad=True, journal=watch):
            sources, leaves, changed = _opened(args, chosen)
            result = function(*changed, **kwargs)
            value = result[0] if has_aux else result
            _check_result(value)
            seed = broadcast_to(literal(1.0, value.dtype), value.shape)
            slopes = gradients([value.node], [seed], leaves)
        zeros = [s if s is not None else broadcast_to(literal(0, leaf.dtype), leaf.shape)
                 for s, leaf in zip(slopes, leaves, strict=True)]  # fmt: skip
        state = [handle.node for handle, *_ in watch.before.values()]
        _close(leaves, sources, [value.node, *zeros, *_nodes(result), *state], outer)
        found = _grouped(args, chosen, [Tensor(s) for s in zeros])
        return result, found[0] if single else tuple(found)

    return value_and_gradient


def _opened(args: Sequence[Any], chosen: Sequence[int]) -> tuple[list[Node], list[Node], list[Any]]:
    """The arguments with fresh leaves in place of the tensors to differentiate by."""
    sources: list[Node] = []
    leaves: list[Node] = []
    changed = list(args)
    for n in chosen:
        parts, structure = tree.flatten(args[n])
        handles = []
        for part in parts:
            x = part if isinstance(part, Tensor) else to_tensor(part)
            if not x.dtype.is_float:
                raise DTypeError("grad", f"only floats carry gradients, argument {n} holds {x.dtype.name}",
                                 got=str(x.type), fix="x.astype(trine.float32)").locate(
                    Site(*user_site()))  # fmt: skip
            capture = CURRENT.get().capture
            if capture is not None and x.node.serial < capture.start:
                capture.read(x)
            node = Node(IDENTITY, (x.node,), x.type, x.node.flags & ABSTRACT | TRACKED, user_site())
            sources.append(x.node)
            leaves.append(node)
            handles.append(Tensor(node))
        changed[n] = tree.unflatten(structure, handles)
    return sources, leaves, changed


def _check_result(value: Any) -> None:
    if not isinstance(value, Tensor):
        fix = "has_aux=True for a function that returns (value, more)" if isinstance(value, tuple) else (
            "leave float(), item() and numpy() away inside: a number of Python has no history")  # fmt: skip
        raise DTypeError("grad", "the function returns one float tensor", got=type(value).__name__, fix=fix).locate(
            Site(*user_site()))  # fmt: skip
    if any(n != 1 for n in value.shape):
        raise ShapeError("grad", f"the function returns one number, not shape {list(value.shape)}",
                         got=str(value.type), fix="reduce it: .sum() or .mean()").locate(
            Site(*user_site()))  # fmt: skip
    if not value.dtype.is_float:
        raise DTypeError("grad", f"the function returns a float, not {value.dtype.name}", got=str(value.type)).locate(
            Site(*user_site()))  # fmt: skip


def _nodes(result: Any) -> list[Node]:
    return [part.node for part in tree.flatten(result)[0] if isinstance(part, Tensor)]


def _close(leaves: Sequence[Node], sources: Sequence[Node], results: Sequence[Node], outer: bool) -> None:
    """Take the marks of these leaves off what was recorded: only an outer history, if any, stays tracked."""
    if not leaves:
        return
    start = min(leaf.serial for leaf in leaves)
    for node in reach(results, lambda n: n.serial < start):
        inner = node.serial >= start and node.flags & TRACKED and not hasattr(node, "owner")
        if inner and not (outer and any(i.flags & TRACKED for i in node.inputs)):
            node.flags &= ~TRACKED
            if node.buffer is not None:
                node.inputs = ()


def _grouped(args: Sequence[Any], chosen: Sequence[int], slopes: list[Tensor]) -> list[Any]:
    """The gradients in the containers of their arguments."""
    found, rest = [], iter(slopes)
    for n in chosen:
        parts, structure = tree.flatten(args[n])
        found.append(tree.unflatten(structure, [next(rest) for _ in parts]))
    return found


def vmap(function: Callable[..., Any], in_axes: Any = 0, out_axes: int = 0) -> Callable[..., Any]:
    """The function over a new axis: `function` is written for one example and runs on a batch of them.

    Args:
        function: from tensors, or containers of them, to tensors or containers.
        in_axes: the batch axis of each positional argument, or one for all; None for an argument that is not batched.
        out_axes: where the batch axis goes in the results.

    Raises:
        ShapeError: the batch axes differ in size, or no argument is batched.
        CaptureError: the function asks for a value, or re-binds a tensor from outside.

    Example:
        >>> import trine
        >>> trine.vmap(trine.vecdot)(trine.ones((3, 2)), trine.ones((3, 2)))
        tensor([2., 2., 2.])
    """

    @wraps(function)
    def batched(*args: Any) -> Any:
        axes = list(in_axes) if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
        if len(axes) != len(args):
            raise ArgumentError("vmap", f"in_axes has an entry for each of {len(axes)} arguments, {len(args)} came",
                                got=str(in_axes)).locate(Site(*user_site()))  # fmt: skip
        start = moment()
        holes: list[Node] = []
        actual: list[Node] = []
        inner = []
        size: Size | None = None
        for number, (arg, axis) in enumerate(zip(args, axes, strict=True)):
            if axis is None:
                inner.append(arg)
                continue
            parts, structure = tree.flatten(arg)
            handles = []
            for part in parts:
                x = _batch_first(part if isinstance(part, Tensor) else to_tensor(part), axis, number)
                size = _same_size(size, x, number)
                hole = Node(Placeholder(), (), Type(x.shape[1:], x.dtype), ABSTRACT | x.node.flags & TRACKED)
                holes.append(hole)
                actual.append(x.node)
                handles.append(Tensor(hole))
            inner.append(tree.unflatten(structure, handles))
        if size is None:
            raise ShapeError("vmap", "no argument is batched", got=str(in_axes)).locate(Site(*user_site()))
        watch = Watch("vmap", start, CURRENT.get().capture)
        with using(journal=watch, capture=watch):  # state and random draws would be the same for every example
            result = function(*inner)
        leaves, structure = tree.flatten(result)
        nodes = batch([to_tensor(leaf).node for leaf in leaves], holes, actual, size)
        return tree.unflatten(structure, [moveaxis(Tensor(n), 0, out_axes) for n in nodes])

    return batched


def _batch_first(x: Tensor, axis: int, number: int) -> Tensor:
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError("vmap", f"argument {number} has no axis {axis} to go over", got=str(x.type),
                         fix="None in in_axes for an argument that all examples share").locate(
            Site(*user_site()))  # fmt: skip
    return moveaxis(x, axis, 0)


def _same_size(size: Size | None, x: Tensor, number: int) -> Size:
    if size is not None and x.shape[0] != size:
        raise ShapeError("vmap", f"the batch axis of argument {number} has {x.shape[0]} elements, those before it have "
                         f"{size}", got=str(x.type)).locate(Site(*user_site()))  # fmt: skip
    return x.shape[0]
