"""Adam and AdamW: steps from moving means of the gradient and of its square."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trine.ops.elementwise import add, divide, expm1, maximum, multiply, negative, sqrt, square, subtract
from trine.optim.optimizer import LearningRate, Optimizer, Parameters
from trine.tensor.tensor import Tensor


class Adam(Optimizer):
    """`m += (g - m) (1 - beta_1); v += (g**2 - v) (1 - beta_2); x -= a m / (sqrt(v) + epsilon)`.

    In step t, `a = rate * sqrt(1 - beta_2**t) / (1 - beta_1**t)`; epsilon is the paper's "epsilon hat".

    Args:
        parameters: see `Optimizer`.
        learning_rate: 0.001 by default.
        beta_1: the share of the mean gradient that is kept, from 0 to below 1.
        beta_2: the share of the mean square that is kept, from 0 to below 1.
        epsilon: what keeps the divisor from 0, outside of the root.
        amsgrad: divide by the root of the largest v so far.
        options: see `Optimizer`.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization" (2015), arXiv:1412.6980, the form before section
    2.1; amsgrad: Reddi, Kale and Kumar, "On the Convergence of Adam and Beyond" (2018), arXiv:1904.09237.
    """

    own_options = ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self,
        parameters: Parameters | LearningRate | None = None,
        learning_rate: LearningRate | None = None,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        """Keep the options; with parameters, make their state."""
        self._fraction(beta_1=beta_1, beta_2=beta_2)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad
        super().__init__(parameters, learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The two moving means, and the largest of the second with amsgrad."""
        return ("momentum", "velocity", "velocity_hat") if self.amsgrad else ("momentum", "velocity")

    def scalars(self, rate: Tensor, step: Tensor) -> Sequence[Tensor]:
        """The learning rate with the bias of both means taken off."""
        return (divide(multiply(rate, sqrt(_bias(self.beta_2, step))), _bias(self.beta_1, step)),)

    def update(
        self, x: Tensor, g: Tensor, scalars: Sequence[Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """By the formula of the class."""
        m, v = state["momentum"], state["velocity"]
        m = add(m, multiply(subtract(g, m), 1.0 - self.beta_1))
        v = add(v, multiply(subtract(square(g), v), 1.0 - self.beta_2))
        new = {"momentum": m, "velocity": v}
        if self.amsgrad:
            v = new["velocity_hat"] = maximum(state["velocity_hat"], v)
        return subtract(x, divide(multiply(m, scalars[0]), add(sqrt(v), self.epsilon))), new


def _bias(beta: float, step: Tensor) -> Tensor:
    """`1 - beta**step`, exact to the rounding also where beta is near 1."""
    return negative(expm1(multiply(step, math.log(beta) if beta else -math.inf)))


class AdamW(Adam):
    """Adam with weight decay of its own: `x -= rate * weight_decay * x` before each step, 0.004 by default.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), arXiv:1711.05101.
    """

    default_weight_decay = 0.004
