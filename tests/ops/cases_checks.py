"""Rows for the checks of values."""

from __future__ import annotations

from tests.ops.case import Arg, Case
from trine.ops import checks

CASES = [
    Case("check_labels", lambda x: checks.check_labels(x, 5), (Arg((3, 4), 0, 5, ("int", "uint")),), lambda x: x,
         primitives=("check_labels",)),
    Case("check_probabilities", checks.check_probabilities, (Arg((3, 4), 0.0, 1.0),), lambda x: x, (0,),
         primitives=("check_probabilities",)),
]  # fmt: skip
