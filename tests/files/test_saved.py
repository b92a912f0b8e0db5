"""Models in `.trine` files: opened without their class they predict, fit on, and are saved again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import trine
from trine import nn, optim
from trine.errors import ArgumentError, CaptureError, DTypeError, FileFormatError, ShapeError, StateError
from trine.files import weights
from trine.files.container import FORMAT, read_stored

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)


def message(caught: pytest.ExceptionInfo[BaseException]) -> str:
    """The error without the line of the test."""
    return "\n".join(line for line in str(caught.value).splitlines() if not line.startswith("  at "))


def network() -> nn.Sequential:
    last = nn.Dense(2, activation="softmax")
    return nn.Sequential([nn.Dense(8, activation="relu"), nn.BatchNormalization(), nn.Dropout(0.3), last])


def fitted(epochs: int = 1, **options: Any) -> nn.Sequential:
    model = network().compile(options.pop("optimizer", "adam"), "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(X, Y, epochs=epochs, verbose=0, **options)
    return model


def weights_of(model: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


def gradients_of(model: nn.Module, x: Any, training: bool) -> dict[str, np.ndarray]:
    with nn.training_mode(training):
        out = model(x)
    leaves = [leaf for leaf in trine.tree.flatten(out)[0] if isinstance(leaf, trine.Tensor)]
    sum((leaf * leaf).sum() for leaf in leaves).backward()
    found = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    for p in model.parameters():
        p.grad = None
    return found


# -- Predicting and fitting on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_fitting_goes_on_bit_by_bit(tmp_path: Path, optimizer: str) -> None:
    model = fitted(optimizer=optimizer)
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    assert np.array_equal(loaded.predict(X), model.predict(X))
    assert loaded.evaluate(X, Y) == model.evaluate(X, Y)
    again = loaded.fit(X, Y, epochs=3, initial_epoch=1, verbose=0, batch_size=16)
    expected = model.fit(X, Y, epochs=3, initial_epoch=1, verbose=0, batch_size=16)
    assert again.history == expected.history
    assert weights_of(loaded) == weights_of(model)
    assert loaded.optimizer.iterations.item() == model.optimizer.iterations.item()


def test_fitting_goes_on_in_a_fresh_process(tmp_path: Path) -> None:
    """Two epochs are one epoch, a file, and a second epoch where neither class, loss nor optimiser are named."""
    whole = fitted(epochs=2)
    trine.manual_seed(0)
    trine.save(fitted(), tmp_path / "m")
    np.savez(tmp_path / "data.npz", x=X, y=Y)
    program = (
        "import sys, json, numpy as np, trine\n"
        "folder = sys.argv[1]\n"
        "data = np.load(folder + '/data.npz')\n"
        "model = trine.load(folder + '/m')\n"
        "history = model.fit(data['x'], data['y'], epochs=2, initial_epoch=1, verbose=0).history\n"
        "trine.save_weights(folder + '/w', model.state_dict())\n"
        "print(json.dumps(history))\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    history = whole.history.history
    assert json.loads(run.stdout) == {name: values[1:] for name, values in history.items()}
    back = trine.load_weights(tmp_path / "w")
    assert {name: array.tobytes() for name, array in back.items()} == weights_of(whole)


def test_a_loaded_model_is_saved_again_and_means_the_same(tmp_path: Path) -> None:
    trine.save(fitted(), tmp_path / "a")
    first = trine.load(tmp_path / "a")
    trine.save(first, tmp_path / "b")
    second = trine.load(tmp_path / "b")
    assert second.fit(X, Y, verbose=0).history == first.fit(X, Y, verbose=0).history
    assert weights_of(second) == weights_of(first)
    assert list(second._held.signatures) == ["predict", "call_training", "train", "test"]


def test_the_same_model_gives_the_same_file(tmp_path: Path) -> None:
    model = fitted()
    trine.save(model, tmp_path / "a")
    trine.save(model, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_saving_changes_nothing(tmp_path: Path) -> None:
    model = fitted()
    trine.manual_seed(0)
    other = fitted()
    before = weights_of(model), model.run_state(), [m._types for m in model.modules()]
    nodes = {name: handle.node for name, handle in before[1].items()}
    trine.save(model, tmp_path / "m")
    assert weights_of(model) == before[0]
    assert {name: handle.node for name, handle in model.run_state().items()} == nodes
    assert [m._types for m in model.modules()] == before[2]
    trine.manual_seed(0)
    mine = model.fit(X, Y, epochs=2, initial_epoch=1, verbose=0).history
    trine.manual_seed(0)
    assert other.fit(X, Y, epochs=2, initial_epoch=1, verbose=0).history == mine


def test_sample_weights_and_every_option_of_fit_are_part_of_the_stored_step(tmp_path: Path) -> None:
    weight = RNG.uniform(size=70)
    model = fitted(sample_weight=weight, class_weight={0: 1.0, 1: 3.0})
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    options = {"sample_weight": weight, "epochs": 2, "initial_epoch": 1, "verbose": 0}
    assert loaded.fit(X, Y, **options).history == model.fit(X, Y, **options).history
    with pytest.raises(ArgumentError) as caught:
        loaded.fit(X, Y, verbose=0)
    assert message(caught) == (
        "train: takes (x, x, x), as when the model was saved\n"
        "  got: (x, x, None)\n"
        "  try: model.compile(...) makes new steps, for any arguments"
    )


def test_after_compile_a_loaded_model_trains_like_any_module(tmp_path: Path) -> None:
    model = fitted()
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    targets = np.eye(2, dtype=np.float32)[Y]
    histories = []
    for each in (model, loaded):
        trine.random.generator("dropout").state.assign(trine.asarray(np.array([7, 0], np.uint64)))
        each.run_state()["random.dropout"].assign(trine.asarray(np.array([7, 0], np.uint64)))
        each.compile(optim.SGD(0.1, momentum=0.9), "mse", ["mae"])
        histories.append(each.fit(X, targets, epochs=3, verbose=0).history)
    assert histories[0] == histories[1]
    assert weights_of(model) == weights_of(loaded)


def test_a_schedule_is_part_of_the_stored_step(tmp_path: Path) -> None:
    model = fitted(optimizer=optim.SGD(optim.ExponentialDecay(0.1, 2, 0.5)))
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    assert loaded.fit(X, Y, epochs=2, initial_epoch=1, verbose=0).history == model.fit(
        X, Y, epochs=2, initial_epoch=1, verbose=0).history  # fmt: skip
    with pytest.raises(StateError) as caught:
        loaded.optimizer.learning_rate = 0.1
    assert message(caught) == (
        "learning_rate: a schedule that is part of the stored step sets the learning rate\n"
        '  try: model.compile(optimizer="adam", loss="mse") chooses another optimizer'
    )


def test_the_learning_rate_of_a_loaded_model_can_be_changed(tmp_path: Path) -> None:
    model = fitted()
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    for each in (model, loaded):
        each.optimizer.learning_rate = 0.02
        each.fit(X, Y, epochs=2, initial_epoch=1, verbose=0)
    assert weights_of(loaded) == weights_of(model)
    slower = trine.train.callbacks.ReduceLROnPlateau("loss", 0.5, 1, min_delta=9)
    loaded.fit(X, Y, epochs=5, verbose=0, callbacks=[slower])
    assert loaded.optimizer.learning_rate.item() < 0.02


def test_users_steps_and_losses_are_not_needed_any_more(tmp_path: Path) -> None:
    class Twice(nn.Sequential):
        def train_step(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, Any]:
            super().train_step(x, y, sample_weight)
            return super().train_step(x, y, sample_weight)

    def loss(y_true: Any, y_pred: Any) -> Any:
        return ((y_pred - y_true) ** 4).mean(axis=1)

    model = Twice([nn.Dense(2)]).compile("adam", loss)
    targets = np.eye(2, dtype=np.float32)[Y]
    model.fit(X, targets, verbose=0)
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    assert loaded.fit(X, targets, verbose=0).history == model.fit(X, targets, verbose=0).history
    assert loaded.optimizer.iterations.item() == 12


def test_metrics_that_are_no_quotient_keep_their_results(tmp_path: Path) -> None:
    model = nn.Sequential([nn.Dense(2)]).compile("sgd", "mse", ["rmse"])
    targets = np.eye(2, dtype=np.float32)[Y]
    model.fit(X, targets, verbose=0)
    trine.save(model, tmp_path / "m")
    found = trine.load(tmp_path / "m").evaluate(X, targets)
    assert found == model.evaluate(X, targets)
    assert np.isclose(found["root_mean_squared_error"] ** 2, found["loss"])


def test_an_error_in_a_loaded_model_names_the_layer_and_the_line(tmp_path: Path) -> None:
    """The user's own line where the user wrote the forward; the line of the call inside Trine's layers."""

    class Lookup(nn.Module):
        def __init__(self) -> None:
            self.table = nn.Embedding(4, 2)
            self.other = nn.parameter((4, 2))

        def forward(self, x: Any) -> Any:
            return trine.take(self.other, x[:, 0], axis=0) + self.table(x[:, 1])  # the line of the class

    trine.save(Lookup(), tmp_path / "m", inputs=trine.spec(("batch", 2), "int64"))
    loaded = trine.load(tmp_path / "m")
    with pytest.raises(IndexError) as own:
        loaded(np.array([[7, 0]])).numpy()
    assert "# the line of the class" in str(own.value) and "test_saved.py:" in str(own.value)
    with pytest.raises(IndexError) as theirs:
        loaded(np.array([[0, 7]])).numpy()  # the line of the call
    assert "# the line of" in str(theirs.value) and "table (Embedding 2)" in str(theirs.value)


# -- What models may be ------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Nested parts in a list and a dict, a cut gradient, a stream of its own, several results."""

    def __init__(self) -> None:
        self.hidden = [nn.LSTM(5, return_sequences=True), {"last": nn.GRU(4)}]
        self.out = nn.Dense(2)
        self.scale = nn.parameter((2,), "ones")
        self.noise = trine.random.Generator(3)

    def forward(self, x: trine.Tensor) -> Any:
        with trine.no_grad():
            mean = self.body(x).mean()
        y = self.body(x)
        if self.is_training():
            y = y + self.noise.normal((2,))
        return (y - mean) * self.scale, {"raw": y, "classes": 2}

    def body(self, x: trine.Tensor) -> Any:
        return self.out(self.hidden[1]["last"](self.hidden[0](x)))


