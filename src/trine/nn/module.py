"""`Module`: a function with parameters, found in its attributes.

There is no registration: a tensor that wants gradients is a parameter, any other tensor is state, and modules, lists,
tuples and dicts are followed. Names are attribute paths such as `encoder.3.ffn.kernel`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np

from trine import tree
from trine.context import CURRENT, Context, using
from trine.dtypes import DType
from trine.engine import ENGINE
from trine.errors import ArgumentError, DTypeError, Site, StateError, TrineError
from trine.files.weights import load_weights, save_weights
from trine.ir.graph import ABSTRACT, CONSUMED, TRACKED
from trine.nn.checks import located
from trine.nn.input import depends_on_input, placeholder, probe, record_call
from trine.nn.policy import DEFAULT, Policy, policy_of
from trine.nn.saving import save
from trine.nn.summary import print_summary
from trine.ops.base import user_site
from trine.ops.elementwise import cast
from trine.shapes import Dim
from trine.tensor.tensor import Tensor, read, rebind, to_tensor
from trine.tensor.trace import Spec
from trine.train.trainer import Trainer

# attributes that hold no part of the model
_INTERNAL: Final = frozenset({"_called", "_frozen", "_names", "_policy", "_training", "_types"})
_DESCRIBED: Final = ("units", "filters", "output_dim", "rate")
_PLAIN: Final = frozenset({bool, int, float, str, type(None)})
_RUNNING: Final[ContextVar[tuple[Module, str] | None]] = ContextVar("trine.nn.running", default=None)


Called = tuple[tree.Structure, tuple[Any, ...]]


class Mismatches(NamedTuple):
    """How saved state and a module differ.

    Attributes:
        missing: names that the module has and the saved state has not.
        unexpected: names that only the saved state has.
        wrong: names with another shape, and both types as text.
    """

    missing: list[str]
    unexpected: list[str]
    wrong: dict[str, str]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.missing or self.unexpected or self.wrong)


class Module(Trainer):
    """A layer or a whole model: parameters and other modules in attributes, and `forward`.

    Calling it runs `build` once, if there is one, and then `forward`. NumPy arrays become tensors, and float arguments
    are cast to the compute dtype of the policy, float32 unless set.

    Attributes:
        training: the mode where nobody else sets one: see `is_training`.
        name: what a functional `Model` calls this layer; None takes the class's name.
        version: grows with every write of an attribute.

    Example:
        >>> import trine
        >>> from trine import nn
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         self.hidden = nn.Dense(4, activation="relu")
        ...         self.out = nn.Dense(1)
        ...     def forward(self, x):
        ...         return self.out(self.hidden(x))
        >>> net = Net()
        >>> net(trine.ones((2, 3))).shape
        (2, 1)
        >>> [name for name, _ in net.named_parameters()]
        ['hidden.kernel', 'hidden.bias', 'out.kernel', 'out.bias']
    """

    training: bool | None = None
    name: str | None = None
    version: int = 0
    _built: bool = False
    _trainable: bool = True
    _policy: Policy | None = None
    _types: Any = None  # of the last results: a type, or a tuple of types
    _called: Called | None = None  # the arguments of the last call from outside of any module
    _names: tuple[int, dict[int, str]] = (-1, {})  # of the modules inside, as they were at a version
    _builds: ClassVar[bool] = False
    _training_at: ClassVar[int | None] = None  # the position of forward's argument `training`; None: it has none

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the dtype policy under which the module is made."""
        self = super().__new__(cls)
        policy = CURRENT.get().policy
        if policy is not None:
            self.__dict__["_policy"] = policy
        return self

    def __init_subclass__(cls, **options: Any) -> None:
        """Note whether the class builds itself, and whether its forward takes `training`."""
        super().__init_subclass__(**options)
        cls._builds = cls.build is not Module.build
        cls._training_at = _position_of_training(cls.forward)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the attribute; captured steps see that the module changed."""
        object.__setattr__(self, name, value)
        self.__dict__["version"] = self.version + 1

    def __delattr__(self, name: str) -> None:
        """Delete the attribute; captured steps see that the module changed."""
        object.__delattr__(self, name)
        self.__dict__["version"] = self.version + 1

    def __getstate__(self) -> dict[str, Any]:
        """All attributes, for copies and pickles, which `compile` has to be called on again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_names", "_training")}

    def __repr__(self) -> str:
        """The class and its main number: `Dense 128`."""
        return self.describe()

    def describe(self) -> str:
        """What error messages and summaries call this module: its class and, where it has one, its main number."""
        for name in _DESCRIBED:
            value = self.__dict__.get(name)
            if isinstance(value, int | float):
                return f"{type(self).__name__} {value}"
        return type(self).__name__

    # -- The call ------------------------------------------------------------------------------------------------------

    def build(self, *inputs: Any) -> None:
        """Make parameters whose shapes depend on the inputs: runs once, before the first `forward`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's value: a subclass defines it.

        Raises:
            StateError: the class does not.
        """
        fix = "rename its method call to forward" if hasattr(type(self), "call") else "def forward(self, x): ..."
        raise located(self, StateError("", "the class defines no forward", fix=fix))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What `forward` returns; the first call builds the module.

        Raises:
            TrineError: what the operations inside raise, with the path of this module and the user's line.
        """
        context = CURRENT.get()
        policy = self._policy or context.policy or DEFAULT
        first = args[0] if len(args) == 1 and not kwargs else None
        if type(first) is not Tensor or first.node.flags & ABSTRACT or first.node.type.dtype is not policy[1]:
            leaves, _ = tree.flatten((args, kwargs))
            if any(isinstance(x, Tensor) and x.node.flags & ABSTRACT and depends_on_input(x.node) for x in leaves):
                return record_call(self, args, kwargs)
            args = tuple([_argument(value, policy[1]) for value in args])
            kwargs = {name: _argument(value, policy[1]) for name, value in kwargs.items()}
        training = context.training
        place = self._training_at
        if "training" in kwargs:
            training = training if kwargs["training"] is None else kwargs["training"]
            if place is None:
                del kwargs["training"]
        elif place is not None and len(args) <= place and (training, self.training) != (None, None):
            kwargs["training"] = self.training if training is None else training
        base = self._path()
        path = f"{base} ({self.describe()})" if base else self.describe()
        inner = Context(context.grad, training, path, context.site, context.journal, context.capture, policy)
        token, running = CURRENT.set(inner), _RUNNING.set((self, base))
        try:
            if self._builds and not self._built:
                self._build(args, kwargs)
            if inner.capture is not None:
                inner.capture.called(self)  # type: ignore[attr-defined]  # captures of steps know it
            out = self.forward(*args, **kwargs)
        except TrineError as error:
            error.locate(error.raised_at(path) or Site(*user_site()))
            raise
        except TypeError:
            self._require_arguments(args, kwargs)
            raise
        finally:
            _RUNNING.reset(running)
            CURRENT.reset(token)
        self._remember(base, args, out)
        return out

    def _remember(self, base: str, args: tuple[Any, ...], out: Any) -> None:
        """Keep the types of the results, and of the arguments where the call came from outside of any module."""
        if not base:
            self.__dict__["_called"] = called_with(args)
        self.__dict__["_types"] = out.node.type if type(out) is Tensor else _types(out)

    def _require_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse arguments that `forward` does not take."""
        signature = inspect.signature(self.forward)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            needed = [name for name, p in signature.parameters.items() if p.default is p.empty]
            given = [type(value).__name__ for value in args] + [f"{name}=" for name in kwargs]
            raise located(self, DTypeError("", str(error), got=", ".join(given) or "no arguments",
                                           fix=f"layer({', '.join(needed)})")) from None  # fmt: skip

    def _path(self) -> str:
        """The attribute path from the outermost module that runs; empty for the outermost."""
        running = _RUNNING.get()
        if running is None:
            return ""
        outer, base = running
        if outer is self:
            return base
        version, names = outer._names
        if version != outer.version or id(self) not in names:
            names = {id(module): name for name, module in outer.named_modules()}
            outer.__dict__["_names"] = outer.version, names
        name = names.get(id(self)) or type(self).__name__
        return f"{base}.{name}" if base else name

    def _build(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run `build` on those arguments that it takes, outside of any capture and transaction."""
        parameters = inspect.signature(self.build).parameters.values()
        kinds = {p.kind for p in parameters}
        if inspect.Parameter.VAR_POSITIONAL not in kinds:
            count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
            args = args[:count]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            names = {p.name for p in parameters}
            kwargs = {name: value for name, value in kwargs.items() if name in names}
        with using(capture=None, journal=None, grad=False):
            self.build(*args, **kwargs)
        self.__dict__["_built"] = True
        if not self._trainable:
            self._freeze()

    def build_for(self, *specs: Any, **kwargs: Any) -> Self:
        """Build the module and those inside without data, by one run on placeholders; returns the module.

        Args:
            specs: an argument of the call each: a shape (float32; a name or None for an open size), `trine.spec`, a
                tensor or array whose type counts, or a container of them.
            kwargs: passed on to `forward` as they are.

        Example:
            >>> from trine import nn
            >>> nn.Dense(2).build_for(("batch", 3)).kernel.shape
            (3, 2)
        """
        probe(self, tuple(placeholder(spec) for spec in specs), kwargs)
        return self

    def input_specs(self) -> tuple[Any, ...] | None:
        """The arguments of the last call, as `trine.spec` describes them, with an open batch; None before the first."""
        if self._called is None:
            return None
        structure, types = self._called
        sizes = [kind.shape[0] for kind in types if kind is not None and kind.shape]
        if None in types:  # an argument that was no tensor
            return None
        made = []
        for kind in types:
            whole = kind.shape and kind.shape[0] == sizes[0] and isinstance(sizes[0], int)
            made.append(Spec((Dim.symbol("batch"), *kind.shape[1:]) if whole else kind.shape, kind.dtype, "x"))
        return tree.unflatten(structure, made)  # type: ignore[no-any-return]  # a tuple comes back

    def save(self, path: str | Path, inputs: Any = None) -> None:
        """Write the model as a `.trine` file, which `trine.load` opens without this class: see `trine.save`."""
        save(self, path, inputs)

    def save_weights(self, path: str | Path) -> None:
        """Write all parameters and state as safetensors, whole or not at all, for `load_weights`.

        Raises:
            StateError: a module was never called, so its parameters are not there yet.
            FileAccessError: the directory does not exist or cannot be written, or the disk is full.
        """
        save_weights(path, self.state_dict())

    def load_weights(self, path: str | Path, strict: bool = True) -> Mismatches:
        """Take parameters and state from a file of `save_weights` or `save`: see `load_state_dict`."""
        return self.load_state_dict(load_weights(path), strict)

    def is_training(self, training: bool | None = None) -> bool:
        """Whether to behave as in training: the argument, else the mode that `fit` set, else `training`."""
        if training is None:
            training = CURRENT.get().training
        return bool(self.training if training is None else training)

    def train(self, mode: bool = True) -> Self:
        """Set `training` of this module and of all inside; returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    # -- What is inside ------------------------------------------------------------------------------------------------

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module, named "", and all inside, each once, depth first in the order of attributes."""
        return ((name, part) for name, part in _walk(self) if isinstance(part, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all inside, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that training changes, each once, in the order of attributes.

        Raises:
            StateError: a module was never called, so its parameters are not there yet.
        """
        self._require_built("its parameters are read")
        return ((name, tensor) for name, tensor in self._tensors() if tensor._requires)

    def parameters(self) -> list[Tensor]:
        """The tensors that training changes, each once: see `named_parameters`."""
        return [tensor for _, tensor in self.named_parameters()]

    def named_state(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors that are saved: parameters, frozen ones, moving averages; each once, under its first name.

        Tensors that an attribute holds but that were computed from parameters are not among them.

        Raises:
            StateError: a module was never called, so its parameters are not there yet.
            ArgumentError: two tensors have one name.
        """
        self._require_built("its state is read")
        found = list(self._tensors())
        names: set[str] = set()
        for name, _ in found:
            if name in names:
                raise _located(ArgumentError(type(self).__name__, f"two tensors have the name {name!r}",
                                             fix="other keys in the dict that holds them"))  # fmt: skip
            names.add(name)
        return iter(found)

    def own_tensors(self) -> list[tuple[str, Tensor]]:
        """The parameters and state of this module alone, without those of the modules inside."""
        return [pair for pair in self._tensors(deep=False)]

    def _tensors(self, deep: bool = True) -> Iterator[tuple[str, Tensor]]:
        for name, part in _walk(self, deep):
            if isinstance(part, Tensor) and (part._requires or not part.node.flags & (TRACKED | CONSUMED | ABSTRACT)):
                yield name, part

    @property
    def built(self) -> bool:
        """Whether this module, regardless of those inside, has all its parameters."""
        return self._built or not self._builds

    def _require_built(self, before: str) -> None:
        """Refuse where a module waits for its first call; one that a call of this one did not reach is left out."""
        waiting = [name or "itself" for name, module in self.named_modules() if not module.built]
        if waiting and self._types is None:
            rule = "the sizes of its parameters come from the first call: call the model once on data"
            raise _located(StateError(type(self).__name__, f"{rule} (or model.build_for(spec)) before {before}",
                                      got=f"not built: {_few(waiting)}",
                                      fix='model.build_for(("batch", 784)) with the sizes of an input'))  # fmt: skip

    @property
    def trainable(self) -> bool:
        """Whether training changes its parameters; setting it freezes or frees those of all modules inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, wanted: bool) -> None:
        for module in self.modules():
            module._trainable = bool(wanted)
            if wanted:
                module._thaw()
            else:
                module._freeze()

    def _freeze(self) -> None:
        frozen: list[Tensor] = self.__dict__.setdefault("_frozen", [])
        for _, tensor in self.own_tensors():
            if tensor._requires:
                tensor.requires_grad = False
                frozen.append(tensor)

    def _thaw(self) -> None:
        for tensor in self.__dict__.pop("_frozen", []):
            tensor.requires_grad = True

    # -- State in and out ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """The values of all parameters and state by name, as read-only arrays.

        Raises:
            StateError: a module was never called, so its parameters are not there yet.
        """
        named = dict(self.named_state())
        ENGINE.evaluate([tensor.node for tensor in named.values()])
        return {name: read(tensor) for name, tensor in named.items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Mismatches:
        """Point all parameters and state at saved values, cast to the dtypes they have.

        Args:
            state: arrays or tensors by name.
            strict: refuse, and change nothing, unless all names and shapes agree; False loads those that do.

        Returns:
            What did not fit.

        Raises:
            StateError: names or shapes differ, or a module was never called.
        """
        named = dict(self.named_state())
        found = Mismatches([n for n in named if n not in state], [n for n in state if n not in named], {})
        fitting: list[tuple[Tensor, Tensor]] = []
        for name, tensor in named.items():
            if name in state:
                value = to_tensor(state[name])
                if value.shape == tensor.shape:
                    fitting.append((tensor, to_tensor(value, tensor.dtype)))
                else:
                    found.wrong[name] = f"{value.type} for {tensor.type}"
        if strict and found:
            raise _located(_misfit(type(self).__name__, found, bool(fitting)))
        ENGINE.evaluate([value.node for _, value in fitting])
        with using(grad=False):
            for tensor, value in fitting:
                tensor.assign(value)
        return found

    def to_policy(self, parameter: DType | str, compute: DType | str | None = None) -> Self:
        """Keep parameters and float state in one dtype and compute in another; returns the module.

        Call it before an optimiser is built: its state has the dtypes that parameters had then.

        Raises:
            DTypeError: one of them is no float.
        """
        policy = policy_of(parameter, compute)
        with using(grad=False):
            for _, tensor in self._tensors():
                if tensor.dtype.is_float and tensor.dtype is not policy[0]:
                    tensor.grad = None
                    rebind(tensor, cast(tensor, policy[0]).node)
        for module in self.modules():
            module._policy = policy
        return self

    def summary(self) -> None:
        """Print a table of the modules inside (path, type, output shape, parameters, trainable) and totals."""
        print_summary(self)


def _walk(root: Module, deep: bool = True) -> Iterator[tuple[str, Any]]:
    """Modules and tensors inside `root`, itself included, by name, each once; only its own unless `deep`."""
    seen = {id(root)}
    yield "", root
    stack = [("", iter(list(vars(root).items())))]
    while stack:
        prefix, items = stack[-1]
        for key, value in items:
            if isinstance(value, Tensor | Module | list | tuple | dict) and id(value) not in seen:
                if not prefix and key in _INTERNAL:
                    continue
                seen.add(id(value))
                name = f"{prefix}{key}"
                if isinstance(value, Tensor | Module):
                    yield name, value
                inside = _items(value, deep)
                if inside:
                    stack.append((f"{name}.", iter(inside)))
                    break
        else:
            stack.pop()


def _items(value: Any, deep: bool) -> list[tuple[Any, Any]]:
    """What is inside a module or a container, with its names."""
    if isinstance(value, Module):
        return [pair for pair in vars(value).items() if pair[0] not in _INTERNAL] if deep else []
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _argument(value: Any, compute: DType) -> Any:
    """An argument of a call: arrays as tensors, floats in the compute dtype, everything else as it is."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, list | tuple | dict):
        return tree.map(lambda leaf: _argument(leaf, compute), value)
    if not isinstance(value, Tensor):
        if isinstance(value, np.generic) or not hasattr(value, "__array__"):
            return value
        value = to_tensor(value)
    return cast(value, compute) if value.dtype.is_float and value.dtype is not compute else value


def called_with(args: tuple[Any, ...]) -> Called:
    """The container of the arguments of a call, and the types of those that are tensors."""
    leaves, structure = tree.flatten(args)
    return structure, tuple(leaf.node.type if isinstance(leaf, Tensor) else None for leaf in leaves)


def _types(out: Any) -> Any:
    """The types of the results, in a tuple."""
    return tuple(leaf.node.type for leaf in tree.flatten(out)[0] if isinstance(leaf, Tensor))


def _position_of_training(forward: Callable[..., Any]) -> int | None:
    """The number of positional arguments before `training`; None where forward takes none."""
    names = list(inspect.signature(forward).parameters)
    return names.index("training") - 1 if "training" in names else None


def _misfit(where: str, found: Mismatches, some: bool) -> StateError:
    parts = []
    if found.missing:
        parts.append(f"missing: {_few(found.missing)}")
    if found.unexpected:
        parts.append(f"unexpected: {_few(found.unexpected)}")
    if found.wrong:
        parts.append("of another shape: " + _few([f"{name} ({text})" for name, text in found.wrong.items()]))
    counts = f"{len(found.missing)} missing, {len(found.unexpected)} unexpected, {len(found.wrong)} of another shape"
    return StateError(where, f"the saved state does not fit, nothing was loaded: {counts}", got="; ".join(parts),
                      fix="load_state_dict(state, strict=False) loads what fits" if some else "")  # fmt: skip


def _few(names: list[str]) -> str:
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest} more" if rest > 0 else "")


def _located(error: TrineError) -> TrineError:
    return error.locate(Site(*user_site()))
