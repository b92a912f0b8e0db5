"""Sizes and shape rules against integer arithmetic, NumPy and Python's own slices."""

from __future__ import annotations

import copy
import math
import operator
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trine.errors import ArgumentError, DTypeError, ShapeError, TrineError
from trine.shapes import (
    Dim,
    Size,
    bind,
    bind_all,
    broadcast,
    check,
    conv_size,
    evaluate,
    format_shape,
    max_size,
    min_size,
    normalize_axes,
    normalize_axis,
    normalize_slice,
    parse,
    reshape,
    same,
    same_padding,
    size_of,
    substitute,
    symbols,
)

batch, n, m = Dim.symbol("batch"), Dim.symbol("n"), Dim.symbol("m")
NAMES = ("batch", "m", "n")

# --- random expressions: a tree that is read twice, once with symbols and once with numbers

OPERATORS: dict[str, Callable[[Size, Size], Size]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "max": max_size,
    "min": min_size,
}
PLAIN = {**OPERATORS, "max": max, "min": min}
Tree = int | str | tuple[str, "Tree", "Tree"]

leaves = st.one_of(st.integers(-6, 6), st.sampled_from(NAMES))
trees = st.recursive(leaves, lambda t: st.tuples(st.sampled_from(sorted(OPERATORS)), t, t), max_leaves=7)
values = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


def read(tree: Tree, leaf: Callable[[str], Size], table: dict[str, Callable[[Size, Size], Size]]) -> Size:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return leaf(tree)
    return table[tree[0]](read(tree[1], leaf, table), read(tree[2], leaf, table))


def symbolic(tree: Tree) -> Size:
    """The size of a tree; trees that divide by the constant 0 are not drawn further."""
    try:
        return read(tree, Dim.symbol, OPERATORS)
    except (ShapeError, ZeroDivisionError):
        assume(False)
        raise


def numeric(tree: Tree, env: dict[str, int]) -> int:
    """The number of a tree; bindings that divide by 0 are not drawn further."""
    try:
        number = read(tree, env.__getitem__, PLAIN)
    except ZeroDivisionError:
        assume(False)
        raise
    assert isinstance(number, int)
    return number


def number_of(size: Size, env: dict[str, int]) -> int:
    """`evaluate` for results of any sign."""
    return evaluate(size + 10**12, env) - 10**12


@settings(max_examples=400)
@given(trees, values)
def test_arithmetic_agrees_with_integers_under_every_binding(tree: Tree, env: dict[str, int]) -> None:
    size, number = symbolic(tree), numeric(tree, env)
    assert number_of(size, env) == number
    assert substitute(size, env) == number
    if number >= 0:
        assert evaluate(size, env) == number
    else:
        with pytest.raises(ShapeError, match=f"is {number}, sizes are 0 or more"):
            evaluate(size, env)


@settings(max_examples=300)
@given(trees)
def test_text_reads_back_as_the_same_size(tree: Tree) -> None:
    size = symbolic(tree)
    again = parse(str(size))
    assert again == size and hash(again) == hash(size) and str(again) == str(size)


@given(trees, values)
def test_text_is_the_arithmetic_that_python_reads(tree: Tree, env: dict[str, int]) -> None:
    size, number = symbolic(tree), numeric(tree, env)
    assert eval(str(size), {"max": max, "min": min}, env) == number


