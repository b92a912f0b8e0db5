"""`save`: a model as one file, with what predicts, what trains, and all numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trine import metrics, tree
from trine.context import using
from trine.engine import ENGINE
from trine.errors import CaptureError, Site, StateError
from trine.files import codec
from trine.files.container import Entry, Signature, Stored, write_stored
from trine.files.signature import signature
from trine.nn.policy import current_policy
from trine.ops.base import user_site
from trine.shapes import Dim, Size
from trine.tensor.random import streams
from trine.tensor.tensor import Tensor, read, to_tensor
from trine.tensor.trace import Spec, TracedGraph

if TYPE_CHECKING:
    from trine.nn.module import Module

BATCH: Final = Dim.symbol("batch")
_WEIGHTS_ONLY: Final = "trine.save_weights(path, model.state_dict()) keeps the weights without the graph"


def save(model: Module | TracedGraph, path: str | Path, inputs: Any = None) -> None:
    """Write a model as a `.trine` file that `trine.load` opens without the model's class, whole or not at all.

    The file holds the model's call as a graph, in inference and, where that differs, in training mode; after `fit` also
    its whole training step and its test step, with the optimiser's state; and all parameters and state. The first axis
    of the inputs is open: the graphs take any number of samples.

    Args:
        model: a module that was called, or the graph that `trine.trace` returned, which comes back as a model that
            predicts.
        path: the file; one that is there is replaced.
        inputs: the arguments of a call: `trine.spec`, a tensor or an array, whose type counts, or a container of them;
            several arguments in a tuple. After `fit`, the types of the last batch unless given. A number as the first
            size keeps it fixed.

    Raises:
        StateError: the model was never called, or not fitted and no `inputs` are given.
        CaptureError: the Python of the model needs a value, so that no graph stands for it.
        FileAccessError: the directory does not exist or cannot be written, or the disk is full.

    Example:
        >>> import tempfile, trine
        >>> from pathlib import Path
        >>> from trine import nn
        >>> path = Path(tempfile.mkdtemp()) / "model.trine"
        >>> model = nn.Sequential([nn.Dense(3)])
        >>> x = trine.ones((2, 5))
        >>> y = model(x)
        >>> trine.save(model, path, inputs=x)
        >>> bool((trine.load(path)(x) == y).all())
        True
    """
    if isinstance(model, TracedGraph):
        write_stored(path, _graph(model))
        return
    call = _arguments(model, inputs)
    if inputs is not None and not all(module.built for module in model.modules()):
        model.build_for(*call)
    handles = _handles(model)
    with _unchanged(model), _weights_only():
        signatures = _forward(model, call, handles)
        if _fitted(model):
            signatures |= _steps(model, call, handles)
    used = {name for part in signatures.values() for name in (*part.reads, *part.writes)}
    named = dict(model.named_state())
    kept = {n: (h, _kind(n, h, n in named)) for n, h in handles.items() if n in used or n in named or _is_optimizer(n)}
    ENGINE.evaluate([handle.node for handle, _ in kept.values()])
    state = {name: Entry(read(handle), kind) for name, (handle, kind) in kept.items()}
    write_stored(path, Stored(signatures, state, _config(model)))


# -- What is saved -----------------------------------------------------------------------------------------------------


def _fitted(model: Module) -> bool:
    training = model._training
    return training is not None and training.signature is not None and bool(training.optimizer.parameters)


def _handles(model: Module) -> dict[str, Tensor]:
    """All state that the model's functions may touch, by name."""
    if model._training is not None and model._training.optimizer.parameters:
        return model.run_state()
    loose = {f"random.{name}": stream.state for name, stream in streams().items()}
    return dict(model.named_state()) | loose | getattr(model, "own_state", {})


def _kind(name: str, handle: Tensor, inside: bool) -> str:
    """The kind of state: see `trine.files.container.Entry`."""
    if inside:
        return "parameter" if handle._requires else "state"
    if _is_optimizer(name):
        return "optimizer"
    return "random" if name.startswith("random.") else "hidden"


def _is_optimizer(name: str) -> bool:
    return name.startswith("optimizer.")


def _config(model: Module) -> dict[str, Any]:
    """What is kept beside graphs and numbers: names for messages and summaries, the dtype policy, metrics."""
    policy = model._policy or current_policy()
    measured = model._training.metrics if model._training is not None else {}
    return {
        "class": model.describe(),
        "modules": {name: module.describe() for name, module in model.named_modules() if name},
        "policy": [dtype.name for dtype in policy],
        "metrics": {name: config for name, metric in measured.items() if (config := _metric(metric)) is not None},
    }