def test_gradients_flow_through_a_loaded_model_as_through_its_class(tmp_path: Path) -> None:
    model = Net()
    x = trine.asarray(RNG.normal(size=(3, 7, 4)).astype(np.float32))
    model(x)
    trine.save(model, tmp_path / "m", inputs=x)
    loaded = trine.load(tmp_path / "m")
    assert [name for name, _ in loaded.named_state()] == [name for name, _ in model.named_state()]
    assert [name for name, _ in loaded.named_modules()] == [name for name, _ in model.named_modules()]
    x = trine.asarray(RNG.normal(size=(5, 7, 4)).astype(np.float32))
    for training in (False, True, True):
        mine, theirs = gradients_of(loaded, x, training), gradients_of(model, x, training)
        assert list(mine) == list(theirs) and "scale" in mine
        assert all(np.array_equal(mine[name], theirs[name]) for name in theirs)
    assert loaded(x)[1]["classes"] == 2


def test_state_that_no_attribute_names_goes_on_too(tmp_path: Path) -> None:
    model = Net().build_for(("batch", 7, 4)).train()
    trine.save(model, tmp_path / "m", inputs=trine.spec(("batch", 7, 4)))
    loaded = trine.load(tmp_path / "m").train()
    x = trine.ones((1, 7, 4))
    draws = [[each(x)[0].tolist() for _ in range(3)] for each in (model, loaded)]
    assert draws[0] == draws[1] and draws[0][0] != draws[0][1]
    assert list(loaded.own_state) == ["hidden.0"]


