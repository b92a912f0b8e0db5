"""Wrong programs and the whole text of what Trine says to them.

Each `*.txt` beside this file is a table: `--- a name`, a program, `===`, its message, and where the message proposes a
change, `+++` and the program with that change made, which has to run. Programs run as files called `train.py` and
`fixed.py` in an empty directory, with `np`, `trine` and `nn` imported. `--update-golden` rewrites the messages.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn
from trine.errors import TrineError

HERE = Path(__file__).parent
LAYER = re.compile(r"\w+: (?:[a-z_]\w*(?:\.\w+)* \([A-Z]\w*(?: [\d.]+)?\)|[A-Z]\w*(?: [\d.]+)?): ")  # fc (Dense 8):


@dataclass(frozen=True)
class Case:
    """A wrong program, what Trine says to it, and the program with the proposed change."""

    table: str
    name: str
    program: str
    message: str
    fixed: str

    def __str__(self) -> str:
        return f"{self.table[:-4]}: {self.name}"

    def text(self) -> str:
        parts = [f"--- {self.name}\n{self.program}\n===\n{self.message}\n"]
        return "".join([*parts, f"+++\n{self.fixed}\n" if self.fixed else ""])


def read(table: Path) -> list[Case]:
    """The cases of a table, in order."""
    cases = []
    for block in re.split(r"^--- ", table.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, rest = block.split("\n", 1)
        program, _, more = f"{rest}\n".partition("\n===\n")
        message, _, fixed = f"\n{more}".partition("\n+++\n")
        cases.append(Case(table.name, name, program.strip(), message.strip(), fixed.strip()))
    return cases


CASES = [case for table in sorted(HERE.glob("*.txt")) for case in read(table)]
EACH = pytest.mark.parametrize("case", CASES, ids=str)


def run(program: str, name: str) -> None:
    """Execute a program as a file of the present directory, so that its lines can be shown."""
    file = Path.cwd() / name
    file.write_text(program + "\n", encoding="utf-8")
    scope: dict[str, Any] = {"__name__": "__main__", "np": np, "trine": trine, "nn": nn}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), scope)


def failure(program: str) -> TrineError:
    """The error that a program ends with."""
    with pytest.raises(TrineError) as caught:
        run(program, "train.py")
    return caught.value


def message(error: TrineError) -> str:
    return f"{type(error).__name__}: {error}"


def inside_a_layer(error: TrineError) -> bool:
    """Whether it was raised while a module ran."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is nn.Module.__call__.__code__:
            return True
        trace = trace.tb_next
    return False


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@EACH
def test_message_is_the_one_in_the_table(case: Case, golden: Callable[[str, str], None]) -> None:
    now = replace(case, message=message(failure(case.program)))
    table = read(HERE / case.table)  # again: an update may have changed it
    golden(case.table, "\n".join(now.text() if c.name == case.name else c.text() for c in table))


@EACH
def test_message_names_the_line(case: Case) -> None:
    lines = case.program.splitlines()
    shown = re.findall(r"^  at train\.py:(\d+): (.+)$", case.message, flags=re.MULTILINE)
    assert [text for number, text in shown if lines[int(number) - 1].strip() == text], case.message


@pytest.mark.parametrize("case", [case for case in CASES if case.fixed], ids=str)
def test_proposed_change_runs(case: Case) -> None:
    run(case.fixed, "fixed.py")


def test_messages_from_inside_layers_name_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = []
    for number, case in enumerate(CASES):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        error = failure(case.program)
        if inside_a_layer(error):
            inside.append(message(error))
    unnamed = [text for text in inside if not LAYER.match(text)]
    assert len(inside) >= 20
    assert len(unnamed) <= len(inside) // 10, "\n".join(unnamed)


def test_tables_are_as_large_as_promised() -> None:
    assert len(CASES) >= 60
    assert [name for name, count in Counter((c.table, c.name) for c in CASES).items() if count > 1] == []


def test_no_message_scolds() -> None:
    assert [c.name for c in CASES if re.search(r"\b(invalid|illegal|please|must)\b", c.message, re.IGNORECASE)] == []


def test_unknown_backend_is_named(tmp_path: Path) -> None:
    """The environment is read at the import, so this program is a process of its own."""
    (tmp_path / "train.py").write_text("import trine\n", encoding="utf-8")
    environment = os.environ | {"TRINE_BACKEND": "cuda", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "train.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.split("trine.errors.")[-1].splitlines() == [
        "NameLookupError: TRINE_BACKEND: no back end is called 'cuda'",
        "  at train.py:1: import trine",
        "  got: cuda",
        "  try: one of reference",
    ]


def test_read_only_directory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses in our place: a test may run as a user who may write everywhere."""

    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    found = failure('trine.save_weights("weights.safetensors", {"kernel": np.zeros((4, 1), "float32")})')
    assert message(found).splitlines() == [
        "FileAccessError: save: weights.safetensors cannot be written: Permission denied",
        '  at train.py:1: trine.save_weights("weights.safetensors", {"kernel": np.zeros((4, 1), "float32")})',
        "  got: weights.safetensors",
        "  try: choose a directory you may write to",
    ]
