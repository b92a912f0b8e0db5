"""`nn.parameter`: a tensor that training changes."""

from __future__ import annotations

from typing import Any

import numpy as np

from trine import dtypes
from trine.context import using
from trine.dtypes import DType
from trine.errors import ShapeError, Site
from trine.nn import initializers
from trine.nn.policy import current_policy
from trine.ops.base import user_site
from trine.ops.elementwise import cast
from trine.shapes import Dim, Size, format_shape
from trine.tensor.random import generator
from trine.tensor.tensor import Tensor, constant, read, to_tensor


def parameter(
    shape: Size | tuple[Size, ...] | list[Size],
    initializer: str | initializers.Initializer = "glorot_uniform",
    trainable: bool = True,
    dtype: DType | str | None = None,
) -> Tensor:
    """A new tensor that wants a gradient and holds initial values; assign it to an attribute of a module.

    Args:
        shape: the sizes, numbers.
        initializer: a name, or a callable `(shape, dtype, generator) -> tensor or array`.
        trainable: False makes it state: saved with the module, not trained.
        dtype: that of the policy's parameters unless given, float32 by default.

    Raises:
        ShapeError: a size is a symbol, or the initialiser returns another shape.
        NameLookupError: no initialiser has the name.

    Example:
        >>> from trine import nn
        >>> nn.parameter((2, 3), "zeros")
        tensor([[0., 0., 0.],
                [0., 0., 0.]], requires_grad=True)
    """
    sizes = _numbers(tuple(shape) if isinstance(shape, tuple | list) else (shape,))
    wanted = current_policy()[0] if dtype is None else dtypes.dtype(dtype)
    function = initializers.get(initializer)
    with using(grad=False, capture=None, journal=None):
        value = to_tensor(function(sizes, wanted, generator("initialisation")))
        if value.shape != sizes:
            raise ShapeError("parameter", f"the initialiser returns shape {list(value.shape)}, not {list(sizes)}",
                             got=f"{function!r:.60}").locate(Site(*user_site()))  # fmt: skip
        array: np.ndarray[Any, Any] = np.array(read(cast(value, wanted)), order="C")
        made = Tensor(constant(array))
        if trainable:
            made.requires_grad = True
    return made


def _numbers(shape: tuple[Size, ...]) -> tuple[int, ...]:
    for axis, size in enumerate(shape):
        if isinstance(size, Dim):
            code, offset, path = user_site()
            owner = " of the layer" if path else ""
            raise ShapeError(path or "parameter",
                             f"axis {axis} must be a number to make a parameter{owner}, it is the symbol {size}",
                             got=f"shape {format_shape(shape)}", fix="give that axis of the input as a number").locate(
                Site(code, offset))  # fmt: skip
    return tuple(int(size) for size in shape)
