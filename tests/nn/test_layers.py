"""Layers against formulas written out in NumPy, in float64; their gradients against central differences."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn
from trine.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from trine.functional.attention import attention
from trine.tensor.tensor import Tensor

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Parameters and computations in float64, so that differences show the formula and not the rounding."""
    with nn.dtype_policy("float64"):
        yield


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def scatter(layer: Any, seed: int = 5) -> dict[str, Array]:
    """Random numbers for all parameters of a built layer, so that zeros and ones hide nothing; returns them."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, value in layer.state_dict().items():
        low = 0.5 if name.endswith("variance") else -1.0
        state[name] = rng.uniform(low, 1.0, value.shape) if value.dtype.kind == "f" else value
    layer.load_state_dict(state)
    return state


def close(actual: Any, wanted: Any, tolerance: float = 1e-11) -> None:
    np.testing.assert_allclose(np.asarray(actual), wanted, rtol=tolerance, atol=tolerance)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# -- Dense -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4), (0, 4)])
def test_dense_is_a_product_and_a_sum(shape: tuple[int, ...]) -> None:
    layer, x = nn.Dense(3, activation="tanh"), draw(*shape)
    assert layer(x).shape == (*shape[:-1], 3)
    p = scatter(layer)
    close(layer(x), np.tanh(x @ p["kernel"] + p["bias"]))


def test_dense_has_kerass_names_and_initial_values() -> None:
    layer = nn.Dense(300)
    layer(draw(1, 200))
    state = layer.state_dict()
    assert list(state) == ["kernel", "bias"]
    assert not state["bias"].any()
    limit = np.sqrt(6 / 500)
    assert 0.95 * limit < np.abs(state["kernel"]).max() <= limit
    without = nn.Dense(2, use_bias=False)
    without(draw(1, 4))
    assert list(without.state_dict()) == ["kernel"]


def test_dense_takes_integers_as_floats() -> None:
    layer = nn.Dense(2)
    out = layer(np.array([[1, 2, 3]], np.uint8))
    assert out.dtype is trine.float64
    close(out, np.array([[1.0, 2.0, 3.0]]) @ layer.kernel.numpy())


def test_dense_keeps_parameters_in_float32_and_computes_in_bfloat16() -> None:
    with nn.dtype_policy("float32", "bfloat16"):
        layer = nn.Dense(2, activation="relu")
    out = layer(draw(3, 4))
    assert (out.dtype, layer.kernel.dtype, layer.bias.dtype) == (trine.bfloat16, trine.float32, trine.float32)
    out.sum().backward()
    assert layer.kernel.grad is not None and layer.kernel.grad.dtype is trine.float32


# -- Convolution -------------------------------------------------------------------------------------------------------


def convolve(x: Array, w: Array, stride: int, dilation: int, pads: list[tuple[int, int]], groups: int = 1) -> Array:
    """The sum over taps and channels, element by element."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    places = [(x.shape[1 + i] - dilation * (w.shape[i] - 1) - 1) // stride + 1 for i in range(rank)]
    per, filters = w.shape[-2], w.shape[-1] // groups
    out = np.zeros((x.shape[0], *places, w.shape[-1]))
    for place in product(*map(range, places)):
        for tap in product(*map(range, w.shape[:rank])):
            at = tuple(p * stride + t * dilation for p, t in zip(place, tap, strict=True))
            for o in range(w.shape[-1]):
                g = o // filters
                row = x[(slice(None), *at, slice(g * per, (g + 1) * per))]
                out[(slice(None), *place, o)] += row @ w[(*tap, slice(None), o)]
    return out


def same(n: int, k: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-n // stride) - 1) * stride + dilation * (k - 1) + 1 - n, 0)
    return total // 2, total - total // 2


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 2)])
@pytest.mark.parametrize("rank", [1, 2])
def test_convolution_is_a_sum_over_taps_and_channels(
    rank: int, stride: int, dilation: int, groups: int, padding: str
) -> None:
    kind = nn.Conv1D if rank == 1 else nn.Conv2D
    sizes = (8, 7)[:rank]
    layer = kind(6, 3, strides=stride, padding=padding, dilation_rate=dilation, groups=groups, activation="tanh")
    x = draw(2, *sizes, 4)
    layer(x)
    p = scatter(layer)
    assert p["kernel"].shape == (*(3,) * rank, 4 // groups, 6)
    pads = [same(n, 3, stride, dilation) if padding == "same" else (0, 0) for n in sizes]
    close(layer(x), np.tanh(convolve(x, p["kernel"], stride, dilation, pads, groups) + p["bias"]))


def test_causal_convolution_sees_nothing_that_comes_later() -> None:
    layer, x = nn.Conv1D(3, 3, padding="causal", dilation_rate=2), draw(2, 9, 4)
    layer(x)
    p = scatter(layer)
    close(layer(x), convolve(x, p["kernel"], 1, 2, [(4, 0)]) + p["bias"])
    changed = x.copy()
    changed[:, 5:] = 100.0
    close(layer(changed).numpy()[:, :5], layer(x).numpy()[:, :5], 0)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolution_sees_each_channel_alone(multiplier: int) -> None:
    layer, x = nn.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=multiplier), draw(2, 6, 5, 3)
    layer(x)
    p = scatter(layer)
    assert p["kernel"].shape == (3, 3, 3, multiplier)
    pads = [same(6, 3, 2, 1), same(5, 3, 2, 1)]
    parts = [convolve(x[..., c : c + 1], p["kernel"][:, :, c : c + 1], 2, 1, pads) for c in range(3)]
    close(layer(x), np.concatenate(parts, -1) + p["bias"])


