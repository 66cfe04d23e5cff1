"""Section "rows": rows and their reconstructions as pictures, lines or tables."""

from collections.abc import Sequence
from html import escape
from typing import Any, NotRequired, TypedDict

import numpy as np

from isthmus.data.preparation.preparation import Preparation
from isthmus.data.schema import Schema
from isthmus.data.source import Source, Subset
from isthmus.data.tables.from_numbers import as_text
from isthmus.estimator import Autoencoder
from isthmus.report import formatting
from isthmus.report.data.measurements import Measurements
from isthmus.report.data.pictures import levels_of, pictures, size_of
from isthmus.report.data.records import ReportData
from isthmus.report.data.row_access import in_chunks, reconstructed, sample_rows
from isthmus.report.html import Charts, breakable, paragraph, scrolling, section
from isthmus.report.plot import HUES, Figure, Trace, axis, figure, label, shortened, times
from isthmus.report.sections.base import Section
from isthmus.types import Array, Index

# n rows, C channels, T points in time, H x W pixels.

TYPICAL = {"image": 10, "signal": 6, "table": 6}
"""Rows shown from the best to the worst, by layout."""

EXTREME_ROWS, EXTREME_SIGNALS = 5, 3
MOST_POINTS, MOST_CHANNELS, ALL_COLUMNS, MOST_COLUMNS = 300, 3, 16, 12
SMALL_WIDE, LARGE_WIDE, LARGE_FROM = 68, 128, 100

Lines = list[list[float | None]]
"""[channel][time]; None is a missing value."""


class Group(TypedDict):
    """Some rows and their reconstructions, in the form that their layout needs."""

    rows: list[int]
    errors: list[float]
    original: list[Any]
    """Data URLs of images, `Lines` of signals, or the cells of each table row."""

    reconstruction: list[Any]
    size: NotRequired[list[int]]
    """Height and width of images."""

    places: NotRequired[list[str] | None]
    """Where in its recording each signal lies."""

    columns: NotRequired[list[str]]
    n_columns: NotRequired[int]
    deviation: NotRequired[list[list[float]]]
    """[row][column]: original minus reconstruction, in standard deviations."""


