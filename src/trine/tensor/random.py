"""Random tensors: generators that hold a state, and functions that draw from the user's stream.

Every number comes from Philox4x32-10 by (seed, call number, position), as `docs/numerics.md` says: the same seed gives
the same numbers on every machine and with any number of threads. There is one stream for each purpose, so that a
dropout layer more does not change what a user draws. The seed is 0 until `manual_seed` is called: two runs of one
program give the same numbers, and a program that wants others says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np

from trine import dtypes
from trine.context import using
from trine.errors import DTypeError, NameLookupError, Site
from trine.ops import random as ops
from trine.ops.base import Scalar, user_site
from trine.ops.indexing import take
from trine.ops.movement import checked_axis
from trine.shapes import Size, as_shape
from trine.tensor.creation import DTypeLike, asarray
from trine.tensor.tensor import Tensor

ShapeLike: TypeAlias = "Size | Sequence[Size]"
Number = Tensor | Scalar


class Generator:
    """A stream of random numbers: a state that each draw reads and moves on by one call, whatever the draw's size.

    A draw of n numbers begins with the numbers that a shorter draw would have given.

    Attributes:
        state: uint64 of shape [2], the key and the number of the next call. It is captured, saved and restored like a
            parameter: `generator.state.assign(saved)` goes on from there.

    Example:
        >>> import trine
        >>> draws = [trine.random.Generator(7).randint(0, 10, n).tolist() for n in (4, 6)]
        >>> draws[0] == draws[1][:4]
        True
    """

    __slots__ = ("state",)

    def __init__(self, seed: int, stream: str = "") -> None:
        """Start at call 0.

        Args:
            seed: the key, taken modulo 2**64.
            stream: a name; each gives a stream of its own. Without one, the seed itself is the key.

        Raises:
            DTypeError: the seed is no integer.
        """
        self.state: Final[Tensor] = _start(seed, stream)

    def seed(self, seed: int, stream: str = "") -> None:
        """Start again, as a new generator with this seed would.

        Raises:
            DTypeError: the seed is no integer.
        """
        with using(grad=False):
            self.state.assign(_start(seed, stream))

    def fork(self, name: str) -> Generator:
        """A generator at call 0 with a key derived from this one's and a name, whatever this one's call number is.

        Raises:
            CaptureError: inside a captured step, where it would give the same numbers at every call: fork before.
        """
        return Generator(int(self.state.numpy()[0]), name)

    def __repr__(self) -> str:
        """`Generator(tensor([0, 12], dtype=uint64))`: key and call number."""
        return f"Generator({self.state!r})"

    def _draw(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
        drawn = function(self.state, *args)
        with using(grad=False):
            self.state.assign(ops.advance(self.state))
        return drawn

    def uniform(
        self, shape: ShapeLike = (), low: Number = 0.0, high: Number = 1.0, *, dtype: DTypeLike = None
    ) -> Tensor:
        """Uniform numbers in [low, high), of which `high` never comes: see `trine.random.uniform`."""
        return self._draw(ops.uniform, _sizes(shape), _dtype(dtype), low, high)

    def normal(
        self, shape: ShapeLike = (), mean: Number = 0.0, std: Number = 1.0, *, dtype: DTypeLike = None
    ) -> Tensor:
        """Normal numbers: see `trine.random.normal`."""
        return self._draw(ops.normal, _sizes(shape), _dtype(dtype), mean, std)

    def truncated_normal(
        self, shape: ShapeLike = (), mean: Number = 0.0, std: Number = 1.0, *, dtype: DTypeLike = None
    ) -> Tensor:
        """Normal numbers within two `std` of `mean`: see `trine.random.truncated_normal`."""
        return self._draw(ops.truncated_normal, _sizes(shape), _dtype(dtype), mean, std)

    def exponential(self, shape: ShapeLike = (), scale: Number = 1.0, *, dtype: DTypeLike = None) -> Tensor:
        """Exponentially distributed numbers of mean `scale`: see `trine.random.exponential`."""
        return self._draw(ops.exponential, _sizes(shape), _dtype(dtype), scale)

    def gumbel(
        self, shape: ShapeLike = (), loc: Number = 0.0, scale: Number = 1.0, *, dtype: DTypeLike = None
    ) -> Tensor:
        """Numbers of the Gumbel distribution: see `trine.random.gumbel`."""
        return self._draw(ops.gumbel, _sizes(shape), _dtype(dtype), loc, scale)

    def randint(self, low: int, high: Size, shape: ShapeLike = (), *, dtype: DTypeLike = None) -> Tensor:
        """Integers in [low, high): see `trine.random.randint`."""
        return self._draw(ops.randint, low, high, _sizes(shape), dtypes.dtype(dtype or dtypes.int64))

    def bernoulli(self, p: Number = 0.5, shape: ShapeLike | None = None) -> Tensor:
        """Bools that hold with chance `p`: see `trine.random.bernoulli`."""
        return self._draw(ops.bernoulli, p, None if shape is None else _sizes(shape))

    def categorical(self, logits: Tensor, shape: ShapeLike = ()) -> Tensor:
        """Indices with the chances that softmax gives `logits`: see `trine.random.categorical`."""
        return self._draw(lambda state: ops.categorical(state, logits, _sizes(shape)))

    def permutation(self, n: Size) -> Tensor:
        """0, 1, ... `n - 1` in random order: see `trine.random.permutation`."""
        return self._draw(ops.permutation, *_sizes(n))

    def shuffle(self, x: Tensor, /, *, axis: int = 0) -> Tensor:
        """`x` with its slices along `axis` in random order: see `trine.random.shuffle`."""
        where = checked_axis("shuffle", axis, x)
        return take(x, self.permutation(x.shape[where]), axis=where)


def _start(seed: int, stream: str) -> Tensor:
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise DTypeError("seed", f"a seed is an integer, not a {type(seed).__name__}", got=f"{seed!r:.60}").locate(
            Site(*user_site()))  # fmt: skip
    whole = seed.__index__()
    key = (ops.derive(whole, stream) if stream else whole) % (1 << 64)
    return asarray(np.array([key, 0], np.uint64))


def _sizes(shape: ShapeLike) -> tuple[Size, ...]:
    return as_shape("shape", shape)


def _dtype(dtype: DTypeLike) -> dtypes.DType:
    return dtypes.float32 if dtype is None else dtypes.dtype(dtype)


# -- The streams -------------------------------------------------------------------------------------------------------

# Made here and not at the first use: a state made inside a captured step would start again at every call of it.
_STREAMS: Final = MappingProxyType({
    "user": Generator(0), "initialisation": Generator(0, "initialisation"), "dropout": Generator(0, "dropout"),
})  # fmt: skip


def generator(purpose: str = "user") -> Generator:
    """The default generator for a purpose: `"user"`, `"initialisation"` of parameters, or `"dropout"`.

    Raises:
        NameLookupError: another purpose; make a `Generator` for it.
    """
    found = _STREAMS.get(purpose)
    if found is None:
        raise NameLookupError("generator", f"there is no stream {purpose!r}, only {', '.join(map(repr, _STREAMS))}",
                              got=repr(purpose), fix=f"trine.random.Generator(0, stream={purpose!r})").locate(
            Site(*user_site()))  # fmt: skip
    return found


def manual_seed(seed: int) -> None:
    """Start all default generators again from a seed; it is 0 when a program starts.

    Raises:
        DTypeError: the seed is no integer.

    Example:
        >>> import trine
        >>> trine.manual_seed(7)
        >>> first = trine.random.uniform(3)
        >>> trine.manual_seed(7)
        >>> (trine.random.uniform(3) == first).all().item()
        True
    """
    for purpose, stream in _STREAMS.items():
        stream.seed(seed, "" if purpose == "user" else purpose)


def streams() -> Mapping[str, Generator]:
    """The default generators by purpose, for saving and restoring all of them."""
    return _STREAMS


def data_seed() -> int:
    """The seed of the order in which `fit` shuffles samples: that of the user's stream."""
    return int(_STREAMS["user"].state.numpy()[0])


