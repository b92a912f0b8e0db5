"""The verifier: each of its rules refuses a graph that breaks it, and passes those that the front end makes."""

from __future__ import annotations

import numpy as np
import pytest

import trine
from trine import dtypes
from trine.errors import CompileError
from trine.ir.graph import ABSTRACT, Graph, Node, Type
from trine.ir.verify import verify
from trine.ops.base import CONSTANT, Placeholder
from trine.ops.control import Cond
from trine.ops.elementwise import exp

PAIR = Type((2,), dtypes.float32)


def hole(kind: Type = PAIR) -> Node:
    return Node(Placeholder(), (), kind, ABSTRACT)


def exponential(x: Node) -> Node:
    return exp(x)


def broken(graph: Graph) -> list[str]:
    with pytest.raises(CompileError) as caught:
        verify(graph)
    return [line for line in str(caught.value).splitlines() if not line.startswith("  at ")]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: (x, x + x, trine.ones(3)),
        lambda x: x.reshape((-1,)) @ x.reshape((-1,)),
        lambda x: trine.cond(x.sum() > 0, lambda: x * 2.0, lambda: x),
        lambda x: trine.scan(lambda c, a: (c + a.sum(), a), trine.zeros(()), x),
        lambda x: trine.sort(x, axis=0)[::-1],
        lambda x: trine.grad(lambda y: (y * y).sum())(x),
    ],
)
def test_what_the_front_end_makes_is_well_formed(function: object) -> None:
    verify(trine.trace(function, trine.spec(("n", 3))).graph)
    verify(trine.trace(function, trine.spec((2, 3))).graph)


def test_constants_and_unread_inputs_are_well_formed() -> None:
    x, unread = hole(), hole()
    constant = Node(CONSTANT, (), PAIR, 0, None, np.ones(2, np.float32))
    verify(Graph([x, unread], [exponential(x), constant]))


def test_a_node_before_its_input() -> None:
    x = hole()
    y = exponential(x)
    z = exponential(y)
    lines = broken(Graph.ordered([x], [z], [x, z, y]))
    assert lines == ["verify: a node comes before one of its inputs", "  got: %1 exp"]


def test_a_node_that_reads_one_outside_the_graph() -> None:
    x, outside = hole(), hole()
    y = exponential(outside)
    assert broken(Graph.ordered([x], [y], [x, y]))[0] == "verify: a node comes before one of its inputs"


def test_a_node_twice() -> None:
    x = hole()
    y = exponential(x)
    assert broken(Graph.ordered([x], [y], [x, y, y])) == ["verify: a node appears twice", "  got: %2 exp"]


def test_an_output_that_is_no_node() -> None:
    x = hole()
    y = exponential(x)
    assert broken(Graph.ordered([x], [y], [x])) == [
        "verify: an input or output is not among the nodes", "  got: exp"
    ]  # fmt: skip
    assert broken(Graph.ordered([x, hole()], [x], [x]))[0] == "verify: an input or output is not among the nodes"


def test_a_placeholder_that_is_no_input() -> None:
    x = hole()
    y = exponential(x)
    assert broken(Graph.ordered([], [y], [x, y])) == [
        "verify: a placeholder is not an input of the graph", "  got: %0 placeholder[label=]"
    ]  # fmt: skip


def test_a_type_that_is_not_what_the_operation_infers() -> None:
    x = hole()
    y = exponential(x)
    y.type = Type((3,), dtypes.float32)
    assert broken(Graph.ordered([x], [y], [x, y])) == ["verify: the type should be f32[2]", "  got: %1 exp: f32[3]"]


def test_inputs_that_break_the_rule_of_the_operation() -> None:
    x, y = hole(Type((2, 3), dtypes.float32)), hole(Type((3, 2), dtypes.float32))
    product = trine.matmul(x, y)
    product.inputs = (x, x)
    lines = broken(Graph.ordered([x], [product], [x, product]))
    assert lines[0].startswith("verify: the inputs break the operation's rule: ")
    assert lines[1].startswith("  got: %1 ")


def test_a_broken_graph_inside_another() -> None:
    inner = hole()
    wrong = exponential(inner)
    wrong.type = Type((2,), dtypes.float64)
    branch = Graph.ordered([inner], [wrong], [inner, wrong])
    pred, x = hole(Type((), dtypes.bool)), hole()
    made = Node(Cond(branch, branch), (pred, x), (Type((2,), dtypes.float64),), ABSTRACT)
    assert broken(Graph.ordered([pred, x], [made], [pred, x, made])) == [
        "verify: the type should be f32[2]", "  got: %1 exp: f64[2]"
    ]  # fmt: skip
