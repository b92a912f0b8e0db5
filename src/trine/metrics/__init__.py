"""Metrics: pure functions of labels and predictions that return two sums, with Keras's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from trine.errors import DTypeError, NameLookupError, Site, nearest
from trine.functional import losses
from trine.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)
from trine.metrics.confusion import F1Score, Precision, Recall
from trine.metrics.metric import Metric
from trine.metrics.regression import Mean, MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError
from trine.ops.base import user_site

__all__ = [
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "F1Score",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "get",
]

METRICS: Final[dict[str, type[Metric]]] = {
    "acc": Accuracy,
    "accuracy": Accuracy,
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "f1_score": F1Score,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "mean_squared_error": MeanSquaredError,
    "mse": MeanSquaredError,
    "precision": Precision,
    "recall": Recall,
    "rmse": RootMeanSquaredError,
    "root_mean_squared_error": RootMeanSquaredError,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "sparse_top_k_categorical_accuracy": SparseTopKCategoricalAccuracy,
    "top_k_categorical_accuracy": TopKCategoricalAccuracy,
}


def get(metric: str | dict[str, Any] | Callable[..., Any], loss: Callable[..., Any] | None = None) -> Metric:
    """The metric of a name (`"accuracy"`, `"Accuracy"`, the name of a loss), of a `config()`, or around a function.

    Args:
        metric: what to look up; a metric is returned as it is.
        loss: what is trained with: with binary cross-entropy, "accuracy" counts every column as a label of its own, and
            with logits the threshold is 0.

    Raises:
        NameLookupError: no metric has the name.
        DTypeError: neither a name, a config nor a function.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        return _with_loss(_named(metric, {}), loss)
    if isinstance(metric, dict) and isinstance(metric.get("name"), str):
        return _named(metric["name"], {key: value for key, value in metric.items() if key != "name"})
    if callable(metric):
        return Mean(metric)
    raise DTypeError("metric", "a metric is a name or a function", got=f"{metric!r:.60}",
                     fix='metrics=["accuracy"]').locate(Site(*user_site()))  # fmt: skip


def _with_loss(metric: Metric, loss: Any) -> Metric:
    binary = isinstance(loss, losses.BinaryCrossentropy) or loss is losses.binary_crossentropy
    if not binary:
        return metric
    threshold = 0.0 if getattr(loss, "from_logits", False) else 0.5
    if isinstance(metric, Accuracy):
        return Accuracy(True, threshold)
    if isinstance(metric, BinaryAccuracy | Precision | Recall | F1Score):
        return type(metric)(threshold)
    return metric


def _named(name: str, options: dict[str, Any]) -> Metric:
    plain = name.replace("_", "").lower()  # "MeanSquaredError" and "mean_squared_error" alike
    for known, found in METRICS.items():
        if known.replace("_", "") == plain:
            return found(**options)
    for known, loss in losses.LOSSES.items():
        if known.replace("_", "") == plain:
            return Mean(loss(**options))
    names = [*METRICS, *losses.LOSSES]
    raise NameLookupError("metric", f"no metric is called {name!r}", got=repr(name), fix=nearest(name, names)).locate(
        Site(*user_site()))  # fmt: skip
