"""The columns that contribute most to a row's score."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from isthmus.types import Array

TINY = float(np.finfo(np.float64).tiny)


class Reason(NamedTuple):
    """The contribution of one column to the score of a row.

    Example:
        >>> print(Reason("weight", 7.5, value=82.0, expected=8.2, fraction=0.75))
        weight: 82 (expected 8.2), 75%
    """

    column: str
    """The name of the column; the position of the value for rows without names."""

    contribution: float
    """The column's part of the score, >= 0; the contributions of all columns sum to the score."""

    value: object
    """The value in the row, in the units of the data."""

    expected: object
    """The value in the row that typical rows led the detector to expect."""

    fraction: float
    """`contribution` as a fraction of the score, 0 to 1."""

    def __str__(self) -> str:
        """The reason in words: column: value (expected value), fraction of the score."""
        expected = f"expected {format_value(self.expected)}"
        if self.value == self.expected:
            expected = "expected, but with less certainty than usual"
        return f"{self.column}: {format_value(self.value)} ({expected}), {self.fraction:.0%}"


def reasons(
    contributions: Array,
    values: Sequence[Sequence[object]],
    expected: Sequence[Sequence[object]],
    names: Sequence[str],
    n: int,
) -> list[list[Reason]]:
    """For each row of `contributions` (n, D), the `n` columns that contribute most, largest first.

    `values` and `expected` hold D columns each. They may agree in a column that contributes: the
    expectation was then uncertain.
    """
    fractions = contributions / np.maximum(np.nansum(contributions, axis=1, keepdims=True), TINY)
    order = np.argsort(-contributions, axis=1, kind="stable")
    return [
        list(
            itertools.islice(
                (
                    Reason(
                        names[j],
                        float(contributions[i, j]),
                        values[j][i],
                        expected[j][i],
                        float(fractions[i, j]),
                    )
                    for j in columns
                    if contributions[i, j] > 0
                ),
                n,
            )
        )
        for i, columns in enumerate(order)
    ]


def format_value(value: object) -> str:
    """A value for display: floats with four significant digits, everything else unchanged."""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value).strip()
