"""How long values and histories live: what is held is kept, what is not is let go of."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import trine
from trine import engine as engine_module
from trine.engine import ENGINE, Failure
from trine.errors import CaptureError, IndexRangeError, TrineError
from trine.ir.graph import CONSUMED, TRACKED, Node, reach
from trine.ops.base import RECORDER


def vector(*numbers: float, **options: object) -> trine.Tensor:
    return trine.asarray(list(numbers), dtype="float32", **options)


def live_nodes() -> int:
    gc.collect()
    return sum(issubclass(type(o), Node) for o in gc.get_objects())


def history(x: trine.Tensor) -> list[Node]:
    return reach([x.node])


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many values each program returned, program after program."""
    counts: list[int] = []
    plain = engine_module.Prepared.run

    def run(self: engine_module.Prepared, inputs: list[object]) -> list[object]:
        found = plain(self, inputs)
        counts.append(len(found))
        return found

    monkeypatch.setattr(engine_module.Prepared, "run", run)
    return counts


# -- Values ------------------------------------------------------------------------------------------------------------


def test_temporaries_are_not_outputs_of_a_program(outputs: list[int]) -> None:
    x = vector(1, 2)
    y = ((x + 1) * 2).exp().sum()
    y.item()
    assert outputs == [1]


def test_what_the_user_holds_is_kept_and_nothing_else(outputs: list[int]) -> None:
    x = vector(1, 2)
    held = x + 1
    y = (held * 2).exp().sum()
    y.item()
    assert outputs == [2]
    assert held.node.buffer is not None
    assert held.tolist() == [2.0, 3.0]
    assert outputs == [2], "a value that was kept is not computed again"


def test_a_value_that_another_pending_value_reads_is_kept(outputs: list[int]) -> None:
    x = vector(1, 2)
    logits = x * 3
    loss, accuracy = logits.sum(), logits.max()
    del logits
    loss.item()
    assert outputs == [2]
    assert accuracy.item() == 6.0


def test_an_evaluated_value_drops_its_inputs() -> None:
    x = vector(1, 2)
    y = (x + 1) * 2
    inner = weakref.ref(y.node.inputs[0])
    y.numpy()
    assert y.node.inputs == ()
    assert inner() is None


def test_discarded_values_are_never_computed(outputs: list[int]) -> None:
    x = vector(1, 2)
    for _ in range(10):
        x * 2
    kept = x + 1
    kept.numpy()
    assert outputs == [1]


def test_a_handle_that_is_rebound_under_no_grad_drops_the_way_there() -> None:
    w = vector(1, 2, requires_grad=True)
    for _ in range(5):
        with trine.no_grad():
            w.assign(w * 0.5)
        w.numpy()
    assert w.node.inputs == ()
    assert history(w) == [w.node]


def test_a_copy_under_no_grad_is_no_part_of_the_parameter() -> None:
    w, target = vector(1, 2, requires_grad=True), vector(0, 0)
    with trine.no_grad():
        target.assign(w)
        w.assign(w * 2)
    assert not target.requires_grad
    assert target.tolist() == [1.0, 2.0]
    assert w.tolist() == [2.0, 4.0]


# -- Histories ---------------------------------------------------------------------------------------------------------


def test_forcing_a_loss_before_backward_stores_only_residuals(outputs: list[int]) -> None:
    x, w = vector(1, 2, 3), vector(0.1, 0.2, -0.6, requires_grad=True)
    h = ((x * w + 1.0) * 2.0 - 1.0).tanh()
    loss = h.sum()
    del h
    loss.item()
    assert outputs == [2], "the loss, and the result of tanh, which its gradient reads"
    loss.backward()
    inner = (np.array([1, 2, 3]) * [0.1, 0.2, -0.6] + 1) * 2 - 1
    np.testing.assert_allclose(w.grad.numpy(), (1 - np.tanh(inner) ** 2) * 2 * [1, 2, 3], rtol=1e-4)


def test_backward_consumes_the_history() -> None:
    w = vector(1, 2, requires_grad=True)
    loss = (w * w).sum()
    loss.backward()
    assert loss.node.flags & CONSUMED
    assert not loss.node.flags & TRACKED
    w.grad.numpy()
    assert loss.node.inputs == (), "the loss is computed beside the gradients"
    assert loss.item() == 5.0


def test_retained_history_serves_twice() -> None:
    w = vector(1, 2, requires_grad=True)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert w.grad.tolist() == [4.0, 8.0]


