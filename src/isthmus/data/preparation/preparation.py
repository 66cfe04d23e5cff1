"""Preparation: the fitted, invertible transform from raw rows to what the network sees."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.counts import LEAST_TOTAL
from isthmus.data.columns import Column
from isthmus.data.preparation.count_statistics import size_factors
from isthmus.data.preparation.encoding import ColumnEncoder
from isthmus.data.preparation.quantiles import QuantileMap, inverse_transform, transform
from isthmus.data.schema import Schema, schema_from_json
from isthmus.errors import ArtifactError
from isthmus.types import Array, ColumnFacts, CountFacts, Facts

LIKELIHOODS = {"boolean": "bernoulli", "categorical": "categorical", "count": "count"}
"""The distribution of a column's values by its role; "squared" for all others."""

SCALING_BLOCK_BYTES = 1 << 18
"""Values scaled at a time, so that they stay in the processor's cache between two operations."""

SHORT_ROW = 1024
"""Rows of up to so many numbers are scaled several at a time."""

TORCH_DTYPES = tuple(map(np.dtype, (np.float32, np.float64, np.uint8, np.int16)))
"""Arrays that torch scales in place with several threads; it warns of read-only ones."""

MAX_SHIFT = 16.0
"""The largest shift, in units of the scale, that keeps the digits of single precision."""

