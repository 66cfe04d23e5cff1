"""The rows a command works on, opened as the options and the model ask for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isthmus.artifact import DETECTOR, MODEL
from isthmus.cli.console import Talk
from isthmus.cli.io import recordings
from isthmus.cli.io.outputs import FILE
from isthmus.cli.options import Choosing, Reading
from isthmus.cli.settings import reading_options
from isthmus.data import (
    RecordingSource,
    Schema,
    align,
    check_rows,
    cut_like,
    is_streamed,
    open_recordings,
    open_source,
    read_blocks,
    series,
    windows,
)
from isthmus.data.arrays import ArraySource
from isthmus.data.columns import IDENTIFIER, listed
from isthmus.data.labels import DELIMITERS, column_names, read_column, read_labels
from isthmus.data.tables.streamed import TableBlocks
from isthmus.data.tables.untyped import text_columns
from isthmus.errors import RequestError, SourceError, require
from isthmus.types import Array, Source

SERIES = "series"
"""The layout of recordings each of which is a row."""


class Colored(NamedTuple):
    """Rows, and a label for each of them or None."""

    source: Source
    labels: Array | None
    name: str | None


def opened(data: str, **options: Any) -> Source:
    """`open_source`, for files that may be larger than the memory, or say that they are."""
    try:
        return open_source(data, **options)
    except MemoryError as error:
        raise SourceError(
            f"{data}: does not fit into memory; write it as .npy, which is read piece by piece"
        ) from error


def open_rows(data: str, options: Mapping[str, Any], choosing: Choosing) -> Source:
    """The rows that the options of `open_source` ask for: of a file, or cut from recordings."""
    _check_data(data)
    window, step, layout = choosing.window, choosing.step, options["layout"]
    require(step is None or window is not None, "--step: say how long a window is, with --window")
    if window is None and layout != SERIES:
        return opened(data, **options)
    require(
        window is None or layout is None,
        f"--layout {layout}: windows of recordings are signals; leave it out",
    )
    reading = {name: value for name, value in options.items() if name != "layout"}
    if window is None:
        return series(data, **reading)
    return windows(data, length=window, step=step, **reading)


def open_colored(data: str, color: str | None, reading: Reading, choosing: Choosing) -> Colored:
    """The rows to learn from, and the labels `color` names: a column of `data` or a file.

    A column of text is left out of the rows, unless --columns asks for it.
    """
    options = reading_options(reading, choosing)
    labels, column = _labels(data, color, reading)
    if column and labels is not None and labels.dtype.kind not in "biuf" and not options["columns"]:
        options["drop"] = [*options["drop"], color]
    source = open_rows(data, options, choosing)
    name = color if column or color is None else Path(color).name
    return Colored(source, _matching(labels, source, color), name)


def open_like(schema: Schema, data: str, reading: Reading, talk: Talk) -> Source:
    """The rows of `data` with the columns of `schema`, matched by name; others are left out."""
    _check_data(data)
    options = reading_options(reading)
    if schema.recording is not None:
        return _recordings_like(schema, data, options, talk)
    if schema.layout != "table" and options["layout"] is None and _is_array(data):
        options["layout"] = schema.layout
    names = column_names(data, header=reading.header)
    if schema.names is None or names is None:
        source = opened(data, **options)
        _check_size(source, schema, data)
        return align(source, schema)
    missing = [name for name in schema.names if name not in names]
    if missing:
        raise SourceError(
            f"{data}: the columns are not those the model was fitted on: expected "
            f"{listed(schema.names)}; found {listed(names)}; missing {listed(missing)}"
        )
    extra = [name for name in names if name not in (*schema.names, *schema.left_out)]
    if extra:
        talk.note(f"note: {data}: left out columns that the model does not know: {listed(extra)}")
    kept = [name for name in names if name not in extra]
    source = align(opened(data, columns=kept, roles=_names(schema, data, kept), **options), schema)
    talk.notes(f"note: {text}" for text in getattr(source, "strange", ()))
    return source


def _names(schema: Schema, data: str, kept: Sequence[str]) -> dict[str, str]:
    """The roles of columns that are names to the model: in a file of text, "01" is not "1"."""
    if Path(data).suffix.lower() not in DELIMITERS or schema.names is None:
        return {}
    roles = dict.fromkeys(text_columns(schema, schema.names), "categorical")
    return roles | dict.fromkeys((name for name in schema.left_out if name in kept), IDENTIFIER)


def _recordings_like(schema: Schema, data: str, options: Mapping[str, Any], talk: Talk) -> Source:
    given = open_recordings(data, **{**options, "layout": "table"})
    assert schema.recording is not None
    known = schema.recording.sample
    found = [name for part in given.parts for name in part.schema.names or ()]
    extra = [name for name in dict.fromkeys(found) if name not in (known.names or found)]
    if extra:
        talk.note(f"note: {data}: left out channels that the model does not know: {listed(extra)}")
    return cut_like(schema, given, drop_extra=True)


def color_like(data: str, color: str | None, source: Source, reading: Reading) -> Array | None:
    """A label for each row of `source`, which was read from `data`."""
    labels, _ = _labels(data, color, reading)
    return _matching(labels, source, color)


def in_blocks(source: Source, talk: Talk, *, allow_missing: bool) -> Iterator[Source]:
    """The rows, checked, in blocks that fit in memory, with a bar where it takes long.

    Rows on disk are checked by whoever uses a block. `gaps` tells whether the model knows what to
    do with missing values.
    """
    check_rows(source, at_least=1, allow_missing=allow_missing, later=True)
    with talk.bar(len(source)) as advance, closing(read_blocks(source)) as read:
        for block, values in read:
            first = int(block[0])
            yield ArraySource(values, source.schema, origin=source.origin, first_row=first)
            advance(len(block))


def given_in_blocks(source: Source, talk: Talk, *, allow_missing: bool) -> Iterator[Source]:
    """The same rows, as they were given: those of a table with all of its columns."""
    if not is_streamed(source):
        check_rows(source, at_least=1, allow_missing=allow_missing)
        yield source
    elif isinstance(source, TableBlocks):
        with talk.bar(len(source)) as advance, closing(source.frames()) as frames:
            for frame in frames:
                yield frame
                advance(len(frame))
    else:
        yield from in_blocks(source, talk, allow_missing=allow_missing)


def row_names(source: Source) -> tuple[str, ...] | None:
    """The file each row came from, for a folder of images."""
    names: tuple[str, ...] | None = getattr(source, "row_names", None)
    return names


def beside(source: Source) -> dict[str, Any]:
    """The columns that tell which row is which, one value a row; none where its number does."""
    names = row_names(source)
    return recordings.beside(source) if names is None else {FILE: list(names)}


def place_of(source: Source, row: int) -> str:
    """What to call a row in a message."""
    if isinstance(source, RecordingSource):
        return recordings.place_of(source, row)
    names = row_names(source)
    return f"row {row}" if names is None else names[row]


def _labels(data: str, color: str | None, reading: Reading) -> tuple[Array | None, bool]:
    """The labels, and whether they are a column of `data`."""
    if color is None:
        return None, False
    names = column_names(data, header=reading.header)
    if names is not None and color in names:
        return read_column(data, color, header=reading.header), True
    if names is not None and not _looks_like_file(color):
        raise RequestError(
            f"--color {color}: is neither a column of {data} nor a file; the columns are "
            f"{listed(names)}"
        )
    return read_labels(color), False


def _looks_like_file(text: str) -> bool:
    from isthmus.data.open import split_member

    return split_member(text)[0].is_file()


def _matching(labels: Array | None, source: Source, color: str | None) -> Array | None:
    if labels is not None and len(labels) != len(source):
        raise RequestError(
            f"--color {color}: holds {len(labels)} labels for {len(source)} rows; give one a row"
        )
    return labels


def _check_data(data: str) -> None:
    """Raise RequestError where a folder of ours is given for rows."""
    for name, what in {MODEL: "model", DETECTOR: "detector"}.items():
        require(
            not (Path(data) / name).is_file(),
            f"{data}: is a {what}, and DATA holds rows; give a file, or a folder of files",
        )


def _is_array(data: str) -> bool:
    """Whether the shape of what is in `data` leaves open what it means."""
    table = data.lower().endswith((".csv", ".tsv", ".parquet", ".pq"))
    return not (table or Path(data).is_dir())


def _check_size(source: Source, schema: Schema, data: str) -> None:
    """Offer --resize where images differ from the model's in nothing but their size."""
    found, wanted = source.schema.shape, schema.shape
    images = source.schema.container == "images" and schema.layout == "image"
    if images and found[:2] != wanted[:2] and np.array_equal(found[2:], wanted[2:]):
        height, width = wanted[:2]
        raise SourceError(
            f"{data}: the images are {found[0]}x{found[1]} (height x width), and the model was "
            f"fitted on {height}x{width}; bring them to that size with --resize {height}x{width}"
        )
