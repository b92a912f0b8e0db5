"""Recurrent networks over whole sequences: the input's products at once, then a scan over the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trine.errors import ShapeError, Site
from trine.functional.activations import sigmoid
from trine.ops.base import V, user_site
from trine.ops.control import scan
from trine.ops.elementwise import add, multiply, subtract, tanh, where
from trine.ops.linalg import matmul
from trine.ops.movement import expand_dims, moveaxis, reshape, split, take_slice
from trine.shapes import Size

Activation = Callable[[Any], Any]


def rnn(
    x: V,
    state: V,
    kernel: V,
    recurrent_kernel: V,
    bias: V | None = None,
    *,
    activation: Activation = tanh,
    mask: V | None = None,
    keep: V | None = None,
) -> tuple[V, V]:
    """`h[t] = activation(x[t] @ kernel + h[t-1] @ recurrent_kernel + bias)`: all h, and the last one.

    Args:
        x: `[batch, time, features]`.
        state: h before the first step, `[batch, units]`.
        kernel: `[features, units]`.
        recurrent_kernel: `[units, units]`.
        bias: `[units]`, or None.
        activation: of the sum.
        mask: bools `[batch, time]`: a step at which it does not hold leaves the state alone.
        keep: factors `[batch, units]` for h where it enters the product, the same at every step (dropout).

    Returns:
        `[batch, time, units]` and `[batch, units]`.

    Raises:
        ShapeError: x has not 3 axes, or sizes differ.
    """

    def step(states: tuple[V, ...], row: V) -> tuple[V, ...]:
        return (activation(add(row, matmul(_kept(states[0], keep), recurrent_kernel))),)

    outputs, (last,) = _steps("rnn", step, (state,), _product(x, kernel, bias), mask)
    return outputs, last


def lstm(
    x: V,
    state: tuple[V, V],
    kernel: V,
    recurrent_kernel: V,
    bias: V | None = None,
    *,
    activation: Activation = tanh,
    recurrent_activation: Activation = sigmoid,
    mask: V | None = None,
    keep: V | None = None,
) -> tuple[V, tuple[V, V]]:
    """`c[t] = f * c[t-1] + i * g`, `h[t] = o * activation(c[t])`: all h, and the last h and c.

    With `s = x[t] @ kernel + h[t-1] @ recurrent_kernel + bias` in blocks i, f, g, o: i, f and o are
    `recurrent_activation` of theirs, g is `activation` of its own.

    Args:
        x: `[batch, time, features]`.
        state: h and c before the first step, each `[batch, units]`.
        kernel: `[features, 4 units]`.
        recurrent_kernel: `[units, 4 units]`.
        bias: `[4 units]`, or None.
        activation: of g and of c.
        recurrent_activation: of the gates.
        mask: bools `[batch, time]`: a step at which it does not hold leaves the states alone.
        keep: factors `[batch, units]` for h where it enters the product, the same at every step (dropout).

    Returns:
        `[batch, time, units]`, and two of `[batch, units]`.

    Raises:
        ShapeError: x has not 3 axes, or sizes differ.

    Source: Hochreiter and Schmidhuber (1997); Gers, Schmidhuber and Cummins, "Learning to Forget" (2000).
    """

    def step(states: tuple[V, ...], row: V) -> tuple[V, ...]:
        h, c = states
        sums = _blocks(add(row, matmul(_kept(h, keep), recurrent_kernel)), 4)
        write, forget, show = (recurrent_activation(sums[i]) for i in (0, 1, 3))
        new = add(multiply(forget, c), multiply(write, activation(sums[2])))
        return multiply(show, activation(new)), new

    outputs, (h, c) = _steps("lstm", step, state, _product(x, kernel, bias), mask)
    return outputs, (h, c)


def gru(
    x: V,
    state: V,
    kernel: V,
    recurrent_kernel: V,
    bias: V | None = None,
    *,
    activation: Activation = tanh,
    recurrent_activation: Activation = sigmoid,
    reset_after: bool = True,
    mask: V | None = None,
    keep: V | None = None,
) -> tuple[V, V]:
    """`h[t] = z * h[t-1] + (1 - z) * candidate`: all h, and the last one.

    With `s = x[t] @ kernel + bias` and `r = h[t-1] @ recurrent_kernel + recurrent_bias` in blocks z, r, h: the gates z
    and reset are `recurrent_activation(s_z + r_z)` and `recurrent_activation(s_r + r_r)`, the candidate is
    `activation(s_h + reset * r_h)`, or `activation(s_h + (reset * h[t-1]) @ recurrent_kernel_h)`.

    Args:
        x: `[batch, time, features]`.
        state: h before the first step, `[batch, units]`.
        kernel: `[features, 3 units]`.
        recurrent_kernel: `[units, 3 units]`.
        bias: `[2, 3 units]`, that of the input and that of the state, or `[3 units]` of the input alone; or None.
        activation: of the candidate.
        recurrent_activation: of the gates.
        reset_after: whether the reset gate is applied after the matrix product.
        mask: bools `[batch, time]`: a step at which it does not hold leaves the state alone.
        keep: factors `[batch, units]` for h where it enters the product, the same at every step (dropout).

    Returns:
        `[batch, time, units]` and `[batch, units]`.

    Raises:
        ShapeError: x has not 3 axes, or sizes differ.

    Source: Cho et al. (2014), arXiv:1406.1078: version 3, and version 1 without `reset_after`.
    """
    first, second = (bias, None) if bias is None or bias.ndim == 1 else (_row(bias, 0), _row(bias, 1))
    units = recurrent_kernel.shape[0]
    gates = _columns(recurrent_kernel, 0, 2 * units)
    candidate = _columns(recurrent_kernel, 2 * units, units)

    def step(states: tuple[V, ...], row: V) -> tuple[V, ...]:
        h = states[0]
        s = _blocks(row, 3)
        if reset_after:
            r = _blocks(_biased(matmul(_kept(h, keep), recurrent_kernel), second), 3)
            z, reset = (recurrent_activation(add(s[i], r[i])) for i in (0, 1))
            new = activation(add(s[2], multiply(reset, r[2])))
        else:
            r = _blocks(matmul(_kept(h, keep), gates), 2)
            z, reset = (recurrent_activation(add(s[i], r[i])) for i in (0, 1))
            new = activation(add(s[2], matmul(multiply(reset, _kept(h, keep)), candidate)))
        return (add(multiply(z, h), multiply(subtract(1.0, z), new)),)

    outputs, (last,) = _steps("gru", step, (state,), _product(x, kernel, first), mask)
    return outputs, last


def _steps(
    name: str, step: Callable[[tuple[V, ...], V], tuple[V, ...]], state: tuple[V, ...], rows: V, mask: V | None
) -> tuple[V, tuple[V, ...]]:
    """The first state after each step, and all states after the last."""
    if rows.ndim != 3:
        raise ShapeError(name, f"takes [batch, time, features], 3 axes; got {rows.ndim}", got=str(rows.type)).locate(
            Site(*user_site()))  # fmt: skip
    over = moveaxis(rows, 1, 0)
    if mask is None:

        def body(states: Any, row: Any) -> Any:
            new = step(tuple(states), row)
            return new, new[0]

        last, outputs = scan(body, state, over)
    else:
        holds = expand_dims(moveaxis(mask, 1, 0), axis=2)

        def masked(states: Any, both: Any) -> Any:
            row, at = both
            new = tuple(where(at, a, b) for a, b in zip(step(tuple(states), row), states, strict=True))
            return new, new[0]

        last, outputs = scan(masked, state, (over, holds))
    return moveaxis(outputs, 0, 1), tuple(last)


def _product(x: V, kernel: V, bias: V | None) -> V:
    return _biased(matmul(x, kernel), bias)


def _biased(x: V, bias: V | None) -> V:
    return x if bias is None else add(x, bias)


def _kept(h: V, keep: V | None) -> V:
    return h if keep is None else multiply(h, keep)


def _blocks(x: V, count: int) -> tuple[V, ...]:
    """The last axis in equal parts."""
    width: Any = x.shape[-1] // count
    return split(x, (width,) * count, axis=-1)


def _columns(x: V, start: Size, count: Size) -> V:
    return take_slice(x, (0, start), (x.shape[0], count))


def _row(x: V, index: int) -> V:
    return reshape(take_slice(x, (index, 0), (1, x.shape[1])), (x.shape[1],))
