"""The error tree: what went wrong, whose fault it is, and what to do about it.

IsthmusError
├── RequestError (ValueError)      the settings contradict themselves or the data
├── DataError (ValueError)         the rows are not what they should be
│   └── SourceError                ... and the fault lies in a file, named first
├── ArtifactError (ValueError)     a model folder or checkpoint cannot be used
└── DivergenceError (RuntimeError) training could not be kept finite

Every message names the value that was found, the rule it breaks and the remedy, on one line.
"""


class IsthmusError(Exception):
    """Base of everything this package raises on purpose."""


class RequestError(IsthmusError, ValueError):
    """The settings contradict themselves or the data they are applied to."""


class DataError(IsthmusError, ValueError):
    """The rows given are not what they should be."""


class SourceError(DataError):
    """A file or folder cannot be used; the message starts with its path."""


class ArtifactError(IsthmusError, ValueError):
    """A model folder or a checkpoint is damaged, foreign or from another format."""


class DivergenceError(IsthmusError, RuntimeError):
    """Training left the finite numbers and could not be brought back."""


def require(condition: bool, message: str) -> None:
    """Raise RequestError with `message` unless `condition` holds."""
    if not condition:
        raise RequestError(message)
