"""Losses and activations next to torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trine.functional import activations as a
from trine.functional import losses as L
from trine.tensor.creation import asarray

torch = pytest.importorskip("torch")
F = torch.nn.functional

X = np.random.default_rng(3).normal(size=(6, 5)) * 4
Y = np.random.default_rng(4).normal(size=(6, 5))
K = np.array([0, 4, 2, 1, 3, 3])
B = (Y > 0).astype("float64")

LOSSES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "mse": (lambda x: L.mse(asarray(Y), x), lambda x: F.mse_loss(x, torch.tensor(Y))),
    "mae": (lambda x: L.mae(asarray(Y), x), lambda x: F.l1_loss(x, torch.tensor(Y))),
    "huber": (lambda x: L.huber(asarray(Y), x, delta=1.5), lambda x: F.huber_loss(x, torch.tensor(Y), delta=1.5)),
    "binary": (lambda x: L.binary_crossentropy(asarray(B), x, from_logits=True),
               lambda x: F.binary_cross_entropy_with_logits(x, torch.tensor(B))),
    "sparse": (lambda x: L.sparse_categorical_crossentropy(asarray(K), x, from_logits=True),
               lambda x: F.cross_entropy(x, torch.tensor(K))),
    "smooth": (lambda x: L.categorical_crossentropy(asarray(np.eye(5)[K]), x, from_logits=True, label_smoothing=0.1),
               lambda x: F.cross_entropy(x, torch.tensor(K), label_smoothing=0.1)),
}  # fmt: skip
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "elu": F.elu, "gelu": F.gelu, "leaky_relu": lambda x: F.leaky_relu(x, 0.2), "log_sigmoid": F.logsigmoid,
    "log_softmax": lambda x: F.log_softmax(x, -1), "mish": F.mish, "relu": F.relu, "relu6": F.relu6, "selu": F.selu,
    "sigmoid": F.sigmoid, "silu": F.silu, "softmax": lambda x: F.softmax(x, -1), "softplus": F.softplus,
    "softsign": F.softsign, "hard_sigmoid": F.hardsigmoid, "hard_silu": F.hardswish, "tanh": torch.tanh,
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients(name: str) -> None:
    ours, theirs = LOSSES[name]
    x, t = asarray(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    loss, expected = L.mean(ours(x)), theirs(t)
    loss.backward()
    expected.backward()
    assert x.grad is not None
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_gradients(name: str) -> None:
    x, t = asarray(X, requires_grad=True), torch.tensor(X, requires_grad=True)
    out, expected = a.get(name)(x), ACTIVATIONS[name](t)
    (out * asarray(Y)).sum().backward()
    (expected * torch.tensor(Y)).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-7, atol=1e-10)
