"""Sliding windows: the primitive that cuts them out, the one that adds them up again, and pooling made of the first.

Everything is channels last: `[N, *S, C]` with one to three spatial axes S. A window of `size` elements per axis,
`dilation` apart, moves by `strides`; padding is zeros before and after each spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np

from trine import dtypes
from trine.errors import ArgumentError, DTypeError, ShapeError, Site, TrineError
from trine.ir.graph import Type, Value
from trine.ops import reduction
from trine.ops.base import Array, Gradients, Op, V, apply, primitive, user_site
from trine.ops.creation import full
from trine.ops.elementwise import cast, divide, floating, where
from trine.ops.movement import pad, reshape
from trine.ops.reduction import Sum
from trine.shapes import Shape, Size, conv_size, format_shape, same, same_padding

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Padding = str | Sequence[tuple[int, int]]

_RANKS: Final = (1, 2, 3)


@primitive
class Unfold(Op):
    """The windows of `[N, *S, C]` as `[N, *S', *K, C]`, where S' are the places and K is the size of a window.

    Attributes:
        size: elements of a window per spatial axis.
        strides: the distance between places.
        padding: zeros before and after each spatial axis.
        dilation: the distance between the elements of a window.
    """

    form = "window"
    size: Sizes
    strides: Sizes
    padding: Pairs
    dilation: Sizes

    def infer(self, *types: Type) -> Type:
        """The places, the window, the channels."""
        x = types[0]
        rank = len(self.size)
        check_settings(self.name, self.size, self.strides, self.padding, self.dilation)
        if x.ndim != rank + 2:
            raise ShapeError(self.name, f"windows of {rank} axes move over {rank + 2}, x has {x.ndim}", got=str(x))
        found = places(self.name, x.shape[1:-1], self.size, self.strides, self.padding, self.dilation, str(x))
        return Type((x.shape[0], *found, *self.size, x.shape[-1]), x.dtype)

    def reference(self, *arrays: Array) -> Array:
        """By a strided view of the padded array."""
        view = windows(self.name, arrays[0], self.size, self.strides, self.padding, self.dilation)
        return np.ascontiguousarray(view)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` added up again."""
        return (apply(Fold(self.size, self.strides, self.padding, self.dilation, inputs[0].shape[1:-1]), g),)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The batch axis goes into N."""
        return over_images(self, size, inputs[0])


@primitive
class Fold(Op):
    """The transpose of `Unfold`: from `[N, *S', *K, C]` the sums `[N, *S, C]` of what lies on each element.

    Attributes:
        size: elements of a window per spatial axis.
        strides: the distance between places.
        padding: zeros before and after each spatial axis; what lies on them is dropped.
        dilation: the distance between the elements of a window.
        sizes: the spatial sizes S of the result.
    """

    form = "window"
    size: Sizes
    strides: Sizes
    padding: Pairs
    dilation: Sizes
    sizes: Shape

    def infer(self, *types: Type) -> Type:
        """The spatial sizes given, whose windows are those of the input."""
        x = types[0]
        check_settings(self.name, self.size, self.strides, self.padding, self.dilation)
        found = places(self.name, self.sizes, self.size, self.strides, self.padding, self.dilation, str(x))
        wanted = (*found, *self.size)
        if x.ndim != len(wanted) + 2 or not same_shape(x.shape[1:-1], wanted):
            raise ShapeError(self.name, f"the windows of {format_shape(self.sizes)} have the sizes "
                             f"{format_shape(wanted)}, x has {format_shape(x.shape[1:-1])}", got=str(x))  # fmt: skip
        return Type((x.shape[0], *self.sizes, x.shape[-1]), x.dtype)

    def reference(self, *arrays: Array) -> Array:
        """By one addition per element of a window, in float32 or wider."""
        x = arrays[0]
        wide = x.astype(dtypes.dtype(x.dtype).accumulator.numpy, copy=False)
        return overlap_add(wide, self.size, self.strides, self.padding, self.dilation, self.sizes).astype(x.dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """The windows of `g`."""
        return (apply(Unfold(self.size, self.strides, self.padding, self.dilation), g),)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The batch axis goes into N."""
        return over_images(self, size, inputs[0])


