"""Recording a function as a signature of a file: a graph with names for the state that it reads and re-binds."""

from __future__ import annotations

import weakref
from collections.abc import Callable, MutableMapping, Sequence
from itertools import count
from typing import Any, Final

from trine import tree
from trine.context import using
from trine.engine import ENGINE
from trine.errors import CaptureError, Site
from trine.files.container import Signature
from trine.ir.graph import ABSTRACT, CONSUMED, TRACKED, Graph, Leaf, Node, reach
from trine.ops.base import CONSTANT, IDENTITY, LITERAL, Output, Placeholder, differentiable, user_site
from trine.ops.control import Scan
from trine.tensor.journal import Transaction
from trine.tensor.recording import Recording
from trine.tensor.tensor import Tensor
from trine.tensor.trace import trace_recording

_FIXED: Final = (bool, int, float, str)


def signature(
    function: Callable[..., Any], specs: Sequence[Any], handles: MutableMapping[str, Tensor], *, gradients: bool = True
) -> Signature:
    """`function` as a graph for arguments of these types, found by running it once on placeholders.

    Handles that the function re-binds and reads without being among `handles` are added to them as "hidden.0", ...;
    those that it only reads become constants. All handles are afterwards what they were before.

    Args:
        function: from tensors, or containers of them, to tensors, numbers, texts, or containers.
        specs: an argument each, as for `trine.trace`.
        handles: state by name.
        gradients: whether gradients will flow through the graph, so that it has to remember where they end; a whole
            training step holds its own.

    Raises:
        CaptureError: the function needs a value, or returns something that a file cannot hold.
        TrineError: what the operations inside raise.
    """
    while True:
        recording, holes, structure, state = _recorded(function, specs, handles, gradients)
        names = {id(handle): name for name, handle in handles.items()}
        read = {id(s.handle) for s in recording.capture.sources.values() if s.kind == "handle"}
        hidden = [w.handle for w in recording.writes if w.kind == "handle" and id(w.handle) not in names
                  and id(w.handle) in read]  # fmt: skip
        if not hidden:
            break
        free = (name for i in count() if (name := f"hidden.{i}") not in handles)
        handles.update(zip(free, hidden, strict=False))
    results, fixed = _results(recording)
    written = {names[id(w.handle)]: w.node for w in recording.writes
               if w.kind == "handle" and id(w.handle) in names and w.node is not None}  # fmt: skip
    outputs = [*results, *written.values()]
    found = {node.serial for node in reach(outputs, _known)}
    reads = {name: hole for name, hole in state.items() if hole.serial in found}
    graph = closed([*holes, *reads.values()], outputs, recording.capture.start, gradients)
    return Signature(graph, structure, recording.structure, fixed, tuple(reads), tuple(written))


def _recorded(
    function: Callable[..., Any], specs: Sequence[Any], handles: MutableMapping[str, Tensor], gradients: bool
) -> tuple[Recording, list[Node], tree.Structure, dict[str, Node]]:
    """A recording in which the handles have no value, only names; every handle is put back."""

    def run(*args: Any) -> Any:
        if not gradients:  # nothing outside of the step asks for a gradient of its arguments
            for x in tree.flatten(args)[0]:
                x.node.flags &= ~TRACKED
        return function(*args)

    journal = Transaction()
    state: dict[str, Node] = {}
    try:
        for name, handle in handles.items():
            journal.write(handle)
            handle.node = state[name] = _hole(name, handle)
            handle._grad = None
        recording, holes, structure = trace_recording(run, specs, {})
        recording.journal.rollback()
        return recording, holes, structure, state
    finally:
        journal.rollback()


def _hole(name: str, handle: Tensor) -> Node:
    if not handle._requires:
        return Node(Placeholder(name), (), handle.type, ABSTRACT)
    made = Leaf(Placeholder(name), (), handle.type, ABSTRACT | TRACKED)
    made.owner = weakref.ref(handle)
    return made


