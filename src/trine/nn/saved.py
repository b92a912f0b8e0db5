"""Models in files: `save`, `load`, and the model that comes back without its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from trine import dtypes, metrics, tree
from trine.context import using
from trine.engine import ENGINE
from trine.errors import (
    ArgumentError,
    DTypeError,
    FileFormatError,
    NameLookupError,
    ShapeError,
    Site,
    StateError,
    TrineError,
)
from trine.files.container import Signature, Stored, read_stored
from trine.nn.module import Module
from trine.nn.policy import policy_of
from trine.nn.saving import save
from trine.ops.base import user_site
from trine.ops.elementwise import cast
from trine.ops.inline import inline
from trine.tensor.compile import compile
from trine.tensor.tensor import Tensor, constant, read, rebind, to_tensor
from trine.tensor.trace import Spec

__all__ = ["LoadedModel", "SavedOptimizer", "load", "save"]


def load(path: str | Path) -> LoadedModel:
    """The model in a `.trine` file: it predicts, and where it was fitted before it fits on, without the model's class.

    Raises:
        FileAccessError: there is no such file, or it cannot be read.
        FileFormatError: it is cut short, damaged, foreign, or of a newer format than this release knows.

    Example:
        >>> import tempfile, trine
        >>> from pathlib import Path
        >>> from trine import nn
        >>> path = Path(tempfile.mkdtemp()) / "model.trine"
        >>> model = nn.Sequential([nn.Dense(1)]).compile("adam", "mse")
        >>> x, y = trine.ones((4, 2)), trine.zeros((4, 1))
        >>> history = model.fit(x, y, verbose=0)
        >>> trine.save(model, path)
        >>> loaded = trine.load(path)
        >>> history = loaded.fit(x, y, epochs=2, initial_epoch=1, verbose=0)
        >>> [name for name, _ in loaded.named_parameters()]
        ['layers.0.kernel', 'layers.0.bias']
    """
    stored = read_stored(path)
    try:
        return LoadedModel(stored)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        rule = f"{path}: the metadata do not describe a model"
        raise FileFormatError("load", rule, got=f"{type(error).__name__}: {error}"[:200]).locate(
            Site(*user_site())) from None  # fmt: skip


# -- The model ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Held:
    """What a loaded model has beside its parts; in one object, in which nobody looks for parameters.

    Attributes:
        signatures: by name.
        handles: all state by name.
        own: names of random streams and of state that no attribute held.
        name: what messages call the model.
    """

    signatures: Mapping[str, Signature]
    handles: Mapping[str, Tensor]
    own: tuple[str, ...]
    name: str


class LoadedPart(Module):
    """What was a module inside a saved model: a place for its parameters and state, which cannot be called."""

    _label = "module"

    def describe(self) -> str:
        """The class and main number of the module that was saved."""
        return self._label


class LoadedModel(Module):
    """A model over the graphs in a file, made by `trine.load`; its parameters have the names that they had before.

    Until `compile` is called, `fit` and `evaluate` run the steps that were saved, with the loss, the optimiser and the
    state that it had; afterwards they go through `forward` as for any module. Dropout and other random layers have
    streams of their own, which go on where they were saved; what was frozen stays so.
    """

    _held: _Held

    def __init__(self, stored: Stored) -> None:
        """Make the handles and put those of the model at their attribute paths."""
        self._policy = policy_of(*stored.config["policy"])
        handles = {name: _handle(entry.value, entry.kind == "parameter") for name, entry in stored.state.items()}
        kinds = {name: entry.kind for name, entry in stored.state.items()}
        own = tuple(name for name, kind in kinds.items() if kind in ("random", "hidden"))
        self._held = _Held(stored.signatures, handles, own, str(stored.config["class"]))
        for name, label in stored.config["modules"].items():
            part = LoadedPart()
            part._label = str(label)
            _place(self, name, part)
        for name, kind in kinds.items():
            if kind in ("parameter", "state"):
                _place(self, name, handles[name])
        self._types = tuple(node.type for node in stored.signatures["predict"].graph.outputs)
        if "train" in stored.signatures:
            measured = {name: metrics.get(config) for name, config in stored.config["metrics"].items()}
            optimizer = SavedOptimizer({n: handles[n] for n, kind in kinds.items() if kind == "optimizer"})
            training = SavedTraining(optimizer, measured, _specs(stored.signatures["train"]))
            object.__setattr__(self, "_training", training)
            object.__setattr__(self, "optimizer", optimizer)

    def describe(self) -> str:
        """The class of the model that was saved."""
        return self._held.name

    @property
    def own_state(self) -> dict[str, Tensor]:
        """Random streams and other state that the graphs read and no attribute holds, by name."""
        return {name: self._held.handles[name] for name in self._held.own}

    def input_specs(self) -> tuple[Any, ...]:
        """The arguments of a call, as `trine.spec` describes them."""
        return _specs(self._held.signatures["predict"])

    def run_state(self) -> dict[str, Tensor]:
        """Every handle that a run changes, by name."""
        return Module.run_state(self) | self.own_state

    def forward(self, *args: Any, training: bool | None = None) -> Any:
        """The outputs for these inputs, nested as those of the model that was saved.

        Raises:
            ArgumentError: another number or nesting of arguments than when it was saved.
            ShapeError: a shape does not fit, or one open size would have two values.
            DTypeError: integers in place of floats, or the other way round.
        """
        signatures = self._held.signatures
        name = "call_training" if self.is_training(training) and "call_training" in signatures else "predict"
        return self._run(name, args)

    def _run(self, name: str, args: tuple[Any, ...]) -> Any:
        """Record a graph on arguments and on the state, re-bind what it re-binds, and return its results."""
        signature = self._held.signatures[name]
        given = _fitted(name, signature, args)
        state = [self._held.handles[part] for part in signature.reads]
        outputs = inline(signature.graph, [*given, *state], name)
        count = len(outputs) - len(signature.writes)
        with using(grad=False):
            for part, node in zip(signature.writes, outputs[count:], strict=True):
                rebind(self._held.handles[part], node)
        results: list[Any] = [Tensor(node) for node in outputs[:count]]
        for place in sorted(signature.fixed):
            results.insert(place, signature.fixed[place])
        return tree.unflatten(signature.results, results)

    def _stored_step(self, name: str, args: tuple[Any, ...]) -> Any:
        if name not in self._held.signatures:
            raise StateError(self.describe(), f"the file holds no {name} step", got=", ".join(self._held.signatures),
                             fix='model.compile(optimizer="adam", loss="mse")').locate(Site(*user_site()))  # fmt: skip
        with using(grad=False):
            return self._run(name, args)

    def train_step(self, x: Any, y: Any, sample_weight: Tensor | None = None) -> dict[str, Any]:
        """One step on one batch: the one that was saved, until `compile` chooses another."""
        if isinstance(self._training, SavedTraining):
            return self._stored_step("train", (x, y, sample_weight))
        return super().train_step(x, y, sample_weight)

    def test_step(self, x: Any, y: Any, sample_weight: Tensor | None = None) -> dict[str, Any]:
        """Loss and metrics on one batch: those that were saved, until `compile` chooses others."""
        if isinstance(self._training, SavedTraining):
            return self._stored_step("test", (x, y, sample_weight))
        return super().test_step(x, y, sample_weight)


def _handle(array: np.ndarray[Any, Any], parameter: bool) -> Tensor:
    made = Tensor(constant(array))
    if parameter:
        made.requires_grad = True
    return made


def _place(root: Module, name: str, part: Module | Tensor) -> None:
    """Put a part at an attribute path; what lies between and was no module becomes a dict."""
    where: Any = root
    *path, last = name.split(".")
    for key in path:
        inside = where if isinstance(where, dict) else vars(where)
        if key not in inside:
            _put(where, key, {})
        where = inside[key]
    _put(where, last, part)


def _put(where: Any, key: str, part: Any) -> None:
    if isinstance(where, dict):
        where[key] = part
    else:
        setattr(where, key, part)


# -- Running a stored graph --------------------------------------------------------------------------------------------


def _specs(signature: Signature) -> tuple[Any, ...]:
    count = len(signature.graph.inputs) - len(signature.reads)
    made = [Spec(n.shape, n.dtype, getattr(n.op, "label", "")) for n in signature.graph.inputs[:count]]
    return tree.unflatten(signature.arguments, made)  # type: ignore[no-any-return]  # a tuple comes back


def _fitted(where: str, signature: Signature, args: tuple[Any, ...]) -> list[Tensor]:
    """The tensors among the arguments, in the dtypes that the graph takes."""
    leaves, structure = tree.flatten(args)
    if _plain(structure) != _plain(signature.arguments):
        fix = "" if where in ("predict", "call_training") else "model.compile(...) makes new steps, for any arguments"
        rule = f"takes {_words(signature.arguments)}, as when the model was saved"
        _refuse(ArgumentError(where, rule, got=_words(structure), fix=fix))
    tensors = []
    for i, (leaf, hole) in enumerate(zip(leaves, signature.graph.inputs, strict=False)):
        x = leaf if isinstance(leaf, Tensor) else to_tensor(leaf)
        if x.dtype is not hole.dtype:
            if x.dtype.is_float != hole.dtype.is_float and not hole.dtype.is_float:
                _refuse(DTypeError(where, f"input {i} holds {hole.dtype.name}, not {x.dtype.name}", got=str(x.type),
                                   fix=f"x.astype(trine.{hole.dtype.name})"))  # fmt: skip
            x = cast(x, hole.dtype)
        tensors.append(x)
    return tensors


def _plain(structure: tree.Structure) -> Any:
    """A container where lists and tuples, and all kinds of dicts, are the same."""
    if structure.kind in (None, type(None)):
        return structure.kind
    return (structure.keys, tuple(_plain(child) for child in structure.children))


def _words(structure: tree.Structure) -> str:
    """A container in words: `(x, {a: x, b: x}, None)`."""
    if structure.kind is None:
        return "x"
    if structure.kind is type(None):
        return "None"
    parts = [_words(child) for child in structure.children]
    if structure.keys:
        return "{" + ", ".join(f"{key}: {part}" for key, part in zip(structure.keys, parts, strict=True)) + "}"
    return f"({', '.join(parts)})"


def _refuse(error: TrineError) -> NoReturn:
    raise error.locate(Site(*user_site()))


# -- Training on -------------------------------------------------------------------------------------------------------


class SavedOptimizer:
    """The state of an optimiser whose steps are part of a stored graph.

    Attributes:
        parameters: the names of what has state.
    """

    def __init__(self, handles: Mapping[str, Tensor]) -> None:
        """Keep the handles, named "optimizer.<name>"."""
        self._handles = {name.partition(".")[2]: handle for name, handle in handles.items()}
        self.parameters = tuple(self._handles)

    @property
    def learning_rate(self) -> Tensor:
        """The learning rate of the next step; a number may be assigned between steps.

        Raises:
            StateError: a schedule, which is part of the graph, decides.
        """
        if "learning_rate" not in self._handles:
            rule = "a schedule that is part of the stored step sets the learning rate"
            fix = 'model.compile(optimizer="adam", loss="mse") chooses another optimizer'
            _refuse(StateError("learning_rate", rule, fix=fix))
        return self._handles["learning_rate"]

    @learning_rate.setter
    def learning_rate(self, value: float | Tensor) -> None:
        with using(grad=False):
            self.learning_rate.assign(cast(to_tensor(value), dtypes.float32))

    @property
    def iterations(self) -> Tensor:
        """The number of finished steps."""
        return self._handles["iterations"]

    def named_state(self) -> Iterator[tuple[str, Tensor]]:
        """All its handles by name."""
        return iter(self._handles.items())

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """All its numbers as read-only arrays."""
        ENGINE.evaluate([handle.node for handle in self._handles.values()])
        return {name: read(handle) for name, handle in self._handles.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, all of it or, on an error, nothing.

        Raises:
            NameLookupError: a name is missing or unknown.
            ShapeError: an array of another shape.
        """
        if state.keys() != self._handles.keys():
            wrong = sorted(state.keys() ^ self._handles.keys())
            rule = f"{len(wrong)} names are missing or unknown"
            _refuse(NameLookupError("load_state_dict", rule, got=", ".join(wrong[:3])))
        new = {name: to_tensor(np.asarray(state[name]), handle.dtype) for name, handle in self._handles.items()}
        for name, value in new.items():
            if value.shape != self._handles[name].shape:
                _refuse(ShapeError("load_state_dict", f"{name} has the shape {list(self._handles[name].shape)}, not "
                                   f"{list(value.shape)}", got=str(value.type)))  # fmt: skip
        with using(grad=False):
            for name, value in new.items():
                self._handles[name].assign(value)


class SavedTraining:
    """What `fit` needs to run stored steps; a call of `compile` on the model replaces it."""

    loss = None
    objective = None
    run_eagerly = False

    def __init__(self, optimizer: SavedOptimizer, measured: Mapping[str, Any], signature: tuple[Any, ...]) -> None:
        """Keep the parts."""
        self.optimizer = optimizer
        self.metrics = dict(measured)
        self.signature: tuple[Any, ...] | None = signature
        self.steps: dict[str, Callable[..., Any]] = {}
        self.stop = False

    def step(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The captured form of a step, made once."""
        if name not in self.steps:
            self.steps[name] = compile(function)
        return self.steps[name]
