"""The charts of lines and bars: learning, sizes, features, signals, units, and JPEG."""

from collections.abc import Sequence
from typing import Any

from isthmus.report.charts.plot import HUES, Figure, axis, figure, label, round_steps, times

LOG_RATIO, MOST_STEPS = 20, 12


def history(record: dict[str, Any]) -> Figure:
    """Each loss term over the epochs: held-out rows as a full line, training rows dotted.

    Other fits' curves, of the rows that both are judged by, are dashed.
    """
    data = _losses(record)
    for number, other in enumerate(record.get("others", []), start=1):
        data += _losses(other, hue=number)
    values = [value for line in data for value in line["y"] if value is not None]
    best = record["best_epoch"]
    line = {"type": "line", "x0": best, "x1": best, "yref": "paper", "y0": 0, "y1": 1}
    return figure(
        data,
        axis("epoch"),
        _widely("loss", values),
        shapes=[line | {"line": {"color": "@pca", "width": 1, "dash": "dash"}}],
    )


def _losses(record: dict[str, Any], hue: int = 0) -> list[dict[str, Any]]:
    """A line for each term of a fit's loss and each part of the rows; `hue` is 0 for our own."""
    several = len(record["terms"]) > 1
    data = []
    for i, (name, parts) in enumerate(record["terms"].items()):
        for part, series in parts.items():
            judged = part == "validation" or len(parts) == 1
            if hue and not judged:
                continue
            which = "held-out rows" if part == "validation" else "training rows"
            told = [label(name)] if several else []
            told += [which, f"{label(record['name'])}, from {record['start']}"] if hue else [which]
            plain = f"@c{hue % HUES}" if hue else "@ae" if judged else "@muted"
            dash = "dash" if hue else "solid" if judged else "dot"
            color = f"@c{i % HUES}" if several else plain
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": record["epochs"],
                    "y": series,
                    "name": ", ".join(told),
                    "line": {"color": color, "dash": dash, "width": 2},
                    "hovertemplate": "epoch %{x}: %{y:.4g}",
                }
            )
    return data


def _widely(title: str, values: list[float]) -> Figure:
    """An axis for these values: of logarithms where they are all above 0 and far apart."""
    low, high = min(values), max(values)
    if not 0 < LOG_RATIO * low < high:
        return axis(title)
    steps = round_steps(low, high)
    # Beyond some decades a tick at each power of ten is enough.
    return axis(title, type="log", tickvals=steps[:: 3 if len(steps) > MOST_STEPS else 1])


def layers(found: list[dict[str, Any]], name: str) -> Figure:
    """A figure of each layer that was pretrained over its epochs, "error" say."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": layer["epochs"],
            "y": layer[name],
            "name": f"layer {layer['layer']}",
            "line": {"color": f"@c{i % HUES}", "width": 2},
            "hovertemplate": "epoch %{x}: %{y:.4g}",
        }
        for i, layer in enumerate(found)
    ]
    values = [value for layer in found for value in layer[name] if value is not None]
    title = name.replace("_", " ").replace("free energy", "free-energy")
    return figure(data, axis("epoch"), _widely(title, values or [0.0]), height=300)


def curve(record: dict[str, Any], size: int, explained: float | None) -> Figure:
    """PCA's explained variance over the code sizes, and the autoencoder's at its own."""
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "PCA",
            "x": record["sizes"],
            "y": record["pca"],
            "line": {"color": "@pca", "width": 2},
            "marker": {"size": 5},
            "hovertemplate": "%{x} numbers a row: %{y:.1%}",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "autoencoder",
            "x": [size],
            "y": [explained],
            "marker": {"color": "@ae", "size": 13, "symbol": "diamond"},
            "hovertemplate": "%{x} numbers a row: %{y:.1%}",
        },
    ]
    wide, few = record["largest"] > 64, record["largest"] <= 12
    return figure(
        data,
        axis("numbers a row", type="log" if wide else "linear", dtick=1 if few else None),
        axis("variance kept", tickformat=".0%"),
    )


def bars(record: dict[str, Any]) -> Figure:
    """The error of each column as a bar, PCA's as a mark on it; the largest at the top."""
    places = list(range(len(record["names"])))
    names = [label(name, 120) for name in record["names"]]
    short = [label(name, 20) for name in record["names"]]
    hover = "%{customdata}: %{x:.3g}"
    common = {"y": places, "customdata": names, "hovertemplate": hover}
    data = [
        {"type": "bar", "orientation": "h", "name": "autoencoder", "x": record["ae"]}
        | {"marker": {"color": "@ae"}}
        | common,
        {"type": "scatter", "mode": "markers", "name": "PCA", "x": record["pca"]}
        | {"marker": {"color": "@pca", "symbol": "line-ns", "size": 13}}
        | common,
    ]
    data[1]["marker"]["line"] = {"color": "@pca", "width": 3}
    y = axis(tickvals=places, ticktext=short, autorange="reversed", showgrid=False)
    x = axis("typical error", rangemode="tozero")
    return figure(data, x, y, height=22 * len(places) + 110, bargap=0.35)


