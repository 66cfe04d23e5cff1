"""`isthmus encode`, `score` and `impute`: apply a fitted model to rows, block by block."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.cli.console import Console
from isthmus.cli.exit_codes import explain_write_errors
from isthmus.cli.io.open_data import (
    checked_blocks,
    id_columns,
    open_with_schema,
    original_blocks,
    row_label,
)
from isthmus.cli.io.outputs import (
    check_output_location,
    holds_text,
    output_rows,
    output_table,
    table_writer,
    text_formats,
)
from isthmus.cli.io.recordings import (
    RecordingSize,
    note_lost_columns,
    recording_size,
    timestep_columns,
)
from isthmus.cli.options import ReadingOptions
from isthmus.data.columns import listed
from isthmus.data.output.append import appending_rows
from isthmus.data.output.csv_cells import Write, can_copy_cells, filling_cells
from isthmus.data.output.fill_missing import (
    count_missing,
    count_missing_in_other_columns,
    other_columns,
)
from isthmus.data.recording_files import check_output, names_of, write_recordings
from isthmus.data.signals.recordings import RecordingSource
from isthmus.data.source import Source
from isthmus.data.validate import check_rows
from isthmus.errors import require
from isthmus.estimator import Autoencoder, load
from isthmus.estimator.inputs import errors_by_timestep
from isthmus.missing import mean_known
from isthmus.types import Array


def encode(
    model: str,
    data: str,
    output: str,
    reading: ReadingOptions,
    device: str,
    console: Console,
    *,
    force: bool,
) -> None:
    """Writes the codes of the rows in `data`."""
    target, started = output_table(output, force=force), time.monotonic()
    ae, source = _open_model_and_rows(model, data, target, reading, device, console)
    note_lost_columns(target, source, console)
    columns = code_columns(ae)
    with table_writer(target, columns, len(source), id_columns(source), force=force) as write:
        for codes in _encoded_blocks(ae, source, console):
            write(codes)
    report_written(target, len(source), len(columns), started, console)


def _encoded_blocks(ae: Autoencoder, source: Source, console: Console) -> Iterator[Array]:
    """The codes (b, K) of one block of rows after the other.

    The public `transform` aligns and checks each block again; only here rows are encoded.
    """
    for block in checked_blocks(source, console, allow_missing=ae.preparation_.allow_missing):
        yield ae.transform(block)


def score(
    model: str,
    data: str,
    output: str,
    reading: ReadingOptions,
    device: str,
    console: Console,
    *,
    by: Sequence[str],
    force: bool,
) -> None:
    """Writes the squared error of each row of `data`, or by "feature" or "timestep"."""
    require(len(by) < 2, "--by-feature and --by-timestep exclude each other; give one of them")
    target, started = output_table(output, force=force), time.monotonic()
    ae, source = _open_model_and_rows(model, data, target, reading, device, console)
    require(
        by != ["timestep"] or isinstance(source, RecordingSource),
        "--by-timestep: needs a model fitted on recordings, with --window or --layout series; "
        "leave it out, or use --by-feature",
    )
    statistics = ErrorStatistics()
    blocks = _error_blocks(ae, source, statistics, console, by_value=bool(by))
    if by == ["timestep"]:
        columns: Sequence[str] = ("error",)
        of_timesteps = errors_by_timestep(source, np.concatenate(list(blocks)))
        errors = np.concatenate(of_timesteps) if isinstance(of_timesteps, list) else of_timesteps
        rows, blocks, ids = len(errors), iter([errors]), timestep_columns(source)
    else:
        columns = ae.preparation_.schema.feature_names() if by else ("error",)
        rows, ids = len(source), id_columns(source)
    with table_writer(target, columns, rows, ids, force=force) as write:
        for errors in blocks:
            write(errors.reshape(len(errors), -1))
    console.note(
        f"mean error {statistics.mean:.4g} over {statistics.rows} rows; largest error "
        f"{statistics.largest:.4g}, at {row_label(source, statistics.worst_row)}"
    )
    console.json_result(
        written_facts(target, rows, len(columns), started)
        | {"mean_error": statistics.mean, "worst_row": statistics.worst_row}
    )


def _error_blocks(
    ae: Autoencoder,
    source: Source,
    statistics: "ErrorStatistics",
    console: Console,
    *,
    by_value: bool,
) -> Iterator[Array]:
    """The errors of one block of rows after the other, per row or per value."""
    for block in checked_blocks(source, console, allow_missing=ae.preparation_.allow_missing):
        errors = ae.reconstruction_error(block, by="value" if by_value else "row")
        statistics.add(mean_known(errors) if by_value else errors)
        yield errors


@dataclass
class ErrorStatistics:
    """Running statistics of the rows' errors."""

    rows: int = 0
    total: float = 0.0
    largest: float = -np.inf
    worst_row: int = 0

    def add(self, errors: Array) -> None:
        """Takes the errors (b,) of the next rows."""
        row = int(errors.argmax())
        if errors[row] > self.largest:
            self.largest, self.worst_row = float(errors[row]), self.rows + row
        self.rows, self.total = self.rows + len(errors), self.total + float(errors.sum())

    @property
    def mean(self) -> float:
        """The mean error per row."""
        return self.total / self.rows


