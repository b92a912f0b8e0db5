"""Writes the golden files of the present version: small models, what they predict, and how they fit on.

Files of a version that is out are never written again; every later version has to open them. Run from the root of the
repository: `python tests/files/make_golden.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import trine
from trine import nn

FOLDER = Path(__file__).parent / "golden"


def inputs(*shape: int) -> np.ndarray:
    """Numbers between -1 and 1 that need no generator."""
    return np.sin(np.arange(np.prod(shape), dtype=np.float64) * 1.7).reshape(shape).astype(np.float32)


def mlp() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """Dense layers, batch normalisation and dropout, fitted with Adam and a class loss."""
    x = inputs(24, 4)
    y = (x.sum(axis=1) > 0).astype(np.int64)
    model = nn.Sequential([nn.Dense(6, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.25),
                           nn.Dense(2, activation="softmax")])  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return model, x, y


def cnn() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A convolution with pooling, fitted with momentum and a loss of numbers."""
    x = inputs(12, 6, 6, 1)
    y = x.mean(axis=(1, 2))
    layers = [nn.Conv2D(3, 3, padding="same", activation="relu"), nn.MaxPool2D(), nn.Flatten(), nn.Dense(1)]
    model = nn.Sequential(layers)
    model.compile(trine.optim.SGD(0.05, momentum=0.9), "mse", ["mae"])
    return model, x, y


def write(folder: Path) -> None:
    """Write each model after one epoch, and beside it its data, its predictions and the losses of the next epoch."""
    folder.mkdir(parents=True)
    for name, make in (("mlp", mlp), ("cnn", cnn)):
        trine.manual_seed(0)
        model, x, y = make()
        model.fit(x, y, batch_size=8, verbose=0)
        trine.save(model, folder / f"{name}.trine")
        predicted = model.predict(x)
        history = model.fit(x, y, batch_size=8, epochs=2, initial_epoch=1, shuffle=False, verbose=0).history
        losses = {f"history.{key}": np.array(values) for key, values in history.items()}
        after = {"after": model.predict(x)}
        trine.save_weights(folder / f"{name}.safetensors", {"x": x, "y": y, "predicted": predicted, **losses, **after})


if __name__ == "__main__":
    write(FOLDER / trine.__version__)
