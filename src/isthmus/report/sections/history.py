"""Section "history": the loss over the epochs, and the events of the fit."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from isthmus.errors import ArtifactError, RequestError
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import History, Losses, OtherFit, ReportData
from isthmus.report.data.row_access import finite
from isthmus.report.html import Charts, paragraph, section, sentence
from isthmus.report.plot import HUES, Figure, Trace, axis, figure, label, wide_axis
from isthmus.report.sections.base import Section

FEWEST_EPOCHS = 2


def collect(measurements: Measurements) -> History:
    """Each loss term per epoch, for training and validation rows, and the events of the fit."""
    ae = measurements.ae
    return {
        **_losses(ae.history_),
        "best_epoch": ae.best_epoch_,
        "start": ae.facts_.get("pretraining"),
        "others": [
            {"name": "given up", "start": record["start"], **_losses(record["given_up"])}
            for record in ae.history_
            if "given_up" in record
        ],
        "events": [
            {"event": record["event"], "epoch": record["epoch"], "message": record["message"]}
            for record in ae.history_
            if "event" in record
        ],
    }


def _losses(records: Iterable[Mapping[str, Any]]) -> Losses:
    epochs = [record for record in records if "train" in record]
    names = list(dict.fromkeys(name for record in epochs for name in record["train"]))
    return {
        "epochs": [record["epoch"] for record in epochs],
        "terms": {
            name: {
                part: [finite(record[part].get(name, np.nan)) for record in epochs]
                for part in ("train", "validation")
                if all(part in record for record in epochs)
            }
            for name in names
        },
    }


def with_curve(report: ReportData, other: ReportData, name: str) -> ReportData:
    """`report` with the learning curve of another fit added under `name`.

    Raises RequestError unless both fits have the same loss, number of rows and number of features.
    Raises ArtifactError if one of them holds no learning curve.
    """
    try:
        pairs = zip(*map(_comparable, (report, other)), strict=True)
        history, curve = report["history"], other["history"]
        added: OtherFit = {
            "name": name,
            "start": curve["start"],
            "epochs": curve["epochs"],
            "terms": curve["terms"],
        }
        others = [*history["others"], added]
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"holds no learning curve ({error!r}); it was edited, or written by another version "
            "of isthmus; fit again"
        ) from error
    for (name_of, value), (_, other_value) in pairs:
        if value != other_value:
            raise RequestError(
                f"{name}: its learning curve is not comparable, because its {name_of} is "
                f"{other_value} and here it is {value}; name a model of the same data and loss"
            )
    combined: History = {**history, "others": others}
    return {**report, "history": combined}


def _comparable(report: ReportData) -> list[tuple[str, object]]:
    """What must be equal for two learning curves to be compared, with its name."""
    training = report["training"]
    # Validation rows are counted too, because their share may differ.
    rows = training["training_rows"] + training["validation_rows"]
    return [
        ("loss", report["model"]["loss"]),
        ("list of loss terms", ", ".join(report["history"]["terms"])),
        ("number of rows", rows),
        ("number of features", report["data"]["features"]),
    ]


def draw(values: History, report: ReportData, charts: Charts) -> str:
    """The learning curve and a paragraph for each event."""
    del report
    events = [paragraph(sentence(event["message"]), "event") for event in values["events"]]
    best = values["best_epoch"]
    if len(values["epochs"]) <= FEWEST_EPOCHS:
        return section("history", "Learning curve", *events)
    text = f"The dashed line marks epoch {best}, whose weights the model has."
    if values["others"]:
        text += f" This fit began from {values['start']}; dashed curves are other fits."
    chart = charts.add(
        figure_of(values), f"loss over {values['epochs'][-1]} epochs; the best is epoch {best}"
    )
    return section("history", "Learning curve", paragraph(text), chart, *events)


def figure_of(values: History) -> Figure:
    """Each loss term over the epochs: validation rows solid, training rows dotted.

    Of other fits, only the curves of validation rows are drawn, dashed.
    """
    several = len(values["terms"]) > 1
    data = [
        _line(values, name, part, f"@c{i % HUES}" if several else None)
        for i, (name, parts) in enumerate(values["terms"].items())
        for part in parts
    ]
    for number, other in enumerate(values["others"], start=1):
        suffix = f", {label(other['name'])}, from {other['start']}"
        for i, (name, parts) in enumerate(other["terms"].items()):
            part = "validation" if "validation" in parts else "train"
            line = _line(other, name, part, f"@c{(i if several else number) % HUES}")
            line["line"]["dash"] = "dash"
            data.append(line | {"name": line["name"] + suffix})
    losses = [value for line in data for value in line["y"] if value is not None]
    best = values["best_epoch"]
    mark = {"type": "line", "x0": best, "x1": best, "yref": "paper", "y0": 0, "y1": 1}
    return figure(
        data,
        axis("epoch"),
        wide_axis("loss", losses),
        shapes=[mark | {"line": {"color": "@pca", "width": 1, "dash": "dash"}}],
    )


def _line(losses: Losses, name: str, part: str, color: str | None) -> Trace:
    """One term over the epochs on training or validation rows."""
    solid = part == "validation" or "validation" not in losses["terms"][name]
    rows = "validation rows" if part == "validation" else "training rows"
    return {
        "type": "scatter",
        "mode": "lines",
        "x": losses["epochs"],
        "y": losses["terms"][name][part],
        "name": f"{label(name)}, {rows}" if len(losses["terms"]) > 1 else rows,
        "line": {
            "color": color or ("@ae" if solid else "@muted"),
            "dash": "solid" if solid else "dot",
            "width": 2,
        },
        "hovertemplate": "epoch %{x}: %{y:.4g}",
    }


SECTION = Section(collect, draw)
