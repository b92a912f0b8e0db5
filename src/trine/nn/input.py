"""Building a model from calls: `Input` makes a tensor without a value, and a module called on one records the call.

The call runs once on placeholders, which gives the types of its results and builds the module; re-binds of state and
random draws that happen on the way are undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np

from trine import dtypes, shapes, tree
from trine.context import using
from trine.dtypes import DType
from trine.errors import ArgumentError, CaptureError, Site
from trine.ir.graph import ABSTRACT, Node, Type
from trine.ops.base import Op, Output, Placeholder, apply, primitive, user_site
from trine.shapes import Dim, Shape, Size
from trine.tensor.journal import Transaction
from trine.tensor.tensor import Tensor, to_tensor

_DEPENDS: Final[WeakKeyDictionary[Node, bool]] = WeakKeyDictionary()
_open: Final = count(1).__next__


@primitive
class InputPlaceholder(Placeholder):
    """A value that a functional model is given: modules called on it record their call."""


def Input(
    shape: Size | str | Sequence[Size | str | None],
    dtype: DType | str = "float32",
    batch: Size | str | None = "batch",
    name: str = "",
) -> Tensor:
    """A tensor without a value, from which layers are called to build a `Model`.

    Args:
        shape: the sizes without the batch: numbers, names of open sizes (equal names are equal sizes), or None for an
            open size that equals no other.
        dtype: the data type.
        batch: the size of the first axis, a number or a name; None where `shape` is the whole shape.
        name: what error messages call it.

    Raises:
        ArgumentError: a name that does not read as a size.

    Example:
        >>> from trine import nn
        >>> x = nn.Input((28, 28, 1))
        >>> x
        tensor(f32[batch, 28, 28, 1])
        >>> nn.Dense(10)(nn.Flatten()(x))
        tensor(f32[batch, 10])
    """
    inner = shape if isinstance(shape, Sequence) and not isinstance(shape, str) else (shape,)
    sizes = (*(() if batch is None else (batch,)), *inner)
    kind = Type(open_shape(sizes), dtypes.dtype(dtype))
    return Tensor(Node(InputPlaceholder(name), (), kind, ABSTRACT, user_site()))


def open_shape(sizes: Sequence[Size | str | None]) -> Shape:
    """Numbers as they are, names as symbols, None as a symbol of its own."""
    return tuple(
        shapes.parse(n) if isinstance(n, str) else Dim.symbol(f"open{_open()}") if n is None else n for n in sizes
    )


def placeholder(spec: Any) -> Any:
    """A tensor without a value for a spec: a shape, anything with `shape` and `dtype`, or a container of specs."""
    if isinstance(spec, tuple | list) and all(n is None or isinstance(n, int | str | Dim) for n in spec):
        kind = Type(open_shape(spec), dtypes.float32)
    elif hasattr(spec, "shape") and hasattr(spec, "dtype"):
        kind = Type(open_shape(spec.shape), dtypes.dtype(spec.dtype))
    elif isinstance(spec, tuple | list):
        return type(spec)(placeholder(part) for part in spec)
    elif isinstance(spec, dict):
        return {key: placeholder(part) for key, part in spec.items()}
    else:
        raise ArgumentError("spec", "an input is described by a shape, or by something with a shape and a dtype",
                            got=f"{spec!r:.60}", fix='trine.spec(("batch", 784), "float32")').locate(
            Site(*user_site()))  # fmt: skip
    return Tensor(Node(Placeholder(), (), kind, ABSTRACT))


def depends_on_input(node: Node) -> bool:
    """Whether a value without a number comes from `Input`, and not from the placeholders of a trace."""
    found = _DEPENDS.get(node)
    if found is None:
        walked = _reach_unknown(node)
        found = any(type(n.op) is InputPlaceholder or _DEPENDS.get(n, False) for n in walked)
        _DEPENDS[node] = found
    return found


def _reach_unknown(node: Node) -> list[Node]:
    """What `node` depends on, as far as no answer is known; long chains of layers are walked once in all."""
    seen: set[int] = set()
    found: list[Node] = []
    stack = [node]
    while stack:
        n = stack.pop()
        if n.serial not in seen and n.flags & ABSTRACT:
            seen.add(n.serial)
            found.append(n)
            if n not in _DEPENDS:
                stack.extend(n.inputs)
    return found


@dataclass(frozen=True, eq=False)
class Call:
    """A module's call, with holes where tensors were.

    Attributes:
        module: what was called.
        structure: the container of `(args, kwargs)`.
        leaves: the arguments, with None for a tensor.
        holes: the positions of the tensors among them.
        results: the container that came back.
    """

    module: Any
    structure: tree.Structure
    leaves: tuple[Any, ...]
    holes: tuple[int, ...]
    results: tree.Structure

    def replay(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors that the module returns for these.

        Raises:
            CaptureError: it returns another container than for the placeholders.
        """
        leaves = list(self.leaves)
        for hole, tensor in zip(self.holes, tensors, strict=True):
            leaves[hole] = tensor
        args, kwargs = tree.unflatten(self.structure, leaves)
        made, structure = tree.flatten(self.module(*args, **kwargs))
        if structure != self.results:
            raise CaptureError(type(self.module).__name__, "another container comes back than when the model was built",
                               got=f"{len(made)} results", fix="return the same container always").locate(
                Site(*user_site()))  # fmt: skip
        return made


@primitive
class LayerCall(Op):
    """A module's call on inputs that have no value yet: `Model` calls the module in its place."""

    form = "layer"
    several = True
    call: Call
    types_found: tuple[Type, ...]

    def infer(self, *types: Any) -> tuple[Type, ...]:
        """What running the module once on placeholders gave."""
        return self.types_found


def record_call(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module returns for arguments that depend on `Input`: tensors on one `LayerCall` node.

    Raises:
        ArgumentError: the module returns something that is no tensor.
        CaptureError: the module needs a value.
    """
    leaves, structure = tree.flatten((args, kwargs))
    leaves = [to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
    holes = tuple(i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
    tensors = [leaves[i] for i in holes]
    for i in holes:
        leaves[i] = Tensor(Node(Placeholder(), (), leaves[i].node.type, ABSTRACT))
    inner_args, inner_kwargs = tree.unflatten(structure, leaves)
    results, container = tree.flatten(probe(module, inner_args, inner_kwargs))
    for leaf in results:
        if not isinstance(leaf, Tensor):
            raise ArgumentError(type(module).__name__, "a module called on Input returns tensors or containers of them",
                                got=f"{leaf!r:.60}").locate(Site(*user_site()))  # fmt: skip
    static = tuple(None if isinstance(leaf, Tensor) else leaf for leaf in leaves)
    call = Call(module, structure, static, holes, container)
    node = apply(LayerCall(call, tuple(leaf.node.type for leaf in results)), *tensors)
    return tree.unflatten(container, [apply(Output(i), node) for i in range(len(results))])


def probe(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module returns for placeholders; re-binds of state and random draws are undone."""
    journal = Transaction()
    try:
        with using(journal=journal, capture=None):
            return module(*args, **kwargs)
    finally:
        journal.rollback()
