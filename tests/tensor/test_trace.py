"""`trine.trace`: a function as a graph that is run, recorded again, queried, with sizes left open."""

from __future__ import annotations

import numpy as np
import pytest

import trine
from trine.errors import ArgumentError, CaptureError, DTypeError, ShapeError
from trine.ir.verify import verify


def tensor(value: object, requires: bool = False) -> trine.Tensor:
    return trine.asarray(np.asarray(value, np.float32), requires_grad=requires)


def test_a_graph_has_inputs_nodes_and_outputs() -> None:
    graph = trine.trace(lambda x, y: (x @ y).tanh(), trine.spec((2, 3)), trine.spec((3, 4)))
    verify(graph.graph)
    assert [str(kind) for kind in graph.inputs] == ["f32[2, 3]", "f32[3, 4]"]
    assert [str(kind) for kind in graph.outputs] == ["f32[2, 4]"]
    assert len(graph.find("tanh")) == 1
    assert graph.find("tanh")[0] is graph.nodes[-1]
    assert graph.find("exp") == []


def test_open_sizes_take_any_number() -> None:
    graph = trine.trace(lambda x: (x * 2.0).sum(axis=1) + trine.arange(x.shape[0]).sum(), trine.spec(("batch", 3)))
    for rows in (1, 2, 5):
        assert graph.run(np.ones((rows, 3), np.float32)).tolist() == [6.0 + rows * (rows - 1) // 2] * rows
    assert str(graph.outputs[0]) == "f32[batch]"


def test_sizes_that_are_formulas() -> None:
    graph = trine.trace(lambda x, y: trine.concat([x, y]), trine.spec(("n",)), trine.spec(("2*n + 1",)))
    assert graph.run(tensor([1]), tensor([2, 3, 4])).tolist() == [1, 2, 3, 4]
    with pytest.raises(ShapeError):
        graph.run(tensor([1]), tensor([2, 3]))


def test_containers_of_arguments_and_results() -> None:
    graph = trine.trace(lambda batch: {"sum": batch["x"] + batch["y"], "pair": (batch["x"], [batch["y"]])},
                        {"x": trine.spec((2,)), "y": trine.spec((2,))})  # fmt: skip
    found = graph.run({"x": tensor([1, 2]), "y": tensor([3, 4])})
    assert found["sum"].tolist() == [4, 6]
    assert (found["pair"][0].tolist(), found["pair"][1][0].tolist()) == ([1, 2], [3, 4])


def test_an_example_stands_for_its_type() -> None:
    graph = trine.trace(lambda x, power: x**power, np.ones((2,), np.float64), power=2)
    assert graph.run(np.float64([2, 3])).tolist() == [4, 9]


def test_values_from_outside_become_constants() -> None:
    w = tensor([1, 2], True)
    scaled = w * 3.0
    graph = trine.trace(lambda x: x * scaled + w, trine.spec((2,)))
    with trine.no_grad():
        w.assign(tensor([100, 100]))
    assert graph.run(tensor([1, 1])).tolist() == [4, 8]


def test_a_graph_called_is_recorded_and_differentiable() -> None:
    graph = trine.trace(lambda x: (x**3).sum(), trine.spec(("n",)))
    x = tensor([1, 2], True)
    graph(x).backward()
    assert x.grad.tolist() == [3, 12]
    step = trine.compile(lambda: graph(x))
    for i in range(4):
        with trine.no_grad():
            x.assign(tensor([i, 0]))
            assert step().item() == i**3


def test_a_trace_changes_no_handle() -> None:
    state = tensor([1])

    def step(x: trine.Tensor) -> trine.Tensor:
        state.assign(state + x)
        return state

    graph = trine.trace(step, trine.spec((1,)))
    assert state.tolist() == [1]
    assert graph.run(tensor([5])).tolist() == [6], "the value after the step, not the one put back"
    assert state.tolist() == [1]


def test_an_exception_changes_no_handle() -> None:
    state = tensor([1])

    def step(x: trine.Tensor) -> trine.Tensor:
        state.assign(x)
        raise KeyError

    with pytest.raises(KeyError):
        trine.trace(step, trine.spec((1,)))
    assert state.tolist() == [1]


def test_unused_inputs_keep_their_place() -> None:
    graph = trine.trace(lambda x, y, z: y * 2.0, trine.spec((1,)), trine.spec((2,)), trine.spec((3,)))
    verify(graph.graph)
    assert graph.run(tensor([1]), tensor([1, 2]), tensor([1, 2, 3])).tolist() == [2, 4]


def test_a_value_that_is_needed_is_refused_with_the_line() -> None:
    def step(x: trine.Tensor) -> trine.Tensor:
        return x if x.sum() > 0 else -x

    with pytest.raises(CaptureError) as caught:
        trine.trace(step, trine.spec((2,)))
    assert str(caught.value).splitlines() == [
        "value: a value is asked for that is not known while the graph is being built",
        str(caught.value).splitlines()[1],
        "  got: less -> bool[]",  # a > b is recorded as b < a
        "  try: keep it a tensor: trine.where, trine.cond or trine.while_loop decide later",
    ]
    assert str(caught.value).splitlines()[1].endswith("return x if x.sum() > 0 else -x")


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        (([[1, 2, 3]],), ShapeError, "run: the graph was traced for f32[2, 3]"),
        (([1, 2, 3],), ShapeError, "run: the graph was traced for f32[2, 3]"),
        (([[1, 2, 3]] * 2, [1]), ArgumentError, "run: takes 1 arguments nested as at the trace"),
        ((), ArgumentError, "run: takes 1 arguments nested as at the trace"),
    ],
)
@pytest.mark.parametrize("called", [False, True])
def test_arguments_that_do_not_fit(args: tuple[object, ...], kind: type[Exception], text: str, called: bool) -> None:
    graph = trine.trace(lambda x: x.tanh(), trine.spec((2, 3)))
    with pytest.raises(kind) as caught:
        (graph if called else graph.run)(*[tensor(a) for a in args])
    assert str(caught.value).splitlines()[0] == text


def test_an_argument_of_another_dtype() -> None:
    graph = trine.trace(lambda x: x.tanh(), trine.spec((2,)))
    with pytest.raises(DTypeError) as caught:
        graph.run(np.ones(2))
    assert str(caught.value).splitlines()[2:] == ["  got: f64[2]", "  try: x.astype(trine.float32)"]


def test_a_result_that_is_no_tensor() -> None:
    with pytest.raises(CaptureError, match="the function returns a float, not a tensor"):
        trine.trace(lambda x: 3.0, trine.spec((2,)))


def test_a_size_that_does_not_read_as_one() -> None:
    with pytest.raises(ArgumentError, match="the text is no size"):
        trine.spec(("2 **",))


def test_an_error_at_run_time_names_the_line() -> None:
    graph = trine.trace(lambda i: trine.take(tensor([1, 2]), i), trine.spec((1,), "int64"))
    with pytest.raises(trine.errors.IndexRangeError, match=r"trine\.take\(tensor\(\[1, 2\]\), i\)"):
        graph.run(trine.asarray([2]))
