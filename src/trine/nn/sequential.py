"""Layers one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, overload

from trine import tree
from trine.errors import DTypeError, Site
from trine.nn.input import InputPlaceholder, placeholder, probe
from trine.nn.module import Module, called_with
from trine.ops.base import user_site
from trine.tensor.tensor import Tensor


class Sequential(Module):
    """`layers[-1](... layers[1](layers[0](x)))`.

    Args:
        layers: a list of modules or functions of a tensor, or these as arguments. `nn.Input` as the first item builds
            every layer at once; otherwise the first call does.

    Raises:
        DTypeError: an item cannot be called.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> model = nn.Sequential([nn.Input((5,)), nn.Dense(4, activation="relu"), nn.Dense(1)])
        >>> model(trine.ones((2, 5))).shape
        (2, 1)
        >>> len(model), model[0].kernel.shape
        (2, (5, 4))
    """

    def __init__(self, *layers: Any, name: str | None = None) -> None:
        """Add the layers in order."""
        self.name = name
        self.layers: list[Callable[..., Any]] = []
        self._given: Any = None  # what the last layer returns for the Input, as tensors without a value
        for layer in layers[0] if len(layers) == 1 and isinstance(layers[0], list | tuple) else layers:
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Append a module or a function of a tensor; `nn.Input` only as the first.

        Raises:
            DTypeError: it cannot be called, or an Input comes after a layer.
        """
        if isinstance(layer, Tensor):
            if self.layers or self._given is not None or type(layer.node.op) is not InputPlaceholder:
                raise DTypeError("Sequential", "only the first item may be a tensor, an nn.Input", got=str(layer.type),
                                 fix="nn.Model(inputs, outputs) for other graphs").locate(
                    Site(*user_site()))  # fmt: skip
            self._given = placeholder(layer)
            self._called = called_with((layer,))
            return
        if not callable(layer) or isinstance(layer, type):
            fix = f"nn.Input(({layer},)) for the size of the input" if isinstance(layer, int) else ""
            if isinstance(layer, type):
                fix = f"{layer.__name__}(...): the class itself is no layer yet"
            raise DTypeError("Sequential", "an item is a module or a function of a tensor", got=f"{layer!r:.60}",
                             fix=fix).locate(Site(*user_site()))  # fmt: skip
        if self._given is not None:
            self._given = tree.map(placeholder, probe(layer, (self._given,), {}))
        self.layers.append(layer)
        self.version += 1

    def forward(self, x: Any) -> Any:
        """What the last layer returns."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        """The number of layers."""
        return len(self.layers)

    def __bool__(self) -> bool:
        """True, with and without layers: a model is no container."""
        return True

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        """The layers in order."""
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Any:
        """A layer, or a new `Sequential` of the layers in a slice, which are shared."""
        if isinstance(index, slice):
            return Sequential(self.layers[index])
        return self.layers[index]
