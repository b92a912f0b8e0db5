"""Indexing and ordering against NumPy: random keys, duplicates, gradients, batches, symbolic sizes, whole messages."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trine import dtypes
from trine.autodiff.reverse import gradients
from trine.engine import ENGINE
from trine.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError, TrineError
from trine.ir.graph import ABSTRACT, TRACKED, Graph, Node, Type, Value
from trine.ops.base import CONSTANT, Op, Placeholder, apply
from trine.ops.elementwise import add, multiply
from trine.ops.indexing import (
    Gather,
    Scatter,
    ScatterAdd,
    index,
    index_update,
    one_hot,
    scatter_add,
    take,
    take_along_axis,
    tril,
    triu,
)
from trine.ops.reduction import sum as total
from trine.ops.sorting import Argsort, Searchsorted, Sort, argsort, searchsorted, sort, topk
from trine.shapes import Dim, substitute

batch = Dim.symbol("batch")


def constant(array: Any) -> Node:
    array = np.array(array)
    return Node(CONSTANT, (), Type(array.shape, dtypes.dtype(array.dtype)), 0, None, ENGINE.backend.upload(array))


def read(value: Value) -> np.ndarray[Any, Any]:
    ENGINE.evaluate((value.node,))
    return value.node.buffer


def never(value: Value) -> np.ndarray[Any, Any]:
    raise AssertionError("a value was asked for")


def got(x: Node, key: Any, force: Any = read) -> Node:
    return index(x, key, force=force, convert=constant)


def updated(x: Node, key: Any, value: Any, force: Any = read) -> Node:
    return index_update(x, key, value, force=force, convert=constant)


class Handle(Value):
    """Some user's handle."""

    __slots__ = ("node",)

    def __init__(self, node: Node) -> None:
        self.node = node


def holding(array: Any) -> Handle:
    return Handle(constant(array))


def primitives(root: Value) -> set[str]:
    return {node.op.name for node in Graph([], [root.node]).nodes if node.buffer is None}


# -- Keys --------------------------------------------------------------------------------------------------------------


