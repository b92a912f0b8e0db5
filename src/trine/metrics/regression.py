"""Errors of predicted numbers, and losses as metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trine.functional.losses import mean_absolute_error, mean_squared_error
from trine.metrics.metric import Metric
from trine.ops.base import V


@dataclass(frozen=True)
class MeanSquaredError(Metric):
    """The mean of `(y_true - y_pred)**2`."""

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight of the loss."""
        return mean_squared_error(y_true, y_pred, sample_weight)


@dataclass(frozen=True)
class RootMeanSquaredError(MeanSquaredError):
    """The root of the mean of `(y_true - y_pred)**2`."""

    def result(self, total: float, weight: float) -> float:
        """The root of the quotient."""
        return math.sqrt(super().result(total, weight))


@dataclass(frozen=True)
class MeanAbsoluteError(Metric):
    """The mean of `|y_true - y_pred|`."""

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight of the loss."""
        return mean_absolute_error(y_true, y_pred, sample_weight)


@dataclass(frozen=True)
class Mean(Metric):
    """A loss, or any function of the same form, as a metric.

    Attributes:
        function: from labels, predictions and weights to a sum and a weight.
    """

    function: Callable[..., Any]

    @property
    def name(self) -> str:
        """The function's name."""
        own = getattr(self.function, "name", None) or getattr(self.function, "__name__", None)
        return own if isinstance(own, str) else type(self.function).__name__

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """What the function returns."""
        made: tuple[V, V] = self.function(y_true, y_pred, sample_weight)
        return made

    def config(self) -> dict[str, Any]:
        """That of the loss; a plain function has only its name."""
        made: dict[str, Any] = self.function.config() if hasattr(self.function, "config") else {"name": self.name}
        return made
