"""Where elements lie: arithmetic on int64 index expressions, for operations that move elements.

Sizes are numbers or symbols. Additions of 0 and products with 1 are left out, so that what is read is what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from trine import dtypes
from trine.ir.expr import Expr, add, and_, constant, eq, idiv, irem, le, lt, mul, size, sub
from trine.shapes import Shape, Size

ALWAYS: Final = constant(True, dtypes.bool)
ZERO: Final = constant(0, dtypes.int64)


class Source(NamedTuple):
    """The place in one input that an element of the result is read from.

    Attributes:
        at: an int64 per axis of the input; any number where `inside` does not hold.
        inside: whether the element comes from this input.
    """

    at: tuple[Expr, ...]
    inside: Expr = ALWAYS


def shifted(i: Expr, by: Size) -> Expr:
    """`i + by`."""
    if isinstance(by, int) and by <= 0:
        return sub(i, size(-by)) if by else i
    return add(i, size(by))


def scaled(i: Expr, by: Size) -> Expr:
    """`i by`."""
    return i if by == 1 else mul(i, size(by))


def every(conditions: Sequence[Expr]) -> Expr:
    """Whether all conditions hold."""
    result = ALWAYS
    for condition in conditions:
        result = condition if result is ALWAYS else and_(result, condition)
    return result


def spread(index: Sequence[Expr], start: Sequence[Size], step: Sequence[int], shape: Shape) -> Source:
    """The element of `shape` at `index` where, per axis, they lie at `start`, `start + step`, ...; inside if any."""
    at: list[Expr] = []
    conditions: list[Expr] = []
    for i, begin, stride, n in zip(index, start, step, shape, strict=True):
        distance = shifted(i, -begin)
        place = distance if stride == 1 else idiv(distance, size(stride))
        if not isinstance(begin, int) or begin > 0:
            conditions.append(le(ZERO, distance))
        conditions.append(lt(place, size(n)))
        if stride != 1:
            conditions.append(eq(irem(distance, size(stride)), ZERO))
        at.append(place)
    return Source(tuple(at), every(conditions))


def reshaped(index: Sequence[Expr], new: Shape, old: Shape) -> tuple[Expr, ...]:
    """The index in `old` of the element at `index` in `new`; axes in front and behind that stay are left alone."""
    front = _agreeing(old, new)
    back = _agreeing(old[front:][::-1], new[front:][::-1])
    end = len(new) - back
    number = flattened(index[front:end], new[front:end])
    return (*index[:front], *unflattened(number, old[front : len(old) - back]), *index[end:])


def _agreeing(a: Shape, b: Shape) -> int:
    """How many sizes in front are equal."""
    return next((i for i, (n, m) in enumerate(zip(a, b, strict=False)) if n != m), min(len(a), len(b)))


def flattened(index: Sequence[Expr], shape: Shape) -> Expr:
    """The row-major number of an element of `shape`."""
    number = ZERO
    for i, n in zip(index, shape, strict=True):
        if n != 1:
            number = i if number is ZERO else add(scaled(number, n), i)
    return number


def unflattened(number: Expr, shape: Shape) -> tuple[Expr, ...]:
    """The index in `shape` of the element with a row-major number."""
    long = [axis for axis, n in enumerate(shape) if n != 1]
    index = [ZERO] * len(shape)
    for axis in reversed(long[1:]):
        index[axis] = irem(number, size(shape[axis]))
        number = idiv(number, size(shape[axis]))
    for axis in long[:1]:
        index[axis] = number
    return tuple(index)
