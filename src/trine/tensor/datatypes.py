"""Data types in the array API's terms: casts, limits, kinds and promotion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from trine import dtypes
from trine.dtypes import DType
from trine.errors import ArgumentError, DTypeError, Site, TrineError
from trine.ops import elementwise as e
from trine.ops.base import user_site
from trine.ops.movement import broadcast_to
from trine.shapes import broadcast
from trine.tensor.tensor import Tensor

DTypeLike = DType | str | type


def astype(x: Tensor, dtype: DTypeLike, /, *, copy: bool = True) -> Tensor:
    """`x` in another dtype: floats round to nearest even; to integers they truncate and saturate, and NaN becomes 0.

    Args:
        x: a tensor of any dtype.
        dtype: the dtype of the result.
        copy: whether a new handle comes back where nothing changes; the value, which never changes, is shared.
    """
    wanted = dtypes.dtype(dtype)
    if wanted is x.dtype:
        return x.copy() if copy else x
    return e.cast(x, wanted)


def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """The tensors repeated to one shape.

    Raises:
        ShapeError: their shapes do not broadcast.
    """
    try:
        shape = broadcast("broadcast_arrays", *[x.shape for x in arrays])
    except TrineError as error:
        raise error.locate(Site(*user_site())) from None
    return [broadcast_to(x, shape) for x in arrays]


@dataclass(frozen=True, slots=True)
class FloatLimits:
    """The limits of a float dtype, as Python numbers; see `trine.finfo`."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class IntegerLimits:
    """The limits of an integer dtype, as Python numbers; see `trine.iinfo`."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype_of(like: Tensor | DTypeLike) -> DType:
    return like.dtype if isinstance(like, Tensor) else dtypes.dtype(like)


def finfo(like: Tensor | DTypeLike, /) -> FloatLimits:
    """The limits of a float dtype, or of a tensor's: bits, eps, max, min, smallest_normal.

    Raises:
        DTypeError: not a float dtype.
    """
    found = _dtype_of(like)
    if not found.is_float:
        raise DTypeError("finfo", f"takes a float dtype, not {found.name}", got=found.name,
                         fix=f"trine.iinfo(trine.{found.name})").locate(Site(*user_site()))  # fmt: skip
    of: Any = ml_dtypes.finfo  # knows NumPy's own dtypes too
    limits = of(found.numpy)
    eps, high, low, normal = (float(n) for n in (limits.eps, limits.max, limits.min, limits.smallest_normal))
    return FloatLimits(found.bits, eps, high, low, normal, found)


def iinfo(like: Tensor | DTypeLike, /) -> IntegerLimits:
    """The limits of an integer dtype, or of a tensor's: bits, max, min.

    Raises:
        DTypeError: not an integer dtype.
    """
    found = _dtype_of(like)
    if not found.is_integer:
        raise DTypeError("iinfo", f"takes an integer dtype, not {found.name}", got=found.name,
                         fix=f"trine.finfo(trine.{found.name})" if found.is_float else "").locate(
            Site(*user_site()))  # fmt: skip
    limits = np.iinfo(found.numpy)
    return IntegerLimits(found.bits, int(limits.max), int(limits.min), found)


def result_type(*args: Tensor | DTypeLike | bool | float) -> DType:
    """The dtype in which tensors, dtypes and Python scalars meet; scalars are weak.

    Raises:
        DTypeError: uint64 with a signed integer.
        ArgumentError: neither a tensor nor a dtype is given.
    """
    strong = [_dtype_of(a) for a in args if not isinstance(a, bool | int | float)]
    if not strong:
        raise ArgumentError("result_type", "takes at least one tensor or dtype", got=f"{args!r:.60}").locate(
            Site(*user_site()))  # fmt: skip
    found = strong[0]
    for other in strong[1:]:
        found = dtypes.promote("result_type", found, other)
    for scalar in args:
        if isinstance(scalar, bool | int | float):
            found = dtypes.weak(scalar, found)
    return found


def can_cast(source: Tensor | DTypeLike, to: DTypeLike, /) -> bool:
    """Whether values of one dtype become another by promotion, which loses nothing but precision."""
    wanted = dtypes.dtype(to)
    try:
        return dtypes.promote("can_cast", _dtype_of(source), wanted) is wanted
    except DTypeError:
        return False


_KINDS = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": (),
    "numeric": ("int", "uint", "float"),
}


def isdtype(dtype: DTypeLike, kind: DType | str | tuple[DType | str, ...]) -> bool:
    """Whether a dtype is of a kind of the array API standard ("real floating", "integral", ...), or one of several.

    Raises:
        ArgumentError: a kind that the standard does not have.
    """
    found = dtypes.dtype(dtype)
    for one in kind if isinstance(kind, tuple) else (kind,):
        if isinstance(one, DType):
            if one is found:
                return True
        elif one not in _KINDS:
            raise ArgumentError("isdtype", f"no kind is called {one!r}", got=repr(one),
                                fix=f"one of {', '.join(_KINDS)}").locate(Site(*user_site()))  # fmt: skip
        elif found.kind in _KINDS[one]:
            return True
    return False
