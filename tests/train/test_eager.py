"""`run_eagerly=True`: `print` and `pdb` inside `forward` show values in the middle of `fit`; progress is readable."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn
from trine.train.progress import ProgressBar, text

PROGRAM = """
import numpy as np
from trine import nn

class Net(nn.Module):
    def __init__(self):
        self.layer = nn.Dense(1, kernel_initializer="ones")
        self.calls = 0

    def forward(self, x):
        h = self.layer(x)
        self.calls += 1
        if self.calls == 3:
            breakpoint()
        return h

model = Net()
model.compile("sgd", "mse", run_eagerly=True)
x = np.arange(8, dtype=np.float32).reshape(4, 2)
model.build_for(("n", 2))
model.calls = 1
model.fit(x, x[:, :1], batch_size=2, shuffle=False, epochs=2, verbose=2)
print("done", model.optimizer.iterations.item())
"""


def test_pdb_in_forward_shows_values_in_the_middle_of_fit(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(trine.__file__).parents[1]), "PYTHONBREAKPOINT": ""}
    commands = "p x.tolist()\np h.shape\np h[0, 0].item()\np self.layer.kernel.tolist() == [[1.0], [1.0]]\nup\nc\n"
    done = subprocess.run([sys.executable, program], input=commands, capture_output=True, text=True, env=environment,
                          timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = re.findall(r"\(Pdb\) (.*)", done.stdout)
    assert answers[0] == "[[4.0, 5.0], [6.0, 7.0]]" and answers[1] == "(2, 1)"
    assert float(answers[2]) < 9.0 and answers[3] == "False"  # one step was taken before
    assert "done 4" in done.stdout and "Epoch 2/2 - " in done.stdout


def test_print_in_forward_shows_values_at_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Dense(1)

        def forward(self, x: Any) -> Any:
            print("mean", round(float(x.mean()), 3))
            return self.layer(x)

    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    model = Net()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(x, x[:, :1], batch_size=2, shuffle=False, epochs=2, verbose=0)
    seen = capsys.readouterr().out.split("\n")
    assert seen[-5:-1] == ["mean 1.5", "mean 5.5"] * 2


def test_a_value_needed_in_forward_works_without_run_eagerly() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Dense(1)

        def forward(self, x: Any) -> Any:
            return self.layer(x) if x.mean() > 3.0 else self.layer(-x)

    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    found = []
    for eager in (False, True):
        trine.manual_seed(0)
        model = Net()
        model(x)
        model.compile("sgd", "mse", run_eagerly=eager)
        model.fit(x, x[:, :1], batch_size=2, epochs=3, verbose=0)
        found.append(model.layer.kernel.tolist())
    assert found[0] == found[1]


# -- Progress ----------------------------------------------------------------------------------------------------------


def fitted(verbose: int | str, **options: Any) -> None:
    trine.manual_seed(0)
    model = nn.Sequential([nn.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(np.ones((6, 2), np.float32), np.zeros((6, 1)), batch_size=4, epochs=2, verbose=verbose, **options)


def test_verbose_0_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fitted(0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [2, "auto"])  # the output of a test is no terminal
def test_verbose_2_is_a_line_per_epoch(verbose: int | str, capsys: pytest.CaptureFixture[str]) -> None:
    fitted(verbose, validation_split=0.3)
    lines = capsys.readouterr().out.splitlines()
    number = r"-?\d[\d.e+-]*"
    pattern = (rf"Epoch {{}}/2 - \d+\.\ds - loss: {number} - mean_absolute_error: {number} - val_loss: {number} - "
               rf"val_mean_absolute_error: {number}")  # fmt: skip
    assert len(lines) == 2
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(pattern.format(epoch), line), line


def test_verbose_1_is_a_bar_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    fitted(1)
    shown = capsys.readouterr().out
    for epoch in (1, 2):
        assert re.search(rf"Epoch {epoch}/2 .*2/2.*loss: ", shown.replace("\n", " ")), shown


def test_a_bar_without_a_known_end(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential([nn.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(lambda: iter([(np.ones((2, 2)), np.ones((2, 1)))] * 3), verbose=1)
    assert "3/?" in capsys.readouterr().out


def test_values_are_short() -> None:
    assert text({"loss": 0.12345, "mae": 1e-5, "acc": 0.0, "big": 12.0}) == (
        "loss: 0.1235 - mae: 1.000e-05 - acc: 0.0000 - big: 12.0000")  # fmt: skip
    assert ProgressBar("auto", 1, None).verbose == 2
