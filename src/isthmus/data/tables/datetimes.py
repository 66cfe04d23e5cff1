"""Dates, moments and spans of time become one number each, in the unit of their column."""

import re
from datetime import datetime
from typing import Any

import numpy as np

from isthmus.data.arrays import fault
from isthmus.data.columns import Column
from isthmus.types import Array

PER_UNIT = {"s": 1_000_000, "ms": 1000, "us": 1}
"""Microseconds in a unit of time; nanoseconds come a thousand in each."""

DAY, MILLISECONDS = 86_400_000_000, 86_400_000
"""Microseconds and milliseconds in a day."""

EARLIEST = int(np.datetime64("0001-01-01", "us").astype(int))
LATEST = int(np.datetime64("9999-12-31T23:59:59.999999", "us").astype(int))

WORDS = {
    "date": "dates",
    "naive": "moments without a time zone",
    "zoned": "moments in a time zone",
    "span": "spans of time",
}


DATE = re.compile(
    r"[ \t]*(([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"([ T]([0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?))?)"
    r"(?P<zone>Z|[+-][0-9]{2}(:?[0-9]{2})?)?[ \t]*"
)
"""Text that is a date or a moment to readers of CSV, perhaps with a time zone."""


def reads_as_date(value: Any) -> bool:
    """Whether a value is text that a reader of CSV takes for a date or a moment without a zone."""
    found = DATE.fullmatch(value) if isinstance(value, str) else None
    return found is not None and found["zone"] is None and _is_real(found)


def reads_as_zoned(value: Any) -> bool:
    """Whether a value is text that a reader of CSV takes for a moment in a time zone."""
    found = DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or found["zone"] is None:
        return False
    return found[3] is not None and _is_real(found)


def _is_real(found: re.Match[str]) -> bool:
    """Whether there is such a day and time of day."""
    try:
        datetime.fromisoformat(f"{found[2]}T{found[4] or '00'}")
    except ValueError:
        return False
    return True


def is_moment(found: Any) -> bool:
    """Whether an Arrow type is a date, a moment or a span of time."""
    return moment_of(found) is not None


def moment_of(found: Any) -> str | None:
    """Which of `columns.Moment` an Arrow type is, or None."""
    import pyarrow as pa

    if pa.types.is_timestamp(found):
        return "naive" if found.tz is None else "zoned"
    if pa.types.is_duration(found):
        return "span"
    return "date" if pa.types.is_date(found) else None


def moments(array: Any, column: Column, name: str, origin: str, first_row: int) -> Array:
    """(n,): an Arrow array of dates, moments or spans in the unit of `column`, NaN where missing.

    A date is the moment at which it begins. Raises DataError (SourceError for a file) for a year
    that no date has, and for moments that are not known to be those of the column: in a time zone
    where that has none, or spans.
    """
    found = str(moment_of(array.type))
    if column.moment and found != column.moment and array.null_count < len(array):
        _check_alike(found, column.moment, name, origin)
    numbers = _microseconds(array)
    if found != "span":
        _check_years(numbers, name, origin, first_row)
    return numbers / DAY if (column.moment or found) == "date" else numbers


def _check_alike(found: str, wanted: str, name: str, origin: str) -> None:
    if {found, wanted} <= {"date", "naive"}:
        return
    remedy = "give what the model knows"
    if wanted == "zoned":
        remedy = "say in which zone they are (pandas: .dt.tz_localize)"
    if found == "zoned":
        remedy = (
            "leave the zone out (pandas: .dt.tz_convert to the one meant, .dt.tz_localize(None))"
        )
    raise fault(
        origin,
        f"column {name!r} holds {WORDS[found]}, and the model was fitted on {WORDS[wanted]}; "
        f"{remedy}",
    )


def _microseconds(array: Any) -> Array:
    """(n,): microseconds, since 1970 but for spans; NaN where one is missing."""
    import pyarrow as pa

    missing = array.is_null().to_numpy(zero_copy_only=False)
    days = pa.types.is_date32(array.type)
    ticks = array.cast(pa.int32() if days else pa.int64()).fill_null(0)
    whole = ticks.to_numpy(zero_copy_only=False)
    if pa.types.is_date(array.type):
        # A date has no time of day, whatever its type could hold.
        numbers = (whole if days else whole // MILLISECONDS).astype(np.float64) * DAY
    elif array.type.unit == "ns":
        numbers = whole // 1000
    else:
        # Whole microseconds are exact in double precision until 2255.
        numbers = whole.astype(np.float64) * PER_UNIT[array.type.unit]
    return np.where(missing, np.nan, numbers)


def _check_years(numbers: Array, name: str, origin: str, first_row: int) -> None:
    """Raise where a moment, in microseconds since 1970, lies in no year that a date can have."""
    beyond = (numbers < EARLIEST) | (numbers > LATEST)
    if beyond.any():
        row = int(np.argmax(beyond))
        year = 1970 + int(numbers[row] / (365.2425 * DAY))
        raise fault(
            origin,
            f"column {name!r}: the date at row {first_row + row}, counting from 0, lies in the "
            f"year {year}, and dates have years from 1 to 9999; correct it, or leave the column "
            f"out with drop=[{name!r}] (command line: --drop {name})",
        )
