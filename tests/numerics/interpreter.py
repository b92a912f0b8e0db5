"""The slow scalar interpreter of `docs/numerics.md`: one number at a time, in exact integer arithmetic, rounded once.

Nothing here is shared with the library. A float of any format is carried in a Python float, which holds every value of
float16, bfloat16, float32 and float64 exactly; an integer is carried in a Python int. Sections are in the page's order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")

# -- Formats and rounding ----------------------------------------------------------------------------------------------


class Float(NamedTuple):
    """A binary floating-point format: bits of precision, exponents of the smallest and largest normal numbers."""

    name: str
    precision: int
    low: int
    high: int


class Integer(NamedTuple):
    """A two's complement integer format."""

    name: str
    bits: int
    signed: bool

    @property
    def least(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def largest(self) -> int:
        return (1 << (self.bits - self.signed)) - 1


FLOAT16 = Float("float16", 11, -14, 15)
BFLOAT16 = Float("bfloat16", 8, -126, 127)
FLOAT32 = Float("float32", 24, -126, 127)
FLOAT64 = Float("float64", 53, -1022, 1023)
FLOATS = (FLOAT16, BFLOAT16, FLOAT32, FLOAT64)

INTEGERS = tuple(
    Integer(f"{'' if signed else 'u'}int{bits}", bits, signed) for signed in (True, False) for bits in (8, 16, 32, 64)
)
INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64 = INTEGERS


def accumulator(kind: Float) -> Float:
    """The format in which sums and products of `kind` are accumulated unless the operation says otherwise."""
    return FLOAT32 if kind.precision < FLOAT32.precision else kind


def negative(x: float) -> bool:
    """Whether the sign bit is set, of -0.0 too."""
    return math.copysign(1.0, x) < 0


def ratio_rounded(numerator: int, denominator: int, kind: Float) -> float:
    """The value of `kind` nearest to a fraction that is not 0, ties to even; beyond the range an infinity."""
    sign, n, d = (-1.0 if numerator < 0 else 1.0), abs(numerator), denominator
    exponent = n.bit_length() - d.bit_length()
    if (n << max(-exponent, 0)) < (d << max(exponent, 0)):
        exponent -= 1
    quantum = max(exponent, kind.low) - (kind.precision - 1)
    n, d = n << max(-quantum, 0), d << max(quantum, 0)
    significand, rest = divmod(n, d)
    if 2 * rest > d or (2 * rest == d and significand & 1):
        significand += 1
    if significand.bit_length() + quantum > kind.high + 1:
        return sign * math.inf
    return sign * math.ldexp(significand, quantum)


def rounded(x: float | int, kind: Float) -> float:
    """A number of any format, or an exact integer, rounded once to `kind`; NaN, infinities and -0.0 stay."""
    if isinstance(x, float) and (x == 0 or not math.isfinite(x)):
        return x
    numerator, denominator = x.as_integer_ratio()
    return ratio_rounded(numerator, denominator, kind) if numerator else 0.0


# -- Float arithmetic: each operation exact, then rounded once ---------------------------------------------------------


def fma(a: float, b: float, c: float, kind: Float) -> float:
    """`a b + c`, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return _fma_of_special(a, b, c)
    (an, ad), (bn, bd), (cn, cd) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    numerator = an * bn * cd + cn * ad * bd
    if numerator:
        return ratio_rounded(numerator, ad * bd * cd, kind)
    minus = negative(a) != negative(b) and negative(c) and cn == 0
    return -0.0 if minus else 0.0


def _fma_of_special(a: float, b: float, c: float) -> float:
    if math.isnan(a) or math.isnan(b) or math.isnan(c):
        return math.nan
    if math.isfinite(a) and math.isfinite(b):
        return c
    if a == 0 or b == 0:
        return math.nan
    product = -math.inf if negative(a) != negative(b) else math.inf
    return math.nan if math.isinf(c) and c != product else product


def add(a: float, b: float, kind: Float) -> float:
    return fma(a, 1.0, b, kind)


def subtract(a: float, b: float, kind: Float) -> float:
    return fma(a, 1.0, -b, kind)


def multiply(a: float, b: float, kind: Float) -> float:
    return fma(a, b, -0.0, kind)  # adding -0.0 changes no value and no sign


def divide(a: float, b: float, kind: Float) -> float:
    if math.isnan(a) or math.isnan(b) or (a == 0 and b == 0) or (math.isinf(a) and math.isinf(b)):
        return math.nan
    minus = negative(a) != negative(b)
    if math.isinf(a) or b == 0:
        return -math.inf if minus else math.inf
    if a == 0 or math.isinf(b):
        return -0.0 if minus else 0.0
    (an, ad), (bn, bd) = a.as_integer_ratio(), b.as_integer_ratio()
    return ratio_rounded(an * bd * (-1 if bn < 0 else 1), ad * abs(bn), kind)


def square_root(x: float, kind: Float) -> float:
    if x == 0 or math.isnan(x) or x == math.inf:
        return x
    if x < 0:
        return math.nan
    n, d = x.as_integer_ratio()
    square = n * d << 128
    root = math.isqrt(square)  # of n / d, times d and 2**64
    return ratio_rounded(2 * root + (root * root != square), d << 65, kind)


def in_half(operation: Callable[..., float], *arguments: float, kind: Float) -> float:
    """An operation on a half type: computed in float32, rounded once to `kind`."""
    return rounded(operation(*arguments, FLOAT32), kind)


def remainder(a: float, b: float, kind: Float) -> float:
    """The remainder with the sign of `b`: `fmod`, which is exact, and one addition where the signs differ."""
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or b == 0:
        return math.nan
    rest = math.fmod(a, b)
    if rest == 0:
        return math.copysign(0.0, b)
    return add(rest, b, kind) if negative(rest) != negative(b) else rest


def floor_divide(a: float, b: float, kind: Float) -> float:
    """The quotient rounded down, by the steps that belong to `remainder`."""
    if math.isnan(a) or math.isnan(b) or math.isinf(a) or b == 0:
        return divide(a, b, kind) if b == 0 else math.nan
    rest = math.fmod(a, b)
    quotient = divide(subtract(a, rest, kind), b, kind)
    if rest != 0 and negative(rest) != negative(b):
        quotient = subtract(quotient, 1.0, kind)
    if quotient == 0:
        return math.copysign(0.0, divide(a, b, kind))
    if math.isinf(quotient):
        return quotient
    below = float(math.floor(quotient))
    return add(below, 1.0, kind) if subtract(quotient, below, kind) > 0.5 else below


def maximum(a: float, b: float) -> float:
    """The larger; NaN if either is NaN; +0.0 is above -0.0."""
    if math.isnan(a) or math.isnan(b):
        return math.nan
    if a == b == 0:
        return b if negative(a) else a
    return max(a, b)


def minimum(a: float, b: float) -> float:
    """The smaller; NaN if either is NaN; -0.0 is below +0.0."""
    return -maximum(-a, -b)


def relu(x: float) -> float:
    """0.0 where x is below 0, else x: NaN and -0.0 stay."""
    return 0.0 if x < 0 else x


# -- Integer arithmetic and casts --------------------------------------------------------------------------------------


def wrapped(x: int, kind: Integer) -> int:
    """The integer of `kind` that equals `x` modulo 2**bits."""
    low = x & ((1 << kind.bits) - 1)
    return low - (1 << kind.bits) if kind.signed and low > kind.largest else low


def integer_floor_divide(a: int, b: int, kind: Integer) -> int:
    return 0 if b == 0 else wrapped(a // b, kind)


def integer_remainder(a: int, b: int) -> int:
    return 0 if b == 0 else a % b


def left_shift(x: int, by: int, kind: Integer) -> int:
    return wrapped(x << by, kind) if 0 <= by < kind.bits else 0


def right_shift(x: int, by: int, kind: Integer) -> int:
    return x >> by if 0 <= by < kind.bits else 0


def integer_power(base: int, exponent: int, kind: Integer) -> int:
    if exponent >= 0:
        return wrapped(pow(base, exponent, 1 << kind.bits), kind)
    return {1: 1, -1: -1 if exponent & 1 else 1}.get(base, 0)


def float_to_integer(x: float, kind: Integer) -> int:
    """Truncated towards 0, then saturated; NaN becomes 0."""
    if math.isnan(x):
        return 0
    if math.isinf(x):
        return kind.least if x < 0 else kind.largest
    return min(max(math.trunc(x), kind.least), kind.largest)


# -- Contractions ------------------------------------------------------------------------------------------------------


def pairwise(parts: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """One value from one or more: split at the largest power of two below the count, each side likewise."""
    if len(parts) == 1:
        return parts[0]
    middle = 1 << ((len(parts) - 1).bit_length() - 1)
    return combine(pairwise(parts[:middle], combine), pairwise(parts[middle:], combine))


def segments(m: int, n: int, k: int) -> list[tuple[int, int]]:
    """Where k is cut, as (start, stop): pieces of 256, or of 16 where n is 1; the last also takes what is left."""
    length = 16 if n == 1 else 256
    count = max(1, k // length)
    return [(length * s, k if s == count - 1 else length * (s + 1)) for s in range(count)]


Term = tuple[float, float] | None  # None: a term that does not take part, but has its place in k


def contract(terms: Sequence[Term], m: int, n: int, kind: Float) -> float:
    """The sum of products over k, in `kind`: FMA in order from +0.0 in each segment, pairwise across segments."""
    sums = []
    for start, stop in segments(m, n, len(terms)):
        total = 0.0
        for term in terms[start:stop]:
            if term is not None:
                total = fma(*term, total, kind)
        sums.append(total)
    return pairwise(sums, lambda a, b: add(a, b, kind))


Matrix = Sequence[Sequence[float]]


def matrix_product(a: Matrix, b: Matrix, kind: Float, accumulate: Float | None = None) -> list[list[float]]:
    """`a @ b` of matrices [m, k] and [k, n], accumulated in `accumulate` and rounded once to `kind`."""
    inner = accumulate or accumulator(kind)
    m, n = len(a), len(b[0])
    columns = [[row[j] for row in b] for j in range(n)]
    return [
        [rounded(contract(list(zip(row, column, strict=True)), m, n, inner), kind) for column in columns] for row in a
    ]


def integer_matrix_product(a: Sequence[Sequence[int]], b: Sequence[Sequence[int]], kind: Integer) -> list[list[int]]:
    """`a @ b`, accumulated in `kind` modulo 2**bits: the order is of no consequence."""
    return [[wrapped(sum(x * y for x, y in zip(row, c, strict=True)), kind) for c in zip(*b, strict=True)] for row in a]


class Window(NamedTuple):
    """How a kernel meets its input along each spatial axis."""

    stride: tuple[int, ...]
    before: tuple[int, ...]  # padding in front of the input
    after: tuple[int, ...]
    dilation: tuple[int, ...]  # distance between the kernel's taps
    spread: tuple[int, ...]  # distance between the input's elements: above 1, holes lie between them


Tensor = dict[tuple[int, ...], float]  # by index


def convolution(x: Tensor, shape: Sequence[int], w: Tensor, kernel: Sequence[int], how: Window, kind: Float) -> Tensor:
    """`x` [batch, *space, channels] with `w` [*taps, channels, features]: k runs over taps, row-major, then channels.

    Padding takes part as +0.0; a hole between spread elements does not take part.
    """
    taps, channels, features = tuple(kernel[:-2]), kernel[-2], kernel[-1]
    wide = [(s - 1) * d + 1 for s, d in zip(shape[1:-1], how.spread, strict=True)]
    reach = [(t - 1) * d + 1 for t, d in zip(taps, how.dilation, strict=True)]
    out = [
        (size + p + q - r) // s + 1
        for size, p, q, r, s in zip(wide, how.before, how.after, reach, how.stride, strict=True)
    ]
    inner, rows = accumulator(kind), shape[0] * math.prod(out)
    result: Tensor = {}
    for index in itertools.product(range(shape[0]), *map(range, out), range(features)):
        terms: list[Term] = []
        for tap in itertools.product(*map(range, taps)):
            at = [
                o * s + t * d - p
                for o, s, t, d, p in zip(index[1:-1], how.stride, tap, how.dilation, how.before, strict=True)
            ]
            inside = all(0 <= a < size for a, size in zip(at, wide, strict=True))
            hole = inside and any(a % d for a, d in zip(at, how.spread, strict=True))
            place = tuple(a // d for a, d in zip(at, how.spread, strict=True))
            for channel in range(channels):
                value = x[(index[0], *place, channel)] if inside and not hole else 0.0
                terms.append(None if hole else (value, w[(*tap, channel, index[-1])]))
        result[index] = rounded(contract(terms, rows, features, inner), kind)
    return result


# -- Reductions --------------------------------------------------------------------------------------------------------

BLOCK, LANES, ROWS = 1024, 64, 64


def in_order(values: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """One value from one or more, from the left."""
    total = values[0]
    for value in values[1:]:
        total = combine(total, value)
    return total


def over_last_axis(values: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """Blocks of 1024 in 64 lanes: in order in a lane, halves of the lanes folded onto each other, pairwise across."""
    return pairwise([_block(values[i : i + BLOCK], combine) for i in range(0, len(values), BLOCK)], combine)


def _block(values: Sequence[T], combine: Callable[[T, T], T]) -> T:
    lanes = [in_order(values[lane::LANES], combine) for lane in range(min(LANES, len(values)))]
    half = LANES // 2
    while half:
        lanes = [combine(lanes[i], lanes[i + half]) if i + half < len(lanes) else lanes[i]
                 for i in range(min(half, len(lanes)))]  # fmt: skip
        half //= 2
    return lanes[0]


def over_rows(values: Sequence[T], combine: Callable[[T, T], T]) -> T:
    """Blocks of 64: in order in a block, pairwise across."""
    return pairwise([in_order(values[i : i + ROWS], combine) for i in range(0, len(values), ROWS)], combine)


def axis_groups(shape: Sequence[int], axes: Sequence[int]) -> list[tuple[int, bool]]:
    """The axes with neighbours of one fate merged, as (size, whether it is reduced); sizes decide nothing."""
    flags = [axis in axes for axis in range(len(shape))]
    groups = []
    for reduced, members in itertools.groupby(zip(shape, flags, strict=True), key=lambda pair: pair[1]):
        groups.append((math.prod(size for size, _ in members), reduced))
    return groups


def reduce(
    values: Sequence[T], shape: Sequence[int], axes: Sequence[int], combine: Callable[[T, T], T], empty: T | None
) -> list[T]:
    """The reduction of a row-major array over `axes`, row-major: the last group of axes first, the first one last.

    Raises:
        ValueError: nothing to reduce, for an operation without a value for that.
    """
    groups = axis_groups(shape, axes)
    current = list(values)
    for position in reversed(range(len(groups))):
        size, reduced = groups[position]
        if not reduced:
            continue
        outer = math.prod(s for s, _ in groups[:position])
        inner = math.prod(s for s, r in groups[position + 1 :] if not r)
        order = over_last_axis if position == len(groups) - 1 else over_rows
        starts = [o * size * inner + i for o in range(outer) for i in range(inner)]
        if size:
            current = [order(current[start : start + size * inner : inner], combine) for start in starts]
        elif empty is None:
            raise ValueError("a reduction of nothing that has no value for it")
        else:
            current = [empty] * len(starts)
    return current


def reduce_floats(
    values: Sequence[float], shape: Sequence[int], axes: Sequence[int], operation: str, kind: Float
) -> list[float]:
    """`operation`, one of sum, prod, max, min, accumulated in the wider format and rounded once to `kind`."""
    inner = accumulator(kind)
    combine, empty = {
        "sum": (lambda a, b: add(a, b, inner), 0.0),
        "prod": (lambda a, b: multiply(a, b, inner), 1.0),
        "max": (maximum, None),
        "min": (minimum, None),
    }[operation]
    return [rounded(x, kind) for x in reduce(values, shape, axes, combine, empty)]


def reduce_integers(
    values: Sequence[int], shape: Sequence[int], axes: Sequence[int], operation: str, kind: Integer
) -> list[int]:
    """`operation`, one of sum, prod, max, min, modulo 2**bits: the order is of no consequence."""
    rules: dict[str, tuple[Callable[[int, int], int], int | None]] = {
        "sum": (lambda a, b: wrapped(a + b, kind), 0),
        "prod": (lambda a, b: wrapped(a * b, kind), wrapped(1, kind)),
        "max": (max, None),
        "min": (min, None),
    }
    combine, empty = rules[operation]
    return reduce(values, shape, axes, combine, empty)


def cumulative_sum(values: Sequence[float], kind: Float) -> list[float]:
    """Running sums from the left, the running value in the wider format, each result rounded from it."""
    running = itertools.accumulate(values, lambda a, b: add(a, b, accumulator(kind)))
    return [rounded(x, kind) for x in running]


def argmax(values: Sequence[float]) -> int:
    """The first index of the first NaN, else of the largest value; -0.0 and 0.0 are equal."""
    for index, value in enumerate(values):
        if math.isnan(value):
            return index
    return max(range(len(values)), key=lambda i: (values[i], -i))


# -- Scatter-add and gradients -----------------------------------------------------------------------------------------


def scatter_add(target: Sequence[float], places: Sequence[int], updates: Sequence[float], kind: Float) -> list[float]:
    """`target[places[i]] += updates[i]` in the order of i, in the wider format, rounded once; the rest untouched."""
    inner = accumulator(kind)
    sums: dict[int, float] = {}
    for place, update in zip(places, updates, strict=True):
        sums[place] = add(sums.get(place, target[place]), update, inner)
    return [rounded(sums[i], kind) if i in sums else value for i, value in enumerate(target)]


def fan_in(contributions: Sequence[float], kind: Float) -> float:
    """A gradient with several contributions, in the order of the operations that read the value: additions."""
    inner = accumulator(kind)
    return in_order(contributions, lambda a, b: rounded(add(a, b, inner), kind))


# -- Random numbers ----------------------------------------------------------------------------------------------------

MASK = 0xFFFFFFFF


def philox4x32(counter: Sequence[int], key: Sequence[int], rounds: int = 10) -> tuple[int, int, int, int]:
    """The block of four words for four counter words and two key words."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(rounds):
        high0, low0 = divmod(0xD2511F53 * x0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * x2, 1 << 32)
        x0, x1, x2, x3 = high1 ^ x1 ^ k0, low1, high0 ^ x3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return x0, x1, x2, x3


def word(seed: int, call: int, i: int) -> int:
    """32-bit word number `i` of a call."""
    block = i // 4
    counter = (block & MASK, block >> 32 & MASK, call & MASK, call >> 32 & MASK)
    return philox4x32(counter, (seed & MASK, seed >> 32 & MASK))[i % 4]


def long_word(seed: int, call: int, i: int) -> int:
    """64-bit word number `i` of a call."""
    return word(seed, call, 2 * i) | word(seed, call, 2 * i + 1) << 32


def uniform(seed: int, call: int, i: int, kind: Float) -> float:
    """Uniform number `i` of a call, in [0, 1)."""
    if kind is FLOAT64:
        return (long_word(seed, call, i) >> 11) * 2.0**-53
    return truncated((word(seed, call, i) >> 8) * 2.0**-24, kind)


def truncated(u: float, kind: Float) -> float:
    """The largest value of `kind` not above `u`, for `u` in [0, 1)."""
    _, exponent = math.frexp(u)
    quantum = math.ldexp(1.0, max(exponent - 1, kind.low) - (kind.precision - 1))
    return math.floor(u / quantum) * quantum


def normal(seed: int, call: int, i: int, kind: Float) -> float:
    """Standard normal number `i` of a call; to within the stated error of log, cos and sin."""
    j = i - i % 2
    if kind is FLOAT64:
        u, v = ((long_word(seed, call, j) >> 11) + 1) * 2.0**-53, (long_word(seed, call, j + 1) >> 11) * 2.0**-53
    else:
        u, v = (word(seed, call, j) + 1) * 2.0**-32, word(seed, call, j + 1) * 2.0**-32
    radius = math.sqrt(-2.0 * math.log(u))
    quarters = math.floor(4.0 * v + 0.5)
    angle = (4.0 * v - quarters) * (math.pi / 2)
    c, s = math.cos(angle), math.sin(angle)
    cosine, sine = ((c, s), (-s, c), (-c, -s), (s, -c))[quarters % 4]
    z = radius * (sine if i % 2 else cosine)
    return z if kind is FLOAT64 else rounded(rounded(z, FLOAT32), kind)


def integer(seed: int, call: int, i: int, low: int, high: int) -> int:
    """Integer number `i` of a call, in [low, high)."""
    return low + (long_word(seed, call, i) * (high - low) >> 64)
