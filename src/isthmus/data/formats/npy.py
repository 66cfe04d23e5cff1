"""One NumPy array in a .npy file, read piece by piece where it is large, else a memory map."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from isthmus.data.arrays import array_source
from isthmus.data.formats.base import Format, Options, RowNames, damaged, ends_with
from isthmus.data.formats.values import as_array
from isthmus.data.schema import Schema
from isthmus.data.streams.arrays import NpyBlocks
from isthmus.data.streams.blocks import SMALL_BYTES
from isthmus.errors import SourceError
from isthmus.types import Source


def read(path: Path, options: Options) -> Source:
    """The array, whose rows are read from disk only when they are needed."""
    with damaged(path, "a .npy file", ValueError, TokenError):
        try:
            values = np.lib.format.open_memmap(path, mode="r")
        except ValueError as error:
            raise _explained(path, error) from error
    source = array_source(values, layout=options.layout, origin=str(path))
    large = options.stream is None and values.nbytes > SMALL_BYTES
    rows_follow = bool(values.flags.c_contiguous) and isinstance(values, np.memmap)
    if (options.stream or large) and rows_follow and len(values):
        return NpyBlocks(path, source.schema, values)
    return source


def _explained(path: Path, error: ValueError) -> Exception:
    if "Python objects" not in str(error):
        return error
    return SourceError(
        f"{path}: holds Python objects, which are never loaded because that can run code; "
        "save it again as numbers with .astype(float)"
    )


def write(path: Path, values: Any, schema: Schema, _names: RowNames) -> None:
    """Writes the rows as one array."""
    with path.open("wb") as file:  # Given a name, NumPy would change its suffix.
        np.save(file, as_array(path, values, schema), allow_pickle=False)


NPY = Format(ends_with(".npy"), read, write, frozenset({"layout", "roles", "stream"}))
