"""The honest alternatives, PCA and JPEG, by the same measures as an autoencoder."""

import io
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from sklearn.decomposition import PCA

from isthmus.data import Preparation, blocks
from isthmus.errors import RequestError, require
from isthmus.metrics import ReconstructionError, psnr, reconstruction_error
from isthmus.missing import known_sums, mean_known
from isthmus.types import Array, Index, Source

# D numbers in a row, K components, H x W pixels, C channels.

DENSE_BYTES, DOUBLE_VALUES = 1 << 30, 1 << 24
EXACT_WIDTH, EXACT_WORK = 3000, 2e11
POWER_ITERATIONS = 10
QUALITIES = (1, 2, 4, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 100)
SMALLEST_ERROR = 1e-4
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", 2


class PCABaseline:
    """PCA by scikit-learn on the rows an autoencoder learns from, in the units of its errors.

    Rows are prepared as the autoencoder's are, block by block, and held as one dense array, in
    double precision up to 16 million values, beyond in single. Where that would take more than
    1 GiB the rows are thinned out evenly; `n_rows_` says how many were used. Sparse rows are
    made dense too, since a centred row is. Missing values are taken for the mean of their feature,
    as scikit-learn's SimpleImputer does, and are no part of the errors.
    """

    def __init__(self, n_components: int) -> None:
        require(n_components >= 1, f"n_components={n_components} must be at least 1")
        self.n_components = n_components

    def fit(self, source: Source, preparation: Preparation, rows: Index) -> Self:
        """Learn the components of these rows; fewer where the rows span fewer."""
        used = _thinned(rows, DENSE_BYTES // (4 * preparation.facts.n_features))
        values, offset = _dense(source, preparation, used)
        pca = PCA(
            min(self.n_components, *values.shape),
            svd_solver=choose_solver(*values.shape),
            iterated_power=POWER_ITERATIONS,
            random_state=0,
            copy=False,
        )
        with np.errstate(invalid="ignore", divide="ignore"):  # shares of no variance at all
            pca.fit(values)
        self.preparation_, self.n_rows_ = preparation, len(used)
        self.variance_ = np.asarray(pca.explained_variance_, np.float64)
        self.components_ = np.asarray(pca.components_, np.float64)
        self.mean_ = np.asarray(pca.mean_ + offset, np.float64)
        return self

    def evaluate(
        self,
        source: Source,
        rows: Index,
        *,
        n_components: int | None = None,
        reference: Array | None = None,
    ) -> ReconstructionError:
        """Errors of these rows, rebuilt from the first `n_components` components.

        `reference` (D,) is what explained variance is measured from; None is the fitted mean.
        """
        kept = self.components_[:n_components]
        pairs = (
            (x, self._centred(x) @ kept.T @ kept + self.mean_)
            for x in _measured(source, self.preparation_, rows)
        )
        reference = self.mean_ if reference is None else reference
        return reconstruction_error(pairs, reference, self.preparation_.sums)

    def curve(self, source: Source, rows: Index, *, reference: Array | None = None) -> Array:
        """(K,): the explained variance of these rows with 1, 2, ... K components."""
        reference = self.mean_ if reference is None else reference
        kept, around_mean, around_reference = np.zeros(len(self.components_)), 0.0, 0.0
        for x in _measured(source, self.preparation_, rows):
            kept += self._explained(x)
            around_mean += float(np.square(self._centred(x)).sum())
            around_reference += float(known_sums((x - reference) ** 2)[0].sum())
        lost = around_mean - kept.cumsum()
        return 1 - lost / around_reference if around_reference > 0 else np.full_like(kept, np.nan)

    def _centred(self, x: Array) -> Array:
        """(n, D) less the mean, which is what stands in for missing values."""
        return np.nan_to_num(x - self.mean_, nan=0.0, posinf=np.inf, neginf=-np.inf)

    def _explained(self, x: Array) -> Array:
        """(K,): by how much each component lowers the squared error of what is known of (n, D)."""
        centred, missing = self._centred(x), np.isnan(x)
        codes = centred @ self.components_.T
        if not missing.any():
            return np.asarray((codes**2).sum(axis=0))
        falls, left = np.zeros(len(self.components_)), centred
        for k, component in enumerate(self.components_):
            before = np.square(left).sum()
            left = np.where(missing, 0.0, left - np.outer(codes[:, k], component))
            falls[k] = before - np.square(left).sum()
        return falls


def pca_curve(
    source: Source,
    preparation: Preparation,
    train_rows: Index,
    test_rows: Index,
    sizes: Sequence[int],
) -> dict[int, float]:
    """The explained variance of the test rows for each code size, from one decomposition.

    Sizes beyond what the training rows can span are left out.
    """
    pca = PCABaseline(max(sizes)).fit(source, preparation, train_rows)
    explained = pca.curve(source, test_rows)
    return {size: float(explained[size - 1]) for size in sizes if size <= len(explained)}


def choose_solver(rows: int, width: int) -> str:
    """scikit-learn's name of the solver: exact unless that would take minutes."""
    if width <= min(rows, EXACT_WIDTH):
        return "covariance_eigh"
    work = rows * width * min(rows, width)
    return "full" if work <= EXACT_WORK else "randomized"


def quantised(codes: Array, low: Array, high: Array, bits: int = 8) -> Array:
    """(n, K) codes as they come back from `bits` bits a unit: a uniform grid from low to high.

    `low` and `high` (K,) are the range of the training codes; what lies outside is clipped.
    """
    step = (high - low) / (2**bits - 1)
    safe = np.where(step > 0, step, 1.0)
    return np.asarray(low + np.rint((np.clip(codes, low, high) - low) / safe) * step)


class JPEGPoint(NamedTuple):
    """What JPEG makes of some images at one quality, on average."""

    quality: int
    bytes: float
    """A whole file, with its optimised tables."""

    scan_bytes: float
    """The picture data in it alone, without header and tables."""

    error: float
    """Mean squared error, in grey levels from 0 to 255."""

    psnr: float


class JPEGAnswer(NamedTuple):
    """Bytes an image at a given distortion; `bound` is "", "at most" or "more than"."""

    bytes: float
    scan_bytes: float
    psnr: float
    """Of JPEG at these bytes: as asked for, unless there is a bound."""

    bound: str


def jpeg_curve(images: Array, qualities: Sequence[int] = QUALITIES) -> tuple[JPEGPoint, ...]:
    """Size and distortion of uint8 images (n, H, W) or (n, H, W, C), as Pillow writes them.

    Images of three channels are stored as colour, with and without halved colour resolution, so
    that there are two points a quality; of any other number, each channel as a grey picture.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise RequestError(
            f"images of {images.dtype} and shape {images.shape} are no JPEG input; "
            "give uint8 (n, H, W) or (n, H, W, C)"
        )
    colour = images.ndim == 4 and images.shape[3] == 3
    pictures = images if colour or images.ndim == 3 else np.moveaxis(images, 3, 1)
    samplings = (0, 2) if colour else (0,)
    return tuple(
        _jpeg_point(pictures.reshape(-1, *images.shape[1:3], *(3,) * colour), q, s, len(images))
        for q in qualities
        for s in samplings
    )


def jpeg_at(curve: Sequence[JPEGPoint], error: float) -> JPEGAnswer:
    """The fewest bytes an image at this mean squared error, interpolated between qualities.

    Where even the lowest quality is closer to the image than that, its bytes are "at most" what
    JPEG needs; where the highest is not close enough, JPEG needs "more than" its bytes.
    """
    points = sorted(curve, key=lambda point: (point.error, point.bytes))
    errors = np.log([max(point.error, SMALLEST_ERROR) for point in points])
    wanted = np.log(max(error, SMALLEST_ERROR))
    sizes = [
        float(np.exp(np.interp(wanted, errors, np.minimum.accumulate(np.log(values)))))
        for values in ([p.bytes for p in points], [p.scan_bytes for p in points])
    ]
    bound = "at most" if wanted > errors[-1] else "more than" if wanted < errors[0] else ""
    reached = float(np.exp(np.clip(wanted, errors[0], errors[-1])))
    return JPEGAnswer(sizes[0], sizes[1], psnr(reached), bound)


def jpeg_bytes(image: Array, quality: int, subsampling: int = 0) -> bytes:
    """A JPEG file of a uint8 image (H, W) or (H, W, 3); subsampling 2 halves colour's detail."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer, "JPEG", quality=quality, subsampling=subsampling, optimize=True
    )
    return buffer.getvalue()