COUNT_STATISTICS = tuple(
    field.name for field in fields(CountFacts) if field.name != "has_size_factors"
)
"""The fields of CountFacts that hold one number per count column."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Turns rows into a network's inputs and back: prepared = (values - shift) / scale.

    Columns that are not numbers are first encoded as features, E for the D columns of a row. The
    features of one categorical column share a scale, so that their variances add up to 1. Every
    column therefore counts equally.

    A fitted model holds its preparation as `preparation_`.

    Example:
        >>> import numpy as np
        >>> from isthmus import Autoencoder
        >>> X = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
        >>> fitted = Autoencoder(1, preparation="standard", max_epochs=0, random_state=0).fit(X)
        >>> prepared = fitted.preparation_.encode(X)
        >>> fitted.preparation_.decode(prepared).round(3).tolist()
        [[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]
    """

    schema: Schema
    """What a row is."""

    scaling: str
    """The scaling that was used, such as "global" or "standard"."""

    shift: tuple[float, ...]
    """One number for all features or (E,): what is subtracted."""

    scale: tuple[float, ...]
    """One number for all features or (E,): what the difference is divided by."""

    unit: float
    """Factor from prepared units to the units of metrics: the data's own if all features share one
    scale (0..1 for uint8 pixels), else standard deviations of each column."""

    low: float
    """The smallest prepared value of the training rows."""

    high: float
    """The largest prepared value of the training rows."""

    binary: bool
    """Whether every value is 0 or 1."""

    constant: tuple[str, ...]
    """The names of the features with a single value."""

    floor: tuple[float | None, ...] = ()
    """The lower limit of each feature in prepared units; one number for all pixels of an image.
    None if few values lie at the lowest one, () if no feature has a limit."""

    ceiling: tuple[float | None, ...] = ()
    """The upper limit of each feature, in the same form."""

    lowest: tuple[float | None, ...] = ()
    """`floor` before shift and scale, which give it only up to rounding."""

    highest: tuple[float | None, ...] = ()
    """`ceiling` before shift and scale."""

    missing: tuple[float, ...] = ()
    """(D,): the share of each column's values that are missing, () if nothing is missing."""

    allow_missing: bool = False
    """Whether the model supports missing values."""

    mean: tuple[float, ...] = ()
    """(E,): the prepared means of the features, () if every column is a number."""

    counts: CountFacts | None = field(default=None, compare=False)
    """Statistics of the count columns; None without any, or if they are treated as numbers."""

    quantile_maps: tuple[QuantileMap | None, ...] = ()
    """(D,): the map of each heavy-tailed column to normal scores, () without such columns."""

    remarks: tuple[str, ...] = ()
    """How the rows were understood, one line each."""

    @property
    def facts(self) -> Facts:
        """What a network is built for: the shape and the statistics of its rows."""
        return Facts(
            shape=self.network_shape,
            low=self.low,
            high=self.high,
            floor=self._limit(self.floor, -np.inf),
            ceiling=self._limit(self.ceiling, np.inf),
            allow_missing=self.allow_missing,
            columns=self._column_facts(),
            mean=np.asarray(self.mean),
            scale=np.asarray(self.scale),
            counts=self.counts,
        )

    @cached_property
    def encoder(self) -> ColumnEncoder | None:
        """The encoder of the columns, None if all columns are numbers."""
        return None if self.schema.columns is None else ColumnEncoder(self.schema.columns)

    @property
    def network_shape(self) -> tuple[int, ...]:
        """A prepared row: (E,) for tables, (C, T) for signals, (C, H, W) for images."""
        if self.encoder is None:
            return self.schema.network_shape
        return (self.encoder.n_features,)

    def _column_facts(self) -> tuple[ColumnFacts, ...] | None:
        if self.encoder is None:
            return None
        columns = zip(self.encoder.columns, self.encoder.sizes, strict=True)
        return tuple(ColumnFacts(likelihood(column), size) for column, size in columns)

    def encode(
        self, values: Array, dtype: torch.dtype = torch.float32, out: Tensor | None = None
    ) -> Tensor:
        """(n, *schema.shape) values to (n, *network_shape) prepared numbers, written into `out`."""
        if self.quantile_maps:
            values = transform(values, self.quantile_maps)
        if self.encoder is not None:
            values = self.encoder.encode(values)
        shift, scale = self._shift(), self._scale()
        work = (
            np.float32 if dtype == torch.float32 and _is_short(values, shift, scale) else np.float64
        )
        direct = out is not None and not self._reorders_axes
        target = out.view(values.shape) if out is not None and direct else None
        target = torch.empty(values.shape, dtype=dtype) if target is None else target
        _scale_into(target, values, shift.astype(work), scale.astype(work))
        prepared = self._axes_in(target)
        return prepared if out is None or direct else out.copy_(prepared)

    def decode(self, prepared: Tensor) -> Array:
        """(n, *network_shape) prepared numbers to (n, *schema.shape) float64 values."""
        values = self._axes_out(prepared.detach().cpu().double()).numpy()
        values = self._at_limits(values, np.asarray(values * self._scale() + self._shift()))
        values = values if self.encoder is None else self.encoder.decode(values)
        return inverse_transform(values, self.quantile_maps) if self.quantile_maps else values

    def _at_limits(self, prepared: Array, values: Array) -> Array:
        """The values with those at a limit exact, which shift and scale alone do not give."""
        for bound, value in ((self.floor, self.lowest), (self.ceiling, self.highest)):
            if bound and value:
                limit = _like_row(_or_nan(bound), self._values_shape)
                # A network clips to the limit in its own precision.
                reached = (prepared == limit) | (prepared == limit.astype(np.float32))
                values = np.where(reached, _like_row(_or_nan(value), self._values_shape), values)
        return values

    def to_error_units(self, prepared: Tensor) -> Array:
        """(n, *network_shape) prepared numbers to (n, E) float64 in the units of metrics."""
        flat = self._axes_out(prepared.detach().cpu().double()).flatten(1)
        return np.asarray(flat.numpy() * self.unit)

    def size_factors(self, values: Any) -> Array:
        """(n,): the size factors of (n, D) counts, an array or a sparse matrix.

        They are a row's total over the mean total of the training rows, or 1 if the model has no
        size factors.
        """
        expected = np.asarray(self.mean) * np.asarray(self.scale)
        if self.counts is None or not self.counts.has_size_factors:
            return np.ones(values.shape[0])
        if hasattr(values, "tocsr"):
            total = np.asarray(values.sum(axis=1), np.float64).reshape(-1)
            return np.asarray(np.maximum(total, LEAST_TOTAL) / expected.sum())
        return size_factors(np.asarray(values, np.float64), expected)[:, 0]

    def from_error_units(self, numbers: Array) -> Array:
        """(n, E) in the units of metrics to (n, *schema.shape) float64 values."""
        rows = torch.from_numpy(np.asarray(numbers, np.float64) / self.unit)
        return self.decode(self._axes_in(rows.reshape(len(rows), *self._values_shape)))

    def column_sums(self, squares: Array) -> Array:
        """(..., E) squares to (..., D): the sum over the features of each column."""
        return squares if self.encoder is None else self.encoder.column_sums(squares)

    def _limit(self, limits: tuple[float | None, ...], unlimited: float) -> Array | None:
        if not self.floor and not self.ceiling:
            return None
        numbers = [unlimited if limit is None else limit for limit in limits or (None,)]
        if len(numbers) == 1:
            return np.asarray(numbers)
        rows = torch.tensor([numbers]).reshape(1, *self._values_shape)
        return np.asarray(self._axes_in(rows)[0].numpy())

    @property
    def _values_shape(self) -> tuple[int, ...]:
        """The shape of a row before its axes are reordered."""
        return self.schema.shape if self.encoder is None else self.network_shape

    def _shift(self) -> Array:
        return _like_row(self.shift, self._values_shape)

    def _scale(self) -> Array:
        return _like_row(self.scale, self._values_shape)

    @property
    def _reorders_axes(self) -> bool:
        """Whether a prepared row has its axes in another order."""
        channels_last = len(self.schema.shape) == 3 and not self.schema.channels_first
        return channels_last or (self.schema.layout == "signal" and len(self.schema.shape) == 2)

    def _axes_in(self, rows: Tensor) -> Tensor:
        if len(self.schema.shape) == 3 and not self.schema.channels_first:
            return rows.movedim(-1, 1).contiguous()
        if self.schema.layout == "signal" and len(self.schema.shape) == 2:
            return rows.transpose(1, 2).contiguous()
        return rows.reshape(len(rows), *self.network_shape)

    def _axes_out(self, rows: Tensor) -> Tensor:
        if len(self.schema.shape) == 3 and not self.schema.channels_first:
            return rows.movedim(1, -1)
        if self.schema.layout == "signal" and len(self.schema.shape) == 2:
            return rows.transpose(1, 2)
        return rows.reshape(len(rows), *self._values_shape)

    def to_json(self) -> dict[str, object]:
        """The fields as plain values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {
            "schema": self.schema.to_json(),
            "counts": None if self.counts is None else _plain_counts(self.counts),
        }

    def check(self) -> None:
        """Raise ValueError or TypeError if the fields contradict each other."""
        for name in ("shift", "scale"):
            self._check_numbers(name, getattr(self, name), fewest=1)
        self._check_numbers("mean", self.mean)
        if self.encoder is not None and not len(self.mean) == len(self.scale) == len(self.shift):
            raise ValueError("some columns have no mean or no scale")
        if len(self.missing) not in (0, self.schema.n_features):
            raise ValueError(f"missing has {len(self.missing)} numbers")
        self._check_limits()
        self._check_counts()
        self._check_quantile_maps()
        if not min(self.scale) > 0:
            raise ValueError(f"scale reaches {min(self.scale)}")
        if not 0 < float(self.unit) < np.inf:
            raise ValueError(f"unit is {self.unit}")

    def _check_limits(self) -> None:
        for name in ("floor", "ceiling", "lowest", "highest"):
            self._check_numbers(name, [0.0 if x is None else x for x in getattr(self, name)])
        for bound, value in ((self.floor, self.lowest), (self.ceiling, self.highest)):
            if bound and value and [x is None for x in bound] != [x is None for x in value]:
                raise ValueError("some limits are known in one unit only")

    def _check_counts(self) -> None:
        if self.counts is None:
            return
        columns = self.schema.columns or ()
        size = sum(likelihood(column) == "count" for column in columns)
        for name in COUNT_STATISTICS:
            values = getattr(self.counts, name)
            least = 0.0 if name in ("dispersion", "log_mean") else np.finfo(np.float64).tiny
            if values.shape != (size,) or not (np.isfinite(values) & (values >= least)).all():
                raise ValueError(f"{name} of {size} counts is {values[:3]}")
        if self.counts.has_size_factors and not size == len(columns):
            raise ValueError("size factors of rows that are not all counts")

    def _check_quantile_maps(self) -> None:
        if len(self.quantile_maps) not in (0, self.schema.n_features):
            raise ValueError(f"{len(self.quantile_maps)} quantile maps")
        for quantiles in self.quantile_maps:
            if quantiles is not None:
                quantiles.check()

    def _check_numbers(self, name: str, given: Sequence[float], fewest: int = 0) -> None:
        values = np.asarray(given, np.float64)
        if values.ndim != 1 or values.size not in {fewest, 1, int(np.prod(self.network_shape))}:
            raise ValueError(f"{name} has {values.size} numbers")
        if not np.isfinite(values).all():
            raise ValueError(f"{name} is not finite")

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Self:
        """The preparation that `to_json` wrote; ArtifactError if it is not one."""
        try:
            values: dict[str, Any] = {
                name: tuple(v) if isinstance(v, list) else v for name, v in written.items()
            }
            values["schema"] = schema_from_json(written["schema"])
            values["counts"] = _counts_from(written.get("counts"))
            values["quantile_maps"] = tuple(
                None if knots is None else QuantileMap(*knots)
                for knots in written.get("quantile_maps", ())
            )
            preparation = cls(**values)
            preparation.check()
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the model's preparation cannot be read: {error}") from error
        return preparation


def likelihood(column: Column) -> str:
    """The distribution of a column's values: "squared", "bernoulli", "categorical" or "count"."""
    return "squared" if column.uses_sign_codes else LIKELIHOODS.get(column.role, "squared")