def over_images(op: Op, size: Size, x: Value, *others: Value) -> Value:
    """`op` on `[B, N, ...]`, whose first two axes become one for the time being; `others` have no batch axis."""
    out = apply(op, reshape(x, (size * x.shape[1], *x.shape[2:])), *others)
    return reshape(out, (size, x.shape[1], *out.shape[1:]))


# -- Geometry ----------------------------------------------------------------------------------------------------------


def check_settings(where: str, size: Sizes, strides: Sizes, padding: Pairs, dilation: Sizes) -> None:
    """Raise where the settings of a window do not agree in rank, or padding is negative.

    Raises:
        ArgumentError: then.
    """
    rank = len(size)
    if rank not in _RANKS or not len(strides) == len(padding) == len(dilation) == rank:
        raise ArgumentError(where, f"one to three spatial axes have each a size, a stride, a pair of padding and a "
                            f"dilation, here {rank}, {len(strides)}, {len(padding)} and {len(dilation)}",
                            got=f"{size}, {strides}, {padding}, {dilation}")  # fmt: skip
    if any(low < 0 or high < 0 for low, high in padding):
        raise ArgumentError(where, "padding is 0 or more", got=str(padding), fix="cut with a slice first")


def places(
    where: str, sizes: Shape, size: Sizes, strides: Sizes, padding: Pairs, dilation: Sizes, got: str
) -> tuple[Size, ...]:
    """The number of places of a window along each spatial axis.

    Raises:
        ShapeError: the window is larger than the padded axis.
    """
    found = []
    rows = zip(sizes, size, strides, dilation, padding, strict=True)
    for axis, (n, k, stride, step, (low, high)) in enumerate(rows):
        try:
            found.append(conv_size(where, n, k, stride, step, low, high))
        except ShapeError as error:
            rule = f"on spatial axis {axis}, {error.rule}"
            raise ShapeError(where, rule, got=f"{got}, {error.got}", fix=error.fix) from None
    return tuple(found)


def same_shape(a: Shape, b: Shape) -> bool:
    """Whether two shapes are provably equal."""
    return len(a) == len(b) and all(m == n or same(m, n) is True for m, n in zip(a, b, strict=True))


def rank_of(where: str, x: Value) -> int:
    """The number of spatial axes of `[N, *S, C]`.

    Raises:
        ShapeError: not one to three; the error has the user's line.
    """
    rank = x.ndim - 2
    if rank not in _RANKS:
        raise ShapeError(where, f"x is [N, *S, C] with one to three spatial axes S, here it has {x.ndim} axes",
                         got=str(x.type), fix="expand_dims(x, axis=-1) adds a channel axis" if x.ndim == 2 else "",
                         ).locate(Site(*user_site()))  # fmt: skip
    return rank


def per_axis(where: str, name: str, value: int | Sequence[int], rank: int, least: int = 1) -> Sizes:
    """One number for all spatial axes, or one for each, as a tuple.

    Raises:
        ArgumentError: another count, or a number below `least`; the error has the user's line.
    """
    if isinstance(value, int):
        found: tuple[Any, ...] = (value,) * rank
    else:
        found = tuple(value)
    if len(found) != rank or not all(isinstance(n, int) and n >= least for n in found):
        axes = "1 spatial axis" if rank == 1 else f"{rank} spatial axes"
        raise ArgumentError(where, f"{name} is a whole number from {least}, or one for each of {axes}",
                            got=f"{name}={value!r}").locate(Site(*user_site()))  # fmt: skip
    return found


