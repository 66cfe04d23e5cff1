"""Reads the column names of a table file, and labels: one value of any type per row."""

from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.columns import listed
from isthmus.data.formats import Format, format_names, format_of
from isthmus.data.formats.base import Header
from isthmus.data.open import split_member
from isthmus.errors import SourceError
from isthmus.types import Array


def column_names(path: str | Path, *, header: bool | None = None) -> tuple[str, ...] | None:
    """The column names of a table file or a folder of them, such as CSV or Parquet.

    None for a file of another format, one that does not exist, and one whose columns have no names.
    """
    names = _header(Path(path), header)
    return names.names if names is not None and names.present else None


def read_column(path: str | Path, name: str, *, header: bool | None = None) -> Array:
    """(n,): one column of a table file, numbers or text."""
    return np.asarray(_column(Path(path), name, header).to_numpy())


def read_names(path: str | Path, name: str) -> list[str]:
    """The values of one column as they are written: "01" is not 1, and "NA" is not missing."""
    column = _column(Path(path), name, None, as_text=True)
    return [str(value) for value in column.to_pylist()]


def read_labels(path: str | Path) -> Array:
    """(n,): the values of a file that holds one per row, as an array or a table of one column.

    Raises SourceError if it holds more.
    """
    file, member = split_member(str(path))
    if not file.is_file():
        raise SourceError(f"{file}: there is no such file; check the path")
    chosen = format_of(file)
    if chosen is None or not chosen.holds_labels:
        names = format_names(lambda entry: entry.holds_labels)
        raise SourceError(f"{file}: labels are read from {names}; convert them")
    if chosen.read_array is None:
        return _only_column(file, chosen)
    values = chosen.read_array(file, member)
    if values.ndim == 0 or values.size != len(values):
        raise SourceError(
            f"{file}: holds values of shape {values.shape}; labels are one value a row, (n,)"
        )
    return values.reshape(-1)


def _table_format(file: Path) -> Format | None:
    """The format of a table file, or of a folder of them."""
    chosen = format_of(file)
    is_table = chosen is not None and chosen.holds_text and chosen.is_folder == file.is_dir()
    return chosen if is_table else None


def _header(file: Path, header: bool | None) -> Header | None:
    chosen = _table_format(file)
    if chosen is None or chosen.read_header is None:
        return None
    if not chosen.is_folder and not (file.is_file() and file.stat().st_size):
        return None
    return chosen.read_header(file, header)


def _column(file: Path, name: str, header: bool | None, *, as_text: bool = False) -> Any:
    """One column as a pyarrow ChunkedArray."""
    chosen = _table_format(file)
    assert chosen is not None
    assert chosen.read_columns is not None
    return chosen.read_columns(file, [name], header, as_text).column(name)


def _only_column(file: Path, chosen: Format) -> Array:
    assert chosen.read_header is not None
    names = chosen.read_header(file, None).names
    if len(names) != 1:
        raise SourceError(f"{file}: holds the columns {listed(names)}; labels are one column alone")
    return read_column(file, names[0])
