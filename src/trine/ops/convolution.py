"""Convolution, channels last, of one to three spatial axes: three bilinear primitives that are each other's gradients.

With C the convolution of x and w, CI the gradient of its input and CW that of its kernel, for a cotangent h:

    C(x, w):  to x CI(h, w),  to w CW(x, h)
    CI(g, w): to g C(h, w),   to w CW(h, g)
    CW(x, g): to x CI(g, h),  to g C(x, h)

Shapes: x `[N, *S, C]`, w `[*K, C / groups, O]`, g `[N, *S', O]`. Group i takes the i-th part of the channels of x to
the i-th part of those of the result. The sum over the taps is a cross-correlation: w is not flipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from trine import dtypes
from trine.dtypes import DType, promote
from trine.errors import ArgumentError, DTypeError, ShapeError, Site
from trine.ir.graph import Type, Value
from trine.ops.base import Array, Gradients, Op, V, apply, no_tensor, primitive, user_site
from trine.ops.casting import convert
from trine.ops.movement import moveaxis, reshape
from trine.ops.window import (
    Padding,
    Pairs,
    Sizes,
    check_settings,
    over_images,
    overlap_add,
    padding_pairs,
    per_axis,
    places,
    rank_of,
    same_shape,
    windows,
)
from trine.shapes import Dim, Shape, Size, format_shape, same

_CHUNK: Final = 2**25  # elements of the matrix of windows that the reference holds at a time


@primitive
class _Convolving(Op):
    """The family: attributes, checks, and the matrices that the references multiply.

    Attributes:
        strides: the distance between the places of the kernel, per spatial axis.
        padding: zeros before and after each spatial axis of x.
        dilation: the distance between the taps of the kernel.
        groups: the number of parts of the channels; a size, because vmap folds its own into it.
    """

    form = "convolution"
    strides: Sizes
    padding: Pairs
    dilation: Sizes
    groups: Size

    def settings(self) -> tuple[Sizes, Pairs, Sizes, Size]:
        """The attributes that all three share."""
        return self.strides, self.padding, self.dilation, self.groups

    def grouped(self, groups: Size) -> Op:
        """The same operation with other groups."""
        return replace(self, groups=groups)

    def dtype(self, a: Type, b: Type) -> DType:
        """The promoted dtype, of numbers."""
        dtype = promote(self.name, a.dtype, b.dtype)
        if dtype is dtypes.bool:
            raise DTypeError(self.name, "takes numbers, not bool", got=f"{a}, {b}", fix="x.astype(trine.float32)")
        return dtype

    def kernel_places(self, sizes: Shape, kernel: Shape, got: str) -> tuple[Size, ...]:
        """The spatial sizes of the result of the convolution."""
        fixed = tuple(k for k in kernel if not isinstance(k, Dim))
        if len(fixed) < len(kernel):
            raise ShapeError(self.name, f"the kernel has symbolic sizes: {format_shape(kernel)}", got=got,
                             fix="give them as numbers in trine.spec")  # fmt: skip
        check_settings(self.name, fixed, self.strides, self.padding, self.dilation)
        return places(self.name, sizes, fixed, self.strides, self.padding, self.dilation, got)

    def check_rank(self, labels: str, a: Type, b: Type) -> None:
        """Both have two axes more than there are strides."""
        rank = len(self.strides)
        for label, t in zip(labels, (a, b), strict=True):
            if t.ndim != rank + 2:
                what = "the kernel" if label == "w" else label
                raise ShapeError(self.name, f"{what} has {rank + 2} axes for {_spatial(rank)}, not {t.ndim}",
                                 got=f"{a}, {b}")  # fmt: skip

    def chunks(self, x: Array, kernel: Sizes) -> Iterator[tuple[slice, Array]]:
        """For some images at a time, their windows as matrices `[groups, N S', K C / groups]`."""
        cut = windows(self.name, x, kernel, self.strides, self.padding, self.dilation)
        per_image = int(np.prod(cut.shape[1:]))
        step = max(1, _CHUNK // max(per_image, 1))
        for begin in range(0, x.shape[0], step):
            part = slice(begin, begin + step)
            yield part, _matrices(cut[part], int(np.prod(kernel)), int(self.groups))


def _matrices(cut: Array, taps: int, groups: int) -> Array:
    channels = cut.shape[-1] // groups
    rows = cut.shape[0] * int(np.prod(cut.shape[1 : (cut.ndim - 2) // 2 + 1]))
    if groups == 1:
        return cut.reshape(1, rows, taps * channels)
    flat = cut.reshape(rows, taps, groups, channels)
    return np.ascontiguousarray(flat.transpose(2, 0, 1, 3)).reshape(groups, rows, taps * channels)


def _parts(x: Array, groups: int) -> Array:
    """`[..., groups c]` as `[groups, ..., c]` with the middle axes in one."""
    rows = int(np.prod(x.shape[:-1]))
    return np.ascontiguousarray(x.reshape(rows, groups, x.shape[-1] // groups).transpose(1, 0, 2))


def _whole(parts: Array) -> Array:
    """`[groups, rows, c]` as `[rows, groups c]`."""
    groups, rows, channels = parts.shape
    return parts.transpose(1, 0, 2).reshape(rows, groups * channels)


def _spatial(rank: int) -> str:
    return "1 spatial axis" if rank == 1 else f"{rank} spatial axes"


class Convolution(_Convolving):
    """C: from x `[N, *S, C]` and w `[*K, C / groups, O]` the convolution `[N, *S', O]`."""

    def infer(self, *types: Type) -> Type:
        """The places of the kernel; one channel for each kernel."""
        x, w = types
        got = f"{x}, {w}"
        self.check_rank("xw", x, w)
        _check_groups(self.name, x.shape[-1], w, self.groups, got)
        found = self.kernel_places(x.shape[1:-1], w.shape[:-2], got)
        return Type((x.shape[0], *found, w.shape[-1]), self.dtype(x, w))

    def reference(self, *arrays: Array) -> Array:
        """By a matrix product of the windows with the kernels of each group."""
        x, w, dtype = _wide(self.name, *arrays)
        kernel = w.shape[:-2]
        weights = _parts(w, int(self.groups))
        count = places(self.name, x.shape[1:-1], kernel, *self.settings()[:3], got=str(x.shape))
        out = np.empty((x.shape[0], *count, w.shape[-1]), x.dtype)
        for part, cut in self.chunks(x, kernel):
            out[part] = _whole(np.matmul(cut, weights)).reshape(out[part].shape)
        return convert(out, dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`CI(g, w), CW(x, g)`."""
        x, w = inputs
        to_x = ConvolutionInputGradient(*self.settings(), x.shape[1:-1])
        to_w = ConvolutionKernelGradient(*self.settings(), _numbers(w.shape[:-2]))
        return apply(to_x, g, w), apply(to_w, x, g)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """Of x only: into N. Of w only: into the channels of each group of the result. Of both: more groups."""
        x, w = inputs
        if not batched[1]:
            return over_images(self, size, x, w)
        if not batched[0]:
            return _taken(apply(self, x, _put(w, -1, self.groups)), -1, size, self.groups)
        return _taken(apply(self.grouped(size * self.groups), _put(x, -1), _put(w, -1)), -1, size)


