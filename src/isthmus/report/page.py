"""The report page: one self-contained HTML file that opens offline."""

from typing import Any


def render(evidence: dict[str, Any]) -> str:
    """The page that shows `evidence`."""
    return "<!doctype html>"
