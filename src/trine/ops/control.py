"""Control flow inside the graph: `cond`, `while_loop`, `scan`, each an operation that holds nested graphs.

The functions are called once, on placeholders, whether values are known or not. Whatever they read from outside
(parameters, constants, values of an outer region) becomes an operand, so gradients flow to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from trine import dtypes, tree
from trine.context import CURRENT
from trine.dtypes import DType
from trine.errors import ArgumentError, DTypeError, ShapeError, Site, TrineError
from trine.ir.graph import TRACKED, Graph, Node, Type, Value
from trine.ops.base import CONSTANT, Array, Op, Output, apply, literal, no_tensor, primitive, user_site, wrap
from trine.ops.elementwise import logical_and
from trine.ops.region import Region, inside, record
from trine.ops.steps import runner
from trine.shapes import Dim, Size

_SCALARS: Final = (bool, int, float)
Function = Callable[..., Any]


# -- Primitives --------------------------------------------------------------------------------------------------------


@primitive
class Cond(Op):
    """The results of one of two graphs on the operands: `then` where the predicate, the first input, holds."""

    several = True
    form = "control"
    then: Graph
    otherwise: Graph

    def infer(self, *types: Type) -> tuple[Type, ...]:
        """The types of the results, which both graphs share."""
        _check_predicate(self.name, types[0])
        for graph in (self.then, self.otherwise):
            _check_inputs(self.name, graph, types[1:])
        yes, no = _types(self.then), _types(self.otherwise)
        if len(yes) != len(no):
            raise ArgumentError(self.name, f"one branch has {len(yes)} results, the other {len(no)}")
        for i, (a, b) in enumerate(zip(yes, no, strict=True)):
            if a != b:
                raise branches_differ(self.name, f"result {i}", a, b)
        return yes

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        """Only the chosen graph runs."""
        graph = self.then if bool(arrays[0]) else self.otherwise
        return tuple(runner(self, graph)(arrays[1:]))


@primitive
class While(Op):
    """The carries after `body` ran as long as `condition` held; inputs are the carries, then constants of both."""

    several = True
    form = "control"
    condition: Graph
    body: Graph

    def infer(self, *types: Type) -> tuple[Type, ...]:
        """The types of the carries, which the body keeps."""
        for graph in (self.condition, self.body):
            _check_inputs(self.name, graph, types)
        if len(self.condition.outputs) != 1:
            raise ArgumentError(self.name, f"the condition has {len(self.condition.outputs)} results, not 1")
        _check_predicate(self.name, self.condition.outputs[0].type)
        for i, (before, after) in enumerate(zip(types, _types(self.body), strict=False)):
            if before != after:
                raise carry_changes(self.name, f"carry {i}", before, after)
        return _types(self.body)

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        """A Python loop."""
        condition, body = runner(self, self.condition), runner(self, self.body)
        count = len(self.body.outputs)
        carry, constants = list(arrays[:count]), arrays[count:]
        while bool(condition([*carry, *constants])[0]):
            carry = body([*carry, *constants])
        return tuple(carry)


@primitive
class Scan(Op):
    """A loop over the first axis: `body` maps carries, slices and constants to new carries and slices of results.

    Inputs are the carries, the sequences stacked on axis 0, the constants; results are the last carries, then the
    stacked slices. With `reverse` it runs from the last slice to the first; results keep the places of their slices.
    """

    several = True
    form = "control"
    body: Graph
    carries: int
    sequences: int
    length: Size
    reverse: bool

    def infer(self, *types: Type) -> tuple[Type, ...]:
        """The types of the carries, which the body keeps, and of the stacked results."""
        carries, sequences, constants = self.split(types)
        for i, x in enumerate(sequences):
            if not x.ndim or x.shape[0] != self.length:
                raise ShapeError(self.name, f"sequence {i} has {x.shape[0] if x.ndim else 'no'} slices, "
                                 f"the scan has {self.length} steps", got=str(x))  # fmt: skip
        slices = [Type(x.shape[1:], x.dtype) for x in sequences]
        _check_inputs(self.name, self.body, (*carries, *slices, *constants))
        after = _types(self.body)
        if len(after) < self.carries:
            raise ArgumentError(self.name, f"the body has {len(after)} results for {self.carries} carries")
        for i, (old, new) in enumerate(zip(carries, after, strict=False)):
            if old != new:
                raise carry_changes(self.name, f"carry {i}", old, new)
        return (*carries, *(Type((self.length, *y.shape), y.dtype) for y in after[self.carries :]))

    def split(self, values: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        """The inputs, or things that stand for them, as carries, sequences, constants."""
        end = self.carries + self.sequences
        return values[: self.carries], values[self.carries : end], values[end:]

    def reference(self, *arrays: Array) -> tuple[Array, ...]:
        """A Python loop."""
        body = runner(self, self.body)
        carry, sequences, constants = self.split(arrays)
        kinds: Any = [node.type for node in self.body.outputs[self.carries :]]
        stacked = [np.zeros((self.length, *y.shape), y.dtype.numpy) for y in kinds]
        count: Any = self.length
        for i in reversed(range(count)) if self.reverse else range(count):
            results = body([*carry, *(x[i, ...] for x in sequences), *constants])
            carry = results[: self.carries]
            for whole, part in zip(stacked, results[self.carries :], strict=True):
                whole[i] = part
        return (*carry, *stacked)


def saved_carries(op: Scan) -> list[int | None]:
    """For each carry, the number of the result that stacks its values before each step; None where there is none."""
    found: list[int | None] = []
    for hole in op.body.inputs[: op.carries]:
        places = [i for i, node in enumerate(op.body.outputs) if node is hole and i >= op.carries]
        found.append(places[0] if places else None)
    return found


def saving(op: Scan) -> Scan:
    """The scan whose further results stack every carry before each step: what its gradient reads."""
    holes = op.body.inputs[: op.carries]
    missing = [hole for hole, place in zip(holes, saved_carries(op), strict=True) if place is None]
    if not missing:
        return op
    body = Graph.ordered(op.body.inputs, (*op.body.outputs, *missing), op.body.nodes)
    return Scan(body, op.carries, op.sequences, op.length, op.reverse)


def apply_scan(op: Scan, values: Sequence[Any], save: bool) -> Any:
    """Record a scan; with `save`, one that stores what its gradient will read, if there is going to be one."""
    tracked = CURRENT.get().grad and any(x.node.flags & TRACKED for x in values)
    return apply(saving(op) if save and tracked else op, *values)


# -- Rules with their errors -------------------------------------------------------------------------------------------


def carry_changes(where: str, name: str, before: Type, after: Type) -> TrineError:
    """The error for a carry whose type the body changes."""
    rule = f"a carry keeps its type, {name} goes in as {before} and comes out as {after}"
    if before.dtype is not after.dtype:
        fix = f"return it as .astype(trine.{before.dtype.name}), or start with .astype(trine.{after.dtype.name})"
        return DTypeError(where, rule, got=f"{before} -> {after}", fix=fix)
    fix = "start with a carry of the shape that the body returns"
    return ShapeError(where, rule, got=f"{before} -> {after}", fix=fix)


def branches_differ(where: str, name: str, a: Type, b: Type) -> TrineError:
    """The error for a result that has another type in the other branch."""
    rule = f"both branches return the same types, {name} is {a} in one and {b} in the other"
    if a.dtype is not b.dtype:
        fix = f".astype(trine.{a.dtype.name}) in the second branch"
        return DTypeError(where, rule, got=f"{a}, {b}", fix=fix)
    return ShapeError(where, rule, got=f"{a}, {b}", fix="trine.broadcast_to or reshape in one branch")


def _check_predicate(where: str, kind: Type) -> None:
    if kind.dtype is not dtypes.bool:
        raise DTypeError(where, f"the predicate is {kind.dtype.name}, not bool", got=str(kind),
                         fix="compare first, for example x > 0")  # fmt: skip
    if kind.shape != ():
        raise ShapeError(where, "the predicate is one bool of shape []", got=str(kind),
                         fix="x.any() or x.all(); trine.where decides element by element")  # fmt: skip


def _check_inputs(where: str, graph: Graph, types: Sequence[Type]) -> None:
    wanted = tuple(node.type for node in graph.inputs)
    if wanted != tuple(types):
        raise DTypeError(where, "the inputs are not those of the nested graph, which takes "
                         + (", ".join(map(str, wanted)) or "none"), got=", ".join(map(str, types)))  # fmt: skip


def _types(graph: Graph) -> tuple[Type, ...]:
    return tuple(node.type for node in graph.outputs)


def _located(error: TrineError) -> TrineError:
    return error.locate(Site(*user_site()))


# -- Arguments ---------------------------------------------------------------------------------------------------------


def _first(where: str, values: Sequence[Any]) -> Value:
    """The first tensor, which gives the class of all results."""
    for value in values:
        if isinstance(value, Value):
            return value
    raise _located(DTypeError(where, "none of the arguments is a tensor", got=", ".join(f"{v!r:.40}" for v in values),
                              fix="trine.asarray(...) makes a tensor"))  # fmt: skip


def _handle(where: str, value: Any, like: Value, dtype: DType | None = None) -> Any:
    """A tensor, a Python number (in `dtype`, if that can hold it) or an array as a value in the class of `like`."""
    if isinstance(value, Value):
        return value
    if type(value) in _SCALARS:
        fits = dtype is not None and dtypes.weak(value, dtype) is dtype
        return wrap(literal(value, dtype if fits and dtype is not None else dtypes.dtype(type(value))), like)
    if isinstance(value, np.ndarray | np.generic):
        buffer = np.array(value, order="C")
        buffer.flags.writeable = False
        return wrap(Node(CONSTANT, (), Type(buffer.shape, dtypes.dtype(buffer.dtype)), 0, None, buffer), like)
    raise no_tensor(where, value)


def _names(root: str, structure: tree.Structure) -> list[str]:
    """What each leaf of a container is called, for errors: `carry['h'][0]`."""
    if structure.kind is None:
        return [root]
    if not structure.keys and hasattr(structure.kind, "_fields"):
        parts = [f".{name}" for name in structure.kind._fields]
    else:
        parts = [f"[{key!r}]" for key in structure.keys or range(len(structure.children))]
    pairs = zip(parts, structure.children, strict=True)
    return [name for part, child in pairs for name in _names(root + part, child)]


def _same_structure(where: str, what: str, returned: Any, wanted: tree.Structure) -> list[Any]:
    """The leaves of what a function returned, which is a container of the structure wanted."""
    leaves, structure = tree.flatten(returned)
    if structure != wanted:
        raise _located(ArgumentError(where, f"{what} is another container", got=", ".join(_names("result", structure)),
                                     fix=f"return {', '.join(_names('result', wanted))}"))  # fmt: skip
    return leaves


def _promoted(raw: Sequence[Any], carries: Sequence[Value], after: Sequence[Node]) -> list[DType | None]:
    """The dtypes that carries given as Python numbers take beside what the body makes of them."""
    found: list[DType | None] = []
    for value, carry, out in zip(raw, carries, after, strict=False):
        weak = type(value) in _SCALARS and dtypes.weak(value, out.dtype) is out.dtype
        found.append(out.dtype if weak and out.dtype is not carry.dtype else None)
    return found


def _settled(
    where: str, raw: list[Any], like: Value, names: list[str], recorded: Callable[[list[Any]], Region]
) -> tuple[list[Any], Region]:
    """The carries to start with and the region of the body, which keeps their types."""
    wanted: list[DType | None] = [None] * len(raw)
    for _ in range(4):  # a Python number may need a wider type than its own, at most bool, int, float, a wider float
        carries = [_handle(where, value, like, dtype) for value, dtype in zip(raw, wanted, strict=True)]
        region = recorded(carries)
        wider = _promoted(raw, carries, region.outputs)
        if not any(wider):
            break
        wanted = [new or old for new, old in zip(wider, wanted, strict=True)]
    for name, carry, out in zip(names, carries, region.outputs, strict=False):
        if carry.type != out.type:
            raise _located(carry_changes(where, name, carry.type, out.type))
    return carries, region


def _results(out: Any, count: int, structure: tree.Structure, first: int = 0) -> Any:
    """Results `first` to `first + count` of an operation in their container."""
    return tree.unflatten(structure, [apply(Output(i), out) for i in range(first, first + count)])


# -- The functions -----------------------------------------------------------------------------------------------------


def cond(pred: Any, true_fn: Function, false_fn: Function, *operands: Any) -> Any:
    """The result of `true_fn(*operands)` where `pred` holds, else that of `false_fn(*operands)`; one of them runs.

    Args:
        pred: one bool, a tensor of shape [].
        true_fn: from the operands to a tensor or a container of them; it may read tensors from outside, too.
        false_fn: likewise, with results of the same structure and types.
        operands: tensors or containers of them.

    Raises:
        DTypeError: the predicate is no bool, or a result has another dtype in the other branch.
        ShapeError: the predicate has axes, or a result has another shape in the other branch.
        ArgumentError: the branches return different containers.
        CaptureError: a branch re-binds a tensor from outside, or asks for a value.

    Example:
        >>> import trine
        >>> x = trine.asarray([3.0, -4.0])
        >>> trine.cond(x.sum() > 0, lambda x: x * 2, lambda x: -x, x)
        tensor([-3.,  4.])
    """
    raw, structure = tree.flatten(operands)
    like = _first("cond", [pred, *raw])
    predicate = _handle("cond", pred, like)
    values = [_handle("cond", value, like) for value in raw]
    returned: list[Any] = []

    def branch(function: Function) -> Region:
        def body(*handles: Any) -> list[Any]:
            returned.append(function(*tree.unflatten(structure, handles)))
            first, wanted = tree.flatten(returned[0])
            others = [None if type(v) in _SCALARS else _handle("cond", v, like).dtype for v in first]
            leaves = _same_structure("cond", "what the second branch returns", returned[-1], wanted)
            return [_handle("cond", leaf, like, kind) for leaf, kind in zip(leaves, others, strict=True)]

        return record("cond", [x.type for x in values], body, like, hoist=False)

    regions = [branch(true_fn), branch(false_fn)]
    first, wanted = tree.flatten(returned[0])
    names = _names("result", wanted)
    for i, value in enumerate(first):  # a Python number takes the dtype it meets in the other branch
        if type(value) in _SCALARS:
            regions[0].outputs[i] = _handle("cond", value, like, regions[1].outputs[i].dtype).node
    for name, a, b in zip(names, regions[0].outputs, regions[1].outputs, strict=True):
        if a.type != b.type:
            raise _located(branches_differ("cond", name, a.type, b.type))
    constants, handles = _merged(regions, like)
    op = Cond(*[region.graph(constants) for region in regions])
    return _results(apply(op, predicate, *values, *handles), len(names), wanted)


def _merged(regions: Sequence[Region], like: Value) -> tuple[list[Node], list[Any]]:
    """What any of the regions reads from outside, once each: nodes, and the handles they were read through."""
    found: dict[int, tuple[Node, Any]] = {}
    for region in regions:
        for node in region.outside():
            found.setdefault(node.serial, (node, region.handle(node, like)))
    return [node for node, _ in found.values()], [handle for _, handle in found.values()]


def while_loop(cond_fn: Function, body_fn: Function, init: Any, *, max_steps: int | None = None) -> Any:
    """The carry after `carry = body_fn(carry)` was repeated as long as `cond_fn(carry)` held.

    Args:
        cond_fn: from the carry to one bool.
        body_fn: from the carry to the next, of the same structure and types.
        init: the first carry: tensors and Python numbers, or a container of them.
        max_steps: stop after as many steps even if the condition still holds; with it, gradients flow through the loop.

    Raises:
        DTypeError: the condition is no bool, or the body changes the dtype of a carry.
        ShapeError: the condition has axes, or the body changes the shape of a carry.
        ArgumentError: the body returns another container, or `max_steps` is below 0.
        CaptureError: a function re-binds a tensor from outside, or asks for a value.

    Example:
        >>> import trine
        >>> trine.while_loop(lambda x: x < 100, lambda x: x * 2, trine.asarray(3))
        tensor(192)
    """
    raw, structure = tree.flatten(init)
    like = _first("while_loop", raw)

    def body(*handles: Any) -> list[Any]:
        returned = body_fn(tree.unflatten(structure, handles))
        leaves = _same_structure("while_loop", "the carry that the body returns", returned, structure)
        return [_handle("while_loop", leaf, like, x.dtype) for leaf, x in zip(leaves, handles, strict=True)]

    def condition(*handles: Any) -> list[Any]:
        pred = _handle("while_loop", cond_fn(tree.unflatten(structure, handles)), like)
        try:
            _check_predicate("while_loop", pred.type)
        except TrineError as error:
            raise _located(error) from None
        return [pred]

    def recorded(carries: list[Any]) -> Region:
        return record("while_loop", [x.type for x in carries], body, like)

    carries, region = _settled("while_loop", raw, like, _names("carry", structure), recorded)
    if max_steps is not None:
        return _bounded(condition, body, tree.unflatten(structure, carries), max_steps)
    test = record("while_loop", [x.type for x in carries], condition, like)
    constants, handles = _merged([test, region], like)
    op = While(test.graph(constants), region.graph(constants))
    return _results(apply(op, *carries, *handles), len(carries), structure)


def _bounded(condition: Function, body: Function, init: Any, steps: Any) -> Any:
    """A scan whose steps do nothing once the condition failed."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise _located(ArgumentError("while_loop", "max_steps is a number of steps, 0 or more", got=f"{steps!r}"))
    leaves, structure = tree.flatten(init)

    def step(carry: Any, _: None) -> Any:
        going, state = carry
        going = logical_and(going, condition(*state)[0])
        return (going, cond(going, lambda *now: tuple(body(*now)), lambda *now: now, *state)), None

    (_, last), _ = scan(step, (True, tuple(leaves)), None, length=steps)
    return tree.unflatten(structure, last)


