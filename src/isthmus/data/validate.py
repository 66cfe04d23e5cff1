"""Check that rows can be learned from, and match them to the schema of a fitted model."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from isthmus.data.arrays import SparseSource, data_error
from isthmus.data.columns import listed
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import (
    Recordings,
    RecordingSource,
    cut_to_schema,
    recordings_from_sources,
)
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import read_blocks, row_blocks
from isthmus.data.tables.frames import FrameSource, PickedSource
from isthmus.data.tables.roles import are_numbers, as_declared
from isthmus.data.tables.streamed import StreamedTable
from isthmus.errors import drop_column, either, setting
from isthmus.types import Array, Index


def check_rows(
    source: Source, *, at_least: int = 2, allow_missing: bool = False, defer_streamed: bool = False
) -> None:
    """Raise DataError (SourceError for a file) unless the rows of a source can be used.

    They need a column and `at_least` so many rows (two to fit, one to encode). No value may be
    infinite, and none may be NaN unless `allow_missing`; the message names the first one. To fit,
    every feature needs a value. With `defer_streamed` the values of streamed sources are not read.
    """
    check_size(source, at_least)
    if source.is_streamed and defer_streamed:
        return
    need_values = allow_missing and at_least > 1
    if isinstance(source, RecordingSource):
        if need_values:
            check_has_values(source, _has_values(source))
        for part in source.parts:  # the message then names the recording and the sample
            check_rows(part, at_least=1, allow_missing=allow_missing)
        return
    check = FiniteCheck(source, allow_missing=allow_missing, need_values=need_values)
    check.update_all()
    check.check()


def check_has_values(source: Source, known: Array) -> None:
    """Raise DataError (SourceError for a file) if a feature has no value: `known` (D,) is 0."""
    if not known.all():
        name = source.schema.feature_names()[int(np.argmin(known))]
        remedy = f"leave it out with {drop_column(name)}"
        if source.schema.layout != "table":
            remedy = "cut it off all rows, or give some that have it"
        raise data_error(
            source.origin,
            f"{name!r} has no value at all in the rows that count, all are missing; {remedy}",
        )


def check_any_value(source: Source) -> None:
    """Raise DataError (SourceError for a file) if no row holds any value."""
    if not _has_values(source).any():
        raise data_error(
            source.origin, "no row holds any value, all are missing; give rows that do"
        )


def _has_values(source: Source) -> Array:
    """(D,) bool: whether a feature has any value; the first block is usually enough to see it."""
    known = np.zeros(source.schema.n_features, bool)
    for block in row_blocks(source):
        known |= ~np.isnan(source.read(block).reshape(len(block), -1)).all(axis=0)
        if known.all():
            break
    return known


def has_missing(source: Source) -> bool:
    """Whether any value is missing."""
    check = FiniteCheck(source, allow_missing=False)
    check.update_all(stop_at_nan=True)
    return check.nan > 0


def check_size(source: Source, at_least: int = 2) -> None:
    """Raise DataError (SourceError for a file) unless there are columns and enough rows."""
    rows, shape = len(source), source.schema.shape
    if source.schema.n_features == 0:
        raise data_error(
            source.origin,
            f"there are rows with 0 feature(s) (shape={(rows, *shape)}) while a minimum of 1 is "
            "required; give at least one column of numbers",
        )
    if rows < at_least:
        count = f"{rows} row{'' if rows == 1 else 's'} (n_samples={rows})"
        raise data_error(
            source.origin,
            f"there {'is' if rows == 1 else 'are'} {count}; at least {at_least} are needed",
        )


class _Refused(NamedTuple):
    """Values that are infinite or NaN: where they are, and which of them are NaN."""

    rows: Index
    features: Index
    nan: Array


class FiniteCheck:
    """Counts the values that cannot be used, block by block, and remembers the first of them.

    Infinite values are refused, and so is NaN unless `allow_missing`. With `need_values` every
    feature must also have a value.
    """

    def __init__(self, source: Source, *, allow_missing: bool, need_values: bool = False) -> None:
        self.source, self.allowed = source, _finite_or_missing if allow_missing else np.isfinite
        self.values = self.rows = self.nan = 0
        self.has_value = np.full(source.schema.n_features, not need_values)
        """(D,): whether a value of each feature was seen."""

        self.first: _Refused | None = None

    def update(self, block: Index, values: Array) -> None:
        """Count the refused values of some rows, whose numbers are `block`."""
        if values.dtype.kind != "f":  # integers and booleans are finite
            self.has_value[:] = True
            return
        flat = values.reshape(len(block), -1)
        if not self.has_value.all():
            self.has_value |= ~np.isnan(flat).all(axis=0)
        allowed = self.allowed(flat)
        if not allowed.all():
            rows, features = np.nonzero(~allowed)
            self._add(_Refused(block[rows], features, np.isnan(flat[rows, features])))

    def update_all(self, *, stop_at_nan: bool = False) -> None:
        """Count the refused values of all rows, or until a block with NaN."""
        if isinstance(self.source, SparseSource):
            self._update_sparse(self.source)
        elif self.source.read(np.arange(0)).dtype.kind != "f":
            self.has_value[:] = True
        else:
            for block, values in read_blocks(self.source):
                self.update(block, values)
                if self.nan and stop_at_nan:
                    break

    def check(self) -> None:
        """Raise DataError (SourceError for a file) if any value was refused."""
        check_has_values(self.source, self.has_value)
        if self.values:
            raise data_error(self.source.origin, _describe(self.source, self))

    def _update_sparse(self, source: SparseSource) -> None:
        stored = source.values
        missing = np.bincount(stored.indices[np.isnan(stored.data)], minlength=stored.shape[1])
        self.has_value |= missing < stored.shape[0]
        self._add(_refused_sparse(source, self.allowed))

    def _add(self, refused: _Refused) -> None:
        """Count the refused values of rows that were not counted yet."""
        self.values += len(refused.rows)
        self.rows += len(np.unique(refused.rows))
        self.nan += int(refused.nan.sum())
        if self.first is None and len(refused.rows):
            self.first = _Refused(refused.rows[:1], refused.features[:1], refused.nan[:1])


def _finite_or_missing(values: Array) -> Array:
    return ~np.isinf(values)


def _refused_sparse(source: SparseSource, allowed: Callable[[Array], Array]) -> _Refused:
    stored = source.values
    refused = np.flatnonzero(~allowed(stored.data))
    rows = np.searchsorted(stored.indptr, refused, side="right") - 1
    features = np.asarray(stored.indices[refused], np.intp)
    order = np.lexsort((features, rows))
    return _Refused(rows[order], features[order], np.isnan(stored.data[refused[order]]))


def _describe(source: Source, check: FiniteCheck) -> str:
    assert check.first is not None
    nan, total, first = check.nan, check.values, check.first
    what = "NaN (missing)" if nan == total else "NaN or infinity" if nan else "infinity"
    name = source.schema.feature_names()[first.features[0]]
    row = int(first.rows[0]) + source.first_row
    place = f"row {row}, counting from 0, {'column' if source.schema.names else 'feature'}"
    corruption = setting("corruption", "missing")
    fit = f", or fit with {corruption}, which supports missing values" if nan else ""
    return (
        f"{_count(total, 'value')} in {_count(check.rows, 'row')} {'is' if total == 1 else 'are'} "
        f"{what}; the first, {'NaN' if first.nan[0] else 'infinity'}, is at {place} {name!r}; "
        f"fill such values in, or leave out the rows or columns that hold them{fit}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def align(source: Source, schema: Schema, *, drop_extra: bool = False) -> Source:
    """`source` with the columns of a fitted model's `schema`.

    Columns with names on both sides are matched by name, in any order; columns that the model was
    not fitted on are an error unless `drop_extra`. Without names the shape of a row must be equal.

    Raises DataError (SourceError for a file) that says what was expected and what was found.
    """
    if schema.recording is not None:
        return _align_recordings(source, schema, drop_extra=drop_extra)
    if schema.names is not None and source.schema.names is not None:
        return _align_names(source, schema, drop_extra=drop_extra)
    if schema.columns is not None or source.schema.columns is not None:
        return _align_unnamed(source, schema)
    _check_shape(source, schema)
    return source


def _align_recordings(source: Source, schema: Schema, *, drop_extra: bool) -> Source:
    """Recordings cut to the rows of `schema`; rows that are cut already are only checked."""
    if isinstance(source, RecordingSource):
        return cut_to_schema(align_parts(source.given, schema, drop_extra=drop_extra), schema)
    if source.schema.recording is not None or source.schema.shape == schema.shape:
        _check_shape(source, schema)
        return source
    given = recordings_from_sources([source], single=True, origin=source.origin)
    return cut_to_schema(align_parts(given, schema, drop_extra=drop_extra), schema)


def align_parts(given: Recordings, schema: Schema, *, drop_extra: bool = False) -> Recordings:
    """Recordings with the channels of a fitted model's `schema`."""
    sample = schema.recording.sample if schema.recording is not None else schema
    aligned = [
        align(part, sample, drop_extra=drop_extra) if part.schema.names and sample.names else part
        for part in given.parts
    ]
    return given._replace(parts=tuple(aligned))


