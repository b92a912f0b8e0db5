"""Convolutions, channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from trine.functional import activations
from trine.nn.checks import (
    argument_error,
    each_axis,
    floats,
    known,
    line,
    positive,
    require_axes,
    require_size,
    require_window,
)
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.ops.convolution import conv_transpose, convolution
from trine.ops.elementwise import add, cast
from trine.ops.movement import reshape
from trine.tensor.tensor import Tensor

Sizes = int | Sequence[int]

AXES: Final = {1: "batch, steps, channels", 2: "batch, height, width, channels"}


class _Conv(Module):
    """What convolutions share: arguments, the kernel `[*kernel_size, channels / groups, filters]`, the bias."""

    rank: ClassVar[int]
    kernel: Tensor
    bias: Tensor | None

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        dilation_rate: Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        self.filters = positive(self, "filters", filters)
        self.kernel_size = each_axis(self, "kernel_size", kernel_size, self.rank)
        self.strides = each_axis(self, "strides", strides, self.rank)
        self.padding = _padding(self, padding, causal=self.rank == 1)
        self.dilation_rate = each_axis(self, "dilation_rate", dilation_rate, self.rank)
        self.groups = positive(self, "groups", groups)
        if self.filters % self.groups:
            raise argument_error(self, f"{self.groups} groups share the filters equally, and there are {self.filters}",
                                 got=f"filters={self.filters}, groups={self.groups}")  # fmt: skip
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, x: Tensor) -> None:
        """Make kernel and bias for the channels of `x`."""
        require_axes(self, x, AXES[self.rank])
        self.channels = known(self, x, -1, "channels")
        if self.channels % self.groups:
            raise argument_error(self, f"{self.groups} groups share the channels equally, and x has {self.channels}",
                                 got=str(x.type))  # fmt: skip
        self.built_at = line()
        shape = (*self.kernel_size, self.channels // self.groups, self.filters)
        self.kernel = parameter(shape, self.kernel_initializer)
        self.bias = parameter((self.filters,), self.bias_initializer) if self.use_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, channels last."""
        x = _windowed(self, x)
        out = convolution(x, cast(self.kernel, x.dtype), strides=self.strides, padding=self.padding,
                          dilation=self.dilation_rate, groups=self.groups)  # fmt: skip
        value: Tensor = self.activation(_biased(out, self.bias))
        return value


class Conv1D(_Conv):
    """`activation(convolution(x, kernel) + bias)` along one axis: each filter is the same weighted sum at every place.

    Shapes: `[batch, steps, channels] -> [batch, places, filters]`, with `kernel` `[size, channels / groups, filters]`
    and `bias` `[filters]`; places as in `trine.convolution`.

    Args:
        filters: the number of channels of the result.
        kernel_size: the number of taps.
        strides: the distance between places.
        padding: "valid" (none), "same" (`ceil(steps / strides)` places), or "causal" (no place sees what comes later).
        dilation_rate: the distance between taps.
        groups: the number of parts of the channels that do not see each other.
        activation: a name, a function, or None.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel starts.
        bias_initializer: how the bias starts.

    Raises:
        ShapeError: the input has not 3 axes, or another number of channels than at the first call.
        ArgumentError: a number out of range, another word for padding, groups that do not divide the channels.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Conv1D(4, 3, padding="causal")(trine.ones((2, 10, 8))).shape
        (2, 10, 4)
    """

    rank = 1


class Conv2D(_Conv):
    """`activation(convolution(x, kernel) + bias)` over images: each filter is the same weighted sum at every place.

    Shapes: `[batch, height, width, channels] -> [batch, rows, columns, filters]`, with `kernel`
    `[height, width, channels / groups, filters]` and `bias` `[filters]`; places as in `trine.convolution`.

    Args:
        filters: the number of channels of the result.
        kernel_size: the number of taps, for both axes or each.
        strides: the distance between places, likewise.
        padding: "valid" (none) or "same" (`ceil(size / stride)` places).
        dilation_rate: the distance between taps, likewise.
        groups: the number of parts of the channels that do not see each other.
        activation: a name, a function, or None.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel starts.
        bias_initializer: how the bias starts.

    Raises:
        ShapeError: the input has not 4 axes, or another number of channels than at the first call.
        ArgumentError: a number out of range, another word for padding, groups that do not divide the channels.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Conv2D(32, 3, activation="relu")(trine.ones((1, 28, 28, 1))).shape
        (1, 26, 26, 32)
    """

    rank = 2


