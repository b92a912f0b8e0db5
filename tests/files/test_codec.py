"""Graphs as JSON values: what is read is what was written, of this and of earlier versions."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trine
from tests.ops.case import Case
from tests.ops.cases import CASES
from tests.ops.test_table import seeded
from trine.errors import ArgumentError, FileFormatError, Site, TrineError
from trine.files import codec
from trine.files.codec import decode, encode
from trine.ir.graph import Graph, Node, Type
from trine.ir.verify import verify
from trine.ops.base import CONSTANT, LITERAL, Op
from trine.ops.elementwise import Add
from trine.tensor.trace import TracedGraph, spec, trace


def through_text(graph: Graph) -> Graph:
    data, arrays = encode(graph)
    return decode(json.loads(json.dumps(data)), arrays)


def outline(graph: Graph) -> Any:
    """A graph as nested tuples: operations, attributes, types, edges, values, lines."""
    place = {node.serial: i for i, node in enumerate(graph.inputs)}
    rows = [("input", getattr(node.op, "label", ""), node.type) for node in graph.inputs]
    for node in graph.nodes:
        if node.serial in place:
            continue
        place[node.serial] = len(place)
        if node.buffer is not None:
            rows.append(("constant", node.op is LITERAL, node.type, np.asarray(node.buffer).tobytes()))
        else:
            fields = [getattr(node.op, name) for name in node.op.__match_args__]
            shown = tuple(outline(field) if isinstance(field, Graph) else field for field in fields)
            where = (str(Site(*node.site)), node.site[2]) if node.site else None
            rows.append((node.op.name, shown, node.type, tuple(place[i.serial] for i in node.inputs), where))
    return (tuple(rows), tuple(place[node.serial] for node in graph.outputs))


def unified(graph: Graph) -> Any:
    """The outline of a graph once equal constants are one, as reading makes them."""
    return outline(through_text(graph))


def run(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    n = len(graph.outputs)
    made = TracedGraph(graph, trine.tree.flatten(tuple(arrays))[1], trine.tree.flatten((0,) * n)[1])
    return [out.numpy() for out in made.run(*arrays)]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all((x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes()) for x, y in zip(a, b, strict=True))


@cache
def graph_of(row: int) -> tuple[Graph, list[np.ndarray]]:
    """A row as a graph, with gradients of its differentiable arguments, and arguments for it."""
    case: Case = CASES[row]
    arrays = case.draw(seeded(case), case.dtypes()[-1])

    def whole(*args: Any) -> Any:
        out = case.function(*args)
        if not case.differentiable or not out.dtype.is_float:
            return (out,)
        places = tuple(i for i in case.differentiable if args[i].dtype.is_float)
        return (out, *(trine.grad(lambda *a: case.function(*a).sum(), argnums=i)(*args) for i in places))

    return trace(whole, *arrays).graph, arrays


@pytest.mark.parametrize("row", range(len(CASES)), ids=[case.name for case in CASES])
def test_a_row_of_the_table_comes_back_and_gives_the_same_bits(row: int) -> None:
    graph, arrays = graph_of(row)
    back = through_text(graph)
    verify(back)
    assert outline(back) == unified(back)
    with np.errstate(all="ignore"):
        assert same(run(back, arrays), run(graph, arrays))


def test_every_primitive_is_among_the_rows() -> None:
    def names(graph: Graph) -> set[str]:
        found = {node.op.name for node in graph.nodes if node.buffer is None}
        for node in graph.nodes:
            for field in node.op.__match_args__:
                if isinstance(getattr(node.op, field), Graph):
                    found |= names(getattr(node.op, field))
        return found

    def sizes(x: Any, rows: Any) -> Any:
        x[rows] = 1.0
        return x * trine.arange(x.shape[0], dtype="float32"), x.mean()

    # what does not depend on the arguments of a row is computed when it is traced; open sizes keep it
    symbolic = trace(sizes, spec(("batch",)), spec((2,), "int64")).graph
    assert outline(through_text(symbolic)) == unified(through_text(symbolic))
    seen = set().union(*(names(graph_of(row)[0]) for row in range(len(CASES))), names(symbolic), {"constant"})
    assert set(codec.operations()) - seen == set()


def test_operations_are_named_once() -> None:
    kinds = [kind for kind in codec._subclasses(Op) if kind.__module__.startswith("trine.ops.")]
    bases = {base for kind in kinds for base in kind.__mro__[1:]}
    names = [kind.name for kind in kinds if kind not in bases]
    assert len(names) == len(set(names)) == len(codec.operations())


STEPS = [
    lambda a, b: a + b, lambda a, b: a * 0.5 - b, lambda a, b: trine.tanh(a), lambda a, b: trine.where(a < b, a, -0.0),
    lambda a, b: a.sum(axis=0, keepdims=True) + b, lambda a, b: a / (b * b + 1), lambda a, b: a[::-1] * 1.0,
    lambda a, b: a @ b.T @ a, lambda a, b: a.mean(axis=1, keepdims=True) * b,
    lambda a, b: trine.maximum(a, float("nan")),
    lambda a, b: a + trine.asarray(np.arange(40.0, dtype=np.float32)).sum(),
]  # fmt: skip


STEP = st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=60)
@given(steps=st.lists(STEP, min_size=1, max_size=20), rows=st.integers(1, 5))
def test_random_graphs_with_a_symbol_come_back(steps: list[tuple[int, int, int]], rows: int) -> None:
    def program(x: Any, y: Any) -> Any:
        values = [x, y]
        for step, i, j in steps:
            values.append(STEPS[step](values[i % len(values)], values[j % len(values)]))
        return tuple(values[-3:])

    kind = spec(("batch", 3))
    graph = trace(program, kind, kind).graph
    back = through_text(graph)
    assert outline(back) == unified(back)
    rng = np.random.default_rng(rows)
    arrays = [rng.normal(size=(rows, 3)).astype(np.float32) for _ in range(2)]
    assert same(run(back, arrays), run(graph, arrays))


def test_sizes_that_are_expressions_come_back_as_the_same_sizes() -> None:
    graph = trace(lambda x: trine.concat([x, x])[1::2].reshape(-1), spec(("2*n + 1", "m", 3))).graph
    assert through_text(graph).outputs[0].type == graph.outputs[0].type
    assert [n.op for n in through_text(graph).nodes] == [n.op for n in graph.nodes]


def test_nested_graphs_come_back() -> None:
    def program(x: Any, w: Any) -> Any:
        def body(carry: Any, row: Any) -> Any:
            new = trine.cond(row.sum() > 0, lambda: carry + row * w, lambda: carry * 2.0)
            return new, new.sum()

        last, sums = trine.scan(body, trine.zeros((3,)), x)
        return last, sums

    graph = trace(program, spec(("time", 3)), spec((3,))).graph
    arrays = [np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((5, 3), (3,))]
    back = through_text(graph)
    assert same(run(back, arrays), run(graph, arrays))
    assert {"scan", "output"} <= {n.op.name for n in back.nodes}


@pytest.mark.parametrize("dtype", [d.name for d in trine.dtypes.ALL])
def test_constants_keep_every_bit_and_whether_they_are_literals(dtype: str) -> None:
    kind = trine.dtypes.dtype(dtype)
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2 if dtype == "bool" else 256, (50, kind.itemsize), dtype=np.uint8)
    large = bits.view(kind.numpy).reshape(5, 10)
    small = large[:1, :2].copy()
    one = small[0, :1].reshape(())
    pairs = [(LITERAL, one), (CONSTANT, one), (CONSTANT, small), (CONSTANT, large)]
    nodes = [Node(op, (), Type(a.shape, kind), 0, None, a) for op, a in pairs]
    data, arrays = encode(Graph([], nodes))
    assert len(arrays) == (large.nbytes > codec.INLINE)
    back = decode(json.loads(json.dumps(data)), arrays).outputs
    assert [n.op for n in back] == [n.op for n in nodes]
    assert same([n.buffer for n in back], [n.buffer for n in nodes])


def test_nodes_name_the_line_that_recorded_them_and_the_layers() -> None:
    layer = trine.nn.Dense(2).build_for(("batch", 3))
    graph = trace(lambda x: layer(x) * 2, spec(("batch", 3))).graph  # the line
    back = through_text(graph)
    product = next(n for n in back.nodes if n.op.name == "mat_mul")
    assert product.site is not None
    site = Site(*product.site)
    assert str(site).startswith("test_codec.py:") and "# the line" in str(site)
    assert site.path == "Dense 2"


def test_an_error_at_run_time_names_the_line_that_recorded_the_node() -> None:
    graph = trace(lambda i: trine.take(trine.ones(2), i, axis=0), spec(("n",), "int64")).graph  # the line
    with pytest.raises(TrineError, match=r"graph = trace.*# the line"):
        run(through_text(graph), [np.array([7])])


# -- Other versions, and damage ----------------------------------------------------------------------------------------


def written() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    data, arrays = encode(trace(lambda x: trine.concat([x, x + 1.0], axis=1), spec(("batch", 3))).graph)
    return json.loads(json.dumps(data)), arrays


def entry(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(part for part in data["tables"]["operations"] if part["name"] == name)


def test_attributes_of_an_older_version_are_upgraded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    data, arrays = written()
    old = entry(data, "concatenate")
    monkeypatch.setattr(codec.operations()["concatenate"], "version", 3)
    old["attributes"] = {"dimension": "one"}
    monkeypatch.setitem(codec.UPGRADES, ("concatenate", 1), lambda a: {"dimension": {"one": 1}[a["dimension"]]})
    monkeypatch.setitem(codec.UPGRADES, ("concatenate", 2), lambda a: {"axis": a["dimension"]})
    assert decode(data, arrays).outputs[0].type.shape == (trine.spec(("batch",)).shape[0], 6)


def test_every_earlier_version_has_an_upgrade() -> None:
    wanted = {(name, version) for name, kind in codec.operations().items() for version in range(1, kind.version)}
    assert set(codec.UPGRADES) == wanted


def test_an_unknown_operation_is_refused() -> None:
    data, arrays = written()
    entry(data, "concatenate")["name"] = "fancy"
    with pytest.raises(FileFormatError) as caught:
        decode(data, arrays)
    assert [caught.value.where, caught.value.rule, caught.value.fix] == [
        "graph", "this release knows no operation 'fancy'",
        "open it with the release of Trine that wrote it, or a newer one",
    ]  # fmt: skip


def test_a_newer_version_of_an_operation_is_refused() -> None:
    data, arrays = written()
    entry(data, "concatenate")["version"] = 2
    with pytest.raises(FileFormatError, match="'concatenate' has version 2, this release knows up to 1"):
        decode(data, arrays)


def test_an_attribute_that_is_not_known_is_refused() -> None:
    data, arrays = written()
    entry(data, "concatenate")["attributes"]["colour"] = 1
    with pytest.raises(FileFormatError, match="the operation 'concatenate' has no attribute colour"):
        decode(data, arrays)


def test_a_node_that_breaks_the_rule_of_its_operation_is_refused() -> None:
    data, arrays = written()
    entry(data, "concatenate")["attributes"]["axis"] = 0
    data["graph"]["inputs"][0][2] = [2, "n", 3]
    with pytest.raises(FileFormatError):
        decode({**data, "graph": {**data["graph"], "nodes": [*data["graph"]["nodes"][:-1], [0, [0, 9], 0]]}}, arrays)


@given(data=st.data())
def test_damage_anywhere_is_a_format_error_or_still_a_graph(data: st.DataObject) -> None:
    """Values are exchanged at random places: nothing but FileFormatError comes out."""
    whole, arrays = written()
    where: Any = whole
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(where[key], dict | list) or not where[key] or data.draw(st.booleans()):
            break
        where = where[key]
    where[key] = data.draw(st.sampled_from([None, -1, 0, 7, 1.5, "x", [], {}, [[]], True, "f32", {"size": "a +"}]))
    try:
        graph = decode(whole, arrays)
    except FileFormatError:
        return
    verify(graph)


def test_an_operation_of_another_package_cannot_be_written() -> None:
    x = trine.nn.Input((3,))
    y = trine.nn.Dense(2)(x)
    with pytest.raises(ArgumentError, match="'layer_call' is no primitive of Trine, so a file cannot hold it"):
        encode(Graph([x.node], [y.node]))


def test_equal_operations_are_written_once() -> None:
    data, _ = encode(trace(lambda x: x + x + x + x, spec(("batch", 3))).graph)
    assert data["tables"]["operations"] == [{"name": "add", "version": 1, "attributes": {}}]
    assert Add().version == 1
