"""`Model`: a module made of the calls that lead from inputs to outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as attributes
from typing import Any

from trine import tree
from trine.context import using
from trine.errors import ArgumentError, DTypeError, ShapeError, Site, TrineError, Where
from trine.ir.graph import ABSTRACT, Leaf, Node
from trine.nn.checks import argument_error, located
from trine.nn.initializers import snake_case
from trine.nn.input import Call, InputPlaceholder, LayerCall, depends_on_input
from trine.nn.module import Module, called_with
from trine.ops.base import Op, Output, apply, source, user_site
from trine.ops.elementwise import cast
from trine.ops.inline import bound
from trine.shapes import Size, bind_all
from trine.tensor.tensor import Tensor


class Model(Module):
    """The module that computes `outputs` from `inputs`, tensors that began as `nn.Input`.

    Modules on the way become attributes under their own names, numbered where several share one: `dense`, `dense_1`.
    A module that is called several times is one module. Operations between them are part of the model, and so are
    parameters used without a module.

    Shapes: those of the inputs; open sizes take any number, equal names the same.

    Args:
        inputs: a tensor, or a container of them: the arguments of a call.
        outputs: a tensor or a container of them: what a call returns.
        name: what another model calls this one.

    Raises:
        ArgumentError: an output needs an Input that is not given, or none at all; two modules have one name.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> x = nn.Input((8,))
        >>> h = nn.Dense(8, activation="relu")(x)
        >>> model = nn.Model(x, nn.Dense(2)(x + h))
        >>> model(trine.ones((3, 8))).shape
        (3, 2)
        >>> [name for name, _ in model.named_parameters()]
        ['dense.kernel', 'dense.bias', 'dense_1.kernel', 'dense_1.bias']
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        """Find the calls on the way."""
        self.name = name
        given, self._inputs = tree.flatten(inputs)
        wanted, structure = tree.flatten(outputs)
        self._plan = _plan(given, wanted, structure)
        self._called = called_with((inputs,))
        self._types = tuple(x.node.type for x in wanted)
        names: set[str] = set()
        for layer in self._plan.modules:
            place = self._free(layer, names)
            names.add(place)
            setattr(self, place, layer)
        for i, handle in enumerate(self._plan.handles):
            setattr(self, f"parameter_{i}" if i else "parameter", handle)

    def _free(self, layer: Module, names: set[str]) -> str:
        """The attribute for a layer: its own name, or its class's with a number where that is taken."""
        if layer.name:
            if layer.name in names or hasattr(self, layer.name) or "." in layer.name:
                rule = "holds a dot" if "." in layer.name else "is taken"
                raise ArgumentError("Model", f"a layer's name becomes an attribute, and {layer.name!r} {rule}",
                                    got=layer.describe(), fix="another name").locate(Site(*user_site()))  # fmt: skip
            return layer.name
        base = place = snake_case(type(layer).__name__)
        number = 0
        while place in names or hasattr(self, place):
            number += 1
            place = f"{base}_{number}"
        return place

    @property
    def layers(self) -> list[Module]:
        """The modules on the way, in the order of their first call."""
        return list(self._plan.modules)

    @property
    def output_names(self) -> list[str]:
        """The names of the outputs: of the modules that they come from; `output_0`, ... for what is no call."""
        makers = {slot: step.call.module for step in self._plan.steps if isinstance(step, ModuleStep)
                  for slot in step.targets}  # fmt: skip
        places = {id(value): name for name, value in vars(self).items() if isinstance(value, Module)}
        found = [places.get(id(makers.get(slot)), f"output_{i}") for i, slot in enumerate(self._plan.outputs)]
        return [f"output_{i}" if found.count(name) > 1 else name for i, name in enumerate(found)]

    def forward(self, *args: Any) -> Any:
        """The outputs for these inputs, nested as at the construction.

        Raises:
            ArgumentError: another number of inputs, or other names.
            ShapeError: a shape does not fit its input, or one open size would have two values.
        """
        value = args[0] if len(args) == 1 else args
        leaves: list[Any] = []
        if not _align(self._inputs, value, leaves):
            raise argument_error(self, f"the model takes {_nested(self._inputs)}", got=_shown(value))
        return self._plan.run(self, leaves)


# -- The plan ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ModuleStep:
    """A call of a module: its results go to slots `target`, `target + 1`, ..."""

    call: Call
    sources: tuple[int, ...]
    targets: tuple[int, ...]

    def run(self, values: list[Any], sizes: Mapping[str, Size]) -> None:
        """Call the module."""
        made = self.call.replay([values[i] for i in self.sources])
        for target, value in zip(self.targets, made, strict=True):
            values[target] = value