@st.composite
def tensors_and_keys(draw: Any) -> tuple[np.ndarray[Any, Any], tuple[Any, ...]]:
    """An array and a key of every kind of part, none of its integers out of range."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4).map(tuple))
    common = draw(st.sampled_from([(), (2,), (3,), (2, 3), (0,)]))
    masked = draw(st.booleans())
    key: list[Any] = []
    axis, gap = 0, draw(st.sampled_from([None, "...", "end"]))
    bound = st.one_of(st.none(), st.integers(-6, 6))
    while axis < len(shape):
        n = shape[axis]
        kinds = ["slice", "none"] + ["int", "array", "list"] * (n > 0) + ["mask"] * masked + ["bool"] * draw(
            st.sampled_from([0, 0, 1]))  # fmt: skip
        kind = draw(st.sampled_from(kinds))
        if gap is not None and draw(st.booleans()):
            axis += draw(st.integers(0, len(shape) - axis))
            if gap == "end":
                break
            key.append(...)
            gap = None
        elif kind == "slice":
            key.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, 3, -1, -2]))))
            axis += 1
        elif kind == "none":
            key.append(None)
        elif kind == "bool":
            key.append(draw(st.sampled_from([True, False])))
        elif kind == "int":
            key.append(draw(st.integers(-n, n - 1)))
            axis += 1
        elif kind == "mask":
            width = draw(st.integers(1, len(shape) - axis))
            size = math.prod(shape[axis : axis + width])
            ones = draw(st.sets(st.integers(0, max(size - 1, 0)), min_size=0, max_size=size))
            count = {(): None, (2,): 2, (3,): 3, (2, 3): 3, (0,): 0}[common]
            bits = np.isin(np.arange(size), sorted(ones)[: count if count is not None else 1])
            key.append(bits.reshape(shape[axis : axis + width]))
            axis += width
        else:
            part = draw(st.sampled_from([common, common[-1:], (1,) * len(common)]))
            size = math.prod(part)
            values = draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size))
            array = np.array(values, draw(st.sampled_from(["int64", "int32", "int8"]))).reshape(part)
            key.append(array.tolist() if kind == "list" else array)
            axis += 1
    if axis < len(shape) and gap == "...":
        key.append(...)
    x = np.arange(math.prod(shape), dtype="float64").reshape(shape)
    return x, tuple(key)


def numpy_key(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """An empty list is integers to us, as NumPy has it only at the top of a key."""
    return tuple(np.array(k, np.int64) if isinstance(k, list) else k for k in key)


def as_handles(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(constant(k) if isinstance(k, np.ndarray) else k for k in key)


@settings(max_examples=400, deadline=None)
@given(tensors_and_keys(), st.booleans())
def test_index_is_numpys(case: tuple[np.ndarray[Any, Any], tuple[Any, ...]], handles: bool) -> None:
    x, key = case
    try:
        wanted = x[numpy_key(key)]
    except IndexError:  # index arrays that do not broadcast
        with pytest.raises((ShapeError, IndexRangeError)):
            got(constant(x), key)
        return
    out = got(constant(x), as_handles(key) if handles else key)
    assert out.shape == wanted.shape
    np.testing.assert_array_equal(read(out), wanted, strict=True)


@settings(max_examples=400, deadline=None)
@given(tensors_and_keys(), st.data())
def test_index_update_is_numpys(case: tuple[np.ndarray[Any, Any], tuple[Any, ...]], data: Any) -> None:
    x, key = case
    try:
        shape = x[numpy_key(key)].shape
    except IndexError:
        return
    cut = data.draw(st.integers(0, len(shape)))
    part = tuple(1 if data.draw(st.booleans()) else n for n in shape[cut:])
    value = -1.0 - np.arange(math.prod(part)).reshape(part)
    wanted = x.copy()
    wanted[numpy_key(key)] = value
    value = value.reshape(data.draw(st.sampled_from([part, (1, 1, *part)])))  # NumPy takes that for most keys only
    node = constant(x)
    np.testing.assert_array_equal(read(updated(node, key, constant(value))), wanted, strict=True)
    np.testing.assert_array_equal(read(node), x)


STATIC = [np.s_[1], np.s_[:, -1], np.s_[::2, 1:3], np.s_[::-1, None, ::-2], np.s_[...], np.s_[1, 2, 3]]


@pytest.mark.parametrize("key", STATIC)
def test_a_key_of_integers_and_slices_records_no_index(key: Any) -> None:
    x = constant(np.arange(24.0).reshape(2, 3, 4))
    moves = {"slice", "flip", "reshape", "update_slice", "broadcast", "cast"}
    assert primitives(got(x, key, never)) <= moves
    assert primitives(updated(x, key, 0, never)) <= moves


@pytest.mark.parametrize(
    "key", [np.s_[::-1, [0, 2]], np.s_[[0, 2], ::-1], np.s_[::-2, None, [1, 1, 0]], np.s_[-1, ..., [2]]]
)
def test_arrays_beside_negative_steps(key: Any) -> None:
    x = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(read(got(constant(x), key)), x[key])
    wanted, value = x.copy(), -np.arange(1.0, x[key].size + 1).reshape(x[key].shape)
    wanted[key] = value
    np.testing.assert_array_equal(read(updated(constant(x), key, constant(value))), wanted)


def test_small_integers_count_from_the_end_of_a_long_axis() -> None:
    x = np.arange(300)
    for dtype in (np.int8, np.int16):
        np.testing.assert_array_equal(read(got(constant(x), constant(np.array([-1, -100], dtype)))), [299, 200])


def test_a_key_of_everything_gives_another_handle() -> None:
    x = holding(np.ones(3))
    y = index(x, slice(None), force=read, convert=constant)
    assert type(y) is Handle and y is not x and y.node is x.node


def test_handles_keep_their_class() -> None:
    x, i = holding(np.arange(12.0).reshape(3, 4)), holding([2, 0])
    options: dict[str, Any] = {"force": read, "convert": holding}
    for out in (index(x, i, **options), index(x, ([0, 1], [1, 2]), **options), index_update(x, i, 1, **options),
                index(x, x.node.buffer > 3, **options), take(x, i, axis=0), sort(x), topk(x, 2)[0], topk(x, 2)[1],
                one_hot(i, 3), tril(x), scatter_add(x, i, 1.0), take_along_axis(x, argsort(x)),
                searchsorted(holding([1.0, 2.0]), x)):  # fmt: skip
        assert type(out) is Handle


def test_a_tensor_of_shape_0_indexes_without_being_computed() -> None:
    x = np.arange(12.0).reshape(3, 4)
    i = constant(np.int64(-1))
    np.testing.assert_array_equal(read(got(constant(x), i, never)), x[-1])
    np.testing.assert_array_equal(read(got(constant(x), (slice(None), i), never)), x[:, -1])
    wanted = x.copy()
    wanted[-1] = 5
    np.testing.assert_array_equal(read(updated(constant(x), i, 5, never)), wanted)


def test_a_tensor_bounds_a_slice() -> None:
    out = got(constant(np.arange(5)), slice(constant(np.int64(1)), constant(np.int64(-1))))
    np.testing.assert_array_equal(read(out), [1, 2, 3])


@pytest.mark.parametrize("shape", [(), (3,), (3, 4)])
def test_a_mask_with_one_value_for_all_is_not_computed(shape: tuple[int, ...]) -> None:
    x = np.arange(12.0).reshape(3, 4)
    mask = x[(0,) * (2 - len(shape))] % 2 == 0 if len(shape) < 2 else x % 2 == 0
    mask = np.asarray(np.broadcast_to(np.array([True, False, True]), (3,)) if shape == (3,) else mask)
    wanted = x.copy()
    wanted[mask] = 7
    out = updated(constant(x), constant(mask), 7, never)
    np.testing.assert_array_equal(read(out), wanted)
    assert "scatter" not in primitives(out)


def test_the_value_is_cast_to_the_tensors_dtype() -> None:
    x = constant(np.arange(3, dtype=np.int32))
    for key in (0, [0], np.array([True, False, False])):
        out = updated(x, key, 2.75)
        assert out.dtype is dtypes.int32
        np.testing.assert_array_equal(read(out), [2, 1, 2])


def test_symbolic_sizes() -> None:
    x = Node(Placeholder(), (), Type((batch, 3, 8), dtypes.float32), ABSTRACT)
    i = constant([0, 2])
    wanted: list[tuple[Any, tuple[Any, ...]]] = [
        (np.s_[:, -1], (batch, 8)),
        (np.s_[:, :, 2:5], (batch, 3, 3)),
        (np.s_[..., None], (batch, 3, 8, 1)),
        (np.s_[::-1], (batch, 3, 8)),
        (np.s_[None, ..., ::-3], (1, batch, 3, 3)),
    ]
    for key, shape in wanted:
        assert got(x, key, never).shape == shape
    assert got(x, (slice(None), i)).shape == (batch, 2, 8)
    assert got(x, (i, slice(None), i)).shape == (2, 3)
    assert take(x, i, axis=2).shape == (batch, 3, 2)
    assert updated(x, (slice(None), -1), 0.0, never).shape == (batch, 3, 8)
    assert sort(x, axis=0).shape == (batch, 3, 8)
    assert take_along_axis(x, argsort(x, axis=0), axis=0).shape == (batch, 3, 8)


KEYS = [np.s_[:, -1], np.s_[0], np.s_[-1, 1:], np.s_[1:, 0], np.s_[::-1, None], np.s_[[1, 0]], np.s_[:, [2, 2]]]
LAST: list[Any] = [batch - 1, (batch - 1, 2), -batch]


@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("key", KEYS)
def test_symbolic_sizes_run(rows: int, key: Any) -> None:
    hole = Node(Placeholder(), (), Type((batch, 3), dtypes.float64), ABSTRACT)
    program = ENGINE.backend.compile(Graph([hole], [got(hole, key), updated(hole, key, 9)]))
    x = np.arange(3.0 * rows).reshape(rows, 3)
    wanted = x.copy()
    wanted[key] = 9
    found = program.run([x])
    np.testing.assert_array_equal(found[0], x[key])
    np.testing.assert_array_equal(found[1], wanted)


@pytest.mark.parametrize("key", LAST)
def test_a_symbolic_integer_picks(key: Any) -> None:
    hole = Node(Placeholder(), (), Type((batch, 3), dtypes.float64), ABSTRACT)
    program = ENGINE.backend.compile(Graph([hole], [got(hole, key)]))
    for rows in (1, 4):
        x = np.arange(3.0 * rows).reshape(rows, 3)
        number = tuple(substitute(k, {"batch": rows}) for k in (key if isinstance(key, tuple) else (key,)))
        np.testing.assert_array_equal(program.run([x])[0], x[number])


def test_an_integer_that_is_certainly_there_records_no_index() -> None:
    x = Node(Placeholder(), (), Type((batch + 1, 3), dtypes.float64), ABSTRACT)
    for key in (0, -1, batch):
        assert "gather" not in {n.op.name for n in Graph([x], [got(x, key)]).nodes}


def test_an_integer_on_a_symbolic_axis_is_checked_when_it_runs() -> None:
    hole = Node(Placeholder(), (), Type((batch, 3), dtypes.float64), ABSTRACT)
    program = ENGINE.backend.compile(Graph([hole], [got(hole, -1)]))
    with pytest.raises(Exception) as caught:
        program.run([np.zeros((0, 3))])
    assert str(caught.value.error).startswith("gather: index -1 is out of range for axis 0 with size 0")


# -- Messages ----------------------------------------------------------------------------------------------------------

X = np.zeros((3, 4))
NONE = "does not index; integers, slices, ..., None, integer arrays and masks do"
MESSAGES: list[tuple[Any, type[TrineError], str, str, str]] = [  # the key; then rule, got, try
    (np.s_[5], IndexRangeError, "index 5 is out of range for axis 0 with size 3", "", "an index from -3 to 2"),
    (np.s_[:, -5], IndexRangeError, "index -5 is out of range for axis 1 with size 4", "", "an index from -4 to 3"),
    (np.s_[0, 0, 0], IndexRangeError, "too many indices: the tensor has 2 axes, the key indexes 3", "", ""),
    (np.s_[..., ...], IndexRangeError, "a key has one ..., here it has 2", "", "write : for the others"),
    (1.5, DTypeError, f"a float {NONE}", ", 1.5", ""),
    ("a", DTypeError, f"a str {NONE}", ", 'a'", ""),
    ([[1], [1, 2]], DTypeError, f"a ragged list {NONE}", ", [[1], [1, 2]]", ""),
    (np.array([1.0]), DTypeError, f"a ndarray {NONE}", ", array([1.])", "i.astype(int)"),
    (constant([1.0]), DTypeError, f"a float64 tensor {NONE}", ", f64[1]", "x.astype(trine.int64)"),
    (np.ones((2, 4), bool), IndexRangeError,
     "a mask has the sizes of the axes it covers: on axis 0 the mask has 2, the tensor 3", ", a mask of [2, 4]", ""),
    (np.s_[::0], ArgumentError, "the step of a slice is not 0", ", [::0]", ""),
    (np.s_[1.0:], DTypeError, "the start is an integer, here it is of type float", ", 1.0", "// divides integers"),
    (np.s_[[0, 1], [0, 1, 2]], ShapeError, "sizes do not broadcast: on axis -1 they are 2 and 3", ", [2] and [3]", ""),
]  # fmt: skip


@pytest.mark.parametrize(("key", "kind", "rule", "given", "fix"), MESSAGES)
def test_keys_that_do_not_index(key: Any, kind: type[TrineError], rule: str, given: str, fix: str) -> None:
    for name, attempt in (("index", got), ("index_update", lambda x, k: updated(x, k, constant([0.0])))):
        with pytest.raises(kind) as caught:
            attempt(constant(X), key)
        error = caught.value
        assert (error.where, error.rule, error.got, error.fix) == (name, rule, f"f64[3, 4]{given}", fix)
        assert error.site is not None and error.site.filename == __file__


def test_an_index_array_out_of_range_raises_with_its_position() -> None:
    out = got(constant(X), (slice(None), [[0, 1], [2, 4]]))
    with pytest.raises(IndexRangeError) as caught:
        read(out)
    assert str(caught.value).splitlines()[0] == (
        "gather: index 4 at position [1, 1] is out of range for axis 1 with size 4"
    )
    assert str(caught.value).splitlines()[2:] == ["  got: f64[3, 4]", "  try: an index from -4 to 3"]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_an_index_out_of_range_raises_even_where_nothing_is_read(dtype: str) -> None:
    i = np.array([0, 100], dtype)
    for x in (np.zeros((100, 0)), np.zeros(100)):
        for op in (Gather((0,)), ScatterAdd((0,)), Scatter((0,))):
            rest = [] if isinstance(op, Gather) else [np.zeros((2, *x.shape[1:]))]
            with pytest.raises(IndexRangeError, match=r"index 100 at position \[1\] is out of range for axis 0"):
                op.reference(x, *rest, i)


def test_a_value_that_does_not_fit_the_key() -> None:
    for key in (0, [0, 1], np.array([True, False, True])):
        with pytest.raises(ShapeError, match=r"a value of shape \[3\] does not broadcast to the \[(2, )?4\] that"):
            updated(constant(X), key, constant(np.zeros(3)))


# -- Primitives against loops ------------------------------------------------------------------------------------------


def written(x: Any, updates: Any, axes: tuple[int, ...], indices: Any, adds: bool) -> Any:
    """Element by element in the order of the indices, in the dtype of `x`."""
    out = x.copy()
    others = [a for a in range(x.ndim) if a not in axes]
    for s in np.ndindex(indices[0].shape):
        for r in np.ndindex(*[x.shape[a] for a in others]):
            place = [0] * x.ndim
            for a, i in zip(axes, indices, strict=True):
                place[a] = int(i[s])
            for a, i in zip(others, r, strict=True):
                place[a] = i
            out[tuple(place)] = out[tuple(place)] + updates[(*s, *r)] if adds else updates[(*s, *r)]
    return out


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_scatter_and_scatter_add_follow_the_order_of_the_indices(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    axes = tuple(data.draw(st.permutations(range(len(shape)))))[: data.draw(st.integers(1, len(shape)))]
    common = data.draw(st.sampled_from([(), (4,), (2, 3), (0,)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=shape).astype(np.float32)
    # column-major indices: NumPy would walk them in the order of memory
    indices = [rng.integers(-shape[a], shape[a], common[::-1]).T for a in axes]
    updates = rng.normal(size=(*common, *[n for a, n in enumerate(shape) if a not in axes])).astype(np.float32)
    for op, adds in ((ScatterAdd(axes), True), (Scatter(axes), False)):
        found = op.reference(x, updates, *indices)
        np.testing.assert_array_equal(found, written(x, updates, axes, indices, adds))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_types_are_added_in_float32_and_round_once(dtype: Any) -> None:
    ones, i = np.ones(5000, dtype), np.zeros(5000, np.int64)
    out = ScatterAdd((0,)).reference(np.zeros(1, dtype), ones, i)
    assert out.dtype == dtype and out[0] == np.float32(5000).astype(dtype)


@pytest.mark.parametrize("dtype", [d.numpy for d in dtypes.ALL])
def test_every_dtype_moves(dtype: Any) -> None:
    x, i = np.arange(6).reshape(3, 2).astype(dtype), np.array([2, 0, 2])
    for out, wanted in ((Gather((0,)).reference(x, i), x[i]), (Scatter((0,)).reference(x, x[:1][[0, 0, 0]], i), None),
                        (Sort(0).reference(x[::-1]), x if dtype != np.bool_ else None),
                        (ScatterAdd((0,)).reference(x, x, i), None)):  # fmt: skip
        assert out.dtype == dtype
        if wanted is not None:
            np.testing.assert_array_equal(out, wanted)


# -- Gradients and batches ---------------------------------------------------------------------------------------------


def check_gradient(function: Callable[..., Node], *arrays: np.ndarray[Any, Any]) -> None:
    """The gradient of a weighted sum, and that of its square's gradient, against central differences."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=function(*map(constant, arrays)).shape)

    def loss(*nodes: Node) -> Node:
        out = function(*nodes)
        return total(multiply(multiply(out, out), constant(weights)))

    def slope(*nodes: Node) -> list[Node]:
        return [g for g in gradients([loss(*nodes)], [constant(1.0)], nodes) if g is not None]

    mixed = [rng.normal(size=a.shape) for a in arrays]

    def tilted(*nodes: Node) -> Node:
        parts = [total(multiply(g, constant(m))) for g, m in zip(slope(*nodes), mixed, strict=True)]
        return functools.reduce(add, parts)

    for scalar in (loss, tilted):
        leaves = _leaves(arrays)
        exact = gradients([scalar(*leaves)], [constant(1.0)], leaves)
        for k, array in enumerate(arrays):
            numeric = np.zeros(array.shape)
            for place in np.ndindex(array.shape):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = [a.copy() for a in arrays]
                    moved[k][place] += step
                    ends.append(float(read(scalar(*_leaves(moved)))))
                numeric[place] = (ends[0] - ends[1]) / 2e-5
            assert exact[k] is not None
            np.testing.assert_allclose(read(exact[k]), numeric, atol=1e-7)


