"""The matrix product, a primitive, and what is made of it: vector and tensor products, einsum.

Floats of 16 bits accumulate in float32 and are rounded once; integers wrap. Batch axes broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from trine import dtypes
from trine.dtypes import DType, promote
from trine.errors import ArgumentError, DTypeError, ShapeError, Site, TrineError
from trine.ir.graph import Type, Value
from trine.ops.base import Array, Gradients, Op, V, apply, no_tensor, primitive, user_site
from trine.ops.casting import convert
from trine.ops.elementwise import align, multiply
from trine.ops.movement import (
    checked_axis,
    matrix_transpose,
    moveaxis,
    pad,
    permute_dims,
    reshape,
    take_slice,
)
from trine.ops.reduction import Sum
from trine.shapes import Size, broadcast, same, size_of

_MATMUL: Final = "matmul"
_DOTS: Final = "..."

Label = str | int  # a letter, or an axis under the ellipsis counted from the end: -1, -2, ...
Labels = tuple[Label, ...]


@primitive
class MatMul(Op):
    """Batched matrix product: `[..., m, k] @ [..., k, n] -> [..., m, n]`.

    Floats come back in the promoted dtype, rounded once; integers come back in the dtype they accumulate in.

    Attributes:
        accumulate: the dtype of the sums, of the same kind as the promoted dtype and at least as wide.
    """

    form = "contraction"
    accumulate: DType

    def infer(self, *types: Type) -> Type:
        """The broadcast batch axes, the rows of a, the columns of b."""
        a, b = types
        if a.ndim < 2 or b.ndim < 2:
            raise ShapeError(_MATMUL, f"takes matrices, here a has {_axes(a.ndim)} and b has {_axes(b.ndim)}",
                             got=f"{a} @ {b}")  # fmt: skip
        dtype = promote(_MATMUL, a.dtype, b.dtype)
        _check_accumulation(dtype, self.accumulate, f"{a} @ {b}")
        _check_inner(a, b)
        batch = broadcast(f"{_MATMUL}, batch axes", a.shape[:-2], b.shape[:-2])
        return Type((*batch, a.shape[-2], b.shape[-1]), dtype if dtype.is_float else self.accumulate)

    def reference(self, *arrays: Array) -> Array:
        """By np.matmul in the accumulation dtype."""
        dtype = promote(_MATMUL, dtypes.dtype(arrays[0].dtype), dtypes.dtype(arrays[1].dtype))
        a, b = (np.ascontiguousarray(x, self.accumulate.numpy) for x in arrays)
        out: Array = np.matmul(a, b)
        return convert(out, dtype if dtype.is_float else self.accumulate)

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """`g b^T, a^T g`; the sum over the batch axes that one matrix is repeated along is part of the product."""
        a, b = inputs
        if a.ndim == 2 and b.ndim > 2:
            return self.product(_rows(g), matrix_transpose(_rows(b))), self.product(matrix_transpose(a), g)
        return self.product(g, matrix_transpose(b)), self.product(matrix_transpose(a), g)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The batch axis is one more of those that broadcast."""
        return self.product(*align(batched, inputs))

    def product(self, a: V, b: V) -> V:
        """`a @ b`; where b is one matrix for a whole batch, all rows of the batch are the rows of one product."""
        if b.ndim != 2 or a.ndim < 3 or same(a.shape[-1], b.shape[0]) is not True:
            return apply(self, a, b)
        *batch, k = a.shape
        return reshape(apply(self, reshape(a, (size_of(tuple(batch)), k)), b), (*batch, b.shape[1]))


def _rows(x: V) -> V:
    """`[..., m, n]` as `[m, ... n]`."""
    rows = moveaxis(x, -2, 0)
    return reshape(rows, (rows.shape[0], size_of(rows.shape[1:])))


def _axes(count: int) -> str:
    return f"{count} {'axis' if count == 1 else 'axes'}"


def _check_accumulation(dtype: DType, accumulate: DType, got: str) -> None:
    if dtype is dtypes.bool:
        raise DTypeError(_MATMUL, "takes numbers, not bool", got=got, fix="x.astype(trine.int32)")
    if dtype.is_float is not accumulate.is_float or promote(_MATMUL, dtype.accumulator, accumulate) is not accumulate:
        raise DTypeError(_MATMUL, f"products of {dtype.name} cannot be accumulated in {accumulate.name}", got=got,
                         fix=f"accumulate=trine.{dtype.accumulator.name}")  # fmt: skip


