"""`backward()`: whose gradient goes where, how it adds up, and what is refused."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import trine
from trine.errors import DTypeError, GradientError, ShapeError


def leaf(*numbers: float) -> trine.Tensor:
    return trine.asarray(list(numbers), dtype="float32", requires_grad=True)


def test_gradients_add_up_over_calls() -> None:
    w = leaf(1, 2)
    for i in range(1, 4):
        (w * w).sum().backward()
        assert w.grad.tolist() == [2.0 * i, 4.0 * i]


def test_a_gradient_to_start_from() -> None:
    w = leaf(1, 2)
    (w * w).backward(trine.asarray([1.0, 10.0]))
    assert w.grad.tolist() == [2.0, 40.0]


def test_the_gradient_has_the_type_of_its_tensor() -> None:
    w = trine.asarray(np.ones((2, 1, 3), np.float16), requires_grad=True)
    (w.astype("float32") * trine.ones((4, 1))).sum().backward()
    assert w.grad.type == w.type
    assert w.grad.tolist() == [[[4.0] * 3]] * 2


def test_a_leaf_that_the_value_does_not_depend_on_has_no_gradient() -> None:
    w, other = leaf(1), leaf(2)
    (w * 2.0 + other.detach()).sum().backward()
    assert other.grad is None
    assert w.grad.tolist() == [2.0]


def test_a_handle_made_a_leaf_cuts_its_history() -> None:
    w = leaf(1, 2)
    y = w * 3.0
    y.requires_grad = True
    assert y.is_leaf
    (y * y).sum().backward()
    assert y.grad.tolist() == [6.0, 12.0]
    assert w.grad is None
    z = (w * 2.0).sum()
    z.backward()
    assert w.grad.tolist() == [2.0, 2.0]


def test_a_leaf_whose_history_was_cut_leaves_that_history_alone() -> None:
    w = leaf(1, 2)
    h = w * 3.0
    y = h.copy()
    y.requires_grad = True
    (y * y).sum().backward()
    h.sum().backward()
    assert w.grad.tolist() == [3.0, 3.0]


def test_requires_grad_taken_away() -> None:
    w = leaf(1, 2)
    w.requires_grad = False
    assert not (w * 2.0).requires_grad
    with pytest.raises(GradientError):
        w.sum().backward()


def test_a_gradient_goes_to_the_handle_that_owned_the_leaf() -> None:
    w = leaf(1, 2)
    loss = (w * w).sum()
    with trine.no_grad():
        w.assign(w * 10.0)
    loss.backward()
    assert w.grad.tolist() == [2.0, 4.0]
    assert w.tolist() == [10.0, 20.0]


def test_a_gradient_whose_owner_died_is_dropped() -> None:
    w, v = leaf(1, 2), leaf(3, 4)
    loss = (w * v).sum()
    gone = weakref.ref(w)
    del w
    gc.collect()
    assert gone() is None
    loss.backward()
    assert v.grad.tolist() == [1.0, 2.0]


def test_a_rebind_with_history_passes_gradients_on() -> None:
    w = leaf(1, 2)
    x = w
    x = x * 2.0
    x += w
    x.sum().backward()
    assert w.grad.tolist() == [3.0, 3.0]


def test_rows_that_are_exchanged_get_no_gradient_of_the_old_ones() -> None:
    w = leaf(1, 2, 3)
    y = w * 1.0
    y[0] = 10.0
    (y * y).sum().backward()
    assert w.grad.tolist() == [0.0, 4.0, 6.0]


def test_in_place_arithmetic_on_a_gradient() -> None:
    w = leaf(1, 2)
    (w * w).sum().backward()
    kept = w.grad
    w.grad *= 0.5
    assert w.grad.tolist() == [1.0, 2.0]
    assert w.grad is kept


def test_gradients_are_leaves_without_history() -> None:
    w = leaf(1, 2)
    (w * w).sum().backward()
    assert not w.grad.requires_grad


def test_what_no_grad_records_has_no_history() -> None:
    w = leaf(1, 2)

    @trine.no_grad()
    def evaluate(depth: int) -> trine.Tensor:
        return evaluate(depth - 1) if depth else w * 2.0

    assert not evaluate(3).requires_grad
    assert (w * 2.0).requires_grad
    with trine.no_grad():
        y = w * 2.0
    assert not (y * 3.0).requires_grad


# -- Refusals: whole texts ---------------------------------------------------------------------------------------------


def refused(kind: type[Exception], action: object) -> list[str]:
    with pytest.raises(kind) as caught:
        action()
    return str(caught.value).splitlines()


def test_a_second_backward_is_refused() -> None:
    w = leaf(1, 2)
    loss = (w * w).sum()
    loss.backward()
    lines = refused(GradientError, lambda: loss.backward())
    assert lines[0] == "backward: this history was used up by an earlier backward()"
    assert lines[1].startswith("  at test_backward.py:")
    assert lines[2].startswith("  got: sum -> f32[] of test_backward.py:")
    assert lines[2].endswith(": loss = (w * w).sum()")
    assert lines[3] == "  try: backward(retain_graph=True) the first time, or detach() what is carried"


def test_history_carried_over_from_a_consumed_one_is_refused() -> None:
    w = leaf(1, 2)
    h = w * w
    h.sum().backward()
    assert refused(GradientError, lambda: (h * w).sum().backward())[0] == (
        "backward: this history was used up by an earlier backward()"
    )
    w.grad = None
    (h.detach() * w).sum().backward()
    assert w.grad.tolist() == [1.0, 4.0]


def test_a_value_without_history_is_refused() -> None:
    lines = refused(GradientError, lambda: trine.ones(()).backward())
    assert lines[0] == "backward: no leaf that wants a gradient is part of this value"
    assert lines[3] == "  try: trine.asarray(..., requires_grad=True), and no no_grad() around it"


def test_more_than_one_number_is_refused() -> None:
    lines = refused(ShapeError, lambda: (leaf(1, 2) * 2.0).backward())
    assert lines[0] == "backward: starts from one number, not from shape [2]"
    assert lines[2:] == ["  got: f32[2]", "  try: reduce it first: loss.mean().backward(), or pass gradient="]


def test_a_gradient_of_another_type_is_refused() -> None:
    lines = refused(ShapeError, lambda: (leaf(1, 2) * 2.0).backward(trine.ones(3)))
    assert lines[0] == "backward: the gradient to start from has the type of the tensor, f32[2]"
    w = leaf(1, 2)

    def write() -> None:
        w.grad = trine.ones(3)

    assert refused(ShapeError, write)[0] == "grad: a gradient has the type of its tensor, f32[2]"


def test_two_versions_of_one_parameter_are_refused_with_both_lines() -> None:
    w = leaf(1, 2)
    loss = (w * w).sum()
    with trine.no_grad():
        w.assign(w * 2.0)
    lines = refused(GradientError, lambda: (loss + w.sum()).backward())
    assert lines[0] == "backward: two versions of one parameter are part of this value"
    assert lines[2].count("test_backward.py:") == 2
    assert "w.assign(w * 2.0)" in lines[2]
    assert lines[3] == "  try: call backward() before the parameter is re-bound"
    assert w.grad is None


def test_integers_want_no_gradient() -> None:
    assert refused(DTypeError, lambda: trine.asarray([1, 2], requires_grad=True))[0] == (
        "requires_grad: only floats carry gradients, not int64"
    )


def test_the_gradient_of_std_is_zero_where_the_variance_is() -> None:
    x = trine.asarray([[1.0, 1.0], [1.0, 3.0]], requires_grad=True)
    x.std(axis=1).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 0.0], [-0.5, 0.5]]


def test_state_re_bound_inside_grad_keeps_no_history() -> None:
    state = trine.zeros(())

    def counted(x: trine.Tensor) -> trine.Tensor:
        state.assign(state * 0.5 + x)
        return x * x

    slope = trine.grad(counted)
    for _ in range(50):
        slope(trine.asarray(1.0)).item()
        state.item()
    assert not state.requires_grad
    assert not state.node.inputs
