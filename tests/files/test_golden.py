"""Files of every released version open for ever: they predict what they predicted, and fit on as they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trine
from tests.files.make_golden import FOLDER, write

MODELS = sorted(FOLDER.glob("*/*.trine"))


def test_there_are_files_of_this_version() -> None:
    assert {path.stem for path in MODELS if path.parent.name == trine.__version__} == {"cnn", "mlp"}


@pytest.mark.parametrize("path", MODELS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_file_predicts_and_fits_as_it_did(path: Path) -> None:
    kept = trine.load_weights(path.with_suffix(".safetensors"))
    model = trine.load(path)
    np.testing.assert_allclose(model.predict(kept["x"]), kept["predicted"], rtol=1e-5, atol=1e-6)
    options = {"batch_size": 8, "epochs": 2, "initial_epoch": 1, "shuffle": False, "verbose": 0}
    history = model.fit(kept["x"], kept["y"], **options).history
    assert sorted(f"history.{name}" for name in history) == sorted(name for name in kept if name.startswith("history."))
    for name, values in history.items():
        np.testing.assert_allclose(values, kept[f"history.{name}"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(kept["x"]), kept["after"], rtol=1e-4, atol=1e-5)


def test_the_script_writes_what_is_kept_of_this_version(tmp_path: Path) -> None:
    """A change of what `save` writes is seen: within a release in work, the golden files are written again."""
    write(tmp_path / "new")
    for path in MODELS:
        if path.parent.name == trine.__version__:
            name = f"{path.stem}.safetensors"
            new, old = trine.load_weights(tmp_path / "new" / name), trine.load_weights(path.parent / name)
            assert sorted(new) == sorted(old)
            assert all(np.allclose(new[name], old[name], rtol=1e-5, atol=1e-6) for name in old)


def test_files_hold_no_paths_of_the_machine() -> None:
    for path in MODELS:
        assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()
