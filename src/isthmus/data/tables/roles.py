"""What the columns of an array or a sparse matrix mean, where that was said."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from isthmus.data.arrays import SparseSource
from isthmus.data.columns import Column, check_roles
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import read_blocks
from isthmus.data.tables.frames import unless_all_numeric
from isthmus.data.tables.to_numbers import ROLE_CHECKS, raise_bad_value
from isthmus.errors import RequestError
from isthmus.types import Array

OF_NUMBERS = ("numeric", "count", "boolean")
"""What columns of numbers without names can be: they have no levels, and are no dates."""


def declared(source: Any, roles: Mapping[str, str]) -> Source:
    """Rows of an array whose columns, named by their positions or "*" for all, have these roles.

    Raises RequestError for rows that are no table, or a role of no numbers, and DataError
    (SourceError for a file) for the first value that is none of its column's.
    """
    if not roles:
        return source  # type: ignore[no-any-return]
    if source.schema.layout != "table":
        raise RequestError(
            f"{source.origin}: roles are for the columns of a table, and these rows are "
            f"{source.schema.layout}s; leave roles out"
        )
    roles = check_roles(roles, source.schema.feature_names(), source.origin)
    unsupported = [role for role in roles.values() if role not in OF_NUMBERS]
    if unsupported:
        raise RequestError(
            f"{source.origin}: the role {unsupported[0]!r} is for tables with named columns; of "
            f"arrays, columns are one of {', '.join(OF_NUMBERS)}"
        )
    names = source.schema.feature_names()
    columns = [Column(role=roles.get(name, "numeric")) for name in names]  # type: ignore[arg-type]
    return as_declared(source, unless_all_numeric(columns))


def as_declared(source: Any, columns: tuple[Column, ...] | None) -> Source:
    """The same rows, their columns taken to be these; DataError where a value is none of its."""
    if columns is None:
        return source  # type: ignore[no-any-return]
    known = copy.copy(source)
    known.schema = replace(source.schema, columns=columns)
    for role in ROLE_CHECKS:
        at = np.flatnonzero([column.role == role for column in columns])
        if len(at):
            _check(known, at, str(role))
    return known  # type: ignore[no-any-return]


def are_numbers(schema: Schema) -> bool:
    """Whether an array of numbers can hold such rows."""
    return all(column.role in OF_NUMBERS for column in schema.columns or ())


def _check(source: Source, at: Array, role: str) -> None:
    """Raise DataError for the first value in the columns `at` that does not fit the role."""
    names, first = source.schema.feature_names(), source.first_row
    if isinstance(source, SparseSource):
        _check_sparse(source, at, role)
        return
    fits, _ = ROLE_CHECKS[role]
    for block, values in read_blocks(source):
        chosen = values[:, at]
        wrong = ~(fits(chosen) | np.isnan(chosen))
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            value, name = chosen[row, place], names[at[place]]
            raise_bad_value(name, value, int(block[row]) + first, role, source.origin)


def _check_sparse(source: SparseSource, at: Array, role: str) -> None:
    """The same of a sparse matrix, whose zeros fit every role."""
    values, (fits, _) = source.values, ROLE_CHECKS[role]
    declared = np.zeros(values.shape[1], bool)
    declared[at] = True
    wrong = ~(fits(values.data) | np.isnan(values.data)) & declared[values.indices]
    if wrong.any():
        place = int(np.argmax(wrong))
        row = int(np.searchsorted(values.indptr, place, side="right")) - 1
        name = source.schema.feature_names()[values.indices[place]]
        raise_bad_value(name, values.data[place], row, role, source.origin)
