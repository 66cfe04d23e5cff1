"""Fits from several random starts, and the choice of the best one."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from isthmus.data.source import Source, Subset
from isthmus.errors import DivergenceError
from isthmus.estimator.defaults import Decision
from isthmus.estimator.fit import FitResult, fit_rows
from isthmus.estimator.settings import FitSettings
from isthmus.training.concurrent import run_together
from isthmus.training.reporters import SilentReporter
from isthmus.types import Array

FOLDER = "restart-{}"
"""The checkpoint folders, inside that of the fit, of the second start and those after it."""


def fit_best_start(
    settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
) -> FitResult:
    """The best of `settings.n_init` fits, all with the same validation rows.

    The best fit has the lowest reconstruction error on the validation rows, or without any on
    the training rows. A fit in which training gained something comes before one in which it did
    not. Fits that diverge are skipped with a ConvergenceWarning; if all do, raises DivergenceError.
    """
    jobs = [
        functools.partial(fit_rows, each, source, weight, validation_source)
        for each in settings_of_starts(settings)
    ]
    if len(jobs) == 1:
        return jobs[0]()
    fits, failures = dict[int, FitResult](), list[DivergenceError]()
    for number, result in enumerate(run_together(jobs), 1):
        if isinstance(result, FitResult):
            fits[number] = result
        elif isinstance(result, DivergenceError):
            failures.append(result)
        else:
            raise result
    if not fits:
        raise failures[0]
    for failure in failures:
        warnings.warn(f"a start was given up: {failure}", ConvergenceWarning, stacklevel=4)
    rows, rows_in_words = _comparison_rows(list(fits.values()), source, validation_source)
    errors = {number: _error(fit, rows) for number, fit in fits.items()}
    best = min(fits, key=lambda number: (fits[number].state.best_epoch == 0, errors[number]))
    text = _sentence(errors, best, rows_in_words, len(failures))
    return _with_record(settings, fits[best], text, best, errors)


def settings_of_starts(settings: FitSettings) -> list[FitSettings]:
    """The same settings with several seeds, the first of which is their own."""
    draw = np.random.default_rng(settings.seed)
    folder, seeds = settings.checkpoint, draw.integers(2**31 - 1, size=settings.n_init - 1)
    others = [
        replace(
            settings,
            seed=int(seed),
            reporter=SilentReporter(),
            checkpoint=folder and folder / FOLDER.format(number),
        )
        for number, seed in enumerate(seeds, 2)
    ]
    return [settings, *others]


def _comparison_rows(
    fits: Sequence[FitResult], source: Source, validation_source: Source | None
) -> tuple[Source, str]:
    """The rows on which all fits are compared, and what these are."""
    if validation_source is not None:
        return validation_source, "rows held out"
    # A fit that returned to PCA has learned from the others' validation rows, and has none itself.
    validation = [fit.validation for fit in fits if len(fit.validation)]
    if validation:
        return Subset(source, validation[0]), "rows held out"
    return Subset(source, np.asarray(fits[0].train)), "the rows of training"


def _error(fit: FitResult, rows: Source) -> float:
    return float(fit.model.evaluate(fit.model.open_rows(rows)).total)


def _sentence(errors: Mapping[int, float], best: int, rows_in_words: str, n_diverged: int) -> str:
    """The best start and its error, and the range of the others' errors."""
    text = (
        f"the best of {len(errors) + n_diverged} starts, number {best}: error {errors[best]:.4g} "
        f"on {rows_in_words}"
    )
    others = [error for number, error in errors.items() if number != best]
    if others:
        ends = dict.fromkeys(f"{error:.4g}" for error in (min(others), max(others)))
        text += f", the other{'s' if len(others) > 1 else ''} {' to '.join(ends)}"
    return f"{text}; {n_diverged} diverged" if n_diverged else text


def _with_record(
    settings: FitSettings, fit: FitResult, text: str, best: int, errors: Mapping[int, float]
) -> FitResult:
    """The best fit, with the errors of all in its facts and history."""
    fit.state.history.append({"event": "restarts", "epoch": fit.state.best_epoch, "message": text})
    fit.facts |= {"n_init": settings.n_init, "init_errors": list(errors.values())}
    decision = Decision(name="best_start", value=best, reason=text)
    fit.facts["decisions"] = [*fit.facts["decisions"], decision]
    settings.reporter.message(text)
    return fit
