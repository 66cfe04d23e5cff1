"""Recordings on the command line: what stands beside their codes, and files made of them again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.cli.console import Talk
from isthmus.cli.io.outputs import TEXT_HAS_A_PLACE
from isthmus.data import RecordingSource, Schema
from isthmus.data.labels import read_column, read_names
from isthmus.data.recording_files import names_of
from isthmus.data.signals.overlap_add import extents
from isthmus.errors import SourceError
from isthmus.types import Array, Source

RECORDING, START, LENGTH, SAMPLE = "recording", "start", "length", "sample"
"""The columns beside codes and errors: whose they are, where a window begins, how long a series is,
which sample it is."""

BESIDE = (RECORDING, START, LENGTH)


class Made(NamedTuple):
    """What recordings the codes of a file are of."""

    lengths: Any
    """Their lengths, one number for one by itself, None where the file does not tell."""

    names: list[str]


class Written(NamedTuple):
    """How much recordings hold."""

    recordings: int
    samples: int
    channels: int

    def __str__(self) -> str:
        """In words."""
        return (
            f"{_counted(self.recordings, 'recording')} of {_counted(self.samples, 'sample')} "
            f"of {_counted(self.channels, 'channel')}" + " in all" * (self.recordings > 1)
        )


def written_of(recordings: Any, channels: int) -> Written:
    """What was written: one recording, or a list of them."""
    several = recordings if isinstance(recordings, list) else [recordings]
    return Written(len(several), sum(map(len, several)), channels)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def beside(source: Source) -> dict[str, Any]:
    """The columns that tell rows of recordings apart, one value a row; none for other rows."""
    if not isinstance(source, RecordingSource):
        return {}
    recording, start, stop = source.extents.T
    several = not source.given.single
    names = np.asarray(names_of(source.given), object)
    columns: dict[str, Any] = {RECORDING: names[recording].tolist()} if several else {}
    return columns | ({START: start} if _cut(source.schema) else {LENGTH: stop - start})


def samples_beside(source: Source) -> dict[str, Any]:
    """The columns that tell samples of recordings apart, one value a sample."""
    if not isinstance(source, RecordingSource):
        return {}
    names, lengths = names_of(source.given), source.lengths
    told = {SAMPLE: np.concatenate([np.arange(length) for length in lengths])}
    if source.given.single:
        return told
    return {RECORDING: np.repeat(np.asarray(names, object), lengths).tolist(), **told}


def place_of(source: RecordingSource, row: int) -> str:
    """What to call a row: its recording, and where in it the row lies."""
    recording, start, stop = source.extents[row]
    name = names_of(source.given)[recording] if not source.given.single else source.origin
    return f"samples {start} to {stop - 1} of {name}" if _cut(source.schema) else f"{name}"


def check_place(target: Path, source: Source, talk: Talk) -> None:
    """Say what decode will take the codes for where `target` has no place for `beside`."""
    if isinstance(source, RecordingSource) and target.suffix.lower() not in TEXT_HAS_A_PLACE:
        talk.note(
            f"note: {target.suffix} has no place for {' and '.join(beside(source))} beside the "
            f"codes, so decode will take them for {_taken_for(len(source), source.schema)}; "
            ".csv and .parquet have"
        )


def made_of(path: str, found: Sequence[str], rows: int, schema: Schema) -> Made:
    """What the columns beside the `rows` codes in a file tell, of which `found` are there.

    Raises SourceError where they are not what encode wrote.
    """
    wanted = START if _cut(schema) else LENGTH
    if wanted not in found:
        return Made(None, [str(place) for place in range(rows)])
    values = _whole_numbers(path, wanted)
    names = ["0"] * rows if wanted == START else [str(place) for place in range(rows)]
    several = RECORDING in found
    if several:
        names = read_names(path, RECORDING)
    begins = [0, *(at for at in range(1, rows) if names[at] != names[at - 1])]
    if wanted == LENGTH:
        lengths = values.tolist()
    else:
        lengths = [int(values[stop - 1]) + schema.shape[0] for stop in [*begins[1:], rows] if rows]
        _check_starts(path, values, lengths, schema)
    single = not several and len(lengths) == 1
    kept = [names[at] for at in begins] if wanted == START else names
    return Made(lengths[0] if single else lengths, kept)


def _check_starts(path: str, starts: Array, lengths: list[int], schema: Schema) -> None:
    """Raise SourceError unless windows begin where encode found them."""
    assert schema.recording is not None
    # So many rows cover no more than this; windows up to anything larger would fill the memory.
    most = schema.shape[0] + len(starts) * (schema.recording.step or 1)
    lengths = [min(length, most) for length in lengths]
    fitting = [length >= schema.shape[0] for length in lengths]
    expected = (
        extents(lengths, schema.shape[0], schema.recording.step)[:, 1]
        if all(fitting)
        else np.arange(0)
    )
    same = min(len(starts), len(expected))
    odd = np.flatnonzero(starts[:same] != expected[:same])
    if len(odd) or len(starts) != len(expected):
        row = int(odd[0]) if len(odd) else same
        at = f"begins at {starts[row]}" if row < len(starts) else "is missing"
        raise SourceError(
            f"{path}: the windows do not follow one another as encode wrote them: that of row "
            f"{row}, counting from 0, {at}"
            + (f", and {expected[row]} was expected" if row < len(expected) else "")
            + "; give all rows, in their order"
        )


def _whole_numbers(path: str, name: str) -> Array:
    values = read_column(path, name)
    if values.dtype.kind not in "iu" or (values < 0).any():
        raise SourceError(
            f"{path}: column {name!r} holds {values.dtype} values, or some below 0; give a file "
            "that encode wrote"
        )
    return values


def tell_guess(made: Made, rows: int, schema: Schema, talk: Talk) -> None:
    """Say what codes are taken for where nothing beside them tells."""
    if schema.recording is not None and made.lengths is None:
        talk.note(f"note: the codes are taken for {_taken_for(rows, schema)}")


def _taken_for(rows: int, schema: Schema) -> str:
    assert schema.recording is not None
    length, step = schema.shape[0], schema.recording.step
    if step is None:
        return f"series of {length} samples"
    return f"one recording of {(rows - 1) * step + length} samples"


def _cut(schema: Schema) -> bool:
    return schema.recording is not None and schema.recording.step is not None