def test_an_inference_graph_does_not_store_what_only_gradients_read(tmp_path: Path) -> None:
    model = Net().build_for(("batch", 7, 4))
    trine.save(model, tmp_path / "m", inputs=trine.spec(("batch", 7, 4)))
    scans = [n for n in read_stored(tmp_path / "m").signatures["predict"].graph.nodes if n.op.name == "scan"]
    read = {id(hole) for n in scans for hole in n.op.body.inputs}
    assert not any(id(out) in read for n in scans for out in n.op.body.outputs[n.op.carries :])


def test_a_functional_model_needs_no_example(tmp_path: Path) -> None:
    a, b = nn.Input((4,)), nn.Input((4,))
    model = nn.Model({"a": a, "b": b}, [nn.Dense(2)(a + b), nn.Dense(3)(nn.Concatenate()([a, b]))])
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    x = {"a": np.ones((5, 4), np.float32), "b": np.zeros((5, 4), np.float32)}
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(loaded.predict(x), model.predict(x), strict=True))
    with pytest.raises(ArgumentError, match=r"predict: takes \({a: x, b: x}\), as when the model was saved"):
        loaded(np.ones((5, 4), np.float32))


def test_several_outputs_fit_on(tmp_path: Path) -> None:
    x = nn.Input((6,))
    model = nn.Model(x, {"side": nn.Dense(2)(x), "sum": nn.Dense(1)(x)})
    model.compile("adam", {"side": "mse", "sum": "mae"}, loss_weights={"side": 1.0, "sum": 0.5})
    y = {"side": X[:, :2], "sum": X.sum(axis=1, keepdims=True)}
    model.fit(X, y, verbose=0)
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    assert loaded.fit(X, y, verbose=0).history == model.fit(X, y, verbose=0).history


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    model = network().compile("adam", "sparse_categorical_crossentropy")
    model(X)
    model[0].trainable = False
    model.fit(X, Y, verbose=0)
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    assert [n for n, _ in loaded.named_parameters()] == [n for n, _ in model.named_parameters()]
    before = loaded.state_dict()["layers.0.kernel"].tolist()
    loaded.fit(X, Y, verbose=0)
    assert loaded.state_dict()["layers.0.kernel"].tolist() == before