def scan(
    f: Function, init: Any, xs: Any = None, *, length: Size | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """The last carry and the stacked results of `carry, y = f(carry, x)` over the slices `x` of `xs` along axis 0.

    Gradients flow to the first carry, to the sequences and to whatever `f` reads from outside; the carry of each step
    is stored for them, and the rest of a step is computed again.

    Args:
        f: from the carry and a slice to the next carry, of the same structure and types, and a result for this step.
        init: the first carry: tensors and Python numbers, or a container of them.
        xs: a tensor, or a container of them, of equal length along axis 0; None for none.
        length: the number of steps; needed where there is no sequence.
        reverse: run from the last slice to the first; results keep the places of their slices.

    Returns:
        The last carry in the structure of `init`, and the results in the structure of those of `f`, stacked on axis 0.

    Raises:
        DTypeError: `f` returns no pair, or changes the dtype of a carry.
        ShapeError: sequences of different lengths, or `f` changes the shape of a carry.
        ArgumentError: `f` returns another container as carry; the length is missing.
        CaptureError: `f` re-binds a tensor from outside, or asks for a value.

    Example:
        >>> import trine
        >>> total, sums = trine.scan(lambda c, x: (c + x, c + x), 0.0, trine.asarray([1.0, 2.0, 3.0]))
        >>> sums
        tensor([1., 3., 6.])
    """
    raw, carry_structure = tree.flatten(init)
    parts, xs_structure = tree.flatten(xs)
    like = _first("scan", [*raw, *parts])
    sequences = [_handle("scan", part, like) for part in parts]
    count = _length(sequences, _names("xs", xs_structure), length)
    slices = [Type(x.shape[1:], x.dtype) for x in sequences]
    results: list[tree.Structure] = []

    def body(*handles: Any) -> list[Any]:
        carry, x = handles[: len(raw)], handles[len(raw) :]
        returned = f(tree.unflatten(carry_structure, carry), tree.unflatten(xs_structure, x))
        if type(returned) not in (tuple, list) or len(returned) != 2:
            raise _located(DTypeError("scan", "the function returns a pair: the next carry, and a result or None",
                                      got=f"{returned!r:.60}", fix="return carry, None"))  # fmt: skip
        leaves = _same_structure("scan", "the carry that the function returns", returned[0], carry_structure)
        after = [_handle("scan", leaf, like, old.dtype) for leaf, old in zip(leaves, carry, strict=True)]
        ys, structure = tree.flatten(returned[1])
        results[:] = [structure]
        return after + [_handle("scan", y, like) for y in ys]

    def recorded(carries: list[Any]) -> Region:
        return record("scan", [*(x.type for x in carries), *slices], body, like)

    carries, region = _settled("scan", raw, like, _names("carry", carry_structure), recorded)
    constants, handles = _merged([region], like)
    op = Scan(region.graph(constants), len(carries), len(sequences), count, bool(reverse))
    out = apply_scan(op, [*carries, *sequences, *handles], save=not inside())
    ys = len(region.outputs) - len(carries)
    return _results(out, len(carries), carry_structure), _results(out, ys, results[0], len(carries))


def _length(sequences: Sequence[Value], names: Sequence[str], length: Any) -> Size:
    """The number of steps, on which the sequences and the argument agree."""
    found: Any = length
    for x, name in zip(sequences, names, strict=True):
        if not x.ndim:
            raise _located(ShapeError("scan", f"{name} has no axis to go along", got=str(x.type)))
        if found is not None and x.shape[0] != found:
            other = "length is" if length is not None else f"{names[0]} has"
            raise _located(ShapeError("scan", f"{name} has {x.shape[0]} slices, {other} {found}", got=str(x.type)))
        found = x.shape[0]
    if found is None:
        raise _located(ArgumentError("scan", "without sequences, the number of steps is not known", got="xs=None",
                                     fix="scan(f, init, None, length=10)"))  # fmt: skip
    if isinstance(found, bool) or not isinstance(found, int | Dim) or (isinstance(found, int) and found < 0):
        raise _located(ArgumentError("scan", "the length is a number of steps, 0 or more", got=f"{found!r}"))
    return found
