"""Section "map": the codes in two dimensions, coloured by labels or numbers."""

from typing import Any, TypedDict

import numpy as np

from isthmus.data.loading.rows import evenly_spaced
from isthmus.errors import RequestError
from isthmus.report import formatting
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.records import ReportData
from isthmus.report.html import Charts, paragraph, section
from isthmus.report.plot import HUES, Figure, Trace, axis, figure, label
from isthmus.report.sections.base import Section
from isthmus.types import Array, Index

# n rows, K code units.

WHITE = 1.2
"""Codes count as isotropic if the first direction has less than this many times its share."""

MOST_POINTS, MOST_CATEGORIES = 3000, 20
SYMBOLS = ("circle", "diamond-open")


class Coloring(TypedDict, total=False):
    """Categories with the number of each point's category, or a number for each point."""

    name: str
    categories: list[str]
    of: list[int]
    numbers: list[float | None]


class Points(TypedDict):
    """The points of the map; `y` is None if codes have one number."""

    x: list[float]
    y: list[float] | None
    rows: list[int]
    shares: list[float] | None
    """Shares of the codes' variance in the principal directions; None for numbers of the code."""


class CodeMap(Points):
    """The points and their colours."""

    color: Coloring | None


def collect(measurements: Measurements) -> CodeMap:
    """The map of at most 3,000 evenly spaced rows."""
    points = evenly_spaced(np.arange(len(measurements.coded_rows)), MOST_POINTS)
    rows = measurements.coded_rows[points]
    color, name = measurements.color, measurements.color_name
    return {
        **code_map(measurements.codes[points], rows),
        "color": coloring(color, name, len(measurements.source), rows),
    }


def code_map(codes: Array, rows: Index) -> Points:
    """(n, K) codes in two dimensions: their two numbers or their first two principal directions."""
    width = codes.shape[1]
    if width == 1:
        return {"x": _short(codes[:, 0]), "y": None, "rows": rows.tolist(), "shares": [1.0]}
    points, shares = (codes, None) if width == 2 else _principal(codes)
    if shares is not None and shares[0] < WHITE * 1 / width:
        # Without a leading direction, the first two numbers lead after a start at PCA.
        points, shares = codes[:, :2], None
    return {
        "x": _short(points[:, 0]),
        "y": _short(points[:, 1]),
        "rows": rows.tolist(),
        "shares": shares,
    }


def _principal(codes: Array) -> tuple[Array, list[float]]:
    centred = codes - codes.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    first = vectors[:, ::-1][:, :2]
    # The sign of a direction is arbitrary; its largest entry is made positive.
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])
    total = max(float(values.sum()), 1e-300)
    return centred @ first, (values[::-1][:2] / total).tolist()


def _short(values: Array) -> list[float]:
    """Values with six significant digits, which is enough to place a point."""
    return [float(f"{value:.6g}") for value in values]


def coloring(color: Any, name: str | None, n_rows: int, rows: Index) -> Coloring | None:
    """The colour of the chosen rows: categories or numbers; None if no colour is given.

    Text, booleans and up to 20 different whole numbers are categories. If there are more than
    20 texts, the rarest become "other". Raises RequestError unless there are `n_rows` values.
    """
    if color is None:
        return None
    values = np.asarray(color)
    if values.shape != (n_rows,):
        raise RequestError(
            f"color has shape {values.shape}, but there are {n_rows} rows; give one for each row"
        )
    name = name or "colour"
    distinct = np.unique(
        values[~_missing(values)].astype(str if values.dtype.kind == "O" else values.dtype)
    )
    few = len(distinct) <= MOST_CATEGORIES
    whole = values.dtype.kind in "iub" or (
        values.dtype.kind == "f" and bool((distinct == np.round(distinct)).all())
    )
    if values.dtype.kind not in "iubf" or (whole and few):
        return {"name": name, **_categories(values, rows)}
    picked = values[rows].astype(np.float64)
    return {"name": name, "numbers": [float(v) if np.isfinite(v) else None for v in picked]}


def _missing(values: Array) -> Array:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "O":
        return np.array([v is None or v != v for v in values], dtype=bool)  # noqa: PLR0124
    return np.zeros(len(values), dtype=bool)


