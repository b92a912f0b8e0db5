"""Whole programs: how values, handles and gradients behave together, beyond what one operation can show."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import trine
from trine import Tensor
from trine.errors import GradientError, ShapeError


def leaf(value: object, dtype: str = "float64") -> Tensor:
    return trine.asarray(value, dtype=dtype, requires_grad=True)


def slopes(x: Tensor) -> list[float]:
    assert x.grad is not None
    found: list[float] = x.grad.tolist()
    return found


def line_of(marker: str, function: Callable[..., object]) -> int:
    """The number of the line of a test that ends with `# marker`."""
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, text in enumerate(lines) if text.rstrip().endswith(f"# {marker}"))


# -- Shapes of graphs --------------------------------------------------------------------------------------------------


def test_a_value_with_three_readers_gets_the_sum_of_their_gradients() -> None:
    x = leaf([2.0, 3.0])
    (x * 2 + x * x + trine.exp(x) * 0).sum().backward()
    assert slopes(x) == [6.0, 8.0]


def test_a_diamond_counts_both_ways() -> None:
    x = leaf([0.5])
    middle = trine.sin(x)
    (trine.exp(middle) * trine.log(middle + 2)).sum().backward()
    s, c = np.sin(0.5), np.cos(0.5)
    assert slopes(x)[0] == pytest.approx(c * np.exp(s) * (np.log(s + 2) + 1 / (s + 2)), rel=1e-14)


def test_thirty_diamonds_on_top_of_each_other_take_one_pass() -> None:
    """2**30 paths: a walk that follows each of them would not end."""
    x = leaf(1.0)
    y = x
    for _ in range(30):
        y = y + y
    y.backward()
    assert slopes(x) == 2.0**30


def test_the_same_value_as_both_operands() -> None:
    x = leaf([3.0])
    cases: list[tuple[Callable[[Tensor], Tensor], float]] = [
        (lambda v: v * v, 6.0), (lambda v: v + v, 2.0), (lambda v: v - v, 0.0), (lambda v: v / v, 0.0),
        (lambda v: trine.maximum(v, v), 1.0), (lambda v: trine.where(v > 0, v, v), 1.0),
    ]  # fmt: skip
    for function, want in cases:
        x.grad = None
        function(x).sum().backward()
        assert slopes(x) == [want]


def test_unused_values_have_no_influence() -> None:
    x, other = leaf([1.0]), leaf([1.0])
    trine.log(x - 1)  # -inf, and nobody asks
    unused = other * x
    (x * 3).sum().backward()
    assert slopes(x) == [3.0]
    assert other.grad is None
    assert unused.tolist() == [1.0]


def test_a_value_read_before_and_after_it_is_known_is_the_same() -> None:
    x = trine.asarray([1.0, 2.0])
    y = x * 3
    before = y + 1
    assert y.tolist() == [3.0, 6.0]
    after = y + 1
    assert before.tolist() == after.tolist() == [4.0, 7.0]


def test_gradients_of_broadcast_values_are_summed_to_their_shape() -> None:
    scalar, column, row = leaf(2.0), leaf([[1.0], [2.0], [3.0]]), leaf([1.0, 2.0, 3.0, 4.0])
    (scalar * column * row).sum().backward()
    assert slopes(scalar) == 60.0
    assert slopes(column) == [[20.0], [20.0], [20.0]]
    assert slopes(row) == [12.0, 12.0, 12.0, 12.0]


def test_gradients_of_promoted_values_have_their_dtype() -> None:
    half, single = leaf([1.0, 2.0], "bfloat16"), leaf([3.0], "float32")
    (half * single).sum().backward()
    assert half.grad is not None and single.grad is not None
    assert (half.grad.dtype, half.grad.tolist()) == (trine.bfloat16, [3.0, 3.0])
    assert (single.grad.dtype, single.grad.tolist()) == (trine.float32, [3.0])


def test_a_branch_that_is_not_chosen_does_not_poison_the_gradient_of_the_other() -> None:
    x = leaf([4.0, 0.0])
    safe = trine.where(x > 0, x, 1.0)
    trine.where(x > 0, trine.log(safe), 0.0).sum().backward()
    assert slopes(x) == [0.25, 0.0]


def test_fan_in_is_added_in_the_order_in_which_the_readers_were_recorded() -> None:
    """((1e8 + 1) - 1e8) in float32 is 0, any order that adds 1 last gives 1."""
    x = leaf(1.0, "float32")
    (x * 1e8 + x * 1.0 + x * -1e8).backward()
    assert slopes(x) == 0.0
    x.grad = None
    (x * 1e8 + x * -1e8 + x * 1.0).backward()
    assert slopes(x) == 1.0


# -- Long programs -----------------------------------------------------------------------------------------------------


def test_a_chain_of_20000_operations_needs_no_recursion() -> None:
    x = leaf(0.0)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.backward()
    assert y.item() == 20_000.0
    assert slopes(x) == 1.0
    del y
    gc.collect()


def test_the_gradient_of_a_long_product_is_right() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(5_500):  # more than are kept pending
        y = y * x
    y.backward()
    assert slopes(x) == 5_501.0


def test_loops_that_append_losses_average_weights_and_accumulate_gradients_are_right() -> None:
    w = leaf([1.0, 2.0], "float32")
    average = trine.zeros((2,))
    losses = []
    for step in range(50):
        loss = ((w - step) ** 2).sum()
        loss.backward()
        losses.append(loss)
        average = average * 0.5 + w.detach() * 0.5
        with trine.no_grad():
            w += 0.01
    assert slopes(w) == pytest.approx([sum(2 * (w0 + 0.01 * s - s) for s in range(50)) for w0 in (1.0, 2.0)], rel=1e-5)
    assert losses[3].item() == pytest.approx((1.03 - 3) ** 2 + (2.03 - 3) ** 2, rel=1e-5)
    assert average.tolist() == pytest.approx([1.48, 2.48], rel=1e-5)


# -- Handles -----------------------------------------------------------------------------------------------------------


def test_slices_never_alias() -> None:
    x = trine.asarray([[1.0, 2.0], [3.0, 4.0]])
    row = x[0]
    row += 1
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert row.tolist() == [2.0, 3.0]
    x[1] = 0.0
    assert x.tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert row.tolist() == [2.0, 3.0]


def test_two_names_of_one_handle_see_a_re_bind_and_a_copy_does_not() -> None:
    x = trine.asarray([1.0])
    same, other = x, x.copy()
    x += 1
    assert same is x
    assert (same.tolist(), other.tolist()) == ([2.0], [1.0])


def test_what_was_recorded_before_a_re_bind_keeps_the_old_value() -> None:
    x = trine.asarray([1.0])
    before = x * 10
    x *= 5
    assert (before.tolist(), (x * 10).tolist()) == ([10.0], [50.0])


def test_an_array_given_to_asarray_may_be_written_afterwards() -> None:
    array = np.ones(3, np.float32)
    x = trine.asarray(array)
    y = x * 2
    array[:] = 7
    assert (x.tolist(), y.tolist()) == ([1.0] * 3, [2.0] * 3)


def test_exports_are_read_only() -> None:
    x = trine.asarray([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 5


def test_a_re_bind_keeps_the_type() -> None:
    x = trine.asarray([1.0, 2.0])
    with pytest.raises(ShapeError, match="re-bind keeps the type"):
        x.assign(trine.asarray([1.0]))
    with pytest.raises(ShapeError, match="re-bind keeps the type"):
        x += trine.ones((2, 2))


def test_gradients_flow_through_a_re_bound_handle() -> None:
    x = leaf([1.0, 2.0])
    y = x * 1
    y *= x
    y[0] = 0.0
    y.sum().backward()
    assert slopes(x) == [0.0, 4.0]


def test_copies_and_pickles_are_leaves_of_their_own() -> None:
    x = leaf([1.0])
    for made in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert made.requires_grad and made.is_leaf
        (made * 3).sum().backward()
        assert slopes(made) == [3.0]
    assert x.grad is None


# -- backward() --------------------------------------------------------------------------------------------------------


def test_backward_adds_to_the_gradient_that_is_there() -> None:
    x = leaf([1.0])
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    assert slopes(x) == [5.0]


def test_backward_uses_the_history_up_and_says_so() -> None:
    x = leaf([1.0])
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(GradientError) as caught:
        loss.backward()
    text = str(caught.value)
    assert text.startswith("backward: this history was used up by an earlier backward()\n")
    assert "retain_graph=True" in text
    assert f"test_programs.py:{line_of_call(caught)}" in text


def line_of_call(caught: pytest.ExceptionInfo[GradientError]) -> int:
    return next(e.lineno + 1 for e in caught.traceback if e.path.name == "test_programs.py")


def test_values_stay_readable_after_backward() -> None:
    x = leaf([3.0])
    y = x * x
    loss = y.sum()
    loss.backward()
    assert (y.tolist(), loss.item()) == ([9.0], 9.0)


def test_using_a_used_up_value_further_is_an_error_at_the_next_backward() -> None:
    x = leaf([1.0])
    y = x * x
    y.sum().backward()
    with pytest.raises(GradientError, match="used up"):
        (y * x).sum().backward()
    (y.detach() * x).sum().backward()
    assert slopes(x) == [3.0]


def test_retain_graph_keeps_the_history() -> None:
    x = leaf([2.0])
    loss = (x**3).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert slopes(x) == [24.0]
    with pytest.raises(GradientError, match="used up"):
        loss.backward()


def test_reading_the_loss_before_backward_changes_nothing() -> None:
    found = []
    for read in (False, True):
        x = leaf([0.3, 0.7], "float32")
        hidden = trine.tanh(x * 3)
        loss = (hidden * hidden).sum()
        if read:
            assert loss.item() > 0
            assert hidden.shape == (2,)
        loss.backward()
        assert x.grad is not None
        found.append(x.grad.numpy().tobytes())
    assert found[0] == found[1]


def test_backward_from_several_numbers_needs_a_gradient_to_start_from() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"starts from one number, not from shape \[2\]"):
        (x * x).backward()
    (x * x).backward(trine.asarray([1.0, 10.0], dtype="float64"))
    assert slopes(x) == [2.0, 40.0]
    with pytest.raises(ShapeError, match="has the type of the tensor"):
        (x * x).backward(trine.asarray([1.0], dtype="float64"))


def test_backward_without_a_leaf_is_an_error() -> None:
    with pytest.raises(GradientError, match="no leaf that wants a gradient"):
        trine.asarray([1.0]).sum().backward()
    with pytest.raises(GradientError, match="no leaf that wants a gradient"):
        leaf([1.0]).detach().sum().backward()


def test_two_versions_of_one_parameter_are_an_error_that_names_both_lines() -> None:
    w = leaf([1.0])
    first = w * 2
    with trine.no_grad():
        w -= 0.5  # second version
    loss = (first * w).sum()
    with pytest.raises(GradientError, match="two versions of one parameter") as caught:
        loss.backward()
    here = test_two_versions_of_one_parameter_are_an_error_that_names_both_lines
    assert f"test_programs.py:{line_of('second version', here)}" in str(caught.value)
    assert str(caught.value).count("test_programs.py:") >= 3  # both, and the call


def test_a_gradient_goes_to_the_handle_that_owned_the_leaf_when_it_was_recorded() -> None:
    w = leaf([1.0])
    loss = (w * w).sum()
    with trine.no_grad():
        w += 1
    loss.backward()
    assert slopes(w) == [2.0]
    assert w.tolist() == [2.0]


def test_under_no_grad_a_re_bind_makes_a_new_leaf_and_otherwise_a_value_with_history() -> None:
    w = leaf([1.0])
    with trine.no_grad():
        w *= 3
    assert w.is_leaf and w.requires_grad
    v = leaf([1.0])
    v *= 3
    assert not v.is_leaf and v.requires_grad


def test_nothing_recorded_under_no_grad_has_a_history() -> None:
    x = leaf([1.0])
    with trine.no_grad():
        y = x * 2
    assert not y.requires_grad
    assert (x * 2).requires_grad


def test_detach_and_requires_grad_cut_and_start_a_history() -> None:
    x = leaf([2.0])
    (x * x.detach()).sum().backward()
    assert slopes(x) == [2.0]
    y = (x * 3).detach()
    y.requires_grad = True
    (y * y).sum().backward()
    assert slopes(y) == [12.0]
    assert slopes(x) == [2.0]
    y.requires_grad = False
    assert not (y * 2).requires_grad


def test_a_gradient_may_be_cleared_and_set() -> None:
    x = leaf([2.0])
    x.grad = trine.asarray([1.0], dtype="float64")
    (x * 3).sum().backward()
    assert slopes(x) == [4.0]
    x.grad = None
    (x * 3).sum().backward()
    assert slopes(x) == [3.0]
    with pytest.raises(ShapeError, match="a gradient has the type of its tensor"):
        x.grad = trine.asarray([1.0, 2.0], dtype="float64")


def test_training_a_line_by_hand_finds_it() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (64, 1)).astype(np.float32)
    x, y = trine.asarray(points), trine.asarray(points * 3 - 1)
    w, b = leaf([[0.0]], "float32"), leaf([0.0], "float32")
    for _ in range(200):
        ((x * w + b - y) ** 2).mean().backward()
        with trine.no_grad():
            for p in (w, b):
                p -= 0.3 * p.grad
                p.grad = None
    assert w.item() == pytest.approx(3, abs=1e-4)
    assert b.item() == pytest.approx(-1, abs=1e-4)


# -- Functions of functions --------------------------------------------------------------------------------------------


def test_gradients_of_gradients_to_the_fourth_order() -> None:
    function: Callable[[Tensor], Tensor] = trine.sin
    for want in (np.cos(0.7), -np.sin(0.7), -np.cos(0.7), np.sin(0.7)):
        function = trine.grad(function)
        assert function(trine.asarray(0.7, dtype="float64")).item() == pytest.approx(want, rel=1e-13)


def test_grad_inside_a_program_with_backward() -> None:
    """The gradient penalty: a gradient is part of a loss that is itself differentiated."""
    w = leaf([2.0])
    slope = trine.grad(lambda x: (w * x**3).sum())(trine.asarray([3.0], dtype="float64"))
    (slope**2).sum().backward()
    assert slopes(w) == [2 * 2.0 * 27.0**2]


def test_vmap_of_grad_is_a_gradient_for_each_example() -> None:
    x = np.arange(6.0).reshape(3, 2)
    each = trine.vmap(trine.grad(lambda row: (row**3).sum()))(trine.asarray(x))
    assert each.tolist() == (3 * x**2).tolist()


def test_grad_of_vmap() -> None:
    x = trine.asarray([[1.0, 2.0], [3.0, 4.0]])
    slope = trine.grad(lambda v: trine.vmap(lambda row: (row * row).sum())(v).sum())(x)
    assert slope.tolist() == [[2.0, 4.0], [6.0, 8.0]]
