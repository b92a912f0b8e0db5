"""How parameters start: Keras's initialisers, drawing from the stream "initialisation".

An initialiser is a callable `(shape, dtype, generator) -> tensor or array`. Each call draws once, so that the numbers
of a parameter depend on the seed and on how many parameters were drawn before it, not on their sizes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from trine import dtypes
from trine.dtypes import DType
from trine.errors import ArgumentError, DTypeError, NameLookupError, ShapeError, Site, TrineError, nearest
from trine.ops.base import user_site
from trine.ops.elementwise import cast
from trine.tensor.creation import eye, full
from trine.tensor.random import Generator
from trine.tensor.tensor import Tensor, read

Initializer = Callable[[tuple[int, ...], DType, Generator], Any]

_CUT: Final = 0.87962566103423978  # the standard deviation of a normal variable cut off at two of its own


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many inputs an output of a kernel sums up, and how many outputs an input goes to.

    The last two axes are (inputs, outputs), those before them the window of a convolution.
    """
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


def _one_of(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise _located(ArgumentError("VarianceScaling", f"{name} is one of {', '.join(words)}",
                                     got=f"{name}={value!r}"))  # fmt: skip


def _located(error: TrineError) -> TrineError:
    return error.locate(Site(*user_site()))


@dataclass(frozen=True)
class Constant:
    """Every element is `value`."""

    value: float = 0.0

    def __call__(self, shape: tuple[int, ...], dtype: DType, generator: Generator) -> Tensor:
        """A tensor of the value; nothing is drawn."""
        return full(shape, self.value, dtype=dtype)


@dataclass(frozen=True)
class RandomUniform:
    """Uniform numbers in [minval, maxval)."""

    minval: float = -0.05
    maxval: float = 0.05

    def __call__(self, shape: tuple[int, ...], dtype: DType, generator: Generator) -> Tensor:
        """One draw."""
        return generator.uniform(shape, self.minval, self.maxval, dtype=dtype)


@dataclass(frozen=True)
class RandomNormal:
    """Normal numbers."""

    mean: float = 0.0
    stddev: float = 0.05

    def __call__(self, shape: tuple[int, ...], dtype: DType, generator: Generator) -> Tensor:
        """One draw."""
        return generator.normal(shape, self.mean, self.stddev, dtype=dtype)


@dataclass(frozen=True)
class TruncatedNormal:
    """Normal numbers within two `stddev` of the mean; their own standard deviation is 0.8796 `stddev`."""

    mean: float = 0.0
    stddev: float = 0.05

    def __call__(self, shape: tuple[int, ...], dtype: DType, generator: Generator) -> Tensor:
        """One draw."""
        return generator.truncated_normal(shape, self.mean, self.stddev, dtype=dtype)


@dataclass(frozen=True)
class VarianceScaling:
    """Numbers whose variance is `scale / n`, where n comes from the kernel's fans.

    Attributes:
        scale: the variance times n, above 0.
        mode: n is `"fan_in"`, `"fan_out"` or `"fan_avg"`, the mean of both.
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"`.

    Raises:
        ArgumentError: another word, or a scale that is not above 0.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010); He,
    Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), arXiv:1502.01852.
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not self.scale > 0:
            raise _located(ArgumentError("VarianceScaling", "scale is above 0", got=f"scale={self.scale!r}"))
        _one_of("mode", self.mode, ("fan_in", "fan_out", "fan_avg"))
        _one_of("distribution", self.distribution, ("truncated_normal", "untruncated_normal", "uniform"))

    def __call__(self, shape: tuple[int, ...], dtype: DType, generator: Generator) -> Tensor:
        """One draw."""
        fan_in, fan_out = fans(shape)
        n = {"fan_in": float(fan_in), "fan_out": float(fan_out), "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, n)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return generator.uniform(shape, -limit, limit, dtype=dtype)
        if self.distribution == "truncated_normal":
            return generator.truncated_normal(shape, 0.0, math.sqrt(variance) / _CUT, dtype=dtype)
        return generator.normal(shape, 0.0, math.sqrt(variance), dtype=dtype)


@dataclass(frozen=True)
class Orthogonal:
    """A matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    Shapes with more than two axes are taken as `[product of all but the last, last]`. The orthonormal factor of a
    matrix of normal numbers, with the sign that makes it uniformly distributed, computed in float64.

    Raises:
        ShapeError: fewer than two axes.

    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks" (2014), arXiv:1312.6120; Mezzadri, "How to generate random matrices from the classical compact groups"
    (2007), arXiv:math-ph/0609050.
    """

    gain: float = 1.0

    def __call__(self, shape: tuple[int, ...], dtype: DType, generator: Generator) -> Any:
        """One draw, on the host."""
        if len(shape) < 2:
            raise _located(ShapeError("Orthogonal", f"makes tensors of at least 2 axes, not {len(shape)}",
                                      got=f"shape {list(shape)}"))  # fmt: skip
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        q, r = np.linalg.qr(read(generator.normal(tall, dtype=dtypes.float64)))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return np.ascontiguousarray(self.gain * (q if rows >= columns else q.T)).reshape(shape)


@dataclass(frozen=True)
class Identity:
    """Ones on the diagonal of a matrix, times `gain`.

    Raises:
        ShapeError: not two axes.
    """

    gain: float = 1.0

    def __call__(self, shape: tuple[int, ...], dtype: DType, generator: Generator) -> Tensor:
        """A tensor; nothing is drawn."""
        if len(shape) != 2:
            raise _located(ShapeError("Identity", f"makes matrices, 2 axes, not {len(shape)}",
                                      got=f"shape {list(shape)}"))  # fmt: skip
        return cast(eye(*shape) * self.gain, dtype)


BY_NAME: Final[dict[str, Initializer]] = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "constant": Constant(),
    "uniform": RandomUniform(),
    "normal": RandomNormal(),
    "random_uniform": RandomUniform(),
    "random_normal": RandomNormal(),
    "truncated_normal": TruncatedNormal(),
    "glorot_uniform": VarianceScaling(1.0, "fan_avg", "uniform"),
    "glorot_normal": VarianceScaling(1.0, "fan_avg", "truncated_normal"),
    "he_uniform": VarianceScaling(2.0, "fan_in", "uniform"),
    "he_normal": VarianceScaling(2.0, "fan_in", "truncated_normal"),
    "lecun_uniform": VarianceScaling(1.0, "fan_in", "uniform"),
    "lecun_normal": VarianceScaling(1.0, "fan_in", "truncated_normal"),
    "variance_scaling": VarianceScaling(),
    "orthogonal": Orthogonal(),
    "identity": Identity(),
}


def get(initializer: str | Initializer) -> Initializer:
    """The initialiser of a name, as Keras writes it (`"he_normal"` or `"HeNormal"`), or the callable given.

    Raises:
        NameLookupError: no such name; the nearest one is suggested.
        DTypeError: neither a name nor callable.

    Example:
        >>> from trine.nn import initializers
        >>> initializers.get("he_normal")
        VarianceScaling(scale=2.0, mode='fan_in', distribution='truncated_normal')
    """
    if isinstance(initializer, str):
        found = BY_NAME.get(initializer) or BY_NAME.get(snake_case(initializer))
        if found is None:
            raise _located(NameLookupError("initializer", f"no initialiser is called {initializer!r}",
                                           got=repr(initializer),
                                           fix=nearest(snake_case(initializer), sorted(BY_NAME))))  # fmt: skip
        return found
    if not callable(initializer):
        raise _located(DTypeError("initializer", "an initialiser is a name or a callable of (shape, dtype, generator)",
                                  got=f"{initializer!r:.60}"))  # fmt: skip
    return initializer


def snake_case(name: str) -> str:
    """`GlorotUniform` as `glorot_uniform`, `Conv2D` as `conv2d`: the names that Keras gives."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[A-Z][a-z])", "_", name).lower()