def over_time(record: dict[str, Any]) -> Figure:
    """The error at each point in time, PCA's beside it."""
    data = []
    channels, names = len(record["ae"]), record.get("channels")
    for part, color, name in (("pca", "@pca", "PCA"), ("ae", "@ae", "autoencoder")):
        for channel, line in enumerate(record[part]):
            own = color if channels == 1 else f"@c{channel % HUES}"
            dash = "solid" if part == "ae" else "dot"
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": name if channels == 1 else f"{name}, {_channel(channel, names)}",
                    "x": times(len(line), record["points"]),
                    "y": line,
                    "line": {"color": own, "width": 2, "dash": dash},
                }
            )
    y = axis("typical error", rangemode="tozero")
    return figure(data, axis("time step"), y, height=300)


def _channel(number: int, names: Sequence[str] | None) -> str:
    return label(names[number]) if names else f"channel {number}"


def signal(
    found: list[list[float]],
    back: list[list[float]],
    points: int,
    names: Sequence[str] | None = None,
) -> Figure:
    """One signal and its reconstruction; `names` are the channels'."""
    data = []
    for channel, (line, again) in enumerate(zip(found, back, strict=True)):
        one = len(found) == 1
        rebuilt = "@rebuilt" if one else f"@c{channel % HUES}"
        at = times(len(line), points)
        named = _channel(channel, names)
        for values, color, width, what in (
            (line, "@muted" if one else rebuilt, 4 if one else 3, "found"),
            (again, rebuilt, 1.5, "rebuilt"),
        ):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": what if one else f"{what}, {named}",
                    "x": at,
                    "y": values,
                    "opacity": 0.5 if what == "found" else 1,
                    "line": {"color": color, "width": width},
                }
            )
    return figure(data, axis(showgrid=False), axis(nticks=4), height=150, showlegend=False)


def variances(record: dict[str, Any]) -> Figure:
    """The variance of each unit of the code: bars in their order, or a falling line for many."""
    values = record["variance"]
    trace: dict[str, Any] = {"x": list(range(len(values))), "y": values}
    if record["in_order"]:
        dead = set(record["dead"])
        copies = {unit for unit, _ in record["duplicates"]}
        colors = [
            "@muted" if i in dead else "@pca" if i in copies else "@ae" for i in range(len(values))
        ]
        trace |= {"type": "bar", "marker": {"color": colors}}
        x = axis("unit", **({"tick0": 0, "dtick": 1} if len(values) <= 12 else {}))
    else:
        trace |= {"type": "scatter", "mode": "lines", "line": {"color": "@ae", "width": 2}}
        x = axis("units, largest variance first")
    trace["hovertemplate"] = "unit %{x}: %{y:.4g}<extra></extra>"
    return figure([trace], x, _widely("variance", values), height=300)


def distortion(images: dict[str, Any]) -> Figure:
    """Quality over bytes an image: JPEG's curves, and the autoencoder's points."""
    data = []
    pairs = zip(images["domains"], images["measured"], strict=True)
    for number, (domain, measured) in enumerate(pairs):
        color, dash = f"@c{number}", "solid" if domain["same"] else "dot"
        which = "images like these" if domain["same"] else "other images"
        hover = "%{x:.0f} bytes: %{y:.1f} dB"
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"JPEG, {which}",
                "x": [point["bytes"] for point in domain["jpeg"]],
                "y": [point["psnr"] for point in domain["jpeg"]],
                "line": {"color": color, "dash": dash, "width": 2},
                "hovertemplate": hover,
            }
        )
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"autoencoder, {which}",
                "x": [measured["bytes"]],
                "y": [measured["psnr"]],
                "marker": {
                    "color": color,
                    "size": 13,
                    "symbol": "diamond" if domain["same"] else "diamond-open",
                },
                "hovertemplate": hover,
            }
        )
    sizes = [size for trace in data for size in trace["x"]]
    x = axis("bytes an image", type="log", tickvals=round_steps(min(sizes), max(sizes)))
    return figure(data, x, axis("likeness, dB"), height=360)
