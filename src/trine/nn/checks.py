"""What layers check about their inputs, and how they refuse: with the layer's path, the user's line and the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trine.dtypes import DType
from trine.errors import ArgumentError, DTypeError, ShapeError, Site, TrineError
from trine.nn.policy import current_policy
from trine.ops.base import no_tensor, user_site
from trine.ops.elementwise import cast
from trine.shapes import Size
from trine.tensor.tensor import Tensor


def located(layer: Any, error: TrineError) -> TrineError:
    """`error` at the user's line, with the path of the running layer (its class, outside of a call) as its place."""
    code, offset, path = user_site()
    error.where = path or type(layer).__name__
    error.site = None
    return error.locate(Site(code, offset))


def shape_error(layer: Any, rule: str, *, got: str = "", fix: str = "") -> TrineError:
    """A ShapeError of a layer."""
    return located(layer, ShapeError("", rule, got=got, fix=fix))


def argument_error(layer: Any, rule: str, *, got: str = "", fix: str = "") -> TrineError:
    """An ArgumentError of a layer."""
    return located(layer, ArgumentError("", rule, got=got, fix=fix))


def line() -> str:
    """The user's line as text: `train.py:18`."""
    code, offset, _ = user_site()
    site = Site(code, offset)
    return f"{Path(site.filename).name}:{site.line}"


def require_tensor(layer: Any, x: Any) -> None:
    """Refuse an input that is no tensor.

    Raises:
        DTypeError: it is none.
    """
    if not isinstance(x, Tensor):
        error = no_tensor("", x)
        error.fix = error.fix or "return a value at the end of the forward before this layer"
        raise located(layer, error)


def require_axes(layer: Any, x: Tensor, axes: str, fix: str = "") -> None:
    """Refuse an input that has not the axes named, for example `"batch, height, width, channels"`.

    Raises:
        DTypeError: no tensor.
        ShapeError: another number of axes; `fix` is shown where one is missing.
    """
    require_tensor(layer, x)
    wanted = axes.count(",") + 1
    if x.ndim != wanted:
        raise shape_error(layer, f"takes [{axes}], {wanted} axes; got {x.ndim}",
                          got=str(x.type), fix=(fix or _missing(x)) if x.ndim == wanted - 1 else "")  # fmt: skip


def _missing(x: Tensor) -> str:
    """Which axis images without one lack: a last axis of 1, 3 or 4 looks like channels."""
    return "x[None] adds a batch axis" if x.shape[-1:] in ((1,), (3,), (4,)) else "x[..., None] adds a channel axis"


def require_window(layer: Any, x: Tensor, spans: Sequence[int], name: str) -> None:
    """Refuse images, or sequences, that are smaller than the window which the argument `name` sets.

    Raises:
        ShapeError: they are.
    """
    for axis, span in enumerate(spans, 1):
        n = x.shape[axis]
        if isinstance(n, int) and n < span:
            first = x.ndim == 4 and x.shape[1] in (1, 3, 4) and all(isinstance(n, int) and n > 4 for n in x.shape[2:])
            fix = "trine.moveaxis(x, 1, -1): channels come last" if first else f'padding="same", or a smaller {name}'
            raise shape_error(layer, f"the window spans {span} elements, axis {axis} of x has {n}", got=str(x.type),
                              fix=fix)  # fmt: skip


def known(layer: Any, x: Tensor, axis: int, what: str = "features") -> int:
    """The size of an axis that parameters depend on.

    Raises:
        ShapeError: it is a symbol.
    """
    n: Size = x.shape[axis]
    if not isinstance(n, int):
        name = "the last axis" if axis in (-1, x.ndim - 1) else f"axis {axis}"
        raise shape_error(layer, f"the number of {what} is part of the layer's parameters, and {name} of x is the "
                          f"symbol {n}", got=str(x.type), fix="give that size as a number")  # fmt: skip
    return n


def require_size(layer: Any, x: Tensor, axis: int, built: int, what: str = "features") -> None:
    """Refuse an input whose axis has another size than at the first call, whose line is `layer.built_at`.

    Raises:
        ShapeError: it has.
    """
    n = x.shape[axis]
    if n != built:
        name = "the last axis" if axis in (-1, x.ndim - 1) else f"axis {axis}"
        raise shape_error(layer, f"sizes differ: {name} of x is {n}, the layer was built for {built}",
                          got=str(x.type), fix=first_call(layer, built, what))  # fmt: skip


def first_call(layer: Any, built: int, what: str = "features") -> str:
    """`Dense was first called with 64 features at train.py:18`."""
    return f"{type(layer).__name__} was first called with {built} {what} at {layer.built_at}"


def positive(layer: Any, name: str, value: object) -> int:
    """A constructor's number that must be an integer of at least 1.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        whole = isinstance(value, float) and value.is_integer() and value >= 1
        raise argument_error(layer, f"{name} is an integer of at least 1", got=f"{name}={value!r:.60}",
                             fix=f"{name}={value:.0f}; // divides integers" if whole else "")  # fmt: skip
    found: int = value.__index__()
    return found


def each_axis(layer: Any, name: str, value: Any, rank: int) -> tuple[int, ...]:
    """One positive integer per spatial axis, from one for all or a tuple.

    Raises:
        ArgumentError: another number of them, or one below 1.
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    if len(values) != rank:
        raise argument_error(layer, f"{name} is one integer or {rank}, one for each spatial axis",
                             got=f"{name}={value!r:.60}")  # fmt: skip
    return tuple(positive(layer, name, v) for v in values)


def floats(x: Tensor) -> Tensor:
    """`x`, cast to the compute dtype of the policy where it holds integers or bools."""
    if x.dtype.is_float:
        return x
    return cast(x, compute_dtype())


def compute_dtype() -> DType:
    """The dtype in which layers compute under the policy that is set."""
    return current_policy()[1]


def integers(layer: Any, x: Tensor) -> Tensor:
    """`x`, which must hold integers.

    Raises:
        DTypeError: it does not.
    """
    require_tensor(layer, x)
    if not x.dtype.is_integer:
        raise located(layer, DTypeError("", f"takes integers, not {x.dtype.name}",
                                        got=str(x.type), fix="x.astype(trine.int64)"))  # fmt: skip
    return x
