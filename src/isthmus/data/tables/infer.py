"""What the columns of a table are, told by their types and values; a declared role goes first."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np

from isthmus.data.arrays import fault
from isthmus.data.columns import EVERY, IDENTIFIER, Column, in_order
from isthmus.data.tables.datetimes import moment_of
from isthmus.data.tables.role_checks import FITTING, check_values
from isthmus.data.tables.to_numbers import (
    arrow_of,
    is_text,
    plain_numbers,
    reads_as_number,
    refuse_type,
)
from isthmus.data.tables.unparsable import TextLevels, strays_of
from isthmus.types import Array

Series = nw.Series[Any]

FEW = 20
"""So many different values, or rows, tell nothing of a column that only names its rows."""

MOSTLY_DISTINCT = 0.5
"""Text of which a larger share of the values is different names rows rather than sorting them."""


class Recognised(NamedTuple):
    """What a column is, or why it is left out."""

    column: Column | None
    """None for an identifier."""

    why: str = ""


def recognise(series: Series, declared: str | None, origin: str) -> Recognised:
    """The role of one column, with its levels where it has any.

    Numbers, truths, dates, and dictionaries are what their types say. Text is categorical, unless
    more than half of its values are different: then it names its rows, as do whole numbers that
    count them, and is left out. `declared` is a role that was asked for.

    Raises DataError (SourceError for a file) for a type that is none of these.
    """
    if declared == IDENTIFIER:
        return Recognised(None, "was said to identify rows")
    numbers = plain_numbers(series)
    if numbers is not None:
        return _of_numbers(series, numbers, declared, origin)
    array = arrow_of(series)
    if array is None:
        refuse_type(series, origin)
    moment = moment_of(array.type)
    if moment is not None:
        return Recognised(Column(role="datetime", moment=moment))  # type: ignore[arg-type]
    found = _dictionary(series, array) or _text(series, array, declared, origin)
    if found is None:
        refuse_type(series, origin)
    if found.column is not None and declared in ("categorical", "ordinal"):
        levels, dtype = found.column.levels, found.column.level_dtype
        return Recognised(Column(role=declared, levels=levels, level_dtype=dtype))  # type: ignore[arg-type]
    return found


def check_declared(
    name: str, column: Column, roles: Mapping[str, str], given: Mapping[str, str], origin: str
) -> None:
    """Raise DataError where a column cannot be what it was declared to be.

    `roles` are those of columns by name, and `given` as they were given, perhaps with "*".
    """
    declared = roles.get(name)
    if declared in (None, IDENTIFIER, column.role):
        return
    remedy = "leave the declaration out"
    if name not in given:
        remedy = (
            "declare a role of its own for it, or leave it out with "
            f"roles={{{EVERY!r}: {declared!r}, {name!r}: {IDENTIFIER!r}}} (command line: --role "
            f"'{EVERY}={declared},{name}={IDENTIFIER}')"
        )
    raise fault(
        origin,
        f"column {name!r} was declared {declared}, and its values are {column.role}; {remedy}, or "
        "convert the column",
    )


def _of_numbers(series: Series, numbers: Array, declared: str | None, origin: str) -> Recognised:
    if declared in ("categorical", "ordinal"):
        known = numbers[~np.isnan(numbers)] if numbers.dtype.kind == "f" else numbers
        return of_levels(np.unique(known), declared)
    if declared in FITTING:
        check_values(str(series.name), numbers, declared, origin)
    if series.dtype == nw.Boolean or declared == "boolean":
        return Recognised(Column(role="boolean"))
    if declared is None and series.dtype.is_integer() and _counts_rows(numbers):
        return Recognised(None, "counts the rows")
    return Recognised(Column(role="count" if declared == "count" else "numeric"))


def of_levels(levels: Array, declared: str) -> Recognised:
    """A column of numbers that was declared to have levels: these, ascending."""
    whole = levels.dtype.kind == "f" and bool((levels == np.rint(levels)).all())
    values = (levels.astype(np.int64) if whole else levels).tolist()
    return Recognised(Column(role=declared, levels=tuple(values)))  # type: ignore[arg-type]


def _counts_rows(numbers: Array) -> bool:
    """Whether whole numbers rise by one from row to row."""
    if len(numbers) <= FEW or numbers.dtype.kind not in "iu":
        return False
    return int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1 and bool(
        (np.diff(numbers.astype(np.int64)) == 1).all()
    )


def _dictionary(series: Series, array: Any) -> Recognised | None:
    """Of a column that has a list of levels of its own, as pandas' categories do."""
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type):
        return None
    native = series.to_native()
    if series.implementation.is_pandas() and hasattr(native, "cat"):
        categories = native.cat.categories
        levels = tuple(categories.tolist())
        dtype = str(categories.dtype)
    else:
        levels, dtype = _levels_of_dictionary(series, array), ""
    ordered = bool(array.type.ordered) and not series.implementation.is_polars()
    if not all(isinstance(level, (str, int, float, bool)) for level in levels):
        return None
    role = "ordinal" if ordered else "categorical"
    return Recognised(Column(role=role, levels=levels, level_dtype=dtype))  # type: ignore[arg-type]


def _levels_of_dictionary(series: Series, array: Any) -> tuple[Any, ...]:
    known = getattr(series.dtype, "categories", None)
    if known is not None:
        return tuple(known)
    # A dictionary's order is that in which values came, which says nothing, unless it is said to.
    levels = array.dictionary.to_pylist()
    return tuple(levels) if array.type.ordered else in_order(set(levels))


def _text(series: Series, array: Any, declared: str | None, origin: str) -> Recognised | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(array.type):
        return Recognised(Column())
    if not is_text(array.type):
        return None
    counts = pc.value_counts(array.drop_null())
    levels = counts.field(0).to_pylist()

    def first(wanted: list[str]) -> tuple[int, str]:
        row = pc.index(pc.is_in(array, value_set=pa.array(wanted, array.type)), True).as_py()
        return row, array[row].as_py()

    found = TextLevels(levels, counts.field(1).to_numpy(), first)
    return of_text(str(series.name), found, declared, origin)


def of_text(name: str, found: TextLevels, declared: str | None, origin: str) -> Recognised:
    """A column of text: categories, unless most of its values are different."""
    levels, known = found.levels, int(found.counts.sum())
    if declared is None:
        for strays in strays_of(found):
            strays.check(name, origin)
    if declared is None and names_rows(len(levels), known):
        share = f"{len(levels)} different values in {known}"
        return Recognised(None, f"identifies rows ({share})")
    numbers = declared is not None and all(map(reads_as_number, levels))
    ordered = tuple(sorted(levels, key=_as_number)) if numbers else in_order(levels)
    return Recognised(Column(role="categorical", levels=ordered))


def _as_number(level: str) -> tuple[float, str]:
    return float(level), level


def names_rows(levels: int, known: int) -> bool:
    """Whether so many different values in so many name rows rather than sorting them."""
    return levels > FEW and levels > MOSTLY_DISTINCT * known


def left_out_in_words(reasons: Mapping[str, str]) -> Iterable[str]:
    """One line for each column that is left out, and how to keep it."""
    for name, why in reasons.items():
        yield (
            f"column {name!r} {why} and is left out; declare a role for it to keep it "
            f"(command line: --role {name}=categorical)"
        )
