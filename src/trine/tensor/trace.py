"""`trine.trace`: the graph of a function as an object to print, query, run and save, with sizes that may be symbols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trine import dtypes, shapes, tree
from trine.backends.base import Program, StepError
from trine.context import using
from trine.dtypes import DType
from trine.engine import ENGINE
from trine.errors import ArgumentError, CaptureError, DTypeError, ShapeError, Site
from trine.ir.graph import ABSTRACT, TRACKED, Graph, Node, Type, reach
from trine.ir.printer import to_dot, to_text
from trine.ops.base import CONSTANT, Placeholder, alias, user_site
from trine.ops.inline import inline
from trine.ops.region import closed
from trine.shapes import Dim, Size
from trine.tensor.recording import Recording, record
from trine.tensor.tensor import Tensor, to_tensor


@dataclass(frozen=True)
class Spec:
    """The type of an argument that is not there yet: its shape, with names for sizes left open, and its dtype.

    Attributes:
        shape: ints and `Dim`s.
        dtype: the data type.
        name: what the input is called in the graph.
    """

    shape: tuple[Size, ...]
    dtype: DType
    name: str = ""


def spec(shape: Sequence[int | str | Dim], dtype: DType | str = "float32", name: str = "") -> Spec:
    """An argument for `trine.trace`: `spec(("batch", 784))` has any number of rows.

    Args:
        shape: a size per axis: a number, or a name (equal names are equal sizes; `"2*n + 1"` is a size too).
        dtype: the data type.
        name: what the input is called in the graph.

    Raises:
        ArgumentError: a text that does not read as a size.
    """
    sizes = tuple(shapes.parse(n) if isinstance(n, str) else n for n in shape)
    return Spec(sizes, dtypes.dtype(dtype), name)


class TracedGraph:
    """A function as a graph: what `trine.trace` returns.

    Attributes:
        graph: the closed graph (`trine.ir.Graph`): `graph.nodes`, `graph.inputs`, `graph.outputs`.
        inputs_structure: the container of the arguments.
        outputs_structure: the container of the results.
    """

    def __init__(self, graph: Graph, inputs_structure: tree.Structure, outputs_structure: tree.Structure) -> None:
        """Hold the parts; users call `trine.trace`."""
        self.graph = graph
        self.inputs_structure = inputs_structure
        self.outputs_structure = outputs_structure
        self._program: Program | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes in topological order."""
        return self.graph.nodes

    @property
    def inputs(self) -> tuple[Type, ...]:
        """The types of the inputs."""
        return tuple(node.type for node in self.graph.inputs)

    @property
    def outputs(self) -> tuple[Type, ...]:
        """The types of the outputs."""
        return tuple(node.type for node in self.graph.outputs)

    def find(self, op: str) -> list[Node]:
        """The nodes of an operation, by its name, in order."""
        return [node for node in self.graph.nodes if node.op.name == op]

    def run(self, *args: Any) -> Any:
        """The results for these arguments, computed at once.

        Raises:
            ShapeError: a shape does not fit the spec, or one symbol would have two sizes.
            DTypeError: a dtype differs from the spec.
            ArgumentError: another number or nesting of arguments.
        """
        tensors = self._checked(args)
        ENGINE.evaluate([x.node for x in tensors])
        if self._program is None:
            self._program = ENGINE.backend.compile(self.graph)
        try:
            buffers = self._program.run([x.node.buffer for x in tensors])
        except StepError as failed:
            site = self.graph.nodes[failed.position].site
            raise failed.error.locate(Site(*site) if site else None) from None
        except ShapeError as error:
            raise error.locate(Site(*user_site())) from None
        made = [Tensor(Node(CONSTANT, (), Type(np.shape(b), o.dtype), 0, None, b))
                for b, o in zip(buffers, self.graph.outputs, strict=True)]  # fmt: skip
        return tree.unflatten(self.outputs_structure, made)

    def __call__(self, *args: Any) -> Any:
        """The results as handles: recorded like any other operations, so gradients flow through."""
        nodes = inline(self.graph, [alias(x) for x in self._checked(args)])
        return tree.unflatten(self.outputs_structure, [Tensor(node) for node in nodes])

    def _checked(self, args: tuple[Any, ...]) -> list[Tensor]:
        """The arguments as tensors that fit the types of the inputs; symbols take any size here."""
        leaves, structure = tree.flatten(args)
        if structure != self.inputs_structure:
            raise ArgumentError("run", f"takes {len(self.graph.inputs)} arguments nested as at the trace",
                                got=f"{len(leaves)} arguments").locate(Site(*user_site()))  # fmt: skip
        tensors = [to_tensor(leaf) for leaf in leaves]
        for x, hole in zip(tensors, self.graph.inputs, strict=True):
            if x.dtype is not hole.dtype:
                raise DTypeError("run", f"the graph was traced for {hole.type}", got=str(x.type),
                                 fix=f"x.astype(trine.{hole.dtype.name})").locate(Site(*user_site()))  # fmt: skip
            sizes = zip(x.shape, hole.shape, strict=False)
            if x.ndim != hole.ndim or any(isinstance(n, int) and isinstance(m, int) and n != m for n, m in sizes):
                raise ShapeError("run", f"the graph was traced for {hole.type}", got=str(x.type)).locate(
                    Site(*user_site()))  # fmt: skip
        return tensors

    def __str__(self) -> str:
        """One line per node: its number, type, operation, inputs and line."""
        return to_text(self.graph)

    def dot(self) -> str:
        """The graph in the DOT language, for Graphviz."""
        return to_dot(self.graph)


