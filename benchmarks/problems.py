"""The three classic problems of deep autoencoders: MNIST, and replicas of CURVES and FACES.

Hinton and Salakhutdinov (Science 313:504, 2006) introduced them; most papers on training deep
networks since have used them. Error: squared error per image, summed over its pixels.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from common import data_folder

Images = NDArray[np.float32]

CURVE_SIDE, CURVE_MARGIN, PEN, SAMPLES = 28, 5.0, 0.7, 60
FACE_SIDE, SPACING, TURN = 25, (1.4, 1.8), np.pi / 2
TRAINING_PEOPLE, PHOTOS_A_PERSON = 30, 10


@dataclass(frozen=True)
class Problem:
    """Training and test images, the layers of the network, and published errors."""

    name: str
    train: Images
    test: Images
    hidden: tuple[int, ...]
    n_components: int
    paper: float
    """Test error of Hinton and Salakhutdinov (2006), pretrained by RBMs."""

    pca: tuple[int, float]
    """Components and test error of PCA in that paper. Replicas are calibrated against it."""

    hessian_free: float
    """Training error of Hessian-free optimization (Sutskever et al. 2013, Table 1)."""


def mnist() -> Problem | None:
    """784-1000-500-250-30 on the handwritten digits, pixels in [0, 1]."""
    folder = data_folder("mnist")
    if folder is None:
        return None
    train, test = (
        _idx(folder / f"{part}-images-idx3-ubyte.gz").astype(np.float32) / 255
        for part in ("train", "t10k")
    )
    return Problem("MNIST", train, test, (1000, 500, 250), 30, 3.00, (30, 13.87), 0.69)


def curves() -> Problem:
    """784-400-200-100-50-25-6 on a replica of CURVES: one smooth stroke from three random points.

    The paper does not describe its renderer. Here a quadratic Bezier curve is drawn with a pen of
    Gaussian profile; margin and width of the pen bring PCA's error with 18 components to 5.97,
    near the published 5.90.
    """
    train, test = _strokes(20_000, seed=0), _strokes(10_000, seed=1)
    layers = (400, 200, 100, 50, 25)
    return Problem("CURVES (replica)", train, test, layers, 6, 1.44, (18, 5.90), 0.058)


def faces() -> Problem | None:
    """625-2000-1000-500-30 on 25 x 25 pieces of the Olivetti faces, rotated and scaled at random.

    As in the paper, thirty people are for training and ten others for testing. Every pixel has
    mean 0, and one scale for all pixels makes their average variance 1. The paper has
    124,200 and 41,400 images; this replica has 30,000 and 10,000, and PCA with 30 components leaves
    153, compared with 135 in the paper: its images are harder.
    """
    folder = data_folder("olivetti")
    if folder is None:
        return None
    photos = np.load(folder / "olivetti_faces.npz")["faces"].astype(np.float32)
    training = TRAINING_PEOPLE * PHOTOS_A_PERSON
    train, test = _pieces(photos[:training], 100, seed=0), _pieces(photos[training:], 100, seed=1)
    mean = train.mean(axis=0)
    scale = np.sqrt(((train - mean) ** 2).mean())
    train, test = (train - mean) / scale, (test - mean) / scale
    return Problem("FACES (replica)", train, test, (2000, 1000, 500), 30, 126.0, (30, 135.0), 7.5)


PROBLEMS: dict[str, Callable[[], Problem | None]] = {
    "mnist": mnist,
    "curves": curves,
    "faces": faces,
}


def _idx(path: Path) -> NDArray[np.uint8]:
    raw = gzip.decompress(path.read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 784)


def _strokes(n: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    points = rng.uniform(CURVE_MARGIN, CURVE_SIDE - CURVE_MARGIN, (n, 3, 2)).astype(np.float32)
    t = np.linspace(0, 1, SAMPLES, dtype=np.float32)
    weights = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])
    centres = np.arange(CURVE_SIDE, dtype=np.float32) + 0.5
    images = np.empty((n, CURVE_SIDE, CURVE_SIDE), np.float32)
    for start in range(0, n, 500):
        path = np.einsum("npa,ps->nsa", points[start : start + 500], weights)
        far = (path[:, :, None, :] - centres[None, None, :, None]) ** 2 / (2 * PEN**2)
        across, down = np.exp(-far[..., 0]), np.exp(-far[..., 1])
        images[start : start + 500] = np.einsum("nsy,nsx->nsyx", down, across).max(axis=1)
    return images.reshape(n, -1)


def _pieces(photos: Images, each: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.from_numpy(photos)[:, None]
    side = pictures.shape[-1]
    line = torch.arange(FACE_SIDE) - (FACE_SIDE - 1) / 2
    down, across = torch.meshgrid(line, line, indexing="ij")
    pieces = []
    for _ in range(each):
        angle = (2 * torch.rand(len(pictures), 1, 1, generator=generator) - 1) * TURN
        low, high = SPACING
        spacing = low + (high - low) * torch.rand(len(pictures), 1, 1, generator=generator)
        x = spacing * (across * angle.cos() - down * angle.sin())
        y = spacing * (across * angle.sin() + down * angle.cos())
        grid = torch.stack([x, y], dim=-1) * 2 / side
        pieces.append(grid_sample(pictures, grid, align_corners=False).reshape(len(pictures), -1))
    return torch.cat(pieces).numpy()
