"""Exit codes and error lines: one line for an error of the user, a traceback for a bug."""

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

from isthmus._compat import usage_error
from isthmus.errors import IsthmusError, SourceError, options_in_messages

DONE, INTERNAL_ERROR, USER_ERROR, INTERRUPTED, TERMINATED, PIPE_CLOSED = 0, 1, 2, 130, 143, 141

USAGE = usage_error()
"""Errors in the command line itself: click's ClickException, which typer does not export."""

SYSTEM = {
    errno.ENOSPC: "free some space, or choose another place",
    errno.EDQUOT: "free some space, or choose another place",
    errno.EFBIG: "choose a file system that allows larger files",
    errno.EROFS: "choose another place",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EIO: "check the disk",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""Errors of the operating system that are not bugs, and what to do about them."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled like Ctrl-C."""


def run_guarded(action: Callable[[], None]) -> int:
    """Runs `action` and returns the exit code, with any error on standard error."""
    try:
        with _sigterm_as_interrupt(), options_in_messages(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("default", UserWarning)
            action()
    except BaseException as error:  # every error of the process ends here
        return _end(_root_cause(error))
    return DONE


@contextmanager
def explain_write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an error of the system or a library while writing `path` into a SourceError."""
    try:
        yield
    except Exception as error:
        number = _system_number(error)
        if number is None and not isinstance(error, OSError):
            raise
        reason = os.strerror(number) if number else str(error)
        remedy = SYSTEM.get(number or 0, "choose another place")
        raise SourceError(f"{path}: cannot be written ({reason}); {remedy}") from error


def _root_cause(error: BaseException) -> BaseException:
    """The interruption or closed pipe that a library turned into an ImportError or an exit."""
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
        _print_error("interrupted", error)
        return TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # The reader of standard output has gone; Python must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    line = _user_error_line(error)
    if line is not None:
        _print_error(line, error)
        return USER_ERROR
    traceback.print_exception(error)
    _print_error("this is a bug in isthmus; please report it with the lines above")
    return INTERNAL_ERROR


def _user_error_line(error: BaseException) -> str | None:
    """The line to print for an error in the request, the data or the system; None for a bug."""
    if isinstance(error, USAGE):
        return _usage_line(error)
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
    """Whether torch ran out of memory; on a CPU it raises a plain RuntimeError."""
    message = str(error)
    return isinstance(error, RuntimeError) and (
        "allocate memory" in message or "out of memory" in message
    )


def _usage_line(error: Any) -> str:
    context = error.ctx
    command = context.command_path if context is not None else "isthmus"
    return f"{error.format_message().rstrip('.')}; see {command} --help"


def _system_number(error: BaseException) -> int | None:
    """The errno if it is in SYSTEM; safetensors, written in Rust, has it in its message."""
    number = getattr(error, "errno", None)
    match = re.search(r"\(os error (\d+)\)", str(error))
    if number is None and match is not None and type(error).__name__ == "SafetensorError":
        number = int(match[1])
    return number if number in SYSTEM else None


def _print_error(line: str, error: BaseException | None = None) -> None:
    parts = [line, *getattr(error, "__notes__", [])]
    typer.echo(f"isthmus: {' '.join('; '.join(parts).splitlines())}", err=True)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Makes SIGTERM unwind like Ctrl-C, so that it leaves no half-written files either."""
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
