"""What shift and scale each feature takes, learned from the rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from isthmus.data.preparation.count_statistics import learn_counts, may_be_sized
from isthmus.data.preparation.encoding import ExpandedSource, Expansion
from isthmus.data.preparation.preparation import Preparation, likelihood
from isthmus.data.preparation.quantiles import ScoredSource, in_words, learn_scores
from isthmus.data.preparation.statistics import Moments, moments_of
from isthmus.data.schema import Schema
from isthmus.data.validate import check_known
from isthmus.errors import DataError, RequestError
from isthmus.types import Array, Index, Numbers, Source

SIZE_FACTORS = "size_factors"
"""The scaling of counts whose rows have size factors."""

QUANTILES = "quantiles"
"""The scaling of heavy-tailed columns to normal scores; of others it is "standard"."""

SCALINGS = ("auto", "global", "standard", "unit", "none", SIZE_FACTORS, QUANTILES)
PIXEL_MAX = 255.0
TINY = 1e-150
# Columns whose typical range is at least this share of the range of all together are taken to
# measure the same thing: pixels, spectra, sensors of one kind, rather than ages beside incomes.
SHARED_RANGE = 0.2


def fit_preparation(
    source: Source,
    rows: Numbers,
    weight: Array,
    scaling: str = "auto",
    *,
    unseen: Index | None = None,
) -> Preparation:
    """Learn shift and scale from what is known of the weighted `rows` of the source.

    Rows that are `unseen`, held out from training, only widen what is known of the features'
    ranges: whether one is constant, or all are 0 and 1, must not hang on which rows were held out.

    "global": one scale for all features, so that squared error keeps the data's own metric (as
    PCA's does). "standard": each feature to mean 0 and variance 1. "none": as they are.
    "auto": common, unless the rows are a table with named columns that do not share a range.
    Tables with columns that are no numbers are always scaled by columns. "size_factors" is that
    for rows of nothing but counts, which also have size factors; "auto" chooses it for 50 columns
    and more.
    "quantiles" is "standard" for the normal scores of columns with a heavy tail (`scores`).
    Raises RequestError for another `scaling`, DataError for a feature without any value.
    """
    if scaling == QUANTILES:
        return _fit_scores(source, rows, weight, unseen=unseen)
    if source.schema.columns is not None:
        return _fit_columns(source, rows, weight, scaling, unseen=unseen)
    _check_scaling(source, scaling)
    moments = _moments(source, rows, weight, unseen)
    check_known(source, moments.known)
    _check_representable(source, moments)
    schema, missing = source.schema, _missing(source, moments, rows, unseen)
    remarks = (*_remarks_of(source), *_remarks(schema, moments, missing, scaling))
    if scaling == "auto":
        named = schema.names or (schema.recording and schema.recording.sample.names)
        scaling = "standard" if named and not _share_range(moments) else "global"
    same = moments.constant & (moments.known > 1) if _padded(schema) else moments.constant
    constant = tuple(name for name, flat in zip(schema.feature_names(), same, strict=True) if flat)
    shift, scale, unit = _shift_scale(scaling, moments, schema)
    low = float(((moments.low - shift) / scale).min())
    high = float(((moments.high - shift) / scale).max())
    ends = _ends(moments.limits(shared=schema.layout == "image"), shift, scale)
    return Preparation(
        schema=schema,
        scaling=scaling,
        shift=tuple(shift.tolist()),
        scale=tuple(scale.tolist()),
        unit=unit,
        low=low,
        high=high,
        binary=moments.binary,
        constant=constant,
        **ends,
        missing=tuple(missing.tolist()) if missing.any() else (),
        allow_missing=bool(missing.any()) or _padded(schema),
        remarks=remarks,
    )


def _fit_scores(
    source: Source, rows: Numbers, weight: Array, *, unseen: Index | None
) -> Preparation:
    """By columns, those with a heavy tail by their normal scores."""
    schema = source.schema
    if schema.layout != "table":
        raise RequestError(
            f"{source.origin}: preparation='quantiles' is for the columns of a table, and these "
            f"rows are {schema.layout}s; use 'auto'"
        )
    roles = [column.role for column in schema.columns or ()] or ["numeric"] * schema.n_features
    numeric = np.flatnonzero([role == "numeric" for role in roles])
    scores = learn_scores(source, rows, weight, numeric)
    found = fit_preparation(ScoredSource(source, scores), rows, weight, "standard", unseen=unseen)
    told = in_words(schema.feature_names(), scores)
    return replace(found, scaling=QUANTILES, scores=scores, remarks=(*found.remarks, told))


def _check_scaling(source: Source, scaling: str) -> None:
    if scaling not in SCALINGS:
        raise RequestError(
            f"preparation={scaling!r} is not known; use one of {', '.join(SCALINGS)}"
        )
    if scaling == SIZE_FACTORS:
        raise _not_sized(source)


def _padded(schema: Schema) -> bool:
    """Whether rows are series that may be shorter than others."""
    return schema.recording is not None and schema.recording.step is None


def _missing(source: Source, moments: Moments, rows: Numbers, unseen: Index | None) -> Array:
    """(D,): the share of the values that are missing; what was padded was never there."""
    where: Index | None = getattr(source, "extents", None)
    if where is None or not _padded(source.schema):
        return moments.missing
    more = np.empty(0, np.intp) if unseen is None else unseen
    _, starts, stops = where[np.concatenate([rows, more])].T
    length = source.schema.shape[0]
    there = (stops - starts > np.arange(length)[:, None]).sum(axis=1)
    expected = np.repeat(there, source.schema.n_features // length)
    return np.asarray(1 - moments.known / np.maximum(expected, 1))


def _moments(source: Source, rows: Numbers, weight: Array, unseen: Index | None) -> Moments:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        moments = moments_of(source, rows, weight)
        if unseen is not None and len(unseen):
            moments = moments.widened(moments_of(source, unseen, np.ones(len(unseen))))
    return moments


def _remarks_of(source: Source) -> tuple[str, ...]:
    """What the source has to say of itself."""
    remarks: tuple[str, ...] = getattr(source, "remarks", ())
    return remarks


def _fit_columns(
    source: Source, rows: Numbers, weight: Array, scaling: str, *, unseen: Index | None
) -> Preparation:
    """The preparation of a table whose columns are not all numbers."""
    schema = source.schema
    if scaling not in ("auto", "standard", SIZE_FACTORS):
        raise RequestError(
            f"preparation={scaling!r}: columns of text, dates or counts share no scale with "
            "others; use 'auto'"
        )
    expansion = Expansion(schema.columns)
    is_count = np.asarray([likelihood(column) == "count" for column in schema.columns])
    sized = scaling == SIZE_FACTORS or (
        scaling == "auto" and may_be_sized(len(is_count), counts_alone=bool(is_count.all()))
    )
    if sized and not is_count.all():
        raise _not_sized(source)
    moments = _moments(ExpandedSource(source, expansion), rows, weight, unseen)
    known, missing = moments.known[expansion.starts], moments.missing[expansion.starts]
    check_known(source, known)
    names = np.repeat(np.asarray(schema.feature_names(), object), expansion.sizes)
    _check_representable(source, moments, tuple(names))
    fitted = _column_scales(expansion, moments)
    constant = np.logical_and.reduceat(moments.constant, expansion.starts)
    remarks = [_missing_in_words(schema, missing)] if missing.any() else []
    floor, ceiling = moments.limits(shared=False)
    places = np.flatnonzero(is_count)
    means = moments.mean[expansion.starts[places]]
    counts = learn_counts(source, rows, weight, places, means, sized=sized) if len(places) else None
    return Preparation(
        schema=schema,
        scaling=SIZE_FACTORS if sized else "standard",
        shift=_plain(fitted.shift),
        scale=_plain(fitted.scale),
        unit=1.0,
        low=float(((moments.low - fitted.shift) / fitted.scale).min()),
        high=float(((moments.high - fitted.shift) / fitted.scale).max()),
        binary=False,
        constant=tuple(np.asarray(schema.feature_names(), object)[constant]),
        **_ends(
            (np.where(fitted.bounded, floor, -np.inf), np.where(fitted.bounded, ceiling, np.inf)),
            fitted.shift,
            fitted.scale,
        ),
        missing=_plain(missing) if missing.any() else (),
        allow_missing=bool(missing.any()) or any(column.levelled for column in schema.columns),
        mean=_plain((moments.mean - fitted.shift) / fitted.scale),
        counts=counts,
        remarks=(*_remarks_of(source), *remarks),
    )


class _Scales(NamedTuple):
    """Of the features of columns, (E,) each."""

    shift: Array
    scale: Array
    bounded: Array
    """Whether a feature is a number that may have ends."""


def _column_scales(expansion: Expansion, moments: Moments) -> _Scales:
    """One scale a column; only what strays around a mean is measured from there."""
    likelihoods = np.asarray([likelihood(column) for column in expansion.columns], object)
    scale = np.sqrt(expansion.sums(moments.variance))
    scale[scale == 0] = 1.0
    strays = np.repeat(likelihoods == "squared", expansion.sizes)
    single = np.repeat(np.asarray(expansion.sizes) == 1, expansion.sizes)
    return _Scales(
        shift=np.where(strays, moments.mean, 0.0),
        scale=np.repeat(scale, expansion.sizes),
        bounded=strays & single,
    )


def _not_sized(source: Source) -> RequestError:
    return RequestError(
        f"{source.origin}: preparation='size_factors' is for rows of nothing but counts; "
        "declare all columns as such with roles='count' (command line: --role '*=count'), "
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
        most = largest.max()
        raise DataError(
            f"{source.origin}: the values of {name!r} reach {most:.3g}, whose "
            "square no 64-bit number holds; rescale them, by dividing by their largest, say"
        )


def _remarks(schema: Schema, moments: Moments, missing: Array, scaling: str) -> tuple[str, ...]:
    remarks = [_missing_in_words(schema, missing)] if missing.any() else []
    nameless = schema.layout == "table" and not schema.names
    if scaling == "auto" and nameless and not _share_range(moments):
        remarks.append(
            "the columns are of unlike ranges and share one scale, as in PCA: the widest count "
            "most; preparation='standard' makes all count alike"
        )
    ready = schema.layout == "signal" and schema.recording is None
    if ready and len(schema.shape) == 2 and schema.shape[0] < schema.shape[1]:
        steps, channels = schema.shape
        remarks.append(
            f"a row is read as {steps} time step{'s' * (steps > 1)} of {channels} channels; where "
            "it is the other way round, swap the last two axes"
        )
    return tuple(remarks)


def _missing_in_words(schema: Schema, missing: Array) -> str:
    most = int(np.argmax(missing))
    name, columns = schema.feature_names()[most], int((missing > 0).sum())
    what = "column" if schema.layout == "table" else "feature"
    return (
        f"{missing.mean():.1%} of the values are missing, in {columns} "
        f"{what}{'s' * (columns != 1)}, most in {name!r} ({missing[most]:.1%}); they are "
        "no part of any error"
    )


def _ends(limits: tuple[Array, Array], shift: Array, scale: Array) -> dict[str, Any]:
    """The fields of a Preparation that tell where values end, prepared and as they are."""
    floor, ceiling = limits
    return {
        "floor": _finite_or_none((floor - shift) / scale),
        "ceiling": _finite_or_none((ceiling - shift) / scale),
        "lowest": _finite_or_none(floor),
        "highest": _finite_or_none(ceiling),
    }


def _finite_or_none(ends: Array) -> tuple[float | None, ...]:
    found = tuple(end if np.isfinite(end) else None for end in ends.tolist())
    return found if any(end is not None for end in found) else ()


def _share_range(moments: Moments) -> bool:
    ranges = (moments.high - moments.low)[~moments.constant]
    if not len(ranges):
        return True
    overall = moments.high[~moments.constant].max() - moments.low[~moments.constant].min()
    return bool(np.median(ranges) >= SHARED_RANGE * overall)


def _shift_scale(scaling: str, moments: Moments, schema: Schema) -> tuple[Array, Array, float]:
    # Bytes are levels of 0..255, except where they are but 0 and 1.
    pixel = PIXEL_MAX if schema.dtypes == ("uint8",) and not moments.binary else 1.0
    if scaling in ("none", "unit"):
        divisor = pixel if scaling == "unit" else 1.0
        return np.zeros(1), np.full(1, divisor), divisor / pixel
    if scaling == "standard":
        std = np.sqrt(_of_channels(moments, schema) if schema.recording else moments.variance)
        std[std == 0] = 1.0
        return moments.mean, std, 1.0
    scale = float(np.sqrt(moments.variance.mean())) or 1.0
    if schema.layout != "image":
        return moments.mean, np.full(1, scale), scale / pixel
    # One grey level for all pixels keeps an edge an edge wherever it lies.
    return np.full(1, moments.mean.mean()), np.full(1, scale), scale / pixel


def _of_channels(moments: Moments, schema: Schema) -> Array:
    """(D,): the variance of each channel, at all times alike.

    At the end of the longest series, where few are known, its own variance says little.
    """
    known = moments.known.reshape(schema.shape[0], -1)
    variance = moments.variance.reshape(known.shape)
    channels = (known * variance).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.tile(channels, len(known))
