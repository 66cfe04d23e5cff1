"""Preparation: columns to numbers a network likes and back, fitted once, saved as JSON."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.counts import LEAST_TOTAL
from isthmus.data.columns import Column, coded
from isthmus.data.preparation.count_statistics import sizes_of
from isthmus.data.preparation.encoding import Expansion
from isthmus.data.preparation.quantiles import Knots, restored, scored
from isthmus.data.schema import Schema, schema_from_json
from isthmus.errors import ArtifactError
from isthmus.types import Array, ColumnFacts, CountFacts, Facts

LIKELIHOODS = {"boolean": "bernoulli", "categorical": "categorical", "count": "count"}
"""What the values of a column are drawn from, by its role; else they stray around a mean."""

CACHE_BYTES = 1 << 18
"""Of numbers on their way to prepared ones: a processor's cache holds them between two steps."""

SHORT = 1024
"""Numbers of a row up to which rows are scaled several at a time."""

SHARED = tuple(map(np.dtype, (np.float32, np.float64, np.uint8, np.int16)))
"""Numbers that torch, which has threads, takes from where NumPy has them; it warns of those that
may not be written."""

MOST_SHIFT = 16.0
"""Scales: what may be taken off without losing digits that single precision has."""

COUNT_NUMBERS = tuple(one.name for one in fields(CountFacts) if one.name != "sized")
"""The facts of counts that are numbers, one a column."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """prepared = (values - shift) / scale, each one number for all features or one a feature.

    Where the schema tells of columns that are no numbers, they become features first
    (`Expansion`), E for the D columns of a row. Those of one category share their scale, by which
    their variances add up to 1 as that of a number does, so that every column counts alike.

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

    lowest: tuple[float | None, ...] = ()
    highest: tuple[float | None, ...] = ()
    """The values that floor and ceiling stand for, before they are shifted and scaled; () in models
    of before they were kept."""

    missing: tuple[float, ...] = ()
    """The share of each feature's values that are missing, () where none is."""

    allow_missing: bool = False
    """Whether the model knows what to do with missing values."""

    mean: tuple[float, ...] = ()
    """(E,): the prepared means of the features, () where every column is a number."""

    counts: CountFacts | None = field(default=None, compare=False)
    """Of the columns of counts, None where there are none or they are judged as numbers."""

    scores: tuple[Knots | None, ...] = ()
    """The line of each heavy-tailed column to normal scores, () where none is scaled so."""

    remarks: tuple[str, ...] = ()
    """What is worth knowing of how the rows were understood, for whoever meant it otherwise."""

    @property
    def facts(self) -> Facts:
        """What the network is told about its rows."""
        return Facts(
            shape=self.network_shape,
            low=self.low,
            high=self.high,
            floor=self._ends(self.floor, -np.inf),
            ceiling=self._ends(self.ceiling, np.inf),
            allow_missing=self.allow_missing,
            columns=self._column_facts(),
            mean=np.asarray(self.mean),
            scale=np.asarray(self.scale),
            counts=self.counts,
        )

    @cached_property
    def expansion(self) -> Expansion | None:
        """How columns are features, None where they are the same."""
        return None if self.schema.columns is None else Expansion(self.schema.columns)

    @property
    def network_shape(self) -> tuple[int, ...]:
        """A prepared row: (E,) for tables, (C, T) for signals, (C, H, W) for images."""
        if self.expansion is None:
            return self.schema.network_shape
        return (self.expansion.n_features,)

    def _column_facts(self) -> tuple[ColumnFacts, ...] | None:
        if self.expansion is None:
            return None
        columns = zip(self.expansion.columns, self.expansion.sizes, strict=True)
        return tuple(ColumnFacts(likelihood(column), size) for column, size in columns)

    def encode(
        self, values: Array, dtype: torch.dtype = torch.float32, out: Tensor | None = None
    ) -> Tensor:
        """(n, *schema.shape) values to (n, *network_shape) prepared numbers, written into `out`."""
        if self.scores:
            values = scored(values, self.scores)
        if self.expansion is not None:
            values = self.expansion.expand(values)
        shift, scale = self._shift(), self._scale()
        work = (
            np.float32 if dtype == torch.float32 and _is_short(values, shift, scale) else np.float64
        )
        direct = out is not None and not self._turns
        found = out.view(values.shape) if out is not None and direct else None
        found = torch.empty(values.shape, dtype=dtype) if found is None else found
        _scale_into(found, values, shift.astype(work), scale.astype(work))
        prepared = self._axes_in(found)
        return prepared if out is None or direct else out.copy_(prepared)

    def decode(self, prepared: Tensor) -> Array:
        """(n, *network_shape) prepared numbers to (n, *schema.shape) float64 values."""
        values = self._axes_out(prepared.detach().cpu().double()).numpy()
        values = self._at_ends(values, np.asarray(values * self._scale() + self._shift()))
        values = values if self.expansion is None else self.expansion.collapse(values)
        return restored(values, self.scores) if self.scores else values

    def _at_ends(self, prepared: Array, values: Array) -> Array:
        """The values, those at an end being the very end, which no shifting and scaling gives."""
        for bound, end in ((self.floor, self.lowest), (self.ceiling, self.highest)):
            if bound and end:
                place = _like_row(_or_nan(bound), self._values_shape)
                # What a network clips is at the end in its own precision.
                there = (prepared == place) | (prepared == place.astype(np.float32))
                values = np.where(there, _like_row(_or_nan(end), self._values_shape), values)
        return values

    def measured(self, prepared: Tensor) -> Array:
        """(n, *network_shape) prepared numbers to (n, E) float64, in the units errors have."""
        flat = self._axes_out(prepared.detach().cpu().double()).flatten(1)
        return np.asarray(flat.numpy() * self.unit)

    def size_factors(self, values: Any) -> Array:
        """(n,): the size factors of (n, D) counts, an array or a sparse matrix.

        A row's total over the mean total of the training rows; ones where rows have none.
        """
        expected = np.asarray(self.mean) * np.asarray(self.scale)
        if self.counts is None or not self.counts.sized:
            return np.ones(values.shape[0])
        if hasattr(values, "tocsr"):
            total = np.asarray(values.sum(axis=1), np.float64).reshape(-1)
            return np.asarray(np.maximum(total, LEAST_TOTAL) / expected.sum())
        return sizes_of(np.asarray(values, np.float64), expected)[:, 0]

    def from_measured(self, measured: Array) -> Array:
        """(n, E) in the units errors have to (n, *schema.shape) float64 values."""
        rows = torch.from_numpy(np.asarray(measured, np.float64) / self.unit)
        return self.decode(self._axes_in(rows.reshape(len(rows), *self._values_shape)))

    def sums(self, squares: Array) -> Array:
        """(..., E) squares to (..., D): what the features of each column have together."""
        return squares if self.expansion is None else self.expansion.sums(squares)

    def _ends(self, ends: tuple[float | None, ...], unlimited: float) -> Array | None:
        if not self.floor and not self.ceiling:
            return None
        known = [unlimited if end is None else end for end in ends or (None,)]
        if len(known) == 1:
            return np.asarray(known)
        rows = torch.tensor([known]).reshape(1, *self._values_shape)
        return np.asarray(self._axes_in(rows)[0].numpy())

    @property
    def _values_shape(self) -> tuple[int, ...]:
        """A row whose numbers have an order of their own, as it is given."""
        return self.schema.shape if self.expansion is None else self.network_shape

    def _shift(self) -> Array:
        return _like_row(self.shift, self._values_shape)

    def _scale(self) -> Array:
        return _like_row(self.scale, self._values_shape)

    @property
    def _turns(self) -> bool:
        """Whether the axes of a prepared row come in another order."""
        several = len(self.schema.shape) == 3 and not self.schema.channels_first
        return several or (self.schema.layout == "signal" and len(self.schema.shape) == 2)

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

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return plain | {
            "schema": self.schema.to_json(),
            "counts": None if self.counts is None else _plain_counts(self.counts),
        }

    def check(self) -> None:
        """Raise ValueError or TypeError where the fields do not fit one another."""
        for name in ("shift", "scale"):
            self._check_numbers(name, getattr(self, name), fewest=1)
        self._check_numbers("mean", self.mean)
        if self.expansion is not None and not len(self.mean) == len(self.scale) == len(self.shift):
            raise ValueError("some columns have no mean or no scale")
        if len(self.missing) not in (0, self.schema.n_features):
            raise ValueError(f"missing has {len(self.missing)} numbers")
        self._check_ends()
        self._check_counts()
        self._check_scores()
        if not min(self.scale) > 0:
            raise ValueError(f"scale reaches {min(self.scale)}")
        if not 0 < float(self.unit) < np.inf:
            raise ValueError(f"unit is {self.unit}")

    def _check_ends(self) -> None:
        for name in ("floor", "ceiling", "lowest", "highest"):
            self._check_numbers(name, [0.0 if e is None else e for e in getattr(self, name)])
        for bound, end in ((self.floor, self.lowest), (self.ceiling, self.highest)):
            if bound and end and [one is None for one in bound] != [one is None for one in end]:
                raise ValueError("some ends of values are not known both ways")

    def _check_counts(self) -> None:
        if self.counts is None:
            return
        columns = self.schema.columns or ()
        size = sum(likelihood(column) == "count" for column in columns)
        for name in COUNT_NUMBERS:
            values = getattr(self.counts, name)
            least = 0.0 if name in ("dispersion", "log_mean") else np.finfo(np.float64).tiny
            if values.shape != (size,) or not (np.isfinite(values) & (values >= least)).all():
                raise ValueError(f"{name} of {size} counts is {values[:3]}")
        if self.counts.sized and not size == len(columns):
            raise ValueError("size factors of rows that are not all counts")

    def _check_scores(self) -> None:
        if len(self.scores) not in (0, self.schema.n_features):
            raise ValueError(f"{len(self.scores)} scores")
        for line in self.scores:
            if line is not None:
                line.check()

    def _check_numbers(self, name: str, given: Sequence[float], fewest: int = 0) -> None:
        values = np.asarray(given, np.float64)
        if values.ndim != 1 or values.size not in {fewest, 1, int(np.prod(self.network_shape))}:
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
            known["counts"] = _counts_from(written.get("counts"))
            lines = written.get("scores", ())
            known["scores"] = tuple(None if one is None else Knots(*one) for one in lines)
            read = cls(**known)
            read.check()
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the model's preparation cannot be read: {error}") from error
        return read


