"""Section "features": the error of each column, pixel or point in time."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import numpy as np

from isthmus.data.schema import Schema
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.pictures import size_of
from isthmus.report.data.records import ReportData
from isthmus.report.data.row_access import in_chunks
from isthmus.report.html import Charts, paragraph, section
from isthmus.report.plot import (
    HUES,
    Figure,
    Trace,
    axis,
    baseline_color,
    figure,
    heatmap,
    label,
    times,
)
from isthmus.report.sections.base import Section
from isthmus.report.sections.reconstructions import Lines, channel_name, lines_of
from isthmus.types import Array

# D features, H x W pixels, T points in time.

MOST_BARS, MOST_SIDE = 30, 64
DASHES = ("dot", "dash", "dashdot")
HEAT = [[0, "@heat0"], [0.5, "@heat1"], [1, "@heat2"]]


class Bars(TypedDict):
    """Root mean squared errors of the columns with the largest ones."""

    names: list[str]
    ae: list[float]
    baselines: dict[str, list[float]]
    features: int


class Heat(TypedDict):
    """Root mean squared errors of pixels, in at most 64 x 64 cells, and the size in pixels."""

    ae: list[list[float]]
    size: list[int]


class OverTime(TypedDict):
    """Root mean squared errors of each channel over time."""

    ae: Lines
    baselines: dict[str, Lines]
    points: int
    channels: list[str] | None


class Features(TypedDict):
    """The errors in the form that suits the layout of the rows."""

    bars: NotRequired[Bars]
    heat: NotRequired[Heat]
    over_time: NotRequired[OverTime]


def collect(measurements: Measurements) -> Features | None:
    """The root mean squared error of each feature; None if there is only one."""
    squared = measurements.errors.per_feature
    if len(squared) < 2:
        return None
    schema = measurements.source.schema
    ours = np.sqrt(squared)
    baselines = {
        name: np.sqrt(errors.per_feature) for name, errors in measurements.baseline_errors.items()
    }
    if schema.layout == "image":
        return {"heat": {"ae": _heat(squared, schema), "size": list(size_of(schema)[:2])}}
    if schema.layout == "signal":
        return {"over_time": _over_time(ours, baselines, schema)}
    order = np.argsort(-ours, kind="stable")[:MOST_BARS]
    names = schema.feature_names()
    return {
        "bars": {
            "names": [names[i] for i in order],
            "ae": ours[order].tolist(),
            "baselines": {name: errors[order].tolist() for name, errors in baselines.items()},
            "features": len(ours),
        }
    }


def _over_time(ours: Array, baselines: Mapping[str, Array], schema: Schema) -> OverTime:
    shape = (1, *schema.shape)
    names = schema.recording.sample.names if schema.recording is not None else None
    return {
        "ae": lines_of(ours.reshape(shape), schema)[0],
        "baselines": {
            name: lines_of(errors.reshape(shape), schema)[0] for name, errors in baselines.items()
        },
        "points": schema.shape[0],
        "channels": None if names is None else list(names),
    }


def _heat(squared: Array, schema: Schema) -> list[list[float]]:
    """(H, W) root mean squared error over the channels, in at most 64 x 64 cells."""
    image = squared.reshape(schema.shape)
    if image.ndim == 3:
        image = image.mean(axis=0 if schema.channels_first else -1)
    small = in_chunks(in_chunks(image, MOST_SIDE).T, MOST_SIDE).T
    return np.sqrt(small).tolist()  # type: ignore[no-any-return]


def draw(values: Features, report: ReportData, charts: Charts) -> str:
    """Bars, a heat map or lines, depending on the layout of the rows."""
    unit, labels = report["data"]["unit"], report["labels"]
    if "heat" in values:
        chart = charts.add(_heat_figure(values["heat"]), "root mean squared error of each pixel")
        text = f"Root mean squared error of each pixel, {unit}."
        return section("features", "Error by pixel", paragraph(text), chart)
    if "over_time" in values:
        chart = charts.add(
            _time_figure(values["over_time"], labels), "root mean squared error over time"
        )
        text = f"Root mean squared error at each point in time, {unit}."
        return section("features", "Error over time", paragraph(text), chart)
    bars = values["bars"]
    shown, total = len(bars["names"]), bars["features"]
    text = f"Root mean squared error of each column, {unit}"
    text += f"; the {shown} largest of {total:,}." if shown < total else ", largest first."
    chart = charts.add(_bars_figure(bars, labels), "root mean squared error of each column")
    return section("features", "Error by column", paragraph(text), chart)


def _bars_figure(bars: Bars, labels: Mapping[str, str]) -> Figure:
    """The error of each column as a bar, the baselines' as marks on it."""
    positions = list(range(len(bars["names"])))
    common = {
        "y": positions,
        "customdata": [label(name, 120) for name in bars["names"]],
        "hovertemplate": "%{customdata}: %{x:.3g}",
    }
    traces: list[Trace] = [
        {"type": "bar", "orientation": "h", "name": "autoencoder", "x": bars["ae"]}
        | {"marker": {"color": "@ae"}}
        | common
    ]
    for i, (name, errors) in enumerate(bars["baselines"].items()):
        color = baseline_color(i)
        mark = {
            "symbol": "line-ns",
            "size": 13,
            "color": color,
            "line": {"color": color, "width": 3},
        }
        traces.append(
            {"type": "scatter", "mode": "markers", "name": labels[name], "x": errors}
            | {"marker": mark}
            | common
        )
    short = [label(name, 20) for name in bars["names"]]
    y = axis(tickvals=positions, ticktext=short, autorange="reversed", showgrid=False)
    x = axis("RMSE", rangemode="tozero")
    return figure(traces, x, y, height=22 * len(positions) + 110, bargap=0.35)


def _time_figure(values: OverTime, labels: Mapping[str, str]) -> Figure:
    """A line for each method and channel; the autoencoder's lines are solid."""
    methods = [
        (labels[name], lines, baseline_color(i), DASHES[i % len(DASHES)])
        for i, (name, lines) in enumerate(values["baselines"].items())
    ]
    methods.append(("autoencoder", values["ae"], "@ae", "solid"))
    several = len(values["ae"]) > 1
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"{name}, {channel_name(i, values['channels'])}" if several else name,
            "x": times(len(line), values["points"]),
            "y": line,
            "line": {"color": f"@c{i % HUES}" if several else color, "width": 2, "dash": dash},
        }
        for name, lines, color, dash in methods
        for i, line in enumerate(lines)
    ]
    y = axis("RMSE", rangemode="tozero")
    return figure(traces, axis("time step"), y, height=300)


def _heat_figure(heat: Heat) -> Figure:
    rows, columns = heat["size"]
    values = np.asarray(heat["ae"])
    return heatmap(
        {
            "x": np.linspace(0, columns - 1, values.shape[1]).tolist(),
            "y": np.linspace(0, rows - 1, len(values)).tolist(),
            "z": heat["ae"],
            "zmin": 0,
            "zmax": float(values.max()) or 1.0,
            "colorscale": HEAT,
            "hovertemplate": "row %{y:.0f}, column %{x:.0f}: %{z:.3g}<extra></extra>",
        }
    )


SECTION = Section(collect, draw)
