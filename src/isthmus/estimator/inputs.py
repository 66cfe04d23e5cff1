"""What users hand to the estimator, checked as scikit-learn does and opened as a source."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import (
    _check_n_features,
    _check_sample_weight,
    validate_data,
)
from torch import Tensor

from isthmus.data import (
    SIZE_FACTORS,
    Preparation,
    Rows,
    Schema,
    align,
    cut_like,
    is_series,
    is_streamed,
    open_source,
    rejoin,
    restore,
    series,
)
from isthmus.data.arrays import fault, unmasked
from isthmus.data.signals.recordings import RecordingSource
from isthmus.errors import DataError, RequestError, require
from isthmus.losses import Reconstruction
from isthmus.types import Array, Index, Source

ROW_DIMENSIONS = (2, 3)
OF_THE_ROWS = ("n_features_in_", "feature_names_in_")
FARTHEST = 1e150
"""Prepared values beyond this have squares that no 64-bit number holds."""


def as_source(estimator: Any, X: Any, *, reset: bool, schema: Schema | None = None) -> Source:
    """Rows given to `fit` (`reset`) or to a later method, as a source.

    Sets `n_features_in_` and `feature_names_in_` on `reset`, and checks them otherwise. `schema` is
    that of the rows of the fit: where they were cut from recordings, so are these.
    """
    if schema is not None and schema.recording is not None:
        return _cut(X, schema)
    X = series(X) if is_series(X) else X
    if _is_source(X) or isinstance(X, torch.Tensor) or _is_frame(X):
        source = open_source(X)
        _check_names(estimator, X, source, reset=reset)
        return source
    X = unmasked(X) if isinstance(X, np.ma.MaskedArray) else X
    if not sparse.issparse(X):
        X = X if isinstance(X, np.ndarray) else np.asarray(X)
        if X.dtype.kind == "c" or (X.ndim - 1 in ROW_DIMENSIONS and X.dtype != object):
            source = open_source(X)
            _check_names(estimator, X, source, reset=reset)
            return source
    checked = validate_data(
        estimator, X, reset=reset, accept_sparse="csr", dtype="numeric", ensure_all_finite=False
    )
    return open_source(checked)


def rows_like(estimator: Any, X: Any, schema: Schema) -> Source:
    """Other rows than those of the fit, whose `schema` is known, with their columns as those."""
    return align(as_source(estimator, X, reset=False, schema=schema), schema)


def _cut(X: Any, schema: Schema) -> Source:
    """Recordings cut as those of the fit were, unless they are rows already."""
    if not _is_source(X) and getattr(X, "shape", ())[1:] != schema.shape:
        return cut_like(schema, X)
    ready = X if _is_source(X) else open_source(X, layout="signal")
    return align(ready, schema)


@contextmanager
def unless_refused(estimator: Any) -> Iterator[None]:
    """Leave what the last fit learned of its rows as it was when rows or settings are refused."""
    before = {name: getattr(estimator, name) for name in OF_THE_ROWS if hasattr(estimator, name)}
    try:
        yield
    except BaseException:
        for name in OF_THE_ROWS:
            if name in before:
                setattr(estimator, name, before[name])
            elif hasattr(estimator, name):
                delattr(estimator, name)
        raise


def _is_source(X: Any) -> bool:
    return hasattr(X, "schema") and hasattr(X, "read")


def _is_frame(X: Any) -> bool:
    return hasattr(X, "columns") and hasattr(X, "shape")


def _check_names(estimator: Any, X: Any, source: Source, *, reset: bool) -> None:
    if _is_frame(X) and hasattr(X, "iloc"):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return
    names = source.schema.given or source.schema.names
    if reset and names is not None:
        estimator.feature_names_in_ = np.asarray(names, dtype=object)
    elif reset and hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    width = source.schema.n_features if source.schema.given is None else len(source.schema.given)
    _check_n_features(estimator, np.empty((0, width)), reset=reset)


def row_weights(sample_weight: Any, source: Source, *, at_least: int = 2) -> Array:
    """(n,) float64 weights, ones where none are given.

    Raises DataError for negative weights or where fewer than `at_least` rows count.
    """
    if is_streamed(source):
        require(
            sample_weight is None,
            f"{source.origin}: sample_weight is for rows in memory, and these stay on disk; leave "
            "it out, or open them with stream=False",
        )
        return np.broadcast_to(1.0, len(source))  # which takes no memory
    if sample_weight is None:
        return np.ones(len(source))
    weight = _check_sample_weight(sample_weight, np.empty((len(source), 0)), dtype=np.float64)
    if (weight < 0).any():
        raise DataError(
            f"sample_weight: {int((weight < 0).sum())} weights are negative; use 0 or more"
        )
    if (weight > 0).sum() < at_least:
        raise DataError(f"sample_weight: fewer than {at_least} rows have a weight above 0")
    return np.array(weight)


def read_codes(codes: Any, names: list[str]) -> Array:
    """(n, len(names)) float64: codes as an array, tensor, sparse matrix or frame, by their names.

    Raises DataError for another shape, or codes that are not finite.
    """
    columns = list(getattr(codes, "columns", ()))
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


def read_sizes(sizes: Any, codes: Tensor, preparation: Preparation) -> Tensor | None:
    """(n, 1): the size factors of (n, K) codes; DataError where they are none of such rows'."""
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
    if len(values) != len(codes) or not (np.isfinite(values) & (values > 0)).all():
        raise DataError(
            f"sizes: {len(codes)} codes need as many finite numbers above 0, found "
            f"{len(values)}; preparation_.size_factors(X) gives those of rows"
        )
    return torch.as_tensor(values, device=codes.device)[:, None]


