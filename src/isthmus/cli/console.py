"""Output of the commands: notes for people on standard error, results on standard output."""

import json
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import typer

PATIENCE_S = 2.0
"""Seconds after which a stage that is still running is named on standard error."""


@dataclass(kw_only=True)
class Console:
    """What a command prints, according to --json and --quiet."""

    json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON on standard output.")
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no notes and no progress.")
    ] = False
    printed: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Shows warnings as notes; `run_guarded` restores Python's own handler."""
        warnings.showwarning = self._show_warning

    def note(self, text: str) -> None:
        """Prints one line on standard error, unless it was printed before."""
        if not self.quiet and text not in self.printed:
            self.printed.add(text)
            typer.echo(text, err=True)

    def notes(self, lines: Iterable[str]) -> None:
        """Prints several lines on standard error."""
        for line in lines:
            self.note(line)

    def result(self, values: Mapping[str, object], lines: Iterable[str]) -> None:
        """Prints what the command was run for: JSON with --json, otherwise lines of text."""
        if self.json:
            self.json_result(values)
        else:
            for line in lines:
                typer.echo(line)

    def json_result(self, values: Mapping[str, object]) -> None:
        """Prints the values as JSON on standard output if --json is set."""
        if self.json:
            typer.echo(to_json(values))

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Names the running stage on standard error if it takes longer than two seconds."""
        timer = threading.Timer(PATIENCE_S, self.note, [f"{description} ..."])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def progress_bar(self, rows: int) -> Iterator[Callable[[int], None]]:
        """A function to call with the number of rows just finished; long runs show a bar."""
        from isthmus.training.reporters import ProgressBar, SilentReporter

        reporter = SilentReporter() if self.quiet else ProgressBar()
        reporter.start(rows=rows, epochs=1, first_epoch=0)
        try:
            yield reporter.advance
        finally:
            reporter.finish()

    def _show_warning(self, message: Warning | str, *_: object, **__: object) -> None:
        self.note(f"note: {' '.join(str(message).split())}")


def to_json(values: object, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinity become null, because JSON cannot express them."""
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
