"""Rows of images as pictures: grey levels from 0 to 255, and PNG files as data URLs."""

import base64
import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image

from isthmus.data.loading.rows import evenly_spaced
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.tables.restore import cast
from isthmus.types import Array, Index

# n images of H x W pixels and C channels.

LARGEST_SIDE, RANGE_ROWS = 128, 2000
FULL_RANGE_FROM = 128
COLOUR = 3


@dataclass(frozen=True)
class GreyLevels:
    """The range of values that is shown as grey levels 0 to 255."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Array) -> Self:
        """0 to 255 for 8-bit images that use more than half of it, otherwise the values' range."""
        if values.dtype == np.uint8 and values.max(initial=0) >= FULL_RANGE_FROM:
            return cls(0.0, 255.0)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        return cls(low, high if high > low else low + 1)

    @property
    def is_rescaled(self) -> bool:
        """Whether grey levels differ from the values."""
        return (self.low, self.high) != (0.0, 255.0)

    def to_bytes(self, values: Array) -> Array:
        """uint8 grey levels of the values; missing values are black."""
        share = np.nan_to_num((np.asarray(values, np.float64) - self.low) / (self.high - self.low))
        return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)

    def to_values(self, levels: Array) -> Array:
        """float64 values of grey levels."""
        return levels.astype(np.float64) / 255 * (self.high - self.low) + self.low


def levels_of(source: Source, rows: Index) -> GreyLevels:
    """The grey levels of a sample of these rows."""
    return GreyLevels.of(source.read(evenly_spaced(rows, RANGE_ROWS)))


def channels_last(values: Array, schema: Schema) -> Array:
    """(n, H, W, C) of images (n, *schema.shape)."""
    if len(schema.shape) == 2:
        return values[..., None]
    return np.moveaxis(values, 1, -1) if schema.channels_first else values


def as_rows(images: Array, schema: Schema) -> Array:
    """(n, H, W, C) values as rows of `schema`, in its shape and dtype."""
    if len(schema.shape) == 2:
        shaped = images[..., 0]
    else:
        shaped = np.moveaxis(images, -1, 1) if schema.channels_first else images
    dtype = schema.dtypes[0]
    return cast(shaped, dtype) if dtype in np.sctypeDict else shaped


def without_single_channel(images: Array) -> Array:
    """(n, H, W, C) in Pillow's form: (n, H, W) if there is one channel."""
    return images[..., 0] if images.shape[-1] == 1 else images


def displayable(image: Array) -> Array:
    """An (H, W, C) uint8 image as a grey or colour picture.

    Further channels, such as transparency, become grey pictures to the right of the others.
    """
    channels = image.shape[-1]
    if channels in (1, COLOUR):
        return image[..., 0] if channels == 1 else image
    if channels < COLOUR:
        return np.concatenate(list(np.moveaxis(image, -1, 0)), axis=1)
    grey = [np.repeat(image[..., i, None], COLOUR, axis=-1) for i in range(COLOUR, channels)]
    return np.concatenate([image[..., :COLOUR], *grey], axis=1)


def png(image: Array) -> str:
    """A data URL of a uint8 picture (H, W) or (H, W, 3), of at most 128 pixels per side."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def resized(image: Array, height: int, width: int, channels: int) -> Array:
    """(height, width, channels) uint8 of a uint8 picture (h, w) or (h, w, c).

    Colour becomes grey if there are one or two channels; a transparency channel is opaque.
    """
    mode = "RGB" if channels >= COLOUR else "L"
    picture = Image.fromarray(np.ascontiguousarray(image)).convert(mode)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    values = np.asarray(picture).reshape(height, width, -1)
    opaque = np.full((height, width, channels - values.shape[-1]), 255, np.uint8)
    return np.concatenate([values, opaque], axis=-1)


def size_of(schema: Schema) -> tuple[int, int, int]:
    """Height, width and channels of a row."""
    channels, height, width = schema.network_shape
    return height, width, channels


def pictures(values: Array, schema: Schema, levels: GreyLevels) -> list[str]:
    """A data URL for each row (n, *schema.shape)."""
    return [png(displayable(levels.to_bytes(image))) for image in channels_last(values, schema)]


def sample_photographs(height: int, width: int, channels: int) -> Array:
    """(n, height, width, channels) uint8: pieces of scikit-learn's two sample photographs."""
    from sklearn.datasets import load_sample_images

    photographs: list[Array] = load_sample_images().images
    return np.stack(
        [
            resized(piece, height, width, channels)
            for photograph in photographs
            for piece in _pieces(photograph, height / width)
        ]
    )


def _pieces(photograph: Array, proportion: float, rows: int = 4) -> list[Array]:
    """Pieces with height / width = proportion, in `rows` rows across the photograph."""
    high, wide = photograph.shape[0] // rows, photograph.shape[1]
    across = min(max(round(high / proportion), 1), wide)
    high = min(high, max(round(across * proportion), 1))
    tops = [row * photograph.shape[0] // rows for row in range(rows)]
    lefts = [i * across for i in range(wide // across)]
    return [photograph[top : top + high, left : left + across] for top in tops for left in lefts]
