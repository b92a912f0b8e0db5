"""Two evaluators of scalar expressions: on NumPy arrays, and number by number in the exact arithmetic of the contract.

What an instruction leaves open ("any value") is filled with nonsense here, and what is undefined is refused, so that a
lowering that lets either through is found.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.numerics import interpreter as exact
from tests.numerics.interpreter import FLOATS, INTEGERS, Float, Integer
from tests.ops.test_special_values import BOOL, cast_rule
from trine import dtypes
from trine.dtypes import DType
from trine.ir.expr import Expr, postorder
from trine.ops.erf import error_function
from trine.shapes import substitute

KINDS: dict[str, Any] = {kind.name: kind for kind in (*FLOATS, *INTEGERS, BOOL)}
NUMPY = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "pow": np.power, "atan2": np.arctan2,
    "erf": lambda x: error_function(x.astype(np.float64)).astype(x.dtype),
} | {name: getattr(np, name) for name in (
    "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "tanh",
)}  # fmt: skip


def array(values: Sequence[Any], dtype: DType) -> np.ndarray:
    """Numbers that the dtype holds."""
    return np.array(values, np.float64 if dtype.is_float else dtype.numpy).astype(dtype.numpy)


def numbers(x: np.ndarray) -> list[Any]:
    """The elements as Python numbers."""
    return (x.astype(np.float64) if dtypes.dtype(x.dtype).is_float else x).reshape(-1).tolist()


def words(x: np.ndarray) -> np.ndarray:
    return x.view(f"u{x.dtype.itemsize}")


# -- Arrays ------------------------------------------------------------------------------------------------------------


def converted(x: np.ndarray, to: DType) -> np.ndarray:
    """By the interpreter, once for each value that occurs."""
    source = dtypes.dtype(x.dtype)
    bits, places = np.unique(words(np.ascontiguousarray(x)), return_inverse=True)
    known = [cast_rule(v, KINDS[source.name], KINDS[to.name]) for v in numbers(bits.view(x.dtype))]
    return array(known, to)[places].reshape(x.shape)


def is_float(x: np.ndarray) -> bool:
    return dtypes.dtype(x.dtype).is_float


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) if is_float(x) else x


def with_words(x: np.ndarray, rule: Callable[[np.ndarray, np.ndarray], np.ndarray], *others: np.ndarray) -> np.ndarray:
    """A float array whose bits are what the rule makes of its bits and the sign bit's mask."""
    top = words(x).dtype.type(1 << (8 * x.dtype.itemsize - 1))
    return rule(words(x), top, *map(words, others)).view(x.dtype)


def extreme(a: np.ndarray, b: np.ndarray, larger: bool) -> np.ndarray:
    x, y = wide(a), wide(b)
    second = (y > x) if larger else (y < x)
    if is_float(a):
        minus = np.signbit(x) if larger else ~np.signbit(x)
        second = ((x == y) & minus) | second | np.isnan(y)
        return np.where(np.isnan(x), a, np.where(second, b, a))
    return np.where(second, b, a)


def divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    assert np.all(b != 0), "a division by 0"
    if a.dtype.kind == "i":
        assert not np.any((a == np.iinfo(a.dtype).min) & (b == -1)), "a division that overflows"
    return np.fmod(a, b)


def shifted(a: np.ndarray, b: np.ndarray, shift: Callable[..., np.ndarray], kind: str) -> np.ndarray:
    inside = (b >= 0) & (b < 8 * a.dtype.itemsize)
    word = a.view(f"{kind}{a.dtype.itemsize}")
    moved = shift(word, np.where(inside, b, 0).astype(word.dtype))
    return np.where(inside, moved.view(a.dtype), ~a)


def powered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    kind = KINDS[a.dtype.name]
    return array([exact.integer_power(x, n, kind) if n >= 0 else 77 for x, n in zip(numbers(a), numbers(b),
                  strict=True)], dtypes.dtype(a.dtype)).reshape(a.shape)  # fmt: skip


