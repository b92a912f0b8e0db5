"""The same network in three styles, and networks whose structure is the program's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import trine
from trine import losses, nn, optim
from trine.functional import relu, softmax
from trine.ops.convolution import convolution
from trine.ops.window import max_pool

RNG = np.random.default_rng(0)
STEPS, BATCH = 20, 16
FLAT = RNG.normal(size=(STEPS * BATCH, 12)).astype(np.float32)
IMAGES = RNG.normal(size=(STEPS * BATCH, 6, 6, 1)).astype(np.float32)
LABELS = RNG.integers(0, 3, STEPS * BATCH)
CROSS_ENTROPY = losses.get("sparse_categorical_crossentropy")
RATE = 0.05


def batches(x: Any) -> list[tuple[Any, Any]]:
    return [(x[i : i + BATCH], LABELS[i : i + BATCH]) for i in range(0, len(x), BATCH)]


def mlp() -> nn.Sequential:
    return nn.Sequential([nn.Dense(16, activation="relu"), nn.Dense(3, activation="softmax")])


def cnn() -> nn.Sequential:
    return nn.Sequential([
        nn.Conv2D(4, 3, padding="same", activation="relu"), nn.MaxPool2D(), nn.Flatten(),
        nn.Dense(3, activation="softmax"),
    ])  # fmt: skip


class MLP(nn.Module):
    def __init__(self) -> None:
        self.hidden, self.out = nn.Dense(16, activation="relu"), nn.Dense(3)

    def forward(self, x: Any) -> Any:
        return softmax(self.out(self.hidden(x)))


class CNN(nn.Module):
    def __init__(self) -> None:
        self.conv, self.pool, self.out = nn.Conv2D(4, 3, padding="same"), nn.MaxPool2D(), nn.Dense(3)

    def forward(self, x: Any) -> Any:
        x = self.pool(relu(self.conv(x)))
        return softmax(self.out(x.reshape((x.shape[0], -1))))


def start(x: Any, make: Callable[[], Any]) -> list[np.ndarray[Any, Any]]:
    """The parameters that all styles start from."""
    trine.manual_seed(1)
    model = make()
    model(x[:1])
    return [p.numpy() for p in model.parameters()]


def with_tensors(x: Any, forward: Callable[..., Any], captured: bool, initial: Any) -> list[float]:
    """Tensors and `backward`, and the update by hand."""
    parameters = [trine.asarray(value, requires_grad=True) for value in initial]

    def step(inputs: Any, labels: Any) -> Any:
        total, count = CROSS_ENTROPY(labels, forward(inputs, *parameters))
        loss = total / count
        loss.backward()
        with trine.no_grad():
            for p in parameters:
                p.assign(p - RATE * p.grad)
                p.grad = None
        return loss.detach()

    run = trine.compile(step) if captured else step
    return [run(trine.asarray(a), trine.asarray(b)).item() for a, b in batches(x)]


def with_a_loop(x: Any, make: Callable[[], Any], captured: bool, initial: Any) -> list[float]:
    """A Module, an optimiser, and a loop."""
    model = make()
    model(x[:1])
    for p, value in zip(model.parameters(), initial, strict=True):
        with trine.no_grad():
            p.assign(trine.asarray(value))
    optimizer = optim.SGD(model.parameters(), RATE)

    def step(inputs: Any, labels: Any) -> Any:
        loss = losses.mean(CROSS_ENTROPY(labels, model(inputs)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = trine.compile(step) if captured else step
    return [run(trine.asarray(a), trine.asarray(b)).item() for a, b in batches(x)]


def with_fit(x: Any, make: Callable[[], Any], captured: bool, initial: Any) -> list[float]:
    """`compile` and `fit`, a batch an epoch."""
    model = make()
    model(x[:1])
    model.load_state_dict(dict(zip(model.state_dict(), initial, strict=True)))
    model.compile(optim.SGD(RATE), "sparse_categorical_crossentropy", run_eagerly=not captured)
    history = model.fit(x, LABELS, batch_size=BATCH, shuffle=False, steps_per_epoch=1, epochs=STEPS, verbose=0)
    # the sum over a batch is divided by its size in float64: rounded, the float32 quotient of the other styles
    return [float(np.float32(loss)) for loss in history.history["loss"]]


def dense_forward(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return softmax(relu(x @ w1 + b1) @ w2 + b2)


def conv_forward(x: Any, kernel: Any, bias: Any, w: Any, b: Any) -> Any:
    x = relu(convolution(x, kernel, padding="same") + bias)
    x = max_pool(x, 2)
    return softmax(x.reshape((x.shape[0], -1)) @ w + b)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_three_styles_give_bitwise_the_same_losses(network: str) -> None:
    x, forward, module, layers = {
        "mlp": (FLAT, dense_forward, MLP, mlp), "cnn": (IMAGES, conv_forward, CNN, cnn),
    }[network]  # fmt: skip
    initial = start(x, layers)
    found = {
        f"{style.__name__}, {'captured' if captured else 'eager'}": style(x, given, captured, initial)
        for style, given in [(with_tensors, forward), (with_a_loop, module), (with_a_loop, layers), (with_fit, layers),
                             (with_fit, module)]
        for captured in (False, True)
    }  # fmt: skip
    expected = next(iter(found.values()))
    assert len(expected) == STEPS and expected[-1] < expected[0]
    for name, values in found.items():
        assert values == expected, name


# -- Structure that the program decides --------------------------------------------------------------------------------


class Tree(nn.Module):
    """A recursive network: the value of a tree is made of those of its branches."""

    def __init__(self) -> None:
        self.leaf, self.join, self.out = nn.Dense(6, activation="tanh"), nn.Dense(6, activation="tanh"), nn.Dense(1)

    def encode(self, tree: Any) -> Any:
        if isinstance(tree, tuple):
            return self.join(trine.concat([self.encode(branch) for branch in tree], axis=-1))
        return self.leaf(trine.asarray([[float(tree)]]))

    def forward(self, tree: Any) -> Any:
        return self.out(self.encode(tree))


def total(tree: Any) -> float:
    return sum(map(total, tree)) if isinstance(tree, tuple) else tree


def random_tree(rng: np.random.Generator, depth: int) -> Any:
    if depth == 0 or rng.random() < 0.3:
        return float(rng.uniform(-0.5, 0.5))
    return random_tree(rng, depth - 1), random_tree(rng, depth - 1)


def test_a_recursive_network_over_trees_trains() -> None:
    rng = np.random.default_rng(0)
    trees = [random_tree(rng, 4) for _ in range(40)]
    trine.manual_seed(0)
    model = Tree()
    model((0.0, 0.0))
    optimizer = optim.Adam(model.parameters(), 0.02)
    means = []
    for _ in range(6):
        seen = []
        for tree in trees:
            loss = ((model(tree) - total(tree)) ** 2).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(loss.item())
        means.append(sum(seen) / len(seen))
    assert means[-1] < means[0] / 4


@pytest.mark.parametrize("captured", [False, True])
def test_a_network_gets_a_layer_at_step_50(captured: bool) -> None:
    trine.manual_seed(0)
    x = trine.asarray(FLAT[:64])
    y = trine.asarray(np.sin(FLAT[:64, :1] * 2) * FLAT[:64, 1:2])
    model = nn.Sequential([nn.Dense(16, activation="tanh"), nn.Dense(1)])
    model(x)
    optimizer = optim.Adam(model.parameters(), 0.02)

    def step() -> Any:
        loss = losses.mean(losses.mse(y, model(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = trine.compile(step) if captured else step
    found = []
    for number in range(150):
        if number == 50:
            model.layers.insert(1, nn.Dense(16, activation="tanh"))
            model(x)
            optimizer.build(model.parameters())
            before = model[1].kernel.tolist()
        found.append(run().item())
    assert found[-1] < found[49] < found[0]
    assert model[1].kernel.tolist() != before and optimizer.iterations.item() == 150


@pytest.mark.parametrize("captured", [False, True])
def test_a_while_on_a_tensors_value_trains(captured: bool) -> None:
    """As many turns as the value needs: the number of turns is another one from step to step."""
    w = trine.asarray(1.2, requires_grad=True)
    optimizer = optim.SGD([w], 0.05)
    turns: list[int] = []

    def step() -> Any:
        x, count = trine.asarray(1.0), 0
        while x < 20.0:  # no decorator, no special loop
            x = x * w
            count += 1
        turns.append(count)
        loss = (w - 3.0) ** 2 + 0.001 * x
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = trine.compile(step) if captured else step
    found = [run().item() for _ in range(30)]
    assert turns[0] == 17 and turns[-1] == 3 and len(set(turns)) > 5
    assert abs(w.item() - 3.0) < 0.2 and found[-1] < found[0] / 50


def test_a_while_follows_its_values_exactly() -> None:
    for start in (1.2, 1.7, 3.0):
        w = trine.asarray(start, requires_grad=True)
        x, count = w, 1
        while x < 10.0:
            x, count = x * w, count + 1
        x.backward()
        assert w.grad.item() == pytest.approx(count * start ** (count - 1), rel=1e-5)
