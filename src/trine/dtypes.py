"""The data types of tensors, and how they combine.

Promotion follows the Python array API standard (2024.12, "Type Promotion Rules"). Where the standard leaves a mixture
of kinds open, Trine takes the type of the higher kind: an integer with a float gives that float, a bool with anything
gives the other. Python scalars are weak: they take the dtype of the tensor they meet.
"""

from __future__ import annotations

import builtins
from typing import Any, Final

import ml_dtypes
import numpy as np

from trine.errors import DTypeError, nearest


class DType:
    """One data type: a singleton such as `trine.float32`, compared by identity.

    Attributes:
        name: the array API's name, for example `"float32"`.
        code: the short form printed in types, for example `"f32"`.
        kind: `"bool"`, `"int"`, `"uint"` or `"float"`.
        bits: the width of an element in bits (8 for bool).
        numpy: the NumPy dtype that stores it (`ml_dtypes` for bfloat16).
        itemsize: bytes of one element.
        is_float: whether it holds real numbers, and so can carry a gradient.
        is_integer: whether it holds integers, signed or not; bool is not one.
    """

    __slots__ = ("bits", "code", "is_float", "is_integer", "itemsize", "kind", "name", "numpy")

    def __init__(self, name: str, code: str, kind: str, bits: int, numpy: Any) -> None:
        """Define a data type; the module makes each of them once."""
        self.name: Final = name
        self.code: Final = code
        self.kind: Final = kind
        self.bits: Final = bits
        self.numpy: Final[np.dtype[Any]] = np.dtype(numpy)
        self.itemsize: Final = bits // 8
        self.is_float: Final = kind == "float"
        self.is_integer: Final = kind in ("int", "uint")

    @property
    def accumulator(self) -> DType:
        """The dtype in which sums and products of this one are accumulated by default."""
        return float32 if self in (float16, bfloat16) else self

    def __repr__(self) -> str:
        """`trine.float32`."""
        return f"trine.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by name, so that identity holds."""
        return dtype, (self.name,)


bool = DType("bool", "bool", "bool", 8, np.bool_)
int8 = DType("int8", "i8", "int", 8, np.int8)
int16 = DType("int16", "i16", "int", 16, np.int16)
int32 = DType("int32", "i32", "int", 32, np.int32)
int64 = DType("int64", "i64", "int", 64, np.int64)
uint8 = DType("uint8", "u8", "uint", 8, np.uint8)
uint16 = DType("uint16", "u16", "uint", 16, np.uint16)
uint32 = DType("uint32", "u32", "uint", 32, np.uint32)
uint64 = DType("uint64", "u64", "uint", 64, np.uint64)
float16 = DType("float16", "f16", "float", 16, np.float16)
bfloat16 = DType("bfloat16", "bf16", "float", 16, ml_dtypes.bfloat16)
float32 = DType("float32", "f32", "float", 32, np.float32)
float64 = DType("float64", "f64", "float", 64, np.float64)

ALL: Final = (
    bool, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, float64,
)  # fmt: skip
FLOATS: Final = (float16, bfloat16, float32, float64)
INTEGERS: Final = (int8, int16, int32, int64, uint8, uint16, uint32, uint64)

_BY_NAME: Final = {d.name: d for d in ALL} | {d.code: d for d in ALL}
_BY_NUMPY: Final = {d.numpy: d for d in ALL}
_BY_PYTHON: Final = {builtins.bool: bool, int: int64, float: float32}
_RANK: Final = {"bool": 0, "uint": 1, "int": 1, "float": 2}


def dtype(like: Any) -> DType:
    """The data type that `like` names: a DType, a name such as `"float32"` or `"f32"`, a NumPy dtype or scalar type.

    Python's `bool`, `int` and `float` mean bool, int64 and float32, the defaults of tensors made from Python values.

    Raises:
        DTypeError: no such data type.
    """
    if isinstance(like, DType):
        return like
    if isinstance(like, str) and like in _BY_NAME:
        return _BY_NAME[like]
    if isinstance(like, type) and like in _BY_PYTHON:
        return _BY_PYTHON[like]
    try:
        found = _BY_NUMPY.get(np.dtype(like).newbyteorder("="))
    except TypeError:
        found = None
    if found is None:
        fix = nearest(str(like), (d.name for d in ALL))
        raise DTypeError("dtype", f"no data type is called {like!r}", got=repr(like), fix=fix)
    return found


def promote(where: str, a: DType, b: DType) -> DType:
    """The data type in which values of `a` and `b` meet.

    Raises:
        DTypeError: uint64 with a signed integer, for which no integer type is wide enough.
    """
    if a is b:
        return a
    found = _PROMOTION.get((a, b))
    if found is None:
        raise DTypeError(where, f"no integer type holds both {a.name} and {b.name}", got=f"{a.code}, {b.code}",
                         fix="cast one of them: x.astype(trine.int64)")  # fmt: skip
    return found


def weak(scalar: builtins.bool | float, other: DType) -> DType:
    """The data type a Python scalar takes beside a tensor of dtype `other`: `other`, unless its kind is too low."""
    if isinstance(scalar, builtins.bool) or (isinstance(scalar, int) and other is not bool) or other.is_float:
        return other
    return int64 if isinstance(scalar, int) else float32


def _promotion(a: DType, b: DType) -> DType | None:
    if _RANK[a.kind] != _RANK[b.kind]:
        return a if _RANK[a.kind] > _RANK[b.kind] else b
    if a.kind == b.kind:
        wide, narrow = (a, b) if a.bits >= b.bits else (b, a)
        return float32 if wide.bits == 16 and wide is not narrow and wide.is_float else wide
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    if signed.bits > unsigned.bits:
        return signed
    return {8: int16, 16: int32, 32: int64}.get(unsigned.bits)


_PROMOTION: Final = {(a, b): d for a in ALL for b in ALL if (d := _promotion(a, b)) is not None}
