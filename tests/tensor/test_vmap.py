"""`vmap` refuses what would be the same for every example."""

from __future__ import annotations

import pytest

import trine
from trine import nn
from trine.errors import CaptureError


def test_a_re_bind_from_outside_is_refused_and_leaves_the_handle() -> None:
    count = trine.zeros(())

    def counted(x: trine.Tensor) -> trine.Tensor:
        count.assign(count + 1)
        return x

    with pytest.raises(CaptureError, match="a tensor from outside is re-bound"):
        trine.vmap(counted)(trine.ones((3,)))
    assert count.item() == 0.0


def test_a_random_draw_is_refused_and_leaves_the_stream() -> None:
    layer = nn.Dropout(0.5)
    before = trine.random.generator("dropout").state.tolist()
    with pytest.raises(CaptureError, match="a tensor from outside is re-bound"):
        trine.vmap(lambda x: layer(x, training=True))(trine.ones((3, 4)))
    assert trine.random.generator("dropout").state.tolist() == before


def test_a_gradient_left_outside_is_refused() -> None:
    w = trine.asarray(2.0, requires_grad=True)

    def left(x: trine.Tensor) -> trine.Tensor:
        (w * x).backward()
        return x

    with pytest.raises(CaptureError, match="a tensor from outside is re-bound"):
        trine.vmap(left)(trine.ones((3,)))
    assert w.grad is None


def test_handles_made_inside_may_be_re_bound() -> None:
    fixed = trine.zeros((3,))

    def written(x: trine.Tensor) -> trine.Tensor:
        y = fixed.copy()
        y[1] = x
        y += 1
        return y

    assert trine.vmap(written)(trine.asarray([5.0, 6.0])).tolist() == [[1, 6, 1], [1, 7, 1]]
    assert fixed.tolist() == [0, 0, 0]
