"""The one module that knows every stage: from recorded nodes to computed values.

Evaluating finds what is not computed yet, looks up its program by structure, runs it, and lets go of what nobody needs:
a computed node drops its inputs unless a gradient may ask for its history, and of that history only what the gradient
rules read is stored.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Any, Final

from trine.autodiff.reverse import residuals
from trine.backends.base import Backend, Buffer, Program, StepError
from trine.backends.reference import Reference
from trine.context import CURRENT, using
from trine.errors import CaptureError, NameLookupError, Site, TrineError
from trine.ir.graph import ABSTRACT, PENDING, TRACKED, Graph, Leaf, Node, reach
from trine.ops.base import LITERAL, RECORDER, Placeholder, user_site

BYTES_BEFORE_FLUSH: Final = 256 * 2**20  # fresh buffers after which pending values that pin others are computed
ROWS_KEPT: Final = 100_000  # operations of all programs that are kept, least recently used ones first to go
_BACKENDS: Final[dict[str, type[Any]]] = {"reference": Reference}


class Failure:
    """What stands in for the value of a node whose computation failed while nobody waited for it."""

    def __init__(self, error: TrineError) -> None:
        """Keep the error for whoever asks."""
        self.error = error


@dataclass(frozen=True, slots=True)
class Prepared:
    """Nodes to compute, their program, and where its inputs come from.

    Attributes:
        program: the compiled structure.
        leaves: the nodes whose buffers are the program's inputs, in order; a literal counts once for every use.
        order: the nodes to compute, in the order of the program's nodes after the leaves.
        outputs: the nodes whose values the program returns.
        edges: for each node of `order`, its inputs by position: first the leaves, then `order`.
    """

    program: Program
    leaves: tuple[Node, ...]
    order: tuple[Node, ...]
    outputs: tuple[Node, ...]
    edges: tuple[tuple[int, ...], ...]

    def run(self, inputs: Sequence[Buffer]) -> list[Buffer]:
        """The outputs' buffers; an error carries the line that recorded the operation."""
        try:
            return self.program.run(inputs)
        except StepError as failed:
            node = self.order[failed.position - len(self.leaves)]
            raise failed.error.locate(Site(*node.site) if node.site else None) from None


