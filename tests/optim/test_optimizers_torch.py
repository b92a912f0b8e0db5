"""Optimisers next to torch's over twenty steps on one loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trine import optim
from trine.tensor.creation import asarray

torch = pytest.importorskip("torch")

RATE = 2.0**-6
TINY = 1e-30  # the two place epsilon differently
ROWS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sgd": (lambda p: optim.SGD(p, RATE), lambda p: torch.optim.SGD(p, RATE)),
    "momentum": (lambda p: optim.SGD(p, RATE, momentum=0.9), lambda p: torch.optim.SGD(p, RATE, momentum=0.9)),
    "nesterov": (lambda p: optim.SGD(p, RATE, momentum=0.9, nesterov=True),
                 lambda p: torch.optim.SGD(p, RATE, momentum=0.9, nesterov=True)),
    "rmsprop": (lambda p: optim.RMSprop(p, RATE, epsilon=TINY), lambda p: torch.optim.RMSprop(p, RATE, 0.9, TINY)),
    "rmsprop momentum": (lambda p: optim.RMSprop(p, RATE, momentum=0.5, epsilon=TINY),
                         lambda p: torch.optim.RMSprop(p, RATE, 0.9, TINY, momentum=0.5)),
    "adam": (lambda p: optim.Adam(p, RATE, epsilon=TINY), lambda p: torch.optim.Adam(p, RATE, eps=TINY)),
    "adamw": (lambda p: optim.AdamW(p, RATE, epsilon=TINY, weight_decay=0.1),
              lambda p: torch.optim.AdamW(p, RATE, eps=TINY, weight_decay=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_twenty_steps(name: str) -> None:
    rng = np.random.default_rng(2)
    start, target = [rng.normal(size=s) for s in ((3, 4), (4,))], rng.normal(size=(3, 4))
    ours = [asarray(s, requires_grad=True) for s in start]
    theirs = [torch.tensor(s, requires_grad=True) for s in start]
    left, right = (made(p) for made, p in zip(ROWS[name], (ours, theirs), strict=True))
    for _ in range(20):
        ((ours[0] * ours[1] - asarray(target)) ** 2).mean().backward()
        left.step()
        left.zero_grad()
        ((theirs[0] * theirs[1] - torch.tensor(target)) ** 2).mean().backward()
        right.step()
        right.zero_grad()
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_clipping_by_the_global_norm() -> None:
    rng = np.random.default_rng(5)
    parts = [rng.normal(size=s) for s in ((3, 4), (4,))]
    tensors = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in parts]
    for t, p in zip(tensors, parts, strict=True):
        t.grad = torch.tensor(p)
    norm = torch.nn.utils.clip_grad_norm_(tensors, 0.7)
    assert optim.global_norm([asarray(p) for p in parts]).item() == pytest.approx(norm.item(), rel=1e-12)
    for mine, t in zip(optim.clip_by_global_norm([asarray(p) for p in parts], 0.7), tensors, strict=True):
        np.testing.assert_allclose(mine.numpy(), t.grad.numpy(), rtol=1e-5)  # torch adds 1e-6 to the norm
