"""The protocol between the engine and a back end: `compile(graph) -> Program`, and opaque buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from trine.ir.graph import Graph
from trine.ops.steps import StepError

__all__ = ["Backend", "Buffer", "Program", "StepError"]

Buffer = Any


class Program(Protocol):
    """A compiled graph: immutable, callable from several threads at once."""

    def run(self, inputs: Sequence[Buffer]) -> list[Buffer]:
        """The output buffers for these input buffers, in the graph's order; raises StepError."""


class Backend(Protocol):
    """A way of computing graphs."""

    name: str

    def compile(self, graph: Graph) -> Program:
        """The program of a closed graph. Symbolic sizes are bound from the inputs at each run."""

    def upload(self, array: Any) -> Buffer:
        """A buffer with the elements of a NumPy array, which the caller promises not to write."""

    def download(self, buffer: Buffer) -> Any:
        """The buffer as a read-only NumPy array."""
