"""The exceptions of this package.

IsthmusError
├── RequestError (ValueError)      invalid settings, or settings that do not suit the data
├── DataError (ValueError)         invalid rows
│   └── SourceError                invalid rows in a file, which the message names first
├── ArtifactError (ValueError)     a model folder or checkpoint that cannot be used
└── DivergenceError (RuntimeError) training did not stay finite

Every message names the value that was found, the rule it breaks and the remedy, on one line.
"""


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


def require(condition: bool, message: str) -> None:
    """Raise RequestError with `message` unless `condition` holds."""
    if not condition:
        raise RequestError(message)
