"""What is said: notes for people on standard error, facts for machines on standard output."""

import json
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import typer

PATIENCE_S = 2.0
"""How long a person waits without being told what for."""


@dataclass(kw_only=True)
class Talk:
    """How a command speaks, as --json and --quiet ask for."""

    PANEL: ClassVar[str | None] = None

    json: Annotated[
        bool, typer.Option("--json", help="Print the facts as JSON on standard output.")
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False
    said: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        """Warnings of the libraries become notes; `guarded` puts Python's own way back."""
        warnings.showwarning = self._warned

    def note(self, text: str) -> None:
        """One line for people, each but once."""
        if not self.quiet and text not in self.said:
            self.said.add(text)
            typer.echo(text, err=True)

    def notes(self, lines: Iterable[str]) -> None:
        """Lines for people."""
        for line in lines:
            self.note(line)

    def answer(self, facts: Any, lines: Iterable[str]) -> None:
        """What the command was asked for: JSON with --json, else lines on standard output."""
        if self.json:
            self.facts(facts)
        elif not self.quiet:
            for line in lines:
                typer.echo(line)

    def facts(self, facts: Any) -> None:
        """The facts as JSON on standard output, with --json only."""
        if self.json:
            typer.echo(to_json(facts))

    @contextmanager
    def stage(self, what: str) -> Iterator[None]:
        """Tells what is being done when it takes longer than people like to wait in silence."""
        timer = threading.Timer(PATIENCE_S, self.note, [f"{what} ..."])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def bar(self, rows: int) -> Iterator[Callable[[int], None]]:
        """What to call as rows are done; a bar shows them when it takes long."""
        from isthmus.training.reporters import Bar, Silent

        reporter = Silent() if self.quiet else Bar()
        reporter.start(rows=rows, epochs=1, first_epoch=0)
        try:
            yield reporter.advance
        finally:
            reporter.finish()

    def _warned(self, message: Warning | str, *_: Any, **__: Any) -> None:
        self.note(f"note: {' '.join(str(message).split())}")


def to_json(facts: Any, indent: int | None = None) -> str:
    """Strict JSON: numbers that are not finite become null, as JSON has no word for them."""
    return json.dumps(_finite(facts), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
