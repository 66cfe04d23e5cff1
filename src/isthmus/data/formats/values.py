"""Restored rows as the array or the Arrow table that a file format writes."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import narwhals as nw
import numpy as np
import torch

from isthmus.data.arrays import is_sparse
from isthmus.data.formats.base import Append, NewFile, RowNames
from isthmus.data.schema import Schema
from isthmus.errors import RequestError, SourceError
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
    """The values, one number or text per column, as a pyarrow Table."""
    import pyarrow as pa

    names = column_names(schema)
    if isinstance(values, np.ndarray | torch.Tensor) or is_sparse(values):
        array = as_array(path, values, schema)
        return pa.table({name: array[:, index] for index, name in enumerate(names)})
    table = nw.from_native(values, eager_only=True).to_arrow()
    if table.num_columns == len(names) and table.column_names != list(names):
        # pandas' labels may be numbers. Renaming drops pandas' metadata from the Arrow table.
        table = table.rename_columns(list(names))
    if isinstance(values, pa.Table):  # pandas' dtypes, say, of a Parquet file
        return table
    return table.replace_schema_metadata(None)


def append_array(stream: IO[bytes], file: NewFile) -> Append:
    """A function that writes blocks to `stream` as one array in the layout of .npy."""
    dtypes: list[np.dtype[Any]] = []

    def append(values: Any) -> None:
        array = as_array(file.target, values, file.schema)
        if not dtypes:
            dtypes.append(array.dtype)
            header = {
                "descr": np.lib.format.dtype_to_descr(array.dtype),
                "fortran_order": False,
                "shape": (file.n_rows, *array.shape[1:]),
            }
            np.lib.format.write_array_header_1_0(stream, header)
        stream.write(np.ascontiguousarray(array, dtypes[0]).data)

    return append


@contextmanager
def append_tables(file: NewFile, open_writer: Callable[[Any], Any]) -> Generator[Append]:
    """Writes blocks as pyarrow Tables with the writer that is opened for the first one's schema."""
    writers: list[Any] = []
    schemas: list[Any] = []

    def append(values: Any) -> None:
        table = as_table(file.target, values, file.schema)
        if not writers:
            schemas.append(table.schema)
            writers.append(open_writer(table.schema))
        writers[0].write_table(_in_schema(table, schemas[0], file.target))

    try:
        yield append
    finally:
        for writer in writers:
            writer.close()


def _in_schema(table: Any, schema: Any, target: Path) -> Any:
    """The table in the types of the first block."""
    import pyarrow as pa

    if table.schema == schema:
        return table
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise SourceError(
            f"{target}: later rows have other types than the first ones ({error}); give all rows "
            "the same types"
        ) from error


@contextmanager
def collect_blocks(
    file: NewFile, write: Callable[[Path, Any, Schema, RowNames], None]
) -> Generator[Append]:
    """Keeps all blocks in memory and writes them at the end."""
    blocks: list[Any] = []
    yield blocks.append
    if not blocks:
        return
    values = blocks[0]
    if len(blocks) > 1:
        values = np.concatenate([as_array(file.target, block, file.schema) for block in blocks])
    with named_by_target(file.path, file.target):
        write(file.path, values, file.schema, file.row_names)


@contextmanager
def named_by_target(path: Path, target: Path) -> Iterator[None]:
    """Replaces the temporary `path` in a RequestError by the path that the user named."""
    try:
        yield
    except RequestError as error:
        raise RequestError(str(error).replace(str(path), str(target))) from error
