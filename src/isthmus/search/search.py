"""SearchCV: cross-validated search over the settings of an autoencoder."""

import functools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted

from isthmus._compat import select_rows
from isthmus.data.arrays import array_source, is_sparse
from isthmus.data.open import open_source
from isthmus.data.source import Source, Subset
from isthmus.errors import ArtifactError, RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.inputs import row_weights
from isthmus.estimator.settings import folder_of
from isthmus.search.candidates import Grid, candidates_of
from isthmus.search.scoring import Scoring, ScoringError, check_scoring, compute_score
from isthmus.search.together import run_in_groups
from isthmus.types import Array, Index

CANDIDATE_FOLDER, BEST_FOLDER = "candidate-{}/split-{}", "best"
"""Folders of the fits inside the estimator's `checkpoint`; numbers are those of `cv_results_`."""


class Splitter(Protocol):
    """A cross-validation splitter of scikit-learn, such as KFold."""

    def split(
        self, X: object, y: object = None, groups: object = None
    ) -> Iterator[tuple[Index, Index]]:
        """The training and test positions of each fold."""


class Fold(NamedTuple):
    """The training and test rows of one split."""

    train: Source
    weight: Array | None
    test: Any
    test_y: object


class SearchCV(TransformerMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Search for the best settings of an autoencoder by cross-validation.

    It works like scikit-learn's GridSearchCV and RandomizedSearchCV, except that all fits run
    concurrently and share training steps.

    Parameters:
        estimator: The Autoencoder whose settings are varied. If it has a `checkpoint`, each fit has
            its own folder there: candidate-0/split-0 and so on, and best.
        param_grid: Lists of values by the name of a setting, all combinations of which are tried,
            or a list of such grids. With `n_iter` also distributions that have a method `rvs`.
        n_iter: The number of combinations to draw at random, 1 or more. None, the default, tries
            all of them.
        cv: The number of folds, 2 or more, or a splitter of scikit-learn; default 5.
        scoring: A function of (estimator, X) or (estimator, X, y), such as
            `Autoencoder.explained_variance`; higher is better. None, the default, is the
            estimator's `score`, the negative mean squared error of the test rows. scikit-learn's
            names are refused, as all of them compare predictions with a y.
        refit: Whether to fit the best combination to all rows in the end; default True.
        error_score: The score of a fit that fails: a number, by default NaN, or "raise".
        random_state: An int, a NumPy RandomState or None; determines the drawn combinations.

    Attributes:
        cv_results_: A dict of arrays with one entry per combination: `params`, `param_...`,
            `split0_test_score` and so on, `mean_test_score`, `std_test_score`, `rank_test_score`.
        best_index_, best_params_, best_score_: The combination of the highest mean score.
        best_estimator_: The Autoencoder with these settings, fitted to all rows; with `refit`.
        n_splits_: The number of folds.
        n_features_in_: As in scikit-learn; with `refit`.

    Example:
        >>> import numpy as np
        >>> from isthmus import Autoencoder, SearchCV
        >>> rows = np.random.default_rng(0).normal(size=(60, 2)) @ [[1, 2, 0], [0, 1, 3]]
        >>> estimator = Autoencoder(kind="vanilla", max_epochs=2, random_state=0)
        >>> search = SearchCV(estimator, {"n_components": [1, 2]}, cv=2).fit(rows)
        >>> search.best_params_, search.transform(rows).shape
        ({'n_components': 2}, (60, 2))
    """

    def __init__(
        self,
        estimator: Autoencoder,
        param_grid: Grid,
        *,
        n_iter: int | None = None,
        cv: int | Splitter | Iterable[tuple[Index, Index]] = 5,
        scoring: Scoring | None = None,
        refit: bool = True,
        error_score: float | str = np.nan,
        random_state: int | np.random.RandomState | None = None,
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
        X: object,
        y: object = None,
        *,
        groups: object = None,
        sample_weight: object = None,
        resume: bool = False,
    ) -> Self:
        """Fit all combinations on all folds, and the best one on all rows.

        Parameters:
            X: Rows as in `Autoencoder.fit`, in memory.
            y: Passed to `scoring`, and to the splitter if it stratifies.
            groups: Passed to the splitter only.
            sample_weight: (n,) weights of the training rows. Scores of test rows are not weighted,
                as in scikit-learn.
            resume: Whether to continue an interrupted search from the checkpoints of its fits.

        Returns:
            The search itself.

        Raises:
            RequestError: A setting is invalid, or no combination could be scored.
            DataError: The rows or weights cannot be used.
            ArtifactError: The checkpoints belong to another search.

        Warns:
            FitFailedWarning: A fit failed; it raises instead with `error_score="raise"`.
            UserWarning: `scoring` failed; it raises instead with `error_score="raise"`.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(60, 3))
            >>> search = SearchCV(Autoencoder(max_epochs=1), {"n_components": [1, 2]}, cv=3)
            >>> search.fit(rows).n_splits_
            3
        """
        check_scoring(self.scoring)
        candidates = candidates_of(self.estimator, self.param_grid, self.n_iter, self.random_state)
        rows = _indexable(X)
        n_rows = rows.shape[0] if is_sparse(rows) else len(rows)
        placeholder = np.zeros((n_rows, 1))
        weight = None
        if sample_weight is not None:
            weight = row_weights(sample_weight, array_source(placeholder))
        folds = [
            Fold(
                open_source(_take(rows, train)),
                None if weight is None else weight[train],
                _take(rows, test),
                None if y is None else select_rows(y, test),
            )
            for train, test in check_cv(self.cv, y).split(placeholder, y, groups)
        ]
        jobs = [
            functools.partial(
                self._fit_and_score,
                self._with_settings(settings, CANDIDATE_FOLDER.format(index, split)),
                fold,
                resume,
            )
            for index, settings in enumerate(candidates)
            for split, fold in enumerate(folds)
        ]
        outcomes = run_in_groups(jobs)
        scores = np.array([self._score_of_outcome(outcome) for outcome in outcomes], float)
        self.__dict__.pop("best_estimator_", None)  # that of an earlier search
        self.n_splits_ = len(folds)
        self.cv_results_ = _cv_results(candidates, scores.reshape(len(candidates), len(folds)))
        if np.isnan(self.cv_results_["mean_test_score"]).all():
            raise RequestError(_no_score_message(outcomes))
        self._select_best(X, weight, resume)
        return self

    def transform(self, X: object) -> Array:
        """The codes of the rows of X by the best estimator, (n, n_components_).

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(60, 3))
            >>> search = SearchCV(Autoencoder(max_epochs=1), {"n_components": [2]}, cv=2)
            >>> search.fit(rows).transform(rows).shape
            (60, 2)
        """
        return self._best.transform(X)

    def inverse_transform(self, X: object) -> Any:
        """The rows that the best estimator reconstructs from codes, in the form of the fitted rows.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(60, 3))
            >>> search = SearchCV(Autoencoder(max_epochs=1), {"n_components": [2]}, cv=2)
            >>> search.fit(rows).inverse_transform([[0.0, 0.0]]).shape
            (1, 3)
        """
        return self._best.inverse_transform(X)

    def score(self, X: object, y: object = None) -> float:
        """The score of the best estimator on the rows of X, by `scoring`.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(60, 3))
            >>> search = SearchCV(Autoencoder(max_epochs=1), {"n_components": [2]}, cv=2)
            >>> search.fit(rows).score(rows) < 0
            True
        """
        return compute_score(self._best, self.scoring, X, y)

    @property
    def _best(self) -> Autoencoder:
        check_is_fitted(self, "cv_results_")
        require(
            hasattr(self, "best_estimator_"),
            "SearchCV: with refit=False there is no fitted estimator; give refit=True, or fit the "
            "estimator with the settings best_params_",
        )
        best: Autoencoder = self.best_estimator_
        return best

    def _with_settings(self, settings: dict[str, object], folder: str) -> Autoencoder:
        """A copy of the estimator with `settings`, and its own `folder` for checkpoints."""
        copy: Autoencoder = clone(self.estimator).set_params(**clone(settings, safe=False))
        base = folder_of(copy.checkpoint)
        return copy if base is None else copy.set_params(checkpoint=base / folder)

    def _fit_and_score(self, estimator: Autoencoder, fold: Fold, resume: bool) -> float:
        """The score of an estimator fitted on the training rows of a fold, on its test rows."""
        fitted = estimator.fit(fold.train, sample_weight=fold.weight, resume=resume)
        try:
            return compute_score(fitted, self.scoring, fold.test, fold.test_y)
        except Exception as error:  # to tell it from an exception of the fit
            raise ScoringError from error

    def _score_of_outcome(self, outcome: float | Exception) -> float:
        """The score; for an exception, a warning and the `error_score`."""
        if not isinstance(outcome, Exception):
            return outcome
        is_scoring = isinstance(outcome, ScoringError)
        failure = outcome.__cause__ if is_scoring else outcome
        # A checkpoint of another search is not a failure of this combination.
        if self.error_score == "raise" or isinstance(outcome, ArtifactError):
            raise failure or outcome
        subject, category = ("scoring", UserWarning) if is_scoring else ("a fit", FitFailedWarning)
        warnings.warn(f"{subject} failed: {failure}", category, stacklevel=3)
        return float(self.error_score)

    def _select_best(self, X: object, weight: Array | None, resume: bool) -> None:
        results = self.cv_results_
        self.best_index_ = int(results["rank_test_score"].argmin())
        self.best_params_ = results["params"][self.best_index_]
        self.best_score_ = float(results["mean_test_score"][self.best_index_])
        if self.refit:
            best = self._with_settings(self.best_params_, BEST_FOLDER)
            self.best_estimator_ = best.fit(X, sample_weight=weight, resume=resume)
            self.n_features_in_ = self.best_estimator_.n_features_in_


def _no_score_message(outcomes: Sequence[float | Exception]) -> str:
    """The error message if no combination has a score."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if not failures:
        return "scoring: every combination has the score NaN; give another function"
    subject = "every fit" if len(failures) == len(outcomes) else "some fit of every combination"
    if all(isinstance(failure, ScoringError) for failure in failures):
        return f"scoring: it failed after {subject}, though the fits succeeded; see the warnings"
    return f"param_grid: {subject} failed; see the warnings for the reasons"


