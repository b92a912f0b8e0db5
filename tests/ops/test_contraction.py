"""Matrix products, convolutions and windows: what the table of rows does not say."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.ops.cases_contraction import Windows
from trine import dtypes
from trine.autodiff.reverse import gradients
from trine.dtypes import DType
from trine.engine import ENGINE
from trine.errors import ArgumentError, DTypeError, ShapeError, TrineError
from trine.ir.graph import ABSTRACT, TRACKED, Node, Type, reach
from trine.ops.base import CONSTANT, Op, Placeholder, apply
from trine.ops.convolution import (
    Convolution,
    ConvolutionInputGradient,
    ConvolutionKernelGradient,
    conv_transpose,
    convolution,
)
from trine.ops.linalg import MatMul, einsum, matmul, outer, tensordot, vecdot
from trine.ops.window import Fold, Unfold, average_pool, global_average_pool, global_max_pool, max_pool
from trine.shapes import Dim


def constant(array: Any, flags: int = 0) -> Node:
    held = np.asarray(array)
    return Node(CONSTANT, (), Type(held.shape, dtypes.dtype(held.dtype)), flags, None, held)


def value(node: Node) -> np.ndarray:
    ENGINE.evaluate((node,))
    return np.asarray(node.buffer)


def called(function: Callable[..., Node], *arrays: Any) -> np.ndarray:
    return value(function(*map(constant, arrays)))


def symbolic(*shape: Any, dtype: DType = dtypes.float32) -> Node:
    return Node(Placeholder(), (), Type(shape, dtype), ABSTRACT)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def parts(error: TrineError) -> tuple[str, str, str, str]:
    """The four texts; that the line is the user's is checked here."""
    assert error.site is not None and error.site.filename == __file__
    return error.where, error.rule, error.got, error.fix


# -- Matrix products ---------------------------------------------------------------------------------------------------


def test_int8_products_wrap_or_come_back_in_the_accumulation_dtype() -> None:
    a, b = np.full((2, 300), 100, np.int8), np.full((300, 2), 100, np.int8)
    wrapped = called(matmul, a, b)
    assert wrapped.dtype == np.int8
    assert (wrapped == np.int64(3_000_000).astype(np.int8)).all()
    wide = called(lambda a, b: matmul(a, b, accumulate=dtypes.int32), a, b)
    assert wide.dtype == np.int32
    assert (wide == 3_000_000).all()


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_half_types_are_rounded_once_after_a_sum_in_float32(half: Any) -> None:
    a, b = draw(5, 700).astype(half), draw(700, 3).astype(half)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    got = called(matmul, a, b)
    assert got.dtype == half
    np.testing.assert_allclose(
        got.astype(np.float64), exact, rtol=float(ml_dtypes.finfo(half).eps) / 2 + 1e-5, atol=1e-4
    )


def test_a_sum_larger_than_float16_is_kept_until_the_end() -> None:
    a, b = np.array([[60000.0, 60000.0, -60000.0]], np.float16), np.ones((3, 1), np.float16)
    assert called(matmul, a, b)[0, 0] == 60000


def test_float32_may_be_accumulated_in_float64() -> None:
    a, b = np.array([[1e8, 1.0, -1e8]], np.float32), np.ones((3, 1), np.float32)
    got = called(lambda a, b: matmul(a, b, accumulate=dtypes.float64), a, b)
    assert got.dtype == np.float32
    assert got[0, 0] == 1


def test_dtypes_promote() -> None:
    assert matmul(symbolic(2, 3, dtype=dtypes.int8), symbolic(3, 2, dtype=dtypes.uint8)).dtype is dtypes.int16
    assert matmul(symbolic(2, 3, dtype=dtypes.int64), symbolic(3, 2, dtype=dtypes.bfloat16)).dtype is dtypes.bfloat16


def test_a_matrix_for_a_whole_batch_is_one_product_forward_and_backward() -> None:
    """Neither the product nor the gradient of the matrix holds a matrix for each element of the batch."""
    x, w = constant(draw(7, 5, 3), TRACKED), constant(draw(3, 4), TRACKED)
    out = matmul(x, w)
    dx, dw = gradients([out], [constant(draw(7, 5, 4))], [x, w])
    shapes = [node.shape for node in reach([out, dx, dw]) if isinstance(node.op, MatMul)]
    assert shapes == [(35, 4), (35, 3), (3, 4)]
    w, x = constant(draw(4, 5), TRACKED), constant(draw(7, 5, 3))
    (dw,) = gradients([matmul(w, x)], [constant(draw(7, 4, 3))], [w])
    assert (7, 4, 5) not in [node.shape for node in reach([dw])]