def test_no_walk_is_recursive() -> None:
    limit = sys.getrecursionlimit()
    w = vector(1, requires_grad=True)
    y = w
    for _ in range(20 * limit // 10):
        y = y * 1.0
    y.sum().backward()
    assert w.grad.tolist() == [1.0]
    del y
    gc.collect()


def test_a_captured_chain_longer_than_the_stack_is_recorded_and_let_go_of() -> None:
    def long(x: trine.Tensor) -> trine.Tensor:
        for _ in range(3 * sys.getrecursionlimit()):
            x = x + 1.0
        return x

    step = trine.compile(long)
    for _ in range(3):
        assert step(vector(0)).item() == 3.0 * sys.getrecursionlimit()
    assert str(trine.trace(long, trine.spec((2,)))).count("\n") > 3 * sys.getrecursionlimit()


# -- Evaluating by itself ----------------------------------------------------------------------------------------------


def test_recording_evaluates_by_itself_when_too_much_is_pending() -> None:
    x = vector(1)
    for _ in range(RECORDER.limit + 10):
        x = x + 1.0
    assert len(RECORDER.pending) < 100
    assert len(history(x)) < 100
    assert x.item() == RECORDER.limit + 11


def test_a_flush_keeps_no_temporaries(outputs: list[int]) -> None:
    x = vector(1)
    held = x * 2.0
    for _ in range(RECORDER.limit + 10):
        x = x + 1.0
    assert held.node.buffer is not None
    assert sum(outputs) == 3, "held, and x before and after the addition that was one too many"


def test_recording_evaluates_by_itself_when_it_pins_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "BYTES_BEFORE_FLUSH", 1 << 20)
    monkeypatch.setattr(ENGINE, "_fresh", 0)
    block = np.ones((256, 256), np.float32)
    total = trine.asarray(np.zeros((256, 256), np.float32))
    longest = 0
    for _ in range(30):
        total = total + trine.asarray(block)
        longest = max(longest, len(history(total)))
    assert longest < 20
    assert total.numpy().max() == 30.0


def test_a_loop_that_never_prints_keeps_memory_flat() -> None:
    w = vector(1, 2, 3, requires_grad=True)
    x = vector(1, 1, 1)
    counts = []
    for _ in range(4):
        for _ in range(30):
            loss = ((w * x) ** 2).sum()
            w.grad = None
            loss.backward()
            with trine.no_grad():
                w.assign(w - 0.01 * w.grad)
            w.numpy()
        counts.append(live_nodes())
    assert max(counts[1:]) <= counts[0] + 5


def test_a_loop_that_never_asks_for_anything_keeps_memory_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RECORDER, "limit", 200)
    w, x = vector(1, 2, 3, requires_grad=True), vector(1, 1, 1)
    counts = []
    for _ in range(5):
        for _ in range(50):
            loss = ((w * x) ** 2).sum()
            w.grad = None
            loss.backward()
            with trine.no_grad():
                w.assign(w - 0.01 * w.grad)
        counts.append(live_nodes())
    assert max(counts) <= counts[0] + 400
    assert np.isfinite(w.numpy()).all()


def test_losses_that_are_appended_hold_one_value_each() -> None:
    w, x = vector(1, 2, 3, requires_grad=True), vector(1, 1, 1)
    losses = []
    before = live_nodes()
    for _ in range(200):
        w.grad = None
        loss = ((w * x) ** 2).sum()
        loss.backward()
        with trine.no_grad():
            w.assign(w - 0.01 * w.grad)
        w.numpy()
        losses.append(loss)
    assert live_nodes() - before <= 200 + 20
    assert all(loss.node.inputs == () for loss in losses)


def test_averages_of_weights_keep_memory_flat() -> None:
    w = vector(1, 2, 3, requires_grad=True)
    average = vector(0, 0, 0)
    counts = []
    for _ in range(3):
        for _ in range(50):
            with trine.no_grad():
                average.assign(0.9 * average + 0.1 * w)
                w.assign(w * 1.01)
            w.numpy()
            average.numpy()
        counts.append(live_nodes())
    assert max(counts[1:]) <= counts[0] + 3
    assert not average.requires_grad


def test_accumulated_gradients_keep_memory_flat() -> None:
    w, x = vector(1, 2, 3, requires_grad=True), vector(1, 1, 1)
    counts = []
    for _ in range(3):
        for _ in range(50):
            ((w * x) ** 2).sum().backward()
        counts.append(live_nodes())
    assert max(counts[1:]) <= counts[0] + 5
    assert w.grad.tolist() == [300.0, 600.0, 900.0]


