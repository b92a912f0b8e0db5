"""Rows of matrix products, convolutions and windows, with oracles that loop over single terms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np

from tests.ops.case import Arg, Case
from trine.ops.base import apply
from trine.ops.convolution import (
    ConvolutionInputGradient,
    ConvolutionKernelGradient,
    conv_transpose,
    convolution,
)
from trine.ops.linalg import einsum, matmul, outer, tensordot, vecdot
from trine.ops.window import Fold, Unfold, average_pool, global_average_pool, global_max_pool, max_pool

Index = tuple[int, ...]

# -- Oracles -----------------------------------------------------------------------------------------------------------


class Windows:
    """The geometry of a sliding window, one spatial axis after the other, and its terms one by one."""

    def __init__(
        self,
        sizes: Sequence[int],
        kernel: Sequence[int],
        strides: Sequence[int] | None = None,
        padding: Sequence[tuple[int, int]] | None = None,
        dilation: Sequence[int] | None = None,
    ) -> None:
        rank = len(sizes)
        self.sizes, self.kernel = tuple(sizes), tuple(kernel)
        self.strides = tuple(strides or (1,) * rank)
        self.padding = tuple(padding or ((0, 0),) * rank)
        self.dilation = tuple(dilation or (1,) * rank)
        self.places = tuple(
            (n + low + high - step * (k - 1) - 1) // stride + 1
            for n, k, stride, (low, high), step in zip(
                self.sizes, self.kernel, self.strides, self.padding, self.dilation, strict=True
            )
        )

    def terms(self) -> Iterator[tuple[Index, Index, Index]]:
        """Every place, tap and element of the unpadded axes that meet."""
        for place in product(*map(range, self.places)):
            for tap in product(*map(range, self.kernel)):
                element = tuple(
                    p * stride + t * step - low
                    for p, t, stride, step, (low, _) in zip(
                        place, tap, self.strides, self.dilation, self.padding, strict=True
                    )
                )
                if all(0 <= i < n for i, n in zip(element, self.sizes, strict=True)):
                    yield place, tap, element

    def channels(self, inputs: int, outputs: int, groups: int) -> Iterator[tuple[int, int, int]]:
        """Every input channel, its number in its group, and output channel of one group."""
        for c, o in product(range(inputs), range(outputs)):
            if c // (inputs // groups) == o // (outputs // groups):
                yield c, c % (inputs // groups), o

    def convolve(self, x: np.ndarray, w: np.ndarray, groups: int = 1) -> np.ndarray:
        out = np.zeros((x.shape[0], *self.places, w.shape[-1]), np.result_type(x, w))
        for place, tap, element in self.terms():
            for c, i, o in self.channels(x.shape[-1], w.shape[-1], groups):
                out[(slice(None), *place, o)] += x[(slice(None), *element, c)] * w[(*tap, i, o)]
        return out

    def to_input(self, g: np.ndarray, w: np.ndarray, groups: int = 1) -> np.ndarray:
        out = np.zeros((g.shape[0], *self.sizes, w.shape[-2] * groups), np.result_type(g, w))
        for place, tap, element in self.terms():
            for c, i, o in self.channels(out.shape[-1], w.shape[-1], groups):
                out[(slice(None), *element, c)] += g[(slice(None), *place, o)] * w[(*tap, i, o)]
        return out

    def to_kernel(self, x: np.ndarray, g: np.ndarray, groups: int = 1) -> np.ndarray:
        out = np.zeros((*self.kernel, x.shape[-1] // groups, g.shape[-1]), np.result_type(x, g))
        for place, tap, element in self.terms():
            for c, i, o in self.channels(x.shape[-1], g.shape[-1], groups):
                out[(*tap, i, o)] += (x[(slice(None), *element, c)] * g[(slice(None), *place, o)]).sum()
        return out

    def unfold(self, x: np.ndarray) -> np.ndarray:
        out = np.zeros((x.shape[0], *self.places, *self.kernel, x.shape[-1]), x.dtype)
        for place, tap, element in self.terms():
            out[(slice(None), *place, *tap)] = x[(slice(None), *element)]
        return out

    def fold(self, cut: np.ndarray) -> np.ndarray:
        out = np.zeros((cut.shape[0], *self.sizes, cut.shape[-1]), cut.dtype)
        for place, tap, element in self.terms():
            out[(slice(None), *element)] += cut[(slice(None), *place, *tap)]
        return out

    def pool(self, x: np.ndarray, reduce: Any) -> np.ndarray:
        out = np.zeros((x.shape[0], *self.places, x.shape[-1]), np.float64 if reduce is np.mean else x.dtype)
        held: dict[Index, list[np.ndarray]] = {}
        for place, _, element in self.terms():
            held.setdefault(place, []).append(x[(slice(None), *element)])
        for place, elements in held.items():
            out[(slice(None), *place)] = reduce(np.stack(elements), 0)
        return out

    def attributes(self) -> tuple[Any, ...]:
        """Strides, padding, dilation, as the primitives take them."""
        return self.strides, self.padding, self.dilation


def torch_convolution(x: Any, w: Any, groups: int = 1, **how: Any) -> Any:
    """torch is channels first, with kernels `[O, C / groups, *K]`."""
    torch = import_module("torch")
    call = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[x.ndim - 3]
    return call(x.movedim(-1, 1), w.movedim(-1, 0).movedim(-1, 1), groups=groups, **how).movedim(1, -1)


def torch_transposed(x: Any, w: Any, **how: Any) -> Any:
    """torch is channels first, with kernels `[C, O / groups, *K]`."""
    torch = import_module("torch")
    call = torch.nn.functional.conv_transpose2d
    return call(x.movedim(-1, 1), w.movedim(-1, 0).movedim(-1, 1), **how).movedim(1, -1)


def torch_pool(x: Any, kind: str, *size: int, **how: Any) -> Any:
    """torch is channels first."""
    torch = import_module("torch")
    return getattr(torch.nn.functional, kind)(x.movedim(-1, 1), size, **how).movedim(1, -1)


# -- Rows --------------------------------------------------------------------------------------------------------------

NUMBERS = ("float", "int", "uint")
_ONE = Windows((7,), (3,), (2,), ((2, 1),), (2,))
_TWO = Windows((5, 6), (3, 2), (2, 1), ((1, 1), (0, 1)))
_THREE = Windows((3, 2, 4), (2, 1, 3), (1, 2, 1), ((0, 0), (0, 0), (1, 1)))
_SAME = Windows((5, 6), (3, 3), (2, 2), ((1, 1), (0, 1)))
_SPARSE = Windows((6, 7), (2, 2), (3, 3))
_DEEP = Windows((4, 4), (3, 3), None, ((1, 1), (1, 1)))


def _two(a: tuple[int, ...], b: tuple[int, ...], kinds: tuple[str, ...] = NUMBERS) -> tuple[Arg, Arg]:
    return Arg(a, kinds=kinds), Arg(b, kinds=kinds)


def _product(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Case:
    return Case(f"matmul: {name}", matmul, _two(a, b), np.matmul, (0, 1), lambda a, b: a @ b, ("mat_mul",))


def _einsum(subscripts: str, *shapes: tuple[int, ...]) -> Case:
    return Case(
        f"einsum: {subscripts}",
        lambda *xs: einsum(subscripts, *xs),
        tuple(Arg(shape, kinds=NUMBERS) for shape in shapes),
        lambda *xs: np.einsum(subscripts, *xs),
        tuple(range(len(shapes))),
    )


PRODUCTS = [
    _product("matrices", (3, 4), (4, 5)),
    _product("one row, one column", (1, 4), (4, 1)),
    _product("inner size 1", (3, 1), (1, 2)),
    _product("inner size 0", (3, 0), (0, 2)),
    _product("no rows", (0, 3), (3, 2)),
    _product("a batch with one matrix", (2, 3, 4), (4, 5)),
    _product("one matrix with a batch", (3, 4), (2, 4, 5)),
    _product("batches broadcast", (2, 1, 3, 4), (5, 4, 2)),
    _product("an empty batch", (0, 2, 3), (3, 4)),
    _product("vectors", (4,), (4,)),
    _product("a vector and a batch", (3,), (2, 3, 4)),
    _product("a batch and a vector", (2, 3, 4), (4,)),
    Case("vecdot: broadcast", vecdot, _two((3, 4), (2, 1, 4)), lambda a, b: (a * b).sum(-1), (0, 1)),
    Case(
        "vecdot: axis",
        lambda a, b: vecdot(a, b, axis=-2),
        _two((4, 3), (2, 4, 3)),
        lambda a, b: (a * b).sum(-2),
        (0, 1),
    ),
    Case("outer", outer, _two((3,), (4,)), np.outer, (0, 1), lambda a, b: a.outer(b)),
    Case("tensordot: 2 axes", tensordot, _two((2, 3, 4), (3, 4, 5)), np.tensordot, (0, 1)),
    Case(
        "tensordot: named axes",
        lambda a, b: tensordot(a, b, axes=((0, -1), (2, 0))),
        _two((2, 3, 4), (4, 5, 2)),
        lambda a, b: np.tensordot(a, b, axes=((0, -1), (2, 0))),
        (0, 1),
    ),
    Case(
        "tensordot: none",
        lambda a, b: tensordot(a, b, axes=0),
        _two((2,), (3, 1)),
        lambda a, b: np.tensordot(a, b, 0),
        (0, 1),
    ),
    _einsum("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    _einsum("ij,j", (3, 4), (4,)),
    _einsum("ii", (3, 3)),
    _einsum("bii->ib", (2, 3, 3)),
    _einsum("iji,j->i", (3, 2, 3), (2,)),
    _einsum("...ij,...jk", (2, 1, 3, 2), (4, 2, 3)),
    _einsum("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
    _einsum("ab,cd->", (2, 3), (2, 2)),
]


def _convolution(name: str, how: Windows, c: int, o: int, groups: int = 1, batch: int = 2) -> Case:
    settings = {"strides": how.strides, "padding": how.padding, "dilation": how.dilation, "groups": groups}
    same = all(low == high for low, high in how.padding)
    theirs = {"stride": how.strides, "padding": tuple(p[0] for p in how.padding), "dilation": how.dilation}
    return Case(
        f"convolution: {name}",
        lambda x, w: convolution(x, w, **settings),
        _two((batch, *how.sizes, c), (*how.kernel, c // groups, o)),
        lambda x, w: how.convolve(x, w, groups),
        (0, 1),
        (lambda x, w: torch_convolution(x, w, groups, **theirs)) if same else None,
        ("convolution",),
    )


def _backward(name: str, how: Windows, c: int, o: int, groups: int = 1) -> list[Case]:
    to_input = ConvolutionInputGradient(*how.attributes(), groups, how.sizes)
    to_kernel = ConvolutionKernelGradient(*how.attributes(), groups, how.kernel)
    x, w, g = (2, *how.sizes, c), (*how.kernel, c // groups, o), (2, *how.places, o)
    return [
        Case(
            f"convolution, gradient of the input: {name}",
            lambda g, w: apply(to_input, g, w),
            _two(g, w),
            lambda g, w: how.to_input(g, w, groups),
            (0, 1),
            primitives=("convolution_input_gradient",),
        ),
        Case(
            f"convolution, gradient of the kernel: {name}",
            lambda x, g: apply(to_kernel, x, g),
            _two(x, g),
            lambda x, g: how.to_kernel(x, g, groups),
            (0, 1),
            primitives=("convolution_kernel_gradient",),
        ),
    ]


CONVOLUTIONS = [
    _convolution("1 axis, stride, dilation, uneven padding", _ONE, 2, 3),
    _convolution("2 axes", _TWO, 2, 3),
    _convolution("3 axes", _THREE, 2, 2),
    _convolution("groups", _TWO, 4, 6, groups=2),
    _convolution("depthwise", _DEEP, 3, 3, groups=3),
    _convolution("depthwise with a multiplier", _DEEP, 2, 4, groups=2),
    _convolution("stride beyond the kernel", _SPARSE, 2, 2),
    _convolution("kernel as large as the input", Windows((3, 4), (3, 4)), 2, 3),
    _convolution("sizes of 1", Windows((1, 1), (1, 1)), 1, 1, batch=1),
    _convolution("empty batch", _TWO, 2, 3, batch=0),
    Case(
        "convolution: same",
        lambda x, w: convolution(x, w, strides=2, padding="same"),
        _two((2, 5, 6, 2), (3, 3, 2, 3)),
        _SAME.convolve,
        (0, 1),
    ),
    Case(
        "convolution: causal",
        lambda x, w: convolution(x, w, padding="causal", dilation=2),
        _two((2, 5, 2), (3, 2, 3)),
        Windows((5,), (3,), None, ((4, 0),), (2,)).convolve,
        (0, 1),
    ),
    *_backward("1 axis, stride, dilation, uneven padding", _ONE, 2, 3),
    *_backward("groups", _TWO, 4, 2, groups=2),
    *_backward("depthwise with a multiplier", _DEEP, 2, 4, groups=2),
    *_backward("stride beyond the kernel", _SPARSE, 1, 2),
    Case(
        "conv_transpose: valid",
        lambda x, w: conv_transpose(x, w, strides=2),
        _two((2, 3, 2, 3), (3, 2, 2, 3)),
        Windows((7, 4), (3, 2), (2, 2)).to_input,
        (0, 1),
        lambda x, w: torch_transposed(x, w, stride=2),
    ),
    Case(
        "conv_transpose: same",
        lambda x, w: conv_transpose(x, w, strides=2, padding="same"),
        _two((1, 3, 2, 2), (3, 3, 1, 2)),
        Windows((6, 4), (3, 3), (2, 2), ((0, 1), (0, 1))).to_input,
        (0, 1),
    ),
]


def _windows(name: str, how: Windows) -> list[Case]:
    settings = (how.kernel, *how.attributes())
    return [
        Case(
            f"unfold: {name}",
            lambda x: apply(Unfold(*settings), x),
            (Arg((2, *how.sizes, 2), kinds=NUMBERS),),
            how.unfold,
            (0,),
            primitives=("unfold",),
        ),
        Case(
            f"fold: {name}",
            lambda x: apply(Fold(*settings, how.sizes), x),
            (Arg((2, *how.places, *how.kernel, 2), kinds=NUMBERS),),
            how.fold,
            (0,),
            primitives=("fold",),
        ),
    ]


def _max(name: str, how: Windows, padding: Any, torch: Any = None) -> Case:
    return Case(
        f"max_pool: {name}",
        lambda x: max_pool(x, how.kernel, how.strides, padding),
        (Arg((2, *how.sizes, 2), kinds=NUMBERS, distinct=True),),
        lambda x: how.pool(x, np.max),
        (0,),
        torch,
    )


def _average(name: str, how: Windows, padding: Any, torch: Any = None) -> Case:
    return Case(
        f"average_pool: {name}",
        lambda x: average_pool(x, how.kernel, how.strides, padding),
        (Arg((2, *how.sizes, 2)),),
        lambda x: how.pool(x, np.mean),
        (0,),
        torch,
    )


_HALVES = Windows((4, 5), (2, 2), (2, 2))
_PADDED = Windows((4, 5), (2, 3), (2, 2), ((1, 1), (1, 1)))
POOLS = [
    *_windows("1 axis, stride, dilation, uneven padding", _ONE),
    *_windows("2 axes", _TWO),
    *_windows("3 axes", _THREE),
    *_windows("stride beyond the window", _SPARSE),
    _max("valid", _HALVES, "valid", lambda x: torch_pool(x, "max_pool2d", 2, 2)),
    _max("same", _SAME, "same"),
    _max("pairs", _PADDED, ((1, 1), (1, 1)), lambda x: torch_pool(x, "max_pool2d", 2, 3, stride=2, padding=1)),
    _max("3 axes", Windows((2, 3, 2), (1, 2, 2), (1, 1, 1)), "valid"),
    _average("valid", _HALVES, "valid", lambda x: torch_pool(x, "avg_pool2d", 2, 2)),
    _average("same", _SAME, "same"),
    _average(
        "pairs",
        _PADDED,
        ((1, 1), (1, 1)),
        lambda x: torch_pool(x, "avg_pool2d", 2, 3, stride=2, padding=1, count_include_pad=False),
    ),
    Case(
        "global_max_pool",
        global_max_pool,
        (Arg((2, 3, 4, 2), kinds=NUMBERS, distinct=True),),
        lambda x: x.max((1, 2)),
        (0,),
    ),
    Case(
        "global_average_pool: keepdims",
        lambda x: global_average_pool(x, keepdims=True),
        (Arg((2, 3, 2)),),
        lambda x: x.mean(1, keepdims=True),
        (0,),
    ),
]

CASES = [*PRODUCTS, *CONVOLUTIONS, *POOLS]
