"""Primitives that move elements and compute nothing: reshape, transpose, broadcast, pad, slice, flip, concatenate.

Each is the transpose of another, so gradients need nothing new: pad and slice, broadcast and sum, concatenate, slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trine import dtypes, shapes
from trine.dtypes import promote
from trine.errors import ArgumentError, DTypeError, ShapeError, Site, TrineError
from trine.ir.expr import Expr, and_, le, lt, not_, size, sub
from trine.ir.graph import Type, Value
from trine.ir.places import ZERO, Source, reshaped, scaled, shifted, spread
from trine.ops.base import Array, Gradients, Op, V, alias, apply, like, primitive, user_site
from trine.ops.casting import convert
from trine.shapes import Dim, Shape, Size, format_shape


@primitive
class Reshape(Op):
    """The same elements in row-major order under another shape."""

    form = "movement"
    shape: Shape

    def infer(self, *types: Type) -> Type:
        """The new shape, which has as many elements."""
        return Type(shapes.reshape(self.name, types[0].shape, self.shape), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        """By np.reshape."""
        return arrays[0].reshape(self.shape)

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """The element of the same row-major number; axes in front and behind that stay the same are left out."""
        return (Source(reshaped(index, self.infer(*types).shape, types[0].shape)),)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` under the old shape."""
        return (reshape(g, inputs[0].shape),)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The batch axis stays in front."""
        return reshape(inputs[0], (size, *self.shape))


@primitive
class Transpose(Op):
    """The axes in the order `axes`."""

    form = "movement"
    axes: tuple[int, ...]

    def infer(self, *types: Type) -> Type:
        """The permuted shape."""
        x = types[0]
        if sorted(self.axes) != list(range(x.ndim)):
            raise ShapeError(self.name, f"{self.axes} is not an order of the {x.ndim} axes", got=str(x),
                             fix=f"name each of 0..{x.ndim - 1} once")  # fmt: skip
        return Type(tuple(x.shape[a] for a in self.axes), x.dtype)

    def reference(self, *arrays: Array) -> Array:
        """By np.transpose."""
        return arrays[0].transpose(self.axes)

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """The index in the order of the axes of x."""
        return (Source(tuple(index[self.axes.index(a)] for a in range(len(self.axes)))),)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` in the inverse order."""
        return (permute_dims(g, [self.axes.index(i) for i in range(len(self.axes))]),)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The batch axis stays in front."""
        return permute_dims(inputs[0], (0, *(a + 1 for a in self.axes)))


@primitive
class Broadcast(Op):
    """The value repeated along new leading axes and along axes of size 1."""

    form = "movement"
    shape: Shape

    def infer(self, *types: Type) -> Type:
        """The new shape, to which the old one broadcasts."""
        if shapes.broadcast(self.name, types[0].shape, self.shape) != self.shape:
            raise ShapeError(self.name, f"{format_shape(types[0].shape)} does not broadcast to "
                             f"{format_shape(self.shape)}", got=str(types[0]))  # fmt: skip
        return Type(self.shape, types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        """By np.broadcast_to."""
        return np.broadcast_to(arrays[0], self.shape)  # type: ignore[arg-type]  # a size is a number here

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """The last indices; 0 on an axis that is repeated."""
        x = types[0].shape
        own = index[len(self.shape) - len(x) :]
        return (Source(tuple(i if n != 1 else ZERO for i, n in zip(own, x, strict=True))),)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g`; autodiff sums it to the input's shape."""
        return (g,)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """Ones behind the batch axis make the ranks agree."""
        x = inputs[0]
        ones = len(self.shape) - (x.ndim - 1)
        return broadcast_to(reshape(x, (size, *(1,) * ones, *x.shape[1:])), (size, *self.shape))


