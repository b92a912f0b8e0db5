"""One step: losses and metrics as pairs of sums and weights, whatever form the user gave them in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from trine import metrics, tree
from trine.context import CURRENT
from trine.errors import ArgumentError, DTypeError, Site, TrineError
from trine.functional import losses
from trine.metrics import Mean, Metric
from trine.ops.base import user_site
from trine.ops.creation import size_value
from trine.ops.elementwise import add, cast, multiply
from trine.shapes import Size
from trine.tensor.tensor import Tensor

Pair = tuple[Tensor, Tensor]


def as_pair(value: Any, where: str, sample_weight: Tensor | None, samples: Size) -> Pair:
    """A loss's or metric's result as (sum, weight).

    A pair stays; a value per sample is weighted and summed; a single number counts as the mean over its samples.

    Args:
        value: what the function returned.
        where: its name, for errors.
        sample_weight: weights that the function has not seen.
        samples: the number of samples in the batch.

    Raises:
        DTypeError: something else came back, or a pair from a function that does not take the weights.
    """
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(x, Tensor) and not x.ndim for x in value):
        if sample_weight is not None:
            _refuse(DTypeError(where, "returns (sum, weight) and takes no sample_weight, which would be left out",
                               got="f(y_true, y_pred)", fix="def f(y_true, y_pred, sample_weight=None)"))  # fmt: skip
        return value
    if not isinstance(value, Tensor):
        _refuse(DTypeError(where, "returns a tensor per sample, one number, or (sum, weight)", got=type(value).__name__,
                           fix="return trine.losses.mse(y_true, y_pred), or a tensor of shape [batch]"))  # fmt: skip
    if value.ndim == 0:
        if sample_weight is not None:
            _refuse(DTypeError(where, "returns one number for the batch, so no sample_weight can count",
                               got=str(value.type), fix="return a tensor of shape [batch]"))  # fmt: skip
        count = size_value(value, samples)
        return multiply(value, count), count
    return losses.weighted(where, value, None if sample_weight is None else cast(sample_weight, value.dtype))


def _refuse(error: TrineError) -> NoReturn:
    raise error.locate(Site(*user_site()))


@dataclass(frozen=True)
class Measure:
    """A metric of one output.

    Attributes:
        label: its name in reports.
        metric: what makes a number of its sums.
        weighted: whether sample weights count.
    """

    label: str
    metric: Metric
    weighted: bool

    def __call__(self, y_true: Any, y_pred: Tensor, sample_weight: Tensor | None) -> Pair:
        """The (sum, weight) of a batch."""
        function = self.metric.function if isinstance(self.metric, Mean) else self.metric
        weight = sample_weight if self.weighted else None
        return _pair(function, self.label, y_true, y_pred, weight)


@dataclass(frozen=True)
class Part:
    """What is asked of one output.

    Attributes:
        label: the name of its loss in reports.
        loss: None where the output is not trained on.
        weight: what the loss counts.
        measures: its metrics.
    """

    label: str
    loss: Callable[..., Any] | None
    weight: float
    measures: tuple[Measure, ...]

    def __call__(self, y_true: Any, y_pred: Tensor, sample_weight: Tensor | None) -> tuple[Tensor, Pair]:
        """The mean to differentiate, and the (sum, weight) to report."""
        assert self.loss is not None  # the objective asks only those
        value = _called(self.loss, y_true, y_pred, sample_weight)
        unseen = None if _takes_weight(self.loss) else sample_weight
        pair = as_pair(value, self.label, unseen, _samples(y_pred))
        if isinstance(value, Tensor) and value.ndim == 0:
            return value, pair
        return losses.mean(pair), pair


def _pair(function: Callable[..., Any], label: str, y_true: Any, y_pred: Tensor, sample_weight: Tensor | None) -> Pair:
    value = _called(function, y_true, y_pred, sample_weight)
    return as_pair(value, label, None if _takes_weight(function) else sample_weight, _samples(y_pred))


def _called(function: Callable[..., Any], y_true: Any, y_pred: Any, sample_weight: Tensor | None) -> Any:
    """A user's own loss need not know of sample weights; a capture looks at the variables that it reads."""
    capture = CURRENT.get().capture
    if capture is not None and hasattr(capture, "uses"):
        capture.uses(function)
    if sample_weight is None or not _takes_weight(function):
        return function(y_true, y_pred)
    return function(y_true, y_pred, sample_weight=sample_weight)


