"""The file formats rows are read from and written to, by name."""

from pathlib import Path

from isthmus.data.formats.base import Format, Options
from isthmus.data.formats.delimited import CSV, TSV
from isthmus.data.formats.idx import IDX
from isthmus.data.formats.images import IMAGES
from isthmus.data.formats.npy import NPY
from isthmus.data.formats.npz import NPZ
from isthmus.data.formats.parquet import PARQUET, PARQUET_FOLDER
from isthmus.data.formats.tensors import SAFETENSORS

FORMATS: dict[str, Format] = {
    "npy": NPY,
    "npz": NPZ,
    "csv": CSV,
    "tsv": TSV,
    "parquet": PARQUET,
    "idx": IDX,
    "safetensors": SAFETENSORS,
    "parquet folder": PARQUET_FOLDER,
    "images": IMAGES,
}

KNOWN = ".npy, .npz, .csv, .tsv, .parquet, .idx (or -ubyte, perhaps with .gz), .safetensors"
"""The suffixes of FORMATS, for messages."""


def format_of(path: Path) -> Format | None:
    """The format `path` is of, or None."""
    return next((entry for entry in FORMATS.values() if entry.matches(path)), None)


__all__ = ["FORMATS", "KNOWN", "Format", "Options", "format_of"]
