"""fit_together: some fits of the same rows, all at the same time."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from isthmus.data import open_source
from isthmus.errors import RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.settings import folder_of
from isthmus.spec import short_repr
from isthmus.training.concurrent import run_together

MOST_TOGETHER = 64
"""Fits that run at the same time: more would not be faster, and each has its weights in memory."""


def fit_together(
    estimators: Iterable[Autoencoder],
    X: Any,
    *,
    sample_weight: Any = None,
    validation: Any = None,
    resume: bool = False,
) -> list[Autoencoder]:
    """Fit each of some autoencoders to the rows of X, all at the same time.

    Takes what `Autoencoder.fit` takes, and gives the estimators back. What one of them raises is
    raised when all have ended. Raises RequestError, before anything is fitted, for what is no list
    of autoencoders, where one is given twice, or where two keep their checkpoints in one folder.
    """
    given = _listed(estimators)
    source = open_source(X)
    if validation is not None and source.schema.recording is None:
        validation = open_source(validation)  # once for all; recordings are cut by each fit
    asked = {"sample_weight": sample_weight, "validation": validation, "resume": resume}
    outcomes = run_some([functools.partial(one.fit, source, **asked) for one in given])
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return given


def _listed(estimators: Any) -> list[Autoencoder]:
    """The autoencoders; RequestError unless each is one of its own, with a place of its own."""
    listed = isinstance(estimators, Iterable)
    given = list(estimators) if listed else [estimators]
    strange = [one for one in given if not (listed and isinstance(one, Autoencoder))]
    if strange:
        where = "holds" if listed else "is"
        raise RequestError(
            f"estimators {where} {short_repr(strange[0])}, which is no "
            f"{'Autoencoder' if listed else 'list'}; give a list such as "
            "[Autoencoder(8), Autoencoder(16)]"
        )
    objects: dict[int, int] = {}
    places: dict[Path, int] = {}
    for number, one in enumerate(given):
        first = objects.setdefault(id(one), number)
        require(
            first == number,
            f"estimators {first} and {number} are one object, which can hold but one fit; give "
            "another one, such as sklearn.base.clone makes",
        )
        folder = folder_of(one.checkpoint)
        if folder is not None:
            first = places.setdefault(folder.resolve(), number)
            require(
                first == number,
                f"checkpoint={str(folder)!r} is the folder of estimators {first} and {number}, "
                "which would overwrite each other's state; give each a folder of its own",
            )
    return given


def run_some(jobs: Sequence[Any]) -> list[Any]:
    """What each job returns, or the exception it ended with; so many at a time as do well."""
    starts = range(0, len(jobs), MOST_TOGETHER)
    return [one for at in starts for one in run_together(jobs[at : at + MOST_TOGETHER])]
