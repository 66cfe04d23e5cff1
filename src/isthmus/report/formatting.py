"""Numbers, times and lists as text for people."""

import math
from collections.abc import Sequence

MISSING = "–"  # noqa: RUF001  an en dash marks an empty cell


def percent(share: float | None) -> str:
    """A share in per cent, with more digits close to 100 %."""
    if share is None or not math.isfinite(share):
        return MISSING
    digits = 1 if share < 0.99 else 2 if share < 0.999 else 3
    return f"{share * 100:.{digits}f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A number with `digits` significant digits."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def seconds(value: float | None) -> str:
    """A time with its unit."""
    if value is None:
        return MISSING
    if value < 100:
        return f"{value:#.2g} s" if value < 10 else f"{value:.0f} s"
    if value < 2 * 3600:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def count(value: int, noun: str) -> str:
    """A number with its noun: "1 row", "12,000 rows"."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def capitalized(text: str) -> str:
    """The text with a capital first letter; the others stay as they are."""
    return text[:1].upper() + text[1:]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a", "a and b", "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def aligned(rows: list[list[str]], separator: str = "  ") -> list[str]:
    """Rows of cells as lines, the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        separator.join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
