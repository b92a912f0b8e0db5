"""The dtype policy of modules (how parameters are kept, how layers compute), and the training mode."""

from __future__ import annotations

from typing import Final

from trine import dtypes
from trine.context import CURRENT, using
from trine.dtypes import DType
from trine.errors import DTypeError, Site
from trine.ops.base import user_site

Policy = tuple[DType, DType]
DEFAULT: Final[Policy] = (dtypes.float32, dtypes.float32)


def current_policy() -> Policy:
    """(parameter dtype, compute dtype) of the layers that are made or called now."""
    return CURRENT.get().policy or DEFAULT


def policy_of(parameter: DType | str, compute: DType | str | None = None) -> Policy:
    """The pair of float dtypes; `compute` is that of the parameters unless given.

    Raises:
        DTypeError: one of them is no float.
    """
    kept = dtypes.dtype(parameter)
    computed = kept if compute is None else dtypes.dtype(compute)
    for word, dtype in (("parameters are kept", kept), ("layers compute", computed)):
        if not dtype.is_float:
            raise DTypeError("dtype_policy", f"{word} in a float dtype, not in {dtype.name}",
                             got=f"{kept.name}, {computed.name}",
                             fix="float32, float64, bfloat16 or float16").locate(Site(*user_site()))  # fmt: skip
    return kept, computed


def dtype_policy(parameter: DType | str, compute: DType | str | None = None) -> using:
    """A block in which modules are made and called with parameters in one dtype and computations in another.

    A module made in the block keeps the policy. Outside of any block both are float32.

    Args:
        parameter: the dtype of parameters and state.
        compute: the dtype to which float inputs of a module are cast; that of the parameters unless given.

    Raises:
        DTypeError: one of them is no float.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> with nn.dtype_policy("float32", "bfloat16"):
        ...     layer = nn.Dense(2)
        >>> layer(trine.ones((1, 3))).dtype, layer.kernel.dtype
        (trine.bfloat16, trine.float32)
    """
    return using(policy=policy_of(parameter, compute))


def training_mode(flag: bool) -> using:
    """A block in which layers behave as in training (True) or as in use (False), whatever their `training` says.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> layer = nn.Dropout(0.5)
        >>> with nn.training_mode(True):
        ...     y = layer(trine.ones(100))
        >>> bool((y == 0).any())
        True
    """
    return using(training=flag)
