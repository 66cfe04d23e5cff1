"""Preparation: columns to numbers a network likes and back, fitted once, saved as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.data.check import check_known
from isthmus.data.moments import Moments, moments_of
from isthmus.data.schema import Schema, schema_from_json
from isthmus.errors import ArtifactError, DataError, RequestError
from isthmus.types import Array, Facts, Index, Source

SCALINGS = ("auto", "common", "columns", "unit", "none")
PIXEL_MAX = 255.0
TINY = 1e-150
# Columns whose typical range is at least this share of the range of all together are taken to
# measure the same thing: pixels, spectra, sensors of one kind, rather than ages beside incomes.
SHARED_RANGE = 0.2


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """prepared = (values - shift) / scale, each one number for all features or one a feature.

    An error in prepared units times `unit` is an error in the units that metrics report: the
    data's own where all features share one scale (0..1 for uint8 pixels), standard deviations
    of each column otherwise.
    """

    schema: Schema
    scaling: str
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    unit: float
    low: float
    high: float
    binary: bool
    constant: tuple[str, ...]
    floor: tuple[float | None, ...] = ()
    """The prepared value no feature falls below: one number for all pixels of an image, else one a
    feature; None where values do not pile up at their lowest, () where none does."""

    ceiling: tuple[float | None, ...] = ()
    """The prepared value no feature rises above, likewise."""

    missing: tuple[float, ...] = ()
    """The share of each feature's values that are missing, () where none is."""

    gaps: bool = False
    """Whether the model knows what to do with missing values."""

    remarks: tuple[str, ...] = ()
    """What is worth knowing of how the rows were understood, for whoever meant it otherwise."""

    @property
    def facts(self) -> Facts:
        """What the network is told about its rows."""
        return Facts(
            shape=self.schema.network_shape,
            low=self.low,
            high=self.high,
            floor=self._ends(self.floor, -np.inf),
            ceiling=self._ends(self.ceiling, np.inf),
            gaps=self.gaps,
        )

    def encode(self, values: Array, dtype: torch.dtype = torch.float32) -> Tensor:
        """(n, *schema.shape) values to (n, *network_shape) prepared numbers."""
        # Bytes are exact in single precision; timestamps, say, are not.
        exact = values.dtype.itemsize <= 2 and values.dtype.kind in "bui"
        work = np.float32 if exact and dtype == torch.float32 else np.float64
        prepared = (values.astype(work) - self._shift().astype(work)) / self._scale().astype(work)
        tensor = torch.from_numpy(prepared).to(dtype)
        return self._axes_in(tensor)

    def decode(self, prepared: Tensor) -> Array:
        """(n, *network_shape) prepared numbers to (n, *schema.shape) float64 values."""
        values = self._axes_out(prepared.detach().cpu().double()).numpy()
        return np.asarray(values * self._scale() + self._shift())

    def measured(self, prepared: Tensor) -> Array:
        """(n, *network_shape) prepared numbers to (n, D) float64, in the units errors have."""
        flat = self._axes_out(prepared.detach().cpu().double()).flatten(1)
        return np.asarray(flat.numpy() * self.unit)

    def _ends(self, ends: tuple[float | None, ...], unlimited: float) -> Array | None:
        if not self.floor and not self.ceiling:
            return None
        known = [unlimited if end is None else end for end in ends or (None,)]
        if len(known) == 1:
            return np.asarray(known)
        rows = torch.tensor([known]).reshape(1, *self.schema.shape)
        return np.asarray(self._axes_in(rows)[0].numpy())

    def _shift(self) -> Array:
        return _like_row(self.shift, self.schema)

    def _scale(self) -> Array:
        return _like_row(self.scale, self.schema)

    def _axes_in(self, rows: Tensor) -> Tensor:
        if len(self.schema.shape) == 3 and not self.schema.channels_first:
            return rows.movedim(-1, 1).contiguous()
        if self.schema.layout == "signal" and len(self.schema.shape) == 2:
            return rows.transpose(1, 2).contiguous()
        return rows.reshape(len(rows), *self.schema.network_shape)

    def _axes_out(self, rows: Tensor) -> Tensor:
        if len(self.schema.shape) == 3 and not self.schema.channels_first:
            return rows.movedim(1, -1)
        if self.schema.layout == "signal" and len(self.schema.shape) == 2:
            return rows.transpose(1, 2)
        return rows.reshape(len(rows), *self.schema.shape)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"schema": self.schema.to_json()}

    def check(self) -> None:
        """Raise ValueError or TypeError where the fields do not fit one another."""
        for name in ("shift", "scale"):
            self._check_numbers(name, getattr(self, name), fewest=1)
        self._check_numbers("missing", self.missing)
        for name in ("floor", "ceiling"):
            self._check_numbers(name, [0.0 if e is None else e for e in getattr(self, name)])
        if not min(self.scale) > 0:
            raise ValueError(f"scale reaches {min(self.scale)}")
        if not 0 < float(self.unit) < np.inf:
            raise ValueError(f"unit is {self.unit}")

    def _check_numbers(self, name: str, given: Sequence[float], fewest: int = 0) -> None:
        values = np.asarray(given, np.float64)
        if values.ndim != 1 or values.size not in {fewest, 1, self.schema.n_features}:
            raise ValueError(f"{name} has {values.size} numbers")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} is not finite")

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Self:
        """What `to_json` wrote; ArtifactError where it is not a preparation."""
        try:
            known: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in written.items()
            }
            known["schema"] = schema_from_json(written["schema"])
            read = cls(**known)
            read.check()
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the model's preparation cannot be read: {error}") from error
        return read


