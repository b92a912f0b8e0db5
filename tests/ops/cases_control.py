"""Rows of control flow; whole programs with it are in tests/test_control.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.case import Arg, Case
from trine.ops.control import cond, scan, while_loop

FACTORS = Arg((4, 3), 0.5, 1.5)
START = Arg((3,), 0.5, 1.5)
INTEGERS = Arg((), 1, 6, kinds=("int", "uint"))


def scanned(carry: Any, xs: Any) -> Any:
    return scan(lambda c, x: (c * x + x, c * 2), carry, xs)[0]


def scanned_backwards(carry: Any, xs: Any) -> Any:
    return scan(lambda c, x: (c * x, c + x), carry, xs, reverse=True)[1]


def looped(carry: np.ndarray, xs: np.ndarray) -> np.ndarray:
    for x in xs:
        carry = carry * x + x
    return carry


def looped_backwards(carry: np.ndarray, xs: np.ndarray) -> np.ndarray:
    ys = []
    for x in xs[::-1]:
        ys.append(carry + x)
        carry = carry * x
    return np.stack(ys[::-1])


def chosen(limit: float) -> Any:
    return lambda x, y: cond(x.sum() > limit, lambda x: x * y, lambda x: x + y, x)


def doubled(x: Any) -> Any:
    return while_loop(lambda c: (c < 40).all(), lambda c: c * 2 + 1, x)


def doubled_by_hand(x: np.ndarray) -> np.ndarray:
    while (x < 40).all():
        x = (x * 2 + 1).astype(x.dtype)
    return x


CASES = [
    Case("scan: last carry", scanned, (START, FACTORS), looped, (0, 1), primitives=("scan",)),
    Case("scan: results, reversed", scanned_backwards, (START, FACTORS), looped_backwards, (0, 1)),
    Case("cond: first branch", chosen(0.0), (START, START), lambda x, y: x * y, (0, 1), primitives=("cond",)),
    Case("cond: second branch", chosen(99.0), (START, START), lambda x, y: x + y, (0, 1)),
    Case("while: integers", doubled, (INTEGERS,), doubled_by_hand, primitives=("while",)),
]
