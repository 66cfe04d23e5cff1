"""The page of odd rows: how scores are spread, which rows are oddest and which columns say so."""

import math
from collections.abc import Sequence
from html import escape
from importlib import metadata
from typing import NamedTuple

import numpy as np

from isthmus.detector import OutlierDetector, Reason
from isthmus.report import formatting
from isthmus.report.charts.plot import Figure, axis, figure, label
from isthmus.report.html import Charts, paragraph, section, table
from isthmus.report.page import whole
from isthmus.types import Array

BINS, COLUMNS = 60, 20


class OddRow(NamedTuple):
    """One of the oddest rows."""

    name: str
    score: float
    reasons: Sequence[Reason]


class Findings(NamedTuple):
    """What the page shows."""

    origin: str
    scores: Array
    """(n,)"""

    threshold: float
    statement: str
    oddest: Sequence[OddRow]
    """Oddest first."""

    columns: Sequence[str]
    contributions: Array
    """(D,): the mean of each column's part in the scores of odd rows."""


def findings(
    detector: OutlierDetector,
    origin: str,
    scores: Array,
    oddest: Sequence[OddRow],
    contributions: Array,
) -> Findings:
    """What a fitted detector finds in rows from `origin` with these scores (n,).

    `contributions` (D,) are the mean parts of columns in the scores of odd rows.
    """
    return Findings(
        origin=origin,
        scores=scores,
        threshold=detector.threshold_,
        statement=detector.threshold_statement_,
        oddest=oddest,
        columns=detector.estimators_[0].preparation_.schema.feature_names(),
        contributions=contributions,
    )


def render_odd(found: Findings) -> str:
    """The page, one self-contained HTML file that opens offline."""
    charts, odd = Charts(), int((found.scores > found.threshold).sum())
    title = f"{odd:,} of {formatting.count(len(found.scores), 'row')} are odd"
    body = "\n".join(
        [
            f"<header>\n<h1>{escape(f'isthmus detect · {found.origin}')}</h1>\n"
            f"{paragraph(title, 'headline')}\n"
            f"{paragraph(found.statement[0].upper() + found.statement[1:] + '.')}\n</header>",
            section(
                "scores",
                "Scores",
                paragraph(
                    "The mean squared deviation of a row from what is expected of it, each "
                    "column's over what it usually is. Rows right of the line are odd."
                ),
                charts.add(_spread(found), "How many rows have which score, and the threshold"),
            ),
            section("rows", "The oddest rows", _rows(found.oddest)),
            section(
                "columns",
                "What makes rows odd",
                paragraph("The mean part of each column in the scores of odd rows."),
                charts.add(_columns(found), "Mean contribution of columns to the scores"),
            ),
        ]
    )
    return whole(body, charts, title, metadata.version("isthmus"))


def _rows(oddest: Sequence[OddRow]) -> str:
    lines = [
        [
            row.name.removeprefix("row "),
            formatting.number(row.score),
            "; ".join(map(str, row.reasons)) or "no column alone",
        ]
        for row in oddest
    ]
    return table(["row", "score", "found, and what was expected"], lines)


def _spread(found: Findings) -> Figure:
    """A histogram on a logarithmic axis: scores spread over powers of ten."""
    tiny = np.finfo(np.float32).tiny
    logs, line = np.log10(np.maximum(found.scores, tiny)), math.log10(found.threshold + tiny)
    low = max(float(logs.min()), line - 4)  # scores of nothing would stretch the axis
    counts, edges = np.histogram(np.maximum(logs, low), bins=BINS)
    bars = {
        "type": "bar",
        "x": ((edges[1:] + edges[:-1]) / 2).round(4).tolist(),
        "y": counts.tolist(),
        "width": float(edges[1] - edges[0]),
        "marker": {"color": "@accent"},
        "hovertemplate": "%{y} rows<extra></extra>",
        "showlegend": False,
    }
    ticks = np.arange(np.floor(edges[0]), np.ceil(edges[-1]) + 1)
    horizontal = axis("score", tickvals=ticks.tolist(), ticktext=[f"{10.0**t:g}" for t in ticks])
    mark = {
        "type": "line",
        "x0": line,
        "x1": line,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "@ink", "dash": "dash", "width": 1},
    }
    return figure([bars], horizontal, axis("rows", type="log"), shapes=[mark])


def _columns(found: Findings) -> Figure:
    order = np.argsort(-found.contributions, kind="stable")[:COLUMNS][::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": found.contributions[order].tolist(),
        "y": list(range(len(order))),
        "marker": {"color": "@accent"},
        "hovertemplate": "%{x:.3g}<extra></extra>",
        "showlegend": False,
    }
    names = [label(found.columns[i]) for i in order]
    vertical = axis(tickvals=list(range(len(order))), ticktext=names)
    return figure([bars], axis("part in the score"), vertical, height=90 + 24 * len(order))
