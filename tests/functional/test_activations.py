"""Activations: values against their formulas in float64, first and second derivatives, extreme arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trine.errors import ArgumentError, DTypeError, NameLookupError
from trine.functional import activations as a
from trine.tensor.creation import asarray
from trine.tensor.tensor import Tensor
from trine.tensor.transforms import grad

erf = np.vectorize(math.erf, otypes=[float])


def _sigmoid(x: Any) -> Any:
    return np.exp(-np.logaddexp(0, -x))


ORACLES: dict[str, Callable[[Any], Any]] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu approximate": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "linear": lambda x: x,
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
}
POINTS = np.array([-7.3, -3.7, -2.1, -1.1, -0.3, 0.2, 0.9, 1.7, 2.6, 4.4, 6.9])
LARGE = [-1e30, -1e6, -300.0, -90.0, -20.0, 20.0, 90.0, 300.0, 1e6, 1e30]


def function(name: str) -> Callable[[Tensor], Tensor]:
    return (lambda x: a.gelu(x, approximate=True)) if name == "gelu approximate" else a.get(name)


@pytest.mark.parametrize("name", ORACLES)
def test_values_agree_with_the_formula(name: str) -> None:
    x = np.concatenate([POINTS, [0.0, -40.0, 40.0]])
    np.testing.assert_allclose(function(name)(asarray(x)).numpy(), ORACLES[name](x), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", ORACLES)
def test_first_and_second_derivatives_agree_with_central_differences(name: str) -> None:
    first = grad(lambda x: function(name)(x).sum())
    second = grad(lambda x: first(x).sum()) if name not in ("linear", "relu", "relu6", "leaky_relu") else None
    h = 1e-6
    difference = (ORACLES[name](POINTS + h) - ORACLES[name](POINTS - h)) / (2 * h)
    np.testing.assert_allclose(first(asarray(POINTS)).numpy(), difference, rtol=1e-6, atol=1e-8)
    if second is not None:
        slopes = [first(asarray(POINTS + d)).numpy() for d in (h, -h)]
        bend = (slopes[0] - slopes[1]) / (2 * h)
        np.testing.assert_allclose(second(asarray(POINTS)).numpy(), bend, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ORACLES)
def test_values_and_two_derivatives_stay_finite_for_large_arguments(name: str, dtype: str) -> None:
    x = asarray(np.array(LARGE, dtype), requires_grad=True)
    first = grad(lambda x: function(name)(x).sum())
    values, slopes = function(name)(x).numpy(), first(x).numpy()
    assert np.isfinite(values).all() and np.isfinite(slopes).all()
    if name != "linear":
        curve = grad(lambda x: first(x).sum() + (x * 0.0).sum())(asarray(np.array(LARGE, dtype)))
        assert np.isfinite(curve.numpy()).all()
    assert slopes[0] in (0.0, 1.0, np.dtype(dtype).type(0.2))
    assert values.dtype == np.dtype(dtype)


@pytest.mark.parametrize("name", ORACLES)
def test_nan_goes_through(name: str) -> None:
    assert np.isnan(function(name)(asarray(np.array([np.nan], "float32"))).numpy()).all()


@pytest.mark.parametrize(
    ("name", "slope", "curvature"),
    [("relu", 0, 0), ("sigmoid", 0.25, 0), ("softplus", 0.5, 0.25), ("silu", 0.5, 0.5), ("elu", 1, 1),
     ("softsign", 1, 0), ("gelu", 0.5, math.sqrt(2 / math.pi)), ("log_sigmoid", 0.5, -0.25), ("mish", 0.6, 0.64)],
)  # fmt: skip
def test_derivatives_at_zero_are_right(name: str, slope: float, curvature: float) -> None:
    zero = asarray(np.zeros(1))
    first = grad(lambda x: a.get(name)(x).sum())
    second = grad(lambda x: (first(x) * 1.0).sum() + (x * 0.0).sum())
    np.testing.assert_allclose(first(zero).numpy(), slope, atol=1e-15)
    np.testing.assert_allclose(second(zero).numpy(), curvature, atol=1e-15)


def test_sigmoid_is_exact_to_the_rounding_on_both_sides() -> None:
    x = np.linspace(-80, 80, 401, dtype=np.float32)
    np.testing.assert_allclose(a.sigmoid(asarray(x)).numpy(), _sigmoid(x.astype("float64")), rtol=3e-7)


def test_integers_count_as_float32_and_relu_keeps_them() -> None:
    x = asarray([-1, 0, 2])
    assert a.sigmoid(x).dtype.name == a.softmax(x).dtype.name == a.gelu(x).dtype.name == "float32"
    assert a.relu(x).dtype.name == "int64" and a.relu(x).tolist() == [0, 0, 2]


def test_relu_has_the_options_of_keras() -> None:
    x = asarray([-2.0, 0.5, 1.0, 3.0, 9.0])
    assert a.relu(x, threshold=1.0).tolist() == [0, 0, 0, 3, 9]
    assert a.relu(x, negative_slope=0.5, max_value=4.0).tolist() == [-1, 0.5, 1, 3, 4]
    assert a.relu(x, negative_slope=0.5, threshold=1.0).tolist() == [-1.5, -0.25, 0, 3, 9]
    with pytest.raises(ArgumentError, match="negative_slope and max_value are at least 0"):
        a.relu(x, max_value=-1.0)


@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2)])
def test_the_softmax_family_agrees_with_float64(axis: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)) * 50
    total = np.exp(x).sum(axis, keepdims=True)
    np.testing.assert_allclose(a.softmax(asarray(x), axis=axis).numpy(), np.exp(x) / total, rtol=1e-12)
    np.testing.assert_allclose(a.log_softmax(asarray(x), axis=axis).numpy(), x - np.log(total), rtol=1e-12, atol=1e-13)
    expected = np.log(total).squeeze(axis)
    np.testing.assert_allclose(a.logsumexp(asarray(x), axis=axis).numpy(), expected, rtol=1e-12)
    assert a.logsumexp(asarray(x), axis=axis, keepdims=True).shape == total.shape


def test_softmax_of_huge_logits_sums_to_one_and_has_finite_derivatives() -> None:
    x = asarray(np.array([[1e30, -1e30, 0.0], [1e30, 1e30, 5.0]], "float32"))
    assert a.softmax(x).tolist() == [[1, 0, 0], [0.5, 0.5, 0]]
    slope = grad(lambda x: a.log_softmax(x)[:, 0].sum())
    np.testing.assert_array_equal(slope(x).numpy(), [[0, 0, 0], [0.5, -0.5, 0]])
    assert np.isfinite(grad(lambda x: (slope(x) * slope(x)).sum())(x).numpy()).all()


def test_logsumexp_of_infinities() -> None:
    inf = math.inf
    x = asarray(np.array([[-inf, -inf], [inf, 0.0], [-inf, 1.0]], "float32"))
    assert a.logsumexp(x, axis=1).tolist() == [-inf, inf, 1.0]
    assert a.logsumexp(asarray(np.zeros((2, 2)))).item() == pytest.approx(math.log(4))


def test_get_finds_names_functions_and_nothing() -> None:
    assert a.get("swish") is a.silu and a.get(None) is a.linear and a.get(a.mish) is a.mish
    with pytest.raises(NameLookupError) as caught:
        a.get("rellu")
    assert "no activation is called 'rellu'" in str(caught.value) and "try: 'relu'" in str(caught.value)
    with pytest.raises(DTypeError, match="a name or a function"):
        a.get(3)  # type: ignore[arg-type]  # the mistake under test