def likelihood(column: Column) -> str:
    """What a column's values are drawn from: "squared" stands for a mean they stray around."""
    return "squared" if coded(column) else LIKELIHOODS.get(column.role, "squared")


def _plain_counts(counts: CountFacts) -> dict[str, Any]:
    return {name: getattr(counts, name).tolist() for name in COUNT_NUMBERS} | {
        "sized": counts.sized
    }


def _counts_from(written: dict[str, Any] | None) -> CountFacts | None:
    if written is None:  # as in models of before there was such a thing
        return None
    numbers = {name: np.asarray(written[name], np.float64) for name in COUNT_NUMBERS}
    return CountFacts(sized=bool(written["sized"]), **numbers)


def _or_nan(ends: tuple[float | None, ...]) -> tuple[float, ...]:
    return tuple(np.nan if end is None else end for end in ends)


def _is_short(values: Array, shift: Array, scale: Array) -> bool:
    """Whether single precision loses nothing of what it can hold of the prepared values.

    Bytes are exact there; numbers of that precision are, where what is taken off is not large
    beside their scale. Timestamps, say, are neither.
    """
    if values.dtype.kind in "bui":
        return values.dtype.itemsize <= 2
    if values.dtype not in (np.float32, np.float16):
        return False
    return bool((np.abs(shift) <= MOST_SHIFT * np.abs(scale)).all())


