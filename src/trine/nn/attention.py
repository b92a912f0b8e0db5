"""Attention of several heads."""

from __future__ import annotations

from typing import Any

from trine.functional.attention import attention, attention_weights
from trine.functional.dropout import check_rate
from trine.nn.checks import argument_error, first_call, floats, known, line, positive, require_axes, shape_error
from trine.nn.dropout import Dropout
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.ops.elementwise import add, cast, logical_and
from trine.ops.linalg import matmul
from trine.ops.movement import expand_dims, permute_dims, reshape
from trine.tensor.tensor import Tensor


class MultiHeadAttention(Module):
    """Attention in `num_heads` spaces at once, and a weighted sum of what each of them found.

    For head h: `attention(query Wq_h + bq_h, key Wk_h + bk_h, value Wv_h + bv_h)`, then the sum over heads of
    `found_h Wo_h`, plus `bo`.

    Shapes: query `[batch, t, d]`, value `[batch, s, e]`, key `[batch, s, f] -> [batch, t, output]`, where output is d
    unless `output_shape` is given. `query_kernel` is `[d, heads, key_dim]`, `key_kernel` `[f, heads, key_dim]`,
    `value_kernel` `[e, heads, value_dim]`, `output_kernel` `[heads, value_dim, output]`; the biases are without the
    inputs' axis.

    Args:
        num_heads: the number of heads.
        key_dim: the length of queries and keys in a head.
        value_dim: the length of values in a head; None: `key_dim`.
        dropout: the chance with which an attention weight is dropped while training.
        use_bias: whether there are biases.
        output_shape: the length of the result; None: that of the query.
        kernel_initializer: how the kernels start.
        bias_initializer: how the biases start.
        seed: for the dropout's own stream.

    Raises:
        ShapeError: inputs without 3 axes, or with other numbers of features than at the first call.

    Source: Vaswani et al., "Attention Is All You Need" (2017), arXiv:1706.03762, section 3.2.2.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> layer = nn.MultiHeadAttention(num_heads=2, key_dim=4)
        >>> x, y = trine.ones((3, 8, 16)), trine.ones((3, 5, 16))
        >>> layer(x, y).shape
        (3, 8, 16)
        >>> out, weights = layer(x, x, use_causal_mask=True, return_attention_scores=True)
        >>> weights.shape
        (3, 2, 8, 8)
    """

    query_kernel: Tensor
    key_kernel: Tensor
    value_kernel: Tensor
    output_kernel: Tensor
    query_bias: Tensor | None
    key_bias: Tensor | None
    value_bias: Tensor | None
    output_bias: Tensor | None

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        seed: int | None = None,
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        check_rate("MultiHeadAttention", dropout)
        self.num_heads = positive(self, "num_heads", num_heads)
        self.key_dim = positive(self, "key_dim", key_dim)
        self.value_dim = self.key_dim if value_dim is None else positive(self, "value_dim", value_dim)
        self.dropout = Dropout(dropout, seed=seed)
        self.use_bias = use_bias
        self.output_shape = None if output_shape is None else positive(self, "output_shape", output_shape)
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, query: Tensor, value: Tensor, key: Tensor | None = None) -> None:
        """Make kernels and biases for the features of the inputs."""
        key = value if key is None else key
        parts = {"query": query, "key": key, "value": value}
        for name, x in parts.items():
            self._check(name, x)
        self.features = {name: known(self, x, -1) for name, x in parts.items()}
        self.built_at = line()
        widths = {"query": self.key_dim, "key": self.key_dim, "value": self.value_dim}
        for name, n in self.features.items():
            kernel = parameter((n, self.num_heads, widths[name]), self.kernel_initializer)
            setattr(self, f"{name}_kernel", kernel)
            setattr(self, f"{name}_bias", self._bias((self.num_heads, widths[name])))
        width = self.features["query"] if self.output_shape is None else self.output_shape
        self.output_kernel = parameter((self.num_heads, self.value_dim, width), self.kernel_initializer)
        self.output_bias = self._bias((width,))

    def _bias(self, shape: tuple[int, ...]) -> Tensor | None:
        return parameter(shape, self.bias_initializer) if self.use_bias else None

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """The layer's value `[batch, t, output]`, and the weights `[batch, heads, t, s]` where they are asked for.

        Args:
            query: what looks.
            value: what is found.
            key: what the query is compared with; None: the value.
            query_mask: bools `[batch, t]`: which queries count. The others see nothing in particular.
            value_mask: bools `[batch, s]`: which values may be seen.
            key_mask: bools `[batch, s]`, likewise.
            attention_mask: bools `[batch, t, s]`, or with an axis of heads before t: which query sees which value.
            return_attention_scores: return the weights too.
            training: whether to drop weights.
            use_causal_mask: query i sees only values 0 to i.

        Raises:
            ArgumentError: a mask has another number of axes.
        """
        key = value if key is None else key
        for name, x in (("query", query), ("key", key), ("value", value)):
            self._check(name, x)
            self._check_features(name, x)
        mask = self._mask(query_mask, value_mask, key_mask, attention_mask)
        q = _projected(floats(query), self.query_kernel, self.query_bias)
        k = _projected(floats(key), self.key_kernel, self.key_bias)
        v = _projected(floats(value), self.value_kernel, self.value_bias)
        weights = None
        if return_attention_scores or (self.dropout.rate and self.is_training(training)):
            weights = attention_weights(q, k, mask, causal=use_causal_mask)
            found = matmul(self.dropout(weights, training=training), v)
        else:
            found = attention(q, k, v, mask, causal=use_causal_mask)
        out = self._joined(found)
        return (out, weights) if return_attention_scores else out

    def _joined(self, found: Tensor) -> Tensor:
        """`[batch, heads, t, value_dim]` as `[batch, t, output]`."""
        width = self.num_heads * self.value_dim
        rows = permute_dims(found, (0, 2, 1, 3))
        rows = reshape(rows, (rows.shape[0], rows.shape[1], width))
        kernel = reshape(cast(self.output_kernel, rows.dtype), (width, self.output_kernel.shape[-1]))
        out = matmul(rows, kernel)
        return out if self.output_bias is None else add(out, cast(self.output_bias, out.dtype))

    def _mask(self, query: Any, value: Any, key: Any, whole: Any) -> Tensor | None:
        """All masks as one that broadcasts to `[batch, heads, t, s]`."""
        parts = []
        for name, mask, axes in (("query_mask", query, 2), ("value_mask", value, 2), ("key_mask", key, 2)):
            if mask is not None:
                self._check_mask(name, mask, (axes,))
                parts.append(expand_dims(expand_dims(mask, axis=1), axis=3 if name == "query_mask" else 1))
        if whole is not None:
            self._check_mask("attention_mask", whole, (2, 3, 4))
            parts.append(expand_dims(whole, axis=1) if whole.ndim == 3 else whole)
        found = None
        for part in parts:
            part = part if part.dtype.name == "bool" else part != 0
            found = part if found is None else logical_and(found, part)
        return found

    def _check_mask(self, name: str, mask: Tensor, axes: tuple[int, ...]) -> None:
        if mask.ndim not in axes:
            wanted = "[batch, time]" if axes == (2,) else "[batch, t, s]"
            raise argument_error(self, f"{name} is {wanted}; got {mask.ndim} axes", got=str(mask.type))

    def _check(self, name: str, x: Tensor) -> None:
        require_axes(self, x, "batch, time, features", fix=f"{name}[None] adds a batch axis")

    def _check_features(self, name: str, x: Tensor) -> None:
        built = self.features[name]
        if x.shape[-1] != built:
            raise shape_error(self, f"sizes differ: the last axis of the {name} is {x.shape[-1]}, the layer was built "
                              f"for {built}", got=str(x.type),
                              fix=first_call(self, built, f"features of the {name}"))  # fmt: skip


def _projected(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """`[batch, time, features]` in the space of each head: `[batch, heads, time, width]`."""
    features, heads, width = kernel.shape
    out = matmul(x, reshape(cast(kernel, x.dtype), (features, heads * width)))
    out = reshape(out, (*out.shape[:-1], heads, width))
    if bias is not None:
        out = add(out, cast(bias, out.dtype))
    return permute_dims(out, (0, 2, 1, 3))
