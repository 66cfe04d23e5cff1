"""Many fits at once: several settings of an autoencoder, and which of them suits the data best.

Networks of one form are trained by the same products of stacks of matrices, so that many small fits
take little longer than a few; each ends with the weights that it has alone, within rounding.
"""

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, ParameterSampler, check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from isthmus.data import Subset, is_streamed, open_source
from isthmus.data.arrays import is_sparse
from isthmus.errors import ArtifactError, RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.inputs import row_weights
from isthmus.estimator.request import folder_of
from isthmus.spec import shown
from isthmus.training.crew import run_together
from isthmus.types import Array, Index, Source

TRIED, BEST = "candidate-{}/split-{}", "best"
"""Inside the folder that `checkpoint` names: where each fit of a search keeps its state. Numbers
are those of `cv_results_`."""

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
    outcomes = _run([functools.partial(one.fit, source, **asked) for one in given])
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
            f"estimators {where} {shown(strange[0])}, which is no "
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


def _run(jobs: Sequence[Any]) -> list[Any]:
    starts = range(0, len(jobs), MOST_TOGETHER)
    return [one for at in starts for one in run_together(jobs[at : at + MOST_TOGETHER])]


class Fold(NamedTuple):
    """Some rows to learn from, and the others."""

    train: Source
    weight: Array | None
    test: Any


