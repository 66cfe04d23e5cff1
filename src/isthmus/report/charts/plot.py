"""What all charts share: plain dictionaries for plotly, where "@name" is a colour of the page."""

import math
from html import escape
from typing import Any

import numpy as np

Figure = dict[str, Any]

HUES = 10
LONGEST_NAME = 28


def label(text: str, longest: int = LONGEST_NAME) -> str:
    """User text as plotly may show it: shortened, and no markup."""
    return escape(shortened(text, longest))


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """The text, cut where it is longer than that."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """An axis whose lines stay in the background."""
    quiet = {"gridcolor": "@rule", "zerolinecolor": "@rule", "linecolor": "@rule"}
    titled = {"title": {"text": title}} if title else {}
    return quiet | titled | {"automargin": True, **more}


def round_steps(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from at most `low` to at least `high`, both > 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= low)
    last = min(i for i, step in enumerate(steps) if step >= high)
    return steps[first : last + 1]


def figure(
    data: list[dict[str, Any]],
    x: dict[str, Any],
    y: dict[str, Any],
    *,
    height: int = 320,
    **more: Any,
) -> Figure:
    """The traces in a layout that follows the page's colours."""
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
    return {"data": data, "layout": layout | more}


def times(count: int, points: int) -> list[float]:
    """Where `count` values lie on an axis of `points` steps."""
    if count == points:
        return list(range(points))
    return (np.arange(count) * points / count).round(1).tolist()  # type: ignore[no-any-return]
