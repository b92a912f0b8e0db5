"""Primitives that read and write at positions given by integers, and NumPy's `x[key]` and `x[key] = value` on them.

Gather and scatter-add are each other's transpose. An index counts from the end where it is negative, and one out of
range always raises. A key of integers and slices alone records no index: it is a slice, a flip and a reshape.

Long because keys are half of it, and they are nothing but a way to write the primitives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

import numpy as np

from trine import dtypes, shapes
from trine.dtypes import DType
from trine.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError, Site, TrineError
from trine.ir.graph import Type, Value
from trine.ops.base import (
    Array,
    Gradients,
    Op,
    Scalar,
    V,
    alias,
    apply,
    like,
    literal,
    primitive,
    source,
    user_site,
    wrap,
)
from trine.ops.creation import SizeValue, full, iota
from trine.ops.elementwise import add, cast, equal, less_equal, operand, where
from trine.ops.movement import (
    Reshape,
    broadcast_to,
    checked_axis,
    expand_dims,
    flip,
    moveaxis,
    permute_dims,
    reshape,
    take_slice,
    update_slice,
)
from trine.shapes import Dim, Shape, Size, format_shape, normalize_slice, same, size_of

# -- Primitives --------------------------------------------------------------------------------------------------------


@primitive
class Indexed(Op):
    """The family: `axes` of x are indexed by as many integer arrays of one shape, the other axes are taken whole."""

    form = "indexing"
    axes: tuple[int, ...]

    def selected(self, x: Type, indices: Sequence[Type]) -> Shape:
        """The shape of the elements that the indices name: that of the indices, then the other axes of x in order.

        Raises:
            ShapeError: index arrays of different shapes, or not one for each axis.
            DTypeError: an index array that holds no integers.
        """
        got = ", ".join(str(t) for t in (x, *indices))
        if len(indices) != len(self.axes) or not self.axes or len({*self.axes} & {*range(x.ndim)}) != len(self.axes):
            raise ShapeError(self.name, f"{len(indices)} index arrays for axes {self.axes} of {x.ndim}", got=got)
        first = indices[0].shape
        for each in indices:
            if not each.dtype.is_integer:
                raise DTypeError(self.name, f"only integers index, not {each.dtype.name}", got=got,
                                 fix="i.astype(trine.int64)")  # fmt: skip
            if each.shape != first and (each.ndim != len(first) or not all(map(same, each.shape, first))):
                raise ShapeError(self.name, f"index arrays have one shape, here {format_shape(first)} and "
                                 f"{format_shape(each.shape)}", got=got)  # fmt: skip
        return (*first, *self.others(x.shape))

    def others(self, shape: Shape) -> Shape:
        """The sizes of the axes that are not indexed."""
        return tuple(n for a, n in enumerate(shape) if a not in self.axes)

    def rows(self, x: Array) -> Array:
        """A view of `x` with the indexed axes in front."""
        return x.transpose(*self.axes, *(a for a in range(x.ndim) if a not in self.axes))

    def positions(self, x: Array, indices: Sequence[Array]) -> tuple[Array, ...]:
        """The indices counted from the front, along one axis each.

        Raises:
            IndexRangeError: an index outside -n..n-1.
        """
        counted = []
        for axis, each in zip(self.axes, indices, strict=True):
            n = x.shape[axis]
            outside = np.argwhere((each < -n) | (each >= n))
            if len(outside):
                place = tuple(int(i) for i in outside[0])
                raise _out_of_range(self.name, int(each[place]), axis, n, place, str(_type(x)))
            flat = each.reshape(-1).astype(np.int64)
            counted.append(np.where(flat < 0, flat + n, flat))
        return tuple(counted)

    def along_batch(self, size: Size, indices: Sequence[V]) -> tuple[Any, list[V]]:
        """The operation whose x has a batch axis too, and its indices, given ones that have it: the axis counts."""
        shape = indices[0].shape
        count: V = iota(indices[0], size, dtypes.int64)
        place = reshape(count, (size, *(1,) * (len(shape) - 1)))
        return type(self)((0, *(a + 1 for a in self.axes))), [broadcast_to(place, shape), *indices]


class Gather(Indexed):
    """The elements of x at the indices: `out[s, r]` is x at `index[s]` on the axes and at r on the others."""

    def infer(self, *types: Type) -> Type:
        """The indices' shape, then the other axes."""
        return Type(self.selected(types[0], types[1:]), types[0].dtype)

    def reference(self, *arrays: Array) -> Array:
        """By integer indexing, once the range is checked."""
        x, *indices = arrays
        found = self.rows(x)[self.positions(x, indices)]
        return found.reshape((*indices[0].shape, *found.shape[1:]))

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` added up at the indices."""
        x, *indices = inputs
        return (apply(ScatterAdd(self.axes), full(g, x.shape, 0), g, *indices), *[None] * len(indices))

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """With shared indices the batch axis is taken whole; with shared x the indices have it."""
        x, *indices = inputs
        if not any(batched[1:]):
            return moveaxis(apply(Gather(tuple(a + 1 for a in self.axes)), x, *indices), indices[0].ndim, 0)
        indices = _batched(size, batched[1:], indices)
        if not batched[0]:
            return apply(self, x, *indices)
        op, indices = self.along_batch(size, indices)
        return apply(op, x, *indices)


class _Write(Indexed):
    def infer(self, *types: Type) -> Type:
        """The type of x; the updates have the shape that a gather gives."""
        x, updates, *indices = types
        shape, got = self.selected(x, indices), ", ".join(str(t) for t in types)
        if updates.dtype is not x.dtype:
            raise DTypeError(self.name, f"the updates are {updates.dtype.name}, the tensor is {x.dtype.name}", got=got,
                             fix=f"cast them: v.astype(trine.{x.dtype.name})")  # fmt: skip
        if updates.shape != shape and (updates.ndim != len(shape) or not all(map(same, updates.shape, shape))):
            raise ShapeError(self.name, f"the updates have the shape {format_shape(updates.shape)}, the indices name "
                             f"{format_shape(shape)}", got=got)  # fmt: skip
        return x

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """x and the updates get the batch axis, and so do the indices unless all of them are shared."""
        x, updates = _batched(size, batched[:2], inputs[:2])
        indices = list(inputs[2:])
        if not any(batched[2:]):
            updates = moveaxis(updates, 0, indices[0].ndim)
            return apply(type(self)(tuple(a + 1 for a in self.axes)), x, updates, *indices)
        op, indices = self.along_batch(size, _batched(size, batched[2:], indices))
        return apply(op, x, updates, *indices)


class ScatterAdd(_Write):
    """x with the updates added at the indices, in the order of the indices; half types round once, at the end."""

    def reference(self, *arrays: Array) -> Array:
        """By np.add.at, in float32 or wider."""
        x, updates, *indices = arrays
        out = np.array(x, dtypes.dtype(x.dtype).accumulator.numpy)
        rows, places = self.rows(out), self.positions(x, indices)
        np.add.at(rows, places, updates.reshape((len(places[0]), *rows.shape[len(places) :])).astype(out.dtype))
        return out.astype(x.dtype, copy=False)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g` to x, and what it is at the indices to the updates."""
        indices = inputs[2:]
        return (g, apply(Gather(self.axes), g, *indices), *[None] * len(indices))


class Scatter(_Write):
    """x with the elements at the indices replaced by the updates; where an index occurs twice, the last one wins."""

    def reference(self, *arrays: Array) -> Array:
        """By assignment into a copy, along one axis of indices, which NumPy does in order."""
        x, updates, *indices = arrays
        out = np.array(x)
        rows, places = self.rows(out), self.positions(x, indices)
        rows[places] = updates.reshape((len(places[0]), *rows.shape[len(places) :]))
        return out

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """To x, `g` with zeros at the indices; to the updates, `g` there, or 0 where another one won."""
        x, updates, *indices = inputs
        zero = like(g, 0)
        kept = apply(self, g, broadcast_to(zero, updates.shape), *indices)
        shape = indices[0].shape
        count: Value = iota(g, size_of(shape), dtypes.int64)
        order = reshape(count, shape)
        board = Scatter(tuple(range(len(self.axes))))
        seen = apply(board, full(g, tuple(x.shape[a] for a in self.axes), 0, dtypes.int64), order, *indices)
        won = equal(apply(Gather(board.axes), seen, *indices), order)
        won = reshape(won, (*shape, *(1,) * (updates.ndim - len(shape))))
        return (kept, where(won, apply(Gather(self.axes), g, *indices), zero), *[None] * len(indices))


def _batched(size: Size, batched: Sequence[bool], inputs: Sequence[V]) -> list[V]:
    """The inputs, those without a batch axis repeated along one."""
    return [x if has else broadcast_to(x, (size, *x.shape)) for x, has in zip(inputs, batched, strict=True)]


def _type(x: Array) -> Type:
    return Type(x.shape, dtypes.dtype(x.dtype))


def _out_of_range(name: str, i: Size, axis: int, n: Size, place: tuple[int, ...] = (), got: str = "") -> TrineError:
    at = f" at position {format_shape(place)}" if place else ""
    few = isinstance(n, int) and n == 0
    return IndexRangeError(name, f"index {i}{at} is out of range for axis {axis} with size {n}", got=got,
                           fix="" if few or isinstance(n, Dim) else f"an index from {-n} to {n - 1}")  # fmt: skip


# -- Functions of index arrays -----------------------------------------------------------------------------------------


def _integers(name: str, indices: V | int, x: V) -> V:
    """An index array as a handle; a Python integer becomes an int64 constant."""
    if isinstance(indices, int) and not isinstance(indices, bool):
        return wrap(literal(indices, dtypes.int64), x)  # type: ignore[no-any-return]  # the class of the handle given
    found = operand(indices, x)
    if not found.dtype.is_integer:
        raise DTypeError(name, f"only integers index, not {found.dtype.name}", got=str(found.type),
                         fix="i.astype(trine.int64)").locate(Site(*user_site()))  # fmt: skip
    return found


def _behind(x: V, width: int, count: int) -> V:
    """`x` with its first `width` axes moved behind the next `count`."""
    return permute_dims(x, (*range(width, width + count), *range(width), *range(width + count, x.ndim)))


def _before(x: V, width: int, count: int) -> V:
    """`x` with the `width` axes behind the first `count` moved to the front: undoes `_behind`."""
    return permute_dims(x, (*range(count, count + width), *range(count), *range(count + width, x.ndim)))


def take(x: V, indices: V, /, *, axis: int | None = None) -> V:
    """The elements of `x` at integer `indices` along `axis`, which is replaced by the axes of the indices.

    Negative indices count from the end. Only a tensor of one axis may leave `axis` out.

    Raises:
        IndexRangeError: an index outside the axis, when the value is computed.
        ArgumentError: no axis, or one that does not exist.
        DTypeError: indices that are no integers.
    """
    if axis is None and x.ndim != 1:
        raise ArgumentError("take", f"axis must be given for a tensor of {x.ndim} axes", got=str(x.type),
                            fix="take(x, indices, axis=0)").locate(Site(*user_site()))  # fmt: skip
    at = checked_axis("take", axis or 0, x)
    indices = _integers("take", indices, x)
    return _behind(apply(Gather((at,)), x, indices), indices.ndim, at)


def take_along_axis(x: V, indices: V, /, *, axis: int = -1) -> V:
    """The elements of `x` at integer `indices` along `axis`, the place on the other axes being that of the index.

    Off the axis the two broadcast; the result has the size of `indices` along it. What `argsort` returns undoes as
    `take_along_axis(x, argsort(x))`.

    Raises:
        ShapeError: different numbers of axes, or sizes off the axis that do not broadcast.
        IndexRangeError: an index outside the axis, when the value is computed.
    """
    name = "take_along_axis"
    at = checked_axis(name, axis, x)
    indices = _integers(name, indices, x)
    if indices.ndim != x.ndim:
        raise ShapeError(name, f"the indices have as many axes as the tensor, {x.ndim}, not {indices.ndim}",
                         got=f"{x.type}, {indices.type}").locate(Site(*user_site()))  # fmt: skip
    try:
        common = shapes.broadcast(name, *[(*v.shape[:at], 1, *v.shape[at + 1 :]) for v in (x, indices)])
    except TrineError as error:
        raise error.locate(Site(*user_site())) from None
    x = broadcast_to(x, (*common[:at], x.shape[at], *common[at + 1 :]))
    shape = (*common[:at], indices.shape[at], *common[at + 1 :])
    grids = [broadcast_to(indices if a == at else _counting(x, a), shape) for a in range(x.ndim)]
    return apply(Gather(tuple(range(x.ndim))), x, *grids)


def _counting(x: V, axis: int) -> V:
    """0, 1, ... along an axis of `x`, the other axes having size 1."""
    n = x.shape[axis]
    return reshape(iota(x, n, dtypes.int64), (*(1,) * axis, n, *(1,) * (x.ndim - axis - 1)))


def scatter_add(x: V, indices: V, updates: V | Scalar, /, *, axis: int = 0) -> V:
    """`x` with `updates` added at integer `indices` along `axis`, once for every time an index occurs.

    The updates have, or broadcast to, the shape of `take(x, indices, axis=axis)`; they are added in the order of the
    indices.

    Raises:
        IndexRangeError: an index outside the axis, when the value is computed.
        DTypeError: updates of another dtype than `x`.
    """
    at = checked_axis("scatter_add", axis, x)
    indices = _integers("scatter_add", indices, x)
    shape = (*x.shape[:at], *indices.shape, *x.shape[at + 1 :])
    new = _before(broadcast_to(operand(updates, x), shape), indices.ndim, at)
    return apply(ScatterAdd((at,)), x, new, indices)


def one_hot(indices: V, depth: Size, /, dtype: DType = dtypes.float32) -> V:
    """1 at each index and 0 elsewhere along a new last axis of size `depth`; as everywhere, -1 is the last place.

    Raises:
        IndexRangeError: an index outside -depth..depth-1, when the value is computed.
        DTypeError: indices that are no integers.
    """
    places: V = iota(indices, depth, dtypes.int64)
    found = apply(Gather((0,)), places, _integers("one_hot", indices, indices))  # checks the range
    return cast(equal(expand_dims(found, axis=-1), places), dtype)


def tril(x: V, /, *, k: int = 0) -> V:
    """The lower triangle of matrices: zeros above diagonal `k`, which lies `k` places right of the main one."""
    return _triangle("tril", x, k, lower=True)


def triu(x: V, /, *, k: int = 0) -> V:
    """The upper triangle of matrices: zeros below diagonal `k`, which lies `k` places right of the main one."""
    return _triangle("triu", x, k, lower=False)


def _triangle(name: str, x: V, k: int, lower: bool) -> V:
    if x.ndim < 2:
        raise ShapeError(name, f"takes at least 2 axes, not {x.ndim}", got=str(x.type)).locate(Site(*user_site()))
    rows: V = iota(x, x.shape[-2], dtypes.int64)
    columns: V = iota(x, x.shape[-1], dtypes.int64)
    diagonal = add(expand_dims(rows, axis=1), k)
    kept = less_equal(columns, diagonal) if lower else less_equal(diagonal, columns)
    zero: V = like(x, 0)
    return where(kept, x, zero)


# -- Keys --------------------------------------------------------------------------------------------------------------


class _Plan(Generic[V]):
    """What a key means on a tensor: a box of it, the index arrays on axes of the box, and the shape of the result.

    The box is a slice of every axis, of size 1 where an integer picks. NumPy's rule: the axes of the index arrays stand
    where the indices do in the key, or in front where something separates them; an integer beside arrays is an index.

    Attributes:
        x: the tensor, with a leading axis of size 1 where the key holds single bools.
        start, count, step: of the box, steps positive.
        flipped: the axes of the box that are read backwards.
        axes: those that arrays index.
        arrays: the index arrays, one for each of `axes`.
        rest: the sizes of the result without those of the index arrays.
        before: how many of `rest` come before those; None until an index is met.
        state: 0 before the first index, 1 at neighbouring ones, 2 behind them, 3 where they are separated.
    """

    def __init__(self, x: V) -> None:
        self.x = x
        self.start: list[Size] = []
        self.count: list[Size] = []
        self.step: list[int] = []
        self.flipped: list[int] = []
        self.axes: list[int] = []
        self.arrays: list[V] = []
        self.rest: list[Size] = []
        self.before = 0
        self.state = 0

    def indexed(self) -> None:
        """An index comes next in the key."""
        if self.state == 0:
            self.before = len(self.rest)
        self.state = 1 if self.state < 2 else 3

    def passed(self) -> None:
        """Something that is no index comes next in the key."""
        self.state = 2 if self.state == 1 else self.state

    def box(self, start: Size, count: Size, step: int) -> None:
        """Slice the next axis."""
        self.start.append(start)
        self.count.append(count)
        self.step.append(step)

    def take(self) -> None:
        """All of the next axis."""
        n = self.x.shape[len(self.start)]
        self.box(0, n, 1)
        self.rest.append(n)
        self.passed()

    def slice(self, key: slice) -> None:
        """`a:b:s`."""
        start, step, count = normalize_slice("index", key, self.x.shape[len(self.start)])
        if step < 0:
            self.flipped.append(len(self.start))
            start, step = start + (count - 1) * step, -step
        self.box(0 if isinstance(count, int) and count == 0 else start, count, step)
        self.rest.append(count)
        self.passed()

    def pick(self, i: Size) -> None:
        """One element of the next axis, checked now where the sizes are numbers and otherwise when it runs."""
        axis = len(self.start)
        n = self.x.shape[axis]
        if isinstance(i, int) and isinstance(n, int):
            if not -n <= i < n:
                raise _out_of_range("index", i, axis, n)
            self.indexed()
            self.box(i + n if i < 0 else i, 1, 1)
            return
        start = _certain(i, n)
        if start is not None:
            self.indexed()
            self.box(start, 1, 1)
        elif isinstance(i, int):
            self.array(wrap(literal(i, dtypes.int64), self.x))
        else:
            self.array(source(SizeValue(i, dtypes.int64), self.x))

    def array(self, indices: V) -> None:
        """An index array for the next axis."""
        self.indexed()
        self.axes.append(len(self.start))
        self.arrays.append(indices)
        self.box(0, self.x.shape[len(self.start)], 1)

    def mask(self, mask: Array, convert: Callable[[Any], V]) -> None:
        """An index array for each axis of a mask."""
        axis = len(self.start)
        _check_mask(mask.shape, self.x.shape[axis : axis + mask.ndim], axis)
        for places in np.nonzero(mask):
            self.array(convert(places))

    def new(self) -> None:
        """A new axis in the result."""
        self.rest.append(1)
        self.passed()

    @property
    def position(self) -> int:
        """Where in `rest` the axes of the index arrays come."""
        return 0 if self.state == 3 else self.before

    @property
    def whole(self) -> bool:
        """Whether the box is all of x."""
        unmoved = all(a == 0 for a in self.start) and all(s == 1 for s in self.step)
        return unmoved and tuple(self.count) == self.x.shape

    def read(self) -> V:
        """The box, its elements in the order of the key."""
        return self.turned(take_slice(self.x, self.start, self.count, self.step))

    def write(self, box: V) -> V:
        """x with the box replaced by `box`, whose elements are in the order of the key."""
        return update_slice(self.x, self.turned(box), self.start, self.step)

    def turned(self, box: V) -> V:
        """`box` with the axes flipped that are read backwards."""
        return flip(box, axis=self.flipped) if self.flipped else box


def _certain(i: Size, n: Size) -> Size | None:
    """Where element `i` of an axis of size `n` is, counted from the front; None unless it is there for all sizes."""
    try:
        start, _, count = normalize_slice("index", slice(i, None if i == -1 else i + 1), n)
    except ShapeError:  # open whether i counts from the front or from the back
        return None
    return start if same(count, 1) else None


def _check_mask(mask: Shape, sizes: Shape, axis: int) -> None:
    for i, (m, n) in enumerate(zip(mask, sizes, strict=True), axis):
        if same(m, n) is not True:
            raise IndexRangeError("index", f"a mask has the sizes of the axes it covers: on axis {i} the mask has {m}, "
                                  f"the tensor {n}", got=f"a mask of {format_shape(mask)}")  # fmt: skip


def _entry(item: Any, force: Callable[[V], Array], convert: Callable[[Any], V]) -> Any:
    """One part of a key as None, `...`, a slice, an integer or Dim, a bool array, or a handle on integers."""
    if item is None or item is Ellipsis or isinstance(item, Dim):
        return item
    if isinstance(item, slice):
        return slice(*(_bound(bound, force) for bound in (item.start, item.stop, item.step)))
    if isinstance(item, Value):
        if item.dtype is dtypes.bool:
            return np.asarray(force(item))  # type: ignore[arg-type]  # a size is a number here
        if item.dtype.is_integer:
            return item
        raise _not_an_index(f"{item.dtype.name} tensor", str(item.type), "x.astype(trine.int64)")
    if hasattr(item, "__index__") and not isinstance(item, bool | np.ndarray):
        return item.__index__()
    return _converted(item, convert)


def _converted(item: Any, convert: Callable[[Any], V]) -> Any:
    """A bool array, a Python integer or a handle on integers from lists, NumPy arrays and what NumPy reads as one."""
    try:
        array = np.asarray(item)
    except ValueError:
        raise _not_an_index("ragged list", f"{item!r:.60}") from None
    if array.size == 0 and not isinstance(item, np.ndarray) and not hasattr(item, "dtype"):
        array = array.astype(np.int64)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iu":
        fix = "a list of integers" if array.ndim else ""
        raise _not_an_index(type(item).__name__, f"{item!r:.60}", "i.astype(int)" if item is array else fix)
    return convert(array) if array.ndim else int(array)


def _not_an_index(kind: str, got: str, fix: str = "") -> TrineError:
    return DTypeError("index", f"a {kind} does not index; integers, slices, ..., None, integer arrays and masks do",
                      got=got, fix=fix)  # fmt: skip


def _bound(bound: Any, force: Callable[[V], Array]) -> Any:
    """A bound of a slice as an integer: a tensor is computed, for the size of the result depends on it."""
    if isinstance(bound, Value) and bound.dtype.is_integer and bound.ndim == 0:
        return int(force(bound))  # type: ignore[arg-type]  # a size is a number here
    return bound


def _plan(x: V, key: Any, force: Callable[[V], Array], convert: Callable[[Any], V]) -> _Plan[V]:
    entries = [_entry(item, force, convert) for item in (key if isinstance(key, tuple) else (key,))]
    singles = [bool(e) for e in entries if isinstance(e, np.ndarray) and e.ndim == 0]
    used = sum(e.ndim if isinstance(e, np.ndarray) else e is not None and e is not Ellipsis for e in entries)
    if used > x.ndim:
        raise IndexRangeError("index", f"too many indices: the tensor has {x.ndim} axes, the key indexes {used}")
    ellipses = sum(e is Ellipsis for e in entries)
    if ellipses > 1:
        raise IndexRangeError("index", f"a key has one ..., here it has {ellipses}", fix="write : for the others")
    plan: _Plan[V] = _Plan(reshape(x, (1, *x.shape)) if singles else x)
    if singles:
        plan.axes.append(0)
        plan.arrays.append(convert(np.zeros(int(all(singles)), np.int64)))
        plan.box(0, 1, 1)
    for entry in entries if ellipses else (*entries, Ellipsis):
        _extend(plan, entry, x.ndim - used, convert)
    return plan


def _extend(plan: _Plan[V], entry: Any, left: int, convert: Callable[[Any], V]) -> None:
    """Add one part of a key to the plan; `left` axes are those that `...` stands for."""
    if entry is None:
        plan.new()
    elif entry is Ellipsis:
        plan.passed()
        for _ in range(left):
            plan.take()
    elif isinstance(entry, slice):
        plan.slice(entry)
    elif isinstance(entry, int | Dim):
        plan.pick(entry)
    elif isinstance(entry, Value):
        plan.array(entry)  # type: ignore[arg-type]  # a size is a number here
    elif entry.ndim:
        plan.mask(entry, convert)
    else:
        plan.indexed()


def _planned(
    name: str, x: V, key: Any, force: Callable[[V], Array], convert: Callable[[Any], V]
) -> tuple[_Plan[V], Shape]:
    """The plan of a key and the common shape of its index arrays; errors name the function and the user's line."""
    try:
        plan = _plan(x, key, force, convert)
        return plan, shapes.broadcast("index", *[a.shape for a in plan.arrays]) if plan.arrays else ()
    except TrineError as error:
        error.where = name if error.where == "index" else error.where
        error.got = f"{x.type}, {error.got}" if error.got else str(x.type)
        raise error.locate(Site(*user_site())) from None


