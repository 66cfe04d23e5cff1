"""`isthmus encode`, `decode`, `score` and `impute`: what a fitted model is used for."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus.cli.faults import writing
from isthmus.cli.options import Computing, Reading
from isthmus.cli.outputs import FILE, check_apart, free_rows, free_table, write_table
from isthmus.cli.recordings import (
    BESIDE,
    Made,
    check_place,
    made_of,
    samples_beside,
    tell_guess,
)
from isthmus.cli.rows import beside, in_blocks, open_like, opened, place_of, row_names
from isthmus.cli.talk import Talk
from isthmus.data import RecordingSource, check_rows, count_gaps, write_recordings, write_rows
from isthmus.data.frames import listed
from isthmus.data.labels import column_names, read_column
from isthmus.data.recording_files import check_output, names_of
from isthmus.errors import SourceError, require
from isthmus.estimator import Autoencoder, load
from isthmus.estimator.inputs import by_sample
from isthmus.gaps import mean_known
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
    check_apart(target, model, data)
    ae, source = _opened(model, data, reading, computing, talk)
    check_place(target, source, talk)
    gaps = ae.preparation_.gaps
    codes = np.concatenate([ae.transform(block) for block in in_blocks(source, talk, gaps=gaps)])
    write_table(target, _code_names(ae), codes, beside(source), force=force)
    _tell(target, len(codes), codes.shape[1], began, talk)


def decode(
    model: str, codes: str, output: str, computing: Computing, talk: Talk, *, force: bool
) -> None:
    """Writes what the codes stand for, as what the model was fitted on."""
    target, began = free_rows(output, force=force), time.monotonic()
    check_apart(target, model, codes)
    ae = load(model, device=computing.device)
    schema = ae.preparation_.schema
    values, found = _read_codes(ae, codes)
    if schema.recording is not None:
        made = made_of(codes, found, len(values), schema)
        tell_guess(made, len(values), schema, talk)
        _decode_recordings(ae, values, made, target, talk, force=force)
    else:
        names = [str(name) for name in read_column(codes, FILE)] if FILE in found else None
        with talk.stage("decoding"):
            rows = ae.inverse_transform(values)
        with talk.stage(f"writing {target}"):
            write_rows(target, rows, schema, row_names=names, force=force)
    _tell(target, len(values), schema.n_features, began, talk)


def _decode_recordings(
    ae: Autoencoder, values: Array, made: Made, target: Path, talk: Talk, *, force: bool
) -> None:
    recording = ae.preparation_.schema.recording
    assert recording is not None
    several = isinstance(made.lengths, list) or (made.lengths is None and recording.step is None)
    check_output(target, several=several)
    with talk.stage("decoding"):
        rows = ae.inverse_transform(values, lengths=made.lengths)
    with talk.stage(f"writing {target}"), writing(target):
        schemas = [recording.sample] * len(made.names)
        write_recordings(target, rows, schemas, names=made.names, force=force)


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
    check_apart(target, model, data)
    ae, source = _opened(model, data, reading, computing, talk)
    measured = in_blocks(source, talk, gaps=ae.preparation_.gaps)
    wanted = "value" if by else "row"
    errors = np.concatenate([ae.reconstruction_error(block, by=wanted) for block in measured])
    per_row = mean_known(errors) if by else errors
    columns: Sequence[str] = ("error",)
    told = beside(source)
    if by == ["sample"]:
        errors, told = by_sample(source, errors), samples_beside(source)
        errors = np.concatenate(errors) if isinstance(errors, list) else errors
    elif by:
        columns = ae.preparation_.schema.feature_names()
    table = errors.reshape(len(errors), -1)
    write_table(target, columns, table, told, force=force)
    worst = int(per_row.argmax())
    talk.note(
        f"mean error {per_row.mean():.4g} over {len(per_row)} rows; "
        f"the largest, {per_row[worst]:.4g}, at {place_of(source, worst)}"
    )
    talk.facts(
        _facts(target, len(table), len(columns), began)
        | {"mean_error": float(per_row.mean()), "worst_row": worst}
    )


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
    check_apart(target, model, data)
    ae, source = _opened(model, data, reading, computing, talk)
    if isinstance(source, RecordingSource):
        check_output(target, several=not source.given.single)
    check_rows(source, at_least=1, gaps=ae.preparation_.gaps)
    missing = count_gaps(source)
    with talk.stage("filling in what is missing"):
        rows = ae.impute(source)
    with talk.stage(f"writing {target}"):
        _write_like(target, rows, source, force=force)
    talk.note(f"wrote {target}: {len(source)} rows, {missing} missing values filled in")
    facts = _facts(target, len(source), source.schema.n_features, began)
    talk.facts(facts | {"filled": missing})


def _write_like(target: Path, rows: object, source: Source, *, force: bool) -> None:
    """Writes rows as those of `source` are."""
    if isinstance(source, RecordingSource):
        schemas, names = [part.schema for part in source.parts], names_of(source.given)
        with writing(target):
            write_recordings(target, rows, schemas, names=names, force=force)
    else:
        write_rows(target, rows, source.schema, row_names=row_names(source), force=force)


def _opened(
    model: str, data: str, reading: Reading, computing: Computing, talk: Talk
) -> tuple[Autoencoder, Source]:
    ae = load(model, device=computing.device)
    with talk.stage(f"reading {data}"):
        return ae, open_like(ae.preparation_.schema, data, reading, talk)


def _code_names(ae: Autoencoder) -> list[str]:
    return [str(name) for name in ae.get_feature_names_out()]


def _read_codes(ae: Autoencoder, path: str) -> tuple[Array, Sequence[str]]:
    """The codes (n, K), by name where the file has names, and the columns there are."""
    wanted, found = _code_names(ae), column_names(path)
    if found is None:
        source = opened(path)
        values = source.read(np.arange(len(source)))
        if values.shape[1:] != (len(wanted),):
            raise SourceError(
                f"{path}: the codes have shape {values.shape}, and this model's have "
                f"{len(wanted)} numbers a row; give a file that encode wrote with this model"
            )
        return values, ()
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in (*wanted, FILE, *BESIDE)]
    if missing or extra:
        raise SourceError(
            f"{path}: the columns are not this model's codes: expected {listed(wanted)}; found "
            f"{listed(found)}; give a file that encode wrote with this model"
        )
    source = opened(path, columns=wanted)
    return source.read(np.arange(len(source))), found


def _facts(target: Path, rows: int, columns: int, began: float) -> dict[str, object]:
    seconds = round(time.monotonic() - began, 3)
    return {"output": str(target), "rows": rows, "columns": columns, "seconds": seconds}


def _tell(target: Path, rows: int, columns: int, began: float, talk: Talk) -> None:
    facts = _facts(target, rows, columns, began)
    talk.note(f"wrote {target}: {rows} rows of {columns} numbers")
    talk.facts(facts)
