"""The roles that a user declares for columns of an array or a sparse matrix."""

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
"""The roles for unnamed columns of numbers, which have neither categories nor dates."""


def declared(source: Any, roles: Mapping[str, str]) -> Source:
    """Rows of an array whose columns have these roles.

    Columns are named by their positions, or "*" for all. Raises RequestError for rows that are not
    a table and for a role that is not for numbers. Raises DataError (SourceError for a file) for
    the first value that does not fit the role of its column.
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
    """The rows with the given columns; DataError if a value does not fit its column."""
    if columns is None:
        return source  # type: ignore[no-any-return]
    known = copy.copy(source)
    known.schema = replace(source.schema, columns=columns)
    for role in ROLE_CHECKS:
        chosen_columns = np.flatnonzero([column.role == role for column in columns])
        if len(chosen_columns):
            _check(known, chosen_columns, str(role))
    return known  # type: ignore[no-any-return]


def are_numbers(schema: Schema) -> bool:
    """Whether an array of numbers can hold such rows."""
    return all(column.role in OF_NUMBERS for column in schema.columns or ())


def _check(source: Source, columns: Array, role: str) -> None:
    """Raise DataError for the first value in `columns` that does not fit the role."""
    names, first = source.schema.feature_names(), source.first_row
    if isinstance(source, SparseSource):
        _check_sparse(source, columns, role)
        return
    fits, _ = ROLE_CHECKS[role]
    for block, values in read_blocks(source):
        chosen = values[:, columns]
        wrong = ~(fits(chosen) | np.isnan(chosen))
        if wrong.any():
            row, place = np.argwhere(wrong)[0]
            value, name = chosen[row, place], names[columns[place]]
            raise_bad_value(name, value, int(block[row]) + first, role, source.origin)


def _check_sparse(source: SparseSource, columns: Array, role: str) -> None:
    """Raise DataError as `_check` does, for a sparse matrix, whose zeros fit every role."""
    values, (fits, _) = source.values, ROLE_CHECKS[role]
    declared = np.zeros(values.shape[1], bool)
    declared[columns] = True
    wrong = ~(fits(values.data) | np.isnan(values.data)) & declared[values.indices]
    if wrong.any():
        place = int(np.argmax(wrong))
        row = int(np.searchsorted(values.indptr, place, side="right")) - 1
        name = source.schema.feature_names()[values.indices[place]]
        raise_bad_value(name, values.data[place], row, role, source.origin)
