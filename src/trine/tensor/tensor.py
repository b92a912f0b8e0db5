"""`Tensor`, the handle that users hold: a light object that points at a node of the graph.

Values are immutable and handles can be re-bound: `x += 1` and `x[0] = 1` make `x` point at a new value, and nobody who
holds the old one sees a change. Under `no_grad` a re-bind makes a new leaf, otherwise a value with a history.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from trine import dtypes
from trine.context import CURRENT, using
from trine.dtypes import DType
from trine.engine import ENGINE
from trine.errors import DTypeError, ShapeError, Site
from trine.ir.graph import ABSTRACT, CONSUMED, TRACKED, Leaf, Node, Type, Value
from trine.ops import elementwise as e
from trine.ops import indexing, linalg, movement, reduction
from trine.ops.base import CONSTANT, IDENTITY, alias, user_site
from trine.shapes import Size, size_of
from trine.tensor.backward import backward


class Tensor(Value):
    """A handle on a value of the graph: `shape`, `dtype`, arithmetic, and the value itself when it is asked for.

    Nothing is computed until a value is needed: by `print`, `item()`, `bool()`, NumPy, or an optimiser's step.

    Attributes:
        node: the node of the graph it points at now.

    Example:
        >>> import trine
        >>> x = trine.asarray([1.0, 2.0, 3.0])
        >>> (x * 2).sum().item()
        12.0
    """

    __slots__ = ("__weakref__", "_grad", "_requires", "node")
    __array_priority__ = 1000
    __array_ufunc__ = None  # NumPy leaves mixed arithmetic to us

    def __init__(self, node: Node) -> None:
        """Point at a node; users call `trine.asarray`."""
        self.node = node
        self._grad: Tensor | None = None
        self._requires = False

    # -- What it is ----------------------------------------------------------------------------------------------------

    @property
    def size(self) -> Size:
        """The number of elements."""
        return size_of(self.shape)

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to it or through it; setting it makes the handle a leaf, or takes the history away.

        Raises:
            DTypeError: set on integers or bools.
        """
        capture = CURRENT.get().capture
        if capture is not None:
            capture.asks(self)
        return self._requires or bool(self.node.flags & TRACKED)

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and not self.dtype.is_float:
            raise DTypeError("requires_grad", f"only floats carry gradients, not {self.dtype.name}",
                             got=str(self.type), fix="x.astype(trine.float32)").locate(Site(*user_site()))  # fmt: skip
        _written(self)
        node = _cut(_seen(self))
        self._requires, self.node = wanted, leaf(node, self) if wanted else node

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` left, of the same shape and dtype; None before."""
        capture = CURRENT.get().capture
        if capture is not None:
            capture.read_grad(self)  # type: ignore[attr-defined]  # captures of steps know it
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None and value.type != self.type:
            raise ShapeError("grad", f"a gradient has the type of its tensor, {self.type}", got=str(value.type)).locate(
                Site(*user_site()))  # fmt: skip
        _written(self)
        if value is not None and (node := _seen(value)) is not value.node:
            value = Tensor(node)
        self._grad = value

    @property
    def is_leaf(self) -> bool:
        """Whether it has no history: given by the user, or re-bound under `no_grad`."""
        return type(self.node) is Leaf or not self.node.flags & TRACKED

    # -- The value -----------------------------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray[Any, Any]:
        """The value as a read-only NumPy array, which keeps it alive."""
        return read(self)

    def item(self) -> Any:
        """The value of a tensor with one element, as a Python bool, int or float.

        Raises:
            ShapeError: it has another number of elements.
        """
        if self.size != 1:
            raise ShapeError("item", f"takes exactly 1 element, there are {self.size}", got=str(self.type),
                             fix="x.tolist(), or reduce it first: x.sum().item()").locate(
                Site(*user_site()))  # fmt: skip
        return read(self).reshape(()).item() if self.dtype is not dtypes.bfloat16 else float(read(self).reshape(()))

    def tolist(self) -> Any:
        """The value as nested lists of Python numbers."""
        array = read(self)
        return array.astype(np.float32).tolist() if self.dtype is dtypes.bfloat16 else array.tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """For NumPy: read-only unless copied."""
        array = read(self)
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options: Any) -> Any:
        """For other libraries, by NumPy's own export of a copy: DLPack has no word for read-only in old versions."""
        return read(self).copy().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The CPU."""
        return (1, 0)

    def __bool__(self) -> bool:
        """The value of a tensor with one element.

        Raises:
            ShapeError: it has another number of elements.
        """
        if self.size != 1:
            raise ShapeError("bool", f"the truth of {self.size} elements is not one value", got=str(self.type),
                             fix="(x > 0).all() or (x > 0).any(); & and | in place of `and` and `or`").locate(
                Site(*user_site()))  # fmt: skip
        return bool(self.item())

    def __int__(self) -> int:
        """The value of a tensor with one element, truncated."""
        return int(self.item())

    def __float__(self) -> float:
        """The value of a tensor with one element."""
        return float(self.item())

    def __index__(self) -> int:
        """The value of an integer tensor with one element.

        Raises:
            DTypeError: it holds floats or bools.
        """
        if not self.dtype.is_integer:
            raise DTypeError("index", f"only integers index, not {self.dtype.name}", got=str(self.type),
                             fix="x.astype(trine.int64)").locate(Site(*user_site()))  # fmt: skip
        return int(self.item())

    def __len__(self) -> int:
        """The size of the first axis."""
        if not self.shape:
            raise ShapeError("len", "a tensor without axes has no length", got=str(self.type)).locate(
                Site(*user_site()))  # fmt: skip
        return int(self.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        """The slices along the first axis."""
        return iter([self[i] for i in range(len(self))])

    def __repr__(self) -> str:
        """The value, shape and dtype; only shape and dtype where the value is not known."""
        if self.node.flags & ABSTRACT:
            return f"tensor({self.type})"
        array = read(self)
        shown = array.astype(np.float32) if self.dtype is dtypes.bfloat16 else array
        text = np.array2string(shown, separator=", ", prefix="tensor(", threshold=1000)
        extra = "" if self.dtype in (dtypes.float32, dtypes.int64, dtypes.bool) else f", dtype={self.dtype!r}"
        return f"tensor({text}{extra}{', requires_grad=True' if self.requires_grad else ''})"

    def __format__(self, spec: str) -> str:
        """A tensor with one element formats like its number."""
        return format(self.item(), spec) if spec else repr(self)

    __hash__ = object.__hash__

    # -- Gradients -----------------------------------------------------------------------------------------------------

    def backward(self, gradient: Tensor | None = None, *, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf that it depends on.

        Args:
            gradient: the cotangent to start from, of this tensor's type; needed where it has more than one element.
            retain_graph: keep the history for another call.

        Raises:
            GradientError: no leaf wants a gradient, the history was used up, or two versions of a leaf are in it.
            ShapeError: more than one element and no `gradient`.
        """
        backward(self, gradient, retain_graph)

    def detach(self) -> Tensor:
        """A new handle on the same value, without history."""
        return e.stop_gradient(self)

    def assign(self, value: Tensor) -> Tensor:
        """Point at another value of the same type; under `no_grad` this handle becomes a leaf again. Returns itself.

        Raises:
            ShapeError: the shape or dtype differs.
        """
        if value.node.type != self.node.type:
            raise ShapeError("assign", f"the handle holds {self.type}, and a re-bind keeps the type",
                             got=str(value.type), fix="make a new tensor: y = ...").locate(
                Site(*user_site()))  # fmt: skip
        rebind(self, _seen(value))
        return self

    def copy(self) -> Tensor:
        """A new handle on the same value: values are immutable, so nothing is copied."""
        return alias(self)

    def __copy__(self) -> Tensor:
        """A new handle on the same value."""
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A new leaf with the same value and the same `requires_grad`."""
        made = Tensor(constant(read(self)))
        if self._requires:
            made.requires_grad = True
        memo[id(self)] = made
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a NumPy array and whether it is a leaf that wants gradients."""
        return _unpickled, (np.array(read(self)), self._requires)

    # -- Indexing ------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        """What NumPy's indexing gives, as a value of its own: nothing written later shows through."""
        return indexing.index(self, key, force=read, convert=to_tensor)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Point at a value in which the elements at `key` are replaced, cast to this dtype."""
        new = value if isinstance(value, Tensor) else to_tensor(value, self.dtype)
        rebind(self, indexing.index_update(self, key, new, force=read, convert=to_tensor).node)

    # -- Methods that are functions ------------------------------------------------------------------------------------

    def astype(self, dtype: DType | str | type, *, copy: bool = True) -> Tensor:
        """The tensor in another dtype; see `trine.astype`."""
        return e.cast(self, dtypes.dtype(dtype))

    def reshape(self, *shape: Any) -> Tensor:
        """The elements under another shape, given as a tuple or as arguments; one size may be -1."""
        return movement.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: int) -> Tensor:
        """The axes in the order given; all of them reversed when none is."""
        return movement.permute_dims(self, axes or tuple(reversed(range(self.ndim))))

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix.

        Raises:
            ShapeError: not two axes.
        """
        if self.ndim != 2:
            raise ShapeError("T", f"takes 2 axes, not {self.ndim}", got=str(self.type),
                             fix="x.mT for a batch of matrices, or trine.permute_dims").locate(
                Site(*user_site()))  # fmt: skip
        return movement.matrix_transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return movement.matrix_transpose(self)

    def flatten(self) -> Tensor:
        """All elements along one axis."""
        return movement.reshape(self, (-1,))

    # -- In-place operators re-bind ------------------------------------------------------------------------------------

    def __iadd__(self, other: Any) -> Tensor:  # type: ignore[misc]  # `__add__` takes its arguments in both orders
        """Re-bind to the sum."""
        return self.assign(e.add(self, other))

    def __isub__(self, other: Any) -> Tensor:  # type: ignore[misc]  # `__sub__` takes its arguments in both orders
        """Re-bind to the difference."""
        return self.assign(e.subtract(self, other))

    def __imul__(self, other: Any) -> Tensor:  # type: ignore[misc]  # `__mul__` takes its arguments in both orders
        """Re-bind to the product."""
        return self.assign(e.multiply(self, other))

    def __itruediv__(self, other: Any) -> Tensor:  # type: ignore[misc]  # `__truediv__` takes its arguments in both orders
        """Re-bind to the quotient."""
        return self.assign(e.divide(self, other))

    # Operators and methods that are the functions themselves: one frame less on the hot path.
    __add__ = e.add
    __sub__ = e.subtract
    __mul__ = e.multiply
    __truediv__ = e.divide
    __floordiv__ = e.floor_divide
    __mod__ = e.remainder
    __pow__ = e.power
    __matmul__ = linalg.matmul
    __neg__ = e.negative
    __pos__ = e.positive
    __abs__ = e.abs
    __invert__ = e.bitwise_invert
    __and__ = e.bitwise_and
    __or__ = e.bitwise_or
    __xor__ = e.bitwise_xor
    __lshift__ = e.bitwise_left_shift
    __rshift__ = e.bitwise_right_shift
    __lt__ = e.less
    __le__ = e.less_equal
    __gt__ = e.greater
    __ge__ = e.greater_equal
    sum = reduction.sum
    prod = reduction.prod
    mean = reduction.mean
    var = reduction.var
    std = reduction.std
    max = reduction.max
    min = reduction.min
    any = reduction.any
    all = reduction.all
    argmax = reduction.argmax
    argmin = reduction.argmin
    squeeze = movement.squeeze
    exp = e.exp
    log = e.log
    sqrt = e.sqrt
    tanh = e.tanh
    abs = e.abs
    clip = e.clip

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]  # element by element, as NumPy
        """Element by element."""
        return NotImplemented if other is None else e.equal(self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]  # element by element, as NumPy
        """Element by element."""
        return NotImplemented if other is None else e.not_equal(self, other)

    def __radd__(self, other: Any) -> Tensor:
        """`other + self`."""
        found: Tensor = e.add(other, self)
        return found

    def __rsub__(self, other: Any) -> Tensor:
        """`other - self`."""
        found: Tensor = e.subtract(other, self)
        return found

    def __rmul__(self, other: Any) -> Tensor:
        """`other * self`."""
        found: Tensor = e.multiply(other, self)
        return found

    def __rtruediv__(self, other: Any) -> Tensor:
        """`other / self`."""
        found: Tensor = e.divide(other, self)
        return found

    def __rfloordiv__(self, other: Any) -> Tensor:
        """`other // self`."""
        found: Tensor = e.floor_divide(other, self)
        return found

    def __rmod__(self, other: Any) -> Tensor:
        """`other % self`."""
        found: Tensor = e.remainder(other, self)
        return found

    def __rpow__(self, other: Any) -> Tensor:
        """`other ** self`."""
        found: Tensor = e.power(other, self)
        return found

    def __rand__(self, other: Any) -> Tensor:
        """`other & self`."""
        found: Tensor = e.bitwise_and(other, self)
        return found

    def __ror__(self, other: Any) -> Tensor:
        """`other | self`."""
        found: Tensor = e.bitwise_or(other, self)
        return found

    def __rxor__(self, other: Any) -> Tensor:
        """`other ^ self`."""
        found: Tensor = e.bitwise_xor(other, self)
        return found

    def __rmatmul__(self, other: Any) -> Tensor:
        """`other @ self`."""
        return linalg.matmul(to_tensor(other), self)


