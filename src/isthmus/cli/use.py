"""`isthmus encode`, `decode`, `score` and `impute`: what a fitted model is used for."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.cli.options import Computing, Reading
from isthmus.cli.outputs import FILE, check_apart, free_rows, free_table, writing_table
from isthmus.cli.rows import given_in_blocks, in_blocks, open_like, opened, row_names
from isthmus.cli.talk import Talk
from isthmus.data import appending_rows, count_gaps, read_blocks
from isthmus.data.frames import listed
from isthmus.data.labels import column_names, read_column
from isthmus.errors import SourceError
from isthmus.estimator import Autoencoder, load
from isthmus.gaps import mean_known
from isthmus.types import Array, Index, Source


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
    names, gaps = _code_names(ae), ae.preparation_.gaps
    with writing_table(target, names, len(source), row_names(source), force=force) as write:
        for block in in_blocks(source, talk, gaps=gaps):
            write(ae.transform(block))
    _tell(target, len(source), len(names), began, talk)


def decode(
    model: str, codes: str, output: str, computing: Computing, talk: Talk, *, force: bool
) -> None:
    """Writes what the codes stand for, as what the model was fitted on."""
    target, began = free_rows(output, force=force), time.monotonic()
    check_apart(target, model, codes)
    ae = load(model, device=computing.device)
    source, names = _open_codes(ae, codes)
    schema = ae.preparation_.schema
    with (
        appending_rows(target, schema, len(source), row_names=names, force=force) as write,
        talk.bar(len(source)) as advance,
        closing(read_blocks(source)) as read,
    ):
        for block, values in read:
            _check_codes(source, block, values)
            write(ae.inverse_transform(values))
            advance(len(block))
    _tell(target, len(source), schema.n_features, began, talk)


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
    columns = ae.preparation_.schema.feature_names() if by_feature else ("error",)
    files, seen = row_names(source), _Seen()
    with writing_table(target, columns, len(source), files, force=force) as write:
        for block in in_blocks(source, talk, gaps=ae.preparation_.gaps):
            errors = ae.reconstruction_error(block, by="value" if by_feature else "row")
            write(errors.reshape(len(errors), -1))
            seen.add(mean_known(errors) if by_feature else errors)
    name = f"row {seen.worst}" if files is None else files[seen.worst]
    talk.note(
        f"mean error {seen.mean:.4g} over {seen.rows} rows; the largest, {seen.largest:.4g}, at "
        f"{name}"
    )
    talk.facts(
        _facts(target, seen.rows, len(columns), began)
        | {"mean_error": seen.mean, "worst_row": seen.worst}
    )


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
    check_apart(target, model, data)
    ae, source = _opened(model, data, reading, computing, talk)
    missing, files = 0, row_names(source)
    with (
        appending_rows(target, source.schema, len(source), row_names=files, force=force) as write,
        talk.stage("filling in what is missing"),
    ):
        for block in given_in_blocks(source, talk, gaps=ae.preparation_.gaps):
            missing += count_gaps(block)
            write(ae.impute(block))
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


def _open_codes(ae: Autoencoder, path: str) -> tuple[Source, Sequence[str] | None]:
    """The codes (n, K), by name where the file has names, and the image files they came from."""
    wanted, found = _code_names(ae), column_names(path)
    if found is None:
        source = opened(path)
        if source.schema.shape != (len(wanted),):
            shape = (len(source), *source.schema.shape)
            raise SourceError(
                f"{path}: the codes have shape {shape}, and this model's have "
                f"{len(wanted)} numbers a row; give a file that encode wrote with this model"
            )
        return source, None
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in (*wanted, FILE)]
    if missing or extra:
        raise SourceError(
            f"{path}: the columns are not this model's codes: expected {listed(wanted)}; found "
            f"{listed(found)}; give a file that encode wrote with this model"
        )
    names = [str(name) for name in read_column(path, FILE)] if FILE in found else None
    return opened(path, columns=wanted), names


def _check_codes(source: Source, rows: Index, values: Array) -> None:
    """Raise SourceError for codes that are not finite, by the row in the whole file."""
    lost = ~np.isfinite(values).all(axis=1)
    if lost.any():
        row = int(rows[int(lost.argmax())])
        raise SourceError(
            f"{source.origin}: the codes hold NaN or infinity, first in row {row}, counting from 0"
        )


def _facts(target: Path, rows: int, columns: int, began: float) -> dict[str, object]:
    seconds = round(time.monotonic() - began, 3)
    return {"output": str(target), "rows": rows, "columns": columns, "seconds": seconds}


def _tell(target: Path, rows: int, columns: int, began: float, talk: Talk) -> None:
    facts = _facts(target, rows, columns, began)
    talk.note(f"wrote {target}: {rows} rows of {columns} numbers")
    talk.facts(facts)
