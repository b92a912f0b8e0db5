"""What an operation is, and how applying one is recorded.

`apply` is the hot path of the whole framework: everything a user computes outside a captured step goes through it, so
it reads the context once, infers types through a cache per operation, and leaves the user's line unresolved.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar, dataclass_transform

import numpy as np
from numpy.typing import NDArray

from trine.context import CURRENT, Capture
from trine.dtypes import DType
from trine.errors import CompileError, DTypeError, Site, TrineError, Where, is_own
from trine.ir.expr import Expr
from trine.ir.graph import ABSTRACT, CONSUMED, PENDING, TRACKED, Leaf, Node, Type, Value, single
from trine.ir.places import Source
from trine.ops.casting import convert
from trine.shapes import Dim, Size

V = TypeVar("V", bound=Value)
T = TypeVar("T")
Array = NDArray[Any]
Scalar = bool | int | float
Gradients = tuple[Value | None, ...]

_LITERALS: Final[dict[tuple[type, Scalar | str, DType], Node]] = {}
_LASTING: Final = TRACKED | ABSTRACT | CONSUMED  # what a result takes over from its inputs
_getframe: Final = sys._getframe
_current: Final = CURRENT.get


class _OwnFiles(dict[str, bool]):
    """Whether a file of code is Trine's own; remembered, because recording asks for every frame up to the user's."""

    def __missing__(self, name: str) -> bool:
        if len(self) >= 4096:
            self.clear()
        return self.setdefault(name, is_own(name))


_OWN: Final = _OwnFiles()


FORMS: Final = {
    "elementwise": "each element from one element of each input: `scalar`",
    "movement": "each element from a place in one input: `source_index`",
    "creation": "each element from its index: `lower`",
    "reduction": "elements combined over axes, in the orders of docs/numerics.md: `combine`",
    "cumulative": "elements combined along an axis, each partial result kept: `combine`",
    "contraction": "products summed over k, in the segments of docs/numerics.md",
    "convolution": "a contraction whose k runs over the taps of a kernel and channels",
    "window": "elements read or added up through windows that move over axes",
    "indexing": "places that are data: gather and scatter",
    "sort": "an order along an axis, or a search in it",
    "random": "words of a generator, from their numbers",
    "check": "the input, once its values are checked",
    "control": "graphs that run as often as data say",
    "output": "one result of an operation that has several",
    "leaf": "a value that is given",
}


class Interned(type):
    """Makes equal operations one object, so that they compare and hash by identity.

    Attributes are therefore values that are equal only when they mean the same: ints, strings, tuples, dtypes, graphs;
    never floats (0.0 == -0.0). Numbers that a user may change are inputs, not attributes.
    """

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any], **options: Any) -> Any:
        """A class without attributes of its own gets empty slots: there are many, and dataclasses cost at import."""
        if all(str(kind).startswith("ClassVar") for kind in body.get("__annotations__", {}).values()):
            body.setdefault("__slots__", ())
        return super().__new__(mcs, name, bases, body, **options)

    _made: ClassVar[weakref.WeakValueDictionary[tuple[Any, ...], Any]] = weakref.WeakValueDictionary()

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """The one operation of this class with these attributes."""
        key = (cls, args, tuple(kwargs.items()))
        found = cls._made.get(key)
        if found is None:
            made = super().__call__(*args, **kwargs)
            full = (cls, tuple(getattr(made, name) for name in made.__match_args__), ())
            found = cls._made.setdefault(full, made)
            cls._made[key] = found
        return found


@dataclass_transform(frozen_default=True, eq_default=False)
def primitive(cls: type[T]) -> type[T]:
    """Decorates an operation: a frozen dataclass with slots; one without attributes of its own is left as it is."""
    if "__slots__" in cls.__dict__:
        return cls
    return dataclass(frozen=True, eq=False, slots=True)(cls)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Op(metaclass=Interned):
    """A primitive: its fields are its attributes, its methods are its rules.

    A subclass is decorated with `primitive`. It defines `infer` and `reference`, `gradient` where it is differentiable,
    and `batch`, which families share.
    """

    __match_args__: ClassVar[tuple[str, ...]]
    name: ClassVar[str] = "op"  # as printed and as stored in files: the class name in snake case
    version: ClassVar[int] = 1
    several: ClassVar[bool] = False  # whether the result is a tuple, read through `Output`
    form: ClassVar[str] = "elementwise"  # the loop that the compiler makes of it, a key of FORMS
    types: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)  # what `infer` has answered
    open_types: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)  # the same, where symbols occur

    def __init_subclass__(cls) -> None:
        """Name the operation after its class."""
        cls.name = "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(cls.__name__))

    def infer(self, *types: Any) -> Any:
        """The type of the result, a tuple of types where there are several; raises where the rule is broken."""
        raise NotImplementedError

    def reference(self, *arrays: Any) -> Any:
        """The result by NumPy, in the result's dtype: slow, obviously right."""
        raise NotImplementedError

    def gradient(self, g: Any, out: Any, *inputs: Any) -> Gradients:
        """The cotangent of each input from `g`, that of the result; None where there is none.

        It may be broadcast against the input, or of another float dtype: `autodiff` sums and casts it back.
        """
        return (None,) * len(inputs)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Any) -> Any:
        """The result over a new leading axis of length `size`; `batched` says which inputs have that axis."""
        raise NotImplementedError

    def lower(self, *operands: Expr) -> Expr:
        """One element of the result from one element of each operand, in the dtype that is computed in.

        Raises:
            CompileError: the operation has another form than "elementwise" or "creation".
        """
        raise CompileError(self.name, f"has no scalar form: its form is {self.form}")

    def scalar(self, *operands: Expr) -> Expr:
        """One element of the result from elements of the inputs, in their own dtypes: `lower` and conversions."""
        return self.lower(*operands)

    def source_index(self, index: Sequence[Expr], *types: Type) -> tuple[Source, ...]:
        """Where the element of the result at `index`, int64s, comes from: one source for each input, of these types.

        At most one source has the element, which is then converted to the result's dtype; where none has, it is 0.

        Raises:
            CompileError: the operation has another form than "movement".
        """
        raise CompileError(self.name, f"moves no elements: its form is {self.form}")


