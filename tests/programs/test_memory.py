"""Loops of any kind keep memory flat: the live nodes and the bytes of their buffers are counted, not guessed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import trine
from trine import engine, losses, nn, optim
from trine.engine import ENGINE
from trine.ir.graph import Node
from trine.ops.base import RECORDER

X = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 32)


def live() -> tuple[int, int]:
    """The number of nodes that exist and the bytes that their buffers hold."""
    ENGINE.flush()  # what is recorded and dead goes, what is recorded and held is computed
    gc.collect()
    # isinstance would ask the proxies of other libraries, which warn
    nodes = [x for x in gc.get_objects() if issubclass(type(x), Node)]
    buffers = {id(n.buffer): getattr(n.buffer, "nbytes", 0) for n in nodes if n.buffer is not None}
    return len(nodes), sum(buffers.values())


def flat(step: Callable[[], Any], *, warm: int = 30, steps: int = 150, each: int = 0, bytes_each: int = 0) -> None:
    """Run the step, and check that what lives is what lived, and `each` nodes and `bytes_each` bytes a step more."""
    for _ in range(warm):
        step()
    nodes, size = live()
    for _ in range(steps):
        step()
    now, size_now = live()
    assert now - nodes <= each * steps + 20, f"{now - nodes} nodes more after {steps} steps"
    assert size_now - size <= bytes_each * steps + 16_384, f"{size_now - size} bytes more after {steps} steps"


class Training:
    """A network and what trains it."""

    def __init__(self, captured: bool = False) -> None:
        trine.manual_seed(0)
        self.model = nn.Sequential([nn.Dense(16, activation="tanh"), nn.BatchNormalization(), nn.Dense(3)])
        self.model(X)
        self.optimizer = optim.Adam(self.model.parameters(), 1e-3)
        self.x, self.y = trine.asarray(X), trine.asarray(Y)
        self.step: Callable[[], Any] = trine.compile(self.train) if captured else self.train

    def loss(self) -> Any:
        loss = losses.SparseCategoricalCrossentropy(from_logits=True)
        return losses.mean(loss(self.y, self.model(self.x, training=True)))

    def train(self) -> Any:
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


@pytest.mark.parametrize("captured", [False, True])
def test_a_loop_that_never_prints(captured: bool) -> None:
    flat(Training(captured).step)


def test_recording_that_nobody_asks_for() -> None:
    x = trine.asarray(X)

    def step() -> None:
        nonlocal x
        x = x * 0.5 + 1.0

    flat(step, steps=20_000)


@pytest.mark.parametrize("captured", [False, True])
def test_a_loop_that_appends_losses(captured: bool) -> None:
    training, kept = Training(captured), []
    flat(lambda: kept.append(training.step().detach()), each=2, bytes_each=8)
    assert len({loss.item() for loss in kept}) > 100


def test_a_loop_that_appends_losses_with_their_history_keeps_no_activations() -> None:
    """What was differentiated keeps no values of layers alive, though its loss is held."""
    training, kept = Training(), []
    flat(lambda: kept.append(training.step()), each=4, bytes_each=64)


def test_a_loop_that_keeps_averages_of_weights() -> None:
    training = Training()
    averages = [p.detach() for p in training.model.parameters()]

    def step() -> None:
        training.step()
        with trine.no_grad():
            for i, p in enumerate(training.model.parameters()):
                averages[i] = averages[i] * 0.99 + p.detach() * 0.01

    flat(step)
    assert all(np.isfinite(a.numpy()).all() for a in averages)


def test_a_loop_that_keeps_a_running_average_of_the_loss() -> None:
    training, mean = Training(), trine.asarray(0.0)

    def step() -> None:
        nonlocal mean
        mean = mean * 0.9 + training.step().detach() * 0.1

    flat(step)
    assert 0 < mean.item() < 2


def test_a_loop_that_accumulates_gradients_for_long() -> None:
    training = Training()
    flat(lambda: training.loss().backward())
    kernel = training.model.parameters()[0]
    assert kernel.grad is not None and np.isfinite(kernel.grad.numpy()).all()


def test_a_forward_pass_whose_loss_nobody_uses() -> None:
    training = Training()
    flat(training.loss)


@pytest.mark.parametrize("eager", [False, True])
def test_fit_for_many_steps(eager: bool) -> None:
    trine.manual_seed(0)
    model = nn.Sequential([nn.Dense(16, activation="tanh"), nn.Dropout(0.2), nn.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=eager)
    flat(lambda: model.fit(X, Y, batch_size=12, epochs=3, verbose=0, validation_data=(X, Y)), warm=3, steps=25)
    flat(lambda: (model.predict(X), model.evaluate(X, Y)), warm=3, steps=25)


def test_300_distinct_graphs_leave_nothing_but_their_programs() -> None:
    def run(number: int) -> float:
        x = trine.asarray(X, requires_grad=True)
        y = x
        for digit in f"{number:b}":
            y = trine.tanh(y) if digit == "1" else y * 1.01
        loss = y.sum()
        loss.backward()
        assert x.grad is not None
        return float(x.grad.sum().item())

    for number in range(2, 10):
        run(number)
    nodes, size = live()
    before = ENGINE.compiled
    for number in range(10, 310):
        run(number)
    assert ENGINE.compiled - before >= 300
    now, size_now = live()
    assert size_now - size < 100_000  # the numbers inside of 300 programs, no arrays: one of X has 1024 bytes
    assert now - nodes < 100 * 300 and not RECORDER.pending


def test_programs_that_are_not_used_again_are_let_go() -> None:
    """The programs kept are bounded by their rows, however many distinct graphs there were."""
    kept = engine.ROWS_KEPT
    engine.ROWS_KEPT = 3_000  # type: ignore[misc]  # a small bound for the test
    try:
        for depth in range(150):
            x = trine.asarray(1.0)
            for _ in range(depth):
                x = x * 1.01
            x.item()
        assert ENGINE._rows <= 3_000 + 500
    finally:
        engine.ROWS_KEPT = kept  # type: ignore[misc]  # as it was


def test_captures_of_many_shapes_are_bounded() -> None:
    square = trine.compile(lambda x: (x * x).sum())
    for n in range(1, 200):
        assert square(np.ones(n, np.float32)).item() == n
    assert len(square._entries) <= 64