def padding_pairs(where: str, padding: Padding, sizes: Shape, size: Sizes, strides: Sizes, dilation: Sizes) -> Pairs:
    """Padding as a pair for each spatial axis.

    "valid" is none; "same" gives `ceil(n / stride)` places; "causal" pads before, so that nothing later is seen.

    Raises:
        ArgumentError: another word, "causal" for more than one spatial axis, or not one pair of counts for each.
        ShapeError: "same" with a symbolic size that leaves the padding open. Errors have the user's line.
    """
    try:
        if not isinstance(padding, str):
            return _given_pairs(where, padding, len(sizes))
        if padding == "valid":
            return ((0, 0),) * len(sizes)
        if padding == "same":
            rows = zip(sizes, size, strides, dilation, strict=True)
            return tuple(same_padding(n, k, stride, step, where) for n, k, stride, step in rows)
        if padding == "causal" and len(sizes) == 1:
            return ((dilation[0] * (size[0] - 1), 0),)
        rule = "padding='causal' takes 1 spatial axis" if padding == "causal" else f"no padding is called {padding!r}"
        raise ArgumentError(where, rule, got=f"padding={padding!r}, {len(sizes)} spatial axes",
                            fix="'valid', 'same', or a pair (before, after) for each spatial axis")  # fmt: skip
    except TrineError as error:
        raise error.locate(Site(*user_site())) from None


def _given_pairs(where: str, padding: Any, rank: int) -> Pairs:
    found = tuple(tuple(pair) if isinstance(pair, Sequence) else (pair,) for pair in padding)
    if len(found) != rank or not all(len(p) == 2 and all(isinstance(n, int) and n >= 0 for n in p) for p in found):
        axes = "1 spatial axis" if rank == 1 else f"each of {rank} spatial axes"
        raise ArgumentError(where, f"padding is a pair of whole numbers from 0 (before, after) for {axes}",
                            got=f"padding={padding!r}", fix=str(((1, 1),) * rank))  # fmt: skip
    return found


# -- NumPy -------------------------------------------------------------------------------------------------------------


def windows(where: str, x: Array, size: Sizes, strides: Sizes, padding: Pairs, dilation: Sizes) -> Array:
    """A read-only view `[N, *S', *K, C]` of the windows of `[N, *S, C]`, which is padded where asked for."""
    count = places(where, x.shape[1:-1], size, strides, padding, dilation, f"a size that was symbolic: {x.shape}")
    if any(low or high for low, high in padding):
        x = np.pad(x, ((0, 0), *padding, (0, 0)))
    x = np.ascontiguousarray(x)
    n, *inner, c = x.strides
    moves = [step * stride for step, stride in zip(inner, strides, strict=True)]
    steps = [step * far for step, far in zip(inner, dilation, strict=True)]
    shape: Any = (x.shape[0], *count, *size, x.shape[-1])
    return np.lib.stride_tricks.as_strided(x, shape, (n, *moves, *steps, c), writeable=False)


def overlap_add(cut: Array, size: Sizes, strides: Sizes, padding: Pairs, dilation: Sizes, sizes: Shape) -> Array:
    """The sums `[N, *S, C]` of windows `[N, *S', *K, C]` on the elements that they lie on, in row-major order of K."""
    rank = len(size)
    count = cut.shape[1 : 1 + rank]
    wide: Any = [n + low + high for n, (low, high) in zip(sizes, padding, strict=True)]
    out = np.zeros((cut.shape[0], *wide, cut.shape[-1]), cut.dtype)
    every: Any = (slice(None),) * (rank + 1)
    for tap in product(*(range(k) for k in size)):
        rows = zip(tap, dilation, count, strides, strict=True)
        at: Any = [slice(t * step, t * step + (m - 1) * stride + 1, stride) for t, step, m, stride in rows]
        out[(slice(None), *at)] += cut[(*every, *tap)]
    kept: Any = [slice(low, low + n) for n, (low, _) in zip(sizes, padding, strict=True)]
    return out[(slice(None), *kept)]


# -- Pooling -----------------------------------------------------------------------------------------------------------


def _pooling(
    where: str, x: Value, size: int | Sequence[int], strides: int | Sequence[int] | None, padding: Padding
) -> tuple[Sizes, Sizes, Pairs]:
    """Size, strides and padding per axis, checked so that every window holds an element of x."""
    rank = rank_of(where, x)
    if x.dtype is dtypes.bool:
        raise DTypeError(where, "takes numbers, not bool", got=str(x.type), fix="x.astype(trine.float32)").locate(
            Site(*user_site()))  # fmt: skip
    window = per_axis(where, "size", size, rank)
    steps = window if strides is None else per_axis(where, "strides", strides, rank)
    ones = (1,) * rank
    pairs = padding_pairs(where, padding, x.shape[1:-1], window, steps, ones)
    try:
        if any(any(n >= k for n in pair) for pair, k in zip(pairs, window, strict=True)):
            raise ArgumentError(where, f"padding is smaller than the window {window}", got=f"padding={pairs}")
        places(where, x.shape[1:-1], window, steps, pairs, ones, str(x.type))
    except TrineError as error:
        raise error.locate(Site(*user_site())) from None
    return window, steps, pairs