def impute(
    model: str,
    data: str,
    output: str,
    reading: ReadingOptions,
    device: str,
    console: Console,
    *,
    force: bool,
) -> None:
    """Writes the rows of `data` with their missing values filled in."""
    target, started = output_rows(output, force=force), time.monotonic()
    ae, source = _open_model_and_rows(model, data, target, reading, device, console)
    if isinstance(source, RecordingSource):
        size = _impute_recordings(ae, source, target, console, force=force)
        n_filled = count_missing(source)
        description, rows, columns = str(size), size.samples, size.channels
    else:
        with _filled_writer(data, target, source, reading, force=force) as write:
            n_filled, still_missing = _impute_rows(ae, source, write, console)
        if still_missing:
            console.note(
                f"{still_missing.total()} missing values remain, in columns that the model "
                f"does not use: {listed(still_missing)}"
            )
        rows, columns = len(source), source.schema.n_features
        description = f"{rows} rows"
    console.note(f"wrote {target}: {description}, {n_filled} missing values filled in")
    console.json_result(written_facts(target, rows, columns, started) | {"filled": n_filled})


def _impute_rows(
    ae: Autoencoder, source: Source, write: Write, console: Console
) -> tuple[int, Counter[str]]:
    """Fills in one block of rows after the other.

    Returns the number of values filled in, and the missing values left per unused column.
    """
    n_filled, still_missing = 0, Counter[str]()
    with console.stage("filling in missing values"):
        for block in original_blocks(source, console, allow_missing=ae.preparation_.allow_missing):
            n_filled += count_missing(block)
            still_missing.update(count_missing_in_other_columns(block))
            write(block, ae.impute(block))
    return n_filled, still_missing


@contextmanager
def _filled_writer(
    data: str, target: Path, source: Source, reading: ReadingOptions, *, force: bool
) -> Iterator[Write]:
    """A function that takes each block of rows as given, and the same rows filled in."""
    if can_copy_cells(data, target, source):
        with filling_cells(data, target, header=reading.header, force=force) as write:
            yield write
        return
    unused = other_columns(source)
    require(
        not unused or holds_text(target),
        f"{target}: the columns {listed(unused)} are written too, but {target.suffix or 'images'} "
        f"can only hold the columns that the model uses; write to {text_formats()}, or remove "
        "these columns from the input",
    )
    names = source.row_names
    with appending_rows(target, source.schema, len(source), row_names=names, force=force) as append:
        yield lambda _, filled: append(filled)


def _impute_recordings(
    ae: Autoencoder, source: RecordingSource, target: Path, console: Console, *, force: bool
) -> RecordingSize:
    """Fills in whole recordings, because their windows overlap."""
    check_output(target, several=not source.given.single)
    check_rows(source, at_least=1, allow_missing=ae.preparation_.allow_missing)
    with console.stage("filling in missing values"):
        rows = ae.impute(source)
    with console.stage(f"writing {target}"), explain_write_errors(target):
        schemas, names = [part.schema for part in source.parts], names_of(source.given)
        write_recordings(target, rows, schemas, names=names, force=force)
    return recording_size(rows, source.parts[0].schema.n_features)


def _open_model_and_rows(
    model: str, data: str, target: Path, reading: ReadingOptions, device: str, console: Console
) -> tuple[Autoencoder, Source]:
    """The model, and the rows of `data` as the model reads them."""
    check_output_location(target, model, data)
    ae = load(model, device=device)
    with console.stage(f"reading {data}"):
        return ae, open_with_schema(ae.preparation_.schema, data, reading, console)


def code_columns(ae: Autoencoder) -> list[str]:
    """The column names of a model's codes."""
    return [str(name) for name in ae.get_feature_names_out()]


def written_facts(target: Path, rows: int, columns: int, started: float) -> dict[str, object]:
    """What was written, and the seconds it took, as printed with --json."""
    seconds = round(time.monotonic() - started, 3)
    return {"output": str(target), "rows": rows, "columns": columns, "seconds": seconds}


def report_written(target: Path, rows: int, columns: int, started: float, console: Console) -> None:
    """Reports what was written, as a note and as JSON."""
    console.note(
        f"wrote {target}: {rows} rows of {columns} {'number' if columns == 1 else 'numbers'}"
    )
    console.json_result(written_facts(target, rows, columns, started))
