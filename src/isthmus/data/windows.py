"""Recordings become rows: windows of long ones, or whole series of different lengths."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isthmus.data.check import align_parts
from isthmus.data.formats.npz import member_names
from isthmus.data.open import open_source, split_member
from isthmus.data.recordings import (
    Recordings,
    RecordingSource,
    cut,
    opened_as,
    recordings_of,
    recut,
)
from isthmus.data.schema import Schema
from isthmus.errors import SourceError
from isthmus.types import Source

SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet", ".pq", ".safetensors")


def windows(
    recording: Any, *, length: int, step: int | None = None, **options: Any
) -> RecordingSource:
    """A source whose rows are windows (length, channels) of a recording, or of a list of them.

    A recording is an array or tensor (time,) or (time, channels), a table with time down and
    channels across, or the path of one; a folder of such files holds several, and so does an array
    (recordings, time, channels). `options` are those of `open_source`, for files. A window begins
    every `step` samples, by default half of `length`, and a last one ends where the recording ends,
    so that every sample is in a window. Nothing is copied until a row is read.

    A model fitted on windows takes recordings, and gives recordings back.

    Raises DataError (SourceError for a file) where a recording is shorter than the window, or has
    other channels than the first; RequestError for a window or a step that makes no sense.
    """
    return cut(open_recordings(recording, **options), length, step)


def series(recordings: Any, **options: Any) -> RecordingSource:
    """A source whose rows are whole series, padded with missing values to the longest one's length.

    What is padded is no part of any loss, mean or error. The series are a list of arrays (time,) or
    (time, channels), or else what `windows` takes.

    Raises DataError (SourceError for a file) where they differ in their channels.
    """
    return cut(open_recordings(recordings, **options), None, None)


def cut_like(schema: Schema, data: Any, **options: Any) -> RecordingSource:
    """Recordings cut as the `schema` of a fitted model says, their channels matched by name."""
    given = open_recordings(data, **options)
    return recut(align_parts(given, schema), schema)


def open_recordings(data: Any, **options: Any) -> Recordings:
    """Recordings from memory, a file, or a folder of files; `options` are `open_source`'s."""
    if not isinstance(data, (str, os.PathLike)):
        return recordings_of(data)
    path, member = split_member(str(os.fspath(data)))
    if path.is_dir():
        files = _files(path)
        sources = [_open(str(file), options) for file in files]
        return opened_as(sources, single=False, origin=str(path))
    members = member_names(path) if member is None and not options.get("member") else None
    if members is not None and len(members) > 1:
        sources = [_open(f"{path}:{name}", options) for name in members]
        return opened_as(sources, single=False, origin=str(path))
    return opened_as([_open(str(data), options)], single=True, origin=str(path))


def _open(text: str, options: Mapping[str, Any]) -> Source:
    path, member = split_member(text)
    source = open_source(text, **{**options, "layout": "table"})
    if member is not None and source.origin == str(path):
        source.origin = text  # type: ignore[misc]
    return source


def _files(folder: Path) -> list[Path]:
    """The recordings in a folder, in the order of their names."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    known = [path for path in files if path.name.lower().endswith(SUFFIXES)]
    if not known:
        raise SourceError(
            f"{folder}: there is no recording in this folder; give one that holds "
            f"{', '.join(SUFFIXES)} files with time down and channels across"
        )
    odd = [path.name for path in files if path not in known]
    if odd:
        raise SourceError(
            f"{folder}: holds {odd[0]}, which is no recording; move it elsewhere, or give a folder "
            f"of {', '.join(SUFFIXES)} files alone"
        )
    return known
