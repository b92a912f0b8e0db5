"""Models made of calls (`Input`, `Model`) and of lists (`Sequential`)."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from trine import dtypes, nn
from trine.errors import ArgumentError, CaptureError, DTypeError, IndexRangeError, ShapeError
from trine.functional import activations
from trine.ops.indexing import take
from trine.ops.movement import concat, reshape
from trine.tensor.creation import asarray, ones, zeros
from trine.tensor.random import generator
from trine.tensor.trace import spec, trace

RNG = np.random.default_rng(0)


def data(*shape: int) -> Any:
    return asarray(RNG.normal(size=shape), dtype="float32")


def first_line(caught: pytest.ExceptionInfo[Any]) -> str:
    return str(caught.value).split("\n")[0]


class Noisy(nn.Module):
    """Counts its calls in a state and adds a draw: both must not happen while a model is built."""

    def __init__(self) -> None:
        self.count = zeros(())
        self.bias = nn.parameter((), "zeros")

    def forward(self, x: Any) -> Any:
        self.count += 1
        return x + generator("dropout").uniform(()) * 0 + self.bias


# -- The functional API ------------------------------------------------------------------------------------------------


def test_a_model_computes_what_its_layers_compute() -> None:
    x = nn.Input((3,))
    hidden, out = nn.Dense(4, activation="relu"), nn.Dense(2)
    model = nn.Model(x, out(hidden(x)))
    given = data(5, 3)
    assert (model(given).numpy() == out(hidden(given)).numpy()).all()
    assert model.layers == [hidden, out]
    assert model.dense is hidden and model.dense_1 is out
    assert [name for name, _ in model.named_parameters()] == [
        "dense.kernel", "dense.bias", "dense_1.kernel", "dense_1.bias",
    ]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_operations_between_the_layers_take_any_batch(batch: int) -> None:
    x = nn.Input((4, 6))
    flat = reshape(x * 2.0 + 1.0, (x.shape[0], 24))
    wide = reshape(x, (x.shape[0] * 4, 6))
    model = nn.Model(x, (nn.Dense(2)(flat), wide.mean(axis=0), x.mean()))
    given = data(batch, 4, 6)
    dense, mean, number = model(given)
    assert (dense.numpy() == model.dense((given * 2.0 + 1.0).reshape((batch, 24))).numpy()).all()
    assert (mean.numpy() == given.reshape((batch * 4, 6)).mean(axis=0).numpy()).all()
    assert number.item() == given.mean().item()


def test_gradients_reach_the_layers_and_match_the_same_network_by_hand() -> None:
    x = nn.Input((3,))
    h = nn.Dense(4, activation="tanh")(x)
    model = nn.Model(x, nn.Dense(4)(h) * h)
    given = data(5, 3)
    model(given).sum().backward()
    by_model = [p.grad.numpy() for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    hidden = model.dense(given)
    (model.dense_1(hidden) * hidden).sum().backward()
    for found, p in zip(by_model, model.parameters(), strict=True):
        assert (found == p.grad.numpy()).all()


def test_a_layer_called_twice_is_one_layer() -> None:
    a, b = nn.Input((3,)), nn.Input((3,))
    shared = nn.Dense(2)
    model = nn.Model([a, b], shared(a) - shared(b))
    assert len(model.parameters()) == 2 and model.layers == [shared]
    given = data(4, 3)
    assert not model([given, given]).numpy().any()


def test_containers_of_inputs_and_outputs() -> None:
    a, b = nn.Input((3,), name="a"), nn.Input((2,), name="b")
    model = nn.Model({"a": a, "b": b}, {"both": concat([a, b], axis=1), "sum": [a.sum(axis=1), b + 1.0]})
    x, y = data(4, 3), data(4, 2)
    found = model({"b": y, "a": x})
    assert (found["both"].numpy() == np.concatenate([x, y], axis=1)).all()
    assert (found["sum"][1].numpy() == y.numpy() + 1).all()
    pair = nn.Model([a, b], concat([a, b], axis=1))
    for call in (pair([x, y]), pair((x, y)), pair(x, y), pair([x.numpy(), y.numpy()])):
        assert (call.numpy() == found["both"].numpy()).all()


def test_a_layer_with_several_results_and_keyword_arguments() -> None:
    class Split(nn.Module):
        def forward(self, x: Any, *, scale: float = 1.0, other: Any = None) -> Any:
            return {"half": x * 0.5, "rest": (x * scale, other)}

    x, y = nn.Input((3,)), nn.Input((2,))
    parts = Split()(x, scale=3.0, other=y)
    model = nn.Model([x, y], [parts["rest"][0], parts["rest"][1], parts["half"]])
    a, b = data(2, 3), data(2, 2)
    found = model(a, b)
    assert [(f.numpy() == e.numpy()).all() for f, e in zip(found, [a * 3.0, b, a * 0.5], strict=True)] == [True] * 3


def test_a_model_inside_a_model() -> None:
    x = nn.Input((3,))
    inner = nn.Model(x, nn.Dense(3)(x))
    y = nn.Input((3,))
    outer = nn.Model(y, inner(inner(y)) + nn.Sequential([nn.Dense(3)])(y))
    given = data(2, 3)
    expected = inner(inner(given)) + outer.sequential(given)
    assert (outer(given).numpy() == expected.numpy()).all()
    assert [name for name, _ in outer.named_parameters()] == [
        "model.dense.kernel", "model.dense.bias", "sequential.layers.0.kernel", "sequential.layers.0.bias",
    ]  # fmt: skip


def test_a_model_that_starts_inside_another() -> None:
    x = nn.Input((3,))
    h = nn.Dense(4)(x)
    tail = nn.Model(h, nn.Dense(2)(h))
    whole = nn.Model(x, tail.dense(h))
    assert tail.layers == [whole.dense_1]
    given = data(2, 3)
    assert (tail(whole.dense(given)).numpy() == whole(given).numpy()).all()


def test_a_parameter_used_without_a_layer_is_part_of_the_model_and_follows_its_re_binding() -> None:
    w = nn.parameter((3,), "ones")
    x = nn.Input((3,))
    model = nn.Model(x, x * (w * 2.0))
    assert [name for name, _ in model.named_parameters()] == ["parameter"]
    given = data(2, 3)
    model(given).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * given.numpy().sum(axis=0), rtol=1e-6)
    model.load_state_dict({"parameter": np.full(3, 5.0)})
    assert (model(given).numpy() == given.numpy() * 10).all()


def test_state_and_draws_are_as_before_after_a_model_was_built() -> None:
    layer, norm = Noisy(), nn.BatchNormalization()
    draws = generator("dropout").state.tolist()
    x = nn.Input((3,))
    with nn.training_mode(True):
        model = nn.Model(x, nn.Dropout(0.5)(norm(layer(x))))
    assert layer.count.item() == 0 and not norm.moving_mean.numpy().any()
    assert generator("dropout").state.tolist() == draws
    assert norm.gamma.requires_grad and norm.moving_mean.shape == (3,)
    model(data(4, 3), training=True)
    assert layer.count.item() == 1 and norm.moving_mean.numpy().all()
    assert generator("dropout").state.tolist()[1] == draws[1] + 2


def test_dropout_in_a_model_draws_anew_at_each_call() -> None:
    x = nn.Input((100,))
    model = nn.Model(x, nn.Dropout(0.5)(x))
    one, two = (model(ones((1, 100)), training=True).numpy() for _ in range(2))
    assert (one != two).any() and not (model(ones((1, 100))).numpy() != 1).any()


def test_tracing_a_model_gives_primitives() -> None:
    x = nn.Input((3,))
    model = nn.Model(x, nn.Dense(2)(x) + 1.0)
    graph = trace(model, spec(("n", 3)))
    assert not graph.find("layer_call")
    assert graph.outputs[0].shape == spec(("n", 2)).shape
    given = data(4, 3)
    assert (graph.run(given).numpy() == model(given).numpy()).all()
    assert not trace(nn.Dense(2), spec(("n", 3))).find("layer_call")


def test_open_sizes_with_and_without_names() -> None:
    x, y = nn.Input((None, "time", 2)), nn.Input(("time",), batch=None)
    assert x.shape[0] != x.shape[1]
    model = nn.Model([x, y], x.sum(axis=(1, 3)) + y)
    assert model(ones((4, 3, 5, 2)), ones(5)).shape == (4, 5)
    with pytest.raises(ShapeError, match=r"^Model: .*\n  at test_model.py"):
        model(ones((4, 3, 5, 2)), ones(6))
    fixed = nn.Input((2,), batch=3)
    assert nn.Model(fixed, fixed * 2.0)(ones((3, 2))).shape == (3, 2)


def test_an_input_of_integers_keeps_them() -> None:
    x = nn.Input((5,), dtype="int64")
    model = nn.Model(x, nn.Embedding(10, 4)(x))
    assert model(np.zeros((2, 5), np.int32)).shape == (2, 5, 4)
    with pytest.raises(DTypeError) as caught:
        model(ones((2, 5)))
    assert first_line(caught) == "Model: input 0 holds int64, not float32"
    y = nn.Input((5,))
    assert nn.Model(y, y * 0.5)(np.ones((2, 5), np.uint8)).dtype is dtypes.float32


def test_layers_keep_names_of_their_own() -> None:
    x = nn.Input((3,))
    first, second = nn.Dense(2), nn.Dense(2)
    first.name = "logits"
    model = nn.Model(x, second(first(x)))
    assert model.logits is first and model.dense is second


def test_copies_of_a_model_share_nothing_and_compute_the_same() -> None:
    x = nn.Input((3,))
    model = nn.Model(x, nn.Dense(2)(x * 2.0) * nn.parameter((2,), "ones"))
    given = data(4, 3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (twin(given).numpy() == model(given).numpy()).all()
        twin.load_state_dict({name: value * 0 for name, value in twin.state_dict().items()})
        assert not twin(given).numpy().any() and model(given).numpy().any()


def test_an_error_inside_names_the_layer_of_the_model() -> None:
    x = nn.Input((None, 3))
    model = nn.Model(x, nn.Dense(2)(nn.Dense(4)(x)))
    model.dense_1.load_state_dict({"kernel": np.zeros((4, 2)), "bias": np.zeros(2)})
    model.dense.units = 5
    model.dense.build(ones((1, 3)))
    with pytest.raises(ShapeError) as caught:
        model(ones((1, 1, 3)))
    assert first_line(caught).startswith("dense_1 (Dense 2): inner sizes differ: the last axis of x is 5")


def test_an_error_between_the_layers_names_the_line_of_the_model() -> None:
    x = nn.Input((None,))
    picked = take(x, asarray([5]), axis=1)
    model = nn.Model(x, picked * 2.0)
    assert model(ones((2, 6))).shape == (2, 1)
    with pytest.raises(IndexRangeError) as caught:
        model(ones((2, 3))).numpy()
    assert str(caught.value).split("\n")[1].endswith("picked = take(x, asarray([5]), axis=1)")


# -- Refusals ----------------------------------------------------------------------------------------------------------


def test_an_output_that_needs_another_input() -> None:
    a, b = nn.Input((3,)), nn.Input((2,), name="image")
    with pytest.raises(ArgumentError) as caught:
        nn.Model(a, [nn.Dense(1)(a), nn.Dense(1)(a) + nn.Dense(1)(b)])
    lines = str(caught.value).split("\n")
    assert lines[0] == "Model: output 1 depends on an Input 'image' that is not among the inputs"
    assert lines[2].startswith("  got: f32[batch, 2] at test_model.py:")
    assert lines[3] == "  try: add it to the inputs"


def test_an_output_that_depends_on_nothing() -> None:
    x = nn.Input((3,))
    with pytest.raises(ArgumentError) as caught:
        nn.Model(x, [x * 2.0, ones((2, 2))])
    assert first_line(caught) == "Model: output 1 does not depend on the inputs"


@pytest.mark.parametrize(("inputs", "rule"), [
    (lambda x: ones((2, 3)), "input 0 is no tensor that began as nn.Input"),
    (lambda x: [x, 3], "input 1 is no tensor that began as nn.Input"),
    (lambda x: [x, x], "input 1 is given twice"),
])  # fmt: skip
def test_inputs_that_are_none(inputs: Any, rule: str) -> None:
    x = nn.Input((3,))
    with pytest.raises(ArgumentError) as caught:
        nn.Model(inputs(x), x * 2.0)
    assert first_line(caught) == f"Model: {rule}"


def test_another_number_of_inputs_at_a_call() -> None:
    a, b = nn.Input((3,)), nn.Input((3,))
    model = nn.Model([a, b], a + b)
    with pytest.raises(ArgumentError) as caught:
        model(ones((2, 3)))
    assert first_line(caught) == "Model: the model takes 2 inputs in a list, or as arguments"
    assert "  got: f32[2, 3]" in str(caught.value)
    named = nn.Model({"a": a, "b": b}, a + b)
    with pytest.raises(ArgumentError, match="takes a dict of the inputs a, b\n"):
        named({"a": ones((2, 3))})


def test_a_shape_that_does_not_fit_the_input() -> None:
    x = nn.Input((3,))
    with pytest.raises(ShapeError) as caught:
        nn.Model(x, nn.Dense(2)(x))(ones((2, 4)))
    assert "f32" not in first_line(caught) and "4" in first_line(caught) and "3" in first_line(caught)


def test_names_that_are_taken() -> None:
    x = nn.Input((3,))
    one, two = nn.Dense(2), nn.Dense(2)
    one.name = two.name = "a"
    with pytest.raises(ArgumentError, match=r"^Model: a layer's name becomes an attribute, and 'a' is taken\n"):
        nn.Model(x, two(one(x)))
    one.name = "forward"
    with pytest.raises(ArgumentError, match="and 'forward' is taken\n"):
        nn.Model(x, one(x))
    one.name = "a.b"
    with pytest.raises(ArgumentError, match=r"and 'a\.b' holds a dot\n"):
        nn.Model(x, one(x))


def test_an_input_has_no_value_outside_of_a_model() -> None:
    x = nn.Input((3,))
    with pytest.raises(CaptureError, match="a value is asked for that is not known"):
        nn.Dense(2)(x).numpy()
    with pytest.raises(CaptureError, match="a value is asked for that is not known"):
        bool(x.sum() > 0)


def test_a_module_that_returns_no_tensor() -> None:
    class Count(nn.Module):
        def forward(self, x: Any) -> Any:
            return 3

    with pytest.raises(ArgumentError, match=r"^Count: a module called on Input returns tensors or containers"):
        Count()(nn.Input((3,)))


def test_a_module_that_decides_by_a_value_is_refused_and_leaves_no_trace() -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            self.count = zeros(())

        def forward(self, x: Any) -> Any:
            self.count += 1
            return x if x.sum() > 0 else -x

    layer = Decides()
    with pytest.raises(CaptureError, match="a value is asked for that is not known"):
        layer(nn.Input((3,)))
    assert layer.count.item() == 0


# -- Sequential --------------------------------------------------------------------------------------------------------


def test_layers_in_a_list_or_as_arguments() -> None:
    one, two = nn.Dense(4), nn.Dense(2)
    given = data(3, 5)
    expected = two(activations.relu(one(given))).numpy()
    for model in (nn.Sequential([one, activations.relu, two]), nn.Sequential(one, activations.relu, two)):
        assert (model(given).numpy() == expected).all()
        assert len(model) == 3 and model[0] is one and model[-1] is two and list(model)[2] is two


def test_an_input_as_the_first_item_builds_each_layer_when_it_is_added() -> None:
    model = nn.Sequential([nn.Input((5,)), nn.Dense(4)])
    assert model[0].kernel.shape == (5, 4)
    model.add(nn.Dense(2))
    assert model[1].kernel.shape == (4, 2)
    assert [name for name, _ in model.named_parameters()][-1] == "layers.1.bias"
    assert len(model.state_dict()) == 4
    with pytest.raises(ShapeError, match=r"^Conv2D"):
        model.add(nn.Conv2D(2, 3))
    assert len(model) == 2


def test_a_slice_shares_its_layers() -> None:
    model = nn.Sequential([nn.Dense(4), nn.Dense(3), nn.Dense(2)])
    given = data(3, 5)
    model(given)
    assert (model[1:](model[0](given)).numpy() == model(given).numpy()).all()


def test_adding_a_layer_raises_the_version() -> None:
    model = nn.Sequential()
    before = model.version
    model.add(nn.Dense(2))
    assert model.version > before and bool(nn.Sequential())


def test_items_that_are_no_layers() -> None:
    with pytest.raises(DTypeError, match=r"^Sequential: an item is a module or a function of a tensor\n"):
        nn.Sequential([nn.Dense(2), 3])
    with pytest.raises(DTypeError, match=r"^Sequential: only the first item may be a tensor, an nn.Input\n"):
        nn.Sequential([nn.Dense(2), nn.Input((3,))])
    with pytest.raises(DTypeError, match=r"^Sequential: only the first item may be a tensor, an nn.Input\n"):
        nn.Sequential([ones(3)])
