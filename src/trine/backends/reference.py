"""The reference back end: each node by its operation's NumPy rule; buffers are read-only arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from trine.backends.blas import ONE_THREAD
from trine.ir.graph import Graph, single
from trine.ops.base import Array
from trine.ops.inline import bound
from trine.ops.steps import Steps, read_only
from trine.shapes import Dim, bind_all


class ReferenceProgram:
    """The steps of a graph; symbolic sizes are bound from the inputs at each run."""

    def __init__(self, graph: Graph) -> None:
        """Number the nodes, and look for symbols among the inputs' sizes."""
        self.steps = Steps(graph)
        self.kinds: list[Any] = [node.type for node in graph.inputs]
        self.specs = [kind.shape if single(kind) else () for kind in self.kinds]
        self.symbolic = any(isinstance(n, Dim) for shape in self.specs for n in shape)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Step after step."""
        bind = None
        if self.symbolic:
            sizes = [np.shape(a) if single(kind) else () for a, kind in zip(inputs, self.kinds, strict=True)]
            bind = partial(bound, bindings=bind_all("graph", self.specs, sizes))
        with np.errstate(all="ignore"), ONE_THREAD:
            return self.steps.run(inputs, bind)


class Reference:
    """NumPy as a back end."""

    name = "reference"

    def compile(self, graph: Graph) -> ReferenceProgram:
        """A list of steps."""
        return ReferenceProgram(graph)

    def upload(self, array: Any) -> Array:
        """A read-only view."""
        return read_only(array)

    def download(self, buffer: Any) -> Array:
        """The array itself."""
        found: Array = buffer
        return found
