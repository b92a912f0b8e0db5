"""Ctrl-C in the middle of `fit` leaves a usable model: whole steps only, and everything closed."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn
from trine.context import CURRENT
from trine.engine import ENGINE
from trine.train import Callback, LambdaCallback

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 60)
BATCH = 6


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


class Net(nn.Module):
    """Dropout and moving averages: a step moves random streams and state beside the parameters."""

    def __init__(self) -> None:
        self.body = nn.Sequential([nn.Dense(8), nn.BatchNormalization(), nn.Dropout(0.3)])
        self.head = nn.Dense(3, activation="softmax")
        self.interrupt = False

    def forward(self, x: Any) -> Any:
        x = self.body(x)
        if self.interrupt:
            signal.raise_signal(signal.SIGINT)
        return self.head(x)


def made(eager: bool = False) -> Net:
    trine.manual_seed(0)
    model = Net()
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=eager)
    return model


def state(model: Net) -> dict[str, Any]:
    handles = model.run_state()
    ENGINE.evaluate([handle.node for handle in handles.values()])
    return {name: handle.tolist() for name, handle in handles.items()}


class States(Callback):
    """The state after every whole step; `states[n]` is that after n steps."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.states.append(state(self.model))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.states.append(state(self.model))


@pytest.fixture(scope="module")
def reference() -> dict[bool, list[dict[str, Any]]]:
    """The states of an undisturbed run, captured and eager."""
    found = {}
    for eager in (False, True):
        model, states = made(eager), States()
        trine.manual_seed(0)
        model.fit(X, Y, epochs=3, batch_size=BATCH, callbacks=[states], verbose=0)
        found[eager] = states.states
    return found


def check_usable(model: Net, states: list[dict[str, Any]]) -> None:
    """The model is after some whole step, and training on from there works."""
    steps = int(model.optimizer.iterations.item())
    assert state(model) == states[steps]
    assert CURRENT.get().training is None and CURRENT.get().journal is None and CURRENT.get().capture is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    gc.collect()  # what a traceback held must not change the model when it goes
    assert state(model) == states[steps]
    assert np.isfinite(model.evaluate(X, Y)["loss"])
    model.fit(X, Y, epochs=1, batch_size=BATCH, verbose=0)
    assert model.optimizer.iterations.item() == steps + 10


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_a_random_batch(eager: bool, seed: int, reference: Any) -> None:
    model = made(eager)
    at = random.Random(seed).randrange(1, 30)
    ends: list[bool] = []

    class Interrupt(Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if self.model.optimizer.iterations.item() == at:
                signal.raise_signal(signal.SIGINT)

        def on_train_end(self, logs: Any = None) -> None:
            ends.append(self.failed)

    trine.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, epochs=3, batch_size=BATCH, callbacks=[Interrupt()], verbose=1)
    assert ends == [True] and model.history.epoch == list(range(at // 10))
    assert model.optimizer.iterations.item() == at
    check_usable(model, reference[eager])


def interrupted_fit(model: Net, calls: int) -> bool:
    """Fit with a Ctrl-C at the n-th call of a Python function, wherever that is; whether it came through."""

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls -= event == "call"
        if calls == 0:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    trine.manual_seed(0)
    sys.setprofile(count)
    try:
        model.fit(X, Y, epochs=3, batch_size=BATCH, verbose=0)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("eager", [False, True])
def test_ctrl_c_anywhere_inside_fit(eager: bool, reference: Any) -> None:
    """Python itself drops an exception that is raised while a generator is closed: such a run goes on to its end."""
    came_through = 0
    for seed in range(12):
        model = made(eager)
        stopped = interrupted_fit(model, random.Random(seed).randrange(20, 60_000 if eager else 12_000))
        came_through += stopped
        if not model.optimizer.parameters:  # before the first step
            assert stopped
            model.fit(X, Y, batch_size=BATCH, verbose=0)
            continue
        assert stopped or model.optimizer.iterations.item() == 30
        check_usable(model, reference[eager])
    assert came_through >= 6


@pytest.mark.parametrize("eager", [False, True])
def test_ctrl_c_in_the_users_forward(eager: bool, reference: Any) -> None:
    model = made(eager)

    def arm(batch: int, logs: Any) -> None:
        model.interrupt = model.optimizer.iterations.item() == 7

    trine.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, epochs=3, batch_size=BATCH, callbacks=[LambdaCallback(on_train_batch_end=arm)], verbose=0)
    assert model.optimizer.iterations.item() == 7
    model.interrupt = False
    check_usable(model, reference[eager])


def test_an_error_in_the_middle_of_a_step_leaves_the_step_before(reference: Any) -> None:
    class Failing(Net):
        fail = False

        def forward(self, x: Any) -> Any:
            found = super().forward(x)
            if self.fail:
                raise RuntimeError("in forward")
            return found

    trine.manual_seed(0)
    model = Failing()
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)

    def arm(batch: int, logs: Any) -> None:
        model.fail = model.optimizer.iterations.item() == 5

    trine.manual_seed(0)
    with pytest.raises(RuntimeError, match="in forward"):
        model.fit(X, Y, batch_size=BATCH, callbacks=[LambdaCallback(on_train_batch_end=arm)], verbose=0)
    model.fail = False
    assert model.optimizer.iterations.item() == 5
    check_usable(model, reference[True])


def test_ctrl_c_in_the_data_and_in_the_bar(reference: Any) -> None:
    model = made()

    def stream() -> Iterator[Any]:
        for batch in trine.data.ArrayBatches(X, Y, batch_size=BATCH).epoch(0):
            if model.optimizer.parameters and model.optimizer.iterations.item() == 4:
                signal.raise_signal(signal.SIGINT)
            yield batch

    trine.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(stream, epochs=2, verbose=1)
    assert model.optimizer.iterations.item() == 4
    check_usable(model, reference[False])


def test_ctrl_c_in_evaluate_and_predict_changes_nothing(reference: Any) -> None:
    model = made(eager=True)
    trine.manual_seed(0)
    model.fit(X, Y, epochs=1, batch_size=BATCH, verbose=0)
    model.interrupt = True
    for call in (lambda: model.evaluate(X, Y), lambda: model.predict(X)):
        with pytest.raises(KeyboardInterrupt):
            call()
    model.interrupt = False
    check_usable(model, reference[True])


def test_ctrl_c_in_the_middle_of_rich_closes_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    model, before = made(), set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        callback = LambdaCallback(on_train_batch_end=lambda batch, logs: signal.raise_signal(signal.SIGINT))
        model.fit(X, Y, batch_size=BATCH, verbose=1, callbacks=callback)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)  # rich's own, which it tells to stop and does not wait for
        assert not thread.is_alive()
    assert "Epoch 1/1" in capsys.readouterr().out
