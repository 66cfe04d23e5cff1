"""How a command ends: exit codes, one line for what is at fault, a traceback for our own faults."""

import errno
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from isthmus.errors import IsthmusError, SourceError

DONE, OUR_FAULT, AT_FAULT, INTERRUPTED, TERMINATED, PIPE_CLOSED = 0, 1, 2, 130, 143, 141

USAGE: type[Exception] = typer.BadParameter.__mro__[2]
"""Everything wrong with the command line itself: click's ClickException, wherever it is kept."""

SYSTEM = {
    errno.ENOSPC: "free some space, or choose another place",
    errno.EDQUOT: "free some space, or choose another place",
    errno.EFBIG: "choose a place that takes larger files",
    errno.EROFS: "choose another place",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EIO: "check the disk",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What the system refuses through no fault of ours, and what to do about it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, met as Ctrl-C is."""


def guarded(action: Callable[[], None]) -> int:
    """Runs `action`; the exit code of the process, with the fault told on standard error."""
    try:
        with _terminable(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            action()
    except BaseException as error:  # the one place where every error ends
        return _end(_behind(error))
    return DONE


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what the system or a library says of a failed write into one line about `path`."""
    try:
        yield
    except Exception as error:
        number = _system_number(error)
        if number is None and not isinstance(error, OSError):
            raise
        reason = os.strerror(number) if number else str(error)
        remedy = SYSTEM.get(number or 0, "choose another place")
        raise SourceError(f"{path}: cannot be written ({reason}); {remedy}") from error


def _behind(error: BaseException) -> BaseException:
    """What a library has made an ImportError or an exit of: an interruption, or a closed pipe."""
    cause = error.__cause__ or error.__context__
    while isinstance(error, ImportError | SystemExit) and cause is not None:
        if isinstance(cause, KeyboardInterrupt | BrokenPipeError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def _end(error: BaseException) -> int:
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted", error)
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Whoever read standard output has gone; Python must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    line = _at_fault(error)
    if line is not None:
        _say(line, error)
        return AT_FAULT
    traceback.print_exception(error)
    _say("this is a fault of isthmus, not yours; please report it with the lines above")
    return OUR_FAULT


def _at_fault(error: BaseException) -> str | None:
    """The line to say when the request, the data or the machine is at fault; None when we are."""
    if isinstance(error, USAGE):
        return _usage(error)
    if isinstance(error, IsthmusError):
        return str(error)
    if isinstance(error, MemoryError) or _out_of_memory(error):
        return "there is not enough memory; use fewer or smaller rows, or a smaller --batch-size"
    number = _system_number(error)
    if number is None:
        return None
    name = getattr(error, "filename", None)
    return f"{f'{name}: ' if name else ''}{os.strerror(number)}; {SYSTEM[number]}"


def _out_of_memory(error: BaseException) -> bool:
    """Whether torch found no memory, for which on a CPU it has no class of its own."""
    told = str(error)
    return isinstance(error, RuntimeError) and (
        "allocate memory" in told or "out of memory" in told
    )


def _usage(error: Any) -> str:
    context = error.ctx
    command = context.command_path if context is not None else "isthmus"
    return f"{error.format_message().rstrip('.')}; see {command} --help"


def _system_number(error: BaseException) -> int | None:
    """The errno of a refusal in SYSTEM; safetensors, written in Rust, tells it in its message."""
    number = getattr(error, "errno", None)
    told = re.search(r"\(os error (\d+)\)", str(error))
    if number is None and told is not None and type(error).__name__ == "SafetensorError":
        number = int(told[1])
    return number if number in SYSTEM else None


def _say(line: str, error: BaseException | None = None) -> None:
    parts = [line, *getattr(error, "__notes__", [])]
    typer.echo(f"isthmus: {' '.join('; '.join(parts).splitlines())}", err=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that it leaves nothing half done either."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
