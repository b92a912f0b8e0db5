"""Batch normalisation."""

from __future__ import annotations

from typing import Any

from trine.context import using
from trine.functional.normalisation import batch_norm, moments
from trine.nn.checks import floats, known, line, require_size, shape_error
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.ops.elementwise import add, cast, multiply
from trine.ops.movement import expand_dims
from trine.tensor.tensor import Tensor


class BatchNormalization(Module):
    """`(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with mean and variance per channel.

    While training they are those of the batch, over all axes but the channels', and the moving ones are re-bound:
    `moving = momentum * moving + (1 - momentum) * batch`, with the biased variance. Otherwise the moving ones are used;
    a layer with `trainable = False` always uses them.

    Shapes: any, kept; `gamma`, `beta`, `moving_mean` and `moving_variance` are `[channels]`.

    Args:
        axis: of the channels.
        momentum: how much of the moving statistics a step keeps.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer: how beta starts.
        gamma_initializer: how gamma starts.
        moving_mean_initializer: how the moving mean starts.
        moving_variance_initializer: how the moving variance starts.

    Raises:
        ShapeError: another number of channels than at the first call, or no such axis.

    Source: Ioffe and Szegedy, "Batch Normalization" (2015), arXiv:1502.03167.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> layer = nn.BatchNormalization()
        >>> y = layer(trine.asarray([[0.0], [2.0]]), training=True)
        >>> [round(v, 3) for v in y.flatten().tolist()]
        [-1.0, 1.0]
        >>> round(layer.moving_mean.item(), 3)
        0.01
    """

    gamma: Tensor | None
    beta: Tensor | None
    moving_mean: Tensor
    moving_variance: Tensor

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.beta_initializer = beta_initializer
        self.gamma_initializer = gamma_initializer
        self.moving_mean_initializer = moving_mean_initializer
        self.moving_variance_initializer = moving_variance_initializer

    def build(self, x: Tensor) -> None:
        """Make parameters and moving statistics for the channels of `x`."""
        self._check(x)
        self.channels = known(self, x, self.axis, "channels")
        self.built_at = line()
        shape = (self.channels,)
        self.gamma = parameter(shape, self.gamma_initializer) if self.scale else None
        self.beta = parameter(shape, self.beta_initializer) if self.center else None
        self.moving_mean = parameter(shape, self.moving_mean_initializer, trainable=False)
        self.moving_variance = parameter(shape, self.moving_variance_initializer, trainable=False)

    def forward(self, x: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        """The layer's value, of the shape of `x`.

        Args:
            x: floats.
            training: whether to use and to count the statistics of this batch.
            mask: bools over the first axes of `x`, for example `[batch, time]`: elements where it does not hold are
                left out of the statistics.
        """
        self._check(x)
        require_size(self, x, self.axis, self.channels, "channels")
        x = floats(x)
        centre, variance = self.moving_mean, self.moving_variance
        if self.is_training(training) and self.trainable:
            channel = self.axis % x.ndim
            axes = [i for i in range(x.ndim) if i != channel]
            if any(x.shape[i] == 0 for i in axes):
                raise shape_error(self, "an empty batch has no statistics to train with", got=str(x.type),
                                  fix="leave batches of size 0 out")  # fmt: skip
            centre, variance = moments(x, axes, mask=None if mask is None else self._wide(mask, x))
            self._move(self.moving_mean, centre)
            self._move(self.moving_variance, variance)
        return batch_norm(x, centre, variance, self.gamma, self.beta, epsilon=self.epsilon, axis=self.axis)

    def _move(self, moving: Tensor, batch: Tensor) -> None:
        with using(grad=False):
            kept = multiply(moving, self.momentum)
            moving.assign(add(kept, cast(multiply(batch, 1.0 - self.momentum), moving.dtype)))

    def _wide(self, mask: Tensor, x: Tensor) -> Tensor:
        while mask.ndim < x.ndim:
            mask = expand_dims(mask, axis=mask.ndim)
        return mask

    def _check(self, x: Tensor) -> None:
        if not -x.ndim <= self.axis < x.ndim:
            raise shape_error(self, f"the channels are axis {self.axis}, x has {x.ndim} axes", got=str(x.type))
