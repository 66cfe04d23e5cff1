"""Rows cut from recordings: windows of them, or whole series padded to one length.

A recording has time down and channels across, as a table of samples has. Nothing is copied until
a row is read.
"""

# Shape letters: n rows, L samples in a row, T samples in a recording, C channels.

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch

from isthmus.data.arrays import IN_MEMORY, ArraySource, array_source, fault, tensor_source, unmasked
from isthmus.data.schema import Recording, Schema
from isthmus.data.signals.overlap_add import extents, join
from isthmus.data.tables.frames import FrameSource, frame_source
from isthmus.data.tables.restore import restore
from isthmus.errors import DataError, RequestError
from isthmus.types import Array, Index, Source

SMALLEST_WINDOW = 2
SHOWN = 5


class Recordings(NamedTuple):
    """Recordings as they were given."""

    parts: tuple[Source, ...]
    """Each a source of its samples (C,)."""

    flat: tuple[bool, ...]
    """Whether each was given without an axis of channels."""

    single: bool
    """Whether one was given by itself, not in a list."""

    origin: str = IN_MEMORY


class RecordingSource:
    """Rows that are stretches of recordings, read from wherever those are."""

    def __init__(self, given: Recordings, schema: Schema) -> None:
        assert schema.recording is not None
        check_lengths(given, schema)
        self.given, self.schema = given, schema
        self.parts = given.parts
        self.origin = given.parts[0].origin if given.single else given.origin
        self.extents = extents(self.lengths, schema.shape[0], schema.recording.step)
        """(n, 3): the recording of each row, and the samples where it begins and ends."""

        self._values = [_in_memory(part) for part in self.parts]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.extents)

    @property
    def lengths(self) -> list[int]:
        """How many samples each recording has."""
        return [len(part) for part in self.parts]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing of how the recordings were understood."""
        texts = dict.fromkeys(text for part in self.parts for text in getattr(part, "remarks", ()))
        assert self.schema.recording is not None
        if self.schema.recording.step is None:
            return (f"series of {_spread(self.lengths)} samples", *texts)
        return tuple(texts)

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), *schema.shape); NaN behind the end of a shorter series."""
        chosen = self.extents[rows].tolist()
        length, channels = self.schema.shape[0], self.parts[0].schema.n_features
        read = np.empty((len(chosen), length, channels), self.schema.dtypes[0])
        for place, (recording, start, stop) in enumerate(chosen):
            values = self._values[recording]
            read[place, : stop - start] = (
                self.parts[recording].read(np.arange(start, stop))
                if values is None
                else values[start:stop]
            )
            if stop - start < length:
                read[place, stop - start :] = np.nan
        return read.reshape(len(chosen), *self.schema.shape)

    def joined(self, rows: Array) -> list[Array]:
        """The recordings (T, C) that all rows (n, *schema.shape) of this source make together."""
        return join(rows, self.extents)

    def restored(self, rows: Array) -> Any:
        """What `joined` gives, each as what the recording came in."""
        made = zip(self.joined(rows), self.parts, strict=True)
        return self.handed_back([restore(values, part.schema) for values, part in made])

    def handed_back(self, recordings: Sequence[Any]) -> Any:
        """Recordings with an axis of channels, in the form in which these were given."""
        each = zip(recordings, self.given.flat, strict=True)
        back = [one[:, 0] if flat else one for one, flat in each]
        return back[0] if self.given.single else back


