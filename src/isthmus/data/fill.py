"""Rows with their gaps filled in: what was known stays as it was, to the bit."""

from collections.abc import Callable
from typing import Any

import narwhals as nw
import numpy as np

from isthmus.data.frames import FrameSource
from isthmus.data.recordings import RecordingSource
from isthmus.data.restore import restore
from isthmus.data.split import blocks
from isthmus.data.streams.tables import TableBlocks
from isthmus.types import Array, Source


def fill(source: Source, values: Array | None) -> Any:
    """The rows as what they came in, with (n, *shape) `values` where one is missing.

    A table keeps its columns, those that were left out included; None leaves all as it is.
    """
    if isinstance(source, RecordingSource):
        joined = [None] * len(source.parts) if values is None else source.joined(values)
        filled = [fill(part, rows) for part, rows in zip(source.parts, joined, strict=True)]
        return source.handed_back(filled)
    if isinstance(source, FrameSource):
        return source.table.to_native() if values is None else _fill_frame(source, values)
    found = source.read(np.arange(len(source)))
    if values is not None and found.dtype.kind == "f":
        found = np.where(np.isnan(found), values, found)
    return restore(found, source.schema)


def fill_each(source: Source, fill_one: Callable[[FrameSource], Any]) -> Any:
    """One pyarrow table of what `fill_one` makes of each piece of a table that stays on disk."""
    import pyarrow as pa

    assert isinstance(source, TableBlocks)
    return pa.concat_tables([fill_one(frame) for frame in source.frames()])


def count_gaps(source: Source) -> int:
    """How many values are missing."""
    if isinstance(source, RecordingSource):  # windows share values, and padding is no loss
        return sum(count_gaps(part) for part in source.parts)
    if isinstance(source, FrameSource):
        return sum(int(source.gaps(at).sum()) for at in range(len(source.series)))
    return sum(int(np.isnan(source.read(block)).sum()) for block in blocks(source))


def _fill_frame(source: FrameSource, values: Array) -> Any:
    made = nw.from_native(restore(values, source.schema), eager_only=True)
    table = source.table
    if table.implementation.is_pandas():
        return _fill_pandas(source, table.to_native().copy(), made.to_native())
    for at, (series, fresh) in enumerate(zip(source.series, made.iter_columns(), strict=True)):
        gaps = source.gaps(at)
        if gaps.any():
            known = nw.new_series("known", ~gaps, backend=series.implementation)
            table = table.with_columns(series.zip_with(known, fresh.alias(series.name)))
    return table.to_native()


def _fill_pandas(source: FrameSource, frame: Any, made: Any) -> Any:
    """The same; pandas' labels need not be text, and its rows have labels too."""
    places = {str(label): at for at, label in enumerate(frame.columns)}
    for at, series in enumerate(source.series):
        gaps = source.gaps(at)
        if gaps.any():
            native, fresh = series.to_native(), made.iloc[:, at]
            fresh.index = native.index
            frame.isetitem(places[str(series.name)], native.where(~gaps, fresh))
    return frame