class Engine:
    """Evaluates nodes on one back end and keeps its programs.

    Attributes:
        backend: the back end, chosen by `TRINE_BACKEND` (default: reference).
        compiled: the number of programs compiled so far.
        roots: losses whose backward() ran: those still held are computed together with the next value asked for.
    """

    def __init__(self, backend: Backend) -> None:
        """Start with no programs."""
        self.backend = backend
        self.compiled = 0
        self.roots: list[weakref.ref[Node]] = []
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._rows = 0
        self._lock = RLock()
        self._fresh = 0

    def evaluate(self, nodes: Sequence[Node]) -> None:
        """Compute the values of `nodes` and of everything on the way that somebody still holds.

        Raises:
            CaptureError: a node depends on a placeholder.
            TrineError: what an operation raises at run time, with the line that recorded it.
        """
        wanted = [node for node in nodes if node.buffer is None or type(node.buffer) is Failure]
        if not wanted:
            return
        context = CURRENT.get()
        if context.capture is not None:
            context.capture.force()
        with self._lock:
            roots, self.roots = self.roots, []
            extra = [node for root in roots if (node := root()) is not None and node.buffer is None]
            try:
                self._compute([*wanted, *extra])
            except TrineError:
                if not extra:
                    raise
                self._compute(wanted)
            if self._fresh > BYTES_BEFORE_FLUSH and context.capture is None:
                self.flush()

    def _compute(self, wanted: Sequence[Node]) -> None:
        for node in wanted:
            if node.flags & ABSTRACT:
                raise _no_value(node)
        todo = reach(wanted, _known)
        for node in todo:
            if type(node.buffer) is Failure:
                raise node.buffer.error.with_traceback(None)
        pending = [node for node in todo if node.buffer is None]
        prepared = self.prepare(pending, _outputs(wanted, pending))
        buffers = prepared.run([leaf.buffer for leaf in prepared.leaves])
        for node, buffer in zip(prepared.outputs, buffers, strict=True):
            node.buffer = buffer
            self._fresh += getattr(buffer, "nbytes", 0)
        for node in pending:
            if node.buffer is not None and (type(node) is Leaf or not node.flags & TRACKED):
                node.inputs = ()
        del todo, pending, prepared, node
        self._prune()

    def prepare(self, order: Sequence[Node], outputs: Sequence[Node], leaves: Sequence[Node] = ()) -> Prepared:
        """The program that computes `outputs` through `order`, from the cache or compiled.

        Args:
            order: the nodes to compute, in order of creation.
            outputs: those to return.
            leaves: nodes that are inputs of the program even where nothing reads them, in this order.
        """
        slots = {node.serial: i for i, node in enumerate(leaves)}
        inputs = list(leaves)
        inside = {node.serial for node in order}
        edges: list[tuple[int, ...]] = []
        for node in order:
            edge = []
            for value in node.inputs:
                if value.serial in inside:
                    edge.append(-1 - value.serial)
                elif value.op is LITERAL or value.serial not in slots:
                    if value.op is not LITERAL:
                        slots[value.serial] = len(inputs)
                    edge.append(len(inputs))
                    inputs.append(value)
                else:
                    edge.append(slots[value.serial])
            edges.append(tuple(edge))
        place = {node.serial: len(inputs) + i for i, node in enumerate(order)} | slots
        placed = tuple(tuple(place[-1 - e] if e < 0 else e for e in edge) for edge in edges)
        rows = tuple((node.op, edge) for node, edge in zip(order, placed, strict=True))
        key = (tuple(leaf.type for leaf in inputs), rows, tuple(place[node.serial] for node in outputs))
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                program = self._compile(key)
            else:
                self._programs.move_to_end(key)
        return Prepared(program, tuple(inputs), tuple(order), tuple(outputs), placed)

    def _compile(self, key: Any) -> Program:
        """Compile the structure that a key describes."""
        types, rows, outputs = key
        nodes = [Node(Placeholder(), (), kind, ABSTRACT) for kind in types]
        count = len(nodes)
        for op, edge in rows:
            inputs = tuple(nodes[e] for e in edge)
            nodes.append(Node(op, inputs, op.infer(*[i.type for i in inputs]), ABSTRACT))
        graph = Graph.ordered(nodes[:count], [nodes[o] for o in outputs], nodes)
        program = self.backend.compile(graph)
        self.compiled += 1
        self._programs[key] = program
        self._rows += len(nodes)
        while self._rows > ROWS_KEPT and len(self._programs) > 1:
            (dropped, done, _), _ = self._programs.popitem(last=False)
            self._rows -= len(dropped) + len(done)
        return program

    def flush(self) -> None:
        """Compute every pending value that somebody holds; an error is kept for whoever asks for the value."""
        self._fresh = 0
        with self._lock, using(capture=None):
            self._prune()
            held = _held(RECORDER.pending)
            try:
                if held:
                    self._compute(held)
            except TrineError:
                for node in held:
                    self._compute_or_poison(node)
            while RECORDER.pending:  # without a value: history that is recomputed when a gradient wants it
                RECORDER.pending.pop().flags &= ~PENDING
            self.roots = [root for root in self.roots if (loss := root()) is not None and loss.buffer is None]

    def _compute_or_poison(self, node: Node) -> None:
        try:
            self._compute([node])
        except TrineError as error:
            node.buffer = Failure(error)
            node.inputs = ()

    def allocated(self, size: int) -> None:
        """Count the bytes of a new leaf, so that what pins old ones is computed in time."""
        self._fresh += size
        if self._fresh > BYTES_BEFORE_FLUSH and CURRENT.get().capture is None:
            self.flush()

    def _prune(self) -> None:
        """Forget pending nodes that are computed, and, newest first, those that nobody holds."""
        pending, kept = RECORDER.pending, []
        try:
            while pending:
                node = pending.pop()
                if node.buffer is None and sys.getrefcount(node) > 2:
                    kept.append(node)
                else:
                    node.flags &= ~PENDING
        finally:  # also after a Ctrl-C
            kept.reverse()
            pending.extend(kept)


def _known(node: Node) -> bool:
    return node.buffer is not None


def _held(pending: Sequence[Node]) -> list[Node]:
    """Those nodes of the recorder's list that something else than the nodes in it refers to."""
    uses = Counter(value.serial for node in pending for value in node.inputs)
    # besides its readers, the list, the loop variable and the call's argument refer to a node
    return [node for node in pending if node.buffer is None and sys.getrefcount(node) > 3 + uses[node.serial]]


def _outputs(wanted: Sequence[Node], pending: Sequence[Node]) -> list[Node]:
    """The nodes to keep: those asked for, those held from outside, and the residuals of histories that live on."""
    keep = {node.serial for node in wanted}
    uses = Counter(value.serial for node in pending for value in node.inputs)
    for node in pending:
        if node.flags & TRACKED:
            own, inputs = residuals(node)
            if own:
                keep.add(node.serial)
            keep.update(value.serial for value, read in zip(node.inputs, inputs, strict=True) if read)
    for node in pending:
        # the caller's two lists, the loop variable and the call's argument refer to it, and `pending` of the recorder
        inner = 4 + uses[node.serial] + (1 if node.flags & PENDING else 0)
        if sys.getrefcount(node) > inner:
            keep.add(node.serial)
    return [node for node in pending if node.serial in keep]


def _no_value(node: Node) -> CaptureError:
    error = CaptureError("value", "a value is asked for that is not known while the graph is being built",
                         got=f"{node.op.name} -> {node.type}",
                         fix="keep it a tensor: trine.where, trine.cond or trine.while_loop decide later")  # fmt: skip
    error.locate(Site(*user_site()))
    return error


def _chosen() -> Backend:
    name = os.environ.get("TRINE_BACKEND", "reference")
    if name not in _BACKENDS:
        raise NameLookupError("TRINE_BACKEND", f"no back end is called {name!r}", got=name,
                              fix=f"one of {', '.join(_BACKENDS)}")  # fmt: skip
    made: Backend = _BACKENDS[name]()
    return made


ENGINE: Final = Engine(_chosen())
RECORDER.full = ENGINE.flush
