"""Rows held in memory: NumPy arrays, torch tensors and SciPy sparse matrices."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import sparse

from isthmus.data.schema import Layout, Schema
from isthmus.data.source import Source
from isthmus.errors import DataError, SourceError, either
from isthmus.types import Array, Index

IMAGE_CHANNELS = (1, 2, 3, 4)
IN_MEMORY = "X"
"""What messages call rows that do not come from a file."""

RANKS: dict[Layout, tuple[int, ...]] = {"table": (1,), "signal": (1, 2), "image": (2, 3)}


def data_error(origin: str, message: str) -> DataError:
    """The error to raise about rows from `origin`: a SourceError if that is a file."""
    kind = DataError if origin == IN_MEMORY or origin.startswith(f"{IN_MEMORY}[") else SourceError
    return kind(f"{origin}: {message}")


class ArraySource(Source):
    """Rows of an array with the rows on its first axis."""

    def __init__(
        self, values: Array, schema: Schema, *, origin: str = IN_MEMORY, first_row: int = 0
    ) -> None:
        self.values = values
        self.schema = schema
        self.origin = origin
        self.first_row = first_row

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.values)

    def read(self, rows: Index) -> Array:
        """The chosen rows, (len(rows), *schema.shape), in this machine's byte order."""
        chosen = np.asarray(self.values[rows])
        return chosen.astype(chosen.dtype.newbyteorder("="), copy=False)

    def view(self, rows: Index) -> Array:
        """What `read` gives, for reading only; consecutive rows are not copied."""
        if not len(rows) or not self.values.dtype.isnative:
            return self.read(rows)
        first, last = int(rows[0]), int(rows[-1])
        if last - first != len(rows) - 1 or first < 0 or not (np.diff(rows) == 1).all():
            return self.read(rows)
        return np.asarray(self.values[first : last + 1])


class SparseSource(Source):
    """Rows of a SciPy sparse matrix, made dense only as they are read."""

    def __init__(self, values: Any, schema: Schema, *, origin: str = IN_MEMORY) -> None:
        self.values = values.tocsr()
        self.schema = schema
        self.origin = origin
        self.is_sparse = True

    def __len__(self) -> int:
        """How many rows there are."""
        return int(self.values.shape[0])

    def read(self, rows: Index) -> Array:
        """The chosen rows, dense (len(rows), D)."""
        return np.asarray(self.values[rows].toarray())


def array_source(
    values: Array, *, layout: Layout | None = None, origin: str = IN_MEMORY
) -> ArraySource:
    """A source over a NumPy array; its first axis counts the rows.

    Parameters:
        values: An array of real numbers or booleans.
        layout: What the axes of a row mean: "table", "signal" or "image". By default (n, D) is a
            table. (n, A, B) with floats is a signal of A time steps and B channels if one axis is
            at least 4 times the other, else grey images. (n, H, W, C) and (n, C, H, W) with 1 to 4
            channels are images. "table" also reads (n,), as one column.
        origin: What messages call the rows.

    Raises:
        DataError: The values are objects or complex, or the shape fits no layout.

    Example:
        >>> import numpy as np
        >>> from isthmus.data import array_source
        >>> source = array_source(np.zeros((10, 28, 28), np.uint8))
        >>> len(source), source.schema.layout, source.schema.shape
        (10, 'image', (28, 28))
    """
    flat = layout == "table" and values.ndim == 1
    values = values[:, None] if flat else values
    source = ArraySource(values, _array_schema(values, layout, origin), origin=origin)
    source.flat = flat
    return source


def unmasked(values: np.ma.MaskedArray[Any, Any]) -> Array:
    """A masked array as a plain one; masked values are NaN (missing)."""
    plain = np.asarray(values.data)
    return np.where(values.mask, np.nan, plain) if np.any(values.mask) else plain


