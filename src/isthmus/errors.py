"""The exceptions of this package.

IsthmusError
├── RequestError (ValueError)      invalid settings, or settings that do not suit the data
├── DataError (ValueError)         invalid rows
│   └── SourceError                invalid rows in a file, which the message names first
├── ArtifactError (ValueError)     a model folder or checkpoint that cannot be used
└── DivergenceError (RuntimeError) training did not stay finite

Every message names the value that was found, the rule it breaks and the remedy, on one line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NAMES_OPTIONS: ContextVar[bool] = ContextVar("names_options", default=False)
"""Whether messages name options of the command line rather than Python arguments."""


class IsthmusError(Exception):
    """Base of all exceptions of this package."""


class RequestError(IsthmusError, ValueError):
    """Invalid settings, or settings that do not suit the data."""


class DataError(IsthmusError, ValueError):
    """Invalid rows."""


class SourceError(DataError):
    """A file or folder that cannot be used; the message starts with its path."""


class ArtifactError(IsthmusError, ValueError):
    """A model folder or checkpoint that is damaged, foreign or of another format."""


class DivergenceError(IsthmusError, RuntimeError):
    """Training whose loss or weights did not stay finite."""


@contextmanager
def options_in_messages() -> Iterator[None]:
    """A context in which messages name options of the command line."""
    token = _NAMES_OPTIONS.set(True)
    try:
        yield
    finally:
        _NAMES_OPTIONS.reset(token)


def either(argument: str, option: str) -> str:
    """The Python argument, or on the command line the option, for a message.

    Example:
        >>> from isthmus.errors import either, options_in_messages
        >>> either("force=True", "--force")
        'force=True'
        >>> with options_in_messages():
        ...     either("force=True", "--force")
        '--force'
    """
    return option if _NAMES_OPTIONS.get() else argument


def setting(name: str, value: str) -> str:
    """A setting with a value, as the user writes it: in Python or on the command line."""
    return either(f"{name}={value!r}", f"--{name.replace('_', '-')} {value}")


def drop_column(name: str) -> str:
    """The setting that leaves a column out."""
    return either(f"drop=[{name!r}]", f"--drop {name}")


def declare_role(name: str, role: str) -> str:
    """The setting that declares the role of a column."""
    return either(f"roles={{{name!r}: {role!r}}}", f"--role {name}={role}")


def require(condition: bool, message: str) -> None:
    """Raise RequestError with `message` unless `condition` holds."""
    if not condition:
        raise RequestError(message)
