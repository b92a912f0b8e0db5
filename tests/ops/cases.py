"""The table of operations: the rows of all files `cases_*.py` beside this one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.ops.case import Case

CASES: list[Case] = [
    case
    for file in sorted(Path(__file__).parent.glob("cases_*.py"))
    for case in import_module(f"tests.ops.{file.stem}").CASES
]
