"""How good a fit is on some rows, by a function of the user's."""

import inspect
from typing import Any

from isthmus.errors import RequestError
from isthmus.estimator import Autoencoder
from isthmus.spec import short_repr

CURE = (
    "give a function of (estimator, X), such as Autoencoder.explained_variance, or None for minus "
    "the mean squared error"
)


class ScoringError(Exception):
    """What `scoring` raised, as its cause."""


def check_scoring(scoring: Any) -> None:
    """Raise RequestError unless `scoring` is None or a function of (estimator, X)."""
    if scoring is None:
        return
    owners = (getattr(one, "__module__", None) for one in (scoring, type(scoring)))
    if isinstance(scoring, str) or any(str(one).startswith("sklearn.metrics") for one in owners):
        raise RequestError(
            f"scoring={short_repr(scoring)} compares predictions with a y, and an autoencoder has "
            f"none; {CURE}"
        )
    if not callable(scoring):
        raise RequestError(f"scoring={short_repr(scoring)} is no function; {CURE}")


def scored(fitted: Autoencoder, scoring: Any, X: Any, y: Any) -> float:
    """What `scoring` makes of some rows; None is the estimator's own score."""
    if scoring is None:
        return fitted.score(X)
    return float(scoring(fitted, X, y) if _takes_y(scoring) else scoring(fitted, X))


def _takes_y(scoring: Any) -> bool:
    try:
        inspect.signature(scoring).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:  # which has no signature to look at
        return True
    return True
