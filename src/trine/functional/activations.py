"""Activations: element-wise compositions with Keras's names and defaults, and the softmax family.

Each keeps the dtype of a float argument (integers count as float32), lets NaN through, and has finite first and second
derivatives wherever its own value is finite: no branch that is not chosen can overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from trine.errors import ArgumentError, DTypeError, NameLookupError, Site, nearest
from trine.ops.base import V, user_site
from trine.ops.elementwise import (
    abs,
    add,
    clip,
    divide,
    erf,
    exp,
    expm1,
    floating,
    greater,
    greater_equal,
    isfinite,
    less_equal,
    log,
    log1p,
    multiply,
    negative,
    stop_gradient,
    subtract,
    tanh,
    where,
)
from trine.ops.movement import checked_axes, reshape
from trine.ops.reduction import max as maximum_over
from trine.ops.reduction import sum as sum_over

_SELU_ALPHA: Final = 1.6732632423543772
_SELU_SCALE: Final = 1.0507009873554805


# -- Piecewise linear --------------------------------------------------------------------------------------------------


def linear(x: V, /) -> V:
    """`x` itself."""
    return x


def relu(x: V, /, *, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0) -> V:
    """`x` where it is above `threshold`, `negative_slope * (x - threshold)` elsewhere, at most `max_value`.

    The derivative at 0 is that of the left side, 0 by default. Integers stay integers without a slope.

    Raises:
        ArgumentError: a negative `max_value` or `negative_slope`.
    """
    if negative_slope < 0 or (max_value is not None and max_value < 0):
        raise ArgumentError("relu", "negative_slope and max_value are at least 0",
                            got=f"negative_slope={negative_slope}, max_value={max_value}").locate(
            Site(*user_site()))  # fmt: skip
    if not negative_slope:
        out = where(less_equal(x, threshold), 0, x)
    else:
        x = floating(x)
        below = multiply(subtract(x, threshold) if threshold else x, negative_slope)
        out = where(less_equal(x, threshold), below, x)
    return out if max_value is None else where(greater_equal(x, max_value), max_value, out)


def relu6(x: V, /) -> V:
    """`x` limited to [0, 6]."""
    return relu(x, max_value=6)


def leaky_relu(x: V, /, *, negative_slope: float = 0.2) -> V:
    """`x` where it is positive, `negative_slope * x` elsewhere.

    Source: Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).
    """
    return relu(x, negative_slope=negative_slope)


def hard_sigmoid(x: V, /) -> V:
    """`x / 6 + 1 / 2` limited to [0, 1]; the derivative at -3 and 3 is 0."""
    x = floating(x)
    return where(less_equal(x, -3.0), 0.0, where(greater_equal(x, 3.0), 1.0, add(divide(x, 6.0), 0.5)))


def hard_silu(x: V, /) -> V:
    """`x * hard_sigmoid(x)`; also called hard swish.

    Source: Howard et al., "Searching for MobileNetV3" (2019), arXiv:1905.02244.
    """
    return multiply(x, hard_sigmoid(x))


# -- Exponential -------------------------------------------------------------------------------------------------------


def exponential(x: V, /) -> V:
    """`e ** x`."""
    return exp(x)


def elu(x: V, /, *, alpha: float = 1.0) -> V:
    """`x` where it is positive, `alpha * (e ** x - 1)` elsewhere.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units"
    (2016), arXiv:1511.07289.
    """
    x = floating(x)
    above = greater(x, 0.0)
    return where(above, x, multiply(expm1(where(above, 0.0, x)), alpha))


def selu(x: V, /) -> V:
    """`scale * elu(x, alpha)` with the two constants that keep mean 0 and variance 1 from layer to layer.

    Source: Klambauer et al., "Self-Normalizing Neural Networks" (2017), arXiv:1706.02515.
    """
    return multiply(elu(x, alpha=_SELU_ALPHA), _SELU_SCALE)


def sigmoid(x: V, /) -> V:
    """`1 / (1 + e ** -x)`, exact to the rounding on both sides."""
    x = floating(x)
    right = greater_equal(x, 0.0)
    small = exp(where(right, negative(x), x))
    return divide(where(right, 1.0, small), add(small, 1.0))


def log_sigmoid(x: V, /) -> V:
    """`log(sigmoid(x))`, without the overflow of either."""
    return negative(softplus(negative(floating(x))))


def softplus(x: V, /) -> V:
    """`log(1 + e ** x)`, without overflow."""
    x = floating(x)
    right = greater_equal(x, 0.0)
    return add(where(right, x, 0.0), log1p(exp(where(right, negative(x), x))))


def softsign(x: V, /) -> V:
    """`x / (1 + |x|)`."""
    x = floating(x)
    return divide(x, add(abs(x), 1.0))


def silu(x: V, /) -> V:
    """`x * sigmoid(x)`; also called swish.

    Source: Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units" (2017), arXiv:1702.03118.
    """
    x = floating(x)
    return multiply(x, sigmoid(x))


swish: Final = silu


def mish(x: V, /) -> V:
    """`x * tanh(softplus(x))`.

    Source: Misra, "Mish: A Self Regularized Non-Monotonic Activation Function" (2019), arXiv:1908.08681.
    """
    x = floating(x)
    return multiply(x, tanh(softplus(x)))


def gelu(x: V, /, *, approximate: bool = False) -> V:
    """`x` times the chance that a standard normal variable is below `x`: `x * (1 + erf(x / sqrt(2))) / 2`.

    Args:
        x: numbers.
        approximate: `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2` in its place.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016), arXiv:1606.08415.
    """
    x = floating(x)
    if approximate:
        inner = clip(x, -10.0, 10.0)  # tanh is 1 from far smaller arguments on, and the cube cannot overflow
        cubic = add(multiply(multiply(multiply(inner, inner), inner), 0.044715), inner)
        chance = add(tanh(multiply(cubic, math.sqrt(2 / math.pi))), 1.0)
    else:
        chance = add(erf(multiply(x, math.sqrt(0.5))), 1.0)
    return multiply(multiply(x, 0.5), chance)


# -- Over an axis ------------------------------------------------------------------------------------------------------

Axis = int | Sequence[int]


def softmax(x: V, /, *, axis: Axis = -1) -> V:
    """`e ** x` divided by its sum over `axis`: positive numbers that sum to 1, for arguments of any size.

    Raises:
        ArgumentError: the axis does not exist.
        ShapeError: the axis has no elements.
    """
    x = floating(x)
    above = exp(subtract(x, stop_gradient(maximum_over(x, axis=axis, keepdims=True))))
    return divide(above, sum_over(above, axis=axis, keepdims=True))


def log_softmax(x: V, /, *, axis: Axis = -1) -> V:
    """`log(softmax(x))`, without the overflow or the logarithm of 0; its gradient is that of cross-entropy."""
    x = floating(x)
    shifted = subtract(x, stop_gradient(maximum_over(x, axis=axis, keepdims=True)))
    return subtract(shifted, log(sum_over(exp(shifted), axis=axis, keepdims=True)))


def logsumexp(x: V, /, *, axis: Axis | None = None, keepdims: bool = False) -> V:
    """`log(sum(e ** x))` over `axis` (None: all), without overflow; -inf where all elements are."""
    x = floating(x)
    axes = checked_axes("logsumexp", axis, x)
    largest = stop_gradient(maximum_over(x, axis=axes, keepdims=True))
    shift = where(isfinite(largest), largest, 0.0)
    out = add(log(sum_over(exp(subtract(x, shift)), axis=axes, keepdims=True)), shift)
    return out if keepdims else reshape(out, tuple(n for i, n in enumerate(x.shape) if i not in axes))


# -- By name -----------------------------------------------------------------------------------------------------------

ACTIVATIONS: Final[dict[str, Callable[..., Any]]] = {
    "elu": elu,
    "exponential": exponential,
    "gelu": gelu,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "log_sigmoid": log_sigmoid,
    "log_softmax": log_softmax,
    "mish": mish,
    "relu": relu,
    "relu6": relu6,
    "selu": selu,
    "sigmoid": sigmoid,
    "silu": silu,
    "softmax": softmax,
    "softplus": softplus,
    "softsign": softsign,
    "swish": silu,
    "tanh": tanh,
}


def get(activation: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """The activation of a name; a function is returned as it is, None is `linear`.

    Raises:
        NameLookupError: no activation has the name.
        DTypeError: neither a name nor a function.
    """
    if activation is None:
        return linear
    if isinstance(activation, str):
        found = ACTIVATIONS.get(activation)
        if found is None:
            raise NameLookupError("activation", f"no activation is called {activation!r}", got=repr(activation),
                                  fix=nearest(activation, ACTIVATIONS)).locate(Site(*user_site()))  # fmt: skip
        return found
    if not callable(activation):
        raise DTypeError("activation", "an activation is a name or a function", got=f"{activation!r:.60}",
                         fix='activation="relu"').locate(Site(*user_site()))  # fmt: skip
    return activation
