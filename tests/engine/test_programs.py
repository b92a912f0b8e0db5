"""Programs: found by structure, kept within bounds, chosen back end."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import trine
from trine import engine as engine_module
from trine.engine import ENGINE


def compiled_by(action: object) -> int:
    before = ENGINE.compiled
    action()
    return ENGINE.compiled - before


def test_the_same_structure_is_compiled_once() -> None:
    def run(seed: float) -> None:
        x = trine.asarray(np.full((3, 7, 2), seed, np.float32))
        assert ((x * x - 1.0) / 2.0).sum().item() == 42 * (seed * seed - 1) / 2

    assert compiled_by(lambda: run(3.0)) == 1
    assert compiled_by(lambda: run(5.0)) == 0


def test_a_python_number_that_changes_is_no_new_program() -> None:
    x = trine.asarray(np.ones((3, 11), np.float32))
    assert compiled_by(lambda: (x * 0.5 + 2.0).numpy()) == 1
    for rate in (0.1, 0.2, 0.5, 2.0, 0.0, -0.0, float("nan")):
        assert compiled_by(lambda rate=rate: (x * rate + rate).numpy()) == 0
        np.testing.assert_array_equal((x * rate + rate).numpy(), np.full((3, 11), np.float32(rate) + np.float32(rate)))


def test_equal_numbers_in_one_program_stay_apart() -> None:
    x = trine.asarray(np.ones(13, np.float32))
    assert (x * 3.0 + 3.0).numpy()[0] == 6.0
    assert (x * 3.0 + 4.0).numpy()[0] == 7.0
    assert (x * 4.0 + 3.0).numpy()[0] == 7.0


def test_shapes_dtypes_and_edges_are_part_of_the_key() -> None:
    a = trine.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    b = trine.asarray(np.ones((2, 3), np.float32))
    assert (a - b).sum().item() == 9.0
    assert (b - a).sum().item() == -9.0
    assert (a - a).sum().item() == 0.0
    assert (a.astype("float64") - b).dtype is trine.float64
    assert (a.T - b.T).sum().item() == 9.0


def test_programs_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "ROWS_KEPT", ENGINE._rows + 50)
    for n in range(1, 60):
        trine.asarray(np.ones(n, np.float32)).__add__(1.0).numpy()
    assert ENGINE._rows <= engine_module.ROWS_KEPT
    assert ENGINE._rows == sum(len(types) + len(rows) for types, rows, _ in ENGINE._programs)


def test_a_program_that_is_used_is_kept_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    x = trine.asarray(np.ones(17, np.float32))
    (x + 1.0).numpy()
    monkeypatch.setattr(engine_module, "ROWS_KEPT", 30)
    for n in range(100, 120):
        trine.asarray(np.ones(n, np.float32)).__mul__(2.0).numpy()
        assert compiled_by(lambda: (x + 1.0).numpy()) == 0


@pytest.mark.parametrize(("name", "code"), [("reference", 0), ("nonsense", 1)])
def test_the_back_end_is_chosen_by_an_environment_variable(name: str, code: int) -> None:
    script = "import trine; from trine.engine import ENGINE; print(ENGINE.backend.name)"
    env = {**os.environ, "TRINE_BACKEND": name}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == code
    if code:
        assert "TRINE_BACKEND: no back end is called 'nonsense'" in done.stderr
        assert "try: one of reference" in done.stderr
    else:
        assert done.stdout == "reference\n"
