"""Section "usage": variance and correlation of the units of the code."""

import numpy as np

from isthmus.metrics import code_usage
from isthmus.report import formatting
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import ReportData, Usage
from isthmus.report.html import Charts, paragraph, section
from isthmus.report.plot import Figure, Trace, axis, figure, heatmap, wide_axis
from isthmus.report.sections.base import Section
from isthmus.report.summary import usage_sentence
from isthmus.types import Array

MOST_CORRELATED, MOST_LISTED, MOST_NAMED = 64, 2000, 20
ALIKE = 0.05
"""Variances that differ by a smaller share count as equal; weaker correlations are not drawn."""

DIVERGING = [[0, "@negative"], [0.5, "@paper"], [1, "@positive"]]


def collect(measurements: Measurements) -> Usage:
    """The usage of the codes of the coded rows."""
    return usage(measurements.codes)


def usage(codes: Array) -> Usage:
    """Variance of each unit of codes (n, K), dead units, duplicates, and correlations."""
    used = code_usage(codes)
    width = codes.shape[1]
    copies = np.flatnonzero(used.duplicate_of >= 0)
    several = 2 <= width <= MOST_CORRELATED
    return {
        "units": width,
        "variance": np.sort(used.variance)[::-1][:MOST_LISTED].tolist()
        if width > MOST_CORRELATED
        else used.variance.tolist(),
        "in_order": width <= MOST_CORRELATED,
        "dead": np.flatnonzero(used.dead)[:MOST_LISTED].tolist(),
        "n_dead": int(used.dead.sum()),
        "duplicates": [[int(i), int(used.duplicate_of[i])] for i in copies[:MOST_LISTED]],
        "n_duplicates": len(copies),
        "smallest": float(used.variance.min()),
        "largest": float(used.variance.max()),
        "correlation": np.round(used.correlation, 3).tolist() if several else None,
        "strongest": float(np.abs(np.tril(used.correlation, k=-1)).max()),
        "rows": len(codes),
    }


def draw(values: Usage, report: ReportData, charts: Charts) -> str:
    """Bars of the variances and a heat map of the correlations."""
    del report
    if values["units"] == 1:
        return ""
    sentence = usage_sentence(values) + f", measured on {formatting.count(values['rows'], 'row')}."
    parts = []
    if values["smallest"] > (1 - ALIKE) * values["largest"]:
        sentence += (
            f" All units have nearly the same variance, {formatting.number(values['largest'])}."
        )
    else:
        bars = charts.add(_variances(values), "variance of each unit of the code")
        parts.append(f"<div><h3>Variance</h3>{bars}</div>")
    strongest = values["strongest"]
    if values["correlation"] is None or strongest < ALIKE:
        limit = formatting.number(max(strongest, 0.01), 2)
        sentence += f" No two units have a correlation above {limit}."
    else:
        chart = charts.add(
            _correlation(values["correlation"]), "correlation of the units of the code"
        )
        parts.append(f"<div><h3>Correlation</h3>{chart}</div>")
    joined = f'<div class="columns">{"".join(parts)}</div>' if parts else ""
    return section("usage", "Use of the code", paragraph(sentence), joined, _idle(values))


def _idle(values: Usage) -> str:
    texts = []
    if values["dead"]:
        units = ", ".join(map(str, values["dead"][:MOST_NAMED]))
        texts.append(f"Dead units, with hardly any variance: {units}{_others(values['n_dead'])}.")
    if values["duplicates"]:
        pairs = ", ".join(
            f"{copy} repeats {unit}" for copy, unit in values["duplicates"][:MOST_NAMED]
        )
        texts.append(f"Correlation above 0.99: {pairs}{_others(values['n_duplicates'])}.")
    return paragraph(" ".join(texts), "note") if texts else ""


def _others(total: int) -> str:
    return " and others" if total > MOST_NAMED else ""


def _variances(values: Usage) -> Figure:
    """Bars in the order of the units, or a falling line if there are many units."""
    variance = values["variance"]
    trace: Trace = {"x": list(range(len(variance))), "y": variance}
    if values["in_order"]:
        dead = set(values["dead"])
        copies = {unit for unit, _ in values["duplicates"]}
        colors = [
            "@muted" if i in dead else "@pca" if i in copies else "@ae"
            for i in range(len(variance))
        ]
        trace |= {"type": "bar", "marker": {"color": colors}}
        x = axis("unit", **({"tick0": 0, "dtick": 1} if len(variance) <= 12 else {}))
    else:
        trace |= {"type": "scatter", "mode": "lines", "line": {"color": "@ae", "width": 2}}
        x = axis("units, largest variance first")
    trace["hovertemplate"] = "unit %{x}: %{y:.4g}<extra></extra>"
    return figure([trace], x, wide_axis("variance", variance), height=300)


def _correlation(values: list[list[float]]) -> Figure:
    ticks = {"tick0": 0, "dtick": 1} if len(values) <= 12 else {}
    trace = {
        "z": values,
        "zmin": -1,
        "zmax": 1,
        "colorscale": DIVERGING,
        "hovertemplate": "units %{y} and %{x}: %{z:.2f}<extra></extra>",
    }
    return heatmap(trace, "unit", **ticks)


SECTION = Section(collect, draw)
