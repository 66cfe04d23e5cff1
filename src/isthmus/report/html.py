"""Small pieces of HTML, with everything that users wrote escaped."""

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from isthmus.report.charts.plot import Figure


class Charts:
    """The charts of a page: each has its place in the text and is drawn by the script."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def add(self, figure: Figure, alt: str) -> str:
        """The place where `figure` will be drawn; `alt` says what it shows."""
        name = f"chart-{len(self.figures)}"
        self.figures[name] = figure
        height = figure["layout"]["height"]
        return (
            f'<div class="chart" id="{name}" role="img" aria-label="{escape(alt)}" '
            f'style="height:{height}px"></div>'
        )

    def script(self) -> str:
        """The figures as JSON that cannot end the script element it stands in."""
        written = json.dumps(self.figures, allow_nan=False, separators=(",", ":"))
        return written.replace("<", "\\u003c")


def section(name: str, title: str, *parts: str) -> str:
    """A section with its heading; nothing where there are no parts."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{body}\n</section>' if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """Plain text as a paragraph."""
    return f'<p class="{kind}">{prose(text)}</p>' if kind else f"<p>{prose(text)}</p>"


def prose(text: str) -> str:
    """Escaped text in which no line breaks inside "82 %" or "5.2e-05"."""
    return escape(text.replace(" %", "\u00a0%").replace("e-0", "e\u20110"))


def breakable(name: str) -> str:
    """An escaped name that may break after the signs that join its words."""
    return re.sub(r"([_/.:-]+)", r"\1<wbr>", escape(name, quote=False))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text that scrolls by itself where it is too wide."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return scrolling(
        f'<table class="prose"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
    )


def scrolling(content: str) -> str:
    """Something wide in a box that scrolls, by keyboard too."""
    return f'<div class="wide" tabindex="0">{content}</div>'


def pairs(items: Iterable[tuple[str, Any]]) -> str:
    """A list of names and what they are; those that are None or empty are left out."""
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in items
        if value is not None and value != ""
    )
    return f"<dl>{lines}</dl>"
