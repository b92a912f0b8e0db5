"""Every guard of a captured step fires: what changes between two calls is seen by the third."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import trine
from trine import nn
from trine.tensor.compile import Compiled
from trine.tensor.guards import ELEMENTS_WATCHED


def tensor(value: object, requires: bool = False) -> trine.Tensor:
    return trine.asarray(np.asarray(value, np.float32), requires_grad=requires)


ONE = tensor([1.0])


def settled(step: Compiled[Any, Any], *args: Any) -> float:
    """The value of a step after it was recorded, compared and replayed once."""
    for _ in range(3):
        found = step(*args)
    assert step.replayed >= 1
    return float(found.sum().item())


def again(step: Compiled[Any, Any], *args: Any) -> tuple[float, bool]:
    """The value of the next call, and whether its Python ran."""
    before = step.recorded
    found = step(*args)
    return float(found.sum().item()), step.recorded > before


# -- Arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((tensor([1, 2]),), (tensor([1, 2, 3]),)),
        ((tensor([1, 2]),), (tensor([[1, 2]]),)),
        ((tensor([1, 2]),), (trine.asarray([1, 2]),)),
        (([tensor([1]), tensor([2])],), ((tensor([1]), tensor([2])),)),
        (([tensor([1]), tensor([2])],), ([tensor([1]), tensor([2]), tensor([3])],)),
        (({"a": tensor([1]), "b": tensor([2])},), ({"a": tensor([1]), "c": tensor([2])},)),
        ((tensor([1]), 2), (tensor([1]), 3)),
        ((tensor([1]), None), (tensor([1]), 3)),
        ((tensor([1]),), (tensor([1], True),)),
    ],
    ids=["size", "rank", "dtype", "container", "length", "keys", "number", "none", "requires_grad"],
)
def test_other_arguments_record_anew(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    def total(*args: Any) -> trine.Tensor:
        out = ONE
        for leaf in _leaves(args):
            out = out + leaf
        return out

    step = trine.compile(total)
    settled(step, *first)
    _, recorded = again(step, *second)
    assert recorded
    assert not again(step, *first)[1], "the recording of the first kind is still there"


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in _leaves(part)]
    return [] if value is None else [value]


# -- Context -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [trine.no_grad, lambda: nn.training_mode(True), lambda: nn.dtype_policy("float32", "float16")],
    ids=["no_grad", "training", "policy"],
)
def test_another_context_records_anew(change: Callable[[], Any]) -> None:
    w = tensor([2.0], True)
    step = trine.compile(lambda x: x * w)
    settled(step, ONE)
    with change():
        assert again(step, ONE)[1]
    assert not again(step, ONE)[1]


# -- Modules -----------------------------------------------------------------------------------------------------------


class Scale(nn.Module):
    def __init__(self) -> None:
        self.factor = 2.0
        self.parts: list[Any] = [tensor([1.0])]
        self.table: dict[str, Any] = {"a": tensor([1.0])}

    def forward(self, x: trine.Tensor) -> trine.Tensor:
        y = x * self.factor
        for part in [*self.parts, *self.table.values()]:
            y = y * part
        return y


class Outer(nn.Module):
    def __init__(self) -> None:
        self.inner = Scale()

    def forward(self, x: trine.Tensor) -> trine.Tensor:
        return self.inner(x)


def _append(module: Any) -> None:
    module.parts.append(tensor([3.0]))


def _exchange(module: Any) -> None:
    module.parts[0] = tensor([3.0])


def _add_key(module: Any) -> None:
    module.table["b"] = tensor([3.0])


def _write(module: Any) -> None:
    module.factor = 6.0


def _replace(module: Any) -> None:
    module.parts = [tensor([3.0])]


@pytest.mark.parametrize("change", [_append, _exchange, _add_key, _write, _replace])
@pytest.mark.parametrize("nested", [False, True], ids=["called", "called inside"])
def test_a_module_that_changed_records_anew(change: Callable[[Any], None], nested: bool) -> None:
    model: Any = Outer() if nested else Scale()
    step = trine.compile(model)
    assert settled(step, ONE) == 2.0
    change(model.inner if nested else model)
    assert again(step, ONE) == (6.0, True)
    assert "Scale" in step.broken


def test_a_module_exchanged_in_another_one_records_anew() -> None:
    model = Outer()
    step = trine.compile(lambda x: model(x))
    assert settled(step, ONE) == 2.0
    model.inner = Scale()
    model.inner.factor = 5.0
    assert again(step, ONE) == (5.0, True)


def test_training_mode_of_a_module_records_anew() -> None:
    model = nn.Dropout(0.5)
    step = trine.compile(lambda x: model(x))
    model.eval()
    settled(step, tensor(np.ones(100)))
    model.train()
    value, recorded = again(step, tensor(np.ones(100)))
    assert recorded
    assert value != 100.0


def test_an_attribute_written_in_forward_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            self.calls = 0

        def forward(self, x: trine.Tensor) -> trine.Tensor:
            self.calls += 1
            return x * 2.0

    step = trine.compile(Counting())
    with pytest.raises(trine.errors.CaptureError, match="Counting was changed by the step itself"):
        for _ in range(4):
            step(ONE)


# -- Variables ---------------------------------------------------------------------------------------------------------


def test_a_closure_variable_that_is_rebound_records_anew() -> None:
    factor = 2.0

    def scale(x: trine.Tensor) -> trine.Tensor:
        return x * factor

    step = trine.compile(scale)
    assert settled(step, ONE) == 2.0
    factor = 3.0
    assert again(step, ONE) == (3.0, True)
    assert step.broken.startswith("the variable factor of ")


FACTOR: Any = 2.0
FACTORS: list[Any] = [2.0]
TABLE: dict[str, float] = {"factor": 2.0}


def _helper(x: trine.Tensor) -> trine.Tensor:
    return x * FACTOR


def test_a_global_that_is_rebound_records_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    step = trine.compile(lambda x: x * FACTOR)
    assert settled(step, ONE) == 2.0
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert again(step, ONE) == (3.0, True)
    assert step.broken == "the global FACTOR was re-bound"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: _helper(x),
        lambda x: (lambda y: y * FACTOR)(x),
        lambda x: sum([part * FACTOR for part in [x]], 0.0),
        partial(lambda k, x: _helper(x) * k, 1.0),
        trine.compile(lambda x: _helper(x)),
    ],
    ids=["function", "lambda inside", "comprehension", "partial", "compiled"],
)
def test_a_global_of_a_function_called_inside_counts(
    function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = trine.compile(lambda x: function(x))
    assert settled(step, ONE) == 2.0
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert again(step, ONE) == (3.0, True)


def test_a_global_of_a_differentiated_function_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    slope = trine.grad(lambda x: (x * FACTOR).sum())
    step = trine.compile(lambda x: slope(x))
    assert settled(step, ONE) == 2.0
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert again(step, ONE) == (3.0, True)


def test_lists_and_dicts_count_by_identity_length_and_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    def product(x: trine.Tensor) -> trine.Tensor:
        for factor in [*FACTORS, *TABLE.values()]:
            x = x * factor
        return x

    step = trine.compile(product)
    monkeypatch.setitem(globals(), "FACTORS", [2.0])
    monkeypatch.setitem(globals(), "TABLE", {"factor": 2.0})
    assert settled(step, ONE) == 4.0
    FACTORS.append(3.0)
    assert again(step, ONE) == (12.0, True)
    FACTORS[0] = 5.0
    assert again(step, ONE) == (30.0, True)
    TABLE["factor"] = 1.0
    assert again(step, ONE) == (15.0, True)
    monkeypatch.setitem(globals(), "FACTORS", [7.0])
    assert again(step, ONE) == (7.0, True)


def test_a_long_list_counts_by_length() -> None:
    values = [1.0] * (ELEMENTS_WATCHED + 1)
    step = trine.compile(lambda x: x * len(values))
    settled(step, ONE)
    values.append(1.0)
    assert again(step, ONE) == (len(values), True)


def test_defaults_that_change_record_anew() -> None:
    def scale(x: trine.Tensor, factor: float = 2.0, *, more: float = 1.0) -> trine.Tensor:
        return x * factor * more

    step = trine.compile(scale)
    assert settled(step, ONE) == 2.0
    scale.__defaults__ = (3.0,)
    assert again(step, ONE) == (3.0, True)
    assert "defaults" in step.broken
    scale.__kwdefaults__ = {"more": 4.0}
    assert again(step, ONE) == (12.0, True)


def test_a_list_in_a_default_counts() -> None:
    def scale(x: trine.Tensor, factors: list[float] = [2.0]) -> trine.Tensor:  # noqa: B006 - what is tested
        for factor in factors:
            x = x * factor
        return x

    step = trine.compile(scale)
    assert settled(step, ONE) == 2.0
    scale.__defaults__[0].append(3.0)
    assert again(step, ONE) == (6.0, True)


def test_code_that_is_exchanged_records_anew() -> None:
    def scale(x: trine.Tensor) -> trine.Tensor:
        return x * 2.0

    def other(x: trine.Tensor) -> trine.Tensor:
        return x * 3.0

    step = trine.compile(scale)
    assert settled(step, ONE) == 2.0
    scale.__code__ = other.__code__
    assert again(step, ONE) == (3.0, True)


def test_a_variable_is_not_mistaken_for_a_dead_one_at_its_address() -> None:
    class Box:
        def __init__(self, factor: float) -> None:
            self.factor = factor

    for _ in range(20):
        box = Box(2.0)
        step = trine.compile(lambda x: x * box.factor)  # noqa: B023 - called in this turn
        assert settled(step, ONE) == 2.0
        box = None
        gc.collect()
        box = Box(3.0)
        assert again(step, ONE) == (3.0, True)


# -- Tensors -----------------------------------------------------------------------------------------------------------


def test_requires_grad_that_changes_records_anew() -> None:
    w = tensor([2.0], True)
    step = trine.compile(lambda x: x * w)
    settled(step, ONE)
    w.requires_grad = False
    assert again(step, ONE)[1]
    assert not step(ONE).requires_grad


def test_a_type_that_changes_records_anew() -> None:
    w = tensor([2.0])
    step = trine.compile(lambda x: x * w)
    settled(step, ONE)
    w.node = trine.asarray([2.0, 3.0]).node  # as loading another checkpoint into a handle does
    assert again(step, ONE) == (5.0, True)


def test_a_gradient_that_comes_or_goes_records_anew() -> None:
    w = tensor([2.0], True)

    @trine.compile
    def step(x: trine.Tensor) -> trine.Tensor:
        loss = (x * w).sum()
        loss.backward()
        return loss

    for _ in range(3):
        step(ONE)
    w.grad = None
    assert again(step, ONE)[1]
    assert w.grad.tolist() == [1.0]
    step(ONE)
    assert w.grad.tolist() == [2.0]


def test_a_replay_breaks_no_guard_of_its_own() -> None:
    model = nn.Sequential([nn.Dense(3), nn.BatchNormalization(), nn.Dropout(0.5), nn.Dense(1)])
    optimizer = trine.optim.Adam(0.1)
    x = np.ones((4, 3), np.float32)
    model(x)
    optimizer.build(dict(model.named_parameters()))

    @trine.compile
    def step(x: trine.Tensor) -> trine.Tensor:
        loss = (model(x, training=True) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(6):
        step(x)
    assert (step.recorded, step.broken) == (2, "")


class _Scale:
    """A plain object of the user's."""

    factor = 2.0

    def times(self, x: trine.Tensor) -> trine.Tensor:
        return x * self.factor

    def __call__(self, x: trine.Tensor) -> trine.Tensor:
        return self.times(x)