@primitive
class Pad(Op):
    """`x` with zeros: `low` before, `high` after, `interior` between neighbours, per axis; negative ends cut."""

    form = "movement"
    low: tuple[Size, ...]
    high: tuple[Size, ...]
    interior: tuple[int, ...]

    def infer(self, *types: Type) -> Type:
        """The grown shape."""
        x = types[0]
        if not len(self.low) == len(self.high) == len(self.interior) == x.ndim:
            raise ShapeError(self.name, f"{len(self.low)} pairs of widths for {x.ndim} axes", got=str(x))
        sizes = tuple(
            n + low + high + _between(n, inner)
            for n, low, high, inner in zip(x.shape, self.low, self.high, self.interior, strict=True)
        )
        if any(isinstance(n, int) and n < 0 for n in sizes):
            raise ShapeError(self.name, f"cutting leaves sizes {format_shape(sizes)}", got=str(x))
        return Type(sizes, x.dtype)

    def reference(self, *arrays: Array) -> Array:
        """Zeros, into which the spread and cut array is written."""
        x = arrays[0]
        spread: Any = tuple(_between(n, i) + n for n, i in zip(x.shape, self.interior, strict=True))
        wide = np.zeros(spread, x.dtype)
        wide[tuple(slice(None, None, i + 1) for i in self.interior)] = x
        ends: Any = list(zip(spread, self.low, self.high, strict=True))
        out = np.zeros([n + low + high for n, low, high in ends], x.dtype)
        target = tuple(slice(max(low, 0), max(n + low + min(high, 0), 0)) for n, low, high in ends)
        source = tuple(slice(max(-low, 0), max(n + min(high, 0), 0)) for n, low, high in ends)
        out[target] = wide[source]
        return out

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """The index without the padding; nothing on it or between the elements."""
        return (spread(index, self.low, [inner + 1 for inner in self.interior], types[0].shape),)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` at the places of x."""
        ends = tuple(-n for n in self.low), tuple(-n for n in self.high)
        kept = apply(Pad(*ends, (0,) * len(self.low)), g)
        if not any(self.interior):
            return (kept,)
        return (apply(Slice((0,) * g.ndim, inputs[0].shape, tuple(i + 1 for i in self.interior)), kept),)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """Nothing is added on the batch axis."""
        return apply(Pad((0, *self.low), (0, *self.high), (0, *self.interior)), inputs[0])


def _between(n: Size, interior: int) -> Size:
    if not interior:
        return 0
    return max(n - 1, 0) * interior if isinstance(n, int) else (n - 1) * interior


@primitive
class Slice(Op):
    """Per axis, `count` elements from `start`, `step` (1 or more) apart."""

    form = "movement"
    start: tuple[Size, ...]
    count: tuple[Size, ...]
    step: tuple[int, ...]

    def infer(self, *types: Type) -> Type:
        """The counts."""
        x = types[0]
        if not len(self.start) == len(self.count) == len(self.step) == x.ndim:
            raise ShapeError(self.name, f"{len(self.start)} slices for {x.ndim} axes", got=str(x))
        if any(step < 1 for step in self.step):
            raise ShapeError(self.name, f"steps are 1 or more, not {min(self.step)}", got=str(x), fix="flip first")
        for n, start, count, step in zip(x.shape, self.start, self.count, self.step, strict=True):
            last = start + (count - 1) * step
            if all(isinstance(i, int) for i in (n, start, count)) and count and not 0 <= start <= last < n:
                raise ShapeError(self.name, f"elements {start} to {last} of an axis of {n}", got=str(x))
        return Type(self.count, x.dtype)

    def reference(self, *arrays: Array) -> Array:
        """By a basic slice."""
        rows: Any = zip(self.start, self.count, self.step, strict=True)
        return arrays[0][tuple(slice(a, a + max((n - 1) * s + 1, 0) if n else a, s) for a, n, s in rows)]

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """`start + index step`."""
        axes = zip(index, self.start, self.step, strict=True)
        return (Source(tuple(shifted(scaled(i, step), start) for i, start, step in axes)),)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` at its places among zeros."""
        return (_place(g, inputs[0].shape, self.start, self.step),)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The batch axis is taken whole."""
        return apply(Slice((0, *self.start), (size, *self.count), (1, *self.step)), inputs[0])


def _place(x: V, shape: Shape, start: tuple[Size, ...], step: tuple[int, ...]) -> V:
    """`x` written at `start`, `start + step`, ... into zeros of `shape`."""
    inner = tuple(s - 1 for s in step)
    grown = [k + _between(k, i) for k, i in zip(x.shape, inner, strict=True)]
    high = tuple(n - a - k for n, a, k in zip(shape, start, grown, strict=True))
    return apply(Pad(start, high, inner), x)