def _results(recording: Recording) -> tuple[list[Node], dict[int, Any]]:
    nodes: list[Node] = []
    fixed: dict[int, Any] = {}
    for place, leaf in enumerate(recording.result):
        if isinstance(leaf, Tensor):
            nodes.append(leaf.node)
        elif isinstance(leaf, _FIXED):
            fixed[place] = leaf
        else:
            raise CaptureError("save", f"a {type(leaf).__name__} among the results cannot be kept in a file",
                               got=f"{leaf!r:.60}", fix="return tensors or containers of them").locate(
                Site(*user_site()))  # fmt: skip
    return nodes, fixed


def _known(node: Node) -> bool:
    return node.buffer is not None


def closed(inputs: Sequence[Node], outputs: Sequence[Node], start: int, gradients: bool = True) -> Graph:
    """A graph of nodes of its own from `inputs` to `outputs`; what was recorded before `start` becomes constant.

    Args:
        inputs: placeholders.
        outputs: nodes that depend on them.
        start: a serial.
        gradients: whether an `Identity` stands wherever history was cut; otherwise there is none at all.
    """
    place = {node.serial: Node(Placeholder(getattr(node.op, "label", "")), (), node.type, ABSTRACT) for node in inputs}
    holes = list(place.values())

    def ends(node: Node) -> bool:
        return node.buffer is not None or node.serial in place or (node.serial < start and not node.flags & ABSTRACT)

    found = reach(outputs, ends)
    with using(capture=None):
        ENGINE.evaluate([n for n in found if n.serial < start and n.buffer is None and not n.flags & ABSTRACT])
    made = list(holes)
    last = _last_read(found)
    for node in found:
        if node.serial in place:
            continue
        if node.buffer is not None:
            op = LITERAL if node.op is LITERAL else CONSTANT
            new = [Node(op, (), node.type, 0, None, node.buffer)]
        else:
            values = [place[i.serial] for i in node.inputs]
            new = _copied(node, values, gradients and _cuts(node), last.get(node.serial, -1))
        made += new
        place[node.serial] = new[-1] if new else place[node.inputs[0].serial]
    return Graph.ordered(holes, [place[node.serial] for node in outputs], made)


def _last_read(nodes: Sequence[Node]) -> dict[int, int]:
    """The number of the last result that is read, of operations with several."""
    last: dict[int, int] = {}
    for node in nodes:
        if isinstance(node.op, Output):
            last[node.inputs[0].serial] = max(node.op.index, last.get(node.inputs[0].serial, -1))
    return last


def _copied(node: Node, values: list[Node], cut: bool, last: int) -> list[Node]:
    """The nodes that stand for `node` on other inputs, the result last; none for an `Identity` that cuts nothing."""

    def ended(value: Node) -> Node:
        return Node(IDENTITY, (value,), value.type, ABSTRACT, value.site)

    if node.op is IDENTITY:
        return [ended(values[0])] if cut else []
    before = [ended(value) for value in values] if cut and node.op.several else []
    new = _trimmed(Node(node.op, tuple(before or values), node.type, ABSTRACT, node.site), last)
    return [*before, new, ended(new)] if cut and not node.op.several else [*before, new]


def _trimmed(node: Node, last: int) -> Node:
    """A scan without the results that only its gradient would read, if results after number `last` are not read."""
    op = node.op
    if not isinstance(op, Scan) or last + 1 >= len(op.body.outputs):
        return node
    keep = max(last + 1, op.carries)
    body = Graph.ordered(op.body.inputs, op.body.outputs[:keep], op.body.nodes)
    made = Scan(body, op.carries, op.sequences, op.length, op.reverse)
    kinds: Any = node.type
    return Node(made, node.inputs, kinds[:keep], ABSTRACT, node.site)


def _cuts(node: Node) -> bool:
    """Whether a gradient that could flow on ends here: a tracked value is read and the float result is not tracked."""
    if node.flags & (TRACKED | CONSUMED) or not differentiable(node.type):
        return False
    return any(i.flags & TRACKED for i in node.inputs)
