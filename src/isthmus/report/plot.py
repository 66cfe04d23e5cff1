"""Charts as plain dictionaries for plotly, in which "@name" is a colour of the page."""

import math
from html import escape
from typing import Any

import numpy as np

Trace = dict[str, Any]
Figure = dict[str, Any]
Axis = dict[str, Any]

HUES = 10
LONGEST_NAME = 28
LOG_RATIO, MOST_STEPS = 20, 12


def label(text: str, longest: int = LONGEST_NAME) -> str:
    """User text for plotly: shortened and escaped."""
    return escape(shortened(text, longest))


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """The text, cut to `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def baseline_color(index: int) -> str:
    """The colour of the baseline with this index."""
    return "@pca" if index == 0 else f"@c{(index + 1) % HUES}"


def axis(title: str = "", **settings: object) -> Axis:
    """An axis with quiet lines."""
    quiet = {"gridcolor": "@rule", "zerolinecolor": "@rule", "linecolor": "@rule"}
    titled = {"title": {"text": title}} if title else {}
    return quiet | titled | {"automargin": True, **settings}


def wide_axis(title: str, values: list[float]) -> Axis:
    """An axis for these values: logarithmic if all are positive and span a factor of 20."""
    low, high = min(values), max(values)
    if not 0 < LOG_RATIO * low < high:
        return axis(title)
    steps = round_steps(low, high)
    # Over many decades, a tick at each power of ten is enough.
    return axis(title, type="log", tickvals=steps[:: 3 if len(steps) > MOST_STEPS else 1])


def round_steps(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from at most `low` to at least `high`, both > 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= low)
    last = min(i for i, step in enumerate(steps) if step >= high)
    return steps[first : last + 1]


def figure(data: list[Trace], x: Axis, y: Axis, *, height: int = 320, **settings: object) -> Figure:
    """The traces in a layout with the colours of the page."""
    layout = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "@ink"},
        "hoverlabel": {
            "bgcolor": "@paper",
            "bordercolor": "@rule",
            "font": {"color": "@ink"},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "dragmode": False,
        "xaxis": x,
        "yaxis": y,
    }
    return {"data": data, "layout": layout | settings}


def heatmap(trace: Trace, title: str = "", **ticks: object) -> Figure:
    """A heat map with square cells, first row at the top; both axes have the same title."""
    plain = {"constrain": "domain", "showgrid": False, "zeroline": False, **ticks}
    shared = {"type": "heatmap", "colorbar": {"thickness": 12, "outlinewidth": 0}}
    return figure(
        [shared | trace],
        axis(title, **plain),
        axis(title, autorange="reversed", scaleanchor="x", **plain),
        height=340,
    )


def times(count: int, points: int) -> list[float]:
    """Positions of `count` values on an axis of `points` steps."""
    if count == points:
        return list(range(points))
    return [float(time) for time in (np.arange(count) * points / count).round(1)]
