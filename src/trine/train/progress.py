"""What `fit` shows: a bar with rich in a terminal, or a line per epoch."""

from __future__ import annotations

import sys
import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from trine.errors import ArgumentError, Site
from trine.ops.base import user_site
from trine.train.callbacks import Callback, Logs


class ProgressBar(Callback):
    """Shows the progress of training.

    Args:
        verbose: 0 silent, 1 a bar per epoch, 2 a line per epoch; "auto" is 1 in a terminal and 2 elsewhere.
        epochs: the number of the last epoch.
        steps: batches in an epoch; None where it is not known.

    Raises:
        ArgumentError: `verbose` is none of these.
    """

    def __init__(self, verbose: int | str, epochs: int, steps: int | None) -> None:
        """Decide how to show it."""
        if verbose not in ("auto", 0, 1, 2):
            raise ArgumentError("verbose", 'is 0 (silent), 1 (a bar), 2 (a line per epoch) or "auto"',
                                got=repr(verbose)).locate(Site(*user_site()))  # fmt: skip
        self.verbose = (1 if sys.stdout.isatty() else 2) if verbose == "auto" else int(verbose)
        self.epochs = epochs
        self.steps = steps
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Start a bar."""
        self._begun = time.perf_counter()
        if self.verbose == 1:
            self._bar = Progress(
                TextColumn(f"Epoch {epoch + 1}/{self.epochs}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("{task.fields[values]}"),
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("", total=self.steps, values="")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Move the bar on."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=batch + 1, values=text(logs or {}))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Show the epoch's values."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, values=text(logs or {}))
            self._close()
        elif self.verbose == 2:
            seconds = time.perf_counter() - self._begun
            print(f"Epoch {epoch + 1}/{self.epochs} - {seconds:.1f}s - {text(logs or {})}", flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Leave the terminal as it was, after an error too."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def text(logs: Logs) -> str:
    """`loss: 0.1234 - accuracy: 0.9876`."""
    return " - ".join(f"{name}: {value:.4f}" if abs(value) >= 1e-3 or not value else f"{name}: {value:.3e}"
                      for name, value in logs.items())  # fmt: skip