# -- Making and re-binding ---------------------------------------------------------------------------------------------


def read(x: Value) -> np.ndarray[Any, Any]:
    """The value of a handle as a read-only NumPy array, computed if it has to be."""
    node = x.node
    capture = CURRENT.get().capture
    if capture is not None:
        capture.force()
    ENGINE.evaluate((node,))
    found: np.ndarray[Any, Any] = ENGINE.backend.download(node.buffer)
    return found


def constant(array: np.ndarray[Any, Any]) -> Node:
    """A constant node on an array that nobody writes any more."""
    node = Node(CONSTANT, (), Type(array.shape, dtypes.dtype(array.dtype)), 0, None, ENGINE.backend.upload(array))
    ENGINE.allocated(array.nbytes)
    return node


def to_tensor(value: Any, dtype: DType | None = None) -> Tensor:
    """A tensor with the value of a NumPy array, a Python number, nested lists of them, or a buffer; always copied.

    Python floats become float32, ints int64, bools bool, unless `dtype` says otherwise.

    Raises:
        DTypeError: elements that are no numbers.
        ShapeError: nested lists of different lengths.
    """
    if isinstance(value, Tensor):
        return value if dtype is None else e.cast(value, dtype)
    if isinstance(value, list | tuple) and any(isinstance(part, Tensor) for part in value):
        parts = movement.stack([to_tensor(part) for part in value])
        return parts if dtype is None else e.cast(parts, dtype)
    array = _array(value)
    own = isinstance(value, list | tuple | bool | int | float) and not isinstance(value, np.generic)
    if dtype is None and own:
        dtype = {"f": dtypes.float32, "i": dtypes.int64}.get(array.dtype.kind)
    made = array if dtype is None or dtype.numpy == array.dtype else _converted(array, dtype)
    if not own:
        made = np.array(made, order="C")
    return Tensor(constant(made))