def test_separable_convolution_is_a_depthwise_one_and_a_product() -> None:
    layer, x = nn.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu"), draw(2, 6, 5, 3)
    layer(x)
    p = scatter(layer)
    kernel = p["depthwise_kernel"]
    parts = [convolve(x[..., c : c + 1], kernel[:, :, c : c + 1], 1, 1, [(0, 0)] * 2) for c in range(3)]
    close(layer(x), np.maximum(np.concatenate(parts, -1) @ p["pointwise_kernel"][0, 0] + p["bias"], 0))


@pytest.mark.parametrize(
    ("padding", "stride", "sizes"), [("valid", 2, (9, 11)), ("same", 2, (8, 10)), ("same", 1, (4, 5))]
)
def test_transposed_convolution_adds_filters_at_each_place(padding: str, stride: int, sizes: tuple[int, int]) -> None:
    layer, x = nn.Conv2DTranspose(2, 3, strides=stride, padding=padding), draw(2, 4, 5, 3)
    assert layer(x).shape == (2, *sizes, 2)
    p = scatter(layer)
    assert p["kernel"].shape == (3, 3, 2, 3)
    full = np.zeros((2, (4 - 1) * stride + 3, (5 - 1) * stride + 3, 2))
    for i, j, a, b in product(range(4), range(5), range(3), range(3)):
        full[:, i * stride + a, j * stride + b] += x[:, i, j] @ p["kernel"][a, b].T
    cut = [max(full.shape[1 + k] - sizes[k], 0) // 2 for k in (0, 1)]
    wanted = full[:, cut[0] : cut[0] + sizes[0], cut[1] : cut[1] + sizes[1]]
    close(layer(x), wanted + p["bias"])


# -- Pooling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, 1])
def test_pooling_takes_the_largest_and_the_mean_of_windows(padding: str, strides: int | None) -> None:
    x, step = draw(2, 5, 6, 3), strides or 2
    count = [(n - 2) // step + 1 if padding == "valid" else -(-n // step) for n in (5, 6)]
    most, mean = np.zeros((2, *count, 3)), np.zeros((2, *count, 3))
    low = [same(n, 2, step, 1)[0] if padding == "same" else 0 for n in (5, 6)]
    for i, j in product(*map(range, count)):
        top, left = i * step - low[0], j * step - low[1]
        window = x[:, max(top, 0) : top + 2, max(left, 0) : left + 2]
        most[:, i, j], mean[:, i, j] = window.max((1, 2)), window.mean((1, 2))
    close(nn.MaxPool2D(2, strides, padding)(x), most, 0)
    close(nn.AveragePooling2D(2, strides, padding)(x), mean)


def test_pooling_along_one_axis() -> None:
    x = draw(2, 7, 3)
    close(nn.MaxPool1D(3, 2)(x), np.stack([x[:, i : i + 3].max(1) for i in (0, 2, 4)], 1), 0)
    close(nn.AveragePooling1D(3, 2)(x), np.stack([x[:, i : i + 3].mean(1) for i in (0, 2, 4)], 1))


@pytest.mark.parametrize(("rank", "axes"), [(1, (1,)), (2, (1, 2))])
def test_global_pooling_leaves_batch_and_channels(rank: int, axes: tuple[int, ...]) -> None:
    x = draw(2, *(4, 5)[:rank], 3)
    for keepdims in (False, True):
        close(getattr(nn, f"GlobalMaxPool{rank}D")(keepdims)(x), x.max(axes, keepdims=keepdims), 0)
        close(getattr(nn, f"GlobalAveragePooling{rank}D")(keepdims)(x), x.mean(axes, keepdims=keepdims))


def test_pooling_has_both_of_kerass_names() -> None:
    assert nn.MaxPooling1D is nn.MaxPool1D and nn.MaxPooling2D is nn.MaxPool2D
    assert nn.GlobalMaxPooling1D is nn.GlobalMaxPool1D and nn.GlobalMaxPooling2D is nn.GlobalMaxPool2D


# -- Shapes, rescaling, merging ----------------------------------------------------------------------------------------


def test_layers_that_move_elements() -> None:
    x = draw(2, 3, 4)
    close(nn.Flatten()(x), x.reshape(2, 12), 0)
    close(nn.Flatten()(x[:, 0, 0]), x[:, :1, 0], 0)
    close(nn.Reshape((2, -1))(x), x.reshape(2, 2, 6), 0)
    close(nn.Permute((2, 1))(x), x.transpose(0, 2, 1), 0)
    close(nn.RepeatVector(5)(x[:, 0]), np.repeat(x[:, :1], 5, 1), 0)


def test_rescaling_takes_integers_and_arrays() -> None:
    x = np.array([[0, 255], [51, 102]], np.uint8)
    close(nn.Rescaling(1 / 255)(x), x / 255)
    close(nn.Rescaling(np.array([2.0, 3.0]), [1.0, -1.0])(x), x * [2.0, 3.0] + [1.0, -1.0])


def test_merging_layers_combine_a_list() -> None:
    a, b, c = draw(2, 3), draw(2, 3, seed=1), draw(2, 1, seed=2)
    for name, wanted in {
        "Add": a + b + c, "Multiply": a * b * c, "Average": (a + b + c) / 3,
        "Maximum": np.maximum(np.maximum(a, b), c), "Minimum": np.minimum(np.minimum(a, b), c),
    }.items():  # fmt: skip
        close(getattr(nn, name)()([a, b, c]), wanted)
    close(nn.Subtract()([a, b]), a - b)
    close(nn.Concatenate()([a, b, c]), np.concatenate([a, b, c], -1), 0)
    close(nn.Concatenate(axis=0)([a, b]), np.concatenate([a, b]), 0)


# -- Activations -------------------------------------------------------------------------------------------------------


def test_activation_layers() -> None:
    x = draw(3, 5) * 4
    close(nn.Activation("sigmoid")(x), sigmoid(x))
    close(nn.Activation(lambda v: v * 2)(x), x * 2)
    close(nn.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.5)(x),
          np.where(x > 2, 2, np.where(x > 0.5, x, 0.1 * (x - 0.5))))  # fmt: skip
    close(nn.LeakyReLU()(x), np.where(x > 0, x, 0.3 * x))
    close(nn.ELU(0.7)(x), np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0))))
    close(nn.Softmax()(x), softmax(x))
    close(nn.Softmax(axis=0)(x), softmax(x.T).T)