def _check_inner(a: Type, b: Type) -> None:
    """The rule of the matrix product on its inner sizes; an argument of one axis is a row before @, a column after."""
    k, k_b = a.shape[-1], b.shape[max(b.ndim - 2, 0)]
    equal = same(k, k_b)
    if equal:
        return
    axis = "second-to-last" if b.ndim > 1 else "only axis"
    rule = "inner sizes differ" if equal is False else "inner sizes cannot be shown to be equal"
    fix = "trine.matrix_transpose(b)" if b.ndim > 1 and same(b.shape[-1], k) else ""
    raise ShapeError(_MATMUL, f"{rule}: the last axis of a is {k}, the {axis} of b is {k_b}", got=f"{a} @ {b}", fix=fix)


# -- The functions -----------------------------------------------------------------------------------------------------


def matmul(x1: V, x2: V, /, *, accumulate: DType | None = None) -> V:
    """The matrix product over the last axis of `x1` and the second-to-last of `x2`; leading axes broadcast.

    An argument of one axis is a row (`x1`) or a column (`x2`), whose axis of size 1 the result does not have.

    Args:
        x1: `[..., m, k]` or `[k]`.
        x2: `[..., k, n]` or `[k]`.
        accumulate: the dtype of the sums; None is float32 for 16-bit floats and the promoted dtype otherwise. Integers
            come back in it, floats in the promoted dtype.

    Raises:
        ShapeError: inner sizes differ, batch axes do not broadcast, or an argument has no axes.
        DTypeError: bools, an argument that is no tensor, or an accumulation dtype that is too narrow.
    """
    a, b = _tensors(_MATMUL, x1, x2)
    try:
        if not a.ndim or not b.ndim:
            raise ShapeError(_MATMUL, f"takes at least 1 axis, here x1 has {a.ndim} and x2 has {b.ndim}",
                             got=f"{a.type} @ {b.type}", fix="x1 * x2")  # fmt: skip
        if a.ndim == 1 or b.ndim == 1:
            _check_inner(a.type, b.type)
        op = MatMul(accumulate or promote(_MATMUL, a.dtype, b.dtype).accumulator)
    except TrineError as error:
        raise error.locate(Site(*user_site())) from None
    left = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
    right = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
    out = op.product(left, right)
    if a.ndim > 1 and b.ndim > 1:
        return out
    rows = () if a.ndim == 1 else out.shape[-2:-1]
    columns = () if b.ndim == 1 else out.shape[-1:]
    return reshape(out, (*out.shape[:-2], *rows, *columns))


def _tensors(where: str, *values: V) -> tuple[V, ...]:
    for value in values:
        if not isinstance(value, Value):
            error = no_tensor(where, value)
            error.fix = "* multiplies by a number" if isinstance(value, int | float) else error.fix
            raise error
    return values


def vecdot(x1: V, x2: V, /, *, axis: int = -1) -> V:
    """The sums of `x1 * x2` along `axis`, counted in each from its own end; the other axes broadcast.

    Raises:
        ShapeError: the sizes along the axis differ, even where one is 1, or an argument does not have the axis.
    """
    a, b = _tensors("vecdot", x1, x2)
    a, b = moveaxis(a, checked_axis("vecdot", axis, a), -1), moveaxis(b, checked_axis("vecdot", axis, b), -1)
    if same(a.shape[-1], b.shape[-1]) is not True:
        raise ShapeError("vecdot", f"sizes along the axis differ: {a.shape[-1]} in x1, {b.shape[-1]} in x2",
                         got=f"{x1.type}, {x2.type}, axis {axis}").locate(Site(*user_site()))  # fmt: skip
    out = matmul(reshape(a, (*a.shape[:-1], 1, a.shape[-1])), reshape(b, (*b.shape, 1)))
    return reshape(out, out.shape[:-2])