class SearchCV(TransformerMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Which settings of an autoencoder suit the data best, by cross-validation.

    As scikit-learn's GridSearchCV and RandomizedSearchCV, but all fits are taken together.

    Parameters:
        estimator: The Autoencoder whose settings are tried. Where it has a `checkpoint`, each fit
            has a folder of its own there: candidate-0/split-0 and so on, and best.
        param_grid: Lists of values by setting, every combination of which is tried, or a sequence
            of such; with `n_iter`, lists or distributions that have a method `rvs`.
        n_iter: How many combinations to draw at random, or None for all.
        cv: Folds, or a splitter of scikit-learn's.
        scoring: A name or function as in scikit-learn; None is the estimator's own `score`, minus
            the mean squared error of held-out rows.
        refit: Whether to fit the best settings to all rows in the end.
        error_score: The score of a fit that fails: "raise", or a number.
        random_state: What draws the combinations.

    Attributes:
        cv_results_: Arrays with one entry a combination: `params`, `param_...`,
            `split0_test_score` and so on, `mean_test_score`, `std_test_score`, `rank_test_score`.
        best_index_, best_params_, best_score_: The combination of the highest mean score.
        best_estimator_: The Autoencoder fitted to all rows with it, where `refit`.
        n_splits_: How many folds there were.
    """

    def __init__(
        self,
        estimator: Autoencoder,
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        n_iter: int | None = None,
        cv: Any = 5,
        scoring: Any = None,
        refit: bool = True,
        error_score: Any = np.nan,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.param_grid = param_grid
        self.n_iter = n_iter
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.error_score = error_score
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: Any = None,
        sample_weight: Any = None,
        resume: bool = False,
    ) -> Self:
        """Try all combinations on all folds of the rows of X, and keep the best.

        `y` only decides the folds, where `cv` asks for it, and `groups` likewise. `sample_weight`
        (n,) counts a row as that many where it is learned from; scores of held-out rows are not
        weighted, as scikit-learn's are not. `resume` goes on from the checkpoints of a search that
        was stopped, each fit from its own. Raises RequestError for settings that make no sense,
        DataError for weights that make none, ArtifactError for checkpoints of another search, and
        what a fit raises for `error_score="raise"`; else a FitFailedWarning tells of fits that
        failed.
        """
        candidates = self._candidates()
        rows = _counted(X)
        n_rows = rows.shape[0] if is_sparse(rows) else len(rows)
        counted: Any = np.empty(n_rows)
        weight = None if sample_weight is None else row_weights(sample_weight, counted)
        folds = [
            Fold(
                open_source(_some(rows, train)),
                None if weight is None else weight[train],
                _some(rows, test),
            )
            for train, test in check_cv(self.cv, y).split(counted, y, groups)
        ]
        jobs = [
            functools.partial(self._tried, self._made(one, TRIED.format(at, split)), fold, resume)
            for at, one in enumerate(candidates)
            for split, fold in enumerate(folds)
        ]
        scores = np.array([self._score(outcome) for outcome in _run(jobs)], float)
        self.n_splits_ = len(folds)
        self.cv_results_ = _results(candidates, scores.reshape(len(candidates), len(folds)))
        self._choose(X, weight, resume)
        return self

    def transform(self, X: Any) -> Array:
        """The codes of the rows of X by the best estimator."""
        return self._best.transform(X)

    def inverse_transform(self, X: Any) -> Any:
        """What the rows were, rebuilt from codes by the best estimator."""
        return self._best.inverse_transform(X)

    def score(self, X: Any, y: Any = None) -> float:
        """How well the best estimator does on the rows of X, by `scoring`."""
        scorer = check_scoring(self._best, scoring=self.scoring)
        return float(scorer(self._best, X, y))

    @property
    def _best(self) -> Autoencoder:
        check_is_fitted(self, "best_estimator_")
        best: Autoencoder = self.best_estimator_
        return best

    def _candidates(self) -> list[dict[str, Any]]:
        known = self.estimator.get_params()
        if self.n_iter is None:
            found = list(ParameterGrid(self.param_grid))
        else:
            draws = ParameterSampler(self.param_grid, self.n_iter, random_state=self.random_state)
            found = list(draws)
        strange = sorted({name for one in found for name in one} - set(known))
        require(not strange, f"param_grid: Autoencoder has no settings {', '.join(strange)}")
        return found

    def _made(self, settings: Mapping[str, Any], place: str) -> Autoencoder:
        """An estimator of one combination, its checkpoints in a folder of its own."""
        made: Autoencoder = clone(self.estimator).set_params(**clone(settings, safe=False))
        folder = folder_of(made.checkpoint)
        return made if folder is None else made.set_params(checkpoint=folder / place)

    def _tried(self, estimator: Autoencoder, fold: Fold, resume: bool) -> float:
        """The score of one combination on one fold."""
        scorer = check_scoring(estimator, scoring=self.scoring)
        fitted = estimator.fit(fold.train, sample_weight=fold.weight, resume=resume)
        return float(scorer(fitted, fold.test))

    def _score(self, outcome: float | Exception) -> float:
        if not isinstance(outcome, Exception):
            return outcome
        # A checkpoint of another search is no failure of its combination.
        if self.error_score == "raise" or isinstance(outcome, ArtifactError):
            raise outcome
        warnings.warn(f"a fit failed: {outcome}", FitFailedWarning, stacklevel=3)
        return float(self.error_score)

    def _choose(self, X: Any, weight: Array | None, resume: bool) -> None:
        results = self.cv_results_
        if np.isnan(results["mean_test_score"]).all():
            raise RequestError("param_grid: every fit failed; see the warnings for the reasons")
        self.best_index_ = int(results["rank_test_score"].argmin())
        self.best_params_ = results["params"][self.best_index_]
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        if self.refit:
            best = self._made(self.best_params_, BEST)
            self.best_estimator_ = best.fit(X, sample_weight=weight, resume=resume)
            self.n_features_in_ = self.best_estimator_.n_features_in_


def _counted(X: Any) -> Any:
    """X as something of which the number of rows is known, and of which some can be taken."""
    if is_sparse(X):
        return X.tocsr()
    return X if hasattr(X, "__len__") else open_source(X)


def _some(X: Any, rows: Index) -> Any:
    """Some of the rows, as what X is."""
    if hasattr(X, "schema") and hasattr(X, "read"):
        source: Source = X
        require(
            not is_streamed(source),
            f"{source.origin}: rows that stay on disk cannot be cut into folds; read them into "
            "memory, or give some of them",
        )
        return Subset(source, rows)
    return _safe_indexing(X, rows)


def _results(candidates: Sequence[dict[str, Any]], scores: Array) -> dict[str, Any]:
    """`cv_results_` from scores (combinations, folds)."""
    mean = scores.mean(axis=1)
    found: dict[str, Any] = {"params": list(candidates)}
    for name in sorted({name for one in candidates for name in one}):
        missing = [name not in one for one in candidates]
        values = np.empty(len(candidates), object)
        values[:] = [one.get(name) for one in candidates]
        found[f"param_{name}"] = np.ma.MaskedArray(values, mask=missing)
    found |= {f"split{at}_test_score": scores[:, at] for at in range(scores.shape[1])}
    worst = np.where(np.isnan(mean), -np.inf, mean)
    return found | {
        "mean_test_score": mean,
        "std_test_score": scores.std(axis=1),
        "rank_test_score": rankdata(-worst, method="min").astype(np.int32),
    }
