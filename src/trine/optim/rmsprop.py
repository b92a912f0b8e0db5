"""RMSprop: gradients divided by a moving root of their mean square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trine.ops.elementwise import add, divide, multiply, sqrt, square, subtract
from trine.optim.optimizer import LearningRate, Optimizer, Parameters
from trine.tensor.tensor import Tensor


class RMSprop(Optimizer):
    """`v = rho * v + (1 - rho) * g**2; x -= rate * g / sqrt(v + epsilon)`.

    With `centered` the square of the moving mean gradient is taken off v in the root; with `momentum`,
    `m = momentum * m + rate * g / sqrt(...); x -= m`.

    Args:
        parameters: see `Optimizer`.
        learning_rate: 0.001 by default.
        rho: the share of v that is kept, from 0 to below 1.
        momentum: how much of the last move is repeated, from 0 to below 1.
        epsilon: what keeps the divisor from 0, inside of the root.
        centered: divide by an estimate of the variance.
        options: see `Optimizer`.

    Source: Tieleman and Hinton, "Lecture 6.5: rmsprop", Neural Networks for Machine Learning (2012); centred: Graves,
    "Generating Sequences With Recurrent Neural Networks" (2013), arXiv:1308.0850, equations 38 to 41.
    """

    own_options = ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        parameters: Parameters | LearningRate | None = None,
        learning_rate: LearningRate | None = None,
        *,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ) -> None:
        """Keep the options; with parameters, make their state."""
        self._fraction(rho=rho, momentum=momentum)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered
        super().__init__(parameters, learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The moving mean square, and what the options ask for."""
        return ("velocity", *(("momentum",) if self.momentum else ()), *(("average",) if self.centered else ()))

    def update(
        self, x: Tensor, g: Tensor, scalars: Sequence[Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """By the formula of the class."""
        v = add(multiply(state["velocity"], self.rho), multiply(square(g), 1.0 - self.rho))
        new = {"velocity": v}
        if self.centered:
            new["average"] = add(multiply(state["average"], self.rho), multiply(g, 1.0 - self.rho))
            v = subtract(v, square(new["average"]))
        move = divide(multiply(g, scalars[0]), sqrt(add(v, self.epsilon)))
        if self.momentum:
            move = new["momentum"] = add(multiply(state["momentum"], self.momentum), move)
        return subtract(x, move), new
