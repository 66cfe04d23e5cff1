"""Rows go to a file block by block as they are made: the whole of them is in memory nowhere."""

import itertools
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from isthmus.data.formats import Format
from isthmus.data.formats.delimited import CSV, TSV
from isthmus.data.formats.image_files import file_names
from isthmus.data.formats.images import IMAGES, pixels_of, write_pixels
from isthmus.data.formats.npy import NPY
from isthmus.data.formats.npz import NPZ
from isthmus.data.formats.parquet import PARQUET
from isthmus.data.formats.tensors import MEMBER, SAFETENSORS, as_tensor, header_of, payload
from isthmus.data.formats.values import as_array, as_table
from isthmus.data.output.write import check_holds, check_target, ending, output_format, unwritable
from isthmus.data.schema import Schema
from isthmus.errors import RequestError, SourceError
from isthmus.files import replacing
from isthmus.types import Array

Append = Callable[[Any], None]
Names = Sequence[str] | None


@contextmanager
def appending_rows(
    path: str | Path,
    schema: Schema,
    n_rows: int,
    *,
    row_names: Names = None,
    force: bool = False,
) -> Iterator[Append]:
    """What takes one block of restored rows after the other; at the end there are `n_rows`.

    The file, in the format that the suffix of `path` names, takes its place when the block of code
    ends well, and is not there at all when it does not. Rows are written as they come; only sparse
    ones for a .npz are held until the end.

    Raises RequestError where the format cannot hold the rows, SourceError where writing fails.
    """
    target = Path(path)
    chosen = output_format(target)
    check_target(target, chosen)
    check_holds(target, schema)
    stack = ExitStack()
    with unwritable(target):
        fresh = stack.enter_context(replacing(target, folder=chosen.folder, force=force))
        way = WAYS.get(chosen.write, _collected)
        append = stack.enter_context(way(fresh, target, schema, n_rows, row_names, chosen))

    def guarded(values: Any) -> None:
        with unwritable(target):
            append(values)

    with ending(stack, target):
        yield guarded


@contextmanager
def _parquet(
    fresh: Path, target: Path, schema: Schema, n_rows: int, names: Names, chosen: Format
) -> Generator[Append]:
    import pyarrow.parquet as pq

    del n_rows, names, chosen
    with _tables(target, schema, lambda shape: pq.ParquetWriter(fresh, shape)) as append:
        yield append


@contextmanager
def _tables(target: Path, schema: Schema, opened: Callable[[Any], Any]) -> Generator[Append]:
    """Rows as pyarrow Tables to the writer that is `opened` for the schema of the first ones."""
    writers: list[Any] = []
    shapes: list[Any] = []

    def append(values: Any) -> None:
        table = as_table(target, values, schema)
        if not writers:
            shapes.append(table.schema)
            writers.append(opened(table.schema))
        writers[0].write_table(_like(table, shapes[0], target))

    try:
        yield append
    finally:
        for writer in writers:
            writer.close()


def _text(delimiter: str) -> Any:
    @contextmanager
    def way(
        fresh: Path, target: Path, schema: Schema, n_rows: int, names: Names, chosen: Format
    ) -> Generator[Append]:
        import pyarrow.csv as pc

        del n_rows, names, chosen
        options = pc.WriteOptions(include_header=schema.names is not None, delimiter=delimiter)

        def opened(shape: Any) -> Any:
            return pc.CSVWriter(fresh, shape, write_options=options)

        with _tables(target, schema, opened) as append:
            yield append

    return way


def _like(table: Any, schema: Any, target: Path) -> Any:
    """The table in the types of the first block."""
    import pyarrow as pa

    if table.schema == schema:
        return table
    try:
        return table.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise SourceError(
            f"{target}: rows that come later are of other types than the first ones ({error})"
        ) from error


@contextmanager
def _npy(
    fresh: Path, target: Path, schema: Schema, n_rows: int, names: Names, chosen: Format
) -> Generator[Append]:
    del names, chosen
    with fresh.open("wb") as file:
        yield _array_into(file, target, schema, n_rows)


def _array_into(file: IO[bytes], target: Path, schema: Schema, n_rows: int) -> Append:
    """What writes blocks as one array in the format of .npy."""
    dtypes: list[np.dtype[Any]] = []

    def append(values: Any) -> None:
        array = as_array(target, values, schema)
        if not dtypes:
            dtypes.append(array.dtype)
            header = {
                "descr": np.lib.format.dtype_to_descr(array.dtype),
                "fortran_order": False,
                "shape": (n_rows, *array.shape[1:]),
            }
            np.lib.format.write_array_header_1_0(file, header)
        file.write(np.ascontiguousarray(array, dtypes[0]).data)

    return append


@contextmanager
def _npz(
    fresh: Path, target: Path, schema: Schema, n_rows: int, names: Names, chosen: Format
) -> Generator[Append]:
    if schema.container == "sparse":  # SciPy writes a matrix at once
        with _collected(fresh, target, schema, n_rows, names, chosen) as append:
            yield append
        return
    with (
        zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{MEMBER}.npy", "w", force_zip64=True) as file,
    ):
        yield _array_into(file, target, schema, n_rows)


@contextmanager
def _safetensors(
    fresh: Path, target: Path, schema: Schema, n_rows: int, names: Names, chosen: Format
) -> Generator[Append]:
    del names, chosen
    with fresh.open("wb") as file:
        dtypes: list[torch.dtype] = []

        def append(values: Any) -> None:
            tensor = as_tensor(target, values, schema)
            if not dtypes:
                dtypes.append(tensor.dtype)
                file.write(header_of(tensor, n_rows))
            file.write(payload(tensor.to(dtypes[0])))

        yield append


@contextmanager
def _images(
    fresh: Path, target: Path, schema: Schema, n_rows: int, names: Names, chosen: Format
) -> Generator[Append]:
    del chosen
    left = iter(file_names(names, n_rows))

    def append(values: Any) -> None:
        pixels = pixels_of(target, values, schema)
        write_pixels(fresh, list(itertools.islice(left, len(pixels))), pixels)

    yield append


@contextmanager
def _collected(
    fresh: Path, target: Path, schema: Schema, n_rows: int, names: Names, chosen: Format
) -> Generator[Append]:
    """For formats that are written at once."""
    del n_rows
    blocks: list[Any] = []
    yield blocks.append
    try:
        if blocks:
            chosen.write(fresh, _joined(target, blocks, schema), schema, names)
    except RequestError as error:  # people know the file by the name they gave
        raise RequestError(str(error).replace(str(fresh), str(target))) from error


def _joined(target: Path, blocks: list[Any], schema: Schema) -> Any:
    if len(blocks) == 1:
        return blocks[0]
    arrays: list[Array] = [as_array(target, block, schema) for block in blocks]
    return np.concatenate(arrays)


Way = Callable[[Path, Path, Schema, int, Names, Format], AbstractContextManager[Append]]
WAYS: dict[Any, Way] = {
    PARQUET.write: _parquet,
    CSV.write: _text(","),
    TSV.write: _text("\t"),
    NPY.write: _npy,
    NPZ.write: _npz,
    SAFETENSORS.write: _safetensors,
    IMAGES.write: _images,
}
