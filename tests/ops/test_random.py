"""Random numbers: known bits, the formulas of `philox.py` to the bit, exact distributions, and states as values."""

from __future__ import annotations

import math
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from trine import dtypes
from trine.dtypes import DType
from trine.engine import ENGINE
from trine.errors import ArgumentError, DTypeError, NameLookupError, ShapeError
from trine.ir.graph import Graph, Node, Type
from trine.ops import philox
from trine.ops import random as ops
from trine.ops.base import CONSTANT, Placeholder
from trine.shapes import Dim
from trine.tensor import random
from trine.tensor.compile import compile as trine_compile
from trine.tensor.creation import asarray
from trine.tensor.random import Generator
from trine.tensor.tensor import Tensor

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64)
N = 20_000


def constant(array: np.ndarray) -> Node:
    return Node(CONSTANT, (), Type(array.shape, dtypes.dtype(array.dtype)), 0, None, np.ascontiguousarray(array))


def state(seed: int = 0, call: int = 0) -> Node:
    return constant(np.array([seed, call], np.uint64))


def value(node: Node) -> np.ndarray:
    ENGINE.evaluate((node,))
    return np.asarray(node.buffer)


def wide(node: Node) -> np.ndarray:
    return value(node).astype(np.float64)


# -- Bits --------------------------------------------------------------------------------------------------------------


def test_first_words_of_seed_0_are_the_published_answer() -> None:
    """Random123, tests/kat_vectors: counter and key of zeros."""
    words = value(ops.apply(ops.RandomBits((2, 2), dtypes.uint32), state()))
    assert words.dtype == np.uint32
    assert words.tolist() == [[0x6627E8D5, 0xE169C58D], [0xBC57AC4C, 0x9B00DBD8]]
    long = value(ops.apply(ops.RandomBits((2,), dtypes.uint64), state()))
    assert long.tolist() == [0xE169C58D6627E8D5, 0x9B00DBD8BC57AC4C]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_uniform_has_the_bits_of_philox(dtype: DType) -> None:
    words = philox.philox_bits(5, 9, philox.words_for("uniform", dtype.numpy, N))
    got = value(ops.uniform(state(5, 9), (N,), dtype))
    assert got.dtype == dtype.numpy
    assert got.tobytes() == philox.uniform_from_bits(words, dtype.numpy).tobytes()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (40, 50)])
def test_normal_has_the_bits_of_philox(dtype: DType, shape: tuple[int, ...]) -> None:
    n = math.prod(shape)
    words = philox.philox_bits(5, 9, philox.words_for("normal", dtype.numpy, n))
    got = value(ops.normal(state(5, 9), shape, dtype))
    assert (got.shape, got.dtype) == (shape, dtype.numpy)
    assert got.tobytes() == philox.normal_from_bits(words, dtype.numpy)[:n].tobytes()


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 1, dtypes.int64),
        (0, 10, dtypes.int64),
        (-7, 2**40 + 3, dtypes.int64),
        (-(2**63), 2**63, dtypes.int64),
        (-(2**63), -(2**63) + 1, dtypes.int64),
        (2**62, 2**63, dtypes.int64),
        (-128, 128, dtypes.int8),
        (3, 200, dtypes.uint8),
        (-(2**31), 2**31, dtypes.int32),
    ],
)
def test_randint_has_the_bits_of_philox(low: int, high: int, dtype: DType) -> None:
    expected = philox.integers_from_bits(philox.philox_bits(1, 2, 2 * 500), low, high)
    got = value(ops.randint(state(1, 2), low, high, (500,), dtype))
    assert got.dtype == dtype.numpy
    assert got.tolist() == expected.tolist()