def tensor_source(
    values: torch.Tensor, *, layout: Layout | None = None, origin: str = IN_MEMORY
) -> ArraySource:
    """A source over a torch tensor, with the layouts of `array_source`; the result is a tensor too.

    Parameters:
        values: A tensor on any device.
        layout: What the axes of a row mean; see `array_source`.
        origin: What messages call the rows.

    Raises:
        DataError: The values are complex, or the shape fits no layout.

    Example:
        >>> import torch
        >>> from isthmus.data import tensor_source
        >>> tensor_source(torch.zeros(5, 3)).schema.container
        'tensor'
    """
    tensor = values.detach().cpu()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16 nor float8
    array = tensor.resolve_conj().resolve_neg().numpy()
    schema = _array_schema(array, layout, origin)
    return ArraySource(array, replace(schema, container="tensor", dtypes=(dtype,)), origin=origin)


def sparse_source(values: Any, *, origin: str = IN_MEMORY) -> SparseSource:
    """A source over a SciPy sparse matrix or array, (n, D); rows become dense as they are read.

    Parameters:
        values: A sparse matrix or array of any format, of real numbers.
        origin: What messages call the rows.

    Raises:
        DataError: The values are complex, or there are not two axes.

    Example:
        >>> from scipy import sparse
        >>> from isthmus.data import sparse_source
        >>> len(sparse_source(sparse.eye(4, format="csr")))
        4
    """
    if not is_sparse(values) or values.ndim != 2:
        raise data_error(origin, f"expected a 2-D SciPy sparse matrix, got {type(values).__name__}")
    _check_numeric(values.dtype, origin)
    schema = Schema(
        layout="table",
        shape=(values.shape[1],),
        dtypes=(values.dtype.name,),
        container="sparse",
        natives=("matrix",) if isinstance(values, sparse.spmatrix) else None,
    )
    return SparseSource(values, schema, origin=origin)


def is_sparse(values: Any) -> bool:
    """Whether `values` is a SciPy sparse matrix or array."""
    return bool(sparse.issparse(values))


def _check_numeric(dtype: np.dtype[Any], origin: str) -> None:
    if dtype.kind == "c":
        raise data_error(
            origin,
            f"Complex data not supported (the values are {dtype}); "
            "give the real and imaginary parts as columns of their own",
        )
    if dtype.kind not in "biuf":
        raise data_error(
            origin, f"the values are {dtype}, not real numbers; convert them with .astype(float)"
        )


def _array_schema(values: Array, layout: Layout | None, origin: str) -> Schema:
    _check_numeric(values.dtype, origin)
    row = values.shape[1:]
    if layout is None:
        layout = _guess_layout(values)
    if layout not in RANKS:
        layouts = ", ".join(map(repr, RANKS))
        raise data_error(origin, f"layout={layout!r} is not known; use one of {layouts}")
    if values.ndim < 2:
        raise data_error(
            origin,
            f"an array of shape {values.shape} has no rows and columns. Reshape your data with "
            ".reshape(-1, 1) if it is one column or .reshape(1, -1) if it is one row, or cut it "
            f"into windows if it is a recording{either('', ' (--window)')}",
        )
    if len(row) not in RANKS[layout]:
        raise data_error(
            origin,
            f"an array of shape {values.shape} cannot be read as rows of kind {layout!r}; "
            "expected (rows, features), (rows, time, channels), (rows, height, width) "
            "or (rows, height, width, channels)",
        )
    first = layout == "image" and len(row) == 3 and _channels_first(row)
    return Schema(layout=layout, shape=row, dtypes=(values.dtype.name,), channels_first=first)


def _guess_layout(values: Array) -> Layout:
    row = values.shape[1:]
    if len(row) == 2:
        elongated = max(row) >= 4 * min(row)
        return "signal" if elongated and values.dtype.kind == "f" else "image"
    return "image" if len(row) == 3 else "table"


def _channels_first(row: tuple[int, ...]) -> bool:
    return row[-1] not in IMAGE_CHANNELS and row[0] in IMAGE_CHANNELS
