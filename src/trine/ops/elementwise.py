"""Element-wise primitives: arithmetic, functions, comparison, logic, bits, selection, casts.

Arguments broadcast against each other and promote as in the array API; Python scalars take the dtype of the tensor they
meet. NaN propagates, -0.0 is kept, integer arithmetic wraps. float16 and bfloat16 compute in float32 and round.

Long because it is one table: fifty blocks of a few lines, each the whole truth about its operation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np

from trine import dtypes
from trine.context import using
from trine.dtypes import DType, promote
from trine.errors import DTypeError, Site
from trine.ir import expr
from trine.ir.expr import Expr
from trine.ir.graph import Node, Type, Value
from trine.ops.base import (
    CONSTANT,
    IDENTITY,
    Array,
    Gradients,
    Op,
    Scalar,
    V,
    alias,
    apply,
    like,
    literal,
    no_tensor,
    primitive,
    source,
    user_site,
    wrap,
)
from trine.ops.casting import convert
from trine.ops.creation import SizeValue
from trine.ops.erf import error_function
from trine.ops.movement import reshape
from trine.shapes import Dim, Size, broadcast

_SCALARS: Final = frozenset((bool, int, float))
_KINDS: Final = {
    "any": frozenset(("bool", "int", "uint", "float")),
    "number": frozenset(("int", "uint", "float")),
    "integer": frozenset(("int", "uint")),
    "bits": frozenset(("bool", "int", "uint")),
    "float": frozenset(("float",)),
    "bool": frozenset(("bool",)),
}


# -- Arguments ---------------------------------------------------------------------------------------------------------


def operand(value: V | Scalar, like: Value, where: str = "operand") -> V:
    """`value` as a handle or node beside `like`: a Python scalar becomes a constant in the dtype it takes there.

    Raises:
        DTypeError: something that is neither a tensor nor a Python scalar.
    """
    if isinstance(value, Value):
        return value
    kind = type(value)
    if kind not in _SCALARS:
        if isinstance(value, Dim):  # a symbolic size counts as the integer it will be
            return source(SizeValue(value, dtypes.weak(0, like.dtype)), like)
        if isinstance(value, np.generic) and type(value.item()) in _SCALARS:  # as weak as Python's
            return operand(value.item(), like, where)  # type: ignore[no-any-return]  # its class
        if isinstance(value, np.ndarray) and value.ndim == 0:
            buffer = np.array(value)
            return wrap(Node(CONSTANT, (), Type((), dtypes.dtype(buffer.dtype)), 0, None, buffer), like)
        raise no_tensor(where, value)
    return wrap(literal(value, dtypes.weak(value, like.dtype)), like)  # type: ignore[no-any-return]  # its class


def binary(op: Op, x1: V | Scalar, x2: V | Scalar) -> V:
    """Record a two-argument operation, at least one of whose arguments is a tensor."""
    if isinstance(x1, Value):
        if isinstance(x2, Value):
            return apply(op, x1, x2)
        if type(x2) in _SCALARS:  # a node will do beside a handle, and is cheaper
            number = literal(x2, dtypes.weak(x2, x1.node.type.dtype))
            return apply(op, x1, number)  # type: ignore[return-value]  # the class of the first argument
        return apply(op, x1, operand(x2, x1, op.name))
    if not isinstance(x2, Value):
        raise DTypeError(op.name, "neither argument is a tensor", got=f"{x1!r:.40}, {x2!r:.40}",
                         fix="trine.asarray(...) makes a tensor").locate(Site(*user_site()))  # fmt: skip
    return apply(op, operand(x1, x2, op.name), x2)


def floating(x: V) -> V:
    """`x`, cast to float32 where it holds integers or bools."""
    return x if x.dtype.is_float else cast(x, dtypes.float32)


def _of_floats(op: Op, x: V) -> V:
    """Record a function of floats; integers and bools count as float32."""
    if not isinstance(x, Value):
        raise no_tensor(op.name, x)
    return apply(op, x if x.dtype.is_float else cast(x, dtypes.float32))


# -- Families ----------------------------------------------------------------------------------------------------------


class Elementwise(Op):
    """The family: broadcasting, promotion, kinds, and the batching rule are here."""

    kinds: ClassVar[str] = "number"
    result: ClassVar[DType | None] = None  # None: the promoted dtype
    exact: ClassVar[bool] = False  # whether nothing is rounded, so that half types are worked on as they are

    def infer(self, *types: Type) -> Type:
        """The broadcast shape and the promoted dtype."""
        dtype = types[0].dtype
        for other in types[1:]:
            if other.dtype is not dtype:
                dtype = promote(self.name, dtype, other.dtype)
        if dtype.kind not in _KINDS[self.kinds]:
            got = ", ".join(str(t) for t in types)
            wanted = {"number": "numbers", "integer": "integers", "bits": "integers or bools"}.get(
                self.kinds, f"{self.kinds} tensors"
            )
            fix = "x.astype(trine.int32)" if self.kinds != "bool" else "compare first, for example x != 0"
            raise DTypeError(self.name, f"takes {wanted}, not {dtype.name}", got=got, fix=fix)
        shape = types[0].shape
        for other in types[1:]:
            if other.shape != shape:
                shape = broadcast(self.name, *[t.shape for t in types])
                break
        return Type(shape, self.result or dtype)

    def reference(self, *arrays: Array) -> Array:
        """By `compute` on values of the promoted dtype, half types in float32."""
        dtype = dtypes.dtype(arrays[0].dtype)
        for other in arrays[1:]:
            dtype = promote(self.name, dtype, dtypes.dtype(other.dtype))
        wide = dtype.accumulator.numpy
        out = self.compute(*[convert(a, dtype).astype(wide, copy=False) for a in arrays])
        return np.asarray(out).astype((self.result or dtype).numpy, copy=False)

    def compute(self, *arrays: Array) -> Any:
        """The function on arrays of one dtype, at least 32 bits wide if float."""
        raise NotImplementedError

    def scalar(self, *operands: Expr) -> Expr:
        """`lower` between conversions: to the promoted dtype, half types to float32, the result rounded once."""
        dtype = operands[0].dtype
        for other in operands[1:]:
            dtype = promote(self.name, dtype, other.dtype)
        wide = dtype if self.exact else dtype.accumulator
        out = self.lower(*[expr.convert(expr.convert(x, dtype), wide) for x in operands])
        return expr.convert(out, self.result or dtype)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """Batched arguments get axes of size 1 behind the batch axis, so that broadcasting lines up."""
        return apply(self, *align(batched, inputs))


def align(batched: Sequence[bool], inputs: Sequence[Value]) -> list[Value]:
    """The inputs with ones inserted behind the batch axis of those that have one and fewer axes than the widest."""
    rank = max(x.ndim - b for x, b in zip(inputs, batched, strict=True))
    aligned = []
    for x, has in zip(inputs, batched, strict=True):
        missing = rank - (x.ndim - 1) if has else 0
        aligned.append(reshape(x, (x.shape[0], *(1,) * missing, *x.shape[1:])) if missing else x)
    return aligned


class _Float(Elementwise):
    kinds = "float"


class _Function(_Float):
    """Lowered to the instruction of its name, whose bounds are those of docs/numerics.md, section 8."""

    def lower(self, *operands: Expr) -> Expr:
        """The function."""
        return expr.instruction(self.name, *operands)


class _Compare(Elementwise):
    kinds = "any"
    result = dtypes.bool
    exact = True


# -- Parts of lowered forms --------------------------------------------------------------------------------------------


def _number(value: float, like: Expr) -> Expr:
    """A constant in the dtype of `like`."""
    return expr.constant(value, like.dtype)


def _word(x: Expr) -> DType:
    """The signed integers of the width of `x`."""
    return dtypes.dtype(f"int{x.dtype.bits}")


def _within(by: Expr) -> Expr:
    """Whether a shift is by less than the width, and not negative."""
    below = expr.lt(by, _number(by.dtype.bits, by))
    return below if by.dtype.kind == "uint" else expr.and_(expr.le(_number(0, by), by), below)


def _rounded_up(rest: Expr, b: Expr) -> Expr:
    """Whether a quotient by `b` that was truncated lies above the exact one: the rest has the other sign."""
    zero = _number(0, b)
    return expr.and_(expr.not_(expr.eq(rest, zero)), expr.xor(expr.lt(rest, zero), expr.lt(b, zero)))


def _divided(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """`a // b` and `a % b` of integers, rounded down; a and 0 for b = 0."""
    one, zero = _number(1, b), expr.eq(b, _number(0, b))
    if a.dtype.kind == "uint":
        divisor = expr.select(zero, one, b)
        return expr.idiv(a, divisor), expr.irem(a, divisor)
    minus = expr.eq(b, _number(-1, b))
    divisor = expr.select(expr.or_(zero, minus), one, b)
    quotient, rest = expr.idiv(a, divisor), expr.irem(a, divisor)
    above = _rounded_up(rest, divisor)
    down = expr.select(above, expr.sub(quotient, one), quotient)
    return expr.select(minus, expr.neg(a), down), expr.select(above, expr.add(rest, divisor), rest)


# -- Arithmetic --------------------------------------------------------------------------------------------------------


class Add(Elementwise):
    """`x1 + x2`; on bools, or."""

    kinds = "any"

    def compute(self, *arrays: Array) -> Any:
        """By np.add."""
        return np.add(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`add`; of bools, `or`."""
        return expr.or_(*operands) if operands[0].dtype is dtypes.bool else expr.add(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g, g`."""
        return g, g


class Subtract(Elementwise):
    """`x1 - x2`."""

    def compute(self, *arrays: Array) -> Any:
        """By np.subtract."""
        return np.subtract(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`sub`."""
        return expr.sub(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g, -g`."""
        return g, negative(g)


class Multiply(Elementwise):
    """`x1 * x2`; on bools, and."""

    kinds = "any"

    def compute(self, *arrays: Array) -> Any:
        """By np.multiply."""
        return np.multiply(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`mul`; of bools, `and`."""
        return expr.and_(*operands) if operands[0].dtype is dtypes.bool else expr.mul(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g x2, g x1`."""
        x1, x2 = inputs
        return multiply(g, x2), multiply(g, x1)


class Divide(_Float):
    """`x1 / x2` of floats, as IEEE 754 has it."""

    def compute(self, *arrays: Array) -> Any:
        """By np.divide."""
        return np.divide(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`div`."""
        return expr.div(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / x2, -(g / x2) out`."""
        q = divide(g, inputs[1])
        return q, negative(multiply(q, out))


class FloorDivide(Elementwise):
    """`floor(x1 / x2)`; for integers x // 0 is 0 and the most negative value over -1 wraps."""

    def compute(self, *arrays: Array) -> Any:
        """By np.floor_divide, with the integer edges set."""
        x1, x2 = arrays
        if x1.dtype.kind == "f":
            return np.floor_divide(x1, x2)
        low = np.iinfo(x1.dtype).min
        wraps = (x1 == low) & (x2 == -1) & (low < 0) if x1.dtype.kind == "i" else np.zeros((), bool)
        safe = np.where((x2 == 0) | wraps, np.ones((), x2.dtype), x2)
        return np.where(x2 == 0, np.zeros((), x1.dtype), np.floor_divide(x1, safe))

    def lower(self, *operands: Expr) -> Expr:
        """The steps of docs/numerics.md, section 6; of integers, `idiv` rounded down, never where it is undefined."""
        a, b = operands
        if a.dtype.is_integer:
            quotient, _ = _divided(a, b)
            return expr.select(expr.eq(b, _number(0, b)), _number(0, a), quotient)
        zero, one, half = _number(0, a), _number(1, a), _number(0.5, a)
        rest, ratio = expr.fmod(a, b), expr.div(a, b)
        exact = expr.div(expr.sub(a, rest), b)
        exact = expr.select(_rounded_up(rest, b), expr.sub(exact, one), exact)
        below = expr.floor(exact)
        below = expr.select(expr.lt(half, expr.sub(exact, below)), expr.add(below, one), below)
        below = expr.select(expr.eq(exact, zero), expr.copysign(zero, ratio), below)
        return expr.select(expr.eq(b, zero), ratio, below)


class Remainder(Elementwise):
    """`x1 - floor(x1 / x2) x2`, with the sign of x2; for integers x % 0 is 0."""

    def compute(self, *arrays: Array) -> Any:
        """By np.remainder, with the integer edges set."""
        x1, x2 = arrays
        if x1.dtype.kind == "f":
            return np.remainder(x1, x2)
        trivial = x2 == 0 if x1.dtype.kind == "u" else (x2 == 0) | (x2 == -1)
        safe = np.where(trivial, np.ones((), x2.dtype), x2)
        return np.where(trivial, np.zeros((), x1.dtype), np.remainder(x1, safe))

    def lower(self, *operands: Expr) -> Expr:
        """`fmod`, exact, and one addition where its sign is not that of x2; of integers, the same with `irem`."""
        a, b = operands
        if a.dtype.is_integer:
            return _divided(a, b)[1]
        zero, rest = _number(0, a), expr.fmod(a, b)
        signed = expr.select(_rounded_up(rest, b), expr.add(rest, b), rest)
        return expr.select(expr.eq(rest, zero), expr.copysign(zero, b), signed)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g, -g floor(x1 / x2)`."""
        return g, negative(multiply(g, floor(divide(*inputs))))


class Pow(Elementwise):
    """`x1 ** x2`; integers wrap, and to a negative power give 0 but for bases 1 and -1."""

    def compute(self, *arrays: Array) -> Any:
        """By np.power; integers by repeated squaring."""
        x1, x2 = arrays
        return np.power(x1, x2) if x1.dtype.kind == "f" else _integer_power(x1, x2)

    def lower(self, *operands: Expr) -> Expr:
        """`pow`; of integers `ipow`, and for negative exponents what 1 / x1 ** -x2 truncates to."""
        x, n = operands
        if x.dtype.is_float:
            return expr.instruction("pow", x, n)
        if x.dtype.kind == "uint":
            return expr.ipow(x, n)
        zero, one, minus = _number(0, x), _number(1, x), _number(-1, x)
        parity = expr.select(expr.eq(expr.and_(n, one), zero), one, minus)
        unit = expr.select(expr.eq(x, one), one, expr.select(expr.eq(x, minus), parity, zero))
        return expr.select(expr.lt(n, zero), unit, expr.ipow(x, n))

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g x2 x1**(x2 - 1), g out log x1`; the first is 0 where x2 is 0, the second where x1 is 0."""
        x1, x2 = inputs
        zero, one = like(g, 0), like(g, 1)
        nothing = equal(x2, like(x2, 0))
        left = multiply(x2, power(x1, where(nothing, one, subtract(x2, like(x2, 1)))))
        flat = equal(x1, like(x1, 0))
        right = multiply(out, log(where(flat, one, x1)))
        return multiply(g, where(nothing, zero, left)), multiply(g, where(flat, zero, right))


def _integer_power(base: Array, exponent: Array) -> Array:
    base, exponent = np.broadcast_arrays(base, exponent)
    result = np.ones(base.shape, base.dtype)
    square, left = base.copy(), np.where(exponent < 0, np.zeros((), exponent.dtype), exponent)
    while np.any(left > 0):
        result = np.where(left & 1, result * square, result)
        square, left = square * square, left >> 1
    if base.dtype.kind == "u":
        return result
    unit = np.where(base == 1, 1, np.where(base == -1, np.where(exponent & 1, -1, 1), 0)).astype(base.dtype)
    return np.where(exponent < 0, unit, result)


class Maximum(Elementwise):
    """The larger of x1 and x2; NaN if either is NaN; +0.0 over -0.0."""

    kinds = "any"
    exact = True

    def compute(self, *arrays: Array) -> Any:
        """By np.maximum, with the sign of zero set."""
        x1, x2 = arrays
        out = np.maximum(x1, x2)
        return np.where((x1 == 0) & (x2 == 0), x1 + x2, out) if out.dtype.kind == "f" else out

    def lower(self, *operands: Expr) -> Expr:
        """`maximum`; of bools, `or`."""
        return expr.or_(*operands) if operands[0].dtype is dtypes.bool else expr.maximum(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` where the argument did not lose, half of it at a tie; a NaN never loses."""
        x1, x2 = inputs
        share = _tied(g, x1, x2)
        return where(less(x1, x2), like(g, 0), share), where(less(x2, x1), like(g, 0), share)


class Minimum(Elementwise):
    """The smaller of x1 and x2; NaN if either is NaN; -0.0 under +0.0."""

    kinds = "any"
    exact = True

    def compute(self, *arrays: Array) -> Any:
        """By np.minimum, with the sign of zero set."""
        x1, x2 = arrays
        out = np.minimum(x1, x2)
        return np.where((x1 == 0) & (x2 == 0), np.copysign(out, np.where(np.signbit(x1), x1, x2)), out) if (
            out.dtype.kind == "f") else out  # fmt: skip

    def lower(self, *operands: Expr) -> Expr:
        """`minimum`; of bools, `and`."""
        return expr.and_(*operands) if operands[0].dtype is dtypes.bool else expr.minimum(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` where the argument did not lose, half of it at a tie; a NaN never loses."""
        x1, x2 = inputs
        share = _tied(g, x1, x2)
        return where(less(x2, x1), like(g, 0), share), where(less(x1, x2), like(g, 0), share)


def _tied(g: Value, x1: Value, x2: Value) -> Value:
    half: Value = like(g, 0.5)
    return where(equal(x1, x2), multiply(g, half), g)


# -- Functions of one argument -----------------------------------------------------------------------------------------


class Negative(Elementwise):
    """`-x`; the most negative integer wraps to itself."""

    exact = True

    def compute(self, *arrays: Array) -> Any:
        """By np.negative."""
        return np.negative(arrays[0])

    def lower(self, *operands: Expr) -> Expr:
        """`neg`."""
        return expr.neg(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`-g`."""
        return (negative(g),)


class Abs(Elementwise):
    """`|x|`; the most negative integer wraps to itself."""

    exact = True

    def compute(self, *arrays: Array) -> Any:
        """By np.abs."""
        return np.abs(arrays[0])

    def lower(self, *operands: Expr) -> Expr:
        """`abs`."""
        return expr.absolute(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g sign x`, 0 at 0."""
        return (multiply(g, sign(inputs[0])),)


class Sign(Elementwise):
    """-1, 0 or 1 with the sign of x; NaN stays, and so does -0.0."""

    def compute(self, *arrays: Array) -> Any:
        """By np.sign, with the sign of zero kept."""
        x = arrays[0]
        return np.where(x == 0, x, np.sign(x)) if x.dtype.kind == "f" else np.sign(x)

    def lower(self, *operands: Expr) -> Expr:
        """By comparison with 0; what is neither above nor below stays."""
        x, zero = operands[0], _number(0, operands[0])
        below = x if x.dtype.kind == "uint" else expr.select(expr.lt(x, zero), _number(-1, x), x)
        return expr.select(expr.lt(zero, x), _number(1, x), below)


class Exp(_Function):
    """`e ** x`."""

    def compute(self, *arrays: Array) -> Any:
        """By np.exp."""
        return np.exp(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g out`."""
        return (multiply(g, out),)


class Expm1(_Function):
    """`e ** x - 1`, exact near 0."""

    def compute(self, *arrays: Array) -> Any:
        """By np.expm1."""
        return np.expm1(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g (out + 1)`."""
        return (multiply(g, add(out, like(out, 1))),)


class Log(_Function):
    """The natural logarithm."""

    def compute(self, *arrays: Array) -> Any:
        """By np.log."""
        return np.log(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / x`."""
        return (divide(g, inputs[0]),)


class Log1p(_Function):
    """`log(1 + x)`, exact near 0."""

    def compute(self, *arrays: Array) -> Any:
        """By np.log1p."""
        return np.log1p(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / (1 + x)`."""
        return (divide(g, add(inputs[0], like(out, 1))),)


class Log2(_Function):
    """The logarithm to base 2."""

    def compute(self, *arrays: Array) -> Any:
        """By np.log2."""
        return np.log2(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / (x log 2)`."""
        return (divide(g, multiply(inputs[0], like(out, math.log(2)))),)


class Log10(_Function):
    """The logarithm to base 10."""

    def compute(self, *arrays: Array) -> Any:
        """By np.log10."""
        return np.log10(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / (x log 10)`."""
        return (divide(g, multiply(inputs[0], like(out, math.log(10)))),)


class Sqrt(_Float):
    """The square root, correctly rounded."""

    def compute(self, *arrays: Array) -> Any:
        """By np.sqrt."""
        return np.sqrt(arrays[0])

    def lower(self, *operands: Expr) -> Expr:
        """`sqrt`."""
        return expr.sqrt(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / (2 out)`."""
        return (divide(multiply(g, like(g, 0.5)), out),)


class Sin(_Function):
    """The sine; x in radians."""

    def compute(self, *arrays: Array) -> Any:
        """By np.sin."""
        return np.sin(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g cos x`."""
        return (multiply(g, cos(inputs[0])),)


class Cos(_Function):
    """The cosine; x in radians."""

    def compute(self, *arrays: Array) -> Any:
        """By np.cos."""
        return np.cos(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`-g sin x`."""
        return (negative(multiply(g, sin(inputs[0]))),)


class Tan(_Function):
    """The tangent; x in radians."""

    def compute(self, *arrays: Array) -> Any:
        """By np.tan."""
        return np.tan(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g (1 + out**2)`."""
        return (multiply(g, add(multiply(out, out), like(out, 1))),)


class Asin(_Function):
    """The inverse sine, in radians."""

    def compute(self, *arrays: Array) -> Any:
        """By np.arcsin."""
        return np.arcsin(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / sqrt(1 - x**2)`."""
        return (divide(g, sqrt(subtract(like(out, 1), multiply(inputs[0], inputs[0])))),)


class Acos(_Function):
    """The inverse cosine, in radians."""

    def compute(self, *arrays: Array) -> Any:
        """By np.arccos."""
        return np.arccos(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`-g / sqrt(1 - x**2)`."""
        return (negative(divide(g, sqrt(subtract(like(out, 1), multiply(inputs[0], inputs[0]))))),)


class Atan(_Function):
    """The inverse tangent, in radians."""

    def compute(self, *arrays: Array) -> Any:
        """By np.arctan."""
        return np.arctan(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / (1 + x**2)`."""
        return (divide(g, add(multiply(inputs[0], inputs[0]), like(out, 1))),)


class Sinh(_Function):
    """The hyperbolic sine."""

    def compute(self, *arrays: Array) -> Any:
        """By np.sinh."""
        return np.sinh(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g cosh x`."""
        return (multiply(g, cosh(inputs[0])),)


class Cosh(_Function):
    """The hyperbolic cosine."""

    def compute(self, *arrays: Array) -> Any:
        """By np.cosh."""
        return np.cosh(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g sinh x`."""
        return (multiply(g, sinh(inputs[0])),)


class Tanh(_Function):
    """The hyperbolic tangent."""

    def compute(self, *arrays: Array) -> Any:
        """By np.tanh."""
        return np.tanh(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g (1 - out**2)`."""
        return (multiply(g, subtract(like(out, 1), multiply(out, out))),)


class Asinh(_Function):
    """The inverse hyperbolic sine."""

    def compute(self, *arrays: Array) -> Any:
        """By np.arcsinh."""
        return np.arcsinh(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / sqrt(x**2 + 1)`."""
        return (divide(g, sqrt(add(multiply(inputs[0], inputs[0]), like(out, 1)))),)


class Acosh(_Function):
    """The inverse hyperbolic cosine."""

    def compute(self, *arrays: Array) -> Any:
        """By np.arccosh."""
        return np.arccosh(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / sqrt((x - 1) (x + 1))`."""
        x, one = inputs[0], like(out, 1)
        return (divide(g, sqrt(multiply(subtract(x, one), add(x, one)))),)


class Atanh(_Function):
    """The inverse hyperbolic tangent."""

    def compute(self, *arrays: Array) -> Any:
        """By np.arctanh."""
        return np.arctanh(arrays[0])

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g / (1 - x**2)`."""
        return (divide(g, subtract(like(out, 1), multiply(inputs[0], inputs[0]))),)


class Erf(_Function):
    """The error function, `2 / sqrt(pi) * integral of exp(-t**2) from 0 to x`."""

    def compute(self, *arrays: Array) -> Any:
        """By rational approximations, in float64."""
        return error_function(arrays[0].astype(np.float64, copy=False)).astype(arrays[0].dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g 2 / sqrt(pi) exp(-x**2)`."""
        bell = exp(negative(multiply(inputs[0], inputs[0])))
        return (multiply(g, multiply(bell, like(out, 2 / math.sqrt(math.pi)))),)


class Floor(Elementwise):
    """The largest integer not above x; integers stay."""

    def compute(self, *arrays: Array) -> Any:
        """By np.floor."""
        return np.floor(arrays[0]) if arrays[0].dtype.kind == "f" else arrays[0]

    def lower(self, *operands: Expr) -> Expr:
        """`floor`; integers stay."""
        return expr.floor(*operands) if operands[0].dtype.is_float else operands[0]


class Ceil(Elementwise):
    """The smallest integer not below x; integers stay."""

    def compute(self, *arrays: Array) -> Any:
        """By np.ceil."""
        return np.ceil(arrays[0]) if arrays[0].dtype.kind == "f" else arrays[0]

    def lower(self, *operands: Expr) -> Expr:
        """`ceil`; integers stay."""
        return expr.ceil(*operands) if operands[0].dtype.is_float else operands[0]


class Trunc(Elementwise):
    """x without its fraction; integers stay."""

    def compute(self, *arrays: Array) -> Any:
        """By np.trunc."""
        return np.trunc(arrays[0]) if arrays[0].dtype.kind == "f" else arrays[0]

    def lower(self, *operands: Expr) -> Expr:
        """`trunc`; integers stay."""
        return expr.trunc(*operands) if operands[0].dtype.is_float else operands[0]


class Round(Elementwise):
    """The nearest integer, ties to the even one; integers stay."""

    def compute(self, *arrays: Array) -> Any:
        """By np.rint."""
        return np.rint(arrays[0]) if arrays[0].dtype.kind == "f" else arrays[0]

    def lower(self, *operands: Expr) -> Expr:
        """`rint`; integers stay."""
        return expr.rint(*operands) if operands[0].dtype.is_float else operands[0]


class IsNan(_Compare):
    """Whether x is not a number."""

    def compute(self, *arrays: Array) -> Any:
        """By np.isnan."""
        return np.isnan(arrays[0])

    def lower(self, *operands: Expr) -> Expr:
        """What is not equal to itself."""
        return expr.not_(expr.eq(operands[0], operands[0]))


class IsInf(_Compare):
    """Whether x is infinite."""

    def compute(self, *arrays: Array) -> Any:
        """By np.isinf."""
        return np.isinf(arrays[0])

    def lower(self, *operands: Expr) -> Expr:
        """What has the magnitude of infinity; no integer has."""
        x = operands[0]
        if not x.dtype.is_float:
            return expr.constant(False, dtypes.bool)
        return expr.eq(expr.absolute(x), _number(math.inf, x))


class Signbit(_Float):
    """Whether the sign bit is set, of -0.0 and NaN too."""

    result = dtypes.bool
    exact = True

    def compute(self, *arrays: Array) -> Any:
        """By np.signbit."""
        return np.signbit(arrays[0])

    def lower(self, *operands: Expr) -> Expr:
        """The top bit."""
        word = expr.bitcast(operands[0], _word(operands[0]))
        return expr.lt(word, _number(0, word))


# -- Functions of two arguments ----------------------------------------------------------------------------------------


class Atan2(_Function):
    """The angle of the point (x2, x1), in radians, in [-pi, pi]."""

    def compute(self, *arrays: Array) -> Any:
        """By np.arctan2."""
        return np.arctan2(*arrays)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g x2 / r, -g x1 / r` with `r = x1**2 + x2**2`."""
        x1, x2 = inputs
        q = divide(g, add(multiply(x1, x1), multiply(x2, x2)))
        return multiply(q, x2), negative(multiply(q, x1))


class Copysign(_Float):
    """The magnitude of x1 with the sign of x2."""

    exact = True

    def compute(self, *arrays: Array) -> Any:
        """By np.copysign."""
        return np.copysign(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`copysign`."""
        return expr.copysign(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` where the sign stayed, `-g` where it changed; none for x2."""
        x1, x2 = inputs
        return where(equal(signbit(x1), signbit(x2)), g, negative(g)), None


class Nextafter(_Float):
    """The next value of the dtype after x1 towards x2; x2 where they are equal."""

    exact = True

    def reference(self, *arrays: Array) -> Array:
        """By np.nextafter in the dtype itself: a step in float32 would be lost in a half type."""
        kind = promote(self.name, dtypes.dtype(arrays[0].dtype), dtypes.dtype(arrays[1].dtype))
        x1, x2 = [convert(a, kind) for a in arrays]
        return np.where(x1 == x2, x2, np.nextafter(x1, x2))

    def lower(self, *operands: Expr) -> Expr:
        """By counting bit patterns, which lie in the order of magnitudes; from 0, the least subnormal."""
        x, y = operands
        word = expr.bitcast(x, _word(x))
        one, zero = _number(1, word), _number(0, x)
        grows = expr.eq(expr.lt(x, y), expr.lt(zero, x))
        step = expr.bitcast(expr.select(grows, expr.add(word, one), expr.sub(word, one)), x.dtype)
        step = expr.select(expr.eq(x, zero), expr.copysign(expr.bitcast(one, x.dtype), y), step)
        step = expr.select(expr.eq(x, y), y, step)
        ordered = expr.or_(expr.le(x, y), expr.le(y, x))
        return expr.select(ordered, step, expr.select(expr.eq(x, x), y, x))

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` to x1."""
        return g, None


# -- Comparison, logic, bits -------------------------------------------------------------------------------------------


class Equal(_Compare):
    """`x1 == x2`; NaN equals nothing."""

    def compute(self, *arrays: Array) -> Any:
        """By np.equal."""
        return np.equal(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`eq`."""
        return expr.eq(*operands)


class Less(_Compare):
    """`x1 < x2`."""

    def compute(self, *arrays: Array) -> Any:
        """By np.less."""
        return np.less(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`lt`."""
        return expr.lt(*operands)


class LessEqual(_Compare):
    """`x1 <= x2`."""

    def compute(self, *arrays: Array) -> Any:
        """By np.less_equal."""
        return np.less_equal(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`le`."""
        return expr.le(*operands)


class BitwiseAnd(Elementwise):
    """`x1 & x2`; on bools, and."""

    kinds = "bits"

    def compute(self, *arrays: Array) -> Any:
        """By np.bitwise_and."""
        return np.bitwise_and(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`and`."""
        return expr.and_(*operands)


class BitwiseOr(Elementwise):
    """`x1 | x2`; on bools, or."""

    kinds = "bits"

    def compute(self, *arrays: Array) -> Any:
        """By np.bitwise_or."""
        return np.bitwise_or(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`or`."""
        return expr.or_(*operands)


class BitwiseXor(Elementwise):
    """`x1 ^ x2`; on bools, exclusive or."""

    kinds = "bits"

    def compute(self, *arrays: Array) -> Any:
        """By np.bitwise_xor."""
        return np.bitwise_xor(*arrays)

    def lower(self, *operands: Expr) -> Expr:
        """`xor`."""
        return expr.xor(*operands)


class BitwiseInvert(Elementwise):
    """`~x`; on bools, not."""

    kinds = "bits"

    def compute(self, *arrays: Array) -> Any:
        """By np.invert."""
        return np.invert(arrays[0])

    def lower(self, *operands: Expr) -> Expr:
        """`not`."""
        return expr.not_(*operands)


class BitwiseLeftShift(Elementwise):
    """`x1 << x2`; 0 for shifts of the width or more, or below 0."""

    kinds = "integer"

    def compute(self, *arrays: Array) -> Any:
        """By np.left_shift within the width."""
        x1, x2 = arrays
        inside = (x2 >= 0) & (x2 < x1.dtype.itemsize * 8)
        return np.where(inside, np.left_shift(x1, np.where(inside, x2, 0).astype(x2.dtype)), np.zeros((), x1.dtype))

    def lower(self, *operands: Expr) -> Expr:
        """`shl` within the width."""
        x, by = operands
        return expr.select(_within(by), expr.shl(x, by), _number(0, x))


class BitwiseRightShift(Elementwise):
    """`x1 >> x2`, with the sign filling up; 0 for shifts of the width or more, or below 0, of any x1."""

    kinds = "integer"

    def compute(self, *arrays: Array) -> Any:
        """By np.right_shift within the width."""
        x1, x2 = arrays
        inside = (x2 >= 0) & (x2 < x1.dtype.itemsize * 8)
        return np.where(inside, np.right_shift(x1, np.where(inside, x2, 0).astype(x2.dtype)), np.zeros((), x1.dtype))

    def lower(self, *operands: Expr) -> Expr:
        """`ashr` within the width, `lshr` of unsigned integers."""
        x, by = operands
        moved = expr.ashr(x, by) if x.dtype.kind == "int" else expr.lshr(x, by)
        return expr.select(_within(by), moved, _number(0, x))


# -- Selection and casts -----------------------------------------------------------------------------------------------


class Where(Elementwise):
    """`x1` where the condition holds, else `x2`; the one not chosen has no influence, NaN or not."""

    def infer(self, *types: Type) -> Type:
        """The broadcast shape; the promoted dtype of the two values."""
        condition, x1, x2 = types
        if condition.dtype is not dtypes.bool:
            raise DTypeError(self.name, f"the condition is {condition.dtype.name}, not bool",
                             got=", ".join(str(t) for t in types), fix="compare first, for example x != 0")  # fmt: skip
        dtype = promote(self.name, x1.dtype, x2.dtype)
        return Type(broadcast(self.name, *[t.shape for t in types]), dtype)

    def reference(self, *arrays: Array) -> Array:
        """By np.where."""
        condition, x1, x2 = arrays
        dtype = promote(self.name, dtypes.dtype(x1.dtype), dtypes.dtype(x2.dtype))
        return np.where(condition, convert(x1, dtype), convert(x2, dtype))

    def lower(self, *operands: Expr) -> Expr:
        """`select`."""
        return expr.select(*operands)

    def scalar(self, *operands: Expr) -> Expr:
        """`lower` with the two values in their promoted dtype, whatever it is: nothing is rounded but by promotion."""
        condition, x1, x2 = operands
        dtype = promote(self.name, x1.dtype, x2.dtype)
        return self.lower(condition, expr.convert(x1, dtype), expr.convert(x2, dtype))

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` to the chosen one."""
        zero = like(g, 0)
        return None, where(inputs[0], g, zero), where(inputs[0], zero, g)


@primitive
class Cast(Elementwise):
    """`x` in another dtype: floats round to nearest even; to integers they truncate and saturate, NaN becomes 0.

    Between integers the value wraps; to bool it is `x != 0`.
    """

    to: DType

    def infer(self, *types: Type) -> Type:
        """The same shape."""
        return Type(types[0].shape, self.to)

    def reference(self, *arrays: Array) -> Array:
        """By `convert`."""
        return convert(arrays[0], self.to)

    def lower(self, *operands: Expr) -> Expr:
        """`convert`."""
        return expr.convert(operands[0], self.to)

    def scalar(self, *operands: Expr) -> Expr:
        """`lower`, from the dtype that x has."""
        return self.lower(*operands)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g`, between floats; an integer carries none."""
        return (g if inputs[0].dtype.is_float and self.to.is_float else None,)


# -- The functions -----------------------------------------------------------------------------------------------------

_ABS: Final = Abs()
_ACOS: Final = Acos()
_ACOSH: Final = Acosh()
_ADD: Final = Add()
_ASIN: Final = Asin()
_ASINH: Final = Asinh()
_ATAN: Final = Atan()
_ATAN2: Final = Atan2()
_ATANH: Final = Atanh()
_BITWISE_AND: Final = BitwiseAnd()
_BITWISE_INVERT: Final = BitwiseInvert()
_BITWISE_LEFT_SHIFT: Final = BitwiseLeftShift()
_BITWISE_OR: Final = BitwiseOr()
_BITWISE_RIGHT_SHIFT: Final = BitwiseRightShift()
_BITWISE_XOR: Final = BitwiseXor()
_CEIL: Final = Ceil()
_COPYSIGN: Final = Copysign()
_COS: Final = Cos()
_COSH: Final = Cosh()
_DIVIDE: Final = Divide()
_EQUAL: Final = Equal()
_ERF: Final = Erf()
_EXP: Final = Exp()
_EXPM1: Final = Expm1()
_FLOOR: Final = Floor()
_FLOOR_DIVIDE: Final = FloorDivide()
_IS_INF: Final = IsInf()
_IS_NAN: Final = IsNan()
_LESS: Final = Less()
_LESS_EQUAL: Final = LessEqual()
_LOG: Final = Log()
_LOG10: Final = Log10()
_LOG1P: Final = Log1p()
_LOG2: Final = Log2()
_MAXIMUM: Final = Maximum()
_MINIMUM: Final = Minimum()
_MULTIPLY: Final = Multiply()
_NEGATIVE: Final = Negative()
_NEXTAFTER: Final = Nextafter()
_POW: Final = Pow()
_REMAINDER: Final = Remainder()
_ROUND: Final = Round()
_SIGN: Final = Sign()
_SIGNBIT: Final = Signbit()
_SIN: Final = Sin()
_SINH: Final = Sinh()
_SQRT: Final = Sqrt()
_SUBTRACT: Final = Subtract()
_TAN: Final = Tan()
_TANH: Final = Tanh()
_TRUNC: Final = Trunc()
_WHERE: Final = Where()


def exp(x: V, /) -> V:
    """`e ** x`, element by element; integers count as float32."""
    return _of_floats(_EXP, x)


def expm1(x: V, /) -> V:
    """`e ** x - 1`, exact near 0, element by element; integers count as float32."""
    return _of_floats(_EXPM1, x)


def log(x: V, /) -> V:
    """The natural logarithm of x, element by element; integers count as float32."""
    return _of_floats(_LOG, x)


def log1p(x: V, /) -> V:
    """`log(1 + x)`, exact near 0, element by element; integers count as float32."""
    return _of_floats(_LOG1P, x)


def log2(x: V, /) -> V:
    """The logarithm of x to base 2, element by element; integers count as float32."""
    return _of_floats(_LOG2, x)


def log10(x: V, /) -> V:
    """The logarithm of x to base 10, element by element; integers count as float32."""
    return _of_floats(_LOG10, x)


def sqrt(x: V, /) -> V:
    """The square root of x, correctly rounded, element by element; integers count as float32."""
    return _of_floats(_SQRT, x)


def sin(x: V, /) -> V:
    """The sine of x in radians, element by element; integers count as float32."""
    return _of_floats(_SIN, x)


def cos(x: V, /) -> V:
    """The cosine of x in radians, element by element; integers count as float32."""
    return _of_floats(_COS, x)


def tan(x: V, /) -> V:
    """The tangent of x in radians, element by element; integers count as float32."""
    return _of_floats(_TAN, x)


def asin(x: V, /) -> V:
    """The inverse sine of x, in radians, element by element; integers count as float32."""
    return _of_floats(_ASIN, x)


def acos(x: V, /) -> V:
    """The inverse cosine of x, in radians, element by element; integers count as float32."""
    return _of_floats(_ACOS, x)


def atan(x: V, /) -> V:
    """The inverse tangent of x, in radians, element by element; integers count as float32."""
    return _of_floats(_ATAN, x)


def sinh(x: V, /) -> V:
    """The hyperbolic sine of x, element by element; integers count as float32."""
    return _of_floats(_SINH, x)


def cosh(x: V, /) -> V:
    """The hyperbolic cosine of x, element by element; integers count as float32."""
    return _of_floats(_COSH, x)


def tanh(x: V, /) -> V:
    """The hyperbolic tangent of x, element by element; integers count as float32."""
    return _of_floats(_TANH, x)


def asinh(x: V, /) -> V:
    """The inverse hyperbolic sine of x, element by element; integers count as float32."""
    return _of_floats(_ASINH, x)


def acosh(x: V, /) -> V:
    """The inverse hyperbolic cosine of x, element by element; integers count as float32."""
    return _of_floats(_ACOSH, x)


def atanh(x: V, /) -> V:
    """The inverse hyperbolic tangent of x, element by element; integers count as float32."""
    return _of_floats(_ATANH, x)


def erf(x: V, /) -> V:
    """The error function of x, element by element; integers count as float32."""
    return _of_floats(_ERF, x)


def negative(x: V, /) -> V:
    """`-x`, element by element."""
    return apply(_NEGATIVE, x)


def abs(x: V, /) -> V:
    """`|x|`, element by element."""
    return apply(_ABS, x)


def sign(x: V, /) -> V:
    """-1, 0 or 1 with the sign of x, element by element."""
    return apply(_SIGN, x)


def floor(x: V, /) -> V:
    """The largest integer not above x, element by element."""
    return apply(_FLOOR, x)


def ceil(x: V, /) -> V:
    """The smallest integer not below x, element by element."""
    return apply(_CEIL, x)


def trunc(x: V, /) -> V:
    """x without its fraction, element by element."""
    return apply(_TRUNC, x)


def round(x: V, /) -> V:
    """The nearest integer to x, ties to even, element by element."""
    return apply(_ROUND, x)


def isnan(x: V, /) -> V:
    """Whether x is NaN, as bools, element by element."""
    return apply(_IS_NAN, x)


def isinf(x: V, /) -> V:
    """Whether x is infinite, as bools, element by element."""
    return apply(_IS_INF, x)


def bitwise_invert(x: V, /) -> V:
    """`~x`, element by element."""
    return apply(_BITWISE_INVERT, x)


def add(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 + x2`, element by element, broadcast."""
    return binary(_ADD, x1, x2)


def subtract(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 - x2`, element by element, broadcast."""
    return binary(_SUBTRACT, x1, x2)


def multiply(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 * x2`, element by element, broadcast."""
    return binary(_MULTIPLY, x1, x2)


def floor_divide(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`floor(x1 / x2)`; an integer divided by 0 gives 0, element by element, broadcast."""
    return binary(_FLOOR_DIVIDE, x1, x2)


def remainder(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 - floor(x1 / x2) * x2`, with the sign of x2; an integer modulo 0 gives 0, element by element, broadcast."""
    return binary(_REMAINDER, x1, x2)


def maximum(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """The larger of both, NaN if either is NaN, element by element, broadcast."""
    return binary(_MAXIMUM, x1, x2)


def minimum(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """The smaller of both, NaN if either is NaN, element by element, broadcast."""
    return binary(_MINIMUM, x1, x2)


def equal(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 == x2`, as bools; NaN equals nothing, element by element, broadcast."""
    return binary(_EQUAL, x1, x2)


def less(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 < x2`, as bools, element by element, broadcast."""
    return binary(_LESS, x1, x2)


def less_equal(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 <= x2`, as bools, element by element, broadcast."""
    return binary(_LESS_EQUAL, x1, x2)


def bitwise_and(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 & x2` of integers or bools, element by element, broadcast."""
    return binary(_BITWISE_AND, x1, x2)


def bitwise_or(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 | x2` of integers or bools, element by element, broadcast."""
    return binary(_BITWISE_OR, x1, x2)


def bitwise_xor(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 ^ x2` of integers or bools, element by element, broadcast."""
    return binary(_BITWISE_XOR, x1, x2)


def bitwise_left_shift(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 << x2`; 0 for shifts of the width or more, element by element, broadcast."""
    return binary(_BITWISE_LEFT_SHIFT, x1, x2)


def bitwise_right_shift(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 >> x2`, the sign filling up; 0 for shifts of the width or more, element by element, broadcast."""
    return binary(_BITWISE_RIGHT_SHIFT, x1, x2)


def atan2(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """The angle of the point (x2, x1) in radians, element by element, broadcast; integers count as float32."""
    return _float_binary(_ATAN2, x1, x2)


def copysign(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """The magnitude of x1 with the sign of x2, element by element, broadcast; integers count as float32."""
    return _float_binary(_COPYSIGN, x1, x2)


def nextafter(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """The next value of the dtype after x1 towards x2, element by element, broadcast; integers count as float32."""
    return _float_binary(_NEXTAFTER, x1, x2)


def _float_binary(op: Op, x1: V | Scalar, x2: V | Scalar) -> V:
    return apply(op, *_floats(op.name, x1, x2))


def _floats(where: str, x1: V | Scalar, x2: V | Scalar) -> tuple[V, V]:
    """Both as float handles, at least one of them being a tensor."""
    if isinstance(x1, Value):
        x1 = floating(x1)
        return x1, floating(operand(x2, x1, where))
    if isinstance(x2, Value):
        x2 = floating(x2)
        return operand(x1, x2, where), x2
    raise DTypeError(where, "neither argument is a tensor", got=f"{x1!r:.40}, {x2!r:.40}",
                     fix="trine.asarray(...) makes a tensor").locate(Site(*user_site()))  # fmt: skip


def divide(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 / x2`, element by element, broadcast; integers count as float32."""
    return _float_binary(_DIVIDE, x1, x2)


def signbit(x: V, /) -> V:
    """Whether the sign bit of a float is set, as bools; of -0.0 and NaN too."""
    return apply(_SIGNBIT, x)


def positive(x: V, /) -> V:
    """`x` itself."""
    return alias(x)


def square(x: V, /) -> V:
    """`x * x`, element by element."""
    return apply(_MULTIPLY, x, x)


def reciprocal(x: V, /) -> V:
    """`1 / x`, element by element; integers count as float32."""
    return divide(1.0, x)


def power(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 ** x2`, element by element, broadcast; the exponents 2, 1 and 0.5 are a product, x1 itself and a root.

    An integer base with a float exponent counts as float32; integers wrap.
    """
    if isinstance(x1, Value) and not isinstance(x2, Value):
        if x2 == 2 and (x1.dtype.is_float or (x1.dtype.is_integer and type(x2) is int)):
            return square(x1)
        if x2 == 1 and type(x2) is int:
            return alias(x1)
        if x2 == 0.5:
            return sqrt(x1)
    return binary(_POW, x1, x2)


def not_equal(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 != x2`, as bools, element by element, broadcast; NaN differs from everything."""
    return bitwise_invert(equal(x1, x2))


def greater(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 > x2`, as bools, element by element, broadcast."""
    return binary(_LESS, x2, x1)


def greater_equal(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1 >= x2`, as bools, element by element, broadcast."""
    return binary(_LESS_EQUAL, x2, x1)


def isfinite(x: V, /) -> V:
    """Whether x is neither infinite nor NaN, as bools."""
    return less(abs(x), math.inf) if x.dtype.is_float else bitwise_invert(isnan(x))


def _bools(where: str, *values: Value) -> None:
    for value in values:
        if value.dtype is not dtypes.bool:
            raise DTypeError(where, f"takes bools, not {value.dtype.name}", got=", ".join(str(v.type) for v in values),
                             fix="compare first, for example x != 0").locate(Site(*user_site()))  # fmt: skip


def logical_and(x1: V, x2: V, /) -> V:
    """Whether both hold; bools only, broadcast."""
    _bools("logical_and", x1, x2)
    return apply(_BITWISE_AND, x1, x2)


def logical_or(x1: V, x2: V, /) -> V:
    """Whether either holds; bools only, broadcast."""
    _bools("logical_or", x1, x2)
    return apply(_BITWISE_OR, x1, x2)


def logical_xor(x1: V, x2: V, /) -> V:
    """Whether exactly one holds; bools only, broadcast."""
    _bools("logical_xor", x1, x2)
    return apply(_BITWISE_XOR, x1, x2)


def logical_not(x: V, /) -> V:
    """Whether x does not hold; bools only."""
    _bools("logical_not", x)
    return apply(_BITWISE_INVERT, x)


def where(condition: V, x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`x1` where the condition (bools) holds, else `x2`; broadcast."""
    if isinstance(x1, Value):
        return apply(_WHERE, condition, x1, x2 if isinstance(x2, Value) else operand(x2, x1))
    if isinstance(x2, Value):
        return apply(_WHERE, condition, operand(x1, x2), x2)
    kinds = type(x1), type(x2)
    kind = dtypes.float32 if float in kinds else dtypes.int64 if int in kinds else dtypes.bool
    first: V = wrap(literal(x1, kind), condition)
    second: V = wrap(literal(x2, kind), condition)
    return apply(_WHERE, condition, first, second)


def clip(x: V, /, min: V | Scalar | None = None, max: V | Scalar | None = None) -> V:
    """`x` limited to [min, max]; None leaves a side open, NaN stays."""
    low = alias(x) if min is None else maximum(x, min)
    return low if max is None else minimum(low, max)


def hypot(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`sqrt(x1**2 + x2**2)` without overflow in between: the larger factored out; infinite beside an infinity."""
    a, b = (abs(x) for x in _floats("hypot", x1, x2))
    large, small = maximum(a, b), minimum(a, b)
    endless = logical_or(isinf(a), isinf(b))
    ratio = where(endless, 0, divide(small, where(equal(large, 0), 1, large)))
    return where(endless, math.inf, multiply(large, sqrt(add(1, square(ratio)))))


def logaddexp(x1: V | Scalar, x2: V | Scalar, /) -> V:
    """`log(exp(x1) + exp(x2))` without overflow; equal infinities stay."""
    a, b = _floats("logaddexp", x1, x2)
    same = equal(a, b)
    gap = negative(abs(where(same, 0, subtract(a, b))))
    return where(isnan(gap), add(a, b), add(maximum(a, b), log1p(exp(gap))))


def cast(x: V, dtype: DType) -> V:
    """`x` in another dtype: itself where it has it already; floats truncate and saturate to integers, NaN to 0."""
    return alias(x) if x.dtype is dtype else apply(Cast(dtype), x)


def stop_gradient(x: V, /) -> V:
    """`x` as a value without history: no gradient flows through."""
    with using(grad=False):
        return apply(IDENTITY, x)
