"""A row of the table of operations: what is called, with what, and who knows the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from trine import dtypes

FAMILIES = ("bool", "int", "uint", "float")


@dataclass(frozen=True)
class Arg:
    """An array argument to be drawn: its shape, its range, the kinds of dtype it may have.

    Attributes:
        shape: sizes.
        low, high: the range of the values drawn.
        kinds: "float", "int", "uint", "bool" or a dtype name: an argument keeps a fixed dtype where one is named.
        distinct: whether all values must differ by a margin (sorting, maxima under differences).
    """

    shape: tuple[int, ...] = (3, 4)
    low: float = -2.0
    high: float = 2.0
    kinds: tuple[str, ...] = ("float",)
    distinct: bool = False

    def allows(self, dtype: str) -> bool:
        """Whether the argument may have the dtype."""
        return dtype in self.kinds or dtypes.dtype(dtype).kind in self.kinds

    def settled(self, dtype: str) -> str:
        """The dtype where it is allowed, else the usual one of the first kind, or the one named."""
        if self.allows(dtype):
            return dtype
        usual = {"float": "float32", "int": "int64", "uint": "uint64"}
        return usual.get(self.kinds[0], self.kinds[0])

    def draw(self, rng: np.random.Generator, dtype: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Values in the range, in the dtype; under another shape where one is given."""
        sizes = self.shape if shape is None else shape
        kind = dtypes.dtype(dtype)
        if kind is dtypes.bool:
            return rng.random(sizes) < 0.5
        if kind.is_integer:
            low = max(int(self.low), 0) if kind.kind == "uint" else int(self.low)
            return rng.integers(low, max(int(self.high), low + 1), sizes, dtype=dtype)
        values = rng.uniform(self.low, self.high, sizes)
        if self.distinct:
            ranks = rng.permutation(values.size).reshape(sizes)
            values = self.low + (self.high - self.low) * (ranks + 0.5) / max(values.size, 1)
        return np.asarray(values).astype(kind.numpy)


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: unique; `family: what is special`.
        function: from tensors to a tensor: what a user would call.
        args: array arguments.
        oracle: from NumPy arrays to the expected array, in float64 or the integer dtype.
        differentiable: the arguments whose gradient and second gradient are checked.
        torch: from torch tensors to the expected tensor; None where torch has no counterpart.
        primitives: names of the primitives that this row is there for (a test wants each at least once).
        batched: whether vmap is checked against a loop, over every subset of arguments.
        tolerance: relative error per float dtype, where the default is not enough.
        shapes: which other shapes the arguments may have: none, "any" (all the same one), "broadcast" (pairs, triples).
        result: the dtype of the result where floats go in and another float dtype comes out.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Arg, ...]
    oracle: Callable[..., Any]
    differentiable: tuple[int, ...] = ()
    torch: Callable[..., Any] | None = None
    primitives: tuple[str, ...] = ()
    batched: bool = True
    tolerance: dict[str, float] = field(default_factory=dict)
    shapes: Literal["", "any", "broadcast"] = ""
    result: str = ""

    def dtypes(self) -> list[str]:
        """The names of the dtypes that some argument may have; of none, float32, for a row without arguments."""
        found = [d.name for d in dtypes.ALL if any(arg.allows(d.name) for arg in self.args)]
        return found or ["float32"]

    def draw(
        self, rng: np.random.Generator, dtype: str, shapes: tuple[tuple[int, ...], ...] | None = None
    ) -> list[np.ndarray]:
        """The arguments in the dtype, where they allow it."""
        sizes = shapes if shapes is not None else tuple(arg.shape for arg in self.args)
        return [arg.draw(rng, arg.settled(dtype), n) for arg, n in zip(self.args, sizes, strict=True)]
