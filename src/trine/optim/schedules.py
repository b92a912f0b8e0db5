"""Learning rates that depend on the step: pure functions of the number of finished steps, with Keras's names."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

from trine import dtypes
from trine.errors import ArgumentError, Site
from trine.ops.base import V, like, user_site
from trine.ops.elementwise import (
    add,
    cast,
    cos,
    divide,
    floor,
    less,
    less_equal,
    minimum,
    multiply,
    power,
    subtract,
    where,
)


@dataclass(frozen=True)
class Schedule:
    """A learning rate as a function of the step: called with a scalar tensor, it returns a float32 scalar tensor."""

    def __call__(self, step: V) -> V:
        """The learning rate at `step`, counted from 0."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Its name and arguments, as JSON values."""
        return {"name": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`; with `staircase` the exponent is rounded down.

    Example:
        >>> import trine
        >>> from trine.optim import ExponentialDecay
        >>> rate = ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
        >>> round(rate(trine.asarray(20)).item(), 6)
        0.025
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        _positive(type(self).__name__, decay_steps=self.decay_steps, decay_rate=self.decay_rate)

    def __call__(self, step: V) -> V:
        """The learning rate at `step`."""
        passed = divide(cast(step, dtypes.float32), float(self.decay_steps))
        passed = floor(passed) if self.staircase else passed
        base: V = like(passed, self.decay_rate)
        return multiply(power(base, passed), self.initial_learning_rate)


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine wave from the initial rate down to `alpha` times it within `decay_steps`, then constant.

    With `warmup_target` the rate first rises in a straight line from the initial one to the target within
    `warmup_steps`, and the wave starts from there.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), arXiv:1608.03983.

    Example:
        >>> import trine
        >>> from trine.optim import CosineDecay
        >>> rate = CosineDecay(0.1, decay_steps=100)
        >>> [round(rate(trine.asarray(step)).item(), 6) for step in (0, 50, 100, 200)]
        [0.1, 0.05, 0.0, 0.0]
    """

    initial_learning_rate: float
    decay_steps: int
    alpha: float = 0.0
    warmup_target: float | None = None
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        _positive(type(self).__name__, decay_steps=self.decay_steps)
        if self.warmup_steps < 0 or (self.warmup_steps and self.warmup_target is None):
            raise ArgumentError(type(self).__name__, "warmup_steps are at least 0 and have a warmup_target",
                                got=f"warmup_steps={self.warmup_steps}, warmup_target={self.warmup_target}").locate(
                Site(*user_site()))  # fmt: skip

    def __call__(self, step: V) -> V:
        """The learning rate at `step`."""
        now = cast(step, dtypes.float32)
        if self.warmup_target is None:
            return self._wave(now, self.initial_learning_rate)
        wave = self._wave(subtract(now, float(self.warmup_steps)), self.warmup_target)
        if not self.warmup_steps:
            return wave
        slope = (self.warmup_target - self.initial_learning_rate) / self.warmup_steps
        rising = add(multiply(now, slope), self.initial_learning_rate)
        return where(less(now, float(self.warmup_steps)), rising, wave)

    def _wave(self, now: V, top: float) -> V:
        passed = divide(minimum(now, float(self.decay_steps)), float(self.decay_steps))
        wave = multiply(add(cos(multiply(passed, math.pi)), 1.0), 0.5)
        return multiply(add(multiply(wave, 1.0 - self.alpha), self.alpha), top)


@dataclass(frozen=True)
class PiecewiseConstantDecay(Schedule):
    """`values[0]` up to and including step `boundaries[0]`, then `values[1]` up to `boundaries[1]`, and so on.

    Example:
        >>> import trine
        >>> from trine.optim import PiecewiseConstantDecay
        >>> rate = PiecewiseConstantDecay([2, 4], [1.0, 0.5, 0.25])
        >>> [rate(trine.asarray(step)).item() for step in range(6)]
        [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    """

    boundaries: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the arguments; lists become tuples."""
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if len(self.values) != len(self.boundaries) + 1 or list(self.boundaries) != sorted(self.boundaries):
            raise ArgumentError(type(self).__name__, "boundaries rise, and there is one value more than boundaries",
                                got=f"{len(self.boundaries)} boundaries, {len(self.values)} values").locate(
                Site(*user_site()))  # fmt: skip

    def __call__(self, step: V) -> V:
        """The learning rate at `step`."""
        now = cast(step, dtypes.float32)
        rate: V = like(now, self.values[-1])
        for boundary, value in zip(reversed(self.boundaries), reversed(self.values[:-1]), strict=True):
            rate = where(less_equal(step, boundary), value, rate)
        return rate


SCHEDULES: Final[dict[str, type[Schedule]]] = {
    "CosineDecay": CosineDecay,
    "ExponentialDecay": ExponentialDecay,
    "PiecewiseConstantDecay": PiecewiseConstantDecay,
}


def _positive(name: str, **numbers: float) -> None:
    for label, number in numbers.items():
        if not number > 0:
            raise ArgumentError(name, f"{label} is above 0", got=f"{label}={number!r}").locate(Site(*user_site()))