def outer(x1: V, x2: V, /) -> V:
    """The products `x1[i] * x2[j]` of two vectors, of shape `[m, n]`.

    Raises:
        ShapeError: an argument has not exactly one axis.
    """
    a, b = _tensors("outer", x1, x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError("outer", f"takes two vectors, here x1 has {_axes(a.ndim)} and x2 has {_axes(b.ndim)}",
                         got=f"{a.type}, {b.type}", fix="outer(x1.flatten(), x2.flatten())").locate(
            Site(*user_site()))  # fmt: skip
    return multiply(reshape(a, (*a.shape, 1)), b)


def tensordot(x1: V, x2: V, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> V:
    """The sum of products over pairs of axes: first the other axes of `x1`, then those of `x2`.

    Args:
        x1: a tensor.
        x2: a tensor.
        axes: the number of last axes of x1 and first axes of x2, or the axes of each in the order of the pairs.

    Raises:
        ShapeError: the sizes of a pair differ, or there are not so many axes.
        ArgumentError: not as many axes for one as for the other, or one named twice.
    """
    a, b = _tensors("tensordot", x1, x2)
    left, right = _pairs(axes, a, b)
    for i, j in zip(left, right, strict=True):
        if same(a.shape[i], b.shape[j]) is not True:
            raise ShapeError("tensordot", f"sizes differ: axis {i} of x1 is {a.shape[i]}, axis {j} of x2 is "
                             f"{b.shape[j]}", got=f"{a.type}, {b.type}").locate(Site(*user_site()))  # fmt: skip
    rows = [i for i in range(a.ndim) if i not in left]
    columns = [j for j in range(b.ndim) if j not in right]
    k = size_of(tuple(a.shape[i] for i in left))
    kept_a, kept_b = tuple(a.shape[i] for i in rows), tuple(b.shape[j] for j in columns)
    out = matmul(
        reshape(permute_dims(a, (*rows, *left)), (size_of(kept_a), k)),
        reshape(permute_dims(b, (*right, *columns)), (k, size_of(kept_b))),
    )
    return reshape(out, (*kept_a, *kept_b))


def _pairs(axes: int | tuple[Sequence[int], Sequence[int]], a: Value, b: Value) -> tuple[list[int], list[int]]:
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ShapeError("tensordot", f"pairs {_axes(axes)}, but x1 has {a.ndim} and x2 has {b.ndim}",
                             got=f"{a.type}, {b.type}").locate(Site(*user_site()))  # fmt: skip
        return list(range(a.ndim - axes, a.ndim)), list(range(axes))
    left = [checked_axis("tensordot", i, a) for i in axes[0]]
    right = [checked_axis("tensordot", j, b) for j in axes[1]]
    if len(left) != len(right) or len(set(left)) < len(left) or len(set(right)) < len(right):
        raise ArgumentError("tensordot", f"axes are pairs of different axes, here {tuple(axes[0])} of x1 and "
                            f"{tuple(axes[1])} of x2", got=f"{a.type}, {b.type}").locate(
            Site(*user_site()))  # fmt: skip
    return left, right


# -- Einstein summation ------------------------------------------------------------------------------------------------


def einsum(subscripts: str, /, *operands: V) -> V:
    """The sum of products that Einstein's notation names, pair by pair from the left through matrix products.

    A letter names an axis; the same letter in several operands pairs their axes, twice in one operand takes the
    diagonal; what is not in the output is summed. Without `->` the output is the letters that occur once, in
    alphabetical order. `...` stands for any axes, which broadcast, and come first where the output is not given. An
    axis of size 1 is repeated as often as its letter asks for.

    Args:
        subscripts: for example `"bij,bjk->bik"`, `"...ij->...ji"`, `"ii"`.
        operands: as many tensors as there are inputs in the subscripts.

    Raises:
        ArgumentError: the subscripts break a rule.
        ShapeError: axes of one letter differ in size, or an operand has not as many axes as letters.

    Example:
        >>> import trine
        >>> trine.einsum("ij,j->i", trine.asarray([[1.0, 2.0], [3.0, 4.0]]), trine.asarray([1.0, 10.0])).tolist()
        [21.0, 43.0]
    """
    _tensors("einsum", *operands)
    try:
        inputs, output = _parsed(subscripts, operands)
        sizes = _sizes(inputs, operands)
    except TrineError as error:
        error.got = error.got or f"{subscripts!r} with {', '.join(str(x.type) for x in operands) or 'no operand'}"
        raise error.locate(Site(*user_site())) from None
    total, labels = _simple(operands[0], inputs[0], sizes)
    for i, x in enumerate(operands[1:], 1):
        later = {*output, *(label for other in inputs[i + 1 :] for label in other)}
        right, right_labels = _simple(x, inputs[i], sizes)
        total, labels = _combined((total, labels), (right, right_labels), later)
    total, labels = _summed(total, labels, set(output))
    return permute_dims(total, [labels.index(label) for label in output])


def _parsed(subscripts: str, operands: Sequence[Value]) -> tuple[list[Labels], Labels]:
    """The labels of the axes of each operand and of the output."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        count = f"{len(terms)} {'input' if len(terms) == 1 else 'inputs'}"
        raise ArgumentError("einsum", f"the subscripts name {count}, there are {len(operands)} operands")
    inputs = [_labels(term, x.ndim, i) for i, (term, x) in enumerate(zip(terms, operands, strict=True))]
    dots = max((-label for term in inputs for label in term if isinstance(label, int)), default=0)
    hidden: Labels = tuple(range(-dots, 0))
    if arrow:
        output = _split(right, hidden)
        _check_output(output, inputs, dots > 0 and _DOTS not in right)
        return inputs, output
    letters = [letter for term in terms for letter in term.replace(_DOTS, "")]
    return inputs, (*hidden, *sorted(letter for letter in set(letters) if letters.count(letter) == 1))


def _labels(term: str, ndim: int, position: int) -> Labels:
    letters = len(term.replace(_DOTS, ""))
    if letters > ndim or (letters < ndim and _DOTS not in term):
        raise ShapeError("einsum", f"{term!r} names {_axes(letters)}, operand {position} has {ndim}",
                         fix="... for the axes without a letter" if letters < ndim else "")  # fmt: skip
    return _split(term, tuple(range(letters - ndim, 0)))


def _split(term: str, hidden: Labels) -> Labels:
    """The labels of a term, with `hidden` in the place of the ellipsis."""
    before, dots, after = term.partition(_DOTS)
    for letter in before + after:
        if not (letter.isascii() and letter.isalpha()):
            raise ArgumentError("einsum", f"subscripts are letters, commas, one -> and one ... a term, not {letter!r}")
    return (*before, *(hidden if dots else ()), *after)


def _check_output(output: Labels, inputs: Sequence[Labels], dropped: bool) -> None:
    for label in output:
        if output.count(label) > 1:
            raise ArgumentError("einsum", f"{label!r} is twice in the output")
        if not any(label in term for term in inputs):
            raise ArgumentError("einsum", f"{label!r} is in the output and in no input")
    if dropped:
        raise ArgumentError("einsum", "the inputs have axes under ..., the output does not", fix="->... in the output")


def _sizes(inputs: Sequence[Labels], operands: Sequence[Value]) -> dict[Label, Size]:
    """The size of each label: that of its axes, of which those of size 1 are repeated."""
    sizes: dict[Label, Size] = {}
    for i, (term, x) in enumerate(zip(inputs, operands, strict=True)):
        for label, n in zip(term, x.shape, strict=True):
            known = sizes.setdefault(label, n)
            if known == 1:
                sizes[label] = n
            elif n != 1 and same(known, n) is not True:
                name = repr(label) if isinstance(label, str) else f"axis {label} of ..."
                raise ShapeError("einsum", f"{name} has the size {known} before, and {n} in operand {i}")
    return sizes


def _simple(x: V, labels: Labels, sizes: dict[Label, Size]) -> tuple[V, Labels]:
    """The operand with each label once, without axes of size 1 that stand for more."""
    kept = [i for i, label in enumerate(labels) if x.shape[i] != 1 or sizes[label] == 1]
    x, labels = reshape(x, [x.shape[i] for i in kept]), tuple(labels[i] for i in kept)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            x = _diagonal(moveaxis(x, (first, second), (-2, -1)))
            labels = (*(each for i, each in enumerate(labels) if i not in (first, second)), label)
    return x, labels


def _diagonal(x: V) -> V:
    """The diagonal of `[..., n, n]`: one column of its elements written in rows of n + 1."""
    *batch, n, _ = x.shape
    flat = pad(reshape(x, (*batch, n * n)), ((0, 0),) * len(batch) + ((0, n),))
    column = take_slice(reshape(flat, (*batch, n, n + 1)), (0,) * (len(batch) + 2), (*batch, n, 1))
    return reshape(column, (*batch, n))


def _summed(x: V, labels: Labels, needed: set[Label]) -> tuple[V, Labels]:
    """The sum over the axes that nobody needs."""
    axes = tuple(i for i, label in enumerate(labels) if label not in needed)
    return (apply(Sum(axes), x) if axes else x), tuple(label for label in labels if label in needed)


def _combined(left: tuple[V, Labels], right: tuple[V, Labels], later: set[Label]) -> tuple[V, Labels]:
    """The product of two operands, summed over the labels that nobody needs later."""
    a, a_labels = _summed(*left, later.union(right[1]))
    b, b_labels = _summed(*right, later.union(left[1]))
    both = [label for label in a_labels if label in b_labels]
    batch = tuple(label for label in both if label in later)
    inner = tuple(label for label in both if label not in later)
    rows = tuple(label for label in a_labels if label not in both)
    columns = tuple(label for label in b_labels if label not in both)
    a = permute_dims(a, [a_labels.index(label) for label in (*batch, *rows, *inner)])
    b = permute_dims(b, [b_labels.index(label) for label in (*batch, *inner, *columns)])
    head = len(batch)
    wide, middle = a.shape[head : head + len(rows)], b.shape[head : head + len(inner)]
    tall = b.shape[head + len(inner) :]
    a = reshape(a, (*a.shape[:head], size_of(wide), size_of(middle)))
    b = reshape(b, (*b.shape[:head], size_of(middle), size_of(tall)))
    product = matmul(a, b) if inner else multiply(a, b)
    return reshape(product, (*product.shape[:head], *wide, *tall)), (*batch, *rows, *columns)
