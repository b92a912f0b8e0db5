"""An exception or a Ctrl-C at any point of a step leaves the old state or the new one, and training goes on."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn, optim
from trine.context import CURRENT
from trine.errors import ROOT
from trine.tensor.journal import Transaction, commit, transaction, undisturbed

State = tuple[bytes | None, ...]
STEPS = 6


class Mine(Exception):
    pass


class Training:
    """A parameter, state as an optimiser has it, a random generator, and a step over them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.w = trine.asarray(rng.normal(size=(3, 2)).astype("f4"), requires_grad=True)
        self.b = trine.asarray(np.zeros(2, np.float32), requires_grad=True)
        self.m = trine.asarray(np.zeros((3, 2), np.float32))
        self.generator = trine.random.Generator(5)
        self.x = trine.asarray(rng.normal(size=(4, 3)).astype("f4"))

    def step(self, x: trine.Tensor) -> trine.Tensor:
        noise = self.generator.uniform((4, 2))
        loss = ((x @ self.w + self.b) * noise).tanh().mean()
        self.b.grad = None
        loss.backward()
        with trine.no_grad():
            self.m.assign(0.9 * self.m + self.w.grad)
            self.w.assign(self.w - 0.1 * self.m)
            self.b.assign(self.b - 0.1 * self.b.grad)
        return loss

    @property
    def handles(self) -> list[trine.Tensor]:
        return [self.w, self.b, self.m, self.generator.state]

    def state(self) -> State:
        values = [handle.numpy().tobytes() for handle in self.handles]
        return tuple([*values, *(None if p.grad is None else p.grad.numpy().tobytes() for p in (self.w, self.b))])


def eager(training: Training) -> Callable[[], Any]:
    def run() -> None:
        with transaction():
            training.step(training.x).numpy()

    return run


def captured(training: Training) -> Callable[[], Any]:
    step = trine.compile(training.step)
    return lambda: step(training.x)


@pytest.fixture(scope="module")
def trajectory() -> list[State]:
    """The states of an undisturbed run."""
    training = Training()
    states = [training.state()]
    for _ in range(STEPS):
        with transaction():
            training.step(training.x)
        states.append(training.state())
    return states


@contextmanager
def at_line(number: int, action: Callable[[], None], watched: Callable[[CodeType], bool]) -> Iterator[list[int]]:
    """Run `action` at the line event with this number in watched code; yields the count of events so far."""
    count = [0]

    def local(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            count[0] += 1
            if count[0] == number:
                action()
        return local

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        return local if watched(frame.f_code) else None

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(None)


def inside_user(code: CodeType) -> bool:
    return code is Training.step.__code__


def inside_trine(code: CodeType) -> bool:
    return code.co_filename.startswith(ROOT)


def fail() -> None:
    raise Mine


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def disturbed(
    mode: Callable[[Training], Callable[[], Any]],
    before: int,
    number: int,
    action: Callable[[], None],
    watched: Callable[[CodeType], bool],
    trajectory: list[State],
) -> tuple[bool, int]:
    """Run to a step, disturb it, check what is left, train on; whether the disturbance came, and the events seen."""
    training = Training()
    step = mode(training)
    for _ in range(before):
        step()
    assert training.state() == trajectory[before]
    came = False
    with at_line(number, action, watched) as count:
        try:
            step()
        except (Mine, KeyboardInterrupt):
            came = True
    assert CURRENT.get().journal is None
    assert CURRENT.get().capture is None
    assert CURRENT.get().grad
    found = training.state()
    assert found in (trajectory[before], trajectory[before + 1]), f"torn at event {number}"
    if action is fail and came:
        assert found == trajectory[before]
    done = before + (found == trajectory[before + 1])
    for _ in range(2):
        step()
    assert training.state() == trajectory[done + 2], f"went on otherwise after event {number}"
    return came, count[0]


@pytest.mark.parametrize("mode", [eager, captured])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("action", [fail, interrupt])
def test_at_every_line_of_the_users_function(
    mode: Callable[[Training], Callable[[], Any]], before: int, action: Callable[[], None], trajectory: list[State]
) -> None:
    number, came = 0, True
    while came:
        number += 1
        came, _ = disturbed(mode, before, number, action, inside_user, trajectory)
    assert number > 8, "each of the function's lines was tried"


@pytest.mark.parametrize(("mode", "before"), [(eager, 0), (eager, 1), (captured, 0), (captured, 1), (captured, 3)])
def test_ctrl_c_at_random_points_inside_trine(
    mode: Callable[[Training], Callable[[], Any]], before: int, trajectory: list[State]
) -> None:
    for _ in range(2):  # the first run fills caches, and so has more events than those that follow
        came, total = disturbed(mode, before, 0, interrupt, inside_trine, trajectory)
        assert not came
    rng = random.Random(before)
    numbers = range(1, total + 1) if total < 150 else sorted(rng.sample(range(1, total + 1), 60))
    hits = sum(disturbed(mode, before, number, interrupt, inside_trine, trajectory)[0] for number in numbers)
    assert hits >= 0.9 * len(numbers)


def test_ctrl_c_at_every_line_of_the_commit(trajectory: list[State]) -> None:
    code = {commit.__code__, undisturbed.__code__, Transaction.write.__code__, Transaction.rollback.__code__}
    code |= {c for function in (commit, undisturbed, Transaction.rollback) for c in function.__code__.co_consts
             if isinstance(c, CodeType)}  # fmt: skip
    for mode in (eager, captured):
        number, came = 0, True
        while came:
            number += 1
            came, _ = disturbed(mode, 3, number, interrupt, lambda c: c in code, trajectory)
        assert number > 5


def test_a_signal_held_back_reaches_the_programs_own_handler() -> None:
    seen: list[int] = []
    theirs = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        order: list[str] = []

        def action() -> None:
            interrupt()
            assert seen == []
            order.append("done")

        undisturbed(action)
        assert (seen, order) == ([signal.SIGINT], ["done"])
    finally:
        signal.signal(signal.SIGINT, theirs)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    theirs = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        undisturbed(interrupt)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, theirs)


