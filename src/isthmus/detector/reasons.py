"""Why a row is odd: the columns that its score comes from, and what was expected there."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from isthmus.types import Array

TINY = float(np.finfo(np.float64).tiny)


class Reason(NamedTuple):
    """A column's part in a row's score."""

    column: str
    contribution: float
    """Of the score, which is the sum over all columns."""

    found: Any
    expected: Any
    share: float
    """Of the score, 0 to 1."""

    def __str__(self) -> str:
        """In words: column: found (expected), and how much of the score that is."""
        wanted = f"expected {shown(self.expected)}"
        if self.found == self.expected:
            wanted = "expected, but less surely than usual"
        return f"{self.column}: {shown(self.found)} ({wanted}), {self.share:.0%}"


def reasons(
    contributions: Array,
    found: Sequence[Any],
    expected: Sequence[Any],
    names: Sequence[str],
    n: int,
) -> list[list[Reason]]:
    """For each row of (n, D) contributions the `n` columns that give most, largest first.

    `found` and `expected` are D columns of values. They may be the same where another value was
    expected nearly as much.
    """
    shares = contributions / np.maximum(np.nansum(contributions, axis=1, keepdims=True), TINY)
    order = np.argsort(-contributions, axis=1, kind="stable")
    return [
        list(
            itertools.islice(
                (
                    Reason(
                        names[j],
                        float(contributions[i, j]),
                        found[j][i],
                        expected[j][i],
                        float(shares[i, j]),
                    )
                    for j in columns
                    if contributions[i, j] > 0
                ),
                n,
            )
        )
        for i, columns in enumerate(order)
    ]


def shown(value: Any) -> str:
    """A value for people: numbers with four digits, all else as it is."""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value).strip()
