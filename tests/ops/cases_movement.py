"""Rows for the primitives that move elements, for those without inputs, and what is composed of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.case import Arg, Case
from trine import dtypes
from trine.ops import creation
from trine.ops import movement as m
from trine.ops.base import apply, source
from trine.tensor.tensor import Tensor

ANY = ("float", "int", "uint", "bool")
X = Arg((2, 3, 4), -9, 9, ANY)
MATRIX = Arg((3, 4), -9, 9, ANY)
VECTOR = Arg((7,), -9, 9, ANY)


def moved(
    name: str, function: Any, oracle: Any, arg: Arg = X, torch: Any = None, primitive: str = "", **more: Any
) -> Case:
    """A differentiable row of one argument."""
    return Case(name, function, (arg,), oracle, (0,), torch, (primitive,) if primitive else (), **more)


def spread(x: np.ndarray) -> np.ndarray:
    out = np.zeros((x.shape[0] + 3, 2 * x.shape[1] + 1), x.dtype)
    out[1:-2, 1:-1:2] = x
    return out[:, :-1]


def written(x: np.ndarray, new: np.ndarray) -> np.ndarray:
    out = x.copy()
    out[1:3, 0:4:2] = new
    return out


MOVES = [
    moved(
        "reshape: flat",
        lambda x: m.reshape(x, (-1,)),
        lambda x: x.reshape(-1),
        X,
        lambda x: x.reshape(-1),
        "reshape",
        shapes="any",
    ),
    moved(
        "reshape: regrouped",
        lambda x: m.reshape(x, (4, -1, 2)),
        lambda x: x.reshape(4, 3, 2),
        X,
        lambda x: x.reshape(4, 3, 2),
    ),
    moved("reshape: empty", lambda x: m.reshape(x, (2, 0)), lambda x: x.reshape(2, 0), Arg((0, 3), kinds=ANY)),
    moved(
        "permute_dims: cycle",
        lambda x: m.permute_dims(x, (2, 0, 1)),
        lambda x: x.transpose(2, 0, 1),
        X,
        lambda x: x.permute(2, 0, 1),
        "transpose",
    ),
    moved("matrix_transpose: batch", m.matrix_transpose, lambda x: x.swapaxes(-1, -2), X, lambda x: x.mT),
    moved(
        "moveaxis: last to first",
        lambda x: m.moveaxis(x, -1, 0),
        lambda x: np.moveaxis(x, -1, 0),
        X,
        lambda x: x.movedim(-1, 0),
    ),
    moved("moveaxis: two", lambda x: m.moveaxis(x, (0, 1), (2, 0)), lambda x: np.moveaxis(x, (0, 1), (2, 0))),
    moved(
        "broadcast_to: new axis",
        lambda x: m.broadcast_to(x, (5, 3, 4)),
        lambda x: np.broadcast_to(x, (5, 3, 4)),
        MATRIX,
        lambda x: x.expand(5, 3, 4),
        "broadcast",
    ),
    moved(
        "broadcast_to: ones",
        lambda x: m.broadcast_to(x, (2, 3, 4)),
        lambda x: np.broadcast_to(x, (2, 3, 4)),
        Arg((3, 1), kinds=ANY),
        lambda x: x.expand(2, 3, 4),
        "broadcast",
    ),
    moved(
        "broadcast_to: a scalar",
        lambda x: m.broadcast_to(x, (0, 3)),
        lambda x: np.broadcast_to(x, (0, 3)),
        Arg((), kinds=ANY),
    ),
    moved(
        "pad: both ends",
        lambda x: m.pad(x, ((1, 2), (0, 3))),
        lambda x: np.pad(x, ((1, 2), (0, 3))),
        MATRIX,
        None,
        "pad",
    ),
    moved(
        "pad: cutting",
        lambda x: m.pad(x, ((-1, 2), (3, -2))),
        lambda x: np.pad(x[1:, :-2], ((0, 2), (3, 0))),
        MATRIX,
        None,
        "pad",
    ),
    moved("pad: spread", lambda x: apply(m.Pad((1, 1), (2, 0), (0, 1)), x), spread, MATRIX, None, "pad"),
    moved(
        "pad: spread and cut",
        lambda x: apply(m.Pad((-1,), (-2,), (2,)), x),
        lambda x: np.stack(
            [x, 0 * x if x.dtype != bool else x & False, 0 * x if x.dtype != bool else x & False], 1
        ).reshape(-1)[1:17],
        VECTOR,
        None,
        "pad",
    ),
    moved(
        "slice: part",
        lambda x: m.take_slice(x, (1, 0), (2, 3)),
        lambda x: x[1:3, 0:3],
        MATRIX,
        lambda x: x[1:3, 0:3],
        "slice",
    ),
    moved(
        "slice: steps",
        lambda x: m.take_slice(x, (1,), (3,), (2,)),
        lambda x: x[1:6:2],
        VECTOR,
        lambda x: x[1:6:2],
        "slice",
    ),
    moved("slice: nothing", lambda x: m.take_slice(x, (3,), (0,)), lambda x: x[3:3], VECTOR, None, "slice"),
    Case(
        "update_slice: steps",
        lambda x, new: m.update_slice(x, new, (1, 0), (1, 2)),
        (MATRIX, Arg((2, 2), -9, 9, ANY)),
        written,
        (0, 1),
        None,
        ("update_slice",),
    ),
    moved("flip: all", m.flip, np.flip, X, lambda x: x.flip(tuple(range(x.ndim))), "flip", shapes="any"),
    moved("flip: one axis", lambda x: m.flip(x, axis=-1), lambda x: np.flip(x, -1), X, lambda x: x.flip(-1), "flip"),
    Case(
        "concat: first axis",
        lambda a, b: m.concat([a, b]),
        (MATRIX, Arg((2, 4), -9, 9, ANY)),
        lambda a, b: np.concatenate([a, b]),
        (0, 1),
        None,
        ("concatenate",),
    ),
    Case(
        "concat: last axis, three, one empty",
        lambda a, b, c: m.concat([a, b, c], axis=-1),
        (MATRIX, Arg((3, 0), kinds=ANY), Arg((3, 1), kinds=ANY)),
        lambda a, b, c: np.concatenate([a, b, c], -1),
        (0, 1, 2),
        None,
        ("concatenate",),
    ),
    moved(
        "concat: the same value twice", lambda x: m.concat([x, x], axis=1), lambda x: np.concatenate([x, x], 1), MATRIX
    ),
    Case(
        "concat: flattened",
        lambda a, b: m.concat([a, b], axis=None),
        (MATRIX, VECTOR),
        lambda a, b: np.concatenate([a, b], None),
        (0, 1),
    ),
    Case(
        "stack: last axis",
        lambda a, b: m.stack([a, b], axis=-1),
        (MATRIX, MATRIX),
        lambda a, b: np.stack([a, b], -1),
        (0, 1),
    ),
    moved("expand_dims: inside", lambda x: m.expand_dims(x, axis=1), lambda x: x[:, None], X, lambda x: x.unsqueeze(1)),
    moved("squeeze: all ones", m.squeeze, np.squeeze, Arg((1, 3, 1), kinds=ANY), lambda x: x.squeeze()),
    moved("split: second piece", lambda x: m.split(x, (2, 3, 2))[1], lambda x: x[2:5], VECTOR),
    moved(
        "split: pieces added out of order",
        lambda x: m.concat([m.split(x, (3, 4))[i] for i in (1, 0)]),
        lambda x: np.concatenate([x[3:], x[:3]]),
        VECTOR,
    ),
    moved("unstack: last", lambda x: m.unstack(x, axis=1)[2], lambda x: x[:, 2], X),
    moved("roll: flat", lambda x: m.roll(x, 5), lambda x: np.roll(x, 5), X, lambda x: x.roll(5), shapes="any"),
    moved(
        "roll: two axes out of order",
        lambda x: m.roll(x, (-1, 1), axis=(2, 0)),
        lambda x: np.roll(x, (-1, 1), (2, 0)),
        X,
        lambda x: x.roll((-1, 1), (2, 0)),
    ),
]

MADE = [
    Case(
        "iota: int64",
        lambda: creation.iota(Tensor, 5, dtypes.int64),
        (),
        lambda: np.arange(5),
        primitives=("iota",),
        batched=False,
    ),
    Case("iota: empty", lambda: creation.iota(Tensor, 0, dtypes.float32), (), lambda: np.arange(0.0), batched=False),
    Case(
        "size_value: float32",
        lambda: source(creation.SizeValue(12, dtypes.float32), Tensor),
        (),
        lambda: np.array(12.0),
        primitives=("size_value",),
        batched=False,
    ),
    Case(
        "full: like x",
        lambda x: creation.full(x, (2, 3), 1),
        (Arg((), kinds=ANY),),
        lambda x: np.ones((2, 3), x.dtype),
        primitives=("broadcast",),
        batched=False,
    ),
]

CASES = [
    *MOVES,
    *MADE,
    moved("repeat: rows", lambda x: m.repeat(x, 2, axis=1), lambda x: np.repeat(x, 2, 1), MATRIX),
    moved("repeat: flattened", lambda x: m.repeat(x, 3), lambda x: np.repeat(x, 3), MATRIX, shapes="any"),
    moved("tile: more axes", lambda x: m.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3)), MATRIX),
    moved("tile: fewer repetitions", lambda x: m.tile(x, (2,)), lambda x: np.tile(x, (2,)), MATRIX),
]
