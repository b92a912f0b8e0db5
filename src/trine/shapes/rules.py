"""The shape rules that operations share: broadcasting, axes, reshapes, windows, slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from numbers import Integral

from trine.errors import ArgumentError, DTypeError, ShapeError
from trine.shapes.dim import (
    Dim,
    Shape,
    Size,
    as_numbers,
    counted,
    floor_quotient,
    listed,
    lower_bound,
    max_size,
    min_size,
    positive_part,
    same,
    symbols,
    upper_bound,
)


def format_shape(shape: Sequence[Size]) -> str:
    """The shape as messages print it: `[32, batch]`."""
    return f"[{', '.join(map(str, shape))}]"


def as_shape(where: str, shape: Size | Sequence[Size]) -> Shape:
    """The sizes that a user gave as a tuple; one size alone stands for one axis.

    Raises:
        DTypeError: a size is neither an integer nor a `Dim`.
        ArgumentError: a size is below 0.
    """
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    checked = tuple(_integer_or_dim(where, "a size", size) for size in sizes)
    for axis, size in enumerate(checked):
        if isinstance(size, int) and size < 0:
            rule = f"axis {axis} is to have the size {size}, sizes are 0 or more"
            raise ArgumentError(where, rule, got=format_shape(checked))
    return checked


def size_of(shape: Shape) -> Size:
    """The number of elements: the product of the sizes, 1 for `()`."""
    return math.prod(shape)


def broadcast(where: str, *shapes: Shape) -> Shape:
    """The shape that all `shapes` are repeated to, by NumPy's rule: aligned at the last axis, 1 stretches.

    A `Dim` is never taken to be 1, and fits only 1 and sizes that are provably equal to it.

    Raises:
        ShapeError: sizes differ or cannot be shown to be equal.

    Example:
        >>> broadcast("add", (3, 1), (4,))
        (3, 4)
    """
    if not shapes:
        return ()
    result = shapes[0]
    for shape in shapes[1:]:
        if shape != result:
            result = _broadcast_two(where, result, shape, shapes)
    return result


def _broadcast_two(where: str, a: Shape, b: Shape, shapes: Sequence[Shape]) -> Shape:
    if len(a) < len(b):
        a, b = b, a
    offset = len(a) - len(b)
    sizes = list(a)
    for axis, right in enumerate(b, offset):
        left = sizes[axis]
        if left == right or (isinstance(right, int) and right == 1):
            continue
        if isinstance(left, int) and left == 1:
            sizes[axis] = right
        elif same(left, right) is not True:
            raise _broadcast_error(where, left, right, axis - len(a), shapes)
    return tuple(sizes)


def _broadcast_error(where: str, a: Size, b: Size, axis: int, shapes: Sequence[Shape]) -> ShapeError:
    got = listed([format_shape(shape) for shape in shapes])
    if same(a, b) is False:
        rule = f"sizes do not broadcast: on axis {axis} they are {a} and {b}"
        return ShapeError(where, rule, got=got, fix=_with_last_axis(shapes))
    if isinstance(a, Dim) and isinstance(b, Dim):
        fix = "one name for both sizes in trine.spec if they are equal, a size of 1 if one is to be stretched"
    else:
        name, number = (a, b) if isinstance(a, Dim) else (b, a)
        fix = f"{number} in place of {name} in trine.spec if they are equal, 1 if {name} is to be stretched"
    rule = f"sizes do not broadcast: on axis {axis} they are {a} and {b}, which cannot be shown to be equal"
    return ShapeError(where, rule, got=got, fix=fix)


def _with_last_axis(shapes: Sequence[Shape]) -> str:
    """What to try where the shorter of two shapes names the leading axes of the longer."""
    short, long = sorted(shapes[:2], key=len)
    if len(shapes) > 2 or len(short) + 1 != len(long) or short != long[:-1] or not short:
        return ""
    return f"x[..., None] makes {format_shape((*short, 1))} of {format_shape(short)}"


def normalize_axis(where: str, axis: int, ndim: int) -> int:
    """`axis` counted from the front, in `0 .. ndim - 1`; negative axes count from the back.

    Raises:
        ArgumentError: there is no such axis.
        DTypeError: `axis` is no integer.
    """
    number = _integer(where, "axis", axis)
    if -ndim <= number < ndim:
        return number + ndim if number < 0 else number
    fix = f"an axis from {-ndim} to {ndim - 1}" if ndim else ""
    raise ArgumentError(where, f"axis {number} is out of range for a tensor with {counted(ndim, 'axis')}", fix=fix)


def normalize_axes(where: str, axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The axes counted from the front, ascending; `None` means all.

    Raises:
        ArgumentError: an axis does not exist or is named twice.
        DTypeError: an axis is no integer.
    """
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, int) or not isinstance(axis, Sequence):
        return (normalize_axis(where, axis, ndim),)
    axes = sorted(normalize_axis(where, each, ndim) for each in axis)
    for first, second in pairwise(axes):
        if first == second:
            raise ArgumentError(where, f"axis {first} is named twice", got=f"axis={tuple(axis)}")
    return tuple(axes)


