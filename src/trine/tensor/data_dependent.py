"""Functions whose result's shape depends on values: they need their operand at the call, and compute at once.

Inside `trine.trace` they raise CaptureError, since the value is not known; in a captured step they split it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from trine import dtypes
from trine.errors import ShapeError, Site
from trine.ops.base import user_site
from trine.tensor.tensor import Tensor, constant, read


class UniqueAll(NamedTuple):
    """What `unique_all` returns; `inverse_indices` has the shape of the input."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What `unique_counts` returns."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What `unique_inverse` returns; `inverse_indices` has the shape of the input."""

    values: Tensor
    inverse_indices: Tensor


def _made(array: np.ndarray[Any, Any]) -> Tensor:
    return Tensor(constant(np.ascontiguousarray(array)))


def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """The int64 indices of the elements that are not 0, one tensor per axis, in row-major order.

    Raises:
        ShapeError: a tensor without axes.
        CaptureError: the value is not known while a graph is traced.

    Example:
        >>> import trine
        >>> trine.nonzero(trine.asarray([0.0, 3.0, 0.0, 5.0]))
        (tensor([1, 3]),)
    """
    if not x.ndim:
        raise ShapeError("nonzero", "takes at least 1 axis, not 0", got=str(x.type), fix="x.reshape(1)").locate(
            Site(*user_site()))  # fmt: skip
    return tuple(_made(i.astype(np.int64)) for i in np.nonzero(read(x)))


def unique_all(x: Tensor, /) -> UniqueAll:
    """The distinct elements in ascending order, where each comes first, the inverse, and how often each occurs.

    NaN differ from each other, as the array API has it.
    """
    flat = read(x).reshape(-1)
    wide = flat.astype(dtypes.dtype(flat.dtype).accumulator.numpy, copy=False)
    _, first, inverse, counts = np.unique(
        wide, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    shaped = inverse.reshape(read(x).shape).astype(np.int64)
    return UniqueAll(_made(flat[first]), _made(first.astype(np.int64)), _made(shaped), _made(counts.astype(np.int64)))


def unique_counts(x: Tensor, /) -> UniqueCounts:
    """The distinct elements in ascending order, and how often each occurs; NaN differ from each other."""
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """The distinct elements in ascending order, and for each element of `x` which it is; NaN differ from each other."""
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Tensor, /) -> Tensor:
    """The distinct elements in ascending order; NaN differ from each other.

    Example:
        >>> import trine
        >>> trine.unique_values(trine.asarray([3, 1, 3, 2]))
        tensor([1, 2, 3])
    """
    return unique_all(x).values
