"""Recordings become rows: windows of long ones, or whole series of different lengths."""

from typing import Any

from isthmus.data.recording_files import open_recordings
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import RecordingSource, cut, recut
from isthmus.data.validate import align_parts


def windows(
    recording: Any, *, length: int, step: int | None = None, **options: Any
) -> RecordingSource:
    """A source whose rows are windows (length, channels) of a recording, or of a list of them.

    A recording is an array or tensor (time,) or (time, channels), a table with time down and
    channels across, or the path of one; a folder of such files holds several, and so do a .npz of
    several arrays and an array (recordings, time, channels). `options` are those of `open_source`,
    for files. A window begins every `step` samples, by default half of `length`, and a last one
    ends where the recording ends, so that every sample is in a window. Nothing is copied until a
    row is read.

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


def cut_like(
    schema: Schema, data: Any, *, drop_extra: bool = False, **options: Any
) -> RecordingSource:
    """Recordings cut as the `schema` of a fitted model says, their channels matched by name."""
    given = open_recordings(data, **options)
    return recut(align_parts(given, schema, drop_extra=drop_extra), schema)