def _integer(where: str, name: str, value: object) -> int:
    if type(value) is int:
        return value
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    fix = "// divides integers" if isinstance(value, float) and value.is_integer() else ""
    rule = f"{name} is an integer, here it is of type {type(value).__name__}"
    raise DTypeError(where, rule, got=f"{value!r:.60}", fix=fix)


def _integer_or_dim(where: str, name: str, value: object) -> Size:
    return value if isinstance(value, Dim) else _integer(where, name, value)


def reshape(where: str, shape: Shape, new: Sequence[Size]) -> Shape:
    """`new` with its -1, if any, replaced by the size that keeps the number of elements.

    Raises:
        ShapeError: the numbers of elements differ, or cannot be shown to be equal.
        ArgumentError: two sizes are -1, or one is below -1.
        DTypeError: a size is neither an integer nor a `Dim`.

    Example:
        >>> from trine.shapes import parse, reshape
        >>> reshape("reshape", (parse("batch"), 28, 28), (-1, 784))
        (batch, 784)
    """
    sizes = [_integer_or_dim(where, "a size", size) for size in new]
    total, free = size_of(shape), -1
    got = f"{format_shape(shape)} to {format_shape(sizes)}"
    for axis, size in enumerate(sizes):
        if isinstance(size, int) and size < 0:
            if size < -1:
                raise ArgumentError(where, f"axis {axis} is to have the size {size}, sizes are 0 or more", got=got)
            if free >= 0:
                raise ArgumentError(where, f"one size can be -1, here axes {free} and {axis} are", got=got)
            free = axis
    known = size_of(tuple(size for axis, size in enumerate(sizes) if axis != free))
    if free >= 0:
        sizes[free] = _remaining_size(where, total, known, got)
    elif total != known:
        _require_equal_counts(where, total, known, got, _one_size_open(total, sizes))
    return tuple(sizes)


def _one_size_open(total: Size, sizes: Sequence[Size]) -> str:
    """What to try where all sizes but the last divide the number of elements."""
    known = size_of(tuple(sizes[:-1]))
    if len(sizes) < 2 or not isinstance(known, int) or not known or not isinstance(total, int) or total % known:
        return ""
    return f"{format_shape([*sizes[:-1], -1])}, which gives {format_shape([*sizes[:-1], total // known])}"


def _remaining_size(where: str, total: Size, known: Size, got: str) -> Size:
    if isinstance(known, int) and known == 0:
        raise ShapeError(where, "-1 can be any size, for the other sizes multiply to 0", got=got)
    size = floor_quotient(total, known)
    equal = same(size * known, total)
    if equal:
        return size
    if equal is False:
        raise ShapeError(where, f"{total} elements do not divide by {known} to give the size -1", got=got)
    raise ShapeError(
        where,
        f"{total} elements cannot be shown to divide by {known} to give the size -1",
        got=got,
        fix=as_numbers(total, known),
    )


def _require_equal_counts(where: str, total: Size, known: Size, got: str, fix: str) -> None:
    equal = same(total, known)
    if equal is False:
        raise ShapeError(where, f"the tensor has {total} elements, the new shape has {known}", got=got, fix=fix)
    if equal is None:
        rule = f"the tensor has {total} elements, the new shape has {known}, which cannot be shown to be equal"
        raise ShapeError(where, rule, got=got, fix=as_numbers(total, known))


# --- windows and slices


