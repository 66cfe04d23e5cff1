"""What a table file's columns are called, and labels: one value of any type a row."""

import gzip
import zipfile
from pathlib import Path

import numpy as np

from isthmus.data.formats import delimited, idx, parquet
from isthmus.data.formats.base import choose_member, damaged
from isthmus.data.frames import listed
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
    file = Path(path)
    if file.suffix.lower() in PARQUET or file.is_dir():
        table = parquet.read_table(file, [name])
    else:
        delimiter = DELIMITERS[file.suffix.lower()]
        found = delimited.read_header(file, delimiter, header)
        table = delimited.read_table(file, delimiter, found, [name])
    return np.asarray(table.column(name).to_numpy())


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
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded as arrays:
            return np.asarray(arrays[choose_member(file, member, _shapes(arrays))])


def _shapes(arrays: np.lib.npyio.NpzFile) -> dict[str, tuple[int, ...]]:
    return {name: arrays[name].shape for name in arrays.files}
