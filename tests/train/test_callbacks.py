"""Callbacks do what Keras documents: on values made for the test, and in real runs."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn, optim
from trine.errors import ArgumentError, StateError
from trine.train import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = X[:, :1] * 2


def network(rate: float = 0.1) -> nn.Sequential:
    trine.manual_seed(0)
    model = nn.Sequential([nn.Dense(1)]).build_for(("n", 3))
    model.compile(optim.SGD(rate), "mse")
    return model


class Scripted(Callback):
    """Puts values of the test's own into the logs, before other callbacks see them."""

    def __init__(self, **values: list[float | None]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        for name, values in self.values.items():
            value = values[epoch]
            if value is not None:
                logs[name] = value


def run(callback: Callback | list[Callback], epochs: int, model: Any = None, **values: list[float | None]) -> History:
    model = model or network()
    given = callback if isinstance(callback, list) else [callback]
    return model.fit(X, Y, epochs=epochs, batch_size=40, callbacks=[Scripted(**values), *given], verbose=0)


# -- The base ----------------------------------------------------------------------------------------------------------


class Recorder(Callback):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append("train(")

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append(f"){'!' if self.failed else ''}")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(f"epoch{epoch}(")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        assert "loss" in logs
        self.calls.append(f"){sorted(logs)}")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.calls.append(f"{batch}<")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(">" if math.isfinite(logs["loss"]) else "NaN")

    def on_test_begin(self, logs: Any = None) -> None:
        self.calls.append("test(")

    def on_test_end(self, logs: Any = None) -> None:
        self.calls.append(f"{sorted(logs)})")


def test_callbacks_are_called_in_keras_order() -> None:
    recorder = Recorder()
    network().fit(X, Y, epochs=2, batch_size=20, callbacks=[recorder], validation_data=(X, Y), verbose=0)
    epoch = "0< > 1< > test( ['loss']) )['loss', 'val_loss']"
    assert " ".join(recorder.calls) == f"train( epoch0( {epoch} epoch1( {epoch} )"
    assert recorder.epochs == 2 and recorder.params == {"epochs": 2, "steps": 2, "verbose": 0}


def test_the_short_names_of_batch_events_work() -> None:
    seen: list[Any] = []

    class Old(Callback):
        def on_batch_begin(self, batch: int, logs: Any = None) -> None:
            seen.append(batch)

        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(sorted(logs))

    network().fit(X, Y, batch_size=20, callbacks=[Old()], verbose=0)
    assert seen == [0, ["loss"], 1, ["loss"]]


def test_an_error_in_one_callback_ends_training_and_all_are_told() -> None:
    recorder = Recorder()

    class Broken(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            raise RuntimeError("in the middle")

        def on_train_end(self, logs: Any = None) -> None:
            raise ValueError("at the end")

    with pytest.raises(ValueError, match="at the end") as caught:
        network().fit(X, Y, callbacks=[Broken(), recorder], verbose=0)
    assert recorder.calls[-1] == ")!" and str(caught.value.__context__) == "in the middle"


def test_stop_training_ends_after_the_batch() -> None:
    model = network()
    seen: list[int] = []

    def stop(batch: int, logs: Any) -> None:
        seen.append(batch)
        model.stop_training = batch == 1

    history = model.fit(X, Y, epochs=3, batch_size=10, callbacks=[LambdaCallback(on_train_batch_end=stop)], verbose=0)
    assert seen == [0, 1] and history.epoch == [0]
    assert model.fit(X, Y, epochs=3, batch_size=10, verbose=0).epoch == [0, 1, 2]


# -- Each of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("values", "options", "stopped"), [
    ([3, 2, 2, 2, 2, 2], {"patience": 2}, 3),
    ([3, 2, 2, 1, 2, 2], {"patience": 2}, 5),
    ([3, 2, 3, 1, 1, 1], {"patience": 0}, 2),
    ([3, 2.95, 2.9, 2.85, 1, 1], {"patience": 2, "min_delta": 0.5}, 2),
    ([3, 2.8, 2.6, 2.4, 2.2, 2], {"patience": 2, "min_delta": -0.5}, 2),
    ([1, 2, 3, 4, 5, 6], {"patience": 2, "mode": "max"}, None),
    ([1, 2, 3, 4, 5, 6], {"patience": 2, "start_from_epoch": 2}, 4),
    ([5, 4, 3, 2, 1, 0], {"patience": 2, "baseline": 0.5}, None),
    ([9, 8, 8, 8, 8, 8], {"patience": 3, "baseline": 0.5}, 2),
    ([math.nan, math.nan, math.nan, 1, 1, 1], {"patience": 2}, 1),
])  # fmt: skip
def test_early_stopping(values: list[float | None], options: Any, stopped: int | None) -> None:
    callback = EarlyStopping(monitor="value", **options)
    history = run(callback, 6, value=values)
    assert callback.stopped_epoch == stopped and history.epoch == list(range(6 if stopped is None else stopped + 1))


