"""Graphs as text, one line per node, and in the DOT language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trine.errors import Site
from trine.ir.graph import Graph, Node, Type


def to_text(graph: Graph, indent: str = "") -> str:
    """One line per node: its number, operation with attributes, inputs, type, and the user's line.

    Graphs that an operation holds follow it, indented.
    """
    number = {node.serial: i for i, node in enumerate(graph.nodes)}
    width = max((len(_head(node, number)) for node in graph.nodes), default=0)
    lines = []
    for node in graph.nodes:
        site = f"  # {Site(*node.site)}" if node.site is not None else ""
        head = _head(node, number)
        lines.append(f"{indent}{head}{' ' * (width - len(head)) if site else ''}{site}")
        for name, region in regions(node):
            lines.append(f"{indent}    {name}:")
            lines.append(to_text(region, indent + "      "))
    outputs = ", ".join(f"%{number[node.serial]}" for node in graph.outputs)
    lines.append(f"{indent}return {outputs}")
    return "\n".join(lines)


def _head(node: Node, number: dict[int, int]) -> str:
    inputs = ", ".join(f"%{number[i.serial]}" for i in node.inputs if i.serial in number)
    return f"%{number[node.serial]} = {label(node)}({inputs}) : {type_text(node.type)}"


def label(node: Node) -> str:
    """The operation with its attributes, or the value of a small constant."""
    if node.buffer is not None:
        array = np.asarray(node.buffer)
        return f"constant[{array.item()!r}]" if array.ndim == 0 and array.dtype.kind != "V" else "constant"
    shown = [f"{name}={_attribute(value)}" for name, value in _attributes(node) if not isinstance(value, Graph)]
    return node.op.name + (f"[{', '.join(shown)}]" if shown else "")


def _attributes(node: Node) -> list[tuple[str, Any]]:
    names: tuple[str, ...] = node.op.__match_args__
    return [(name, getattr(node.op, name)) for name in names]


def _attribute(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(_attribute(part) for part in value) + ")"
    return str(value) if hasattr(value, "substitute") or isinstance(value, str) else getattr(value, "name", str(value))


def type_text(kind: Any) -> str:
    """`f32[3]`, or a list of them for an operation with several results."""
    return str(kind) if isinstance(kind, Type) else "(" + ", ".join(str(part) for part in kind) + ")"


def regions(node: Node) -> Sequence[tuple[str, Graph]]:
    """The graphs that an operation holds, by attribute name."""
    return [(name, value) for name, value in _attributes(node) if isinstance(value, Graph)]


def to_dot(graph: Graph) -> str:
    """The graph in the DOT language: a box per node with its operation, type and line; regions are clusters.

    Source: Gansner and North, An open graph visualization system, 2000.
    """
    lines = ["digraph trine {", "  node [shape=box, fontname=monospace];"]
    _dot(graph, "n", lines, "  ")
    return "\n".join([*lines, "}"])


def _dot(graph: Graph, prefix: str, lines: list[str], indent: str) -> None:
    number = {node.serial: i for i, node in enumerate(graph.nodes)}
    for i, node in enumerate(graph.nodes):
        site = f"\n{Site(*node.site)}" if node.site is not None else ""
        text = f"{label(node)}\n{type_text(node.type)}{site}".replace("\\", "\\\\").replace('"', '\\"')
        text = text.replace("\n", "\\n")
        lines.append(f'{indent}{prefix}{i} [label="{text}"];')
        lines.extend(f"{indent}{prefix}{number[v.serial]} -> {prefix}{i};" for v in node.inputs if v.serial in number)
        for name, region in regions(node):
            lines.append(f'{indent}subgraph "cluster_{prefix}{i}_{name}" {{')
            lines.append(f'{indent}  label="{name} of {prefix}{i}";')
            _dot(region, f"{prefix}{i}_{name}_", lines, indent + "  ")
            lines.append(f"{indent}}}")
    for k, node in enumerate(graph.outputs):
        lines.append(f'{indent}{prefix}_out{k} [label="output {k}", shape=ellipse];')
        lines.append(f"{indent}{prefix}{number[node.serial]} -> {prefix}_out{k};")
