"""What a table file's columns are called, and labels: one value of any type a row."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.columns import listed
from isthmus.data.formats import delimited, idx, npz, parquet
from isthmus.data.formats.base import choose_member, damaged
from isthmus.data.open import split_member
from isthmus.errors import SourceError
from isthmus.types import Array

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")


def column_names(path: str | Path, *, header: bool | None = None) -> tuple[str, ...] | None:
    """The names of the columns of a CSV, TSV or Parquet file, or of a folder of the last.

    None for a file of another format, one that is not there, and one whose columns have no names.
    """
    file = Path(path)
    if parquet.is_folder(file):
        return tuple(parquet.column_names(file))
    if not file.is_file() or file.stat().st_size == 0:
        return None
    suffix = file.suffix.lower()
    if suffix in PARQUET:
        return tuple(parquet.column_names(file))
    if suffix not in DELIMITERS:
        return None
    found = delimited.read_header(file, DELIMITERS[suffix], header)
    return found.names if found.present else None


def read_column(path: str | Path, name: str, *, header: bool | None = None) -> Array:
    """(n,): one column of a CSV, TSV or Parquet file, numbers or text."""
    return np.asarray(_column(Path(path), name, header).to_numpy())


def read_names(path: str | Path, name: str) -> list[str]:
    """The values of one column as they are written: "01" is no number, and "NA" no gap."""
    import pyarrow as pa

    return [str(value) for value in _column(Path(path), name, None, pa.string()).to_pylist()]


def _column(file: Path, name: str, header: bool | None, kind: Any = None) -> Any:
    """One column as pyarrow has it; of text files, cells of this `kind` where one is given."""
    if file.suffix.lower() in PARQUET or file.is_dir():
        return parquet.read_table(file, [name]).column(name)
    delimiter = DELIMITERS[file.suffix.lower()]
    found = delimited.read_header(file, delimiter, header)
    types = None if kind is None else {name: kind}
    return delimited.read_table(file, delimiter, found, [name], types=types).column(name)


def read_labels(path: str | Path) -> Array:
    """(n,): the values of a file that holds one a row: .npy, .npz, IDX, or a table of one column.

    Raises SourceError where it holds more.
    """
    file, member = split_member(str(path))
    if not file.is_file():
        raise SourceError(f"{file}: there is no such file; check the name and the place")
    if file.suffix.lower() in (*PARQUET, *DELIMITERS):
        return _only_column(file)
    values = _array(file, member)
    if values.ndim == 0 or values.size != len(values):
        raise SourceError(
            f"{file}: holds values of shape {values.shape}; labels are one value a row, (n,)"
        )
    return values.reshape(-1)


def _only_column(file: Path) -> Array:
    names = column_names(file)
    if names is None and file.suffix.lower() in DELIMITERS:
        names = delimited.read_header(file, DELIMITERS[file.suffix.lower()], None).names
    if names is None or len(names) != 1:
        raise SourceError(
            f"{file}: holds the columns {listed(names or ())}; labels are one column alone"
        )
    return read_column(file, names[0])


def _array(file: Path, member: str | None) -> Array:
    if idx.matches(file):
        with damaged(file, "an IDX file", gzip.BadGzipFile):
            return idx.load(file)
    if file.suffix.lower() not in (".npy", ".npz"):
        raise SourceError(
            f"{file}: labels are read from .npy, .npz, IDX, .csv, .tsv or .parquet; convert them"
        )
    with damaged(file, f"a {file.suffix} file", zipfile.BadZipFile, ValueError, OSError):
        if file.suffix.lower() == ".npy":
            return np.asarray(np.load(file, allow_pickle=False))
        return npz.read_member(file, choose_member(file, member, npz.shapes(file)))