def test_early_stopping_reads_the_direction_from_the_name() -> None:
    larger_is_better = {"val_loss": False, "accuracy": True, "val_f1_score": True, "recall": True, "mae": False}
    for name, larger in larger_is_better.items():
        callback = EarlyStopping(name, patience=2)
        run(callback, 4, **{name: [1, 2, 3, 4]})
        assert (callback.stopped_epoch is None) is larger


def test_early_stopping_restores_the_best_weights() -> None:
    for baseline in (None, 0.1):
        model = network()
        kept: list[Any] = []
        watcher = LambdaCallback(on_epoch_end=lambda epoch, logs, m=model, k=kept: k.append(m[0].kernel.tolist()))
        callback = EarlyStopping("value", patience=2, restore_best_weights=True, baseline=baseline)
        run([watcher, callback], 6, model, value=[3, 1, 2, 2, 2, 2])
        assert model[0].kernel.tolist() == kept[1] != kept[-1] and callback.best_epoch == 1


def test_early_stopping_starts_afresh_in_another_fit() -> None:
    callback = EarlyStopping("value", patience=1)
    for _ in range(2):
        assert run(callback, 6, value=[1, 0, 1, 1, 1, 1]).epoch == [0, 1, 2]


def test_a_value_that_is_not_there_is_an_error_and_one_that_is_left_out_is_not() -> None:
    with pytest.raises(ArgumentError, match=r"no value is called 'val_loss'(.|\n)*got: loss\n  try: monitor='loss'"):
        network().fit(X, Y, callbacks=[EarlyStopping()], verbose=0)
    with pytest.raises(ArgumentError, match="no value is called 'val_lss'"):
        network().fit(X, Y, validation_data=(X, Y), callbacks=[EarlyStopping("val_lss")], verbose=0)
    model = network()
    model.fit(X, Y, epochs=4, validation_data=(X, Y), validation_freq=2, callbacks=EarlyStopping(patience=3), verbose=0)
    assert model.history.epoch == [0, 1, 2, 3]


def test_reduce_lr_on_plateau() -> None:
    model = network(rate=1e-6)
    values: list[float | None] = [5, 4, 4, 4, 4, 4, 4, 4, 4, 4]
    callback = ReduceLROnPlateau("value", factor=0.5, patience=2, cooldown=1, min_lr=2e-7)
    history = run(callback, 10, model, value=values)
    rates = np.array(history.history["learning_rate"])
    # reported before it changes: reduced after epochs 3 and 6, each followed by one that does not count
    np.testing.assert_allclose(rates / 1e-6, [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2], rtol=1e-5)


def test_reduce_lr_moves_a_captured_step() -> None:
    model = network()
    model.fit(X, Y, epochs=3, verbose=0)
    run(ReduceLROnPlateau("value", factor=1e-30, patience=1), 2, model, value=[1, 1])
    before = model[0].kernel.tolist()
    model.fit(X, Y, epochs=2, verbose=0)
    assert model[0].kernel.tolist() == before


def test_a_learning_rate_schedule_and_a_callback_cannot_both_decide() -> None:
    model = network()
    model.compile(optim.SGD(optim.CosineDecay(0.1, 10)), "mse")
    with pytest.raises(StateError, match="a schedule sets the learning rate"):
        model.fit(X, Y, callbacks=[LearningRateScheduler(lambda epoch: 0.5)], verbose=0)


@pytest.mark.parametrize("schedule", [lambda epoch: 0.1 / 2**epoch, lambda epoch, rate: rate / 2 if epoch else rate])
def test_learning_rate_scheduler(schedule: Any) -> None:
    model = network()
    history = model.fit(X, Y, epochs=4, batch_size=10, callbacks=[LearningRateScheduler(schedule)], verbose=0)
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.05, 0.025, 0.0125], rtol=1e-6)
    assert model.optimizer.learning_rate.item() == np.float32(0.0125)


def test_terminate_on_nan_stops_in_the_middle_of_the_epoch() -> None:
    model = network(rate=1e30)
    recorder = Recorder()
    history = model.fit(X, Y, epochs=5, batch_size=4, callbacks=[TerminateOnNaN(), recorder], verbose=0)
    assert history.epoch == [0] and recorder.calls.count(">") < 9 and recorder.calls.count("NaN") == 1


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    model = network()
    first = model.fit(X, Y, epochs=2, callbacks=[CSVLogger(path, separator=";")], verbose=0)
    second = model.fit(X, Y, initial_epoch=2, epochs=3, validation_data=(X, Y),
                       callbacks=[CSVLogger(path, ";", append=True)], verbose=0)  # fmt: skip
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"] and list(rows[0]) == ["epoch", "loss", "val_loss"]
    assert [float(row["loss"]) for row in rows] == first.history["loss"] + second.history["loss"]
    assert rows[0]["val_loss"] == "" and float(rows[2]["val_loss"]) == second.history["val_loss"][0]
    model.fit(X, Y, callbacks=[CSVLogger(path)], verbose=0)
    assert len(path.read_text().splitlines()) == 2


