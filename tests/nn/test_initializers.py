"""Initialisers: Keras's definitions, checked on the numbers themselves; and the parameters made with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from trine import dtypes, nn
from trine.errors import ArgumentError, DTypeError, NameLookupError, ShapeError
from trine.nn import initializers
from trine.nn.initializers import Constant, Orthogonal, RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling
from trine.shapes import Dim
from trine.tensor.creation import zeros
from trine.tensor.random import Generator, generator, manual_seed

LARGE = (300, 500)


def drawn(initializer: Any, shape: tuple[int, ...] = LARGE, seed: int = 1) -> np.ndarray[Any, Any]:
    found = initializers.get(initializer)(shape, dtypes.float32, Generator(seed))
    return np.asarray(found)


@pytest.mark.parametrize(("shape", "fans"), [
    ((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((3, 3, 16, 32), (144, 288)), ((5, 4, 8), (20, 40)),
])  # fmt: skip
def test_fans_of_vectors_matrices_and_convolution_kernels(shape: tuple[int, ...], fans: tuple[int, int]) -> None:
    assert initializers.fans(shape) == fans


@pytest.mark.parametrize(("name", "limit"), [
    ("glorot_uniform", math.sqrt(6 / (300 + 500))), ("he_uniform", math.sqrt(6 / 300)),
    ("lecun_uniform", math.sqrt(3 / 300)), ("random_uniform", 0.05), ("uniform", 0.05),
])  # fmt: skip
def test_uniform_initialisers_fill_their_interval(name: str, limit: float) -> None:
    values = drawn(name)
    assert np.abs(values).max() == pytest.approx(limit, rel=1e-3)
    assert np.abs(values).max() <= np.float32(limit)
    assert values.mean() == pytest.approx(0, abs=limit / 100)
    assert values.std() == pytest.approx(limit / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize(("name", "std"), [
    ("glorot_normal", math.sqrt(2 / (300 + 500))), ("he_normal", math.sqrt(2 / 300)),
    ("lecun_normal", math.sqrt(1 / 300)), ("variance_scaling", math.sqrt(1 / 300)),
])  # fmt: skip
def test_truncated_initialisers_have_the_deviation_of_their_formula_after_the_cut(name: str, std: float) -> None:
    values = drawn(name)
    assert values.std() == pytest.approx(std, rel=0.01)
    assert np.abs(values).max() == pytest.approx(2 * std / 0.87962566103423978, rel=0.01)
    assert np.abs(values).max() <= 2.0001 * std / 0.87962566103423978


def test_plain_normal_initialisers_take_their_arguments_as_they_are() -> None:
    values = drawn(RandomNormal(3.0, 0.5))
    assert values.mean() == pytest.approx(3.0, abs=0.01) and values.std() == pytest.approx(0.5, rel=0.01)
    assert np.abs(values - 3.0).max() > 1.5
    cut = drawn(TruncatedNormal(0.0, 0.5))
    assert np.abs(cut).max() <= 1.0 and cut.std() == pytest.approx(0.5 * 0.8796, rel=0.01)
    plain = drawn(VarianceScaling(1.0, "fan_out", "untruncated_normal"))
    assert plain.std() == pytest.approx(math.sqrt(1 / 500), rel=0.01)
    assert drawn(RandomUniform(2.0, 3.0)).min() >= 2.0


def test_a_convolution_kernel_counts_its_window() -> None:
    limit = math.sqrt(6 / (9 * 16 + 9 * 32))
    assert np.abs(drawn("glorot_uniform", (3, 3, 16, 32))).max() == pytest.approx(limit, rel=1e-2)


@pytest.mark.parametrize("shape", [(6, 6), (8, 3), (3, 8), (3, 3, 2, 5), (2, 2, 40)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    values = drawn(Orthogonal(2.0), shape)
    assert values.shape == shape
    matrix = values.reshape(-1, shape[-1])
    product = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 4.0 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_matrices_are_turned_both_ways() -> None:
    """With the sign of the factorisation left in, the trace would be negative on average."""
    traces = [np.trace(drawn("orthogonal", (3, 3), seed)) for seed in range(200)]
    assert abs(np.mean(traces)) < 0.3


def test_constants_and_the_identity() -> None:
    assert (drawn("zeros", (2, 3)) == 0).all() and (drawn("ones", (2, 3)) == 1).all()
    assert (drawn(Constant(2.5), (4,)) == 2.5).all()
    assert (drawn("identity", (2, 3)) == np.eye(2, 3)).all()
    assert (drawn(initializers.Identity(3.0), (2, 2)) == 3 * np.eye(2)).all()


def test_names_in_both_spellings() -> None:
    assert initializers.get("HeNormal") is initializers.get("he_normal")
    assert initializers.get("Zeros") is initializers.get("zeros")
    assert [initializers.snake_case(n) for n in ("Conv2D", "SimpleRNN", "GRU", "MultiHeadAttention", "MaxPool2D")] == [
        "conv2d", "simple_rnn", "gru", "multi_head_attention", "max_pool2d",
    ]  # fmt: skip


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(NameLookupError) as caught:
        nn.parameter((2,), "glorot_unifrom")
    lines = str(caught.value).split("\n")
    assert lines[0] == "initializer: no initialiser is called 'glorot_unifrom'"
    assert lines[1].endswith('nn.parameter((2,), "glorot_unifrom")')
    assert lines[2:] == ["  got: 'glorot_unifrom'", "  try: 'glorot_uniform'"]
    with pytest.raises(NameLookupError, match=r"try: one of constant, glorot_normal, .*, zeros$"):
        initializers.get("qqq")


def test_wrong_arguments_of_initialisers() -> None:
    with pytest.raises(DTypeError, match=r"^initializer: an initialiser is a name or a callable of"):
        initializers.get(3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ArgumentError, match=r"^VarianceScaling: mode is one of fan_in, fan_out, fan_avg\n"):
        VarianceScaling(mode="fan")
    with pytest.raises(ArgumentError, match=r"^VarianceScaling: scale is above 0\n"):
        VarianceScaling(scale=0.0)
    with pytest.raises(ShapeError, match=r"^Orthogonal: makes tensors of at least 2 axes, not 1\n"):
        drawn("orthogonal", (3,))
    with pytest.raises(ShapeError, match=r"^Identity: makes matrices, 2 axes, not 3\n"):
        drawn("identity", (3, 3, 3))


# -- Parameters --------------------------------------------------------------------------------------------------------


def test_a_parameter_draws_once_from_the_stream_of_initialisation() -> None:
    manual_seed(3)
    one, two = nn.parameter((2, 3)), nn.parameter((50, 60))
    assert generator("initialisation").state.tolist()[1] == 2
    assert generator("user").state.tolist()[1] == 0
    manual_seed(3)
    assert (nn.parameter((2, 3)).numpy() == one.numpy()).all()
    assert (nn.parameter((50, 60)).numpy() == two.numpy()).all()


def test_the_size_of_one_parameter_does_not_change_the_next() -> None:
    manual_seed(3)
    nn.parameter((2, 3))
    small = nn.parameter((4, 4)).numpy()
    manual_seed(3)
    nn.parameter((200, 300))
    assert (nn.parameter((4, 4)).numpy() == small).all()


def test_a_parameter_is_a_leaf_that_wants_a_gradient_and_state_is_not() -> None:
    p, s = nn.parameter(3, "zeros"), nn.parameter([3], "ones", trainable=False, dtype="float64")
    assert p.is_leaf and p.requires_grad and p.shape == (3,) and p.dtype is dtypes.float32
    assert not s.requires_grad and s.dtype is dtypes.float64
    with nn.dtype_policy("bfloat16"):
        assert nn.parameter(3).dtype is dtypes.bfloat16


def test_a_callable_may_return_an_array() -> None:
    p = nn.parameter((2, 2), lambda shape, dtype, generator: np.arange(4.0).reshape(shape))
    assert p.tolist() == [[0, 1], [2, 3]] and p.dtype is dtypes.float32


def test_a_callable_that_returns_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"^parameter: the initialiser returns shape \[3\], not \[2\]\n"):
        nn.parameter(2, lambda shape, dtype, generator: zeros(3))


def test_a_symbol_is_no_size_of_a_parameter() -> None:
    class Scale(nn.Module):
        def build(self, x: Any) -> None:
            self.scale = nn.parameter(x.shape[-1:])

        def forward(self, x: Any) -> Any:
            return x * self.scale

    with pytest.raises(ShapeError) as caught:
        Scale().build_for(("batch", "n"))
    lines = str(caught.value).split("\n")
    assert lines[0] == "Scale: axis 0 must be a number to make a parameter of the layer, it is the symbol n"
    assert lines[1].endswith("self.scale = nn.parameter(x.shape[-1:])")
    assert lines[2:] == ["  got: shape [n]", "  try: give that axis of the input as a number"]
    with pytest.raises(ShapeError, match=r"^parameter: axis 1 must be a number"):
        nn.parameter((2, Dim.symbol("n")))
