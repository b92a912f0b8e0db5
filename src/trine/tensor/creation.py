"""Making tensors: from Python and NumPy, and by rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trine import dtypes
from trine.dtypes import DType
from trine.errors import ArgumentError, ShapeError, Site, TrineError
from trine.ops import creation as c
from trine.ops import elementwise as e
from trine.ops.base import Scalar, literal, user_site
from trine.ops.movement import broadcast_to, expand_dims
from trine.shapes import Dim, Size, as_shape
from trine.tensor.tensor import Tensor, constant, to_tensor

DTypeLike = DType | str | type | None


def asarray(value: Any, /, *, dtype: DTypeLike = None, requires_grad: bool = False, copy: bool | None = None) -> Tensor:
    """A tensor with the value of a NumPy array, a Python number, nested lists, or anything with `__array__`.

    Python floats become float32, ints int64, bools bool; NumPy arrays keep their dtype.

    Args:
        value: what to convert; a tensor is returned as it is where nothing changes.
        dtype: the dtype of the result.
        requires_grad: whether `backward()` leaves a gradient on it.
        copy: False shares a NumPy array's memory, and the caller promises not to write it; otherwise it is copied.

    Raises:
        DTypeError: elements that are no numbers, or gradients of integers.
        ShapeError: nested lists of different lengths.
        ArgumentError: `copy=False` where a copy cannot be avoided.
    """
    wanted = None if dtype is None else dtypes.dtype(dtype)
    made = _shared(value, wanted) if copy is False else to_tensor(value, wanted)
    if made is value and (requires_grad or copy):
        made = made.copy()
    if requires_grad:
        made.requires_grad = True
    return made


def _shared(value: Any, dtype: DType | None) -> Tensor:
    if isinstance(value, Tensor) and dtype in (None, value.dtype):
        return value
    fits = isinstance(value, np.ndarray) and value.dtype.isnative
    if not fits or dtype not in (None, dtypes.dtype(value.dtype)):
        raise ArgumentError("asarray", "copy=False, but a copy cannot be avoided", got=f"{type(value).__name__}",
                            fix="pass a NumPy array of the dtype, or leave copy out").locate(
            Site(*user_site()))  # fmt: skip
    return Tensor(constant(value))


def full(shape: Size | Sequence[Size], value: Scalar, *, dtype: DTypeLike = None) -> Tensor:
    """One number repeated over a shape; its dtype is that of the number (float32, int64 or bool) unless given."""
    wanted = dtypes.dtype(type(value) if dtype is None else dtype)
    return Tensor(broadcast_to(literal(value, wanted), as_shape("shape", shape)))


def zeros(shape: Size | Sequence[Size], *, dtype: DTypeLike = None) -> Tensor:
    """Zeros of a shape; float32 unless given."""
    return full(shape, 0, dtype=dtype or dtypes.float32)


def ones(shape: Size | Sequence[Size], *, dtype: DTypeLike = None) -> Tensor:
    """Ones of a shape; float32 unless given."""
    return full(shape, 1, dtype=dtype or dtypes.float32)


def empty(shape: Size | Sequence[Size], *, dtype: DTypeLike = None) -> Tensor:
    """Zeros of a shape: values are immutable, so there is nothing to fill in later."""
    return zeros(shape, dtype=dtype)


def full_like(x: Tensor, /, value: Scalar, *, dtype: DTypeLike = None) -> Tensor:
    """One number repeated over the shape of `x`, in its dtype unless given."""
    return full(x.shape, value, dtype=dtype or x.dtype)


def zeros_like(x: Tensor, /, *, dtype: DTypeLike = None) -> Tensor:
    """Zeros of the shape of `x`, in its dtype unless given."""
    return full_like(x, 0, dtype=dtype)


def ones_like(x: Tensor, /, *, dtype: DTypeLike = None) -> Tensor:
    """Ones of the shape of `x`, in its dtype unless given."""
    return full_like(x, 1, dtype=dtype)


def empty_like(x: Tensor, /, *, dtype: DTypeLike = None) -> Tensor:
    """Zeros of the shape of `x`, in its dtype unless given."""
    return zeros_like(x, dtype=dtype)


def arange(
    start: float | Size, /, stop: float | Size | None = None, step: float = 1, *, dtype: DTypeLike = None
) -> Tensor:
    """`start`, `start + step`, ... before `stop`; from 0 where only one number is given.

    int64 where all numbers are ints, float32 otherwise, unless given. Sizes may be symbols where the step is a positive
    int.

    Raises:
        ArgumentError: a step of 0, a number that is not finite, or a symbol beside a float or a step below 1.
    """
    first, last = (0, start) if stop is None else (start, stop)
    begin, end, by = _number("arange", first), _number("arange", last), _number("arange", step)
    whole = not any(isinstance(n, float) for n in (begin, end, by))
    symbolic = isinstance(begin, Dim) or isinstance(end, Dim)
    if by == 0 or (symbolic and not (whole and isinstance(by, int) and by > 0)):
        rule = "the step is 0" if by == 0 else "a symbolic size goes with whole numbers and a step above 0"
        raise ArgumentError("arange", rule, got=f"{begin}, {end}, {by}").locate(Site(*user_site()))
    wanted = dtypes.dtype(dtype) if dtype is not None else dtypes.int64 if whole else dtypes.float32
    if symbolic:
        span: Any = end - begin
        count = span if by == 1 else (span + (by - 1)) // by
    else:
        count = max(-((begin - end) // by) if whole else math.ceil((end - begin) / by), 0)
    if begin == 0 and by == 1:
        found: Tensor = c.iota(Tensor, count, wanted)
        return found
    line: Tensor = c.iota(Tensor, count, dtypes.int64 if whole else dtypes.float64) * by
    line = line + (c.size_value(line, begin) if isinstance(begin, Dim) else begin)
    return e.cast(line, wanted)


def _number(where: str, value: Any) -> Any:
    """A Python int or float, or a size with symbols; NumPy's numbers and tensors of one element become Python's."""
    if isinstance(value, Dim):
        return value
    try:
        number = value.__index__() if hasattr(value, "__index__") else float(value)
    except (TypeError, ValueError):
        number = math.nan
    except TrineError:
        number = float(value)  # a tensor of one float
    if not math.isfinite(number):
        raise ArgumentError(where, "takes finite numbers", got=f"{value!r:.60}").locate(Site(*user_site()))
    return number


def linspace(start: float, stop: float, /, num: Size, *, dtype: DTypeLike = None, endpoint: bool = True) -> Tensor:
    """`num` numbers at equal distances from `start` to `stop`, which is the last one unless `endpoint` is False.

    float32 unless given; integers are rounded down.

    Raises:
        ArgumentError: limits that are not finite, or a number of points that is a symbol, a float or below 0.
    """
    low, high = float(_number("linspace", start)), float(_number("linspace", stop))
    count = _number("linspace", num)
    if not isinstance(count, int) or count < 0:
        raise ArgumentError("linspace", "the number of points is an int, 0 or more", got=f"num={num!r:.60}").locate(
            Site(*user_site()))  # fmt: skip
    wanted = dtypes.dtype(dtype or dtypes.float32)
    gaps = count - 1 if endpoint else count
    steps: Tensor = c.iota(Tensor, count, dtypes.float64)
    line: Tensor = steps * ((high - low) / gaps if gaps > 0 else 0.0)
    line = line + low
    if endpoint and count > 1:
        last = full((), high, dtype=line.dtype)
        at_end: Tensor = e.equal(steps, float(count - 1))
        line = e.where(at_end, last, line)
    return e.cast(e.floor(line) if wanted.is_integer else line, wanted)


def eye(rows: Size, columns: Size | None = None, /, *, k: int = 0, dtype: DTypeLike = None) -> Tensor:
    """Ones on diagonal `k` (above the main one where positive), zeros elsewhere; float32 unless given."""
    width = rows if columns is None else columns
    down = expand_dims(c.iota(Tensor, rows, dtypes.int64), axis=1)
    return e.cast(e.equal(down + k, c.iota(Tensor, width, dtypes.int64)), dtypes.dtype(dtype or dtypes.float32))


def meshgrid(*arrays: Tensor, indexing: str = "xy") -> list[Tensor]:
    """Coordinate tensors from coordinate vectors; `"xy"` exchanges the first two axes, `"ij"` does not.

    Raises:
        ArgumentError: another word for the indexing.
        ShapeError: an array that is not a vector.
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError("meshgrid", 'indexing is "xy" or "ij"', got=repr(indexing)).locate(Site(*user_site()))
    vectors = [to_tensor(x) for x in arrays]
    for x in vectors:
        if x.ndim != 1:
            raise ShapeError("meshgrid", f"takes vectors, not {x.ndim} axes", got=str(x.type),
                             fix="x.flatten()").locate(Site(*user_site()))  # fmt: skip
    order = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        order[0], order[1] = 1, 0
    shape = [vectors[i].shape[0] for i in order]
    places = [[-1 if i == place else 1 for i in order] for place in range(len(vectors))]
    return [broadcast_to(x.reshape(place), shape) for x, place in zip(vectors, places, strict=True)]