def index(x: V, key: Any, *, force: Callable[[V], Array], convert: Callable[[Any], V]) -> V:
    """What NumPy's `x[key]` gives, as a value of its own that later writes do not show in.

    Args:
        x: the tensor.
        key: an integer, a slice of any step, `...`, None, an integer array or tensor, a bool mask, or a tuple of them.
        force: the value of a tensor: a mask and a slice's bound decide the shape, so they are computed.
        convert: a tensor of a NumPy array: integer arrays and lists in the key become one.

    Raises:
        IndexRangeError: an integer out of range, too many indices, a mask of another size. Integers in arrays are
            checked when the value is computed.
        DTypeError: a part of the key that does not index, such as a float.
        ShapeError: index arrays that do not broadcast.
    """
    plan, common = _planned("index", x, key, force, convert)
    box, rest = plan.read(), plan.rest
    if not plan.arrays:
        out = apply(Reshape(tuple(rest)), box) if len(rest) != box.ndim or tuple(rest) != box.shape else box
        return alias(x) if out is x else out
    found = apply(Gather(tuple(plan.axes)), box, *[broadcast_to(a, common) for a in plan.arrays])
    return _behind(reshape(found, (*common, *rest)), len(common), plan.position)


def index_update(x: V, key: Any, value: V | Scalar, *, force: Callable[[V], Array], convert: Callable[[Any], V]) -> V:
    """`x` with the elements at `key` replaced by `value`, which is cast to its dtype and broadcast: `x[key] = value`.

    Where an index occurs twice, the last one wins. One mask with a value that fits every element alike is a selection,
    and its value is not asked for.

    Args:
        x: the tensor.
        key: as in `index`.
        value: a tensor or a Python number.
        force: as in `index`.
        convert: as in `index`.

    Raises:
        ShapeError: the value does not broadcast to what the key names.
        TrineError: what `index` raises.
    """
    new = cast(operand(value, x), x.dtype)
    if isinstance(key, Value | np.ndarray) and key.dtype in (dtypes.bool, np.bool_):
        chosen = _selection(x, key, new, convert)
        if chosen is not None:
            return chosen
    plan, common = _planned("index_update", x, key, force, convert)
    rest, at = plan.rest, plan.position
    new = _fitted(new, (*rest[:at], *common, *rest[at:]) if plan.arrays else tuple(rest))
    if not plan.arrays:
        return plan.write(reshape(new, plan.count))
    op = Scatter(tuple(plan.axes))
    new = reshape(_before(new, len(common), at), (*common, *op.others(tuple(plan.count))))
    box = apply(op, plan.read(), new, *[broadcast_to(a, common) for a in plan.arrays])
    return reshape(plan.turned(box) if plan.whole else plan.write(box), x.shape)


