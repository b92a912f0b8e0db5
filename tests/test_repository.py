"""The repository keeps its own rules: STYLE by test, not by memory."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trine
from tests.test_public_api import public_modules, public_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PYTHON = [path for folder in ("src", "tests", "benchmarks", "docs") for path in sorted((ROOT / folder).rglob("*.py"))]

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
WHY_LONG = "Long because"
NO_NAMES = {"utils", "util", "common", "core", "helpers", "helper", "misc"}
# Joined here so that this file does not hold what it looks for.
MACHINE_PATHS = ["/".join(parts) for parts in [("", "work", ""), ("", "opt", "tv"), ("", "root", ""), ("", "home", "")]]
COMMAND = re.compile(r"<!-- command: (\w+) -->\n```bash\n(.+?)\n```", re.DOTALL)
IGNORE = re.compile(r"#\s*(?:noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[\w, -]+\])?)(?P<reason>.*)")


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that the project owns."""
    folders = [ROOT / name for name in ("src", "tests", "docs", "benchmarks", ".ci")]
    files = [file for folder in folders for file in sorted(folder.rglob("*"))]
    files += [file for file in ROOT.iterdir() if file.suffix in {".md", ".toml"}]
    for file in files:
        if not file.is_file() or "__pycache__" in file.parts:
            continue
        try:
            yield file.relative_to(ROOT), file.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a golden file in a binary format
            continue


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function from `def` to its end, without the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def too_long(name: str, text: str) -> list[str]:
    """The file and the functions that are over the limit and whose first lines do not say why."""
    lines = text.splitlines()
    found = []
    if len(lines) > MAX_FILE_LINES and WHY_LONG not in "\n".join(lines[:10]):
        found.append(f"{name}: {len(lines)} lines")
    for function in functions(ast.parse(text)):
        head = "\n".join(lines[function.lineno - 1 : function.body[0].lineno + 10])
        if code_lines(function) > MAX_FUNCTION_LINES and WHY_LONG not in head:
            found.append(f"{name}:{function.lineno}: {function.name}: {code_lines(function)} lines")
    return found


def listed(found: list[str]) -> str:
    return "\n  ".join(["", *found])


def readme_commands() -> dict[str, str]:
    return dict(COMMAND.findall((ROOT / "README.md").read_text(encoding="utf-8")))


def documented(thing: Any) -> bool:
    """Whether a module, function, class or constant explains itself; a text that dataclass made does not count."""
    text = thing.__dict__.get("__doc__") if inspect.isclass(thing) else getattr(thing, "__doc__", None)
    if inspect.isclass(thing) and dataclasses.is_dataclass(thing) and (text or "").startswith(f"{thing.__name__}("):
        return False
    return bool(text and text.strip())


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [f"{name}: {path}" for name, text in texts() for path in MACHINE_PATHS if path in text]
    assert not found, listed(found)


def test_every_module_has_a_docstring() -> None:
    bare = [str(path) for path in PYTHON if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not bare, listed(bare)


def test_long_files_and_functions_say_why() -> None:
    found = [line for path in SOURCES for line in too_long(str(path.relative_to(ROOT)), path.read_text("utf-8"))]
    assert not found, listed(found)


def test_a_long_function_is_found_and_its_reason_accepted() -> None:
    body = "    x = 1\n" * MAX_FUNCTION_LINES
    docstring = '    """One line.\n\n    And more.\n    """\n'
    assert too_long("a.py", "def f():\n" + body) == [f"a.py:1: f: {MAX_FUNCTION_LINES + 1} lines"]
    assert too_long("a.py", "def f():\n" + docstring + body[len("    x = 1\n") :]) == []
    assert too_long("a.py", f"def f():\n    # {WHY_LONG}: one table.\n" + body) == []
    assert too_long("a.py", "x = 1\n" * (MAX_FILE_LINES + 1)) == [f"a.py: {MAX_FILE_LINES + 1} lines"]


def test_files_are_called_what_they_hold() -> None:
    assert not [path for path in SOURCES if NO_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)]


def test_every_ignore_has_a_reason_beside_it() -> None:
    bare = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in PYTHON
        for match in IGNORE.finditer(path.read_text(encoding="utf-8"))
        if path != Path(__file__) and not re.search(r"\w{2,}", match["reason"])
    ]
    assert not bare, listed(bare)


def test_imports_stand_at_the_top_of_the_tests_that_use_an_oracle() -> None:
    inside = re.compile(r"importorskip\(\"torch\"\)|import torch")
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for function in functions(ast.parse(text)) if path != Path(__file__) else ():
            if inside.search(ast.get_source_segment(text, function) or ""):
                found.append(f"{path.relative_to(ROOT)}: {function.name}")
    assert not found, "the marker `oracle` is set where the test's module holds the name `torch`"


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_readme_commands_ask_for_extras_and_scripts_that_exist(name: str) -> None:
    command = readme_commands()[name]
    extras = re.findall(r"\.\[([\w,-]+)\]", command)
    assert extras
    assert set(",".join(extras).split(",")) <= set(PROJECT["optional-dependencies"])
    program = command.split("&&")[-1].split()[0]
    assert program in {"python", *PROJECT["scripts"]}


def test_no_readme_command_holds_more_than_one_line() -> None:
    assert not [name for name, command in readme_commands().items() if "\n" in command]


def test_the_version_stands_in_the_changelog_and_in_the_package() -> None:
    assert trine.__version__ == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_public_name_is_documented() -> None:
    assert trine.__all__
    bare = [
        f"{module.__name__}.{name}"
        for module in public_modules()
        for name in public_names(module)
        if getattr(module, name) is not None and not documented(getattr(module, name))  # trine.newaxis is None
    ]
    assert not bare, listed(bare)
