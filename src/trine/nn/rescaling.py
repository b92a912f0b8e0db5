"""Rescaling of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from trine.nn.checks import compute_dtype
from trine.nn.module import Module
from trine.ops.elementwise import add, cast, multiply
from trine.tensor.tensor import Tensor, to_tensor


class Rescaling(Module):
    """`x * scale + offset`, in the compute dtype: for example pixels of 0 to 255 as numbers of 0 to 1.

    Shapes: any, kept, unless `scale` or `offset` are arrays that broadcast it.

    Args:
        scale: the factor, a number or an array that broadcasts against the input.
        offset: the summand, likewise.

    Example:
        >>> import numpy as np
        >>> from trine import nn
        >>> nn.Rescaling(1 / 127.5, offset=-1)(np.array([0, 255], np.uint8)).tolist()
        [-1.0, 1.0]
    """

    def __init__(self, scale: Any, offset: Any = 0.0) -> None:
        """Keep the arguments."""
        self.scale = _numbers(scale)
        self.offset = _numbers(offset)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's value."""
        dtype = compute_dtype()
        scale, offset = (v if isinstance(v, float) else to_tensor(v, dtype) for v in (self.scale, self.offset))
        return add(multiply(cast(x, dtype), scale), offset)


def _numbers(value: Any) -> Any:
    """A float, or an array that no training changes."""
    return float(value) if isinstance(value, int | float) else np.array(value, np.float64)
