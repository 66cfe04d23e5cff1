"""OutlierDetector: scikit-learn's contract for outlier detection, over any data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import narwhals as nw
import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.tables.restore import restore
from isthmus.data.validate import align, check_rows
from isthmus.detector import persistence
from isthmus.detector.fit import (
    DetectorSettings,
    FittedDetector,
    contributions,
    fit_detector,
    scores,
)
from isthmus.detector.persistence import SavedDetector
from isthmus.detector.reasons import Reason, reasons
from isthmus.detector.sampling import sample_to_memory
from isthmus.detector.threshold import Threshold, from_contamination, from_held_out
from isthmus.errors import either, require
from isthmus.estimator import Autoencoder
from isthmus.estimator.inputs import as_source, errors_by_timestep, restore_like
from isthmus.estimator.settings import seed_of
from isthmus.spec import Spec, is_bool, is_integer, is_number, short_repr
from isthmus.types import Array

AUTO = "auto"
MAX_CONTAMINATION = 0.5


class OutlierDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Detect outliers, and report which of their columns are unusual.

    An autoencoder is trained on typical rows. The expected value of a row is the mean of the
    typical rows whose reconstructions are nearest to the row's own. The score of a row is its mean
    squared deviation from the expected row, each column's divided by its usual squared deviation.
    The terms of the mean are the contributions of the columns.

    Parameters:
        autoencoder: An unfitted Autoencoder. The default, None, is one with settings chosen for
            outliers.
        n_components: Numbers in a code. None, the default, leaves those of `autoencoder`. The
            default autoencoder has as many as explain 99 % of the variance, at most 128.
        contamination: The fraction of the training rows to flag as outliers, in (0, 0.5]. With
            "auto", the default, the threshold is computed from held-out rows.
        false_alarm_rate: With `contamination="auto"`, the fraction of rows like the training rows
            that may be flagged, in (0, 1); default 0.05.
        confidence: The probability that the false alarm rate is not exceeded, in (0, 1); default
            0.9.
        robust: Whether rows far from all others are trimmed before training. Use True, the default,
            if the training rows may contain outliers, and False if they are clean.
        n_neighbors: The number of typical rows that are averaged to the expected row, 1 or more;
            default 5.
        n_estimators: The number of autoencoders, trained from different seeds, whose scores are
            averaged, 1 or more; default 1.
        device: "auto", "cpu", "cuda" or any name of a torch device. It applies to the default
            autoencoder only.
        random_state: An int, a NumPy RandomState or None. The same seed gives the same scores;
            default 0.

    Attributes:
        threshold_: The score above which a row is an outlier; `offset_` is its negative.
        threshold_statement_: The guarantee of the threshold, in one sentence.
        train_rows_: (n,) numbers of the training rows in X. These are all rows if X is in memory.
            Of rows on disk at most 64 MiB and 100,000 rows are drawn at random.
        decision_scores_: (n,) scores of the training rows; higher is more anomalous, as in PyOD.
        labels_: (n,) 1 for outliers among the training rows, else 0, as in PyOD.
        inlier_mask_: (n,) bool, False for the training rows that were trimmed. All are True with
            `robust=False`.
        held_out_rows_, held_out_scores_: (m,) numbers in X and scores of the rows that the
            threshold is computed from, which no autoencoder was trained on.
        estimators_: The fitted autoencoders.
        n_features_in_, feature_names_in_: As in scikit-learn.

    Source: The expected rows follow the memory of Gong et al., "Memorizing normality to detect
        anomaly" (ICCV 2019), with the training rows as its items. The threshold is a tolerance
        limit of Wilks, "Determination of sample sizes for setting tolerance limits" (1941).

    Example:
        >>> import numpy as np
        >>> from isthmus import Autoencoder, OutlierDetector
        >>> rows = np.random.default_rng(0).normal(size=(200, 2)) @ [[1, 2, 0], [0, 1, 3]]
        >>> rows[7, 2] += 30  # one wrong value
        >>> detector = OutlierDetector(Autoencoder(2, max_epochs=5)).fit(rows)
        >>> detector.predict(rows[7:9])
        array([-1,  1])
        >>> detector.explain(rows[7:8])[0][0].column
        '2'
    """

    def __init__(
        self,
        autoencoder: Autoencoder | None = None,
        *,
        n_components: int | None = None,
        contamination: float | str = AUTO,
        false_alarm_rate: float = 0.05,
        confidence: float = 0.9,
        robust: bool = True,
        n_neighbors: int = 5,
        n_estimators: int = 1,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.autoencoder = autoencoder
        self.n_components = n_components
        self.contamination = contamination
        self.false_alarm_rate = false_alarm_rate
        self.confidence = confidence
        self.robust = robust
        self.n_neighbors = n_neighbors
        self.n_estimators = n_estimators
        self.device = device
        self.random_state = random_state

    def fit(self, X: object, y: object = None) -> Self:
        """Fit the detector to the rows of X.

        Parameters:
            X: An array, tensor, sparse matrix, data frame or source; of recordings `data.windows`.
                Of rows on disk a sample is used, which a UserWarning reports; see `train_rows_`.
            y: Ignored.

        Returns:
            The detector itself.

        Raises:
            DataError: The rows cannot be used, or are too few. It is a ValueError.
            RequestError: A setting is out of range. It is a ValueError.
            DivergenceError: The training diverged, or different rows have the same score.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> detector.decision_scores_.shape
            (100,)
        """
        del y
        self._check_settings()
        source = as_source(self, X, reset=True)
        check_rows(source, allow_missing=True)
        seed = seed_of(self.random_state)
        source, rows = sample_to_memory(source, seed)
        settings = DetectorSettings(
            autoencoder=self.autoencoder,
            n_components=self.n_components,
            n_estimators=self.n_estimators,
            n_neighbors=self.n_neighbors,
            robust=self.robust,
            device=self.device,
            seed=seed,
        )
        self._set_fitted(fit_detector(settings, source, rows))
        return self

    def set_threshold(
        self,
        *,
        contamination: float | None = None,
        false_alarm_rate: float | None = None,
        confidence: float | None = None,
    ) -> Self:
        """Change the threshold without fitting again; scores stay the same.

        Parameters:
            contamination: The fraction of the training rows to flag, in (0, 0.5]. None computes the
                threshold from held-out rows.
            false_alarm_rate: As in the constructor. None leaves it unchanged.
            confidence: As in the constructor. None leaves it unchanged.

        Returns:
            The detector itself.

        Raises:
            RequestError: A value is out of range, or `contamination` is combined with the others.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> int(detector.set_threshold(contamination=0.1).labels_.sum())
            10
        """
        check_is_fitted(self)
        require(
            contamination is None or (false_alarm_rate is None and confidence is None),
            "contamination cannot be combined with false_alarm_rate or confidence: both set the "
            "threshold; give one",
        )
        rates = {"false_alarm_rate": false_alarm_rate, "confidence": confidence}
        changed = {name: value for name, value in rates.items() if value is not None}
        before = self.get_params(deep=False)
        self.set_params(contamination=AUTO if contamination is None else contamination, **changed)
        try:
            self._check_settings()
        except ValueError:
            self.set_params(**before)
            raise
        self._update_threshold()
        return self

    def score_samples(self, X: object) -> Array:
        """(n,): the negative score of each row; higher is more normal, as in scikit-learn.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> bool(np.allclose(detector.score_samples(rows), -detector.decision_scores_))
            True
        """
        source = self._source(X)
        return -scores(self._members, source)

    def decision_function(self, X: object) -> Array:
        """(n,): `score_samples` minus `offset_`; negative for outliers.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> bool(detector.decision_function([[0.0, 0.0, 50.0]])[0] < 0)
            True
        """
        return np.asarray(self.score_samples(X) - self.offset_)

    def predict(self, X: object) -> Array:
        """(n,): -1 for outliers, 1 for all other rows.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> detector.predict([[0.0, 0.0, 50.0], [0.0, 0.0, 0.0]])
            array([-1,  1])
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def contributions(self, X: object) -> Array:
        """(n, n_features_in_): the contribution of each column to the score of each row, >= 0.

        The contributions of a row sum to its score. A missing value contributes 0.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> int(detector.contributions([[0.0, 0.0, 50.0]])[0].argmax())
            2
        """
        source = self._source(X)
        return np.nan_to_num(contributions(self._members, source))

    def score_timesteps(self, X: object) -> Array | list[Array]:
        """(T,): the score of each time step of a recording; higher is more anomalous.

        The detector must be fitted on `data.windows`. The score of a time step is the mean over all
        windows that contain it. A list of recordings gives a list of arrays.

        Raises:
            RequestError: The detector was not fitted on windows of recordings.

        Example:
            >>> from isthmus import data
            >>> recording = np.sin(np.arange(300.0) / 5)
            >>> windows = data.windows(recording, length=20)
            >>> detector = OutlierDetector(Autoencoder(2, kind="vanilla", max_epochs=2))
            >>> recording[150] = 5
            >>> scores = detector.fit(windows).score_timesteps(recording)
            >>> scores.shape, int(scores.argmax())
            ((300,), 150)
        """
        source = self._source(X)
        parts = contributions(self._members, source)
        counts = (~np.isnan(parts)).sum(axis=1, keepdims=True)
        return errors_by_timestep(source, parts * counts)

    def expected_rows(self, X: object) -> Any:
        """The expected row for each row of X, averaged over all estimators, in the form of X.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> bool(detector.expected_rows([[0.0, 0.0, 50.0]])[0, 2] < 5)
            True
        """
        source = self._source(X)
        return restore_like(source, self._expected_values(source), self._schema)

    def explain(self, X: object, n_reasons: int = 3) -> list[list[Reason]]:
        """The columns that contribute most to the score of each row, largest first.

        Parameters:
            X: Rows as in `fit`.
            n_reasons: The largest number of reasons per row, 1 or more; default 3.

        Returns:
            A list of reasons per row. It is shorter if fewer columns contribute.

        Raises:
            RequestError: `n_reasons` is not a whole number above 0.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> reason = detector.explain([[0.0, 0.0, 50.0]])[0][0]
            >>> reason.column, reason.value
            ('2', 50.0)
        """
        require(
            is_integer(n_reasons) and n_reasons > 0,
            f"n_reasons={short_repr(n_reasons)} must be 1 or more",
        )
        source = align(self._source(X), self._schema)
        names = list(self._schema.feature_names())
        values, wanted = source.read(np.arange(len(source))), self._expected_values(source)
        missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
        # Integers and booleans cannot represent missing values, which contribute nothing.
        filled = np.where(missing, wanted, values)
        values_by_column, expected_by_column = (
            _columns(_restore_table(part, source.schema), len(names)) for part in (filled, wanted)
        )
        parts = self.contributions(X)
        return reasons(parts, values_by_column, expected_by_column, names, n_reasons)

    def save(self, folder: str | Path, *, force: bool = True) -> None:
        """Write a folder that `isthmus.load` reads: JSON and tensors, no pickle.

        Parameters:
            folder: The folder to write.
            force: Whether an existing detector in `folder` is replaced.

        Raises:
            RequestError: `folder` exists and `force` is False, or it is not a detector's folder.

        Example:
            >>> import tempfile
            >>> rows = np.random.default_rng(0).normal(size=(100, 3))
            >>> detector = OutlierDetector(Autoencoder(2, max_epochs=2)).fit(rows)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     detector.save(folder + "/detector")
            ...     loaded = load(folder + "/detector")
            >>> loaded.threshold_ == detector.threshold_
            True
        """
        check_is_fitted(self)
        settings = self.get_params(deep=False)
        del settings["autoencoder"]
        saved = SavedDetector(
            settings=settings,
            default_autoencoder=self.autoencoder is None,
            n_features_in=self.n_features_in_,
            fitted=FittedDetector(
                members=self._members,
                held_out_rows=self.held_out_rows_,
                held_out_scores=self.held_out_scores_,
                inlier_mask=self.inlier_mask_,
                train_rows=self.train_rows_,
                train_scores=self.decision_scores_,
            ),
        )
        persistence.save(saved, folder, force=force)

    def __sklearn_tags__(self) -> Tags:
        """Missing values and sparse matrices are supported."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def _set_fitted(self, fitted: FittedDetector) -> None:
        self._members = fitted.members
        self.estimators_ = [member.autoencoder for member in fitted.members]
        self.train_rows_ = fitted.train_rows
        self.held_out_rows_ = fitted.held_out_rows
        self.held_out_scores_ = fitted.held_out_scores
        self.inlier_mask_ = fitted.inlier_mask
        self.decision_scores_ = fitted.train_scores
        self._update_threshold()

    @property
    def _schema(self) -> Schema:
        check_is_fitted(self)
        schema: Schema = self.estimators_[0].preparation_.schema
        return schema

    def _source(self, X: object) -> Source:
        return as_source(self, X, reset=False, schema=self._schema)

    def _expected_values(self, source: Source) -> Array:
        """(n, *schema.shape): the expected rows, in the units of the data."""
        preparation = self.estimators_[0].preparation_
        prepared = np.mean([member.expected_rows(source) for member in self._members], axis=0)
        return np.asarray(preparation.from_error_units(prepared * preparation.unit))

    def _update_threshold(self) -> None:
        threshold = self._threshold()
        self.threshold_, self.threshold_statement_ = threshold.value, threshold.statement
        self.offset_ = -self.threshold_
        self.labels_ = (self.decision_scores_ > self.threshold_).astype(int)

    def _threshold(self) -> Threshold:
        if not isinstance(self.contamination, str):
            return from_contamination(self.decision_scores_, self.contamination)
        # With too few rows to hold any out, the scores of the training rows have to do.
        scored = self.held_out_scores_ if len(self.held_out_scores_) else self.decision_scores_
        return from_held_out(scored, self.false_alarm_rate, self.confidence, robust=self.robust)

    def _check_settings(self) -> None:
        """Raise RequestError if a setting is out of range."""
        contamination: Any = self.contamination
        auto = either("'auto' or ", "")
        in_range = is_number(contamination) and 0 < contamination <= MAX_CONTAMINATION
        require(
            in_range or (isinstance(contamination, str) and contamination == AUTO),
            f"contamination={short_repr(contamination)} must be {auto}a number above 0, at most "
            f"{MAX_CONTAMINATION}",
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
        autoencoder = self.autoencoder
        require(
            autoencoder is None or isinstance(autoencoder, Autoencoder),
            f"autoencoder={short_repr(autoencoder)} must be an Autoencoder, or None",
        )
        size = self.n_components
        require(
            size is None or (is_integer(size) and size >= 1),
            f"n_components={short_repr(size)} must be a whole number, at least 1, or None",
        )


def load(
    folder: str | Path, *, device: str = "auto", specs: Sequence[type[Spec]] = ()
) -> OutlierDetector:
    """The fitted OutlierDetector saved in `folder`, on `device`; see `isthmus.load`."""
    with persistence.artifact_errors(folder):
        saved = persistence.read(folder, device=device, specs=specs)
        autoencoder = saved.fitted.members[0].autoencoder
        detector = OutlierDetector(
            None if saved.default_autoencoder else clone(autoencoder), **saved.settings
        )
        detector.n_features_in_ = saved.n_features_in
        if hasattr(autoencoder, "feature_names_in_"):
            detector.feature_names_in_ = autoencoder.feature_names_in_
        detector._set_fitted(saved.fitted)
    return detector


def _restore_table(values: Array, schema: Schema) -> object:
    """Rows of tables in the types that they came in; windows of recordings as numbers."""
    return values if schema.recording is not None else restore(values, schema)


def _columns(rows: Any, size: int) -> list[list[object]]:
    """The values of each column of a frame, or of the rows of an array."""
    if hasattr(rows, "columns"):
        return [column.to_list() for column in nw.from_native(rows, eager_only=True).iter_columns()]
    if hasattr(rows, "toarray"):
        rows = rows.toarray()
    columns: list[list[object]] = np.asarray(rows).reshape(-1, size).T.tolist()
    return columns