def _plain_counts(counts: CountFacts) -> dict[str, object]:
    return {name: getattr(counts, name).tolist() for name in COUNT_STATISTICS} | {
        "has_size_factors": counts.has_size_factors
    }


def _counts_from(written: dict[str, Any] | None) -> CountFacts | None:
    if written is None:
        return None
    numbers = {name: np.asarray(written[name], np.float64) for name in COUNT_STATISTICS}
    return CountFacts(has_size_factors=bool(written["has_size_factors"]), **numbers)


def _or_nan(limits: tuple[float | None, ...]) -> tuple[float, ...]:
    return tuple(np.nan if limit is None else limit for limit in limits)


def _is_short(values: Array, shift: Array, scale: Array) -> bool:
    """Whether scaling in single precision gives the prepared values as exactly as it can hold them.

    It does for bytes, and for numbers of that precision unless the shift is large against their
    scale, as it is for timestamps.
    """
    if values.dtype.kind in "bui":
        return values.dtype.itemsize <= 2
    if values.dtype not in (np.float32, np.float16):
        return False
    return bool((np.abs(shift) <= MAX_SHIFT * np.abs(scale)).all())


def _scale_into(out: Tensor, values: Array, shift: Array, scale: Array) -> None:
    """Write (values - shift) / scale, computed in the precision of `shift`, into `out`."""
    row = values.shape[1:]
    step = max(1, SCALING_BLOCK_BYTES // max(1, math.prod(row) * shift.itemsize))
    if out.device.type != "cpu" or out.numpy().dtype != shift.dtype:
        _scale_in_blocks(out, values, shift, scale, min(step, max(1, len(values))))
        return
    several = min(SHORT_ROW // max(1, math.prod(row)), len(values))
    if several > 1 and values.flags.c_contiguous and max(shift.size, scale.size) > 1:
        # The overhead of a short row exceeds its scaling: scale several as one long row.
        whole, long = len(values) // several * several, (len(values) // several, -1)
        shifts, scales = (
            np.tile(np.broadcast_to(numbers, row).ravel(), several) for numbers in (shift, scale)
        )
        long_out, long_values = out[:whole].view(long), values[:whole].reshape(long)
        _scale_same_dtype(long_out, long_values, shifts, scales, max(1, step // several))
        out, values = out[whole:], values[whole:]
    _scale_same_dtype(out, values, shift, scale, step)


def _scale_same_dtype(out: Tensor, values: Array, shift: Array, scale: Array, step: int) -> None:
    """The same for an `out` of the precision of `shift`; NumPy scales `step` rows at a time."""
    if values.dtype in TORCH_DTYPES and values.flags.c_contiguous and values.flags.writeable:
        torch.sub(torch.from_numpy(values), torch.from_numpy(shift), out=out)
        out.div_(torch.from_numpy(scale))
        return
    for start in range(0, len(values), step):
        block = out[start : start + step].numpy()
        np.subtract(values[start : start + step], shift, out=block)
        block /= scale


def _scale_in_blocks(out: Tensor, values: Array, shift: Array, scale: Array, step: int) -> None:
    """The same through a buffer of the precision of `shift`."""
    buffer = np.empty((step, *values.shape[1:]), shift.dtype)
    for start in range(0, len(values), step):
        part = values[start : start + step]
        block = buffer[: len(part)]
        block[...] = part
        block -= shift
        block /= scale
        out[start : start + step] = torch.from_numpy(block)


def _like_row(values: tuple[float, ...], shape: tuple[int, ...]) -> Array:
    array = np.asarray(values)
    return array if len(array) == 1 else array.reshape(shape)
