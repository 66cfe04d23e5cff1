"""Writes the IDX files of examples/digits from the copy of the data that scikit-learn ships."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

FOLDER = Path(__file__).parents[1] / "examples" / "digits"
UNSIGNED_BYTE = 0x08


def idx(values: NDArray[Any]) -> bytes:
    """An array of bytes as a gzipped IDX file; the same array always gives the same file."""
    header = struct.pack(f">HBB{values.ndim}I", 0, UNSIGNED_BYTE, values.ndim, *values.shape)
    buffer = io.BytesIO()
    # Not gzip.compress: the system byte of its header differs between Python versions.
    with gzip.GzipFile("", "wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(header + values.astype(np.uint8).tobytes())
    return buffer.getvalue()


def make() -> dict[str, bytes]:
    """The two files by name: images with their 17 levels spread over 0..255, and the labels."""
    digits = load_digits()
    return {
        "images-idx3-ubyte.gz": idx(np.rint(digits.images * (255 / 16))),
        "labels-idx1-ubyte.gz": idx(digits.target),
    }


if __name__ == "__main__":
    for name, content in make().items():
        (FOLDER / name).write_bytes(content)
