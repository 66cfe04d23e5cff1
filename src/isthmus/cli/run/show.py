"""`isthmus report` and `isthmus info`: what a model folder holds, as a page and as facts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isthmus import artifact
from isthmus.artifact import EVIDENCE, REPORT
from isthmus.cli.console import Talk, to_json
from isthmus.cli.io.outputs import free_file, write_text
from isthmus.cli.options import Computing, Reading
from isthmus.errors import ArtifactError, RequestError
from isthmus.spec import format_spec


def report(
    model: str,
    data: str | None,
    output: str | None,
    beside: str | None,
    color: str | None,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    force: bool,
) -> None:
    """Draws the report of the fit again, or one of the model on other data."""
    folder = Path(model)
    artifact.describe(folder)
    # What is drawn from the folder alone may always take its old place: it shows the same.
    again = data is None and output is None
    target = free_file(output or str(folder / REPORT), force=force or again, suffix=".html")
    if data is None:
        if color is not None:
            raise RequestError(f"--color {color}: needs DATA to take labels from; name it too")
        evidence = _kept(folder / EVIDENCE)
    else:
        evidence = _gathered(model, data, color, reading, computing, talk)
    shown = evidence if beside is None else _with_curve(evidence, Path(beside))
    with talk.stage("drawing the report"):
        page = _drawn(shown, folder)
    if output is None and data is not None:
        write_text(folder / EVIDENCE, to_json(evidence, indent=1) + "\n", force=True)
    write_text(target, page, force=True)
    talk.note(f"wrote {target}")
    talk.facts(evidence)


def info(model: str, talk: Talk) -> None:
    """Tells the facts of a model, from model.json alone."""
    described = artifact.describe(model)
    try:
        lines = list(_lines(model, described))
    except (AttributeError, TypeError) as error:
        raise ArtifactError(
            f"{model}: model.json does not say what it should ({error}); it was edited"
        ) from error
    talk.answer(described, lines)


def _gathered(
    model: str, data: str, color: str | None, reading: Reading, computing: Computing, talk: Talk
) -> dict[str, Any]:
    from isthmus.cli.io.open_data import color_like, open_like
    from isthmus.data import check_rows
    from isthmus.estimator import load
    from isthmus.report import gather

    ae = load(model, device=computing.device)
    with talk.stage("measuring"):
        source = open_like(ae.preparation_.schema, data, reading, talk)
        check_rows(source, at_least=1, allow_missing=ae.preparation_.allow_missing)
        labels = color_like(data, color, source, reading)
        return gather(ae, source, color=labels, color_name=color)


def _kept(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ArtifactError(
            f"{path}: there is no such file, since the fit wrote no report; name the data to "
            "make one: isthmus report MODEL DATA"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as JSON ({error}); fit again") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path}: is not what fit wrote; fit again")
    return found


def _with_curve(evidence: dict[str, Any], other: Path) -> dict[str, Any]:
    from isthmus.report import with_curve

    artifact.describe(other)
    kept = _kept(other / EVIDENCE)
    try:
        return with_curve(evidence, kept, other.resolve().name)
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{other / EVIDENCE}: holds no learning curve ({error!r}); it was edited, or written "
            "by another isthmus; fit again"
        ) from error


def _drawn(evidence: dict[str, Any], folder: Path) -> str:
    from isthmus.report import render

    try:
        return render(evidence)
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder / EVIDENCE}: cannot be drawn ({error!r}); it was edited, or written by "
            "another isthmus; name the data to make it anew: isthmus report MODEL DATA --force"
        ) from error


def _lines(model: str, described: dict[str, Any]) -> Iterator[str]:
    preparation = described.get("preparation", {})
    schema = preparation.get("schema", {})
    versions = described.get("versions", {})
    written = ", ".join(f"{name} {number}" for name, number in versions.items())
    yield f"{model}  (format {described['format']}, written by {written})"
    yield f"kind      {format_spec(described.get('kind', {}))}"
    yield f"loss      {format_spec(described.get('loss', {}))}"
    yield f"rows of   {schema.get('layout')}, shape {tuple(schema.get('shape', ()))}"
    if schema.get("names"):
        yield f"columns   {', '.join(schema['names'])}"
    yield f"scaling   {preparation.get('scaling')}"
    for name, value in described.get("facts", {}).items():
        yield f"{name:<22}{value}"
    yield "settings"
    for name, value in described.get("settings", {}).items():
        yield f"  {name:<20}{format_spec(value)}"
