"""Random numbers: one primitive that gives bits, and the distributions as compositions on it.

A generator is a value: uint64 of shape [2], the seed and the number of the next call. Drawing reads it and changes
nothing; `advance` gives the state for the next call. Everything here is therefore a pure function, and a captured or
saved generator goes on where it was. Bits and formulas are those of `docs/numerics.md`, section 9.

A state of shape [..., 2] holds several generators: the result has their axes in front of the shape asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from trine import dtypes
from trine.dtypes import DType
from trine.errors import ArgumentError, DTypeError, ShapeError, Site
from trine.ir.graph import Type, Value
from trine.ops.base import Array, Op, Scalar, V, apply, primitive, user_site
from trine.ops.creation import iota, size_value
from trine.ops.elementwise import (
    add,
    bitwise_and,
    bitwise_right_shift,
    cast,
    cos,
    divide,
    equal,
    erf,
    exp,
    floating,
    floor,
    less,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    nextafter,
    operand,
    sin,
    sqrt,
    square,
    subtract,
    where,
)
from trine.ops.movement import reshape, squeeze, stack, take_slice
from trine.ops.philox import join_words, philox_bits
from trine.ops.reduction import argmax
from trine.ops.sorting import argsort
from trine.shapes import Shape, Size, size_of

_WORD: Final = 0xFFFFFFFF
_QUARTER: Final = math.pi / 2
_INSIDE_TWO: Final = math.erf(math.sqrt(2.0))  # the chance of |z| <= 2
# Giles, "Approximating the erfinv function", GPU Computing Gems (2011), single precision, the part for w < 5.
_GILES: Final = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip


@primitive
class RandomBits(Op):
    """Random words of 32 or 64 bits: those of Philox4x32-10 for a state, in row-major order of `shape`."""

    form = "random"
    shape: Shape
    dtype: DType

    def infer(self, *types: Type) -> Type:
        """The state's leading axes, then the shape."""
        state = types[0]
        if state.dtype is not dtypes.uint64:
            raise DTypeError(self.name, f"a generator's state is uint64, not {state.dtype.name}", got=str(state),
                             fix="trine.random.Generator(seed).state")  # fmt: skip
        if not state.shape or state.shape[-1] != 2:
            raise ShapeError(self.name, "a generator's state ends in an axis of 2: the seed and the call number",
                             got=str(state), fix="trine.random.Generator(seed).state")  # fmt: skip
        for n in self.shape:
            if isinstance(n, int) and n < 0:
                raise ShapeError(self.name, f"a size is {n}, below 0", got=f"shape={self.shape}")
        if self.dtype not in (dtypes.uint32, dtypes.uint64):
            raise DTypeError(self.name, f"bits come as uint32 or uint64, not {self.dtype.name}")
        return Type((*state.shape[:-1], *self.shape), self.dtype)

    def reference(self, *arrays: Array) -> Array:
        """By `philox_bits`, generator by generator."""
        wide = self.dtype is dtypes.uint64
        shape: Any = self.shape  # numbers by now
        count = math.prod(shape)
        out = np.empty((*arrays[0].shape[:-1], *shape), self.dtype.numpy)
        rows = out.reshape(math.prod(arrays[0].shape[:-1]), count)
        for row, (seed, call) in zip(rows, arrays[0].reshape(-1, 2), strict=True):
            words = philox_bits(int(seed), int(call), 2 * count if wide else count)
            row[:] = join_words(words) if wide else words
        return out

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """A batch of states is a state with one more axis: each generator draws its own."""
        return apply(self, *inputs)


# -- States ------------------------------------------------------------------------------------------------------------


def advance(state: V) -> V:
    """The state for the next call: the same seed, the call number one higher (modulo 2**64)."""
    return add(state, iota(state, 2, dtypes.uint64))


def derive(seed: int, name: str) -> int:
    """The seed of the stream `name` of a seed: a hash, so that streams of different names share no numbers.

    A chain over the name's UTF-8 bytes in pieces of 8: each piece, as a little-endian number, is the call number of a
    draw whose first 64-bit word is the next key; the last one draws with the length in bytes plus 2**63.

    Args:
        seed: taken modulo 2**64.
        name: any text.
    """
    data = name.encode()
    pieces = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
    key = seed
    for piece in (*pieces, len(data) | 1 << 63):
        key = int(join_words(philox_bits(key, piece, 2))[0])
    return key


