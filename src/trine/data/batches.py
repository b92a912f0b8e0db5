"""Batches from whatever holds the data: arrays in memory, map-style data sets, iterables of ready batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from trine import tree
from trine.data.order import permutation
from trine.errors import ArgumentError, DataError, TrineError
from trine.tensor.tensor import Tensor

Arrays = Any  # an array, or a container of arrays with one length
Columns = str | list[str] | tuple[str, ...]


class Batch(NamedTuple):
    """One batch: inputs, targets and weights, the latter two None where there are none; each may be a container."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def size(self) -> int:
        """The number of samples."""
        return int(np.shape(tree.flatten(self.x)[0][0])[0])


@runtime_checkable
class MapDataset(Protocol):
    """A data set with a length and samples by number: `dataset[i]` is x, (x, y) or (x, y, weight)."""

    def __len__(self) -> int:
        """The number of samples."""

    def __getitem__(self, index: Any) -> Any:
        """The sample at an index."""


class Batches(Protocol):
    """What the loop reads: batches of an epoch.

    Attributes:
        steps: the number of batches of an epoch; None where it is not known before the end.
    """

    steps: int | None

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`, from 0."""


class ArrayBatches:
    """Batches of arrays in memory, in a seeded order.

    Args:
        x, y, sample_weight: arrays, or containers of them, with one length; y and the weights may be None.
        batch_size: samples in a batch; the last one of an epoch may be shorter.
        shuffle: whether each epoch has its own random order.
        seed: the seed of that order.

    Raises:
        DataError: lengths that differ, no samples, or NaN.
        ArgumentError: a batch size below 1.
    """

    def __init__(
        self, x: Arrays, y: Arrays = None, sample_weight: Arrays = None, *, batch_size: int = 32, shuffle: bool = True,
        seed: int = 0,
    ) -> None:  # fmt: skip
        """Check the arrays once."""
        self.parts = Batch(*(_hosted(part) for part in (x, y, sample_weight)))
        self.count = _count(self.parts)
        self.batch_size = _checked_size(batch_size)
        self.shuffle = shuffle
        self.seed = seed
        self.steps: int | None = -(-self.count // batch_size)
        _check_batch(self.parts)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`; the same ones for the same seed and number."""
        order = permutation(self.seed, number, self.count) if self.shuffle else None
        for begin in range(0, self.count, self.batch_size):
            end = begin + self.batch_size
            chosen: Any = slice(begin, end) if order is None else order[begin:end]
            yield _taken(self.parts, chosen)

    def split(self, fraction: float) -> tuple[ArrayBatches, ArrayBatches]:
        """The first samples for training and the last `fraction` of them, in the order given, for validation.

        Raises:
            ArgumentError: a fraction that leaves one side without samples.
        """
        cut = int(self.count * (1 - fraction))
        if not 0 < fraction < 1:
            fix = f"{fraction / 100} for {fraction} percent" if 1 < fraction < 100 else ""
            raise ArgumentError("validation_split", "is a fraction between 0 and 1", got=f"validation_split={fraction}",
                                fix=fix)  # fmt: skip
        if not 0 < cut < self.count:
            raise ArgumentError("validation_split", f"{fraction} of {self.count} samples leaves one side empty",
                                got=f"validation_split={fraction}", fix="validation_data=...")  # fmt: skip
        sides = []
        for chosen, shuffle in ((slice(0, cut), self.shuffle), (slice(cut, None), False)):
            parts = _taken(self.parts, chosen)
            sides.append(ArrayBatches(*parts, batch_size=self.batch_size, shuffle=shuffle, seed=self.seed))
        return sides[0], sides[1]


class MapBatches:
    """Batches of a map-style data set: samples are fetched by number and stacked.

    Args:
        dataset: has `len` and `dataset[i]`, which is x, (x, y) or (x, y, weight), or a dict of columns.
        batch_size, shuffle, seed: as for arrays.
        y, sample_weight: for dicts of columns, the names of those that are targets and weights.
    """

    def __init__(
        self, dataset: MapDataset, *, batch_size: int = 32, shuffle: bool = True, seed: int = 0,
        y: Columns | None = None, sample_weight: Columns | None = None,
    ) -> None:  # fmt: skip
        """Hold the data set."""
        if not len(dataset):
            raise DataError("data", "there are no samples", got=f"{type(dataset).__name__} of length 0")
        self.dataset = dataset
        self.batch_size = _checked_size(batch_size)
        self.shuffle = shuffle
        self.seed = seed
        self.columns = y, sample_weight
        self.steps: int | None = -(-len(dataset) // batch_size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`."""
        count = len(self.dataset)
        order = permutation(self.seed, number, count) if self.shuffle else np.arange(count)
        for begin in range(0, count, self.batch_size):
            chosen = [int(i) for i in order[begin : begin + self.batch_size]]
            samples = [as_batch(self.dataset[i], *self.columns) for i in chosen]
            batch = Batch(*(_stacked([sample[k] for sample in samples], chosen) for k in range(3)))
            _check_batch(batch, f"epoch {number + 1}, samples {chosen[0]}, ...")
            yield batch


