"""Making tensors: from Python and NumPy in all forms, and by rule as NumPy does."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import trine
from trine.errors import ArgumentError, DTypeError, ShapeError


def same(found: trine.Tensor, wanted: Any, dtype: str | None = None) -> None:
    wanted = np.asarray(wanted)
    if dtype is not None:
        wanted = wanted.astype(dtype)
    assert found.dtype.numpy == wanted.dtype
    np.testing.assert_array_equal(found.numpy(), wanted)


# -- asarray -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3, "int64"), (3.5, "float32"), (True, "bool"), ([1, 2], "int64"), ([1, 2.5], "float32"), ([], "float32"),
        ([[True], [False]], "bool"), ((1, (2,)[0]), "int64"), (range(4), "int64"), ([[], []], "float32"),
        (np.float32(3), "float32"), (np.float64(3), "float64"), (np.int8(3), "int8"), (np.arange(3), "int64"),
        (np.ones((2, 0, 3), np.float16), "float16"), (np.array(5, np.uint32), "uint32"),
        (np.arange(12).reshape(3, 4)[::2, ::-1].T, "int64"), (np.arange(3, dtype=">i4"), "int32"),
        (bytearray(b"abc"), "uint8"), (memoryview(np.arange(3, dtype=np.int16)), "int16"),
        (np.ma.masked_array([1.0, 2.0]), "float64"), (2**63, "uint64"), (-(2**63), "int64"),
    ],
)  # fmt: skip
def test_values_and_their_dtypes(value: Any, dtype: str) -> None:
    same(trine.asarray(value), value, dtype)


def test_values_of_bfloat16() -> None:
    array = np.array([1.5, 2.25], ml_dtypes.bfloat16)
    x = trine.asarray(array)
    assert x.dtype is trine.bfloat16
    assert x.tolist() == [1.5, 2.25]
    assert x[0].item() == 1.5
    assert trine.asarray([1.5], dtype="bfloat16").dtype is trine.bfloat16


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("value", [[0, 1, 3], [0.0, 1.5, 2.0], np.array([0, 1, 1], np.int32), np.float32([0, 2.5])])
def test_a_dtype_that_is_asked_for(value: Any, dtype: str) -> None:
    same(trine.asarray(value, dtype=dtype), value, dtype)


def test_doubles_keep_their_digits_where_asked() -> None:
    assert trine.asarray(0.1, dtype="float64").item() == 0.1
    assert trine.asarray(0.1).item() == float(np.float32(0.1))
    assert trine.asarray([2**53 + 1]).item() == 2**53 + 1


def test_special_values_stay() -> None:
    found = trine.asarray([math.nan, math.inf, -math.inf, -0.0]).numpy()
    assert np.isnan(found[0])
    assert found[1:3].tolist() == [math.inf, -math.inf]
    assert np.signbit(found[3])


def test_nested_lists_of_tensors() -> None:
    x = trine.asarray([1.0, 2.0], requires_grad=True)
    y = trine.asarray([x, x * 2.0])
    same(y, [[1, 2], [2, 4]], "float32")
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("make", [lambda a: a, list, memoryview, lambda a: a[:], lambda a: a.T])
def test_what_is_copied_does_not_show_later_writes(make: Any) -> None:
    array = np.zeros(3, np.float32)
    x = trine.asarray(make(array))
    array[:] = 7
    assert x.tolist() == [0.0, 0.0, 0.0]


def test_memory_is_shared_where_promised() -> None:
    array = np.zeros(3, np.float32)
    x = trine.asarray(array, copy=False)
    assert np.shares_memory(x.numpy(), array)
    assert array.flags.writeable, "the caller's array is left as it is"
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 1.0


def test_a_tensor_is_returned_as_it_is_unless_something_changes() -> None:
    x = trine.asarray([1.0])
    assert trine.asarray(x) is x
    assert trine.asarray(x, dtype="float32", copy=False) is x or trine.asarray(x, copy=False) is x
    assert trine.asarray(x, copy=True) is not x
    assert trine.asarray(x, dtype="float64").dtype is trine.float64
    leaf = trine.asarray(x, requires_grad=True)
    assert leaf is not x
    assert leaf.requires_grad
    assert not x.requires_grad


def test_objects_with_an_array_inside() -> None:
    class Wrapper:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.array([1.0, 2.0])

    same(trine.asarray(Wrapper()), [1.0, 2.0], "float64")


@pytest.mark.parametrize(
    "value",
    ["text", ["a", "b"], None, object(), [None, 1.0], 1j, [2**70], {"a": 1}, np.datetime64("2020"), b"abc", {1, 2},
     np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")])],
)  # fmt: skip
def test_what_holds_no_numbers_is_refused(value: Any) -> None:
    with pytest.raises(DTypeError) as caught:
        trine.asarray(value)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("asarray: elements of type ")
    assert lines[0].endswith(" are no numbers")
    assert lines[1].startswith("  at test_creation.py:")
    assert lines[3].startswith("  try: convert them first")


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        trine.asarray([[1, 2], [3]])
    lines = str(caught.value).splitlines()
    assert lines[0] == "asarray: nested lists of different lengths make no tensor"
    assert lines[2:] == ["  got: [[1, 2], [3]]", "  try: pad them to one length"]


@pytest.mark.parametrize(
    ("value", "options"),
    [([1.0], {}), (3.0, {}), (np.zeros(2), {"dtype": "float32"}), (np.zeros(2, ">f4"), {}), (np.zeros(2, "c8"), {})],
)
def test_a_copy_that_cannot_be_avoided_is_refused(value: Any, options: dict[str, Any]) -> None:
    with pytest.raises((ArgumentError, DTypeError), match=r"asarray|complex"):
        trine.asarray(value, copy=False, **options)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(trine.errors.TrineError):
        trine.asarray([1.0], dtype="float31")


# -- By rule -----------------------------------------------------------------------------------------------------------

RANGES = [(5,), (0,), (-3,), (2, 5), (5, 2), (5, 2, -1), (0, 10, 3), (10, 0, -3), (-4, 4, 2), (7, 7), (0, 1, 5)]


@pytest.mark.parametrize("args", RANGES)
@pytest.mark.parametrize("dtype", [None, "int32", "float32", "float64"])
def test_arange_of_ints(args: tuple[int, ...], dtype: str | None) -> None:
    same(trine.arange(*args, dtype=dtype), np.arange(*args), dtype or "int64")


@pytest.mark.parametrize("args", [(2.5,), (0.0, 1.0, 0.1), (1.0, 0.0, -0.25), (0.5, 3), (0.0,), (1, 2, 0.3)])
def test_arange_of_floats(args: tuple[float, ...]) -> None:
    found = trine.arange(*args, dtype="float64")
    wanted = np.arange(*args)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-15, atol=1e-16)
    assert trine.arange(*args).dtype is trine.float32


def test_arange_is_exact_for_large_ints() -> None:
    big = 2**60
    assert trine.arange(big, big + 3).tolist() == [big, big + 1, big + 2]
    assert trine.arange(big, big + 7, 3).tolist() == [big, big + 3, big + 6]


def test_arange_of_numpy_numbers_and_tensors() -> None:
    same(trine.arange(np.int32(3)), [0, 1, 2], "int64")
    same(trine.arange(np.float32(0.5), np.float64(2)), [0.5, 1.5], "float32")
    same(trine.arange(trine.asarray(3)), [0, 1, 2], "int64")


def test_arange_of_an_open_size() -> None:
    graph = trine.trace(lambda x: (trine.arange(x.shape[0]), trine.arange(1, x.shape[0], 2),
                                   trine.arange(x.shape[0], 2 * x.shape[0])), trine.spec(("n",)))  # fmt: skip
    for n in (0, 1, 2, 5, 6):
        if n:
            found = graph.run(np.ones(n, np.float32))
            assert [f.tolist() for f in found] == [list(range(n)), list(range(1, n, 2)), list(range(n, 2 * n))]


@pytest.mark.parametrize("args", [(0, 5, 0), (0.0, 1.0, 0.0), (math.inf,), (0, math.nan), ("a",)])
def test_arange_refuses(args: tuple[Any, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"arange: (the step is 0|takes finite numbers)"):
        trine.arange(*args)


@pytest.mark.parametrize("num", [0, 1, 2, 5, 50])
@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize(("start", "stop"), [(0, 1), (-1.5, 7.25), (3, 3), (5, -5)])
def test_linspace(num: int, endpoint: bool, start: float, stop: float) -> None:
    found = trine.linspace(start, stop, num, endpoint=endpoint, dtype="float64")
    np.testing.assert_allclose(found.numpy(), np.linspace(start, stop, num, endpoint=endpoint), rtol=1e-14, atol=1e-15)
    if num > 1 and endpoint:
        assert found[-1].item() == stop
    assert trine.linspace(start, stop, num).dtype is trine.float32


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_linspace_rounds_integers_down(dtype: str) -> None:
    same(trine.linspace(-3, 3, 8, dtype=dtype), np.linspace(-3, 3, 8, dtype=dtype))


def test_linspace_refuses() -> None:
    with pytest.raises(ArgumentError, match="the number of points is an int"):
        trine.linspace(0, 1, 2.5)
    with pytest.raises(ArgumentError, match="takes finite numbers"):
        trine.linspace(0, math.inf, 3)
    with pytest.raises(ArgumentError, match="the number of points is an int, 0 or more"):
        trine.linspace(0, 1, -1)


@pytest.mark.parametrize(("rows", "columns", "k"), [*itertools.product([0, 1, 3], [None, 0, 2, 5], [-2, 0, 1, 7])])
def test_eye(rows: int, columns: int | None, k: int) -> None:
    same(trine.eye(rows, columns, k=k), np.eye(rows, columns, k=k), "float32")


def test_eye_of_a_dtype() -> None:
    same(trine.eye(2, dtype="int8"), np.eye(2), "int8")
    same(trine.eye(2, dtype="bool"), np.eye(2), "bool")


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_meshgrid(indexing: str, count: int) -> None:
    arrays = [np.arange(n + 1, dtype=np.float32) for n in range(count)]
    found = trine.meshgrid(*[trine.asarray(a) for a in arrays], indexing=indexing)
    wanted = np.meshgrid(*arrays, indexing=indexing)
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        same(f, w)


def test_meshgrid_refuses() -> None:
    with pytest.raises(ArgumentError, match='indexing is "xy" or "ij"'):
        trine.meshgrid(trine.ones(2), indexing="yx")
    with pytest.raises(ShapeError, match="takes vectors, not 2 axes"):
        trine.meshgrid(trine.ones((2, 2)), trine.ones(2))


@pytest.mark.parametrize("shape", [(), 3, (2, 3), (0, 2), [2, 2]])
def test_constants_of_a_shape(shape: Any) -> None:
    same(trine.zeros(shape), np.zeros(shape), "float32")
    same(trine.ones(shape, dtype="int8"), np.ones(shape), "int8")
    same(trine.empty(shape), np.zeros(shape), "float32")
    same(trine.full(shape, 3), np.full(shape, 3), "int64")
    same(trine.full(shape, 2.5), np.full(shape, 2.5), "float32")
    same(trine.full(shape, True), np.full(shape, True), "bool")
    x = trine.full(shape, 7, dtype="float64")
    same(trine.zeros_like(x), np.zeros(shape), "float64")
    same(trine.ones_like(x, dtype="int32"), np.ones(shape), "int32")
    same(trine.full_like(x, 4), np.full(shape, 4), "float64")
    same(trine.empty_like(x), np.zeros(shape), "float64")


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DTypeError, match="300 is not a value of int8"):
        trine.full((2,), 300, dtype="int8")
    with pytest.raises(DTypeError, match=r"2\.5 is not a value of int64"):
        trine.full((2,), 2.5, dtype="int64")
    with pytest.raises(ArgumentError, match="sizes are 0 or more"):
        trine.zeros((2, -1))
