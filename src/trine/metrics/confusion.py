"""Precision, recall and their mean, from counts of right and wrong positives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trine.functional.losses import same_shape, weighted
from trine.metrics.metric import Metric
from trine.ops.base import V
from trine.ops.elementwise import add, cast, greater, multiply


@dataclass(frozen=True)
class _Counts(Metric):
    """Predictions above `threshold` are positives; labels are 0 and 1, of the shape of the predictions.

    Attributes:
        threshold: 0.5 for chances, 0 for logits.
    """

    threshold: float = 0.5

    def counts(self, y_true: V, y_pred: V, sample_weight: V | None) -> Any:
        """The weights of right positives, of predicted positives and of actual positives."""
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        actual = cast(greater(y_true, 0.5), y_pred.dtype)
        predicted = cast(greater(y_pred, self.threshold), y_pred.dtype)
        parts = (multiply(actual, predicted), predicted, actual)
        return tuple(weighted(self.name, part, sample_weight)[0] for part in parts)


@dataclass(frozen=True)
class Precision(_Counts):
    """The share of predicted positives that are right; 0 without any."""

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Right positives and predicted ones."""
        right, predicted, _ = self.counts(y_true, y_pred, sample_weight)
        return right, predicted


@dataclass(frozen=True)
class Recall(_Counts):
    """The share of actual positives that are predicted; 0 without any."""

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Right positives and actual ones."""
        right, _, actual = self.counts(y_true, y_pred, sample_weight)
        return right, actual


@dataclass(frozen=True)
class F1Score(_Counts):
    """The harmonic mean of precision and recall; 0 without positives."""

    @property
    def name(self) -> str:
        """`f1_score`."""
        return "f1_score"

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Twice the right positives, and predicted and actual ones together."""
        right, predicted, actual = self.counts(y_true, y_pred, sample_weight)
        return multiply(right, 2.0), add(predicted, actual)