def test_softmax_leaves_masked_elements_out() -> None:
    x, mask = draw(2, 4), np.array([[True, True, False, False], [True, False, True, True]])
    out = nn.Softmax()(x, mask=mask).numpy()
    assert not out[~mask].any()
    close(out[0, :2], softmax(x[0, :2]))
    close(out[1, mask[1]], softmax(x[1, mask[1]]))


def test_prelu_learns_a_slope_per_feature() -> None:
    layer, x = nn.PReLU(shared_axes=(1, 2)), draw(2, 3, 4, 5)
    layer(x)
    alpha = scatter(layer)["alpha"]
    assert alpha.shape == (1, 1, 5)
    close(layer(x), np.where(x > 0, x, alpha * x))


# -- Dropout -----------------------------------------------------------------------------------------------------------


def test_dropout_does_nothing_but_in_training() -> None:
    x = draw(4, 5)
    layer = nn.Dropout(0.5)
    close(layer(x), x, 0)
    assert (layer(x, training=True).numpy() == 0).any()
    with nn.training_mode(True):
        assert (layer(x).numpy() == 0).any()
        close(layer(x, training=False), x, 0)


def test_dropout_scales_what_is_left_and_drops_the_share_asked_for() -> None:
    out = nn.Dropout(0.3)(np.ones((100, 100)), training=True).numpy()
    assert set(np.round(np.unique(out), 12)) == {0.0, round(1 / 0.7, 12)}
    assert abs((out == 0).mean() - 0.3) < 0.02


def test_dropout_passes_gradients_where_it_passes_values() -> None:
    x = trine.asarray(draw(50), requires_grad=True)
    out = nn.Dropout(0.5)(x, training=True)
    out.sum().backward()
    close(x.grad, np.where(out.numpy() != 0, 2.0, 0.0), 0)


@pytest.mark.parametrize("rate", [0, 1, 1.0])
def test_dropout_of_nothing_and_of_everything(rate: float) -> None:
    x = trine.asarray(draw(6), requires_grad=True)
    out = nn.Dropout(rate)(x, training=True)
    close(out, draw(6) if rate == 0 else np.zeros(6), 0)
    out.sum().backward()
    close(x.grad, np.full(6, 1.0 if rate == 0 else 0.0), 0)


def test_dropout_over_a_noise_shape_drops_whole_features() -> None:
    out = nn.Dropout(0.5, noise_shape=(None, 1, None))(np.ones((4, 7, 16)), training=True).numpy()
    assert (out == out[:, :1]).all() and (out == 0).any() and (out != 0).any()


def test_dropout_repeats_after_the_seed_and_differs_from_call_to_call(seed: Callable[[], None]) -> None:
    layer, x = nn.Dropout(0.5), np.ones(64)
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    assert (first != second).any()
    seed()
    assert (layer(x, training=True).numpy() == first).all()


def test_dropout_with_a_seed_has_a_stream_of_its_own_that_is_saved() -> None:
    a, b, x = nn.Dropout(0.5, seed=3), nn.Dropout(0.5, seed=3), np.ones(64)
    first = a(x, training=True).numpy()
    nn.Dropout(0.5)(x, training=True)
    assert (b(x, training=True).numpy() == first).all()
    saved = a.state_dict()
    second = a(x, training=True).numpy()
    a.load_state_dict(saved)
    assert (a(x, training=True).numpy() == second).all() and (second != first).any()


# -- Normalisation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "axis"), [((6, 3), -1), ((2, 4, 5, 3), -1), ((2, 3, 4, 5), 1)])
def test_batch_normalisation_uses_the_batch_in_training_and_moving_statistics_after(
    shape: tuple[int, ...], axis: int
) -> None:
    layer, x = nn.BatchNormalization(axis=axis, momentum=0.9, epsilon=1e-2), draw(*shape) * 3 + 1
    layer(x)
    p = scatter(layer)
    over = tuple(i for i in range(len(shape)) if i != axis % len(shape))
    wide = tuple(-1 if i == axis % len(shape) else 1 for i in range(len(shape)))
    mean, variance = x.mean(over), x.var(over)
    gamma, beta = p["gamma"].reshape(wide), p["beta"].reshape(wide)

    def normalised(m: Array, v: Array) -> Array:
        return (x - m.reshape(wide)) / np.sqrt(v.reshape(wide) + 1e-2) * gamma + beta

    close(layer(x), normalised(p["moving_mean"], p["moving_variance"]))
    close(layer(x, training=True), normalised(mean, variance))
    close(layer.moving_mean, 0.9 * p["moving_mean"] + 0.1 * mean)
    close(layer.moving_variance, 0.9 * p["moving_variance"] + 0.1 * variance)
    close(layer(x, training=False), normalised(layer.moving_mean.numpy(), layer.moving_variance.numpy()))