def _selection(x: V, mask: Any, new: V, convert: Callable[[Any], V]) -> V | None:
    """`x[mask] = new` by `where`; None where `new` may differ from one selected place to the next."""
    rest = x.shape[mask.ndim :]
    if mask.ndim > x.ndim or new.ndim > len(rest):
        return None
    try:
        _check_mask(mask.shape, x.shape[: mask.ndim], 0)
    except TrineError as error:
        error.where, error.got = "index_update", f"{x.type}, {error.got}"
        raise error.locate(Site(*user_site())) from None
    chosen: V = mask if isinstance(mask, Value) else convert(mask)  # type: ignore[assignment]  # checked above
    return where(reshape(chosen, (*mask.shape, *(1,) * len(rest))), _fitted(new, rest), x)


def _fitted(value: V, shape: Shape) -> V:
    """`value` broadcast to `shape`, leading axes of size 1 beyond it dropped."""
    sizes = value.shape
    while len(sizes) > len(shape) and sizes[0] == 1:
        sizes = sizes[1:]
    try:
        fits = shapes.broadcast("index_update", sizes, shape) == shape
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError("index_update", f"a value of shape {format_shape(value.shape)} does not broadcast to the "
                         f"{format_shape(shape)} that the key names", got=str(value.type)).locate(
            Site(*user_site()))  # fmt: skip
    return broadcast_to(reshape(value, sizes), shape)
