"""`isthmus detect`: which rows are outliers, and why."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus.cli.console import Console
from isthmus.cli.exit_codes import explain_write_errors
from isthmus.cli.io.open_data import checked_blocks, open_training_rows, open_with_schema, row_label
from isthmus.cli.io.outputs import (
    check_not_input,
    check_output_location,
    holds_text,
    output_file,
    output_path,
    output_table,
    text_formats,
    write_text,
)
from isthmus.cli.options import ColumnOptions, DetectOptions, ReadingOptions
from isthmus.cli.run.write_scores import N_REASONS, NOTED_ROWS, ScoreSummary, score_writer
from isthmus.data.source import Source
from isthmus.detector import OutlierDetector, Reason
from isthmus.detector.persistence import check_target
from isthmus.errors import RequestError, require
from isthmus.loading import load
from isthmus.report import OutlierRow, outlier_report, render_outliers
from isthmus.runtime.device import resolve_device

THRESHOLD_OPTIONS = ("contamination", "false_alarm_rate", "confidence")


def run(
    data: str,
    output: str,
    options: DetectOptions,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    device: str,
    console: Console,
) -> None:
    """Writes the outlier score of each row of `data`, and whether it is an outlier."""
    target, started = output_table(output, force=options.force), time.monotonic()
    _check(options, target, data, column_options)
    detector, source = _open_detector_and_rows(
        data, options, reading, column_options, device, console
    )
    summary = _score_rows(detector, source, target, options, console)
    console.note(f"wrote {target}: scores of {summary.rows} rows")
    noted = min(NOTED_ROWS, summary.outliers)
    reasons = summary.reasons(noted)
    if options.report is not None:
        _write_report(Path(options.report), detector, source, summary, console, force=options.force)
    if options.save is not None:
        with explain_write_errors(Path(options.save)):
            detector.save(options.save, force=options.force)
        console.note(f"wrote {options.save}, a detector for --detector")
    console.note(
        f"{summary.outliers} of {summary.rows} rows are outliers; {detector.threshold_statement_}"
    )
    console.notes(
        f"{row_label(source, int(row))}, score {score:.4g}: {_joined(why)}"
        for row, score, why in zip(
            summary.top_rows[:noted], summary.top_scores, reasons, strict=False
        )
    )
    console.json_result(
        {
            "output": str(target),
            "rows": summary.rows,
            "outliers": summary.outliers,
            "threshold": detector.threshold_,
            "threshold_statement": detector.threshold_statement_,
            "seconds": round(time.monotonic() - started, 3),
        }
    )


def _check(options: DetectOptions, target: Path, data: str, column_options: ColumnOptions) -> None:
    _check_saved_detector(options, column_options)
    require(
        options.contamination is None
        or (options.false_alarm_rate is None and options.confidence is None),
        "--contamination cannot be combined with --false-alarm-rate or --confidence: both set the "
        "threshold; give one",
    )
    paths = [target, *(Path(path) for path in (options.report, options.save) if path)]
    for path in paths:
        for input_path in filter(None, (data, options.train)):
            check_not_input(path, input_path)
        if options.detector is not None:
            check_output_location(path, options.detector, data)
    for path in paths[:-1] if options.save else ():
        inside = Path(options.save or "").resolve() in (path.resolve(), *path.resolve().parents)
        require(not inside, f"{path}: is in the folder of --save; choose another output path")
    if options.save is not None:
        output_path(options.save, force=options.force, check=check_target)
    if options.report is not None:
        output_file(options.report, force=options.force, suffix=".html")
    if options.explain and not holds_text(target):
        raise RequestError(
            f"{target}: cannot hold the text that --explain writes; write to {text_formats()}"
        )


def _check_saved_detector(options: DetectOptions, column_options: ColumnOptions) -> None:
    """Refuse options that have no effect on a detector that is already fitted."""
    if options.detector is None:
        return
    fit_options = {name: getattr(options, name) for name in ("train", "clean", "n_components")}
    fit_options |= {name: getattr(options, name) for name in ("n_estimators", "random_state")}
    for name, value in {**fit_options, **vars(column_options)}.items():
        default = getattr(DetectOptions() if name in fit_options else ColumnOptions(), name)
        flag = "--" + name.replace("_", "-")
        require(
            value == default,
            f"--detector and {flag}: a saved detector is not fitted again; leave one out",
        )


def _open_detector_and_rows(
    data: str,
    options: DetectOptions,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    device: str,
    console: Console,
) -> tuple[OutlierDetector, Source]:
    """A fitted detector, and the rows to score."""
    if options.detector is not None:
        resolve_device(device)
        detector = load(options.detector, device=device)
        require(
            isinstance(detector, OutlierDetector),
            f"{options.detector}: is a model, not a detector; give a folder that isthmus detect "
            "--save wrote",
        )
        _set_threshold(detector, options)
        schema = detector.estimators_[0].preparation_.schema
        with console.stage(f"reading {data}"):
            return detector, open_with_schema(schema, data, reading, console)
    with console.stage(f"reading {options.train or data}"):
        training_rows = open_training_rows(options.train or data, reading, column_options)
        scored_rows = training_rows
    if options.train is not None:
        with console.stage(f"reading {data}"):
            scored_rows = open_with_schema(training_rows.schema, data, reading, console)
    detector = _detector(options, device)
    with console.stage("fitting the detector"):
        detector.fit(training_rows)
    console.notes(f"note: {text}" for text in detector.estimators_[0].preparation_.remarks)
    return detector, scored_rows


def _detector(options: DetectOptions, device: str) -> OutlierDetector:
    resolve_device(device)
    given = {name: getattr(options, name) for name in THRESHOLD_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    return OutlierDetector(
        n_components=options.n_components,
        robust=not options.clean,
        n_estimators=options.n_estimators,
        device=device,
        random_state=options.random_state,
        **given,
    )


def _set_threshold(detector: OutlierDetector, options: DetectOptions) -> None:
    """Sets another threshold if the options ask for one."""
    if any(getattr(options, name) is not None for name in THRESHOLD_OPTIONS):
        detector.set_threshold(
            contamination=options.contamination,
            false_alarm_rate=options.false_alarm_rate,
            confidence=options.confidence,
        )


def _score_rows(
    detector: OutlierDetector,
    source: Source,
    target: Path,
    options: DetectOptions,
    console: Console,
) -> ScoreSummary:
    """Scores and writes one block of rows after the other."""
    summary = ScoreSummary(detector, source, keep_scores=options.report is not None)
    allow_missing = detector.estimators_[0].preparation_.allow_missing
    with (
        console.stage("scoring"),
        score_writer(target, source, explained=options.explain, force=options.force) as write,
    ):
        for block in checked_blocks(source, console, allow_missing=allow_missing):
            scores, is_outlier = summary.add(block)
            reasons = detector.explain(block, N_REASONS) if options.explain else None
            write(scores, is_outlier, reasons)
    return summary


def _write_report(
    path: Path,
    detector: OutlierDetector,
    source: Source,
    summary: ScoreSummary,
    console: Console,
    *,
    force: bool,
) -> None:
    reasons = summary.reasons(len(summary.top_rows))
    top = zip(summary.top_rows, summary.top_scores, reasons, strict=True)
    rows = [OutlierRow(row_label(source, int(row)), float(score), why) for row, score, why in top]
    with console.stage(f"drawing {path}"):
        scores = np.concatenate(summary.scores or [])
        report = outlier_report(detector, source.origin, scores, rows, summary.mean_contributions)
        write_text(path, render_outliers(report), force=force)
    console.note(f"wrote {path}")


def _joined(reasons: Sequence[Reason]) -> str:
    return ", ".join(map(str, reasons)) or "no single column stands out"
