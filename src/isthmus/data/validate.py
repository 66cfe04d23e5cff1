"""Are these rows fit to learn from, and do they match what a fitted model expects?"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from isthmus.data.arrays import SparseSource, fault
from isthmus.data.columns import listed
from isthmus.data.on_disk import is_streamed
from isthmus.data.schema import Schema
from isthmus.data.signals.recordings import Recordings, RecordingSource, opened_as, recut
from isthmus.data.splitting.holdout import blocks, read_blocks
from isthmus.data.tables.frames import FrameSource, PickedSource
from isthmus.data.tables.roles import are_numbers, as_declared
from isthmus.data.tables.streamed import TableBlocks
from isthmus.types import Array, Index, Source


def check_rows(
    source: Source, *, at_least: int = 2, allow_missing: bool = False, later: bool = False
) -> None:
    """Raise DataError (SourceError for a file) unless `source` can be learned from.

    It needs a column, `at_least` so many rows (two to fit, one to encode), no infinity, and no NaN
    unless `gaps` are allowed for; the message names the first one. To be fitted on, every feature
    needs a value. Where values on disk are looked at `later`, this one pass over them is left out.
    """
    _check_size(source, at_least)
    if allow_missing and at_least > 1:
        check_known(source, _known(source))
    if isinstance(source, RecordingSource):
        for part in source.parts:  # a message then names the recording and the sample
            check_rows(part, at_least=1, allow_missing=allow_missing)
        return
    if is_streamed(source) and later:
        return
    found = Fitness(source, allow_missing=allow_missing)
    for block, values in _dense_blocks(source, found):
        found.see(block, values)
    found.check()


def check_known(source: Source, known: Array) -> None:
    """Raise DataError (SourceError for a file) where a feature has no value: `known` (D,) is 0."""
    if not known.all():
        name = source.schema.feature_names()[int(np.argmin(known))]
        remedy = f"leave it out with drop=[{name!r}] (command line: --drop {name})"
        if source.schema.layout != "table":
            remedy = "cut it off all rows, or give some that have it"
        raise fault(
            source.origin,
            f"{name!r} has no value at all in the rows that count, all are missing; {remedy}",
        )


def check_any(source: Source) -> None:
    """Raise DataError (SourceError for a file) where no row holds any value."""
    if not _known(source).any():
        raise fault(source.origin, "no row holds any value, all are missing; give rows that do")


def _known(source: Source) -> Array:
    """(D,) bool: whether a feature has any value; it seldom takes more than one block to tell."""
    known = np.zeros(source.schema.n_features, bool)
    for block in blocks(source):
        values = source.read(block).reshape(len(block), -1)
        known |= (values == values).any(axis=0)  # noqa: PLR0124  NaN is not equal to itself
        if known.all():
            break
    return known


def has_missing(source: Source) -> bool:
    """Whether any value is missing."""
    found = Fitness(source, allow_missing=False)
    for block, values in _dense_blocks(source, found):
        found.see(block, values)
        if found.nan:
            break
    return found.nan > 0


def _check_size(source: Source, at_least: int) -> None:
    rows, shape = len(source), source.schema.shape
    if source.schema.n_features == 0:
        raise fault(
            source.origin,
            f"there are rows with 0 feature(s) (shape={(rows, *shape)}) while a minimum of 1 is "
            "required; give at least one column of numbers",
        )
    if rows < at_least:
        count = f"{rows} row{'' if rows == 1 else 's'} (n_samples={rows})"
        raise fault(
            source.origin,
            f"there {'is' if rows == 1 else 'are'} {count}; at least {at_least} are needed",
        )


class _Unfit(NamedTuple):
    """Values that are not finite: where they are, and which of them are NaN."""

    rows: Index
    features: Index
    nan: Array


class Fitness:
    """Whether rows are fit to learn from: how many values are not, and the first of them."""

    def __init__(self, source: Source, *, allow_missing: bool) -> None:
        self.source, self.allowed = source, _finite_or_missing if allow_missing else np.isfinite
        self.values = self.rows = self.nan = 0
        self.first: _Unfit | None = None

    def see(self, block: Index, values: Array) -> None:
        """Look at some rows, whose numbers are `block`."""
        if values.dtype.kind != "f":
            return
        flat = values.reshape(len(block), -1)
        fit = self.allowed(flat)
        if not fit.all():
            rows, features = np.nonzero(~fit)
            self.add(_Unfit(block[rows], features, np.isnan(flat[rows, features])))

    def check(self) -> None:
        """Raise DataError (SourceError for a file) where some are unfit."""
        if self.values:
            raise fault(self.source.origin, _describe(self.source, self))

    def add(self, found: _Unfit) -> None:
        """Count some more, of rows that were not counted yet."""
        self.values += len(found.rows)
        self.rows += len(np.unique(found.rows))
        self.nan += int(found.nan.sum())
        if self.first is None and len(found.rows):
            self.first = _Unfit(found.rows[:1], found.features[:1], found.nan[:1])


def _dense_blocks(source: Source, found: Fitness) -> Iterator[tuple[Index, Array]]:
    """The values to look at; those of a sparse matrix are looked at here."""
    if isinstance(source, SparseSource):
        found.add(_unfit_sparse(source, found.allowed))
    elif source.read(np.arange(0)).dtype.kind == "f":  # Integers and booleans are finite.
        yield from read_blocks(source)


def _finite_or_missing(values: Array) -> Array:
    return ~np.isinf(values)


def _unfit_sparse(source: SparseSource, allowed: Callable[[Array], Array]) -> _Unfit:
    values = source.values
    at = np.flatnonzero(~allowed(values.data))
    rows = np.searchsorted(values.indptr, at, side="right") - 1
    features = np.asarray(values.indices[at], np.intp)
    order = np.lexsort((features, rows))
    return _Unfit(rows[order], features[order], np.isnan(values.data[at[order]]))


def _describe(source: Source, found: Fitness) -> str:
    assert found.first is not None
    nan, total, first = found.nan, found.values, found.first
    what = "NaN (missing)" if nan == total else "NaN or infinity" if nan else "infinity"
    name = source.schema.feature_names()[first.features[0]]
    row = int(first.rows[0]) + getattr(source, "first_row", 0)
    place = f"row {row}, counting from 0, {'column' if source.schema.names else 'feature'}"
    learn = ", or fit a model that knows gaps, with corruption='missing'" if nan else ""
    return (
        f"{_count(total, 'value')} in {_count(found.rows, 'row')} {'is' if total == 1 else 'are'} "
        f"{what}; the first, {'NaN' if first.nan[0] else 'infinity'}, is at {place} {name!r}; "
        f"fill such values in, or leave out the rows or columns that hold them{learn}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def align(source: Source, schema: Schema, *, drop_extra: bool = False) -> Source:
    """`source` with its columns as a fitted model's `schema` has them.

    Columns that have names on both sides are matched by name, in any order; more than the model
    knows are an error unless `drop_extra`. Without names the shape of a row must be equal.

    Raises DataError (SourceError for a file) that says what was expected and what was found.
    """
    if schema.recording is not None:
        return _align_recordings(source, schema, drop_extra=drop_extra)
    if schema.names is not None and source.schema.names is not None:
        return _align_names(source, schema, drop_extra=drop_extra)
    if schema.columns is not None or source.schema.columns is not None:
        return _align_places(source, schema)
    _check_shape(source, schema)
    return source


def _align_recordings(source: Source, schema: Schema, *, drop_extra: bool) -> Source:
    """`source` cut as the rows of `schema` are, unless it holds such rows already."""
    if isinstance(source, RecordingSource):
        return recut(align_parts(source.given, schema, drop_extra=drop_extra), schema)
    if source.schema.recording is not None or source.schema.shape == schema.shape:
        _check_shape(source, schema)
        return source
    given = opened_as([source], single=True, origin=source.origin)
    return recut(align_parts(given, schema, drop_extra=drop_extra), schema)


def align_parts(given: Recordings, schema: Schema, *, drop_extra: bool = False) -> Recordings:
    """Recordings with their channels as a fitted model's `schema` has them."""
    sample = schema.recording.sample if schema.recording is not None else schema
    aligned = [
        align(part, sample, drop_extra=drop_extra) if part.schema.names and sample.names else part
        for part in given.parts
    ]
    return given._replace(parts=tuple(aligned))