def _window_axes(rank: int) -> tuple[int, ...]:
    return tuple(range(1 + rank, 1 + 2 * rank))


def _inside(x: V, pairs: Pairs) -> V:
    """Bools `[*S + padding, 1]`: whether an element is one of x."""
    return pad(full(x, (*x.shape[1:-1], 1), True, dtypes.bool), (*pairs, (0, 0)))


def max_pool(
    x: V, /, size: int | Sequence[int], strides: int | Sequence[int] | None = None, padding: Padding = "valid"
) -> V:
    """The largest element of each window of `[N, *S, C]`, as `[N, *S', C]`; NaN if there is one.

    Padding never wins. A gradient goes in equal parts to the elements that are the largest.

    Args:
        x: numbers, with one to three spatial axes S.
        size: elements of a window, for all spatial axes or each.
        strides: the distance between windows; None: the size.
        padding: "valid" (none), "same" (`ceil(n / stride)` windows), or a pair of counts for each spatial axis.

    Raises:
        ShapeError: a window is larger than the padded axis, or x has another rank.
        ArgumentError: a number is out of range, or padding is as wide as the window.
    """
    window, steps, pairs = _pooling("max_pool", x, size, strides, padding)
    if any(low or high for low, high in pairs):
        x = where(_inside(x, pairs), pad(x, ((0, 0), *pairs, (0, 0))), _lowest(x))
    rank = len(window)
    cut = apply(Unfold(window, steps, ((0, 0),) * rank, (1,) * rank), x)
    return reduction.max(cut, axis=_window_axes(rank))


def _lowest(x: Value) -> float | int:
    return -np.inf if x.dtype.is_float else int(np.iinfo(x.dtype.numpy).min)


def average_pool(
    x: V, /, size: int | Sequence[int], strides: int | Sequence[int] | None = None, padding: Padding = "valid"
) -> V:
    """The mean of each window of `[N, *S, C]`, as `[N, *S', C]`; padding is not counted, integers count as float32.

    Args:
        x: numbers, with one to three spatial axes S.
        size: elements of a window, for all spatial axes or each.
        strides: the distance between windows; None: the size.
        padding: "valid" (none), "same" (`ceil(n / stride)` windows), or a pair of counts for each spatial axis.

    Raises:
        ShapeError: a window is larger than the padded axis, or x has another rank.
        ArgumentError: a number is out of range, or padding is as wide as the window.
    """
    window, steps, pairs = _pooling("average_pool", x, size, strides, padding)
    x = floating(x)
    rank = len(window)
    axes, ones = _window_axes(rank), (1,) * rank
    total = apply(Sum(axes), apply(Unfold(window, steps, pairs, ones), x))
    if not any(low or high for low, high in pairs):
        return divide(total, float(prod(window)))
    inside = cast(_inside(x, pairs), x.dtype)
    cut = apply(Unfold(window, steps, ((0, 0),) * rank, ones), reshape(inside, (1, *inside.shape)))
    return divide(total, apply(Sum(axes), cut))


def global_max_pool(x: V, /, *, keepdims: bool = False) -> V:
    """The largest element of each channel of `[N, *S, C]`, as `[N, C]`, or with axes of size 1 for S; NaN if any."""
    return reduction.max(x, axis=tuple(range(1, 1 + rank_of("global_max_pool", x))), keepdims=keepdims)


def global_average_pool(x: V, /, *, keepdims: bool = False) -> V:
    """The mean of each channel of `[N, *S, C]`, as `[N, C]`, or with axes of size 1 for S."""
    return reduction.mean(x, axis=tuple(range(1, 1 + rank_of("global_average_pool", x))), keepdims=keepdims)
