"""Infers the roles of the columns of a table on disk in one pass over it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import narwhals as nw

from isthmus.data.columns import Column, describe_unknown, listed
from isthmus.data.tables.frames import SHOWN_CATEGORIES
from isthmus.data.tables.infer import InferredColumn, start_inference
from isthmus.data.tables.to_numbers import are_integer_texts, as_integer_text
from isthmus.data.tables.unparsable import ValueCounts
from isthmus.types import Index

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CATEGORIES = 100_000
"""A column with more different values cannot be categorical."""

BATCH_ROWS, BATCH_BYTES = 1 << 16, 1 << 25


class Table(Protocol):
    """The part of `tables.streamed.Records` that inference needs."""

    origin: str
    bounds: Index
    row_bytes: float

    def empty(self) -> "pa.Table":
        """A pyarrow Table without rows."""

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator["pa.Table"]:
        """The pyarrow Tables of a group."""


@dataclass
class InferredTable:
    """What one pass over a table found."""

    columns: dict[str, InferredColumn]

    has_missing: dict[str, bool]
    """Whether a column of integers or booleans has missing values."""

    counts: dict[str, ValueCounts]
    """The different values of the columns whose values were counted."""

    def unknown_values(self, columns: Mapping[str, Column], origin: str) -> list[str]:
        """One line per column with values that are not among its categories in `columns`."""
        lines = []
        for name, column in columns.items():
            if name not in self.counts:
                continue
            counts, categories = self.counts[name], set(column.categories)
            if are_integer_texts(column.categories):  # the same integers as numbers are known too
                texts = {x: as_integer_text(x) for x in counts.values if not isinstance(x, str)}
                categories |= {number for number, text in texts.items() if text in categories}
            unknown = [i for i, value in enumerate(counts.values) if value not in categories]
            if unknown:
                count = describe_unknown(int(counts.counts[unknown].sum()))
                values = [counts.values[i] for i in unknown[:SHOWN_CATEGORIES]]
                lines.append(f"{origin}: column {name!r}: {count}: {listed(values)}")
        return lines


def infer_table(table: Table, names: Sequence[str], roles: Mapping[str, str]) -> InferredTable:
    """Infers the columns `names`, and reads only those whose type does not decide alone.

    Raises DataError (SourceError for a file) as `infer_column` does, and for a column of text with
    more different values than can be kept that does not identify rows.
    """
    frame = nw.from_native(table.empty(), eager_only=True)
    inferences = {
        name: start_inference(
            frame.get_column(name), roles.get(name), table.origin, max_values=MAX_CATEGORIES
        )
        for name in names
    }
    needed = [name for name, inference in inferences.items() if inference.needs_values]
    if needed:
        row, rows = 0, max(1, min(BATCH_ROWS, int(BATCH_BYTES // table.row_bytes)))
        for group in range(len(table.bounds) - 1):
            for batch in table.batches(group, needed, rows):
                part = nw.from_native(batch, eager_only=True)
                for name in needed:
                    inferences[name].update(part.get_column(name), row)
                row += batch.num_rows
    return InferredTable(
        {name: inference.result() for name, inference in inferences.items()},
        {name: inference.has_missing for name, inference in inferences.items()},
        {
            name: inference.counts.value_counts()
            for name, inference in inferences.items()
            if inference.counts is not None
        },
    )
