"""Restored rows as the array or the Arrow table that a file format wants to write."""

from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import torch

from isthmus.data.arrays import is_sparse
from isthmus.data.schema import Schema
from isthmus.errors import RequestError
from isthmus.types import Array


def as_array(path: Path, values: Any, schema: Schema) -> Array:
    """The values as a NumPy array (n, *schema.shape); a bfloat16 tensor widens to float32."""
    if isinstance(values, torch.Tensor):
        tensor = values.detach().cpu()
        narrow = tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64)
        array = (tensor.float() if narrow else tensor).numpy()
    elif is_sparse(values):
        array = values.toarray()
    elif isinstance(values, np.ndarray):
        array = values
    else:
        array = nw.from_native(values, eager_only=True).to_numpy()
    if array.shape[1:] != schema.shape:
        raise RequestError(
            f"{path}: the rows have shape {array.shape[1:]}, but the schema says {schema.shape}"
        )
    if array.dtype.kind not in "biuf":
        array = array.astype(np.float64)
    return array


def column_names(schema: Schema) -> tuple[str, ...]:
    """A name for each column: its own, or column_0, column_1, ..."""
    if schema.names is not None:
        return schema.names
    return tuple(f"column_{index}" for index in range(schema.n_features))


def as_table(path: Path, values: Any, schema: Schema) -> Any:
    """The values as a pyarrow Table; RequestError where a row is more than a list of numbers."""
    import pyarrow as pa

    if len(schema.shape) != 1:
        raise RequestError(
            f"{path}: rows of shape {schema.shape} do not fit a table; write them to .npy, .npz or "
            ".safetensors"
            + (", or to a folder (a name without a dot)" * (schema.layout == "image"))
        )
    names = column_names(schema)
    if isinstance(values, np.ndarray | torch.Tensor) or is_sparse(values):
        array = as_array(path, values, schema)
        return pa.table({name: array[:, index] for index, name in enumerate(names)})
    table = nw.from_native(values, eager_only=True).to_arrow()
    if table.num_columns == len(names) and table.column_names != list(names):
        # pandas' labels may be numbers. Arrow forgets what it knows of pandas here.
        table = table.rename_columns(list(names))
    if isinstance(values, pa.Table):  # pandas' dtypes, say, of a Parquet file
        return table
    return table.replace_schema_metadata(None)
