"""Turns dates, timestamps and durations into numbers, in the unit of their column."""

import re
from datetime import datetime
from typing import TYPE_CHECKING, cast

import numpy as np

from isthmus.data.arrays import data_error
from isthmus.data.columns import Column, TimeType
from isthmus.errors import drop_column
from isthmus.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

PER_UNIT = {"s": 1_000_000, "ms": 1000, "us": 1}
"""Microseconds per unit of time; a microsecond has 1000 nanoseconds."""

DAY, MILLISECONDS = 86_400_000_000, 86_400_000
"""Microseconds and milliseconds per day."""

EARLIEST = int(np.datetime64("0001-01-01", "us").astype(int))
LATEST = int(np.datetime64("9999-12-31T23:59:59.999999", "us").astype(int))

TIME_TYPE_NAMES = {
    "date": "dates",
    "naive": "timestamps without a time zone",
    "zoned": "timestamps with a time zone",
    "duration": "durations",
}

DATE = re.compile(
    r"[ \t]*(([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"([ T]([0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?)?))?)"
    r"(?P<zone>Z|[+-][0-9]{2}(:?[0-9]{2})?)?[ \t]*"
)
"""Text that CSV readers take for a date or a timestamp, perhaps with a time zone."""


def parses_as_date(value: object) -> bool:
    """Whether a value is text that CSV readers take for a date or a timestamp without a zone."""
    match = DATE.fullmatch(value) if isinstance(value, str) else None
    return match is not None and match["zone"] is None and _exists(match)


def parses_as_zoned_datetime(value: object) -> bool:
    """Whether a value is text that CSV readers take for a timestamp with a time zone."""
    match = DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match["zone"] is None:
        return False
    return match[3] is not None and _exists(match)


def _exists(match: re.Match[str]) -> bool:
    """Whether there is such a day and time of day."""
    try:
        datetime.fromisoformat(f"{match[2]}T{match[4] or '00'}")
    except ValueError:
        return False
    return True


def is_time_type(kind: "pa.DataType") -> bool:
    """Whether an Arrow type is a date, a timestamp or a duration."""
    return time_type_of(kind) is not None


def time_type_of(kind: "pa.DataType") -> TimeType | None:
    """The time type of an Arrow type, or None if it is not one of time."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind):
        return "naive" if kind.tz is None else "zoned"
    if pa.types.is_duration(kind):
        return "duration"
    return "date" if pa.types.is_date(kind) else None


def timestamps(array: "pa.Array", column: Column, name: str, origin: str, first_row: int) -> Array:
    """(n,): an Arrow array of dates, timestamps or durations in the column's unit; NaN if missing.

    A date counts as its midnight. Raises DataError (SourceError for a file) for a year that
    dates cannot have, and for another time type than the column's, unless both have no zone.
    """
    time_type = cast("TimeType", time_type_of(array.type))
    if column.time_type and time_type != column.time_type and array.null_count < len(array):
        _check_same(time_type, column.time_type, name, origin)
    numbers = _microseconds(array)
    if time_type != "duration":
        _check_years(numbers, name, origin, first_row)
    return numbers / DAY if (column.time_type or time_type) == "date" else numbers


def _check_same(time_type: TimeType, fitted: TimeType, name: str, origin: str) -> None:
    if {time_type, fitted} <= {"date", "naive"}:
        return
    remedy = "give the same as in training"
    if fitted == "zoned":
        remedy = "say in which zone they are (pandas: .dt.tz_localize)"
    if time_type == "zoned":
        remedy = (
            "leave the zone out (pandas: .dt.tz_convert to the one meant, .dt.tz_localize(None))"
        )
    raise data_error(
        origin,
        f"column {name!r} holds {TIME_TYPE_NAMES[time_type]}, and the model was fitted on "
        f"{TIME_TYPE_NAMES[fitted]}; {remedy}",
    )


def _microseconds(array: "pa.Array") -> Array:
    """(n,): microseconds, since 1970 unless they are durations; NaN where one is missing."""
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
    """Raise if a timestamp, in microseconds since 1970, lies outside the years 1 to 9999."""
    beyond = (numbers < EARLIEST) | (numbers > LATEST)
    if beyond.any():
        row = int(np.argmax(beyond))
        year = 1970 + int(numbers[row] / (365.2425 * DAY))
        raise data_error(
            origin,
            f"column {name!r}: the date at row {first_row + row}, counting from 0, lies in the "
            f"year {year}, and dates have years from 1 to 9999; correct it, or leave the column "
            f"out with {drop_column(name)}",
        )