def _leaves(arrays: Any) -> list[Node]:
    leaves = [constant(a) for a in arrays]
    for leaf in leaves:
        leaf.flags |= TRACKED
    return leaves


A, B = np.random.default_rng(0).permutation(12).reshape(3, 4) / 3.0, np.random.default_rng(1).normal(size=(2, 2, 4))
I = np.array([[0, 2], [2, -1]])  # noqa: E741 - the third row three times

GRADIENTS: dict[str, tuple[Callable[..., Node], tuple[Any, ...]]] = {
    "gather": (lambda x: apply(Gather((0,)), x, constant(I)), (A,)),
    "gather two": (lambda x: apply(Gather((1, 0)), x, constant(I), constant(I)), (A,)),
    "scatter_add": (lambda x, u: apply(ScatterAdd((0,)), x, u, constant(I)), (A, B)),
    "scatter": (lambda x, u: apply(Scatter((0,)), x, u, constant(I)), (A, B)),
    "scatter second axis": (lambda x, u: apply(Scatter((1,)), x, u, constant([1, 1, 3])), (A, A[:, 1:])),
    "sort": (lambda x: sort(x), (A,)),
    "sort down": (lambda x: sort(x, axis=0, descending=True), (A,)),
    "topk": (lambda x: topk(x, 2)[0], (A,)),
    "update": (lambda x, u: updated(x, (slice(None), [1, 1]), u), (A, A[:, :2])),
    "update slice": (lambda x, u: updated(x, np.s_[::-2, 1:3], u), (A, A[:2, :2])),
    "index": (lambda x: got(x, np.s_[::-1, None, [0, 0, 3]]), (A,)),
    "triangle": (lambda x: tril(x, k=1), (A,)),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_and_second_gradients(name: str) -> None:
    function, arrays = GRADIENTS[name]
    check_gradient(function, *arrays)


def test_an_overwritten_update_has_no_gradient() -> None:
    leaves = _leaves([np.zeros(3), np.array([1.0, 2.0, 3.0])])
    out = apply(Scatter((0,)), *leaves, constant([1, 1, 0]))
    dx, du = gradients([out], [constant([10.0, 20.0, 30.0])], leaves)
    np.testing.assert_array_equal(read(dx), [0, 0, 30])
    np.testing.assert_array_equal(read(du), [0, 20, 10])


BATCHED: list[tuple[Op, tuple[np.ndarray[Any, Any], ...]]] = [
    (Gather((1,)), (np.random.default_rng(2).normal(size=(2, 3, 4)), np.array([[0, -1, 1], [2, 2, 0]]))),
    (Gather((2, 0)), (np.random.default_rng(2).normal(size=(2, 3, 4)), np.array([3, 0, 1]), np.array([0, 1, 1]))),
    (ScatterAdd((1,)), (A.reshape(1, 3, 4), np.ones((5, 1, 4)), np.array([0, 1, 1, 2, -1]))),
    (Scatter((1, 0)), (A, np.arange(5.0), np.array([0, 1, 1, 2, -1]), np.array([0, 2, 2, 1, 1]))),
    (Sort(1, True), (A,)),
    (Argsort(0), (A,)),
    (Searchsorted("left"), (np.array([0.0, 1, 1, 2, np.nan]), np.array([[1.0, 3, np.nan], [0, -1, 1]]))),
    (Searchsorted("right"), (np.array([0.0, 1, 1, 2, np.nan]), np.array([[1.0, 3, np.nan], [0, -1, 1]]))),
    (Searchsorted("right"), (np.array([0, 1, 1, 2]), np.array([[1.0, 3, np.nan], [0, -1, 1]]))),
]


@pytest.mark.parametrize(("op", "arrays"), BATCHED, ids=lambda v: v.name if isinstance(v, Op) else "")
def test_batch_rules_are_loops(op: Op, arrays: tuple[np.ndarray[Any, Any], ...]) -> None:
    size = 3
    for batched in product([False, True], repeat=len(arrays)):
        if not any(batched):
            continue
        wide = [_varied(a, size) if has else a for a, has in zip(arrays, batched, strict=True)]
        if isinstance(op, Searchsorted) and batched[0]:
            wide[0] = np.sort(wide[0], axis=-1)
        out = read(op.batch(size, batched, *map(constant, wide)))
        loop = [op.reference(*[a[i] if has else a for a, has in zip(wide, batched, strict=True)]) for i in range(size)]
        np.testing.assert_array_equal(out, np.stack(loop), strict=True)


def _varied(array: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Rotations of an array: as many rows, all of them in range."""
    return np.stack([np.roll(array, i) for i in range(size)])


# -- Functions ---------------------------------------------------------------------------------------------------------


def test_take_along_axis_broadcasts_off_the_axis() -> None:
    x, i = np.arange(12.0).reshape(3, 4), np.array([[0, -1]])
    np.testing.assert_array_equal(read(take_along_axis(constant(x), constant(i), axis=1)), x[:, [0, 3]])
    found = take_along_axis(constant(x[:1]), constant([[0], [1], [2]]), axis=1)
    np.testing.assert_array_equal(read(found), [[0], [1], [2]])
    with pytest.raises(ShapeError, match="as many axes as the tensor, 2, not 1"):
        take_along_axis(constant(x), constant([0]))


def test_take_without_an_axis_is_for_one_axis() -> None:
    np.testing.assert_array_equal(read(take(constant([1, 2, 3]), constant([-1, 0]))), [3, 1])
    with pytest.raises(ArgumentError, match="axis must be given for a tensor of 2 axes"):
        take(constant(X), constant([0]))
    with pytest.raises(DTypeError, match="only integers index, not float64"):
        take(constant([1]), constant([0.0]))


def test_scatter_add_broadcasts_its_updates_and_counts_duplicates() -> None:
    out = scatter_add(constant(X), constant([1, 1, -1]), 2.0, axis=1)
    np.testing.assert_array_equal(read(out), np.tile([0.0, 4, 0, 2], (3, 1)))
    with pytest.raises(DTypeError, match="the updates are float32, the tensor is float64"):
        scatter_add(constant(X), constant([1]), constant(np.zeros((1, 4), np.float32)))


def test_one_hot_raises_out_of_range() -> None:
    out = one_hot(constant([[0, 2], [1, -1]]), 3)
    assert out.dtype is dtypes.float32
    np.testing.assert_array_equal(read(out), np.eye(3)[[[0, 2], [1, 2]]])
    with pytest.raises(IndexRangeError, match=r"index 3 at position \[1\] is out of range for axis 0 with size 3"):
        read(one_hot(constant([0, 3]), 3))


@pytest.mark.parametrize("k", range(-4, 6))
@pytest.mark.parametrize("dtype", ["float64", "int32", "bool"])
def test_triangles(k: int, dtype: str) -> None:
    x = np.arange(1, 25).reshape(2, 3, 4).astype(dtype)
    np.testing.assert_array_equal(read(tril(constant(x), k=k)), np.tril(x, k), strict=True)
    np.testing.assert_array_equal(read(triu(constant(x), k=k)), np.triu(x, k), strict=True)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_sort_puts_nan_last_and_is_stable(dtype: Any) -> None:
    x = np.array([np.nan, 1, -0.0, np.inf, 0.0, -1, np.nan, 1, -np.inf]).astype(dtype)
    up, down = [8, 5, 2, 4, 1, 7, 3, 0, 6], [0, 6, 3, 1, 7, 2, 4, 5, 8]
    np.testing.assert_array_equal(read(argsort(constant(x))), up)
    np.testing.assert_array_equal(read(argsort(constant(x), descending=True)), down)
    assert read(sort(constant(x))).tobytes() == x[up].tobytes()
    assert read(sort(constant(x), descending=True)).tobytes() == x[down].tobytes()
    assert read(argsort(constant(x))).dtype == np.int64


some = st.lists(st.integers(-4, 4), max_size=8)


@settings(max_examples=60, deadline=None)
@given(some, some, st.sampled_from(["left", "right"]))
def test_sort_and_searchsorted_are_numpys(values: list[int], wanted: list[int], side: Any) -> None:
    x, v = np.array(values, np.int64), np.array(wanted, np.int64)
    order = np.argsort(x, kind="stable")
    np.testing.assert_array_equal(read(argsort(constant(x))), order)
    np.testing.assert_array_equal(read(sort(constant(x), descending=True)), np.sort(x)[::-1])
    found = read(searchsorted(constant(x[order]), constant(v), side=side))
    np.testing.assert_array_equal(found, np.searchsorted(x[order], v, side))
    found = read(searchsorted(constant(x), constant(v), side=side, sorter=constant(order)))
    np.testing.assert_array_equal(found, np.searchsorted(x, v, side, order))


def test_topk() -> None:
    x = np.array([[1.0, 3, 3, 2], [np.nan, 0, 5, 4]])
    values, places = topk(constant(x), 2)
    np.testing.assert_array_equal(read(values), [[3, 3], [np.nan, 5]])
    np.testing.assert_array_equal(read(places), [[1, 2], [0, 2]])
    assert topk(constant(x), 0, axis=0)[0].shape == (0, 4)
    with pytest.raises(ArgumentError, match="k is 5, axis 1 has size 4"):
        topk(constant(x), 5)
    with pytest.raises(ArgumentError, match="the side is 'left' or 'right', not 'both'"):
        searchsorted(constant([1.0]), 2.0, side="both")
