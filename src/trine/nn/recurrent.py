"""Recurrent layers: the same step for each element of a sequence, with a state that it hands on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from trine.functional import activations, recurrent
from trine.functional.dropout import check_rate
from trine.nn import initializers
from trine.nn.checks import argument_error, first_call, floats, known, line, positive, require_axes, shape_error
from trine.nn.dropout import Dropout
from trine.nn.module import Module
from trine.nn.parameter import parameter
from trine.ops.creation import full
from trine.ops.elementwise import add, cast, divide, multiply
from trine.ops.movement import concat, flip
from trine.tensor.creation import ones
from trine.tensor.tensor import Tensor, to_tensor

State = tuple[Tensor, ...]

_TIME: Final = "return_sequences=True in a recurrent layer before it, or x[..., None] for series of single numbers"


class _Recurrent(Module):
    """What recurrent layers share: arguments, the parameters of `gates` blocks of units, states, masks and dropout."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor | None

    def _keep(
        self,
        units: int,
        activation: Any,
        use_bias: bool,
        initial: tuple[Any, Any, Any],
        dropout: float,
        recurrent_dropout: float,
        seed: int | None,
        returns: tuple[bool, bool, bool],
    ) -> None:
        check_rate(type(self).__name__, dropout)
        check_rate(type(self).__name__, recurrent_dropout)
        self.units = positive(self, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer, self.recurrent_initializer, self.bias_initializer = initial
        self.dropout = Dropout(dropout, noise_shape=(None, 1, None), seed=seed)
        self.recurrent_dropout = Dropout(recurrent_dropout, seed=None if seed is None else seed + 1)
        self.return_sequences, self.return_state, self.go_backwards = returns

    def build(self, sequence: Tensor) -> None:
        """Make kernels and bias for the features of `sequence`."""
        require_axes(self, sequence, "batch, time, features", fix=_TIME)
        self.features = known(self, sequence, -1)
        self.built_at = line()
        width = self.gates * self.units
        self.kernel = parameter((self.features, width), self.kernel_initializer)
        self.recurrent_kernel = parameter((self.units, width), self.recurrent_initializer)
        self.bias = self._make_bias(width) if self.use_bias else None

    def _make_bias(self, width: int) -> Tensor:
        return parameter((width,), self.bias_initializer)

    def forward(
        self, sequence: Tensor, initial_state: Any = None, mask: Tensor | None = None, training: bool | None = None
    ) -> Any:
        """The layer's value, and the last states behind it where they are asked for.

        Args:
            sequence: `[batch, time, features]`.
            initial_state: `[batch, units]`, a list of as many as there are states, or None for zeros.
            mask: bools `[batch, time]`: a step at which it does not hold changes no state and repeats the output.
            training: whether to drop.
        """
        x = self._checked(sequence)
        if mask is not None and mask.ndim != 2:
            raise argument_error(self, f"mask is [batch, time]; got {mask.ndim} axes", got=str(mask.type))
        if self.go_backwards:
            x = flip(x, axis=1)
            mask = None if mask is None else flip(mask, axis=1)
        state = self._initial(initial_state, x)
        x = self.dropout(x, training=training)
        keep = None
        if self.recurrent_dropout.rate and self.is_training(training):
            keep = self.recurrent_dropout(full(x, (x.shape[0], self.units), 1.0), training=True)
        outputs, last = self._run(x, state, mask, keep)
        value = outputs if self.return_sequences else last[0]
        return (value, *last) if self.return_state else value

    def _run(self, x: Tensor, state: State, mask: Tensor | None, keep: Tensor | None) -> tuple[Tensor, State]:
        """The outputs of all steps and the last states."""
        raise NotImplementedError

    def _weights(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The parameters in the dtype of `x`."""
        bias = None if self.bias is None else cast(self.bias, x.dtype)
        return cast(self.kernel, x.dtype), cast(self.recurrent_kernel, x.dtype), bias

    def _checked(self, x: Tensor) -> Tensor:
        require_axes(self, x, "batch, time, features", fix=_TIME)
        if x.shape[-1] != self.features:
            raise shape_error(self, f"sizes differ: the last axis of x is {x.shape[-1]}, the layer was built for "
                              f"{self.features}", got=str(x.type), fix=first_call(self, self.features))  # fmt: skip
        return floats(x)

    def _initial(self, given: Any, x: Tensor) -> State:
        shape = (x.shape[0], self.units)
        if given is None:
            return (full(x, shape, 0.0),) * self.states
        parts = tuple(given) if isinstance(given, list | tuple) else (given,)
        if len(parts) != self.states:
            raise argument_error(self, f"{type(self).__name__} has {self.states} states; got {len(parts)}")
        for part in parts:
            if part.shape != shape:
                raise shape_error(self, f"a state is [batch, units], here [{shape[0]}, {shape[1]}]",
                                  got=str(part.type))  # fmt: skip
        return tuple(cast(part, x.dtype) for part in parts)


class SimpleRNN(_Recurrent):
    """`h[t] = activation(x[t] @ kernel + h[t-1] @ recurrent_kernel + bias)`.

    Shapes: `[batch, time, features] -> [batch, units]`, or `[batch, time, units]` with `return_sequences`; `kernel`
    `[features, units]`, `recurrent_kernel` `[units, units]`, `bias` `[units]`.

    Args:
        units: the length of output and state.
        activation: a name, a function, or None.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel starts.
        recurrent_initializer: how the recurrent kernel starts.
        bias_initializer: how the bias starts.
        dropout: the chance with which a feature is dropped while training, for the whole sequence.
        recurrent_dropout: the chance with which a unit of the state is hidden from the next step, likewise.
        seed: for the dropouts' own streams.
        return_sequences: return the outputs of all steps.
        return_state: return the last state behind the output.
        go_backwards: begin with the last step; outputs come in that order.

    Raises:
        ShapeError: the input has not 3 axes, or another number of features than at the first call.

    Source: Elman, "Finding Structure in Time" (1990).

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.SimpleRNN(4)(trine.ones((2, 10, 8))).shape
        (2, 4)
    """

    gates = 1

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        initial = (kernel_initializer, recurrent_initializer, bias_initializer)
        returns = (return_sequences, return_state, go_backwards)
        self._keep(units, activation, use_bias, initial, dropout, recurrent_dropout, seed, returns)

    def _run(self, x: Tensor, state: State, mask: Tensor | None, keep: Tensor | None) -> tuple[Tensor, State]:
        outputs, last = recurrent.rnn(x, state[0], *self._weights(x), activation=self.activation, mask=mask, keep=keep)
        return outputs, (last,)


class GRU(_Recurrent):
    """`h[t] = z * h[t-1] + (1 - z) * candidate`: a state that each step keeps or replaces, unit by unit.

    With `x` for `x[t] @ kernel + bias` and `r` for `h[t-1] @ recurrent_kernel + recurrent_bias`, in blocks z, r, h:
    `z = sigmoid(x_z + r_z)`, `reset = sigmoid(x_r + r_r)`, `candidate = tanh(x_h + reset * r_h)`. Without
    `reset_after` the last product is `(reset * h[t-1]) @ recurrent_kernel_h`.

    Shapes: `[batch, time, features] -> [batch, units]`, or `[batch, time, units]` with `return_sequences`; `kernel`
    `[features, 3 units]`, `recurrent_kernel` `[units, 3 units]`, `bias` `[2, 3 units]` (of the input, of the state), or
    `[3 units]` without `reset_after`.

    Args:
        units: the length of output and state.
        activation: of the candidate: a name, a function, or None.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel starts.
        recurrent_initializer: how the recurrent kernel starts.
        bias_initializer: how the bias starts.
        dropout: the chance with which a feature is dropped while training, for the whole sequence.
        recurrent_dropout: the chance with which a unit of the state is hidden from the next step, likewise.
        seed: for the dropouts' own streams.
        return_sequences: return the outputs of all steps.
        return_state: return the last state behind the output.
        go_backwards: begin with the last step; outputs come in that order.
        reset_after: whether the reset gate is applied after the matrix product.

    Raises:
        ShapeError: the input has not 3 axes, or another number of features than at the first call.

    Source: Cho et al. (2014), arXiv:1406.1078, version 3; version 1 without `reset_after`.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> outputs, last = nn.GRU(4, return_sequences=True, return_state=True)(trine.ones((2, 10, 8)))
        >>> outputs.shape, last.shape
        ((2, 10, 4), (2, 4))
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        reset_after: bool = True,
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        initial = (kernel_initializer, recurrent_initializer, bias_initializer)
        returns = (return_sequences, return_state, go_backwards)
        self._keep(units, activation, use_bias, initial, dropout, recurrent_dropout, seed, returns)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.reset_after = reset_after

    def _make_bias(self, width: int) -> Tensor:
        return parameter((2, width) if self.reset_after else (width,), self.bias_initializer)

    def _run(self, x: Tensor, state: State, mask: Tensor | None, keep: Tensor | None) -> tuple[Tensor, State]:
        outputs, last = recurrent.gru(
            x, state[0], *self._weights(x), activation=self.activation, recurrent_activation=self.recurrent_activation,
            reset_after=self.reset_after, mask=mask, keep=keep,
        )  # fmt: skip
        return outputs, (last,)


class LSTM(_Recurrent):
    """`c[t] = f * c[t-1] + i * g`, `h[t] = o * activation(c[t])`: a memory behind the output, with three gates.

    With `s = x[t] @ kernel + h[t-1] @ recurrent_kernel + bias` in blocks i, f, g, o: i, f and o are sigmoids of theirs,
    g is `activation` of its own.

    Shapes: `[batch, time, features] -> [batch, units]`, or `[batch, time, units]` with `return_sequences`; `kernel`
    `[features, 4 units]`, `recurrent_kernel` `[units, 4 units]`, `bias` `[4 units]`. The states are h and c.

    Args:
        units: the length of output and states.
        activation: of candidate and output: a name, a function, or None.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel starts.
        recurrent_initializer: how the recurrent kernel starts.
        bias_initializer: how the bias starts.
        unit_forget_bias: start the bias of the gate f at 1 (Jozefowicz et al., 2015).
        dropout: the chance with which a feature is dropped while training, for the whole sequence.
        recurrent_dropout: the chance with which a unit of h is hidden from the next step, likewise.
        seed: for the dropouts' own streams.
        return_sequences: return the outputs of all steps.
        return_state: return the last h and c behind the output.
        go_backwards: begin with the last step; outputs come in that order.

    Raises:
        ShapeError: the input has not 3 axes, or another number of features than at the first call.

    Source: Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000).

    Example:
        >>> import trine
        >>> from trine import nn
        >>> output, h, c = nn.LSTM(4, return_state=True)(trine.ones((2, 10, 8)))
        >>> output.shape, h.shape, c.shape
        ((2, 4), (2, 4), (2, 4))
    """

    gates = 4
    states = 2

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
    ) -> None:
        """Keep the arguments; the parameters appear at the first call."""
        initial = (kernel_initializer, recurrent_initializer, bias_initializer)
        returns = (return_sequences, return_state, go_backwards)
        self._keep(units, activation, use_bias, initial, dropout, recurrent_dropout, seed, returns)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias

    def _make_bias(self, width: int) -> Tensor:
        if not self.unit_forget_bias:
            return parameter((width,), self.bias_initializer)
        start = initializers.get(self.bias_initializer)
        u = self.units

        def with_ones(shape: tuple[int, ...], dtype: Any, generator: Any) -> Tensor:
            parts = [start((u,), dtype, generator), ones((u,), dtype=dtype), start((2 * u,), dtype, generator)]
            return concat([to_tensor(part, dtype) for part in parts])

        return parameter((width,), with_ones)

    def _run(self, x: Tensor, state: State, mask: Tensor | None, keep: Tensor | None) -> tuple[Tensor, State]:
        return recurrent.lstm(
            x, (state[0], state[1]), *self._weights(x), activation=self.activation,
            recurrent_activation=self.recurrent_activation, mask=mask, keep=keep,
        )  # fmt: skip


_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda a, b: concat([a, b], axis=-1),
    "sum": add,
    "mul": multiply,
    "ave": lambda a, b: divide(add(a, b), 2.0),
}


