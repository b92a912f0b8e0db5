"""Random programs of 5 to 30 operations: each step against NumPy in float64, the whole against its parts to the bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import trine
from trine import Tensor

SHAPES = [(), (1,), (3,), (4, 1), (1, 3), (4, 3), (2, 4, 3), (0, 3), (17,)]
LARGEST = 400  # elements, beyond which a step keeps its first operand


class Step(NamedTuple):
    """An operation of the programs.

    Attributes:
        arity: the number of operands.
        ours, theirs: the function in Trine and in NumPy, of the operands and a number that means an axis or an offset.
        error: the largest relative error of the step in float32, in units of 2**-24.
        smooth: whether it has a derivative everywhere.
    """

    arity: int
    ours: Callable[..., Tensor]
    theirs: Callable[..., Any]
    error: float = 0.0
    smooth: bool = True


def axis(x: Any, k: int) -> int | None:
    return k % x.ndim if x.ndim else None


def half(x: Any, k: int) -> Any:
    """Every other element along an axis, from the first or the second."""
    where = axis(x, k)
    if where is None or x.shape[where] < 2:
        return x
    return x[(slice(None),) * where + (slice(k % 2, None, 2),)]


def joined(module: Any, x: Any, y: Any, k: int) -> Any:
    where = axis(x, k)
    fits = x.ndim == y.ndim and all(a == b for i, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)) if i != where)
    return module.concat([x, y if fits else x], axis=where) if where is not None else x


STEPS: dict[str, Step] = {
    "add": Step(2, lambda a, b, k: a + b, lambda a, b, k: a + b, 1),
    "subtract": Step(2, lambda a, b, k: a - b, lambda a, b, k: a - b, 1),
    "multiply": Step(2, lambda a, b, k: a * b, lambda a, b, k: a * b, 1),
    "divide": Step(2, lambda a, b, k: a / (b * b + 1), lambda a, b, k: a / (b * b + 1), 4),
    "twice": Step(1, lambda a, k: a * a, lambda a, k: a * a, 1),
    "scale": Step(1, lambda a, k: a * 0.25 - k, lambda a, k: a * 0.25 - k, 3),
    "negative": Step(1, lambda a, k: -a, lambda a, k: -a),
    "tanh": Step(1, lambda a, k: trine.tanh(a), lambda a, k: np.tanh(a), 8),
    "sin": Step(1, lambda a, k: trine.sin(a), lambda a, k: np.sin(a), 8),
    "exp": Step(1, lambda a, k: trine.exp(trine.tanh(a)), lambda a, k: np.exp(np.tanh(a)), 16),
    "root": Step(1, lambda a, k: trine.sqrt(a * a + 1), lambda a, k: np.sqrt(a * a + 1), 4),
    "sum": Step(1, lambda a, k: trine.sum(a, axis=axis(a, k)), lambda a, k: np.sum(a, axis=axis(a, k)), 32),
    "mean": Step(1, lambda a, k: trine.sum(a, keepdims=True) / max(a.size, 1),
                 lambda a, k: np.sum(a, keepdims=True) / max(a.size, 1), 64),
    "running": Step(1, lambda a, k: trine.cumulative_sum(a, axis=axis(a, k)) if a.ndim else a,
                    lambda a, k: np.cumsum(a, axis=axis(a, k)) if a.ndim else a, 32),
    "flatten": Step(1, lambda a, k: a.reshape(-1), lambda a, k: a.reshape(-1)),
    "transpose": Step(1, lambda a, k: a.transpose(), lambda a, k: a.transpose()),
    "flip": Step(1, lambda a, k: trine.flip(a, axis=axis(a, k)), lambda a, k: np.flip(a, axis=axis(a, k))),
    "half": Step(1, half, half),
    "concat": Step(2, lambda a, b, k: joined(trine, a, b, k), lambda a, b, k: joined(np, a, b, k)),
    "maximum": Step(2, lambda a, b, k: trine.maximum(a, b), lambda a, b, k: np.maximum(a, b), smooth=False),
    "minimum": Step(2, lambda a, b, k: trine.minimum(a, b), lambda a, b, k: np.minimum(a, b), smooth=False),
    "where": Step(2, lambda a, b, k: trine.where(a < b, a, b - 1), lambda a, b, k: np.where(a < b, a, b - 1), 1,
                  smooth=False),
    "floor": Step(1, lambda a, k: trine.floor(a), lambda a, k: np.floor(a), smooth=False),
    "abs": Step(1, lambda a, k: abs(a), lambda a, k: np.abs(a), smooth=False),
    "detach": Step(1, lambda a, k: a.detach(), lambda a, k: a, smooth=False),
    "round trip": Step(1, lambda a, k: a.astype("float64").astype("float32"), lambda a, k: a, smooth=False),
}  # fmt: skip
SMOOTH = [name for name, step in STEPS.items() if step.smooth]

Instruction = tuple[str, int, int, int]  # step, two operands counted back from the newest value, an axis or offset


def programs(names: Sequence[str]) -> st.SearchStrategy[list[Instruction]]:
    one = st.tuples(st.sampled_from(names), st.integers(0, 6), st.integers(0, 6), st.integers(0, 5))
    return st.lists(one, min_size=5, max_size=30)


def operands(instruction: Instruction, values: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The operands and their places; the first twice where the second does not broadcast or is too large with it."""
    name, first, second, _ = instruction
    i = len(values) - 1 - first % len(values)
    if STEPS[name].arity == 1:
        return [values[i]], [i]
    j = len(values) - 1 - second % len(values)
    try:
        size = np.prod(np.broadcast_shapes(values[i].shape, values[j].shape))
    except ValueError:
        size = LARGEST + 1
    if size > LARGEST or values[i].size + values[j].size > LARGEST:
        j = i
    return [values[i], values[j]], [i, j]


