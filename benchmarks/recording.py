"""Claim: recording one element-wise operation stays under 1.2 us, beside PyTorch's eager add in the same run.

Recording is not computing: an eager add has computed its result when it returns, a recorded one has only a place in a
graph. So the cost of recording and computing by the reference back end (NumPy) stands in the same table, and the
replay of a captured step and the time of `import trine` in tables of their own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness import Contender, Timing, interleaved, ratio, table, write_section

import trine
from trine.ops.base import RECORDER

BUDGET = 1.2e-6  # seconds for one recorded operation
BATCH = 1000  # operations between two readings of the clock, fewer than fit in the recorder's list
ADD, ADD_GRAD, ADD_SCALAR = "Trine: record `x + y`", "Trine: record `x + y`, x requires grad", "Trine: record `x + 1.5`"
OWN_LIMIT, COMPUTED = "Trine: record `x + y`, list kept by Trine itself", "Trine: record `z = z + y` and compute it"
OURS = (ADD, ADD_GRAD, ADD_SCALAR, OWN_LIMIT, COMPUTED)
NUMPY_ADD = "numpy `x + y`"
THREADS = {1: "1 thread", 2: "2 threads"}
TORCH_ADD, TORCH_GRAD = "torch `x + y`, {}", "torch `x + y`, x requires grad, {}"
TORCH_SCALAR = "torch `x + 1.5`, {}"

try:
    import torch
except ImportError:
    torch = None


def repeated(function: Callable[[Any, Any], Any], x: Any, y: Any) -> Callable[[int], None]:
    """A loop over `function(x, y)`."""

    def run(calls: int) -> None:
        for _ in range(calls):
            function(x, y)

    return run


def plus(x: Any, y: Any) -> Callable[[int], None]:
    """A loop over `x + y`, written as a user writes it."""

    def run(calls: int) -> None:
        for _ in range(calls):
            x + y

    return run


def summed(x: Any, y: Any, calls: int) -> Any:
    """`x + y + y + ...`, with so many additions."""
    for _ in range(calls):
        x = x + y
    return x


def numbers() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)


def recorders() -> list[Contender]:
    clear = RECORDER.pending.clear
    x, y = trine.asarray(numbers()), trine.asarray(numbers())
    leaf = trine.asarray(numbers(), requires_grad=True)

    def nearly_full() -> None:
        clear()
        x + y  # the last operation of the batch is one too many

    return [
        Contender(ADD, plus(x, y), clear),
        Contender(ADD_GRAD, plus(leaf, y), clear),
        Contender(ADD_SCALAR, plus(x, 1.5), clear),
        Contender(OWN_LIMIT, plus(x, y), nearly_full, RECORDER.limit),
        Contender(COMPUTED, lambda calls: summed(x, y, calls).numpy(), clear),
    ]


def eager() -> list[Contender]:
    p, q = numbers(), numbers()
    found = [
        Contender(NUMPY_ADD, plus(p, q)),
        Contender("numpy `np.add(x, y)`", repeated(np.add, p, q)),
        Contender("numpy `x + 1.5`", plus(p, 1.5)),
    ]
    if torch is None:
        return found
    a, b = torch.asarray(numbers()), torch.asarray(numbers())
    leaf = torch.asarray(numbers()).requires_grad_()
    for count, words in THREADS.items():
        use = partial(torch.set_num_threads, count)
        found += [
            Contender(TORCH_ADD.format(words), plus(a, b), use),
            Contender(f"torch `torch.add(x, y)`, {words}", repeated(torch.add, a, b), use),
            Contender(TORCH_GRAD.format(words), plus(leaf, b), use),
            Contender(TORCH_SCALAR.format(words), plus(a, 1.5), use),
        ]
    return found


def recording(rounds: int) -> list[str]:
    timings = interleaved([*recorders(), *eager()], rounds, BATCH)
    peers = [name for name in (NUMPY_ADD, *(TORCH_ADD.format(words) for words in THREADS.values())) if name in timings]
    lines = table(timings, "ns", peers, OURS)
    if torch is not None:
        pairs = (
            ("`x + y`", ADD, TORCH_ADD),
            ("with grad", ADD_GRAD, TORCH_GRAD),
            ("`x + 1.5`", ADD_SCALAR, TORCH_SCALAR),
        )
        lines += ["", "Like with like, Trine's recording over torch's eager operation:", ""]
        for what, mine, theirs in pairs:
            found = [f"{ratio(timings[mine], timings[theirs.format(words)])} ({words})" for words in THREADS.values()]
            lines.append(f"- {what}: {', '.join(found)}")
    verdicts = [f"- {name.removeprefix('Trine: record ')}: {verdict(timings[name])}" for name in OURS[:4]]
    return [*lines, "", f"The bound of {BUDGET * 1e6:.1f} us for recording one operation:", "", *verdicts]


def verdict(timing: Timing) -> str:
    """Whether a timing keeps the bound, by its median and by its minimum."""
    by = [f"{'kept' if value < BUDGET else 'BROKEN'} by the {name}" for name, value in (
        ("median", timing.median), ("minimum", timing.minimum))]  # fmt: skip
    return f"{by[0]} ({timing.median * 1e9:.0f} ns), {by[1]} ({timing.minimum * 1e9:.0f} ns)"


def replaying(count: int, rounds: int) -> list[str]:
    """A captured step of `count` additions, against the same additions call by call."""
    x, y, p, q = trine.asarray(numbers()), trine.asarray(numbers()), numbers(), numbers()
    step = trine.compile(partial(summed, calls=count))
    assert np.array_equal(np.asarray(step(x, y)), summed(p, q, count))
    ours = [
        Contender(f"Trine: captured step, +{count}", repeated(step, x, y), RECORDER.pending.clear),
        Contender(f"Trine: record and compute, +{count}", computed(x, y, count), RECORDER.pending.clear),
    ]
    peers = [Contender(f"numpy, +{count}", repeated(partial(summed, calls=count), p, q))]
    if torch is not None:
        a, b = torch.asarray(p), torch.asarray(q)
        run = repeated(partial(summed, calls=count), a, b)
        for number, words in THREADS.items():
            peers.append(Contender(f"torch, {words}, +{count}", run, partial(torch.set_num_threads, number)))
    timings = interleaved([*ours, *peers], rounds, 100)
    return ["", *table(timings, "us", [peer.name for peer in peers], [mine.name for mine in ours])]


def computed(x: Any, y: Any, count: int) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            summed(x, y, count).numpy()

    return run


def importing(rounds: int) -> list[str]:
    """Fresh processes, the start of Python included and also taken off."""
    programs = {"python alone": "pass", "numpy": "import numpy", "numpy, llvmlite": "import numpy, llvmlite",
                "numpy, llvmlite.binding": "import numpy, llvmlite.binding", "trine": "import trine",
                "trine, trine.nn": "import trine; trine.nn"}  # fmt: skip
    if torch is not None:
        programs["torch"] = "import torch"
    found = [Contender(name, partial(_started, program)) for name, program in programs.items()]
    timings = interleaved(found, rounds, 1, warm_up=1)
    peers = ["numpy, llvmlite", "numpy, llvmlite.binding"] + (["torch"] if torch is not None else [])
    lines = table(timings, "ms", peers, ["trine", "trine, trine.nn"])
    start = timings["python alone"].median
    own = {name: timing.median - start for name, timing in timings.items()}
    quotients = ", ".join(f"{own['trine'] / own[peer]:.2f} of {peer}" for peer in peers)
    return [*lines, "", f"Without the start of Python, `import trine` takes {own['trine'] * 1e3:.0f} ms: {quotients}. "
            "The design's bound is 1.5 times numpy and llvmlite; `import llvmlite` alone does not load LLVM, "
            "`llvmlite.binding` does, and so will Trine's compiler."]  # fmt: skip


def _started(program: str, calls: int) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="the cost of recording an operation")
    parser.add_argument("--rounds", type=int, default=100, help="of batches of calls (default 100)")
    parser.add_argument("--starts", type=int, default=11, help="of fresh processes (default 11)")
    options = parser.parse_args()
    body = [
        f"4 x 4 float32, {BATCH} calls between two readings of the clock, {options.rounds} rounds. The list of what "
        "was recorded is emptied between batches, outside the time; in the row with the list kept by Trine itself "
        f"{RECORDER.limit} calls fill it, inside the time, and what nobody holds is then taken out. numpy and torch "
        "also compute.", "",
        *recording(options.rounds), "",
        "### A captured step", "",
        "Steps that add 1 and 10 times, computed by the reference back end (NumPy), 100 calls between two readings of "
        "the clock. `torch.compile` is not among the peers.",
        *replaying(1, options.rounds), *replaying(10, options.rounds), "",
        "### `import trine`", "", f"Fresh processes, {options.starts} rounds.", "", *importing(options.starts),
    ]  # fmt: skip
    print(write_section("recording", "Recording an operation", ["numpy", "llvmlite", "torch"], body))


if __name__ == "__main__":
    main()
