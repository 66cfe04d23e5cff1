"""Checks of the arguments of the estimators' methods, and results in the form of the input."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from isthmus._compat import check_n_features, check_sample_weight
from isthmus.data.arrays import data_error, unmasked
from isthmus.data.open import open_source
from isthmus.data.preparation.fit import SIZE_FACTORS
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import RecordingSource, is_series, recordings_from_rows
from isthmus.data.source import Source
from isthmus.data.tables.restore import restore
from isthmus.data.validate import align
from isthmus.data.windows import cut_like, series
from isthmus.errors import DataError, RequestError, require
from isthmus.types import Array, Index

ROW_DIMENSIONS = (2, 3)
INPUT_ATTRIBUTES = ("n_features_in_", "feature_names_in_")
FARTHEST = 1e150
"""Prepared values beyond this have squares that no 64-bit number holds."""


class AnyFrame(Protocol):
    """A data frame of any library."""

    @property
    def columns(self) -> Sequence[object]:
        """The names of the columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""

    def __getitem__(self, names: list[str], /) -> "AnyFrame":
        """The columns of these names."""


def as_source(
    estimator: BaseEstimator, X: object, *, reset: bool, schema: Schema | None = None
) -> Source:
    """The rows given to `fit` (`reset`) or to a later method, as a source.

    Sets `n_features_in_` and `feature_names_in_` on `reset`, and checks them otherwise. `schema` is
    that of the fitted rows: if those were cut from recordings, these are cut the same way.
    """
    if schema is not None and schema.recording is not None:
        return _cut(X, schema)
    if isinstance(X, str | os.PathLike):
        path = os.fspath(X)
        raise RequestError(f"X={path!r} is a path; open it with data.open_source({path!r})")
    X = series(X) if is_series(X) else X
    if isinstance(X, (Source, torch.Tensor)) or _is_frame(X):
        return _named_source(estimator, X, reset=reset)
    X = unmasked(X) if isinstance(X, np.ma.MaskedArray) else X
    if not sparse.issparse(X):
        X = X if isinstance(X, np.ndarray) else np.asarray(X)
        if X.dtype.kind == "c" or (X.ndim - 1 in ROW_DIMENSIONS and X.dtype != object):
            return _named_source(estimator, X, reset=reset)
    checked = validate_data(
        estimator, X, reset=reset, accept_sparse="csr", dtype="numeric", ensure_all_finite=False
    )
    return open_source(checked)


def as_aligned_source(estimator: BaseEstimator, X: object, schema: Schema) -> Source:
    """Rows for a model whose `schema` is known, with their columns in its order."""
    return align(as_source(estimator, X, reset=False, schema=schema), schema)


def _cut(X: object, schema: Schema) -> Source:
    """Recordings cut as those of the fit were, unless they are rows already."""
    if not isinstance(X, Source) and getattr(X, "shape", ())[1:] != schema.shape:
        return cut_like(schema, X)
    return align(X if isinstance(X, Source) else open_source(X, layout="signal"), schema)


@contextmanager
def restored_on_error(estimator: BaseEstimator) -> Iterator[None]:
    """A context after which the attributes of the input are as before, if it raises."""
    before = {
        name: getattr(estimator, name) for name in INPUT_ATTRIBUTES if hasattr(estimator, name)
    }
    try:
        yield
    except BaseException:
        for name in INPUT_ATTRIBUTES:
            if name in before:
                setattr(estimator, name, before[name])
            elif hasattr(estimator, name):
                delattr(estimator, name)
        raise


def _is_frame(X: object) -> TypeGuard[AnyFrame]:
    return hasattr(X, "columns") and hasattr(X, "shape")


def _named_source(estimator: BaseEstimator, X: object, *, reset: bool) -> Source:
    """X as a source; sets or checks the estimator's number and names of features."""
    source = open_source(X)
    if _is_frame(X) and hasattr(X, "iloc"):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return source
    names = source.schema.given or source.schema.names
    if reset and names is not None:
        estimator.feature_names_in_ = np.asarray(names, dtype=object)
    elif reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    width = source.schema.n_features if source.schema.given is None else len(source.schema.given)
    check_n_features(estimator, np.empty((0, width)), reset=reset)
    return source


def row_weights(sample_weight: object, source: Source, *, at_least: int = 2) -> Array:
    """(n,) float64: the weights of the rows, ones if None is given.

    Raises DataError for negative weights, or if fewer than `at_least` rows count.
    """
    if source.is_streamed:
        require(
            sample_weight is None,
            f"{source.origin}: sample_weight is for rows in memory, and these stay on disk; leave "
            "it out, or open them with stream=False",
        )
        return np.broadcast_to(1.0, len(source))  # which takes no memory
    if sample_weight is None:
        return np.ones(len(source))
    weight = check_sample_weight(sample_weight, np.empty((len(source), 0)), dtype=np.float64)
    if (weight < 0).any():
        raise DataError(
            f"sample_weight: {int((weight < 0).sum())} weights are negative; use 0 or more"
        )
    if (weight > 0).sum() < at_least:
        raise DataError(f"sample_weight: fewer than {at_least} rows have a weight above 0")
    return np.array(weight)


