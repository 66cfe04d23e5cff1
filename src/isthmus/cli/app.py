"""The table of commands, and `main`, which runs one command line."""

import gc
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
import typer.main

from isthmus.cli import commands
from isthmus.cli.exit_codes import run_guarded
from isthmus.cli.flatten_options import flatten_options

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


def _help_text(function: Callable[..., object]) -> str:
    """The function's docstring, each paragraph on one line, to be wrapped to the terminal."""
    text = inspect.getdoc(function) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


for name, function in COMMANDS.items():
    app.command(name, help=_help_text(function))(flatten_options(function))


def _show_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"{NAME} {version(NAME)}")
        raise typer.Exit


def about(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Autoencoders for any data: compress each row to a few numbers and reconstruct it.

    Start with: isthmus fit data.csv -o model, then isthmus encode model data.csv -o codes.csv.

    Results are written to files; compare and info print theirs on standard output, and --json
    prints the result of any command there. Notes and errors go to standard error. Exit codes: 0
    success, 2 an error in the command, the data or the system, 1 a bug in isthmus, 130 or 143
    interrupted.
    """
    del version


app.callback(help=_help_text(about))(about)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line, by default that of the process, and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    code = run_guarded(lambda: _run(arguments))
    if argv is None:
        gc.freeze()  # otherwise the interpreter spends a second at exit on collecting torch
    return code


def _run(arguments: list[str]) -> None:
    command = typer.main.get_command(app)
    with command.make_context(NAME, arguments) as context:
        command.invoke(context)
