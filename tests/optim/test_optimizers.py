"""Optimisers against their formulas in NumPy, and what a step promises."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trine import optim
from trine.context import using
from trine.errors import ArgumentError, DTypeError, IndexRangeError, NameLookupError, ShapeError, StateError
from trine.functional import losses
from trine.optim.optimizer import Optimizer
from trine.tensor.compile import compile
from trine.tensor.creation import asarray
from trine.tensor.tensor import Tensor

RATE = 2.0**-6  # exact in float32, which holds the learning rate
START = np.random.default_rng(0).normal(size=(4, 3))
SLOPES = np.random.default_rng(1).normal(size=(20, 4, 3))


def sgd(x: Any, g: Any, s: dict[str, Any], t: int, momentum: float = 0.0, nesterov: bool = False) -> Any:
    m = s["m"] = momentum * s.get("m", 0.0) - RATE * g
    return x + (momentum * m - RATE * g if nesterov else m)


def rmsprop(x: Any, g: Any, s: dict[str, Any], t: int, rho: float = 0.9, momentum: float = 0.0, centered: bool = False,
            epsilon: float = 1e-7) -> Any:  # fmt: skip
    v = s["v"] = rho * s.get("v", 0.0) + (1 - rho) * g**2
    if centered:
        s["a"] = rho * s.get("a", 0.0) + (1 - rho) * g
        v = v - s["a"] ** 2
    s["m"] = momentum * s.get("m", 0.0) + RATE * g / np.sqrt(v + epsilon)
    return x - s["m"]


def adam(x: Any, g: Any, s: dict[str, Any], t: int, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
         amsgrad: bool = False) -> Any:  # fmt: skip
    s["m"] = beta_1 * s.get("m", 0.0) + (1 - beta_1) * g
    s["v"] = beta_2 * s.get("v", 0.0) + (1 - beta_2) * g**2
    s["h"] = np.maximum(s.get("h", 0.0), s["v"])
    v = s["h"] if amsgrad else s["v"]
    return x - RATE * math.sqrt(1 - beta_2**t) / (1 - beta_1**t) * s["m"] / (np.sqrt(v) + epsilon)


Formula = Callable[..., Any]
ROWS: dict[str, tuple[type[Optimizer], Formula, dict[str, Any]]] = {
    "sgd": (optim.SGD, sgd, {}),
    "momentum": (optim.SGD, sgd, {"momentum": 0.9}),
    "nesterov": (optim.SGD, sgd, {"momentum": 0.8, "nesterov": True}),
    "rmsprop": (optim.RMSprop, rmsprop, {}),
    "rmsprop momentum": (optim.RMSprop, rmsprop, {"momentum": 0.5, "rho": 0.8}),
    "rmsprop centered": (optim.RMSprop, rmsprop, {"centered": True, "epsilon": 1e-3}),
    "adam": (optim.Adam, adam, {}),
    "adam betas": (optim.Adam, adam, {"beta_1": 0.0, "beta_2": 0.5, "epsilon": 1e-2}),
    "amsgrad": (optim.Adam, adam, {"amsgrad": True}),
}


def run(optimizer: Optimizer, x: Tensor, slopes: Any) -> Any:
    for slope in slopes:
        (x * asarray(slope.astype(x.dtype.numpy))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return x.numpy()


@pytest.mark.parametrize("decay", [None, 0.25])
@pytest.mark.parametrize("name", ROWS)
def test_twenty_steps_agree_with_the_formula_in_float64(name: str, decay: float | None) -> None:
    kind, formula, options = ROWS[name]
    x = asarray(START, requires_grad=True)
    expected, state = START, dict[str, Any]()
    for t, slope in enumerate(SLOPES, 1):
        expected = expected * (1 - RATE * (decay or 0.0))
        expected = formula(expected, slope, state, t, **options)
    optimizer = kind([x], RATE, weight_decay=decay, **options)
    np.testing.assert_allclose(run(optimizer, x, SLOPES), expected, rtol=1e-11, atol=1e-13)
    assert optimizer.iterations.item() == 20 and x.is_leaf and x.requires_grad


@pytest.mark.parametrize("name", ROWS)
def test_a_compiled_step_gives_the_same_bits(name: str) -> None:
    kind, _, options = ROWS[name]
    handles = [asarray(START.astype("float32"), requires_grad=True) for _ in range(2)]
    optimizers = [kind([x], 0.01, **options) for x in handles]

    @compile
    def step(slope: Tensor) -> None:
        (handles[1] * slope).sum().backward()
        optimizers[1].step()
        optimizers[1].zero_grad()

    for i, slope in enumerate(SLOPES[:8].astype("float32")):
        if i == 5:
            for optimizer in optimizers:
                optimizer.learning_rate = 0.001
        run(optimizers[0], handles[0], [slope])
        step(asarray(slope))
        np.testing.assert_array_equal(handles[0].numpy(), handles[1].numpy())
    assert step.replayed > 0 and optimizers[1].iterations.item() == 8


def test_adamw_decays_by_default_and_names_can_be_excluded() -> None:
    names = {"dense.kernel": asarray([1.0], requires_grad=True), "dense.bias": asarray([1.0], requires_grad=True)}
    optimizer = optim.AdamW(names, 0.5, exclude_from_weight_decay=["bias"])
    for p in names.values():
        p.grad = asarray([0.0])
    optimizer.step()
    assert [p.item() for p in names.values()] == [pytest.approx(0.998), 1.0]
    assert optimizer.weight_decay == 0.004 and optim.Adam().weight_decay is None


def test_a_parameter_without_a_gradient_and_its_state_stay() -> None:
    x, y = asarray([1.0], requires_grad=True), asarray([1.0], requires_grad=True)
    optimizer = optim.SGD({"x": x, "y": y}, 0.5, momentum=0.5, weight_decay=0.5)
    (x * 2).sum().backward()
    optimizer.step()
    assert (x.item(), y.item()) == (-0.25, 1.0)
    state = optimizer.state_dict()
    assert state["momentum.y"].tolist() == [0.0] and state["momentum.x"].tolist() == [-1.0]


def test_no_gradient_at_all_and_no_parameters_are_errors() -> None:
    x = asarray([1.0], requires_grad=True)
    with pytest.raises(StateError) as caught:
        optim.Adam([x]).step()
    assert re.sub(r"\n  at .*", "", str(caught.value)) == (
        "Adam.step: no parameter has a gradient\n"
        "  got: 1 parameters, .grad of all is None\n"
        "  try: loss.backward() before step(), and zero_grad() after it"
    )
    with pytest.raises(StateError, match="has no parameters"):
        optim.Adam(0.1).step()


def test_a_failing_step_leaves_everything_as_it_was() -> None:
    w = asarray(np.ones((2, 3), "float32"), requires_grad=True)
    optimizer = optim.Adam([w], 0.1)
    total, _ = losses.sparse_categorical_crossentropy(asarray([0, 3]), w * 2.0, from_logits=True)
    total.backward()
    before = (w.node, optimizer.iterations.node, [t.node for t in optimizer.state["0"].values()])
    with pytest.raises(IndexRangeError, match="label 3 at position"):
        optimizer.step()
    assert before == (w.node, optimizer.iterations.node, [t.node for t in optimizer.state["0"].values()])
    assert w.tolist() == np.ones((2, 3)).tolist() and optimizer.iterations.item() == 0


def test_a_step_computes_everything_and_holds_no_history() -> None:
    x = asarray([1.0, 2.0], requires_grad=True)
    optimizer = optim.Adam([x], 0.1)
    for _ in range(3):
        (x * x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        handles = [x, optimizer.iterations, *optimizer.state["0"].values()]
        assert all(h.node.buffer is not None and h.node.inputs == () for h in handles)
        assert x.grad is None


def test_half_parameters_move_in_float32() -> None:
    x = asarray(np.ones(3, "float16"), requires_grad=True)
    optimizer = optim.RMSprop([x], 0.5)
    x.grad = asarray(np.full(3, 1e-3, "float16"))
    optimizer.step()
    assert x.dtype.name == "float16" and optimizer.state["0"]["velocity"].dtype.name == "float32"
    g = np.float64(np.float16(1e-3))
    np.testing.assert_allclose(optimizer.state["0"]["velocity"].numpy(), 0.1 * g * g, rtol=1e-6)
    np.testing.assert_allclose(x.numpy(), 1 - 0.5 * g / math.sqrt(0.1 * g * g + 1e-7), rtol=1e-3)


def test_the_correction_of_bias_is_exact_in_float32() -> None:
    x = asarray(np.zeros(1, "float32"), requires_grad=True)
    optimizer = optim.Adam([x], 1.0, epsilon=0.0)
    x.grad = asarray([3.0])
    optimizer.step()
    assert x.item() == pytest.approx(-1.0, rel=5e-7)


def test_clipping_by_each_norm() -> None:
    def moved(**options: Any) -> list[Any]:
        x, y = asarray([0.0, 0.0], requires_grad=True), asarray([0.0], requires_grad=True)
        x.grad, y.grad = asarray([3.0, -4.0]), asarray([0.5])
        optim.SGD([x, y], 1.0, **options).step()
        return [*(-x.numpy()).tolist(), -y.item()]

    assert moved(clipvalue=1.0) == [1.0, -1.0, 0.5]
    assert moved(clipnorm=1.0) == pytest.approx([0.6, -0.8, 0.5])
    scale = 1 / math.sqrt(25.25)
    assert moved(global_clipnorm=1.0) == pytest.approx([3 * scale, -4 * scale, 0.5 * scale])
    assert moved(global_clipnorm=6.0) == [3.0, -4.0, 0.5]
    with pytest.raises(ArgumentError, match="at most one of"):
        optim.SGD(clipnorm=1.0, clipvalue=1.0)
    with pytest.raises(ArgumentError, match="the limit is above 0"):
        optim.clip_by_norm([asarray([1.0])], 0.0)
    with pytest.raises(ArgumentError, match="at least one tensor"):
        optim.global_norm([])


def test_both_forms_of_the_constructor_and_their_mistakes() -> None:
    x = asarray([1.0], requires_grad=True)
    for made in (optim.Adam([x], 0.25), optim.Adam(iter([x]), learning_rate=0.25), optim.Adam({"x": x}, 0.25)):
        assert made.learning_rate.item() == 0.25 and list(made.parameters.values()) == [x]
    for made in (optim.Adam(0.25), optim.Adam(learning_rate=0.25), optim.Adam(asarray(0.25))):
        assert made.learning_rate.item() == 0.25 and not made.parameters
    assert [optim.get(n).learning_rate.item() for n in ("sgd", "adam")] == pytest.approx([0.01, 0.001])
    with pytest.raises(ArgumentError, match="is a learning rate, and there is a second one"):
        optim.Adam(0.1, 0.9)
    with pytest.raises(ArgumentError, match="there are no parameters"):
        optim.Adam([])
    with pytest.raises(ArgumentError, match="parameter 0 is not a leaf that wants gradients"):
        optim.Adam([asarray([1.0])])
    with pytest.raises(ArgumentError, match="not a leaf"):
        optim.Adam([x * 2])
    with pytest.raises(DTypeError, match="parameter 0 is a float"):
        optim.Adam([1.0])  # type: ignore[list-item]  # the mistake under test
    with pytest.raises(DTypeError, match="a learning rate or a collection of parameters"):
        optim.Adam(x)
    for rate in (-0.1, math.nan, math.inf):
        with pytest.raises(ArgumentError, match="finite and at least 0"):
            optim.Adam(rate)
    with pytest.raises(ArgumentError, match="beta_1 is at least 0 and below 1"):
        optim.Adam(beta_1=1.0)


def test_a_tied_parameter_moves_once() -> None:
    x = asarray([1.0], requires_grad=True)
    optimizer = optim.SGD({"a": x, "b": x}, 0.5)
    x.grad = asarray([1.0])
    optimizer.step()
    assert x.item() == 0.5


def test_building_again_keeps_the_state_of_known_parameters() -> None:
    x, y = asarray([1.0], requires_grad=True), asarray([1.0], requires_grad=True)
    optimizer = optim.SGD([x], 0.5, momentum=0.5)
    x.grad = asarray([1.0])
    optimizer.step()
    optimizer.build({"x": x, "new": y})
    state = optimizer.state_dict()
    assert state["momentum.x"].tolist() == [-0.5] and state["momentum.new"].tolist() == [0.0]


def test_the_learning_rate_changes_between_steps_and_options_do_not() -> None:
    x = asarray([0.0], requires_grad=True)
    optimizer = optim.SGD([x], 1.0)
    x.grad = asarray([1.0])
    optimizer.step()
    optimizer.learning_rate = 0.5
    optimizer.step()
    assert x.item() == -1.5 and optimizer.learning_rate.dtype.name == "float32"
    with pytest.raises(StateError, match="options are fixed once the optimizer is made"):
        optimizer.momentum = 0.9
    with pytest.raises(ArgumentError, match="finite and at least 0"):
        optimizer.learning_rate = -1.0


def test_a_schedule_is_read_at_every_step() -> None:
    x = asarray([0.0], requires_grad=True)
    optimizer = optim.SGD([x], optim.PiecewiseConstantDecay((0,), (1.0, 0.25)))
    for expected in (-1.0, -1.25, -1.5):
        x.grad = asarray([1.0])
        optimizer.step()
        assert x.item() == expected
    with pytest.raises(StateError, match="a schedule sets the learning rate"):
        optimizer.learning_rate = 0.5
    assert "learning_rate" not in optimizer.state_dict()
    with pytest.raises(DTypeError, match="a schedule returns a scalar tensor"):
        _ = optim.SGD(lambda step: 0.1).learning_rate
    with pytest.raises(StateError, match="cannot be written down"):
        optim.SGD(lambda step: step * 0.1).config()


@pytest.mark.parametrize(
    "made",
    [optim.SGD(0.1, momentum=0.9, nesterov=True), optim.AdamW(exclude_from_weight_decay=("bias",)),
     optim.RMSprop(clipnorm=1.0), optim.Adam(optim.CosineDecay(0.1, 10, warmup_target=0.5, warmup_steps=2)),
     optim.SGD(optim.PiecewiseConstantDecay((1,), (1, 2)))],
)  # fmt: skip
def test_a_config_travels_as_json_and_rebuilds_the_optimizer(made: Optimizer) -> None:
    again = optim.get(json.loads(json.dumps(made.config())))
    assert type(again) is type(made) and again.config() == made.config() and repr(again) == repr(made)


def test_state_travels_and_training_goes_on_with_the_same_bits() -> None:
    x = asarray(START, requires_grad=True)
    optimizer = optim.Adam([x], 0.01)
    run(optimizer, x, SLOPES[:5])
    y = asarray(x.numpy(), requires_grad=True)
    other = optim.Adam([y], 0.5)
    other.load_state_dict(optimizer.state_dict())
    np.testing.assert_array_equal(run(optimizer, x, SLOPES[5:9]), run(other, y, SLOPES[5:9]))
    assert list(optimizer.state_dict()) == ["iterations", "learning_rate", "momentum.0", "velocity.0"]


def test_a_wrong_state_changes_nothing() -> None:
    optimizer = optim.SGD([asarray([1.0], requires_grad=True)], 0.5, momentum=0.5)
    good = {"iterations": 3, "learning_rate": 0.25, "momentum.0": np.ones(1)}
    for wrong, kind in ((good | {"momentum.0": np.ones(2)}, ShapeError), (good | {"x": 1}, NameLookupError),
                        ({"iterations": 3}, NameLookupError)):  # fmt: skip
        with pytest.raises(kind):
            optimizer.load_state_dict(wrong)
        assert optimizer.iterations.item() == 0 and optimizer.learning_rate.item() == 0.5
    optimizer.load_state_dict(good)
    assert optimizer.iterations.item() == 3 and optimizer.state["0"]["momentum"].tolist() == [1.0]


def test_get_knows_names_and_refuses_others() -> None:
    adam = optim.Adam()
    assert optim.get(adam) is adam and type(optim.get("AdamW")) is optim.AdamW
    with pytest.raises(NameLookupError) as caught:
        optim.get("adan")
    assert "no optimizer is called 'adan'" in str(caught.value) and "try: 'adam'" in str(caught.value)
    with pytest.raises(DTypeError, match="a name or an object"):
        optim.get(3)  # type: ignore[arg-type]  # the mistake under test


def test_state_is_made_outside_of_what_runs() -> None:
    class Refuses:
        def write(self, handle: Any) -> None:
            raise AssertionError("built inside a journal")

    x = asarray([1.0], requires_grad=True)
    with using(journal=Refuses()):
        optimizer = optim.Adam([x])
    assert all(t.node.buffer is not None for t in optimizer.state["0"].values())