def _check_shape(source: Source, schema: Schema) -> None:
    if source.schema.shape != schema.shape:
        raise data_error(
            source.origin,
            f"each row has {_shape(source.schema)}, but the model was fitted on rows of "
            f"{_shape(schema)}; give rows like those it was fitted on",
        )


def _align_unnamed(source: Source, schema: Schema) -> Source:
    """A table without names, whose columns are not all numbers."""
    _check_shape(source, schema)
    return _with_columns_of(source, schema)


def _with_columns_of(source: Source, schema: Schema) -> Source:
    """`source` with the columns of `schema`, in their order and with their categories."""
    own = source.schema
    same = (own.names, own.columns) == (schema.names, schema.columns)
    if same and not _lacks_types(source, schema):
        return source
    if isinstance(source, FrameSource | StreamedTable):
        return source.read_as(schema)
    if own.names in (None, schema.names) and own.columns is None and are_numbers(schema):
        return as_declared(source, schema.columns)
    raise data_error(
        source.origin,
        "the model was fitted on a table with columns of text or dates, or otherwise declared, and "
        "these rows are numbers alone; give a table like that",
    )


def _align_names(source: Source, schema: Schema, *, drop_extra: bool) -> Source:
    names, expected = source.schema.given or source.schema.names or (), schema.names or ()
    same = source.schema.names == expected and source.schema.columns == schema.columns
    if same and not _lacks_types(source, schema):
        return source
    present, wanted = set(names), {*expected, *schema.left_out}
    missing = [name for name in expected if name not in present]
    extra = [name for name in source.schema.names or () if name not in wanted]
    if missing or (extra and not drop_extra):
        raise data_error(
            source.origin,
            f"the columns are not those the model was fitted on: expected {listed(expected)}; "
            f"found {listed(names)}; missing {listed(missing) or 'none'}; "
            f"extra {listed(extra) or 'none'}" + (_drop_hint(extra) if not missing else ""),
        )
    tables = FrameSource, StreamedTable
    if isinstance(source, tables) or source.schema.columns != schema.columns:
        return _with_columns_of(source, schema)
    position = {name: index for index, name in enumerate(names)}
    return PickedSource(source, [position[name] for name in expected])


def _lacks_types(source: Source, schema: Schema) -> bool:
    """Whether a column of a table has no value, and therefore no type."""
    return isinstance(source, FrameSource | StreamedTable) and source.has_untyped_columns(schema)


def _drop_hint(extra: list[str]) -> str:
    drop = either(
        f"drop=[{listed(extra)}]", f"--drop {','.join(extra[:3])}{',...' * (len(extra) > 3)}"
    )
    return f"; leave the extra ones out with {drop}"


def _shape(schema: Schema) -> str:
    if len(schema.shape) == 1:
        return _count(schema.shape[0], "feature" if schema.names is None else "column")
    return f"shape {schema.shape}"
