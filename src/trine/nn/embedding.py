"""The embedding of integers as vectors."""

from __future__ import annotations

from typing import Any

from trine.nn.checks import compute_dtype, integers, positive
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.ops.elementwise import cast
from trine.ops.indexing import take
from trine.tensor.tensor import Tensor


class Embedding(Module):
    """`embeddings[x]`: a learned vector for each integer.

    Shapes: integers `[...] -> [..., output_dim]`, with `embeddings` `[input_dim, output_dim]`. A mask for padding is
    made where it is needed: `mask = x != 0`.

    Args:
        input_dim: how many integers there are: 0 to `input_dim - 1`; negative ones count from the end.
        output_dim: the length of a vector.
        embeddings_initializer: how the vectors start.

    Raises:
        DTypeError: the input holds no integers.
        IndexRangeError: an integer is out of range, found when the value is computed.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> layer = nn.Embedding(1000, 8)
        >>> layer(trine.asarray([[4, 8, 15], [16, 23, 42]])).shape
        (2, 3, 8)
    """

    embeddings: Tensor

    def __init__(self, input_dim: int, output_dim: int, embeddings_initializer: Any = "uniform") -> None:
        """Keep the arguments; the parameter appears at the first call."""
        self.input_dim = positive(self, "input_dim", input_dim)
        self.output_dim = positive(self, "output_dim", output_dim)
        self.embeddings_initializer = embeddings_initializer

    def build(self, x: Tensor) -> None:
        """Make the vectors."""
        self.embeddings = parameter((self.input_dim, self.output_dim), self.embeddings_initializer)

    def forward(self, x: Tensor) -> Tensor:
        """The vectors, `[..., output_dim]`."""
        return cast(take(self.embeddings, integers(self, x), axis=0), compute_dtype())
