"""Recordings on the command line: columns that identify their windows, and recordings of codes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isthmus.cli.console import Console
from isthmus.cli.io.outputs import holds_text
from isthmus.data.labels import read_column, read_names
from isthmus.data.recording_files import names_of
from isthmus.data.schema import Schema
from isthmus.data.signals.overlap_add import extents
from isthmus.data.signals.recordings import RecordingSource
from isthmus.data.source import Source
from isthmus.errors import SourceError
from isthmus.types import Array

RECORDING, START, LENGTH, TIMESTEP = "recording", "start", "length", "timestep"
"""The columns next to codes and errors: the name of the recording, the first sample of a window,
the length of a series, the number of a sample."""

ID_COLUMNS = (RECORDING, START, LENGTH)


class CodedRecordings(NamedTuple):
    """The recordings that the codes in a file belong to."""

    lengths: int | list[int] | None
    """Their lengths; one integer for a single recording; None if the file does not say."""

    names: list[str]


class RecordingSize(NamedTuple):
    """The number of recordings, their samples in all, and their channels."""

    recordings: int
    samples: int
    channels: int

    def __str__(self) -> str:
        """As in "2 recordings of 300 samples of 3 channels in all"."""
        return (
            f"{_counted(self.recordings, 'recording')} of {_counted(self.samples, 'sample')} "
            f"of {_counted(self.channels, 'channel')}" + " in all" * (self.recordings > 1)
        )


def recording_size(recordings: Array | list[Array], channels: int) -> RecordingSize:
    """The size of one recording, or of a list of them."""
    several = recordings if isinstance(recordings, list) else [recordings]
    return RecordingSize(len(several), sum(map(len, several)), channels)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def id_columns(source: Source) -> dict[str, Sequence[object] | Array]:
    """The columns that identify rows of recordings, one value per row; none for other rows."""
    if not isinstance(source, RecordingSource):
        return {}
    recording, start, stop = source.extents.T
    several = not source.given.single
    names = np.asarray(names_of(source.given), object)
    columns: dict[str, Sequence[object] | Array] = (
        {RECORDING: names[recording].tolist()} if several else {}
    )
    return columns | ({START: start} if _is_windowed(source.schema) else {LENGTH: stop - start})


def timestep_columns(source: Source) -> dict[str, Sequence[object] | Array]:
    """The columns that identify timesteps of recordings, one value per timestep."""
    if not isinstance(source, RecordingSource):
        return {}
    names, lengths = names_of(source.given), source.lengths
    timesteps = np.concatenate([np.arange(length) for length in lengths])
    if source.given.single:
        return {TIMESTEP: timesteps}
    return {RECORDING: np.repeat(np.asarray(names, object), lengths).tolist(), TIMESTEP: timesteps}


def row_label(source: RecordingSource, row: int) -> str:
    """The name of a row in a message: its recording, and the samples of a window."""
    recording, start, stop = source.extents[row]
    name = names_of(source.given)[recording] if not source.given.single else source.origin
    return f"samples {start} to {stop - 1} of {name}" if _is_windowed(source.schema) else f"{name}"


def note_lost_columns(target: Path, source: Source, console: Console) -> None:
    """Print a note if `target` cannot hold `id_columns`, with what decode will assume."""
    if isinstance(source, RecordingSource) and not holds_text(target):
        console.note(
            f"note: {target.suffix} cannot hold {' and '.join(id_columns(source))}, so "
            f"decode will assume {_assumed_recordings(len(source), source.schema)}; .csv and "
            ".parquet can"
        )


def coded_recordings(
    path: str, columns: Sequence[str], rows: int, schema: Schema
) -> CodedRecordings:
    """The recordings of the `rows` codes in a file, read from its other `columns`.

    Raises SourceError if they are not as encode writes them.
    """
    column = START if _is_windowed(schema) else LENGTH
    if column not in columns:
        return CodedRecordings(None, [str(row) for row in range(rows)])
    values = _read_counts(path, column)
    names = ["0"] * rows if column == START else [str(row) for row in range(rows)]
    several = RECORDING in columns
    if several:
        names = read_names(path, RECORDING)
    starts = [0, *(row for row in range(1, rows) if names[row] != names[row - 1])]
    if column == LENGTH:
        lengths = values.tolist()
    else:
        lengths = [int(values[stop - 1]) + schema.shape[0] for stop in [*starts[1:], rows] if rows]
        _check_starts(path, values, lengths, schema)
    single = not several and len(lengths) == 1
    if column == START:
        names = [names[row] for row in starts]
    return CodedRecordings(lengths[0] if single else lengths, names)


def _check_starts(path: str, starts: Array, lengths: list[int], schema: Schema) -> None:
    """Raise SourceError unless the windows start where encode cut them."""
    assert schema.recording is not None
    # These rows cover at most so many samples; a larger length would only exhaust the memory.
    longest = schema.shape[0] + len(starts) * (schema.recording.hop or 1)
    lengths = [min(length, longest) for length in lengths]
    expected = np.arange(0)
    if all(length >= schema.shape[0] for length in lengths):
        expected = extents(lengths, schema.shape[0], schema.recording.hop)[:, 1]
    n_compared = min(len(starts), len(expected))
    different = np.flatnonzero(starts[:n_compared] != expected[:n_compared])
    if len(different) or len(starts) != len(expected):
        row = int(different[0]) if len(different) else n_compared
        state = f"starts at {starts[row]}" if row < len(starts) else "is missing"
        raise SourceError(
            f"{path}: the windows are not in the order in which encode wrote them: the window of "
            f"row {row}, counting from 0, {state}"
            + (f", but {expected[row]} was expected" if row < len(expected) else "")
            + "; give all rows, in their order"
        )


def _read_counts(path: str, name: str) -> Array:
    values = read_column(path, name)
    if values.dtype.kind not in "iu" or (values < 0).any():
        raise SourceError(
            f"{path}: column {name!r} must hold whole numbers from 0 on, but holds {values.dtype} "
            "values or negative ones; give a file that encode wrote"
        )
    return values


def note_assumed_lengths(
    coded: CodedRecordings, rows: int, schema: Schema, console: Console
) -> None:
    """Print a note on the recordings that are assumed if the file does not describe them."""
    if schema.recording is not None and coded.lengths is None:
        console.note(
            f"note: {START if _is_windowed(schema) else LENGTH} is not in the file; assuming "
            f"{_assumed_recordings(rows, schema)}"
        )


def _assumed_recordings(rows: int, schema: Schema) -> str:
    assert schema.recording is not None
    length, hop = schema.shape[0], schema.recording.hop
    if hop is None:
        return f"series of {length} samples"
    return f"one recording of {(rows - 1) * hop + length} samples"


def _is_windowed(schema: Schema) -> bool:
    return schema.recording is not None and schema.recording.hop is not None