# -- Uniform numbers ---------------------------------------------------------------------------------------------------


def uniform(
    state: V, shape: Shape = (), dtype: DType = dtypes.float32, low: V | Scalar = 0.0, high: V | Scalar = 1.0
) -> V:
    """Uniform numbers in [low, high), of which `low` may come and `high` does not, in any dtype.

    Between other limits than 0 and 1 it is `low (1 - u) + high u`, kept inside. They broadcast to the shape, and where
    both are equal it is that number.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: limits that are Python numbers are in the wrong order, infinite or NaN.
    """
    _float("uniform", dtype)
    u = _unit(state, shape, dtype)
    if not isinstance(low, Value) and not isinstance(high, Value):
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ArgumentError("uniform", f"low and high are finite and in order, here {low} and {high}",
                                got=f"low={low}, high={high}").locate(Site(*user_site()))  # fmt: skip
        if low == 0 and high == 1:
            return u
    below, above = _parameter(low, u), _parameter(high, u)
    mixed = add(multiply(below, subtract(1.0, u)), multiply(above, u))
    return maximum(minimum(mixed, nextafter(above, below)), below)


def _unit(state: V, shape: Shape, dtype: DType) -> V:
    """Uniform in [0, 1): the top 24 bits of a word, 53 of two; half types cut off what they lack."""
    if dtype is dtypes.float64:
        words = apply(RandomBits(shape, dtypes.uint64), state)
        return multiply(cast(bitwise_right_shift(words, 11), dtype), 2.0**-53)
    words = apply(RandomBits(shape, dtypes.uint32), state)
    single = multiply(cast(bitwise_right_shift(words, 8), dtypes.float32), 2.0**-24)
    if dtype is dtypes.float32:
        return single
    half = cast(single, dtype)
    return where(less(single, cast(half, dtypes.float32)), nextafter(half, 0.0), half)


def _inner(state: V, shape: Shape, dtype: DType) -> V:
    """Uniform in (0, 1) in float64, symmetric about 1/2: `(k + 1/2) / n` with n = 2**52 for float64, else 2**32."""
    if dtype is dtypes.float64:
        words = bitwise_right_shift(apply(RandomBits(shape, dtypes.uint64), state), 12)
        return multiply(add(cast(words, dtypes.float64), 0.5), 2.0**-52)
    words = apply(RandomBits(shape, dtypes.uint32), state)
    return multiply(add(cast(words, dtypes.float64), 0.5), 2.0**-32)


# -- Numbers of other distributions ------------------------------------------------------------------------------------


def normal(
    state: V, shape: Shape = (), dtype: DType = dtypes.float32, mean: V | Scalar = 0.0, std: V | Scalar = 1.0
) -> V:
    """Normal numbers by the method of Box and Muller (1958), computed in float64 and rounded to the dtype.

    `mean` and `std` broadcast to the shape; gradients flow to them.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `std` is a Python number and below 0.
    """
    _float("normal", dtype)
    count, lead = size_of(shape), state.shape[:-1]
    half = (count + 1) // 2
    wide = dtype is dtypes.float64
    words = apply(RandomBits((half, 2), dtypes.uint64 if wide else dtypes.uint32), state)
    scale = 2.0**-53 if wide else 2.0**-32
    parts = cast(bitwise_right_shift(words, 11) if wide else words, dtypes.float64)
    u, v = multiply(add(_column(parts, 0), 1.0), scale), multiply(_column(parts, 1), scale)
    radius = sqrt(multiply(log(u), -2.0))
    cosine, sine = _turn(v)
    pairs = reshape(stack([multiply(radius, cosine), multiply(radius, sine)], axis=-1), (*lead, 2 * half))
    drawn = reshape(take_slice(pairs, (0,) * pairs.ndim, (*lead, count)), (*lead, *shape))
    return _affine("normal", _rounded(drawn, dtype), mean, std)


def _column(x: V, i: int) -> V:
    return squeeze(take_slice(x, (*(0,) * (x.ndim - 1), i), (*x.shape[:-1], 1)), -1)


def _turn(v: V) -> tuple[V, V]:
    """Cosine and sine of `2 pi v`, with the quarter turns taken off exactly before rounding anything."""
    turns = multiply(v, 4.0)
    quarters = floor(add(turns, 0.5))
    angle = multiply(subtract(turns, quarters), _QUARTER)
    c, s = cos(angle), sin(angle)
    first, second, third = (equal(quarters, float(n)) for n in (1, 2, 3))
    cosine = where(first, negative(s), where(second, negative(c), where(third, s, c)))
    return cosine, where(first, c, where(second, negative(s), where(third, negative(c), s)))


