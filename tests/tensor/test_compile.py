"""`trine.compile`: what a replay gives is what the Python gives, and what differs is refused."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import trine
from trine.errors import CaptureError, IndexRangeError
from trine.ir.graph import Node

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def tensor(value: object, requires: bool = False) -> trine.Tensor:
    return trine.asarray(np.asarray(value, np.float32), requires_grad=requires)


def make_step(w: trine.Tensor, m: trine.Tensor):
    def step(x: trine.Tensor) -> trine.Tensor:
        loss = ((x @ w) ** 2).mean()
        w.grad = None
        loss.backward()
        with trine.no_grad():
            m.assign(0.9 * m + w.grad)
            w.assign(w - 0.01 * m)
        return loss

    return step


# -- Replay ------------------------------------------------------------------------------------------------------------


def test_a_training_step_replays_bit_for_bit() -> None:
    results = []
    for wrap in (lambda f: f, trine.compile):
        w, m = tensor([[1], [2], [3]], True), tensor([[0], [0], [0]])
        step = wrap(make_step(w, m))
        losses = [step(X + i).item() for i in range(8)]
        results.append((losses, w.numpy().tobytes(), m.numpy().tobytes(), w.grad.numpy().tobytes()))
    assert results[0] == results[1]


def test_the_second_call_compares_and_the_third_runs_no_python() -> None:
    w, m = tensor([[1], [2], [3]], True), tensor([[0], [0], [0]])
    step = trine.compile(make_step(w, m))
    counts = []
    for _ in range(4):
        step(X)
        counts.append((step.recorded, step.replayed))
    assert counts == [(1, 0), (2, 0), (2, 1), (2, 2)]
    assert "replayed: " in step.explain()
    assert "2 tensors read" in step.explain()


def test_a_parameter_changed_from_outside_is_read_at_every_call() -> None:
    w = tensor([1, 2, 3], True)
    f = trine.compile(lambda x: (x * w).sum())
    for k in range(5):
        with trine.no_grad():
            w.assign(tensor([k, k, k]))
        assert f(tensor([1, 1, 1])).item() == 3.0 * k


def test_a_rebound_handle_is_a_leaf_again_and_trains_on() -> None:
    w, m = tensor([[1], [2], [3]], True), tensor([[0], [0], [0]])
    step = trine.compile(make_step(w, m))
    for _ in range(3):
        step(X)
    assert w.is_leaf
    assert w.requires_grad
    w.grad = None
    w.sum().backward()
    assert w.grad.tolist() == [[1.0]] * 3


def test_in_place_arithmetic_on_values_made_inside() -> None:
    def f(x: trine.Tensor) -> trine.Tensor:
        y = x * 2.0
        y += 1.0
        y[0] = 0.0
        return y

    step = trine.compile(f)
    for i in range(4):
        assert step(tensor([i, i])).tolist() == [0.0, 2.0 * i + 1.0]
    assert step.replayed == 2


def test_learning_rate_as_a_tensor_is_no_new_recording() -> None:
    w, rate = tensor([1, 1], True), tensor(0.5)

    @trine.compile
    def step() -> None:
        w.grad = None
        (w * 2.0).sum().backward()
        with trine.no_grad():
            w.assign(w - rate * w.grad)

    expected = 1.0
    for value in (0.5, 0.25, 0.125, 1.0, 2.0):
        rate.assign(tensor(value))
        step()
        expected -= 2 * value
        assert w.tolist() == [expected] * 2
    assert step.recorded == 2


def test_random_numbers_are_new_at_every_call_and_those_of_the_eager_program() -> None:
    def noisy(x: trine.Tensor) -> trine.Tensor:
        return x + trine.random.uniform(3) * trine.random.normal(3)

    trine.manual_seed(3)
    eager = [noisy(tensor([0, 0, 0])).tolist() for _ in range(6)]
    trine.manual_seed(3)
    step = trine.compile(noisy)
    assert [step(tensor([0, 0, 0])).tolist() for _ in range(6)] == eager
    assert len({tuple(row) for row in eager}) == 6
    assert step.replayed == 4


def test_gradients_accumulate_across_calls_and_across_two_steps() -> None:
    w = tensor([1, 2], True)
    one = trine.compile(lambda x: (x * w).sum().backward())
    two = trine.compile(lambda x: (x * w * w).sum().backward())
    expected = np.zeros(2)
    for i in range(1, 8):
        one(tensor([i, i]))
        two(tensor([1, 1]))
        expected += i + 2 * np.array([1, 2])
        assert w.grad.tolist() == expected.tolist()
    assert one.replayed > 2
    assert two.replayed > 2


def test_gradients_taken_away_every_third_call() -> None:
    w = tensor([1, 2], True)
    step = trine.compile(lambda x: (x * w).sum().backward())
    for i in range(16):
        if i % 3 == 0:
            w.grad = None
        step(tensor([1, 1]))
        assert w.grad.tolist() == [i % 3 + 1.0] * 2
    assert step.recorded <= 5, "one recording for gradients from before, one for none, each compared"


def test_a_gradient_left_from_outside_is_read() -> None:
    w = tensor([1, 2], True)

    @trine.compile
    def apply() -> None:
        with trine.no_grad():
            w.assign(w - w.grad)

    for i in range(5):
        w.grad = None
        (w * float(i)).sum().backward()
        before = w.numpy()
        apply()
        np.testing.assert_array_equal(w.numpy(), before - i)
    assert apply.replayed == 3


def test_gradients_scaled_in_place() -> None:
    w = tensor([1, 2], True)

    @trine.compile
    def scale() -> None:
        w.grad *= 0.5

    for i in range(1, 6):
        w.grad = None
        (w * float(i)).sum().backward()
        scale()
        assert w.grad.tolist() == [0.5 * i] * 2
    assert scale.replayed == 3


def test_two_handles_on_one_value_part_ways() -> None:
    online = tensor([1, 2])
    target = online.copy()
    f = trine.compile(lambda: (online - target).sum())
    assert [f().item() for _ in range(3)] == [0.0, 0.0, 0.0]
    online += 1.0
    assert [f().item() for _ in range(3)] == [2.0, 2.0, 2.0]
    target.assign(online)
    assert f().item() == 0.0


def test_a_handle_assigned_from_another_one() -> None:
    online, target = tensor([1, 2], True), tensor([0, 0])

    @trine.compile
    def copy() -> None:
        with trine.no_grad():
            target.assign(online)

    for i in range(5):
        with trine.no_grad():
            online.assign(tensor([i, i]))
        copy()
        assert target.tolist() == [i, i]
        assert not target.requires_grad
    assert copy.replayed == 3


def test_a_swap_of_two_handles() -> None:
    a, b = tensor([1, 2]), tensor([3, 4])

    @trine.compile
    def swap() -> None:
        old = a.copy()
        a.assign(b)
        b.assign(old)

    for i in range(6):
        swap()
        assert (a.tolist(), b.tolist()) == (([3, 4], [1, 2]) if i % 2 == 0 else ([1, 2], [3, 4]))


# -- Arguments and results ---------------------------------------------------------------------------------------------


def test_shapes_and_dtypes_each_have_a_recording() -> None:
    f = trine.compile(lambda x: x * 2)
    for _ in range(3):
        assert f(tensor([1, 2])).tolist() == [2, 4]
        assert f(tensor([[1], [2]])).tolist() == [[2], [4]]
        assert f(trine.asarray([1, 2])).dtype is trine.int64
    assert (f.recorded, f.replayed) == (6, 3)


def test_static_arguments_are_part_of_the_recording() -> None:
    def f(x: trine.Tensor, power: int, *, negate: bool = False, name: object = None) -> trine.Tensor:
        y = x**power
        return -y if negate else y

    step = trine.compile(f)
    for _ in range(3):
        assert step(tensor([2]), 2).tolist() == [4]
        assert step(tensor([2]), 3).tolist() == [8]
        assert step(tensor([2]), 3, negate=True).tolist() == [-8]
    assert step.replayed == 3


def test_equal_numbers_of_another_type_or_sign_are_other_arguments() -> None:
    f = trine.compile(lambda x, k: x * k if isinstance(k, float) else x)
    for _ in range(3):
        assert f(trine.asarray([1, 2]), True).dtype is trine.int64
        assert f(tensor([3]), 1).tolist() == [3]
        assert np.signbit(f(tensor([3]), -0.0).numpy()).all()
        assert not np.signbit(f(tensor([3]), 0.0).numpy()).any()


def test_an_unhashable_argument_is_known_by_identity() -> None:
    f = trine.compile(lambda x, values: x * len(values))
    for n in range(1, 6):
        assert f(tensor([1]), set(range(n))).tolist() == [n]
    same = {1, 2}
    for _ in range(3):
        assert f(tensor([1]), same).tolist() == [2]
    assert f.replayed == 1


def test_arrays_numbers_and_containers_as_arguments() -> None:
    f = trine.compile(lambda batch: {"sum": batch["x"] + batch["y"][0], "n": 3, "none": None})
    for i in range(4):
        found = f({"x": np.float32([i]), "y": (tensor([1]), tensor([2]))})
        assert found["sum"].tolist() == [i + 1]
        assert (found["n"], found["none"]) == (3, None)
    assert f.replayed == 2


def test_an_argument_returned_as_it_is_is_the_callers_handle() -> None:
    f = trine.compile(lambda x, y: (x, x + y))
    for i in range(4):
        x = tensor([i])
        same, total = f(x, tensor([1]))
        assert same is x
        assert total.tolist() == [i + 1]


def test_a_parameter_returned_is_the_parameter() -> None:
    w = tensor([1, 2], True)
    f = trine.compile(lambda x: (w, x * w))
    for i in range(4):
        with trine.no_grad():
            w.assign(tensor([i, i]))
        same, product = f(tensor([1, 2]))
        assert same is w
        assert product.tolist() == [i, 2 * i]


def test_a_copy_of_a_parameter_returned_has_its_present_value() -> None:
    w = tensor([1, 2])
    f = trine.compile(lambda: (w.copy(), w.detach(), w.reshape(2)))
    kept = []
    for i in range(4):
        w.assign(tensor([i, i]))
        kept.append(f())
        assert all(part is not w for part in kept[-1])
    assert [[p.tolist() for p in parts] for parts in kept] == [[[i, i]] * 3 for i in range(4)]


def test_an_argument_that_is_rebound_is_rebound_for_the_caller() -> None:
    @trine.compile
    def count(state: trine.Tensor) -> trine.Tensor:
        state += 1.0
        return state

    a, b = tensor([0]), tensor([10])
    for i in range(1, 5):
        assert count(a) is a
        assert count(b) is b
        assert (a.tolist(), b.tolist()) == ([i], [10 + i])


def test_gradients_of_an_argument_go_to_the_callers_handle() -> None:
    @trine.compile
    def saliency(x: trine.Tensor) -> trine.Tensor:
        (x * x).sum().backward()
        return x.grad

    for i in range(4):
        x = tensor([i, 1], True)
        assert saliency(x).tolist() == [2 * i, 2]
        assert x.grad.tolist() == [2 * i, 2]


def test_an_argument_that_is_a_variable_outside_too() -> None:
    w = tensor([1, 2])
    f = trine.compile(lambda x: (x * w).sum())
    for _ in range(3):
        assert f(w).item() == 5.0
        assert f(tensor([10, 10])).item() == 30.0


def test_the_same_tensor_twice_is_another_call_than_two() -> None:
    @trine.compile
    def f(a: trine.Tensor, b: trine.Tensor) -> trine.Tensor:
        a += 1.0
        return a + b

    for _ in range(3):
        x, y = tensor([1]), tensor([1])
        assert f(x, y).tolist() == [3]
        assert f(y, y).tolist() == [4]


def test_a_pending_argument_is_computed_first() -> None:
    f = trine.compile(lambda x: x * 2.0)
    for i in range(4):
        assert f(tensor([i]) + 1.0).tolist() == [2.0 * i + 2.0]


def test_an_object_made_inside_cannot_be_returned() -> None:
    @dataclass
    class Output:
        value: trine.Tensor

    f = trine.compile(lambda x: Output(x * 2.0))
    f(tensor([1]))
    f(tensor([2]))
    with pytest.raises(CaptureError, match="the result holds"):
        f(tensor([3]))


def test_a_method_is_compiled_for_its_object() -> None:
    class Scaler:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        @trine.compile
        def scale(self, x: trine.Tensor) -> trine.Tensor:
            return x * self.factor

    two, three = Scaler(2.0), Scaler(3.0)
    for _ in range(3):
        assert two.scale(tensor([1])).tolist() == [2]
        assert three.scale(tensor([1])).tolist() == [3]


# -- Histories ---------------------------------------------------------------------------------------------------------


def test_results_that_carry_history_replay_with_gradients() -> None:
    w = tensor([1, 2], True)
    f = trine.compile(lambda x: (x * w).exp())
    for i in range(5):
        w.grad = None
        f(tensor([i, 1])).sum().backward()
        np.testing.assert_allclose(w.grad.numpy(), [i * np.exp(i), np.exp(2)], rtol=1e-6)
    assert f.replayed == 3


def test_what_was_detached_stays_detached_in_a_replay() -> None:
    w = tensor([1, 2], True)
    average = tensor([0, 0])

    def f(x: trine.Tensor) -> trine.Tensor:
        y = x * w
        with trine.no_grad():
            average.assign(0.5 * average + 0.5 * y)
        return y * y.detach()

    step = trine.compile(f)
    for i in range(1, 6):
        w.grad = None
        step(tensor([i, 1])).sum().backward()
        assert w.grad.tolist() == [i * i, 2.0]
        assert not average.requires_grad
    assert step.replayed == 3


def test_gradients_flow_to_an_argument_with_history() -> None:
    w = tensor([1, 2], True)
    f = trine.compile(lambda x: x * x)
    for _ in range(4):
        w.grad = None
        f(w * 3.0).sum().backward()
        assert w.grad.tolist() == [18.0, 36.0]


def test_a_history_from_before_the_step_is_refused() -> None:
    w = tensor([1, 2], True)
    f = trine.compile(lambda x: (x * x).sum().backward())
    with pytest.raises(CaptureError, match="goes on from a history that was recorded before it"):
        f(w * 3.0)
    assert w.grad is None


def test_results_without_gradients_carry_none() -> None:
    w = tensor([1, 2], True)
    f = trine.compile(lambda x: x * w)
    for _ in range(3):
        with trine.no_grad():
            assert not f(tensor([1, 1])).requires_grad
        assert f(tensor([1, 1])).requires_grad


def test_gradient_functions_inside_and_outside() -> None:
    inside = trine.compile(trine.grad(lambda x: (x**3).sum()))
    outside = trine.grad(trine.compile(lambda x: (x**3).sum()))
    for i in range(4):
        assert inside(tensor([i, 1])).tolist() == [3.0 * i * i, 3.0]
        assert outside(tensor([i, 1])).tolist() == [3.0 * i * i, 3.0]


def test_vmap_inside_reads_variables_anew() -> None:
    w = tensor([1, 2])
    f = trine.compile(lambda x: trine.vmap(lambda row: (row * w).sum())(x))
    for i in range(4):
        w.assign(tensor([i, i]))
        assert f(tensor([[1, 1], [2, 2]])).tolist() == [2 * i, 4 * i]


# -- Values needed inside ----------------------------------------------------------------------------------------------


def test_a_step_that_forces_a_value_runs_its_python_every_time() -> None:
    w = tensor([1, 2], True)
    seen = []

    @trine.compile
    def step(x: trine.Tensor) -> trine.Tensor:
        y = x * w
        seen.append(y.sum().item())
        return y * 2.0 if seen[-1] > 3 else y

    assert [step(tensor([i, 0])).tolist()[0] for i in range(6)] == [0, 1, 2, 3, 8, 10]
    assert seen == [0, 1, 2, 3, 4, 5]
    assert step.replayed == 0
    assert "runs its Python" in step.explain()


def test_segments_of_a_forced_step_are_compiled_once() -> None:
    def f(x: trine.Tensor) -> trine.Tensor:
        y = (x * 3.0).sum()
        return (x + 1.0) * (2.0 if y.item() > 0 else 3.0)

    step = trine.compile(f)
    step(tensor(np.ones((3, 19))))
    before = trine.engine.ENGINE.compiled
    for _ in range(5):
        step(tensor(np.ones((3, 19))))
    assert trine.engine.ENGINE.compiled == before


def test_a_forced_step_keeps_none_of_its_values() -> None:
    refs = []

    @trine.compile
    def step(x: trine.Tensor) -> float:
        y = x * 3.0
        refs.append(weakref.ref(y.node))
        return y.sum().item()

    for i in range(3):
        assert step(tensor([i])) == 3.0 * i
    gc.collect()
    assert [r() for r in refs] == [None] * 3


# -- Nesting, threads, memory ------------------------------------------------------------------------------------------


def test_compile_inside_compile_is_one_step() -> None:
    w = tensor([1, 2])
    inner = trine.compile(lambda x: x * w)
    outer = trine.compile(lambda x: inner(x) + inner(x * 2.0))
    for i in range(5):
        w.assign(tensor([i, i]))
        assert outer(tensor([1, 1])).tolist() == [3 * i, 3 * i]
    assert (outer.replayed, inner.recorded) == (3, 0)


def test_a_compiled_function_in_a_trace() -> None:
    inner = trine.compile(lambda x: x * 2.0)
    graph = trine.trace(lambda x: inner(x) + 1.0, trine.spec(("n",)))
    assert graph.run(tensor([1, 2, 3])).tolist() == [3, 5, 7]


def test_a_compiled_step_holds_no_values_of_its_first_calls() -> None:
    w = trine.asarray(np.ones((256, 256), np.float32), requires_grad=True)

    @trine.compile
    def step(x: trine.Tensor) -> trine.Tensor:
        loss = ((x @ w) ** 2).mean()
        w.grad = None
        loss.backward()
        with trine.no_grad():
            w.assign(w - 0.1 * w.grad)
        return loss

    size = 256 * 256 * 4
    tracemalloc.start()
    first = w.node
    held = weakref.ref(first)
    del first
    for _ in range(4):
        step(np.ones((256, 256), np.float32))
    gc.collect()
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held() is None
    assert now < 2.5 * size, "the parameter, its gradient, and no more"


def test_nodes_do_not_pile_up_over_calls() -> None:
    w, m = tensor([[1], [2], [3]], True), tensor([[0], [0], [0]])
    step = trine.compile(make_step(w, m))
    counts = []
    for _ in range(4):
        for _ in range(20):
            step(X)
        gc.collect()
        counts.append(sum(issubclass(type(o), Node) for o in gc.get_objects()))
    assert counts[1] == counts[2] == counts[3]


def test_recordings_are_kept_within_bounds() -> None:
    f = trine.compile(lambda x, k: x * k)
    for k in range(100):
        f(tensor([1]), k)
    assert len(f._entries) <= 32


def test_threads_replay_one_step() -> None:
    w = tensor([1, 2, 3])
    f = trine.compile(lambda x: (x * w).sum())
    wrong: list[object] = []

    def work(k: int) -> None:
        try:
            for i in range(50):
                if f(tensor([k, i, 1])).item() != k + 2 * i + 3:
                    wrong.append((k, i))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- Differences and errors --------------------------------------------------------------------------------------------


def refused(step: object, *args: object) -> str:
    with pytest.raises(CaptureError) as caught:
        for _ in range(4):
            step(*args)
    return str(caught.value)


def test_a_number_that_changes_is_refused_with_the_way_out() -> None:
    numbers = iter(range(100))
    text = refused(trine.compile(lambda x: x * float(next(numbers) + 2)), tensor([1]))
    lines = text.splitlines()
    assert lines[0].endswith("<lambda>: two calls record different steps: a number changed from 3.0 to 4.0")
    assert lines[1].startswith("  at test_compile.py:")
    assert lines[2:] == [
        "  got: a replay would repeat the first",
        "  try: pass what changes as an argument, keep it in a tensor that is re-bound with assign(), or leave "
        "trine.compile away (in fit: run_eagerly=True)",
    ]


def test_an_operation_that_changes_is_refused_with_its_line() -> None:
    numbers = iter(range(100))
    text = refused(trine.compile(lambda x: x + 1.0 if next(numbers) % 2 else x * 1.0), tensor([1]))
    assert "multiply -> f32[1] became add -> f32[1] at test_compile.py:" in text or (
        "add -> f32[1] became multiply -> f32[1] at test_compile.py:" in text
    )


def test_a_constant_that_changes_is_refused() -> None:
    rng = np.random.default_rng(0)
    text = refused(trine.compile(lambda x: x + trine.asarray(rng.normal(size=3).astype("f4"))), tensor([1, 1, 1]))
    assert "a constant f32[3] made inside has other values" in text


def test_a_list_that_grows_in_the_step_is_refused() -> None:
    losses = []

    def step(x: trine.Tensor) -> None:
        losses.append(x.sum())

    assert "the length or an element of losses was changed by the step itself" in refused(trine.compile(step), X)


def test_a_variable_rebound_in_the_step_is_refused() -> None:
    count = 0

    def step(x: trine.Tensor) -> trine.Tensor:
        nonlocal count
        count += 1
        return x * 2.0

    assert "the variable count of" in refused(trine.compile(step), tensor([1]))


def test_another_tensor_rebound_is_refused() -> None:
    states, numbers = (tensor([0]), tensor([0])), iter(range(100))

    def step(x: trine.Tensor) -> None:
        states[next(numbers) % 2].assign(x * 2.0)

    assert "other tensors are re-bound" in refused(trine.compile(step), tensor([1]))


def test_another_structure_of_the_result_is_refused() -> None:
    numbers = iter(range(100))
    text = refused(trine.compile(lambda x: [x * 2.0] if next(numbers) % 2 else (x * 2.0,)), tensor([1]))
    assert "the result has another structure" in text


def test_another_number_in_the_result_is_refused() -> None:
    numbers = iter(range(100))
    assert "the result holds 1, then 2" in refused(trine.compile(lambda x: (x * 2.0, next(numbers))), tensor([1]))


def test_an_exception_in_the_function_undoes_what_it_rebound() -> None:
    w, m = tensor([1, 2], True), tensor([0, 0])

    @trine.compile
    def step(x: trine.Tensor, fail: bool) -> None:
        (x * w).sum().backward()
        with trine.no_grad():
            m.assign(m + w.grad)
            w.assign(w - m)
        if fail:
            raise KeyError("mine")

    before = (w.node, m.node)
    with pytest.raises(KeyError, match="mine"):
        step(tensor([1, 1]), True)
    assert (w.node, m.node) == before
    assert w.grad is None
    step(tensor([1, 1]), False)
    assert w.tolist() == [0.0, 1.0]


def test_an_error_at_run_time_undoes_the_step_and_names_its_line() -> None:
    table, seen = tensor([1, 2, 3]), tensor([0])

    @trine.compile
    def step(index: trine.Tensor) -> None:
        seen.assign(seen + trine.take(table, index))

    for i in (0, 1, 2, 7, 2, 9):
        before = seen.tolist()
        if i < 3:
            step(trine.asarray([i]))
            assert seen.tolist() == [before[0] + i + 1]
        else:
            with pytest.raises(IndexRangeError, match=r"seen\.assign\(seen \+ trine\.take\(table, index\)\)"):
                step(trine.asarray([i]))
            assert seen.tolist() == before


def test_an_error_at_run_time_of_the_first_call_undoes_the_step() -> None:
    table, seen = tensor([1, 2, 3]), tensor([0])
    step = trine.compile(lambda index: seen.assign(seen + trine.take(table, index)))
    with pytest.raises(IndexRangeError):
        step(trine.asarray([5]))
    assert seen.tolist() == [0.0]
    assert step(trine.asarray([1])) is seen
    assert seen.tolist() == [2.0]