@primitive
class UpdateSlice(Op):
    """`x` with the elements at `start`, `start + step`, ... replaced by those of the second input."""

    form = "movement"
    start: tuple[Size, ...]
    step: tuple[int, ...]

    def infer(self, *types: Type) -> Type:
        """The type of x."""
        x, new = types
        if not len(self.start) == len(self.step) == x.ndim == new.ndim:
            raise ShapeError(self.name, f"{len(self.start)} starts for {x.ndim} axes", got=f"{x}, {new}")
        if x.dtype is not new.dtype:
            raise DTypeError(self.name, f"the new values are {new.dtype.name}, the tensor is {x.dtype.name}",
                             got=f"{x}, {new}", fix=f"cast them: v.astype(trine.{x.dtype.name})")  # fmt: skip
        return x

    def reference(self, *arrays: Array) -> Array:
        """By assignment into a copy."""
        out = arrays[0].copy()
        rows: Any = zip(self.start, arrays[1].shape, self.step, strict=True)
        out[tuple(slice(a, a + max((n - 1) * s + 1, 0) if n else a, s) for a, n, s in rows)] = arrays[1]
        return out

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """The new value where there is one, else that of x."""
        new = spread(index, self.start, self.step, types[1].shape)
        return Source(tuple(index), not_(new.inside)), new

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """To x, `g` with zeros at the places; to the new values, `g` at the places."""
        new = apply(Slice(self.start, inputs[1].shape, self.step), g)
        zeros = broadcast_to(like(new, 0), new.shape)
        return apply(self, g, zeros), new

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """Both get the batch axis."""
        both = [x if has else broadcast_to(x, (size, *x.shape)) for x, has in zip(inputs, batched, strict=True)]
        return apply(UpdateSlice((0, *self.start), (1, *self.step)), *both)