def _check_shape(source: Source, schema: Schema) -> None:
    if source.schema.shape != schema.shape:
        raise fault(
            source.origin,
            f"each row has {_shape(source.schema)}, but the model was fitted on rows of "
            f"{_shape(schema)}; give rows like those it was fitted on",
        )


def _align_places(source: Source, schema: Schema) -> Source:
    """A table without names, whose columns are not all numbers."""
    _check_shape(source, schema)
    return _coded_alike(source, schema)


def _coded_alike(source: Source, schema: Schema) -> Source:
    """`source` with the columns of `schema`, each coded as it is there."""
    own = source.schema
    if (own.names, own.columns) == (schema.names, schema.columns) and not _untyped(source, schema):
        return source
    if isinstance(source, FrameSource | TableBlocks):
        return source.read_as(schema)
    if own.names in (None, schema.names) and own.columns is None and are_numbers(schema):
        return as_declared(source, schema.columns)
    raise fault(
        source.origin,
        "the model was fitted on a table with columns of text or dates, or otherwise declared, and "
        "these rows are numbers alone; give a table like that",
    )


def _align_names(source: Source, schema: Schema, *, drop_extra: bool) -> Source:
    found, expected = source.schema.given or source.schema.names or (), schema.names or ()
    alike = source.schema.names == expected and source.schema.columns == schema.columns
    if alike and not _untyped(source, schema):
        return source
    known, wanted = set(found), {*expected, *schema.left_out}
    missing = [name for name in expected if name not in known]
    extra = [name for name in source.schema.names or () if name not in wanted]
    if missing or (extra and not drop_extra):
        raise fault(
            source.origin,
            f"the columns are not those the model was fitted on: expected {listed(expected)}; "
            f"found {listed(found)}; missing {listed(missing) or 'none'}; "
            f"extra {listed(extra) or 'none'}" + (_drop_hint(extra) if not missing else ""),
        )
    tables = FrameSource, TableBlocks
    if isinstance(source, tables) or source.schema.columns != schema.columns:
        return _coded_alike(source, schema)
    position = {name: index for index, name in enumerate(found)}
    return PickedSource(source, [position[name] for name in expected])


def _untyped(source: Source, schema: Schema) -> bool:
    """Whether a column of a table has no value, and so no type."""
    return isinstance(source, FrameSource | TableBlocks) and source.lacks_types(schema)


def _drop_hint(extra: list[str]) -> str:
    return (
        f"; leave the extra ones out with drop=[{listed(extra)}] (command line: --drop {extra[0]})"
    )


def _shape(schema: Schema) -> str:
    if len(schema.shape) == 1:
        return _count(schema.shape[0], "feature" if schema.names is None else "column")
    return f"shape {schema.shape}"
