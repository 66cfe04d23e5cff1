"""`isthmus fit`: from a file to a model folder with its report."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus import artifact
from isthmus.artifact import EVIDENCE, REPORT
from isthmus.cli.console import Talk, to_json
from isthmus.cli.exit_codes import writing
from isthmus.cli.io.open_data import Colored, open_colored, open_like
from isthmus.cli.io.outputs import free_place
from isthmus.cli.options import Choosing, Fit, Reading, Training
from isthmus.cli.progress import reporter
from isthmus.cli.settings import estimator_settings
from isthmus.data import Subset
from isthmus.errors import ArtifactError, DataError, DivergenceError, RequestError, SourceError
from isthmus.estimator import Autoencoder, to_artifact
from isthmus.files import locked
from isthmus.report import gather, render, summary_lines
from isthmus.training.checkpoint import NAME
from isthmus.types import Source

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
    target = free_place(output, force=wanted.force, check=artifact.check_place)
    began = time.monotonic()
    with talk.stage(f"reading {data}"):
        colored = open_colored(data, wanted.color, reading, choosing)
    fraction, validation_source = _validation(wanted.validation, colored.source, reading, talk)
    checkpoint = target.with_name(f".{target.name}.checkpoint")
    ae = Autoencoder(
        wanted.components,
        validation_fraction=fraction,
        verbose=reporter(talk),
        checkpoint=checkpoint,
        **estimator_settings(training, colored.source.schema),
    )
    with locked(checkpoint, f"fitting {target}"):
        _check_kept(checkpoint, wanted, talk)
        with _kept(checkpoint):
            ae.fit(colored.source, validation=validation_source, resume=wanted.resume)
            evidence, fault = _evidence(ae, colored, wanted, talk)
            _write(ae, target, evidence, force=wanted.force)
        shutil.rmtree(checkpoint, ignore_errors=True)
    if fault is not None:
        fault.add_note(f"{target} is written, without a report")
        raise fault
    measured = evidence.get("measured") or _measured(ae, colored.source, validation_source)
    talk.notes(_notes(ae, evidence, measured))
    seconds = time.monotonic() - began
    talk.note(f"wrote {target / REPORT if evidence else target} after {seconds:.1f} s in all")
    talk.facts(_facts(ae, target) | {"measured": measured, "seconds": round(seconds, 3)})


def _check_kept(checkpoint: Path, wanted: Fit, talk: Talk) -> None:
    """Says where there is nothing to resume; refuses to lose an interrupted fit unasked."""
    interrupted = any(checkpoint.rglob(NAME))
    if wanted.resume and not interrupted:
        talk.note(f"note: there is nothing to resume in {checkpoint}; starting at the beginning")
    if interrupted and not (wanted.resume or wanted.force):
        raise RequestError(
            f"{checkpoint}: holds a fit that was interrupted; go on from there with --resume, or "
            "start anew with --force"
        )


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
        if not any(checkpoint.rglob(NAME)):
            shutil.rmtree(checkpoint, ignore_errors=True)
        raise
    except BaseException as error:
        if (checkpoint / NAME).exists():
            error.add_note(RESUME)
        elif checkpoint.exists():
            shutil.rmtree(checkpoint, ignore_errors=True)  # nothing whole was written into it
        raise


def _evidence(
    ae: Autoencoder, colored: Colored, wanted: Fit, talk: Talk
) -> tuple[dict[str, Any], Exception | None]:
    """What the report shows, {} where none is wanted.

    A report that cannot be drawn must not lose what was learned, so its fault is handed back.
    """
    if wanted.no_report:
        return {}, None
    try:
        with talk.stage("drawing the report"):
            source, labels, name = colored
            return gather(ae, source, color=labels, color_name=name), None
    except Exception as fault:
        return {}, fault


def _write(ae: Autoencoder, target: Path, evidence: dict[str, Any], *, force: bool) -> None:
    """Writes the model folder, with the report where there is evidence."""
    pages = {}
    if evidence:
        pages = {REPORT: render(evidence), EVIDENCE: to_json(evidence, indent=1) + "\n"}
    try:
        with writing(target):
            artifact.save(to_artifact(ae), target, force=force, extra=pages)
    except SourceError as error:
        error.add_note(RESUME)
        raise


def _measured(ae: Autoencoder, source: Source, validation_source: Source | None) -> dict[str, Any]:
    """The errors of rows that training has not seen, where there are any, else of all rows."""
    validation = np.asarray(ae.validation_rows_)
    unseen = validation_source is not None or len(validation) > 0
    rows = validation_source or (Subset(source, validation) if unseen else source)
    found = ae.evaluate(rows)
    figures = {"error": found.total, "explained_variance": found.explained_variance}
    return {"rows": len(rows), "unseen": unseen, "ae": figures}


def _facts(ae: Autoencoder, target: Path) -> dict[str, Any]:
    return {
        "model": str(target),
        "kind": ae.kind_.to_json(),
        "loss": ae.loss_.to_json(),
        **ae.facts_,
        "best_epoch": ae.best_epoch_,
        "constant_features": len(ae.preparation_.constant),
    }


def _notes(ae: Autoencoder, evidence: dict[str, Any], measured: dict[str, Any]) -> Iterator[str]:
    constant = ae.preparation_.constant
    if constant:
        more = f" and {len(constant) - SHOWN} more" if len(constant) > SHOWN else ""
        names = ", ".join(map(repr, constant[:SHOWN]))
        verb = "changes" if len(constant) == 1 else "change"
        yield f"note: {len(constant)} of the features never {verb}: {names}{more}"
    if evidence:
        yield from summary_lines(evidence)
    else:
        figures, whose = measured["ae"], "held-out" if measured["unseen"] else "all"
        yield (
            f"{whose} rows: error {figures['error']:.4g}, "
            f"explained variance {figures['explained_variance']:.4f}"
        )
