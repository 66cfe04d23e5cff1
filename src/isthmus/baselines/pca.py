"""PCA with the preparation, units and error measures of an autoencoder."""

from typing import Self

import numpy as np
from sklearn.decomposition import PCA

from isthmus.baselines.base import CodeBaseline, measured_blocks
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.source import Source
from isthmus.missing import known_sums, mean_known
from isthmus.types import Array, Index

# D numbers in a row, K components.

DENSE_BYTES, DOUBLE_VALUES = 1 << 30, 1 << 24
EXACT_WIDTH, EXACT_WORK = 3000, 2e11
POWER_ITERATIONS = 10


class PCABaseline(CodeBaseline):
    """PCA by scikit-learn on an autoencoder's training rows, with errors in the same units.

    Rows are prepared as for the autoencoder and held as one dense array: in double precision up
    to 16 million values, otherwise in single. If that takes more than 1 GiB, evenly spaced rows
    are used; `n_rows_` is their number. Sparse rows become dense, because centred rows are.
    Missing values are replaced by the mean of their feature, as scikit-learn's SimpleImputer
    does, and are excluded from the errors.
    """

    label = "PCA"

    def fit(self, source: Source, preparation: Preparation, rows: Index) -> Self:
        """Compute the components of these rows; fewer if the rows span fewer dimensions."""
        used = _evenly_spaced(rows, DENSE_BYTES // (4 * preparation.facts.n_features))
        values, offset = _dense(source, preparation, used)
        pca = PCA(
            min(self.n_components, *values.shape),
            svd_solver=choose_solver(*values.shape),
            iterated_power=POWER_ITERATIONS,
            random_state=0,
            copy=False,
        )
        with np.errstate(invalid="ignore", divide="ignore"):  # constant rows: 0 / 0
            pca.fit(values)
        self.preparation_, self.n_rows_ = preparation, len(used)
        self.variance_ = np.asarray(pca.explained_variance_, np.float64)
        self.components_ = np.asarray(pca.components_, np.float64)
        self.mean_ = np.asarray(pca.mean_ + offset, np.float64)
        return self

    @property
    def largest_size(self) -> int:
        """Number of fitted components."""
        return len(self.components_)

    def reconstruct(self, x: Array, n_components: int | None = None) -> Array:
        """(b, D): projections of (b, D) rows onto the first components."""
        components = self.components_[:n_components]
        return np.asarray(self._centred(x) @ components.T @ components + self.mean_)

    def curve(self, source: Source, rows: Index, *, reference: Array | None = None) -> Array:
        """(K,): the explained variance with 1, 2, ... K components, from one pass."""
        reference = self.mean_ if reference is None else reference
        explained, around_mean, around_reference = np.zeros(len(self.components_)), 0.0, 0.0
        for x in measured_blocks(source, self.preparation_, rows):
            explained += self._explained(x)
            around_mean += float(np.square(self._centred(x)).sum())
            around_reference += float(known_sums((x - reference) ** 2)[0].sum())
        lost = around_mean - explained.cumsum()
        if around_reference > 0:
            return np.asarray(1 - lost / around_reference)
        return np.full(len(explained), np.nan)

    def _centred(self, x: Array) -> Array:
        """(n, D) minus the mean; missing values become 0, which stands for the mean."""
        centred = np.nan_to_num(x - self.mean_, nan=0.0, posinf=np.inf, neginf=-np.inf)
        return np.asarray(centred)

    def _explained(self, x: Array) -> Array:
        """(K,): reduction of the squared error of known values of (n, D) by each component."""
        centred, missing = self._centred(x), np.isnan(x)
        codes = centred @ self.components_.T
        if not missing.any():
            return np.asarray((codes**2).sum(axis=0))
        falls, left = np.zeros(len(self.components_)), centred
        for k, component in enumerate(self.components_):
            before = np.square(left).sum()
            left = np.where(missing, 0.0, left - np.outer(codes[:, k], component))
            falls[k] = before - np.square(left).sum()
        return falls


def choose_solver(rows: int, width: int) -> str:
    """scikit-learn's name of the solver: exact unless that would take minutes."""
    if width <= min(rows, EXACT_WIDTH):
        return "covariance_eigh"
    work = rows * width * min(rows, width)
    return "full" if work <= EXACT_WORK else "randomized"


def _evenly_spaced(rows: Index, most: int) -> Index:
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, max(most, 2)).astype(int)])


def _dense(source: Source, preparation: Preparation, rows: Index) -> tuple[Array, Array]:
    """The rows minus an offset (D,) close to their mean, which avoids cancellation.

    Missing values are replaced by the mean of their feature.
    """
    width = preparation.facts.n_features
    double = len(rows) * width <= DOUBLE_VALUES
    values = np.empty((len(rows), width), np.float64 if double else np.float32)
    offset, start = np.zeros(width), 0
    for x in measured_blocks(source, preparation, rows):
        offset = mean_known(x.T) if start == 0 else offset
        values[start : start + len(x)] = x - offset
        start += len(x)
    missing = np.nonzero(np.isnan(values))
    if len(missing[0]):
        values[missing] = mean_known(values.T)[missing[1]]
    return values, offset
