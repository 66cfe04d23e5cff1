"""The evidence in a few lines of text, for a terminal."""

from typing import Any


def summary_lines(evidence: dict[str, Any]) -> list[str]:
    """Errors beside PCA's, how the code is used, and the time it took."""
    return []