def test_batch_normalisation_keeps_state_and_parameters_apart() -> None:
    layer = nn.BatchNormalization()
    layer(draw(4, 3), training=True)
    assert [name for name, _ in layer.named_parameters()] == ["gamma", "beta"]
    assert list(layer.state_dict()) == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert layer.moving_mean.is_leaf and not layer.moving_mean.requires_grad
    assert list(nn.BatchNormalization(center=False, scale=False).build_for((4, 3)).state_dict()) == [
        "moving_mean", "moving_variance",
    ]  # fmt: skip


def test_a_frozen_batch_normalisation_uses_and_keeps_its_moving_statistics() -> None:
    layer, x = nn.BatchNormalization(), draw(4, 3) + 5
    layer(x)
    layer.trainable = False
    close(layer(x, training=True), x / np.sqrt(1.001))
    close(layer.moving_mean, np.zeros(3), 0)


def test_batch_normalisation_leaves_masked_steps_out_of_its_statistics() -> None:
    x, mask = draw(2, 4, 3), np.array([[True, True, False, False], [True, True, True, False]])
    spoiled = np.where(mask[..., None], x, np.nan)
    layer = nn.BatchNormalization(momentum=0.0)
    out = layer(spoiled, training=True, mask=mask).numpy()
    kept = x[mask]
    close(layer.moving_mean, kept.mean(0))
    close(layer.moving_variance, kept.var(0))
    close(out[mask], (kept - kept.mean(0)) / np.sqrt(kept.var(0) + 1e-3))


def test_batch_normalisation_computes_half_types_in_float32() -> None:
    with nn.dtype_policy("float32", "float16"):
        layer = nn.BatchNormalization(momentum=0.0)
    x = (1000 + draw(512, 2)).astype(np.float16)
    out = layer(x, training=True)
    assert out.dtype is trine.float16 and layer.moving_mean.dtype is trine.float32
    wide = x.astype(np.float64)
    close(layer.moving_variance, wide.var(0), 1e-4)
    close(out.numpy().astype(np.float64), (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-3), 2e-3)


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), (-1, -2)])
def test_layer_normalisation_normalises_each_example(axis: int | tuple[int, ...]) -> None:
    layer, x = nn.LayerNormalization(axis=axis), draw(2, 3, 4) * 2 + 1
    layer(x)
    p = scatter(layer)
    axes = tuple(sorted(a % 3 for a in ((axis,) if isinstance(axis, int) else axis)))
    assert p["gamma"].shape == tuple(x.shape[a] for a in axes)
    wide = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
    normal = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
    close(layer(x), normal * p["gamma"].reshape(wide) + p["beta"].reshape(wide))


# -- Embedding ---------------------------------------------------------------------------------------------------------


def test_embedding_takes_rows() -> None:
    layer, x = nn.Embedding(7, 3), np.array([[0, 6, 2], [2, 2, 1]], np.int32)
    layer(x)
    table = layer.state_dict()["embeddings"]
    assert np.abs(table).max() <= 0.05 and table.std() > 0.01
    close(layer(x), table[x], 0)
    layer(x).sum().backward()
    close(layer.embeddings.grad, np.bincount(x.ravel(), minlength=7)[:, None] * np.ones(3), 0)


def test_embedding_refuses_what_is_out_of_range_and_floats() -> None:
    layer = nn.Embedding(7, 3)
    with pytest.raises(IndexRangeError):
        layer(np.array([7])).numpy()
    with pytest.raises(DTypeError, match="takes integers, not float64"):
        layer(np.array([1.0]))


# -- Recurrent layers --------------------------------------------------------------------------------------------------


