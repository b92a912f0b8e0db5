"""Losses as pure functions: each returns a sum over examples and the weight to divide it by.

`loss(y_true, y_pred, sample_weight)` is `(sum, weight)`, two scalars in the dtype of the predictions (float32 for half
types). Without sample weights the weight is the number of per-example losses, with them it is the sum of the weights;
those of several batches add up, and `mean` divides once. Labels and predictions never broadcast.

Names and defaults are Keras's. `get` finds a loss by name; the dataclasses hold the options of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final

from trine.errors import ArgumentError, DTypeError, NameLookupError, ShapeError, Site, TrineError, nearest
from trine.functional.activations import log_softmax
from trine.ir.graph import Value
from trine.ops.base import V, like, no_tensor, user_site
from trine.ops.checks import check_labels, check_probabilities
from trine.ops.creation import size_value
from trine.ops.elementwise import (
    abs,
    add,
    cast,
    clip,
    divide,
    equal,
    exp,
    floating,
    greater_equal,
    less_equal,
    log,
    log1p,
    logical_not,
    multiply,
    negative,
    square,
    subtract,
    where,
)
from trine.ops.indexing import take_along_axis
from trine.ops.movement import broadcast_to, expand_dims, reshape, squeeze
from trine.ops.reduction import mean as mean_over
from trine.ops.reduction import sum as sum_over
from trine.shapes import format_shape, size_of

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "get",
    "huber",
    "mae",
    "mean",
    "mean_absolute_error",
    "mean_squared_error",
    "mse",
    "sparse_categorical_crossentropy",
]

EPSILON: Final = 1e-7  # probabilities are kept this far from 0 and 1, as in Keras


# -- Sums and weights --------------------------------------------------------------------------------------------------


def mean(pair: tuple[V, V]) -> V:
    """The sum divided by the weight; 0 where nothing has weight."""
    if not isinstance(pair, tuple):
        raise DTypeError("losses.mean", "takes what a loss returns: a sum and a weight", got=f"{type(pair).__name__}",
                         fix="losses.mean(losses.mse(y_true, y_pred))").locate(Site(*user_site()))  # fmt: skip
    total, weight = pair
    nothing = equal(weight, 0)
    return where(nothing, 0.0, divide(total, where(nothing, 1.0, weight)))


def weighted(name: str, values: V, sample_weight: V | None) -> tuple[V, V]:
    """The sum of per-example values, each times its weight, and the sum of the weights.

    Args:
        name: who asks, for errors.
        values: one float per example, of any shape.
        sample_weight: of the shape of the values, or of their leading axes: the weight of an example then counts for
            all its values. None is 1 for each.

    Raises:
        ShapeError: weights of another shape.
    """
    if sample_weight is None:
        return sum_over(values), size_value(values, size_of(values.shape))
    weight = _weights(name, values, sample_weight)
    return sum_over(multiply(values, weight)), sum_over(weight)


def _weights(name: str, values: V, sample_weight: V) -> V:
    """The sample weights, in the dtype and shape of the values."""
    _tensors(name, sample_weight=sample_weight)
    weight = cast(sample_weight, values.dtype)
    if weight.shape != values.shape[: weight.ndim]:
        raise _error(ShapeError, name, "sample_weight has the leading sizes of the per-example losses, "
                     f"{format_shape(values.shape)}, not {format_shape(weight.shape)}", sample_weight, values,
                     "one weight per example: sample_weight.reshape((-1,))")  # fmt: skip
    if weight.ndim < values.ndim:
        weight = reshape(weight, (*weight.shape, *(1,) * (values.ndim - weight.ndim)))
    return broadcast_to(weight, values.shape)


def _tensors(name: str, **values: Any) -> None:
    for label, value in values.items():
        if not isinstance(value, Value):
            raise no_tensor(f"{name}, {label}", value)


def _error(kind: type[TrineError], name: str, rule: str, y_true: Value, y_pred: Value, fix: str = "") -> TrineError:
    made = kind(name, rule, got=f"{y_true.type} and {y_pred.type}", fix=fix)
    return made.locate(Site(*user_site()))


def same_shape(name: str, y_true: V, y_pred: V) -> tuple[V, V]:
    """Labels and predictions in one float dtype, half types in float32.

    Raises:
        DTypeError: one of them is no tensor.
        ShapeError: their shapes differ.
    """
    _tensors(name, y_true=y_true, y_pred=y_pred)
    if y_true.shape != y_pred.shape:
        raise _error(ShapeError, name, f"y_true and y_pred have one shape, not {format_shape(y_true.shape)} and "
                     f"{format_shape(y_pred.shape)}", y_true, y_pred, _shape_fix(name, y_true, y_pred))  # fmt: skip
    y_pred = predictions(y_pred)
    return cast(y_true, y_pred.dtype), y_pred


def _shape_fix(name: str, y_true: Value, y_pred: Value) -> str:
    if y_true.shape == y_pred.shape[:-1] and y_pred.ndim:
        if y_pred.shape[-1] == 1:
            return f"y_true.reshape({_reshaped(y_pred)}) gives the labels the shape of the predictions"
        if name == "binary_crossentropy":
            return "softmax and sparse_categorical_crossentropy for a unit per class, or a last layer of 1 unit"
        if y_true.dtype.is_integer:
            return "sparse_categorical_crossentropy takes class numbers"
        return f"a last layer of 1 unit, not {y_pred.shape[-1]}, and y_true.reshape({_reshaped(y_pred, 1)})"
    if y_pred.shape == y_true.shape[:-1] and y_true.ndim and y_true.shape[-1] == 1:
        return f"y_true.reshape({_reshaped(y_pred)}) gives the labels the shape of the predictions"
    return ""


def _reshaped(y_pred: Value, last: Any = None) -> str:
    sizes = [-1, *y_pred.shape[1:]] if last is None else [-1, *y_pred.shape[1:-1], last]
    return "(" + ", ".join(str(n) for n in sizes) + ("," if len(sizes) == 1 else "") + ")"


def predictions(y_pred: V) -> V:
    """Predictions as floats in which sums are taken: float32 for integers and half types."""
    y_pred = floating(y_pred)
    return cast(y_pred, y_pred.dtype.accumulator)


def _per_example(values: V) -> V:
    """The mean over the last axis, where there are several."""
    return mean_over(values, axis=-1) if values.ndim > 1 else values


# -- Regression --------------------------------------------------------------------------------------------------------


def mean_squared_error(y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
    """Sum and weight of `(y_true - y_pred)**2`, averaged over the last axis of each example.

    Raises:
        ShapeError: the shapes differ.
    """
    y_true, y_pred = same_shape("mean_squared_error", y_true, y_pred)
    return weighted("mean_squared_error", _per_example(square(subtract(y_pred, y_true))), sample_weight)


def mean_absolute_error(y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
    """Sum and weight of `|y_true - y_pred|`, averaged over the last axis of each example.

    Raises:
        ShapeError: the shapes differ.
    """
    y_true, y_pred = same_shape("mean_absolute_error", y_true, y_pred)
    return weighted("mean_absolute_error", _per_example(abs(subtract(y_pred, y_true))), sample_weight)


def huber(y_true: V, y_pred: V, sample_weight: V | None = None, *, delta: float = 1.0) -> tuple[V, V]:
    """Sum and weight of `e**2 / 2` where the error `e` is at most `delta`, else of `delta * |e| - delta**2 / 2`.

    Averaged over the last axis of each example.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: `delta` is not above 0.

    Source: Huber, "Robust Estimation of a Location Parameter" (1964).
    """
    if not delta > 0:
        raise ArgumentError("huber", "delta is above 0", got=f"delta={delta!r}").locate(Site(*user_site()))
    y_true, y_pred = same_shape("huber", y_true, y_pred)
    error = subtract(y_pred, y_true)
    size = abs(error)
    near = less_equal(size, delta)
    inner = where(near, error, 0.0)
    values = where(near, multiply(square(inner), 0.5), subtract(multiply(size, delta), 0.5 * delta * delta))
    return weighted("huber", _per_example(values), sample_weight)


# -- Classification ----------------------------------------------------------------------------------------------------


def binary_crossentropy(
    y_true: V, y_pred: V, sample_weight: V | None = None, *, from_logits: bool = False, label_smoothing: float = 0.0
) -> tuple[V, V]:
    """Sum and weight of `-(y log p + (1 - y) log(1 - p))`, averaged over the last axis of each example.

    Args:
        y_true: labels from 0 to 1, of the shape of the predictions.
        y_pred: chances from 0 to 1, or logits.
        sample_weight: see `weighted`.
        from_logits: whether the predictions are logits, whose sigmoid is the chance.
        label_smoothing: moves the labels towards 1/2 by this share.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: labels or chances outside [0, 1], when the value is computed.
    """
    name = "binary_crossentropy"
    y_true, y_pred = same_shape(name, y_true, y_pred)
    labels = _share(name, y_true, "labels are 0 and 1, or chances between them; -1 and 1 become (y_true + 1) / 2")
    if label_smoothing:
        labels = add(multiply(labels, 1.0 - label_smoothing), 0.5 * _fraction(name, label_smoothing))
    if from_logits:
        values = _logistic(labels, y_pred)
    else:
        p = clip(_chances(name, y_pred, "sigmoid"), EPSILON, 1.0 - EPSILON)
        likelihood = add(multiply(labels, log(p)), multiply(subtract(1.0, labels), log(subtract(1.0, p))))
        values = negative(likelihood)
    return weighted(name, _per_example(values), sample_weight)


def _logistic(labels: V, x: V) -> V:
    """`max(x, 0) - x y + log(1 + e ** -|x|)`: nothing cancels where the label agrees with the sign of a large x."""
    right = greater_equal(x, 0.0)
    wrong = where(right, multiply(subtract(1.0, labels), x), negative(multiply(labels, x)))
    return add(wrong, log1p(exp(where(right, negative(x), x))))


def categorical_crossentropy(
    y_true: V, y_pred: V, sample_weight: V | None = None, *, from_logits: bool = False, label_smoothing: float = 0.0
) -> tuple[V, V]:
    """Sum and weight of `-sum(y log p)` over the classes, the last axis.

    Args:
        y_true: one-hot labels or distributions, of the shape of the predictions.
        y_pred: `[..., classes]`, chances (divided by their sum first) or logits.
        sample_weight: see `weighted`.
        from_logits: whether the predictions are logits, whose softmax is the distribution.
        label_smoothing: moves the labels towards the uniform distribution by this share.

    Raises:
        ShapeError: the shapes differ, or there is one class only.
        ArgumentError: labels or chances outside [0, 1], when the value is computed.

    Source of the smoothing: Szegedy et al., "Rethinking the Inception Architecture" (2016), arXiv:1512.00567, 7.
    """
    name = "categorical_crossentropy"
    _tensors(name, y_true=y_true, y_pred=y_pred)
    _check_classes(name, y_true, y_pred)
    y_true, y_pred = same_shape(name, y_true, y_pred)
    labels = _share(name, y_true, "sparse_categorical_crossentropy takes class numbers")
    if label_smoothing:
        share = divide(like(y_pred, _fraction(name, label_smoothing)), size_value(y_pred, y_pred.shape[-1]))
        labels = add(multiply(labels, 1.0 - label_smoothing), share)
    values = negative(sum_over(multiply(labels, _log_chances(name, y_pred, from_logits)), axis=-1))
    return weighted(name, values, sample_weight)


def sparse_categorical_crossentropy(
    y_true: V, y_pred: V, sample_weight: V | None = None, *, from_logits: bool = False, ignore_class: int | None = None
) -> tuple[V, V]:
    """Sum and weight of `-log p` of the right class.

    Args:
        y_true: integers from 0 to classes - 1, of the shape of the predictions without its last axis.
        y_pred: `[..., classes]`, chances (divided by their sum first) or logits.
        sample_weight: see `weighted`.
        from_logits: whether the predictions are logits, whose softmax is the distribution.
        ignore_class: a label that marks examples which do not count, inside or outside of the range.

    Raises:
        ShapeError: the labels do not have one axis less, or there is one class only.
        DTypeError: labels that are no integers.
        IndexRangeError: a label that is no class, when the value is computed.
        ArgumentError: chances outside [0, 1], when the value is computed.
    """
    name = "sparse_categorical_crossentropy"
    _tensors(name, y_true=y_true, y_pred=y_pred)
    _check_sparse(name, y_true, y_pred)
    y_pred = predictions(y_pred)
    labels, counted = y_true, None
    if ignore_class is not None:
        counted = logical_not(equal(y_true, ignore_class))
        labels = where(counted, y_true, 0)
    labels = check_labels(labels, y_pred.shape[-1], where=name)
    found = take_along_axis(_log_chances(name, y_pred, from_logits), expand_dims(labels, axis=-1), axis=-1)
    values = negative(squeeze(found, axis=-1))
    if counted is None:
        return weighted(name, values, sample_weight)
    weight = cast(counted, values.dtype)
    if sample_weight is not None:
        weight = multiply(weight, _weights(name, values, sample_weight))
    return weighted(name, values, weight)


def _check_classes(name: str, y_true: Value, y_pred: Value) -> None:
    if not y_pred.ndim:
        raise _error(ShapeError, name, "y_pred has a last axis of classes", y_true, y_pred)
    if y_pred.shape[-1] == 1:
        raise _error(ShapeError, name, "y_pred has 1 class, and the chance of the only class is 1", y_true, y_pred,
                     "binary_crossentropy for one unit, or a last layer with one unit per class")  # fmt: skip
    if name == "categorical_crossentropy" and y_true.ndim == y_pred.ndim - 1 and y_true.dtype.is_integer:
        raise _error(ShapeError, name, f"y_true is one-hot, of the shape {format_shape(y_pred.shape)}, not "
                     f"{format_shape(y_true.shape)}", y_true, y_pred,
                     "sparse_categorical_crossentropy takes class numbers")  # fmt: skip


def _check_sparse(name: str, y_true: Value, y_pred: Value) -> None:
    _check_classes(name, y_true, y_pred)
    if y_true.shape == y_pred.shape:
        raise _error(ShapeError, name, f"y_true holds class numbers, of the shape {format_shape(y_pred.shape[:-1])}, "
                     f"not one-hot rows {format_shape(y_true.shape)}", y_true, y_pred,
                     "categorical_crossentropy for one-hot labels, or y_true.argmax(axis=-1) as labels")  # fmt: skip
    if y_true.shape != y_pred.shape[:-1]:
        fix = "y_true.squeeze(-1)" if y_true.shape == (*y_pred.shape[:-1], 1) else ""
        if 1 <= y_true.ndim < y_pred.ndim - 1:
            fix = "nn.Flatten() or a pooling layer before the last one, for one row of chances per label"
        raise _error(ShapeError, name, f"y_true has the shape of y_pred without its last axis, "
                     f"{format_shape(y_pred.shape[:-1])}, not {format_shape(y_true.shape)}", y_true, y_pred,
                     fix)  # fmt: skip
    if not y_true.dtype.is_integer:
        raise _error(DTypeError, name, f"y_true holds class numbers, which are integers, not {y_true.dtype.name}",
                     y_true, y_pred, "y_true.astype(trine.int64)")  # fmt: skip


def _log_chances(name: str, y_pred: V, from_logits: bool) -> V:
    if from_logits:
        return log_softmax(y_pred)
    p = _chances(name, y_pred, "softmax")
    return log(clip(divide(p, sum_over(p, axis=-1, keepdims=True)), EPSILON, 1.0 - EPSILON))


def _chances(name: str, y_pred: V, activation: str) -> V:
    return check_probabilities(
        y_pred, where=name, fix=f"from_logits=True for raw scores, or {activation} as the last activation"
    )


def _share(name: str, y_true: V, fix: str) -> V:
    return check_probabilities(y_true, where=name, what="y_true", fix=fix)


def _fraction(name: str, label_smoothing: float) -> float:
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(name, "label_smoothing is a share from 0 to 1",
                            got=f"label_smoothing={label_smoothing!r}").locate(Site(*user_site()))  # fmt: skip
    return label_smoothing


mse: Final = mean_squared_error
mae: Final = mean_absolute_error


# -- Losses with options -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """A loss with its options: calling it is calling the function of the same name."""

    function: ClassVar[Callable[..., Any]]

    @property
    def name(self) -> str:
        """The function's name."""
        return type(self).function.__name__

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """Sum and weight; see the function."""
        made: tuple[V, V] = type(self).function(y_true, y_pred, sample_weight, **self._options())
        return made

    def config(self) -> dict[str, Any]:
        """What `get` rebuilds it from: its name and options."""
        return {"name": self.name, **self._options()}

    def _options(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """`mean_squared_error`."""

    function = staticmethod(mean_squared_error)


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """`mean_absolute_error`."""

    function = staticmethod(mean_absolute_error)


@dataclass(frozen=True)
class Huber(Loss):
    """`huber` with its `delta`."""

    function = staticmethod(huber)
    delta: float = 1.0


@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """`binary_crossentropy` with its options."""

    function = staticmethod(binary_crossentropy)
    from_logits: bool = False
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """`categorical_crossentropy` with its options."""

    function = staticmethod(categorical_crossentropy)
    from_logits: bool = False
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """`sparse_categorical_crossentropy` with its options."""

    function = staticmethod(sparse_categorical_crossentropy)
    from_logits: bool = False
    ignore_class: int | None = None


LOSSES: Final[dict[str, type[Loss]]] = {
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "binary_crossentropy": BinaryCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
}


def get(loss: str | dict[str, Any] | Callable[..., Any]) -> Callable[..., Any]:
    """The loss of a name (`"mse"`, `"MeanSquaredError"`) or of a `config()`; a function is returned as it is.

    Raises:
        NameLookupError: no loss has the name.
        DTypeError: neither a name, a config nor a function.
    """
    if callable(loss) and not isinstance(loss, type):
        return loss
    if isinstance(loss, dict) and isinstance(loss.get("name"), str):
        options = {key: value for key, value in loss.items() if key != "name"}
        return _named(loss["name"])(**options)
    if isinstance(loss, str):
        return _named(loss)()
    fix = f"{loss.__name__}()" if isinstance(loss, type) else 'loss="sparse_categorical_crossentropy"'
    raise DTypeError("loss", "a loss is a name, a function or an object of trine.losses", got=f"{loss!r:.60}",
                     fix=fix).locate(Site(*user_site()))  # fmt: skip


def _named(name: str) -> type[Loss]:
    plain = name.replace("_", "").lower()  # "MeanSquaredError" and "mean_squared_error" alike
    for known, found in LOSSES.items():
        if known.replace("_", "") == plain:
            return found
    raise NameLookupError("loss", f"no loss is called {name!r}", got=repr(name), fix=nearest(name, LOSSES)).locate(
        Site(*user_site()))  # fmt: skip
