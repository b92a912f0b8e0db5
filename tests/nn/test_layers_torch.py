"""Layers against torch: the same weights give the same outputs and the same gradients of the input, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn

torch = pytest.importorskip("torch")
F = pytest.importorskip("torch.nn.functional")

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Both libraries compute in float64."""
    with nn.dtype_policy("float64"):
        yield


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def random_state(layer: Any) -> dict[str, Any]:
    """Random numbers for all parameters of a built layer, and the same as torch tensors."""
    rng = np.random.default_rng(3)
    state = {
        name: rng.uniform(0.5 if name.endswith("variance") else -1.0, 1.0, value.shape)
        for name, value in layer.state_dict().items()
    }
    layer.load_state_dict(state)
    return {name: torch.tensor(value) for name, value in state.items()}


def compare(layer: Any, theirs: Callable[..., Any], *inputs: Array, tolerance: float = 1e-10, **named: Any) -> None:
    """Outputs, and gradients of the sum of outputs times random factors."""
    layer(*inputs, **named)
    p = random_state(layer)
    mine = [trine.asarray(x, requires_grad=True) for x in inputs]
    other = [torch.tensor(x, requires_grad=True) for x in inputs]
    out, wanted = layer(*mine, **named), theirs(p, *other)
    np.testing.assert_allclose(out.numpy(), wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
    factors = draw(*out.shape, seed=8)
    (out * trine.asarray(factors)).sum().backward()
    (wanted * torch.tensor(factors)).sum().backward()
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance)


def first(x: Any) -> Any:
    """Channels last to channels first."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    """Channels first to channels last."""
    return x.movedim(1, -1)


def oihw(kernel: Any) -> Any:
    """A kernel `[*K, in, out]` as torch's `[out, in, *K]`."""
    return kernel.movedim(-1, 0).movedim(-1, 1)


def test_dense() -> None:
    compare(nn.Dense(3, "gelu"), lambda p, x: F.gelu(x @ p["kernel"] + p["bias"]), draw(2, 5, 4))


@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 1)])
def test_conv1d(stride: int, dilation: int, groups: int) -> None:
    compare(
        nn.Conv1D(6, 3, strides=stride, dilation_rate=dilation, groups=groups),
        lambda p, x: last(F.conv1d(first(x), oihw(p["kernel"]), p["bias"], stride, 0, dilation, groups)),
        draw(2, 11, 4),
    )


@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 4)])
def test_conv2d(stride: int, dilation: int, groups: int) -> None:
    compare(
        nn.Conv2D(8, (3, 2), strides=stride, dilation_rate=dilation, groups=groups),
        lambda p, x: last(F.conv2d(first(x), oihw(p["kernel"]), p["bias"], stride, 0, dilation, groups)),
        draw(2, 9, 8, 4),
    )


def test_conv2d_with_same_padding() -> None:
    compare(
        nn.Conv2D(3, 3, padding="same"),
        lambda p, x: last(F.conv2d(first(x), oihw(p["kernel"]), p["bias"], padding="same")),
        draw(2, 6, 5, 2),
    )


def test_conv2d_transpose() -> None:
    compare(
        nn.Conv2DTranspose(3, 3, strides=2),
        lambda p, x: last(F.conv_transpose2d(first(x), oihw(p["kernel"]), p["bias"], 2)),
        draw(2, 4, 5, 2),
    )


def test_depthwise_conv2d() -> None:
    def theirs(p: Any, x: Any) -> Any:
        kernel = p["kernel"].movedim(2, 0).movedim(-1, 1).reshape(6, 1, 3, 3)
        return last(F.conv2d(first(x), kernel, p["bias"], 2, 1, 1, 3))

    x = draw(2, 7, 9, 3)  # odd sizes: "same" pads one on each side, as torch's padding=1
    compare(nn.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), theirs, x)


def test_pooling() -> None:
    x = draw(2, 7, 6, 3)
    compare(nn.MaxPool2D(3, 2), lambda p, x: last(F.max_pool2d(first(x), 3, 2)), x)
    compare(nn.AveragePooling2D(3, 2), lambda p, x: last(F.avg_pool2d(first(x), 3, 2)), x)
    compare(
        nn.AveragePooling2D(3, 1, "same"),
        lambda p, x: last(F.avg_pool2d(first(x), 3, 1, 1, count_include_pad=False)), x,
    )  # fmt: skip
    compare(nn.MaxPool1D(2), lambda p, x: last(F.max_pool1d(first(x), 2)), x[..., 0])
    compare(nn.AveragePooling1D(2), lambda p, x: last(F.avg_pool1d(first(x), 2)), x[..., 0])
    compare(nn.GlobalMaxPool2D(), lambda p, x: x.amax((1, 2)), x)
    compare(nn.GlobalAveragePooling1D(), lambda p, x: x.mean(1), x[..., 0])