def _jpeg_point(pictures: Array, quality: int, subsampling: int, n_images: int) -> JPEGPoint:
    total, scans, squares = 0, 0, 0.0
    for picture in pictures:
        written = jpeg_bytes(picture, quality, subsampling)
        back = np.asarray(Image.open(io.BytesIO(written)), np.float64)
        total += len(written)
        scans += _scan_length(written)
        squares += float(((back - picture) ** 2).sum())
    error = squares / pictures.size
    return JPEGPoint(quality, total / n_images, scans / n_images, error, psnr(error))


def _scan_length(written: bytes) -> int:
    """The bytes between the header of the scan and the end of the image."""
    marker = written.index(START_OF_SCAN)
    header = int.from_bytes(written[marker + 2 : marker + 4], "big")
    return len(written) - marker - 2 - header - END_OF_IMAGE


def _thinned(rows: Index, most: int) -> Index:
    return (
        rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, max(most, 2)).astype(int)]
    )


def _dense(source: Source, preparation: Preparation, rows: Index) -> tuple[Array, Array]:
    """The rows less an offset (D,), which is near enough to their mean that nothing cancels.

    The mean of each feature stands in where it is missing.
    """
    width = preparation.facts.n_features
    double = len(rows) * width <= DOUBLE_VALUES
    values = np.empty((len(rows), width), np.float64 if double else np.float32)
    offset, start = np.zeros(width), 0
    for x in _measured(source, preparation, rows):
        offset = mean_known(x.T) if start == 0 else offset
        values[start : start + len(x)] = x - offset
        start += len(x)
    missing = np.nonzero(np.isnan(values))
    if len(missing[0]):
        values[missing] = mean_known(values.T)[missing[1]]
    return values, offset


def _measured(source: Source, preparation: Preparation, rows: Index) -> Iterator[Array]:
    """The rows in blocks (b, D), in the units errors have."""
    for block in blocks(source, rows):
        yield preparation.measured(preparation.encode(source.read(block), torch.float64))