def test_buffers_of_a_long_loop_are_let_go_of() -> None:
    x = trine.asarray(np.ones((128, 128), np.float32))
    x = (x + 1.0) * 0.5
    x.numpy()
    tracemalloc.start()
    for _ in range(50):
        x = (x + 1.0) * 0.5
        x.numpy()
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 4 * 128 * 128 * 4
    assert peak < 12 * 128 * 128 * 4


def test_an_export_holds_its_buffer_and_is_read_only() -> None:
    x = vector(1, 2) + 1.0
    array = x.numpy()
    del x
    assert array.tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5.0


# -- Failures ----------------------------------------------------------------------------------------------------------


def out_of_range() -> trine.Tensor:
    return trine.take(vector(1, 2, 3), trine.asarray([5]))


def test_a_failed_evaluation_names_the_line_that_recorded_it() -> None:
    bad = out_of_range()
    with pytest.raises(IndexRangeError) as caught:
        (bad * 2.0).numpy()
    assert "trine.take(vector(1, 2, 3), trine.asarray([5]))" in str(caught.value)


def test_a_failed_evaluation_leaves_others_alone() -> None:
    bad, good = out_of_range() + 1.0, vector(1, 2) + 1.0
    with pytest.raises(IndexRangeError):
        bad.numpy()
    assert good.tolist() == [2.0, 3.0]
    with pytest.raises(IndexRangeError):
        bad.numpy()


def test_a_failure_while_nobody_waits_is_told_to_whoever_asks() -> None:
    bad, good = out_of_range() + 1.0, vector(1, 2) + 1.0
    later = bad * 2.0
    ENGINE.flush()
    assert isinstance(bad.node.buffer, Failure)
    assert good.node.buffer is not None
    assert good.tolist() == [2.0, 3.0]
    for value in (bad, later, bad - 1.0, bad):
        with pytest.raises(IndexRangeError, match="take"):
            value.numpy()


def test_a_failure_asked_for_many_times_does_not_grow() -> None:
    bad = out_of_range()
    ENGINE.flush()
    depths = []
    for _ in range(5):
        try:
            bad.numpy()
        except TrineError as error:
            depth, trace = 0, error.__traceback__
            while trace is not None:
                depth, trace = depth + 1, trace.tb_next
            depths.append(depth)
    assert len(set(depths)) == 1


def test_a_failing_loss_does_not_fail_what_it_is_computed_with() -> None:
    w = vector(1, 2, 3, requires_grad=True)
    loss = (trine.take(w, trine.asarray([7])) * 0.0).sum()
    loss.backward()
    other = vector(1) + 1.0
    assert other.item() == 2.0
    with pytest.raises(IndexRangeError):
        loss.item()


def test_a_placeholder_has_no_value() -> None:
    with pytest.raises(CaptureError, match="not known while the graph is being built"):
        trine.trace(lambda x: float(x.sum()), trine.spec((3,)))


# -- Threads -----------------------------------------------------------------------------------------------------------


def test_threads_record_and_evaluate_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RECORDER, "limit", 60)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    shared = vector(1, 2, 3) * 2.0
    wrong: list[object] = []

    def work(seed: int) -> None:
        try:
            w = trine.asarray(np.full(3, float(seed), np.float32), requires_grad=True)
            for i in range(60):
                y = (w * shared + float(i)).sum()
                w.grad = None
                y.backward()
                if i % 3 == 0 and y.item() != 12.0 * seed + 3 * i:
                    wrong.append((seed, i, y.item()))
                if w.grad.tolist() != [2.0, 4.0, 6.0]:
                    wrong.append((seed, i, w.grad.tolist()))
                with trine.no_grad():
                    chain = w
                    for _ in range(20):
                        chain = chain + 1.0
                    if chain.requires_grad or chain.tolist() != [seed + 20.0] * 3:
                        wrong.append((seed, i, chain.tolist()))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert wrong == []


def test_no_grad_in_one_thread_is_not_seen_in_another() -> None:
    seen: list[bool] = []
    w = vector(1, requires_grad=True)
    with trine.no_grad():
        thread = threading.Thread(target=lambda: seen.append((w * 2.0).requires_grad))
        thread.start()
        thread.join()
        seen.append((w * 2.0).requires_grad)
    assert seen == [True, False]
