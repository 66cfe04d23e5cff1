"""Losses of tables with columns of several kinds or with missing values, without autograd."""

# Shape letters: B rows in a batch, E features, C features of categories.

from typing import NamedTuple, Self

import numpy as np
from torch import Tensor

from isthmus.losses import RECONSTRUCTION, Bernoulli, Huber, Mixed, Squared
from isthmus.losses.mixed import FeatureLayout
from isthmus.losses.reconstruction import Reconstruction
from isthmus.missing import LEAST_SHARE
from isthmus.training.engines.base import Terms, equal_weights
from isthmus.training.engines.dense.losses import AutogradLoss
from isthmus.training.engines.dense.passes import Arrays, Passes
from isthmus.types import Array, Index

KINDS = ("numeric", "boolean", "categorical")
"""The kinds of columns, by the code that the C kernel uses for each."""


class ColumnTable(NamedTuple):
    """The features of each kind of column, and the weights of their losses."""

    numeric: Index | slice
    """Features with a squared or Huber error; a slice if all have it."""

    boolean: Index | slice
    """Features with a binary cross-entropy; a slice if all have it."""

    categorical: Index
    """(C,): the features of all categorical columns, one column after the other."""

    starts: Index
    """The position in `categorical` at which each column begins."""

    column_of: Index
    """(C,): the number of the column that each categorical feature belongs to."""

    scale: Array
    """(E,): the number that a value was divided by."""

    weight: Array
    """(E,): the factor of a feature's loss."""

    share: Array
    """(E,): the share of its column that each feature is."""

    min_columns: float
    """The smallest number of known columns to divide a row's loss by."""

    delta: float | None
    """The Huber threshold, or None for squared errors."""

    @classmethod
    def of(cls, loss: Reconstruction) -> "ColumnTable | None":
        """The table of a loss, or None if the loss needs more than a table can say."""
        facts = loss.facts
        if facts is None or type(loss) not in (Squared, Huber, Bernoulli, Mixed):
            return None
        ones, empty = np.ones(facts.n_features), np.zeros(0, np.intp)
        share, least = (ones, 1.0) if facts.share is None else (facts.share, LEAST_SHARE)
        is_huber = isinstance(loss, Huber) or (isinstance(loss, Mixed) and loss.numeric == "huber")
        delta = loss.delta if is_huber else None
        table = cls(slice(None), empty, empty, empty, empty, ones, ones, share, least, delta)
        if isinstance(loss, Bernoulli):
            # A mean over features, of which a column may have several.
            ratio = ones[0] if facts.columns is None else facts.n_features / len(facts.columns)
            return table._replace(
                numeric=empty, boolean=slice(None), share=share * ratio, min_columns=least * ratio
            )
        if isinstance(loss, Mixed) and loss.columns is not None:
            return table._with_kinds(loss.layout)
        return table

    def _with_kinds(self, plan: FeatureLayout) -> "ColumnTable | None":
        """The same for columns of several kinds; None if some are counts."""
        if len(plan.counts):
            return None
        columns = [column for block in plan.categories for column in block.numpy()]
        sizes = [len(column) for column in columns]
        return self._replace(
            numeric=plan.numbers.numpy(),
            boolean=plan.booleans.numpy(),
            categorical=np.concatenate([self.categorical, *columns]),
            starts=np.cumsum([0, *sizes])[:-1],
            column_of=np.repeat(np.arange(len(sizes)), sizes),
            scale=plan.scale.numpy(),
            weight=plan.weight.numpy(),
        )

    def runs(self) -> list[tuple[int, int, int]]:
        """(position in KINDS, first feature, size) of each run of features with the same loss."""
        every, runs = np.arange(len(self.scale)), list[tuple[int, int, int]]()
        for kind, features in enumerate((self.numeric, self.boolean)):
            positions = every[features]
            # Booleans have the same loss if their weights are equal.
            ends = (np.diff(positions) != 1) | (kind * np.diff(self.weight[positions]) != 0)
            cuts = np.flatnonzero(ends) + 1
            pieces = np.split(positions, cuts) if len(positions) else []
            runs += [(kind, int(piece[0]), len(piece)) for piece in pieces]
        pieces = np.split(self.categorical, self.starts[1:]) if len(self.starts) else []
        return runs + [(len(KINDS) - 1, int(piece[0]), len(piece)) for piece in pieces]

    def to(self, dtype: np.dtype) -> Self:
        """The same table with numbers of another dtype."""
        numbers = {name: getattr(self, name).astype(dtype) for name in ("scale", "weight", "share")}
        return self._replace(**numbers)


