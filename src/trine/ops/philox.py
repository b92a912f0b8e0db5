"""Random words by Philox4x32-10, and the distributions on them, vectorised with NumPy.

The words are a pure function of (seed, call number, position), so any part of a stream can be computed alone, in any
order, by any number of threads. The generator is that of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
easy as 1, 2, 3" (SC 2011); which word goes to which element is fixed in `docs/numerics.md`.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

ROUNDS: Final = 10
MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, as fractions of 2**32

_WORD: Final = 0xFFFFFFFF
_HALF_BITS: Final = np.uint64(32)
_CHUNK: Final = 1 << 14  # blocks at a time: their working set stays in the second-level cache
_DROPPED: Final = {"float16": 13, "bfloat16": 16}  # bits of a float32 significand that the half type lacks


def philox_bits(seed: int, call: int, count: int) -> Words:
    """`count` random 32-bit words: word `i` is word `i % 4` of the block with number `i // 4`.

    Args:
        seed: the key, taken modulo 2**64: low word first.
        call: the call number, taken modulo 2**64: words 2 and 3 of the counter, low word first. Words 0 and 1 hold the
            number of the block.
        count: how many words, in one axis.

    Raises:
        ValueError: a negative count.
    """
    if count < 0:
        raise ValueError(f"philox_bits: the count of words is {count}, below 0")
    blocks = -(-count // 4)
    out = np.empty((blocks, 4), np.uint32)
    for start in range(0, blocks, _CHUNK):
        _fill(out[start : start + _CHUNK], start, seed, call)
    return out.reshape(-1)[:count]


def _fill(out: Words, start: int, seed: int, call: int) -> None:
    """Write the blocks numbered from `start` into the rows of `out`."""
    block = np.arange(start, start + len(out), dtype=np.uint64)
    c0, c1 = block & np.uint64(_WORD), block >> _HALF_BITS
    c2, c3 = (np.full(len(out), part, np.uint64) for part in (call & _WORD, call >> 32 & _WORD))
    k0, k1 = seed & _WORD, seed >> 32 & _WORD
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # 32 by 32 bits: exact in 64
        c0, c1, c2, c3 = _high(p1) ^ c1 ^ np.uint64(k0), _low(p1), _high(p0) ^ c3 ^ np.uint64(k1), _low(p0)
        k0, k1 = (k0 + KEY_STEPS[0]) & _WORD, (k1 + KEY_STEPS[1]) & _WORD
    for column, words in enumerate((c0, c1, c2, c3)):
        out[:, column] = words


def _high(product: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return product >> _HALF_BITS


def _low(product: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return product & np.uint64(_WORD)


def words_for(distribution: str, np_dtype: Any, count: int) -> int:
    """How many words `count` elements take: what `philox_bits` must give to the `..._from_bits` function.

    Args:
        distribution: `"uniform"`, `"normal"` or `"integers"`.
        np_dtype: the NumPy dtype of the elements.
        count: how many elements.
    """
    each = 2 if distribution == "integers" or np.dtype(np_dtype) == np.float64 else 1
    return each * (count + count % 2 if distribution == "normal" else count)


def join_words(bits: Words) -> NDArray[np.uint64]:
    """64-bit words: number `i` has word `2i` as its low half and word `2i + 1` as its high half."""
    return bits[0::2].astype(np.uint64) | bits[1::2].astype(np.uint64) << _HALF_BITS


def uniform_from_bits(bits: Words, np_dtype: Any) -> NDArray[Any]:
    """Uniform numbers in [0, 1), below 1 in every dtype.

    float32 takes the top 24 bits of one word, float64 the top 53 of two. float16 and bfloat16 drop the low bits of the
    float32 number: rounding it could give 1, and dropping keeps `u < p` as it was for every `p` of the half type.

    Args:
        bits: one word an element, two for float64.
        np_dtype: float16, bfloat16 (of `ml_dtypes`), float32 or float64.

    Raises:
        TypeError: another dtype.
    """
    dtype = np.dtype(np_dtype)
    if dtype == np.float64:
        return (join_words(bits) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    single = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    if dtype == np.float32:
        return single
    dropped = _DROPPED.get(dtype.name)
    if dropped is None:
        raise TypeError(f"uniform_from_bits: no uniform numbers of dtype {dtype.name}")
    kept = np.uint32(_WORD >> dropped << dropped)
    return (single.view(np.uint32) & kept).view(np.float32).astype(dtype)


def normal_from_bits(bits: Words, np_dtype: Any) -> NDArray[Any]:
    """Standard normal numbers by the method of Box and Muller (1958), computed in float64 and rounded to the dtype.

    Elements `2j` and `2j + 1` are `r cos a` and `r sin a` with `r = sqrt(-2 log u)` and `a = 2 pi v`; `u` in (0, 1] and
    `v` in [0, 1) come from two words, for float64 from two 64-bit words. The half types round the float32 number.

    Args:
        bits: as many words as `words_for("normal", ...)` says, so that the last pair is whole.
        np_dtype: float16, bfloat16 (of `ml_dtypes`), float32 or float64.

    Raises:
        TypeError: another dtype.
    """
    dtype = np.dtype(np_dtype)
    if dtype not in (np.float32, np.float64) and dtype.name not in _DROPPED:
        raise TypeError(f"normal_from_bits: no normal numbers of dtype {dtype.name}")
    if dtype == np.float64:
        wide = (join_words(bits) >> np.uint64(11)).astype(np.float64)
        u, v = (wide[0::2] + 1.0) * 2.0**-53, wide[1::2] * 2.0**-53
    else:
        u, v = (bits[0::2].astype(np.float64) + 1.0) * 2.0**-32, bits[1::2].astype(np.float64) * 2.0**-32
    radius = np.sqrt(-2.0 * np.log(u))
    cosine, sine = _turn(v)
    pairs = np.stack((radius * cosine, radius * sine), axis=-1).reshape(-1)
    return pairs if dtype == np.float64 else pairs.astype(np.float32).astype(dtype)


def _turn(v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine and sine of `2 pi v`, with the quarter turns taken off exactly before rounding anything."""
    quarters = np.floor(4.0 * v + 0.5)
    angle = (4.0 * v - quarters) * (math.pi / 2)
    c, s = np.cos(angle), np.sin(angle)
    turned = [quarters == n for n in (1, 2, 3)]
    return np.select(turned, [-s, -c, s], c), np.select(turned, [c, -s, -c], s)


def integers_from_bits(bits: Words, low: int, high: int) -> NDArray[np.int64]:
    """Integers in [low, high): `low + floor(w (high - low) / 2**64)` of one 64-bit word `w` each.

    The chance of a value differs from `1 / (high - low)` by less than 2**-64.

    Args:
        bits: two words an element.
        low: the smallest value, from -2**63.
        high: one more than the largest value, up to 2**63.

    Raises:
        ValueError: the range is empty or does not fit int64.
    """
    if not -(1 << 63) <= low < high <= 1 << 63:
        raise ValueError(f"integers_from_bits: the range [{low}, {high}) is empty or does not fit int64")
    span_low, span_high = np.uint64(high - low & _WORD), np.uint64(high - low >> 32)
    word_low, word_high = bits[0::2].astype(np.uint64), bits[1::2].astype(np.uint64)
    middle = _high(word_low * span_low) + word_high * span_low  # sums of a product and a word: no overflow
    cross = _low(middle) + word_low * span_high
    offset = word_high * span_high + _high(middle) + _high(cross)
    return (offset + np.uint64(low % (1 << 64))).view(np.int64)