def _takes_weight(function: Callable[..., Any]) -> bool:
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a callable of C without a signature
        return False


def _samples(y_pred: Tensor) -> Size:
    return y_pred.shape[0] if y_pred.ndim else 1


class Objective:
    """The losses and metrics of a model with one output or several.

    Several outputs have names: the keys of the dict that the model returns, its `output_names`, or `output_0`,
    `output_1`, ... Losses, metrics, weights and targets are then lists in the order of the outputs, or dicts by name;
    one loss is that of every output. One output has the name "".

    Attributes:
        has_loss: whether there is a loss.
        table: the metrics by their names in reports, once a batch was seen.
    """

    def __init__(self, loss: Any, loss_weights: Any, measured: Any, weighted: Any) -> None:
        """Check the names.

        Raises:
            NameLookupError: no loss or metric has the name.
            DTypeError: neither a name nor a function.
        """
        self.has_loss = loss is not None
        self.table: dict[str, Metric] = {}
        self._loss = _resolved(loss, losses.get)
        self._weights = loss_weights
        self._metrics = (measured, weighted)
        for given in self._metrics:
            _resolved(given, metrics.get)
        if not isinstance(loss, Mapping | list | tuple) and loss is not None:
            self.parts([""])

    def parts(self, names: list[str]) -> list[Part]:
        """What is asked of each output; fills `table`."""
        alone = len(names) == 1
        chosen = dict.fromkeys(names, self._loss) if not isinstance(self._loss, Mapping | list | tuple) else (
            _by_name("loss", self._loss, names))  # fmt: skip
        weights = _by_name("loss_weights", self._weights, names) if self._weights is not None else {}
        found: list[Part] = []
        table: dict[str, Metric] = {}
        asked = [_asked(given, names) for given in self._metrics]
        for name in names:
            loss = chosen.get(name)
            measures = []
            for weighted, table_of in zip((False, True), asked, strict=True):
                for item in table_of.get(name, ()):
                    metric = metrics.get(item, loss=loss)
                    label = _free(metric.name if alone else f"{name}_{metric.name}", table)
                    table[label] = metric
                    measures.append(Measure(label, metric, weighted))
            weight = weights.get(name)
            label = "loss" if alone else f"{name}_loss"
            found.append(Part(label, loss, 1.0 if weight is None else float(weight), tuple(measures)))
        self.table.clear()
        self.table.update(table)
        return found

    def loss(self, model: Any, y: Any, y_pred: Any, sample_weight: Any) -> tuple[Tensor, dict[str, Pair]]:
        """The mean to differentiate, and the (sum, weight) of each loss to report."""
        pairs: dict[str, Pair] = {}
        whole: Tensor | None = None
        count: Tensor | None = None
        names = outputs_of(model, y_pred)
        for part, truth, prediction, weight in self._each(names, y, y_pred, sample_weight):
            if part.loss is None:
                continue
            mean, (total, amount) = part(_needed(part, truth), prediction, weight)
            if part.weight != 1.0:
                mean = multiply(mean, part.weight)
            if len(names) == 1:
                total = total if part.weight == 1.0 else multiply(total, part.weight)
                return mean, {"loss": (total, amount)}
            pairs[part.label] = (total, amount)
            whole = mean if whole is None else add(whole, cast(mean, whole.dtype))
            count = amount if count is None else count
        if whole is None or count is None:
            _refuse(ArgumentError("loss", "no output has a loss", got=", ".join(names)))
        return whole, {"loss": (multiply(whole, cast(count, whole.dtype)), cast(count, whole.dtype)), **pairs}

    def measured(self, model: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, Pair]:
        """The (sum, weight) of every metric."""
        if self._metrics == (None, None):
            return {}
        names = outputs_of(model, y_pred)
        return {
            measure.label: measure(_needed(part, truth), prediction, weight)
            for part, truth, prediction, weight in self._each(names, y, y_pred, sample_weight)
            for measure in part.measures
        }

    def _each(self, names: list[str], y: Any, y_pred: Any, sample_weight: Any) -> Any:
        predictions = tree.flatten(y_pred)[0]
        truths = _by_name("y", y, names)
        weights = _by_name("sample_weight", sample_weight, names, shared=True)
        return [(part, truths.get(name), prediction, weights.get(name))
                for part, name, prediction in zip(self.parts(names), names, predictions, strict=True)]  # fmt: skip


