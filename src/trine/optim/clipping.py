"""Gradients cut to a size: each element, each gradient's norm, or the norm of all together.

Source of the norms: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013),
arXiv:1211.5063, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from trine.errors import ArgumentError, Site
from trine.ops.base import V, user_site
from trine.ops.elementwise import add, cast, clip, divide, maximum, multiply, sqrt, square
from trine.ops.reduction import sum


def clip_by_value(gradients: Sequence[V], limit: float) -> list[V]:
    """The gradients with every element limited to [-limit, limit]."""
    _positive("clip_by_value", limit)
    return [clip(g, -limit, limit) for g in gradients]


def clip_by_norm(gradients: Sequence[V], limit: float) -> list[V]:
    """Each gradient, scaled down where needed so that its Euclidean norm is at most `limit`."""
    _positive("clip_by_norm", limit)
    return [_scaled(g, global_norm([g]), limit) for g in gradients]


def clip_by_global_norm(gradients: Sequence[V], limit: float) -> list[V]:
    """The gradients, scaled down by one factor where needed so that the norm of all together is at most `limit`."""
    _positive("clip_by_global_norm", limit)
    if not gradients:
        return []
    norm = global_norm(gradients)
    return [_scaled(g, norm, limit) for g in gradients]


def global_norm(gradients: Sequence[V]) -> V:
    """The Euclidean norm of all elements of all tensors: a scalar, in float32 or wider.

    Raises:
        ArgumentError: no tensors.
    """
    if not gradients:
        raise ArgumentError("global_norm", "takes at least one tensor", got="0 tensors").locate(Site(*user_site()))
    parts = [sum(square(cast(g, g.dtype.accumulator))) for g in gradients]
    total = parts[0]
    for part in parts[1:]:
        total = add(total, part)
    return sqrt(total)


def _scaled(g: V, norm: V, limit: float) -> V:
    factor = divide(limit, maximum(norm, limit))
    return cast(multiply(g, cast(factor, g.dtype.accumulator)), g.dtype)


def _positive(name: str, limit: float) -> None:
    if not limit > 0:
        raise ArgumentError(name, "the limit is above 0", got=f"{limit!r}").locate(Site(*user_site()))