def cut(given: Recordings, length: int | None, step: int | None) -> RecordingSource:
    """Windows of `length` samples of recordings, or where it is None whole series, padded.

    Raises DataError (SourceError for a file) where recordings differ in their channels, or where
    one is shorter than the window, RequestError for a window that makes no sense.
    """
    if length is not None:
        check_window(length, step)
        step = max(length // 2, 1) if step is None else int(step)
    _check_alike(given.parts)
    longest = max(len(part) for part in given.parts)
    rows, flat = int(length or longest), all(given.flat)
    sample = given.parts[0].schema
    schema = Schema(
        layout="signal",
        shape=(rows,) if flat else (rows, *sample.shape),
        dtypes=(_dtype(given.parts, padded=length is None),),
        recording=Recording(sample=sample, flat=flat, step=step),
    )
    return RecordingSource(given, schema)


def recut(given: Recordings, schema: Schema) -> RecordingSource:
    """Recordings cut as the `schema` of a fitted model says.

    Raises DataError (SourceError for a file) where one has other channels, or is too long or short.
    """
    assert schema.recording is not None
    wanted = schema.recording.sample.n_features
    for part in given.parts:
        _check_numbers(part)
        found = part.schema.n_features
        if found != wanted:
            raise fault(
                part.origin,
                f"has {_channels(found)}, and the model was fitted on recordings of "
                f"{_channels(wanted)}; give recordings like those, time down and channels across",
            )
    dtype = _dtype(given.parts, padded=schema.recording.step is None)
    return RecordingSource(given, replace(schema, dtypes=(dtype,)))


def rejoin(rows: Array, schema: Schema, lengths: Any = None) -> Any:
    """Recordings from rows (n, *schema.shape) that a model rebuilt from codes alone.

    `lengths` is the length of the one recording they are of, or a list of the lengths of several.
    Without it, windows are taken to be of one recording and all one step apart, and series to be
    as long as the longest.

    Raises DataError where the rows are not as many as recordings of these lengths have,
    RequestError for lengths that are no whole numbers.
    """
    recording, full = schema.recording, schema.shape[0]
    assert recording is not None
    if lengths is None:
        single = recording.step is not None
        last = (len(rows) - 1) * (recording.step or 0)
        wanted = [last + full] if single else [full] * len(rows)
    else:
        wanted, single = _lengths(lengths)
    if not len(rows):
        empty = restore(np.empty((0, *recording.sample.shape)), recording.sample)
        return (empty[:, 0] if recording.flat else empty) if single else []
    for place, samples in enumerate(wanted):
        _check_length(samples, schema, f"lengths[{place}]")
    where = extents(wanted, full, recording.step)
    if len(where) != len(rows):
        raise DataError(
            f"{len(rows)} codes do not make recordings of {_some(wanted)} samples, which have "
            f"{len(where)}; give the codes of all rows, and the lengths of what they were made of"
        )
    made = [restore(values, recording.sample) for values in join(rows, where)]
    made = [one[:, 0] for one in made] if recording.flat else made
    return made[0] if single else made


def _lengths(given: Any) -> tuple[list[int], bool]:
    """Lengths as they were given, and whether it is one by itself.

    Raises RequestError where they are no whole numbers.
    """
    several = hasattr(given, "__iter__") and getattr(given, "ndim", 1) > 0
    each = list(given) if several and not isinstance(given, str) else [given]
    numbers = [one.item() if getattr(one, "ndim", None) == 0 else one for one in each]
    for one in numbers:
        if isinstance(one, bool) or not (isinstance(one, Real) and float(one).is_integer()):
            raise RequestError(
                f"lengths={given!r}: {one!r} is no number of samples; give a whole number, or a "
                "list of them for several recordings"
            )
    if not numbers:
        raise RequestError(f"lengths={given!r} holds none; give one for each recording")
    return [int(one) for one in numbers], not several


def is_series(data: Any) -> bool:
    """Whether `data` is a list of arrays, tensors or tables that are not all equally long."""
    if not isinstance(data, (list, tuple)):
        return False
    shapes: list[tuple[int, ...]] = [getattr(one, "shape", ()) for one in data]
    return all(len(shape) in (1, 2) for shape in shapes) and len({s[0] for s in shapes}) > 1


def recordings_of(data: Any) -> Recordings:
    """What was given in memory: one recording, a list of them, or (n, time, channels)."""
    if isinstance(data, Recordings):
        return data
    if isinstance(data, RecordingSource):
        return data.given
    several = isinstance(data, (list, tuple)) and not any(map(_is_number, data))
    if not several and getattr(data, "ndim", 0) == 3:
        data, several = list(data), True
    if not several:
        part, flat = _samples(data, IN_MEMORY)
        return Recordings((part,), (flat,), single=True)
    if isinstance(data, (list, tuple)) and not data:
        raise DataError(f"{IN_MEMORY}: the list holds no recording; give at least one")
    found = [_samples(one, f"{IN_MEMORY}[{place}]") for place, one in enumerate(data)]
    parts, flats = (tuple(each) for each in zip(*found, strict=True))
    return Recordings(parts, flats, single=False)


def opened_as(sources: Sequence[Source], *, single: bool, origin: str) -> Recordings:
    """Recordings whose samples are the rows of open sources."""
    flat = tuple(bool(getattr(source, "flat", False)) for source in sources)
    return Recordings(tuple(sources), flat, single=single, origin=origin)


def _samples(given: Any, origin: str) -> tuple[Source, bool]:
    """A source of the samples of one recording, and whether it has no axis of channels."""
    if hasattr(given, "schema") and hasattr(given, "read"):
        return given, bool(getattr(given, "flat", False))
    if hasattr(given, "columns"):
        return frame_source(given, origin=origin), False
    if isinstance(given, np.ma.MaskedArray):
        given = unmasked(given)
    elif not isinstance(given, torch.Tensor):
        given = _array_of(given, origin)
    if given.ndim not in (1, 2):
        raise fault(
            origin,
            f"an array of shape {tuple(given.shape)} is no recording; give (time,) or "
            "(time, channels)",
        )
    flat = given.ndim == 1
    opened = tensor_source if isinstance(given, torch.Tensor) else array_source
    return opened(given.reshape(-1, 1) if flat else given, layout="table", origin=origin), flat


def _is_number(given: Any) -> bool:
    """Whether this is a sample of one channel, by itself or as an array without an axis."""
    return np.isscalar(given) or getattr(given, "ndim", None) == 0


def _array_of(given: Any, origin: str) -> Array:
    try:
        return np.asarray(given)
    except ValueError as error:
        raise fault(
            origin,
            f"the samples differ in their number of channels ({error}); give as many for each",
        ) from error


def _check_alike(parts: Sequence[Source]) -> None:
    """Raise DataError (SourceError for a file) unless all are recordings of the same channels."""
    first = parts[0]
    for part in parts:
        schema = part.schema
        if schema.layout != "table":
            raise fault(part.origin, f"holds rows of kind {schema.layout!r}, and is no recording")
        if not len(part) or not schema.n_features:
            raise fault(part.origin, "holds no samples; leave it out")
        _check_numbers(part)
        if (schema.shape, schema.names) != (first.schema.shape, first.schema.names):
            raise fault(
                part.origin,
                f"has {_channels(schema.n_features, schema.names)}, and {first.origin} has "
                f"{_channels(first.schema.n_features, first.schema.names)}; give recordings of the "
                "same channels, in the same order",
            )


def _check_numbers(part: Source) -> None:
    roles = [column.role for column in part.schema.columns or ()]
    odd = [at for at, role in enumerate(roles) if role not in ("numeric", "boolean")]
    if odd:
        name = part.schema.feature_names()[odd[0]]
        raise fault(
            part.origin,
            f"column {name!r} is {roles[odd[0]]}, and the channels of a recording are numbers; "
            f"leave it out with drop=[{name!r}] (command line: --drop {name})",
        )


def check_window(length: Any, step: Any) -> None:
    """Raise RequestError unless windows of `length` samples, a `step` apart, make sense."""
    if not _whole(length) or length < SMALLEST_WINDOW:
        raise RequestError(
            f"a window of {length!r} samples: give a whole number from {SMALLEST_WINDOW} on"
        )
    if step is not None and not (_whole(step) and 1 <= step <= length):
        raise RequestError(
            f"windows of {length} samples that begin every {step!r}: give a step from 1 to "
            f"{length}, so that every sample is in a window"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_lengths(given: Recordings, schema: Schema) -> None:
    """Raise DataError (SourceError for a file) where a recording is too short or too long."""
    for part in given.parts:
        _check_length(len(part), schema, part.origin)


def _check_length(samples: int, schema: Schema, origin: str) -> None:
    assert schema.recording is not None
    length, counted = schema.shape[0], f"{samples} sample{'' if samples == 1 else 's'}"
    if schema.recording.step is not None and samples < length:
        raise fault(
            origin,
            f"{counted}, fewer than the window of {length}; take a shorter window (command line: "
            "fit --window), or leave it out",
        )
    if samples < 1:
        raise fault(origin, "holds no samples; leave it out")
    if schema.recording.step is None and samples > length:
        raise fault(
            origin,
            f"{counted}, and the longest series that the model was fitted on has {length}; cut it, "
            "or fit a model on series as long, or on windows",
        )


def _dtype(parts: Sequence[Source], *, padded: bool) -> str:
    """What all samples are read as; padding needs a dtype that knows NaN."""
    dtype = np.result_type(*(part.read(np.arange(0)).dtype for part in parts))
    if padded and dtype.kind != "f":
        dtype = np.result_type(dtype, np.float32)
    return str(dtype.newbyteorder("=").name)


def _channels(count: int, names: Sequence[str] | None = None) -> str:
    named = f" ({_some(names)})" if names else ""
    return f"{count} channel{'' if count == 1 else 's'}{named}"


def _some(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values[:SHOWN])) + (" ..." if len(values) > SHOWN else "")


def _spread(lengths: Sequence[int]) -> str:
    low, high = min(lengths), max(lengths)
    return str(low) if low == high else f"{low} to {high}"


def _in_memory(part: Source) -> Array | None:
    """(T, C): the samples of a recording that lies in memory, or is mapped there."""
    if isinstance(part, ArraySource):
        return part.values
    return part.read(np.arange(len(part))) if isinstance(part, FrameSource) else None