def test_results_do_not_depend_on_the_layout_of_the_inputs() -> None:
    a, b = draw(40, 70).astype(np.float32), draw(70, 30).astype(np.float32)
    op = MatMul(dtypes.float32)
    straight = op.reference(a, b)
    assert np.array_equal(straight, op.reference(np.asfortranarray(a), b[::-1][::-1].T.copy().T))
    x, w = draw(2, 9, 8, 3).astype(np.float32), draw(3, 3, 3, 4).astype(np.float32)
    conv = Convolution((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
    assert np.array_equal(conv.reference(x, w), conv.reference(np.asfortranarray(x), np.asfortranarray(w)))


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("i,i", [(3,), (3,)]),
        ("i,j", [(3,), (2,)]),
        ("ij->ji", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ii->i", [(3, 3)]),
        ("iii->i", [(3, 3, 3)]),
        ("iijj->ji", [(2, 2, 3, 3)]),
        ("...ii->...i", [(2, 4, 3, 3)]),
        ("...i->...", [(2, 3)]),
        ("i...,i...->...", [(3, 2), (3, 4, 1)]),
        ("...,...", [(2, 1), (3,)]),
        ("...ij,j...->i...", [(2, 3, 4), (4, 2)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("ij,ij->ij", [(2, 3), (2, 3)]),
        ("ij,jk,ik->", [(2, 3), (3, 4), (2, 4)]),
        ("ij,ik,il->jkl", [(2, 3), (2, 4), (2, 5)]),
        ("ab,b,bc->ac", [(2, 3), (3,), (3, 2)]),
        ("ij,jk", [(1, 3), (3, 1)]),
        ("ij,ij->i", [(2, 1), (2, 3)]),
        ("ij,kj->ik", [(0, 3), (2, 3)]),
        ("ij,jk->ik", [(2, 0), (0, 3)]),
        (" i j , j k -> i k ", [(2, 3), (3, 2)]),
        ("Ab,bA->A", [(2, 3), (3, 2)]),
    ],
)
def test_einsum_agrees_with_numpy(subscripts: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    got = called(lambda *xs: einsum(subscripts, *xs), *arrays)
    want = np.einsum(subscripts, *arrays)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_a_diagonal_ignores_what_lies_beside_it() -> None:
    x = np.full((3, 3), np.inf)
    np.fill_diagonal(x, [-0.0, 1.0, np.nan])
    got = called(lambda x: einsum("ii->i", x), x)
    assert np.signbit(got[0]) and got[1] == 1 and np.isnan(got[2])


def test_symbolic_sizes() -> None:
    n, k = Dim.symbol("n"), Dim.symbol("k")
    assert matmul(symbolic(n, 3, k), symbolic(k, 5)).shape == (n, 3, 5)
    assert matmul(symbolic(k), symbolic(n, k, 5)).shape == (n, 5)
    assert einsum("bii->bi", symbolic(n, k, k)).shape == (n, k)
    assert convolution(symbolic(n, k, k, 3), symbolic(3, 3, 3, 8), padding="same").shape == (n, k, k, 8)
    assert conv_transpose(symbolic(n, k, 8), symbolic(3, 4, 8), strides=2, padding="same").shape == (n, 2 * k, 4)
    assert max_pool(symbolic(n, 2 * k, 2 * k, 3), 2).shape == (n, k, k, 3)
    assert average_pool(symbolic(n, 2 * k, 3), 3, 2, padding="same").shape == (n, k, 3)


def test_errors_of_products() -> None:
    def refused(kind: type[TrineError], function: Callable[..., Any], *args: Any, **kw: Any) -> tuple[str, ...]:
        with pytest.raises(kind) as caught:
            function(*args, **kw)
        return parts(caught.value)

    a, b = symbolic(32, 96), symbolic(64, 128)
    assert refused(ShapeError, matmul, a, b) == (
        "matmul",
        "inner sizes differ: the last axis of a is 96, the second-to-last of b is 64",
        "f32[32, 96] @ f32[64, 128]",
        "",
    )
    assert refused(ShapeError, matmul, symbolic(2, 32, 96), symbolic(64, 96))[1:] == (
        "inner sizes differ: the last axis of a is 96, the second-to-last of b is 64",
        "f32[2, 32, 96] @ f32[64, 96]",
        "trine.matrix_transpose(b)",
    )
    assert refused(ShapeError, matmul, symbolic(2, 3), symbolic(4))[1:] == (
        "inner sizes differ: the last axis of a is 3, the only axis of b is 4",
        "f32[2, 3] @ f32[4]",
        "",
    )
    n, m = Dim.symbol("n"), Dim.symbol("m")
    assert refused(ShapeError, matmul, symbolic(2, n), symbolic(m, 3))[1] == (
        "inner sizes cannot be shown to be equal: the last axis of a is n, the second-to-last of b is m"
    )
    assert refused(ShapeError, matmul, symbolic(), symbolic(3))[1:] == (
        "takes at least 1 axis, here x1 has 0 and x2 has 1",
        "f32[] @ f32[3]",
        "x1 * x2",
    )
    assert refused(ShapeError, matmul, symbolic(2, 3, 4), symbolic(5, 4, 3))[0] == "matmul, batch axes"
    assert refused(DTypeError, matmul, symbolic(2, 2, dtype=dtypes.bool), symbolic(2, 2, dtype=dtypes.bool)) == (
        "matmul",
        "takes numbers, not bool",
        "bool[2, 2] @ bool[2, 2]",
        "x.astype(trine.int32)",
    )
    assert refused(DTypeError, matmul, symbolic(2, 2), symbolic(2, 2), accumulate=dtypes.int32)[1:] == (
        "products of float32 cannot be accumulated in int32",
        "f32[2, 2] @ f32[2, 2]",
        "accumulate=trine.float32",
    )
    half = symbolic(2, 2, dtype=dtypes.float16)
    assert refused(DTypeError, matmul, half, half, accumulate=dtypes.float16)[1] == (
        "products of float16 cannot be accumulated in float16"
    )
    assert refused(DTypeError, matmul, a, [1.0])[1:] == (
        "a list is not a tensor",
        "[1.0]",
        "trine.asarray(x)",
    )
    assert refused(ShapeError, vecdot, symbolic(3), symbolic(1))[1] == "sizes along the axis differ: 3 in x1, 1 in x2"
    assert refused(ShapeError, outer, symbolic(3), symbolic(1, 1)) == (
        "outer",
        "takes two vectors, here x1 has 1 axis and x2 has 2 axes",
        "f32[3], f32[1, 1]",
        "outer(x1.flatten(), x2.flatten())",
    )
    assert refused(ShapeError, tensordot, symbolic(3), symbolic(3))[1] == "pairs 2 axes, but x1 has 1 and x2 has 1"
    assert refused(ShapeError, tensordot, symbolic(2, 3), symbolic(4, 3), axes=1)[1] == (
        "sizes differ: axis 1 of x1 is 3, axis 0 of x2 is 4"
    )
    assert refused(ArgumentError, tensordot, symbolic(2, 2), symbolic(2, 2), axes=((0, 0), (0, 1)))[1] == (
        "axes are pairs of different axes, here (0, 0) of x1 and (0, 1) of x2"
    )


@pytest.mark.parametrize(
    ("subscripts", "shapes", "rule"),
    [
        ("ij,jk", [(2, 3)], "the subscripts name 2 inputs, there are 1 operands"),
        ("ijk", [(2, 3)], "'ijk' names 3 axes, operand 0 has 2"),
        ("i", [(2, 3)], "'i' names 1 axis, operand 0 has 2"),
        ("ij,jk", [(2, 3), (4, 2)], "'j' has the size 3 before, and 4 in operand 1"),
        ("...i,...i", [(2, 3), (4, 3)], "axis -1 of ... has the size 2 before, and 4 in operand 1"),
        ("i1->i", [(2, 3)], "subscripts are letters, commas, one -> and one ... a term, not '1'"),
        ("ij->k", [(2, 3)], "'k' is in the output and in no input"),
        ("ij->ii", [(2, 3)], "'i' is twice in the output"),
        ("...i->i", [(2, 3)], "the inputs have axes under ..., the output does not"),
        ("ij->i->j", [(2, 3)], "subscripts are letters, commas, one -> and one ... a term, not '-'"),
    ],
)
def test_einsum_says_what_is_wrong_with_its_subscripts(subscripts: str, shapes: list[Any], rule: str) -> None:
    with pytest.raises((ArgumentError, ShapeError)) as caught:
        einsum(subscripts, *[symbolic(*shape) for shape in shapes])
    where, got_rule, got, _ = parts(caught.value)
    assert (where, got_rule) == ("einsum", rule)
    assert got.startswith(repr(subscripts))


# -- vmap rules --------------------------------------------------------------------------------------------------------

WINDOW = Windows((5, 6), (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2))


def _primitives() -> list[tuple[Op, tuple[tuple[int, ...], ...]]]:
    settings = WINDOW.attributes()
    rows: list[tuple[Op, tuple[tuple[int, ...], ...]]] = [
        (MatMul(dtypes.float64), ((3, 4), (4, 2))),
        (MatMul(dtypes.float64), ((5, 3, 4), (4, 2))),
        (MatMul(dtypes.float64), ((3, 4), (5, 4, 2))),
        (MatMul(dtypes.float64), ((2, 1, 3, 4), (5, 4, 2))),
        (Unfold(WINDOW.kernel, *settings), ((2, *WINDOW.sizes, 3),)),
        (Fold(WINDOW.kernel, *settings, WINDOW.sizes), ((2, *WINDOW.places, *WINDOW.kernel, 3),)),
    ]
    for groups, channels, out in ((1, 2, 3), (2, 4, 6), (3, 3, 3), (2, 2, 4)):
        x, w = (2, *WINDOW.sizes, channels), (*WINDOW.kernel, channels // groups, out)
        g = (2, *WINDOW.places, out)
        rows.append((Convolution(*settings, groups), (x, w)))
        rows.append((ConvolutionInputGradient(*settings, groups, WINDOW.sizes), (g, w)))
        rows.append((ConvolutionKernelGradient(*settings, groups, WINDOW.kernel), (x, g)))
    return rows


@pytest.mark.parametrize(("op", "shapes"), _primitives(), ids=str)
def test_a_batch_of_any_arguments_is_a_loop(op: Op, shapes: tuple[tuple[int, ...], ...]) -> None:
    size = 3
    for batched in product((False, True), repeat=len(shapes)):
        if not any(batched):
            continue
        drawn = [draw(*((size, *s) if b else s), seed=i) for i, (s, b) in enumerate(zip(shapes, batched, strict=True))]
        got = value(op.batch(size, batched, *map(constant, drawn)))
        rows = [[a[i] if b else a for a, b in zip(drawn, batched, strict=True)] for i in range(size)]
        want = np.stack([op.reference(*row) for row in rows])
        assert got.shape == want.shape, batched
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=str(batched))


def test_the_size_of_a_batch_may_be_a_symbol() -> None:
    n = Dim.symbol("n")
    op = Convolution((1,), ((0, 0),), (1,), 2)
    shapes = ((2, 5, 4), (3, 2, 6))
    for batched in ((True, False), (False, True), (True, True)):
        inputs = [symbolic(*((n, *s) if b else s)) for s, b in zip(shapes, batched, strict=True)]
        assert op.batch(n, batched, *inputs).shape == (n, 2, 3, 6)


# -- Convolution -------------------------------------------------------------------------------------------------------

SHAPES = [
    pytest.param(WINDOW, 2, 3, 1, 2, id="2 axes"),
    pytest.param(Windows((7,), (3,), (2,), ((2, 1),), (2,)), 4, 2, 2, 2, id="groups"),
    pytest.param(Windows((4, 4), (3, 3), None, ((1, 1), (1, 1))), 3, 6, 3, 1, id="depthwise"),
    pytest.param(Windows((8, 5), (2, 2), (3, 4)), 1, 1, 1, 2, id="stride beyond the kernel"),
    pytest.param(Windows((3, 4), (3, 4)), 2, 2, 1, 3, id="kernel as large as the input"),
    pytest.param(Windows((1, 1, 1), (1, 1, 1)), 1, 1, 1, 1, id="sizes of 1"),
    pytest.param(Windows((1,), (3,), None, ((1, 1),)), 2, 2, 1, 1, id="input smaller than the kernel"),
    pytest.param(WINDOW, 2, 3, 1, 0, id="no images"),
    pytest.param(WINDOW, 0, 3, 1, 2, id="no channels"),
    pytest.param(WINDOW, 2, 0, 1, 2, id="no results"),
]


@pytest.mark.parametrize(("how", "channels", "out", "groups", "images"), SHAPES)
def test_the_three_convolutions_are_one_trilinear_form(
    how: Windows, channels: int, out: int, groups: int, images: int
) -> None:
    """<C(x, w), g> = <x, CI(g, w)> = <w, CW(x, g)>, and each agrees with a loop over single terms."""
    x, w = draw(images, *how.sizes, channels), draw(*how.kernel, channels // groups, out)
    g = draw(images, *how.places, out)
    settings = (*how.attributes(), groups)
    forward = called(lambda x, w: apply(Convolution(*settings), x, w), x, w)
    to_input = called(lambda g, w: apply(ConvolutionInputGradient(*settings, how.sizes), g, w), g, w)
    to_kernel = called(lambda x, g: apply(ConvolutionKernelGradient(*settings, how.kernel), x, g), x, g)
    assert (forward.shape, to_input.shape, to_kernel.shape) == (g.shape, x.shape, w.shape)
    form = (forward * g).sum()
    np.testing.assert_allclose([(x * to_input).sum(), (w * to_kernel).sum()], [form, form], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(forward, how.convolve(x, w, groups), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(to_input, how.to_input(g, w, groups), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(to_kernel, how.to_kernel(x, g, groups), rtol=1e-11, atol=1e-11)


def test_unfold_and_fold_are_transposes() -> None:
    x, cut = draw(2, *WINDOW.sizes, 3), draw(2, *WINDOW.places, *WINDOW.kernel, 3)
    settings = (WINDOW.kernel, *WINDOW.attributes())
    there = called(lambda x: apply(Unfold(*settings), x), x)
    back = called(lambda c: apply(Fold(*settings, WINDOW.sizes), c), cut)
    np.testing.assert_allclose((there * cut).sum(), (x * back).sum(), rtol=1e-12)


def test_images_in_chunks_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, g = draw(5, *WINDOW.sizes, 2), draw(*WINDOW.kernel, 2, 3), draw(5, *WINDOW.places, 3)
    ops: list[tuple[Op, np.ndarray, np.ndarray]] = [
        (Convolution(*WINDOW.attributes(), 1), x, w),
        (ConvolutionInputGradient(*WINDOW.attributes(), 1, WINDOW.sizes), g, w),
        (ConvolutionKernelGradient(*WINDOW.attributes(), 1, WINDOW.kernel), x, g),
    ]
    whole = [op.reference(a, b) for op, a, b in ops]
    monkeypatch.setattr("trine.ops.convolution._CHUNK", 1)
    for (op, a, b), want in zip(ops, whole, strict=True):
        np.testing.assert_allclose(op.reference(a, b), want, rtol=1e-12, atol=1e-12)


def test_infinite_weights_on_padding_give_nan_as_numerics_says() -> None:
    x, w = np.ones((1, 2, 1)), np.array([np.inf, 1.0]).reshape(2, 1, 1)
    out = called(lambda x, w: convolution(x, w, padding=((1, 0),)), x, w)
    assert np.isnan(out[0, 0, 0]) and out[0, 1, 0] == np.inf


def test_integers_convolve_and_wrap() -> None:
    x, w = np.full((1, 3, 1), 100, np.int8), np.full((3, 1, 1), 2, np.int8)
    assert called(convolution, x, w).tolist() == [[[600 - 512]]]


def test_transposed_convolution_sizes_follow_keras() -> None:
    """`valid` fills the last stride, `same` gives n strides, `output_padding` overrules both."""
    x, w = symbolic(1, 4, 2), symbolic(3, 5, 2)
    assert conv_transpose(x, w, strides=2).shape == (1, 9, 5)
    assert conv_transpose(x, w, strides=5).shape == (1, 20, 5)
    assert conv_transpose(x, w, strides=5, output_padding=0).shape == (1, 18, 5)
    assert conv_transpose(x, w, strides=2, padding="same").shape == (1, 8, 5)
    assert conv_transpose(x, w, strides=2, padding="same", output_padding=0).shape == (1, 7, 5)
    assert conv_transpose(x, w, strides=2, padding=((1, 1),), output_padding=1).shape == (1, 8, 5)
    assert conv_transpose(x, w, dilation=2).shape == (1, 8, 5)


def test_errors_of_convolution() -> None:
    def refused(kind: type[TrineError], x: Any, w: Any, function: Any = convolution, **kw: Any) -> tuple[str, ...]:
        with pytest.raises(kind) as caught:
            function(x, w, **kw)
        return parts(caught.value)

    x = symbolic(8, 28, 28, 3)
    assert refused(ShapeError, x, symbolic(3, 3, 4, 16)) == (
        "convolution",
        "the last axis of x has 3 channels, the kernel takes 4 x 1 group",
        "f32[8, 28, 28, 3], f32[3, 3, 4, 16]",
        "",
    )
    assert refused(ShapeError, x, symbolic(3, 3, 1, 6))[1:] == (
        "the last axis of x has 3 channels, the kernel takes 1 x 1 group",
        "f32[8, 28, 28, 3], f32[3, 3, 1, 6]",
        "groups=3",
    )
    assert refused(ShapeError, symbolic(8, 28, 28, 4), symbolic(3, 3, 2, 5), groups=2)[1] == (
        "5 channels of the result do not divide into 2 groups"
    )
    assert refused(ShapeError, symbolic(28, 28), symbolic(3, 3, 1, 6)) == (
        "convolution",
        "x is [N, *S, C] with one to three spatial axes S, here it has 2 axes",
        "f32[28, 28]",
        "expand_dims(x, axis=-1) adds a channel axis",
    )
    assert refused(ShapeError, x, symbolic(3, 3, 6)) == (
        "convolution",
        "the kernel has 4 axes for 2 spatial axes, not 3",
        "f32[8, 28, 28, 3], f32[3, 3, 6]",
        "",
    )
    assert refused(ShapeError, symbolic(1, 28, 2, 3), symbolic(3, 3, 3, 6)) == (
        "convolution",
        "on spatial axis 1, the window spans 3 elements, the padded axis has 2",
        "f32[1, 28, 2, 3], f32[3, 3, 3, 6], size 2, kernel 3, dilation 1, padding (0, 0)",
        'a smaller kernel, or padding="same"',
    )
    w = symbolic(3, 3, 3, 6)
    assert refused(ArgumentError, x, w, strides=(1, 0))[1:] == (
        "strides is a whole number from 1, or one for each of 2 spatial axes",
        "strides=(1, 0)",
        "",
    )
    assert refused(ArgumentError, x, w, padding="full")[1:] == (
        "no padding is called 'full'",
        "padding='full', 2 spatial axes",
        "'valid', 'same', or a pair (before, after) for each spatial axis",
    )
    assert refused(ArgumentError, x, w, padding="causal")[1] == "padding='causal' takes 1 spatial axis"
    assert refused(ArgumentError, x, w, padding=((1, 1), (-1, 0)))[1:] == (
        "padding is a pair of whole numbers from 0 (before, after) for each of 2 spatial axes",
        "padding=((1, 1), (-1, 0))",
        "((1, 1), (1, 1))",
    )
    assert refused(ArgumentError, x, w, groups=0)[1] == "groups are 1 or more, here they are 0"
    assert refused(DTypeError, symbolic(1, 4, 1, dtype=dtypes.bool), symbolic(1, 1, 1, dtype=dtypes.bool))[1] == (
        "takes numbers, not bool"
    )
    open_kernel = symbolic(Dim.symbol("k"), 3, 3, 6)
    assert refused(ShapeError, x, open_kernel)[1] == "the kernel has symbolic sizes: [k, 3]"
    assert refused(ShapeError, symbolic(1, 4, 2), symbolic(3, 5, 3), conv_transpose)[1] == (
        "the last axis of g has 2 channels, the kernel gives 3"
    )
    assert refused(ArgumentError, symbolic(1, 4, 2), symbolic(3, 5, 2), conv_transpose, output_padding=1)[1] == (
        "output_padding is smaller than the stride"
    )


# -- Pooling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int8, np.int64])
def test_padding_never_wins_a_maximum(dtype: Any) -> None:
    x = np.full((1, 3, 1), -7).astype(dtype)
    assert (called(lambda x: max_pool(x, 3, 1, "same"), x).astype(np.float64) == -7).all()


def test_the_lowest_values_stay_the_lowest() -> None:
    low = np.full((1, 2, 1), -np.inf, np.float32)
    assert (called(lambda x: max_pool(x, 2, 1, "same"), low) == -np.inf).all()
    least = np.full((1, 2, 1), -128, np.int8)
    assert (called(lambda x: max_pool(x, 2, 1, "same"), least) == -128).all()


def test_nan_propagates_through_pools() -> None:
    x = np.array([1.0, np.nan, 3.0, 4.0], np.float32).reshape(1, 4, 1)
    assert np.isnan(called(lambda x: max_pool(x, 2), x)).ravel().tolist() == [True, False]
    assert np.isnan(called(lambda x: average_pool(x, 2), x)).ravel().tolist() == [True, False]
    assert np.isnan(called(global_max_pool, x)).all()


def test_a_maximum_shares_its_gradient_among_equals() -> None:
    x = constant(np.array([2.0, 2.0, 1.0, 5.0]).reshape(1, 4, 1), TRACKED)
    (dx,) = gradients([max_pool(x, 2)], [constant(np.ones((1, 2, 1)))], [x])
    assert value(dx).ravel().tolist() == [0.5, 0.5, 0.0, 1.0]


def test_padding_gets_no_gradient_of_a_maximum() -> None:
    x = constant(np.array([-2.0, -3.0, -1.0]).reshape(1, 3, 1), TRACKED)
    (dx,) = gradients([max_pool(x, 2, 2, "same")], [constant(np.ones((1, 2, 1)))], [x])
    assert value(dx).ravel().tolist() == [1.0, 0.0, 1.0]


def test_padding_is_not_counted_in_an_average() -> None:
    x = np.ones((1, 3, 3, 1), np.float32)
    assert (called(lambda x: average_pool(x, 3, 1, "same"), x) == 1).all()


def test_integers_average_as_float32() -> None:
    got = called(lambda x: average_pool(x, 2), np.array([1, 2, 3, 4]).reshape(1, 4, 1))
    assert got.dtype == np.float32
    assert got.ravel().tolist() == [1.5, 3.5]
    assert called(global_average_pool, np.array([1, 2]).reshape(1, 2, 1)).tolist() == [[1.5]]


def test_errors_of_pools() -> None:
    def refused(kind: type[TrineError], *args: Any) -> tuple[str, ...]:
        with pytest.raises(kind) as caught:
            max_pool(*args)
        return parts(caught.value)

    x = symbolic(1, 4, 5, 2)
    assert refused(ShapeError, x, 5) == (
        "max_pool",
        "on spatial axis 0, the window spans 5 elements, the padded axis has 4",
        "f32[1, 4, 5, 2], size 4, kernel 5, dilation 1, padding (0, 0)",
        'a smaller kernel, or padding="same"',
    )
    assert refused(ArgumentError, x, 2, 1, ((2, 0), (0, 0)))[1:] == (
        "padding is smaller than the window (2, 2)",
        "padding=((2, 0), (0, 0))",
        "",
    )
    assert refused(ArgumentError, x, (2, 2, 2))[1:] == (
        "size is a whole number from 1, or one for each of 2 spatial axes",
        "size=(2, 2, 2)",
        "",
    )
    assert refused(ShapeError, symbolic(4, 4), 2)[1] == (
        "x is [N, *S, C] with one to three spatial axes S, here it has 2 axes"
    )
    assert refused(DTypeError, symbolic(1, 4, 1, dtype=dtypes.bool), 2)[1] == "takes numbers, not bool"
    with pytest.raises(ShapeError) as caught:
        global_max_pool(symbolic(4, 4))
    assert parts(caught.value)[0] == "global_max_pool"


def test_a_symbolic_size_too_small_for_the_window_raises_when_it_gets_its_number() -> None:
    op = Unfold((3,), (1,), ((0, 0),), (1,))
    with pytest.raises(ShapeError, match="on spatial axis 0, the window spans 3 elements, the padded axis has 2"):
        op.reference(np.zeros((1, 2, 1)))


# -- torch -------------------------------------------------------------------------------------------------------------
