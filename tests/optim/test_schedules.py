"""Schedules against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trine.errors import ArgumentError
from trine.optim import CosineDecay, ExponentialDecay, PiecewiseConstantDecay, Schedule
from trine.tensor.creation import asarray

STEPS = [0, 1, 4, 5, 6, 9, 10, 11, 25, 1000]


def rates(schedule: Schedule) -> list[float]:
    made = [schedule(asarray(step)) for step in STEPS]
    assert all(rate.shape == () and rate.dtype.name == "float32" for rate in made)
    return [rate.item() for rate in made]


def close(found: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-8)


def test_exponential_decay() -> None:
    close(rates(ExponentialDecay(0.1, 10, 0.9)), [0.1 * 0.9 ** (s / 10) for s in STEPS])
    close(rates(ExponentialDecay(0.1, 10, 0.9, staircase=True)), [0.1 * 0.9 ** (s // 10) for s in STEPS])


def test_cosine_decay() -> None:
    def wave(step: float, top: float, alpha: float) -> float:
        return top * ((1 - alpha) * 0.5 * (1 + math.cos(math.pi * min(step, 10) / 10)) + alpha)

    close(rates(CosineDecay(0.1, 10)), [wave(s, 0.1, 0.0) for s in STEPS])
    close(rates(CosineDecay(0.1, 10, alpha=0.2)), [wave(s, 0.1, 0.2) for s in STEPS])
    warm = CosineDecay(0.1, 10, alpha=0.2, warmup_target=0.5, warmup_steps=5)
    close(rates(warm), [0.1 + 0.4 * s / 5 if s < 5 else wave(s - 5, 0.5, 0.2) for s in STEPS])
    close(rates(CosineDecay(0.1, 10, warmup_target=0.5)), [wave(s, 0.5, 0.0) for s in STEPS])


def test_piecewise_constant_decay() -> None:
    expected = [1.0 if s <= 4 else 0.5 if s <= 10 else 0.25 for s in STEPS]
    assert rates(PiecewiseConstantDecay([4, 10], [1.0, 0.5, 0.25])) == expected
    assert rates(PiecewiseConstantDecay([], [0.5])) == [0.5] * len(STEPS)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match="decay_steps is above 0"):
        ExponentialDecay(0.1, 0, 0.9)
    with pytest.raises(ArgumentError, match="decay_steps is above 0"):
        CosineDecay(0.1, -1)
    with pytest.raises(ArgumentError, match="warmup_steps are at least 0 and have a warmup_target"):
        CosineDecay(0.1, 10, warmup_steps=3)
    for boundaries, values in (([1], [1.0]), ([2, 1], [1.0, 1.0, 1.0])):
        with pytest.raises(ArgumentError, match="boundaries rise, and there is one value more"):
            PiecewiseConstantDecay(boundaries, values)
