"""`isthmus encode`, `score` and `impute`: what a fitted model is used for."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.cli.console import Talk
from isthmus.cli.exit_codes import writing
from isthmus.cli.io.open_data import (
    beside,
    given_in_blocks,
    in_blocks,
    open_like,
    place_of,
    row_names,
)
from isthmus.cli.io.outputs import (
    TEXT_HAS_A_PLACE,
    check_apart,
    free_rows,
    free_table,
    writing_table,
)
from isthmus.cli.io.recordings import Written, check_place, samples_beside, written_of
from isthmus.cli.options import Computing, Reading
from isthmus.data import (
    RecordingSource,
    appending_rows,
    check_rows,
    count_missing,
    write_recordings,
)
from isthmus.data.columns import listed
from isthmus.data.output.csv_cells import Write, filling_cells, have_cells
from isthmus.data.output.fill_missing import columns_beside, count_missing_beside
from isthmus.data.recording_files import check_output, names_of
from isthmus.errors import require
from isthmus.estimator import Autoencoder, load
from isthmus.estimator.inputs import by_sample
from isthmus.missing import mean_known
from isthmus.types import Array, Source


def encode(
    model: str,
    data: str,
    output: str,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    force: bool,
) -> None:
    """Writes the codes of the rows of `data`."""
    target, began = free_table(output, force=force), time.monotonic()
    ae, source = _opened(model, data, target, reading, computing, talk)
    check_place(target, source, talk)
    names, allow_missing = code_names(ae), ae.preparation_.allow_missing
    with writing_table(target, names, len(source), beside(source), force=force) as write:
        for block in in_blocks(source, talk, allow_missing=allow_missing):
            write(ae.transform(block))
    tell(target, len(source), len(names), began, talk)


def score(
    model: str,
    data: str,
    output: str,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    by: Sequence[str],
    force: bool,
) -> None:
    """Writes the squared error of each row of `data`, or by "feature" or "sample"."""
    require(len(by) < 2, "--by-feature and --by-sample: choose one of them")
    target, began = free_table(output, force=force), time.monotonic()
    ae, source = _opened(model, data, target, reading, computing, talk)
    require(
        by != ["sample"] or isinstance(source, RecordingSource),
        "--by-sample: is for models of recordings, and the rows of this one are ready; leave it "
        "out, or use --by-feature",
    )
    seen = _Seen()
    errors = _errors(ae, source, seen, talk, by_value=bool(by))
    if by == ["sample"]:
        columns: Sequence[str] = ("error",)
        told = by_sample(source, np.concatenate(list(errors)))
        moments = np.concatenate(told) if isinstance(told, list) else told
        rows, errors, names = len(moments), iter([moments]), samples_beside(source)
    else:
        columns = ae.preparation_.schema.feature_names() if by else ("error",)
        rows, names = len(source), beside(source)
    with writing_table(target, columns, rows, names, force=force) as write:
        for some in errors:
            write(some.reshape(len(some), -1))
    talk.note(
        f"mean error {seen.mean:.4g} over {seen.rows} rows; the largest, {seen.largest:.4g}, at "
        f"{place_of(source, seen.worst)}"
    )
    talk.facts(
        facts_of(target, rows, len(columns), began)
        | {"mean_error": seen.mean, "worst_row": seen.worst}
    )


def _errors(
    ae: Autoencoder, source: Source, seen: "_Seen", talk: Talk, *, by_value: bool
) -> Iterator[Array]:
    """The errors of one block of rows after the other, or of all their values."""
    for block in in_blocks(source, talk, allow_missing=ae.preparation_.allow_missing):
        errors = ae.reconstruction_error(block, by="value" if by_value else "row")
        seen.add(mean_known(errors) if by_value else errors)
        yield errors


@dataclass
class _Seen:
    """What the errors of all rows say, of which none are kept."""

    rows: int = 0
    total: float = 0.0
    largest: float = -np.inf
    worst: int = 0

    def add(self, errors: Array) -> None:
        """The errors of some more rows."""
        at = int(errors.argmax())
        if errors[at] > self.largest:
            self.largest, self.worst = float(errors[at]), self.rows + at
        self.rows, self.total = self.rows + len(errors), self.total + float(errors.sum())

    @property
    def mean(self) -> float:
        """The mean error."""
        return self.total / self.rows


def impute(
    model: str,
    data: str,
    output: str,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    force: bool,
) -> None:
    """Writes the rows of `data` with their missing values filled in."""
    target, began = free_rows(output, force=force), time.monotonic()
    ae, source = _opened(model, data, target, reading, computing, talk)
    if isinstance(source, RecordingSource):
        written: Any = _impute_recordings(ae, source, target, talk, force=force)
        missing = count_missing(source)
        size = written.samples, written.channels
    else:
        with _filling(data, target, source, reading, force=force) as write:
            missing, stay = _impute_rows(ae, source, write, talk)
        if stay:
            talk.note(
                f"{stay.total()} missing values stay in columns that the model leaves out: "
                f"{listed(stay)}"
            )
        written, size = f"{len(source)} rows", (len(source), source.schema.n_features)
    talk.note(f"wrote {target}: {written}, {missing} missing values filled in")
    talk.facts(facts_of(target, *size, began) | {"filled": missing})


def _impute_rows(
    ae: Autoencoder, source: Source, write: Write, talk: Talk
) -> tuple[int, Counter[str]]:
    """Fills in one block of rows after the other.

    How many values were missing, and in columns that are no features how many still are.
    """
    missing, stay = 0, Counter[str]()
    with talk.stage("filling in what is missing"):
        for block in given_in_blocks(source, talk, allow_missing=ae.preparation_.allow_missing):
            missing += count_missing(block)
            stay.update(count_missing_beside(block))
            write(block, ae.impute(block))
    return missing, stay


@contextmanager
def _filling(
    data: str, target: Path, source: Source, reading: Reading, *, force: bool
) -> Iterator[Write]:
    """What takes blocks of rows as they were given, each with what it is filled in."""
    if have_cells(data, target, source):
        with filling_cells(data, target, header=reading.header, force=force) as write:
            yield write
        return
    beside = columns_beside(source)
    require(
        not beside or target.suffix.lower() in TEXT_HAS_A_PLACE,
        f"{target}: the columns {listed(beside)} are written too, and {target.suffix or 'images'} "
        "holds nothing but the numbers of the model; write to .csv, .tsv or .parquet, or leave "
        "them out of the file",
    )
    names = row_names(source)
    with appending_rows(target, source.schema, len(source), row_names=names, force=force) as append:
        yield lambda _, filled: append(filled)


def _impute_recordings(
    ae: Autoencoder, source: RecordingSource, target: Path, talk: Talk, *, force: bool
) -> Written:
    """Fills in whole recordings, whose windows overlap."""
    check_output(target, several=not source.given.single)
    check_rows(source, at_least=1, allow_missing=ae.preparation_.allow_missing)
    with talk.stage("filling in what is missing"):
        rows = ae.impute(source)
    with talk.stage(f"writing {target}"), writing(target):
        schemas, names = [part.schema for part in source.parts], names_of(source.given)
        write_recordings(target, rows, schemas, names=names, force=force)
    return written_of(rows, source.parts[0].schema.n_features)


def _opened(
    model: str, data: str, target: Path, reading: Reading, computing: Computing, talk: Talk
) -> tuple[Autoencoder, Source]:
    """The model, and the rows that it is used for."""
    check_apart(target, model, data)
    ae = load(model, device=computing.device)
    with talk.stage(f"reading {data}"):
        return ae, open_like(ae.preparation_.schema, data, reading, talk)


def code_names(ae: Autoencoder) -> list[str]:
    """What the columns of a model's codes are called."""
    return [str(name) for name in ae.get_feature_names_out()]


def facts_of(target: Path, rows: int, columns: int, began: float) -> dict[str, object]:
    """What was written, and how long it took."""
    seconds = round(time.monotonic() - began, 3)
    return {"output": str(target), "rows": rows, "columns": columns, "seconds": seconds}


def tell(target: Path, rows: int, columns: int, began: float, talk: Talk) -> None:
    """Says what was written, to people and to machines."""
    facts = facts_of(target, rows, columns, began)
    talk.note(f"wrote {target}: {rows} rows of {columns} numbers")
    talk.facts(facts)
