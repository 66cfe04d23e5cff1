"""Turn recordings into rows: windows of long ones, or whole series of different lengths."""

from typing import Any

from isthmus.data.recording_files import open_recordings
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import RecordingSource, cut_recordings, cut_to_schema
from isthmus.data.validate import align_parts


def windows(
    recording: object, *, length: int, hop: int | None = None, **options: Any
) -> RecordingSource:
    """A source whose rows are the windows (length, channels) of one or several recordings.

    A model fitted on windows takes recordings and returns recordings. Nothing is copied until a row
    is read.

    Parameters:
        recording: An array or tensor (time,) or (time, channels), or a table with time down and
            channels across, or the path of such a file. A list, an array (recordings, time,
            channels), a folder of files and a .npz of several arrays hold several recordings.
        length: Samples in a window, at least 2.
        hop: Samples from the beginning of one window to that of the next, from 1 to `length`; by
            default half of `length`. A last window ends where the recording ends, so that every
            sample is in a window.
        options: Options of `open_source` for files.

    Raises:
        DataError: A recording is shorter than the window, or has other channels than the first; a
            SourceError for a file.
        RequestError: The length or the hop is invalid.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import windows
        >>> rows = windows(np.zeros((1000, 2)), length=64)
        >>> len(rows), rows.schema.shape
        (31, (64, 2))
    """
    return cut_recordings(open_recordings(recording, **options), length, hop)


def series(recordings: object, **options: Any) -> RecordingSource:
    """A source whose rows are whole series, padded with missing values to the longest one.

    Padding is not part of any loss, mean or error.

    Parameters:
        recordings: A list of arrays (time,) or (time, channels), or anything `windows` takes.
        options: Options of `open_source` for files.

    Raises:
        DataError: The series differ in their channels; a SourceError for a file.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import series
        >>> rows = series([np.zeros(5), np.zeros(8)])
        >>> rows.schema.shape, rows.lengths
        ((8,), [5, 8])
    """
    return cut_recordings(open_recordings(recordings, **options), None, None)


def cut_like(
    schema: Schema, data: object, *, drop_extra: bool = False, **options: Any
) -> RecordingSource:
    """Recordings cut to the rows of a fitted model's `schema`, with channels matched by name."""
    given = open_recordings(data, **options)
    return cut_to_schema(align_parts(given, schema, drop_extra=drop_extra), schema)
