"""Fits from several random starts, the best of which is kept."""

import copy
import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from isthmus.data import Subset
from isthmus.errors import DivergenceError
from isthmus.estimator.fit import FitResult, FitRun
from isthmus.estimator.settings import FitSettings
from isthmus.training.concurrent import run_together
from isthmus.training.reporters import Silent
from isthmus.types import Array, Source

FOLDER = "restart-{}"
"""Inside that of the checkpoints: where the second start and those after it keep theirs."""


def best_of(
    estimator: Any,
    settings: FitSettings,
    source: Source,
    weight: Array,
    validation_source: Source | None,
) -> FitResult:
    """Fit from `request.n_init` starts, all of which hold out the same rows; the best fit.

    That is the one with the lowest reconstruction error on held-out rows (on training rows where
    none are held out), of those for which training gained anything. Fits that diverge are given up
    with a ConvergenceWarning; DivergenceError where all do.
    """
    jobs = [
        functools.partial(_fit, one, source, weight, validation_source)
        for one in _requests(settings)
    ]
    if len(jobs) == 1:
        return jobs[0]()
    fits, lost = dict[int, FitResult](), list[DivergenceError]()
    for number, outcome in enumerate(run_together(jobs), 1):
        if isinstance(outcome, FitResult):
            fits[number] = outcome
        elif isinstance(outcome, DivergenceError):
            lost.append(outcome)
        else:
            raise outcome
    if not fits:
        raise lost[0]
    for failure in lost:
        warnings.warn(f"a start was given up: {failure}", ConvergenceWarning, stacklevel=4)
    rows, whose = _judges(list(fits.values()), source, validation_source)
    errors = {number: _error(estimator, fit, rows) for number, fit in fits.items()}
    best = min(fits, key=lambda number: (fits[number].state.best_epoch == 0, errors[number]))
    return _told(settings, fits[best], _sentence(errors, best, whose, len(lost)), errors)


def _requests(settings: FitSettings) -> list[FitSettings]:
    """The same request from several seeds, of which the first is its own."""
    draw = np.random.default_rng(settings.seed)
    place, seeds = settings.checkpoint, draw.integers(2**31 - 1, size=settings.n_init - 1)
    others = [
        replace(
            settings,
            seed=int(seed),
            reporter=Silent(),
            checkpoint=place and place / FOLDER.format(number),
        )
        for number, seed in enumerate(seeds, 2)
    ]
    return [settings, *others]


def _fit(
    settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
) -> FitResult:
    return FitRun(settings, source, weight, validation_source).run()


def _judges(
    fits: Sequence[FitResult], source: Source, validation_source: Source | None
) -> tuple[Source, str]:
    """The rows to judge all fits by, as they were held out where any were, and what they are."""
    if validation_source is not None:
        return validation_source, "rows held out"
    # A fit that came back to PCA has learned from the others' held-out rows, and names none.
    validation = [fit.validation for fit in fits if len(fit.validation)]
    if validation:
        return Subset(source, validation[0]), "rows held out"
    return Subset(source, np.asarray(fits[0].train)), "the rows of training"


def _error(estimator: Any, fit: FitResult, rows: Source) -> float:
    """The fit's error on some rows, as its estimator would tell it."""
    model = copy.copy(estimator)
    model.keep(fit)
    return float(model.reconstruction_error(rows))


def _sentence(errors: Mapping[int, float], best: int, whose: str, lost: int) -> str:
    """Which start was the best, and what the others came to."""
    text = (
        f"the best of {len(errors) + lost} starts, number {best}: error {errors[best]:.4g} on "
        f"{whose}"
    )
    others = [error for number, error in errors.items() if number != best]
    if others:
        ends = dict.fromkeys(f"{error:.4g}" for error in (min(others), max(others)))
        text += f", the other{'s' if len(others) > 1 else ''} {' to '.join(ends)}"
    return f"{text}; {lost} diverged" if lost else text


def _told(
    settings: FitSettings, fit: FitResult, text: str, errors: Mapping[int, float]
) -> FitResult:
    """The fit, with a word on what the others came to."""
    fit.state.history.append({"event": "restarts", "epoch": fit.state.best_epoch, "message": text})
    fit.facts |= {"n_init": settings.n_init, "init_errors": list(errors.values())}
    settings.reporter.message(text)
    return fit
