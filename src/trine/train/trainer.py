"""`compile`, `fit`, `evaluate` and `predict` for any module, each stage of which a subclass can replace.

A step is `train_step(x, y, sample_weight)`: the very functions that a loop written by hand calls, captured as one
program unless `run_eagerly`. Losses and metrics are sums and weights, divided once, so the size of a batch and a short
last one do not change what is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from itertools import islice
from typing import Any, Self

import numpy as np

from trine import data, dtypes, optim, tree
from trine.context import CURRENT, using
from trine.engine import ENGINE
from trine.errors import ArgumentError, DataError, Site, StateError, TrineError
from trine.ops.base import user_site
from trine.tensor.compile import compile
from trine.tensor.journal import transaction
from trine.tensor.random import data_seed, streams
from trine.tensor.tensor import Tensor, to_tensor
from trine.train import step
from trine.train.callbacks import Callback, CallbackList, History
from trine.train.progress import ProgressBar, text

Logs = dict[str, float]


class Training:
    """What `compile` sets up: optimiser, objective, metrics, and the captured steps.

    Attributes:
        optimizer: the optimiser.
        loss: the loss as it was given.
        objective: the losses and metrics of every output.
        metrics: the metrics by their names in reports.
        signature: the last batch, whose types `save` traces with; None before the first.
        stop: whether training ends after this batch.
    """

    def __init__(
        self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any, run_eagerly: bool
    ) -> None:
        """Resolve names."""
        self.optimizer = optim.get(optimizer)
        self.loss = loss
        self.objective = step.Objective(loss, loss_weights, metrics, weighted_metrics)
        self.metrics = self.objective.table
        self.run_eagerly = run_eagerly
        self.steps: dict[str, Callable[..., Any]] = {}
        self.signature: tuple[Any, ...] | None = None
        self.stop = False
        self._extends = not self.optimizer.parameters

    def step(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The captured form of a step, made once; the function itself when running eagerly."""
        if self.run_eagerly:
            return function
        if name not in self.steps:
            self.steps[name] = compile(function)
        return self.steps[name]

    def extend(self, model: Any) -> None:
        """Give the optimiser the parameters that the model has got since, unless the user chose its parameters."""
        if not self._extends:
            return
        known = self.optimizer.parameters
        ids = {id(p) for p in known.values()}
        found = dict(model.named_parameters())
        if not all(id(p) in ids for p in found.values()) or not known:
            kept = {name: p for name, p in model.named_state() if id(p) in ids}  # frozen ones keep their state
            self.optimizer.build(kept | found)


