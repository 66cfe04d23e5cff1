"""Pieces of HTML in which all text is escaped."""

import json
import re
from collections.abc import Iterable, Sequence
from html import escape

from isthmus.report import formatting
from isthmus.report.plot import Figure


class Charts:
    """The charts of a page: the text has an empty box for each, which the script fills."""

    def __init__(self) -> None:
        self.figures: dict[str, Figure] = {}

    def add(self, figure: Figure, alt: str) -> str:
        """The box for `figure`; `alt` describes the chart."""
        name = f"chart-{len(self.figures)}"
        self.figures[name] = figure
        height = figure["layout"]["height"]
        return (
            f'<div class="chart" id="{name}" role="img" aria-label="{escape(alt)}" '
            f'style="height:{height}px"></div>'
        )

    def script(self) -> str:
        """The figures as JSON that cannot end its script element."""
        written = json.dumps(self.figures, allow_nan=False, separators=(",", ":"))
        return written.replace("<", "\\u003c")


def section(name: str, title: str, *parts: str) -> str:
    """A section with its heading; an empty text if there are no parts."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{body}\n</section>' if body else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{prose(text)}</p>' if kind else f"<p>{prose(text)}</p>"


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return formatting.capitalized(text) + "."


def prose(text: str) -> str:
    """Escaped text without line breaks inside "82 %" or "5.2e-05"."""
    return escape(text.replace(" %", "\u00a0%").replace("e-0", "e\u20110"))


def breakable(name: str) -> str:
    """An escaped name that may break after the signs that join its words."""
    return re.sub(r"([_/.:-]+)", r"\1<wbr>", escape(name, quote=False))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "prose") -> str:
    """A table of plain text that scrolls by itself if it is too wide."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return scrolling(
        f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'
    )


def scrolling(content: str) -> str:
    """A box in which wide content scrolls, by keyboard too."""
    return f'<div class="wide" tabindex="0">{content}</div>'


def pairs(items: Iterable[tuple[str, object]]) -> str:
    """A list of names and values, without those that are None or empty."""
    lines = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in items
        if value is not None and value != ""
    )
    return f"<dl>{lines}</dl>"