def rnn_step(p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    return [np.tanh(x @ p["kernel"] + state[0] @ p["recurrent_kernel"] + p["bias"])]


def lstm_step(p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    h, c = state
    i, f, g, o = np.split(x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"], 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def gru_step(p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    (h,) = state
    xz, xr, xh = np.split(x @ p["kernel"] + p["bias"][0], 3, -1)
    hz, hr, hh = np.split(h @ p["recurrent_kernel"] + p["bias"][1], 3, -1)
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return [z * h + (1 - z) * np.tanh(xh + r * hh)]


def gru_before_step(p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    (h,) = state
    xz, xr, xh = np.split(x @ p["kernel"] + p["bias"], 3, -1)
    uz, ur, uh = np.split(p["recurrent_kernel"], 3, -1)
    z, r = sigmoid(xz + h @ uz), sigmoid(xr + h @ ur)
    return [z * h + (1 - z) * np.tanh(xh + (r * h) @ uh)]


CELLS: dict[str, tuple[Callable[..., Any], Any, int]] = {
    "SimpleRNN": (nn.SimpleRNN, rnn_step, 1),
    "LSTM": (nn.LSTM, lstm_step, 2),
    "GRU": (nn.GRU, gru_step, 1),
    "GRU reset before": (lambda *a, **k: nn.GRU(*a, reset_after=False, **k), gru_before_step, 1),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_recurrent_layer_is_a_loop_over_steps(name: str, masked: bool, backwards: bool) -> None:
    kind, step, states = CELLS[name]
    layer = kind(4, return_sequences=True, return_state=True, go_backwards=backwards)
    x = draw(3, 5, 2)
    first = [draw(3, 4, seed=9 + i) for i in range(states)]
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool) if masked else np.ones((3, 5), bool)
    layer(x)
    p = scatter(layer)
    state, rows = first, []
    for t in reversed(range(5)) if backwards else range(5):
        new = step(p, x[:, t], state)
        state = [np.where(mask[:, t, None], a, b) for a, b in zip(new, state, strict=True)]
        rows.append(state[0])
    given: Any = first[0] if states == 1 else first
    outputs, *last = layer(x, initial_state=given, mask=mask if masked else None)
    close(outputs, np.stack(rows, 1))
    for actual, wanted in zip(last, state, strict=True):
        close(actual, wanted)
    layer.return_sequences = layer.return_state = False
    close(layer(x, initial_state=given, mask=mask if masked else None), rows[-1])


@pytest.mark.parametrize(("kind", "kernel", "recurrent", "bias"), [
    (nn.SimpleRNN, (2, 4), (4, 4), (4,)), (nn.LSTM, (2, 16), (4, 16), (16,)), (nn.GRU, (2, 12), (4, 12), (2, 12)),
])  # fmt: skip
def test_recurrent_parameters_are_kerass(kind: Any, kernel: Any, recurrent: Any, bias: Any) -> None:
    layer = kind(4)
    assert layer(draw(3, 5, 2)).shape == (3, 4)
    state = layer.state_dict()
    assert {n: v.shape for n, v in state.items()} == {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias}
    close(state["recurrent_kernel"] @ state["recurrent_kernel"].T, np.eye(4))
    forget = np.repeat([0.0, 1.0, 0.0, 0.0], 4) if kind is nn.LSTM else np.zeros(bias)
    close(state["bias"], forget, 0)


def test_a_recurrent_layer_traces_with_open_batch_and_time() -> None:
    layer = nn.LSTM(4, return_sequences=True)
    layer(draw(1, 2, 3))
    graph = trine.trace(layer, trine.spec(("batch", "time", 3), "float64"))
    for shape in ((2, 5, 3), (1, 1, 3), (3, 0, 3)):
        x = draw(*shape)
        close(graph.run(x), layer(x), 0)


def test_a_recurrent_layer_runs_inside_a_compiled_step() -> None:
    layer, x = nn.GRU(4), draw(2, 5, 3)
    layer(x)

    @trine.compile
    def step(x: Tensor) -> Tensor:
        loss = (layer(x) ** 2).sum()
        loss.backward()
        return loss

    (layer(x) ** 2).sum().backward()
    wanted = layer.recurrent_kernel.grad.numpy().copy()
    for _ in range(3):
        layer.recurrent_kernel.grad = None
        close(step(trine.asarray(x)), (layer(x).numpy() ** 2).sum())
        close(layer.recurrent_kernel.grad, wanted)


def test_recurrent_dropout_hides_the_same_features_and_units_at_every_step() -> None:
    x = np.ones((2, 6, 8))
    layer = nn.SimpleRNN(4, activation=None, dropout=0.5, recurrent_initializer="zeros", return_sequences=True)
    out = layer(x, training=True).numpy()
    close(out, np.repeat(out[:, :1], 6, 1))
    assert np.abs(out - layer(x).numpy()).max() > 1e-3
    chained = nn.SimpleRNN(50, activation=None, recurrent_dropout=0.5, recurrent_initializer="identity")
    value = chained(np.ones((1, 3, 2)), training=True).numpy() / chained.state_dict()["kernel"].sum(0)
    assert set(np.round(np.unique(value), 6)) == {1.0, 7.0}  # 1 alone, or 1 + 2 * (1 + 2 * 1)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional_runs_both_ways_and_merges_step_by_step(mode: str | None) -> None:
    layer, x = nn.Bidirectional(nn.LSTM(4, return_sequences=True, return_state=True), merge_mode=mode), draw(2, 5, 3)
    layer(x)
    assert sum(np.abs(v).sum() for n, v in layer.state_dict().items() if n.startswith("backward")) > 0
    scatter(layer)
    ahead, *first = (v.numpy() for v in layer.forward_layer(x))
    back, *second = (v.numpy() for v in layer.backward_layer(x))
    back = back[:, ::-1]
    out = layer(x)
    value, states = (out[:2], out[2:]) if mode is None else (out[0], out[1:])
    merged = {
        "concat": np.concatenate([ahead, back], -1),
        "sum": ahead + back,
        "mul": ahead * back,
        "ave": (ahead + back) / 2,
    }
    for actual, wanted in zip(value, (ahead, back), strict=True) if mode is None else [(value, merged[mode])]:
        close(actual, wanted)
    for actual, wanted in zip(states, (*first, *second), strict=True):
        close(actual, wanted)


# -- Attention ---------------------------------------------------------------------------------------------------------


def attend(p: dict[str, Array], q: Array, v: Array, k: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Head after head, example after example."""
    out = np.zeros((*q.shape[:2], p["output_kernel"].shape[-1])) + p["output_bias"]
    heads = p["query_kernel"].shape[1]
    weights = np.zeros((q.shape[0], heads, q.shape[1], k.shape[1]))
    for b, h in product(range(q.shape[0]), range(heads)):
        query, key, value = (x[b] @ p[f"{n}_kernel"][:, h] + p[f"{n}_bias"][h] for n, x in
                             (("query", q), ("key", k), ("value", v)))  # fmt: skip
        scores = query @ key.T / np.sqrt(query.shape[-1])
        if mask is not None:
            scores = np.where(mask[b, h if mask.shape[1] > 1 else 0], scores, -1e300)
        weights[b, h] = softmax(scores)
        out[b] += weights[b, h] @ value @ p["output_kernel"][h]
    return out, weights


def attention_inputs() -> tuple[Any, Array, Array, Array]:
    layer = nn.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=4, output_shape=6)
    q, v, k = draw(2, 4, 5), draw(2, 7, 8, seed=1), draw(2, 7, 9, seed=2)
    layer(q, v, k)
    return layer, q, v, k


def test_attention_weighs_values_by_how_well_keys_fit() -> None:
    layer, q, v, k = attention_inputs()
    p = scatter(layer)
    assert {n: x.shape for n, x in p.items()} == {
        "query_kernel": (5, 2, 3), "query_bias": (2, 3), "key_kernel": (9, 2, 3), "key_bias": (2, 3),
        "value_kernel": (8, 2, 4), "value_bias": (2, 4), "output_kernel": (2, 4, 6), "output_bias": (6,),
    }  # fmt: skip
    wanted, weights = attend(p, q, v, k)
    close(layer(q, v, key=k), wanted)
    out, scores = layer(q, v, k, return_attention_scores=True)
    close(out, wanted)
    close(scores, weights)


def test_attention_sees_only_what_all_masks_allow() -> None:
    layer, q, v, k = attention_inputs()
    p = scatter(layer)
    rng = np.random.default_rng(3)
    whole = rng.random((2, 4, 7)) < 0.8
    of_query, of_value, of_key = (rng.random((2, n)) < 0.8 for n in (4, 7, 7))
    past = np.arange(4)[:, None] >= np.arange(7)
    close(layer(q, v, k, use_causal_mask=True), attend(p, q, v, k, np.broadcast_to(past, (2, 1, 4, 7)))[0])
    close(layer(q, v, k, attention_mask=whole), attend(p, q, v, k, whole[:, None])[0])
    every = whole & past & of_query[:, :, None] & of_value[:, None] & of_key[:, None]
    out = layer(q, v, k, of_query, of_value, of_key, whole, use_causal_mask=True)
    close(out, attend(p, q, v, k, every[:, None])[0])


def test_attention_that_sees_nothing_is_a_mean_and_no_nan() -> None:
    layer, q, v, k = attention_inputs()
    out, weights = layer(q, v, k, value_mask=np.zeros((2, 7), bool), return_attention_scores=True)
    close(weights, np.full((2, 2, 4, 7), 1 / 7))
    assert np.isfinite(out.numpy()).all()


def test_attention_drops_weights_only_in_training() -> None:
    layer, x = nn.MultiHeadAttention(2, 3, dropout=0.5), draw(2, 4, 5)
    still = layer(x, x).numpy()
    close(layer(x, x, training=False), still, 0)
    assert np.abs(layer(x, x, training=True).numpy() - still).max() > 1e-3


def test_self_attention_projects_back_to_the_query() -> None:
    layer = nn.MultiHeadAttention(2, 3, use_bias=False)
    assert layer(draw(2, 4, 5), draw(2, 4, 5)).shape == (2, 4, 5)
    assert list(layer.state_dict()) == ["query_kernel", "key_kernel", "value_kernel", "output_kernel"]


def test_functional_attention_takes_any_leading_axes_and_another_scale() -> None:
    q, k, v = draw(2, 1, 3, 4), draw(5, 6, 4, seed=1), draw(6, 2, seed=2)
    weights = softmax(0.3 * q @ np.swapaxes(k, -1, -2))
    tensors = [trine.asarray(x) for x in (q, k, v)]
    close(attention(*tensors, scale=0.3), weights @ v)
    close(attention(*(t[0, 0] if t.ndim == 4 else t[0] if t.ndim == 3 else t for t in tensors)),
          softmax(q[0, 0] @ k[0].T / 2) @ v)  # fmt: skip


# -- Half types, copies, captured steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [
    lambda: nn.LSTM(4), lambda: nn.GRU(4), lambda: _SelfAttention(), lambda: nn.LayerNormalization(),
    lambda: nn.Conv1D(3, 2), lambda: nn.Dropout(0.5), lambda: nn.PReLU(),
])  # fmt: skip
@pytest.mark.parametrize("compute", ["float16", "bfloat16"])
def test_layers_compute_in_half_types_near_the_wide_result(make: Callable[[], Any], compute: str) -> None:
    layer, x = make(), draw(2, 4, 6)
    wide = layer(x, training=False).numpy()
    layer.to_policy("float32", compute)
    out = layer(x, training=False)
    assert out.dtype.name == compute
    close(out.numpy().astype(np.float64), wide, 6e-2)


def test_a_copy_of_a_layer_has_parameters_and_a_stream_of_its_own() -> None:
    layer, x = nn.Dropout(0.5, seed=1), np.ones(64)
    layer(x, training=True)
    twin = copy.deepcopy(layer)
    first = layer(x, training=True).numpy()
    assert (twin(x, training=True).numpy() == first).all()
    assert twin.generator_state is twin.generator.state and twin.generator_state is not layer.generator_state


def test_a_compiled_step_moves_statistics_and_draws_anew_as_python_does(seed: Callable[[], None]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.norm, self.drop = nn.BatchNormalization(momentum=0.5), nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.drop(self.norm(x))
            return out

    x = draw(16, 3) + 2
    plain, compiled = Net(), Net()
    for net in (plain, compiled):
        net(x)
    seed()
    wanted = [plain(x, training=True).numpy() for _ in range(4)]
    seed()
    step = trine.compile(lambda x: compiled(x, training=True))
    for value in wanted:
        close(step(trine.asarray(x)), value, 0)
    assert (wanted[2] != wanted[3]).any()
    close(compiled.norm.moving_mean, plain.norm.moving_mean, 0)
    close(compiled.norm.moving_mean, x.mean(0) * (1 - 0.5**4))


# -- Gradients ---------------------------------------------------------------------------------------------------------

GRADIENTS: dict[str, tuple[Callable[[], Any], tuple[tuple[int, ...], ...], dict[str, Any]]] = {
    "Dense": (lambda: nn.Dense(3, activation="gelu"), ((2, 4),), {}),
    "Conv1D": (lambda: nn.Conv1D(3, 3, padding="causal", activation="tanh"), ((2, 5, 2),), {}),
    "Conv2D": (lambda: nn.Conv2D(4, 3, strides=2, padding="same", groups=2), ((2, 5, 4, 2),), {}),
    "DepthwiseConv2D": (lambda: nn.DepthwiseConv2D(3, depth_multiplier=2), ((2, 4, 5, 2),), {}),
    "SeparableConv2D": (lambda: nn.SeparableConv2D(3, 3), ((2, 4, 5, 2),), {}),
    "Conv2DTranspose": (lambda: nn.Conv2DTranspose(2, 3, strides=2, padding="same"), ((2, 3, 4, 2),), {}),
    "MaxPool2D": (lambda: nn.MaxPool2D(padding="same"), ((2, 5, 4, 2),), {}),
    "AveragePooling2D": (lambda: nn.AveragePooling2D(3, 2, "same"), ((2, 5, 4, 2),), {}),
    "GlobalMaxPool1D": (nn.GlobalMaxPool1D, ((2, 5, 2),), {}),
    "GlobalAveragePooling2D": (nn.GlobalAveragePooling2D, ((2, 5, 3, 2),), {}),
    "BatchNormalization": (nn.BatchNormalization, ((5, 3),), {"training": True}),
    "BatchNormalization in use": (nn.BatchNormalization, ((5, 3),), {}),
    "LayerNormalization": (lambda: nn.LayerNormalization((1, 2)), ((2, 3, 4),), {}),
    "PReLU": (nn.PReLU, ((2, 4),), {}),
    "SimpleRNN": (lambda: nn.SimpleRNN(3, return_sequences=True), ((2, 4, 2),), {}),
    "GRU": (lambda: nn.GRU(3), ((2, 4, 2),), {}),
    "GRU reset before": (lambda: nn.GRU(3, reset_after=False, return_sequences=True), ((2, 4, 2),), {}),
    "LSTM": (lambda: nn.LSTM(3, return_sequences=True), ((2, 4, 2),), {}),
    "LSTM masked": (lambda: nn.LSTM(3), ((2, 3, 2),), {"mask": np.array([[True, True, False], [True, False, True]])}),
    "Bidirectional": (lambda: nn.Bidirectional(nn.GRU(2)), ((2, 3, 2),), {}),
    "MultiHeadAttention": (lambda: nn.MultiHeadAttention(2, 3), ((2, 3, 4), (2, 5, 4)), {}),
    "MultiHeadAttention causal": (
        lambda: nn.MultiHeadAttention(2, 2), ((1, 4, 3), (1, 4, 3)), {"use_causal_mask": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_the_slopes_of_the_value(name: str) -> None:
    make, shapes, named = GRADIENTS[name]
    layer = make()
    inputs = [trine.asarray(draw(*shape, seed=i), requires_grad=True) for i, shape in enumerate(shapes)]
    layer(*inputs, **named)
    scatter(layer)
    saved = layer.state_dict()
    factors = trine.asarray(draw(*layer(*inputs, **named).shape, seed=77))

    def loss() -> Tensor:
        return (layer(*inputs, **named) * factors).sum()

    layer.load_state_dict(saved)
    loss().backward()
    rng = np.random.default_rng(1)
    for handle in [*inputs, *layer.parameters()]:
        start, grad = handle.numpy().copy(), handle.grad.numpy()
        for place in rng.choice(start.size, min(6, start.size), replace=False):
            at, ends = np.unravel_index(place, start.shape), []
            for step in (1e-6, -1e-6):
                moved = start.copy()
                moved[at] += step
                with trine.no_grad():
                    handle.assign(trine.asarray(moved))
                    ends.append(loss().item())
            with trine.no_grad():
                handle.assign(trine.asarray(start))
            np.testing.assert_allclose(grad[at], (ends[0] - ends[1]) / 2e-6, rtol=2e-6, atol=2e-8)


# -- Open sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "shape"), [
    (lambda: nn.Dense(3), (4,)),
    (lambda: nn.Conv2D(3, 3, padding="same", strides=2), (6, 5, 2)),
    (lambda: nn.DepthwiseConv2D(3), (6, 5, 2)),
    (lambda: nn.Conv2DTranspose(3, 3, strides=2), (6, 5, 2)),
    (lambda: nn.MaxPool2D(padding="same"), (5, 5, 2)),
    (lambda: nn.AveragePooling2D(padding="same"), (5, 5, 2)),
    (lambda: nn.GlobalAveragePooling2D(), (5, 5, 2)),
    (lambda: nn.Flatten(), (5, 2)),
    (lambda: nn.Reshape((2, -1)), (4, 3)),
    (lambda: nn.RepeatVector(3), (4,)),
    (lambda: nn.BatchNormalization(), (4,)),
    (lambda: nn.LayerNormalization(), (4,)),
    (lambda: nn.Bidirectional(nn.GRU(2)), (4, 3)),
    (lambda: _SelfAttention(), (4, 6)),
])  # fmt: skip
def test_a_traced_layer_takes_any_batch(make: Callable[[], Any], shape: tuple[int, ...]) -> None:
    layer = make()
    layer(draw(2, *shape))
    graph = trine.trace(layer, trine.spec(("batch", *shape), "float64"))
    for batch in (1, 3):
        x = draw(batch, *shape)
        close(graph.run(x), layer(x), 0)


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        self.attention = nn.MultiHeadAttention(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, use_causal_mask=True)
        return out


def test_batch_statistics_of_an_open_batch_are_those_of_the_rows_given() -> None:
    layer = nn.BatchNormalization()
    layer(draw(2, 3))
    graph = trine.trace(lambda x: layer(x, training=True), trine.spec(("batch", 3), "float64"))
    x = draw(5, 3)
    close(graph.run(x), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-3))


# -- What layers refuse ------------------------------------------------------------------------------------------------


def test_a_later_call_with_other_features_names_the_line_of_the_first() -> None:
    layer = nn.Dense(128)
    layer(draw(32, 64))
    with pytest.raises(ShapeError) as error:
        layer(draw(32, 96))
    lines = str(error.value).splitlines()
    assert lines[0] == "Dense 128: inner sizes differ: the last axis of x is 96, the layer was built for 64"
    assert lines[1].startswith("  at test_layers.py:") and lines[1].endswith("layer(draw(32, 96))")
    assert lines[2] == "  got: f64[32, 96] @ f64[64, 128]"
    first = test_a_later_call_with_other_features_names_the_line_of_the_first.__code__.co_firstlineno + 2
    assert lines[3] == f"  try: Dense was first called with 64 features at test_layers.py:{first}"


def test_the_error_of_a_layer_inside_names_its_path() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            self.ffn = nn.Dense(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.ffn(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            self.encoder = [Block(), Block()]

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.encoder[0](x) + self.encoder[1](y)

    net = Net()
    net(draw(2, 3), draw(2, 3))
    with pytest.raises(ShapeError, match=r"^encoder\.1\.ffn \(Dense 4\): inner sizes differ") as error:
        net(draw(2, 3), draw(2, 5))
    assert "return self.ffn(x)" in str(error.value)


def test_a_missing_channel_axis_is_named_with_its_cure() -> None:
    with pytest.raises(ShapeError) as error:
        nn.Conv2D(8, 3)(draw(2, 28, 28))
    lines = str(error.value).splitlines()
    assert lines[0] == "Conv2D 8: takes [batch, height, width, channels], 4 axes; got 3"
    assert lines[2:] == ["  got: f64[2, 28, 28]", "  try: x[..., None] adds a channel axis"]


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a scalar": (lambda: nn.Dense(2)(trine.asarray(1.0)), ShapeError, "at least 1 axis; got 0"),
    "no units": (lambda: nn.Dense(0), ArgumentError, "units is an integer of at least 1"),
    "an unknown activation": (lambda: nn.Dense(2, activation="rely"), LookupError, "relu"),
    "five axes": (lambda: nn.MaxPool2D()(draw(1, 2, 2, 2, 2)), ShapeError, "4 axes; got 5"),
    "other channels": (lambda: called_twice(nn.Conv1D(2, 3), draw(2, 5, 3), draw(2, 5, 4)), ShapeError,
                       "the last axis of x is 4, the layer was built for 3"),
    "causal images": (lambda: nn.Conv2D(2, 3, padding="causal"), ArgumentError, "padding is 'valid' or 'same'"),
    "groups and filters": (lambda: nn.Conv2D(3, 3, groups=2), ArgumentError, "2 groups share the filters equally"),
    "groups and channels": (lambda: nn.Conv1D(2, 3, groups=2)(draw(2, 5, 3)), ArgumentError, "x has 3"),
    "three sizes for two axes": (lambda: nn.Conv2D(3, (3, 3, 3)), ArgumentError, "one integer or 2"),
    "a rate that is no chance": (lambda: nn.Dropout(20), ArgumentError, "from 0 to 1"),
    "a noise shape of another rank": (lambda: nn.Dropout(0.5, (1,))(draw(2, 2), training=True), ShapeError,
                                      "noise_shape has 1 axes, x has 2"),
    "no such axis": (lambda: nn.LayerNormalization(3)(draw(2, 2)), ShapeError, "the normalised axis is 3"),
    "other channels in normalisation": (
        lambda: called_twice(nn.BatchNormalization(), draw(2, 3), draw(2, 4)), ShapeError, "was built for 3"),
    "a sequence of no features": (lambda: nn.LSTM(2)(draw(2, 5)), ShapeError, "3 axes; got 2"),
    "another number of states": (lambda: nn.LSTM(2)(draw(2, 5, 3), initial_state=draw(2, 2)), ArgumentError,
                                 "LSTM has 2 states; got 1"),
    "a state of another size": (lambda: nn.GRU(2)(draw(2, 5, 3), initial_state=draw(2, 3)), ShapeError,
                                r"a state is \[batch, units\], here \[2, 2\]"),
    "a mask of another rank": (lambda: nn.GRU(2)(draw(2, 5, 3), mask=np.ones((2, 5, 1), bool)), ArgumentError,
                               r"mask is \[batch, time\]; got 3"),
    "both ways over no recurrent layer": (lambda: nn.Bidirectional(nn.Dense(2)), ArgumentError, "a recurrent layer"),
    "no list": (lambda: nn.Add()(draw(2)), ArgumentError, "a list of at least two inputs"),
    "three to subtract": (lambda: nn.Subtract()([draw(2)] * 3), ArgumentError, "two inputs; got 3"),
    "axes that are no order": (lambda: nn.Permute((0, 1)), ArgumentError, "the axes 1 to 2, each once"),
    "a query without features": (lambda: nn.MultiHeadAttention(1, 2)(draw(3, 4), draw(3, 4)), ShapeError,
                                 r"query\[None\] adds a batch axis"),
}  # fmt: skip


def called_twice(layer: Any, first: Array, second: Array) -> None:
    layer(first)
    layer(second)


@pytest.mark.parametrize("name", REFUSED)
def test_layers_refuse_with_the_users_line(name: str) -> None:
    call, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text) as error:
        call()
    assert "\n  at test_layers.py:" in str(error.value)


def test_an_empty_batch_is_refused_in_training_and_leaves_the_statistics() -> None:
    layer = nn.BatchNormalization()
    layer(trine.ones((2, 3)))
    with pytest.raises(ShapeError, match="an empty batch has no statistics"):
        layer(trine.ones((0, 3)), training=True)
    assert layer.moving_mean.tolist() == [0.0] * 3
    assert layer(trine.ones((0, 3))).shape == (0, 3)
