"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Final

from trine import dtypes
from trine.dtypes import DType
from trine.errors import ShapeError, Site
from trine.functional.activations import softmax
from trine.ops.base import V, user_site
from trine.ops.creation import iota, size_value
from trine.ops.elementwise import divide, greater_equal, logical_and, multiply, sqrt, where
from trine.ops.linalg import matmul
from trine.ops.movement import expand_dims, matrix_transpose

_LOWEST: Final[dict[DType, float]] = {  # the most negative finite number: its exponential is 0, and it makes no NaN
    dtypes.float16: -65504.0,
    dtypes.bfloat16: -3.3895313892515355e38,
    dtypes.float32: -3.4028234663852886e38,
    dtypes.float64: -1.7976931348623157e308,
}


def attention(
    query: V, key: V, value: V, mask: V | None = None, *, causal: bool = False, scale: float | None = None
) -> V:
    """`softmax(query key' scale) value`: for each query the mean of the values, weighted by how well its key fits.

    Args:
        query: floats of shape `[..., t, d]`.
        key: `[..., s, d]`.
        value: `[..., s, e]`; the result is `[..., t, e]`. Leading axes broadcast.
        mask: bools that broadcast to `[..., t, s]`: a query sees a key where it holds. A query that sees none gets the
            mean of all values.
        causal: query i sees only keys 0 to i.
        scale: of the products; None is `1 / sqrt(d)`.

    Raises:
        ShapeError: fewer than two axes, or sizes that differ.

    Source: Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, equation 1.
    """
    return matmul(attention_weights(query, key, mask, causal=causal, scale=scale), value)


def attention_weights(
    query: V, key: V, mask: V | None = None, *, causal: bool = False, scale: float | None = None
) -> V:
    """The weights of `attention`: `[..., t, s]`, each row of which sums to 1."""
    for name, x in (("query", query), ("key", key)):
        if x.ndim < 2:
            raise ShapeError("attention", f"the {name} has {x.ndim} axes, and [..., time, features] are at least 2",
                             got=str(x.type)).locate(Site(*user_site()))  # fmt: skip
    scores = matmul(_scaled(query, scale), matrix_transpose(key))
    seen = mask
    if causal:
        past = _past(scores)
        seen = past if mask is None else logical_and(mask, past)
    return softmax(scores if seen is None else masked_scores(scores, seen), axis=-1)


def masked_scores(scores: V, mask: V) -> V:
    """`scores` where the bools of `mask` hold, elsewhere the lowest finite number: softmax makes 0 of it, never NaN."""
    return where(mask, scores, _LOWEST[scores.dtype])


def _scaled(query: V, scale: float | None) -> V:
    """The query times the scale: fewer products than there are scores."""
    d = query.shape[-1]
    if scale is not None:
        return multiply(query, scale)
    if isinstance(d, int):
        return multiply(query, 1.0 / math.sqrt(d)) if d else query
    return divide(query, sqrt(size_value(query, d)))


def _past(scores: V) -> V:
    """Bools `[t, s]`: whether key j is not later than query i."""
    rows: V = iota(scores, scores.shape[-2], dtypes.int64)
    return greater_equal(expand_dims(rows, axis=1), iota(scores, scores.shape[-1], dtypes.int64))
