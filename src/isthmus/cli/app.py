"""The table of commands, and `main`, which runs one of them."""

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
import typer.main

from isthmus.cli import commands
from isthmus.cli.docs import paragraphs
from isthmus.cli.exit_codes import guarded
from isthmus.cli.flatten_options import spread

NAME = "isthmus"

app = typer.Typer(
    name=NAME,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)

COMMANDS: dict[str, Callable[..., None]] = {
    "fit": commands.fit,
    "encode": commands.encode,
    "decode": commands.decode,
    "score": commands.score,
    "impute": commands.impute,
    "detect": commands.detect,
    "compare": commands.compare,
    "report": commands.report,
    "info": commands.info,
}

for name, function in COMMANDS.items():
    app.command(name, help=paragraphs(function))(spread(function))


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{NAME} {version(NAME)}")
        raise typer.Exit


def about(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which it is.")
    ] = False,
) -> None:
    """Any data in, a compact code out, the same data back.

    Results go to standard output and everything for people to standard error. Exit codes: 0 done,
    2 the request or the data is at fault (one line says how), 1 isthmus is, 130 interrupted.
    """
    del version


app.callback(help=paragraphs(about))(about)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (the process's own by default); its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    code = guarded(lambda: _run(arguments))
    if argv is None:
        gc.freeze()  # or the interpreter spends a second at its end on collecting torch
    return code


def _run(arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    with command.make_context(NAME, arguments) as context:
        command.invoke(context)
