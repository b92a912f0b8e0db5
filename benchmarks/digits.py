"""Claim: a step of `fit` on the demo's network costs less than one of a PyTorch eager loop over the same network.

Not true with the reference back end, which computes by NumPy; the ratio is here so that it can be watched. Before any
time is taken, both networks get the same weights and the same batches, and every loss must agree within `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness import Contender, interleaved, ratio, table, write_section

from trine import nn
from trine.cli.demo import BATCH, digits, network

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("benchmarks/digits.py compares with PyTorch, which is not installed: pip install -e '.[test-oracles]'")

RATE = 0.002  # of the demo, at its start
BETA_2, EPSILON = 0.999, 1e-7  # of Adam
STEPS_COMPARED = 20
TOLERANCE = 1e-5  # relative, on the loss of a step: float32, summed in another order, through as many updates
OURS = "Trine: `fit`, 1 thread"  # the reference back end holds NumPy to one, so that bits do not depend on it


class Network(torch.nn.Module):
    """The demo's network as one writes it in PyTorch: channels first, logits."""

    def __init__(self, dropout: bool) -> None:
        """Make the layers; without dropout the loss depends on weights and data alone."""
        super().__init__()
        self.dropout = dropout
        self.convolutions = torch.nn.ModuleList(
            torch.nn.Conv2d(i, o, 3, padding=1) for i, o in ((1, 32), (32, 32), (32, 64))
        )
        self.hidden = torch.nn.Linear(256, 128)
        self.out = torch.nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, 1, 8, 8] -> [n, 10]`."""
        first, second, third = self.convolutions
        x = self.dropped(F.max_pool2d(F.relu(second(F.relu(first(x)))), 2), 0.25)
        x = self.dropped(F.max_pool2d(F.relu(third(x)), 2).flatten(1), 0.4)
        return self.out(self.dropped(F.relu(self.hidden(x)), 0.4))

    def dropped(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        """`x` with dropout."""
        return F.dropout(x, rate, self.training) if self.dropout else x

    @torch.no_grad()
    def take(self, weights: list[np.ndarray[Any, Any]]) -> None:
        """Copy the weights of Trine's network, kernels and biases in the order of the layers."""
        kernels, biases = weights[::2], weights[1::2]
        first_dense = kernels[3].reshape(2, 2, 64, 128).transpose(2, 0, 1, 3).reshape(256, 128)  # rows by channel first
        turned = [*(k.transpose(3, 2, 0, 1) for k in kernels[:3]), first_dense.T, kernels[4].T]
        for layer, kernel, bias in zip([*self.convolutions, self.hidden, self.out], turned, biases, strict=True):
            layer.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
            layer.bias.copy_(torch.tensor(bias))


def channels_first(images: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def adam(model: Network) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), RATE, betas=(0.9, BETA_2), eps=EPSILON)


def weights_of(model: nn.Sequential) -> list[np.ndarray[Any, Any]]:
    """Kernels and biases, layer by layer."""
    return [np.array(part) for layer in model.layers if hasattr(layer, "kernel") for part in (layer.kernel, layer.bias)]


def largest_difference(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """The largest relative difference of the losses over the first steps, without dropout, from the same weights."""
    ours = network(0, 10_000, len(images))  # so long a schedule that the rate stays what it is
    for layer in ours.layers:
        if isinstance(layer, nn.Dropout):
            layer.rate = 0.0
    ours.predict(images[:BATCH])  # makes the weights
    theirs = Network(dropout=False)
    theirs.take(weights_of(ours))
    optimizer = adam(theirs)
    worst = 0.0
    for step in range(STEPS_COMPARED):
        part = slice(step * BATCH, (step + 1) * BATCH)
        mine = ours.train_on_batch(images[part], labels[part])["loss"]
        loss = F.cross_entropy(theirs(channels_first(images[part])), torch.tensor(labels[part]))
        optimizer.zero_grad()
        loss.backward()
        # Trine and Keras add epsilon before the bias of the second mean is taken off (Kingma and Ba, end of section 2).
        optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - BETA_2 ** (step + 1))
        optimizer.step()
        worst = max(worst, abs(mine - loss.item()) / abs(loss.item()))
    return worst


def loop(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], memory_format: Any) -> Callable[[int], None]:
    """An epoch as a PyTorch user writes it: shuffled, with dropout, a rate schedule, mean loss and accuracy."""
    x, y = channels_first(images).to(memory_format=memory_format), torch.tensor(labels)
    model = Network(dropout=True).to(memory_format=memory_format).train()
    optimizer = adam(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20 * -(-len(images) // BATCH))

    def run(steps: int) -> None:
        total, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        order = torch.randperm(len(x))
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            scores = model(x[chosen])
            loss = F.cross_entropy(scores, y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(chosen)
            right += (scores.argmax(1) == y[chosen]).sum()
        total.item(), right.item()

    return run


def contenders(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> list[Contender]:
    """Trine, and PyTorch with one thread and two, in both memory layouts."""
    model = network(0, 20, len(images))
    found = [Contender(OURS, partial(fitted, model, images, labels))]
    for name, threads, memory_format in (
        ("torch, 1 thread", 1, torch.contiguous_format),
        ("torch, 1 thread, channels last", 1, torch.channels_last),
        ("torch, 2 threads", 2, torch.contiguous_format),
        ("torch, 2 threads, channels last", 2, torch.channels_last),
    ):
        run = loop(images, labels, memory_format)
        found.append(Contender(name, run, partial(torch.set_num_threads, threads)))
    return found


def fitted(model: nn.Sequential, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], steps: int) -> None:
    """An epoch of `fit`, which is as many steps."""
    model.fit(images, labels, epochs=1, batch_size=BATCH, verbose=0)


def main() -> None:
    parser = argparse.ArgumentParser(description="a training step on the demo's network")
    parser.add_argument("--rounds", type=int, default=10, help="epochs of each contender (default 10)")
    rounds = parser.parse_args().rounds
    (images, labels), _ = digits(0)
    steps = -(-len(images) // BATCH)
    torch.manual_seed(0)
    difference = largest_difference(images, labels)
    if not difference < TOLERANCE:
        sys.exit(
            f"the losses differ by {difference:.1e}, more than {TOLERANCE:.0e}: not the same network, nothing is timed"
        )
    timings = interleaved(contenders(images, labels), rounds, steps, warm_up=1)
    peers = [name for name in timings if name != OURS]
    alone = {name: timings[name.replace("2 threads", "1 thread")] for name in peers}
    disturbed = [
        name for name in peers
        if timings[name].minimum > alone[name].minimum or timings[name].median > alone[name].median
    ]  # fmt: skip
    peers = [name for name in peers if name not in disturbed]
    fastest = min(peers, key=lambda name: timings[name].minimum)
    body = [
        f"The network, data, batches of {BATCH}, optimiser and schedule of `trine demo`; time per step over epochs of "
        f"{steps} steps, {rounds} rounds, the computing by the reference back end (NumPy). With the same weights and "
        f"without dropout, the losses of {STEPS_COMPARED} steps agree within {TOLERANCE:.0e} (largest relative "
        f"difference {difference:.0e}).", "",
        *table(timings, "ms", peers, [OURS]), "",
        f"Over the fastest PyTorch by the minimum, {fastest}: {ratio(timings[OURS], timings[fastest])}.",
        *[f"\nNo ratio to {name}: slower than with one thread, which points at other work on the machine, for which "
          "its threads wait. Run this again on a quiet one." for name in disturbed],
    ]  # fmt: skip
    print(write_section("digits", "A training step on scanned digits", ["numpy", "torch", "scikit-learn"], body))


if __name__ == "__main__":
    main()
