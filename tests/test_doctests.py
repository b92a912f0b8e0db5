"""Every module of the package imports without a warning, and the examples in its docstrings hold."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def module_names() -> list[str]:
    files = (file.relative_to(SOURCE).with_suffix("") for file in sorted(SOURCE.rglob("*.py")))
    return [".".join(file.parts).removesuffix(".__init__") for file in files if file.name != "__main__"]


@pytest.mark.parametrize("name", module_names())
def test_examples_hold(name: str, seed: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    for example in doctest.DocTestFinder().find(module, name):
        seed()
        runner.run(example, out=report.append)
    if runner.failures:
        pytest.fail("".join(report), pytrace=False)
