"""Rows cut from recordings: windows of them, or whole series padded to one length.

A recording has time down and channels across, as a table of samples has. Nothing is copied until
a row is read.
"""

# Shape letters: n rows, L samples in a row, T samples in a recording, C channels.

from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch

from isthmus.data.arrays import (
    IN_MEMORY,
    ArraySource,
    array_source,
    data_error,
    tensor_source,
    unmasked,
)
from isthmus.data.schema import Recording, Schema
from isthmus.data.signals.overlap_add import extents, overlap_add
from isthmus.data.source import Source
from isthmus.data.tables.frames import FrameSource, frame_source
from isthmus.data.tables.restore import restore
from isthmus.errors import DataError, RequestError, drop_column
from isthmus.types import Array, Index

MIN_WINDOW = 2
MAX_SHOWN = 5


class Recordings(NamedTuple):
    """Recordings in the form in which they were given."""

    parts: tuple[Source, ...]
    """One source of samples (C,) for each recording."""

    flat: tuple[bool, ...]
    """Whether each recording was given without an axis of channels."""

    single: bool
    """Whether there is one recording that is not in a list."""

    origin: str = IN_MEMORY
    """What messages call the recordings."""


class RecordingSource(Source):
    """Rows that are windows of recordings, or whole series; made by `windows` and `series`.

    Attributes:
        extents: (n, 3): recording, first sample and end of each row.
        parts: The recordings, each a source of its samples.
        lengths: The number of samples of each recording.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import windows
        >>> windows(np.arange(10.0), length=4).extents.tolist()
        [[0, 0, 4], [0, 2, 6], [0, 4, 8], [0, 6, 10]]
    """

    extents: Index

    def __init__(self, given: Recordings, schema: Schema) -> None:
        assert schema.recording is not None
        check_lengths(given, schema)
        self.given, self.schema = given, schema
        self.parts = given.parts
        self.origin = given.parts[0].origin if given.single else given.origin
        self.extents = extents(self.lengths, schema.shape[0], schema.recording.hop)
        texts = dict.fromkeys(text for part in self.parts for text in part.remarks)
        series = schema.recording.hop is None
        self.remarks = (*([f"series of {_range_of(self.lengths)} samples"] * series), *texts)
        self._values = [_in_memory(part) for part in self.parts]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.extents)

    @property
    def lengths(self) -> list[int]:
        """How many samples each recording has."""
        return [len(part) for part in self.parts]

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), *schema.shape); NaN after the end of a shorter series."""
        chosen = self.extents[rows].tolist()
        length, channels = self.schema.shape[0], self.parts[0].schema.n_features
        rows_read = np.empty((len(chosen), length, channels), self.schema.dtypes[0])
        for row, (recording, start, stop) in zip(rows_read, chosen, strict=True):
            values = self._values[recording]
            row[: stop - start] = (
                self.parts[recording].read(np.arange(start, stop))
                if values is None
                else values[start:stop]
            )
            if stop - start < length:
                row[stop - start :] = np.nan
        return rows_read.reshape(len(chosen), *self.schema.shape)

    def join(self, rows: Array) -> list[Array]:
        """The recordings (T, C) from all rows (n, *schema.shape) of this source."""
        return overlap_add(rows, self.extents)

    def restore(self, rows: Array) -> Any:
        """What `join` gives, in the containers and dtypes of the recordings given."""
        joined = zip(self.join(rows), self.parts, strict=True)
        return self.in_given_form([restore(values, part.schema) for values, part in joined])

    def in_given_form(self, recordings: Sequence[Any]) -> Any:
        """Recordings with an axis of channels, in the form in which these were given."""
        pairs = zip(recordings, self.given.flat, strict=True)
        formed = [recording[:, 0] if flat else recording for recording, flat in pairs]
        return formed[0] if self.given.single else formed


def cut_recordings(given: Recordings, length: int | None, hop: int | None) -> RecordingSource:
    """Windows of `length` samples of recordings, or whole padded series without a `length`.

    Raises DataError (SourceError for a file) if recordings differ in their channels or one is
    shorter than the window, RequestError for an invalid window.
    """
    if length is not None:
        check_window(length, hop)
        hop = max(length // 2, 1) if hop is None else int(hop)
    _check_alike(given.parts)
    longest = max(len(part) for part in given.parts)
    rows, flat = int(length or longest), all(given.flat)
    sample = given.parts[0].schema
    schema = Schema(
        layout="signal",
        shape=(rows,) if flat else (rows, *sample.shape),
        dtypes=(_dtype(given.parts, padded=length is None),),
        recording=Recording(sample=sample, flat=flat, hop=hop),
    )
    return RecordingSource(given, schema)


def cut_to_schema(given: Recordings, schema: Schema) -> RecordingSource:
    """Recordings cut to the rows of a fitted model's `schema`.

    Raises DataError (SourceError for a file) if one has other channels, or is too long or short.
    """
    assert schema.recording is not None
    expected = schema.recording.sample.n_features
    for part in given.parts:
        _check_numbers(part)
        channels = part.schema.n_features
        if channels != expected:
            raise data_error(
                part.origin,
                f"has {_channels(channels)}, and the model was fitted on recordings of "
                f"{_channels(expected)}; give recordings like those, time down and channels across",
            )
    dtype = _dtype(given.parts, padded=schema.recording.hop is None)
    return RecordingSource(given, replace(schema, dtypes=(dtype,)))


def recordings_from_rows(rows: Array, schema: Schema, lengths: object = None) -> Any:
    """Recordings from rows (n, *schema.shape) that a model decoded from codes alone.

    `lengths` is the length of a single recording, or a list of lengths. Without it, windows belong
    to one recording and are all one hop apart, and every series has full length.

    Raises DataError if recordings of these lengths have another number of rows, RequestError for
    lengths that are not whole numbers.
    """
    recording, full = schema.recording, schema.shape[0]
    assert recording is not None
    if lengths is None:
        single = recording.hop is not None
        last = (len(rows) - 1) * (recording.hop or 0)
        samples = [last + full] if single else [full] * len(rows)
    else:
        samples, single = _lengths(lengths)
    if not len(rows):
        empty = restore(np.empty((0, *recording.sample.shape)), recording.sample)
        return (empty[:, 0] if recording.flat else empty) if single else []
    for number, count in enumerate(samples):
        _check_length(count, schema, f"lengths[{number}]")
    row_extents = extents(samples, full, recording.hop)
    if len(row_extents) != len(rows):
        raise DataError(
            f"{len(rows)} codes do not make recordings of {_shortened(samples)} samples, which "
            f"have {len(row_extents)}; give the codes of all rows, and the lengths of the "
            "recordings that they encode"
        )
    joined = [restore(values, recording.sample) for values in overlap_add(rows, row_extents)]
    joined = [values[:, 0] for values in joined] if recording.flat else joined
    return joined[0] if single else joined


def _lengths(given: object) -> tuple[list[int], bool]:
    """The lengths given, and whether it is a single one.

    Raises RequestError if they are not whole numbers.
    """
    several = isinstance(given, Iterable) and getattr(given, "ndim", 1) > 0
    items = [given]
    if isinstance(given, Iterable) and several and not isinstance(given, str):
        items = list(given)
    if not items:
        raise RequestError(f"lengths={given!r} is empty; give one length for each recording")
    return [_length(item, given) for item in items], not several


def _length(item: Any, given: object) -> int:
    length = item.item() if getattr(item, "ndim", None) == 0 else item
    whole = isinstance(length, Real) and float(length).is_integer()
    if isinstance(length, bool) or not whole:
        raise RequestError(
            f"lengths={given!r}: {length!r} is not a number of samples; give a whole number, "
            "or a list of them for several recordings"
        )
    return int(length)


def is_series(data: object) -> bool:
    """Whether `data` is a list of arrays, tensors or tables of different lengths."""
    if not isinstance(data, (list, tuple)):
        return False
    shapes: list[tuple[int, ...]] = [getattr(item, "shape", ()) for item in data]
    return all(len(shape) in (1, 2) for shape in shapes) and len({s[0] for s in shapes}) > 1


def recordings_from_data(data: object) -> Recordings:
    """Recordings in memory: one recording, a list of them, or (n, time, channels)."""
    if isinstance(data, Recordings):
        return data
    if isinstance(data, RecordingSource):
        return data.given
    items: Iterable[object] | None = None
    if isinstance(data, (list, tuple)) and not any(map(_is_number, data)):
        if not data:
            raise DataError(f"{IN_MEMORY}: the list holds no recording; give at least one")
        items = data
    elif isinstance(data, Iterable) and getattr(data, "ndim", 0) == 3:
        items = data
    if items is None:
        part, flat = _samples(data, IN_MEMORY)
        return Recordings((part,), (flat,), single=True)
    opened = [_samples(item, f"{IN_MEMORY}[{number}]") for number, item in enumerate(items)]
    parts, flats = (tuple(column) for column in zip(*opened, strict=True))
    return Recordings(parts, flats, single=False)


def recordings_from_sources(sources: Sequence[Source], *, single: bool, origin: str) -> Recordings:
    """Recordings whose samples are the rows of open sources."""
    flat = tuple(source.flat for source in sources)
    return Recordings(tuple(sources), flat, single=single, origin=origin)


def _samples(given: object, origin: str) -> tuple[Source, bool]:
    """A source of the samples of one recording, and whether there is no axis of channels."""
    if isinstance(given, Source):
        return given, given.flat
    if hasattr(given, "columns"):
        return frame_source(given, origin=origin), False
    if isinstance(given, np.ma.MaskedArray):
        given = unmasked(given)
    elif not isinstance(given, torch.Tensor):
        given = _array_of(given, origin)
    if given.ndim not in (1, 2):
        raise data_error(
            origin,
            f"an array of shape {tuple(given.shape)} is not a recording; give (time,) or "
            "(time, channels)",
        )
    flat = given.ndim == 1
    if isinstance(given, torch.Tensor):
        samples = given.reshape(-1, 1) if flat else given
        return tensor_source(samples, layout="table", origin=origin), flat
    values = given.reshape(-1, 1) if flat else given
    return array_source(values, layout="table", origin=origin), flat


def _is_number(given: object) -> bool:
    """Whether this is a single number, perhaps as an array without axes."""
    return np.isscalar(given) or getattr(given, "ndim", None) == 0


def _array_of(given: object, origin: str) -> Array:
    try:
        return np.asarray(given)
    except ValueError as error:
        raise data_error(
            origin,
            f"the samples differ in their number of channels ({error}); give the same for each",
        ) from error


def _check_alike(parts: Sequence[Source]) -> None:
    """Raise DataError (SourceError for a file) unless all are recordings of the same channels."""
    first = parts[0]
    for part in parts:
        schema = part.schema
        if schema.layout != "table":
            raise data_error(
                part.origin, f"holds rows of kind {schema.layout!r} and is not a recording"
            )
        if not len(part) or not schema.n_features:
            raise data_error(part.origin, "holds no samples; leave it out")
        _check_numbers(part)
        if (schema.shape, schema.names) != (first.schema.shape, first.schema.names):
            raise data_error(
                part.origin,
                f"has {_channels(schema.n_features, schema.names)}, and {first.origin} has "
                f"{_channels(first.schema.n_features, first.schema.names)}; give recordings of the "
                "same channels, in the same order",
            )


def _check_numbers(part: Source) -> None:
    roles = [column.role for column in part.schema.columns or ()]
    refused = [i for i, role in enumerate(roles) if role not in ("numeric", "boolean")]
    if refused:
        name = part.schema.feature_names()[refused[0]]
        raise data_error(
            part.origin,
            f"column {name!r} is {roles[refused[0]]}, and the channels of a recording are numbers; "
            f"leave it out with {drop_column(name)}",
        )


def check_window(length: object, hop: object) -> None:
    """Raise RequestError unless `length` and `hop` are valid numbers of samples."""
    if not _is_whole(length) or length < MIN_WINDOW:
        raise RequestError(
            f"a window of {length!r} samples: give a whole number from {MIN_WINDOW} on"
        )
    if hop is not None and not (_is_whole(hop) and 1 <= hop <= length):
        raise RequestError(
            f"windows of {length} samples that begin every {hop!r}: give a hop from 1 to "
            f"{length}, so that every sample is in a window"
        )


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_lengths(given: Recordings, schema: Schema) -> None:
    """Raise DataError (SourceError for a file) if a recording is too short or too long."""
    for part in given.parts:
        _check_length(len(part), schema, part.origin)


def _check_length(samples: int, schema: Schema, origin: str) -> None:
    assert schema.recording is not None
    length, count = schema.shape[0], f"{samples} sample{'' if samples == 1 else 's'}"
    if schema.recording.hop is not None and samples < length:
        raise data_error(
            origin,
            f"{count}, fewer than the window of {length}; fit with a shorter window, or "
            "leave it out",
        )
    if samples < 1:
        raise data_error(origin, "holds no samples; leave it out")
    if schema.recording.hop is None and samples > length:
        raise data_error(
            origin,
            f"{count}, and the longest series that the model was fitted on has {length}; cut it, "
            "or fit a model on series as long, or on windows",
        )


def _dtype(parts: Sequence[Source], *, padded: bool) -> str:
    """The dtype of the rows; padding needs a dtype that holds NaN."""
    dtype = np.result_type(*(part.read(np.arange(0)).dtype for part in parts))
    if padded and dtype.kind != "f":
        dtype = np.result_type(dtype, np.float32)
    return str(dtype.newbyteorder("=").name)


def _channels(count: int, names: Sequence[str] | None = None) -> str:
    named = f" ({_shortened(names)})" if names else ""
    return f"{count} channel{'' if count == 1 else 's'}{named}"


def _shortened(values: Sequence[object]) -> str:
    return ", ".join(map(str, values[:MAX_SHOWN])) + (" ..." if len(values) > MAX_SHOWN else "")


def _range_of(lengths: Sequence[int]) -> str:
    low, high = min(lengths), max(lengths)
    return str(low) if low == high else f"{low} to {high}"


def _in_memory(part: Source) -> Array | None:
    """(T, C): the samples of a recording in memory or in a memory-mapped file."""
    if isinstance(part, ArraySource):
        return part.values
    return part.read(np.arange(len(part))) if isinstance(part, FrameSource) else None
