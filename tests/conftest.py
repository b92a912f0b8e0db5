"""What every test gets: the same seed, golden files, hypothesis profiles, and a line about oracles left out."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

import trine

ORACLES = ("torch",)

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite golden and snapshot files instead of comparing"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        module = getattr(item, "module", None)
        if any(oracle in fixtures or hasattr(module, oracle) for oracle in ORACLES):
            item.add_marker(pytest.mark.oracle)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for oracle in ORACLES:
        if importlib.util.find_spec(oracle) is None:
            terminalreporter.line(
                f"left out: comparisons with {oracle}, which is not installed (pip install -e '.[test-oracles]')"
            )


@pytest.fixture(autouse=True)
def seed() -> Callable[[], None]:
    """The function that sets Trine's generator to seed 0; called once before each test."""

    def reseed() -> None:
        if hasattr(trine, "manual_seed"):
            trine.manual_seed(0)

    reseed()
    return reseed


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str | Path, str], None]:
    """`golden(path, text)` fails unless the file beside the test holds the text; `--update-golden` writes it."""

    def check(path: str | Path, text: str) -> None:
        file = request.path.parent / path
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        if not file.exists():
            pytest.fail(f"{file} does not exist: pytest --update-golden writes it", pytrace=False)
        held = file.read_text(encoding="utf-8")
        if held != text:
            diff = difflib.unified_diff(held.splitlines(), text.splitlines(), str(file), "now", lineterm="")
            pytest.fail("\n".join([*diff, "pytest --update-golden accepts the new text"]), pytrace=False)

    return check