@primitive
class Flip(Op):
    """The elements in reverse order along `axes`."""

    form = "movement"
    axes: tuple[int, ...]

    def infer(self, *types: Type) -> Type:
        """The same type."""
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        """By np.flip."""
        return np.flip(arrays[0], self.axes)

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """Counted from the end."""
        sizes = enumerate(zip(index, types[0].shape, strict=True))
        return (Source(tuple(sub(size(n - 1), i) if a in self.axes else i for a, (i, n) in sizes)),)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` flipped back."""
        return (apply(self, g),)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The axes move by one."""
        return apply(Flip(tuple(a + 1 for a in self.axes)), inputs[0])


@primitive
class Concatenate(Op):
    """The inputs one after the other along `axis`."""

    form = "movement"
    axis: int

    def infer(self, *types: Type) -> Type:
        """The sizes along the axis add up; the others agree; dtypes promote."""
        first, *others = types
        dtype, total = first.dtype, first.shape[self.axis]
        for other in others:
            dtype = promote(self.name, dtype, other.dtype)
            total = total + other.shape[self.axis] if other.ndim == first.ndim else total
            if _without(other.shape, self.axis) != _without(first.shape, self.axis) or other.ndim != first.ndim:
                raise ShapeError(self.name, f"sizes off axis {self.axis} differ: {format_shape(first.shape)} and "
                                 f"{format_shape(other.shape)}", got=", ".join(str(t) for t in types),
                                 fix=_other_axis(first.shape, other.shape))  # fmt: skip
        return Type((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]), dtype)

    def reference(self, *arrays: Array) -> Array:
        """By np.concatenate."""
        dtype = dtypes.dtype(arrays[0].dtype)
        for other in arrays[1:]:
            dtype = promote(self.name, dtype, dtypes.dtype(other.dtype))
        return np.concatenate([convert(a, dtype) for a in arrays], self.axis)

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """The input whose part of the axis holds the index."""
        sources: list[Source] = []
        begin: Size = 0
        for x in types:
            place, end = index[self.axis], begin + x.shape[self.axis]
            own = tuple(shifted(i, -begin) if a == self.axis else i for a, i in enumerate(index))
            sources.append(Source(own, and_(le(size(begin), place), lt(place, size(end)))))
            begin = end
        return tuple(sources)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """Each input's slice of `g`."""
        parts: list[Value] = []
        begin: Size = 0
        for x in inputs:
            start = tuple(begin if i == self.axis else 0 for i in range(x.ndim))
            parts.append(apply(Slice(start, x.shape, (1,) * x.ndim), g))
            begin = begin + x.shape[self.axis]
        return tuple(parts)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """All inputs get the batch axis."""
        wide = [x if has else broadcast_to(x, (size, *x.shape)) for x, has in zip(inputs, batched, strict=True)]
        return apply(Concatenate(self.axis + 1), *wide)


def _without(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], *shape[axis + 1 :])


def _other_axis(a: Shape, b: Shape) -> str:
    """What to try where two shapes differ along one axis only."""
    differing = [i for i, (m, n) in enumerate(zip(a, b, strict=False)) if m != n]
    return f"axis={differing[0]}" if len(a) == len(b) and len(differing) == 1 else ""


# -- The functions -----------------------------------------------------------------------------------------------------


def reshape(x: V, /, shape: Sequence[Size] | Size) -> V:
    """The elements of `x` in row-major order under `shape`; one size may be -1 and is then worked out.

    Raises:
        ShapeError: the number of elements differs.
    """
    wanted = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    try:
        full = shapes.reshape("reshape", x.shape, wanted)
    except TrineError as error:
        raise error.locate(Site(*user_site())) from None
    return alias(x) if full == x.shape else apply(Reshape(full), x)


def permute_dims(x: V, /, axes: Sequence[int]) -> V:
    """`x` with its axes in the order `axes`."""
    order = tuple(a + x.ndim if a < 0 else a for a in axes)
    return alias(x) if order == tuple(range(x.ndim)) else apply(Transpose(order), x)


def matrix_transpose(x: V, /) -> V:
    """`x` with its last two axes exchanged.

    Raises:
        ShapeError: fewer than two axes.
    """
    if x.ndim < 2:
        raise ShapeError("matrix_transpose", f"takes at least 2 axes, not {x.ndim}", got=str(x.type)).locate(
            Site(*user_site()))  # fmt: skip
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def broadcast_to(x: V, /, shape: Sequence[Size]) -> V:
    """`x` repeated along new leading axes and axes of size 1, so that its shape is `shape`."""
    full = tuple(shape)
    return alias(x) if full == x.shape else apply(Broadcast(full), x)


def concat(arrays: Sequence[V], /, *, axis: int | None = 0) -> V:
    """The tensors one after the other along `axis`; with None, flattened first.

    Raises:
        ShapeError: sizes off the axis differ.
        ArgumentError: no tensors.
    """
    if not arrays:
        raise ArgumentError("concat", "takes at least one tensor", got="none").locate(Site(*user_site()))
    if axis is None:
        return concat([reshape(x, (-1,)) for x in arrays], axis=0)
    if axis == arrays[0].ndim and all(x.shape == arrays[0].shape for x in arrays):
        rule = f"axis {axis} is out of range for a tensor with {axis} axes, numbered from 0"
        raise ArgumentError("concat", rule, got=str(arrays[0].type), fix="trine.stack joins along a new axis").locate(
            Site(*user_site()))  # fmt: skip
    where = checked_axis("concat", axis, arrays[0])
    return alias(arrays[0]) if len(arrays) == 1 else apply(Concatenate(where), *arrays)


def stack(arrays: Sequence[V], /, *, axis: int = 0) -> V:
    """The tensors, all of one shape, along a new axis."""
    if not arrays:
        raise ArgumentError("stack", "takes at least one tensor", got="none").locate(Site(*user_site()))
    for i, x in enumerate(arrays):
        if x.shape != arrays[0].shape:
            rule = f"the tensors have one shape, and 0 has {format_shape(arrays[0].shape)}, {i} {format_shape(x.shape)}"
            raise ShapeError("stack", rule, got=f"{arrays[0].type}, {x.type}").locate(Site(*user_site()))
    return concat([expand_dims(x, axis=axis) for x in arrays], axis=axis)


def checked_axis(where: str, axis: int, x: Value, extra: int = 0) -> int:
    """The axis counted from the front; an error with the user's line where it does not exist."""
    try:
        return shapes.normalize_axis(where, axis, x.ndim + extra)
    except TrineError as error:
        error.got = error.got or str(x.type)
        raise error.locate(Site(*user_site())) from None


def checked_axes(where: str, axis: int | Sequence[int] | None, x: Value) -> tuple[int, ...]:
    """The axes counted from the front, all of them for None; an error with the user's line where one does not exist."""
    try:
        return shapes.normalize_axes(where, axis, x.ndim)
    except TrineError as error:
        error.got = error.got or str(x.type)
        raise error.locate(Site(*user_site())) from None


def expand_dims(x: V, /, *, axis: int = 0) -> V:
    """`x` with a new axis of size 1 at `axis`."""
    where = checked_axis("expand_dims", axis, x, extra=1)
    return reshape(x, (*x.shape[:where], 1, *x.shape[where:]))


def squeeze(x: V, /, axis: int | Sequence[int] | None = None) -> V:
    """`x` without the axes of size 1 named; with None, without all of them.

    Raises:
        ShapeError: a named axis has another size.
    """
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else checked_axes("squeeze", axis, x)
    for i in axes:
        if x.shape[i] != 1:
            raise ShapeError("squeeze", f"axis {i} has size {x.shape[i]}, not 1", got=str(x.type)).locate(
                Site(*user_site()))  # fmt: skip
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


def flip(x: V, /, *, axis: int | Sequence[int] | None = None) -> V:
    """The elements in reverse order along `axis`, several axes, or all of them."""
    axes = checked_axes("flip", axis, x)
    return apply(Flip(axes), x) if axes else alias(x)


def moveaxis(x: V, source: int | Sequence[int], destination: int | Sequence[int], /) -> V:
    """`x` with the axes `source` moved to the positions `destination`, the others in order."""
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    if len(sources) != len(targets):
        raise ArgumentError("moveaxis", f"{len(sources)} axes to {len(targets)} positions", got=f"{source}, "
                            f"{destination}").locate(Site(*user_site()))  # fmt: skip
    moved = [checked_axis("moveaxis", a, x) for a in sources]
    order = [a for a in range(x.ndim) if a not in moved]
    for target, a in sorted((checked_axis("moveaxis", t, x), a) for t, a in zip(targets, moved, strict=True)):
        order.insert(target, a)
    return permute_dims(x, order)


def pad(x: V, widths: Sequence[tuple[Size, Size]], /) -> V:
    """`x` with zeros before and after: a pair of counts per axis, of which negative ones cut."""
    if len(widths) == x.ndim and all(low == 0 and high == 0 for low, high in widths):
        return alias(x)
    low, high = tuple(w[0] for w in widths), tuple(w[1] for w in widths)
    return apply(Pad(low, high, (0,) * len(low)), x)


def take_slice(x: V, start: Sequence[Size], count: Sequence[Size], step: Sequence[int] | None = None) -> V:
    """Per axis, `count` elements from `start`, `step` apart: what `x[a:b:s]` records."""
    steps = tuple(step) if step is not None else (1,) * x.ndim
    if tuple(count) == x.shape and all(a == 0 for a in start) and all(s == 1 for s in steps):
        return alias(x)
    return apply(Slice(tuple(start), tuple(count), steps), x)


def update_slice(x: V, new: V, start: Sequence[Size], step: Sequence[int] | None = None) -> V:
    """`x` with the elements at `start`, `step` apart, replaced by `new`: what `x[a:b:s] = new` records."""
    return apply(UpdateSlice(tuple(start), tuple(step) if step is not None else (1,) * x.ndim), x, new)


def split(x: V, sizes: Sequence[int], /, *, axis: int = 0) -> tuple[V, ...]:
    """Consecutive pieces of `x` along `axis`, of the sizes given.

    Raises:
        ShapeError: the sizes do not add up to the axis.
    """
    where = checked_axis("split", axis, x)
    if not isinstance(sizes, Sequence):
        raise DTypeError("split", "takes a list with the size of each piece", got=f"sizes={sizes!r:.40}",
                         fix=f"sizes that add up to {x.shape[where]}").locate(Site(*user_site()))  # fmt: skip
    if sum(sizes) != x.shape[where]:
        raise ShapeError("split", f"sizes add up to {sum(sizes)}, axis {where} has {x.shape[where]}",
                         got=str(x.type)).locate(Site(*user_site()))  # fmt: skip
    parts, begin = [], 0
    for n in sizes:
        start = [begin if i == where else 0 for i in range(x.ndim)]
        parts.append(take_slice(x, start, [n if i == where else m for i, m in enumerate(x.shape)]))
        begin += n
    return tuple(parts)


def unstack(x: V, /, *, axis: int = 0) -> tuple[V, ...]:
    """The slices of `x` along `axis`, without it."""
    where = checked_axis("unstack", axis, x)
    n = x.shape[where]
    if not isinstance(n, int):
        raise ShapeError("unstack", f"axis {where} has the symbolic size {n}", got=str(x.type),
                         fix="give the size as a number in trine.spec").locate(Site(*user_site()))  # fmt: skip
    return tuple(squeeze(part, where) for part in split(x, (1,) * n, axis=where)) if n else ()


def roll(x: V, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> V:
    """The elements moved by `shift` places along `axis`, those falling off the end coming in at the front."""
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, axis=0), x.shape)
    shifts = [shift] if isinstance(shift, int) else list(shift)
    axes = [checked_axis("roll", a, x) for a in ([axis] if isinstance(axis, int) else axis)]
    shifts = shifts * len(axes) if len(shifts) == 1 else shifts
    if len(shifts) != len(axes):
        raise ArgumentError("roll", f"{len(shifts)} shifts for {len(axes)} axes", got=f"{shift}, axis={axis}").locate(
            Site(*user_site()))  # fmt: skip
    for where, by in zip(axes, shifts, strict=True):
        n = x.shape[where]
        cut = n - by % n if isinstance(n, int) and n else 0
        if isinstance(n, Dim):
            raise ShapeError("roll", f"axis {where} has the symbolic size {n}", got=str(x.type)).locate(
                Site(*user_site()))  # fmt: skip
        if cut not in (0, n):
            left, right = split(x, (cut, n - cut), axis=where)
            x = concat([right, left], axis=where)
    return alias(x)


def repeat(x: V, repeats: int, /, *, axis: int | None = None) -> V:
    """Each element `repeats` times in a row, along `axis`; with None, of the flattened tensor.

    Raises:
        ArgumentError: fewer than 0 repeats.
    """
    if repeats < 0:
        raise ArgumentError("repeat", f"takes 0 or more repeats, not {repeats}", got=str(repeats)).locate(
            Site(*user_site()))  # fmt: skip
    if axis is None:
        return repeat(reshape(x, (-1,)), repeats, axis=0)
    where = checked_axis("repeat", axis, x)
    wide = expand_dims(x, axis=where + 1)
    wide = broadcast_to(wide, (*x.shape[: where + 1], repeats, *x.shape[where + 1 :]))
    return reshape(wide, (*x.shape[:where], x.shape[where] * repeats, *x.shape[where + 1 :]))


def tile(x: V, repetitions: Sequence[int], /) -> V:
    """The whole tensor side by side, `repetitions[i]` times along axis i; missing axes or repetitions count as 1.

    Raises:
        ArgumentError: fewer than 0 repetitions.
    """
    if any(n < 0 for n in repetitions):
        raise ArgumentError("tile", "takes 0 or more repetitions", got=str(tuple(repetitions))).locate(
            Site(*user_site()))  # fmt: skip
    rank = max(x.ndim, len(repetitions))
    sizes = (*(1,) * (rank - x.ndim), *x.shape)
    counts = (*(1,) * (rank - len(repetitions)), *repetitions)
    apart = reshape(x, [n for size in sizes for n in (1, size)])
    wide = broadcast_to(apart, [n for count, size in zip(counts, sizes, strict=True) for n in (count, size)])
    return reshape(wide, [count * size for count, size in zip(counts, sizes, strict=True)])
