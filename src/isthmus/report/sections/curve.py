"""Section "curve": explained variance of the baselines at each code size."""

from typing import TypedDict

import numpy as np

from isthmus.report import formatting
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import ReportData
from isthmus.report.data.row_access import finite
from isthmus.report.html import Charts, paragraph, section
from isthmus.report.plot import Figure, Trace, axis, baseline_color, figure
from isthmus.report.sections.base import Section

CURVE_POINTS = 48


class Curve(TypedDict):
    """Explained variance of one baseline over its code sizes."""

    sizes: list[int]
    explained: list[float | None]


def collect(measurements: Measurements) -> dict[str, Curve] | None:
    """The curve of each baseline at up to 48 sizes, evenly spaced on a logarithmic scale."""
    return {
        name: {
            "sizes": (sizes := _sizes(len(explained))),
            "explained": [finite(explained[size - 1]) for size in sizes],
        }
        for name, explained in measurements.curves.items()
    }


def _sizes(largest: int) -> list[int]:
    return [int(n) for n in np.unique(np.geomspace(1, largest, CURVE_POINTS).round().astype(int))]


def draw(curves: dict[str, Curve], report: ReportData, charts: Charts) -> str:
    """A line for each baseline and a point for the autoencoder."""
    size, labels = report["model"]["n_components"], report["labels"]
    explained = report["measured"]["ae"]["explained_variance"]
    largest = max((curve["sizes"][-1] for curve in curves.values()), default=1)
    if largest < 2 or explained is None:
        return ""
    names = formatting.listed([labels[name] for name in curves])
    chart = charts.add(
        _figure(curves, labels, size, explained),
        f"explained variance of {names} for 1 to {largest} numbers per row, and of the "
        f"autoencoder with {size}: {formatting.percent(explained)}",
    )
    text = f"Explained variance of {names} at each code size, and of the autoencoder at its own."
    return section("curve", f"Comparison with {names} by code size", paragraph(text), chart)


def _figure(
    curves: dict[str, Curve], labels: dict[str, str], size: int, explained: float
) -> Figure:
    lines: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": labels[name],
            "x": curve["sizes"],
            "y": curve["explained"],
            "line": {"color": baseline_color(i), "width": 2},
            "marker": {"size": 5},
            "hovertemplate": "%{x} numbers per row: %{y:.1%}",
        }
        for i, (name, curve) in enumerate(curves.items())
    ]
    point: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "autoencoder",
        "x": [size],
        "y": [explained],
        "marker": {"color": "@ae", "size": 13, "symbol": "diamond"},
        "hovertemplate": "%{x} numbers per row: %{y:.1%}",
    }
    largest = max(curve["sizes"][-1] for curve in curves.values())
    return figure(
        [*lines, point],
        axis(
            "numbers per row",
            type="log" if largest > 64 else "linear",
            dtick=1 if largest <= 12 else None,
        ),
        axis("explained variance", tickformat=".0%"),
    )


SECTION = Section(collect, draw)