class IterableBatches:
    """Batches that come ready-made: a generator function, a list of batches, a torch DataLoader, a data set's batches.

    Args:
        source: an iterable of batches, or a callable that returns a new one for every epoch.
        y, sample_weight: for batches that are dicts of columns, the names of those that are targets and weights.
    """

    def __init__(
        self, source: Iterable[Any] | Callable[[], Iterable[Any]], *, y: Columns | None = None,
        sample_weight: Columns | None = None,
    ) -> None:  # fmt: skip
        """Hold the source."""
        self.source = source
        self.columns = y, sample_weight
        self.steps: int | None = _length(source)
        self._ahead: Iterator[Any] | None = None

    def first(self) -> Batch:
        """The first batch of the next epoch, which will have it all the same."""
        iterator = self._iterator()
        for item in iterator:
            self._ahead = chain([item], iterator)
            return as_batch(item, *self.columns)
        raise self._empty(0)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one pass."""
        place = -1
        for place, item in enumerate(self._iterator()):
            batch = as_batch(item, *self.columns)
            _check_batch(batch, f"epoch {number + 1}, batch {place + 1}")
            yield batch
        if place < 0:
            raise self._empty(number)

    def _iterator(self) -> Iterator[Any]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead
        return iter(self.source() if callable(self.source) else self.source)

    def _empty(self, number: int) -> DataError:
        return DataError("data", f"epoch {number + 1} has no batches", got=type(self.source).__name__,
                         fix="an iterator runs out after one pass: give a function that makes a new one")  # fmt: skip


class NumberedBatches:
    """Ready-made batches by number, as a Keras `PyDataset` has them: `source[i]` is (x, y), `len(source)` their number.

    Args:
        source: has `len` and `source[i]`.
        shuffle: whether each epoch has its own random order of batches.
        seed: the seed of that order.
    """

    def __init__(self, source: MapDataset, *, shuffle: bool = True, seed: int = 0) -> None:
        """Hold the source."""
        if not len(source):
            raise DataError("data", "there are no batches", got=f"{type(source).__name__} of length 0")
        self.source = source
        self.shuffle = shuffle
        self.seed = seed
        self.steps: int | None = len(source)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`."""
        count = len(self.source)
        for i in permutation(self.seed, number, count) if self.shuffle else range(count):
            batch = as_batch(self.source[int(i)])
            _check_batch(batch, f"epoch {number + 1}, batch {i}")
            yield batch
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()


