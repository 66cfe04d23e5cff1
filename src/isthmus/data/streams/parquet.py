"""Parquet files, one or a folder of them, read row group by row group and those in pieces."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.columns import listed
from isthmus.data.formats.base import damaged
from isthmus.data.pandas_metadata import told_of
from isthmus.data.streams.agreement import common_schema
from isthmus.data.streams.blocks import MOST_OPEN, Stamp
from isthmus.data.streams.tables import Records
from isthmus.errors import SourceError

OPEN_BYTES = 1 << 27
"""What row groups that are being read may hold of their files, together: 128 MiB."""

PAGE_BYTES = 1 << 20
"""The size of a page of one column, as most writers make it; one a column is in memory."""

BUFFER_BYTES = 1 << 16
"""How much of a column is read from the file at once."""


class ParquetRecords(Records):
    """The record batches of one Parquet file, or of several with the same columns."""

    def __init__(self, paths: Sequence[Path], origin: str) -> None:
        self.origin = origin
        self.stamps = [Stamp.of(path) for path in paths]
        self.rows: list[int] = []
        self.places: list[tuple[int, int]] = []
        """(file, row group) of each group."""

        self.bytes, self.largest = 0, 0
        self._metadata: dict[int, Any] = {}
        schemas = []
        for number, stamp in enumerate(self.stamps):
            with opened(stamp.path) as file:
                schemas.append((stamp.path, file.schema_arrow))
                self._learn(number, file.metadata)
        self.schema, self.first = common_schema(schemas), schemas[0][1]
        _check_names(self.origin, self.schema.names)
        index = pandas_index(self.first)
        self.names = tuple(name for name in self.schema.names if name not in index)
        self.row_bytes = max(self.bytes / max(sum(self.rows), 1), 1.0)
        self.bounds = np.concatenate([[0], np.cumsum(self.rows)]).astype(np.intp)

    def _learn(self, number: int, metadata: Any) -> None:
        for group in range(metadata.num_row_groups):
            found = metadata.row_group(group)
            self.largest = max(self.largest, found.total_byte_size)
            if found.num_rows:
                self.bytes += max(found.total_byte_size, found.num_rows * 8 * metadata.num_columns)
                self.rows.append(found.num_rows)
                self.places.append((number, group))

    @property
    def open_at_once(self) -> int:
        """How many groups that are read in pieces fit in memory at the same time."""
        each = min(len(self.names) * (PAGE_BYTES + BUFFER_BYTES), max(self.largest, 1))
        return int(np.clip(OPEN_BYTES // each, 1, MOST_OPEN))

    def empty(self) -> Any:
        """A Table without rows."""
        return self.schema.empty_table().replace_schema_metadata(None)

    def described(self, table: Any) -> Any:
        """A Table of some columns with the dtypes that pandas had for them."""
        return described(table, self.first)

    def batches(self, group: int, names: Sequence[str], rows: int) -> Iterator[Any]:
        """The Tables of one group, `rows` rows each but the last."""
        import pyarrow as pa

        number, inside = self.places[group]
        stamp, wanted = self.stamps[number], self.empty().select(list(names)).schema
        stamp.check()
        with opened(stamp.path, stamp, self._metadata.get(number)) as file:
            if number not in self._metadata:
                self._metadata = {number: file.metadata}
            waiting: list[Any] = []
            batches = file.iter_batches(rows, row_groups=[inside], columns=list(names))
            for batch in batches:
                waiting.append(batch)
                while sum(map(len, waiting)) >= rows:
                    table = pa.Table.from_batches(waiting).select(list(names)).cast(wanted)
                    waiting = table.slice(rows).to_batches()
                    yield table.slice(0, rows)
            if sum(map(len, waiting)):
                yield pa.Table.from_batches(waiting).select(list(names)).cast(wanted)


@contextmanager
def opened(path: Path, stamp: Stamp | None = None, metadata: Any = None) -> Iterator[Any]:
    """The pyarrow ParquetFile; what is wrong with it becomes one SourceError.

    Where there is a `stamp`, a file that has changed is said to have, before anything else. What
    is known of it already, its `metadata`, need not be read again.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with damaged(path, "a Parquet file", pa.ArrowInvalid, OSError, ValueError):
        try:
            with pq.ParquetFile(
                path, metadata=metadata, buffer_size=BUFFER_BYTES, pre_buffer=False
            ) as file:
                yield file
        except Exception:
            if stamp is not None:
                stamp.check()
            raise


def _check_names(origin: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceError(
            f"{origin}: several columns are named {listed(twice)}; give each its own name"
        )


def described(table: Any, schema: Any) -> Any:
    """The table with what pandas wrote into a file's schema of those columns that it has."""
    told = told_of(schema)
    if told is None:
        return table.replace_schema_metadata(None)
    names = set(table.column_names)
    told["columns"] = [one for one in told["columns"] if one.get("field_name") in names]
    # An index that was a column is left out; one that counts the rows is described, not stored.
    told["index_columns"] = [one for one in told["index_columns"] if isinstance(one, dict)]
    return table.replace_schema_metadata({b"pandas": json.dumps(told).encode()})


def pandas_index(schema: Any) -> list[str]:
    """The columns that are the index of what pandas wrote."""
    told = told_of(schema) or {"index_columns": []}
    return [name for name in told["index_columns"] if isinstance(name, str)]