def test_the_dtype_policy_is_kept(tmp_path: Path) -> None:
    with nn.dtype_policy("float32", "bfloat16"):
        model = network()
    model.compile("adam", "sparse_categorical_crossentropy").fit(X, Y, verbose=0)
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    assert loaded(X).dtype is trine.bfloat16
    assert loaded.fit(X, Y, verbose=0).history == model.fit(X, Y, verbose=0).history


def test_a_convolutional_model_takes_any_batch(tmp_path: Path) -> None:
    model = nn.Sequential([nn.Conv2D(3, 3, padding="same"), nn.MaxPool2D(), nn.Flatten(), nn.Dense(4)])
    images = RNG.normal(size=(10, 8, 8, 1)).astype(np.float32)
    model.compile("adam", "mse").fit(images, np.zeros((10, 4), np.float32), verbose=0)
    trine.save(model, tmp_path / "m")
    loaded = trine.load(tmp_path / "m")
    for size in (1, 3, 10):
        assert np.array_equal(loaded(images[:size]).numpy(), model(images[:size]).numpy())


def test_equal_values_behind_two_names_stay_two(tmp_path: Path) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            self.a = nn.parameter((2,), "ones")
            self.b = self.a.detach().copy()

        def forward(self, x: Any) -> Any:
            return x * self.a + self.b

    model = Pair()
    trine.save(model, tmp_path / "m", inputs=trine.spec(("batch", 2)))
    loaded: Any = trine.load(tmp_path / "m")
    loaded.load_state_dict({"a": np.zeros(2), "b": np.full(2, 7.0)})
    assert loaded(np.ones((1, 2))).tolist() == [[7.0, 7.0]]


def test_integers_and_other_floats_are_cast_and_the_reverse_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential([nn.Embedding(5, 3), nn.Flatten()])
    trine.save(model, tmp_path / "m", inputs=np.zeros((2, 4), np.int64))
    loaded = trine.load(tmp_path / "m")
    assert loaded(np.ones((3, 4), np.int32)).shape == (3, 12)
    with pytest.raises(DTypeError) as caught:
        loaded(np.ones((3, 4)))
    assert message(caught) == (
        "Sequential: predict: input 0 holds int64, not float32\n  got: f32[3, 4]\n  try: x.astype(trine.int64)"
    )
    with pytest.raises(ShapeError) as shape:
        loaded(np.ones((3, 5), np.int64))
    assert message(shape) == (
        "Sequential: predict: axis 1 is 4 in the specification, here it is 5\n  got: [3, 5] for [batch, 4]"
    )