def _graph(traced: TracedGraph) -> Stored:
    """A graph alone: its weights are constants."""
    floats = [kind.dtype.name for kind in traced.inputs if kind.dtype.is_float]
    only = Signature(traced.graph, traced.inputs_structure, traced.outputs_structure, {}, (), ())
    config = {"class": "graph", "modules": {}, "policy": [(floats or ["float32"])[0]] * 2, "metrics": {}}
    return Stored({"predict": only}, {}, config)


def _metric(metric: Any) -> dict[str, Any] | None:
    """The name and options of a metric that makes more of its sums than their quotient."""
    if type(metric).result is metrics.Metric.result:
        return None
    config: dict[str, Any] = metric.config()
    return config


# -- The types of the arguments ----------------------------------------------------------------------------------------


def _arguments(model: Module, inputs: Any) -> tuple[Any, ...]:
    """The arguments of a call as specs whose batch is open."""
    if inputs is not None:
        given = inputs if isinstance(inputs, tuple) else (inputs,)
    elif model._training is not None and model._training.signature is not None:
        given = model._training.signature[:1]
    else:
        return _known(model)
    tensors = tree.map(lambda leaf: leaf if isinstance(leaf, Spec) else to_tensor(leaf), given)
    return _open(tensors, "x", _leading(tensors), BATCH)  # type: ignore[no-any-return]  # a tuple comes back


def _known(model: Module) -> tuple[Any, ...]:
    """The types of the arguments of a model that says them itself: one from a file, or one made from Inputs."""
    known = getattr(model, "input_specs", None)
    specs = None if known is None else known()
    if specs is not None:
        return specs  # type: ignore[no-any-return]  # a tuple of specs
    plan = getattr(model, "_plan", None)
    if plan is None:
        raise StateError("save", f"the types of the inputs of {type(model).__name__} are not known: fit was not called",
                         got="inputs=None", fix='trine.save(model, path, inputs=trine.spec(("batch", 784)))').locate(
            Site(*user_site()))  # fmt: skip
    container: tree.Structure = model._inputs  # type: ignore[attr-defined]  # what has a plan has them
    return (tree.unflatten(container, [Spec(kind.shape, kind.dtype, "x") for kind in plan.specs]),)


def _leading(value: Any) -> Size | None:
    """The size of the first axis of the first leaf that has one."""
    return next((leaf.shape[0] for leaf in tree.flatten(value)[0] if leaf.shape), None)


def _open(value: Any, name: str, size: Size | None, batch: Size) -> Any:
    """Specs for the tensors in a container: a first axis of `size` becomes `batch`; specs stay."""

    def spec(leaf: Any) -> Spec:
        if isinstance(leaf, Spec):
            return leaf if leaf.name else replace(leaf, name=name)
        shape = (batch, *leaf.shape[1:]) if leaf.shape and leaf.shape[0] == size else leaf.shape
        return Spec(shape, leaf.dtype, name)

    return tree.map(spec, value)


# -- Signatures --------------------------------------------------------------------------------------------------------


def _forward(model: Module, call: tuple[Any, ...], handles: dict[str, Tensor]) -> dict[str, Signature]:
    """The call in inference, and in training mode where that is another graph."""
    with using(training=False, grad=True):
        predict = signature(model, call, handles)
    with using(training=True, grad=True):
        training = signature(model, call, handles)
    encoder = codec.Encoder()  # in the tables of one, equal graphs are equal values
    same = predict.writes == training.writes and encoder.graph(predict.graph) == encoder.graph(training.graph)
    return {"predict": predict} if same else {"predict": predict, "call_training": training}


def _steps(model: Module, call: tuple[Any, ...], handles: dict[str, Tensor]) -> dict[str, Signature]:
    """The training step and, where there is one, the test step."""
    assert model._training is not None  # it was fitted
    given: Any = model._training.signature
    size, batch = _leading(given[0]), _leading(call)
    specs = tuple(None if part is None else _open(part, label, size, BATCH if batch is None else batch)
                  for part, label in zip(given, ("x", "y", "sample_weight"), strict=False))  # fmt: skip
    with using(training=True, grad=True):
        found = {"train": signature(model.train_step, specs, handles, gradients=False)}
    try:
        with using(training=False, grad=False):
            found["test"] = signature(model.test_step, specs, handles, gradients=False)
    except StateError:  # a training step of the user's own needs no loss, a test step does
        pass
    return found


@contextmanager
def _unchanged(model: Module) -> Iterator[None]:
    """A block after which modules have the types of results that they had before."""
    before = [(module, module._types) for module in model.modules()]
    try:
        yield
    finally:
        for module, types in before:
            module.__dict__["_types"] = types


@contextmanager
def _weights_only() -> Iterator[None]:
    """A block whose capture errors say what else can be done."""
    try:
        yield
    except CaptureError as error:
        error.fix = f"{error.fix}; {_WEIGHTS_ONLY}" if error.fix else _WEIGHTS_ONLY
        raise
