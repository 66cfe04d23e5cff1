"""`isthmus detect`: which rows are odd, and why."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isthmus.cli.console import Talk
from isthmus.cli.exit_codes import writing
from isthmus.cli.io.open_data import in_blocks, open_like, open_rows, place_of
from isthmus.cli.io.outputs import (
    TEXT_HAS_A_PLACE,
    check_apart,
    check_unread,
    free_file,
    free_place,
    free_table,
    write_text,
)
from isthmus.cli.options import Choosing, Computing, Detecting, Reading
from isthmus.cli.run.write_scores import REASONS, SHOWN, Judged, writing_scores
from isthmus.cli.settings import reading_options
from isthmus.detector import OutlierDetector, Reason
from isthmus.detector.saving import check_place
from isthmus.errors import RequestError, require
from isthmus.estimator import Autoencoder
from isthmus.loading import load
from isthmus.report import OddRow, findings, render_odd
from isthmus.runtime.device import resolve_device
from isthmus.types import Source


def run(
    data: str,
    output: str,
    wanted: Detecting,
    reading: Reading,
    choosing: Choosing,
    computing: Computing,
    talk: Talk,
) -> None:
    """Writes the score of each row of `data`, and whether it is odd."""
    target, began = free_table(output, force=wanted.force), time.monotonic()
    _check(wanted, target, data, choosing)
    detector, source = _ready(data, wanted, reading, choosing, computing, talk)
    judged = _judge(detector, source, target, wanted, talk)
    talk.note(f"wrote {target}: {judged.rows} rows, a score each")
    shown = min(SHOWN, judged.odd)
    reasons = judged.reasons(shown)
    if wanted.report is not None:
        _draw(Path(wanted.report), detector, source, judged, talk, force=wanted.force)
    if wanted.save is not None:
        with writing(Path(wanted.save)):
            detector.save(wanted.save, force=wanted.force)
        talk.note(f"wrote {wanted.save}, a detector for --with")
    talk.note(f"{judged.odd} of {judged.rows} rows are odd: {detector.threshold_statement_}")
    talk.notes(
        f"{place_of(source, int(row))}, score {score:.4g}: {_words(why)}"
        for row, score, why in zip(judged.worst[:shown], judged.worst_scores, reasons, strict=False)
    )
    talk.facts(
        {
            "output": str(target),
            "rows": judged.rows,
            "odd": judged.odd,
            "threshold": detector.threshold_,
            "statement": detector.threshold_statement_,
            "seconds": round(time.monotonic() - began, 3),
        }
    )


def _check(wanted: Detecting, target: Path, data: str, choosing: Choosing) -> None:
    _check_with(wanted, choosing)
    require(
        wanted.contamination is None
        or (wanted.false_alarm_rate is None and wanted.confidence is None),
        "--contamination beside --false-alarm-rate or --confidence: each draws a line; give one",
    )
    places = [target, *(Path(place) for place in (wanted.report, wanted.save) if place)]
    for place in places:
        for read in filter(None, (data, wanted.train)):
            check_unread(place, read)
        if wanted.detector is not None:
            check_apart(place, wanted.detector, data)
    for place in places[:-1] if wanted.save else ():
        inside = Path(wanted.save or "").resolve() in (place.resolve(), *place.resolve().parents)
        require(not inside, f"{place}: lies in the folder of --save; choose another place")
    if wanted.save is not None:
        free_place(wanted.save, force=wanted.force, check=check_place)
    if wanted.report is not None:
        free_file(wanted.report, force=wanted.force, suffix=".html")
    if wanted.explain and target.suffix.lower() not in TEXT_HAS_A_PLACE:
        raise RequestError(
            f"{target}: has no place for reasons in words; name it .csv, .tsv or .parquet"
        )


def _check_with(wanted: Detecting, choosing: Choosing) -> None:
    """Refuse what would be of no effect where a detector is fitted already."""
    if wanted.detector is None:
        return
    learned = {name: getattr(wanted, name) for name in ("train", "clean", "components")}
    learned |= {name: getattr(wanted, name) for name in ("estimators", "seed")}
    for name, value in {**learned, **vars(choosing)}.items():
        usual = getattr(Detecting() if name in learned else Choosing(), name)
        require(
            value == usual,
            f"--with and --{name}: a detector that is fitted learns nothing more; leave one out",
        )


def _ready(
    data: str,
    wanted: Detecting,
    reading: Reading,
    choosing: Choosing,
    computing: Computing,
    talk: Talk,
) -> tuple[OutlierDetector, Source]:
    """A fitted detector, and the rows to judge."""
    if wanted.detector is not None:
        resolve_device(computing.device)
        detector = load(wanted.detector, device=computing.device)
        require(
            isinstance(detector, OutlierDetector),
            f"{wanted.detector}: is a model, not a detector; give a folder that --save wrote",
        )
        _set_threshold(detector, wanted)
        schema = detector.estimators_[0].preparation_.schema
        with talk.stage(f"reading {data}"):
            return detector, open_like(schema, data, reading, talk)
    options = reading_options(reading, choosing)
    with talk.stage(f"reading {wanted.train or data}"):
        learned = open_rows(wanted.train or data, options, choosing)
        judged = learned
    if wanted.train is not None:
        with talk.stage(f"reading {data}"):
            judged = open_like(learned.schema, data, reading, talk)
    detector = _detector(wanted, computing.device)
    with talk.stage("learning what rows are like"):
        detector.fit(learned)
    talk.notes(f"note: {text}" for text in detector.estimators_[0].preparation_.remarks)
    return detector, judged


def _detector(wanted: Detecting, device: str) -> OutlierDetector:
    resolve_device(device)
    asked = ("contamination", "false_alarm_rate", "confidence")
    given = {name: getattr(wanted, name) for name in asked if getattr(wanted, name) is not None}
    size = wanted.components
    detector = OutlierDetector(
        None if size is None else Autoencoder(size, device=device),
        robust=not wanted.clean,
        n_estimators=wanted.estimators,
        device=device,
        random_state=wanted.seed,
        **given,
    )
    detector.check()
    return detector


def _set_threshold(detector: OutlierDetector, wanted: Detecting) -> None:
    """Another threshold, where one is asked for."""
    asked = (wanted.contamination, wanted.false_alarm_rate, wanted.confidence)
    if any(value is not None for value in asked):
        detector.set_threshold(
            contamination=wanted.contamination,
            false_alarm_rate=wanted.false_alarm_rate,
            confidence=wanted.confidence,
        )


def _judge(
    detector: OutlierDetector, source: Source, target: Path, wanted: Detecting, talk: Talk
) -> Judged:
    """Writes the scores of one block of rows after the other."""
    judged = Judged(detector, source, keep_scores=wanted.report is not None)
    allow_missing = detector.estimators_[0].preparation_.allow_missing
    with (
        talk.stage("scoring"),
        writing_scores(target, source, explained=wanted.explain, force=wanted.force) as write,
    ):
        for block in in_blocks(source, talk, allow_missing=allow_missing):
            scores, odd = judged.see(block)
            write(scores, odd, detector.explain(block, REASONS) if wanted.explain else None)
    return judged


def _draw(
    page: Path,
    detector: OutlierDetector,
    source: Source,
    judged: Judged,
    talk: Talk,
    *,
    force: bool,
) -> None:
    reasons = judged.reasons(len(judged.worst))
    told = zip(judged.worst, judged.worst_scores, reasons, strict=True)
    oddest = [OddRow(place_of(source, int(row)), float(score), why) for row, score, why in told]
    with talk.stage(f"drawing {page}"):
        scores = np.concatenate(judged.scores or [])
        found = findings(detector, source.origin, scores, oddest, judged.columns)
        write_text(page, render_odd(found), force=force)
    talk.note(f"wrote {page}")


def _words(reasons: Sequence[Reason]) -> str:
    return ", ".join(map(str, reasons)) or "nothing in particular"
