"""`fit`, `evaluate` and `predict`: Keras's arguments and meanings, and numbers that do not depend on batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import trine
from trine import losses, nn, optim
from trine.errors import ArgumentError, CaptureError, DataError, DTypeError, NameLookupError, StateError
from trine.train import Callback, LambdaCallback

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)


def network(seed: int = 0, **options: Any) -> nn.Sequential:
    trine.manual_seed(seed)
    model = nn.Sequential([nn.Dense(8, activation="tanh"), nn.Dense(2, activation="softmax")]).build_for(("n", 4))
    given = {"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"} | options
    model.compile(**given)
    return model


def weights(model: Any) -> list[Any]:
    return [p.tolist() for p in model.parameters()]


class Batches(Callback):
    """Remembers how many samples of each batch were seen, by the values of the loss."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, float]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self.ends.append((batch, logs["loss"]))


# -- Numbers -----------------------------------------------------------------------------------------------------------


def test_learning_lowers_the_loss_and_the_history_has_a_value_per_epoch() -> None:
    model = network(optimizer=optim.Adam(0.05), metrics=["accuracy"])
    history = model.fit(X, Y, epochs=10, verbose=0, validation_split=0.2)
    assert history is model.history and history.epoch == list(range(10))
    assert sorted(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert all(len(values) == 10 for values in history.history.values())
    assert history.history["loss"][-1] < history.history["loss"][0] / 2 and history.history["accuracy"][-1] > 0.9


def test_the_loss_of_an_epoch_is_the_loss_over_all_samples() -> None:
    for batch_size in (1, 7, 32, 50):
        model = network(optimizer=optim.SGD(0.0), metrics=["accuracy"])  # nothing moves
        history = model.fit(X, Y, batch_size=batch_size, verbose=0).history
        total, weight = losses.get("sparse_categorical_crossentropy")(trine.asarray(Y), model(X))
        right = (model.predict(X).argmax(axis=1) == Y).mean()
        assert history["loss"][0] == pytest.approx((total / weight).item(), rel=1e-6)
        assert history["accuracy"][0] == pytest.approx(right, abs=1e-12)
        assert model.evaluate(X, Y, batch_size=batch_size)["loss"] == pytest.approx((total / weight).item(), rel=1e-6)


def test_a_loss_that_returns_one_number_counts_by_samples() -> None:
    target = X[:, :2]
    model = network(optimizer=optim.SGD(0.0), loss=lambda y, p: ((y - p) ** 2).mean())
    history = model.fit(X, target, batch_size=32, verbose=0).history
    assert history["loss"][0] == pytest.approx(((target - model.predict(X)) ** 2).mean(), rel=1e-6)


@pytest.mark.parametrize("rows", [(0, 25, 50), (0, 32, 50), (0, 1, 2, 50)])
def test_accumulated_gradients_of_parts_are_those_of_the_whole(rows: tuple[int, ...]) -> None:
    model = network()
    loss = losses.get("sparse_categorical_crossentropy")
    model(X)
    losses.mean(loss(trine.asarray(Y), model(X))).backward()
    whole = [p.grad.numpy() for p in model.parameters()]
    for p in model.parameters():
        p.grad = None
    for begin, end in pairwise(rows):
        total, _ = loss(trine.asarray(Y[begin:end]), model(X[begin:end]))
        (total / len(X)).backward()
    for p, expected in zip(model.parameters(), whole, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_float64_data_do_not_make_float64_training() -> None:
    wide, narrow = network(), network()
    first = wide.fit(X.astype(np.float64), Y, sample_weight=np.ones(50), epochs=2, verbose=0)
    second = narrow.fit(X, Y, epochs=2, verbose=0)
    assert {p.dtype for p in wide.parameters()} == {trine.float32}
    assert {s.dtype for _, s in wide.optimizer.named_state()} <= {trine.float32, trine.int64}
    assert weights(wide) == weights(narrow) and first.history == second.history
    assert wide.predict(X.astype(np.float64)).dtype == np.float32
    assert [part.dtype for part in wide._training.signature if part is not None] == [
        trine.float32, trine.int64, trine.float32]  # fmt: skip
    regression = network(loss="mse")
    regression.fit(X.astype(np.float64), X[:, :2].astype(np.float64), verbose=0)
    assert {p.dtype for p in regression.parameters()} == {trine.float32}


def test_a_float64_model_trains_in_float64() -> None:
    with nn.dtype_policy("float64"):
        model = nn.Sequential([nn.Dense(2)])
    model.compile("sgd", "mse", metrics=["mae"])
    model.fit(X.astype(np.float64), X[:, :2].astype(np.float64), verbose=0)
    assert {p.dtype for p in model.parameters()} == {trine.float64}
    assert model._training.signature[0].dtype is trine.float64
    assert model.predict(X).dtype == np.float64


def test_the_same_seed_gives_the_same_bits_captured_and_eager() -> None:
    runs = [network(seed=3, metrics=["accuracy"]), network(seed=3, metrics=["accuracy"]),
            network(seed=3, metrics=["accuracy"], run_eagerly=True)]  # fmt: skip
    found = [(m.fit(X, Y, epochs=3, batch_size=16, verbose=0).history, weights(m)) for m in runs]
    assert found[0] == found[1] == found[2]


def test_batch_sizes_below_the_data_are_captured_once_for_each_shape() -> None:
    model = network()
    model.fit(X, Y, batch_size=16, epochs=10, verbose=0)
    step = model._training.steps["train"]
    assert (step.recorded, step.replayed) == (4, 36)  # 16 and the last 2, each recorded twice


# -- Weights -----------------------------------------------------------------------------------------------------------


def test_a_weight_of_zero_leaves_a_sample_out() -> None:
    keep = np.arange(50) < 32
    model, without = network(), network()
    model.fit(X, Y, sample_weight=keep.astype(np.float32), batch_size=50, shuffle=False, epochs=2, verbose=0)
    without.fit(X[:32], Y[:32], batch_size=32, shuffle=False, epochs=2, verbose=0)
    np.testing.assert_allclose(weights(model)[0], weights(without)[0], rtol=1e-5, atol=1e-7)


def test_a_batch_without_weight_changes_nothing() -> None:
    model = network()
    model.fit(X, Y, epochs=1, verbose=0)
    before = weights(model)
    history = model.fit(X, Y, sample_weight=np.zeros(50), epochs=1, verbose=0).history
    assert weights(model) == before and history["loss"] == [0.0]


def test_class_weights_are_sample_weights_and_leave_validation_alone() -> None:
    first, second = network(), network()
    by_class = {0: 1.0, 1: 3.0}
    a = first.fit(X, Y, class_weight=by_class, validation_split=0.2, epochs=2, verbose=0).history
    b = second.fit(X[:40], Y[:40], sample_weight=np.where(Y[:40] == 1, 3.0, 1.0), validation_data=(X[40:], Y[40:]),
                   epochs=2, verbose=0).history  # fmt: skip
    assert weights(first) == weights(second) and a == b
    assert a["val_loss"][-1] == pytest.approx(first.evaluate(X[40:], Y[40:])["loss"])


def test_sample_weights_count_in_weighted_metrics_only() -> None:
    given = np.linspace(0, 1, 50)
    model = network(optimizer=optim.SGD(0.0), metrics=["accuracy"], weighted_metrics=["accuracy"])
    found = model.fit(X, Y, sample_weight=given, batch_size=16, verbose=0).history
    right = model.predict(X).argmax(axis=1) == Y
    assert found["accuracy"][0] == pytest.approx(right.mean())
    assert found["accuracy_1"][0] == pytest.approx((right * given).sum() / given.sum(), rel=1e-5)


def test_batches_of_three_carry_weights() -> None:
    given = np.linspace(0, 1, 50).astype(np.float32)
    arrays, stream = network(), network()
    arrays.fit(X, Y, sample_weight=given, batch_size=25, shuffle=False, verbose=0)
    stream.fit(lambda: ((X[i : i + 25], Y[i : i + 25], given[i : i + 25]) for i in (0, 25)), verbose=0)
    assert weights(arrays) == weights(stream)


def test_a_loss_that_cannot_take_weights_refuses_them() -> None:
    pair = network(loss=lambda y, p: losses.get("sparse_categorical_crossentropy")(y, p))
    with pytest.raises(DTypeError, match="takes no sample_weight, which would be left out"):
        pair.fit(X, Y, sample_weight=np.ones(50), verbose=0)
    number = network(loss=lambda y, p: p.mean())
    with pytest.raises(DTypeError, match="returns one number for the batch, so no sample_weight can count"):
        number.fit(X, Y, sample_weight=np.ones(50), verbose=0)


def test_a_loss_with_a_value_per_sample_is_weighted() -> None:
    given = np.linspace(0, 1, 50).astype(np.float32)
    own = network(loss=lambda y, p: ((y - p) ** 2).mean(axis=-1))
    built_in = network(loss="mse")
    for model in (own, built_in):
        model.fit(X, X[:, :2], sample_weight=given, epochs=2, verbose=0)
    np.testing.assert_allclose(weights(own)[0], weights(built_in)[0], rtol=1e-5)


# -- Validation --------------------------------------------------------------------------------------------------------


def test_validation_split_takes_the_last_samples_before_shuffling() -> None:
    split, given = network(), network()
    a = split.fit(X, Y, validation_split=0.3, epochs=2, verbose=0).history
    b = given.fit(X[:35], Y[:35], validation_data=(X[35:], Y[35:]), epochs=2, verbose=0).history
    assert a == b and weights(split) == weights(given)


def test_validation_data_count_before_a_split_and_may_be_anything() -> None:
    expected = None
    for held_out in ((X[40:], Y[40:]), [X[40:], Y[40:]], [(X[40:45], Y[40:45]), (X[45:], Y[45:])],
                     (X[40:], Y[40:], np.ones(10)), lambda: iter([(X[40:], Y[40:])])):  # fmt: skip
        found = network().fit(X, Y, validation_data=held_out, validation_split=0.5, verbose=0).history["val_loss"]
        expected = expected or found
        assert found == pytest.approx(expected, rel=1e-6)


def test_validation_frequency_and_steps() -> None:
    model = network()
    history = model.fit(X, Y, epochs=5, validation_data=(X, Y), validation_freq=2, verbose=0).history
    assert len(history["loss"]) == 5 and len(history["val_loss"]) == 2
    one = model.fit(X, Y, validation_data=(X, Y), validation_batch_size=10, validation_steps=1, verbose=0).history
    assert one["val_loss"][0] == pytest.approx(model.evaluate(X[:10], Y[:10])["loss"], rel=1e-6)


def test_validation_changes_nothing() -> None:
    trine.manual_seed(0)
    runs = []
    for options in ({}, {"validation_data": (X, Y)}):
        trine.manual_seed(0)
        model = nn.Sequential([nn.Dense(8), nn.BatchNormalization(), nn.Dropout(0.5), nn.Dense(2), nn.Softmax()])
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(X, Y, epochs=3, verbose=0, **options)
        runs.append({name: value.tolist() for name, value in model.state_dict().items()})
    assert runs[0] == runs[1]


def test_evaluate_returns_a_dict_or_a_list() -> None:
    model = network(metrics=["accuracy"])
    model.fit(X, Y, verbose=0)
    found = model.evaluate(X, Y)
    assert list(found) == ["loss", "accuracy"] and model.evaluate(X, Y, return_dict=False) == list(found.values())
    assert model.evaluate(X, Y, steps=1, batch_size=5) == model.evaluate(X[:5], Y[:5])
    assert model.test_on_batch(X, Y)["loss"] == pytest.approx(found["loss"], rel=1e-6)


def test_predict_joins_batches_and_keeps_containers() -> None:
    model = nn.Sequential([nn.Dense(2)])
    assert model.predict(X, batch_size=7).shape == (50, 2)  # the first call builds
    np.testing.assert_allclose(model.predict(X, batch_size=7), model(X).numpy(), rtol=1e-6)
    assert model.predict(X, batch_size=7, steps=2).shape == (14, 2)
    assert model.predict([(X[:5], Y[:5]), (X[5:7], Y[5:7])]).shape == (7, 2)
    assert model.predict_on_batch(X[:3]).shape == (3, 2)
    shape = nn.Input((4,))
    many = nn.Model(shape, {"a": nn.Dense(1)(shape), "b": (nn.Dense(2)(shape),)})
    found = many.predict(X)
    assert found["a"].shape == (50, 1) and found["b"][0].shape == (50, 2)


def test_predict_and_evaluate_are_in_inference_mode() -> None:
    model = nn.Sequential([nn.Dropout(0.9)])
    model.compile("sgd", "mse")
    assert model.predict(X).tolist() == X.tolist()
    assert model.evaluate(X, X) == {"loss": 0.0}


# -- Epochs and steps --------------------------------------------------------------------------------------------------


def test_steps_of_an_endless_generator_lose_no_batch() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Any]:
        number = 0
        while True:
            taken.append(number)
            yield X[number % 50 : number % 50 + 1], Y[number % 50 : number % 50 + 1]
            number += 1

    model, arrays = network(), network()
    model.fit(endless(), steps_per_epoch=5, epochs=4, verbose=0)
    assert taken == list(range(20))
    arrays.fit(X[:20], Y[:20], batch_size=1, shuffle=False, verbose=0)
    assert weights(model) == weights(arrays)


def test_steps_of_arrays_go_on_where_the_epoch_ended() -> None:
    model, whole = network(), network()
    model.fit(X, Y, batch_size=10, steps_per_epoch=2, epochs=5, verbose=0)
    whole.fit(X, Y, batch_size=10, epochs=2, verbose=0)
    assert weights(model) == weights(whole)


def test_a_generator_without_steps_runs_out() -> None:
    model = network()
    with pytest.raises(DataError, match="epoch 2 has no batches") as caught:
        model.fit(iter([(X, Y)]), epochs=2, verbose=0)
    assert "test_fit.py" in str(caught.value) and "try: an iterator runs out" in str(caught.value)
    assert model.history.epoch == [0]


def test_fit_again_continues() -> None:
    once, twice = network(optimizer="adam"), network(optimizer="adam")
    once.fit(X, Y, epochs=4, verbose=0)
    twice.fit(X, Y, epochs=2, verbose=0)
    twice.fit(X, Y, initial_epoch=2, epochs=4, verbose=0)
    assert weights(once) == weights(twice)
    assert once.optimizer.iterations.item() == twice.optimizer.iterations.item() == 8


def test_compile_again_changes_how_to_train() -> None:
    model = network()
    model.fit(X, Y, epochs=1, verbose=0)
    before = weights(model)
    model.compile(optim.SGD(0.0), "mse", metrics=["mae"])
    history = model.fit(X, X[:, :2], epochs=1, verbose=0).history
    assert weights(model) == before and list(history) == ["loss", "mean_absolute_error"]


def test_an_optimizer_made_from_parameters_moves_those_only() -> None:
    model = network()
    model(X)
    model.compile(optim.SGD(model[1].parameters(), 0.1), "sparse_categorical_crossentropy")
    before = weights(model)
    model.fit(X, Y, epochs=2, verbose=0)
    after = weights(model)
    assert before[:2] == after[:2] and before[2] != after[2] and before[3] != after[3]


@pytest.mark.parametrize("eager", [False, True])
def test_freezing_a_layer_between_fits_takes_effect_and_keeps_its_state(eager: bool) -> None:
    model = network(optimizer="adam", run_eagerly=eager)
    model.fit(X, Y, epochs=2, verbose=0)
    moments = model.optimizer.state_dict()
    model[0].trainable = False
    before = weights(model[1]), model[0].kernel.tolist()
    model.fit(X, Y, epochs=2, verbose=0)
    assert model[0].kernel.tolist() == before[1] and weights(model[1]) != before[0]
    frozen = [name for name in moments if "layers.0" in name]
    assert frozen and all((model.optimizer.state_dict()[name] == moments[name]).all() for name in frozen)
    model[0].trainable = True
    model.fit(X, Y, epochs=1, verbose=0)
    assert model[0].kernel.tolist() != before[1]


@pytest.mark.parametrize("eager", [False, True])
def test_a_layer_added_by_a_callback_is_trained_from_the_next_batch_on(eager: bool) -> None:
    trine.manual_seed(0)
    model = nn.Sequential([nn.Dense(4, activation="tanh"), nn.Dense(2)])
    model.compile(optim.SGD(0.1), "mse", run_eagerly=eager)

    def grow(batch: int, logs: Any) -> None:
        if batch == 2 and len(model) == 2:
            model.add(nn.Dense(2, kernel_initializer="identity"))

    model.fit(X, X[:, :2], batch_size=10, callbacks=LambdaCallback(on_train_batch_end=grow), verbose=0)
    assert len(model.optimizer.parameters) == 6
    assert not np.array_equal(model[2].kernel.numpy(), np.eye(2))


def test_a_layer_added_between_fits_is_trained_and_the_others_keep_their_state() -> None:
    model = network(optimizer="adam", loss="mse")
    model.fit(X, X[:, :2], epochs=1, verbose=0)
    moments = list(model.optimizer.state["layers.0.kernel"].values())
    model.add(nn.Dense(2, kernel_initializer="identity"))
    model.fit(X, X[:, :2], epochs=1, verbose=0)
    kept = list(model.optimizer.state["layers.0.kernel"].values())
    assert all(mine is before for mine, before in zip(kept, moments, strict=True)) and len(kept) == 2
    assert not np.array_equal(model[2].kernel.numpy(), np.eye(2)) and model.optimizer.iterations.item() == 4


# -- Several outputs ---------------------------------------------------------------------------------------------------


class Two(nn.Module):
    def __init__(self, form: str) -> None:
        self.form = form
        self.a, self.b = nn.Dense(2, activation="softmax"), nn.Dense(1)

    def forward(self, x: Any) -> Any:
        a, b = self.a(x), self.b(x)
        return {"dict": {"a": a, "b": b}, "list": [a, b], "tuple": (a, b)}[self.form]


TARGET = X[:, :1]
NAMED = {"b": "mse", "a": "sparse_categorical_crossentropy"}  # not in the order of the outputs


@pytest.mark.parametrize(("form", "options", "targets"), [
    ("dict", {"loss": NAMED, "loss_weights": {"b": 0.5}, "metrics": {"a": ["accuracy"]}}, {"b": TARGET, "a": Y}),
    ("dict", {"loss": NAMED, "loss_weights": [1.0, 0.5], "metrics": {"a": "accuracy"}}, [Y, TARGET]),
    ("list", {"loss": ["sparse_categorical_crossentropy", "mse"], "loss_weights": [1, 0.5],
              "metrics": [["accuracy"], None]}, [Y, TARGET]),
    ("tuple", {"loss": {"output_1": "mse", "output_0": "sparse_categorical_crossentropy"},
               "loss_weights": {"output_1": 0.5}, "metrics": {"output_0": "accuracy"}}, (Y, TARGET)),
])  # fmt: skip
def test_losses_and_metrics_of_several_outputs(form: str, options: Any, targets: Any) -> None:
    trine.manual_seed(0)
    model = Two(form)
    model.compile(optim.SGD(0.1), **options)
    history = model.fit(X, targets, epochs=3, batch_size=16, verbose=0).history
    names = ["a", "b"] if form == "dict" else ["output_0", "output_1"]
    assert list(history) == ["loss", f"{names[0]}_loss", f"{names[1]}_loss", f"{names[0]}_accuracy"]
    for total, a, b in zip(*[history[name] for name in ("loss", *[f"{n}_loss" for n in names])], strict=True):
        assert total == pytest.approx(a + 0.5 * b, rel=1e-6)
    assert history["loss"][-1] < history["loss"][0]
    trine.manual_seed(0)
    by_hand = Two("tuple")
    by_hand(X)
    optimizer = optim.SGD(by_hand.parameters(), 0.1)
    for epoch in range(3):
        for chosen in np.array_split(trine.data.permutation(0, epoch, 50), [16, 32, 48]):
            a, b = by_hand(X[chosen])
            cross = losses.mean(losses.get("sparse_categorical_crossentropy")(trine.asarray(Y[chosen]), a))
            (cross + 0.5 * losses.mean(losses.mse(trine.asarray(TARGET[chosen]), b))).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert weights(model) == weights(by_hand)


def test_one_loss_counts_for_every_output_and_none_leaves_one_out() -> None:
    model = Two("list")
    model.compile("sgd", "mse")
    assert list(model.fit(X, [X[:, :2], TARGET], verbose=0).history) == ["loss", "output_0_loss", "output_1_loss"]
    model.compile("sgd", [None, "mse"])
    before = model.a.kernel.tolist()
    assert list(model.fit(X, [None, TARGET], verbose=0).history) == ["loss", "output_1_loss"]
    assert model.a.kernel.tolist() == before


def test_outputs_of_a_functional_model_are_named_by_their_layers() -> None:
    x = nn.Input((4,))
    first, second = nn.Dense(2), nn.Dense(1)
    first.name, second.name = "left", "right"
    model = nn.Model(x, [first(x), second(x)])
    model.compile("sgd", {"right": "mse", "left": "mae"}, metrics={"right": "mae"})
    history = model.fit(X, {"right": TARGET, "left": X[:, :2]}, verbose=0).history
    assert list(history) == ["loss", "left_loss", "right_loss", "right_mean_absolute_error"]


def test_sample_weights_by_output() -> None:
    model = Two("dict")
    model.compile(optim.SGD(0.0), {"a": "mse", "b": "mse"})
    zero = {"a": np.zeros(50), "b": np.ones(50)}
    history = model.fit(X, {"a": X[:, :2], "b": TARGET}, sample_weight=zero, verbose=0).history
    assert history["a_loss"] == [0.0] and history["b_loss"][0] > 0


def test_wrong_names_and_numbers_of_outputs_are_refused() -> None:
    for options, targets, text in [
        ({"loss": {"a": "mse", "c": "mse"}}, [X, X], "no output is called 'c'"),
        ({"loss": ["mse"]}, [X, X], "2 outputs and 1 entries"),
        ({"loss": "mse"}, X, "2 outputs and 1 entry"),
        ({"loss": "mse"}, [X, X, X], "2 outputs and 3 entries"),
        ({"loss": "mse"}, None, "there are no targets"),
        ({"loss": "mse", "metrics": ["mae"]}, [X[:, :2], TARGET], "2 outputs and 1 entries"),
        ({"loss": [None, None]}, [X, X], "no output has a loss"),
    ]:
        model = Two("dict")
        model.compile("sgd", **options)
        with pytest.raises(ArgumentError, match=text):
            model.fit(X, targets, verbose=0)


# -- What is replaced by the user --------------------------------------------------------------------------------------


def test_a_model_may_define_its_own_loss_and_step() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Dense(2)

        def forward(self, x: Any) -> Any:
            return self.layer(x)

        def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
            loss = ((y - y_pred) ** 2).mean()
            return loss, {"loss": (loss, trine.ones(())), "twice": (2 * loss, trine.ones(()))}

    class Stepped(Own):
        def train_step(self, x: Any, y: Any, sample_weight: Any = None) -> Any:
            loss, _ = self.compute_loss(x, y, self(x))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return {"own": (loss, trine.ones(()))}

    found = []
    for kind in (Own, Stepped):
        trine.manual_seed(0)
        model = kind()
        model.compile("sgd")
        history = model.fit(X, X[:, :2], epochs=2, verbose=0).history
        assert list(history) == (["loss", "twice"] if kind is Own else ["own"])
        found.append(weights(model))
    assert found[0] == found[1]


def test_train_on_batch_is_a_step() -> None:
    single, whole = network(), network()
    for _ in range(3):
        logs = single.train_on_batch(X, Y)
    history = whole.fit(X, Y, batch_size=50, shuffle=False, epochs=3, verbose=0).history
    assert weights(single) == weights(whole) and logs["loss"] == history["loss"][-1]


def test_two_metrics_of_one_name_are_both_reported() -> None:
    model = network(metrics=[lambda y, p: p.mean(), lambda y, p: p.sum(axis=-1)])
    history = model.fit(X, Y, verbose=0).history
    assert list(history) == ["loss", "<lambda>", "<lambda>_1"] and history["<lambda>_1"] == [pytest.approx(1.0)]


# -- What is wrong is named --------------------------------------------------------------------------------------------


def test_wrong_calls_are_refused_with_the_users_line() -> None:
    model = nn.Sequential([nn.Dense(2)])
    for call in (lambda: model.fit(X, Y), lambda: model.evaluate(X, Y), lambda: model.train_on_batch(X, Y)):
        with pytest.raises(StateError, match=r"has not been told how to train(.|\n)*at test_fit.py"):
            call()
    model.compile("sgd")
    with pytest.raises(StateError, match="no loss was chosen"):
        model.fit(X, Y, verbose=0)
    with pytest.raises(NameLookupError, match="no loss is called 'msee'"):
        model.compile("sgd", "msee")
    with pytest.raises(NameLookupError, match="no metric is called 'acuracy'"):
        model.compile("sgd", "mse", metrics=["acuracy"])
    model.compile("sgd", "mse")
    for options, text in [
        ({"validation_split": 1.5}, "is a fraction between 0 and 1"),
        ({"steps_per_epoch": 0}, "is at least 1"),
        ({"verbose": 3}, "is 0 \\(silent\\)"),
        ({"batch_size": 0}, "is an integer of at least 1"),
        ({"callbacks": [print]}, "is no callback"),
    ]:
        with pytest.raises((ArgumentError, DTypeError), match=rf"{text}(.|\n)*at test_fit.py"):
            model.fit(X, X[:, :2], **{"verbose": 0} | options)
    with pytest.raises(DataError, match=r"fit: x: 1 of 200 values are NaN(.|\n)*at test_fit.py"):
        model.fit(np.where(np.arange(200).reshape(50, 4) == 14, np.nan, X), X[:, :2], verbose=0)
    with pytest.raises(DataError, match="validation_split: only arrays can be split"):
        model.fit(iter([(X, X[:, :2])]), validation_split=0.5, verbose=0)


FACTOR = 1.0


def scaled(y: Any, p: Any) -> Any:
    return FACTOR * ((y - p) ** 2).mean(axis=-1)


def test_a_variable_that_a_loss_reads_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(optimizer=optim.SGD(0.0), loss=scaled)
    before = model.fit(X, X[:, :2], batch_size=10, verbose=0).history["loss"][0]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    after = model.fit(X, X[:, :2], batch_size=10, verbose=0).history["loss"][0]
    assert after == pytest.approx(3 * before, rel=1e-6)


def test_a_random_number_from_outside_cannot_be_captured() -> None:
    model = network(loss=lambda y, p: ((y - p) ** 2).mean() * float(np.random.default_rng().random()))
    with pytest.raises(CaptureError, match="two calls record different steps"):
        model.fit(X, X[:, :2], batch_size=10, verbose=0)