def collect(measurements: Measurements) -> dict[str, Group]:
    """Groups "typical", "best" and "worst" of the measured rows."""
    source, rows = measurements.source, measurements.measured_rows
    errors = measurements.errors.per_row
    most = TYPICAL[source.schema.layout]
    order = np.argsort(errors, kind="stable")
    extreme = min(EXTREME_ROWS, max(1, len(rows) // 4))
    if source.schema.layout == "signal":
        extreme = EXTREME_SIGNALS
    chosen = {"typical": order}
    if len(rows) > most:
        chosen = {
            "typical": order[((np.arange(most) + 0.5) / most * len(order)).astype(int)],
            "best": order[:extreme],
            "worst": order[::-1][:extreme],
        }
    return {
        name: _group(measurements.ae, source, rows[positions], errors[positions])
        for name, positions in chosen.items()
    }


def _group(ae: Autoencoder, source: Source, rows: Index, errors: Array) -> Group:
    schema = source.schema
    subset = Subset(source, rows)
    values, back = source.read(rows), reconstructed(ae, subset)
    group: Group = {
        "rows": rows.tolist(),
        "errors": errors.tolist(),
        "original": [],
        "reconstruction": [],
    }
    if schema.layout == "image":
        levels = levels_of(source, sample_rows(source))
        height, width, _ = size_of(schema)
        return {
            **group,
            "original": pictures(values, schema, levels),
            "reconstruction": pictures(back, schema, levels),
            "size": [height, width],
        }
    if schema.layout == "signal":
        extents = subset.extents
        back = back if extents is None else _without_padding(back, extents)
        return {
            **group,
            "original": lines_of(values, schema),
            "reconstruction": lines_of(back, schema),
            "places": None if extents is None else _places(extents, schema),
        }
    return {**group, **_table_values(values, back, ae.preparation_)}  # type: ignore[typeddict-item]


def _without_padding(rows: Array, extents: Index) -> Array:
    """Signals (n, T, ...) with NaN after the end of each shorter one."""
    length = (extents[:, 2] - extents[:, 1]).reshape(-1, *[1] * (rows.ndim - 1))
    time = np.arange(rows.shape[1]).reshape(1, -1, *[1] * (rows.ndim - 2))
    return rows if (length == rows.shape[1]).all() else np.where(time < length, rows, np.nan)


def _places(extents: Index, schema: Schema) -> list[str]:
    """The recording and first sample of each row, in words."""
    if schema.recording is None or schema.recording.hop is None:
        return [f"{stop - start:,} samples" for _, start, stop in extents.tolist()]
    several = len(np.unique(extents[:, 0])) > 1
    return [
        f"from sample {start:,}" + (f" of recording {recording:,}" if several else "")
        for recording, start, _ in extents.tolist()
    ]


def lines_of(values: Array, schema: Schema) -> list[Lines]:
    """The first three channels of each signal (n, T) or (n, T, C), averaged to 300 points."""
    signals = values[:, None] if len(schema.shape) == 1 else np.moveaxis(values, -1, 1)
    signals = signals[:, :MOST_CHANNELS].astype(np.float64)
    return [[_plain(in_chunks(line, MOST_POINTS)) for line in signal] for signal in signals]


def _table_values(values: Array, back: Array, preparation: Preparation) -> dict[str, object]:
    """Cells and deviations of all columns, or of the 12 that are reconstructed worst."""
    deviation = _deviation(values, back, preparation)
    columns = np.arange(deviation.shape[1])
    if len(columns) > ALL_COLUMNS:
        largest = np.argsort(-np.abs(deviation).max(axis=0), kind="stable")[:MOST_COLUMNS]
        columns = np.sort(largest)
    names = preparation.schema.feature_names()
    return {
        "columns": [names[i] for i in columns],
        "n_columns": deviation.shape[1],
        "original": _cells(values, columns, preparation.schema),
        "reconstruction": _cells(back, columns, preparation.schema),
        "deviation": deviation[:, columns].tolist(),
    }


def _deviation(values: Array, back: Array, preparation: Preparation) -> Array:
    """(n, D): original minus reconstruction in standard deviations; unsigned for categories."""
    encoded, decoded = (preparation.encode(rows).double().numpy() for rows in (values, back))
    difference = np.nan_to_num(encoded - decoded)
    if preparation.encoder is None:
        return np.asarray(difference)
    signed = preparation.encoder.column_sums(difference)
    is_single = np.asarray(preparation.encoder.sizes) == 1
    distance = np.sqrt(preparation.column_sums(difference**2))
    return np.asarray(np.where(is_single, signed, distance))


def _cells(values: Array, columns: Index, schema: Schema) -> list[list[Any]]:
    """[row][column]: numbers, categories and dates as text; None is a missing value."""
    if schema.columns is None:
        return _plain(values[:, columns])
    dtypes = schema.dtypes * (schema.n_features if len(schema.dtypes) == 1 else 1)
    texts = [as_text(values[:, i], schema.columns[i], dtypes[i]) for i in columns]
    return [list(row) for row in zip(*texts, strict=True)]


def _plain(values: Array) -> list[Any]:
    """Values of any dtype as the json module writes them; None is a missing value."""
    plain = np.asarray(values, object)
    if values.dtype.kind == "f":
        plain[np.isnan(values)] = None
    return plain.tolist()  # type: ignore[no-any-return]


def draw(groups: dict[str, Group], report: ReportData, charts: Charts) -> str:
    """A section with typical rows, and one with the best and the worst."""
    layout = report["data"]["layout"]
    several = layout == "signal" and len(groups["typical"]["original"][0]) > 1
    text = "From the smallest to the largest error, evenly spaced."
    if layout == "image":
        text += " Top: original. Bottom: reconstruction, with its squared error."
    elif layout == "table":
        text += (
            " Cells of the reconstruction are shaded by their deviation; the largest deviation of "
            "each row is framed."
        )
    elif several:
        text += " Each channel has its own colour; wide pale lines are the original."
    first = section(
        "rows",
        "Rows and their reconstructions",
        paragraph(text),
        _key(report, groups["typical"], several=several) if layout == "signal" else "",
        _draw_group(groups["typical"], "typical", report, charts),
    )
    if "best" not in groups:
        return first
    extremes = [
        f"<div><h3>{title}</h3>{_draw_group(groups[name], name, report, charts)}</div>"
        for name, title in (("best", "Smallest error"), ("worst", "Largest error"))
    ]
    columns = "columns" if layout == "image" else ""
    joined = f'<div class="{columns}">{"".join(extremes)}</div>'
    return first + "\n" + section("extremes", "Best and worst rows", joined)


def _key(report: ReportData, group: Group, *, several: bool) -> str:
    """Which colour is which channel, or which line is the reconstruction."""
    if not several:
        return (
            '<p><span class="key">original</span>'
            '<span class="key reconstruction">reconstruction</span></p>'
        )
    names, shown = report["data"]["channels"], len(group["original"][0])
    if not names:
        return ""
    keys = "".join(
        f'<span class="key" style="--key:var(--c{channel % HUES})">{escape(name)}</span>'
        for channel, name in enumerate(names[:shown])
    )
    hidden = len(names) - shown
    more = f" {formatting.count(hidden, 'more channel')} not shown." if hidden > 0 else ""
    return f"<p>{keys}{more}</p>"


def _draw_group(group: Group, name: str, report: ReportData, charts: Charts) -> str:
    match report["data"]["layout"]:
        case "image":
            return _images(group)
        case "signal":
            return _signals(group, name, report, charts)
        case _:
            return _table(group)


def _images(group: Group) -> str:
    height, width = group["size"]
    wide = LARGE_WIDE if width >= LARGE_FROM else SMALL_WIDE
    kind = "small" if max(height, width) <= wide else ""
    items = [
        f'<figure><img class="{kind}" src="{original}" alt="row {row}, original">'
        f'<img class="{kind}" src="{back}" alt="row {row}, reconstruction">'
        f"<figcaption>row {row:,}<br>{formatting.number(error)}</figcaption></figure>"
        for row, error, original, back in zip(
            group["rows"], group["errors"], group["original"], group["reconstruction"], strict=True
        )
    ]
    return f'<div class="images" style="--wide:{wide}px">{"".join(items)}</div>'


def _signals(group: Group, name: str, report: ReportData, charts: Charts) -> str:
    points, channels = report["data"]["shape"][0], report["data"]["channels"]
    items, places = [], group.get("places")
    for i, (row, error) in enumerate(zip(group["rows"], group["errors"], strict=True)):
        chart = charts.add(
            _signal_figure(group["original"][i], group["reconstruction"][i], points, channels),
            f"row {row}, one of the {name} rows: original and reconstruction",
        )
        place = f", {places[i]}" if places else ""
        caption = f"row {row:,}{place} · error {formatting.number(error)}"
        items.append(f"<figure>{chart}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="lines">{"".join(items)}</div>'


def _signal_figure(
    original: Lines, reconstruction: Lines, points: int, channels: Sequence[str] | None
) -> Figure:
    """One signal and its reconstruction; `channels` are the names of the channels."""
    several = len(original) > 1
    data: list[Trace] = []
    for channel, lines in enumerate(zip(original, reconstruction, strict=True)):
        color = f"@c{channel % HUES}" if several else "@reconstruction"
        suffix = f", {channel_name(channel, channels)}" if several else ""
        data.append(
            _signal_line(lines[0], points, f"original{suffix}")
            | {"opacity": 0.5}
            | {"line": {"color": color, "width": 3} if several else {"color": "@muted", "width": 4}}
        )
        data.append(
            _signal_line(lines[1], points, f"reconstruction{suffix}")
            | {"opacity": 1, "line": {"color": color, "width": 1.5}}
        )
    return figure(data, axis(showgrid=False), axis(nticks=4), height=150, showlegend=False)


def _signal_line(values: list[float | None], points: int, name: str) -> Trace:
    x = times(len(values), points)
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": values}


def channel_name(number: int, names: Sequence[str] | None) -> str:
    """The escaped name of a channel, or its number if channels have no names."""
    return label(names[number]) if names else f"channel {number}"


def _table(group: Group) -> str:
    columns = "".join(
        f'<th scope="col">{breakable(shortened(column))}</th>' for column in group["columns"]
    )
    largest = max((abs(v) for row in group["deviation"] for v in row), default=0.0) or 1.0
    lines = [_row_pair(group, i, largest) for i in range(len(group["rows"]))]
    content = (
        f'<table class="pairs"><thead><tr><th scope="col">row</th>{columns}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
    hidden = group["n_columns"] - len(group["columns"])
    note = f"{formatting.count(hidden, 'more column')} not shown; their errors are smaller."
    return scrolling(content) + (paragraph(note, "note") if hidden else "")


def _row_pair(group: Group, i: int, largest: float) -> str:
    """The two table rows of an original and its reconstruction."""
    original, deviation = group["original"][i], [abs(value) for value in group["deviation"][i]]
    worst = max(range(len(deviation)), key=deviation.__getitem__)
    cells = "".join(f"<td>{escape(_cell(value))}</td>" for value in original)
    back = ""
    for j, value in enumerate(group["reconstruction"][i]):
        most = ' class="most"' if j == worst and deviation[j] > 0 else ""
        title = "was missing" if original[j] is None else f"off by {deviation[j]:.2g}"
        shade = f"--deviation:{deviation[j] / largest:.2f}"
        back += f'<td style="{shade}"{most} title="{title}">{escape(_cell(value))}</td>'
    return (
        f'<tr class="original"><th scope="row">{group["rows"][i]:,} original</th>{cells}</tr>'
        f'<tr><th scope="row">reconstruction</th>{back}</tr>'
    )


def _cell(value: object) -> str:
    if value is None:
        return "missing"
    return formatting.number(value, 4) if isinstance(value, float) else str(value)


SECTION = Section(collect, draw)