def sizes_of_rows(loss: Reconstruction, rows: Rows) -> Tensor:
    """(n, 1): the size factors of all rows, which the loss tells from their counts."""
    sizes = [loss.sizes(x) for _, x in rows.in_order()]
    return torch.cat([known for known in sizes if known is not None])


def check_coded(
    source: Source, positions: Index, x: Tensor, code: Tensor, sizes: Tensor | None = None
) -> None:
    """Raise DataError where the codes (B, K) of prepared rows (B, *shape) are not finite.

    Neither may be their size factors (B, 1), where they have any.
    """
    if _is_near(x) and _is_near(code.float()) and (sizes is None or _is_near(sizes)):
        return
    lost = ~code.float().isfinite().all(dim=1) | (x.flatten(1).abs() > FARTHEST).any(dim=1)
    if sizes is not None:
        lost |= ~sizes.isfinite().all(dim=1)
    if lost.any():
        first = getattr(source, "first_row", 0)
        row = first + int(positions[int(lost.int().argmax())])
        raise fault(
            source.origin,
            f"row {row}, counting from 0, is too far from the rows the model was fitted on "
            "to be coded; look for wrong units, or leave it out",
        )


def _is_near(values: Tensor) -> bool:
    """Whether no value is missing or far away, by one look at all of them."""
    if not values.numel():
        return True
    low, high = torch.aminmax(values)
    return float(low) >= -FARTHEST and float(high) <= FARTHEST


def tell(source: Source) -> None:
    """Warn of values that are taken as missing, since the model does not know them."""
    for text in getattr(source, "strange", ()):
        warnings.warn(text, UserWarning, stacklevel=3)


def rebuilt_as(source: Source, values: Array, schema: Schema) -> Any:
    """What the rows of `source` are, from values (n, *schema.shape) that a model rebuilt."""
    if isinstance(source, RecordingSource):
        return source.restored(values)
    return restore(values, schema)


def given_back(values: Array, schema: Schema, lengths: Any) -> Any:
    """What rows were, from values (n, *schema.shape) alone; windows are joined to recordings.

    Raises RequestError where there are `lengths` and no recordings.
    """
    if schema.recording:
        return rejoin(values, schema, lengths)
    require(lengths is None, "lengths: the rows of this model are no recordings; leave them out")
    return restore(values, schema)


def by_sample(source: Source, squares: Array) -> Any:
    """(T,) or a list of them: the error of each sample of recordings, the mean of its channels.

    `squares` (n, D) are the squared errors of all windows; NaN, where no channel is known, stays.
    """
    if not isinstance(source, RecordingSource):
        raise RequestError("by='sample' is for recordings, and these are ready rows; use 'value'")
    each = squares.reshape(*squares.shape[:1], source.schema.shape[0], -1)
    known = (~np.isnan(each)).sum(axis=2)
    means = np.where(known > 0, np.nansum(each, axis=2) / np.maximum(known, 1), np.nan)
    errors = [one[:, 0] for one in source.joined(means)]
    return errors[0] if source.given.single else errors


def like(given: Any, made: Any) -> Any:
    """`made` with the row labels of `given` where both are pandas frames, or lists of them."""
    if isinstance(given, (list, tuple)) and isinstance(made, list):
        return [like(one, other) for one, other in zip(given, made, strict=True)]
    if hasattr(made, "iloc") and hasattr(given, "iloc"):
        made.index = given.index
    return made