def _array(value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError("asarray", "nested lists of different lengths make no tensor", got=f"{value!r:.60}",
                         fix="pad them to one length").locate(Site(*user_site())) from error  # fmt: skip
    if array.dtype.kind not in "biufV" or (array.dtype.kind == "V" and array.dtype.name != "bfloat16"):
        raise DTypeError("asarray", f"elements of type {array.dtype} are no numbers", got=f"{value!r:.60}",
                         fix="convert them first, for example np.asarray(x, dtype='float32')").locate(
            Site(*user_site()))  # fmt: skip
    return array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array


def _converted(array: np.ndarray[Any, Any], dtype: DType) -> np.ndarray[Any, Any]:
    """Cast by the rule of `Cast`, so that conversion on the way in saturates like one in the graph."""
    with np.errstate(all="ignore"):
        return np.asarray(e.Cast(dtype).reference(array))


def _unpickled(array: np.ndarray[Any, Any], requires: bool) -> Tensor:
    made = Tensor(constant(array))
    if requires:
        made.requires_grad = True
    return made


def leaf(node: Node, owner: Tensor) -> Node:
    """A node at which gradients stop and are given to `owner`."""
    made = Leaf(IDENTITY, (node,), node.type, node.flags & ABSTRACT | TRACKED, user_site())
    if node.buffer is not None:
        made.inputs, made.buffer = (), node.buffer
    made.owner = weakref.ref(owner)
    return made


def _cut(node: Node) -> Node:
    """The value of a node without its history."""
    if not node.flags & (TRACKED | CONSUMED):
        return node
    with using(grad=False):
        return e.stop_gradient(node)


def _seen(x: Tensor) -> Node:
    """The node of a handle that another handle is going to point at: a capture sees it being read."""
    capture = CURRENT.get().capture
    return x.node if capture is None or x.node.serial >= capture.start else alias(x).node


def rebind(handle: Tensor, node: Node) -> None:
    """Point a handle at another node: under `no_grad` without its history, and a leaf if the handle wants gradients."""
    _written(handle)
    if not CURRENT.get().grad:
        node = _cut(node)
        node = leaf(node, handle) if handle._requires else node
    handle.node = node


def _written(handle: Tensor) -> None:
    journal = CURRENT.get().journal
    if journal is not None:
        journal.write(handle)
