"""The command line: `trine demo` and `trine show`, their exit statuses and what they say when something is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import trine
from trine import nn
from trine.cli import demo, main

SOURCE = str(Path(trine.__file__).parents[1])


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def without_seconds(text: str) -> str:
    return re.sub(r"\d+\.\ds|\d+ seconds", "TIME", text)


# -- demo --------------------------------------------------------------------------------------------------------------


def test_the_demo_says_the_same_at_every_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        status, out, err = run(capsys, "demo", "--epochs", "1", "--output", str(tmp_path / "digits.trine"))
        assert (status, err) == (0, "")
        found.append((without_seconds(out), (tmp_path / "digits.trine").read_bytes()))
    assert found[0] == found[1]
    out = found[0][0]
    assert out.startswith("1437 scanned digits to learn from, 360 held out, 8 x 8 pixels each\n")
    assert "62,250 parameters" in out and "[batch, 10]" in out
    assert re.search(r"Epoch 1/1 - TIME - loss: \d\.\d{4} - accuracy: 0\.\d{4}\n", out)
    share = re.search(r"\n(\d\d\.\d\d)% of the 360 held-out digits are read correctly\n", out)
    assert share is not None and float(share[1]) > 30  # one epoch
    assert re.search(r"( a \d, read as \d +){4}\n", out)
    assert "the same predictions, bit for bit\n" in out
    loaded = trine.load(tmp_path / "digits.trine")
    _, (images, labels) = demo.digits(0)
    assert f"{(loaded.predict(images).argmax(axis=1) == labels).mean():.2%}" == f"{share[1]}%"


@pytest.mark.slow
def test_the_demo_reads_at_least_98_percent_of_the_held_out_digits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, _ = run(capsys, "demo", "--output", str(tmp_path / "digits.trine"))
    share = re.search(r"(\d+\.\d\d)% of the 360", out)
    assert status == 0 and share is not None and float(share[1]) >= 98.0
    print(f"{share[1]}%")


def test_the_held_out_digits_are_not_trained_on() -> None:
    (images, labels), (others, other_labels) = demo.digits(0)
    assert images.shape == (1437, 8, 8, 1) and others.shape == (360, 8, 8, 1)
    assert images.dtype == np.float32 and images.min() == 0 and images.max() == 1
    assert set(labels) == set(other_labels) == set(range(10))
    (again, _), (more, _) = demo.digits(1)
    assert not np.array_equal(images, again)
    for x, y in ((images, others), (again, more)):
        assert np.sort(np.concatenate([x, y]).reshape(-1, 64), axis=0).sum() == pytest.approx(
            np.sort(np.concatenate([images, others]).reshape(-1, 64), axis=0).sum())  # fmt: skip


def test_digits_are_drawn_side_by_side() -> None:
    image = np.zeros((2, 8, 8, 1), np.float32)
    image[0, 0, 0], image[1, 7, 7] = 1.0, 0.5
    rows = demo.drawn(image, np.array([3, 4]), np.array([5, 6]), [0, 1]).split("\n")
    assert rows[0] == "@@" + " " * 33 and rows[7] == " " * 33 + "++"
    assert rows[8] == " a 3, read as 5     a 4, read as 6 "


def test_the_demo_names_the_extra_that_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    status, out, err = run(capsys, "demo", "--output", str(tmp_path / "x"))
    assert (status, out) == (1, "")
    first, *_, got, fix = err.splitlines()
    assert first == "MissingExtraError: demo: the digits come with scikit-learn, which is not installed"
    assert got == "  got: no sklearn" and fix == "  try: pip install 'trine[demo]'"


def test_the_demo_says_before_it_trains_that_it_cannot_save(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for path, rule in [(tmp_path, "is a directory"), (tmp_path / "no" / "x", "is in a directory that does not exist")]:
        status, out, err = run(capsys, "demo", "--output", str(path))
        assert (status, out) == (1, "") and err.startswith(f"FileAccessError: demo: {path} {rule}\n")


@pytest.mark.parametrize(("arguments", "text"), [
    (("demo", "--epochs", "0"), "at least 1 epoch, not 0"), (("demo", "--epochs", "two"), "invalid"),
    (("demo", "--seed", "-1"), "a seed is from 0"), ((), "usage: trine"), (("train",), "invalid choice"),
])  # fmt: skip
def test_wrong_arguments_are_explained(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and text in capsys.readouterr().err


def test_ctrl_c_ends_the_demo_with_a_word(tmp_path: Path) -> None:
    """A child process is interrupted once it says that it has finished its first epoch."""
    program = "import sys; from trine.cli import main; sys.exit(main(sys.argv[1:]))"
    child = subprocess.Popen([sys.executable, "-u", "-c", program, "demo", "--output", str(tmp_path / "x")],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": SOURCE})  # fmt: skip
    assert child.stdout is not None and child.stderr is not None
    for line in child.stdout:
        if line.startswith("Epoch 1/"):
            break
    child.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "interrupted\n")
    assert time.monotonic() - begun < 60 and not list(tmp_path.iterdir())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"trine {trine.__version__}\n"


# -- show --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = nn.Sequential([nn.Dense(3, activation="relu"), nn.Dense(2)]).build_for(("batch", 4))
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
    model.save(tmp_path / "model.trine")
    return tmp_path / "model.trine"


def test_show_prints_signatures_and_tensors(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    status, out, err = run(capsys, "show", str(file))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{file}: Sequential, ") and lines[0].endswith(f"written by Trine {trine.__version__}")
    assert "  predict(f32[batch, 4]) -> f32[batch, 2]" in lines
    assert any(line.startswith("  train(f32[batch, 4], ") for line in lines)
    assert "  layers.0.kernel" in out and re.search(r"layers\.1\.kernel +f32\[3, 2\] +parameter\n", out)
    assert "predict\n  %0" not in out


def test_show_prints_a_graph(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    status, out, _ = run(capsys, "show", str(file), "--graph", "predict")
    graph = out.partition("\npredict\n")[2].splitlines()
    assert status == 0 and graph[0].startswith("  %0 = ") and graph[-1].startswith("  return %")
    assert any("mat_mul" in line for line in graph)
    status, out, err = run(capsys, "show", str(file), "--graph", "serve")
    assert (status, out) == (1, "")
    assert err.startswith("NameLookupError: show: no signature is called 'serve'\n") and "try: one of predict" in err


def test_show_prints_files_of_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trine.save_weights(tmp_path / "w", {"a": np.ones((2, 3), np.float32), "b": np.arange(4)})
    status, out, _ = run(capsys, "show", str(tmp_path / "w"))
    assert status == 0 and "weights without a graph" in out
    assert "  a  f32[2, 3]\n  b  i64[4]\n10 numbers in 2 tensors\n" in out


def test_show_refuses_other_files_in_four_parts(capsys: pytest.CaptureFixture[str], tmp_path: Path, file: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no model")
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-10])
    for name, kind in [("text", "FileFormatError"), ("cut", "FileFormatError"), ("none", "FileAccessError")]:
        status, out, err = run(capsys, "show", str(tmp_path / name))
        assert (status, out) == (1, "") and err.startswith(f"{kind}: ") and "\n  got: " in err and name in err
