"""`isthmus report` and `isthmus info`: a model folder as a page and as a table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from isthmus import artifact
from isthmus.artifact import REPORT, REPORT_DATA, format_spec
from isthmus.cli.console import Console, to_json
from isthmus.cli.io.outputs import output_file, write_text
from isthmus.cli.options import ReadingOptions
from isthmus.errors import ArtifactError, require

if TYPE_CHECKING:
    from isthmus.report import ReportData

NAME_WIDTH = 24
"""The width of the first column of `isthmus info`, in characters."""


def report(
    model: str,
    data: str | None,
    output: str | None,
    compare_with: str | None,
    color: str | None,
    reading: ReadingOptions,
    device: str,
    console: Console,
    *,
    force: bool,
) -> None:
    """Draws the report of the fit again, or one of the model on other data."""
    folder = Path(model)
    artifact.describe(folder)
    # A page drawn from the folder alone may replace the old one: it shows the same facts.
    redraw = data is None and output is None
    target = output_file(output or str(folder / REPORT), force=force or redraw, suffix=".html")
    if data is None:
        require(color is None, f"--color {color}: needs DATA to read the labels from; give it too")
        require(
            reading == ReadingOptions() and device == "auto",
            "isthmus report without DATA reads no rows: leave out --device and how DATA is read, "
            "or give DATA",
        )
        report_data = _read_report_data(folder / REPORT_DATA)
    else:
        report_data = _gather(model, data, color, reading, device, console)
    page_data = report_data
    if compare_with is not None:
        page_data = _with_curve(report_data, Path(compare_with))
    with console.stage("drawing the report"):
        page = _render(page_data, folder)
    if output is None and data is not None:
        write_text(folder / REPORT_DATA, to_json(report_data, indent=1) + "\n", force=True)
    write_text(target, page, force=True)
    console.note(f"wrote {target}")
    console.json_result(report_data)


def info(model: str, console: Console) -> None:
    """Prints the settings and facts of a model, from model.json alone."""
    description = artifact.describe(model)
    try:
        lines = list(_lines(model, description))
    except (AttributeError, TypeError) as error:
        raise ArtifactError(
            f"{model}: model.json is not as fit wrote it ({error}); fit again"
        ) from error
    console.result(description, lines)


def _gather(
    model: str, data: str, color: str | None, reading: ReadingOptions, device: str, console: Console
) -> "ReportData":
    from isthmus.cli.io.open_data import labels_for, open_with_schema
    from isthmus.data.validate import check_rows
    from isthmus.estimator import load
    from isthmus.report import gather

    ae = load(model, device=device)
    with console.stage("evaluating the model"):
        source = open_with_schema(ae.preparation_.schema, data, reading, console)
        check_rows(source, at_least=1, allow_missing=ae.preparation_.allow_missing)
        labels = labels_for(data, color, source, reading)
        return gather(ae, source, color=labels, color_name=color)


def _read_report_data(path: Path) -> "ReportData":
    if not path.is_file():
        raise ArtifactError(
            f"{path}: does not exist, because the fit wrote no report; give data to make "
            "one: isthmus report MODEL DATA"
        )
    try:
        report_data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error}); fit again") from error
    if not isinstance(report_data, dict):
        raise ArtifactError(f"{path}: is not as fit wrote it; fit again")
    return cast("ReportData", report_data)


def _with_curve(report_data: "ReportData", other: Path) -> "ReportData":
    from isthmus.report import with_curve

    artifact.describe(other)
    other_data = _read_report_data(other / REPORT_DATA)
    try:
        return with_curve(report_data, other_data, other.resolve().name)
    except ArtifactError as error:
        raise ArtifactError(f"{other / REPORT_DATA}: {error}") from error


def _render(report_data: "ReportData", folder: Path) -> str:
    from isthmus.report import render

    try:
        return render(report_data)
    except ArtifactError as error:
        raise ArtifactError(
            f"{folder / REPORT_DATA}: {error}, or give data: isthmus report MODEL DATA --force"
        ) from error


def _lines(model: str, description: dict[str, Any]) -> Iterator[str]:
    """The lines of `isthmus info`: a header, the data, the results of the fit, its settings."""
    preparation = description.get("preparation", {})
    schema = preparation.get("schema", {})
    versions = ", ".join(f"{name} {number}" for name, number in description["versions"].items())
    yield f"{model}  (format {description['format']}, written by {versions})"
    yield _line("kind", format_spec(description.get("kind", {})))
    yield _line("loss", format_spec(description.get("loss", {})))
    yield _line("layout", schema.get("layout"))
    yield _line("row shape", " x ".join(map(str, schema.get("shape", ()))))
    if schema.get("names"):
        yield _line("columns", ", ".join(schema["names"]))
    yield _line("preparation", preparation.get("scaling"))
    facts = dict(description.get("facts", {}))
    decisions = facts.pop("decisions", [])
    yield "results of the fit"
    for name, value in facts.items():
        yield _line(f"  {name}", value)
    if decisions:
        yield "decisions of the fit, for settings that were left open"
        for decision in decisions:
            yield _line(f"  {decision['name']}", f"{decision['value']}  ({decision['reason']})")
    yield "settings as given"
    for name, value in description.get("settings", {}).items():
        yield _line(f"  {name}", format_spec(value))


def _line(name: str, value: object) -> str:
    return f"{name:<{NAME_WIDTH}} {value}"
