"""torch's data sets and loaders are accepted as they are."""

from __future__ import annotations

import numpy as np
import pytest

import trine
from trine import data, nn

torch = pytest.importorskip("torch")

X = np.arange(20, dtype=np.float32).reshape(10, 2)
Y = np.arange(10) % 2


def test_a_loader_gives_its_batches() -> None:
    dataset = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(dataset, batch_size=4)
    source = data.batches(loader)
    assert source.steps == 3
    for epoch in range(2):
        assert np.concatenate([batch.x for batch in source.epoch(epoch)]).tolist() == X.tolist()


def test_a_data_set_of_tensors_is_map_style() -> None:
    source = data.batches(torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=4, seed=5)
    expected = data.batches(X, Y, batch_size=4, seed=5)
    for mine, theirs in zip(source.epoch(1), expected.epoch(1), strict=True):
        assert mine.x.tolist() == theirs.x.tolist() and mine.y.tolist() == theirs.y.tolist()


def test_tensors_of_torch_are_arrays() -> None:
    batch = next(data.batches(torch.tensor(X), torch.tensor(Y), shuffle=False).epoch(0))
    assert batch.x.tolist() == X.tolist() and batch.y.dtype == np.int64


def test_a_stream_without_a_length() -> None:
    class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc]  # torch has no types here
        def __iter__(self):
            return iter(zip(X, Y, strict=True))

    source = data.batches(torch.utils.data.DataLoader(Stream(), batch_size=4))
    assert source.steps is None and sum(batch.size for batch in source.epoch(0)) == 10


def test_fit_trains_on_a_loader_as_on_its_arrays() -> None:
    losses = []
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=4)
    for given in ((loader,), (X, Y)):
        trine.manual_seed(0)
        model = nn.Sequential([nn.Dense(4, activation="tanh"), nn.Dense(2, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        options = {} if len(given) == 1 else {"batch_size": 4, "shuffle": False}
        losses.append(model.fit(*given, epochs=3, verbose=0, **options).history["loss"])
    assert losses[0] == losses[1]
