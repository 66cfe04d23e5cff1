"""The page of outliers: distribution of the scores, the largest scores, and their columns."""

import math
from collections.abc import Sequence
from html import escape
from importlib import metadata
from typing import NamedTuple

import numpy as np

from isthmus.detector import OutlierDetector, Reason
from isthmus.report import formatting
from isthmus.report.html import Charts, paragraph, section, sentence, table
from isthmus.report.page import whole
from isthmus.report.plot import Figure, axis, figure, label, round_steps
from isthmus.types import Array

BINS, COLUMNS = 60, 20


class OutlierRow(NamedTuple):
    """A row with one of the largest scores."""

    name: str
    score: float
    reasons: Sequence[Reason]


class OutlierReport(NamedTuple):
    """The values that the page shows."""

    origin: str
    scores: Array
    """(n,)"""

    threshold: float
    statement: str
    """How the threshold was chosen."""

    worst: Sequence[OutlierRow]
    """Largest score first."""

    columns: Sequence[str]
    contributions: Array
    """(D,): the mean contribution of each column to the scores of outliers."""


def outlier_report(
    detector: OutlierDetector,
    origin: str,
    scores: Array,
    worst: Sequence[OutlierRow],
    contributions: Array,
) -> OutlierReport:
    """The values of the page for rows from `origin` with these scores (n,).

    `contributions` (D,) are the mean contributions of columns to the scores of outliers.
    """
    return OutlierReport(
        origin=origin,
        scores=scores,
        threshold=detector.threshold_,
        statement=detector.threshold_statement_,
        worst=worst,
        columns=detector.estimators_[0].preparation_.schema.feature_names(),
        contributions=contributions,
    )


def render_outliers(report: OutlierReport) -> str:
    """The page as one self-contained HTML file that opens offline."""
    charts, outliers = Charts(), int((report.scores > report.threshold).sum())
    verb = "is an outlier" if outliers == 1 else "are outliers"
    title = f"{outliers:,} of {formatting.count(len(report.scores), 'row')} {verb}"
    body = "\n".join(
        [
            f"<header>\n<h1>{escape(f'isthmus detect · {report.origin}')}</h1>\n"
            f"{paragraph(title, 'headline')}\n{paragraph(sentence(report.statement))}\n</header>",
            section(
                "scores",
                "Scores",
                paragraph(
                    "The score is the mean squared deviation of a row from its expected values, "
                    "relative to the usual deviation of each column. Rows right of the dashed line "
                    "are outliers."
                ),
                charts.add(_histogram(report), "distribution of the scores, and the threshold"),
            ),
            section("rows", "Largest scores", _rows(report.worst)),
            section(
                "columns",
                "Contributions of columns",
                paragraph("The mean contribution of each column to the scores of outliers."),
                charts.add(_columns(report), "mean contribution of each column to the scores"),
            ),
        ]
    )
    return whole(body, charts, title, metadata.version("isthmus"))


def _rows(worst: Sequence[OutlierRow]) -> str:
    lines = [
        [
            row.name.removeprefix("row "),
            formatting.number(row.score),
            "; ".join(map(str, row.reasons)) or "no single column",
        ]
        for row in worst
    ]
    return table(["row", "score", "unusual values, and the expected ones"], lines)


def _histogram(report: OutlierReport) -> Figure:
    """A histogram of the scores on logarithmic axes, with the threshold."""
    tiny = np.finfo(np.float32).tiny
    logs = np.log10(np.maximum(report.scores, tiny))
    threshold = math.log10(report.threshold + tiny)
    low = max(float(logs.min()), threshold - 4)  # scores near 0 would widen the axis
    counts, edges = np.histogram(np.maximum(logs, low), bins=BINS)
    bars = {
        "type": "bar",
        "x": ((edges[1:] + edges[:-1]) / 2).round(4).tolist(),
        "y": counts.tolist(),
        "width": float(edges[1] - edges[0]),
        "marker": {"color": "@ae"},
        "hovertemplate": "%{y} rows<extra></extra>",
        "showlegend": False,
    }
    ticks = np.arange(np.floor(edges[0]), np.ceil(edges[-1]) + 1)
    horizontal = axis("score", tickvals=ticks.tolist(), ticktext=[f"{10.0**t:g}" for t in ticks])
    mark = {
        "type": "line",
        "x0": threshold,
        "x1": threshold,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "@ink", "dash": "dash", "width": 1},
    }
    most = int(counts.max())
    span = [math.log10(0.5), math.log10(1.5 * most)]
    vertical = axis("rows", type="log", tickvals=round_steps(1, most), range=span)
    return figure([bars], horizontal, vertical, shapes=[mark])


def _columns(report: OutlierReport) -> Figure:
    order = np.argsort(-report.contributions, kind="stable")[:COLUMNS][::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": report.contributions[order].tolist(),
        "y": list(range(len(order))),
        "marker": {"color": "@ae"},
        "hovertemplate": "%{x:.3g}<extra></extra>",
        "showlegend": False,
    }
    names = [label(report.columns[i]) for i in order]
    vertical = axis(tickvals=list(range(len(order))), ticktext=names)
    return figure([bars], axis("contribution to the score"), vertical, height=90 + 24 * len(order))
