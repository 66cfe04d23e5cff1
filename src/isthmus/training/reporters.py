"""How a fit tells what it is doing: silently, in lines, or with a bar."""

import sys
import time
import warnings
from contextvars import ContextVar
from typing import Any, Protocol, TextIO

from sklearn.exceptions import ConvergenceWarning

from isthmus.training.state import Record

BAR_AFTER_S = 2.0

MESSAGE_PREFIX: ContextVar[str] = ContextVar("who", default="")
"""What every line of the fit under way begins with, where it is one of several at once."""


class Reporter(Protocol):
    """What the loop tells as it goes."""

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Training begins."""

    def advance(self, rows: int) -> None:
        """A step over so many rows is done."""

    def epoch(self, record: Record) -> None:
        """An epoch is done."""

    def message(self, text: str) -> None:
        """Something a person should know."""

    def finish(self) -> None:
        """Training ended, well or not."""


class Silent:
    """Says nothing."""

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Nothing."""

    def advance(self, rows: int) -> None:
        """Nothing."""

    def epoch(self, record: Record) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class Lines(Silent):
    """One line an epoch on a stream (standard error unless told)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    def epoch(self, record: Record) -> None:
        """Writes the epoch's losses."""
        self.message(describe(record))

    def message(self, text: str) -> None:
        """Writes one line."""
        self.stream.write(f"{MESSAGE_PREFIX.get()}{text}\n")


class Bar(Silent):
    """A bar with rows a second, loss and time left, once a fit has run for two seconds."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.task: Any = None
        self.rate = 0.0
        self.rows_done = self.began = 0.0
        self.text = ""

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Remembers the sizes; the bar itself appears after two seconds."""
        self.total, self.rows_done = rows * epochs, float(rows * first_epoch)
        self.first, self.began = self.rows_done, time.monotonic()

    def advance(self, rows: int) -> None:
        """Moves the bar."""
        self.rows_done += rows
        elapsed = time.monotonic() - self.began
        if self.bar is None and elapsed > BAR_AFTER_S:
            self._open()
        if self.bar is not None:
            rate = (self.rows_done - self.first) / elapsed
            note = f"{rate:,.0f} rows/s  {self.text}"
            self.bar.update(self.task, completed=self.rows_done, note=note)

    def epoch(self, record: Record) -> None:
        """Shows the epoch's losses beside the bar."""
        self.text = describe(record)

    def message(self, text: str) -> None:
        """Writes one line above the bar."""
        text = MESSAGE_PREFIX.get() + text
        if self.bar is not None:
            self.bar.console.print(text)
        else:
            sys.stderr.write(text + "\n")

    def finish(self) -> None:
        """Takes the bar away."""
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
        # Where nobody looks on, as in a log, a bar would leave nothing but an empty line.
        hidden = not console.is_terminal
        self.bar = Progress(*columns, console=console, transient=True, disable=hidden)
        self.task = self.bar.add_task("fit", total=self.total, completed=self.rows_done, note="")
        self.bar.start()


def warn(text: str) -> None:
    """A ConvergenceWarning, at whoever called the caller."""
    warnings.warn(MESSAGE_PREFIX.get() + text, ConvergenceWarning, stacklevel=3)


def describe(record: Record) -> str:
    """An epoch's record in one line: its number and the total training and held-out loss."""
    line = f"epoch {record['epoch']}  train {sum(record['train'].values()):.4g}"
    if "validation" in record:
        line += f"  held out {sum(record['validation'].values()):.4g}"
    return line