def outputs_of(model: Any, y_pred: Any) -> list[str]:
    """The names of a model's outputs.

    Raises:
        DTypeError: the model returned something else than tensors, or none.
    """
    leaves = tree.flatten(y_pred)[0]
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        _refuse(DTypeError(type(model).__name__, "a model returns a tensor, or a container of tensors",
                           got=", ".join(type(leaf).__name__ for leaf in leaves) or "None"))  # fmt: skip
    if len(leaves) == 1:
        return [""]
    if isinstance(y_pred, Mapping) and len(y_pred) == len(leaves):
        return [str(name) for name in y_pred]
    own = getattr(model, "output_names", None)
    if own is not None and len(own) == len(leaves):
        return [str(name) for name in own]
    return [f"output_{i}" for i in range(len(leaves))]


def _by_name(what: str, given: Any, names: list[str], *, shared: bool = False) -> dict[str, Any]:
    """What was given for several outputs, by their names; unless in a container, it is that of the only one or of all.

    Raises:
        ArgumentError: another number than there are outputs, or names that no output has.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        if len(names) == 1 and len(given) == 1:
            return {names[0]: next(iter(given.values()))}
        unknown = [str(name) for name in given if name not in names]
        if unknown:
            fix = f"one of {', '.join(names)}" if len(names) > 1 else "there is one output"
            _refuse(ArgumentError(what, f"no output is called {unknown[0]!r}", got=", ".join(map(str, given)), fix=fix))
        return dict(given)
    if isinstance(given, list | tuple):
        if len(given) != len(names):
            _refuse(ArgumentError(what, f"{len(names)} outputs and {len(given)} entries", got=type(given).__name__,
                                  fix="one entry for every output, or a dict by their names"))  # fmt: skip
        return dict(zip(names, given, strict=True))
    if len(names) > 1 and not shared:
        _refuse(ArgumentError(what, f"{len(names)} outputs and 1 entry", got=type(given).__name__,
                              fix="a list with one entry for every output, or a dict by their names"))  # fmt: skip
    return dict.fromkeys(names, given)


def _needed(part: Part, truth: Any) -> Any:
    """The target of an output that has a loss or metrics."""
    if truth is None:
        _refuse(ArgumentError(part.label, "there are no targets", got="y=None", fix="fit(x, y), or batches of (x, y)"))
    return truth


def _resolved(given: Any, get: Callable[[Any], Any]) -> Any:
    """Names and configurations replaced by what they stand for, in the container that was given."""
    if isinstance(given, Mapping) and not isinstance(given.get("name"), str):
        return {name: _resolved(part, get) for name, part in given.items()}
    if isinstance(given, list | tuple):
        return [_resolved(part, get) for part in given]
    return None if given is None else get(given)


def _asked(given: Any, names: list[str]) -> dict[str, list[Any]]:
    """The metrics of every output, as lists."""
    if given is None:
        return {}
    if len(names) == 1 and not isinstance(given, Mapping):
        listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        flat = [item for part in listed for item in (part if isinstance(part, list | tuple) else [part])]
        return {names[0]: flat}
    if len(names) == 1 and isinstance(given.get("name"), str):
        return {names[0]: [given]}
    by_name = _by_name("metrics", given, names)
    return {
        name: list(item) if isinstance(item, list | tuple) else [] if item is None else [item]
        for name, item in by_name.items()
    }


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, with a number where it is taken."""
    label, number = name, 1
    while label in taken:
        label, number = f"{name}_{number}", number + 1
    return label
