"""Which numbers a column may hold that was declared to be counts or truths."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from isthmus.data.arrays import fault
from isthmus.types import Array

FITTING: dict[str | None, tuple[Callable[[Array], Array], str]] = {
    "count": (lambda x: (x >= 0) & (x == np.rint(x)), "whole number of at least 0"),
    "boolean": (lambda x: (x == 0) | (x == 1), "0 or 1"),
}
"""Which numbers a declared column may hold, and how those are called."""


def check_values(
    name: str, numbers: Array, declared: str | None, origin: str, first_row: int = 0
) -> None:
    """Raise DataError where numbers, of the rows from `first_row` on, are not as was declared."""
    fits, _ = FITTING[declared]
    wrong = ~(fits(numbers) | np.isnan(numbers))
    if wrong.any():
        row = int(np.argmax(wrong))
        refuse_value(name, numbers[row], first_row + row, str(declared), origin)


def refuse_value(name: str, value: Any, row: int, declared: str, origin: str) -> NoReturn:
    """Raise DataError for a number that is not what its column was declared to hold."""
    _, words = FITTING[declared]
    raise fault(
        origin,
        f"column {name!r} was declared {declared}, and {value} at row {row}, counting "
        f"from 0, is no {words}; correct it, or declare another role",
    )