class Trainer:
    """Training for a callable object with parameters; `nn.Module` is one.

    A subclass that defines `__call__`, `parameters()` and `named_parameters()` gets the methods below.
    """

    _training: Training | None = None

    # -- Setting up ----------------------------------------------------------------------------------------------------

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, metrics: Any = None, *, loss_weights: Any = None,
        weighted_metrics: Any = None, run_eagerly: bool = False,
    ) -> Self:  # fmt: skip
        """Choose how to train; returns the model.

        A model with several outputs takes a list of losses in the order of its outputs, or a dict by their names: the
        keys of the dict that it returns, the names of the layers of a functional model, or `output_0`, `output_1`, ...
        Metrics, weights and targets likewise.

        Args:
            optimizer: a name (`"adam"`) or an optimiser; one made without parameters takes all that the model has or
                gets later, one made from parameters keeps to them.
            loss: a name, or a function `(y_true, y_pred)` to a value per sample, one number, or (sum, weight). A list
                or dict of them for several outputs, None for one that is not trained on; a single one is that of all.
            metrics: a name, a function like a loss, or a list of them: sample weights do not count.
            loss_weights: what each of several losses counts; 1 unless given.
            weighted_metrics: the same as metrics, where sample weights count.
            run_eagerly: run the Python of every step, so that `print` and `pdb` see values.

        Raises:
            NameLookupError: a name that is not known.
        """
        training = Training(optimizer, loss, loss_weights, metrics, weighted_metrics, run_eagerly)
        object.__setattr__(self, "_training", training)
        object.__setattr__(self, "optimizer", training.optimizer)
        return self

    def _chosen(self, where: str) -> Training:
        if self._training is None:
            raise StateError(where, f"{type(self).__name__} has not been told how to train", got="no compile() yet",
                             fix='model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")').locate(
                Site(*user_site()))  # fmt: skip
        return self._training

    # -- Stages that a subclass may replace ----------------------------------------------------------------------------

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Tensor, dict[str, Any]]:
        """The number to differentiate, and named (sum, weight) pairs to report."""
        training = self._chosen("fit")
        if not training.objective.has_loss:
            raise StateError("fit", "no loss was chosen", got="compile(loss=None)",
                             fix='model.compile(..., loss="mse")').locate(Site(*user_site()))  # fmt: skip
        return training.objective.loss(self, y, y_pred, sample_weight)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Named (sum, weight) pairs of the metrics to report."""
        return self._chosen("fit").objective.measured(self, y, y_pred, sample_weight)

    def train_step(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Forward, loss, backward, update: one step on one batch; returns named (sum, weight) pairs."""
        training = self._chosen("fit")
        y_pred = self(x)  # type: ignore[operator]  # a Trainer is callable
        training.extend(self)
        loss, reported = self.compute_loss(x, y, y_pred, sample_weight)
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        return {**reported, **self.compute_metrics(x, y, y_pred, sample_weight)}

    def test_step(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Forward and loss on one batch, without an update; returns named (sum, weight) pairs."""
        y_pred = self(x)  # type: ignore[operator]  # a Trainer is callable
        _, reported = self.compute_loss(x, y, y_pred, sample_weight)
        return {**reported, **self.compute_metrics(x, y, y_pred, sample_weight)}

    def predict_step(self, x: Any) -> Any:
        """The outputs for one batch."""
        return self(x)  # type: ignore[operator]  # a Trainer is callable

    # -- Training ------------------------------------------------------------------------------------------------------

    def fit(
        self, x: Any, y: Any = None, *, batch_size: int | None = None, epochs: int = 1, verbose: int | str = "auto",
        callbacks: Sequence[Callback] | Callback | None = None, validation_split: float = 0.0,
        validation_data: Any = None, shuffle: bool = True, class_weight: dict[int, float] | None = None,
        sample_weight: Any = None, initial_epoch: int = 0, steps_per_epoch: int | None = None,
        validation_steps: int | None = None, validation_batch_size: int | None = None, validation_freq: int = 1,
    ) -> History:  # fmt: skip
        """Train for `epochs` passes over the data and return the history of losses and metrics.

        Ctrl-C ends it between two steps: weights, optimiser and random streams are those after the last whole step,
        `model.history` holds the epochs so far, callbacks hear of the end, and KeyboardInterrupt goes on to the caller.

        Args:
            x: arrays or tensors, a map-style data set, or an iterable of batches (a torch DataLoader is one).
            y: targets, where x is arrays; the names of columns, where x is a data set of dicts.
            batch_size: samples in a batch; 32 unless given.
            epochs: the number of the last epoch.
            verbose: 0 silent, 1 a progress bar, 2 a line per epoch; "auto" is 1 in a terminal and 2 elsewhere.
            callbacks: see `trine.train`.
            validation_split: the fraction at the end of the arrays that is kept for validation, before any shuffling.
            validation_data: (x, y), (x, y, sample_weight) or a data set, evaluated after each epoch; counts before
                `validation_split`.
            shuffle: whether each epoch has its own order, by `trine.manual_seed` and the number of the epoch.
            class_weight: a weight per class, in training only, for class numbers or one-hot targets.
            sample_weight: a weight per sample, by which a class weight is multiplied. The loss is divided by the sum of
                the weights.
            initial_epoch: the epoch to start from, when training goes on.
            steps_per_epoch: batches that make an epoch; the next epoch goes on with the batch after them.
            validation_steps: batches of the validation data; all unless given.
            validation_batch_size: as `batch_size`, for validation.
            validation_freq: epochs between validations.

        Raises:
            StateError: `compile` was not called.
            DataError: lengths that differ, no samples, NaN.
        """
        self._chosen("fit")
        for name, number in (("steps_per_epoch", steps_per_epoch), ("validation_steps", validation_steps),
                             ("validation_freq", validation_freq)):  # fmt: skip
            if number is not None and number < 1:
                raise ArgumentError(name, "is at least 1", got=str(number)).locate(Site(*user_site()))
        source = _source("fit", x, y, sample_weight, batch_size, shuffle)
        held_out = None
        if validation_data is not None:
            size = batch_size if validation_batch_size is None else validation_batch_size
            held_out = _held_out("validation_data", validation_data, size)
        elif validation_split:
            source, held_out = _split(source, validation_split, validation_batch_size)
        if class_weight is not None:
            source = data.ClassWeighted(source, class_weight)
        history = History()
        object.__setattr__(self, "history", history)
        steps = source.steps if steps_per_epoch is None else steps_per_epoch
        shown = ProgressBar(verbose, epochs, steps)
        params = {"epochs": epochs, "steps": steps, "verbose": shown.verbose}
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        watchers = CallbackList([*given, shown, history], self, params, held_out is not None)
        run = _Run(self, source, held_out, watchers, steps_per_epoch, validation_steps, validation_freq)
        # in a copy, so that nothing of a step that Ctrl-C cuts short stays set
        copy_context().run(run.epochs, initial_epoch, epochs)
        return history

    @property
    def stop_training(self) -> bool:
        """Set by callbacks: training ends after the batch, and its epoch is the last."""
        return self._chosen("stop_training").stop

    @stop_training.setter
    def stop_training(self, stop: bool) -> None:
        self._chosen("stop_training").stop = stop

    def run_state(self) -> dict[str, Tensor]:
        """Every handle that a run changes, by name: parameters and state, the optimiser's, and the random streams."""
        training = self._chosen("run_state")
        state = dict(self.named_state())  # type: ignore[attr-defined]  # a Trainer has it
        state |= {f"optimizer.{name}": handle for name, handle in training.optimizer.named_state()}
        return state | {f"random.{name}": stream.state for name, stream in streams().items()}

    def prepare(self, source: data.Batches) -> None:
        """Build parameters and optimiser state outside of any captured step."""
        training = self._chosen("fit")
        if any(True for _ in self._unbuilt()):
            first = _first(source)
            with using(grad=False, training=False, journal=None), transaction() as undo:
                self(self._batch_tensors(first)[0])  # type: ignore[operator]  # a Trainer is callable
                undo.rollback()
        if isinstance(training, Training):  # a step from a file has its parameters
            training.extend(self)

    def _unbuilt(self) -> Iterator[Any]:
        return (m for m in self.modules() if not m.built)  # type: ignore[attr-defined]  # a Trainer has it

    def _batch_tensors(self, batch: data.Batch) -> tuple[Any, ...]:
        """A batch as tensors; float64, the default of NumPy, as float32 unless the model computes in float64."""
        policy = getattr(self, "_policy", None) or CURRENT.get().policy
        wide = policy is not None and policy[1] is dtypes.float64

        def convert(array: Any) -> Tensor:
            return to_tensor(array if wide or array.dtype != np.float64 else array.astype(np.float32))

        return tuple(None if part is None else tree.map(convert, part) for part in batch)

    def _trained(self, batch: data.Batch, sums: Sums) -> None:
        """One step, all of it or none."""
        training = self._chosen("fit")
        with using(training=True, grad=True), transaction():
            training.signature = given = self._batch_tensors(batch)
            sums.add(training.step("train", self.train_step)(*given))

    # -- Evaluation ----------------------------------------------------------------------------------------------------

    def evaluate(
        self, x: Any, y: Any = None, *, batch_size: int | None = None, sample_weight: Any = None,
        verbose: int | str = 0, steps: int | None = None, return_dict: bool = True,
    ) -> Any:  # fmt: skip
        """The loss and the metrics on data, as a dict by name, or as a list in the same order.

        Args:
            x, y, sample_weight, batch_size: as for `fit`.
            verbose: whether the values are printed.
            steps: batches to take; all unless given.
            return_dict: whether a dict comes back.

        Raises:
            StateError: `compile` was not called.
            DataError: lengths that differ, no samples, NaN.
        """
        self._chosen("evaluate")
        source = _source("evaluate", x, y, sample_weight, batch_size, False)
        logs: Logs = copy_context().run(self._evaluated, source, steps)
        if verbose not in (0, "auto"):
            print(text(logs))
        return logs if return_dict else list(logs.values())

    def _evaluated(self, source: data.Batches, steps: int | None = None) -> Logs:
        training = self._chosen("evaluate")
        run = training.step("test", self.test_step)
        sums = Sums(training)
        for batch in islice(_batches("evaluate", source.epoch(0)), steps):
            with using(training=False, grad=False), transaction():
                sums.add(run(*self._batch_tensors(batch)))
        return sums.means()

    def predict(
        self, x: Any, *, batch_size: int | None = None, verbose: int | str = 0, steps: int | None = None
    ) -> Any:
        """The outputs for data, in inference mode, as NumPy arrays in the container the model returns.

        Args:
            x: arrays or tensors, a data set, or batches; targets and weights in them are left aside.
            batch_size: samples in a batch; 32 unless given.
            verbose: whether to say how many samples there were.
            steps: batches to take; all unless given.

        Raises:
            DataError: no samples, or NaN.
        """
        source = _source("predict", x, None, None, batch_size, False)
        found = copy_context().run(self._predicted, source, steps)
        if verbose not in (0, "auto"):
            print(f"{len(tree.flatten(found)[0][0])} samples")
        return found

    def _predicted(self, source: data.Batches, steps: int | None) -> Any:
        run = self.predict_step
        if self._training is not None:
            run = self._training.step("predict", self.predict_step)
        pieces: list[list[Any]] = []
        structure = None
        for batch in islice(_batches("predict", source.epoch(0)), steps):
            with using(training=False, grad=False), transaction():
                leaves, structure = tree.flatten(run(self._batch_tensors(batch)[0]))
                ENGINE.evaluate([leaf.node for leaf in leaves])
                pieces.append([leaf.numpy() for leaf in leaves])
        if structure is None:
            raise DataError("predict", "there are no batches", got=type(source).__name__).locate(Site(*user_site()))
        return tree.unflatten(structure, [np.concatenate(column) for column in zip(*pieces, strict=True)])

    # -- Single batches ------------------------------------------------------------------------------------------------

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None) -> Logs:
        """One step on one batch; returns its loss and metrics."""
        training = self._chosen("train_on_batch")
        batch = data.as_batch(data.Batch(x, y, sample_weight))
        self.prepare(data.IterableBatches([batch]))
        sums = Sums(training)
        copy_context().run(self._trained, batch, sums)
        return sums.means()

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None) -> Logs:
        """The loss and metrics of one batch, without an update."""
        self._chosen("test_on_batch")
        batch = data.as_batch(data.Batch(x, y, sample_weight))
        logs: Logs = copy_context().run(self._evaluated, data.IterableBatches([batch]))
        return logs

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, in inference mode, as NumPy arrays."""
        batch = data.as_batch(data.Batch(x))
        return copy_context().run(self._predicted, data.IterableBatches([batch]), None)


class _Run:
    """One call of `fit`."""

    def __init__(
        self, model: Trainer, source: data.Batches, held_out: data.Batches | None, watchers: CallbackList,
        steps: int | None, validation_steps: int | None, validation_freq: int,
    ) -> None:  # fmt: skip
        self.model = model
        self.training = model._chosen("fit")
        self.source = source
        self.held_out = held_out
        self.watchers = watchers
        self.steps = steps
        self.validation_steps = validation_steps
        self.validation_freq = validation_freq
        self._stream: Iterator[data.Batch] | None = None

    def epochs(self, first: int, last: int) -> None:
        """Train, and tell the callbacks how it ended."""
        self.training.stop = False
        logs: Logs = {}
        whole = False
        try:
            self.model.prepare(self.source)
            self.watchers.train_begin()
            for epoch in range(self.watchers.first_epoch(first), last):
                self.watchers.epoch_begin(epoch)
                self.model.prepare(self.source)  # a callback may have added a layer
                logs = self._trained(epoch)
                if self.held_out is not None and not (epoch + 1) % self.validation_freq:
                    logs |= {f"val_{name}": value for name, value in self._validated(self.held_out).items()}
                self.watchers.epoch_end(epoch, logs)
                if self.training.stop:
                    break
            whole = True
        finally:
            self.watchers.train_end(logs, failed=not whole)

    def _trained(self, epoch: int) -> Logs:
        sums = Sums(self.training)
        for number, batch in enumerate(_batches("fit", self._batches(epoch))):
            self.watchers.batch_begin(number)
            self.model._trained(batch, sums)
            self.watchers.batch_end(number, sums.means())
            if self.training.stop:
                break
        return sums.means()

    def _batches(self, epoch: int) -> Iterator[data.Batch]:
        if self.steps is None:
            return self.source.epoch(epoch)
        if self._stream is None:
            self._stream = data.endless(self.source, epoch * self.steps)
        return islice(self._stream, self.steps)

    def _validated(self, held_out: data.Batches) -> Logs:
        self.watchers.test_begin()
        logs = self.model._evaluated(held_out, self.validation_steps)
        self.watchers.test_end(dict(logs))
        return logs


class Sums:
    """Sums and weights of an epoch, by name, kept in float64 on the host."""

    def __init__(self, training: Training) -> None:
        """Nothing yet; a metric of `training` makes its result of its sums."""
        self.totals: dict[str, list[float]] = {}
        self.metrics = training.metrics

    def add(self, pairs: dict[str, step.Pair]) -> None:
        """Add the (sum, weight) pairs of a batch."""
        ENGINE.evaluate([x.node for pair in pairs.values() for x in pair])
        numbers = {name: (float(total.item()), float(weight.item())) for name, (total, weight) in pairs.items()}
        for name, (amount, weight) in numbers.items():
            total = self.totals.setdefault(name, [0.0, 0.0])
            total[0] += amount
            total[1] += weight

    def means(self) -> Logs:
        """Each sum divided by its weight, or what the metric makes of them."""
        return {
            name: self.metrics[name].result(*total) if name in self.metrics else _quotient(*total)
            for name, total in self.totals.items()
        }


def _quotient(total: float, weight: float) -> float:
    return total / weight if weight else 0.0


def _source(where: str, x: Any, y: Any, weight: Any, batch_size: int | None, shuffle: bool) -> data.Batches:
    try:
        return data.batches(x, y, weight, batch_size=batch_size, shuffle=shuffle, seed=data_seed())
    except TrineError as error:
        raise _from(where, error) from None


def _from(where: str, error: TrineError) -> TrineError:
    """An error about data, with the function and the line that they were given to."""
    if error.site is None:
        error.where = f"{where}: {error.where}"
    return error.locate(Site(*user_site()))


def _batches(where: str, given: Iterator[data.Batch]) -> Iterator[data.Batch]:
    """The batches, where an error about data names the line that they were given to."""
    while True:
        try:
            batch = next(given, None)
        except DataError as error:
            raise _from(where, error) from None
        if batch is None:
            return
        yield batch


def _first(source: data.Batches) -> data.Batch:
    try:
        return data.first_batch(source)
    except DataError as error:
        raise _from("fit", error) from None


def _held_out(where: str, given: Any, batch_size: int | None) -> data.Batches:
    """What `validation_data` was given: a tuple or list of up to three arrays, or a data set."""
    ready = isinstance(given, list) and all(isinstance(part, tuple) for part in given)
    if isinstance(given, tuple | list) and 2 <= len(given) <= 3 and not ready:
        x, y, weight = (*given, None)[:3]
        return _source(where, x, y, weight, batch_size, False)
    return _source(where, given, None, None, batch_size, False)


def _split(source: data.Batches, fraction: float, batch_size: int | None) -> tuple[data.Batches, data.Batches]:
    if not isinstance(source, data.ArrayBatches):
        raise DataError("validation_split", "only arrays can be split", got=type(source).__name__,
                        fix="validation_data=...").locate(Site(*user_site()))  # fmt: skip
    try:
        training, held_out = source.split(fraction)
    except TrineError as error:
        raise _from("fit", error) from None
    if batch_size is not None:
        held_out = data.ArrayBatches(*held_out.parts, batch_size=batch_size, shuffle=False)
    return training, held_out