def _categories(values: Array, rows: Index) -> Coloring:
    texts = np.array([_text(v) for v in values.tolist()], dtype=object)
    texts[_missing(values)] = "missing"
    names, counts = np.unique(texts.astype(str), return_counts=True)
    frequent = set(names[np.argsort(-counts, kind="stable")][: MOST_CATEGORIES - 1])
    if len(names) > MOST_CATEGORIES:
        texts = np.array([text if text in frequent else "other" for text in texts], dtype=object)
    categories = sorted(set(texts[rows]), key=_natural)
    number = {text: i for i, text in enumerate(categories)}
    return {"categories": categories, "of": [number[text] for text in texts[rows]]}


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _natural(text: str) -> tuple[int, float, str]:
    """A sort key: numbers first by size, then text, "other" and "missing" last."""
    if text in ("other", "missing"):
        return (2, 0.0, text)
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def draw(values: CodeMap, report: ReportData, charts: Charts) -> str:
    """A point for each row, or a histogram if codes have one number."""
    shown, total = len(values["x"]), report["data"]["rows"]
    if values["y"] is None:
        text = "Distribution of the one number of the code."
    elif values["shares"] is None:
        which = "the two" if report["model"]["n_components"] == 2 else "the first two"
        text = f"Each point is a row, placed by {which} numbers of its code."
    else:
        both = formatting.percent(sum(values["shares"]))
        text = (
            "Each point is a row, placed along the first two principal components of the codes, "
            f"which hold {both} of the codes' variance."
        )
    if shown < total:
        text += f" {shown:,} of {total:,} rows, evenly spaced."
    chart = charts.add(_figure(values), text)
    return section("map", "Map of the codes", paragraph(text), chart)


def _figure(values: CodeMap) -> Figure:
    traces = _histograms(values) if values["y"] is None else _points(values)
    titles = ["number 1 of the code", "number 2 of the code"]
    if values["y"] is not None and values["shares"] is not None:
        titles = [
            f"component {i + 1} ({formatting.percent(share)})"
            for i, share in enumerate(values["shares"])
        ]
    color = values["color"]
    legend = {
        "orientation": "h",
        "x": 0,
        "y": 1.02,
        "yanchor": "bottom",
        "itemsizing": "constant",
        "traceorder": "normal",
        "title": {"text": label(color["name"]), "side": "top"} if color else {},
    }
    return figure(
        traces,
        axis(titles[0], zeroline=False),
        axis("rows" if values["y"] is None else titles[1], zeroline=False),
        height=480,
        dragmode="zoom",
        hovermode="closest",
        barmode="stack",
        legend=legend,
    )


def _groups(values: CodeMap) -> list[tuple[str, list[int]]]:
    """The name of each category and the positions of its points; one group without categories."""
    color, everything = values["color"], list(range(len(values["x"])))
    if color is None or "categories" not in color:
        return [("", everything)]
    return [
        (label(name), [i for i in everything if color["of"][i] == number])
        for number, name in enumerate(color["categories"])
    ]


def _points(values: CodeMap) -> list[Trace]:
    x, y, rows, color = values["x"], values["y"] or [], values["rows"], values["color"]
    traces: list[Trace] = []
    for number, (name, points) in enumerate(_groups(values)):
        marker: Trace = {
            "color": f"@c{number % HUES}" if name else "@ae",
            "symbol": SYMBOLS[number // HUES % len(SYMBOLS)],
            "size": 5 if len(x) > 1000 else 7,
            "opacity": 0.75,
        }
        extra = name
        if color is not None and "numbers" in color:
            bar = {"title": {"text": label(color["name"], 20)}, "thickness": 12, "outlinewidth": 0}
            marker |= {"color": color["numbers"], "colorscale": "Viridis", "colorbar": bar}
            extra = f"{label(color['name'])} %{{marker.color:.4g}}"
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "showlegend": bool(name),
                "x": [x[i] for i in points],
                "y": [y[i] for i in points],
                "customdata": [rows[i] for i in points],
                "marker": marker,
                "hovertemplate": f"row %{{customdata}}<extra>{extra}</extra>",
            }
        )
    return traces


def _histograms(values: CodeMap) -> list[Trace]:
    x = values["x"]
    low, high = min(x), max(x)
    return [
        {
            "type": "histogram",
            "x": [x[i] for i in points],
            "xbins": {"start": low, "end": high, "size": (high - low) / 40 or 1.0},
            "name": name,
            "showlegend": bool(name),
            "marker": {"color": f"@c{number % HUES}" if name else "@ae"},
        }
        for number, (name, points) in enumerate(_groups(values))
    ]


SECTION = Section(collect, draw)
