"""The base of optimisers: parameters, their state, and a step that is committed as a whole.

A subclass says which state a parameter has (`slots`) and how a parameter moves (`update`), a pure function of tensors.
Numbers that a user may change between steps are tensors: a captured step reads them at every call.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, Self

import numpy as np

from trine import dtypes
from trine.context import CURRENT, using
from trine.dtypes import DType
from trine.engine import ENGINE
from trine.errors import ArgumentError, DTypeError, NameLookupError, ShapeError, Site, StateError, nearest
from trine.ir.graph import Node
from trine.ops.base import user_site
from trine.ops.elementwise import add, cast, multiply, subtract
from trine.optim.clipping import clip_by_global_norm, clip_by_norm, clip_by_value
from trine.optim.schedules import Schedule
from trine.tensor.journal import commit
from trine.tensor.tensor import Tensor, constant, leaf, read, to_tensor

Parameters = Mapping[str, Tensor] | Iterable[Tensor]
LearningRate = float | Tensor | Callable[[Any], Any]

_CLIPS: Final = {"clipnorm": clip_by_norm, "clipvalue": clip_by_value, "global_clipnorm": clip_by_global_norm}
_ELSEWHERE: Final = {"lr": "learning_rate", "betas": "beta_1 and beta_2", "eps": "epsilon"}  # names in PyTorch
_SHARED: Final = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "exclude_from_weight_decay")


class Optimizer:
    """Moves parameters along their gradients.

    Made from a learning rate and built later (by `fit`, or `build`), or from parameters: `Adam(0.001)`,
    `Adam(model.parameters(), 0.001)`.

    Args:
        parameters: a dict from names to tensors, or an iterable of tensors; a number or schedule here is the learning
            rate.
        learning_rate: a number, or a function from the number of finished steps (a scalar tensor) to a scalar tensor.
        weight_decay: before each step a parameter is made smaller by this share times the learning rate.
        clipnorm: the largest norm of each gradient.
        clipvalue: the largest size of each element of the gradients.
        global_clipnorm: the largest norm of all gradients together; at most one of the three is given.
        exclude_from_weight_decay: parts of names; parameters whose name contains one are not decayed.

    Attributes:
        parameters: the parameters by name; those given without names are called "0", "1", ...
        state: the state of each parameter: a tensor per slot, by the parameter's name.
        iterations: the number of finished steps, an int64 scalar.
    """

    default_learning_rate: ClassVar[float] = 0.001
    default_weight_decay: ClassVar[float | None] = None
    own_options: ClassVar[tuple[str, ...]] = ()  # names of the constructor's arguments beside the shared ones

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Refuse arguments that the optimiser does not have, by their names."""
        known = [*inspect.signature(cls.__init__).parameters, *cls.own_options, *_SHARED]
        for name in options:
            if name not in known:
                fix = _ELSEWHERE.get(name) or nearest(name, known)
                raise DTypeError(cls.__name__, f"no argument is called {name!r}", got=f"{name}={options[name]!r:.40}",
                                 fix=fix).locate(Site(*user_site()))  # fmt: skip
        return super().__new__(cls)

    def __init__(
        self,
        parameters: Parameters | LearningRate | None = None,
        learning_rate: LearningRate | None = None,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        exclude_from_weight_decay: Sequence[str] = (),
    ) -> None:
        """Keep the options; with parameters, make their state."""
        self.weight_decay = self.default_weight_decay if weight_decay is None else weight_decay
        self.clipnorm = clipnorm
        self.clipvalue = clipvalue
        self.global_clipnorm = global_clipnorm
        self.exclude_from_weight_decay = tuple(exclude_from_weight_decay)
        given = {name: getattr(self, name) for name in _CLIPS if getattr(self, name) is not None}
        if len(given) > 1 or any(not limit > 0 for limit in given.values()):
            raise self._wrong("at most one of clipnorm, clipvalue and global_clipnorm is given, and above 0",
                              ", ".join(f"{k}={v!r}" for k, v in given.items()))  # fmt: skip
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise self._wrong("weight_decay is at least 0", f"weight_decay={self.weight_decay!r}")
        if _is_rate(parameters):
            if learning_rate is not None:
                raise self._wrong("the first argument is a learning rate, and there is a second one",
                                  f"{parameters!r:.40}, {learning_rate!r:.40}", "name all other arguments")  # fmt: skip
            parameters, learning_rate = None, parameters
        rate = self.default_learning_rate if learning_rate is None else learning_rate
        self._schedule = rate if callable(rate) else None
        with using(capture=None, journal=None, grad=False):
            self.iterations = Tensor(constant(np.zeros((), np.int64)))
            start = 0.0 if self._schedule is not None else self._checked_rate(rate)
            self._rate = Tensor(constant(np.array(start, np.float32)))
        self.parameters: dict[str, Tensor] = {}
        self.state: dict[str, dict[str, Tensor]] = {}
        if parameters is not None:
            self.build(parameters)  # type: ignore[arg-type]  # a rate was moved away above

    # -- What it consists of -------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name that `trine.optim.get` knows."""
        return type(self).__name__.lower()

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the state tensors of a parameter."""
        return ()

    @property
    def learning_rate(self) -> Tensor:
        """The learning rate of the next step, a float32 scalar; a number may be assigned between steps.

        Raises:
            StateError: assigned where a schedule decides.
            ArgumentError: a number below 0 or not finite.
        """
        return self._rate if self._schedule is None else self._scheduled()

    @learning_rate.setter
    def learning_rate(self, value: float | Tensor) -> None:
        if self._schedule is not None:
            raise StateError(f"{type(self).__name__}.learning_rate", "a schedule sets the learning rate",
                             got=f"{self._schedule!r:.160}", fix=f"a new optimizer: {type(self).__name__}(0.001)"
                             ).locate(Site(*user_site()))  # fmt: skip
        with using(grad=False):
            new = value if isinstance(value, Tensor) else to_tensor(self._checked_rate(value))
            self._rate.assign(cast(new, dtypes.float32))

    def __setattr__(self, name: str, value: Any) -> None:
        """Options stay what they were: a captured step holds them.

        Raises:
            StateError: an option is set for a second time.
        """
        if name in (*_SHARED, *self.own_options) and name in self.__dict__:
            raise StateError(f"{type(self).__name__}.{name}", "options are fixed once the optimizer is made",
                             got=f"{name} = {value!r:.40}", fix=f"a new optimizer: {type(self).__name__}({name}=...); "
                             "only learning_rate changes between steps").locate(Site(*user_site()))  # fmt: skip
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """The call that makes one like it."""
        parts = [f"{k}={v!r}" for k, v in self.config().items() if k != "name"]
        return f"{type(self).__name__}({', '.join(parts)})"

    def config(self) -> dict[str, Any]:
        """What `trine.optim.get` rebuilds it from, as JSON values: the name, the learning rate now, the options.

        Raises:
            StateError: the schedule is a function that no name stands for.
        """
        rate: Any
        if self._schedule is None:
            rate = float(str(np.float32(self._rate.item())))
        elif isinstance(self._schedule, Schedule):
            rate = self._schedule.config()
        else:
            raise StateError(f"{type(self).__name__}.config", "a function as a schedule cannot be written down",
                             got=f"{self._schedule!r:.80}", fix="a schedule of trine.optim").locate(
                Site(*user_site()))  # fmt: skip
        options = {name: getattr(self, name) for name in (*self.own_options, *_SHARED)}
        return {"name": self.name, "learning_rate": rate} | {
            k: list(v) if isinstance(v, tuple) else v for k, v in options.items()
        }

    # -- Parameters and state ------------------------------------------------------------------------------------------

    def build(self, parameters: Parameters) -> None:
        """Take over the parameters and make their state; those it has already keep theirs, and may be frozen by now.

        Raises:
            ArgumentError: no parameters, or a new one that is not a leaf that wants gradients.
            DTypeError: something that is no tensor.
        """
        named = self._named(parameters)
        known = {id(p): self.state[name] for name, p in self.parameters.items()}
        state = {}
        with using(capture=None, journal=None, grad=False):
            for name, p in named.items():
                old = known.get(id(p))
                state[name] = old if old is not None else {slot: self._zeros(p) for slot in self.slots}
        self.parameters, self.state = named, state

    def _zeros(self, p: Tensor) -> Tensor:
        return Tensor(constant(np.zeros(p.shape, p.dtype.accumulator.numpy)))

    def _named(self, parameters: Parameters) -> dict[str, Tensor]:
        given: Any = parameters
        if hasattr(given, "parameters"):
            raise DTypeError(type(self).__name__, f"takes the parameters of a model, not the {type(given).__name__}",
                             got=f"{given!r:.60}", fix=f"{type(self).__name__}(model.parameters())").locate(
                Site(*user_site()))  # fmt: skip
        if isinstance(given, Tensor | str) or not isinstance(given, Iterable):
            one = isinstance(given, Tensor)
            fix = f"{type(self).__name__}([x])" if one else f"{type(self).__name__}(model.parameters())"
            raise DTypeError(type(self).__name__, "the first argument is a learning rate or a collection of "
                             f"parameters, not a {type(given).__name__}", got=f"{given!r:.60}", fix=fix).locate(
                Site(*user_site()))  # fmt: skip
        pairs = list(parameters.items()) if isinstance(parameters, Mapping) else [
            (str(i), p) for i, p in enumerate(parameters)]  # fmt: skip
        named: dict[str, Tensor] = {}
        seen: set[int] = set()
        known = {id(p) for p in self.parameters.values()}
        for name, p in pairs:
            if not isinstance(p, Tensor):
                raise DTypeError(type(self).__name__, f"parameter {name} is a {type(p).__name__}, not a tensor",
                                 got=f"{p!r:.60}").locate(Site(*user_site()))  # fmt: skip
            if not (p.is_leaf and p.requires_grad) and id(p) not in known:
                raise self._wrong(f"parameter {name} is not a leaf that wants gradients", str(p.type),
                                  "the tensor itself, made by trine.asarray(..., requires_grad=True)")  # fmt: skip
            if id(p) not in seen:  # a tied parameter moves once
                named[name] = p
                seen.add(id(p))
        if not named:
            raise self._wrong("there are no parameters", "0 tensors",
                              "trainable = True where a model was frozen")  # fmt: skip
        return named

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All its numbers as read-only arrays: "iterations", "learning_rate", and "slot.parameter" for each state."""
        handles = self._handles()
        ENGINE.evaluate([handle.node for handle in handles.values()])
        return {name: read(handle) for name, handle in handles.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, all of it or, on an error, nothing.

        Raises:
            NameLookupError: a name is missing or unknown.
            ShapeError: an array of another shape.
        """
        where = f"{type(self).__name__}.load_state_dict"
        handles = self._handles()
        missing, unknown = handles.keys() - state.keys(), state.keys() - handles.keys()
        if missing or unknown:
            raise NameLookupError(where, f"{len(missing)} names are missing and {len(unknown)} unknown",
                                  got=f"missing: {_some(missing)}; unknown: {_some(unknown)}",
                                  fix="" if self.parameters else "build the optimizer first: "
                                  f"{type(self).__name__}(model.parameters())").locate(
                Site(*user_site()))  # fmt: skip
        bindings = []
        for name, handle in handles.items():
            array = np.array(state[name], dtype=handle.dtype.numpy)
            if array.shape != handle.shape:
                raise ShapeError(where, f"{name} has the shape {list(handle.shape)}, not {list(array.shape)}",
                                 got=f"{list(array.shape)}").locate(Site(*user_site()))  # fmt: skip
            bindings.append((handle, constant(array)))
        commit(bindings)

    def named_state(self) -> Iterator[tuple[str, Tensor]]:
        """The handles that a step changes beside the parameters, and the learning rate, named as in `state_dict`."""
        return iter(self._handles().items())

    def _handles(self) -> dict[str, Tensor]:
        handles = {"iterations": self.iterations}
        if self._schedule is None:
            handles["learning_rate"] = self._rate
        for slot in self.slots:
            for name, state in self.state.items():
                handles[f"{slot}.{name}"] = state[slot]
        return handles

    # -- The step ------------------------------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Take the gradients away."""
        for p in self.parameters.values():
            if p._grad is not None:
                p.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient, once; parameters without one, and their state, stay.

        All new values are computed before any handle points at one, and then all of them change together: an error or
        a Ctrl-C leaves the old values or the new ones. Inside a captured step nothing is computed yet.

        Raises:
            StateError: there are no parameters, or none of them has a gradient.
            TrineError: what computing the gradients raises.
        """
        with using(grad=False):
            gradients = self._gradients()
            new = list(self._updates(gradients))
            if CURRENT.get().capture is None:
                ENGINE.evaluate([node for _, node in new])
            commit([(handle, leaf(node, handle) if handle.requires_grad else node) for handle, node in new])

    def _gradients(self) -> dict[str, Tensor]:
        where = f"{type(self).__name__}.step"
        if not self.parameters:
            raise StateError(where, "has no parameters", got="0 tensors",
                             fix=f"{type(self).__name__}(model.parameters()), or build(model.parameters())").locate(
                Site(*user_site()))  # fmt: skip
        found = {}
        for name, p in self.parameters.items():
            gradient = p.grad
            if gradient is not None:
                found[name] = gradient
        if not found:
            raise StateError(where, "no parameter has a gradient",
                             got=f"{len(self.parameters)} parameters, .grad of all is None",
                             fix="loss.backward() before step(), and zero_grad() after it").locate(
                Site(*user_site()))  # fmt: skip
        for option, clipped in _CLIPS.items():
            limit = getattr(self, option)
            if limit is not None:
                return dict(zip(found, clipped(list(found.values()), limit), strict=True))
        return found

    def _updates(self, gradients: dict[str, Tensor]) -> Iterator[tuple[Tensor, Node]]:
        """Each handle that changes, with its new node."""
        rate = self.learning_rate
        finished = add(self.iterations, 1)
        numbers: dict[DType, tuple[Tensor, Sequence[Tensor]]] = {}
        for name, gradient in gradients.items():
            p = self.parameters[name]
            dtype = p.dtype.accumulator
            if dtype not in numbers:
                own = cast(rate, dtype)
                numbers[dtype] = own, self.scalars(own, cast(finished, dtype))
            own, scalars = numbers[dtype]
            x = cast(p, dtype)
            if self.weight_decay and not any(part in name for part in self.exclude_from_weight_decay):
                x = subtract(x, multiply(x, multiply(own, self.weight_decay)))
            state = self.state[name]
            new, new_state = self.update(x, cast(gradient, dtype), scalars, state)
            yield p, cast(new, p.dtype).node
            for slot, value in new_state.items():
                yield state[slot], value.node
        yield self.iterations, finished.node

    def scalars(self, rate: Tensor, step: Tensor) -> Sequence[Tensor]:
        """The numbers that all updates of one step share, from the learning rate and the step's number (1, 2, ...)."""
        return (rate,)

    def update(
        self, x: Tensor, g: Tensor, scalars: Sequence[Tensor], state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The new value of a parameter and of its state, from its value, its gradient and its state: no side effects.

        All are of the parameter's shape, in its dtype (float32 for half types).
        """
        raise NotImplementedError

    # -- Checks --------------------------------------------------------------------------------------------------------

    def _scheduled(self) -> Tensor:
        assert self._schedule is not None
        with using(grad=False):
            rate = self._schedule(self.iterations)
        if not isinstance(rate, Tensor) or rate.ndim:
            raise DTypeError(f"{type(self).__name__}.learning_rate", "a schedule returns a scalar tensor",
                             got=f"{rate!r:.60}", fix="compute with the step that it is given").locate(
                Site(*user_site()))  # fmt: skip
        return cast(rate, dtypes.float32)

    def _checked_rate(self, rate: Any) -> float:
        try:
            number = float(rate)
        except (TypeError, ValueError):
            raise DTypeError(type(self).__name__, "the learning rate is a number or a schedule", got=f"{rate!r:.60}",
                             fix=f"{type(self).__name__}(learning_rate=0.001)").locate(
                Site(*user_site())) from None  # fmt: skip
        if not (number >= 0 and math.isfinite(number)):
            fix = f"{-number!r}: a step goes against the gradient" if -math.inf < number < 0 else ""
            raise self._wrong("the learning rate is finite and at least 0", f"learning_rate={number!r}", fix)
        return number

    def _wrong(self, rule: str, got: str, fix: str = "") -> Exception:
        return ArgumentError(type(self).__name__, rule, got=got, fix=fix).locate(Site(*user_site()))

    def _fraction(self, **numbers: float) -> None:
        """Check that numbers are from 0 to below 1."""
        for label, number in numbers.items():
            if not 0 <= number < 1:
                raise self._wrong(f"{label} is at least 0 and below 1", f"{label}={number!r}")


def _is_rate(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.ndim
    return isinstance(value, int | float) or (callable(value) and not hasattr(value, "parameters"))


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "") if listed else "none"