def truncated_normal(
    state: V, shape: Shape = (), dtype: DType = dtypes.float32, mean: V | Scalar = 0.0, std: V | Scalar = 1.0
) -> V:
    """Normal numbers given that they lie within two `std` of `mean`: by the inverse of the distribution function.

    Their own standard deviation is 0.8796 `std`. The relative error of the standardised numbers is below 3e-7 for
    float32 and below 4e-15 for float64.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `std` is a Python number and below 0.
    """
    _float("truncated_normal", dtype)
    centred = subtract(multiply(_inner(state, shape, dtype), 2.0), 1.0)  # exact
    z = multiply(_erfinv(multiply(centred, _INSIDE_TWO), dtype is dtypes.float64), math.sqrt(2.0))
    return _affine("truncated_normal", _rounded(maximum(minimum(z, 2.0), -2.0), dtype), mean, std)


def _erfinv(x: V, precise: bool) -> V:
    """The inverse of `erf` for |x| <= 0.96: a polynomial in -log(1 - x**2), then, if precise, a step of Halley's."""
    w = subtract(-2.5, log(subtract(1.0, square(x))))
    polynomial = add(multiply(w, _GILES[0]), _GILES[1])
    for coefficient in _GILES[2:]:
        polynomial = add(multiply(polynomial, w), coefficient)
    y = multiply(polynomial, x)
    if not precise:
        return y
    step = multiply(multiply(subtract(erf(y), x), exp(square(y))), math.sqrt(math.pi) / 2)
    return subtract(y, divide(step, add(multiply(y, step), 1.0)))


def exponential(state: V, shape: Shape = (), dtype: DType = dtypes.float32, scale: V | Scalar = 1.0) -> V:
    """Exponentially distributed numbers of mean `scale`: `-log u`, computed in float64 and rounded to the dtype.

    They are at most 22.9 times the scale, in float64 36.8 times.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `scale` is a Python number and below 0.
    """
    _float("exponential", dtype)
    drawn = _rounded(negative(log(_inner(state, shape, dtype))), dtype)
    return _affine("exponential", drawn, 0.0, scale, "scale")


def gumbel(
    state: V, shape: Shape = (), dtype: DType = dtypes.float32, loc: V | Scalar = 0.0, scale: V | Scalar = 1.0
) -> V:
    """Numbers of the standard Gumbel distribution, `-log(-log u)`, times `scale` plus `loc`.

    Computed in float64 and rounded to the dtype; standardised, they lie in [-3.2, 22.9], in float64 in [-3.7, 36.8].

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `scale` is a Python number and below 0.
    """
    _float("gumbel", dtype)
    drawn = _rounded(negative(log(negative(log(_inner(state, shape, dtype))))), dtype)
    return _affine("gumbel", drawn, loc, scale, "scale")


def _affine(name: str, drawn: V, loc: V | Scalar, scale: V | Scalar, word: str = "std") -> V:
    """`drawn scale + loc` in the dtype of `drawn`; the defaults add no operation."""
    number = not isinstance(scale, Value)
    if number and not scale >= 0:  # type: ignore[operator]  # a scalar or a tensor
        raise ArgumentError(name, f"{word} is at least 0, here it is {scale}", got=f"{word}={scale}").locate(
            Site(*user_site()))  # fmt: skip
    scaled = drawn if number and scale == 1 else multiply(drawn, _parameter(scale, drawn))
    return scaled if not isinstance(loc, Value) and loc == 0 else add(scaled, _parameter(loc, drawn))


# -- Integers and choices ----------------------------------------------------------------------------------------------


