"""SearchCV: which settings of an autoencoder suit the data best."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from isthmus.data import Subset, is_streamed, open_source
from isthmus.data.arrays import is_sparse
from isthmus.errors import ArtifactError, RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.inputs import row_weights
from isthmus.estimator.settings import folder_of
from isthmus.search.candidates import candidates_of
from isthmus.search.scoring import ScoringError, check_scoring, scored
from isthmus.search.together import run_some
from isthmus.types import Array, Index, Source

TRIED, BEST = "candidate-{}/split-{}", "best"
"""Inside the folder that `checkpoint` names: where each fit of a search keeps its state. Numbers
are those of `cv_results_`."""


class Fold(NamedTuple):
    """Some rows to learn from, and the others."""

    train: Source
    weight: Array | None
    test: Any
    test_y: Any


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
        scoring: A function of (estimator, X) or (estimator, X, y), such as
            `Autoencoder.explained_variance`; higher is better. None is the estimator's own `score`,
            minus the mean squared error of held-out rows. scikit-learn's names are refused, as all
            of them compare predictions with a y.
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

        `y` decides the folds, where `cv` asks for it, and goes to `scoring`; `groups` only decides
        the folds. `sample_weight` (n,) counts a row as that many where it is learned from; scores
        of held-out rows are not weighted, as scikit-learn's are not. `resume` goes on from the
        checkpoints of a search that was stopped, each fit from its own.

        Raises RequestError for settings that make no sense, DataError for weights that make none,
        ArtifactError for checkpoints of another search, and what a fit or `scoring` raises for
        `error_score="raise"`; else a FitFailedWarning tells of fits that failed, and a UserWarning
        of scores that did.
        """
        check_scoring(self.scoring)
        candidates = candidates_of(self.estimator, self.param_grid, self.n_iter, self.random_state)
        rows = _counted(X)
        n_rows = rows.shape[0] if is_sparse(rows) else len(rows)
        counted: Any = np.empty(n_rows)
        weight = None if sample_weight is None else row_weights(sample_weight, counted)
        folds = [
            Fold(
                open_source(_some(rows, train)),
                None if weight is None else weight[train],
                _some(rows, test),
                None if y is None else _safe_indexing(y, test),
            )
            for train, test in check_cv(self.cv, y).split(counted, y, groups)
        ]
        jobs = [
            functools.partial(self._tried, self._made(one, TRIED.format(at, split)), fold, resume)
            for at, one in enumerate(candidates)
            for split, fold in enumerate(folds)
        ]
        outcomes = run_some(jobs)
        scores = np.array([self._score(outcome) for outcome in outcomes], float)
        self.__dict__.pop("best_estimator_", None)  # that of an earlier search
        self.n_splits_ = len(folds)
        self.cv_results_ = _results(candidates, scores.reshape(len(candidates), len(folds)))
        if np.isnan(self.cv_results_["mean_test_score"]).all():
            raise RequestError(_why_none(outcomes))
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
        return scored(self._best, self.scoring, X, y)

    @property
    def _best(self) -> Autoencoder:
        check_is_fitted(self, "cv_results_")
        require(
            hasattr(self, "best_estimator_"),
            "SearchCV: refit=False left no estimator to ask; give refit=True, or fit the estimator "
            "with the settings best_params_",
        )
        best: Autoencoder = self.best_estimator_
        return best

    def _made(self, settings: Mapping[str, Any], place: str) -> Autoencoder:
        """An estimator of one combination, its checkpoints in a folder of its own."""
        made: Autoencoder = clone(self.estimator).set_params(**clone(settings, safe=False))
        folder = folder_of(made.checkpoint)
        return made if folder is None else made.set_params(checkpoint=folder / place)

    def _tried(self, estimator: Autoencoder, fold: Fold, resume: bool) -> float:
        """The score of one combination on one fold."""
        fitted = estimator.fit(fold.train, sample_weight=fold.weight, resume=resume)
        try:
            return scored(fitted, self.scoring, fold.test, fold.test_y)
        except Exception as error:  # whoever looks at the outcome tells it from a fit's
            raise ScoringError from error

    def _score(self, outcome: float | Exception) -> float:
        if not isinstance(outcome, Exception):
            return outcome
        scoring = isinstance(outcome, ScoringError)
        failure = outcome.__cause__ if isinstance(outcome, ScoringError) else outcome
        # A checkpoint of another search is no failure of its combination.
        if self.error_score == "raise" or isinstance(outcome, ArtifactError):
            raise failure or outcome
        what, category = ("scoring", UserWarning) if scoring else ("a fit", FitFailedWarning)
        warnings.warn(f"{what} failed: {failure}", category, stacklevel=3)
        return float(self.error_score)

    def _choose(self, X: Any, weight: Array | None, resume: bool) -> None:
        results = self.cv_results_
        self.best_index_ = int(results["rank_test_score"].argmin())
        self.best_params_ = results["params"][self.best_index_]
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        if self.refit:
            best = self._made(self.best_params_, BEST)
            self.best_estimator_ = best.fit(X, sample_weight=weight, resume=resume)
            self.n_features_in_ = self.best_estimator_.n_features_in_


def _why_none(outcomes: Sequence[float | Exception]) -> str:
    """Why there is no best combination, in a sentence."""
    failed = [one for one in outcomes if isinstance(one, Exception)]
    if not failed:
        return "scoring: every combination has a score that is NaN; give another function"
    every = "every fit" if len(failed) == len(outcomes) else "some fit of every combination"
    if all(isinstance(one, ScoringError) for one in failed):
        return f"scoring: it failed for {every}, which itself did not; see the warnings for why"
    return f"param_grid: {every} failed; see the warnings for the reasons"


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
