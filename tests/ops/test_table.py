"""The table of operations, row by row: values, gradients, second gradients, and `vmap` against a loop."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.ops.case import FAMILIES, Case
from tests.ops.cases import CASES
from trine import dtypes
from trine.errors import TrineError
from trine.tensor.creation import asarray
from trine.tensor.tensor import Tensor
from trine.tensor.transforms import grad, vmap

TOLERANCE = {"float16": 3e-3, "bfloat16": 2e-2, "float32": 1e-6, "float64": 1e-13}
SHAPES = {
    "any": [((),), ((0,),), ((1,),), ((17,),), ((2, 0, 3),), ((5, 1, 3),)],
    "broadcast": [
        ((3, 1), (1, 4), (3, 4)), ((), (5,), (5,)), ((5,), (), ()), ((), (), ()), ((0,), (1,), ()),
        ((4, 0), (1,), (1, 1)),
        ((17,), (17,), (17,)), ((2, 3), (3,), (2, 1)), ((1,), (1, 1, 1), (1,)),
    ],
}  # fmt: skip


def rows(cases: Sequence[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def seeded(case: Case) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(case.name.encode()))


def odd_shapes(case: Case) -> list[tuple[tuple[int, ...], ...]]:
    """The shapes of arguments beside those of the row."""
    return [shapes[: len(case.args)] for shapes in SHAPES.get(case.shapes, ())]


def exact(array: np.ndarray) -> np.ndarray:
    """Floats as float64, the rest as it is: what the oracle gets."""
    return array.astype(np.float64) if dtypes.dtype(array.dtype).is_float else array


def expected(case: Case, arrays: Sequence[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(case.oracle(*[exact(a) for a in arrays]))


def run(case: Case, arrays: Sequence[np.ndarray]) -> np.ndarray:
    found: np.ndarray = case.function(*[asarray(a) for a in arrays]).numpy()
    return found


def check(case: Case, got: np.ndarray, want: np.ndarray, dtype: str, note: str) -> None:
    """Equal shape and kind; equal values where they are integers or bools, close ones where they are floats."""
    kind = dtypes.dtype(got.dtype)
    assert got.shape == want.shape, note
    assert kind.is_float == (want.dtype.kind == "f"), note
    if not kind.is_float:
        assert kind.kind == dtypes.dtype(want.dtype).kind, note
        assert np.array_equal(got, want), f"{note}: {got} is not {want}"
        return
    if case.result or dtypes.dtype(dtype).is_float:
        assert kind.name == (case.result or dtype), note
    error = case.tolerance.get(kind.name, TOLERANCE[kind.name])
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=error, atol=error, err_msg=note)


@rows(CASES)
def test_value_is_that_of_the_oracle_in_every_dtype(case: Case) -> None:
    rng = seeded(case)
    for dtype in case.dtypes():
        arrays = case.draw(rng, dtype)
        check(case, run(case, arrays), expected(case, arrays), dtype, dtype)


@rows([case for case in CASES if case.shapes])
def test_value_is_that_of_the_oracle_over_odd_shapes(case: Case) -> None:
    rng = seeded(case)
    for dtype in case.dtypes():
        for shapes in odd_shapes(case):
            arrays = case.draw(rng, dtype, shapes)
            check(case, run(case, arrays), expected(case, arrays), dtype, f"{dtype} {shapes}")


@rows(CASES)
def test_arguments_of_any_layout_give_the_same_bits(case: Case) -> None:
    """Neither strides nor read-only memory change a result, and no rule writes into its inputs."""
    arrays = case.draw(seeded(case), case.dtypes()[-1])
    plain = run(case, arrays)
    strided = [asarray(np.repeat(a, 2, -1)[..., ::2] if a.ndim else a, copy=False) for a in arrays]
    copies = [x.numpy().copy() for x in strided]
    again = case.function(*strided).numpy()
    assert again.tobytes() == plain.tobytes()
    for x, before in zip(strided, copies, strict=True):
        assert x.numpy().tobytes() == before.tobytes()


# -- Gradients ---------------------------------------------------------------------------------------------------------


def slope(function: Callable[[float], float]) -> float:
    """The derivative at 0 by the central difference of fourth order: its error is that of rounding, 1e-12 or so."""
    h = 1e-4
    near, far = function(h) - function(-h), function(2 * h) - function(-2 * h)
    return (8 * near - far) / (12 * h)


def weighted(case: Case, constants: Sequence[Tensor], weights: np.ndarray) -> Callable[..., Tensor]:
    """The row's function of its differentiable arguments alone, as one number: the sum of its results times weights."""

    def number(*chosen: Tensor) -> Tensor:
        full = list(constants)
        for place, x in zip(case.differentiable, chosen, strict=True):
            full[place] = x
        return (case.function(*full) * asarray(weights)).sum()

    return number


