"""What a metric is: two sums over examples, whose quotient is the number.

`metric(y_true, y_pred, sample_weight)` is `(sum, weight)`, two scalar tensors; those of several batches add up, and
`result` makes the number of the totals. A metric has no state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from trine.errors import ShapeError, Site
from trine.ir.graph import Value
from trine.ops.base import V, user_site
from trine.shapes import format_shape


@dataclass(frozen=True)
class Metric:
    """The base of metrics: frozen options, a name, two sums, a result."""

    @property
    def name(self) -> str:
        """The name in `history` and in the progress bar."""
        return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(type(self).__name__))

    def __call__(self, y_true: V, y_pred: V, sample_weight: V | None = None) -> tuple[V, V]:
        """The sum and the weight of a batch."""
        raise NotImplementedError

    def result(self, total: float, weight: float) -> float:
        """The metric of totals over batches: their quotient, 0 where nothing has weight."""
        return total / weight if weight else 0.0 if not total else math.nan

    def config(self) -> dict[str, Any]:
        """What `trine.metrics.get` rebuilds it from: its name and options."""
        return {"name": self.name, **{field.name: getattr(self, field.name) for field in fields(self)}}


def classes_of(name: str, y_true: Value, y_pred: Value) -> None:
    """Check that the labels are class numbers of predictions `[..., classes]`.

    Raises:
        ShapeError: they do not have one axis less.
    """
    if not y_pred.ndim or y_true.shape != y_pred.shape[:-1]:
        fix = ""
        if y_true.ndim and y_true.shape == (*y_pred.shape[:-1], 1):
            fix = "y_true.squeeze(-1)"
        elif y_true.shape == y_pred.shape:
            fix = "y_true.argmax(axis=-1) turns one-hot labels into class numbers"
        raise ShapeError(name, "y_true has the shape of y_pred without its last axis, "
                         f"{format_shape(y_pred.shape[:-1])}, not {format_shape(y_true.shape)}",
                         got=f"{y_true.type} and {y_pred.type}", fix=fix).locate(Site(*user_site()))  # fmt: skip