@settings(max_examples=200)
@given(trees, trees, trees)
def test_equal_polynomials_are_equal_however_they_are_written(x: Tree, y: Tree, z: Tree) -> None:
    a, b, c = symbolic(x), symbolic(y), symbolic(z)
    for left, right in (
        ((a + b) * c, c * b + a * c),
        (a - b, -(b - a)),
        ((a + b) + c, a + (c + b)),
        (max_size(a, b), max_size(b, a)),
        (min_size(a, b) + max_size(a, b), a + b),
        ((a * 12) // 4, a * 3),
        ((a + b) * (a - b), a * a - b * b),
    ):
        assert left == right and hash(left) == hash(right) and same(left, right) is True


@settings(max_examples=300)
@given(trees, trees, values)
def test_what_is_decided_about_two_sizes_holds_under_every_binding(x: Tree, y: Tree, env: dict[str, int]) -> None:
    a, b = symbolic(x), symbolic(y)
    left, right = numeric(x, env), numeric(y, env)
    assert same(a, b) in (None, left == right)
    for sign in (operator.lt, operator.le, operator.gt, operator.ge):
        try:
            answer = sign(a, b)
        except ShapeError:
            continue
        assert answer == sign(left, right)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(trees, st.fixed_dictionaries({name: trees for name in NAMES}), values)
def test_substitution_then_evaluation_is_evaluation_of_both(
    tree: Tree, inner: dict[str, Tree], env: dict[str, int]
) -> None:
    sizes = {name: symbolic(part) for name, part in inner.items()}
    numbers = {name: numeric(part, env) for name, part in inner.items()}
    assume(min(numbers.values()) >= 0)
    size, number = symbolic(tree), numeric(tree, numbers)
    try:
        replaced = substitute(size, sizes)
    except ShapeError:
        assume(False)
    assert number_of(replaced, env) == number
    assert symbols(replaced) <= frozenset().union(*map(symbols, sizes.values()))


# --- Dim by example


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (batch, "batch"),
        (2 * batch + 1, "2*batch + 1"),
        (3 - batch, "-batch + 3"),
        (-(batch // 2), "-(batch//2)"),
        ((batch + 1) // 2, "(batch + 1)//2"),
        ((n - 1) // 2, "(n + 1)//2 - 1"),
        (-(-n // 4), "(n + 3)//4"),
        (3 * (n // 4) * m, "3*m*(n//4)"),
        (n % 4 + 1, "n%4 + 1"),
        ((n + m) // (m + 1), "(m + n)//(m + 1)"),
        (7 // n, "7//n"),
        (-7 // n, "(-7)//n"),
        (n * n * m - n, "m*n*n - n"),
        (max_size(n - 1, 0), "max(n - 1, 0)"),
        (min_size(n, 3), "min(n, 3)"),
        (max_size(n, 3), "max(n - 3, 0) + 3"),
    ],
)
def test_text_of_a_size(size: Size, text: str) -> None:
    assert str(size) == repr(size) == text


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((batch * 28 * 28) // 784, batch),
        ((6 * n) // (2 * n), 3),
        ((6 * n) // (4 * n), 1),
        ((n * m + m) // m, n + 1),
        ((n * n - m * m) // (n + m), n - m),
        ((5 * n + 7) // 5, n + 1),
        ((2 * n + 1) // 4, n // 2),
        (((n + 1) // 2 + 1) // 2, (n + 3) // 4),
        ((n % 4) // 4, 0),
        (n // (n + 1), 0),
        ((8 * n) % 4, 0),
        ((n * m) % n, 0),
        ((n % 4) % 8, n % 4),
        (n % -4, -((-n) % 4)),
        ((6 * n + 5) % 4, 2 * (n % 2) + 1),
        (n - n, 0),
        (0 * n, 0),
        (max_size(n, 0), n),
        (max_size(max_size(n - 1, 0) - 1, 0), max_size(n - 2, 0)),
        (max_size(2 * n - 2, 0), 2 * max_size(n - 1, 0)),
        (min_size(n, n + 1), n),
        (0 // n, 0),
        (0 % n, 0),
        (1 % (n % 2), 0),
    ],
)
def test_what_simplifies(size: Size, expected: Size) -> None:
    assert size == expected and type(size) is type(expected)


def test_a_dim_is_an_immutable_value() -> None:
    size = 2 * batch + 1
    assert {size: 1}[1 + batch + batch] == 1
    for again in (pickle.loads(pickle.dumps(size)), copy.copy(size), copy.deepcopy(size)):
        assert again == size
    with pytest.raises(AttributeError, match="a Dim does not change: _hash cannot be set"):
        size._hash = 0
    assert batch != 1 and batch != "batch" and not operator.eq(1, batch)


def test_integers_of_numpy_are_numbers() -> None:
    assert np.int64(3) * batch == batch * np.int64(3) == 3 * batch
    assert np.int32(7) // n == 7 // n and type(np.int64(1) + (n - n)) is np.int64
    assert np.int64(-1) < batch


def test_other_operands_are_left_to_their_own_class() -> None:
    class Other:
        def __radd__(self, size: Dim) -> str:
            return f"other + {size}"

        def __index__(self) -> int:
            raise AssertionError("not asked for its number")

    assert batch + Other() == "other + batch"
    for sign in (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.lt, operator.ge):
        with pytest.raises(TypeError):
            sign(batch, 1.5)
        with pytest.raises(TypeError):
            sign(1.5, batch)


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        (n, n, True),
        (n, -1, False),
        (n, n + 1, False),
        (2 * n, 5, False),
        (n, 1, None),
        (n, m, None),
        (4 * (n // 4) + n % 4, n, True),
        (n % 4, 4, False),
        (n // 2, n + 1, False),
        (3, 3, True),
        (3, 4, False),
    ],
)
def test_what_is_known_about_equality(a: Size, b: Size, answer: bool | None) -> None:
    assert same(a, b) is answer and same(b, a) is answer


@pytest.mark.parametrize(
    "size",
    [
        n,
        n * m + 3,
        n - n // 2,
        n - n % 3,
        n - max_size(n - 1, 0),
        max_size(n - 1, 0) - n + 1,
        n - 4 * (n // 4),
        3 - n % 4,
        n - n // (m + 1),
        n + 1 - (n + 1) // 2 - n // 2,
        (n + 3) // 4 - n // 4,
    ],
)
def test_sizes_that_are_proved_not_to_be_negative(size: Size) -> None:
    assert size >= 0 and size > -1 and not size < 0 and not size <= -1 and operator.le(0, size)


def test_truth_and_numbers_where_only_one_answer_is_possible() -> None:
    assert bool(n + 1) and bool(-n - 1)
    zero = n % 4 - n + 4 * (n // 4)
    assert isinstance(zero, Dim) and not bool(zero)
    assert int(zero) == 0 and list(range(zero)) == []


# --- whole messages


def error(kind: type[TrineError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value.with_traceback(None))  # without the line that it finds there


MESSAGES: list[tuple[type[TrineError], Callable[[], object], str]] = [
    (
        ShapeError,
        lambda: batch < 10,
        "size: it is open whether batch < 10: batch can be any size from 0 up\n"
        "  try: give batch as a number in trine.spec, or write the step so that it need not know",
    ),
    (
        ShapeError,
        lambda: n - m <= 3,
        "size: it is open whether -m + n <= 3: m and n can be any size from 0 up\n"
        "  try: give m and n as numbers in trine.spec, or write the step so that it need not know",
    ),
    (
        ShapeError,
        lambda: bool(batch),
        "size: it is open whether batch is 0: batch can be any size from 0 up\n"
        "  try: give batch as a number in trine.spec, or write the step so that it need not know",
    ),
    (
        ShapeError,
        lambda: range(batch),
        "size: it is open which number batch is: batch can be any size from 0 up\n"
        "  try: give batch as a number in trine.spec, or write the step so that it need not know",
    ),
    (
        ArgumentError,
        lambda: Dim.symbol("batch size"),
        "size: the name of a size is an identifier other than max and min\n"
        "  got: 'batch size'\n"
        "  try: a name such as batch",
    ),
    (
        ArgumentError,
        lambda: Dim.symbol("max"),
        "size: the name of a size is an identifier other than max and min\n  got: 'max'\n  try: a name such as batch",
    ),
    (ShapeError, lambda: batch // 0, "size: batch is divided by 0\n  try: a divisor of 1 or more"),
    (ShapeError, lambda: batch % (n - n), "size: batch is divided by 0\n  try: a divisor of 1 or more"),
    (
        ArgumentError,
        lambda: parse("2*batch + $"),
        "size: the text is no size from '$' at position 10 on\n  got: '2*batch + $'\n  try: a size such as 2*batch + 1",
    ),
    (
        ArgumentError,
        lambda: parse("(n + 1"),
        "size: the text is no size from its end on\n  got: '(n + 1'\n  try: a size such as 2*batch + 1",
    ),
    (
        ArgumentError,
        lambda: parse("n n"),
        "size: the text is no size from 'n' at position 2 on\n  got: 'n n'\n  try: a size such as 2*batch + 1",
    ),
    (
        ArgumentError,
        lambda: parse(""),
        "size: the text is no size from its end on\n  got: ''\n  try: a size such as 2*batch + 1",
    ),
    (ShapeError, lambda: evaluate(n - 3, {"n": 2}), "size: n - 3 is -1, sizes are 0 or more\n  got: n = 2"),
    (ShapeError, lambda: evaluate(-3, {}), "size: -3 is -3, sizes are 0 or more"),
    (ShapeError, lambda: evaluate(n + m, {"n": 2}, "run"), "run: m + n has no value while m has none\n  got: n = 2"),
    (ShapeError, lambda: evaluate(5 // n, {"n": 0}), "size: 5//n divides by 0\n  got: n = 0"),
    (ArgumentError, lambda: evaluate(n, {"n": -2}), "size: the size n is -2, sizes are 0 or more"),
    (
        ShapeError,
        lambda: bind("step", (batch, 784), (16, 784), {"batch": 32}),
        "step: batch is 32 from an earlier argument, here it is 16\n  got: [16, 784] for [batch, 784]",
    ),
    (
        ShapeError,
        lambda: bind("step", (n, n), (3, 4), {}),
        "step: n is 3 from an earlier axis, here it is 4\n  got: [3, 4] for [n, n]",
    ),
    (
        ShapeError,
        lambda: bind("step", (2 * n + 1,), (8,), {"n": 3}),
        "step: 2*n + 1 is 7, where n = 3 from an earlier argument; here it is 8\n  got: [8] for [2*n + 1]",
    ),
    (
        ShapeError,
        lambda: bind("step", (2 * n,), (7,), {}),
        "step: no size n makes 2*n equal 7\n  got: [7] for [2*n]",
    ),
    (
        ShapeError,
        lambda: bind("step", (n + m,), (7,), {"m": 9}),
        "step: no size n makes m + n equal 7 where m = 9\n  got: [7] for [m + n]",
    ),
    (
        ShapeError,
        lambda: bind("step", (batch, 784), (16, 100), {}),
        "step: axis 1 is 784 in the specification, here it is 100\n  got: [16, 100] for [batch, 784]",
    ),
    (
        ShapeError,
        lambda: bind("step", (batch, 784), (16,), {}),
        "step: the specification has 2 axes, here there is 1\n  got: [16] for [batch, 784]",
    ),
    (
        ShapeError,
        lambda: bind_all("step", [(n // 2,)], [(4,)]),
        "step: n//2 does not determine n\n  got: [4] for [n//2]\n  try: an argument that has n as a size of its own",
    ),
    (
        ShapeError,
        lambda: bind_all("step", [(n,)], [(4,), (5,)]),
        "step: the specification has 1 shape, 2 came",
    ),
    (
        ShapeError,
        lambda: broadcast("add", (2, 3), (2, 4)),
        "add: sizes do not broadcast: on axis -1 they are 3 and 4\n  got: [2, 3] and [2, 4]",
    ),
    (
        ShapeError,
        lambda: broadcast("add", (2, 1), (3,), (batch, n, 3)),
        "add: sizes do not broadcast: on axis -2 they are n and 2, which cannot be shown to be equal\n"
        "  got: [2, 1], [3] and [batch, n, 3]\n"
        "  try: 2 in place of n in trine.spec if they are equal, 1 if n is to be stretched",
    ),
    (
        ShapeError,
        lambda: broadcast("add", (batch, 3), (n, 3)),
        "add: sizes do not broadcast: on axis -2 they are batch and n, which cannot be shown to be equal\n"
        "  got: [batch, 3] and [n, 3]\n"
        "  try: one name for both sizes in trine.spec if they are equal, a size of 1 if one is to be stretched",
    ),
    (
        ShapeError,
        lambda: broadcast("add", (32, 3), (batch, 3)),
        "add: sizes do not broadcast: on axis -2 they are 32 and batch, which cannot be shown to be equal\n"
        "  got: [32, 3] and [batch, 3]\n"
        "  try: 32 in place of batch in trine.spec if they are equal, 1 if batch is to be stretched",
    ),
    (
        ArgumentError,
        lambda: normalize_axis("sum", 3, 2),
        "sum: axis 3 is out of range for a tensor with 2 axes\n  try: an axis from -2 to 1",
    ),
    (ArgumentError, lambda: normalize_axis("sum", 0, 0), "sum: axis 0 is out of range for a tensor with 0 axes"),
    (
        ArgumentError,
        lambda: normalize_axes("sum", (0, -2), 1),
        "sum: axis -2 is out of range for a tensor with 1 axis\n  try: an axis from -1 to 0",
    ),
    (
        ArgumentError,
        lambda: normalize_axes("sum", (0, 1, -2), 2),
        "sum: axis 0 is named twice\n  got: axis=(0, 1, -2)",
    ),
    (
        DTypeError,
        lambda: normalize_axis("sum", 1.0, 2),
        "sum: axis is an integer, here it is of type float\n  got: 1.0\n  try: // divides integers",
    ),
    (
        ShapeError,
        lambda: reshape("reshape", (2, 6), (3, 5)),
        "reshape: the tensor has 12 elements, the new shape has 15\n  got: [2, 6] to [3, 5]\n"
        "  try: [3, -1], which gives [3, 4]",
    ),
    (
        ShapeError,
        lambda: reshape("reshape", (2, 6), (5, -1)),
        "reshape: 12 elements do not divide by 5 to give the size -1\n  got: [2, 6] to [5, -1]",
    ),
    (
        ShapeError,
        lambda: reshape("reshape", (0, 3), (0, -1)),
        "reshape: -1 can be any size, for the other sizes multiply to 0\n  got: [0, 3] to [0, -1]",
    ),
    (
        ShapeError,
        lambda: reshape("reshape", (batch, 28, 28), (32, 784)),
        "reshape: the tensor has 784*batch elements, the new shape has 25088, which cannot be shown to be equal\n"
        "  got: [batch, 28, 28] to [32, 784]\n"
        "  try: give batch as a number in trine.spec",
    ),
    (
        ShapeError,
        lambda: reshape("reshape", (batch, n), (-1, 7)),
        "reshape: batch*n elements cannot be shown to divide by 7 to give the size -1\n"
        "  got: [batch, n] to [-1, 7]\n"
        "  try: give batch and n as numbers in trine.spec",
    ),
    (
        ShapeError,
        lambda: reshape("reshape", (batch, 4), (batch, 5)),
        "reshape: the tensor has 4*batch elements, the new shape has 5*batch, which cannot be shown to be equal\n"
        "  got: [batch, 4] to [batch, 5]\n"
        "  try: give batch as a number in trine.spec",
    ),
    (
        ArgumentError,
        lambda: reshape("reshape", (4,), (-1, -1)),
        "reshape: one size can be -1, here axes 0 and 1 are\n  got: [4] to [-1, -1]",
    ),
    (
        ArgumentError,
        lambda: reshape("reshape", (4,), (-2, 2)),
        "reshape: axis 0 is to have the size -2, sizes are 0 or more\n  got: [4] to [-2, 2]",
    ),
    (
        DTypeError,
        lambda: reshape("reshape", (4,), (2.0, 2)),
        "reshape: a size is an integer, here it is of type float\n  got: 2.0\n  try: // divides integers",
    ),
    (
        ShapeError,
        lambda: conv_size("conv", 4, 3, 1, 2, 0, 0),
        "conv: the window spans 5 elements, the padded axis has 4\n"
        "  got: size 4, kernel 3, dilation 2, padding (0, 0)\n"
        '  try: a smaller kernel, or padding="same"',
    ),
    (ArgumentError, lambda: conv_size("conv", 4, 3, 0, 1, 0, 0), "conv: the stride is 1 or more, here it is 0"),
    (ArgumentError, lambda: conv_size("conv", 4, 0, 1, 1, 0, 0), "conv: the kernel is 1 or more, here it is 0"),
    (
        ShapeError,
        lambda: same_padding(n, 3, 2, 1),
        "same padding: the padding depends on n%2, which is open\n"
        "  got: size n, kernel 3, stride 2, dilation 1\n"
        "  try: give n as a number in trine.spec, or a size such as 2*n, or padding as numbers",
    ),
    (
        ArgumentError,
        lambda: normalize_slice("slice", slice(1, None, 0), 4),
        "slice: the step of a slice is not 0\n  got: [1::0]",
    ),
    (
        ShapeError,
        lambda: normalize_slice("slice", slice(None, n - 3), n),
        "slice: it is open whether the bound n - 3 counts from the front or, negative, from the back\n"
        "  try: give n as a number in trine.spec, or max(bound, 0)",
    ),
    (
        ShapeError,
        lambda: normalize_slice("slice", slice(None, None, n), 4),
        "slice: the step of a slice is a number, here it is n\n  try: give n as a number in trine.spec",
    ),
    (
        DTypeError,
        lambda: normalize_slice("slice", slice(1.5, None), 4),
        "slice: the start is an integer, here it is of type float\n  got: 1.5",
    ),
]


@pytest.mark.parametrize(("kind", "call", "text"), MESSAGES, ids=[text.split("\n")[0] for _, _, text in MESSAGES])
def test_whole_message(kind: type[TrineError], call: Callable[[], object], text: str) -> None:
    assert error(kind, call) == text


# --- binding


def test_sizes_are_bound_across_arguments_in_any_order() -> None:
    specs = [(n * m, 3), (n + 2 * m,), (2 * m - 1, m // 2), (n // 2,)]
    actuals = [(20, 3), (14,), (9, 2), (2,)]
    assert bind_all("step", specs, actuals) == {"n": 4, "m": 5}
    assert bind_all("step", specs[::-1], actuals[::-1]) == {"n": 4, "m": 5}
    assert bind_all("step", [(2, 3), ()], [(2, 3), ()]) == {}


def test_a_symbol_that_an_empty_axis_hides_is_not_determined() -> None:
    assert error(ShapeError, lambda: bind_all("step", [(n, n * m)], [(0, 0)])) == (
        "step: m*n does not determine m\n  got: [0, 0] for [n, m*n]\n  try: an argument that has m as a size of its own"
    )
    assert bind_all("step", [(n, n * m), (m,)], [(0, 0), (4,)]) == {"n": 0, "m": 4}


def test_bind_leaves_what_it_cannot_solve_to_check() -> None:
    bindings: dict[str, int] = {}
    bind("step", (n * m, n // 2), (6, 1), bindings)
    assert bindings == {}
    bind("step", (n,), (2,), bindings)
    check("step", (n // 2, n), (1, 2), bindings)
    assert bindings == {"n": 2}
    assert error(ShapeError, lambda: check("step", (n * m,), (6,), bindings)).startswith(
        "step: m*n does not determine m\n"
    )
    assert error(ShapeError, lambda: check("step", (n,), (3,), bindings)).startswith("step: n is 2 from an earlier")


@given(st.lists(st.lists(trees, max_size=3), max_size=3), values)
def test_binding_recovers_the_values(shapes: list[list[Tree]], env: dict[str, int]) -> None:
    for tree in (tree for shape in shapes for tree in shape):
        assume(numeric(tree, env) >= 0)
    specs = [tuple(map(symbolic, shape)) for shape in shapes]
    actuals = [tuple(numeric(tree, env) for tree in shape) for shape in shapes]
    specs.append((batch, 2 * n + 3, m + n))
    actuals.append((env["batch"], 2 * env["n"] + 3, env["m"] + env["n"]))
    assert bind_all("step", specs, actuals) == env


@given(st.lists(st.sampled_from([n, m, 2 * n + 1, n + m, n * m, 3]), max_size=4), st.data())
def test_a_binding_that_succeeds_reproduces_the_shape(spec: list[Size], data: st.DataObject) -> None:
    actual = tuple(data.draw(st.integers(0, 9)) for _ in spec)
    try:
        env = bind_all("step", [tuple(spec)], [actual])
    except ShapeError:
        for a, b in ((a, b) for a in range(10) for b in range(10)):
            found = tuple(evaluate(size, {"n": a, "m": b}) for size in spec) == actual
            assert not found or not {"n", "m"} <= {str(size) for size in spec}
    else:
        assert tuple(evaluate(size, env) for size in spec) == actual


# --- shapes

small_shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)


@given(st.lists(small_shapes, max_size=3))
def test_broadcast_agrees_with_numpy(shapes: list[tuple[int, ...]]) -> None:
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ShapeError, match="sizes do not broadcast"):
            broadcast("add", *shapes)
    else:
        assert broadcast("add", *shapes) == expected


def test_broadcast_of_symbols() -> None:
    assert broadcast("add", (batch, 1), (1, n)) == (batch, n)
    assert broadcast("add", (1,), (batch, n), (n,), (batch, 1)) == (batch, n)
    assert broadcast("add", (4 * (n // 4) + n % 4,), (n,)) == (4 * (n // 4) + n % 4,)
    assert "-1 they are n and n + 1\n" in error(ShapeError, lambda: broadcast("add", (n,), (n + 1,)))


@given(small_shapes, st.lists(st.integers(-1, 4), max_size=4))
def test_reshape_agrees_with_numpy(shape: tuple[int, ...], new: list[int]) -> None:
    try:
        expected = np.zeros(shape).reshape(new).shape
    except ValueError:
        with pytest.raises((ShapeError, ArgumentError)):
            reshape("reshape", shape, new)
    else:
        assert reshape("reshape", shape, new) == expected


@pytest.mark.parametrize(
    ("shape", "new", "expected"),
    [
        ((batch, 28, 28), (batch, -1), (batch, 784)),
        ((batch, 28, 28), (-1, 784), (batch, 784)),
        ((batch, 28, 28), (batch, 784), (batch, 784)),
        ((batch, n, 8, 16), (batch, n, -1), (batch, n, 128)),
        ((batch, n, 128), (batch * n, -1), (batch * n, 128)),
        ((batch, 2 * n), (-1, 2), (batch * n, 2)),
        ((batch * n + n, 3), (batch + 1, -1), (batch + 1, 3 * n)),
        ((4 * (n // 4), 2), (n // 4, -1), (n // 4, 8)),
        ((4 * (n // 4) + n % 4,), (n,), (n,)),
        ((batch,), (batch, 1, 1), (batch, 1, 1)),
        ((np.int64(6),), (np.int64(2), 3), (2, 3)),
    ],
)
def test_reshape_of_symbols(shape: tuple[Size, ...], new: tuple[Size, ...], expected: tuple[Size, ...]) -> None:
    assert reshape("reshape", shape, new) == expected


def test_number_of_elements() -> None:
    assert size_of(()) == 1 and size_of((2, 3)) == 6 and size_of((batch, 28, 28)) == 784 * batch
    assert size_of((batch, 0)) == 0


def test_format_of_a_shape() -> None:
    assert format_shape((32, batch, 2 * n + 1)) == "[32, batch, 2*n + 1]"
    assert format_shape(()) == "[]"


@given(st.integers(0, 4), st.data())
def test_axes_agree_with_numpy(ndim: int, data: st.DataObject) -> None:
    axes = data.draw(st.one_of(st.integers(-6, 6), st.lists(st.integers(-6, 6), max_size=3).map(tuple)))
    try:
        expected = tuple(sorted(np.lib.array_utils.normalize_axis_tuple(axes, ndim)))
    except ValueError:
        with pytest.raises(ArgumentError):
            normalize_axes("sum", axes, ndim)
    else:
        assert normalize_axes("sum", axes, ndim) == expected
        if isinstance(axes, int):
            assert (normalize_axis("sum", axes, ndim),) == expected


def test_no_axis_named_means_all() -> None:
    assert normalize_axes("sum", None, 3) == (0, 1, 2)
    assert normalize_axes("sum", (), 3) == ()
    assert normalize_axis("sum", np.int64(-1), 3) == 2


# --- windows


def places(padded: int, kernel: int, stride: int, dilation: int) -> int:
    return sum(start + dilation * (kernel - 1) < padded for start in range(0, max(padded, 0), stride))


windows = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))


@given(st.integers(0, 12), windows, st.integers(-2, 3), st.integers(-2, 3))
def test_conv_size_counts_the_places_of_the_window(
    size: int, window: tuple[int, int, int], low: int, high: int
) -> None:
    expected = places(size + low + high, *window)
    symbolic_size = conv_size("conv", n, *window, low, high)
    if expected == 0:
        with pytest.raises(ShapeError, match="the window spans"):
            conv_size("conv", size, *window, low, high)
        assert number_of(symbolic_size, {"n": size}) <= 0
    else:
        assert conv_size("conv", size, *window, low, high) == expected == number_of(symbolic_size, {"n": size})


@given(st.integers(1, 20), windows)
def test_same_padding_gives_one_place_per_stride_with_the_least_padding(
    size: int, window: tuple[int, int, int]
) -> None:
    kernel, stride, dilation = window
    low, high = same_padding(size, *window)
    assert high - low in (0, 1)
    span = dilation * (kernel - 1) + 1
    if low + high:
        assert places(size + low + high, *window) == math.ceil(size / stride)
        assert places(size + low + high - 1, *window) < math.ceil(size / stride)
    else:
        assert places(size, *window) == math.ceil(size / stride)
    if stride == 1 or span == 1:
        assert same_padding(n, *window) == (low, high)
    if size % stride == 0:
        assert same_padding(stride * n, *window) == (low, high)


def test_stacked_strides_of_a_symbol_stay_one_quotient() -> None:
    half = conv_size("conv", n, 3, 2, 1, 1, 1)
    assert str(half) == "(n + 1)//2"
    assert str(conv_size("pool", half, 2, 2, 1, 0, 0)) == "(n + 1)//4"
    assert conv_size("conv", batch, 3, 1, 1, 1, 1) == batch


# --- slices

bounds = st.one_of(st.none(), st.integers(-6, 6))
steps = st.one_of(st.none(), st.integers(-3, 3).filter(bool))


@settings(max_examples=300)
@given(bounds, bounds, steps, st.integers(0, 8))
def test_slices_agree_with_python(start: int | None, stop: int | None, step: int | None, size: int) -> None:
    s = slice(start, stop, step)
    first, last, stride = s.indices(size)
    assert normalize_slice("slice", s, size) == (first, stride, len(range(first, last, stride)))
    begin, by, count = normalize_slice("slice", s, n)
    assert (number_of(begin, {"n": size}), by) == (first, stride)
    assert evaluate(count, {"n": size}) == len(range(first, last, stride))
    assert count >= 0


def test_slices_of_a_symbol() -> None:
    def cut(*args: object) -> tuple[Size, int, Size]:
        return normalize_slice("slice", slice(*args), n)

    assert cut(None) == (0, 1, n)
    assert cut(None, None, 2) == (0, 2, (n + 1) // 2)
    assert cut(None, None, -1) == (n - 1, -1, n)
    assert cut(1, None)[2] == cut(None, -1)[2] == max_size(n - 1, 0)
    assert cut(None, 3)[2] == min_size(n, 3)
    assert cut(None, n // 2) == (0, 1, n // 2)
    assert cut(n // 2, None) == (n // 2, 1, n - n // 2)
    assert cut(None, n) == (0, 1, n) and cut(n, None) == (n, 1, 0)
    assert normalize_slice("slice", slice(None, np.int64(2)), 5) == (0, 1, 2)


def test_what_a_slice_leaves_out_is_never_negative() -> None:
    for s in (slice(1, None), slice(None, -1), slice(2, -3), slice(None, 4)):
        start, _, count = normalize_slice("slice", s, n)
        for size in range(8):
            assert number_of(n - start - count, {"n": size}) >= 0
