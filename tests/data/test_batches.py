"""Batches: every kind of source gives the same ones, in a seeded order, and wrong data are named."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import trine
from trine import data
from trine.errors import ArgumentError, DataError

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10)


class Samples:
    """A map-style data set."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Any:
        return X[index], int(Y[index])


class Columns:
    """A data set of dicts, as those of the Hugging Face library are: a length, columns, rows by number."""

    column_names = ("image", "label", "weight")

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": X[index].tolist(), "label": int(Y[index]), "weight": 0.5}


class Numbered:
    """Ready batches by number, as a Keras PyDataset has them; it never raises IndexError."""

    batch_size = 4
    ended = 0

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    def on_epoch_end(self) -> None:
        self.ended += 1


def seen(source: Any, epoch: int = 0) -> list[list[int]]:
    return [batch.y.tolist() for batch in source.epoch(epoch)]


def test_arrays_come_in_batches_with_a_short_last_one() -> None:
    source = data.batches(X, Y, batch_size=4, shuffle=False)
    assert source.steps == 3
    assert seen(source) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all((batch.x[:, 0] == 2 * batch.y).all() for batch in source.epoch(0))


def test_an_epoch_has_its_own_order_and_always_the_same() -> None:
    first, second = (data.batches(X, Y, batch_size=4, seed=seed) for seed in (3, 3))
    assert seen(first, 0) == seen(second, 0) and seen(first, 5) == seen(second, 5)
    assert seen(first, 0) != seen(first, 1) != seen(data.batches(X, Y, batch_size=4, seed=4), 1)
    for epoch in range(3):
        assert sorted(chain(*seen(first, epoch))) == list(range(10))
        assert all((batch.x[:, 0] == 2 * batch.y).all() for batch in first.epoch(epoch))


def test_containers_of_arrays_stay_containers() -> None:
    source = data.batches({"a": X, "b": [Y, Y]}, (Y, Y), batch_size=10, shuffle=False)
    batch = next(source.epoch(0))
    assert batch.x["a"].shape == (10, 2) and [part.shape for part in batch.x["b"]] == [(10,), (10,)]
    assert isinstance(batch.y, tuple) and batch.size == 10 and batch.sample_weight is None


def test_lists_of_numbers_and_tensors_are_arrays() -> None:
    batch = next(data.batches([[0.5], [1.5]], [1, 0], shuffle=False).epoch(0))
    assert batch.x.dtype == np.float32 and batch.x.tolist() == [[0.5], [1.5]] and batch.y.tolist() == [1, 0]
    assert next(data.batches(trine.asarray(X), shuffle=False).epoch(0)).x.tolist() == X.tolist()


def test_a_map_style_data_set_gives_the_batches_of_its_arrays() -> None:
    mapped = data.batches(Samples(), batch_size=4, seed=3)
    assert mapped.steps == 3
    assert seen(mapped, 2) == seen(data.batches(X, Y, batch_size=4, seed=3), 2)


def test_columns_of_a_data_set_of_dicts_become_targets_and_weights() -> None:
    source = data.batches(Columns(), "label", "weight", batch_size=4, shuffle=False)
    batch = next(source.epoch(0))
    assert batch.x.dtype == np.float32 and batch.x.tolist() == X[:4].tolist()
    assert batch.y.tolist() == [0, 1, 2, 3] and batch.sample_weight.tolist() == [0.5] * 4
    several = next(data.batches(Columns(), ["label", "weight"], batch_size=4, shuffle=False).epoch(0))
    assert list(several.y) == ["label", "weight"] and several.x.shape == (4, 2)
    two = next(data.batches(Columns(), "label", batch_size=4, shuffle=False).epoch(0))
    assert list(two.x) == ["image", "weight"]
    with pytest.raises(DataError, match="there is no column 'labels'"):
        next(data.batches(Columns(), "labels").epoch(0))


def test_columns_of_an_iterable_of_dicts() -> None:
    source = data.batches([{"x": X, "y": Y}], shuffle=False)
    assert isinstance(source, data.IterableBatches) is False  # a list of dicts of arrays is a container of arrays
    source = data.IterableBatches(iter([{"x": X, "y": Y}]), y="y")
    assert next(source.epoch(0)).y.tolist() == Y.tolist()


