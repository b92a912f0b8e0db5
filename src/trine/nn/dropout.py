"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence

from trine.functional.dropout import check_rate, dropout
from trine.nn.checks import floats, shape_error
from trine.nn.module import Module
from trine.shapes import Size
from trine.tensor.random import Generator, generator
from trine.tensor.tensor import Tensor


class Dropout(Module):
    """`x / (1 - rate)` with each element set to 0 with chance `rate` while training; `x` itself otherwise.

    Shapes: any, kept.

    Args:
        rate: the chance with which an element is dropped, from 0 to 1.
        noise_shape: the shape over which chances are drawn, which broadcasts to that of the input; None as an entry
            takes the input's size. `(None, 1, None)` drops whole features of a sequence.
        seed: for a stream of the layer's own; None draws from the stream "dropout" of `manual_seed`.

    Raises:
        ArgumentError: the rate is outside of [0, 1].
        ShapeError: the noise shape has another number of axes than the input.

    Source: Srivastava et al., "Dropout" (2014), JMLR 15.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> layer = nn.Dropout(0.5)
        >>> layer(trine.ones(3)).tolist()
        [1.0, 1.0, 1.0]
        >>> set(layer(trine.ones(100), training=True).tolist()) == {0.0, 2.0}
        True
    """

    def __init__(self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None) -> None:
        """Keep the arguments."""
        check_rate("Dropout", rate)
        self.rate = rate
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self.seed = seed
        self.generator = None if seed is None else Generator(seed, "dropout")
        self.generator_state = None if self.generator is None else self.generator.state

    def forward(self, x: Tensor, training: bool | None = None) -> Tensor:
        """The layer's value, of the shape of `x`."""
        if not self.rate or not self.is_training(training):
            return x
        x = floats(x)
        source = self.generator or generator("dropout")
        return dropout(x, source.bernoulli(1.0 - self.rate, self._noise(x)), self.rate)

    def _noise(self, x: Tensor) -> tuple[Size, ...]:
        if self.noise_shape is None:
            return x.shape
        if len(self.noise_shape) != x.ndim:
            raise shape_error(self, f"noise_shape has {len(self.noise_shape)} axes, x has {x.ndim}", got=str(x.type))
        return tuple(n if wanted is None else wanted for n, wanted in zip(x.shape, self.noise_shape, strict=True))