def test_a_run_goes_on_from_its_backup_with_a_loaded_model(tmp_path: Path) -> None:
    trine.save(fitted(), tmp_path / "m")
    from trine.files import backup

    first, second = trine.load(tmp_path / "m"), trine.load(tmp_path / "m")
    first.fit(X, Y, epochs=2, initial_epoch=1, verbose=0)
    backup.write(tmp_path / "b", first.run_state(), 2)
    assert backup.read(tmp_path / "b", second.run_state()) == 2
    assert weights_of(second) == weights_of(first)
    assert second.fit(X, Y, epochs=3, initial_epoch=2, verbose=0).history == first.fit(
        X, Y, epochs=3, initial_epoch=2, verbose=0).history  # fmt: skip


# -- The file ----------------------------------------------------------------------------------------------------------


def test_any_reader_of_safetensors_sees_the_weights_under_their_names(tmp_path: Path) -> None:
    model = fitted()
    trine.save(model, tmp_path / "m")
    seen = safetensors.numpy.load_file(tmp_path / "m")
    assert all(np.array_equal(seen[name], array) for name, array in model.state_dict().items())
    assert "optimizer.iterations" in seen and "random.dropout" in seen


def test_the_weights_of_a_file_fit_the_class(tmp_path: Path) -> None:
    model = fitted()
    trine.save(model, tmp_path / "m")
    other = network().build_for(("batch", 6))
    assert not other.load_state_dict(trine.load_weights(tmp_path / "m"))
    assert weights_of(other) == weights_of(model)


def test_streams_and_names_that_nothing_reads_are_left_out(tmp_path: Path) -> None:
    trine.save(nn.Dense(2).build_for(("batch", 3)), tmp_path / "m", inputs=trine.spec(("batch", 3)))
    assert list(read_stored(tmp_path / "m").state) == ["kernel", "bias"]


def test_opening_a_file_leaves_the_streams_of_the_program_alone(tmp_path: Path) -> None:
    trine.save(fitted(), tmp_path / "m")
    before = {name: stream.state.tolist() for name, stream in trine.tensor.random.streams().items()}
    trine.load(tmp_path / "m").fit(X, Y, verbose=0)
    assert {name: stream.state.tolist() for name, stream in trine.tensor.random.streams().items()} == before


def test_a_tensor_called_like_a_constant_keeps_its_name(tmp_path: Path) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            self.constants = [nn.parameter((2,), "ones")]
            self.table = np.arange(100, dtype=np.float32).reshape(50, 2)

        def forward(self, x: Any) -> Any:
            return x @ trine.asarray(self.table) * self.constants[0]

    model = Table()
    trine.save(model, tmp_path / "m", inputs=trine.spec(("batch", 50)))
    loaded = trine.load(tmp_path / "m")
    x = np.ones((2, 50), np.float32)
    assert np.array_equal(loaded(x).numpy(), model(x).numpy())
    assert list(trine.load_weights(tmp_path / "m")) == ["constants.0"]


def test_a_model_that_was_never_called_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        trine.save(network(), tmp_path / "m")
    assert message(caught) == (
        "save: the types of the inputs of Sequential are not known: fit was not called\n"
        "  got: inputs=None\n"
        '  try: trine.save(model, path, inputs=trine.spec(("batch", 784)))'
    )
    trine.save(network(), tmp_path / "m", inputs=trine.spec(("batch", 6)))
    assert trine.load(tmp_path / "m")(X).shape == (70, 2)


def test_python_that_needs_a_value_cannot_be_saved_and_says_what_can(tmp_path: Path) -> None:
    class Deciding(nn.Module):
        def forward(self, x: trine.Tensor) -> trine.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(CaptureError) as caught:
        trine.save(Deciding(), tmp_path / "m", inputs=trine.spec(("batch", 6)))
    assert caught.value.rule == "a value is asked for that is not known while the graph is being built"
    fix = "; trine.save_weights(path, model.state_dict()) keeps the weights without the graph"
    assert caught.value.fix.endswith(fix)
    assert not list(tmp_path.iterdir())


