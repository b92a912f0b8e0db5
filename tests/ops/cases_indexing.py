"""Rows of indexing and ordering: gather, scatter, NumPy's keys, triangles, sort, search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.case import Arg, Case
from trine.ops import indexing, sorting

ANY = ("float", "int", "uint", "bool")
NUMBER = ("float", "int", "uint")

# -- Keys: what `x[key]` and `x[key] = value` do, the same words for tensors, NumPy and torch --------------------------


def reading(key: Any) -> Callable[[Any], Any]:
    """`x[key]`."""
    return lambda x: x[key]


def writing(key: Any) -> Callable[[Any, Any], Any]:
    """A copy of the first argument in which `key` is the second."""

    def write(x: Any, value: Any) -> Any:
        new = x.clone() if hasattr(x, "clone") else x.copy()
        new[key] = value
        return new

    return write


def keyed(what: str, key: Any, shape: tuple[int, ...], torch: bool = True) -> list[Case]:
    """Reading a key of a [3, 4] tensor, and writing values of `shape` there."""
    read, write = reading(key), writing(key)
    return [
        Case(f"index: {what}", read, (Arg(kinds=ANY),), read, differentiable=(0,), torch=read if torch else None),
        Case(f"index_update: {what}", write, (Arg(kinds=ANY), Arg(shape, kinds=ANY)), write, differentiable=(0, 1),
             torch=write if torch else None, primitives=("scatter",)),
    ]  # fmt: skip


MASK = np.array([[True, False, False, True], [False] * 4, [False, True, True, False]])

KEYS = [
    *keyed("an integer", 1, (4,)),
    *keyed("integers", (-1, 2), ()),
    *keyed("slices", np.s_[1:, ::2], (2, 2)),
    *keyed("negative steps", np.s_[::-1, 3:0:-2], (3, 2), torch=False),
    *keyed("a new axis", np.s_[..., None, 1], (3, 1)),
    *keyed("a list", [2, 0], (2, 4)),
    *keyed("a list on the second axis", np.s_[1:, [3, 0, -1]], (3,)),
    *keyed("two lists", ([0, 2, 1], [3, -1, 0]), (3,)),
    *keyed("an integer beside a list", np.s_[0, [1, 1]], (), torch=False),
    *keyed("a list with duplicates, the last one winning", np.s_[[1, 2, 1]], (3, 4), torch=False),
    *keyed("a mask", MASK, (4,), torch=False),
    *keyed("a mask of rows", np.array([True, False, True]), (2, 4), torch=False),
    *keyed("a mask, one value for all", np.array([True, False, True]), (4,), torch=False),
]

# -- Functions ---------------------------------------------------------------------------------------------------------

PLACES = Arg((2, 3), -3, 3, ("int64",))


def added(x: Any, i: Any, updates: Any) -> Any:
    """`updates` added at rows `i`, floats in float64."""
    out = np.array(x, x.dtype if x.dtype.kind in "iu" else np.float64)
    np.add.at(out, i, updates)
    return out


def along(x: Any, i: Any) -> Any:
    """NumPy's, with the sizes off the axis made equal first."""
    rows = np.broadcast_shapes(x.shape[:1], i.shape[:1])
    wide, places = np.broadcast_to(x, (*rows, x.shape[1])), np.broadcast_to(i, (*rows, i.shape[1]))
    return np.take_along_axis(wide, places, 1)