def check_slopes(number: Callable[..., Tensor], points: Sequence[np.ndarray], rng: np.random.Generator) -> None:
    """The gradient of `number` by each argument, along a random direction, against the central difference."""
    slopes = grad(number, tuple(range(len(points))))(*[asarray(p) for p in points])
    for i, point in enumerate(points):
        direction = np.asarray(rng.uniform(-1, 1, point.shape))

        def moved(t: float, i: int = i, step: np.ndarray = direction) -> float:
            changed = [asarray(p + t * step if j == i else p) for j, p in enumerate(points)]
            return float(number(*changed).item())

        assert slopes[i].shape == point.shape
        got, want = float((slopes[i].numpy() * direction).sum()), slope(moved)
        assert math.isclose(got, want, rel_tol=1e-7, abs_tol=1e-8), f"argument {i}: {got} is not {want}"


def settings(case: Case) -> list[tuple[tuple[int, ...], ...] | None]:
    """The row's own shapes; for rows that broadcast, two pairs that do."""
    return [None, *(odd_shapes(case)[:3] if case.shapes == "broadcast" else ())]


@rows([case for case in CASES if case.differentiable])
def test_gradient_and_second_gradient_are_central_differences(case: Case) -> None:
    rng = seeded(case)
    for shapes in settings(case):
        arrays = case.draw(rng, "float64", shapes)
        weights = np.asarray(rng.uniform(-1, 1, run(case, arrays).shape))
        number = weighted(case, [asarray(a) for a in arrays], weights)
        points = [arrays[i] for i in case.differentiable]
        check_slopes(number, points, rng)
        turns = [np.asarray(rng.uniform(-1, 1, p.shape)) for p in points]

        def second(*xs: Tensor, number: Any = number, turns: Any = turns) -> Tensor:
            first = grad(number, tuple(range(len(xs))))(*xs)
            parts = [(g * asarray(turn)).sum() for g, turn in zip(first, turns, strict=True)]
            return sum(parts[1:], parts[0])

        check_slopes(second, points, rng)


@rows([case for case in CASES if case.differentiable])
def test_gradient_has_the_dtype_of_its_argument(case: Case) -> None:
    for dtype in ("float16", "bfloat16", "float32"):
        if not all(case.args[i].allows(dtype) for i in case.differentiable):
            continue
        arrays = [asarray(a) for a in case.draw(seeded(case), dtype)]
        for i in case.differentiable:
            arrays[i].requires_grad = True
        case.function(*arrays).sum().backward()
        for i in case.differentiable:
            assert arrays[i].grad is not None
            assert arrays[i].grad.type == arrays[i].type


# -- vmap --------------------------------------------------------------------------------------------------------------


def subsets(count: int) -> list[tuple[bool, ...]]:
    return [which for which in itertools.product((False, True), repeat=count) if any(which)]


@rows([case for case in CASES if case.batched and case.args])
def test_vmap_is_a_loop_for_every_subset_of_batched_arguments(case: Case) -> None:
    rng, size = seeded(case), 3
    dtype = "float32" if "float32" in case.dtypes() else case.dtypes()[0]
    for shapes in settings(case):
        draws = [case.draw(rng, dtype, shapes) for _ in range(size)]
        for which in subsets(len(case.args)):
            columns = list(zip(*draws, strict=True))
            want = np.stack([run(case, [c[k] if has else c[0] for c, has in zip(columns, which, strict=True)])
                             for k in range(size)])  # fmt: skip
            for place in (0, -1):
                given = [asarray(np.stack(c, place) if has else c[0]) for c, has in zip(columns, which, strict=True)]
                got = vmap(case.function, tuple(place if has else None for has in which))(*given).numpy()
                check(case, got, exact(want), dtype, f"{which}, axis {place}")


# -- Wrong types are refused by the rule, not by NumPy -----------------------------------------------------------------


@rows(CASES)
def test_every_dtype_computes_or_is_refused_in_four_parts(case: Case) -> None:
    rng = seeded(case)
    for dtype in (d.name for d in dtypes.ALL):
        arrays = [arg.draw(rng, dtype if set(arg.kinds) & set(FAMILIES) else arg.kinds[0]) for arg in case.args]
        try:
            run(case, arrays)
        except TrineError as error:
            assert error.rule, dtype
            assert error.site is not None, dtype
