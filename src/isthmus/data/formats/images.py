"""A folder of PNG and JPEG images of one size, one image per row.

Rows are what a viewer shows: palettes and 1-bit images become grey or colour, the rotation in a
JPEG's EXIF is applied. Images of several modes are brought to the most general of L, RGB and RGBA.
"""

import itertools
import os
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isthmus.data.formats.base import Append, Format, NewFile, Options, RowNames
from isthmus.data.formats.image_files import Head, file_names, read_head, read_pixels
from isthmus.data.formats.values import as_array
from isthmus.data.on_disk import ChunkedSource
from isthmus.data.prefetch import prefetch
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.errors import RequestError, SourceError, either
from isthmus.types import Array, Index

TOGETHER = 32
"""How many images are decoded together: few, so that a shuffled window mixes many parts."""

MOST_THREADS = 4


class StreamedImages(ChunkedSource):
    """Rows of uint8 pixels, (H, W) or (H, W, C); only the file names stay in memory."""

    row_names: tuple[str, ...]

    def __init__(
        self, folder: Path, names: Sequence[str], schema: Schema, *, resize: bool = False
    ) -> None:
        self.folder = folder
        self.row_names = tuple(names)
        self._resize = (schema.shape[0], schema.shape[1]) if resize else None
        bounds = np.append(np.arange(0, len(names), TOGETHER), len(names))
        super().__init__(schema, str(folder), bounds, np.dtype(np.uint8))

    def _chunks(self, group: int) -> Iterator[Array]:
        names = self.row_names[self.bounds[group] : self.bounds[group + 1]]
        threads = min(MOST_THREADS, os.cpu_count() or 1)
        for start in range(0, len(names), self.chunk_rows):
            some = names[start : start + self.chunk_rows]
            yield np.stack(list(prefetch(self._decode, some, depth=threads, threads=threads)))

    def _decode(self, name: str) -> Array:
        return decoded(self.folder / name, self.schema, self._resize)


def decoded(path: Path, schema: Schema, resize: tuple[int, int] | None) -> Array:
    """The pixels of one file; SourceError if they no longer fit `schema`."""
    pixels = read_pixels(path, schema.mode or "L", resize)
    if pixels.shape != schema.shape:
        raise SourceError(
            f"{path}: has changed since the folder was opened; leave the images alone while they "
            "are read"
        )
    return pixels


SUFFIXES = (".png", ".jpg", ".jpeg")
GENERAL = ("L", "RGB", "RGBA")
"""The modes of rows; each can represent those before it."""

CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,)}
KEPT_BYTES = 2**30
"""Folders up to this size stay in memory once decoded; larger ones are streamed."""


class ImageSource(Source):
    """Rows of uint8 pixels, (H, W) or (H, W, C), decoded as they are read."""

    def __init__(
        self, folder: Path, names: Sequence[str], schema: Schema, *, resize: bool = False
    ) -> None:
        self.folder = folder
        self.row_names = tuple(names)
        self.schema = schema
        self.origin = str(folder)
        self._paths = [folder / name for name in names]
        self._resize = (schema.shape[0], schema.shape[1]) if resize else None
        small = len(names) * schema.n_features <= KEPT_BYTES
        self._kept = np.zeros((len(names), *schema.shape), np.uint8) if small else None
        self._known = np.zeros(len(names), bool)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._paths)

    def read(self, rows: Index) -> Array:
        """The chosen images, (len(rows), *schema.shape)."""
        wanted = np.arange(len(self))[rows]
        if self._kept is None:
            decoded = np.empty((len(wanted), *self.schema.shape), np.uint8)
            for place, row in enumerate(wanted):
                decoded[place] = self._decode(row)
            return decoded
        for row in wanted[~self._known[wanted]]:
            self._kept[row] = self._decode(row)
            self._known[row] = True
        return self._kept[wanted]

    def _decode(self, row: int) -> Array:
        return decoded(self._paths[row], self.schema, self._resize)


