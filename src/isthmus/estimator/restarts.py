"""Fits from several random starts, the best of which is kept."""

import copy
import functools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from isthmus.data import Subset
from isthmus.errors import DivergenceError
from isthmus.estimator.fitted import Fitted
from isthmus.estimator.fitting import Fitting
from isthmus.estimator.request import Request
from isthmus.training.crew import run_together
from isthmus.training.progress import Silent
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
    fits, lost = [], []
    for outcome in run_together(jobs):
        if isinstance(outcome, Fitted):
            fits.append(outcome)
        elif isinstance(outcome, DivergenceError):
            lost.append(outcome)
        else:
            raise outcome
    if not fits:
        raise lost[0]
    for failure in lost:
        warnings.warn(f"a start was given up: {failure}", ConvergenceWarning, stacklevel=4)
    errors = [_error(estimator, fit, source, validation) for fit in fits]
    idle = [fit.state.best_epoch == 0 for fit in fits]
    best = min(range(len(fits)), key=lambda at: (idle[at], errors[at]))
    return _told(request, fits[best], errors, best)


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


def _error(estimator: Any, fit: Fitted, source: Source, validation: Source | None) -> float:
    """The fit's error on rows that it has not learned from, as its estimator would tell it."""
    model = copy.copy(estimator)
    model.keep(fit)
    if validation is not None:
        return float(model.reconstruction_error(validation))
    rows = fit.held_out if len(fit.held_out) else np.asarray(fit.train)
    return float(model.reconstruction_error(Subset(source, rows)))


def _told(request: Request, fit: Fitted, errors: Sequence[float], best: int) -> Fitted:
    """The fit, with a word on what the others came to."""
    text = (
        f"the best of {len(errors)} starts, number {best + 1}: error {errors[best]:.4g} on rows "
        f"held out, the others {min(errors):.4g} to {max(errors):.4g}"
    )
    fit.state.history.append({"event": "restarts", "epoch": fit.state.best_epoch, "message": text})
    fit.facts |= {"n_init": request.n_init, "init_errors": list(errors)}
    request.reporter.message(text)
    return fit
