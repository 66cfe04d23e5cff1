"""Reporters of the progress of a fit: silent, one line per epoch, or a progress bar."""

import sys
import time
import warnings
from contextvars import ContextVar
from typing import Any, Protocol, TextIO

from sklearn.exceptions import ConvergenceWarning

from isthmus.training.state import Record

BAR_AFTER_S = 2.0
"""Seconds after which the progress bar appears."""

MESSAGE_PREFIX: ContextVar[str] = ContextVar("message_prefix", default="")
"""The start of every line of the current fit, to tell concurrent fits apart."""


class Reporter(Protocol):
    """The events of a fit that the trainer reports."""

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Training begins."""

    def advance(self, rows: int) -> None:
        """A step over `rows` rows is done."""

    def epoch(self, record: Record) -> None:
        """An epoch is done; `record` is its entry in the history."""

    def message(self, text: str) -> None:
        """A message for the user."""

    def finish(self) -> None:
        """Training ended, with or without an error."""


class SilentReporter:
    """A reporter that writes nothing."""

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Do nothing."""

    def advance(self, rows: int) -> None:
        """Do nothing."""

    def epoch(self, record: Record) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


class LineReporter(SilentReporter):
    """Writes one line per epoch to a stream, by default standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    def epoch(self, record: Record) -> None:
        """Write the epoch's losses."""
        self.message(describe(record))

    def message(self, text: str) -> None:
        """Write one line."""
        self.stream.write(f"{MESSAGE_PREFIX.get()}{text}\n")


class ProgressBar(SilentReporter):
    """A bar with speed, losses and remaining time, shown after the first two seconds of a fit."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.task: Any = None
        self.rate = 0.0
        self.rows_done = self.began = 0.0
        self.text = ""

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Store the sizes; the bar itself appears after two seconds."""
        self.total, self.rows_done = rows * epochs, float(rows * first_epoch)
        self.first, self.began = self.rows_done, time.monotonic()

    def advance(self, rows: int) -> None:
        """Advance the bar."""
        self.rows_done += rows
        elapsed = time.monotonic() - self.began
        if self.bar is None and elapsed > BAR_AFTER_S:
            self._open()
        if self.bar is not None:
            rate = (self.rows_done - self.first) / elapsed
            note = f"{rate:,.0f} rows/s  {self.text}"
            self.bar.update(self.task, completed=self.rows_done, note=note)

    def epoch(self, record: Record) -> None:
        """Show the epoch's losses next to the bar."""
        self.text = describe(record)

    def message(self, text: str) -> None:
        """Write one line above the bar."""
        text = MESSAGE_PREFIX.get() + text
        if self.bar is not None:
            self.bar.console.print(text)
        else:
            sys.stderr.write(text + "\n")

    def finish(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            BarColumn(20),
            "{task.percentage:>3.0f}%",
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        console = Console(stderr=True)
        # In a log file a bar would only leave an empty line.
        hidden = not console.is_terminal
        self.bar = Progress(*columns, console=console, transient=True, disable=hidden)
        self.task = self.bar.add_task("fit", total=self.total, completed=self.rows_done, note="")
        self.bar.start()


def warn(text: str) -> None:
    """Issue a ConvergenceWarning that points to the caller's caller."""
    warnings.warn(MESSAGE_PREFIX.get() + text, ConvergenceWarning, stacklevel=3)


def describe(record: Record) -> str:
    """An epoch's record in one line: its number and the total training and validation loss."""
    line = f"epoch {record['epoch']}  train {sum(record['train'].values()):.4g}"
    if "validation" in record:
        line += f"  validation {sum(record['validation'].values()):.4g}"
    return line
