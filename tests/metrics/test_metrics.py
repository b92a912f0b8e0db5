"""Metrics against scikit-learn and NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from trine import metrics
from trine.errors import DTypeError, IndexRangeError, NameLookupError, ShapeError
from trine.functional import losses
from trine.tensor.creation import asarray

rng = np.random.default_rng(11)
SCORES = rng.normal(size=(40, 6))
CLASSES = np.where(rng.random(40) < 0.5, SCORES.argmax(-1), rng.integers(0, 6, 40))
ONE_HOT = np.eye(6)[CLASSES]
CHANCES = rng.random((40, 1))
BITS = (rng.random((40, 1)) < CHANCES).astype("int64")
WEIGHTS = rng.random(40)


def value(name: Any, y: Any, p: Any, w: Any = None, **options: Any) -> float:
    metric = metrics.get(name, **options)
    total, weight = metric(asarray(y), asarray(p), None if w is None else asarray(w))
    assert total.shape == weight.shape == ()
    return metric.result(total.item(), weight.item())


@pytest.mark.parametrize("w", [None, WEIGHTS])
def test_accuracies_and_counts_agree_with_scikit_learn(w: Any) -> None:
    best, hit = SCORES.argmax(-1), CHANCES > 0.5
    assert value("sparse_categorical_accuracy", CLASSES, SCORES, w) == pytest.approx(
        sk.accuracy_score(CLASSES, best, sample_weight=w))  # fmt: skip
    assert value("categorical_accuracy", ONE_HOT, SCORES, w) == pytest.approx(
        sk.accuracy_score(CLASSES, best, sample_weight=w))  # fmt: skip
    assert value("binary_accuracy", BITS, CHANCES, w) == pytest.approx(sk.accuracy_score(BITS, hit, sample_weight=w))
    for name, oracle in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1_score", sk.f1_score)):
        assert value(name, BITS, CHANCES, w) == pytest.approx(oracle(BITS[:, 0], hit[:, 0], sample_weight=w))
    for k in (1, 3):
        expected = sk.top_k_accuracy_score(CLASSES, SCORES, k=k, sample_weight=w, labels=range(6))
        sparse, dense = metrics.SparseTopKCategoricalAccuracy(k), metrics.TopKCategoricalAccuracy(k)
        assert value(sparse, CLASSES, SCORES, w) == pytest.approx(expected)
        assert value(dense, ONE_HOT, SCORES, w) == pytest.approx(expected)
    mse = sk.mean_squared_error(BITS, CHANCES, sample_weight=w)
    assert value("mse", BITS, CHANCES, w) == pytest.approx(mse)
    assert value("rmse", BITS, CHANCES, w) == pytest.approx(math.sqrt(mse))
    assert value("mae", BITS, CHANCES, w) == pytest.approx(sk.mean_absolute_error(BITS, CHANCES, sample_weight=w))


def test_batches_of_different_sizes_add_up() -> None:
    for name, y, p in (("accuracy", CLASSES, SCORES), ("f1_score", BITS, CHANCES), ("rmse", BITS, CHANCES)):
        metric = metrics.get(name)
        parts = [metric(asarray(y[s]), asarray(p[s])) for s in (slice(0, 7), slice(7, 40))]
        total, weight = (sum(part[i].item() for part in parts) for i in (0, 1))
        assert metric.result(total, weight) == pytest.approx(value(name, y, p))


def test_accuracy_picks_its_form_from_shapes_and_the_loss() -> None:
    right = float((SCORES.argmax(-1) == CLASSES).mean())
    assert value("accuracy", CLASSES, SCORES) == value("acc", ONE_HOT, SCORES) == pytest.approx(right)
    assert value("accuracy", BITS, CHANCES) == value("binary_accuracy", BITS, CHANCES)
    assert value("accuracy", BITS[:, 0], CHANCES[:, 0]) == value("binary_accuracy", BITS, CHANCES)
    labels = (rng.random((40, 6)) < 0.5).astype("int64")
    logits = losses.BinaryCrossentropy(from_logits=True)
    assert value("accuracy", labels, SCORES, loss=logits) == pytest.approx(((SCORES > 0) == labels).mean())
    assert value("accuracy", labels, SCORES, loss=losses.binary_crossentropy) == pytest.approx(
        ((SCORES > 0.5) == labels).mean())  # fmt: skip
    assert metrics.get("precision", logits) == metrics.Precision(0.0)
    assert metrics.get("accuracy", losses.SparseCategoricalCrossentropy()) == metrics.Accuracy()


def test_ties_count_for_all_and_numbers_that_are_not_finite_for_none() -> None:
    p = np.array([[1.0, 1.0, 0.0], [np.nan, 1.0, 0.0], [np.inf, 1.0, 0.0]])
    total, _ = metrics.SparseTopKCategoricalAccuracy(1)(asarray([1, 0, 0]), asarray(p))
    assert total.item() == 1.0


def test_nothing_counted_gives_zero() -> None:
    assert value("precision", np.zeros((3, 1)), np.zeros((3, 1))) == 0.0
    assert math.isnan(metrics.Accuracy().result(math.nan, 0.0))


def test_losses_and_functions_are_metrics() -> None:
    huber = losses.mean(losses.huber(asarray(BITS), asarray(CHANCES))).item()
    assert value("huber", BITS, CHANCES) == pytest.approx(huber)
    made = metrics.get(losses.SparseCategoricalCrossentropy(from_logits=True))
    assert made.name == "sparse_categorical_crossentropy" and metrics.get(made.config()) == made
    assert metrics.get(losses.mae).name == "mean_absolute_error"


def test_names_configs_and_mistakes() -> None:
    top = metrics.SparseTopKCategoricalAccuracy(3)
    assert metrics.get(top.config()) == top and metrics.get("SparseTopKCategoricalAccuracy").config()["k"] == 5
    assert {metrics.get(name).name in metrics.METRICS for name in metrics.METRICS} == {True}
    with pytest.raises(NameLookupError) as caught:
        metrics.get("acuracy")
    assert "try: 'accuracy'" in str(caught.value)
    with pytest.raises(DTypeError, match="a name or a function"):
        metrics.get(3)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ShapeError) as wrong:
        value("sparse_categorical_accuracy", ONE_HOT, SCORES)
    assert "try: y_true.argmax(axis=-1)" in str(wrong.value)
    with pytest.raises(ShapeError, match="one shape"):
        value("mse", BITS[:, 0], CHANCES)
    with pytest.raises(IndexRangeError, match="label 6 at position"):
        value(metrics.SparseTopKCategoricalAccuracy(2), np.full(40, 6), SCORES)