@dataclass(frozen=True, eq=False)
class OpStep:
    """An operation between the calls, recorded again at the line where the model was written."""

    op: Op
    sources: tuple[int, ...]
    target: int
    site: Where | None

    def run(self, values: list[Any], sizes: Mapping[str, Size]) -> None:
        """Record the operation on the values, with numbers for the open sizes among its attributes."""
        op = bound(self.op, sizes) if sizes else self.op
        with using(site=self.site):
            inputs = [values[i] for i in self.sources]
            values[self.target] = apply(op, *inputs) if inputs else source(op, Tensor)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles find the operation by its attributes: equal ones are one object."""
        fields = tuple(getattr(self.op, field.name) for field in attributes(self.op) if field.init)
        return _op_step, (type(self.op), fields, self.sources, self.target)


def _op_step(kind: type[Op], fields: tuple[Any, ...], sources: tuple[int, ...], target: int) -> OpStep:
    return OpStep(kind(*fields), sources, target, None)


@dataclass(frozen=True, eq=False)
class Plan:
    """What a model does, in order, on slots for values.

    Attributes:
        specs: the types of the inputs, which have the first slots.
        steps: calls and operations.
        fixed: slots whose value is known, and what holds it.
        outputs: the slots of the results.
        structure: their container.
        modules: those called, in order.
        handles: parameters that were used without a module.
        size: the number of slots.
    """

    specs: tuple[Any, ...]
    steps: tuple[ModuleStep | OpStep, ...]
    fixed: tuple[tuple[int, Tensor], ...]
    outputs: tuple[int, ...]
    structure: tree.Structure
    modules: tuple[Module, ...]
    handles: tuple[Tensor, ...]
    size: int

    def run(self, model: Model, inputs: Sequence[Tensor]) -> Any:
        """The outputs for input tensors; `model` is named in errors."""
        values: list[Any] = [None] * self.size
        for i, (x, spec) in enumerate(zip(inputs, self.specs, strict=True)):
            values[i] = _fitted(model, i, x, spec)
        try:
            sizes = bind_all("Model", [s.shape for s in self.specs], [x.shape for x in values[: len(inputs)]])
        except ShapeError as error:
            error.got = error.got.replace(" for ", " for the nn.Input ")
            error.fix = error.fix or _missing_axis(values, self.specs)
            raise located(model, error) from None
        for slot, handle in self.fixed:
            values[slot] = handle
        for step in self.steps:
            step.run(values, sizes)
        return tree.unflatten(self.structure, [values[i] for i in self.outputs])


def _missing_axis(values: Sequence[Any], specs: Sequence[Any]) -> str:
    """What to try where an input lacks its last axis, of size 1, or its first, the batch."""
    for x, spec in zip(values, specs, strict=False):
        if x.ndim == spec.ndim - 1:
            return "x[..., None] adds an axis of size 1" if spec.shape[-1] == 1 else "x[None] adds a batch axis"
    return ""


def _fitted(model: Model, position: int, x: Any, spec: Any) -> Tensor:
    """An input in the kind of number that its spec names."""
    if not isinstance(x, Tensor):
        raise located(model, DTypeError("", f"input {position} is no tensor or array", got=f"{x!r:.60}"))
    if spec.dtype.is_float and not x.dtype.is_float:
        return cast(x, spec.dtype)
    if x.dtype.is_float and not spec.dtype.is_float:
        raise located(model, DTypeError("", f"input {position} holds {spec.dtype.name}, not {x.dtype.name}",
                                        got=str(x.type), fix=f"x.astype(trine.{spec.dtype.name})"))  # fmt: skip
    return x


def _plan(inputs: list[Any], outputs: list[Any], structure: tree.Structure) -> Plan:
    """The plan that leads from `inputs` to `outputs`."""
    _check_ends(inputs, outputs)
    planner = _Planner([x.node for x in inputs])
    for position, x in enumerate(outputs):
        planner.visit(position, x.node)
    return Plan(
        tuple(x.node.type for x in inputs), tuple(planner.steps), tuple(planner.fixed),
        tuple(planner.slots[x.node.serial] for x in outputs), structure, tuple(planner.modules.values()),
        tuple(planner.handles.values()), planner.size,
    )  # fmt: skip


def _check_ends(inputs: list[Any], outputs: list[Any]) -> None:
    seen: set[int] = set()
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.node.flags & ABSTRACT or not depends_on_input(x.node):
            raise _located(ArgumentError("Model", f"input {i} is no tensor that began as nn.Input", got=_shown(x),
                                         fix="x = nn.Input((28, 28, 1)); nn.Model(x, layer(x))"))  # fmt: skip
        if x.node.serial in seen:
            raise _located(ArgumentError("Model", f"input {i} is given twice", got=_shown(x)))
        seen.add(x.node.serial)
    for i, x in enumerate(outputs):
        if isinstance(x, Module):
            raise _located(ArgumentError("Model", f"output {i} is a layer, not a tensor", got=x.describe(),
                                         fix="call it: nn.Model(x, layer(x))"))  # fmt: skip
        if not isinstance(x, Tensor) or not x.node.flags & ABSTRACT:
            raise _located(ArgumentError("Model", f"output {i} does not depend on the inputs", got=_shown(x),
                                         fix="call the layers on the tensors that nn.Input returned"))  # fmt: skip


class _Planner:
    """Turns nodes into steps, each once, in order of creation."""

    def __init__(self, inputs: list[Node]) -> None:
        self.slots = {node.serial: i for i, node in enumerate(inputs)}
        self.depends = set(self.slots)  # nodes that an input leads to
        self.size = len(inputs)
        self.steps: list[ModuleStep | OpStep] = []
        self.fixed: list[tuple[int, Tensor]] = []
        self.targets: dict[int, tuple[int, ...]] = {}  # of calls, by the node
        self.modules: dict[int, Module] = {}
        self.handles: dict[int, Tensor] = {}

    def visit(self, position: int, output: Node) -> None:
        """Add what `output` needs."""
        for node in self._needed(output):
            if isinstance(node.op, InputPlaceholder):
                label = f"Input {node.op.label!r}" if node.op.label else "Input"
                made = f" at {Site(*node.site)}" if node.site else ""
                rule = f"output {position} depends on an {label} that is not among the inputs"
                raise _located(ArgumentError("Model", rule,
                                             got=f"{node.type}{made}", fix="add it to the inputs"))  # fmt: skip
            self._add(node)
            if any(i.serial in self.depends for i in node.inputs):
                self.depends.add(node.serial)
        if output.serial not in self.depends:
            raise _located(ArgumentError("Model", f"output {position} does not depend on the inputs",
                                         got=str(output.type)))  # fmt: skip

    def _needed(self, output: Node) -> list[Node]:
        seen: set[int] = set()
        found: list[Node] = []
        stack = [output]
        while stack:
            node = stack.pop()
            if node.serial not in seen and node.serial not in self.slots:
                seen.add(node.serial)
                found.append(node)
                if not _is_fixed(node):
                    stack.extend(node.inputs)
        return sorted(found, key=lambda node: node.serial)

    def _slot(self, node: Node) -> int:
        self.slots[node.serial] = self.size
        self.size += 1
        return self.size - 1

    def _add(self, node: Node) -> None:
        slot = self._slot(node)
        if _is_fixed(node):
            owner = node.owner() if isinstance(node, Leaf) else None
            if owner is not None:
                self.handles.setdefault(id(owner), owner)
            self.fixed.append((slot, owner if owner is not None else Tensor(node)))
            return
        sources = tuple(self.slots[i.serial] for i in node.inputs)
        if isinstance(node.op, LayerCall):
            call = node.op.call
            self.modules.setdefault(id(call.module), call.module)
            targets = tuple(range(self.size, self.size + len(node.op.types_found)))
            self.size += len(targets)
            self.targets[node.serial] = targets
            self.steps.append(ModuleStep(call, sources, targets))
        elif isinstance(node.op, Output) and isinstance(node.inputs[0].op, LayerCall):
            self.slots[node.serial] = self.targets[node.inputs[0].serial][node.op.index]
        else:
            self.steps.append(OpStep(node.op, sources, slot, node.site))


def _is_fixed(node: Node) -> bool:
    """Whether the value does not follow from the inputs: a parameter, or a number that is known."""
    return isinstance(node, Leaf) or node.buffer is not None


# -- Arguments ---------------------------------------------------------------------------------------------------------


def _align(structure: tree.Structure, value: Any, leaves: list[Any]) -> bool:
    """Collect the leaves of `value` in the order of `structure`; lists and tuples stand for each other."""
    if structure.kind is None:
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        leaves.append(value)
        return not isinstance(value, list | tuple | Mapping)
    if isinstance(value, Mapping):
        if set(value) != set(structure.keys) or not structure.keys:
            return False
        parts: list[Any] = [value[key] for key in structure.keys]
    elif structure.keys or not isinstance(value, list | tuple) or len(value) != len(structure.children):
        return False
    else:
        parts = list(value)
    return all(_align(child, part, leaves) for child, part in zip(structure.children, parts, strict=True))


def _nested(structure: tree.Structure) -> str:
    """The container of a model's inputs in words."""
    if structure.kind is None:
        return "1 input"
    if structure.keys:
        return f"a dict of the inputs {', '.join(map(str, structure.keys))}"
    return f"{len(structure.children)} inputs in a {'list' if structure.kind is list else 'tuple'}, or as arguments"


def _shown(value: Any) -> str:
    """What was given, in types."""
    if isinstance(value, Tensor):
        return str(value.type)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"{len(value)} values: " + ", ".join(_shown(part) for part in value[:4])
    return f"{type(value).__name__} {value!r:.40}"


def _located(error: TrineError) -> TrineError:
    return error.locate(Site(*user_site()))
