"""The score of a fitted autoencoder, by its own method or a function of the user."""

import inspect
from collections.abc import Callable

from isthmus.errors import RequestError
from isthmus.estimator import Autoencoder
from isthmus.spec import short_repr

Scoring = Callable[..., float]
"""A function of (estimator, X) or (estimator, X, y); higher is better."""

REMEDY = (
    "give a function of (estimator, X), such as Autoencoder.explained_variance, or None for the "
    "negative mean squared error"
)


class ScoringError(Exception):
    """An exception that `scoring` raised, which is its cause."""


def check_scoring(scoring: object) -> None:
    """Raise RequestError unless `scoring` is a function of (estimator, X), or None."""
    if scoring is None:
        return
    modules = (getattr(owner, "__module__", None) for owner in (scoring, type(scoring)))
    if isinstance(scoring, str) or any(str(name).startswith("sklearn.metrics") for name in modules):
        raise RequestError(
            f"scoring={short_repr(scoring)} compares predictions with a y, and an autoencoder "
            f"makes no predictions; {REMEDY}"
        )
    if not callable(scoring):
        raise RequestError(f"scoring={short_repr(scoring)} is not a function; {REMEDY}")


def compute_score(fitted: Autoencoder, scoring: Scoring | None, X: object, y: object) -> float:
    """The score of a fitted autoencoder on rows; None is its own method `score`."""
    if scoring is None:
        return fitted.score(X)
    return float(scoring(fitted, X, y) if _takes_y(scoring) else scoring(fitted, X))


def _takes_y(scoring: Scoring) -> bool:
    try:
        inspect.signature(scoring).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # a built-in function without a signature
        return True
    return True