def read_codes(codes: object, names: list[str]) -> Array:
    """(n, len(names)) float64: codes given as an array, tensor, sparse matrix or frame, by name.

    Raises DataError for another shape, or codes that are not finite.
    """
    if _is_frame(codes):
        columns = list(codes.columns)
        if columns != names and sorted(map(str, columns)) == sorted(names):
            codes = codes[names]
    if isinstance(codes, torch.Tensor):
        codes = codes.detach().cpu()
    codes = codes.toarray() if hasattr(codes, "toarray") else codes  # SciPy sparse
    values = np.asarray(codes, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(
            f"codes of shape {values.shape} do not fit this model; "
            f"expected (rows, {len(names)}), as transform gives"
        )
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise DataError(f"the codes hold NaN or infinity, first in row {row}, counting from 0")
    return values


def read_sizes(sizes: object, n_codes: int, preparation: Preparation) -> Tensor | None:
    """(n_codes, 1): the size factors for so many codes; DataError if they do not suit them."""
    if sizes is None:
        return None
    require(
        preparation.scaling == SIZE_FACTORS,
        "sizes: the rows of this model have no size factors; leave them out",
    )
    try:
        values = np.asarray(sizes, np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.empty(0)
    if len(values) != n_codes or not (np.isfinite(values) & (values > 0)).all():
        raise DataError(
            f"sizes: {n_codes} codes need as many finite numbers above 0, found "
            f"{len(values)}; preparation_.size_factors(X) gives those of rows"
        )
    return torch.as_tensor(values)[:, None]


def check_codable(
    source: Source, positions: Index, x: Tensor, code: Tensor, sizes: Tensor | None = None
) -> None:
    """Raise DataError if the codes (B, K) of prepared rows (B, *shape) are not finite.

    Their size factors (B, 1), if they have any, must be finite too.
    """
    if _is_near(x) and _is_near(code.float()) and (sizes is None or _is_near(sizes)):
        return
    lost = ~code.float().isfinite().all(dim=1) | (x.flatten(1).abs() > FARTHEST).any(dim=1)
    if sizes is not None:
        lost |= ~sizes.isfinite().all(dim=1)
    if lost.any():
        row = source.first_row + int(positions[int(lost.int().argmax())])
        raise data_error(
            source.origin,
            f"row {row}, counting from 0, is too far from the rows the model was fitted on "
            "to be coded; look for wrong units, or leave it out",
        )


def _is_near(values: Tensor) -> bool:
    """Whether no value is missing or far away, in one pass."""
    if not values.numel():
        return True
    low, high = torch.aminmax(values)
    return float(low) >= -FARTHEST and float(high) <= FARTHEST


def warn_of_unknown_values(source: Source) -> None:
    """Warn of values that the model does not know; they are taken as missing."""
    for text in source.unknown_values:
        warnings.warn(text, UserWarning, stacklevel=4)


def restore_like(source: Source, values: Array, schema: Schema) -> Any:
    """Reconstructed values (n, *schema.shape) in the form of `source`: array, frame, recordings."""
    if isinstance(source, RecordingSource):
        return source.restore(values)
    return restore(values, schema)


def restore_decoded(values: Array, schema: Schema, lengths: object) -> Any:
    """Decoded values (n, *schema.shape) in the form of the fitted rows; windows are joined.

    Raises RequestError for `lengths` if the rows were not cut from recordings.
    """
    if schema.recording:
        return recordings_from_rows(values, schema, lengths)
    require(lengths is None, "lengths: the rows of this model are no recordings; leave them out")
    return restore(values, schema)


def errors_by_timestep(source: Source, squares: Array) -> Array | list[Array]:
    """(T,) or a list of them: the error of each timestep of recordings, averaged over its channels.

    `squares` (n, D) are the squared errors of all windows. A timestep of which no channel is known
    has the error NaN.
    """
    if not isinstance(source, RecordingSource):
        raise RequestError("by='timestep' is for recordings, and these are ready rows; use 'value'")
    each = squares.reshape(*squares.shape[:1], source.schema.shape[0], -1)
    counts = (~np.isnan(each)).sum(axis=2)
    means = np.where(counts > 0, np.nansum(each, axis=2) / np.maximum(counts, 1), np.nan)
    errors = [recording[:, 0] for recording in source.join(means)]
    return errors[0] if source.given.single else errors


def with_row_labels(given: object, values: Any) -> Any:
    """`values` with the index of `given` if both are pandas frames, or lists of them."""
    if isinstance(given, (list, tuple)) and isinstance(values, list):
        return [with_row_labels(*pair) for pair in zip(given, values, strict=True)]
    if hasattr(values, "iloc") and hasattr(given, "iloc"):
        values.index = getattr(given, "index")  # noqa: B009  a frame of no known type
    return values