class DepthwiseConv2D(Module):
    """A convolution of each channel by itself, with `depth_multiplier` filters for each.

    Shapes: `[batch, height, width, channels] -> [batch, rows, columns, channels * depth_multiplier]`, with `kernel`
    `[height, width, channels, depth_multiplier]`; result `c * depth_multiplier + q` is filter q of channel c.

    Args:
        kernel_size: the number of taps, for both axes or each.
        strides: the distance between places, likewise.
        padding: "valid" (none) or "same".
        depth_multiplier: filters for each channel.
        dilation_rate: the distance between taps, likewise.
        activation: a name, a function, or None.
        use_bias: whether there is a bias.
        depthwise_initializer: how the kernel starts.
        bias_initializer: how the bias starts.

    Raises:
        ShapeError: the input has not 4 axes, or another number of channels than at the first call.
        ArgumentError: a number out of range, or another word for padding.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.DepthwiseConv2D(3, depth_multiplier=2)(trine.ones((1, 8, 8, 4))).shape
        (1, 6, 6, 8)
    """

    rank: ClassVar[int] = 2
    kernel: Tensor
    bias: Tensor | None

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        self.kernel_size = each_axis(self, "kernel_size", kernel_size, self.rank)
        self.strides = each_axis(self, "strides", strides, self.rank)
        self.padding = _padding(self, padding)
        self.depth_multiplier = positive(self, "depth_multiplier", depth_multiplier)
        self.dilation_rate = each_axis(self, "dilation_rate", dilation_rate, self.rank)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.depthwise_initializer = depthwise_initializer
        self.bias_initializer = bias_initializer

    def build(self, x: Tensor) -> None:
        """Make kernel and bias for the channels of `x`."""
        require_axes(self, x, AXES[self.rank])
        self.channels = known(self, x, -1, "channels")
        self.built_at = line()
        self.kernel = parameter((*self.kernel_size, self.channels, self.depth_multiplier), self.depthwise_initializer)
        width = self.channels * self.depth_multiplier
        self.bias = parameter((width,), self.bias_initializer) if self.use_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, channels last."""
        x = _windowed(self, x)
        out = _depthwise(x, self.kernel, self.strides, self.padding, self.dilation_rate)
        value: Tensor = self.activation(_biased(out, self.bias))
        return value


class SeparableConv2D(Module):
    """A depthwise convolution, then a weighted sum of its channels at each place: `activation(... + bias)`.

    Shapes: `[batch, height, width, channels] -> [batch, rows, columns, filters]`, with `depthwise_kernel`
    `[height, width, channels, depth_multiplier]` and `pointwise_kernel` `[1, 1, channels * depth_multiplier, filters]`.

    Args:
        filters: the number of channels of the result.
        kernel_size: the number of taps, for both axes or each.
        strides: the distance between places, likewise.
        padding: "valid" (none) or "same".
        dilation_rate: the distance between taps, likewise.
        depth_multiplier: filters of the first convolution for each channel.
        activation: a name, a function, or None.
        use_bias: whether there is a bias.
        depthwise_initializer: how the first kernel starts.
        pointwise_initializer: how the second kernel starts.
        bias_initializer: how the bias starts.

    Raises:
        ShapeError: the input has not 4 axes, or another number of channels than at the first call.
        ArgumentError: a number out of range, or another word for padding.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.SeparableConv2D(16, 3)(trine.ones((1, 8, 8, 4))).shape
        (1, 6, 6, 16)
    """

    rank: ClassVar[int] = 2
    depthwise_kernel: Tensor
    pointwise_kernel: Tensor
    bias: Tensor | None

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        dilation_rate: Sizes = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        self.filters = positive(self, "filters", filters)
        self.kernel_size = each_axis(self, "kernel_size", kernel_size, self.rank)
        self.strides = each_axis(self, "strides", strides, self.rank)
        self.padding = _padding(self, padding)
        self.dilation_rate = each_axis(self, "dilation_rate", dilation_rate, self.rank)
        self.depth_multiplier = positive(self, "depth_multiplier", depth_multiplier)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.depthwise_initializer = depthwise_initializer
        self.pointwise_initializer = pointwise_initializer
        self.bias_initializer = bias_initializer

    def build(self, x: Tensor) -> None:
        """Make the kernels and the bias for the channels of `x`."""
        require_axes(self, x, AXES[self.rank])
        self.channels = known(self, x, -1, "channels")
        self.built_at = line()
        depthwise = (*self.kernel_size, self.channels, self.depth_multiplier)
        self.depthwise_kernel = parameter(depthwise, self.depthwise_initializer)
        pointwise = (1, 1, self.channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = parameter(pointwise, self.pointwise_initializer)
        self.bias = parameter((self.filters,), self.bias_initializer) if self.use_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, channels last."""
        x = _windowed(self, x)
        out = _depthwise(x, self.depthwise_kernel, self.strides, self.padding, self.dilation_rate)
        out = convolution(out, cast(self.pointwise_kernel, x.dtype))
        value: Tensor = self.activation(_biased(out, self.bias))
        return value


