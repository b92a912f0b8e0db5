"""Graphs as text and in the DOT language: whole texts."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

import trine
from trine.ir.graph import Graph
from trine.ir.printer import to_dot, to_text


def bare(text: str) -> list[str]:
    """The lines without what follows the type."""
    return [line.split("  # ")[0].rstrip() for line in text.splitlines()]


def test_a_line_per_node() -> None:
    graph = trine.trace(lambda x, w: (x @ w).sum(axis=1) * 2.0, trine.spec(("batch", 3), name="x"), trine.spec((3, 4)))
    lines = str(graph).splitlines()
    assert [line.split(" = ")[0] for line in lines[:-1]] == [f"%{i}" for i in range(len(lines) - 1)]
    assert lines[-1] == f"return %{len(lines) - 2}"
    assert bare(str(graph))[0] == "%0 = placeholder[label=x]() : f32[batch, 3]"
    assert any("constant[2.0]() : f32[]" in line for line in lines)
    assert re.search(r"sum\[[^\n]*\]\(%\d\) : f32\[batch\]", str(graph))


def test_the_whole_text_of_a_small_graph() -> None:
    text = str(trine.trace(lambda x: (-x).exp() + x, trine.spec((2,), name="x")))
    assert bare(text) == [
        "%0 = placeholder[label=x]() : f32[2]",
        "%1 = negative(%0) : f32[2]",
        "%2 = exp(%1) : f32[2]",
        "%3 = add(%2, %0) : f32[2]",
        "return %3",
    ]


def test_lines_of_the_user_stand_in_one_column() -> None:
    def f(x: trine.Tensor) -> trine.Tensor:
        y = x.exp()
        return y + y

    lines = [line for line in str(trine.trace(f, trine.spec((100,)))).splitlines() if "  # " in line]
    assert [line.split("  # test_printer.py:")[1].split(": ", 1)[1] for line in lines] == [
        "y = x.exp()",
        "return y + y",
    ]
    assert len({line.index("  # ") for line in lines}) == 1


def test_graphs_inside_are_indented() -> None:
    graph = trine.trace(lambda x: trine.cond(x.sum() > 0, lambda: x * 2.0, lambda: x - 1.0), trine.spec((2,)))
    text = str(graph)
    assert re.search(r"\n    then:\n      %0 = ", text)
    assert re.search(r"\n    otherwise:\n      %0 = ", text)
    assert text.count("      return %") == 2
    assert "then=" not in text, "graphs are printed below, not in the line"


def test_values_with_several_results() -> None:
    graph = trine.trace(lambda x: trine.scan(lambda c, a: (c + a, c * a), trine.zeros(()), x), trine.spec((3,)))
    assert re.search(r"scan\[[^\n]*\]\([^\n]*\) : \(f32\[\], f32\[3\]", str(graph))
    assert "output[index=0]" in str(graph)


@pytest.mark.parametrize(("value", "text"), [(True, "constant[True]"), (3, "constant[3]"), ([1.0, 2.0], "constant()")])
def test_constants(value: object, text: str) -> None:
    constant = trine.asarray(value)
    graph = Graph([], [(constant + constant).node])
    assert text in to_text(graph)


def test_dot_has_a_box_per_node_and_an_edge_per_input() -> None:
    graph = trine.trace(lambda x, unused: (x * x).sum(), trine.spec((2,), name='a"b\\c'), trine.spec((1,)))
    dot = graph.dot()
    assert dot.startswith("digraph trine {\n")
    assert dot.endswith("\n}")
    assert len(re.findall(r"^\s*n\w+ \[label=", dot, re.MULTILINE)) == len(graph.nodes) + 1
    assert dot.count(" -> ") == sum(len(node.inputs) for node in graph.nodes) + 1
    assert 'label=a\\"b\\\\c' in dot


def test_dot_draws_graphs_inside_as_clusters() -> None:
    graph = trine.trace(lambda x: trine.cond(x.sum() > 0, lambda: x * 2.0, lambda: x - 1.0), trine.spec((2,)))
    dot = graph.dot()
    assert dot.count("subgraph") == 2
    assert dot.count("{") == dot.count("}")
    names = re.findall(r"^\s*(n\w*) \[label=", dot, re.MULTILINE)
    assert len(names) == len(set(names))
    for a, b in re.findall(r"(n\w*) -> (n\w*);", dot):
        assert a in names
        assert b in names
    if shutil.which("dot"):
        subprocess.run(["dot", "-Tsvg"], input=dot, text=True, check=True, capture_output=True)


def test_a_long_graph_is_no_recursion() -> None:
    x = trine.asarray(np.ones(2, np.float32))
    hole = trine.trace(lambda a: sum([a] * 3000, a), trine.spec((2,)))
    assert len(to_text(hole.graph).splitlines()) > 3000
    assert to_dot(hole.graph).count(" -> ") > 3000
    assert hole.run(x).tolist() == [3001.0, 3001.0]