def _indexable(X: object) -> Any:
    """X in a form whose rows can be counted and selected."""
    rows: Any = X
    if is_sparse(rows):
        return rows.tocsr()
    return X if hasattr(X, "__len__") else open_source(X)


def _take(X: object, rows: Index) -> Any:
    """The selected rows, in the form of X."""
    if isinstance(X, Source):
        require(
            not X.is_streamed,
            f"{X.origin}: rows that stay on disk cannot be cut into folds; read them into memory, "
            "or give a part of them",
        )
        return Subset(X, rows)
    return select_rows(X, rows)


def _cv_results(candidates: Sequence[dict[str, object]], scores: Array) -> dict[str, Any]:
    """`cv_results_` of scores (candidates, folds)."""
    mean = scores.mean(axis=1)
    results: dict[str, Any] = {"params": list(candidates)}
    for name in sorted({name for settings in candidates for name in settings}):
        missing = [name not in settings for settings in candidates]
        values = np.empty(len(candidates), object)
        values[:] = [settings.get(name) for settings in candidates]
        results[f"param_{name}"] = np.ma.MaskedArray(values, mask=missing)
    results |= {f"split{fold}_test_score": scores[:, fold] for fold in range(scores.shape[1])}
    comparable = np.where(np.isnan(mean), -np.inf, mean)
    return results | {
        "mean_test_score": mean,
        "std_test_score": scores.std(axis=1),
        "rank_test_score": rankdata(-comparable, method="min").astype(np.int32),
    }