@primitive
class Placeholder(Op):
    """A value that is given when the graph runs: an input of a graph."""

    form = "leaf"
    label: str = ""


@primitive
class Constant(Op):
    """A value that is part of the graph.

    Attributes:
        literal: whether it stands for a Python number in the user's program; two of them are never the same input.
    """

    form = "leaf"
    literal: bool = False


class Identity(Op):
    """The value itself: cuts the history (`detach`), or starts one (a leaf that wants a gradient)."""

    def infer(self, *types: Type) -> Type:
        """The same type."""
        return types[0]

    def reference(self, *arrays: Array) -> Array:
        """The same array."""
        return arrays[0]

    def lower(self, *operands: Expr) -> Expr:
        """The same element."""
        return operands[0]

    def gradient(self, g: Value, out: Value, *inputs: Value) -> Gradients:
        """Passes through; that a cut one is never asked is the history's business."""
        return (g,)

    def batch(self, size: Size, batched: Sequence[bool], *inputs: Value) -> Value:
        """The same."""
        return apply(self, *inputs)


@primitive
class Output(Op):
    """One result of an operation that has several."""

    form = "output"
    index: int

    def infer(self, *types: Any) -> Type:
        """The type at the index."""
        found: Type = types[0][self.index]
        return found

    def reference(self, *arrays: Any) -> Any:
        """The array at the index."""
        return arrays[0][self.index]


CONSTANT: Final = Constant()
LITERAL: Final = Constant(literal=True)
IDENTITY: Final = Identity()


class Recorder:
    """The values that were recorded and not computed yet, and what to do when they become too many.

    Attributes:
        pending: nodes in order of creation, some of which may be computed or dropped since.
        limit: the number of pending nodes at which recording evaluates by itself.
        full: called when there are more; the engine sets it.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.pending: list[Node] = []
        self.limit = 5000
        self.full: Callable[[], None] = self.pending.clear


RECORDER: Final = Recorder()
_append: Final = RECORDER.pending.append
_pending: Final = RECORDER.pending


def user_site() -> Where:
    """The innermost line on the stack that is not Trine's own, and the layers that run."""
    context = _current()
    if context.site is not None:
        return context.site
    frame: Any = _getframe(1)
    while _OWN[frame.f_code.co_filename]:
        frame = frame.f_back
    return (frame.f_code, frame.f_lasti, context.path)


def no_tensor(where: str, value: object) -> TrineError:
    """The error for a value where a tensor is needed, at the user's line."""
    if isinstance(value, np.ndarray):
        rule, got, fix = "a NumPy array is not a tensor", f"{value.dtype} {list(value.shape)}", "trine.asarray(x)"
    elif value is None:
        rule, got, fix = "None is not a tensor", "None", ""
    else:
        rule, got, fix = f"a {type(value).__name__} is not a tensor", f"{value!r:.60}", "trine.asarray(x)"
    return DTypeError(where, rule, got=got, fix=fix).locate(Site(*user_site()))


