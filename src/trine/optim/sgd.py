"""Stochastic gradient descent, plain, with momentum, or with Nesterov's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trine.ops.elementwise import add, multiply, subtract
from trine.optim.optimizer import LearningRate, Optimizer, Parameters
from trine.tensor.tensor import Tensor


class SGD(Optimizer):
    """`x -= rate * g`; with momentum `m = momentum * m - rate * g; x += m`.

    With `nesterov`, `x += momentum * m - rate * g` for the new m.

    Args:
        parameters: see `Optimizer`.
        learning_rate: 0.01 by default.
        momentum: how much of the last move is repeated, from 0 to below 1.
        nesterov: look ahead along the momentum.
        options: see `Optimizer`.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).

    Example:
        >>> import trine
        >>> from trine.optim import SGD
        >>> x = trine.asarray([1.0, 2.0], requires_grad=True)
        >>> optimizer = SGD([x], 0.5)
        >>> (x * x).sum().backward()
        >>> optimizer.step()
        >>> x.tolist()
        [0.0, 0.0]
    """

    default_learning_rate = 0.01
    own_options = ("momentum", "nesterov")

    def __init__(
        self,
        parameters: Parameters | LearningRate | None = None,
        learning_rate: LearningRate | None = None,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        """Keep the options; with parameters, make their state."""
        self._fraction(momentum=momentum)
        self.momentum = momentum
        self.nesterov = nesterov
        super().__init__(parameters, learning_rate, **options)

    @property
    def slots(self) -> tuple[str, ...]:
        """The momentum, if there is one."""
        return ("momentum",) if self.momentum else ()

    def update(
        self, x: Tensor, g: Tensor, scalars: Sequence[Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """By the formula of the class."""
        move = multiply(g, scalars[0])
        if not self.momentum:
            return subtract(x, move), {}
        m = subtract(multiply(state["momentum"], self.momentum), move)
        new = add(x, subtract(multiply(m, self.momentum), move)) if self.nesterov else add(x, m)
        return new, {"momentum": m}