class _Encoder(nn.Module):
    """A Module that is used but not called."""

    def __init__(self) -> None:
        self.factor = 2.0

    def encode(self, x: trine.Tensor) -> trine.Tensor:
        return x * self.factor


def _three(step: Any, *args: Any) -> float:
    """The value once the step is replayed."""
    return [step(trine.ones(()), *args).item() for _ in range(3)][-1]


@pytest.mark.parametrize("form", ["call", "method", "closure", "argument", "partial"])
def test_an_attribute_of_a_plain_object_is_guarded(form: str) -> None:
    scale = _Scale()
    forms: dict[str, Any] = {
        "call": scale,
        "method": scale.times,
        "closure": lambda x: scale(x),
        "argument": lambda x, s: s.times(x),
        "partial": partial(lambda s, x: s.times(x), scale),
    }
    step, args = trine.compile(forms[form]), (scale,) if form == "argument" else ()
    assert _three(step, *args) == 2.0
    scale.factor = 5.0
    assert step(trine.ones(()), *args).item() == 5.0


def test_an_attribute_of_a_module_that_is_used_and_not_called_is_guarded() -> None:
    encoder = _Encoder()
    for step in (trine.compile(encoder.encode), trine.compile(lambda x: encoder.encode(x))):
        encoder.factor = 2.0
        assert _three(step) == 2.0
        encoder.factor = 5.0
        assert step(trine.ones(())).item() == 5.0


