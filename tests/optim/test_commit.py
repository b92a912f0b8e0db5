"""Transactions and commits: all-old or all-new, whatever interrupts them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from trine import optim
from trine.context import using
from trine.tensor.creation import asarray
from trine.tensor.journal import Transaction, commit, transaction
from trine.tensor.tensor import Tensor, constant

node_of = Tensor.node  # the slot under the property below


class Interrupting(Tensor):
    """A handle that sends Ctrl-C to the program while it is being re-bound."""

    armed = 0
    only: Tensor | None = None  # the handle that sends it; any, where None
    seen: list[str] = []  # noqa: RUF012 - shared on purpose

    @property
    def node(self) -> Any:  # type: ignore[override]  # a slot in the base
        return node_of.__get__(self)  # type: ignore[attr-defined]  # the slot's descriptor

    @node.setter
    def node(self, value: Any) -> None:
        node_of.__set__(self, value)  # type: ignore[attr-defined]  # the slot's descriptor
        if Interrupting.armed and (Interrupting.only is None or Interrupting.only is self):
            Interrupting.armed -= 1
            signal.raise_signal(signal.SIGINT)
            Interrupting.seen.append("after the signal")  # a handler that raised would have skipped this line


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    Interrupting.armed, Interrupting.only, Interrupting.seen = 0, None, []
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def handles(count: int) -> list[Tensor]:
    return [Interrupting(constant(np.array(float(i)))) for i in range(count)]


def values(tensors: list[Tensor]) -> list[float]:
    return [t.item() for t in tensors]


@pytest.mark.parametrize("signals", [1, 3])
def test_ctrl_c_in_the_middle_of_a_commit_leaves_the_new_state(signals: int) -> None:
    tensors = handles(4)
    Interrupting.armed = signals
    with pytest.raises(KeyboardInterrupt):
        commit([(t, constant(np.array(10.0 + i))) for i, t in enumerate(tensors)])
    assert values(tensors) == [10.0, 11.0, 12.0, 13.0]
    assert len(Interrupting.seen) == signals
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_the_middle_of_a_rollback_leaves_the_old_state() -> None:
    tensors = handles(3)
    with pytest.raises(KeyboardInterrupt), transaction():
        for t in tensors:
            t.assign(t + 1.0)
        Interrupting.armed = 1
        raise ValueError("the body fails")
    assert values(tensors) == [0.0, 1.0, 2.0]


def test_ctrl_c_in_the_middle_of_a_step_leaves_the_new_state() -> None:
    parameters = handles(2)
    for p in parameters:
        p.requires_grad = True
    optimizer = optim.SGD(parameters, 0.5, momentum=0.5)
    for p in parameters:
        p.grad = Tensor(constant(np.array(1.0)))
    Interrupting.armed, Interrupting.only = 1, parameters[0]
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    assert values(parameters) == [-0.5, 0.5] and optimizer.iterations.item() == 1
    assert [s["momentum"].item() for s in optimizer.state.values()] == [-0.5, -0.5]


def test_ctrl_c_before_the_swap_leaves_the_old_state(monkeypatch: pytest.MonkeyPatch) -> None:
    x = asarray([1.0], requires_grad=True)
    optimizer = optim.SGD([x], 0.5)
    x.grad = asarray([1.0])
    original = optimizer.update

    def interrupted(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(optimizer, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    assert x.tolist() == [1.0] and optimizer.iterations.item() == 0


def test_a_commit_in_another_thread_leaves_the_handler_alone() -> None:
    tensors = handles(2)
    worker = threading.Thread(target=commit, args=([(t, constant(np.array(5.0))) for t in tensors],))
    worker.start()
    worker.join()
    assert values(tensors) == [5.0, 5.0]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_transaction_undoes_values_gradients_and_flags() -> None:
    x, y = asarray([1.0], requires_grad=True), asarray([2.0])
    node = x.node
    with pytest.raises(KeyError), transaction():
        (x * 3.0).sum().backward()
        with using(grad=False):
            x.assign(x + 1.0)
        y.requires_grad = True
        y.grad = asarray([1.0])
        raise KeyError
    assert x.node is node and x.grad is None and x.requires_grad
    assert not y.requires_grad and y.grad is None and y.tolist() == [2.0]


def test_a_transaction_that_ends_well_keeps_everything() -> None:
    x = asarray([1.0])
    with transaction() as undo:
        x.assign(x + 1.0)
        x.assign(x + 1.0)
        assert list(undo.before) == [id(x)]
    assert x.tolist() == [3.0]


def test_transactions_nest() -> None:
    x, y = asarray([1.0]), asarray([1.0])
    with pytest.raises(KeyError), transaction():
        x.assign(x + 1.0)
        with pytest.raises(ValueError, match="inner"), transaction():
            x.assign(x + 1.0)
            y.assign(y + 1.0)
            raise ValueError("inner")
        assert (x.item(), y.item()) == (2.0, 1.0)
        y.assign(y * 5.0)
        raise KeyError
    assert (x.item(), y.item()) == (1.0, 1.0)


def test_a_commit_is_seen_by_the_journal() -> None:
    x = asarray([1.0])
    undo = Transaction()
    with using(journal=undo):
        commit([(x, constant(np.array([9.0], "float32")))])
    assert x.tolist() == [9.0]
    undo.rollback()
    assert x.tolist() == [1.0]
