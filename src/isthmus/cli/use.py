"""`isthmus encode`, `decode`, `score` and `impute`: what a fitted model is used for."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus.cli.options import Computing, Reading
from isthmus.cli.outputs import FILE, check_apart, free_rows, free_table, write_table
from isthmus.cli.rows import in_blocks, open_like, opened, row_names
from isthmus.cli.talk import Talk
from isthmus.data import check_rows, count_gaps, write_rows
from isthmus.data.frames import listed
from isthmus.data.labels import column_names, read_column
from isthmus.errors import SourceError
from isthmus.estimator import Autoencoder, load
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
    gaps = ae.preparation_.gaps
    codes = np.concatenate([ae.transform(block) for block in in_blocks(source, talk, gaps=gaps)])
    write_table(target, _code_names(ae), codes, row_names(source), force=force)
    _tell(target, len(codes), codes.shape[1], began, talk)


def decode(
    model: str, codes: str, output: str, computing: Computing, talk: Talk, *, force: bool
) -> None:
    """Writes what the codes stand for, as what the model was fitted on."""
    target, began = free_rows(output, force=force), time.monotonic()
    check_apart(target, model, codes)
    ae = load(model, device=computing.device)
    values, names = _read_codes(ae, codes)
    with talk.stage("decoding"):
        rows = ae.inverse_transform(values)
    schema = ae.preparation_.schema
    with talk.stage(f"writing {target}"):
        write_rows(target, rows, schema, row_names=names, force=force)
    _tell(target, len(values), schema.n_features, began, talk)


def score(
    model: str,
    data: str,
    output: str,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    by_feature: bool,
    force: bool,
) -> None:
    """Writes the squared error of each row of `data`, or of each of its features."""
    target, began = free_table(output, force=force), time.monotonic()
    check_apart(target, model, data)
    ae, source = _opened(model, data, reading, computing, talk)
    by = "value" if by_feature else "row"
    measured = in_blocks(source, talk, gaps=ae.preparation_.gaps)
    errors = np.concatenate([ae.reconstruction_error(block, by=by) for block in measured])
    columns = ae.preparation_.schema.feature_names() if by_feature else ("error",)
    files = row_names(source)
    write_table(target, columns, errors.reshape(len(errors), -1), files, force=force)
    per_row = mean_known(errors) if by_feature else errors
    worst = int(per_row.argmax())
    name = f"row {worst}" if files is None else files[worst]
    talk.note(
        f"mean error {per_row.mean():.4g} over {len(per_row)} rows; "
        f"the largest, {per_row[worst]:.4g}, at {name}"
    )
    talk.facts(
        _facts(target, len(per_row), len(columns), began)
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
    check_rows(source, at_least=1, gaps=ae.preparation_.gaps)
    missing = count_gaps(source)
    with talk.stage("filling in what is missing"):
        rows = ae.impute(source)
    with talk.stage(f"writing {target}"):
        write_rows(target, rows, source.schema, row_names=row_names(source), force=force)
    talk.note(f"wrote {target}: {len(source)} rows, {missing} missing values filled in")
    facts = _facts(target, len(source), source.schema.n_features, began)
    talk.facts(facts | {"filled": missing})


def _opened(
    model: str, data: str, reading: Reading, computing: Computing, talk: Talk
) -> tuple[Autoencoder, Source]:
    ae = load(model, device=computing.device)
    with talk.stage(f"reading {data}"):
        return ae, open_like(ae.preparation_.schema, data, reading, talk)


def _code_names(ae: Autoencoder) -> list[str]:
    return [str(name) for name in ae.get_feature_names_out()]


def _read_codes(ae: Autoencoder, path: str) -> tuple[Array, Sequence[str] | None]:
    """The codes (n, K), by name where the file has names, and the image files they came from."""
    wanted, found = _code_names(ae), column_names(path)
    if found is None:
        source = opened(path)
        values = source.read(np.arange(len(source)))
        if values.shape[1:] != (len(wanted),):
            raise SourceError(
                f"{path}: the codes have shape {values.shape}, and this model's have "
                f"{len(wanted)} numbers a row; give a file that encode wrote with this model"
            )
        return values, None
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in (*wanted, FILE)]
    if missing or extra:
        raise SourceError(
            f"{path}: the columns are not this model's codes: expected {listed(wanted)}; found "
            f"{listed(found)}; give a file that encode wrote with this model"
        )
    source = opened(path, columns=wanted)
    names = [str(name) for name in read_column(path, FILE)] if FILE in found else None
    return source.read(np.arange(len(source))), names


def _facts(target: Path, rows: int, columns: int, began: float) -> dict[str, object]:
    seconds = round(time.monotonic() - began, 3)
    return {"output": str(target), "rows": rows, "columns": columns, "seconds": seconds}


def _tell(target: Path, rows: int, columns: int, began: float, talk: Talk) -> None:
    facts = _facts(target, rows, columns, began)
    talk.note(f"wrote {target}: {rows} rows of {columns} numbers")
    talk.facts(facts)
