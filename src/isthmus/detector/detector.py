"""OutlierDetector: scikit-learn's contract for outliers, over any data an Autoencoder takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import narwhals as nw
import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from isthmus.data import Schema, align, check_rows, restore
from isthmus.detector.fit import Learned, Lesson, check_spread, contributions, learn, scores
from isthmus.detector.reasons import Reason, reasons
from isthmus.detector.sampling import learnable
from isthmus.detector.saving import save
from isthmus.detector.threshold import Threshold, from_contamination, from_held_out
from isthmus.errors import require
from isthmus.estimator import Autoencoder
from isthmus.estimator.inputs import as_source, by_sample, rebuilt_as
from isthmus.estimator.settings import seed_of
from isthmus.spec import is_bool, is_integer, is_number, short_repr
from isthmus.types import Array, Source

AUTO = "auto"
MOST_CONTAMINATION = 0.5


class OutlierDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Find rows that do not belong, and say which of their columns do not.

    An autoencoder learns the code of typical rows. A row is expected to be the mean of those
    typical rows whose codes rebuild most like its own; its score is its mean squared deviation
    from that, each column's over what it usually is. Each column's part in it is a reason.

    Parameters:
        autoencoder: An unfitted Autoencoder to learn with. None takes one whose code holds 99 % of
            the variance of the typical rows.
        contamination: The share of training rows to call odd, in (0, 0.5]. "auto" asks for none:
            the threshold then comes from held-out rows.
        false_alarm_rate: The share of rows like the training rows that may be called odd, in
            (0, 1), where contamination is "auto".
        confidence: How sure that must be, in (0, 1).
        robust: Whether rows far from all others are set aside before training: True where the
            rows may hold what is sought, False where they are known to be clean.
        n_neighbors: How many typical rows tell what a row is expected to be.
        n_estimators: Autoencoders from different seeds whose scores are averaged.
        device: "auto", "cpu", "cuda", or what torch calls a device; of the autoencoder that is
            taken where none is given.
        random_state: An int, a NumPy RandomState, or None; the same seed gives the same scores.

    Attributes:
        threshold_: The score above which a row is odd; `offset_` is minus that.
        threshold_statement_: What the threshold promises, in a sentence.
        learned_rows_: (n,) which of the rows given are the training rows: all of them, but of rows
            that stay on disk no more than 64 MiB and 100,000, drawn from `random_state`.
        decision_scores_: (n,) the scores of the training rows; higher is odder, as in PyOD.
        labels_: (n,) 1 for the odd ones among them, else 0, as in PyOD.
        held_out_rows_, held_out_scores_: The rows that the threshold comes from.
        typical_rows_: (n,) bool: which training rows were not set aside.
        estimators_: The fitted autoencoders.
        n_features_in_, feature_names_in_: As in scikit-learn.

    Sources: the memory is that of Gong et al., "Memorizing normality to detect anomaly" (ICCV
    2019), with the training rows themselves in it; the threshold Wilks, "Determination of sample
    sizes for setting tolerance limits" (1941).
    """

    def __init__(
        self,
        autoencoder: Autoencoder | None = None,
        *,
        contamination: Any = AUTO,
        false_alarm_rate: float = 0.05,
        confidence: float = 0.9,
        robust: bool = True,
        n_neighbors: int = 5,
        n_estimators: int = 1,
        device: str = "auto",
        random_state: Any = 0,
    ) -> None:
        self.autoencoder = autoencoder
        self.contamination = contamination
        self.false_alarm_rate = false_alarm_rate
        self.confidence = confidence
        self.robust = robust
        self.n_neighbors = n_neighbors
        self.n_estimators = n_estimators
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what rows are like: array, tensor, sparse matrix, frame or source.

        Of rows that stay on disk some are learned from, which a UserWarning tells; see
        `learned_rows_`. `y` is ignored.

        Raises DataError or RequestError (both ValueError) for rows or settings that make no sense,
        DivergenceError where training or the scores collapse.
        """
        del y
        self.check()
        source = as_source(self, X, reset=True)
        check_rows(source, allow_missing=True)
        seed = seed_of(self.random_state)
        source, rows = learnable(source, seed)
        lesson = Lesson(
            autoencoder=self.autoencoder,
            n_estimators=self.n_estimators,
            n_neighbors=self.n_neighbors,
            robust=self.robust,
            device=self.device,
            seed=seed,
        )
        learned = learn(lesson, source)
        learned = replace(learned, rows=rows, held_out=rows[learned.held_out])
        training_scores = scores(learned.members, source)
        check_spread(training_scores, source)
        self.keep(learned, training_scores)
        return self

    def set_threshold(
        self,
        *,
        contamination: float | None = None,
        false_alarm_rate: float | None = None,
        confidence: float | None = None,
    ) -> Self:
        """Choose another threshold for the same scores, without fitting anew.

        From the share of odd training rows (`contamination`), else from held-out rows, where what
        is not given stays as it was. Raises RequestError for values out of range.
        """
        check_is_fitted(self)
        require(
            contamination is None or (false_alarm_rate is None and confidence is None),
            "contamination beside false_alarm_rate or confidence: each draws a line; give one",
        )
        asked = {"false_alarm_rate": false_alarm_rate, "confidence": confidence}
        given = {name: value for name, value in asked.items() if value is not None}
        before = self.get_params(deep=False)
        self.set_params(contamination=AUTO if contamination is None else contamination, **given)
        try:
            self.check()
        except ValueError:
            self.set_params(**before)
            raise
        self._draw_line()
        return self

    def score_samples(self, X: Any) -> Array:
        """(n,): minus each row's score; higher is more normal."""
        source = self._source(X)
        return -scores(self.members_, source)

    def decision_function(self, X: Any) -> Array:
        """(n,): `score_samples` less `offset_`; below 0 is odd."""
        return np.asarray(self.score_samples(X) - self.offset_)

    def predict(self, X: Any) -> Array:
        """(n,): -1 for odd rows, 1 for all others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def contributions(self, X: Any) -> Array:
        """(n, n_features_in_): the columns' parts in each row's score, which they sum to.

        0 where a value is missing.
        """
        source = self._source(X)
        return np.nan_to_num(contributions(self.members_, source))

    def score_moments(self, X: Any) -> Any:
        """(T,): the score of each moment of a recording, as its windows tell together.

        For a detector fitted on `data.windows`; a list for a list of recordings. Higher is odder.
        """
        source = self._source(X)
        parts = contributions(self.members_, source)
        known = (~np.isnan(parts)).sum(axis=1, keepdims=True)
        return by_sample(source, parts * known)

    def expected(self, X: Any) -> Any:
        """What each row is expected to be, as what X was: the mean over all estimators."""
        source = self._source(X)
        return rebuilt_as(source, self._expected(source), self._schema)

    def explain(self, X: Any, n_reasons: int = 3) -> list[list[Reason]]:
        """For each row the columns that contribute most to its score, largest first.

        Columns whose found value is the expected one are no reason, so there may be fewer.
        """
        require(
            is_integer(n_reasons) and n_reasons > 0,
            f"n_reasons={short_repr(n_reasons)} must be 1 or more",
        )
        source = align(self._source(X), self._schema)
        names = list(self._schema.feature_names())
        values, wanted = source.read(np.arange(len(source))), self._expected(source)
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        # Whole numbers and truths have no value for what is missing, which is no reason either.
        both = np.where(missing, wanted, values), wanted
        found, expected = (_columns(_typed(some, source), len(names)) for some in both)
        return reasons(self.contributions(X), found, expected, names, n_reasons)

    def save(self, folder: str | Path, *, force: bool = True) -> None:
        """Write a folder that `isthmus.load` reads; no pickle.

        Raises RequestError when `folder` exists and `force` is False, or is no detector's folder.
        """
        check_is_fitted(self)
        save(self, folder, force=force)

    def __sklearn_tags__(self) -> Any:
        """Missing values and sparse matrices are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def keep(self, learned: Learned, training_scores: Array) -> None:
        """Set what was learned; for `fit` and `isthmus.load`."""
        self.members_ = learned.members
        self.estimators_ = [member.autoencoder for member in learned.members]
        self.learned_rows_ = learned.rows
        self.held_out_rows_ = learned.held_out
        self.held_out_scores_ = learned.held_out_scores
        self.typical_rows_ = learned.typical
        self.decision_scores_ = training_scores
        self._draw_line()

    @property
    def _schema(self) -> Schema:
        check_is_fitted(self)
        schema: Schema = self.estimators_[0].preparation_.schema
        return schema

    def _source(self, X: Any) -> Source:
        return as_source(self, X, reset=False, schema=self._schema)

    def _expected(self, source: Source) -> Array:
        """(n, *schema.shape): what rows are expected to be, in data units."""
        preparation = self.estimators_[0].preparation_
        prepared = np.mean([member.expected(source) for member in self.members_], axis=0)
        return np.asarray(preparation.from_measured(prepared * preparation.unit))

    def _draw_line(self) -> None:
        line = self._threshold()
        self.threshold_, self.threshold_statement_ = line.value, line.statement
        self.offset_ = -self.threshold_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)

    def _threshold(self) -> Threshold:
        if self.contamination != AUTO:
            return from_contamination(self.decision_scores_, self.contamination)
        # So few rows that none could be held out: their own scores are all there is.
        known = self.held_out_scores_ if len(self.held_out_scores_) else self.decision_scores_
        return from_held_out(known, self.false_alarm_rate, self.confidence, robust=self.robust)

    def check(self) -> None:
        """Raise RequestError where a setting is out of range."""
        share = self.contamination
        fits = is_number(share) and 0 < share <= MOST_CONTAMINATION
        require(
            fits or (isinstance(share, str) and share == AUTO),
            f"contamination={short_repr(share)} must be 'auto' or a number above 0, at most 0.5",
        )
        for name in ("false_alarm_rate", "confidence"):
            value = getattr(self, name)
            require(
                is_number(value) and 0 < value < 1,
                f"{name}={short_repr(value)} must be a number above 0 and below 1",
            )
        for name in ("n_neighbors", "n_estimators"):
            value = getattr(self, name)
            require(
                is_integer(value) and value >= 1,
                f"{name}={short_repr(value)} must be a whole number, at least 1",
            )
        require(is_bool(self.robust), f"robust={short_repr(self.robust)} must be True or False")
        given = self.autoencoder
        require(
            given is None or isinstance(given, Autoencoder),
            f"autoencoder={short_repr(given)} must be an Autoencoder, or None",
        )


def _typed(values: Array, source: Source) -> Any:
    """Rows of tables as what they came in; of recordings as numbers."""
    plain = source.schema.recording is not None
    return values if plain else restore(values, source.schema)


def _columns(rows: Any, size: int) -> list[Any]:
    """The columns of a frame or of an array's rows."""
    if hasattr(rows, "columns"):
        return [column.to_list() for column in nw.from_native(rows, eager_only=True).iter_columns()]
    if hasattr(rows, "toarray"):
        rows = rows.toarray()
    return np.asarray(rows).reshape(-1, size).T.tolist()  # type: ignore[no-any-return]
