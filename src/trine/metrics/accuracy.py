"""Accuracies: the share of examples that are classified right."""

from __future__ import annotations

from dataclasses import dataclass

from trine.functional.losses import predictions, same_shape, weighted
from trine.metrics.metric import Metric, classes_of
from trine.ops.base import V
from trine.ops.checks import check_labels
from trine.ops.elementwise import cast, equal, greater, isfinite, less, logical_and
from trine.ops.indexing import take_along_axis
from trine.ops.movement import expand_dims, squeeze
from trine.ops.reduction import argmax
from trine.ops.reduction import mean as mean_over
from trine.ops.reduction import sum as sum_over


@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """The share of labels 0 and 1 that agree with `y_pred > threshold`, of the same shape.

    Attributes:
        threshold: 0.5 for chances, 0 for logits.
    """

    threshold: float = 0.5

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight; an example with several labels counts with their mean."""
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        right = cast(equal(y_true, cast(greater(y_pred, self.threshold), y_true.dtype)), y_pred.dtype)
        return weighted(self.name, mean_over(right, axis=-1) if right.ndim > 1 else right, sample_weight)


@dataclass(frozen=True)
class CategoricalAccuracy(Metric):
    """The share of one-hot labels whose class has the largest prediction."""

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight."""
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        right = equal(argmax(y_true, axis=-1), argmax(y_pred, axis=-1))
        return weighted(self.name, cast(right, y_pred.dtype), sample_weight)


@dataclass(frozen=True)
class SparseCategoricalAccuracy(Metric):
    """The share of class numbers that have the largest prediction."""

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight."""
        classes_of(self.name, y_true, y_pred)
        y_pred = predictions(y_pred)
        return weighted(self.name, cast(equal(y_true, argmax(y_pred, axis=-1)), y_pred.dtype), sample_weight)


@dataclass(frozen=True)
class Accuracy(Metric):
    """Binary, categorical or sparse categorical accuracy, as the shapes of labels and predictions ask for.

    One prediction per example: binary. Labels of the shape of the predictions: categorical. One axis less: sparse.

    Attributes:
        binary: whether several columns are labels of their own rather than classes.
        threshold: of the binary form: 0.5 for chances, 0 for logits.
    """

    binary: bool = False
    threshold: float = 0.5

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight."""
        chosen: Metric = SparseCategoricalAccuracy()
        if self.binary or y_pred.ndim < 2 or y_pred.shape[-1] == 1:
            chosen = BinaryAccuracy(self.threshold)
        elif y_true.ndim == y_pred.ndim:
            chosen = CategoricalAccuracy()
        return chosen(y_true, y_pred, sample_weight)


@dataclass(frozen=True)
class SparseTopKCategoricalAccuracy(Metric):
    """The share of class numbers that are among the `k` largest predictions; at a tie all tied classes are.

    Attributes:
        k: how many predictions count.
    """

    k: int = 5

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight."""
        classes_of(self.name, y_true, y_pred)
        y_pred = predictions(y_pred)
        labels = check_labels(y_true, y_pred.shape[-1], where=self.name)
        return weighted(self.name, _among(labels, y_pred, self.k), sample_weight)


@dataclass(frozen=True)
class TopKCategoricalAccuracy(Metric):
    """The share of one-hot labels whose class is among the `k` largest predictions; at a tie all tied classes are.

    Attributes:
        k: how many predictions count.
    """

    k: int = 5

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight."""
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        return weighted(self.name, _among(argmax(y_true, axis=-1), y_pred, self.k), sample_weight)


def _among(labels: V, y_pred: V, k: int) -> V:
    """1 where fewer than `k` predictions are larger than that of the label, which is finite; else 0."""
    own = take_along_axis(y_pred, expand_dims(labels, axis=-1), axis=-1)
    larger = sum_over(cast(greater(y_pred, own), y_pred.dtype), axis=-1)
    return cast(logical_and(less(larger, float(k)), isfinite(squeeze(own, axis=-1))), y_pred.dtype)