class ColumnLoss:
    """Squared and Huber errors of numbers, cross-entropies of booleans and categories.

    The mean over rows of the mean over known columns, as `Reconstruction.per_row_known` computes
    it. If the passes are not in NumPy arrays, as on a GPU, `general` computes it.
    """

    has_code_grad = False
    grad_parameters: tuple[Tensor, ...] = ()

    def __init__(self, table: ColumnTable, general: AutogradLoss) -> None:
        self.table, self.general = table, general
        self.penalty_names = general.penalty_names
        """Penalties of weight 0, which are reported as 0."""

        self._tables: dict[np.dtype, ColumnTable] = {}

    def __call__(self, passes: Passes, x: Tensor, weight: Tensor) -> Terms:
        """The weighted mean over rows of the loss of the known values."""
        if passes.arrays is None:
            return self.general(passes, x, weight)
        dtype = passes.arrays.raw.dtype
        if dtype not in self._tables:
            self._tables[dtype] = self.table.to(dtype)
        error = _error_and_grad(self._tables[dtype], passes.arrays, x.flatten(1).numpy(), weight)
        return dict.fromkeys(self.penalty_names, 0.0) | {RECONSTRUCTION: error}


def _error_and_grad(table: ColumnTable, arrays: Arrays, x: Array, weight: Tensor) -> float:
    """The loss of rows (B, E); its gradient is written into the arrays."""
    raw, grad = arrays.raw, arrays.grad
    is_missing = np.isnan(x)
    missing = is_missing if is_missing.any() else None
    target, columns = x, table.share.sum()
    if missing is not None:
        target = np.where(missing, 0, x)
        columns = (~missing).astype(x.dtype) @ table.share
    row_weight = np.full(len(x), 1 / (len(x) * np.maximum(columns, table.min_columns)), x.dtype)
    if not equal_weights(weight):
        row_weight *= weight.numpy()
    errors = np.zeros(len(x), x.dtype)
    if _any(table.numeric):
        errors += _numeric(table, raw, target, missing, grad)
    if _any(table.boolean):
        errors += _boolean(table, raw, target, missing, grad)
    if len(table.categorical):
        errors += _categorical(table, raw, target, grad)
    grad *= row_weight[:, None]
    return float(errors @ row_weight)


def _any(features: Index | slice) -> bool:
    return isinstance(features, slice) or len(features) > 0


def _numeric(
    table: ColumnTable, raw: Array, target: Array, missing: Array | None, grad: Array
) -> Array:
    """(B,): the summed errors of each row; gradients are written into grad (B, E)."""
    features = table.numeric
    deviation = raw[:, features] - target[:, features]
    if missing is not None:
        deviation[missing[:, features]] = 0
    if table.delta is None:
        grad[:, features] = 2 * deviation
        return np.asarray(np.einsum("be,be->b", deviation, deviation))
    clipped = deviation.clip(-table.delta, table.delta)
    grad[:, features] = 2 * clipped
    return np.asarray((clipped * (2 * deviation - clipped)).sum(1))


def _boolean(
    table: ColumnTable, raw: Array, target: Array, missing: Array | None, grad: Array
) -> Array:
    features = table.boolean
    z, y = raw[:, features], target[:, features] * table.scale[features]
    weight = table.weight[features]
    small = np.exp(-np.abs(z))
    probability = np.where(z >= 0, 1, small) / (1 + small)
    error, z_grad = (z.clip(0) - z * y + np.log1p(small)) * weight, (probability - y) * weight
    if missing is not None:
        for values in (error, z_grad):
            values[missing[:, features]] = 0
    grad[:, features] = z_grad
    return np.asarray(error.sum(1))


def _categorical(table: ColumnTable, raw: Array, target: Array, grad: Array) -> Array:
    """The cross-entropies; a missing value has no category, so neither error nor gradient."""
    features, starts, column_of = table.categorical, table.starts, table.column_of
    z, y = raw[:, features], target[:, features] * (table.scale * table.weight)[features]
    z -= np.maximum.reduceat(z, starts, axis=1)[:, column_of]
    probability = np.exp(z)
    total = np.add.reduceat(probability, starts, axis=1)
    z -= np.log(total)[:, column_of]
    probability *= (np.add.reduceat(y, starts, axis=1) / total)[:, column_of]
    grad[:, features] = probability - y
    return -np.asarray(np.einsum("bc,bc->b", y, z))
