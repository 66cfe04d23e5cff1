"""The charts with two dimensions: the map of codes and the heat maps."""

from typing import Any

import numpy as np

from isthmus.report import formatting
from isthmus.report.charts.plot import HUES, Figure, axis, figure, label

SYMBOLS = ("circle", "diamond-open")
HEAT = [[0, "@heat0"], [0.5, "@heat1"], [1, "@heat2"]]
DIVERGING = [[0, "@negative"], [0.5, "@paper"], [1, "@positive"]]


def code_map(record: dict[str, Any]) -> Figure:
    """The rows at their codes in two dimensions, or how often each value of one number occurs."""
    traces = _histograms(record) if record["y"] is None else _points(record)
    shares = record["shares"] or [None, None]
    own = record["y"] is None or record["shares"] is None
    titles = [
        f"number {i + 1} of the code" if own else f"direction {i + 1} ({formatting.percent(share)})"
        for i, share in enumerate([*shares, None][:2])
    ]
    y = axis("rows" if record["y"] is None else titles[1], zeroline=False)
    color = record["color"]
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
        y,
        height=480,
        dragmode="zoom",
        hovermode="closest",
        barmode="stack",
        legend=legend,
    )


def _groups(record: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """The name of each category and the positions of its points; one group without categories."""
    color = record["color"]
    everything = list(range(len(record["x"])))
    if color is None or "categories" not in color:
        return [("", everything)]
    return [
        (label(name), [i for i in everything if color["of"][i] == number])
        for number, name in enumerate(color["categories"])
    ]


def _points(record: dict[str, Any]) -> list[dict[str, Any]]:
    color, many = record["color"], len(record["x"]) > 1000
    traces = []
    for number, (name, at) in enumerate(_groups(record)):
        marker: dict[str, Any] = {
            "color": f"@c{number % HUES}" if name else "@ae",
            "symbol": SYMBOLS[number // HUES % len(SYMBOLS)],
            "size": 5 if many else 7,
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
                "x": [record["x"][i] for i in at],
                "y": [record["y"][i] for i in at],
                "customdata": [record["rows"][i] for i in at],
                "marker": marker,
                "hovertemplate": f"row %{{customdata}}<extra>{extra}</extra>",
            }
        )
    return traces


def _histograms(record: dict[str, Any]) -> list[dict[str, Any]]:
    span = [min(record["x"]), max(record["x"])]
    bins = {"start": span[0], "end": span[1], "size": (span[1] - span[0]) / 40 or 1.0}
    return [
        {
            "type": "histogram",
            "x": [record["x"][i] for i in at],
            "xbins": bins,
            "name": name,
            "showlegend": bool(name),
            "marker": {"color": f"@c{number % HUES}" if name else "@ae"},
        }
        for number, (name, at) in enumerate(_groups(record))
    ]


def heat(record: dict[str, Any]) -> Figure:
    """The error of each pixel."""
    rows, columns = record["size"]
    values = np.asarray(record["ae"])
    ys = np.linspace(0, rows - 1, len(values))
    xs = np.linspace(0, columns - 1, values.shape[1])
    trace = {
        "type": "heatmap",
        "x": xs.tolist(),
        "y": ys.tolist(),
        "z": record["ae"],
        "zmin": 0,
        "zmax": float(values.max()) or 1.0,
        "colorscale": HEAT,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "hovertemplate": "row %{y:.0f}, column %{x:.0f}: %{z:.3g}<extra></extra>",
    }
    x = axis(constrain="domain", showgrid=False, zeroline=False)
    y = axis(autorange="reversed", scaleanchor="x", constrain="domain", showgrid=False)
    return figure([trace], x, y | {"zeroline": False}, height=340)


def correlation(values: list[list[float]]) -> Figure:
    """How the units of the code correlate."""
    trace = {
        "type": "heatmap",
        "z": values,
        "zmin": -1,
        "zmax": 1,
        "colorscale": DIVERGING,
        "colorbar": {"thickness": 12, "outlinewidth": 0},
        "hovertemplate": "units %{y} and %{x}: %{z:.2f}<extra></extra>",
    }
    ticks = {"tick0": 0, "dtick": 1} if len(values) <= 12 else {}
    x = axis("unit", constrain="domain", showgrid=False, zeroline=False, **ticks)
    y = axis("unit", autorange="reversed", scaleanchor="x", constrain="domain", **ticks)
    return figure([trace], x, y | {"showgrid": False, "zeroline": False}, height=340)