FUNCTIONS = [
    Case("take: rows", lambda x, i: indexing.take(x, i, axis=0), (Arg(kinds=ANY), PLACES), lambda x, i: x[i],
         differentiable=(0,), torch=lambda x, i: x[i], primitives=("gather",)),
    Case("take: columns", lambda x, i: indexing.take(x, i, axis=-1), (Arg((2, 2, 3), kinds=ANY), PLACES),
         lambda x, i: x[:, :, i], differentiable=(0,), torch=lambda x, i: x[:, :, i], primitives=("gather",)),
    Case("take: small integers as indices", lambda x, i: indexing.take(x, i, axis=0),
         (Arg(), Arg((4,), -3, 3, ("int8",))), lambda x, i: x[i], differentiable=(0,)),
    Case("index: two tensors around a slice", lambda x, i: x[i, :, i], (Arg((3, 2, 3)), PLACES),
         lambda x, i: x[i, :, i], differentiable=(0,), torch=lambda x, i: x[i, :, i]),
    Case("index: a tensor of shape ()", lambda x, i: x[:, i], (Arg(), Arg((), -4, 4, ("int64",))),
         lambda x, i: x[:, i], differentiable=(0,)),
    Case("take_along_axis: the last axis", indexing.take_along_axis, (Arg((2, 3), kinds=ANY), PLACES), along,
         differentiable=(0,)),
    Case("take_along_axis: one row of indices for all", lambda x, i: indexing.take_along_axis(x, i, axis=1),
         (Arg(), Arg((1, 2), -4, 4, ("int64",))), along, differentiable=(0,)),
    Case("take_along_axis: one row of values for all", lambda x, i: indexing.take_along_axis(x, i, axis=1),
         (Arg((1, 3)), PLACES), along, differentiable=(0,)),
    Case("scatter_add: rows", indexing.scatter_add, (Arg(kinds=NUMBER), PLACES, Arg((2, 3, 4), kinds=NUMBER)), added,
         differentiable=(0, 2), primitives=("scatter_add",)),
    Case("scatter_add: columns, broadcast", lambda x, i, u: indexing.scatter_add(x, i, u, axis=1),
         (Arg((2, 3), kinds=NUMBER), Arg((5,), -3, 3, ("int64",)), Arg((2, 1), kinds=NUMBER)),
         lambda x, i, u: added(x.T.copy(), i, np.broadcast_to(u, (2, 5)).T).T, differentiable=(0, 2)),
    Case("one_hot: labels", lambda i: indexing.one_hot(i, 4), (Arg((2, 3), 0, 4, ("int64",)),),
         lambda i: np.eye(4, dtype="float32")[i]),
    Case("tril: matrices", indexing.tril, (Arg((2, 3, 4), kinds=ANY),), np.tril, differentiable=(0,),
         torch=lambda x: x.tril()),
    Case("tril: another diagonal", lambda x: indexing.tril(x, k=-1), (Arg(kinds=ANY),), lambda x: np.tril(x, -1),
         differentiable=(0,), torch=lambda x: x.tril(-1)),
    Case("triu: matrices", lambda x: indexing.triu(x, k=1), (Arg((2, 3, 4), kinds=ANY),), lambda x: np.triu(x, 1),
         differentiable=(0,), torch=lambda x: x.triu(1)),
]  # fmt: skip

# -- Ordering ----------------------------------------------------------------------------------------------------------

APART = Arg(kinds=ANY, distinct=True)
SORTED = (Arg((6,), -4, 4, NUMBER), Arg((2, 3), -5, 5, NUMBER))


def down(x: Any) -> Any:
    """The stable descending order of the first axis."""
    return x.shape[0] - 1 - np.flip(np.argsort(np.flip(x, 0), 0, kind="stable"), 0)


def searching(side: Any) -> Case:
    """Search in values that the row sorts itself, so that any draw is in order."""
    return Case(
        f"searchsorted: {side}",
        lambda x, v: sorting.searchsorted(sorting.sort(x), v, side=side),
        SORTED,
        lambda x, v: np.searchsorted(np.sort(x), v, side),
        primitives=("searchsorted",),
    )


ORDERING = [
    Case("sort: the last axis", sorting.sort, (APART,), lambda x: np.sort(x, -1), differentiable=(0,),
         torch=lambda x: x.sort(dim=-1, stable=True).values, primitives=("sort",)),
    Case("sort: descending", lambda x: sorting.sort(x, axis=0, descending=True), (APART,),
         lambda x: np.flip(np.sort(x, 0), 0), differentiable=(0,), primitives=("sort",)),
    Case("argsort: the last axis", sorting.argsort, (APART,), lambda x: np.argsort(x, -1, kind="stable"),
         torch=lambda x: x.argsort(dim=-1, stable=True), primitives=("argsort",)),
    Case("argsort: descending", lambda x: sorting.argsort(x, axis=0, descending=True), (APART,), down,
         torch=lambda x: x.argsort(dim=0, descending=True, stable=True), primitives=("argsort",)),
    Case("topk: values", lambda x: sorting.topk(x, 2)[0], (APART,), lambda x: np.flip(np.sort(x, -1), -1)[:, :2],
         differentiable=(0,)),
    Case("topk: places", lambda x: sorting.topk(x, 2, axis=0)[1], (APART,), lambda x: down(x)[:2]),
    searching("left"),
    searching("right"),
]  # fmt: skip

CASES = [*KEYS, *FUNCTIONS, *ORDERING]
