"""fit_together: several autoencoders fitted to the same rows, concurrently."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from isthmus.data.open import open_source
from isthmus.errors import RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.settings import folder_of
from isthmus.spec import short_repr
from isthmus.training.concurrent import run_together

MAX_CONCURRENT = 64
"""Fits that run concurrently: more would not be faster, and the weights of each are in memory."""

R = TypeVar("R")


def fit_together(
    estimators: Iterable[Autoencoder],
    X: object,
    *,
    sample_weight: object = None,
    validation: object = None,
    resume: bool = False,
) -> list[Autoencoder]:
    """Fit several autoencoders to the rows of X, concurrently.

    Parameters:
        estimators: The autoencoders. Those of the same architecture share training steps, and each
            needs its own `checkpoint` folder, if any.
        X: Rows as in `Autoencoder.fit`.
        sample_weight: (n,) weights of the rows, as in `Autoencoder.fit`.
        validation: Validation rows, as in `Autoencoder.fit`.
        resume: Whether to continue from the checkpoints.

    Returns:
        The same autoencoders, fitted.

    Raises:
        RequestError: `estimators` is not a list of autoencoders, contains an object twice, or two
            of them share a checkpoint folder. Nothing is fitted then.
        Exception: The first exception of a fit is raised after all fits have ended.

    Example:
        >>> import numpy as np
        >>> from isthmus import Autoencoder, fit_together
        >>> rows = np.random.default_rng(0).normal(size=(100, 4))
        >>> models = [Autoencoder(n, max_epochs=2, random_state=0) for n in (1, 2)]
        >>> [model.transform(rows).shape for model in fit_together(models, rows)]
        [(100, 1), (100, 2)]
    """
    fits = _check_estimators(estimators)
    source = open_source(X)
    if validation is not None and source.schema.recording is None:
        validation = open_source(validation)  # once for all; each fit cuts recordings itself
    jobs = [
        functools.partial(
            fit.fit, source, sample_weight=sample_weight, validation=validation, resume=resume
        )
        for fit in fits
    ]
    for outcome in run_in_groups(jobs):
        if isinstance(outcome, Exception):
            raise outcome
    return fits


def _check_estimators(estimators: object) -> list[Autoencoder]:
    """The autoencoders as a list; RequestError unless they and their folders are distinct."""
    example = "give a list such as [Autoencoder(8), Autoencoder(16)]"
    if not isinstance(estimators, Iterable):
        raise RequestError(
            f"estimators is {short_repr(estimators)}, which is not a list; {example}"
        )
    fits: list[Autoencoder] = []
    for fit in estimators:
        if not isinstance(fit, Autoencoder):
            raise RequestError(
                f"estimators contains {short_repr(fit)}, which is not an Autoencoder; {example}"
            )
        fits.append(fit)
    objects: dict[int, int] = {}
    folders: dict[Path, int] = {}
    for number, fit in enumerate(fits):
        first = objects.setdefault(id(fit), number)
        require(
            first == number,
            f"estimators {first} and {number} are one object, which can hold only one fit; give a "
            "copy, such as sklearn.base.clone makes",
        )
        folder = folder_of(fit.checkpoint)
        if folder is not None:
            first = folders.setdefault(folder.resolve(), number)
            require(
                first == number,
                f"checkpoint={str(folder)!r} is the folder of estimators {first} and {number}, "
                "which would overwrite each other's state; give each a folder of its own",
            )
    return fits


def run_in_groups(jobs: Sequence[Callable[[], R]]) -> list[R | Exception]:
    """The result or exception of each job; at most 64 run concurrently."""
    starts = range(0, len(jobs), MAX_CONCURRENT)
    return [
        outcome
        for start in starts
        for outcome in run_together(jobs[start : start + MAX_CONCURRENT], start + 1, len(jobs))
    ]