class Bidirectional(Module):
    """A recurrent layer over the sequence, and another like it from the end, their outputs merged step by step.

    Shapes: those of the layer; with "concat" the last axis is twice as long.

    Args:
        layer: `SimpleRNN`, `GRU` or `LSTM`, not called yet. It is copied: once as it is, once with `go_backwards`
            turned around.
        merge_mode: "concat", "sum", "mul", "ave", or None for both outputs as a tuple.
        backward_layer: the second layer, where it differs; its `go_backwards` must be the other one.

    Raises:
        ArgumentError: no recurrent layer, one that was called, another word, or two layers of one direction.

    Source: Schuster and Paliwal, "Bidirectional Recurrent Neural Networks" (1997).

    Example:
        >>> import trine
        >>> from trine import nn
        >>> nn.Bidirectional(nn.LSTM(4, return_sequences=True))(trine.ones((2, 10, 8))).shape
        (2, 10, 8)
    """

    def __init__(
        self, layer: _Recurrent, merge_mode: str | None = "concat", backward_layer: _Recurrent | None = None
    ) -> None:
        """Copy the layer."""
        for each in (layer, backward_layer or layer):
            if not isinstance(each, _Recurrent):
                raise argument_error(self, "Bidirectional takes a recurrent layer: SimpleRNN, GRU or LSTM",
                                     got=type(each).__name__)  # fmt: skip
            if hasattr(each, "features"):
                raise argument_error(self, "Bidirectional takes a layer that was not called yet",
                                     fix=f"a new {type(each).__name__}({each.units})")  # fmt: skip
        if merge_mode is not None and merge_mode not in _MERGES:
            raise argument_error(self, f"merge_mode is {', '.join(map(repr, _MERGES))} or None",
                                 got=f"merge_mode={merge_mode!r}")  # fmt: skip
        self.merge_mode = merge_mode
        self.forward_layer = copy.deepcopy(layer)
        self.backward_layer = copy.deepcopy(layer if backward_layer is None else backward_layer)
        if backward_layer is None:
            self.backward_layer.go_backwards = not layer.go_backwards
        self._check_pair()

    def _check_pair(self) -> None:
        first, second = self.forward_layer, self.backward_layer
        if first.go_backwards == second.go_backwards:
            raise argument_error(self, "the two layers run in opposite directions",
                                 got=f"go_backwards={first.go_backwards} for both")  # fmt: skip
        for name in ("return_sequences", "return_state"):
            if getattr(first, name) != getattr(second, name):
                raise argument_error(self, f"{name} is the same for both layers",
                                     got=f"{getattr(first, name)} and {getattr(second, name)}")  # fmt: skip

    def forward(
        self, sequence: Tensor, initial_state: Any = None, mask: Tensor | None = None, training: bool | None = None
    ) -> Any:
        """The layer's value, and behind it the states of the first and of the second layer where they are asked for.

        Args:
            sequence: `[batch, time, features]`.
            initial_state: the states of the first layer, then those of the second, in one list; None for zeros.
            mask: bools `[batch, time]`.
            training: whether to drop.
        """
        first, second = self._states(initial_state)
        ahead = self.forward_layer(sequence, initial_state=first, mask=mask, training=training)
        back = self.backward_layer(sequence, initial_state=second, mask=mask, training=training)
        states: Sequence[Tensor] = ()
        if self.forward_layer.return_state:
            states = (*ahead[1:], *back[1:])
            ahead, back = ahead[0], back[0]
        if self.forward_layer.return_sequences:
            back = flip(back, axis=1)
        value = (ahead, back) if self.merge_mode is None else _MERGES[self.merge_mode](ahead, back)
        if not states:
            return value
        return (*value, *states) if self.merge_mode is None else (value, *states)

    def _states(self, given: Any) -> tuple[Any, Any]:
        if given is None:
            return None, None
        n = self.forward_layer.states
        if not isinstance(given, list | tuple) or len(given) != n + self.backward_layer.states:
            raise argument_error(self, f"initial_state is a list of {n + self.backward_layer.states} states")
        return list(given[:n]), list(given[n:])