class Conv2DTranspose(Module):
    """`activation(conv_transpose(x, kernel) + bias)`: each place adds its multiple of the filters to a larger image.

    Shapes: `[batch, height, width, channels] -> [batch, rows, columns, filters]`, with `kernel`
    `[height, width, filters, channels]`. "same" makes `size * stride` rows, "valid"
    `size * stride + max(window - stride, 0)`.

    Args:
        filters: the number of channels of the result.
        kernel_size: the number of taps, for both axes or each.
        strides: the distance at which neighbours of the input add, likewise.
        padding: "valid" or "same".
        output_padding: how many rows and columns more the result has than it needs, fewer than the strides; None makes
            the sizes above.
        dilation_rate: the distance between taps, likewise.
        activation: a name, a function, or None.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel starts.
        bias_initializer: how the bias starts.

    Raises:
        ShapeError: the input has not 4 axes, or another number of channels than at the first call.
        ArgumentError: a number out of range, or another word for padding.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Conv2DTranspose(8, 3, strides=2, padding="same")(trine.ones((1, 7, 7, 4))).shape
        (1, 14, 14, 8)
    """

    rank: ClassVar[int] = 2
    kernel: Tensor
    bias: Tensor | None

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        output_padding: Sizes | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        self.filters = positive(self, "filters", filters)
        self.kernel_size = each_axis(self, "kernel_size", kernel_size, self.rank)
        self.strides = each_axis(self, "strides", strides, self.rank)
        self.padding = _padding(self, padding)
        self.output_padding = output_padding
        self.dilation_rate = each_axis(self, "dilation_rate", dilation_rate, self.rank)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, x: Tensor) -> None:
        """Make kernel and bias for the channels of `x`."""
        require_axes(self, x, AXES[self.rank])
        self.channels = known(self, x, -1, "channels")
        self.built_at = line()
        self.kernel = parameter((*self.kernel_size, self.filters, self.channels), self.kernel_initializer)
        self.bias = parameter((self.filters,), self.bias_initializer) if self.use_bias else None

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value, channels last."""
        x = _checked(self, x)
        out = conv_transpose(x, cast(self.kernel, x.dtype), strides=self.strides, padding=self.padding,
                             dilation=self.dilation_rate, output_padding=self.output_padding)  # fmt: skip
        value: Tensor = self.activation(_biased(out, self.bias))
        return value


def _checked(layer: Any, x: Tensor) -> Tensor:
    """`x` as floats, with the axes and channels that the layer was built for."""
    require_axes(layer, x, AXES[layer.rank])
    require_size(layer, x, -1, layer.channels, "channels")
    return floats(x)


def _windowed(layer: Any, x: Tensor) -> Tensor:
    """The same for a layer whose windows, without padding, have to fit into `x`."""
    x = _checked(layer, x)
    if layer.padding == "valid":
        spans = [d * (n - 1) + 1 for n, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
        require_window(layer, x, spans, "kernel_size")
    return x


def _padding(layer: Any, padding: str, causal: bool = False) -> str:
    words = ("valid", "same", "causal") if causal else ("valid", "same")
    if padding not in words:
        raise argument_error(layer, f"padding is {' or '.join(map(repr, words))}", got=f"padding={padding!r}")
    return padding


def _depthwise(x: Tensor, kernel: Tensor, strides: Any, padding: str, dilation: Any) -> Tensor:
    """The convolution of each channel by itself: one group for each."""
    height, width, channels, multiplier = kernel.shape
    filters = reshape(cast(kernel, x.dtype), (height, width, 1, channels * multiplier))
    return convolution(x, filters, strides=strides, padding=padding, dilation=dilation, groups=int(channels))


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else add(x, cast(bias, x.dtype))