def test_randint_covers_all_of_uint64() -> None:
    words = philox.join_words(philox.philox_bits(1, 2, 20))
    assert value(ops.randint(state(1, 2), 0, 2**64, (10,), dtypes.uint64)).tolist() == words.tolist()
    exact = [2**63 + int(w) * (2**63 - 1) // 2**64 for w in words]
    assert value(ops.randint(state(1, 2), 2**63, 2**64 - 1, (10,), dtypes.uint64)).tolist() == exact


DRAWS: dict[str, Callable[[Node, tuple[int, ...]], Node]] = {
    "uniform": ops.uniform,
    "uniform float64": lambda s, shape: ops.uniform(s, shape, dtypes.float64),
    "uniform between": lambda s, shape: ops.uniform(s, shape, low=-2.0, high=3.0),
    "normal": ops.normal,
    "normal float64": lambda s, shape: ops.normal(s, shape, dtypes.float64),
    "truncated_normal": ops.truncated_normal,
    "exponential": ops.exponential,
    "gumbel": ops.gumbel,
    "randint": lambda s, shape: ops.randint(s, -5, 100, shape),
    "bernoulli": lambda s, shape: ops.bernoulli(s, 0.3, shape),
}
EACH = pytest.mark.parametrize("name", DRAWS)


@EACH
def test_a_longer_draw_begins_with_the_shorter_one(name: str) -> None:
    long = value(DRAWS[name](state(3, 1), (23,)))
    for shape in [(), (1,), (5,), (2, 3), (2, 1, 7), (22,)]:
        short = value(DRAWS[name](state(3, 1), shape))
        assert short.shape == shape
        assert short.reshape(-1).tobytes() == long[: math.prod(shape)].tobytes()


@EACH
def test_calls_and_seeds_give_other_numbers(name: str) -> None:
    draws = [value(DRAWS[name](state(seed, call), (200,))) for seed, call in [(0, 0), (0, 1), (1, 0), (2**63, 0)]]
    assert len({draw.tobytes() for draw in draws}) == 4


# -- States ------------------------------------------------------------------------------------------------------------


def test_advance_counts_calls_and_wraps_at_2_to_the_64() -> None:
    assert value(ops.advance(state(7, 3))).tolist() == [7, 4]
    assert value(ops.advance(state(7, 2**64 - 1))).tolist() == [7, 0]
    assert ops.advance(state()).type == Type((2,), dtypes.uint64)


@EACH
def test_a_stack_of_states_draws_for_each_of_them(name: str) -> None:
    """What `vmap` over states records: a state with leading axes."""
    states = np.arange(12, dtype=np.uint64).reshape(3, 2, 2)
    got = value(DRAWS[name](constant(states), (5, 3)))
    assert got.shape == (3, 2, 5, 3)
    for i, j in np.ndindex(3, 2):
        assert got[i, j].tobytes() == value(DRAWS[name](constant(states[i, j]), (5, 3))).tobytes()


def test_the_batching_rule_draws_for_each_state() -> None:
    op, states = ops.RandomBits((4,), dtypes.uint32), np.array([[0, 0], [0, 1], [5, 2]], np.uint64)
    got = value(op.batch(3, (True,), constant(states)))
    assert got.tolist() == [philox.philox_bits(int(s), int(c), 4).tolist() for s, c in states]


def test_permutations_and_choices_of_a_stack_of_states() -> None:
    states = np.array([[0, 0], [0, 1]], np.uint64)
    orders = value(ops.permutation(constant(states), 9))
    picks = value(ops.categorical(constant(states), constant(np.zeros((4, 6), np.float32)), (3,)))
    assert (orders.shape, picks.shape) == ((2, 9), (2, 3, 4))
    for i in range(2):
        one = constant(states[i])
        assert orders[i].tolist() == value(ops.permutation(one, 9)).tolist()
        assert picks[i].tolist() == value(ops.categorical(one, constant(np.zeros((4, 6), np.float32)), (3,))).tolist()


def test_streams_of_other_names_and_seeds_have_other_keys() -> None:
    names = ["a", "b", "ab", "a\0", "\0", "dropout", "initialisation", "x" * 8, "x" * 16, "x" * 8 + "y", "é"]
    keys = {ops.derive(seed, name) for seed in (0, 1, 2**63) for name in names}
    assert len(keys) == 3 * len(names)
    assert ops.derive(-1, "a") == ops.derive(2**64 - 1, "a")
    word = philox.join_words(philox.philox_bits(4, ord("a"), 2))[0]
    assert ops.derive(4, "a") == philox.join_words(philox.philox_bits(int(word), 2**63 + 1, 2))[0]


def test_symbolic_sizes_take_their_numbers_when_the_graph_runs() -> None:
    n = Dim.symbol("n")
    x = Node(Placeholder("x"), (), Type((n,), dtypes.float32), 2)
    key = Node(Placeholder("state"), (), Type((2,), dtypes.uint64), 2)
    outputs = (
        ops.normal(key, (n, 3)),
        ops.randint(key, 0, n + 1, (n,)),
        ops.permutation(key, n),
        ops.uniform(key, (n,)),
    )
    program = ENGINE.backend.compile(Graph((x, key), outputs))
    for size in (1, 4, 7):
        drawn = program.run([np.zeros(size, np.float32), np.array([3, 1], np.uint64)])
        eager = (ops.normal(state(3, 1), (size, 3)), ops.randint(state(3, 1), 0, size + 1, (size,)),
                 ops.permutation(state(3, 1), size), ops.uniform(state(3, 1), (size,)))  # fmt: skip
        for a, b in zip(drawn, eager, strict=True):
            assert a.tobytes() == value(b).tobytes()


# -- Distributions -----------------------------------------------------------------------------------------------------


def phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


CDFS: dict[str, tuple[Callable[[Node, DType], Node], Callable[[float], float], float, float]] = {
    "uniform": (lambda s, d: ops.uniform(s, (N,), d), lambda x: x, 0.5, math.sqrt(1 / 12)),
    "uniform between": (
        lambda s, d: ops.uniform(s, (N,), d, -3.0, 5.0), lambda x: (x + 3) / 8, 1.0, 8 * math.sqrt(1 / 12)
    ),
    "normal": (lambda s, d: ops.normal(s, (N,), d), phi, 0.0, 1.0),
    "normal shifted": (lambda s, d: ops.normal(s, (N,), d, 2.0, 3.0), lambda x: phi((x - 2) / 3), 2.0, 3.0),
    "truncated_normal": (
        lambda s, d: ops.truncated_normal(s, (N,), d),
        lambda x: (phi(x) - phi(-2)) / (phi(2) - phi(-2)),
        0.0,
        0.8796256610342398,
    ),
    "exponential": (lambda s, d: ops.exponential(s, (N,), d, 2.0), lambda x: 1 - math.exp(-x / 2), 2.0, 2.0),
    "gumbel": (
        lambda s, d: ops.gumbel(s, (N,), d), lambda x: math.exp(-math.exp(-x)), 0.5772156649, math.pi / math.sqrt(6)
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", (dtypes.float32, dtypes.float64), ids=str)
@pytest.mark.parametrize("name", CDFS)
def test_draws_follow_their_distribution_function(name: str, dtype: DType) -> None:
    """Kolmogorov and Smirnov's distance at the level of 1 in 1000; mean and deviation within 4 standard errors."""
    draw, cdf, mean, std = CDFS[name]
    x = np.sort(wide(draw(state(2024, 1), dtype)))
    f = np.array([cdf(v) for v in x])
    ranks = np.arange(N + 1) / N
    assert max(np.max(f - ranks[:-1]), np.max(ranks[1:] - f)) < 1.95 / math.sqrt(N)
    assert abs(x.mean() - mean) < 4 * std / math.sqrt(N)
    fourth = np.mean((x - mean) ** 4) / std**4  # the error of a variance: sqrt((kurtosis - 1) / n)
    assert abs(x.var() / std**2 - 1) < 4 * math.sqrt((fourth - 1) / N)


def test_normal_numbers_of_a_pair_are_independent() -> None:
    pairs = wide(ops.normal(state(1), (N, 2)))
    assert abs(np.corrcoef(pairs[:, 0], pairs[:, 1])[0, 1]) < 4 / math.sqrt(N)
    assert abs(np.corrcoef(pairs[:, 0] ** 2, pairs[:, 1] ** 2)[0, 1]) < 4 / math.sqrt(N)


def test_streams_and_calls_are_uncorrelated() -> None:
    keys = [ops.derive(0, name) for name in ("initialisation", "dropout")]
    states = [state(0, 0), state(0, 1), state(0, 2), state(1, 0), *(state(key) for key in keys)]
    draws = np.stack([wide(ops.uniform(s, (N,))) for s in states])
    correlations = np.corrcoef(draws) - np.eye(len(states))
    assert np.abs(correlations).max() < 4.5 / math.sqrt(N)


def test_randint_takes_every_value_equally_often() -> None:
    counts = np.bincount(value(ops.randint(state(6), 0, 12, (N,))), minlength=12)
    expected = N / 12
    assert np.sum((counts - expected) ** 2 / expected) < 31.3  # chi squared, 11 degrees of freedom, 1 in 1000


def test_a_symbolic_range_gives_the_integers_of_a_known_one() -> None:
    key = Node(Placeholder("state"), (), Type((2,), dtypes.uint64), 2)
    x = Node(Placeholder("x"), (), Type((Dim.symbol("n"),), dtypes.float32), 2)
    program = ENGINE.backend.compile(Graph((x, key), (ops.randint(key, -2, Dim.symbol("n"), (50,)),)))
    drawn = program.run([np.zeros(13, np.float32), np.array([3, 1], np.uint64)])[0]
    assert drawn.tolist() == value(ops.randint(state(3, 1), -2, 13, (50,))).tolist()


def test_bernoulli_holds_as_often_as_it_should() -> None:
    p = constant(np.array([0.0, 0.1, 0.5, 1.0], np.float32))
    rates = value(ops.bernoulli(state(8), p, (N, 4))).mean(0)
    assert rates[0] == 0
    assert rates[3] == 1
    assert np.abs(rates - [0, 0.1, 0.5, 1]).max() < 4 * 0.5 / math.sqrt(N)


def test_bernoulli_of_a_half_type_is_that_of_float32() -> None:
    p = np.array([0.1, 0.3, 0.75], np.float16)
    half = value(ops.bernoulli(state(8), constant(p), (500, 3)))
    assert half.dtype == np.bool_
    assert half.tolist() == value(ops.bernoulli(state(8), constant(p.astype(np.float32)), (500, 3))).tolist()


def test_bernoulli_takes_the_shape_of_its_chances() -> None:
    assert ops.bernoulli(state(), constant(np.full((2, 3), 0.5))).type == Type((2, 3), dtypes.bool)
    assert ops.bernoulli(state(), 0.5).shape == ()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_categorical_draws_with_the_chances_of_softmax(kind: type) -> None:
    chances = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.0, 0.5]])
    with np.errstate(divide="ignore"):
        logits = (np.log(chances) + 3).astype(kind)
    picks = value(ops.categorical(state(4), constant(logits), (N,)))
    assert (picks.shape, picks.dtype) == ((N, 2), np.int64)
    for row in range(2):
        counts = np.bincount(picks[:, row], minlength=4)
        assert np.all(counts[chances[row] == 0] == 0)
        inside = chances[row] > 0
        expected = N * chances[row][inside]
        assert np.sum((counts[inside] - expected) ** 2 / expected) < 16.3  # 3 degrees of freedom, 1 in 1000


