"""`isthmus fit`: from a file to a model folder with its report."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus import artifact
from isthmus.cli.faults import writing
from isthmus.cli.options import Choosing, Fit, Reading, Training
from isthmus.cli.outputs import free_place
from isthmus.cli.progress import reporter
from isthmus.cli.rows import Colored, open_colored, open_like
from isthmus.cli.settings import estimator_settings
from isthmus.cli.talk import Talk, to_json
from isthmus.data.arrays import ArraySource
from isthmus.errors import ArtifactError, DataError, DivergenceError, RequestError, SourceError
from isthmus.estimator import Autoencoder, to_artifact
from isthmus.report import gather, render, summary_lines
from isthmus.types import Source

PAGE, EVIDENCE = "report.html", "report.json"
SHOWN = 5
RESUME = "the same command with --resume goes on from where the fit was"


def run(
    data: str,
    output: str,
    wanted: Fit,
    training: Training,
    reading: Reading,
    choosing: Choosing,
    talk: Talk,
) -> None:
    """Learns the rows of `data` and writes the model folder `output`, whole or not at all."""
    target = model_place(output, force=wanted.force)
    began = time.monotonic()
    with talk.stage(f"reading {data}"):
        colored = open_colored(data, wanted.color, reading, choosing)
    fraction, validation = _validation(wanted.validation, colored.source, reading, talk)
    checkpoint = target.with_name(f".{target.name}.checkpoint")
    ae = Autoencoder(
        wanted.components,
        validation_fraction=fraction,
        verbose=reporter(talk),
        checkpoint=checkpoint,
        **estimator_settings(training, colored.source.schema),
    )
    if wanted.resume and not checkpoint.exists():
        talk.note(f"note: there is nothing to resume in {checkpoint}; starting at the beginning")
    with _kept(checkpoint):
        ae.fit(colored.source, validation=validation, resume=wanted.resume)
        evidence, fault = _evidence(ae, colored, began, wanted, talk)
        _write(ae, target, evidence, force=wanted.force)
    shutil.rmtree(checkpoint, ignore_errors=True)
    if fault is not None:
        fault.add_note(f"{target} is written, without a report")
        raise fault
    held_out = _held_out(ae, colored.source) if validation is None else validation
    _tell(ae, held_out, evidence, target, time.monotonic() - began, talk)


def model_place(output: str, *, force: bool) -> Path:
    """The folder to write, once it is sure that a model may go there."""
    target = Path(output)
    if target.name in ("", ".."):
        raise RequestError(f"{output}: give the model folder a name of its own, as in models/first")
    artifact.check_place(target, force=force)
    return free_place(output, force=force)


def _validation(
    given: str | None, source: Source, reading: Reading, talk: Talk
) -> tuple[float | str, Source | None]:
    """The share to hold out, or the rows to use instead."""
    if given is None:
        return "auto", None
    try:
        return float(given), None
    except ValueError:
        return "auto", open_like(source.schema, given, reading, talk)


@contextmanager
def _kept(checkpoint: Path) -> Iterator[None]:
    """Says how to go on when a fit is stopped; one that diverged leaves nothing to go on from."""
    try:
        yield
    except DivergenceError:
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise
    except (RequestError, DataError, ArtifactError):
        raise
    except BaseException as error:
        if checkpoint.exists():
            error.add_note(RESUME)
        raise


def _evidence(
    ae: Autoencoder, colored: Colored, began: float, wanted: Fit, talk: Talk
) -> tuple[dict[str, Any], Exception | None]:
    """What the report shows, {} where none is wanted.

    A report that cannot be drawn must not lose what was learned, so its fault is handed back.
    """
    if wanted.no_report:
        return {}, None
    try:
        with talk.stage("drawing the report"):
            source, labels, name = colored
            seconds = time.monotonic() - began
            return gather(ae, source, color=labels, color_name=name, seconds=seconds), None
    except Exception as fault:
        return {}, fault


def _write(ae: Autoencoder, target: Path, evidence: dict[str, Any], *, force: bool) -> None:
    """Writes the model folder, with the report where there is evidence."""
    pages = {}
    if evidence:
        pages = {PAGE: render(evidence), EVIDENCE: to_json(evidence, indent=1) + "\n"}
    try:
        with writing(target):
            artifact.save(to_artifact(ae), target, force=force, extra=pages)
    except SourceError as error:
        error.add_note(RESUME)
        raise


def _tell(
    ae: Autoencoder,
    held_out: Source | None,
    evidence: dict[str, Any],
    target: Path,
    seconds: float,
    talk: Talk,
) -> None:
    constant = ae.preparation_.constant
    if constant:
        more = f" and {len(constant) - SHOWN} more" if len(constant) > SHOWN else ""
        names = ", ".join(map(repr, constant[:SHOWN]))
        talk.note(f"note: {len(constant)} of the features never change: {names}{more}")
    facts = {"model": str(target), "kind": ae.kind_.to_json(), "loss": ae.loss_.to_json()}
    facts |= ae.facts_ | {"best_epoch": ae.best_epoch_, "constant_features": len(constant)}
    measured = None if held_out is None else _measured(ae, held_out)
    talk.notes(summary_lines(evidence) if evidence else _short(measured))
    page = f"{target}/{PAGE}" if evidence else str(target)
    talk.note(f"wrote {page} after {seconds:.1f} s")
    talk.facts(facts | {"held_out": measured, "seconds": round(seconds, 3)})


def _held_out(ae: Autoencoder, source: Source) -> Source | None:
    rows = np.asarray(ae.held_out_rows_)
    if len(rows) == 0:
        return None
    return ArraySource(source.read(rows), source.schema, origin=source.origin)


def _measured(ae: Autoencoder, rows: Source) -> dict[str, float]:
    measured = ae.evaluate(rows)
    return {"error": measured.total, "explained_variance": measured.explained_variance}


def _short(measured: dict[str, float] | None) -> list[str]:
    if measured is None:
        return []
    error, explained = measured["error"], measured["explained_variance"]
    return [f"held-out rows: error {error:.4g}, explained variance {explained:.4f}"]