def fit_preparation(
    source: Source,
    rows: Index,
    weight: Array,
    scaling: str = "auto",
    *,
    unseen: Index | None = None,
) -> Preparation:
    """Learn shift and scale from what is known of the weighted `rows` of the source.

    Rows that are `unseen`, held out from training, only widen what is known of the features'
    ranges: whether one is constant, or all are 0 and 1, must not hang on which rows were held out.

    "common": one scale for all features, so that squared error keeps the data's own metric (as
    PCA's does). "columns": each feature to mean 0 and variance 1. "none": as they are.
    "auto": common, unless the rows are a table with named columns that do not share a range.
    Raises RequestError for another `scaling`, DataError for a feature without any value.
    """
    if scaling not in SCALINGS:
        raise RequestError(
            f"preparation={scaling!r} is not known; use one of {', '.join(SCALINGS)}"
        )
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        moments = moments_of(source, rows, weight)
        if unseen is not None and len(unseen):
            moments = moments.widened(moments_of(source, unseen, np.ones(len(unseen))))
    check_known(source, moments.known)
    _check_representable(source, moments)
    schema = source.schema
    remarks = _remarks(schema, moments, scaling)
    if scaling == "auto":
        scaling = "columns" if schema.names and not _share_range(moments) else "common"
    constant = tuple(
        name for name, flat in zip(schema.feature_names(), moments.constant, strict=True) if flat
    )
    shift, scale, unit = _shift_scale(scaling, moments, schema)
    missing = moments.missing
    low = float(((moments.low - shift) / scale).min())
    high = float(((moments.high - shift) / scale).max())
    floor, ceiling = (
        _finite_or_none((ends - shift) / scale)
        for ends in moments.limits(shared=schema.layout == "image")
    )
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
        floor=floor,
        ceiling=ceiling,
        missing=tuple(missing.tolist()) if missing.any() else (),
        gaps=bool(missing.any()),
        remarks=remarks,
    )


def _check_representable(source: Source, moments: Moments) -> None:
    lost = (moments.variance == 0) & (moments.high > moments.low) & (moments.low > -TINY)
    largest = np.maximum(np.abs(moments.low), np.abs(moments.high))
    lost = (lost & (moments.high < TINY)) | ~np.isfinite(moments.variance) | (largest > 1 / TINY)
    if lost.any():
        name = source.schema.feature_names()[int(np.argmax(lost))]
        most = largest.max()
        raise DataError(
            f"{source.origin}: the values of {name!r} reach {most:.3g}, whose "
            "square no 64-bit number holds; rescale them, by dividing by their largest, say"
        )


def _remarks(schema: Schema, moments: Moments, scaling: str) -> tuple[str, ...]:
    remarks = [_gaps_in_words(schema, moments)] if moments.missing.any() else []
    nameless = schema.layout == "table" and not schema.names
    if scaling == "auto" and nameless and not _share_range(moments):
        remarks.append(
            "the columns are of unlike ranges and share one scale, as in PCA: the widest count "
            "most; preparation='columns' makes all count alike"
        )
    if schema.layout == "signal" and len(schema.shape) == 2 and schema.shape[0] < schema.shape[1]:
        steps, channels = schema.shape
        remarks.append(
            f"a row is read as {steps} time step{'s' * (steps > 1)} of {channels} channels; where "
            "it is the other way round, swap the last two axes"
        )
    return tuple(remarks)


def _gaps_in_words(schema: Schema, moments: Moments) -> str:
    most = int(np.argmax(moments.missing))
    name, columns = schema.feature_names()[most], int((moments.missing > 0).sum())
    what = "column" if schema.layout == "table" else "feature"
    return (
        f"{moments.missing.mean():.1%} of the values are missing, in {columns} "
        f"{what}{'s' * (columns != 1)}, most in {name!r} ({moments.missing[most]:.1%}); they are "
        "no part of any error"
    )


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
    if scaling == "columns":
        std = np.sqrt(moments.variance)
        std[std == 0] = 1.0
        return moments.mean, std, 1.0
    scale = float(np.sqrt(moments.variance.mean())) or 1.0
    if schema.layout != "image":
        return moments.mean, np.full(1, scale), scale / pixel
    # One grey level for all pixels keeps an edge an edge wherever it lies.
    return np.full(1, moments.mean.mean()), np.full(1, scale), scale / pixel


def _like_row(values: tuple[float, ...], schema: Schema) -> Array:
    array = np.asarray(values)
    return array if len(array) == 1 else array.reshape(schema.shape)
