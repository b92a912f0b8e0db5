"""The reference back end: results depend on values and shapes alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import trine
from trine.backends import blas
from trine.ops.linalg import MatMul
from trine.ops.reduction import Sum
from trine.ops.steps import execute

RNG = np.random.default_rng(0)


def threads() -> int:
    if blas._CONTROLS is None:
        pytest.skip("NumPy brought no OpenBLAS of its own here")
    return blas._CONTROLS[0]()


def test_matrix_products_run_on_one_thread_and_the_number_from_before_comes_back() -> None:
    before = threads()
    with blas.ONE_THREAD:
        assert threads() == 1
        with blas.ONE_THREAD:
            assert threads() == 1
        assert threads() == 1
    assert threads() == before


def test_the_number_of_threads_comes_back_after_an_error_and_from_several_threads() -> None:
    before = threads()
    entered, leave = threading.Barrier(3), threading.Event()

    def work() -> None:
        with blas.ONE_THREAD:
            entered.wait(10)
            leave.wait(10)

    others = [threading.Thread(target=work) for _ in range(2)]
    for other in others:
        other.start()
    with pytest.raises(RuntimeError), blas.ONE_THREAD:
        entered.wait(10)
        raise RuntimeError
    assert threads() == 1, "two threads are still inside"
    leave.set()
    for other in others:
        other.join()
    assert threads() == before


@pytest.mark.parametrize("op", [Sum((0,)), Sum((1,)), Sum((0, 1))])
def test_the_memory_layout_of_an_input_changes_no_bit(op: Sum) -> None:
    x = RNG.standard_normal((257, 129)).astype(np.float32)
    plain = execute(op, [x])
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1]):
        assert np.array_equal(execute(op, [other]), plain)


def test_the_memory_layout_of_a_product_changes_no_bit() -> None:
    a, b = (RNG.standard_normal(shape).astype(np.float32) for shape in ((65, 33), (33, 17)))
    op = MatMul(trine.float32)
    assert np.array_equal(execute(op, [np.asfortranarray(a), b.T.copy().T]), execute(op, [a, b]))


def test_results_are_read_only() -> None:
    assert not execute(Sum((0,)), [np.ones((2, 2))]).flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        trine.ones((2,)).numpy()[0] = 2


def test_one_program_serves_every_size_of_a_symbolic_graph() -> None:
    graph = trine.trace(lambda x: (x.reshape((-1, 2)) * 2).sum(axis=1), trine.spec(("batch", 4)))
    for n in (0, 1, 3, 17):
        x = RNG.standard_normal((n, 4)).astype(np.float32)
        np.testing.assert_array_equal(graph.run(x).numpy(), (x.reshape(-1, 2) * 2).sum(axis=1))