def trace(function: Callable[..., Any], *specs: Any, **static: Any) -> TracedGraph:
    """The graph of `function` for arguments of these types, found by running it once on placeholders.

    Args:
        function: from tensors, or containers of them, to tensors or containers.
        specs: an argument each: `trine.spec`, a tensor or array (whose type counts), or a container of them.
        static: keyword arguments passed on as they are.

    Raises:
        CaptureError: the function needs a value, or returns something that is no tensor.

    Example:
        >>> import trine
        >>> graph = trine.trace(lambda x: (x * 2).sum(axis=1), trine.spec(("batch", 3)))
        >>> graph.outputs[0].shape
        (batch,)
        >>> graph.run(trine.ones((4, 3)))
        tensor([6., 6., 6., 6.])
    """
    recording, holes, structure = trace_recording(function, specs, static)
    outputs = [leaf.node for leaf in recording.result if isinstance(leaf, Tensor)]  # before handles are put back
    recording.journal.rollback()
    for leaf in recording.result:
        if not isinstance(leaf, Tensor):
            raise CaptureError("trace", f"the function returns a {type(leaf).__name__}, not a tensor",
                               got=f"{leaf!r:.60}", fix="return tensors or containers of them").locate(
                Site(*user_site()))  # fmt: skip
    settle(outputs, holes)
    return TracedGraph(closed(holes, outputs), structure, recording.structure)


def trace_recording(
    function: Callable[..., Any], specs: Sequence[Any], static: dict[str, Any]
) -> tuple[Recording, list[Node], tree.Structure]:
    """A recording of `function` on placeholders, the placeholders, and the container of the arguments.

    The caller rolls the journal back once it has looked at what was re-bound.
    """
    leaves, structure = tree.flatten(tuple(specs))
    holes = []
    for i, leaf in enumerate(leaves):
        kind = leaf if isinstance(leaf, Spec) else to_tensor(leaf).type
        name = (leaf.name if isinstance(leaf, Spec) else "") or f"x{i}"
        tracked = TRACKED if kind.dtype.is_float else 0  # so that the graph shows where history is cut
        holes.append(Node(Placeholder(name), (), Type(kind.shape, kind.dtype), ABSTRACT | tracked))
    args = tree.unflatten(structure, [Tensor(hole) for hole in holes])
    return record(function, args, static, holes), holes, structure


def settle(outputs: Sequence[Node], holes: Sequence[Node]) -> None:
    """Compute what the outputs need and that does not depend on the placeholders: it becomes constant."""
    stop = {hole.serial for hole in holes}
    found = reach(outputs, lambda n: n.serial in stop or n.buffer is not None)
    inner = {i.serial for n in found if n.flags & ABSTRACT for i in n.inputs} | {n.serial for n in outputs}
    with using(capture=None):
        ENGINE.evaluate([n for n in found if n.buffer is None and not n.flags & ABSTRACT and n.serial in inner])
