"""Decoded numbers become what the rows were: arrays, tensors, tables, images, dtypes included."""

import re
from collections.abc import Mapping
from typing import Any

import narwhals as nw
import numpy as np
import torch
from scipy import sparse

from isthmus.data.columns import Column
from isthmus.data.schema import Schema
from isthmus.data.tables.from_numbers import category_values, native_column
from isthmus.data.tables.pandas_metadata import with_numpy_types
from isthmus.errors import DataError, RequestError
from isthmus.types import Array

DECIMAL = re.compile(r"Decimal\(precision=(\d+), scale=(\d+)\)")
NUMPY_NAMES = {"Boolean": "bool", "Int128": "float64", "UInt128": "float64", "Object": "float64"}
"""NumPy dtypes for narwhals' names that do not match when written small."""


def restore(values: Array, schema: Schema) -> Any:
    """The rows that (n, *schema.shape) numbers in data units stand for, as what they came in.

    Integers are rounded and clipped to their range, booleans are True from 0.5 on.
    """
    values = np.asarray(values)
    if values.shape[1:] != schema.shape:
        raise RequestError(
            f"values of shape {values.shape} do not fit rows of shape {schema.shape}; "
            f"give (rows, {', '.join(map(str, schema.shape))})"
        )
    match schema.container:
        case "tensor":
            return _tensor(values, schema.dtypes[0])
        case "sparse":
            flavour = sparse.csr_matrix if schema.natives == ("matrix",) else sparse.csr_array
            return flavour(cast(values, schema.dtypes[0]))
        case "pandas" | "polars" | "pyarrow":
            return _frame(values, schema)
        case _:
            return cast(values, schema.dtypes[0])


def cast(values: Array, dtype: str) -> Array:
    """The values in a NumPy dtype: integers rounded and clipped, booleans True from 0.5 on.

    Raises DataError where NaN would have to become an integer or a boolean.
    """
    target = np.dtype(dtype)
    if target.kind == "f":
        return _cast_float(values, target)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise DataError(f"NaN cannot become {target}; the decoded rows must be finite")
    if target.kind == "b":
        return values >= 0.5
    return _cast_integer(values, target)


def _cast_float(values: Array, target: np.dtype[Any]) -> Array:
    if target.itemsize < values.dtype.itemsize and values.dtype.kind == "f":
        limits = np.finfo(target)
        values = np.clip(values, limits.min, limits.max)
    return values.astype(target)


def _cast_integer(values: Array, target: np.dtype[Any]) -> Array:
    limits = np.iinfo(target)
    if values.dtype.kind in "iu":
        own = np.iinfo(values.dtype)
        low, high = max(limits.min, own.min), min(limits.max, own.max)
        return np.clip(values, low, high).astype(target)
    rounded = np.rint(values.astype(np.float64))
    fits = float(limits.max)
    if int(fits) > limits.max:  # The largest int64 has no float64; the next one down has.
        fits = float(np.nextafter(fits, 0))
    return np.clip(rounded, float(limits.min), fits).astype(target)


def _tensor(values: Array, dtype: str) -> torch.Tensor:
    wanted = getattr(torch, dtype)
    if wanted in (torch.bfloat16, torch.float16) or dtype.startswith("float8"):
        return torch.from_numpy(cast(values, "float32")).to(wanted)
    return torch.from_numpy(np.ascontiguousarray(cast(values, dtype)))


def _frame(values: Array, schema: Schema) -> Any:
    names = schema.names or tuple(f"column_{index}" for index in range(schema.n_features))
    dtypes = schema.dtypes * (len(names) if len(schema.dtypes) == 1 else 1)
    columns = {name: _column(values[:, i], i, dtypes[i], schema) for i, name in enumerate(names)}
    frame = nw.from_native(_library(schema.container)(columns), eager_only=True)
    exact = {name: _exact(dtype) for name, dtype in zip(names, dtypes, strict=True)}
    frame = frame.with_columns(
        nw.col(name).cast(dtype) for name, dtype in exact.items() if dtype is not None
    )
    native = frame.to_native()
    if schema.numpy_types is not None:
        return with_numpy_types(native, schema.numpy_types)
    return _pandas_names(native, names, schema) if schema.container == "pandas" else native


def _library(container: str) -> Any:
    """What makes a table of a dict of columns."""
    try:
        if container == "pandas":
            import pandas as pd

            return pd.DataFrame
        if container == "polars":
            import polars as pl

            return pl.DataFrame
        import pyarrow as pa
    except ImportError as error:
        raise RequestError(
            f"the rows were a {container} table, and {container} is not installed here; "
            f"run pip install {container}"
        ) from error
    return pa.table


def _column(values: Array, index: int, dtype: str, schema: Schema) -> Any:
    """One column, in a NumPy dtype, or as a series of the library where NumPy has none for it."""
    column = schema.columns[index] if schema.columns is not None else None
    if column is not None and is_special(column, dtype):
        native = schema.natives[index] if schema.natives is not None else None
        return native_column(values, column, dtype, native, schema.container)
    if column is not None and column.has_categories:
        values = category_values(values, column)
    decimal = DECIMAL.fullmatch(dtype)
    if decimal is not None:
        return np.round(values.astype(np.float64), int(decimal[2]))
    return cast(values, NUMPY_NAMES.get(dtype, dtype.lower()))


def is_special(column: Column, dtype: str) -> bool:
    """Whether a column's values are no numbers."""
    numeric = dtype.startswith(("Int", "UInt", "Float", "Decimal"))
    return column.role == "datetime" or (column.has_categories and not numeric)


def _exact(dtype: str) -> Any:
    """The narwhals dtype that NumPy has no name for, or None."""
    decimal = DECIMAL.fullmatch(dtype)
    if decimal is not None:
        return nw.Decimal(int(decimal[1]), int(decimal[2]))
    exact: Mapping[str, Any] = {"Int128": nw.Int128, "UInt128": nw.UInt128}
    return exact.get(dtype)


def _pandas_names(frame: Any, names: tuple[str, ...], schema: Schema) -> Any:
    if schema.natives is not None:
        # Text, dates and categories have their dtypes already.
        frame = frame.astype(
            {
                name: _pandas_dtype(native)
                for name, native, dtype in zip(names, schema.natives, frame.dtypes, strict=True)
                if str(dtype) != native
            }
        )
    if schema.labels is not None:
        frame.columns = list(schema.labels)
    elif schema.names is None:
        frame.columns = range(schema.n_features)
    return frame


def _pandas_dtype(native: str) -> Any:
    decimal = re.fullmatch(r"decimal128\((\d+), (\d+)\)\[pyarrow\]", native)
    if decimal is None:
        return native
    import pandas as pd
    import pyarrow as pa

    return pd.ArrowDtype(pa.decimal128(int(decimal[1]), int(decimal[2])))
