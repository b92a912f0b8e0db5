"""Normalisation: statistics over axes, and values moved to mean 0 and variance 1.

Half types are normalised in float32 and rounded once at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from trine.errors import ArgumentError, Site
from trine.ops.base import V, user_site
from trine.ops.elementwise import add, cast, divide, floating, maximum, multiply, sqrt, square, subtract, where
from trine.ops.movement import broadcast_to, checked_axes, reshape
from trine.ops.reduction import mean, sum

Axis = int | Sequence[int]


def moments(x: V, axis: Axis, *, mask: V | None = None, keepdims: bool = False) -> tuple[V, V]:
    """Mean and biased variance of `x` over `axis`, in float32 for half types and in its own dtype otherwise.

    Args:
        x: numbers; integers count as float32.
        axis: the axes to reduce.
        mask: bools that broadcast against `x`: only elements where it holds count. With none of them both are 0.
        keepdims: keep the reduced axes with size 1.
    """
    x = _wide(x)
    if mask is None:
        centre = mean(x, axis=axis, keepdims=True)
        spread = mean(square(subtract(x, centre)), axis=axis, keepdims=True)
    else:
        count = maximum(sum(broadcast_to(cast(mask, x.dtype), x.shape), axis=axis, keepdims=True), 1.0)
        centre = divide(sum(where(mask, x, 0.0), axis=axis, keepdims=True), count)
        distance = where(mask, square(subtract(x, centre)), 0.0)
        spread = divide(sum(distance, axis=axis, keepdims=True), count)
    if keepdims:
        return centre, spread
    axes = checked_axes("moments", axis, x)
    shape = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return reshape(centre, shape), reshape(spread, shape)


def normalise(x: V, centre: V, spread: V, scale: V | None, offset: V | None, epsilon: float) -> V:
    """`(x - centre) / sqrt(spread + epsilon) * scale + offset` for parts that broadcast against `x`, in its dtype."""
    wide = _wide(x)
    factor = divide(1.0, sqrt(add(_wide(spread), epsilon)))
    out = multiply(subtract(wide, _wide(centre)), factor if scale is None else multiply(factor, _wide(scale)))
    if offset is not None:
        out = add(out, _wide(offset))
    return cast(out, x.dtype) if x.dtype.is_float else out


def batch_norm(
    x: V,
    centre: V,
    variance: V,
    scale: V | None = None,
    offset: V | None = None,
    *,
    epsilon: float = 1e-3,
    axis: int = -1,
) -> V:
    """`(x - centre) / sqrt(variance + epsilon) * scale + offset`, with one number of each per channel.

    Args:
        x: numbers whose axis `axis` counts channels; the result has its shape and dtype.
        centre: the means, `[channels]`: those of the batch while training, moving ones afterwards.
        variance: the variances, `[channels]`.
        scale: the factors, `[channels]`; None is 1.
        offset: the summands, `[channels]`; None is 0.
        epsilon: what keeps the divisor from 0.
        axis: of the channels.

    Source: Ioffe and Szegedy, "Batch Normalization" (2015), arXiv:1502.03167, algorithm 1.
    """
    channel = checked_axes("batch_norm", axis, x)
    factors = None if scale is None else _along(scale, x, channel)
    summands = None if offset is None else _along(offset, x, channel)
    return normalise(x, _along(centre, x, channel), _along(variance, x, channel), factors, summands, epsilon)


def layer_norm(x: V, scale: V | None = None, offset: V | None = None, *, epsilon: float = 1e-3, axis: Axis = -1) -> V:
    """`x` with mean 0 and variance 1 over `axis`, times `scale` plus `offset`, in the dtype of `x`.

    Args:
        x: numbers.
        scale: the factors, of the sizes of the normalised axes; None is 1.
        offset: the summands, of the same shape; None is 0.
        epsilon: added to the variance.
        axis: the normalised axes.

    Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), arXiv:1607.06450, equations 3 and 4.
    """
    axes = tuple(sorted(checked_axes("layer_norm", axis, x)))
    if not axes:
        raise ArgumentError("layer_norm", "normalises over at least one axis", got="axis=()").locate(Site(*user_site()))
    centre, spread = moments(x, axes, keepdims=True)
    factors = None if scale is None else _along(scale, x, axes)
    summands = None if offset is None else _along(offset, x, axes)
    return normalise(x, centre, spread, factors, summands, epsilon)


def _along(part: V, x: V, axes: tuple[int, ...]) -> V:
    """A parameter over some axes of `x`, with size 1 along the others."""
    if axes == tuple(range(x.ndim - len(axes), x.ndim)):
        return part
    return reshape(part, tuple(n if i in axes else 1 for i, n in enumerate(x.shape)))


def _wide(x: V) -> V:
    x = floating(x)
    return cast(x, x.dtype.accumulator)
