"""Rows for random numbers: the argument is a generator's state, so the oracle knows every bit."""

from __future__ import annotations

import numpy as np

from tests.ops.case import Arg, Case
from trine import dtypes
from trine.ops import philox, random
from trine.ops.base import apply

STATE = (Arg((2,), 0, 1000, ("uint64",)),)
STATES = (Arg((3, 2), 0, 1000, ("uint64",)),)


def words(state: np.ndarray, count: int) -> np.ndarray:
    return philox.philox_bits(int(state[0]), int(state[1]), count)


CASES = [
    Case(
        "random_bits: 32 bits",
        lambda state: apply(random.RandomBits((3, 5), dtypes.uint32), state),
        STATE,
        lambda state: words(state, 15).reshape(3, 5),
        primitives=("random_bits",),
    ),
    Case(
        "random_bits: 64 bits, three generators",
        lambda state: apply(random.RandomBits((7,), dtypes.uint64), state),
        STATES,
        lambda state: np.stack([philox.join_words(words(row, 14)) for row in state]),
        primitives=("random_bits",),
    ),
    Case(
        "random_bits: empty",
        lambda state: apply(random.RandomBits((2, 0), dtypes.uint32), state),
        STATE,
        lambda state: np.zeros((2, 0), np.uint32),
        primitives=("random_bits",),
    ),
    Case(
        "advance: one call",
        random.advance,
        STATES,
        lambda state: state + np.array([0, 1], np.uint64),
    ),
    Case(
        "uniform: float64",
        lambda state: random.uniform(state, (4, 3), dtypes.float64),
        STATE,
        lambda state: philox.uniform_from_bits(words(state, 24), np.float64).reshape(4, 3),
    ),
    Case(
        "normal: float64, odd number",
        lambda state: random.normal(state, (3, 3), dtypes.float64),
        STATE,
        lambda state: philox.normal_from_bits(words(state, 20), np.float64)[:9].reshape(3, 3),
    ),
    Case(
        "randint: negative to positive",
        lambda state: random.randint(state, -5, 40, (11,)),
        STATE,
        lambda state: philox.integers_from_bits(words(state, 22), -5, 40),
    ),
    Case(
        "permutation: 9 numbers",
        lambda state: random.permutation(state, 9),
        STATE,
        lambda state: np.argsort(philox.join_words(words(state, 18)), kind="stable"),
    ),
]