def read(path: Path, options: Options) -> Source:
    """A source of the images in and below a folder, in the order of their paths."""
    if options.layout not in (None, "image"):
        raise RequestError(f"{path}: a folder of images has layout='image'; leave layout out")
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not names:
        raise SourceError(
            f"{path}: there is no PNG or JPEG image in this folder or below it; "
            "give the folder that holds the images, or a file (a folder of recordings needs "
            "--window, or --layout series)"
        )
    for name in names:
        if name != name.encode("utf-8", "replace").decode():
            raise SourceError(f"{path}: the name of {name!r} is not valid UTF-8; rename the file")
    heads = [read_head(path / name) for name in names]
    size = options.resize or _one_size(path, names, heads)
    mode = max((head.mode for head in heads), key=GENERAL.index)
    schema = Schema(
        layout="image",
        shape=(*size, *CHANNELS[mode]),
        dtypes=("uint8",),
        container="images",
        mode=mode,
    )
    large = options.stream is None and len(names) * schema.n_features > KEPT_BYTES
    kind = StreamedImages if options.stream or large else ImageSource
    return kind(path, names, schema, resize=options.resize is not None)


def _one_size(path: Path, names: Sequence[str], heads: Sequence[Head]) -> tuple[int, int]:
    sizes = [head.size for head in heads]
    counts = Counter(sizes).most_common()
    if len(counts) == 1:
        return sizes[0]
    shown = ", ".join(
        f"{count} of {height}x{width} (the first {names[sizes.index((height, width))]!r})"
        for (height, width), count in counts[:3]
    )
    more = f" and {len(counts) - 3} more sizes" if len(counts) > 3 else ""
    height, width = counts[0][0]
    raise SourceError(
        f"{path}: the images have {len(counts)} sizes (height x width): {shown}{more}; make them "
        f"equal with {either(f'resize=({height}, {width})', f'--resize {height}x{width}')}"
    )


def write(path: Path, values: Any, schema: Schema, names: RowNames) -> None:
    """Writes each row as a PNG named after its row name, or 000000.png, 000001.png, ..."""
    pixels = pixels_of(path, values, schema)
    write_pixels(path, file_names(names, len(pixels)), pixels)


@contextmanager
def append(file: NewFile) -> Generator[Append]:
    """Writes each row of the blocks as one PNG."""
    names = iter(file_names(file.row_names, file.n_rows))

    def append_block(values: Any) -> None:
        pixels = pixels_of(file.target, values, file.schema)
        write_pixels(file.path, list(itertools.islice(names, len(pixels))), pixels)

    yield append_block


def write_pixels(path: Path, names: Sequence[str], pixels: Array) -> None:
    """Writes each of (n, H, W) or (n, H, W, C) bytes as a PNG of this name."""
    for name, row in zip(names, pixels, strict=True):
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row).save(target, "PNG")


def pixels_of(path: Path, values: Any, schema: Schema) -> Array:
    """The rows as the bytes of images; RequestError if they are not images."""
    if schema.layout != "image":
        raise RequestError(
            f"{path}: a folder can hold images only, and the rows are a {schema.layout}; "
            "give the name a suffix such as .npy or .csv"
        )
    array = as_array(path, values, schema)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8:
        raise RequestError(
            f"{path}: PNG images hold 0 to 255 (uint8), and the rows are {array.dtype}; "
            "write them to .npy, which keeps them exact"
        )
    if schema.channels_first:
        array = np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(array[..., 0] if array.shape[3:] == (1,) else array)


IMAGES = Format(
    suffixes=SUFFIXES,
    match=Path.is_dir,
    is_folder=True,
    label="a folder of PNG or JPEG images",
    read=read,
    write=write,
    append=append,
    understands=frozenset({"resize", "layout", "stream"}),
    holds_recordings=False,
)
