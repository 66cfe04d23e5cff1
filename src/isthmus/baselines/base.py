"""What every baseline offers: codes of K numbers per row, or files per image."""

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
from PIL import Image

from isthmus.data.preparation.preparation import Preparation
from isthmus.data.source import Source
from isthmus.data.splitting.holdout import row_blocks
from isthmus.data.validate import has_missing
from isthmus.errors import RequestError, require
from isthmus.metrics import ReconstructionError, psnr, reconstruction_error
from isthmus.types import Array, Index

# D numbers in a row, K components, b rows in a block, H x W pixels, C channels.

QUALITIES = (1, 2, 4, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 100)
SMALLEST_ERROR = 1e-4


class Baseline(ABC):
    """A method without a network that an autoencoder is compared with."""

    label: ClassVar[str]
    """Its name in tables and texts."""

    @classmethod
    def applies_to(cls, source: Source) -> bool:
        """Whether the method can handle these rows."""
        del source
        return True


class CodeBaseline(Baseline):
    """A baseline that compresses each row to K numbers; PCA is one.

    A subclass sets `preparation_`, `mean_` and `n_rows_` in `fit` and defines `reconstruct`. It is
    fitted once, at the largest size, and then reconstructs from the first numbers of its codes.
    """

    preparation_: Preparation
    mean_: Array
    """(D,): the mean training row, in the units of errors."""

    n_rows_: int
    """Rows that the method was fitted on."""

    def __init__(self, n_components: int) -> None:
        require(n_components >= 1, f"n_components={n_components} must be at least 1")
        self.n_components = n_components

    @property
    def largest_size(self) -> int:
        """The largest code size that the fitted method supports."""
        return self.n_components

    @abstractmethod
    def fit(self, source: Source, preparation: Preparation, rows: Index) -> Self:
        """Fit the method on these rows of the source."""

    @abstractmethod
    def reconstruct(self, x: Array, n_components: int | None = None) -> Array:
        """(b, D) finite reconstructions from the first `n_components` numbers; None uses all.

        Missing values in x (b, D) are NaN.
        """

    def evaluate(
        self,
        source: Source,
        rows: Index,
        *,
        n_components: int | None = None,
        reference: Array | None = None,
    ) -> ReconstructionError:
        """Errors of these rows after reconstruction from `n_components` numbers.

        `reference` (D,) is what explained variance is measured from; None is the fitted mean.
        """
        pairs = (
            (x, self._reconstruct_checked(x, n_components))
            for x in measured_blocks(source, self.preparation_, rows)
        )
        reference = self.mean_ if reference is None else reference
        return reconstruction_error(pairs, reference, self.preparation_.column_sums)

    def _reconstruct_checked(self, x: Array, n_components: int | None) -> Array:
        """`reconstruct`, with its result checked: NaN would count as a missing value."""
        result, name = np.asarray(self.reconstruct(x, n_components)), type(self).__name__
        require(
            result.shape == x.shape,
            f"{name}.reconstruct: returned {result.shape} for rows {x.shape}; return one "
            "reconstruction per row",
        )
        require(
            bool(np.isfinite(result).all()),
            f"{name}.reconstruct: returned NaN or infinity; return finite values, also for "
            "missing values, or exclude such data in applies_to",
        )
        return result

    def curve(self, source: Source, rows: Index, *, reference: Array | None = None) -> Array:
        """(K,): the explained variance of these rows for codes of 1, 2, ... K numbers."""
        errors = (
            self.evaluate(source, rows, n_components=size + 1, reference=reference)
            for size in range(self.largest_size)
        )
        return np.array([error.explained_variance for error in errors])


class CodecPoint(NamedTuple):
    """Mean size and distortion of images stored at one quality."""

    quality: int
    bytes: float
    """Whole file."""

    payload_bytes: float
    """Picture data alone, without header and tables."""

    error: float
    """Mean squared error, in grey levels from 0 to 255."""

    psnr: float


class CodecRate(NamedTuple):
    """Mean bytes per image at a given distortion; `bound` is "", "at most" or "more than"."""

    bytes: float
    payload_bytes: float
    psnr: float
    """At these bytes: the requested value, unless there is a bound."""

    bound: str


