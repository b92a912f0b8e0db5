"""The verifier: what holds of every well-formed graph, checked between any two stages."""

from __future__ import annotations

from trine.errors import CompileError, TrineError
from trine.ir.graph import Graph, Node, Type
from trine.ir.printer import label, regions, type_text


def verify(graph: Graph) -> None:
    """Check a graph and the graphs inside it.

    Nodes come after their inputs; outputs and inputs are among them; each type is what the operation infers from the
    types of its inputs; placeholders are the graph's inputs.

    Raises:
        CompileError: the first rule that is broken, and the node that breaks it.
    """
    seen: set[int] = set()
    given = {node.serial for node in graph.inputs}
    for position, node in enumerate(graph.nodes):
        where = f"%{position} {label(node)}"
        if node.serial in seen:
            raise CompileError("verify", "a node appears twice", got=where)
        if node.serial not in given and node.buffer is None:
            _verify_node(node, where, seen)
        seen.add(node.serial)
    for node in (*graph.inputs, *graph.outputs):
        if node.serial not in seen:
            raise CompileError("verify", "an input or output is not among the nodes", got=label(node))


def _verify_node(node: Node, where: str, seen: set[int]) -> None:
    if node.op.name == "placeholder":
        raise CompileError("verify", "a placeholder is not an input of the graph", got=where)
    for value in node.inputs:
        if value.serial not in seen:
            raise CompileError("verify", "a node comes before one of its inputs", got=where)
    for _, region in regions(node):
        verify(region)
    try:
        inferred = node.op.infer(*[value.type for value in node.inputs])
    except TrineError as error:
        raise CompileError("verify", f"the inputs break the operation's rule: {error.rule}", got=where) from error
    if not _same(inferred, node.type):
        given = f"{where}: {type_text(node.type)}"
        raise CompileError("verify", f"the type should be {type_text(inferred)}", got=given)


def _same(a: Type, b: Type) -> bool:
    return tuple(a) == tuple(b)
