"""`trine demo`: a convolutional network learns to read scanned digits, is saved, and read back in a fresh process.

The data are the 1,797 images of 8 x 8 pixels that scikit-learn brings along: Alpaydin and Kaynak, Optical Recognition
of Handwritten Digits, UCI Machine Learning Repository, 1998, the test set of the original.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trine import nn
from trine.data import permutation
from trine.errors import FileAccessError, MissingExtraError, StateError
from trine.nn.saved import load
from trine.optim import Adam, CosineDecay
from trine.tensor.random import manual_seed

HELD_OUT = 360  # digits the network never sees in training: a fifth
BATCH = 32
SHADES = " .:-=+*#%@"
AGAIN = "import sys; from trine.cli import demo; demo.predict_again(*sys.argv[1:])"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo", help="train a convolutional network on scanned digits, save it, and open it again"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of weights, dropout and the split (default 0)")
    parser.add_argument("--epochs", type=_epochs, default=20, help="passes over the 1,437 training digits (default 20)")
    parser.add_argument("--output", default="digits.trine", help="where the model is saved (default digits.trine)")
    parser.set_defaults(run=run)


def _seed(text: str) -> int:
    if not 0 <= int(text) < 2**64:
        raise argparse.ArgumentTypeError(f"a seed is from 0 to 2**64 - 1, not {text}")
    return int(text)


def _epochs(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1 epoch, not {text}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Train, report, save, and compare the predictions of a fresh process: 0 if they are the same, else 1.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        FileAccessError: the model cannot be saved there, which is known before training begins.
        StateError: the fresh process failed.
    """
    begun = time.perf_counter()
    check_writable(options.output)
    train, test = digits(options.seed)
    print(f"{len(train[0])} scanned digits to learn from, {len(test[0])} held out, 8 x 8 pixels each\n")
    model = network(options.seed, options.epochs, len(train[0]))
    model.summary()
    print()
    model.fit(*train, epochs=options.epochs, batch_size=BATCH)
    scores = model.predict(test[0])
    read = scores.argmax(axis=1)
    wrong = np.flatnonzero(read != test[1])
    right = 1 - len(wrong) / len(test[1])
    print(f"\n{right:.2%} of the {len(test[1])} held-out digits are read correctly")
    if len(wrong):
        print("some that are not:\n")
        print(drawn(test[0], test[1], read, wrong[:4]))
    model.save(options.output)
    size = Path(options.output).stat().st_size
    print(f"\nsaved to {options.output} ({size / 1024:.0f} KB); opened in a fresh process, without the code above:")
    same = np.array_equal(scores, predicted_elsewhere(options.output, test[0]))
    print("the same predictions, bit for bit" if same else "OTHER predictions: this is a defect, please report it")
    print(f"\n{time.perf_counter() - begun:.0f} seconds in all; trine show {options.output} prints what is in the file")
    return 0 if same else 1


def check_writable(path: str) -> None:
    """Refuse a path to which nothing can be saved.

    Raises:
        FileAccessError: it is a directory, or its directory does not exist or cannot be written.
    """
    parent = Path(path).absolute().parent
    if Path(path).is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
        rule = "is a directory" if Path(path).is_dir() else "cannot be written" if parent.is_dir() else (
            "is in a directory that does not exist")  # fmt: skip
        raise FileAccessError("demo", f"{path} {rule}", got=f"--output {path}",
                              fix="--output with the name of a file in a directory you may write to")  # fmt: skip


Pairs = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits(seed: int) -> tuple[Pairs, Pairs]:
    """Images [n, 8, 8, 1] in [0, 1] and labels [n]: those to train on, and those held out.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtraError("demo", "the digits come with scikit-learn, which is not installed", got="no sklearn",
                                fix="pip install 'trine[demo]'") from None  # fmt: skip
    found = load_digits()
    order = permutation(seed, 0, len(found.target))
    images = (found.images[order, :, :, None] / 16.0).astype(np.float32)
    labels = found.target[order].astype(np.int64)
    return (images[:-HELD_OUT], labels[:-HELD_OUT]), (images[-HELD_OUT:], labels[-HELD_OUT:])


def network(seed: int, epochs: int, samples: int) -> nn.Sequential:
    """The network, ready to train."""
    manual_seed(seed)
    model = nn.Sequential([
        nn.Conv2D(32, 3, padding="same", activation="relu"),
        nn.Conv2D(32, 3, padding="same", activation="relu"),
        nn.MaxPool2D(),
        nn.Dropout(0.25),
        nn.Conv2D(64, 3, padding="same", activation="relu"),
        nn.MaxPool2D(),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Dense(128, activation="relu"),
        nn.Dropout(0.4),
        nn.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.build_for(("batch", 8, 8, 1))
    steps = epochs * -(-samples // BATCH)
    model.compile(Adam(CosineDecay(0.002, steps)), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def drawn(images: NDArray[np.float32], labels: NDArray[np.int64], read: NDArray[np.int64], which: Any) -> str:
    """Some digits side by side in characters, with what they are and what they were read as."""
    blocks = []
    for i in which:
        rows = ["".join(SHADES[min(int(v * 10), 9)] * 2 for v in row) for row in images[i, :, :, 0]]
        blocks.append([*rows, f"a {labels[i]}, read as {read[i]}".center(16)])
    return "\n".join("   ".join(block[k] for block in blocks) for k in range(9))


def predicted_elsewhere(path: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The predictions of the saved model in a new Python process.

    Raises:
        StateError: that process failed; what it printed says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "images.npy"), Path(folder, "scores.npy")
        np.save(given, images)
        done = subprocess.run([sys.executable, "-c", AGAIN, path, str(given), str(found)])
        if done.returncode:
            raise StateError("demo", f"the fresh process ended with status {done.returncode}", got=path)
        scores: NDArray[np.float32] = np.load(found)
    return scores


def predict_again(path: str, images: str, scores: str) -> None:
    """What the fresh process does: open the model, predict, write the scores."""
    np.save(scores, load(path).predict(np.load(images)))