class ClassWeighted:
    """Batches in which a sample counts by its class.

    Args:
        source: batches whose targets are class numbers, or one-hot along the last axis.
        weights: the weight of each class; one that is missing counts 1. Sample weights are multiplied by them.
    """

    def __init__(self, source: Batches, weights: Mapping[int, float]) -> None:
        """Hold both."""
        self.source = source
        self.weights = weights
        self.steps: int | None = source.steps

    def first(self) -> Batch:
        """The first batch of the next epoch, which will have it all the same."""
        return self._weighted(first_batch(self.source))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`."""
        return (self._weighted(batch) for batch in self.source.epoch(number))

    def _weighted(self, batch: Batch) -> Batch:
        labels = _labels(batch.y)
        found, places = np.unique(labels, return_inverse=True)
        table = np.array([self.weights.get(int(c), 1.0) for c in found], np.float32)
        weights: Any = table[places].reshape(len(labels))
        if batch.sample_weight is not None:
            weights = weights * np.asarray(batch.sample_weight, np.float32)
        return Batch(batch.x, batch.y, weights)


def _labels(y: Any) -> NDArray[np.int64]:
    """The class number of every sample."""
    labels = y if isinstance(y, np.ndarray) else None
    if labels is not None and labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] > 1 else labels[..., 0]
    if labels is None or labels.ndim != 1 or (labels.dtype.kind not in "biu" and np.any(labels != np.rint(labels))):
        got = f"{labels.dtype} {list(labels.shape)}" if labels is not None else type(y).__name__
        raise DataError("class_weight", "takes one class number for every sample, or one-hot targets", got=got,
                        fix="sample_weight= takes a weight for every sample")  # fmt: skip
    return labels.astype(np.int64)


def batches(
    x: Any, y: Any = None, sample_weight: Any = None, *, batch_size: int | None = None, shuffle: bool = True,
    seed: int = 0,
) -> Batches:  # fmt: skip
    """The batches of whatever `fit` was given.

    Args:
        x: arrays or tensors (or containers of them), a map-style data set, an iterable of batches, or `Batches`; a list
            of tuples is a list of batches.
        y: targets, for arrays; the name of a column, or a list of names, for data sets of dicts.
        sample_weight: a weight per sample, for arrays; the name of a column for data sets of dicts.
        batch_size: samples in a batch (32 unless given); not for iterables of ready batches.
        shuffle: whether each epoch has its own order.
        seed: the seed of that order.

    Raises:
        DataError: lengths that differ, no samples, NaN, or targets beside a data set that has its own.
        ArgumentError: a batch size below 1, or one for batches that are ready.
    """
    if hasattr(x, "epoch") and hasattr(x, "steps"):
        return x  # type: ignore[no-any-return]  # it has the protocol's two names
    if isinstance(x, str):
        raise DataError("x", "a str is neither an array nor a data set", got=f"{x!r:.60}",
                        fix="read the file first, for example np.loadtxt or np.load")  # fmt: skip
    size = 32 if batch_size is None else _checked_size(batch_size)
    ready = y is None and isinstance(x, list) and bool(x) and all(isinstance(item, tuple) for item in x)
    if not ready and _is_arrays(x):
        return ArrayBatches(x, y, sample_weight, batch_size=size, shuffle=shuffle, seed=seed)
    for name, given in (("y", y), ("sample_weight", sample_weight)):
        if given is not None and not _is_columns(given):
            raise DataError(name, "comes with arrays; a data set has its own", got=type(x).__name__,
                            fix="let each sample be (x, y) or (x, y, weight), or name a column")  # fmt: skip
    mapped = isinstance(x, MapDataset) and not isinstance(x, list | tuple | dict)
    if mapped and not hasattr(x, "batch_size"):
        return MapBatches(x, batch_size=size, shuffle=shuffle, seed=seed, y=y, sample_weight=sample_weight)
    if batch_size is not None:
        raise ArgumentError("batch_size", "an iterable gives batches of its own size", got=str(batch_size),
                            fix="leave batch_size out")  # fmt: skip
    if mapped and not hasattr(x, "__iter__"):
        return NumberedBatches(x, shuffle=shuffle, seed=seed)
    if not isinstance(x, Iterable) and not callable(x):
        raise DataError("x", f"a {type(x).__name__} is neither an array nor a data set", got=f"{x!r:.60}",
                        fix="arrays, a map-style data set, or an iterable of (x, y)")  # fmt: skip
    return IterableBatches(x, y=y, sample_weight=sample_weight)


def first_batch(source: Batches) -> Batch:
    """The first batch, taken so that no one-pass iterator loses it."""
    own = getattr(source, "first", None)
    if own is not None:
        return own()  # type: ignore[no-any-return]  # a Batch comes back
    return next(iter(source.epoch(0)))


def endless(source: Batches, skipped: int = 0) -> Iterator[Batch]:
    """Batches of one epoch after the other, for ever, without those at the start that an earlier run has seen.

    Args:
        source: the batches; where their number is not known, nothing is skipped.
        skipped: the number of batches to leave out.
    """
    number, inside = divmod(skipped, source.steps) if source.steps else (0, 0)
    while True:
        for place, batch in enumerate(source.epoch(number)):
            if place >= inside:
                yield batch
        number, inside = number + 1, 0


def _taken(parts: Batch, chosen: Any) -> Batch:
    """The samples at an index, a slice or an array of them."""
    return Batch(*(tree.map(lambda array: array[chosen], part) for part in parts))


def _is_arrays(x: Any) -> bool:
    if _is_numbers(x):
        return True
    leaves = tree.flatten(x)[0]
    return bool(leaves) and all(isinstance(leaf, np.ndarray | Tensor) or hasattr(leaf, "__array__") or _is_numbers(leaf)
                                for leaf in leaves)  # fmt: skip


def _is_numbers(value: Any) -> bool:
    """Whether it is a list of numbers, nested or not."""
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float | np.generic)


def _is_columns(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(name, str) for name in value)
    )


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:  # a generator, or a loader of a stream
        return None


def _checked_size(batch_size: Any) -> int:
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        whole = isinstance(batch_size, float) and batch_size.is_integer()
        raise ArgumentError("batch_size", "is an integer of at least 1", got=f"batch_size={batch_size!r:.40}",
                            fix="// divides integers" if whole else "")  # fmt: skip
    return int(batch_size)


def _hosted(part: Any) -> Any:
    """Arrays in memory for arrays, tensors, nested lists of numbers, or containers of these."""
    if part is None or _is_numbers(part):
        return None if part is None else host(part)
    if isinstance(part, Mapping):
        return {name: _hosted(inside) for name, inside in part.items()}
    if isinstance(part, list | tuple) and not hasattr(part, "_fields"):
        return type(part)(_hosted(inside) for inside in part)
    return tree.map(host, part)


def host(value: Any) -> NDArray[Any]:
    """An array in memory; nested lists and tensors are converted.

    Raises:
        DataError: text or other objects, or nested lists of different lengths.
    """
    try:
        array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    except ValueError as error:
        if isinstance(error, TrineError):
            raise
        raise DataError("data", "the rows have different lengths, so they make no array", got=f"{value!r:.60}",
                        fix="pad them to one length") from None  # fmt: skip
    if array.dtype.kind in "USO":
        what = "objects" if array.dtype.kind == "O" else "text"
        raise DataError("data", f"holds {what}, not numbers", got=f"{array.dtype} {list(array.shape)}",
                        fix="a number for each category")  # fmt: skip
    if array.dtype == np.float64 and isinstance(value, list | float):
        array = array.astype(np.float32)
    return np.asarray(array)


def as_batch(item: Any, y: Columns | None = None, sample_weight: Columns | None = None) -> Batch:
    """A batch or sample as (x, y, weight), from a tuple of up to three, from named columns, or x alone.

    Raises:
        DataError: more than three parts, or a column that is not there.
    """
    if isinstance(item, Batch):
        return Batch(*(_hosted(part) for part in item))
    if isinstance(item, Mapping) and (y is not None or sample_weight is not None):
        return _from_columns(dict(item), y, sample_weight)
    if isinstance(item, tuple | list) and not hasattr(item, "_fields") and not _is_numbers(item):
        if not 1 <= len(item) <= 3:
            raise DataError("data", f"a batch is x, (x, y) or (x, y, sample_weight), not {len(item)} parts",
                            got=", ".join(type(part).__name__ for part in item), fix="((x1, x2), y)")  # fmt: skip
        return Batch(*(_hosted(part) for part in item))
    return Batch(_hosted(item))


def _from_columns(columns: dict[str, Any], y: Columns | None, sample_weight: Columns | None) -> Batch:
    """The columns named are targets and weights, the others inputs; a single one is no dict."""
    found = []
    for names in (y, sample_weight):
        wanted = [] if names is None else [names] if isinstance(names, str) else list(names)
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise DataError("data", f"there is no column {missing[0]!r}", got=", ".join(columns))
        taken = {name: _hosted(columns[name]) for name in wanted}
        found.append(None if names is None else taken[names] if isinstance(names, str) else taken)
    used = {name for names in (y, sample_weight) for name in ([names] if isinstance(names, str) else names or [])}
    inputs = {name: _hosted(value) for name, value in columns.items() if name not in used}
    if not inputs:
        raise DataError("data", "no column is left for the inputs", got=", ".join(columns))
    return Batch(next(iter(inputs.values())) if len(inputs) == 1 else inputs, *found)


def _stacked(parts: list[Any], chosen: list[int]) -> Any:
    if parts[0] is None:
        return None
    leaves = [tree.flatten(part)[0] for part in parts]
    structure = tree.flatten(parts[0])[1]
    for i, part in zip(chosen, leaves, strict=True):
        shapes = [leaf.shape for leaf in part]
        if shapes != [leaf.shape for leaf in leaves[0]]:
            first = ", ".join(str(list(leaf.shape)) for leaf in leaves[0])
            raise DataError("data", f"samples {chosen[0]} and {i} have different shapes: no batch can be made of them",
                            got=f"{first} and {', '.join(str(list(shape)) for shape in shapes)}",
                            fix="pad the samples to one size, or give ready batches")  # fmt: skip
    return tree.unflatten(structure, [np.stack([leaf[i] for leaf in leaves]) for i in range(len(leaves[0]))])


def _count(parts: Batch) -> int:
    lengths, shapes = {}, []
    for name, part in zip(("x", "y", "sample_weight"), parts, strict=True):
        leaves = tree.flatten(part)[0]
        for i, array in enumerate(leaves):
            lengths[name if len(leaves) == 1 else f"{name}[{i}]"] = len(array) if array.ndim else -1
            shapes.append(f"{array.dtype} {list(array.shape)}")
    if any(n < 0 for n in lengths.values()):
        raise DataError("data", "a single number is no set of samples", got=", ".join(lengths))
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise DataError("data", f"the numbers of samples differ: {text}", got=", ".join(shapes))
    count = next(iter(lengths.values()))
    if not count:
        raise DataError("data", "there are no samples", got="arrays of length 0")
    return count


def _check_batch(batch: Batch, place: str = "") -> None:
    for name, part in zip(("x", "y", "sample_weight"), batch, strict=True):
        for array in tree.flatten(part)[0]:
            check_finite(name, array, place)


def check_finite(name: str, array: NDArray[Any], place: str = "") -> None:
    """Refuse NaN in training data, naming the first place; infinities pass.

    Raises:
        DataError: there is a NaN.
    """
    if array.dtype.kind not in "fV":  # V: bfloat16
        return
    with np.errstate(all="ignore"):
        if not np.isnan(array.sum(dtype=np.float64 if array.dtype.kind == "f" else None)):
            return
    places = np.argwhere(np.isnan(array))
    if len(places):
        first = tuple(int(i) for i in places[0])
        where = f" in {place}" if place else ""
        raise DataError(name, f"{len(places)} of {array.size} values are NaN{where}, the first in sample {first[0]} at "
                        f"{list(first)}" if first else f"the value is NaN{where}",
                        got=f"{array.dtype} {list(array.shape)}",
                        fix="np.nan_to_num(x), or leave those samples out" if name == "x" else
                        f"leave those samples out: keep = ~np.isnan({name})")  # fmt: skip
