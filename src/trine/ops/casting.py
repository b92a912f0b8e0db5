"""The conversion of NumPy arrays between data types by the rule of Trine: rounded once, saturated, NaN to 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trine import dtypes
from trine.dtypes import DType

Array = NDArray[Any]


def convert(x: Array, to: DType) -> Array:
    """`x` in the dtype `to`; itself where it has it.

    To a float the exact value is rounded once, ties to even. A float becomes an integer by truncation and saturation,
    and NaN becomes 0. Integers wrap. To bool it is `x != 0`.
    """
    source = dtypes.dtype(x.dtype)
    if source is to:
        return x
    if to is dtypes.bool:
        return np.asarray(x.astype(source.accumulator.numpy) != 0)
    if source.is_float and to.is_integer:
        return _saturated(x.astype(np.float64), to)
    if to is dtypes.bfloat16 and source.bits > 16 and source is not dtypes.float32:
        x = _to_odd(x if source.is_float else _exact(x))
    return x.astype(to.numpy)


def _saturated(x: Array, to: DType) -> Array:
    limits = np.iinfo(to.numpy)
    inside = (x >= float(limits.min)) & (x < float(limits.max) + 1.0)
    low, zero, high = (np.asarray(n, to.numpy) for n in (limits.min, 0, limits.max))
    edge = np.where(x > 0, high, np.where(x < 0, low, zero))
    return np.where(inside, np.where(inside, x, 0).astype(to.numpy), edge)


def _to_odd(x: Array) -> Array:
    """float64 rounded to float32 *to odd*: a second rounding, to bfloat16, is then the rounding of x.

    Source: Boldo and Melquiond, When double rounding is odd, IMACS 2005.
    """
    near = x.astype(np.float32)
    back = near.astype(np.float64)
    bits = np.atleast_1d(near).view(np.uint32).reshape(near.shape)
    cut = bits - (np.abs(back) > np.abs(x)).astype(np.uint32)
    inexact = (back != x) & ~np.isnan(x)
    return np.where(inexact, cut | np.uint32(1), bits).astype(np.uint32).view(np.float32)


def _exact(x: Array) -> Array:
    """Integers as float64; of wide ones the last 16 bits become one that says whether they were all 0.

    Points where the rounding to 8 bits changes are multiples of 2**16 there, so none is crossed.
    """
    low = x & x.dtype.type(0xFFFF)
    marked = (x - low) | (low != 0).astype(x.dtype) << x.dtype.type(15)
    return np.where(np.abs(x.astype(np.float64)) >= 2.0**33, marked, x).astype(np.float64)
