"""Times contenders against each other in interleaved rounds and writes what came out into RESULTS.md.

Every round runs every contender once, each round in a shifted order, so that a change of the machine's clock or load
falls on all of them. The minimum says what the code costs, the median what the machine gave. All contenders of a
comparison share one process where the claim is about calls from Python, since that is where a user pays for them.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trine.files.atomic import replacing

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADING = """# Results

Written by the programs beside this file, one section each; a program replaces its own section and no other. Times are
given as minimum / median over interleaved rounds, and so is a ratio, Trine's time over the peer's: below 1 Trine is
faster, above 1 the peer is. Where the load is above the number of cores, others were at work: medians, and whatever
uses several threads, then say little, and the minimum is the number to read.
"""


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Contender:
    """What is timed: `run(calls)` makes that many calls in a loop of its own, `prepare()` goes before it, untimed.

    With `calls` it makes that many instead of the number the others make.
    """

    name: str
    run: Callable[[int], object]
    prepare: Callable[[], object] = nothing
    calls: int = 0


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the fastest round, the median round, and the middle half of the rounds."""

    minimum: float
    median: float
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """The summary of at least two rounds."""
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(min(seconds), middle, (low, high))


def interleaved(contenders: Sequence[Contender], rounds: int, calls: int, warm_up: int = 2) -> dict[str, Timing]:
    """The time per call of each contender, by name; the first `warm_up` rounds are run and not counted."""
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(-warm_up, rounds):
        shift = number % len(contenders)
        for contender in [*contenders[shift:], *contenders[:shift]]:
            count = contender.calls or calls
            contender.prepare()
            begun = time.perf_counter()
            contender.run(count)
            passed = time.perf_counter() - begun
            if number >= 0:
                seconds[contender.name].append(passed / count)
    return {name: Timing.of(found) for name, found in seconds.items()}


def table(timings: dict[str, Timing], unit: str, peers: Sequence[str] = (), ours: Sequence[str] = ()) -> list[str]:
    """Markdown lines: a row per contender, and in a column per peer the ratio of each of our rows to it."""
    scale = {"ns": 1e9, "us": 1e6, "ms": 1e3, "s": 1.0}[unit]
    digits = 0 if unit == "ns" else 2
    lines = ["| | " + " | ".join([f"min / median, {unit}", "middle half", *[f"over {peer}" for peer in peers]]) + " |"]
    lines.append("|---|" + "---:|" * (2 + len(peers)))
    for name, timing in timings.items():
        low, high = (f"{scale * end:.{digits}f}" for end in timing.quartiles)
        cells = [f"{scale * timing.minimum:.{digits}f} / {scale * timing.median:.{digits}f}", f"{low} to {high}"]
        cells += [ratio(timing, timings[peer]) if name in ours else "" for peer in peers]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def ratio(ours: Timing, peer: Timing) -> str:
    """How many times the peer's time ours is, by the minimum and by the median."""
    return f"{ours.minimum / peer.minimum:.2f} / {ours.median / peer.median:.2f}"


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE)
        name = found.group(1) if found else name
    return f"{name} ({platform.machine()}), {len(os.sched_getaffinity(0))} cores"


def versions(packages: Iterable[str]) -> str:
    """The Python and the packages that take part, each with its version, or that it is not installed."""
    found = [f"{platform.python_implementation()} {platform.python_version()}"]
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed, left out")
    return ", ".join(found)


def write_section(name: str, title: str, packages: Iterable[str], body: Sequence[str], path: Path = RESULTS) -> str:
    """Replace the section `name` of the results, or add it, and return its text; readers see the old file or the new.

    Args:
        name: of the program, as in `benchmarks/<name>.py`.
        title: the section's heading.
        packages: those whose versions matter.
        body: lines of Markdown.
        path: the file.
    """
    head = [
        f"<!-- section: {name} -->", f"## {title}", "", f"- Reproduce: `PYTHONPATH=src python benchmarks/{name}.py`",
        f"- Processor: {processor()}; load at the end of the run: {os.getloadavg()[0]:.1f}",
        f"- Versions: {versions(packages)}", "",
    ]  # fmt: skip
    text = "\n".join([*head, *body, f"<!-- end: {name} -->", ""])
    old = path.read_text(encoding="utf-8") if path.exists() else HEADING
    mark = re.compile(rf"<!-- section: {name} -->.*?<!-- end: {name} -->\n", re.DOTALL)
    new = mark.sub(lambda _: text, old) if mark.search(old) else f"{old}\n{text}"
    with replacing(path) as temporary:
        temporary.write_text(new, encoding="utf-8")
    return text