def randint(state: V, low: int, high: Size, shape: Shape = (), dtype: DType = dtypes.int64) -> V:
    """Integers in [low, high): `low + floor(w (high - low) / 2**64)` of a 64-bit word `w` each.

    The chance of a value differs from `1 / (high - low)` by less than 2**-64. A symbolic `high` must be above `low`
    when the graph runs.

    Raises:
        DTypeError: the dtype is no integer.
        ArgumentError: the range is empty or does not fit the dtype.
    """
    if not dtype.is_integer:
        raise DTypeError("randint", f"draws integers, not {dtype.name}", fix="dtype=trine.int64").locate(
            Site(*user_site()))  # fmt: skip
    limits = np.iinfo(dtype.numpy)
    if low < limits.min or (isinstance(high, int) and not low < high <= int(limits.max) + 1):
        raise ArgumentError("randint", f"the range [{low}, {high}) is empty or does not fit {dtype.name}",
                            got=f"low={low}, high={high}").locate(Site(*user_site()))  # fmt: skip
    word = apply(RandomBits(shape, dtypes.uint64), state)
    offset = _high_product(word, high - low)
    return cast(add(offset, low % (1 << 64)) if low else offset, dtype)


def _high_product(word: V, span: Size) -> V:
    """`floor(word span / 2**64)` in uint64, by products of halves; no sum of them overflows."""
    low, high = bitwise_and(word, _WORD), bitwise_right_shift(word, 32)
    if isinstance(span, int):
        span_low: V | int = span & _WORD
        span_high: V | int = span >> 32
    else:
        whole = size_value(word, span)
        span_low, span_high = bitwise_and(whole, _WORD), bitwise_right_shift(whole, 32)
    middle = add(bitwise_right_shift(multiply(low, span_low), 32), multiply(high, span_low))
    cross = add(bitwise_and(middle, _WORD), multiply(low, span_high))
    carries = add(bitwise_right_shift(middle, 32), bitwise_right_shift(cross, 32))
    return add(multiply(high, span_high), carries)


def bernoulli(state: V, p: V | Scalar = 0.5, shape: Shape | None = None) -> V:
    """Bools that hold with chance `p`: `u < p` for a float32 `u`, a float64 one where `p` is a float64 tensor.

    Args:
        state: the generator's.
        p: chances in [0, 1], which broadcast to the shape. 0 never holds, 1 always.
        shape: of the result; by default that of `p`.

    Raises:
        ArgumentError: `p` is a Python number outside of [0, 1].
    """
    if not isinstance(p, Value):
        if not 0 <= p <= 1:
            raise ArgumentError("bernoulli", f"p is in [0, 1], here it is {p}", got=f"p={p}").locate(
                Site(*user_site()))  # fmt: skip
        return less(_unit(state, shape or (), dtypes.float32), p)
    wide = dtypes.float64 if p.dtype is dtypes.float64 else dtypes.float32
    return less(_unit(state, p.shape if shape is None else shape, wide), p)


def categorical(state: V, logits: V, shape: Shape = ()) -> V:
    """Indices into the last axis of `logits`, each with the chance that softmax gives it, as int64.

    By the largest of logits plus Gumbel numbers, in float32, or float64 for float64 logits. Where all logits are -inf
    it is 0, where some are NaN the first of those.

    Args:
        state: the generator's.
        logits: logarithms of chances up to a constant: [..., classes].
        shape: draws for each row of logits, as leading axes: the result is [*shape, ...].

    Raises:
        ShapeError: logits without an axis, or without classes.
    """
    if not logits.shape or logits.shape[-1] == 0:
        raise ShapeError("categorical", "logits have a last axis with one class or more", got=str(logits.type)).locate(
            Site(*user_site()))  # fmt: skip
    logits = floating(logits)
    wide = dtypes.float64 if logits.dtype is dtypes.float64 else dtypes.float32
    return argmax(add(gumbel(state, (*shape, *logits.shape), wide), logits), axis=-1)


def permutation(state: V, n: Size) -> V:
    """0, 1, ... `n - 1` in random order, as int64: the order that sorts 64-bit words.

    Equal words, of which there are some with a chance below n**2 / 2**65, keep their order.

    Raises:
        ShapeError: `n` is below 0.
    """
    return argsort(apply(RandomBits((n,), dtypes.uint64), state), axis=-1)


# -- Arguments ---------------------------------------------------------------------------------------------------------


def _float(name: str, dtype: DType) -> None:
    if not dtype.is_float:
        raise DTypeError(name, f"draws floats, not {dtype.name}", fix="dtype=trine.float32").locate(
            Site(*user_site()))  # fmt: skip


def _parameter(value: V | Scalar, drawn: V) -> V:
    return cast(operand(value, drawn), drawn.dtype)


def _rounded(wide: V, dtype: DType) -> V:
    """float64 numbers in the dtype; half types round the float32 number."""
    return wide if dtype is dtypes.float64 else cast(cast(wide, dtypes.float32), dtype)
