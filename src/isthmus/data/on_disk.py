"""A source whose rows are decoded in chunks, of which it keeps the last few."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np

from isthmus.data.columns import width
from isthmus.data.schema import Schema
from isthmus.errors import SourceError
from isthmus.types import Array, Index

SMALL_BYTES = 1 << 28
"""Files that decode to no more than this are read into memory whole: 256 MiB."""

CHUNK_BYTES = 1 << 24
"""Rows are decoded in chunks of so many bytes: 16 MiB."""

KEPT_BYTES = 1 << 25
"""Decoded chunks that are kept for whoever asks next."""

MOST_OPEN = 8
"""Groups that are read at the same time, at most."""


class Stamp(NamedTuple):
    """What tells whether a file is still the one that was opened."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Of a file that is there."""
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)

    def check(self) -> None:
        """Raise SourceError where the file has changed or gone."""
        try:
            now = Stamp.of(self.path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SourceError(
                f"{self.path}: cannot be read any more ({reason}); leave the file alone while it "
                "is read"
            ) from error
        if now != self:
            raise SourceError(
                f"{self.path}: has changed since it was opened ({self.size} bytes then, {now.size} "
                "now); leave the file alone while it is read, and start anew"
            )


class Blocks:
    """Rows in groups, each of which can be read without those before it, chunk by chunk.

    A subclass says how a group is decoded (`_chunks`). Threads may read at the same time.
    """

    def __init__(self, schema: Schema, origin: str, bounds: Index, dtype: np.dtype[Any]) -> None:
        self.schema, self.origin, self.dtype = schema, origin, dtype
        self.bounds = np.asarray(bounds, np.intp)
        """(groups + 1,): the first row of each group, and the number of all rows."""

        self.step = chunk_rows(schema, self.bounds, dtype.itemsize)
        """Rows of a chunk; the last one of a group may have fewer."""

        self.open_at_once = MOST_OPEN
        """Groups of several chunks that may be under way at the same time."""

        self._lock = threading.RLock()
        self._kept: OrderedDict[tuple[int, int], Array] = OrderedDict()
        self._open: OrderedDict[int, tuple[int, Iterator[Array]]] = OrderedDict()
        self._pinned_rows: Index = np.arange(0)
        self._pinned: Array = np.empty((0, *schema.shape), dtype)

    def __len__(self) -> int:
        """How many rows there are."""
        return int(self.bounds[-1])

    def __getstate__(self) -> dict[str, Any]:
        """What a copy starts from: nothing that is open, no lock."""
        fresh: dict[str, Any] = {"_lock": None, "_kept": OrderedDict(), "_open": OrderedDict()}
        return self.__dict__ | fresh

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it up again."""
        self.__dict__.update(state | {"_lock": threading.RLock()})

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), *schema.shape)."""
        rows = np.asarray(rows, np.intp)
        found = np.empty((len(rows), *self.schema.shape), self.dtype)
        if self._from_memory(rows, found):
            return found
        differences = np.diff(rows)
        once, order = bool((differences > 0).all()), None
        if not once and not (differences >= 0).all():
            order = np.argsort(rows, kind="stable")
        ordered = rows if order is None else rows[order]
        at = 0
        while at < len(ordered):
            group = int(np.searchsorted(self.bounds, ordered[at], side="right")) - 1
            number = int(ordered[at] - self.bounds[group]) // self.step
            start = int(self.bounds[group]) + number * self.step
            stop = min(start + self.step, int(self.bounds[group + 1]))
            end = int(np.searchsorted(ordered, stop, side="left"))
            chunk, inside = self._chunk(group, number, stop - start), ordered[at:end] - start
            place: Any = slice(at, end) if order is None else order[at:end]
            found[place] = chunk if once and len(inside) == len(chunk) else chunk[inside]
            at = end
        return found

    def pin(self, rows: Index) -> None:
        """Keep these rows in memory from now on, instead of those that were kept before."""
        self._pinned_rows = np.arange(0)
        rows = np.unique(rows)
        self._pinned, self._pinned_rows = self.read(rows), rows

    @property
    def pinned(self) -> Index:
        """The rows in memory, ascending."""
        return self._pinned_rows

    def _from_memory(self, rows: Index, found: Array) -> bool:
        """Whether all of the rows are in memory; then they are in `found`."""
        if not len(self._pinned_rows) or not len(rows):
            return False
        at = np.searchsorted(self._pinned_rows, rows)
        at[at == len(self._pinned_rows)] = 0
        if not (self._pinned_rows[at] == rows).all():
            return False
        found[:] = self._pinned[at]
        return True

    def _chunk(self, group: int, number: int, length: int) -> Array:
        with self._lock:
            key = group, number
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            chunk = self._next(group, number)
            if len(chunk) != length:
                raise SourceError(
                    f"{self.origin}: {length} rows were expected from row {self.bounds[group]} on, "
                    f"and {len(chunk)} came; the file is damaged or has changed"
                )
            self._kept[key] = chunk
            most = max(1, KEPT_BYTES // max(chunk.nbytes, 1))
            while len(self._kept) > most:
                self._kept.popitem(last=False)
            return chunk

    def _next(self, group: int, number: int) -> Array:
        """A chunk of a group: from where the last one of it was read, or from its beginning."""
        at, chunks = self._open.pop(group, (0, None))
        if chunks is None or at > number:
            at, chunks = 0, self._chunks(group)
        chunk: Array | None = None
        while at <= number:
            chunk, at = next(chunks, None), at + 1
            if chunk is None:
                return np.empty((0, *self.schema.shape), self.dtype)
        assert chunk is not None
        if self.bounds[group] + at * self.step < self.bounds[group + 1]:
            self._open[group] = at, chunks
        while len(self._open) > self.open_at_once:
            self._open.popitem(last=False)
        return chunk

    def _chunks(self, group: int) -> Iterator[Array]:
        """The chunks of a group, (step, *schema.shape) each but the last."""
        raise NotImplementedError


def chunk_rows(schema: Schema, bounds: Index, itemsize: int) -> int:
    """Rows of a chunk: as many as 16 MiB hold, no more than the largest group has."""
    largest = int(np.diff(bounds).max(initial=1))
    return max(1, min(CHUNK_BYTES // (itemsize * max(width_of(schema), 1)), largest))


def width_of(schema: Schema) -> int:
    """Numbers of a row, or of its features where they are more."""
    wide = sum(map(width, schema.columns)) if schema.columns is not None else 0
    return max(schema.n_features, wide)


def is_streamed(source: Any) -> TypeGuard[Blocks]:
    """Whether the rows of a source stay on disk."""
    return isinstance(source, Blocks)


def is_on_disk(source: Any) -> bool:
    """Whether they do, or those of the source that this one looks at do."""
    while not is_streamed(source) and hasattr(source, "source"):
        source = source.source
    return is_streamed(source)
