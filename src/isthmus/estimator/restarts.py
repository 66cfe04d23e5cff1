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
from isthmus.estimator.fit import Fitted, Fitting
from isthmus.estimator.settings import Request
from isthmus.training.concurrent import run_together
from isthmus.training.reporters import Silent
from isthmus.types import Array, Source

FOLDER = "restart-{}"
"""Inside that of the checkpoints: where the second start and those after it keep theirs."""


def best_of(
    estimator: Any, request: Request, source: Source, weight: Array, validation: Source | None
) -> Fitted:
    """Fit from `request.n_init` starts, all of which hold out the same rows; the best fit.

    That is the one with the lowest reconstruction error on held-out rows (on training rows where
    none are held out), of those for which training gained anything. Fits that diverge are given up
    with a ConvergenceWarning; DivergenceError where all do.
    """
    jobs = [functools.partial(_fit, one, source, weight, validation) for one in _requests(request)]
    if len(jobs) == 1:
        return jobs[0]()
    fits, lost = dict[int, Fitted](), list[DivergenceError]()
    for number, outcome in enumerate(run_together(jobs), 1):
        if isinstance(outcome, Fitted):
            fits[number] = outcome
        elif isinstance(outcome, DivergenceError):
            lost.append(outcome)
        else:
            raise outcome
    if not fits:
        raise lost[0]
    for failure in lost:
        warnings.warn(f"a start was given up: {failure}", ConvergenceWarning, stacklevel=4)
    rows, whose = _judges(list(fits.values()), source, validation)
    errors = {number: _error(estimator, fit, rows) for number, fit in fits.items()}
    best = min(fits, key=lambda number: (fits[number].state.best_epoch == 0, errors[number]))
    return _told(request, fits[best], _sentence(errors, best, whose, len(lost)), errors)


def _requests(request: Request) -> list[Request]:
    """The same request from several seeds, of which the first is its own."""
    draw = np.random.default_rng(request.seed)
    place, seeds = request.checkpoint, draw.integers(2**31 - 1, size=request.n_init - 1)
    others = [
        replace(
            request,
            seed=int(seed),
            reporter=Silent(),
            checkpoint=place and place / FOLDER.format(number),
        )
        for number, seed in enumerate(seeds, 2)
    ]
    return [request, *others]


def _fit(request: Request, source: Source, weight: Array, validation: Source | None) -> Fitted:
    return Fitting(request, source, weight, validation).run()


def _judges(
    fits: Sequence[Fitted], source: Source, validation: Source | None
) -> tuple[Source, str]:
    """The rows to judge all fits by, as they were held out where any were, and what they are."""
    if validation is not None:
        return validation, "rows held out"
    # A fit that came back to PCA has learned from the others' held-out rows, and names none.
    held_out = [fit.held_out for fit in fits if len(fit.held_out)]
    if held_out:
        return Subset(source, held_out[0]), "rows held out"
    return Subset(source, np.asarray(fits[0].train)), "the rows of training"


def _error(estimator: Any, fit: Fitted, rows: Source) -> float:
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


def _told(request: Request, fit: Fitted, text: str, errors: Mapping[int, float]) -> Fitted:
    """The fit, with a word on what the others came to."""
    fit.state.history.append({"event": "restarts", "epoch": fit.state.best_epoch, "message": text})
    fit.facts |= {"n_init": request.n_init, "init_errors": list(errors.values())}
    request.reporter.message(text)
    return fit
