"""`isthmus decode`: reconstruct rows from their codes."""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from isthmus.cli.console import Console
from isthmus.cli.exit_codes import explain_write_errors
from isthmus.cli.io.open_data import open_input
from isthmus.cli.io.outputs import FILE_COLUMN, check_output_location, output_rows
from isthmus.cli.io.recordings import (
    ID_COLUMNS,
    CodedRecordings,
    coded_recordings,
    note_assumed_lengths,
    recording_size,
)
from isthmus.cli.run.apply import code_columns, report_written, written_facts
from isthmus.data.columns import listed
from isthmus.data.labels import column_names, read_names
from isthmus.data.output.append import appending_rows
from isthmus.data.recording_files import check_output, write_recordings
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import read_blocks
from isthmus.errors import SourceError
from isthmus.estimator import Autoencoder, load
from isthmus.types import Array, Index


def run(model: str, codes: str, output: str, device: str, console: Console, *, force: bool) -> None:
    """Writes the rows that the codes stand for, in the form the model was fitted on."""
    target, started = output_rows(output, force=force), time.monotonic()
    check_output_location(target, model, codes)
    ae = load(model, device=device)
    source, columns = _open_codes(ae, codes)
    if not len(source):
        raise SourceError(
            f"{codes}: holds 0 rows, so there is nothing to decode; give at least one code"
        )
    schema = ae.preparation_.schema
    if schema.recording is not None:
        values = source.read(np.arange(len(source)))
        recordings = coded_recordings(codes, columns, len(values), schema)
        note_assumed_lengths(recordings, len(values), schema, console)
        _decode_recordings(ae, values, recordings, target, console, started, force=force)
    else:
        names = read_names(codes, FILE_COLUMN) if FILE_COLUMN in columns else None
        _decode_rows(ae, source, names, target, console, force=force)
        report_written(target, len(source), schema.n_features, started, console)


def _decode_rows(
    ae: Autoencoder,
    source: Source,
    names: Sequence[str] | None,
    target: Path,
    console: Console,
    *,
    force: bool,
) -> None:
    schema = ae.preparation_.schema
    with (
        appending_rows(target, schema, len(source), row_names=names, force=force) as write,
        console.progress_bar(len(source)) as advance,
        closing(read_blocks(source)) as read,
    ):
        for block, values in read:
            _check_codes(source, block, values)
            write(ae.inverse_transform(values))
            advance(len(block))


def _decode_recordings(
    ae: Autoencoder,
    values: Array,
    recordings: CodedRecordings,
    target: Path,
    console: Console,
    started: float,
    *,
    force: bool,
) -> None:
    recording = ae.preparation_.schema.recording
    assert recording is not None
    several = isinstance(recordings.lengths, list) or (
        recordings.lengths is None and recording.hop is None
    )
    check_output(target, several=several)
    with console.stage("decoding"):
        rows = ae.inverse_transform(values, lengths=recordings.lengths)
    with console.stage(f"writing {target}"), explain_write_errors(target):
        schemas = [recording.sample] * len(recordings.names)
        write_recordings(target, rows, schemas, names=recordings.names, force=force)
    size = recording_size(rows, recording.sample.n_features)
    console.note(f"wrote {target}: {size}")
    console.json_result(written_facts(target, size.samples, size.channels, started))


def _open_codes(ae: Autoencoder, path: str) -> tuple[Source, Sequence[str]]:
    """The codes (n, K), by name if the file has column names, and the names of all columns."""
    expected, columns = code_columns(ae), column_names(path)
    if columns is None:
        source = open_input(path)
        if source.schema.shape != (len(expected),):
            shape = (len(source), *source.schema.shape)
            raise SourceError(
                f"{path}: the codes have shape {shape}, but this model's have {len(expected)} "
                "numbers per row; give a file that encode wrote with this model"
            )
        return source, ()
    missing = [name for name in expected if name not in columns]
    extra = [name for name in columns if name not in (*expected, FILE_COLUMN, *ID_COLUMNS)]
    if missing or extra:
        raise SourceError(
            f"{path}: the columns are not this model's codes: expected {listed(expected)}; found "
            f"{listed(columns)}; give a file that encode wrote with this model"
        )
    source = open_input(path, {"columns": expected})
    for name, column in zip(expected, source.schema.columns or (), strict=False):
        if column.has_categories or column.role == "datetime":
            raise SourceError(
                f"{path}: column {name!r} holds {column.role} values, but codes are numbers; give "
                "a file that encode wrote with this model"
            )
    return source, columns


def _check_codes(source: Source, rows: Index, values: Array) -> None:
    """Raise SourceError for codes that are not finite, with the row in the whole file."""
    invalid = ~np.isfinite(values).all(axis=1)
    if invalid.any():
        row = int(rows[int(invalid.argmax())])
        raise SourceError(
            f"{source.origin}: the codes contain NaN or infinity, first in row {row}, counting "
            "from 0; give the codes as encode wrote them"
        )