def conv_size(where: str, n: Size, kernel: int, stride: int, dilation: int, low: int, high: int) -> Size:
    """The number of places where a window fits: `(n + low + high - dilation*(kernel - 1) - 1)//stride + 1`.

    For a `Dim` a window that is too large shows only when the size gets its number: the result is then 0 or negative.

    Args:
        where: the operation, for messages.
        n: the size of the axis.
        kernel: the number of elements in the window, >= 1.
        stride: the distance between places, >= 1.
        dilation: the distance between the elements of the window, >= 1.
        low: the padding before the first element; negative values crop.
        high: the padding after the last element.

    Raises:
        ShapeError: the window is larger than the padded axis, or padding crops more than there is.
        ArgumentError: kernel, stride or dilation is below 1.
    """
    window = _window(where, kernel, stride, dilation)
    padded = n + low + high
    if upper_bound(padded) < window:
        rule = f"the window spans {counted(window, 'element')}, the padded axis has {padded}"
        got = f"size {n}, kernel {kernel}, dilation {dilation}, padding ({low}, {high})"
        raise ShapeError(where, rule, got=got, fix='a smaller kernel, or padding="same"')
    return (padded - window) // stride + 1


def _window(where: str, kernel: int, stride: int, dilation: int) -> int:
    for name, value in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if value < 1:
            raise ArgumentError(where, f"the {name} is 1 or more, here it is {value}")
    return dilation * (kernel - 1) + 1


def same_padding(n: Size, kernel: int, stride: int, dilation: int, where: str = "same padding") -> tuple[int, int]:
    """The padding `(low, high)` that gives `ceil(n / stride)` places; the odd element goes to the end.

    This is the rule "SAME" of `tf.nn.convolution`: the total is `max(window - r, 0)`, where r is `n % stride`, or the
    stride where that is 0.

    Raises:
        ShapeError: `n` is a `Dim` whose remainder by the stride is open.
        ArgumentError: kernel, stride or dilation is below 1.
    """
    window = _window(where, kernel, stride, dilation)
    if window == 1:
        return 0, 0
    remainder = n % stride
    if isinstance(remainder, Dim):
        names = listed(sorted(symbols(n)))
        raise ShapeError(
            where,
            f"the padding depends on {remainder}, which is open",
            got=f"size {n}, kernel {kernel}, stride {stride}, dilation {dilation}",
            fix=f"give {names} as a number in trine.spec, or a size such as {stride}*{names}, or padding as numbers",
        )
    total = max(window - (remainder or stride), 0)
    return total // 2, total - total // 2


def normalize_slice(where: str, s: slice, n: Size) -> tuple[Size, int, Size]:
    """`start, step, count` of a Python slice over an axis of size `n`: element i is `start + i*step`.

    As `slice.indices`, bounds outside the axis are clipped; for a `Dim` the clipping is exact too, such as
    `max(n - 1, 0)` for the count of `[1:]`.

    Raises:
        ShapeError: a bound is a `Dim` that can be negative or not, or the step is a `Dim`.
        ArgumentError: the step is 0.
        DTypeError: a part is neither an integer nor a `Dim`.

    Example:
        >>> from trine.shapes import normalize_slice, parse
        >>> normalize_slice("slice", slice(None, None, -1), parse("n"))
        (n - 1, -1, n)
    """
    step = 1 if s.step is None else _integer_or_dim(where, "the step", s.step)
    if isinstance(step, Dim):
        raise ShapeError(where, f"the step of a slice is a number, here it is {step}", fix=as_numbers(step))
    if step == 0:
        raise ArgumentError(where, "the step of a slice is not 0", got=_slice_text(s))
    begin = None if s.start is None else _integer_or_dim(where, "the start", s.start)
    end = None if s.stop is None else _integer_or_dim(where, "the stop", s.stop)
    if isinstance(n, int) and not isinstance(begin, Dim) and not isinstance(end, Dim):
        first, last, _ = slice(begin, end, step).indices(n)
        return first, step, len(range(first, last, step))
    low, high = (0, n) if step > 0 else (-1, n - 1)
    start = (low if step > 0 else high) if begin is None else _clipped(where, begin, n, low, high)
    stop = (high if step > 0 else low) if end is None else _clipped(where, end, n, low, high)
    span = stop - start if step > 0 else start - stop
    return start, step, positive_part((span + abs(step) - 1) // abs(step))


def _clipped(where: str, bound: Size, n: Size, low: int, high: Size) -> Size:
    if lower_bound(bound) >= 0:
        return min_size(bound, high)
    if upper_bound(bound) < 0:
        return max_size(bound + n, low)
    raise ShapeError(
        where,
        f"it is open whether the bound {bound} counts from the front or, negative, from the back",
        fix=f"{as_numbers(bound)}, or max(bound, 0)",
    )


def _slice_text(s: slice) -> str:
    start, stop = ("" if bound is None else bound for bound in (s.start, s.stop))
    return f"[{start}:{stop}:{s.step}]"
