"""Fit a Preparation: choose the scaling, and learn shift and scale of each feature."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

import numpy as np

from isthmus.data.preparation.count_statistics import choose_size_factors, fit_count_facts
from isthmus.data.preparation.encoding import ColumnEncoder, EncodedSource
from isthmus.data.preparation.preparation import Preparation, likelihood
from isthmus.data.preparation.quantiles import (
    QuantileSource,
    describe_quantile_maps,
    fit_quantile_maps,
)
from isthmus.data.preparation.statistics import Moments, compute_moments
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.validate import check_has_values
from isthmus.errors import DataError, RequestError, either
from isthmus.types import Array, Index, RowNumbers

SIZE_FACTORS = "size_factors"
"""The scaling of counts with a size factor per row."""

QUANTILES = "quantiles"
"""The scaling of heavy-tailed columns to normal scores; "standard" for the other columns."""

SCALINGS = ("auto", "global", "standard", "unit", "none", SIZE_FACTORS, QUANTILES)
PIXEL_MAX = 255.0
TINY = 1e-150

SHARED_RANGE = 0.2
"""Columns measure the same quantity if their median range is at least this share of the range of
all together: pixels, spectra or similar sensors do, ages and incomes do not."""


def fit_preparation(
    source: Source,
    rows: RowNumbers,
    weight: Array,
    scaling: str = "auto",
    *,
    validation: Index | None = None,
) -> Preparation:
    """The preparation learned from the weighted `rows` of a source; missing values are ignored.

    "global": one scale for all features, so that squared error keeps the data's own metric, as in
    PCA. "standard": each feature to mean 0 and variance 1. "unit": bytes divided by 255. "none":
    values as they are. "auto": "global", unless the rows are a table with named columns that do not
    share a range. Tables with columns other than numbers are always scaled by columns.
    "size_factors": the same for rows of counts only, which also get size factors; "auto" chooses it
    from 50 columns on. "quantiles": "standard", with heavy-tailed columns as normal scores.

    The `validation` rows only widen the known ranges. Whether a feature is constant, or all values
    are 0 and 1, must not depend on which rows were chosen for validation.

    Raises RequestError for an unknown `scaling`, DataError for a feature without any value.
    """
    if scaling == QUANTILES:
        return _fit_quantiles(source, rows, weight, validation=validation)
    if source.schema.columns is not None:
        return _fit_columns(source, rows, weight, scaling, validation=validation)
    _check_scaling(source, scaling)
    moments = _moments(source, rows, weight, validation)
    check_has_values(source, moments.known)
    _check_representable(source, moments)
    schema, missing = source.schema, _missing(source, moments, rows, validation)
    remarks = (*source.remarks, *_remarks(schema, moments, missing, scaling))
    if scaling == "auto":
        named = schema.names or (schema.recording and schema.recording.sample.names)
        scaling = "standard" if named and not _share_range(moments) else "global"
    same = moments.constant & (moments.known > 1) if _is_padded(schema) else moments.constant
    names = schema.feature_names()
    shift, scale, unit = _shift_scale(scaling, moments, schema)
    return Preparation(
        schema=schema,
        scaling=scaling,
        shift=_plain(shift),
        scale=_plain(scale),
        unit=unit,
        low=float(((moments.low - shift) / scale).min()),
        high=float(((moments.high - shift) / scale).max()),
        binary=moments.binary,
        constant=tuple(name for name, constant in zip(names, same, strict=True) if constant),
        **_limits(moments.limits(shared=schema.layout == "image"), shift, scale),
        missing=_plain(missing) if missing.any() else (),
        allow_missing=bool(missing.any()) or _is_padded(schema),
        remarks=remarks,
    )


def _fit_quantiles(
    source: Source, rows: RowNumbers, weight: Array, *, validation: Index | None
) -> Preparation:
    """Column by column, heavy-tailed columns as normal scores."""
    schema = source.schema
    if schema.layout != "table":
        raise RequestError(
            f"{source.origin}: preparation='quantiles' is for the columns of a table, and these "
            f"rows are {schema.layout}s; use 'auto'"
        )
    roles = [column.role for column in schema.columns or ()] or ["numeric"] * schema.n_features
    numeric = np.flatnonzero([role == "numeric" for role in roles])
    maps = fit_quantile_maps(source, rows, weight, numeric)
    transformed = QuantileSource(source, maps)
    fitted = fit_preparation(transformed, rows, weight, "standard", validation=validation)
    remarks = (*fitted.remarks, describe_quantile_maps(schema.feature_names(), maps))
    return replace(fitted, scaling=QUANTILES, quantile_maps=maps, remarks=remarks)


def _check_scaling(source: Source, scaling: str) -> None:
    if scaling not in SCALINGS:
        raise RequestError(
            f"preparation={scaling!r} is not known; use one of {', '.join(SCALINGS)}"
        )
    if scaling == SIZE_FACTORS:
        raise _not_all_counts(source)


def _is_padded(schema: Schema) -> bool:
    """Whether rows are series that may be shorter than others."""
    return schema.recording is not None and schema.recording.hop is None


def _missing(source: Source, moments: Moments, rows: RowNumbers, validation: Index | None) -> Array:
    """(D,): the share of the values that are missing; padding does not count."""
    if source.extents is None or not _is_padded(source.schema):
        return moments.missing
    more = np.empty(0, np.intp) if validation is None else validation
    _, starts, stops = source.extents[np.concatenate([rows, more])].T
    length = source.schema.shape[0]
    present = (stops - starts > np.arange(length)[:, None]).sum(axis=1)
    expected = np.repeat(present, source.schema.n_features // length)
    return np.asarray(1 - moments.known / np.maximum(expected, 1))


def _moments(source: Source, rows: RowNumbers, weight: Array, validation: Index | None) -> Moments:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        moments = compute_moments(source, rows, weight)
        if validation is not None and len(validation):
            ones = np.ones(len(validation))
            moments = moments.with_range_of(compute_moments(source, validation, ones))
    return moments


def _fit_columns(
    source: Source, rows: RowNumbers, weight: Array, scaling: str, *, validation: Index | None
) -> Preparation:
    """The preparation of a table whose columns are not all numbers."""
    schema, columns = source.schema, source.schema.columns or ()
    if scaling not in ("auto", "standard", SIZE_FACTORS):
        raise RequestError(
            f"preparation={scaling!r}: columns of text, dates or counts share no scale with "
            "others; use 'auto'"
        )
    encoder = ColumnEncoder(columns)
    is_count = np.asarray([likelihood(column) == "count" for column in columns])
    has_size_factors = scaling == SIZE_FACTORS or (
        scaling == "auto" and choose_size_factors(len(is_count), all_counts=bool(is_count.all()))
    )
    if has_size_factors and not is_count.all():
        raise _not_all_counts(source)
    moments = _moments(EncodedSource(source, encoder), rows, weight, validation)
    known, missing = moments.known[encoder.starts], moments.missing[encoder.starts]
    check_has_values(source, known)
    names = np.asarray(schema.feature_names(), object)
    _check_representable(source, moments, tuple(np.repeat(names, encoder.sizes)))
    fitted = _column_scales(encoder, moments)
    constant = np.logical_and.reduceat(moments.constant, encoder.starts)
    remarks = [_describe_missing(schema, missing)] if missing.any() else []
    floor, ceiling = moments.limits(shared=False)
    count_columns = np.flatnonzero(is_count)
    counts = None
    if len(count_columns):
        means = moments.mean[encoder.starts[count_columns]]
        counts = fit_count_facts(
            source, rows, weight, count_columns, means, has_size_factors=has_size_factors
        )
    return Preparation(
        schema=schema,
        scaling=SIZE_FACTORS if has_size_factors else "standard",
        shift=_plain(fitted.shift),
        scale=_plain(fitted.scale),
        unit=1.0,
        low=float(((moments.low - fitted.shift) / fitted.scale).min()),
        high=float(((moments.high - fitted.shift) / fitted.scale).max()),
        binary=False,
        constant=tuple(names[constant]),
        **_limits(
            (np.where(fitted.limited, floor, -np.inf), np.where(fitted.limited, ceiling, np.inf)),
            fitted.shift,
            fitted.scale,
        ),
        missing=_plain(missing) if missing.any() else (),
        allow_missing=bool(missing.any()) or any(column.has_categories for column in columns),
        mean=_plain((moments.mean - fitted.shift) / fitted.scale),
        counts=counts,
        remarks=(*source.remarks, *remarks),
    )


class _Scales(NamedTuple):
    """Shift and scale of the features of encoded columns, (E,) each."""

    shift: Array
    scale: Array
    limited: Array
    """Whether a feature is a number that may have limits."""


def _column_scales(encoder: ColumnEncoder, moments: Moments) -> _Scales:
    """One scale per column; only features with a squared likelihood are centred."""
    likelihoods = np.asarray([likelihood(column) for column in encoder.columns], object)
    scale = np.sqrt(encoder.column_sums(moments.variance))
    scale[scale == 0] = 1.0
    squared = np.repeat(likelihoods == "squared", encoder.sizes)
    single = np.repeat(np.asarray(encoder.sizes) == 1, encoder.sizes)
    return _Scales(
        shift=np.where(squared, moments.mean, 0.0),
        scale=np.repeat(scale, encoder.sizes),
        limited=squared & single,
    )


def _not_all_counts(source: Source) -> RequestError:
    declaration = either("roles='count'", "--role '*=count'")
    return RequestError(
        f"{source.origin}: preparation='size_factors' is for rows of nothing but counts; "
        f"declare all columns as such with {declaration}, "
        "or use 'auto'"
    )


def _plain(values: Array) -> tuple[float, ...]:
    return tuple(values.tolist())


def _check_representable(
    source: Source, moments: Moments, names: Sequence[str] | None = None
) -> None:
    lost = (moments.variance == 0) & (moments.high > moments.low) & (moments.low > -TINY)
    largest = np.maximum(np.abs(moments.low), np.abs(moments.high))
    lost = (lost & (moments.high < TINY)) | ~np.isfinite(moments.variance) | (largest > 1 / TINY)
    if lost.any():
        name = (names or source.schema.feature_names())[int(np.argmax(lost))]
        raise DataError(
            f"{source.origin}: the values of {name!r} reach {largest.max():.3g}, whose "
            "square no 64-bit number holds; rescale them, for example by dividing by their largest"
        )


def _remarks(schema: Schema, moments: Moments, missing: Array, scaling: str) -> tuple[str, ...]:
    remarks = [_describe_missing(schema, missing)] if missing.any() else []
    nameless = schema.layout == "table" and not schema.names
    if scaling == "auto" and nameless and not _share_range(moments):
        remarks.append(
            "the columns have unlike ranges and share one scale, as in PCA: the widest count "
            "most; preparation='standard' makes all count equally"
        )
    ready = schema.layout == "signal" and schema.recording is None
    if ready and len(schema.shape) == 2 and schema.shape[0] < schema.shape[1]:
        steps, channels = schema.shape
        remarks.append(
            f"a row is read as {steps} time step{'s' * (steps > 1)} of {channels} channels; if "
            "it is the other way round, swap the last two axes"
        )
    return tuple(remarks)


def _describe_missing(schema: Schema, missing: Array) -> str:
    most = int(np.argmax(missing))
    name, columns = schema.feature_names()[most], int((missing > 0).sum())
    what = "column" if schema.layout == "table" else "feature"
    return (
        f"{missing.mean():.1%} of the values are missing, in {columns} "
        f"{what}{'s' * (columns != 1)}, most in {name!r} ({missing[most]:.1%}); they are "
        "not part of any error"
    )


class _Limits(TypedDict):
    """The fields of a Preparation that hold the limits of its features."""

    floor: tuple[float | None, ...]
    ceiling: tuple[float | None, ...]
    lowest: tuple[float | None, ...]
    highest: tuple[float | None, ...]


def _limits(limits: tuple[Array, Array], shift: Array, scale: Array) -> _Limits:
    """The limits in prepared units and in the data's own."""
    floor, ceiling = limits
    return {
        "floor": _finite_or_none((floor - shift) / scale),
        "ceiling": _finite_or_none((ceiling - shift) / scale),
        "lowest": _finite_or_none(floor),
        "highest": _finite_or_none(ceiling),
    }