def test_lambda_callback() -> None:
    seen: list[Any] = []
    callback = LambdaCallback(on_train_begin=lambda logs: seen.append("begin"),
                              on_train_end=lambda logs: seen.append("end"),
                              on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs))))  # fmt: skip
    network().fit(X, Y, epochs=2, callbacks=callback, verbose=0)
    assert seen == ["begin", (0, ["loss"]), (1, ["loss"]), "end"]
    with pytest.raises(ArgumentError, match="no event is called 'on_epoch_finish'"):
        LambdaCallback(on_epoch_finish=print)


def test_a_callback_sees_what_those_before_it_reported() -> None:
    seen: list[Any] = []
    history = run(LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["own"])), 2, own=[1.0, 2.0])
    assert seen == [1.0, 2.0] and history.history["own"] == [1.0, 2.0]


# -- Files -------------------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_checkpoints_of_every_epoch_and_of_the_best(tmp_path: Path) -> None:
    model = network()
    kept: list[Any] = []
    watcher = LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model[0].kernel.tolist()))
    every = ModelCheckpoint(tmp_path / "{epoch:02d}-{value:.1f}", save_weights_only=True)
    best = ModelCheckpoint(tmp_path / "best", "value", save_best_only=True, save_weights_only=True)
    run([watcher, every, best], 4, model, value=[3, 1, 2, 1.5])
    assert names(tmp_path) == ["01-3.0", "02-1.0", "03-2.0", "04-1.5", "best"]
    for path, expected in [("best", kept[1]), ("03-2.0", kept[2])]:
        assert trine.load_weights(tmp_path / path)["layers.0.kernel"].tolist() == expected


def test_checkpoints_after_numbers_of_batches_and_below_a_threshold(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path / "{epoch}", save_weights_only=True, save_freq=3)
    network().fit(X, Y, epochs=4, batch_size=20, callbacks=[callback], verbose=0)
    assert names(tmp_path) == ["2", "3"]  # after batches 3 and 6 of 8
    none = ModelCheckpoint(tmp_path / "none", "value", save_best_only=True, save_weights_only=True,
                           initial_value_threshold=0.5)  # fmt: skip
    run(none, 3, value=[3, 2, 1])
    assert names(tmp_path) == ["2", "3"]


def test_a_whole_model_is_saved_and_opened(tmp_path: Path) -> None:
    model = network()
    model.fit(X, Y, epochs=2, callbacks=[ModelCheckpoint(tmp_path / "model.trine", "loss")], verbose=0)
    assert trine.load(tmp_path / "model.trine").predict(X).tolist() == model.predict(X).tolist()


def test_a_wrong_name_in_a_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"no value is called 'val_loss'(.|\n)*try: one of epoch, loss"):
        network().fit(X, Y, callbacks=[ModelCheckpoint(tmp_path / "{val_loss}", "loss")], verbose=0)
    with pytest.raises(ArgumentError, match='save_freq is "epoch" or a number of batches'):
        ModelCheckpoint(tmp_path / "x", save_freq=0)


@pytest.mark.parametrize("extra", [[], [LearningRateScheduler(lambda epoch, rate: rate / 2)]])
def test_a_run_goes_on_from_its_backup_with_the_same_bits(tmp_path: Path, extra: list[Any]) -> None:
    def made() -> nn.Sequential:
        trine.manual_seed(0)
        model = nn.Sequential([nn.Dense(8), nn.BatchNormalization(), nn.Dropout(0.3), nn.Dense(1)])
        model.compile("adam", "mse")
        return model

    path = tmp_path / "backup"
    whole, first, second = made(), made(), made()
    trine.manual_seed(0)
    whole.fit(X, Y, epochs=5, batch_size=7, callbacks=extra, verbose=0)

    def fail(batch: int, logs: Any) -> None:
        if first.optimizer.iterations.item() == 15:
            raise RuntimeError("the power is gone")

    trine.manual_seed(0)
    with pytest.raises(RuntimeError):
        first.fit(X, Y, epochs=5, batch_size=7, verbose=0,
                  callbacks=[BackupAndRestore(path), *extra, LambdaCallback(on_train_batch_end=fail)])  # fmt: skip
    assert path.exists()
    trine.manual_seed(0)
    history = second.fit(X, Y, epochs=5, batch_size=7, callbacks=[BackupAndRestore(path), *extra], verbose=0)
    assert history.epoch == [2, 3, 4] and not path.exists()
    expected, found = whole.state_dict(), second.state_dict()
    assert expected.keys() == found.keys() and all((expected[name] == found[name]).all() for name in expected)


def test_a_backup_is_removed_at_the_end_unless_it_is_to_stay(tmp_path: Path) -> None:
    stays = BackupAndRestore(tmp_path / "stays", delete_checkpoint=False)
    model = network()
    model.fit(X, Y, epochs=2, callbacks=[BackupAndRestore(tmp_path / "goes"), stays], verbose=0)
    assert names(tmp_path) == ["stays"]
    assert model.fit(X, Y, epochs=4, callbacks=[stays], verbose=0).epoch == [2, 3]
    (tmp_path / "stays").unlink()
    assert model.fit(X, Y, epochs=2, callbacks=[stays], verbose=0).epoch == [0, 1]