def fused(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    kind = KINDS[a.dtype.name]
    terms = zip(numbers(a), numbers(b), numbers(c), strict=True)
    return array([exact.fma(*t, kind) for t in terms], dtypes.dtype(a.dtype)).reshape(a.shape)


ON_ARRAYS: dict[str, Callable[..., Any]] = NUMPY | {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "fmod": np.fmod, "fma": fused,
    "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint,
    "idiv": lambda a, b: (a - divided(a, b)) // b, "irem": divided, "ipow": powered,
    "neg": lambda x: with_words(x, lambda w, top: w ^ top) if is_float(x) else np.negative(x),
    "abs": lambda x: with_words(x, lambda w, top: w & ~top) if is_float(x) else np.abs(x),
    "copysign": lambda a, b: with_words(a, lambda w, top, v: (w & ~top) | (v & top), b),
    "maximum": lambda a, b: extreme(a, b, True), "minimum": lambda a, b: extreme(a, b, False),
    "eq": lambda a, b: wide(a) == wide(b), "lt": lambda a, b: wide(a) < wide(b), "le": lambda a, b: wide(a) <= wide(b),
    "select": np.where, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "shl": lambda a, b: shifted(a, b, np.left_shift, "u"), "lshr": lambda a, b: shifted(a, b, np.right_shift, "u"),
    "ashr": lambda a, b: shifted(a, b, np.right_shift, "i"),
}  # fmt: skip


def evaluate(
    roots: Sequence[Expr], parameters: Sequence[np.ndarray], sizes: Mapping[str, int] | None = None
) -> list[np.ndarray]:
    """The roots' values for arrays of one shape in the place of parameters."""
    shape = parameters[0].shape if parameters else ()
    known: dict[Expr, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for x in postorder(*roots):
            operands = [known[part] for part in x.operands]
            if x.op == "parameter":
                found = parameters[int(x.value)]  # type: ignore[arg-type]  # a number here
            elif x.op in ("constant", "size"):
                value = substitute(x.value, dict(sizes or {})) if x.op == "size" else x.value
                found = np.broadcast_to(array(value, x.dtype), shape)  # type: ignore[arg-type]  # a number
            elif x.op == "convert":
                found = converted(operands[0], x.dtype)
            elif x.op == "bitcast":
                found = np.ascontiguousarray(operands[0]).view(x.dtype.numpy)
            else:
                found = np.asarray(ON_ARRAYS[x.op](*map(np.ascontiguousarray, operands)))
            assert found.dtype == x.dtype.numpy, f"{x.op} gives {found.dtype}, not {x.dtype}"
            known[x] = found.reshape(shape)
    return [known[root] for root in roots]


# -- Numbers -----------------------------------------------------------------------------------------------------------


def on_numbers(x: Expr, operands: Sequence[Any]) -> Any:
    """An instruction on numbers; the functions, which the contract only bounds, are not among them."""
    kind = KINDS[x.operands[0].dtype.name]
    if x.op == "convert":
        return cast_rule(operands[0], kind, KINDS[x.dtype.name])
    if x.op == "bitcast":
        return numbers(array([operands[0]], x.operands[0].dtype).view(x.dtype.numpy))[0]
    if x.op in ANY_KIND:
        return ANY_KIND[x.op](*operands)
    return (FLOAT_RULES if isinstance(kind, Float) else INTEGER_RULES)[x.op](*operands, kind)


def exact_value(root: Expr, parameters: Sequence[Any]) -> Any:
    """The root's value for one number per parameter."""
    known: dict[Expr, Any] = {}
    for x in postorder(root):
        if x.op == "parameter":
            known[x] = parameters[int(x.value)]  # type: ignore[arg-type]  # a number here
        elif x.op == "constant":
            known[x] = x.value
        else:
            known[x] = on_numbers(x, [known[part] for part in x.operands])
    return known[root]


def stepped(step: Callable[[float], float]) -> Callable[..., float]:
    return lambda x, kind: math.copysign(step(x), x) if math.isfinite(x) else x


def exact_fmod(a: float, b: float, kind: Float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) or math.isinf(a) or b == 0 else math.fmod(a, b)


def truncated(a: int, b: int, kind: Integer) -> int:
    assert b != 0 and not (b == -1 and a == kind.least and kind.signed), "undefined"
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def exact_shift(a: int, b: int, kind: Integer, shift: Callable[[int, int], int]) -> int:
    return exact.wrapped(shift(a, b) if 0 <= b < kind.bits else 77, kind)


def bitwise(rule: Callable[..., int]) -> Callable[..., int]:
    return lambda *operands: exact.wrapped(rule(*operands[:-1]), operands[-1]) if operands[-1] is not BOOL else bool(
        rule(*operands[:-1]) & 1)  # fmt: skip


ANY_KIND: dict[str, Callable[..., Any]] = {
    "eq": lambda a, b: a == b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "select": lambda c, a, b: a if c else b,
}  # fmt: skip
FLOAT_RULES: dict[str, Callable[..., Any]] = {
    "add": exact.add, "sub": exact.subtract, "mul": exact.multiply, "div": exact.divide, "fma": exact.fma,
    "fmod": exact_fmod, "sqrt": exact.square_root, "floor": stepped(math.floor), "ceil": stepped(math.ceil),
    "trunc": stepped(math.trunc), "rint": stepped(round), "neg": lambda x, kind: -x,
    "abs": lambda x, kind: math.copysign(x, 1.0), "copysign": lambda a, b, kind: math.copysign(a, b),
    "maximum": lambda a, b, kind: exact.maximum(a, b), "minimum": lambda a, b, kind: exact.minimum(a, b),
}  # fmt: skip
INTEGER_RULES: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, kind: exact.wrapped(a + b, kind), "sub": lambda a, b, kind: exact.wrapped(a - b, kind),
    "mul": lambda a, b, kind: exact.wrapped(a * b, kind), "neg": lambda x, kind: exact.wrapped(-x, kind),
    "abs": lambda x, kind: exact.wrapped(abs(x), kind),
    "maximum": lambda a, b, kind: max(a, b), "minimum": lambda a, b, kind: min(a, b),
    "idiv": truncated, "irem": lambda a, b, kind: a - truncated(a, b, kind) * b,
    "ipow": lambda a, b, kind: exact.integer_power(a, b, kind) if b >= 0 else exact.wrapped(77, kind),
    "and": bitwise(lambda a, b: a & b), "or": bitwise(lambda a, b: a | b), "xor": bitwise(lambda a, b: a ^ b),
    "not": bitwise(lambda x: ~int(x)),
    "shl": functools.partial(exact_shift, shift=lambda a, b: a << b),
    "lshr": lambda a, b, kind: exact_shift(a % (1 << kind.bits), b, kind, lambda x, n: x >> n),
    "ashr": functools.partial(exact_shift, shift=lambda a, b: a >> b),
}  # fmt: skip
