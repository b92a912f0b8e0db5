"""The order in which samples are seen: a permutation by (seed, epoch), the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trine.ops.philox import join_words, philox_bits

STREAM = 0x64617461  # the ASCII codes of "data": keeps the order apart from every other use of the seed


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A random order of `count` samples, int64: they are sorted by 64 Philox bits each.

    The bits of sample i depend on (seed, epoch, i) alone. Equal bits keep the samples' own order.

    Args:
        seed: the seed of the data order, 0 <= seed < 2**64.
        epoch: the number of the epoch, from 0.
        count: the number of samples.

    Example:
        >>> from trine.data import permutation
        >>> sorted(permutation(0, 0, 5).tolist())
        [0, 1, 2, 3, 4]
    """
    words = join_words(philox_bits(seed ^ STREAM, epoch, 2 * count))
    return np.argsort(words, kind="stable").astype(np.int64)
