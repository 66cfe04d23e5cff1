"""Open the rows a command works on, as the options and the model require."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from isthmus.artifact import DETECTOR, MODEL
from isthmus.cli.console import Console
from isthmus.cli.io import recordings
from isthmus.cli.io.outputs import FILE_COLUMN
from isthmus.cli.options import ColumnOptions, ReadingOptions
from isthmus.cli.settings import OpenArguments, open_arguments
from isthmus.data.arrays import ArraySource
from isthmus.data.columns import listed
from isthmus.data.formats import format_of
from isthmus.data.labels import column_names, read_column, read_labels
from isthmus.data.open import open_source
from isthmus.data.recording_files import open_recordings
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import RecordingSource
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import read_blocks
from isthmus.data.tables.streamed import StreamedTable
from isthmus.data.validate import align, check_rows
from isthmus.data.windows import cut_like, series, windows
from isthmus.errors import RequestError, SourceError, require
from isthmus.types import Array

SERIES = "series"
"""The --layout of recordings that are one row each."""


class LabelledRows(NamedTuple):
    """Rows, their labels or None, and the name of the labels."""

    source: Source
    labels: Array | None
    name: str | None


def open_input(
    data: str, arguments: OpenArguments | None = None, schema: Schema | None = None
) -> Source:
    """As `open_source`, with a SourceError for a file that does not fit into memory."""
    try:
        return open_source(data, schema=schema, **(arguments or {}))
    except MemoryError as error:
        raise SourceError(
            f"{data}: does not fit into memory; convert it to .npy or "
            ".parquet, which are read in blocks"
        ) from error


def open_training_rows(
    data: str,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    *,
    drop: Sequence[str] = (),
) -> Source:
    """The rows to fit to: those of a file without the columns `drop`, or cut from recordings."""
    _refuse_model_folder(data)
    arguments = open_arguments(reading, column_options)
    arguments["drop"] = [*arguments["drop"], *drop]
    window, hop, layout = column_options.window, column_options.hop, reading.layout
    require(hop is None or window is not None, "--hop: also give the window length with --window")
    if window is None and layout != SERIES:
        return open_input(data, arguments)
    require(
        window is None or layout is None,
        f"--layout {layout}: windows of recordings are always signals; leave it out",
    )
    del arguments["layout"]
    if window is None:
        return series(data, **arguments)
    return windows(data, length=window, hop=hop, **arguments)


def open_labelled(
    data: str, color: str | None, reading: ReadingOptions, column_options: ColumnOptions
) -> LabelledRows:
    """The rows to fit to, and the labels that `color` names: a column of `data` or a file.

    A text column of labels is left out of the rows, unless --columns lists it.
    """
    if color is None:
        return LabelledRows(open_training_rows(data, reading, column_options), None, None)
    labels, is_column = _read_labels(data, color, reading)
    is_text = labels.dtype.kind not in "biuf"
    drop = [color] if is_column and is_text and not column_options.columns else []
    source = open_training_rows(data, reading, column_options, drop=drop)
    _check_label_count(labels, source, color)
    return LabelledRows(source, labels, color if is_column else Path(color).name)


def open_with_schema(
    schema: Schema, data: str, reading: ReadingOptions, console: Console
) -> Source:
    """The rows of `data` with the columns of `schema`, matched by name; others are left out."""
    _refuse_model_folder(data)
    arguments = open_arguments(reading)
    if schema.recording is not None:
        return _recordings_with_schema(schema, data, arguments, console)
    if schema.layout != "table" and reading.layout is None and _is_ambiguous_array(data):
        arguments["layout"] = schema.layout
    source = open_input(data, arguments, schema)
    if schema.names is None or source.schema.names is None:
        _check_size(source, schema, data)
        return align(source, schema)
    names = source.schema.given or source.schema.names
    columns = {*schema.names, *schema.left_out}
    extra = source.extra_columns or [name for name in names if name not in columns]
    if extra:
        console.note(
            f"note: {data}: ignored columns that the model was not fitted on: {listed(extra)}"
        )
    source = align(source, schema, drop_extra=True)
    console.notes(f"note: {text}" for text in source.unknown_values)
    return source


def _recordings_with_schema(
    schema: Schema, data: str, arguments: OpenArguments, console: Console
) -> Source:
    recordings = open_recordings(data, **{**arguments, "layout": "table"})
    assert schema.recording is not None
    channels = schema.recording.sample.names
    names = [name for part in recordings.parts for name in part.schema.names or ()]
    extra = [name for name in dict.fromkeys(names) if channels and name not in channels]
    if extra:
        console.note(
            f"note: {data}: ignored channels that the model was not fitted on: {listed(extra)}"
        )
    return cut_like(schema, recordings, drop_extra=True)


def labels_for(
    data: str, color: str | None, source: Source, reading: ReadingOptions
) -> Array | None:
    """A label for each row of `source`, which was read from `data`."""
    if color is None:
        return None
    labels, _ = _read_labels(data, color, reading)
    _check_label_count(labels, source, color)
    return labels


def checked_blocks(source: Source, console: Console, *, allow_missing: bool) -> Iterator[Source]:
    """The rows, checked, in blocks that fit in memory; a progress bar shows long runs.

    Rows on disk are checked when a block is used. `allow_missing`: the model supports missing
    values.
    """
    check_rows(source, at_least=1, allow_missing=allow_missing, defer_streamed=True)
    with console.progress_bar(len(source)) as advance, closing(read_blocks(source)) as read:
        for block, values in read:
            first = int(block[0])
            yield ArraySource(values, source.schema, origin=source.origin, first_row=first)
            advance(len(block))


def original_blocks(source: Source, console: Console, *, allow_missing: bool) -> Iterator[Source]:
    """The same rows in their original form: tables keep the columns that the model ignores."""
    if not source.is_streamed:
        check_rows(source, at_least=1, allow_missing=allow_missing)
        yield source
    elif isinstance(source, StreamedTable):
        with console.progress_bar(len(source)) as advance, closing(source.frames()) as frames:
            for frame in frames:
                yield frame
                advance(len(frame))
    else:
        yield from checked_blocks(source, console, allow_missing=allow_missing)


def id_columns(source: Source) -> dict[str, Sequence[object] | Array]:
    """The columns that identify each row: its file or recording; none if its number suffices."""
    names = source.row_names
    return recordings.id_columns(source) if names is None else {FILE_COLUMN: names}


def row_label(source: Source, row: int) -> str:
    """The name of a row in a message: its file, its place in a recording, or its number."""
    if isinstance(source, RecordingSource):
        return recordings.row_label(source, row)
    return f"row {row}" if source.row_names is None else source.row_names[row]


def _read_labels(data: str, color: str, reading: ReadingOptions) -> tuple[Array, bool]:
    """The labels, and whether they are a column of `data`."""
    names = column_names(data, header=reading.header)
    if names is not None and color in names:
        return read_column(data, color, header=reading.header), True
    if names is not None and not _is_file(color):
        raise RequestError(
            f"--color {color}: is neither a column of {data} nor a file; the columns are "
            f"{listed(names)}"
        )
    return read_labels(color), False


def _is_file(text: str) -> bool:
    from isthmus.data.open import split_member

    return split_member(text)[0].is_file()


def _check_label_count(labels: Array, source: Source, color: str) -> None:
    if len(labels) != len(source):
        raise RequestError(
            f"--color {color}: holds {len(labels)} labels for {len(source)} rows; give one per row"
        )


def _refuse_model_folder(data: str) -> None:
    """Raise RequestError if a folder that isthmus wrote is given instead of rows."""
    for name, what in {MODEL: "model", DETECTOR: "detector"}.items():
        require(
            not (Path(data) / name).is_file(),
            f"{data}: is a {what}, but DATA must hold rows; give a file, or a folder of files",
        )


def _is_ambiguous_array(data: str) -> bool:
    """Whether `data` is an array file, whose shape does not determine the layout of a row."""
    chosen = format_of(Path(data))
    return not (Path(data).is_dir() or (chosen is not None and chosen.holds_text))


def _check_size(source: Source, schema: Schema, data: str) -> None:
    """Suggest --resize if images differ from the model's only in their size."""
    shape, expected = source.schema.shape, schema.shape
    images = source.schema.container == "images" and schema.layout == "image"
    if images and shape[:2] != expected[:2] and np.array_equal(shape[2:], expected[2:]):
        height, width = expected[:2]
        raise SourceError(
            f"{data}: the images are {shape[0]}x{shape[1]} (height x width), but the model was "
            f"fitted on {height}x{width}; resize them with --resize {height}x{width}"
        )
