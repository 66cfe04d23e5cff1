"""`isthmus decode`: codes become what they stand for."""

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from isthmus.cli.console import Talk
from isthmus.cli.exit_codes import writing
from isthmus.cli.io.open_data import opened
from isthmus.cli.io.outputs import FILE, check_apart, free_rows
from isthmus.cli.io.recordings import BESIDE, Made, made_of, tell_guess, written_of
from isthmus.cli.options import Computing
from isthmus.cli.run.apply import code_names, facts_of, tell
from isthmus.data import appending_rows, read_blocks, write_recordings
from isthmus.data.columns import listed
from isthmus.data.labels import column_names, read_names
from isthmus.data.recording_files import check_output
from isthmus.errors import SourceError
from isthmus.estimator import Autoencoder, load
from isthmus.types import Array, Index, Source


def run(
    model: str, codes: str, output: str, computing: Computing, talk: Talk, *, force: bool
) -> None:
    """Writes what the codes stand for, as what the model was fitted on."""
    target, began = free_rows(output, force=force), time.monotonic()
    check_apart(target, model, codes)
    ae = load(model, device=computing.device)
    source, found = _open_codes(ae, codes)
    if not len(source):
        raise SourceError(f"{codes}: holds 0 rows, and there is nothing to decode; give some codes")
    schema = ae.preparation_.schema
    if schema.recording is not None:
        values = source.read(np.arange(len(source)))
        made = made_of(codes, found, len(values), schema)
        tell_guess(made, len(values), schema, talk)
        _decode_recordings(ae, values, made, target, talk, began, force=force)
    else:
        names = read_names(codes, FILE) if FILE in found else None
        _decode_rows(ae, source, names, target, talk, force=force)
        tell(target, len(source), schema.n_features, began, talk)


def _decode_rows(
    ae: Autoencoder,
    source: Source,
    names: Sequence[str] | None,
    target: Path,
    talk: Talk,
    *,
    force: bool,
) -> None:
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


def _decode_recordings(
    ae: Autoencoder,
    values: Array,
    made: Made,
    target: Path,
    talk: Talk,
    began: float,
    *,
    force: bool,
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
    written = written_of(rows, recording.sample.n_features)
    talk.note(f"wrote {target}: {written}")
    talk.facts(facts_of(target, written.samples, written.channels, began))


def _open_codes(ae: Autoencoder, path: str) -> tuple[Source, Sequence[str]]:
    """The codes (n, K), by name where the file has names, and the columns there are."""
    wanted, found = code_names(ae), column_names(path)
    if found is None:
        source = opened(path)
        if source.schema.shape != (len(wanted),):
            shape = (len(source), *source.schema.shape)
            raise SourceError(
                f"{path}: the codes have shape {shape}, and this model's have "
                f"{len(wanted)} numbers a row; give a file that encode wrote with this model"
            )
        return source, ()
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in (*wanted, FILE, *BESIDE)]
    if missing or extra:
        raise SourceError(
            f"{path}: the columns are not this model's codes: expected {listed(wanted)}; found "
            f"{listed(found)}; give a file that encode wrote with this model"
        )
    return opened(path, columns=wanted), found


def _check_codes(source: Source, rows: Index, values: Array) -> None:
    """Raise SourceError for codes that are not finite, by the row in the whole file."""
    lost = ~np.isfinite(values).all(axis=1)
    if lost.any():
        row = int(rows[int(lost.argmax())])
        raise SourceError(
            f"{source.origin}: the codes hold NaN or infinity, first in row {row}, counting from 0"
        )
