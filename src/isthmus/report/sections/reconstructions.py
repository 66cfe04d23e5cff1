"""Rows beside their reconstructions: images as images, signals as lines, tables as rows."""

from html import escape
from typing import Any

from isthmus.report import formatting
from isthmus.report.charts import figures
from isthmus.report.charts.plot import HUES, shortened
from isthmus.report.html import Charts, breakable, paragraph, scrolling, section

Evidence = dict[str, Any]

SMALL_WIDE, LARGE_WIDE, LARGE_FROM = 68, 128, 100


def rows(evidence: Evidence, charts: Charts) -> str:
    """Rows beside their reconstructions."""
    groups, layout = evidence["rows"], evidence["data"]["layout"]
    draw = {"image": _images, "signal": _signals, "table": _table}[layout]
    what = {
        "image": "Above what was found, below what the code gives back, and its squared error.",
        "signal": "Each channel has a colour of its own, wide and pale as it was found."
        if layout == "signal" and len(groups["typical"]["found"][0]) > 1
        else "",
        "table": "Each row as it was found and as the code gives it back, shaded by how far off; "
        "the worst value of each row is framed.",
    }[layout]
    key = '<p><span class="key">found</span><span class="key rebuilt">rebuilt</span></p>'
    first = section(
        "rows",
        "Rows and their reconstructions",
        paragraph(f"From the best rebuilt to the worst, evenly spread. {what}".strip()),
        key if layout == "signal" and not what else _channel_key(evidence) if what else "",
        draw(evidence, groups["typical"], charts, "typical"),
    )
    if "best" not in groups:
        return first
    extremes = [
        f"<div><h3>{title}</h3>{draw(evidence, groups[name], charts, name)}</div>"
        for name, title in (("best", "Rebuilt best"), ("worst", "Rebuilt worst"))
    ]
    columns = "columns" if layout == "image" else ""
    joined = f'<div class="{columns}">{"".join(extremes)}</div>'
    return first + "\n" + section("extremes", "The best and the worst", joined)


def _channel_key(evidence: Evidence) -> str:
    """Which colour is which channel, where channels have names."""
    shown = len(evidence["rows"]["typical"]["found"][0])
    names = evidence["data"].get("channels")
    if evidence["data"]["layout"] != "signal" or not names:
        return ""
    keys = "".join(
        f'<span class="key" style="--key:var(--c{channel % HUES})">{escape(name)}</span>'
        for channel, name in enumerate(names[:shown])
    )
    hidden = len(names) - shown
    more = f" {formatting.count(hidden, 'more channel')} not shown." if hidden > 0 else ""
    return f"<p>{keys}{more}</p>"


def _images(evidence: Evidence, group: dict[str, Any], charts: Charts, name: str) -> str:
    del charts
    height, width = group["size"]
    wide = LARGE_WIDE if width >= LARGE_FROM else SMALL_WIDE
    kind = "small" if max(height, width) <= wide else ""
    items = []
    for row, error, found, back in zip(
        group["rows"], group["errors"], group["found"], group["rebuilt"], strict=True
    ):
        items.append(
            f'<figure><img class="{kind}" src="{found}" alt="row {row} as found">'
            f'<img class="{kind}" src="{back}" alt="row {row} as rebuilt">'
            f"<figcaption>row {row:,}<br>{formatting.number(error)}</figcaption></figure>"
        )
    del evidence, name
    return f'<div class="images" style="--wide:{wide}px">{"".join(items)}</div>'


def _signals(evidence: Evidence, group: dict[str, Any], charts: Charts, name: str) -> str:
    points, names = evidence["data"]["shape"][0], evidence["data"].get("channels")
    items, places = [], group.get("places")
    for i, (row, error) in enumerate(zip(group["rows"], group["errors"], strict=True)):
        chart = charts.add(
            figures.signal(group["found"][i], group["rebuilt"][i], points, names),
            f"row {row}, one of the {name} rows, as found and as rebuilt",
        )
        place = f", {places[i]}" if places else ""
        caption = f"row {row:,}{place} · error {formatting.number(error)}"
        items.append(f"<figure>{chart}<figcaption>{caption}</figcaption></figure>")
    return f'<div class="lines">{"".join(items)}</div>'


def _table(evidence: Evidence, group: dict[str, Any], charts: Charts, name: str) -> str:
    del evidence, charts, name
    columns = "".join(
        f'<th scope="col">{breakable(shortened(column))}</th>' for column in group["columns"]
    )
    most = max((abs(off) for row in group["off"] for off in row), default=0.0) or 1.0
    lines = [_table_pair(group, i, most) for i in range(len(group["rows"]))]
    content = (
        f'<table class="pairs"><thead><tr><th scope="col">row</th>{columns}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
    hidden = group["n_columns"] - len(group["columns"])
    note = f"{formatting.count(hidden, 'more column')} not shown: those are rebuilt better."
    return scrolling(content) + (paragraph(note, "note") if hidden else "")


def _table_pair(group: dict[str, Any], i: int, most: float) -> str:
    off = [abs(value) for value in group["off"][i]]
    worst = max(range(len(off)), key=off.__getitem__)
    found = "".join(f"<td>{escape(_cell(value))}</td>" for value in group["found"][i])
    back = "".join(
        f'<td style="--off:{off[j] / most:.2f}"{_most(j == worst and off[j] > 0)} '
        f'title="{_distance(group["found"][i][j], off[j])}">{escape(_cell(value))}</td>'
        for j, value in enumerate(group["rebuilt"][i])
    )
    return (
        f'<tr class="found"><th scope="row">{group["rows"][i]:,} found</th>{found}</tr>'
        f'<tr><th scope="row">rebuilt</th>{back}</tr>'
    )


def _distance(found: Any, off: float) -> str:
    return "was missing" if found is None else f"off by {off:.2g}"


def _most(is_worst: bool) -> str:
    return ' class="most"' if is_worst else ""


def _cell(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else formatting.number(value, 4)
