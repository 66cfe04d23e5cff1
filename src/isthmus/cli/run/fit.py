"""`isthmus fit`: from a file to a model folder with its report."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus import artifact
from isthmus.artifact import REPORT, REPORT_DATA
from isthmus.cli.console import Console, to_json
from isthmus.cli.exit_codes import explain_write_errors
from isthmus.cli.io.open_data import LabelledRows, open_labelled, open_with_schema
from isthmus.cli.io.outputs import output_path
from isthmus.cli.options import ColumnOptions, FitOptions, ReadingOptions, TrainingOptions
from isthmus.cli.progress import fit_reporter
from isthmus.cli.settings import estimator_arguments
from isthmus.data.source import Source, Subset
from isthmus.errors import ArtifactError, DataError, DivergenceError, RequestError, SourceError
from isthmus.estimator import Autoencoder
from isthmus.files import locked
from isthmus.report import ReportData, gather, render, summary_lines
from isthmus.training.checkpoint import NAME

MAX_NAMES = 5
RESUME_HINT = "run the same command with --resume to continue the fit"


def run(
    data: str,
    output: str,
    options: FitOptions,
    training: TrainingOptions,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    console: Console,
) -> None:
    """Fits to the rows of `data` and writes the model folder `output`, whole or not at all."""
    target = output_path(output, force=options.force, check=artifact.check_place)
    started = time.monotonic()
    with console.stage(f"reading {data}"):
        labelled = open_labelled(data, options.color, reading, column_options)
    fraction, validation_source = _validation(options.validation, labelled.source, reading, console)
    checkpoint = target.with_name(f".{target.name}.checkpoint")
    ae = Autoencoder(
        options.n_components,
        validation_fraction=fraction,
        verbose=fit_reporter(console),
        checkpoint=checkpoint,
        **estimator_arguments(training, labelled.source.schema),
    )
    with locked(checkpoint, f"fitting {target}"):
        _check_interrupted_fit(checkpoint, options, console)
        with _checkpoint_for_resume(checkpoint):
            ae.fit(labelled.source, validation=validation_source, resume=options.resume)
            report, pages, report_error = _report(ae, labelled, options, console)
            _write(ae, target, pages, force=options.force)
        shutil.rmtree(checkpoint, ignore_errors=True)
    if report_error is not None:
        report_error.add_note(f"the model {target} was written, without a report")
        raise report_error
    measured = report["measured"] if report else _measured(ae, labelled.source, validation_source)
    console.notes(_notes(ae, report, measured))
    seconds = time.monotonic() - started
    console.note(f"wrote {target / REPORT if report else target} after {seconds:.1f} s in all")
    console.json_result(_facts(ae, target) | {"measured": measured, "seconds": round(seconds, 3)})


def _check_interrupted_fit(checkpoint: Path, options: FitOptions, console: Console) -> None:
    """Notes if there is nothing to resume; refuses to discard an interrupted fit unasked."""
    interrupted = any(checkpoint.rglob(NAME))
    if options.resume and not interrupted:
        console.note(f"note: {checkpoint} holds no fit to resume; starting from the beginning")
    if interrupted and not (options.resume or options.force):
        raise RequestError(
            f"{checkpoint}: holds an interrupted fit; continue it with --resume, or discard it "
            "with --force"
        )


def _validation(
    validation: str | None, source: Source, reading: ReadingOptions, console: Console
) -> tuple[float | str, Source | None]:
    """The share of rows to validate on, or the validation rows themselves."""
    if validation is None:
        return "auto", None
    try:
        return float(validation), None
    except ValueError:
        return "auto", open_with_schema(source.schema, validation, reading, console)


@contextmanager
def _checkpoint_for_resume(checkpoint: Path) -> Iterator[None]:
    """Adds the hint on --resume to an interruption; removes a checkpoint without use."""
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
            error.add_note(RESUME_HINT)
        elif checkpoint.exists():
            shutil.rmtree(checkpoint, ignore_errors=True)  # it holds no complete state
        raise


def _report(
    ae: Autoencoder, labelled: LabelledRows, options: FitOptions, console: Console
) -> tuple[ReportData | None, dict[str, str], Exception | None]:
    """The report data and the text of its files; None and no files without a report.

    An error in the report must not lose the fitted model, so it is returned.
    """
    if options.no_report:
        return None, {}, None
    try:
        with console.stage("drawing the report"):
            source, labels, name = labelled
            report = gather(ae, source, color=labels, color_name=name)
            pages = {REPORT: render(report), REPORT_DATA: to_json(report, indent=1) + "\n"}
            return report, pages, None
    except Exception as error:
        return None, {}, error


def _write(ae: Autoencoder, target: Path, pages: dict[str, str], *, force: bool) -> None:
    """Writes the model folder, with the files of the report."""
    try:
        with explain_write_errors(target):
            artifact.save(ae.to_artifact(), target, force=force, extra=pages)
    except SourceError as error:
        error.add_note(RESUME_HINT)
        raise


def _measured(ae: Autoencoder, source: Source, validation_source: Source | None) -> dict[str, Any]:
    """The error on the validation rows, or on all rows without validation rows."""
    validation = np.asarray(ae.validation_rows_)
    unseen = validation_source is not None or len(validation) > 0
    rows = validation_source or (Subset(source, validation) if unseen else source)
    result = ae.evaluate(rows)
    figures = {"error": result.total, "explained_variance": result.explained_variance}
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


def _notes(
    ae: Autoencoder, report: ReportData | None, measured: Mapping[str, Any]
) -> Iterator[str]:
    constant = ae.preparation_.constant
    if constant:
        more = f" and {len(constant) - MAX_NAMES} more" if len(constant) > MAX_NAMES else ""
        names = ", ".join(map(repr, constant[:MAX_NAMES]))
        verb = "is constant" if len(constant) == 1 else "are constant"
        yield f"note: {len(constant)} of the features {verb}: {names}{more}"
    if report:
        yield from summary_lines(report)
    else:
        figures, rows = measured["ae"], "validation" if measured["unseen"] else "all"
        yield (
            f"{rows} rows: error {figures['error']:.4g}, "
            f"explained variance {figures['explained_variance']:.4f}"
        )