def test_numbered_batches_are_shuffled_as_batches_and_hear_of_the_end() -> None:
    numbered = Numbered()
    source = data.batches(numbered, seed=1)
    orders = {tuple(tuple(batch) for batch in seen(source, epoch)) for epoch in range(8)}
    assert len(orders) > 1 and all(sorted(order) == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)] for order in orders)
    assert numbered.ended == 8
    assert seen(data.batches(numbered, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("make", [list, tuple, lambda pairs: iter(pairs)])
def test_ready_batches_in_any_iterable(make: Any) -> None:
    pairs = [(X[:4], Y[:4]), (X[4:], Y[4:])]
    source = data.IterableBatches(make(pairs))
    assert seen(source) == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


def test_a_list_of_tuples_is_a_list_of_batches() -> None:
    source = data.batches([(X[:4], Y[:4]), (X[4:], Y[4:])])
    assert source.steps == 2 and seen(source, 1) == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


def test_a_function_makes_the_batches_of_every_epoch_anew() -> None:
    def generate() -> Iterator[Any]:
        yield X[:4], Y[:4], np.ones(4)

    source = data.batches(generate)
    assert source.steps is None
    for epoch in range(2):
        assert [batch.sample_weight.tolist() for batch in source.epoch(epoch)] == [[1.0] * 4]


def test_the_first_batch_is_not_lost_when_it_is_looked_at() -> None:
    source = data.batches((X[i : i + 1], Y[i : i + 1]) for i in range(3))
    assert data.first_batch(source).y.tolist() == [0]
    assert data.first_batch(source).y.tolist() == [0]
    assert seen(source) == [[0], [1], [2]]
    with pytest.raises(DataError, match="epoch 2 has no batches"):
        next(source.epoch(1))


def test_endless_batches_go_through_epochs_and_can_skip() -> None:
    source = data.batches(X, Y, batch_size=4, seed=3)
    whole = [batch.y.tolist() for batch in islice(data.endless(source), 8)]
    assert whole[:6] == seen(source, 0) + seen(source, 1)
    for skipped in range(7):
        assert next(data.endless(source, skipped)).y.tolist() == whole[skipped]


def test_the_split_takes_the_last_samples_before_any_shuffling() -> None:
    source = data.batches(X, Y, batch_size=4)
    assert isinstance(source, data.ArrayBatches)
    training, held_out = source.split(0.25)
    assert sorted(chain(*seen(training))) == list(range(7)) and seen(held_out) == [[7, 8, 9]]
    for fraction in (0.0, 1.0, 0.999999, -0.5, 1.5):
        with pytest.raises(ArgumentError, match=r"is a fraction between 0 and 1|leaves one side empty"):
            source.split(fraction)


@pytest.mark.parametrize("targets", [Y % 3, np.eye(3)[Y % 3], (Y % 3)[:, None], (Y % 3).astype(np.float32)])
def test_class_weights_become_sample_weights(targets: Any) -> None:
    arrays = data.batches(X, targets, np.full(10, 2.0), batch_size=10, shuffle=False)
    source = data.ClassWeighted(arrays, {0: 5.0, 2: 3.0})
    expected = [2.0 * {0: 5.0, 1: 1.0, 2: 3.0}[int(c)] for c in Y % 3]
    assert next(source.epoch(0)).sample_weight.tolist() == expected


@pytest.mark.parametrize("targets", [np.linspace(0, 1, 10), None, [Y, Y]])
def test_class_weights_need_classes(targets: Any) -> None:
    source = data.ClassWeighted(data.batches(X, targets, shuffle=False), {0: 2.0})
    with pytest.raises(DataError, match="takes one class number for every sample, or one-hot targets"):
        next(source.epoch(0))


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises((DataError, ArgumentError)) as caught:
        list(data.batches(*args, **options).epoch(0))
    return str(caught.value)


def test_wrong_data_are_named() -> None:
    assert refusal(X, Y[:7]).startswith("data: the numbers of samples differ: x has 10, y has 7\n")
    assert "x[0] has 10, x[1] has 3" in refusal([X, X[:3]])
    assert "there are no samples" in refusal(X[:0])
    assert "a single number is no set of samples" in refusal(np.float32(1.0))
    assert "neither an array nor a data set" in refusal(object())
    assert "is an integer of at least 1" in refusal(X, Y, batch_size=0)
    assert "gives batches of its own size" in refusal(iter([(X, Y)]), batch_size=2)
    assert "comes with arrays" in refusal(Samples(), Y)
    assert "comes with arrays" in refusal(iter([(X, Y)]), None, np.ones(10))
    assert "not 4 parts" in refusal(iter([(X, Y, Y, Y)]))
    assert "has no batches" in refusal(iter([]))
    assert "samples 0 and 1 have different shapes" in refusal(
        Ragged(), batch_size=2, shuffle=False)  # fmt: skip


class Ragged(Samples):
    def __getitem__(self, index: int) -> Any:
        return np.zeros(index + 1), 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_nan_is_named_with_its_place(dtype: Any) -> None:
    bad = X.astype(dtype)
    bad[6, 1] = np.nan
    text = refusal(bad, Y)
    assert "1 of 20 values are NaN, the first in sample 6 at [6, 1]" in text and "try: np.nan_to_num(x)" in text
    assert "y: 1 of 20 values are NaN" in refusal(X, bad)
    assert "epoch 1, batch 2" in refusal(iter([(X, Y), (bad, Y)]))
    assert "sample 2" in refusal([(bad[4:], Y)])


def test_infinities_are_data() -> None:
    wide = X.copy()
    wide[0], wide[1] = np.inf, -np.inf  # their sum is NaN
    assert next(data.batches(wide, Y, shuffle=False).epoch(0)).x[0].tolist() == [np.inf, np.inf]