@primitive
class ConvolutionInputGradient(_Convolving):
    """CI: from g `[N, *S', O]` and w `[*K, C / groups, O]` what C sends back to its input, `[N, *S, C]`.

    Attributes:
        sizes: the spatial sizes S, which S' does not tell where strides leave a rest.
    """

    sizes: Shape

    def infer(self, *types: Type) -> Type:
        """The spatial sizes given; the channels of all groups."""
        g, w = types
        got = f"{g}, {w}"
        self.check_rank("gw", g, w)
        if same(g.shape[-1], w.shape[-1]) is not True:
            raise ShapeError(self.name, f"the last axis of g has {_channels(g.shape[-1])}, the kernel gives "
                             f"{w.shape[-1]}", got=got)  # fmt: skip
        channels = w.shape[-2] * self.groups
        _check_groups(self.name, channels, w, self.groups, got)
        _check_places(self.name, g, self.sizes, self.kernel_places(self.sizes, w.shape[:-2], got), got)
        return Type((g.shape[0], *self.sizes, channels), self.dtype(g, w))

    def reference(self, *arrays: Array) -> Array:
        """By a matrix product with the transposed kernels, whose windows are added up."""
        g, w, dtype = _wide(self.name, *arrays)
        kernel, groups = w.shape[:-2], int(self.groups)
        weights = _parts(w, groups).transpose(0, 2, 1)
        out = np.empty((g.shape[0], *self.sizes, w.shape[-2] * groups), g.dtype)
        per_image = int(np.prod((*g.shape[1:-1], *kernel, out.shape[-1])))
        step = max(1, _CHUNK // max(per_image, 1))
        for begin in range(0, g.shape[0], step):
            part = g[begin : begin + step]
            cut = np.matmul(_parts(part, groups), np.ascontiguousarray(weights))
            split = cut.reshape(groups, cut.shape[1], int(np.prod(kernel)), w.shape[-2])
            taps = split.transpose(1, 2, 0, 3).reshape(*part.shape[:-1], *kernel, out.shape[-1])
            out[begin : begin + step] = overlap_add(taps, kernel, self.strides, self.padding, self.dilation, self.sizes)
        return convert(out, dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """For the cotangent h: `C(h, w), CW(h, g)`."""
        inner, w = inputs
        to_w = ConvolutionKernelGradient(*self.settings(), _numbers(w.shape[:-2]))
        return apply(Convolution(*self.settings()), g, w), apply(to_w, g, inner)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """Of g only: into N. Of w only: into the channels of each group of the result. Of both: more groups."""
        g, w = inputs
        if not batched[1]:
            return over_images(self, size, g, w)
        if not batched[0]:
            return _taken(apply(self, g, _put(w, -2)), -1, size, self.groups)
        return _taken(apply(self.grouped(size * self.groups), _put(g, -1), _put(w, -1)), -1, size)


@primitive
class ConvolutionKernelGradient(_Convolving):
    """CW: from x `[N, *S, C]` and g `[N, *S', O]` what C sends back to its kernel, `[*K, C / groups, O]`.

    Attributes:
        kernel: the spatial sizes K of the kernel.
    """

    kernel: Sizes

    def infer(self, *types: Type) -> Type:
        """The kernel sizes given; the channels of one group, and those of g."""
        x, g = types
        got = f"{x}, {g}"
        self.check_rank("xg", x, g)
        if same(x.shape[0], g.shape[0]) is not True:
            raise ShapeError(self.name, f"x has {x.shape[0]} images, g has {g.shape[0]}", got=got)
        channels = x.shape[-1] // self.groups
        w = Type((*self.kernel, channels, g.shape[-1]), self.dtype(x, g))
        _check_groups(self.name, x.shape[-1], w, self.groups, got)
        _check_places(self.name, g, x.shape[1:-1], self.kernel_places(x.shape[1:-1], self.kernel, got), got)
        return w

    def reference(self, *arrays: Array) -> Array:
        """By a matrix product of the transposed windows with g."""
        x, g, dtype = _wide(self.name, *arrays)
        groups = int(self.groups)
        rows = int(np.prod(self.kernel)) * (x.shape[-1] // groups)
        out = np.zeros((groups, rows, g.shape[-1] // groups), x.dtype)
        for part, cut in self.chunks(x, self.kernel):
            out += np.matmul(cut.transpose(0, 2, 1), _parts(g[part], groups))
        shape = (*self.kernel, x.shape[-1] // groups, g.shape[-1])
        return convert(_whole(out).reshape(shape), dtype)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """For the cotangent h: `CI(g, h), C(x, h)`."""
        x, inner = inputs
        to_x = ConvolutionInputGradient(*self.settings(), x.shape[1:-1])
        return apply(to_x, inner, g), apply(Convolution(*self.settings()), x, g)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """Of one only: into the channels of its groups. Of both: more groups."""
        x, g = inputs
        if not batched[1]:
            return _taken(apply(self, _put(x, -1, self.groups), g), -2, size)
        if not batched[0]:
            return _taken(apply(self, x, _put(g, -1, self.groups)), -1, size, self.groups)
        return _taken(apply(self.grouped(size * self.groups), _put(x, -1), _put(g, -1)), -1, size)


def _put(x: V, axis: int, groups: Size = 1) -> V:
    """`[B, ..., groups c, ...]` as `[..., groups B c, ...]`: the batch axis into `axis`, inside each group."""
    place = x.ndim + axis
    size, n = x.shape[0], x.shape[place]
    split = reshape(x, (*x.shape[:place], groups, n // groups, *x.shape[place + 1 :]))
    return reshape(moveaxis(split, 0, place), (*x.shape[1:place], size * n, *x.shape[place + 1 :]))


def _taken(x: V, axis: int, size: Size, groups: Size = 1) -> V:
    """`[..., groups B c, ...]` as `[B, ..., groups c, ...]`: what `_put` undoes."""
    place = x.ndim + axis
    n = x.shape[place] // size
    split = reshape(x, (*x.shape[:place], groups, size, n // groups, *x.shape[place + 1 :]))
    return reshape(moveaxis(split, place + 1, 0), (size, *x.shape[:place], n, *x.shape[place + 1 :]))


def _numbers(sizes: Shape) -> Sizes:
    return tuple(int(n) for n in sizes)


def _wide(where: str, a: Array, b: Array) -> tuple[Array, Array, DType]:
    """Both in the accumulation dtype, and the dtype of the result."""
    dtype = promote(where, dtypes.dtype(a.dtype), dtypes.dtype(b.dtype))
    wide = dtype.accumulator.numpy
    return np.ascontiguousarray(a, wide), np.ascontiguousarray(b, wide), dtype


def _channels(n: Size) -> str:
    return "1 channel" if isinstance(n, int) and n == 1 else f"{n} channels"


def _check_groups(where: str, channels: Size, w: Type, groups: Size, got: str) -> None:
    """The channels of x are those of all groups of the kernel, and its result divides into groups."""
    if isinstance(groups, int) and groups < 1:
        raise ArgumentError(where, f"groups are 1 or more, here they are {groups}", got=got)
    if same(channels, w.shape[-2] * groups) is not True:
        count = "1 group" if groups == 1 else f"{groups} groups"
        rule = f"the last axis of x has {_channels(channels)}, the kernel takes {w.shape[-2]} x {count}"
        raise ShapeError(where, rule, got=got, fix=_other_groups(channels, w, groups))  # fmt: skip
    if same(w.shape[-1] % groups, 0) is not True:
        raise ShapeError(where, f"{_channels(w.shape[-1])} of the result do not divide into {groups} groups", got=got)


def _other_groups(channels: Size, w: Type, groups: Size) -> str:
    """The number of groups with which kernel and channels agree, if there is another."""
    taken, out = w.shape[-2:]
    if isinstance(channels, int) and isinstance(taken, int) and isinstance(out, int) and taken and channels:
        count, rest = divmod(channels, taken)
        if not rest and out % count == 0:
            return f"groups={count}"
    return ""


def _check_places(where: str, g: Type, sizes: Shape, found: Shape, got: str) -> None:
    if not same_shape(g.shape[1:-1], found):
        raise ShapeError(where, f"the convolution of {format_shape(sizes)} has {format_shape(found)} places, g has "
                         f"{format_shape(g.shape[1:-1])}", got=got)  # fmt: skip


# -- The functions -----------------------------------------------------------------------------------------------------


def _arguments(where: str, x: Value, w: Value) -> int:
    """The number of spatial axes, on which x and the kernel agree."""
    for value in (x, w):
        if not isinstance(value, Value):
            raise no_tensor(where, value)
    rank = rank_of(where, x)
    if w.ndim != rank + 2:
        raise ShapeError(where, f"the kernel has {rank + 2} axes for {_spatial(rank)}, not {w.ndim}",
                         got=f"{x.type}, {w.type}").locate(Site(*user_site()))  # fmt: skip
    if any(isinstance(k, Dim) for k in w.shape[:-2]):
        raise ShapeError(where, f"the kernel has symbolic sizes: {format_shape(w.shape[:-2])}",
                         got=f"{x.type}, {w.type}", fix="give them as numbers in trine.spec").locate(
            Site(*user_site()))  # fmt: skip
    return rank


def convolution(
    x: V,
    w: V,
    /,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> V:
    """The convolution of `x` with the kernel `w`, of one to three spatial axes, channels last.

    Element `[n, s, o]` is the sum over taps k and channels c of `x[n, s strides + k dilation - low, c] w[k, c, o]`.

    Args:
        x: `[N, *S, C]`.
        w: `[*K, C / groups, O]`.
        strides: the distance between places, for all spatial axes or each.
        padding: "valid" (none), "same" (`ceil(n / stride)` places), "causal" (one spatial axis: zeros before, so that
            no place sees what comes after it), or a pair of counts of zeros for each spatial axis.
        dilation: the distance between taps, for all spatial axes or each.
        groups: the number of parts of the channels that do not see each other; C for a depthwise convolution.

    Returns:
        `[N, *S', O]` in the promoted dtype; 16-bit floats accumulate in float32, integers wrap.

    Raises:
        ShapeError: ranks or channels do not fit, groups do not divide, or the kernel is larger than the padded input.
        ArgumentError: a number is out of range, or padding is another word.
        DTypeError: bools.
    """
    rank = _arguments("convolution", x, w)
    steps = per_axis("convolution", "strides", strides, rank)
    far = per_axis("convolution", "dilation", dilation, rank)
    pairs = padding_pairs("convolution", padding, x.shape[1:-1], _numbers(w.shape[:-2]), steps, far)
    return apply(Convolution(steps, pairs, far, groups), x, w)


def conv_transpose(
    x: V,
    w: V,
    /,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    output_padding: int | Sequence[int] | None = None,
) -> V:
    """The transposed convolution: each element of `x` adds its multiple of the kernel to the result, channels last.

    It is the gradient, to its input, of the convolution with these settings from the result's shape to that of `x`.

    Args:
        x: `[N, *S, C]`.
        w: `[*K, O / groups, C]`: the channels of the result come first, those of x last.
        strides: the distance between the places at which neighbours of x add, for all spatial axes or each.
        padding: what to cut from the result: "valid" (nothing), "same" (down to `n strides`), or a pair of counts for
            each spatial axis.
        dilation: the distance between taps, for all spatial axes or each.
        groups: the number of parts of the channels that do not see each other.
        output_padding: how many elements, fewer than the stride, the result is longer than it needs to be. None is what
            makes "same" n strides long, and "valid" `n strides + max(window - stride, 0)` with the window
            `dilation (K - 1) + 1`.

    Returns:
        `[N, *S', O]` in the promoted dtype.

    Raises:
        ShapeError: ranks or channels do not fit, or groups do not divide.
        ArgumentError: a number is out of range, or padding is "causal" or another word.
        DTypeError: bools.
    """
    where = "conv_transpose"
    rank = _arguments(where, x, w)
    steps = per_axis(where, "strides", strides, rank)
    far = per_axis(where, "dilation", dilation, rank)
    extra = None if output_padding is None else per_axis(where, "output_padding", output_padding, rank, 0)
    if extra is not None and any(more >= step for more, step in zip(extra, steps, strict=True)):
        raise ArgumentError(where, "output_padding is smaller than the stride",
                            got=f"output_padding={extra}, strides={steps}").locate(Site(*user_site()))  # fmt: skip
    if padding == "causal":
        raise ArgumentError(where, "padding='causal' is for convolution", got="padding='causal'",
                            fix="'valid', 'same', or a pair (before, after) for each spatial axis").locate(
            Site(*user_site()))  # fmt: skip
    kernel = _numbers(w.shape[:-2])
    sizes, pairs = _transposed(where, x.shape[1:-1], kernel, steps, far, padding, extra)
    return apply(ConvolutionInputGradient(steps, pairs, far, groups, sizes), x, w)


def _transposed(
    where: str, shape: Shape, kernel: Sizes, strides: Sizes, dilation: Sizes, padding: Padding, extra: Sizes | None
) -> tuple[Shape, Pairs]:
    """The spatial sizes of the result of a transposed convolution, and its padding."""
    window = [step * (k - 1) + 1 for k, step in zip(kernel, dilation, strict=True)]
    rows: list[Any] = list(zip(shape, window, strides, extra or (None,) * len(shape), strict=True))
    if padding == "same":
        sizes: Shape = tuple(
            n * step if more is None else (n - 1) * step + wide % 2 + more for n, wide, step, more in rows
        )
        return sizes, padding_pairs(where, padding, sizes, kernel, strides, dilation)
    pairs = padding_pairs(where, padding, shape, kernel, strides, dilation)
    fill = padding == "valid"
    grown = [
        (n - 1) * step + wide + ((max(step - wide, 0) if fill else 0) if more is None else more)
        for n, wide, step, more in rows
    ]
    sizes = tuple(n - low - high for n, (low, high) in zip(grown, pairs, strict=True))
    if any(isinstance(n, int) and n < 0 for n in sizes):
        raise ShapeError(where, f"cutting leaves the spatial sizes {format_shape(sizes)}",
                         got=f"spatial sizes {format_shape(shape)}, padding {pairs}").locate(
            Site(*user_site()))  # fmt: skip
    return sizes, pairs