# -- The user's stream -------------------------------------------------------------------------------------------------


def uniform(
    shape: ShapeLike = (),
    low: Number = 0.0,
    high: Number = 1.0,
    *,
    dtype: DTypeLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers in [low, high), of which `low` may come and `high` does not.

    Args:
        shape: of the result.
        low: the lower limit, a number or a tensor that broadcasts to the shape.
        high: the upper limit.
        dtype: a float; float32 unless given. Half types are the float32 numbers cut off, not rounded.
        generator: whose numbers; the user's stream unless given.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: limits that are Python numbers are in the wrong order, infinite or NaN.

    Example:
        >>> import trine
        >>> bool((trine.random.uniform(1000, -1.0, 1.0) < 1.0).all())
        True
    """
    return (generator or _USER).uniform(shape, low, high, dtype=dtype)


def normal(
    shape: ShapeLike = (),
    mean: Number = 0.0,
    std: Number = 1.0,
    *,
    dtype: DTypeLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers by the method of Box and Muller (1958), computed in float64 and rounded to the dtype.

    Args:
        shape: of the result.
        mean: the mean, a number or a tensor that broadcasts to the shape and may want gradients.
        std: the standard deviation, likewise.
        dtype: a float; float32 unless given.
        generator: whose numbers; the user's stream unless given.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `std` is a Python number and below 0.
    """
    return (generator or _USER).normal(shape, mean, std, dtype=dtype)


def truncated_normal(
    shape: ShapeLike = (),
    mean: Number = 0.0,
    std: Number = 1.0,
    *,
    dtype: DTypeLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """Normal numbers given that they lie within two `std` of `mean`; their own standard deviation is 0.8796 `std`.

    Args:
        shape: of the result.
        mean: the mean, a number or a tensor that broadcasts to the shape and may want gradients.
        std: the standard deviation before the cut, likewise.
        dtype: a float; float32 unless given.
        generator: whose numbers; the user's stream unless given.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `std` is a Python number and below 0.
    """
    return (generator or _USER).truncated_normal(shape, mean, std, dtype=dtype)


def exponential(
    shape: ShapeLike = (), scale: Number = 1.0, *, dtype: DTypeLike = None, generator: Generator | None = None
) -> Tensor:
    """Exponentially distributed numbers.

    Args:
        shape: of the result.
        scale: the mean, a number or a tensor that broadcasts to the shape and may want gradients.
        dtype: a float; float32 unless given.
        generator: whose numbers; the user's stream unless given.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `scale` is a Python number and below 0.
    """
    return (generator or _USER).exponential(shape, scale, dtype=dtype)


def gumbel(
    shape: ShapeLike = (),
    loc: Number = 0.0,
    scale: Number = 1.0,
    *,
    dtype: DTypeLike = None,
    generator: Generator | None = None,
) -> Tensor:
    """Numbers of the Gumbel distribution: `loc - scale log(-log u)` of a uniform u.

    Args:
        shape: of the result.
        loc: the mode, a number or a tensor that broadcasts to the shape and may want gradients.
        scale: the scale, likewise.
        dtype: a float; float32 unless given.
        generator: whose numbers; the user's stream unless given.

    Raises:
        DTypeError: the dtype is no float.
        ArgumentError: `scale` is a Python number and below 0.
    """
    return (generator or _USER).gumbel(shape, loc, scale, dtype=dtype)


def randint(
    low: int, high: Size, shape: ShapeLike = (), *, dtype: DTypeLike = None, generator: Generator | None = None
) -> Tensor:
    """Integers in [low, high), each with the same chance but for less than 2**-64.

    Args:
        low: the smallest value.
        high: one more than the largest value; may be a symbolic size.
        shape: of the result.
        dtype: an integer type; int64 unless given.
        generator: whose numbers; the user's stream unless given.

    Raises:
        DTypeError: the dtype is no integer.
        ArgumentError: the range is empty or does not fit the dtype.
    """
    return (generator or _USER).randint(low, high, shape, dtype=dtype)


def bernoulli(p: Number = 0.5, shape: ShapeLike | None = None, *, generator: Generator | None = None) -> Tensor:
    """Bools that hold with chance `p`.

    Args:
        p: chances in [0, 1], a number or a tensor. 0 never holds, 1 always.
        shape: of the result, to which `p` broadcasts; that of `p` unless given.
        generator: whose numbers; the user's stream unless given.

    Raises:
        ArgumentError: `p` is a Python number outside of [0, 1].
    """
    return (generator or _USER).bernoulli(p, shape)


def categorical(logits: Tensor, shape: ShapeLike = (), *, generator: Generator | None = None) -> Tensor:
    """Indices into the last axis of `logits`, each with the chance that softmax gives it, as int64.

    Args:
        logits: logarithms of chances up to a constant: [..., classes].
        shape: draws for each row of logits, as leading axes: the result is [*shape, ...].
        generator: whose numbers; the user's stream unless given.

    Raises:
        ShapeError: logits without an axis, or without classes.
    """
    return (generator or _USER).categorical(logits, shape)


def permutation(n: Size, *, generator: Generator | None = None) -> Tensor:
    """0, 1, ... `n - 1` in random order, as int64.

    Raises:
        ShapeError: `n` is below 0.

    Example:
        >>> import trine
        >>> sorted(trine.random.permutation(5).tolist())
        [0, 1, 2, 3, 4]
    """
    return (generator or _USER).permutation(n)


def shuffle(x: Tensor, /, *, axis: int = 0, generator: Generator | None = None) -> Tensor:
    """`x` with its slices along `axis` in random order, as a new value: each slice keeps its inside.

    Raises:
        ShapeError: no such axis.
    """
    return (generator or _USER).shuffle(x, axis=axis)


_USER: Final = _STREAMS["user"]