def build(program: Sequence[Instruction], inputs: Sequence[Tensor], force: bool) -> list[Tensor]:
    """All values of a program, in order; each one evaluated at once where `force` says so."""
    values = list(inputs)
    for instruction in program:
        given, _ = operands(instruction, values)
        step = STEPS[instruction[0]]
        if given[0].size <= LARGEST:
            values.append(step.ours(*given, instruction[3]))
            if force:
                values[-1].numpy()
    return values


def drawn(seed: int, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    chosen = [SHAPES[i] for i in rng.integers(0, len(SHAPES), 3)]
    return [np.asarray(rng.uniform(-2, 2, shape), dtype) for shape in chosen]


def scalar(values: Sequence[Tensor]) -> Tensor:
    """One number that depends on the last four values."""
    total = trine.sum(trine.tanh(values[-1]))
    for x in values[-4:-1]:
        total = total + trine.sum(trine.tanh(x))
    return total


@given(programs(list(STEPS)), st.integers(0, 10_000))
@settings(max_examples=120)
def test_each_step_is_that_of_numpy_in_float64(program: list[Instruction], seed: int) -> None:
    values = build(program, [trine.asarray(a) for a in drawn(seed, "float32")], force=False)
    found = [x.numpy() for x in reversed(values)][::-1]  # the last first: everything before it is evaluated with it
    place = 3
    for instruction in program:
        given_, places = operands(instruction, values[:place])
        step = STEPS[instruction[0]]
        if given_[0].size > LARGEST:
            continue
        arrays = [found[i].astype(np.float64) for i in places]
        with np.errstate(all="ignore"):
            want = np.asarray(step.theirs(*arrays, instruction[3]))
            scale = np.sum(np.abs(arrays[0])) if instruction[0] in ("sum", "mean", "running") else 0.0
            scale += sum(float(np.max(np.abs(a), initial=0.0)) for a in arrays) + abs(instruction[3])
        got = found[place]
        assert got.shape == want.shape, instruction
        assert got.dtype == np.float32
        bound = step.error * 2.0**-24
        with np.errstate(all="ignore"):
            narrow = want.astype(np.float32)
        finite = np.isfinite(narrow)
        np.testing.assert_array_equal(got[~finite], narrow[~finite], err_msg=str(instruction))
        np.testing.assert_allclose(got[finite], want[finite], rtol=bound, atol=bound * min(scale, 1e30) + 1e-44,
                                   err_msg=str(instruction))  # fmt: skip
        place += 1
    assert place == len(values)


@given(programs(list(STEPS)), st.integers(0, 10_000))
@settings(max_examples=120)
def test_a_program_evaluated_at_once_equals_one_evaluated_step_by_step_to_the_bit(
    program: list[Instruction], seed: int
) -> None:
    arrays = drawn(seed, "float32")
    results = []
    for force in (False, True):
        inputs = [trine.asarray(a, requires_grad=True) for a in arrays]
        values = build(program, inputs, force)
        loss = scalar(values)
        if force:
            loss.item()
        if loss.requires_grad:
            loss.backward()
        slopes = [x.grad.numpy().tobytes() if x.grad is not None else None for x in inputs]
        results.append((loss.numpy().tobytes(), slopes, [x.numpy().tobytes() for x in values]))
    assert results[0] == results[1]


@given(programs(SMOOTH), st.integers(0, 10_000))
@settings(max_examples=80)
def test_gradients_of_random_programs_are_central_differences(program: list[Instruction], seed: int) -> None:
    arrays = drawn(seed, "float64")
    rng = np.random.default_rng(seed + 1)
    turns = [np.asarray(rng.uniform(-1, 1, a.shape)) for a in arrays]

    def value(t: float) -> float:
        moved = [trine.asarray(a + t * turn) for a, turn in zip(arrays, turns, strict=True)]
        return float(scalar(build(program, moved, force=False)).item())

    inputs = [trine.asarray(a, requires_grad=True) for a in arrays]
    loss = scalar(build(program, inputs, force=False))
    loss.backward()
    parts = [float((x.grad.numpy() * turn).sum()) for x, turn in zip(inputs, turns, strict=True) if x.grad is not None]
    estimates = [(value(h) - value(-h)) / (2 * h) for h in (1e-5, 5e-6)]
    spread = abs(estimates[0] - estimates[1])  # large where the program is steep: then only that is known
    if np.isfinite(estimates).all() and spread < 1e-4:
        assert abs(sum(parts) - estimates[1]) <= 1e-5 + 1e-5 * abs(estimates[1]) + 10 * spread