def _finite_or_none(limits: Array) -> tuple[float | None, ...]:
    finite = tuple(limit if np.isfinite(limit) else None for limit in limits.tolist())
    return finite if any(limit is not None for limit in finite) else ()


def _share_range(moments: Moments) -> bool:
    ranges = (moments.high - moments.low)[~moments.constant]
    if not len(ranges):
        return True
    overall = moments.high[~moments.constant].max() - moments.low[~moments.constant].min()
    return bool(np.median(ranges) >= SHARED_RANGE * overall)


def _shift_scale(scaling: str, moments: Moments, schema: Schema) -> tuple[Array, Array, float]:
    # Bytes are grey levels from 0 to 255, unless they are only 0 and 1.
    pixel = PIXEL_MAX if schema.dtypes == ("uint8",) and not moments.binary else 1.0
    if scaling in ("none", "unit"):
        divisor = pixel if scaling == "unit" else 1.0
        return np.zeros(1), np.full(1, divisor), divisor / pixel
    if scaling == "standard":
        std = np.sqrt(_channel_variance(moments, schema) if schema.recording else moments.variance)
        std[std == 0] = 1.0
        return moments.mean, std, 1.0
    scale = float(np.sqrt(moments.variance.mean())) or 1.0
    if schema.layout != "image":
        return moments.mean, np.full(1, scale), scale / pixel
    # One grey level for all pixels keeps an edge an edge at any position.
    return np.full(1, moments.mean.mean()), np.full(1, scale), scale / pixel


def _channel_variance(moments: Moments, schema: Schema) -> Array:
    """(D,): the variance of each channel, pooled over time.

    At the end of the longest series few values are known, so their own variance is unreliable.
    """
    known = moments.known.reshape(schema.shape[0], -1)
    variance = moments.variance.reshape(known.shape)
    channels = (known * variance).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.tile(channels, len(known))
