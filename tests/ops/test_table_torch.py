"""The rows of the table that torch has a counterpart for: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.case import Case
from tests.ops.cases import CASES
from tests.ops.test_table import expected, odd_shapes, rows, seeded
from trine import dtypes
from trine.tensor.creation import asarray

torch = pytest.importorskip("torch")

SHARED = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
CASES = [case for case in CASES if case.torch is not None]
GRADIENT_DIFFERS = {
    "index_update: a list on the second axis": "of values written to one place, torch gives each the gradient; only "
    "the last one has an influence, as central differences confirm",
}


def theirs(array: np.ndarray) -> Any:
    return torch.tensor(array)


def same(case: Case, got: np.ndarray, want: Any, note: str) -> None:
    """Equal values; floats to the tolerance of the narrower of both dtypes."""
    theirs = want.detach().numpy()
    assert got.shape == theirs.shape, note
    if not dtypes.dtype(got.dtype).is_float:
        assert np.array_equal(got, theirs), note
        return
    kind = dtypes.dtype(got.dtype).name
    error = max(TOLERANCE[kind], case.tolerance.get(kind, 0.0))
    np.testing.assert_allclose(got, theirs.astype(np.float64), rtol=error, atol=error, err_msg=note)


@rows(CASES)
def test_value_is_that_of_torch(case: Case) -> None:
    rng, compared = seeded(case), 0
    for dtype in case.dtypes():
        for shapes in [None, *odd_shapes(case)]:
            arrays = case.draw(rng, dtype, shapes)
            if dtype not in SHARED or any(a.dtype.name not in SHARED for a in arrays):
                continue
            try:
                want = case.torch(*[theirs(a) for a in arrays])
            except NotImplementedError:  # torch lacks the dtype
                continue
            same(case, case.function(*[asarray(a) for a in arrays]).numpy(), want, f"{dtype} {shapes}")
            compared += 1
    assert compared


@rows([case for case in CASES if case.differentiable and case.name not in GRADIENT_DIFFERS])
def test_gradients_are_those_of_torch(case: Case) -> None:
    rng = seeded(case)
    for shapes in [None, *odd_shapes(case)]:
        arrays = case.draw(rng, "float64", shapes)
        weights = np.asarray(rng.uniform(-1, 1, expected(case, arrays).shape))
        ours, others = [asarray(a) for a in arrays], [theirs(a) for a in arrays]
        for i in case.differentiable:
            ours[i].requires_grad = True
            others[i].requires_grad_()
        case.function(*ours).backward(asarray(weights))
        case.torch(*others).backward(theirs(weights))
        for i in case.differentiable:
            assert ours[i].grad is not None
            same(case, ours[i].grad.numpy(), others[i].grad, f"argument {i}, {shapes}")
