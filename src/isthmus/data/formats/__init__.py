"""The registry of file formats that rows are read from and written to."""

from collections.abc import Callable
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


def format_of(path: Path) -> Format | None:
    """The format of `path`, or None."""
    return next((entry for entry in FORMATS.values() if entry.matches(path)), None)


def format_names(accepts: Callable[[Format], bool] = bool) -> str:
    """The names of the file formats that a test accepts, as "a, b or c", for messages."""
    *names, last = [f.name for f in FORMATS.values() if not f.is_folder and accepts(f)]
    return f"{', '.join(names)} or {last}" if names else last


def recording_suffixes() -> tuple[str, ...]:
    """The suffixes of files that may hold one recording."""
    recordings = [entry for entry in FORMATS.values() if entry.holds_recordings]
    return tuple(suffix for entry in recordings for suffix in entry.suffixes)


__all__ = ["FORMATS", "Format", "Options", "format_names", "format_of", "recording_suffixes"]