def test_backward_gives_all_gradients_or_none() -> None:
    a, b = (trine.asarray([1.0, 2.0], requires_grad=True) for _ in range(2))
    number, came = 0, True
    while came:
        number += 1
        loss = (a * b).sum()
        a.grad = b.grad = None
        came = False
        with at_line(number, interrupt, lambda c: c.co_filename.endswith(("backward.py", "journal.py"))):
            try:
                loss.backward()
            except KeyboardInterrupt:
                came = True
        assert (a.grad is None) == (b.grad is None)
    assert number > 10
    assert a.grad.tolist() == [1.0, 2.0]


def test_a_transaction_in_a_transaction() -> None:
    x = trine.asarray([0.0])
    with pytest.raises(Mine), transaction():
        x.assign(x + 1.0)
        with pytest.raises(Mine), transaction():
            x.assign(x + 10.0)
            raise Mine
        assert x.item() == 1.0
        with transaction():
            x.assign(x + 100.0)
        assert x.item() == 101.0
        raise Mine
    assert x.item() == 0.0
    with transaction() as journal:
        x.assign(x + 1.0)
        journal.rollback()
        x.assign(x + 2.0)
    assert x.item() == 2.0


def test_a_step_of_layers_and_an_optimiser_at_random_points() -> None:
    def fresh() -> tuple[Any, Any, Callable[[], Any]]:
        trine.manual_seed(0)
        model = nn.Sequential([nn.Dense(4), nn.BatchNormalization(), nn.Dropout(0.5), nn.Dense(1)])
        x = trine.asarray(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
        model(x)
        optimizer = optim.Adam(model.parameters(), 0.01)

        def step() -> None:
            loss = (model(x, training=True) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return model, optimizer, trine.compile(step)

    def state(model: Any, optimizer: Any) -> list[bytes]:
        arrays = [*model.state_dict().values(), *optimizer.state_dict().values()]
        return [np.asarray(a).tobytes() for a in arrays]

    model, optimizer, step = fresh()
    states = [state(model, optimizer)]
    for _ in range(5):
        step()
        states.append(state(model, optimizer))
    rng = random.Random(1)
    for before in (0, 1, 2):
        total = 0
        for turn in range(7):
            model, optimizer, step = fresh()
            for _ in range(before):
                step()
            number = rng.randrange(1, total) if turn else 0
            with at_line(number, interrupt, inside_trine) as count, suppress(KeyboardInterrupt):
                step()
            total = total or count[0]
            assert count[0] <= total, "the rest of the step did not run"
            found = state(model, optimizer)
            assert found in states[before : before + 2]
            step()
            assert state(model, optimizer) == states[states.index(found) + 1]