def _scale_into(found: Tensor, values: Array, shift: Array, scale: Array) -> None:
    """Write (values - shift) / scale, worked out in the precision of `shift`, into `found`."""
    row = values.shape[1:]
    step = max(1, CACHE_BYTES // max(1, math.prod(row) * shift.itemsize))
    if found.device.type != "cpu" or found.numpy().dtype != shift.dtype:
        _scale_by_way(found, values, shift, scale, min(step, max(1, len(values))))
        return
    several = min(SHORT // max(1, math.prod(row)), len(values))
    if several > 1 and values.flags.c_contiguous and max(shift.size, scale.size) > 1:
        # What is done between two rows takes longer than to scale a short one: several in one.
        whole, long = len(values) // several * several, (len(values) // several, -1)
        shifts, scales = (
            np.tile(np.broadcast_to(one, row).ravel(), several) for one in (shift, scale)
        )
        own, given = found[:whole].view(long), values[:whole].reshape(long)
        _scale_in_place(own, given, shifts, scales, max(1, step // several))
        found, values = found[whole:], values[whole:]
    _scale_in_place(found, values, shift, scale, step)


def _scale_in_place(found: Tensor, values: Array, shift: Array, scale: Array, step: int) -> None:
    """The same where `found` has the precision already; by NumPy `step` rows at a time."""
    if values.dtype in SHARED and values.flags.c_contiguous and values.flags.writeable:
        torch.sub(torch.from_numpy(values), torch.from_numpy(shift), out=found)
        found.div_(torch.from_numpy(scale))
        return
    for start in range(0, len(values), step):
        own = found[start : start + step].numpy()
        np.subtract(values[start : start + step], shift, out=own)
        own /= scale


def _scale_by_way(found: Tensor, values: Array, shift: Array, scale: Array, step: int) -> None:
    """The same by way of an array of the precision asked for."""
    piece = np.empty((step, *values.shape[1:]), shift.dtype)
    for start in range(0, len(values), step):
        part = values[start : start + step]
        own = piece[: len(part)]
        own[...] = part
        own -= shift
        own /= scale
        found[start : start + step] = torch.from_numpy(own)


def _like_row(values: tuple[float, ...], shape: tuple[int, ...]) -> Array:
    array = np.asarray(values)
    return array if len(array) == 1 else array.reshape(shape)