def apply(op: Op, *args: V) -> V:  # noqa: C901 - the hot path, where a function more is a tenth of the whole
    """Record `op` on handles or nodes and return its result, in the class of the first argument.

    Raises:
        TrineError: what the operation's `infer` raises, with the user's line and the layers added.
    """
    context = _current()
    site = context.site
    if site is None:  # user_site() written out: a call would cost a tenth of the whole
        frame: Any = _getframe(1)
        code = frame.f_code
        while _OWN[code.co_filename]:
            frame = frame.f_back
            code = frame.f_code
        site = (code, frame.f_lasti, context.path)
    inputs: tuple[Node, ...]
    types: tuple[Type, ...]
    try:
        if len(args) == 2:  # the loop below written out: it would cost a tenth of the whole
            a, b = inputs = args[0].node, args[1].node
            types = a.type, b.type
            flags = a.flags | b.flags
        else:
            inputs = types = ()
            flags = 0
            for value in args:
                node = value.node
                inputs += (node,)
                types += (node.type,)
                flags |= node.flags
    except AttributeError:
        raise no_tensor(op.name, next(x for x in args if not hasattr(x, "node"))) from None
    result = op.types.get(types)
    if result is None:
        result, more = infer(op, types, site)
        flags |= more
    flags &= _LASTING
    if flags and not (context.grad and differentiable(result)):
        flags &= ABSTRACT
    if context.capture is None and not flags & ABSTRACT:
        node = Node(op, inputs, result, flags | PENDING, site)
        _append(node)
        if len(_pending) > RECORDER.limit:
            RECORDER.full()
    else:
        if context.capture is not None:
            _show(args, context.capture)
        node = Node(op, inputs, result, flags, site)
    kind = type(args[0])
    return node if kind is Node or kind is Leaf else kind(node)  # type: ignore[return-value, call-arg]  # the class of the first argument


def _show(args: Sequence[Value], capture: Capture) -> None:
    """Tell a capture which arguments come from before its start."""
    for value in args:
        if value.node.serial < capture.start:
            capture.read(value)


def source(op: Op, like: Value | type[V]) -> Any:
    """Record an operation without inputs and return its result in the class of `like`."""
    site = user_site()
    result, flags = infer(op, (), site)
    node = Node(op, (), result, flags, site)
    return like(node) if isinstance(like, type) and like is not Node else wrap(node, like)  # type: ignore[call-arg, arg-type]  # a handle's class takes a node


def wrap(node: Node, like: Value) -> Any:
    """`node` in the class of `like`."""
    kind: Any = type(like)
    return node if kind in (Node, Leaf, type) else kind(node)


def alias(x: V) -> V:
    """`x` itself as a result: nodes as they are, handles as new ones, so that a later re-bind of one is no other's.

    In a capture, a value from outside becomes one of the capture: a new handle on it would hide where it came from.
    """
    if not isinstance(x, Node):
        capture = _current().capture
        if capture is not None and x.node.serial < capture.start:
            return apply(IDENTITY, x)
    return wrap(x.node, x)  # type: ignore[no-any-return]  # the class of x


def literal(value: Scalar, dtype: DType) -> Node:
    """A constant of shape () that holds a Python scalar.

    Raises:
        DTypeError: the scalar does not fit the dtype: a float for an integer type, an integer out of its range.
    """
    key = (type(value), value if value else repr(value), dtype)  # 0.0 and -0.0 are equal but differ
    found = _LITERALS.get(key)
    if found is None:
        if dtype.is_integer and not isinstance(value, bool):
            _check_integer(value, dtype)
        buffer = convert(np.asarray(float(value) if dtype.is_float else value), dtype)
        buffer.flags.writeable = False
        found = Node(LITERAL, (), Type((), dtype), 0, None, buffer)
        if len(_LITERALS) >= 1024:
            _LITERALS.clear()
        _LITERALS[key] = found
    return found


def _check_integer(value: Scalar, dtype: DType) -> None:
    bits = dtype.bits
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if dtype.kind == "int" else (0, 1 << bits)
    if not low <= value < high or isinstance(value, float):
        raise DTypeError("scalar", f"{value!r} is not a value of {dtype.name}", got=repr(value),
                         fix="cast the tensor first, for example x.astype(trine.int64) or trine.float32").locate(
            Site(*user_site()))  # fmt: skip


def like(x: Value, value: Scalar) -> Any:
    """A constant of shape () in the dtype of `x` and the class of `x`."""
    return wrap(literal(value, x.dtype), x)


def infer(op: Op, types: tuple[Type, ...], site: Where) -> tuple[Any, int]:
    """What `op.infer` answers for `types`, and ABSTRACT where symbols have to be bound first.

    Answers without symbols are remembered in `op.types`, which `apply` reads, the others in `op.open_types`.
    """
    known = op.open_types.get(types)
    if known is not None:
        return known, ABSTRACT
    try:
        result = op.infer(*types)
    except TrineError as error:
        raise error.locate(Site(*site)) from None
    parts = (result,) if single(result) else result
    symbolic = any(isinstance(n, Dim) for part in parts for n in part.shape)
    symbolic = symbolic or any(_mentions_dim(getattr(op, name)) for name in op.__match_args__)
    table = op.open_types if symbolic else op.types
    if len(table) >= 4096:
        table.clear()
    table[types] = result
    return result, ABSTRACT if symbolic else 0


def _mentions_dim(value: Any) -> bool:
    return isinstance(value, Dim) or (type(value) is tuple and any(_mentions_dim(part) for part in value))


def differentiable(result: Any) -> bool:
    """Whether a result of this type can carry a gradient: a float among its types."""
    if type(result) is Type:
        return result.dtype.is_float
    return any(part.dtype.is_float for part in result)