def test_containers_are_guarded_inside_of_containers() -> None:
    weights = {"encoder": {"w": trine.asarray(2.0)}, "rest": ([3.0],)}
    step = trine.compile(lambda x: x * weights["encoder"]["w"] + weights["rest"][0][0])
    assert _three(step) == 5.0
    weights["encoder"]["w"] = trine.asarray(7.0)
    assert step(trine.ones(())).item() == 10.0
    weights["rest"][0][0] = 1.0
    assert step(trine.ones(())).item() == 8.0


def test_asking_whether_a_tensor_wants_gradients_is_guarded() -> None:
    a = trine.asarray(2.0, requires_grad=True)
    step = trine.compile(lambda x: x * a if a.requires_grad else x)
    a.requires_grad = False
    assert _three(step) == 1.0
    a.requires_grad = True
    assert step(trine.ones(())).item() == 2.0


def test_arguments_that_are_equal_and_mean_something_else_are_other_arguments() -> None:
    step = trine.compile(lambda x, k: x / trine.asarray(float(k)))
    assert _three(step, np.float32(0.0)) == float("inf")
    assert step(trine.ones(()), np.float32(-0.0)).item() == -float("inf")
    step = trine.compile(lambda x, k: x * (10 if next(iter(k)) is True else 1))
    assert _three(step, frozenset([1])) == 1.0
    assert step(trine.ones(()), frozenset([True])).item() == 10.0


def test_containers_that_hold_each_other_are_guarded_once() -> None:
    inner: dict[str, Any] = {}
    outer = [inner]
    inner["outer"] = outer
    step = trine.compile(lambda x: x * len(outer) + len(inner))
    assert _three(step) == 2.0
    inner["more"] = 0
    assert step(trine.ones(())).item() == 3.0


def test_a_module_inside_of_others_is_guarded_once() -> None:
    model = nn.Sequential([nn.Sequential([nn.Sequential([nn.Dense(1)])])])
    model(trine.ones((1, 1)))
    step = trine.compile(model)
    for _ in range(3):
        step(trine.ones((1, 1)))
    (entries,) = step._entries.values()
    texts = [guard.broken for guard in entries[0].guards]
    assert texts.count("Dense was changed") == 1
    assert texts.count("Sequential was changed") == 3