@pytest.mark.parametrize("n", [0, 1, 2, 17, 1000])
def test_a_permutation_has_each_number_once(n: int) -> None:
    order = value(ops.permutation(state(2), n))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_all_orders_of_four_come_equally_often() -> None:
    states = np.stack([np.full(4800, 9), np.arange(4800)], -1).astype(np.uint64)
    orders = value(ops.permutation(constant(states), 4)) @ [64, 16, 4, 1]
    _, counts = np.unique(orders, return_counts=True)
    assert len(counts) == 24
    assert np.sum((counts - 200) ** 2 / 200) < 49.7  # 23 degrees of freedom, 1 in 1000


# -- Ranges ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0, 0xFFFFFFFF], ids=["all bits 0", "all bits 1"])
def extreme(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Every word that Philox gives has only zeros, or only ones."""
    monkeypatch.setattr(ops, "philox_bits", lambda seed, call, count: np.full(count, request.param, np.uint32))
    return int(request.param)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_uniform_never_reaches_its_upper_limit(dtype: DType, extreme: int) -> None:
    unit = wide(ops.uniform(state(), (3,), dtype))
    assert np.all((unit >= 0) & (unit < 1))
    assert (unit[0] == 0) == (extreme == 0)
    for low, high in [(1.0, 2.0), (-1.0, 1.0), (-3.0, -1.0), (1000.0, 1001.0), (0.0, 1e-7), (-6e4, 6e4), (5.0, 5.0)]:
        x = value(ops.uniform(state(), (3,), dtype, low, high))
        low_, high_ = (np.asarray(limit).astype(dtype.numpy) for limit in (low, high))
        assert np.all(x >= low_)
        assert np.all(x < high_) or low_ == high_


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_extreme_words_give_finite_numbers_in_range(dtype: DType, extreme: int) -> None:
    big = dtype is dtypes.float64
    assert np.all(np.abs(wide(ops.truncated_normal(state(), (3,), dtype))) <= 2)
    assert np.all(np.abs(wide(ops.normal(state(), (3,), dtype))) <= (8.58 if big else 6.7))
    exponential = wide(ops.exponential(state(), (3,), dtype))
    assert np.all((exponential >= 0) & (exponential < (36.8 if big else 22.95)))
    gumbel = wide(ops.gumbel(state(), (3,), dtype))
    assert np.all((gumbel > (-3.7 if big else -3.2)) & (gumbel < (36.8 if big else 22.95)))
    assert value(ops.randint(state(), -4, 9, (2,))).tolist() == [8 if extreme else -4] * 2
    assert value(ops.bernoulli(state(), 1.0, (2,))).all()
    assert not value(ops.bernoulli(state(), 0.0, (2,))).any()


@pytest.mark.parametrize(("dtype", "error"), [(dtypes.float32, 3e-7), (dtypes.float64, 4e-15)], ids=str)
def test_truncated_normal_inverts_the_distribution_function(dtype: DType, error: float) -> None:
    big = dtype is dtypes.float64
    bits = philox.philox_bits(3, 3, 4000 if big else 2000)
    u = ((philox.join_words(bits) >> np.uint64(12)) + 0.5) / 2.0**52 if big else (bits + 0.5) / 2.0**32
    z = wide(ops.truncated_normal(state(3, 3), (2000,), dtype))
    inside = math.erf(math.sqrt(2))
    for x, centred in zip(z, inside * (2 * u - 1), strict=True):
        residual = math.erf(x / math.sqrt(2)) - centred
        assert abs(residual * math.sqrt(math.pi / 2) * math.exp(x * x / 2)) <= error * abs(x)


def test_limits_and_scales_may_be_tensors() -> None:
    low, high = constant(np.array([0.0, 5.0, -1.0], np.float32)), constant(np.array([1.0, 5.0, 2.0], np.float64))
    x = value(ops.uniform(state(1), (400, 3), dtypes.float32, low, high))
    assert x.dtype == np.float32
    assert np.all(x[:, 1] == 5)
    assert np.all((x >= [0, 5, -1]) & ((x < [1, 5, 2]) | (x == 5)))
    z = value(ops.normal(state(1), (400, 3), dtypes.float32, low, constant(np.array([0.0, 1.0, 2.0], np.float32))))
    plain = value(ops.normal(state(1), (400, 3)))
    assert np.all(z[:, 0] == 0)
    assert np.array_equal(z[:, 2], plain[:, 2] * np.float32(2) - np.float32(1))


# -- Errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.uniform(constant(np.zeros(2, np.float32)), (3,)), DTypeError, "state is uint64, not float32"),
        (lambda: ops.uniform(constant(np.zeros(3, np.uint64)), (3,)), ShapeError, "ends in an axis of 2"),
        (lambda: ops.uniform(constant(np.zeros((), np.uint64)), (3,)), ShapeError, "ends in an axis of 2"),
        (lambda: ops.uniform(state(), (2, -1)), ShapeError, "a size is -1, below 0"),
        (lambda: ops.permutation(state(), -2), ShapeError, "a size is -2, below 0"),
        (lambda: ops.uniform(state(), (2,), dtypes.int32), DTypeError, "uniform: draws floats, not int32"),
        (lambda: ops.normal(state(), (2,), dtypes.bool), DTypeError, "normal: draws floats, not bool"),
        (lambda: ops.uniform(state(), (), dtypes.float32, 2.0, 1.0), ArgumentError, "in order, here 2.0 and 1.0"),
        (lambda: ops.uniform(state(), (), dtypes.float32, 0.0, math.inf), ArgumentError, "finite and in order"),
        (lambda: ops.normal(state(), std=-1.0), ArgumentError, "std is at least 0, here it is -1.0"),
        (lambda: ops.exponential(state(), scale=math.nan), ArgumentError, "scale is at least 0, here it is nan"),
        (lambda: ops.randint(state(), 3, 3), ArgumentError, r"the range \[3, 3\) is empty or does not fit int64"),
        (lambda: ops.randint(state(), 0, 257, (), dtypes.uint8), ArgumentError, "does not fit uint8"),
        (lambda: ops.randint(state(), -1, 9, (), dtypes.uint8), ArgumentError, "does not fit uint8"),
        (lambda: ops.randint(state(), 0, 9, (), dtypes.float32), DTypeError, "draws integers, not float32"),
        (lambda: ops.bernoulli(state(), 1.5), ArgumentError, r"p is in \[0, 1\], here it is 1.5"),
        (lambda: ops.categorical(state(), constant(np.float32(1))), ShapeError, "one class or more"),
        (lambda: ops.categorical(state(), constant(np.zeros((2, 0)))), ShapeError, "one class or more"),
        (lambda: ops.apply(ops.RandomBits((2,), dtypes.int32), state()), DTypeError, "uint32 or uint64, not int32"),
        (lambda: Generator(1.5), DTypeError, "a seed is an integer, not a float"),
        (lambda: random.generator("data"), NameLookupError, "there is no stream 'data', only 'user', 'initialis"),
        (lambda: random.uniform((2, 1.5)), DTypeError, "a size is an integer, here it is of type float"),
        (lambda: random.uniform(2, dtype="int8"), DTypeError, "draws floats, not int8"),
    ],
)
def test_errors_name_the_rule(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert "at test_random.py" in str(caught.value)


# -- Generators --------------------------------------------------------------------------------------------------------


def test_each_draw_is_one_call_whatever_its_size() -> None:
    g = Generator(11)
    drawn = [g.uniform((3, 4)), g.normal(5), g.randint(0, 9, ()), g.uniform(0), g.uniform(2)]
    assert g.state.tolist() == [11, 5]
    assert drawn[0].tolist() == value(ops.uniform(state(11, 0), (3, 4))).tolist()
    assert drawn[1].tolist() == value(ops.normal(state(11, 1), (5,))).tolist()
    assert drawn[2].item() == value(ops.randint(state(11, 2), 0, 9)).item()
    assert drawn[4].tolist() == value(ops.uniform(state(11, 4), (2,))).tolist()


def test_every_method_moves_on_by_one_call() -> None:
    g = Generator(1)
    draws = [
        g.uniform(2), g.normal(2), g.truncated_normal(2), g.exponential(2), g.gumbel(2), g.randint(0, 5, 2),
        g.bernoulli(0.5, 2), g.categorical(asarray([0.0, 1.0])), g.permutation(4), g.shuffle(asarray([1, 2, 3])),
    ]  # fmt: skip
    assert all(isinstance(x, Tensor) for x in draws)
    assert g.state.tolist() == [1, len(draws)]


def test_a_draw_that_fails_leaves_the_generator_where_it_was() -> None:
    g = Generator(1)
    with pytest.raises(ArgumentError):
        g.uniform(3, 1.0, 0.0)
    assert g.state.tolist() == [1, 0]


def test_a_saved_state_goes_on_where_it_was() -> None:
    g = Generator(3)
    g.normal(3)
    saved = asarray(np.array(g.state))
    first = g.normal(4).tolist()
    other = Generator(0)
    other.state.assign(saved)
    assert other.normal(4).tolist() == first


def test_the_state_is_one_handle_for_life() -> None:
    g = Generator(3)
    handle = g.state
    g.uniform(2)
    g.seed(-1)
    assert g.state is handle
    assert handle.tolist() == [2**64 - 1, 0]
    assert repr(Generator(4)).startswith("Generator(tensor([4, 0]")


def test_forks_depend_on_key_and_name_only() -> None:
    g = Generator(3)
    before = g.fork("a")
    g.uniform(2)
    after = g.fork("a")
    assert before.state.tolist() == after.state.tolist() == [ops.derive(3, "a"), 0]
    assert before.state.tolist() == Generator(3, "a").state.tolist()
    assert g.fork("b").state.tolist() != before.state.tolist()
    assert before.fork("b").state.tolist() != g.fork("b").state.tolist()


def test_manual_seed_starts_all_streams_again() -> None:
    purposes = ("user", "initialisation", "dropout")
    random.manual_seed(5)
    first = [random.generator(p).uniform(4).tolist() for p in purposes]
    random.manual_seed(5)
    assert [random.generator(p).uniform(4).tolist() for p in purposes] == first
    assert len({tuple(x) for x in first}) == 3
    assert first[0] == Generator(5).uniform(4).tolist()
    random.manual_seed(6)
    assert all(random.generator(p).uniform(4).tolist() != x for p, x in zip(purposes, first, strict=True))


def test_a_stream_does_not_move_another() -> None:
    random.manual_seed(0)
    expected = Generator(0).uniform(3).tolist()
    random.generator("dropout").uniform(100)
    random.generator("initialisation").uniform(100)
    assert random.uniform(3).tolist() == expected


def test_functions_draw_from_the_users_stream_or_a_given_one() -> None:
    random.manual_seed(9)
    g = Generator(9)
    x = asarray(np.arange(12).reshape(6, 2))
    logits = asarray([0.0, 1.0, 2.0])
    for function, args in [
        (random.uniform, ((2, 3), -1.0, 4.0)), (random.normal, (3, 1.0, 2.0)), (random.truncated_normal, (3, 1.0, 2.0)),
        (random.exponential, (3, 2.0)), (random.gumbel, (3, 1.0, 2.0)), (random.randint, (-3, 8, (2, 2))),
        (random.bernoulli, (0.3, 20)), (random.categorical, (logits, 7)), (random.permutation, (5,)),
        (random.shuffle, (x,)),
    ]:  # fmt: skip
        ours = function(*args)
        theirs = function(*args, generator=g)
        assert ours.tolist() == theirs.tolist()
    assert random.generator().state.tolist() == g.state.tolist() == [9, 10]


def test_shuffle_moves_whole_slices() -> None:
    x = np.arange(30).reshape(10, 3)
    rows = random.shuffle(asarray(x)).numpy()
    assert sorted(rows.tolist()) == x.tolist() != rows.tolist()
    columns = random.shuffle(asarray(x), axis=-1, generator=Generator(1)).numpy()
    assert sorted(columns.T.tolist()) == x.T.tolist()


def test_gradients_flow_to_mean_and_deviation() -> None:
    mean, std = (asarray(np.array(v), requires_grad=True) for v in (1.0, 2.0))
    z = Generator(2).normal(50, dtype="float64").numpy()
    Generator(2).normal(50, mean, std, dtype="float64").sum().backward()
    assert mean.grad is not None
    assert std.grad is not None
    assert mean.grad.item() == 50
    assert std.grad.item() == pytest.approx(z.sum(), rel=1e-12)


def test_a_captured_step_draws_what_its_python_draws() -> None:
    g = Generator(5)

    def step(x: Tensor) -> Tensor:
        return x + g.uniform(3) * g.normal(3)

    x = asarray(np.zeros(3, np.float32))
    captured = trine_compile(step)
    replayed = [captured(x).tolist() for _ in range(4)]
    assert g.state.tolist() == [5, 8]
    g.seed(5)
    assert [step(x).tolist() for _ in range(4)] == replayed
