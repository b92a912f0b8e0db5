"""What operations are lowered to means the same bits as what they compute: elements, combinations, places.

An expression is evaluated twice: on arrays, for the special and random values of every dtype, and number by number in
the exact arithmetic of the contract, for a part of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.numerics import interpreter as exact
from tests.ops.cases import CASES
from tests.ops.evaluator import KINDS, ON_ARRAYS, array, evaluate, exact_value, numbers
from tests.ops.test_primitives import examples, primitives
from tests.ops.test_special_values import floats, integers, same_bits
from tests.ops.test_table import seeded
from trine import dtypes
from trine.dtypes import DType
from trine.errors import CompileError, TrineError
from trine.ir.expr import FUNCTIONS, INSTRUCTIONS, Expr, convert, parameter, postorder
from trine.ir.graph import Node, Type, reach
from trine.ops import movement as m
from trine.ops import reduction as r
from trine.ops.base import FORMS, Op
from trine.ops.creation import Iota, SizeValue
from trine.ops.elementwise import Elementwise, Floor
from trine.ops.inline import bound
from trine.ops.steps import execute
from trine.shapes import Dim
from trine.tensor.creation import asarray

EVERY_DTYPE = pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)


def of_form(form: str) -> list[str]:
    return [name for name, kind in primitives().items() if kind.form == form]


def instances(name: str) -> list[Any]:
    """The operation with every value of its attribute, if it has one."""
    kind: Any = primitives()[name]
    return [kind(to) for to in dtypes.ALL] if name == "cast" else [kind()]


def values(dtype: DType, count: int = 30) -> np.ndarray:
    if dtype is dtypes.bool:
        return np.array([False, True])
    kind = KINDS[dtype.name]
    with np.errstate(all="ignore"):
        return array(floats(kind, count) if dtype.is_float else integers(kind), dtype)


def combinations(kinds: Sequence[DType], limit: int = 4000) -> list[np.ndarray]:
    """All tuples of values as columns, or a random part of them where there are many."""
    columns = np.array(list(itertools.product(*[range(len(values(d))) for d in kinds])))
    if len(columns) > limit:
        columns = np.random.default_rng(0).choice(columns, limit, replace=False)
    return [values(d)[columns[:, i]] for i, d in enumerate(kinds)]


def inputs(name: str, dtype: DType) -> tuple[DType, ...]:
    arity = len(examples()[name].inputs)
    return (dtypes.bool, dtype, dtype) if name == "where" else (dtype,) * arity


def accepts(op: Op, kinds: Sequence[DType]) -> bool:
    try:
        op.infer(*[Type((2,), kind) for kind in kinds])
    except TrineError:
        return False
    return True


def lowered(op: Op, kinds: Sequence[DType]) -> Expr:
    return op.scalar(*[parameter(i, kind) for i, kind in enumerate(kinds)])


def check(op: Op, kinds: Sequence[DType]) -> None:
    """The lowered form against `reference`: all values on arrays, a part of them in exact arithmetic."""
    root, columns = lowered(op, kinds), combinations(kinds)
    with np.errstate(all="ignore"):
        want = execute(op, columns)
    assert root.dtype.numpy == want.dtype
    rows = list(zip(*map(numbers, columns), strict=True))
    same_bits(evaluate([root], columns)[0], want, [f"{op}{kinds}{row}" for row in rows])
    if any(x.op in FUNCTIONS for x in postorder(root)):
        return
    part = np.random.default_rng(1).permutation(len(rows))[:250]
    found = [exact_value(root, rows[i]) for i in part]
    same_bits(array(found, root.dtype), want[part], [f"{op}{kinds}{rows[i]}, exactly" for i in part])


# -- Elements ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of_form("elementwise"))
def test_the_scalar_form_equals_the_reference(name: str) -> None:
    checked = [(op, kinds) for op in instances(name) for d in dtypes.ALL if accepts(op, kinds := inputs(name, d))]
    assert checked
    for op, kinds in checked:
        check(op, kinds)


MIXED = [
    (dtypes.int64, dtypes.bfloat16), (dtypes.uint8, dtypes.int16), (dtypes.bool, dtypes.float16),
    (dtypes.float16, dtypes.bfloat16), (dtypes.int32, dtypes.uint32), (dtypes.float64, dtypes.uint64),
]  # fmt: skip


@pytest.mark.parametrize("kinds", MIXED, ids=lambda kinds: f"{kinds[0].code}-{kinds[1].code}")
def test_operands_of_mixed_dtypes_are_converted_as_they_promote(kinds: tuple[DType, DType]) -> None:
    for name in ("add", "multiply", "floor_divide", "maximum", "less", "equal", "pow", "bitwise_and"):
        op = instances(name)[0]
        if accepts(op, kinds):
            check(op, kinds)
    check(instances("where")[0], (dtypes.bool, *kinds))


def test_half_types_are_rounded_by_conversions_around_the_operation() -> None:
    text = "convert:bf16(add(convert:f32(x0:bf16), convert:f32(convert:bf16(x1:i64))))"
    assert str(lowered(instances("add")[0], (dtypes.bfloat16, dtypes.int64))) == text
    assert str(lowered(instances("negative")[0], (dtypes.float16,))) == "neg(x0:f16)"


def test_what_is_computed_twice_is_there_once() -> None:
    found = str(lowered(instances("remainder")[0], (dtypes.float32, dtypes.float32)))
    assert found.splitlines()[0] == "t0 = fmod(x0:f32, x1:f32)"
    assert found.count("fmod") == 1


@EVERY_DTYPE
def test_counting_and_sizes_lower_from_the_index(dtype: DType) -> None:
    index = np.arange(300)
    counted, several = Iota(300, dtype), SizeValue(Dim.symbol("n") * 2 + 1, dtype)
    same_bits(evaluate([counted.lower(parameter(0, dtypes.int64))], [index])[0], execute(counted, []), index.tolist())
    known = bound(several, {"n": 150})
    same_bits(evaluate([several.lower()], [], {"n": 150})[0].reshape(1), execute(known, []).reshape(1), ["size"])


# -- Reductions --------------------------------------------------------------------------------------------------------

AXIS = (0,)
REDUCTIONS = [r.Sum(AXIS), r.Prod(AXIS), r.Max(AXIS), r.Min(AXIS), r.Any(AXIS), r.All(AXIS)]
RUNNING = [r.CumulativeSum(0), r.CumulativeProd(0)]
BY_NAME = pytest.mark.parametrize("op", REDUCTIONS + RUNNING, ids=lambda op: op.name)


def sequences(dtype: DType, count: int = 40, length: int = 9) -> np.ndarray:
    """Columns of elements: small numbers, special values, one NaN among numbers."""
    rng = np.random.default_rng(2)
    found = values(dtype)[rng.integers(0, len(values(dtype)), (length, count))]
    if dtype.is_float:
        found[:, : count // 2] = rng.normal(0, 1, (length, count // 2)).astype(dtype.numpy)
        found[3, : count // 8] = np.nan
        found[:, count // 2 : count // 2 + 3] = np.array([-0.0, 0.0, -0.0]).astype(dtype.numpy)
    return found


def folded(op: Any, x: np.ndarray) -> np.ndarray:
    """Every partial result, in order, converted to the dtype of x."""
    dtype = dtypes.dtype(x.dtype)
    inner = dtype.accumulator
    element, first, second = convert(parameter(0, dtype), inner), parameter(0, inner), parameter(1, inner)
    step, last = op.combine(first, second), convert(first, dtype)
    assert step.dtype is inner
    state = evaluate([element], [x[0]])[0]
    out = [evaluate([last], [state])[0]]
    for row in x[1:]:
        state = evaluate([step], [state, evaluate([element], [row])[0]])[0]
        out.append(evaluate([last], [state])[0])
    return np.stack(out)


def in_a_loop(op: Any, column: list[Any], dtype: DType) -> list[Any]:
    """Every partial result in exact arithmetic."""
    kind = KINDS[dtype.name]
    if dtype is dtypes.bool:
        return list(itertools.accumulate(column, lambda a, b: a or b if op.name == "any" else a and b))
    inner = exact.accumulator(kind) if dtype.is_float else kind
    floating = {"sum": exact.add, "prod": exact.multiply, "max": lambda a, b, _: exact.maximum(a, b),
                "min": lambda a, b, _: exact.minimum(a, b)}  # fmt: skip
    integral = {"sum": lambda a, b, k: exact.wrapped(a + b, k), "prod": lambda a, b, k: exact.wrapped(a * b, k),
                "max": lambda a, b, _: max(a, b), "min": lambda a, b, _: min(a, b)}  # fmt: skip
    rule: Any = (floating if dtype.is_float else integral)[op.name.removeprefix("cumulative_")]
    running = itertools.accumulate(column, lambda a, b: rule(a, b, inner))
    return [exact.rounded(x, kind) if dtype.is_float else x for x in running]


@BY_NAME
def test_combining_in_order_equals_a_loop(op: Any) -> None:
    checked = [dtype for dtype in dtypes.ALL if accepts(op, (dtype,))]
    assert checked
    for dtype in checked:
        x = sequences(dtype)
        got = folded(op, x)
        want = np.stack([array(in_a_loop(op, numbers(column), dtype), dtype) for column in x.T], axis=1)
        notes = [f"{op.name} {dtype.name}"] * x.size
        same_bits(got.reshape(-1), want.reshape(-1), notes)
        with np.errstate(all="ignore"):
            computed = execute(op, [x])
        if op.form == "cumulative":
            same_bits(got.reshape(-1), computed.reshape(-1), notes)
        elif not dtype.is_float:  # where every order gives the same bits
            same_bits(got[-1], computed, notes)


@BY_NAME
def test_the_identity_changes_no_bits_and_nothing_is_what_the_reference_returns(op: Any) -> None:
    for dtype in (d for d in dtypes.ALL if accepts(op, (d,))):
        inner = dtype.accumulator
        x, element, neutral = values(inner), parameter(0, inner), op.identity(inner)
        for root in (op.combine(element, neutral), op.combine(neutral, element)):
            same_bits(evaluate([root], [x])[0], x, [f"{op.name} {dtype.name} {v}" for v in numbers(x)])
        if op.form == "reduction" and op.empty:
            empty = execute(op, [np.zeros((0, 1), dtype.numpy)])
            found = evaluate([convert(op.nothing(inner), dtype)], [np.zeros(1)])[0]
            same_bits(found, empty, [f"{op.name} of nothing"])


@pytest.mark.parametrize("op", [r.Argmax(AXIS), r.Argmin(AXIS)], ids=lambda op: op.name)
def test_places_of_extremes_combine_in_any_order(op: Any) -> None:
    """In order, from the end, and in a tree, with the identity in between."""
    for dtype in (d for d in dtypes.ALL if accepts(op, (d,))):
        x = sequences(dtype)
        want = execute(op, [x])
        place = parameter(0, dtype), parameter(1, dtypes.int64)
        other = parameter(2, dtype), parameter(3, dtypes.int64)
        step = op.combine_places(place, other)
        filler = tuple(evaluate(op.identity_place(dtype), [x[0]]))
        rows = [(row, np.full(x.shape[1:], i)) for i, row in enumerate(x)]
        for order in (rows, rows[::-1], [filler, *rows], [*rows, filler]):
            while len(order) > 1:
                order = [tuple(evaluate(step, [*order[0], *order[1]])), *order[2:]]
            assert order[0][1].tolist() == want.tolist(), f"{op.name} {dtype.name}"
        tree = rows
        while len(tree) > 1:
            pairs = [tuple(evaluate(step, [*b, *a])) for a, b in zip(tree[::2], tree[1::2], strict=False)]
            tree = pairs + tree[len(pairs) * 2 :]
        assert tree[0][1].tolist() == want.tolist(), f"{op.name} {dtype.name}"


# -- Places ------------------------------------------------------------------------------------------------------------


def moved(op: Op, types: Sequence[Type], arrays: Sequence[np.ndarray], out: Any, sizes: Any = None) -> np.ndarray:
    """The result by reading, at every index, the source that has the element."""
    index = [parameter(i, dtypes.int64) for i in range(len(out.shape))]
    sources = op.source_index(index, *types)
    assert len(sources) == len(types)
    grid = [np.ascontiguousarray(g) for g in np.indices(out.shape, np.int64)] or [np.zeros((), np.int64)]
    result, taken = np.zeros(out.shape, out.dtype), np.zeros(out.shape, bool)
    for x, source in zip(arrays, sources, strict=True):
        assert len(source.at) == x.ndim
        *at, inside = evaluate([*source.at, source.inside], grid, sizes)
        assert not np.any(taken & inside), "two sources for one element"
        for i, n in zip(at, x.shape, strict=True):
            assert np.all(~inside | ((i >= 0) & (i < n))), "a place outside the input"
        read = x[tuple(np.where(inside, i, 0)[inside] for i in at)] if at else x
        result[inside] = read.astype(out.dtype)
        taken |= inside
    return result


def numbered(kind: Type) -> np.ndarray:
    """Different elements, none of them 0; as far as the dtype goes."""
    shape: Any = kind.shape
    return np.arange(1, 1 + int(np.prod(shape))).reshape(shape).astype(kind.dtype.numpy)


def check_places(op: Op, types: Sequence[Type]) -> None:
    arrays = [numbered(kind) for kind in types]
    want = execute(op, arrays)
    assert np.array_equal(moved(op, types, arrays, want), want), f"{op} of {types}"


@cache
def recorded() -> dict[tuple[Op, tuple[Type, ...]], Node]:
    """Every movement that a row of the table records."""
    found: dict[tuple[Op, tuple[Type, ...]], Node] = {}
    for case in CASES:
        drawn = case.draw(seeded(case), "float32" if "float32" in case.dtypes() else case.dtypes()[0])
        for node in reach([case.function(*[asarray(a) for a in drawn]).node]):
            if node.op.form == "movement":
                found.setdefault((node.op, tuple(x.type for x in node.inputs)), node)
    return found


@pytest.mark.parametrize("name", of_form("movement"))
def test_every_element_of_a_movement_comes_from_the_place_it_names(name: str) -> None:
    met = [key for key in recorded() if key[0].name == name]
    assert met
    for op, types in met:
        check_places(op, types)


def f32(*shape: Any) -> Type:
    return Type(shape, dtypes.float32)


CORNERS: list[tuple[Op, tuple[Type, ...]]] = [
    (m.Reshape((2, 3, 4)), (f32(4, 6),)),
    (m.Reshape((4, 2, 1, 3, 5)), (f32(4, 6, 5),)),
    (m.Reshape((1, 1)), (f32(),)),
    (m.Reshape(()), (f32(1, 1),)),
    (m.Reshape((0, 5)), (f32(3, 0),)),
    (m.Reshape((6, 2)), (f32(1, 12, 1),)),
    (m.Reshape((2, 2, 3)), (f32(2, 3, 2),)),
    (m.Transpose((2, 0, 1)), (f32(2, 3, 4),)),
    (m.Transpose(()), (f32(),)),
    (m.Broadcast((2, 3, 4)), (f32(3, 1),)),
    (m.Broadcast((0, 3)), (f32(),)),
    (m.Pad((1, -1), (-2, 3), (2, 1)), (f32(4, 3),)),
    (m.Pad((-2,), (-2,), (1,)), (f32(5,),)),
    (m.Pad((2,), (1,), (3,)), (f32(0,),)),
    (m.Pad((), (), ()), (f32(),)),
    (m.Slice((1, 0), (2, 3), (2, 1)), (f32(5, 3),)),
    (m.Slice((5,), (0,), (1,)), (f32(5,),)),
    (m.UpdateSlice((1, 0), (2, 1)), (f32(6, 3), f32(3, 2))),
    (m.UpdateSlice((0,), (1,)), (f32(3), f32(0))),
    (m.UpdateSlice((), ()), (f32(), f32())),
    (m.Flip((0, 2)), (f32(2, 3, 4),)),
    (m.Concatenate(1), (f32(2, 3), f32(2, 0), f32(2, 2))),
    (m.Concatenate(0), (f32(2), Type((3,), dtypes.int32))),
]  # fmt: skip


@pytest.mark.parametrize(("op", "types"), CORNERS, ids=lambda x: x.name if isinstance(x, Op) else "")
def test_places_at_the_corners(op: Op, types: tuple[Type, ...]) -> None:
    check_places(op, types)


N, K = Dim.symbol("n"), Dim.symbol("k")
SYMBOLIC: list[tuple[Op, tuple[Type, ...]]] = [
    (m.Reshape((N * 4,)), (f32(N, 4),)),
    (m.Reshape((N, 2, 2, K)), (f32(N, 4, K),)),
    (m.Broadcast((K, N)), (f32(N),)),
    (m.Pad((N,), (K - N,), (0,)), (f32(K),)),
    (m.Pad((-N,), (0,), (0,)), (f32(N + 2),)),
    (m.Slice((N,), (K,), (1,)), (f32(N + K),)),
    (m.UpdateSlice((N,), (1,)), (f32(N + K), f32(K))),
    (m.Flip((0,)), (f32(N, 2),)),
    (m.Concatenate(0), (f32(N), f32(2), f32(K))),
]


@pytest.mark.parametrize(("op", "types"), SYMBOLIC, ids=lambda x: x.name if isinstance(x, Op) else "")
@pytest.mark.parametrize("sizes", [{"n": 3, "k": 4}, {"n": 1, "k": 1}, {"n": 0, "k": 2}], ids=str)
def test_places_of_symbolic_sizes_are_known_when_the_program_runs(
    op: Op, types: tuple[Type, ...], sizes: dict[str, int]
) -> None:
    op.infer(*types)
    known = [Type(tuple(n if isinstance(n, int) else bound(SizeValue(n, dtypes.int64), sizes).size for n in kind.shape),
                  kind.dtype) for kind in types]  # fmt: skip
    arrays = [numbered(kind) for kind in known]
    want = execute(bound(op, sizes), arrays)
    assert np.array_equal(moved(op, types, arrays, want, sizes), want)


# -- Forms -------------------------------------------------------------------------------------------------------------

RULES = {"elementwise": "lower", "creation": "lower", "movement": "source_index"}


def own_rules(kind: type[Op]) -> set[str]:
    """The lowering rules that an operation has."""
    found = {rule for rule in RULES.values() if getattr(kind, rule) is not getattr(Op, rule)}
    return found | {rule for rule in ("combine", "combine_places") if hasattr(kind, rule)}


def test_every_primitive_has_a_form_and_the_rule_of_it() -> None:
    for name, kind in primitives().items():
        assert kind.form in FORMS, f"{name}: {kind.form} is none of {', '.join(FORMS)}"
        if kind.form in RULES:
            assert own_rules(kind) == {RULES[kind.form]}, name
        elif kind.form in ("reduction", "cumulative"):
            assert own_rules(kind) in ({"combine"}, {"combine_places"}), name
        else:
            assert own_rules(kind) == set(), name
    used = {kind.form for kind in primitives().values()}
    assert used == FORMS.keys() - {"leaf"}  # placeholders and constants, which nothing computes


def test_an_operation_without_the_rule_says_which_form_it_has() -> None:
    matmul = examples()["mat_mul"].op
    with pytest.raises(CompileError, match="mat_mul: has no scalar form: its form is contraction"):
        matmul.lower()
    with pytest.raises(CompileError, match="floor: moves no elements: its form is elementwise"):
        Floor().source_index([])


def lowerings() -> Iterator[Expr]:
    for name in of_form("elementwise"):
        for op in instances(name):
            yield from (lowered(op, kinds) for d in dtypes.ALL if accepts(op, kinds := inputs(name, d)))
    for op, types in [*CORNERS, *SYMBOLIC]:
        index = [parameter(i, dtypes.int64) for i in range(len(op.infer(*types).shape))]
        yield from (part for source in op.source_index(index, *types) for part in (*source.at, source.inside))


def test_the_instructions_are_those_that_lowerings_need() -> None:
    """`fma` is for the sums of contractions."""
    used = {x.op for root in lowerings() for x in postorder(root)}
    assert used == INSTRUCTIONS.keys() - {"fma"}
    assert ON_ARRAYS.keys() == {name for name, rule in INSTRUCTIONS.items() if rule.arity} - {"convert", "bitcast"}


def test_the_family_of_element_wise_operations_leaves_conversions_to_the_family() -> None:
    own = {name for name in of_form("elementwise") if issubclass(kind := primitives()[name], Elementwise)
           and kind.scalar is not Elementwise.scalar}  # fmt: skip
    assert own == {"cast", "where"}
