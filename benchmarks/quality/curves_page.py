"""One HTML page of curves: the test error of each run over its seconds.

    python benchmarks/quality/curves_page.py PAGE.html

It draws the newest run of each kind that benchmarks/quality/deep_autoencoders.py has recorded.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from common import RESULTS

COLOURS = {
    "adamw": "#0072B2",
    "muon": "#D55E00",
    "kfac": "#009E73",
    "conjugate_gradient": "#CC79A7",
    "lbfgs": "#E69F00",
    "nesterov": "#56B4E9",
    "auto": "#000000",
}
"""One colour per optimizer, safe for colour blindness (Okabe and Ito 2008); grey for others."""

RUN_KEYS = ("problem", "optimizer", "start", "units")

DASHES = {
    "random": "dot",
    "lsuv": "longdash",
    "pca": "solid",
    "rbm": "dashdot",
    "autoencoder": "dash",
    "auto": "solid",
}


NARROW = 3
"""Errors that differ by a smaller factor need ticks between 1, 2, 5 and 10."""


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Write the page, with a panel for each problem and activation."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    drawn = [result for result in results if result["curve"]]
    problems, units = ([*dict.fromkeys(r[key] for r in drawn)] for key in ("problem", "units"))
    titles = [f"{problem}, {unit}" for problem in problems for unit in units]
    rows, columns = max(len(problems), 1), max(len(units), 1)
    page = make_subplots(rows, columns, subplot_titles=titles, shared_yaxes=True)
    labels: set[str] = set()
    for result in drawn:
        seconds, errors = np.transpose(result["curve"])[:2]
        label = f"{result['optimizer']}, {result['start']}"
        line = go.Scatter(
            x=seconds,
            y=errors,
            name=label,
            legendgroup=label,
            showlegend=label not in labels,
            mode="lines+markers",
            marker={"size": 4},
            line={
                "dash": DASHES[result["start"]],
                "color": COLOURS.get(result["optimizer"], "#777777"),
            },
        )
        labels.add(label)
        panel = problems.index(result["problem"]) + 1, units.index(result["units"]) + 1
        page.add_trace(line, *panel)
    page.update_xaxes(title="CPU seconds", type="log", dtick="D2")
    for row, problem in enumerate(problems, start=1):
        errors = [point[1] for run in drawn if run["problem"] == problem for point in run["curve"]]
        narrow = max(errors) < NARROW * min(errors)
        page.update_yaxes(type="log", dtick=None if narrow else "D2", row=row)
    page.update_yaxes(title="squared error, test images", col=1)
    page.update_layout(height=520 * rows, template="plotly_white")
    page.write_html(path, include_plotlyjs=True)


def recorded() -> list[dict[str, Any]]:
    """The newest recorded run of each problem, optimizer, start and activation."""
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines())
    runs = [
        run for line in lines if line["benchmark"] == "deep_autoencoders" for run in line["results"]
    ]
    return list({tuple(run[key] for key in RUN_KEYS): run for run in runs}.values())


if __name__ == "__main__":
    draw(recorded(), Path(sys.argv[1]))