@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization(training: bool) -> None:
    def theirs(p: Any, x: Any) -> Any:
        mean, variance = p["moving_mean"].clone(), p["moving_variance"].clone()
        return last(F.batch_norm(first(x), mean, variance, p["gamma"], p["beta"], training, eps=1e-3))

    compare(nn.BatchNormalization(), theirs, draw(4, 3, 5, 2), training=training)


def test_batch_normalization_moves_its_statistics_as_torch_but_with_the_biased_variance() -> None:
    layer, x = nn.BatchNormalization(momentum=0.9), draw(6, 3) * 2 + 1
    layer(x)
    p = random_state(layer)
    mean, variance = p["moving_mean"].clone(), p["moving_variance"].clone()
    layer(x, training=True)
    F.batch_norm(torch.tensor(x), mean, variance, training=True, momentum=0.1)
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-12)
    unbiased = (layer.moving_variance.numpy() - 0.9 * p["moving_variance"].numpy()) * 6 / 5
    np.testing.assert_allclose(unbiased, (variance - 0.9 * p["moving_variance"]).numpy(), rtol=1e-12)


def test_layer_normalization() -> None:
    compare(
        nn.LayerNormalization(axis=(1, 2)),
        lambda p, x: F.layer_norm(x, (3, 4), p["gamma"], p["beta"], 1e-3), draw(2, 3, 4),
    )  # fmt: skip


def test_embedding() -> None:
    layer, x = nn.Embedding(7, 3), np.array([[0, 6, 2], [2, 2, 1]])
    layer(x)
    table = random_state(layer)["embeddings"].requires_grad_(True)
    out, wanted = layer(x), F.embedding(torch.tensor(x), table)
    factors = draw(2, 3, 3)
    (out * trine.asarray(factors)).sum().backward()
    (wanted * torch.tensor(factors)).sum().backward()
    np.testing.assert_array_equal(out.numpy(), wanted.detach().numpy())
    np.testing.assert_allclose(layer.embeddings.grad.numpy(), table.grad.numpy(), rtol=1e-12)


def run(module: Any, weights: dict[str, Any], x: Any) -> Any:
    """All outputs of one of torch's recurrent modules with these weights."""
    module.load_state_dict(weights)
    return module(x)[0]


def test_simple_rnn() -> None:
    def theirs(p: Any, x: Any) -> Any:
        weights = {"weight_ih_l0": p["kernel"].T, "weight_hh_l0": p["recurrent_kernel"].T,
                   "bias_ih_l0": p["bias"], "bias_hh_l0": torch.zeros(4)}  # fmt: skip
        return run(torch.nn.RNN(3, 4, batch_first=True, dtype=torch.float64), weights, x)

    compare(nn.SimpleRNN(4, return_sequences=True), theirs, draw(2, 6, 3))


def test_lstm() -> None:
    def theirs(p: Any, x: Any) -> Any:  # both libraries order the gates i, f, g, o
        weights = {"weight_ih_l0": p["kernel"].T, "weight_hh_l0": p["recurrent_kernel"].T,
                   "bias_ih_l0": p["bias"], "bias_hh_l0": torch.zeros(16)}  # fmt: skip
        return run(torch.nn.LSTM(3, 4, batch_first=True, dtype=torch.float64), weights, x)

    compare(nn.LSTM(4, return_sequences=True), theirs, draw(2, 6, 3))


def test_gru() -> None:
    def order(w: Any) -> Any:
        """Blocks z, r, h as torch's r, z, n."""
        z, r, h = w.chunk(3, -1)
        return torch.cat([r, z, h], -1)

    def theirs(p: Any, x: Any) -> Any:
        bias = order(p["bias"])
        weights = {"weight_ih_l0": order(p["kernel"]).T, "weight_hh_l0": order(p["recurrent_kernel"]).T,
                   "bias_ih_l0": bias[0], "bias_hh_l0": bias[1]}  # fmt: skip
        return run(torch.nn.GRU(3, 4, batch_first=True, dtype=torch.float64), weights, x)

    compare(nn.GRU(4, return_sequences=True), theirs, draw(2, 6, 3))


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(causal: bool) -> None:
    mask = torch.ones(4, 6).tril().logical_not() if causal else None

    def theirs(p: Any, query: Any, value: Any) -> Any:
        names = ("query", "key", "value")
        module = torch.nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True, dtype=torch.float64)
        weights = {f"{n[0]}_proj_weight": p[f"{n}_kernel"].reshape(-1, 8).T for n in names}
        weights["in_proj_bias"] = torch.cat([p[f"{n}_bias"].reshape(8) for n in names])
        weights |= {"out_proj.weight": p["output_kernel"].reshape(8, 8).T, "out_proj.bias": p["output_bias"]}
        module.load_state_dict(weights)
        return module(query, value, value, attn_mask=mask, need_weights=False)[0]

    layer = nn.MultiHeadAttention(num_heads=2, key_dim=4)
    compare(layer, theirs, draw(3, 4, 8), draw(3, 6, 5), use_causal_mask=causal)