class ImageCodec(Baseline):
    """A baseline that stores each image as a file that Pillow can read; JPEG is one."""

    qualities: ClassVar[Sequence[int]] = QUALITIES

    @classmethod
    def applies_to(cls, source: Source) -> bool:
        """Images without missing pixels, which picture formats do not support."""
        return source.schema.layout == "image" and not has_missing(source)

    @abstractmethod
    def encode(self, image: Array, quality: int, variant: int = 0) -> bytes:
        """File content of a uint8 image (H, W) or (H, W, 3)."""

    def variants(self, *, colour: bool) -> Sequence[int]:
        """Settings to try at each quality, as numbers that `encode` understands."""
        del colour
        return (0,)

    def payload_length(self, file: bytes) -> int:
        """Bytes of picture data in a file."""
        return len(file)

    def curve(self, images: Array, qualities: Sequence[int] | None = None) -> list[CodecPoint]:
        """Size and distortion of uint8 images (n, H, W) or (n, H, W, C) at each quality.

        Images of three channels are stored in colour. With any other number of channels, each
        channel is stored as a grey picture.
        """
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise RequestError(
                f"images of {images.dtype} and shape {images.shape} cannot be stored as "
                f"{self.label}; give uint8 (n, H, W) or (n, H, W, C)"
            )
        colour = images.ndim == 4 and images.shape[3] == 3
        pictures = images if colour or images.ndim == 3 else np.moveaxis(images, 3, 1)
        pictures = pictures.reshape(-1, *images.shape[1:3], *(3,) * colour)
        return [
            self._point(pictures, quality, variant, len(images))
            for quality in qualities or self.qualities
            for variant in self.variants(colour=colour)
        ]

    def _point(self, pictures: Array, quality: int, variant: int, n_images: int) -> CodecPoint:
        total, payload, squares = 0, 0, 0.0
        for picture in pictures:
            file = self.encode(picture, quality, variant)
            image = Image.open(io.BytesIO(file)).convert("L" if picture.ndim == 2 else "RGB")
            total += len(file)
            payload += self.payload_length(file)
            squares += float(((np.asarray(image, np.float64) - picture) ** 2).sum())
        error = squares / pictures.size
        return CodecPoint(quality, total / n_images, payload / n_images, error, psnr(error))


def rate_at(curve: Sequence[CodecPoint], error: float) -> CodecRate:
    """Fewest bytes per image at this mean squared error, interpolated between qualities.

    If even the lowest quality has a smaller error, its bytes are an upper bound ("at most"). If
    the highest quality has a larger error, its bytes are a lower bound ("more than").
    """
    points = sorted(curve, key=lambda point: (point.error, point.bytes))
    errors = np.log([max(point.error, SMALLEST_ERROR) for point in points])
    wanted = np.log(max(error, SMALLEST_ERROR))
    sizes = [
        float(np.exp(np.interp(wanted, errors, np.minimum.accumulate(np.log(values)))))
        for values in ([p.bytes for p in points], [p.payload_bytes for p in points])
    ]
    bound = "at most" if wanted > errors[-1] else "more than" if wanted < errors[0] else ""
    reached = float(np.exp(np.clip(wanted, errors[0], errors[-1])))
    return CodecRate(sizes[0], sizes[1], psnr(reached), bound)


def quantised(codes: Array, low: Array, high: Array, bits: int = 8) -> Array:
    """(n, K) codes after storage in `bits` bits per unit, on a uniform grid from low to high.

    `low` and `high` (K,) are the range of the training codes; values outside are clipped.
    """
    step = (high - low) / (2**bits - 1)
    safe = np.where(step > 0, step, 1.0)
    return np.asarray(low + np.rint((np.clip(codes, low, high) - low) / safe) * step)


def measured_blocks(source: Source, preparation: Preparation, rows: Index) -> Iterator[Array]:
    """The rows in blocks (b, D) of float64, in the units of errors; NaN is a missing value."""
    for block in row_blocks(source, rows):
        yield preparation.to_error_units(preparation.encode(source.read(block), torch.float64))
