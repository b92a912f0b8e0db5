"""Callbacks: what happens between epochs and batches, with Keras's names and meanings."""

from __future__ import annotations

import csv
import inspect
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from trine.errors import ArgumentError, DTypeError, Site, TrineError, nearest
from trine.files import backup
from trine.files.atomic import replacing
from trine.files.weights import save_weights
from trine.ops.base import user_site

Logs = dict[str, float]
_LARGER_IS_BETTER: Final = ("acc", "auc", "precision", "recall", "f1")


class Callback:
    """The base: override what is needed. `self.model` is the model that is being fitted.

    `epoch` and `batch` count from 0; `logs` maps names to values, such as `loss` and `val_accuracy`. What a callback
    adds to the `logs` of an epoch's end is seen by those after it and by the history.

    Attributes:
        model: the model.
        epochs: the number of the last epoch.
        params: "epochs", "steps" (None where it is not known) and "verbose" of `fit`.
        validates: whether `fit` has validation data.
        failed: whether training was ended by an error or Ctrl-C; known in `on_train_end`.
    """

    model: Any = None
    epochs: int = 0
    params: dict[str, Any] = {}  # noqa: RUF012 - never changed in place
    validates: bool = False
    failed: bool = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, an error or Ctrl-C included."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training batch: another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training batch: another name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training batch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training batch; `logs` are the means since the epoch began."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before the validation of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After the validation of an epoch, with its losses and metrics."""


class CallbackList:
    """Calls each of several callbacks, in order; those that save the state of the run come last."""

    def __init__(
        self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any], validates: bool = False
    ) -> None:
        """Give each the model and the numbers of the run.

        Raises:
            DTypeError: something else than a callback.
        """
        self.callbacks = sorted(callbacks, key=lambda callback: isinstance(callback, BackupAndRestore))
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                rule, fix = f"a {type(callback).__name__} is no callback", "a subclass of trine.train.Callback"
                raise _located(DTypeError("callbacks", rule, got=f"{callback!r:.60}", fix=fix))
            callback.model = model
            callback.epochs = params["epochs"]
            callback.params = params
            callback.validates = validates
            callback.failed = False
        self._begun: list[Callback] = []

    def first_epoch(self, asked: int) -> int:
        """The epoch to start from: later than asked where a callback restored a run."""
        return max([asked, *(getattr(callback, "resume_from", 0) for callback in self.callbacks)])

    def train_begin(self) -> None:
        """Tell all."""
        for callback in self.callbacks:
            self._begun.append(callback)
            callback.on_train_begin({})

    def train_end(self, logs: Logs, failed: bool) -> None:
        """Tell all that training began for, whatever one of them raises; the first error goes on."""
        errors: list[BaseException] = []
        for callback in self._begun:
            callback.failed = failed
            try:
                callback.on_train_end(logs)
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def epoch_begin(self, epoch: int) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, {})

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def batch_begin(self, batch: int) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_train_batch_begin(batch, {})

    def batch_end(self, batch: int, logs: Logs) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)

    def test_begin(self) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_test_begin({})

    def test_end(self, logs: Logs) -> None:
        """Tell all."""
        for callback in self.callbacks:
            callback.on_test_end(logs)


class History(Callback):
    """The losses and metrics of every epoch; what `fit` returns.

    Attributes:
        epoch: the numbers of the epochs, from 0.
        history: a list per name, one value an epoch.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Keep the epoch's values."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class _Monitor(Callback):
    """The base of callbacks that watch one value.

    Args:
        monitor: its name.
        mode: whether smaller (`"min"`) or larger (`"max"`) is better; `"auto"`: larger for accuracies and the like.
        min_delta: the least change that counts.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise _located(ArgumentError(type(self).__name__, 'mode is "auto", "min" or "max"', got=repr(mode)))
        self.monitor = monitor
        larger = mode == "max" or (mode == "auto" and any(word in monitor for word in _LARGER_IS_BETTER))
        self.sign = 1.0 if larger else -1.0
        self.min_delta = abs(min_delta)
        self.best = -math.inf  # times the sign, so that larger is better

    def value(self, logs: Logs | None) -> float | None:
        """The watched value; None after an epoch without validation.

        Raises:
            ArgumentError: there is none of that name.
        """
        found = (logs or {}).get(self.monitor)
        if found is None and not (self.monitor.startswith("val_") and self.validates and not _validated(logs or {})):
            fix = nearest(self.monitor, logs or {})
            if self.monitor.startswith("val_") and not _validated(logs or {}):
                fix = "monitor='loss', or fit(validation_data=...)"
            raise _located(ArgumentError(type(self).__name__, f"no value is called {self.monitor!r}",
                                         got=", ".join(logs or {}), fix=fix))  # fmt: skip
        return found

    def beats(self, value: float, other: float) -> bool:
        """Whether a value is better than `other`, which is times the sign."""
        return self.sign * value > other + self.min_delta


def _validated(logs: Logs) -> bool:
    return any(name.startswith("val_") for name in logs)


def _located(error: TrineError) -> TrineError:
    return error.locate(Site(*user_site()))


class EarlyStopping(_Monitor):
    """Stops when a value has not improved for some epochs.

    Args:
        monitor: the value's name.
        min_delta: the least change that counts as an improvement.
        patience: epochs without improvement before training stops.
        mode: "min", "max" or "auto", which takes larger values of accuracies and the like as better, smaller of others.
        baseline: a value that has to be beaten: until then epochs count as without improvement.
        restore_best_weights: whether the model ends with the weights of its best epoch, baseline or not.
        start_from_epoch: epochs before watching begins.

    Attributes:
        best_epoch: the number of the best epoch so far; None before the first.
        stopped_epoch: the number of the epoch after which it stopped training; None if it did not.
    """

    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0, mode: str = "auto",
        baseline: float | None = None, restore_best_weights: bool = False, start_from_epoch: int = 0,
    ) -> None:  # fmt: skip
        """Set the limits."""
        _Monitor.__init__(self, monitor, mode, min_delta)
        self.patience = patience
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.best = -math.inf
        self.waited = 0
        self.best_weights: dict[str, Any] | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh."""
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count epochs without improvement."""
        if epoch < self.start_from_epoch:
            return
        value = self.value(logs)
        if value is None:
            return
        self.waited += 1
        better = self.beats(value, self.best)
        if self.restore_best_weights and (better or self.best_weights is None):
            self.best_weights = self.model.state_dict()
        if better or self.best_epoch is None:
            self.best_epoch = epoch
        if better:
            self.best = self.sign * value
            if self.baseline is None or self.beats(value, self.sign * self.baseline):
                self.waited = 0
            return
        if self.waited >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Give the best weights back."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
            self.best_weights = None


class ModelCheckpoint(_Monitor):
    """Saves the model after epochs, whole or weights only; a file is replaced only once the new one is complete.

    Args:
        filepath: where; `{epoch}` (from 1) and names of values are filled in: `"{epoch:02d}-{val_loss:.3f}.trine"`.
        monitor: the value that says which epoch is best.
        save_best_only: whether only better epochs are saved.
        save_weights_only: weights as safetensors instead of the whole model.
        mode: "min", "max" or "auto".
        save_freq: "epoch", or a number of batches: saved after so many, with the values of the epoch so far.
        initial_value_threshold: the value that the first saved epoch has to beat, with `save_best_only`.
    """

    def __init__(
        self, filepath: str | Path, monitor: str = "val_loss", save_best_only: bool = False,
        save_weights_only: bool = False, mode: str = "auto", save_freq: int | str = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:  # fmt: skip
        """Set where and when."""
        _Monitor.__init__(self, monitor, mode)
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise _located(ArgumentError("ModelCheckpoint", 'save_freq is "epoch" or a number of batches',
                                         got=repr(save_freq)))  # fmt: skip
        self.filepath = str(filepath)
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        if initial_value_threshold is not None:
            self.best = self.sign * initial_value_threshold
        self._epoch = 0
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save, if it is time."""
        self._batches += 1
        if self.save_freq != "epoch" and not self._batches % int(self.save_freq):
            self._save(logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save, if it is time."""
        if self.save_freq == "epoch":
            self._save(logs or {})

    def _save(self, logs: Logs) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if value is None or not self.beats(value, self.best):
                return
            self.best = self.sign * value
        try:
            path = self.filepath.format(epoch=self._epoch + 1, **logs)
        except KeyError as error:
            names = ", ".join(["epoch", *logs])
            raise _located(ArgumentError("ModelCheckpoint", f"no value is called {error}", got=self.filepath,
                                         fix=f"one of {names}")) from None  # fmt: skip
        if self.save_weights_only:
            save_weights(path, self.model.state_dict())
        else:
            self.model.save(path)


class BackupAndRestore(Callback):
    """Keeps the state of the run in one file, from which a run that was killed goes on.

    Weights, optimiser state, random streams and the number of the next epoch are saved after each epoch, once all other
    callbacks had their turn. A new `fit` with the same path starts where the old one was; its weights are bit for bit
    those of a run that was never interrupted, as long as the data are arrays, or batches that depend on the epoch's
    number alone. What other callbacks have counted, and the history, begin anew.

    Args:
        path: the file; removed when training ends by itself.
        delete_checkpoint: whether it is removed then.
    """

    def __init__(self, path: str | Path, delete_checkpoint: bool = True) -> None:
        """Set where."""
        self.path = Path(path)
        self.delete_checkpoint = delete_checkpoint
        self.resume_from = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Restore, if a file is there."""
        self.resume_from = backup.read(self.path, self.model.run_state()) if self.path.exists() else 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save the state."""
        backup.write(self.path, self.model.run_state(), epoch + 1)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove the file unless training was cut short."""
        if self.delete_checkpoint and not self.failed:
            self.path.unlink(missing_ok=True)


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by `factor` when a value has not improved for `patience` epochs.

    The rate is added to the logs of every epoch as `learning_rate`.

    Args:
        monitor: the value's name.
        factor: between 0 and 1.
        patience: epochs without improvement.
        mode: "min", "max" or "auto".
        min_delta: the least change that counts.
        cooldown: epochs after a reduction in which nothing is counted.
        min_lr: the smallest learning rate.
    """

    def __init__(
        self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, mode: str = "auto",
        min_delta: float = 1e-4, cooldown: int = 0, min_lr: float = 0.0,
    ) -> None:  # fmt: skip
        """Set the limits."""
        _Monitor.__init__(self, monitor, mode, min_delta)
        if not 0 < factor < 1:
            raise _located(ArgumentError("ReduceLROnPlateau", "factor is between 0 and 1", got=str(factor)))
        self.factor = factor
        self.patience = patience
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.waited = 0
        self.resting = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Start afresh."""
        self.best, self.waited, self.resting = -math.inf, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Count epochs without improvement."""
        logs = {} if logs is None else logs
        logs["learning_rate"] = rate = float(self.model.optimizer.learning_rate.item())
        value = self.value(logs)
        if value is None:
            return
        if self.resting:
            self.resting -= 1
            self.waited = 0
        if self.beats(value, self.best):
            self.best, self.waited = self.sign * value, 0
        elif not self.resting:
            self.waited += 1
            if self.waited >= self.patience:
                if rate > self.min_lr:
                    self.model.optimizer.learning_rate = max(rate * self.factor, self.min_lr)
                    self.resting = self.cooldown
                self.waited = 0


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch, and adds it to the logs as `learning_rate`.

    Args:
        schedule: from the number of the epoch, and the present rate where it takes two arguments, to the new rate.
    """

    def __init__(self, schedule: Callable[..., float]) -> None:
        """Keep the schedule."""
        self.schedule = schedule
        parameters = inspect.signature(schedule).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._takes_rate = sum(p.kind in kinds for p in parameters) > 1 or any(
            p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)  # fmt: skip

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Set the rate."""
        optimizer = self.model.optimizer
        present = (float(optimizer.learning_rate.item()),) if self._takes_rate else ()
        optimizer.learning_rate = self.schedule(epoch, *present)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Report the rate."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate.item())


class TerminateOnNaN(Callback):
    """Stops, in the middle of the epoch, when the loss is NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True


class CSVLogger(Callback):
    """Writes a row per epoch to a CSV file, which is complete at any moment.

    Args:
        filename: the file.
        separator: between the values of a row.
        append: whether rows of an earlier run stay.
    """

    def __init__(self, filename: str | Path, separator: str = ",", append: bool = False) -> None:
        """Set where."""
        self.path = Path(filename)
        self.separator = separator
        self.append = append
        self.rows: list[dict[str, Any]] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Read the rows to keep."""
        self.rows = []
        if self.append and self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = list(csv.DictReader(file, delimiter=self.separator))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write all rows to a temporary file and rename it."""
        self.rows.append({"epoch": epoch, **(logs or {})})
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, delimiter=self.separator)
            writer.writeheader()
            writer.writerows(self.rows)


class LambdaCallback(Callback):
    """A callback of functions, each with the arguments of the method it stands for: `on_epoch_end=print`.

    Args:
        functions: by the names of `Callback`'s methods.

    Raises:
        ArgumentError: a name that no method has.
    """

    def __init__(self, **functions: Callable[..., Any] | None) -> None:
        """Keep the functions."""
        for name, function in functions.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                known = [known for known in vars(Callback) if known.startswith("on_")]
                raise _located(ArgumentError("LambdaCallback", f"no event is called {name!r}", got=name,
                                             fix=f"one of {', '.join(known)}"))  # fmt: skip
            if function is not None:
                setattr(self, name, function)
