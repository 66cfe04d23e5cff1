"""A folder of images that is too large for memory: some files are decoded at a time, by threads."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from isthmus.data.formats.image_files import read_pixels
from isthmus.data.prefetch import ahead
from isthmus.data.schema import Schema
from isthmus.data.streams.blocks import Blocks
from isthmus.errors import SourceError
from isthmus.types import Array

TOGETHER = 32
"""Images that are decoded together: few, so that those of a window come from many places."""

MOST_THREADS = 4


class ImageBlocks(Blocks):
    """Rows of uint8 pixels, (H, W) or (H, W, C); nothing but the files' names is kept."""

    def __init__(
        self, folder: Path, names: Sequence[str], schema: Schema, *, resize: bool = False
    ) -> None:
        self.folder = folder
        self.row_names: tuple[str, ...] | None = tuple(names)
        self._resize = (schema.shape[0], schema.shape[1]) if resize else None
        bounds = np.append(np.arange(0, len(names), TOGETHER), len(names))
        super().__init__(schema, str(folder), bounds, np.dtype(np.uint8))

    def _chunks(self, group: int) -> Iterator[Array]:
        names = (self.row_names or ())[self.bounds[group] : self.bounds[group + 1]]
        threads = min(MOST_THREADS, os.cpu_count() or 1)
        for start in range(0, len(names), self.step):
            some = names[start : start + self.step]
            yield np.stack(list(ahead(self._decode, some, depth=threads, threads=threads)))

    def _decode(self, name: str) -> Array:
        return decoded(self.folder / name, self.schema, self._resize)


def decoded(path: Path, schema: Schema, resize: tuple[int, int] | None) -> Array:
    """The pixels of one file; SourceError where they are no row of `schema` any more."""
    pixels = read_pixels(path, schema.mode or "L", resize)
    if pixels.shape != schema.shape:
        raise SourceError(
            f"{path}: has changed since the folder was opened; leave the images alone while they "
            "are read"
        )
    return pixels
