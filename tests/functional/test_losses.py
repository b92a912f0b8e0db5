"""Losses: values against NumPy in float64, sound gradients, weights, and the messages for wrong pairs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trine.errors import ArgumentError, DTypeError, IndexRangeError, NameLookupError, ShapeError, TrineError
from trine.functional import losses as L
from trine.tensor.creation import asarray
from trine.tensor.transforms import grad

rng = np.random.default_rng(7)
LOGITS = rng.normal(size=(5, 4)) * 3
CLASSES = np.array([0, 3, 1, 1, 2])
ONE_HOT = np.eye(4)[CLASSES]
CHANCES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
LABELS = rng.integers(0, 2, (5, 4)).astype("float64")
BINARY = 1 / (1 + np.exp(-LOGITS))
TRUE = rng.normal(size=(5, 4))


def _binary(y: Any, p: Any) -> Any:
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(-1)


def _huber(error: Any, delta: float) -> Any:
    size = np.abs(error)
    return np.where(size <= delta, 0.5 * error**2, delta * size - 0.5 * delta**2).mean(-1)


Row = tuple[Callable[..., Any], Any, Any, dict[str, Any], Any]
ROWS: dict[str, Row] = {
    "mse": (L.mse, TRUE, LOGITS, {}, ((TRUE - LOGITS) ** 2).mean(-1)),
    "mae": (L.mae, TRUE, LOGITS, {}, np.abs(TRUE - LOGITS).mean(-1)),
    "huber": (L.huber, TRUE, LOGITS, {}, _huber(TRUE - LOGITS, 1.0)),
    "huber 2.5": (L.huber, TRUE, LOGITS, {"delta": 2.5}, _huber(TRUE - LOGITS, 2.5)),
    "binary": (L.binary_crossentropy, LABELS, BINARY, {}, _binary(LABELS, BINARY)),
    "binary logits": (L.binary_crossentropy, LABELS, LOGITS, {"from_logits": True}, _binary(LABELS, BINARY)),
    "binary smooth": (L.binary_crossentropy, LABELS, LOGITS, {"from_logits": True, "label_smoothing": 0.2},
                      _binary(LABELS * 0.8 + 0.1, BINARY)),
    "categorical": (L.categorical_crossentropy, ONE_HOT, CHANCES, {}, -(ONE_HOT * np.log(CHANCES)).sum(-1)),
    "categorical unnormalised": (L.categorical_crossentropy, ONE_HOT, CHANCES / 2, {},
                                 -(ONE_HOT * np.log(CHANCES)).sum(-1)),
    "categorical logits": (L.categorical_crossentropy, ONE_HOT, LOGITS, {"from_logits": True},
                           -(ONE_HOT * np.log(CHANCES)).sum(-1)),
    "categorical smooth": (L.categorical_crossentropy, ONE_HOT, LOGITS, {"from_logits": True, "label_smoothing": 0.1},
                           -((ONE_HOT * 0.9 + 0.025) * np.log(CHANCES)).sum(-1)),
    "sparse": (L.sparse_categorical_crossentropy, CLASSES, CHANCES, {}, -np.log(CHANCES[range(5), CLASSES])),
    "sparse logits": (L.sparse_categorical_crossentropy, CLASSES, LOGITS, {"from_logits": True},
                      -np.log(CHANCES[range(5), CLASSES])),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("weights", [False, True])
def test_sum_and_weight_agree_with_numpy(name: str, weights: bool) -> None:
    loss, y, p, options, expected = ROWS[name]
    w = np.array([1.0, 0.0, 2.0, 0.5, 3.0])
    total, weight = loss(asarray(y), asarray(p), asarray(w) if weights else None, **options)
    np.testing.assert_allclose(total.item(), (expected * w).sum() if weights else expected.sum(), rtol=1e-12)
    assert weight.item() == (w.sum() if weights else 5) and total.shape == weight.shape == ()
    np.testing.assert_allclose(L.mean((total, weight)).item(), np.average(expected, weights=w if weights else None))


@pytest.mark.parametrize("name", ROWS)
def test_gradients_agree_with_central_differences_and_can_be_differentiated_again(name: str) -> None:
    loss, y, p, options, _ = ROWS[name]

    def f(x: Any) -> Any:
        return loss(asarray(y), x, **options)[0]

    direction, h = rng.normal(size=p.shape), 1e-6
    slope = (f(asarray(p + h * direction)).item() - f(asarray(p - h * direction)).item()) / (2 * h)
    np.testing.assert_allclose((grad(f)(asarray(p)).numpy() * direction).sum(), slope, rtol=1e-6, atol=1e-8)

    def along(x: Any) -> Any:
        return (grad(f)(x) * asarray(direction)).sum() + (x * 0.0).sum()

    bend = (along(asarray(p + h * direction)).item() - along(asarray(p - h * direction)).item()) / (2 * h)
    np.testing.assert_allclose((grad(along)(asarray(p)).numpy() * direction).sum(), bend, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_the_gradient_from_logits_is_softmax_minus_one_hot_for_any_size(size: float) -> None:
    x = np.array([[size, -size, 0], [0, size, size], [-size, 0, 1]], "float32")
    y = np.array([1, 0, 2])
    wide = x.astype("float64") - x.max(-1, keepdims=True)
    softmax = np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)
    expected = softmax - np.eye(3)[y]
    sparse = grad(lambda x: L.sparse_categorical_crossentropy(asarray(y), x, from_logits=True)[0])
    dense = grad(lambda x: L.categorical_crossentropy(asarray(np.eye(3)[y]), x, from_logits=True)[0])
    np.testing.assert_allclose(sparse(asarray(x)).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(dense(asarray(x)).numpy(), expected, atol=1e-6)


def test_binary_crossentropy_from_logits_keeps_tiny_losses_and_huge_ones() -> None:
    x = asarray(np.array([40.0, -40.0, 1e30, -1e30, 1e30], "float32"), requires_grad=True)
    total, _ = L.binary_crossentropy(asarray([1, 0, 1, 0, 1]), x, from_logits=True)
    np.testing.assert_allclose(total.item(), 2 * math.exp(-40), rtol=1e-6)
    total.backward()
    assert x.grad is not None and np.isfinite(x.grad.numpy()).all()
    wrong = asarray(np.array([1e30, -1e30], "float32"))
    slope = grad(lambda x: L.binary_crossentropy(asarray([0, 1]), x, from_logits=True)[0])
    assert slope(wrong).tolist() == [1, -1]


def test_certain_chances_give_a_large_finite_loss() -> None:
    p = asarray(np.array([[1.0, 0.0], [0.0, 1.0]], "float32"))
    total, _ = L.sparse_categorical_crossentropy(asarray([1, 1]), p)
    assert total.item() == pytest.approx(-math.log(1e-7), rel=1e-5)
    assert L.binary_crossentropy(asarray([[0.0, 1.0]]), p[:1])[0].item() == pytest.approx(-math.log(1e-7), rel=2e-2)


def test_half_types_are_summed_in_float32_and_integers_count_as_float32() -> None:
    p = asarray(np.full((3000, 1), 2.0, "float16"))
    total, weight = L.mse(asarray(np.zeros((3000, 1), "float16")), p)
    assert (total.dtype.name, total.item(), weight.item()) == ("float32", 12000.0, 3000.0)
    assert L.mae(asarray([1, 2]), asarray([3, 3]))[0].item() == 3.0
    assert L.mse(asarray(np.zeros(2)), asarray(np.ones(2, "float32")))[0].dtype.name == "float32"


def test_batches_add_up_to_the_whole_and_weights_cover_later_axes() -> None:
    y, p, w = CLASSES.reshape(5, 1).repeat(3, 1), rng.normal(size=(5, 3, 4)), np.arange(5.0)
    whole = L.sparse_categorical_crossentropy(asarray(y), asarray(p), asarray(w), from_logits=True)
    parts = [
        L.sparse_categorical_crossentropy(asarray(y[s]), asarray(p[s]), asarray(w[s]), from_logits=True)
        for s in (slice(0, 2), slice(2, 5))
    ]
    assert whole[1].item() == 3 * w.sum() == parts[0][1].item() + parts[1][1].item()
    assert whole[0].item() == pytest.approx(parts[0][0].item() + parts[1][0].item(), rel=1e-13)


def test_a_label_can_be_left_out() -> None:
    y, p, w = asarray([0, -1, 2]), asarray(LOGITS[:3]), asarray([1.0, 5.0, 2.0])
    kept = L.sparse_categorical_crossentropy(asarray([0, 2]), asarray(LOGITS[[0, 2]]), from_logits=True)
    total, weight = L.sparse_categorical_crossentropy(y, p, from_logits=True, ignore_class=-1)
    assert (total.item(), weight.item()) == (pytest.approx(kept[0].item()), 2)
    _, weight = L.sparse_categorical_crossentropy(y, p, w, from_logits=True, ignore_class=-1)
    assert weight.item() == 3


def test_nothing_has_weight_and_the_mean_and_its_gradient_are_zero() -> None:
    x = asarray([1.0, 2.0], requires_grad=True)
    loss = L.mean(L.mse(asarray([0.0, 0.0]), x, asarray([0.0, 0.0])))
    assert loss.item() == 0
    loss.backward()
    assert x.grad is not None and x.grad.tolist() == [0, 0]


def evaluated(y: Any, p: Any, loss: Callable[..., Any], **options: Any) -> Any:
    return loss(asarray(np.asarray(y)), asarray(np.asarray(p, "float32")), **options)[0].item()


EYE = np.eye(3, dtype="float32")
MESSAGES: list[tuple[type[TrineError], Callable[[], Any], str]] = [
    (IndexRangeError, lambda: evaluated([0, 1, 3], EYE, L.sparse_categorical_crossentropy, from_logits=True),
     """sparse_categorical_crossentropy: label 3 at position [2] is none of the 3 classes: labels count from 0 to 2
  got: i64[3], values from 0 to 3
  try: a last layer of at least 4 units"""),
    (IndexRangeError, lambda: evaluated([1, 2, 3], EYE, L.sparse_categorical_crossentropy, from_logits=True),
     """sparse_categorical_crossentropy: label 3 at position [2] is none of the 3 classes: labels count from 0 to 2
  got: i64[3], values from 1 to 3
  try: y_true - 1: these labels count from 1"""),
    (IndexRangeError, lambda: evaluated([0, -1, 2], EYE, L.sparse_categorical_crossentropy, from_logits=True),
     """sparse_categorical_crossentropy: label -1 at position [1] is none of the 3 classes: labels count from 0 to 2
  got: i64[3], values from -1 to 2
  try: leave such examples out, or ignore_class= for a label that marks what does not count"""),
    (ArgumentError, lambda: evaluated([0, 1, 2], EYE * 5 - 1, L.sparse_categorical_crossentropy),
     """sparse_categorical_crossentropy: takes probabilities, from 0 to 1, but y_pred is 4 at position [0, 0]
  got: f32[3, 3]
  try: from_logits=True for raw scores, or softmax as the last activation"""),
    (ArgumentError, lambda: evaluated([[1.0], [0.0]], [[0.5], [-2.5]], L.binary_crossentropy),
     """binary_crossentropy: takes probabilities, from 0 to 1, but y_pred is -2.5 at position [1, 0]
  got: f32[2, 1]
  try: from_logits=True for raw scores, or sigmoid as the last activation"""),
    (ArgumentError, lambda: evaluated([[1.0], [-1.0]], [[0.5], [0.5]], L.binary_crossentropy),
     """binary_crossentropy: takes probabilities, from 0 to 1, but y_true is -1 at position [1, 0]
  got: f32[2, 1]
  try: labels are 0 and 1, or chances between them; -1 and 1 become (y_true + 1) / 2"""),
    (ShapeError, lambda: evaluated(EYE, EYE, L.sparse_categorical_crossentropy),
     """sparse_categorical_crossentropy: y_true holds class numbers, of the shape [3], not one-hot rows [3, 3]
  got: f32[3, 3] and f32[3, 3]
  try: categorical_crossentropy for one-hot labels, or y_true.argmax(axis=-1) as labels"""),
    (ShapeError, lambda: evaluated([[0], [1], [2]], EYE, L.sparse_categorical_crossentropy),
     """sparse_categorical_crossentropy: y_true has the shape of y_pred without its last axis, [3], not [3, 1]
  got: i64[3, 1] and f32[3, 3]
  try: y_true.squeeze(-1)"""),
    (DTypeError, lambda: evaluated([0.0, 1.0, 2.0], EYE, L.sparse_categorical_crossentropy),
     """sparse_categorical_crossentropy: y_true holds class numbers, which are integers, not float64
  got: f64[3] and f32[3, 3]
  try: y_true.astype(trine.int64)"""),
    (ShapeError, lambda: evaluated([0, 1, 2], EYE, L.categorical_crossentropy),
     """categorical_crossentropy: y_true is one-hot, of the shape [3, 3], not [3]
  got: i64[3] and f32[3, 3]
  try: sparse_categorical_crossentropy takes class numbers"""),
    (ShapeError, lambda: evaluated([[1.0], [0.0]], [[0.5], [0.5]], L.categorical_crossentropy),
     """categorical_crossentropy: y_pred has 1 class, and the chance of the only class is 1
  got: f64[2, 1] and f32[2, 1]
  try: binary_crossentropy for one unit, or a last layer with one unit per class"""),
    (ShapeError, lambda: evaluated([1.0, 0.0], [[0.5], [0.5]], L.mse),
     """mean_squared_error: y_true and y_pred have one shape, not [2] and [2, 1]
  got: f64[2] and f32[2, 1]
  try: y_true.reshape((-1, 1)) gives the labels the shape of the predictions"""),
    (ShapeError, lambda: evaluated([1, 0], [[0.5, 0.5], [0.5, 0.5]], L.binary_crossentropy),
     """binary_crossentropy: y_true and y_pred have one shape, not [2] and [2, 2]
  got: i64[2] and f32[2, 2]
  try: softmax and sparse_categorical_crossentropy for a unit per class, or a last layer of 1 unit"""),
    (ShapeError, lambda: L.mse(asarray([1.0, 2.0]), asarray([1.0, 2.0]), asarray([[1.0], [1.0]])),
     """mean_squared_error: sample_weight has the leading sizes of the per-example losses, [2], not [2, 1]
  got: f32[2, 1] and f32[2]
  try: one weight per example: sample_weight.reshape((-1,))"""),
    (DTypeError, lambda: L.mse([1.0], asarray([1.0])),  # type: ignore[type-var]  # the mistake under test
     """mean_squared_error, y_true: a list is not a tensor
  got: [1.0]
  try: trine.asarray(x)"""),
    (ArgumentError, lambda: L.huber(asarray([1.0]), asarray([1.0]), delta=0.0),
     """huber: delta is above 0
  got: delta=0.0"""),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "text"), MESSAGES)
def test_wrong_pairs_are_named(kind: type[TrineError], call: Callable[[], Any], text: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert re.sub(r"\n  at .*", "", str(caught.value)) == text
    assert "test_losses.py" in str(caught.value)


def test_get_finds_names_classes_configs_and_functions() -> None:
    assert L.get("mse") == L.MeanSquaredError() == L.get("MeanSquaredError")
    made = L.SparseCategoricalCrossentropy(from_logits=True)
    assert L.get(made.config()) == made and made.name == "sparse_categorical_crossentropy"
    assert L.get(made) is made and L.get(L.mae) is L.mae
    direct = L.sparse_categorical_crossentropy(asarray(CLASSES), asarray(LOGITS), from_logits=True)
    assert made(asarray(CLASSES), asarray(LOGITS))[0].item() == direct[0].item()
    with pytest.raises(NameLookupError) as caught:
        L.get("categorical_crossentropi")
    assert "try: 'categorical_crossentropy'" in str(caught.value)
    with pytest.raises(DTypeError, match="a name, a function or an object"):
        L.get(3)  # type: ignore[arg-type]  # the mistake under test
