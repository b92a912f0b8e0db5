"""A run that is killed goes on: the weights at the end are bit for bit those of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import trine

PROGRAM = """
import os, signal, sys
import numpy as np
import trine
from trine import nn
from trine.train import BackupAndRestore, LambdaCallback, ReduceLROnPlateau

path, result, kill, form = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
rng = np.random.default_rng(0)
x = rng.normal(size=(40, 6)).astype(np.float32)
y = rng.integers(0, 3, 40)
trine.manual_seed(5)
model = nn.Sequential([
    nn.Dense(8, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.3), nn.Dense(3, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy")

def die(batch, logs):
    if model.optimizer.iterations.item() == kill:
        os.kill(os.getpid(), signal.SIGKILL)

options = dict(batch_size=7, steps_per_epoch=4) if form == "steps" else dict(batch_size=7)
callbacks = [BackupAndRestore(path), LambdaCallback(on_train_batch_end=die)]
history = model.fit(x, y, epochs=5, verbose=0, callbacks=callbacks, **options)
trine.save_weights(result, model.state_dict())
print(history.epoch)
"""


def run(folder: Path, name: str, kill: int, form: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder / f"{name}.backup"), str(folder / name), str(kill), form]
    source = str(Path(trine.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize(("form", "kills", "resumed"), [
    ("arrays", (14,), "[2, 3, 4]"), ("arrays", (2, 28), "[4]"), ("steps", (11,), "[2, 3, 4]"),
])  # fmt: skip
def test_a_killed_run_resumes(tmp_path: Path, form: str, kills: tuple[int, ...], resumed: str) -> None:
    whole = run(tmp_path, "whole", -1, form)
    assert whole.stdout == "[0, 1, 2, 3, 4]\n", whole.stderr
    for kill in kills:
        killed = run(tmp_path, "killed", kill, form)
        assert killed.returncode == -signal.SIGKILL and killed.stdout == "", killed.stderr
    again = run(tmp_path, "killed", -1, form)
    assert again.stdout == f"{resumed}\n", again.stderr
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