def test_a_result_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Any) -> Any:
            return x, object

    with pytest.raises(CaptureError, match="a type among the results cannot be kept in a file"):
        trine.save(Odd(), tmp_path / "m", inputs=trine.spec(("batch", 6)))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted()
    trine.save(model, tmp_path / "m")
    before = (tmp_path / "m").read_bytes()

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "_sort_header", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trine.save(model, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before
    assert os.listdir(tmp_path) == ["m"]


# -- Files that are no models ------------------------------------------------------------------------------------------


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "m.trine"
    trine.save(nn.Dense(2).build_for(("batch", 3)), path, inputs=trine.spec(("batch", 3)))
    return path


def rewritten(path: Path, **texts: str) -> None:
    arrays, metadata = weights.read_file("load", path)
    weights.write(path, arrays, metadata | {f"trine.{name}": text for name, text in texts.items()})


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "w"
    trine.save_weights(path, {"kernel": np.ones(3)})
    with pytest.raises(FileFormatError) as caught:
        trine.load(path)
    assert message(caught) == (
        f"load: {path}: this is a safetensors file without a graph of Trine\n"
        "  got: metadata: none\n"
        "  try: trine.load_weights(path) reads its weights, model.load_state_dict(weights) takes them"
    )


def test_a_newer_format_is_refused(model_file: Path) -> None:
    rewritten(model_file, format=str(FORMAT + 1), version="9.1", signatures="[]")
    with pytest.raises(FileFormatError) as caught:
        trine.load(model_file)
    assert message(caught) == (
        f"load: {model_file}: the file has format {FORMAT + 1}, this release reads up to {FORMAT}\n"
        "  got: written by Trine 9.1\n"
        "  try: open it with the release of Trine that wrote it, or a newer one"
    )


def test_an_unknown_operation_names_the_file(model_file: Path) -> None:
    text = weights.read_file("load", model_file).metadata["trine.signatures"]
    rewritten(model_file, signatures=text.replace('"mat_mul"', '"mat_mul_9"'))
    with pytest.raises(FileFormatError) as caught:
        trine.load(model_file)
    assert message(caught) == (
        f"load: {model_file}: graph: this release knows no operation 'mat_mul_9'\n"
        "  try: open it with the release of Trine that wrote it, or a newer one"
    )


@pytest.mark.parametrize("name", ["state", "signatures", "config"])
@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"signatures": {}, "tables": {}}', '[{"name": 1}]'])
def test_damaged_metadata_are_refused(model_file: Path, name: str, text: str) -> None:
    rewritten(model_file, **{name: text})
    with pytest.raises(FileFormatError):
        trine.load(model_file)


def test_state_of_another_type_is_refused(model_file: Path) -> None:
    arrays, metadata = weights.read_file("load", model_file)
    weights.write(model_file, arrays | {"kernel": np.ones((2, 3), np.float32)}, metadata)
    with pytest.raises(FileFormatError) as caught:
        trine.load(model_file)
    assert message(caught) == f"load: {model_file}: predict: kernel is stored as float32[2, 3], the graph has f32[3, 2]"


def test_a_model_cut_short_anywhere_is_refused(model_file: Path) -> None:
    whole = model_file.read_bytes()
    for length in range(0, len(whole), 7):
        model_file.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            trine.load(model_file)


def test_a_flipped_byte_anywhere_in_the_header_is_refused_or_still_a_model(model_file: Path) -> None:
    whole = bytearray(model_file.read_bytes())
    end = 8 + int.from_bytes(whole[:8], "little")
    for place in range(0, end, 3):
        changed = whole.copy()
        changed[place] ^= 1 << (place % 8)
        model_file.write_bytes(changed)
        try:
            model = trine.load(model_file)
        except FileFormatError:
            continue
        assert isinstance(model, nn.Module)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_traced_graph_is_saved_and_comes_back_as_a_model(tmp_path: Path, dtype: str) -> None:
    weights = trine.asarray(np.arange(12.0).reshape(3, 4), dtype=dtype)
    graph = trine.trace(
        lambda x: {"y": trine.sin(x @ weights), "n": x.shape[0] + x * 0}, trine.spec(("batch", 3), dtype)
    )
    path = tmp_path / "graph.trine"
    trine.save(graph, path)
    loaded = trine.load(path)
    for n in (0, 1, 5):
        x = np.linspace(-1, 1, 3 * n).reshape(n, 3).astype(dtype)
        want, found = graph.run(x), loaded(x)
        assert found["y"].dtype is trine.dtypes.dtype(dtype)
        for name in ("y", "n"):
            assert np.array_equal(found[name].numpy(), want[name].numpy())
