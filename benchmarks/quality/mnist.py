"""How well does each kind reconstruct MNIST from 30 numbers, compared with PCA, and how fast?

    python benchmarks/quality/mnist.py [--kinds pca,vanilla,...] [--no-record]

Metric: squared error per image, summed over the 784 pixels in [0, 1], as the mean over the 10,000
test images (Hinton and Salakhutdinov 2006, who report 13.87 for PCA-30). Every kind runs with its
defaults in its own process. Only multilayer differs: it has the layers of that paper.
"""

import argparse
import gzip
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table

N_COMPONENTS = 30
PIXELS = 784
HELP = """MNIST was not found. Put the four published files (train-images-idx3-ubyte.gz, ...) into
data/mnist, or set ISTHMUS_DATA to a folder that holds mnist/. Skipped."""

Images = NDArray[np.uint8]


def read_images(path: Path) -> Images:
    """(n, 28, 28) uint8 from a gzipped IDX file."""
    raw = gzip.decompress(path.read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)


def pca(train: Images, test: Images) -> dict[str, Any]:
    """The figures of scikit-learn's PCA; a test error of 13.866 proves the metric."""
    rows, new = (images.reshape(len(images), -1) / 255 for images in (train, test))
    began = time.perf_counter()
    model = PCA(N_COMPONENTS, svd_solver="covariance_eigh").fit(rows)
    seconds = time.perf_counter() - began
    errors = [_summed(x - model.inverse_transform(model.transform(x))) for x in (rows, new)]
    return {"kind": "pca", "train": errors[0], "test": errors[1], "seconds": seconds, "epochs": 0}


def autoencoder(kind: str, train: Images, test: Images) -> dict[str, Any]:
    """The figures of one kind, fitted on rows of pixels, or on images if it is convolutional."""
    from isthmus import Autoencoder, kinds

    spec = kinds.Multilayer(hidden=(1000, 500, 250)) if kind == "multilayer" else kind
    if kind != "convolutional":
        train, test = (images.reshape(len(images), -1) for images in (train, test))
    began = time.perf_counter()
    model = Autoencoder(N_COMPONENTS, kind=spec, random_state=0).fit(train)
    seconds = time.perf_counter() - began
    errors = [model.reconstruction_error(x) * PIXELS for x in (train, test)]
    return {
        "kind": kind,
        "train": errors[0],
        "test": errors[1],
        "seconds": seconds,
        "epochs": model.facts_["epochs"],
        "training_seconds": model.facts_["training_seconds"],
        "precision": model.facts_["precision"],
    }


def _summed(difference: NDArray[np.float64]) -> float:
    return float((difference**2).sum(axis=1).mean())


def run(kind: str, folder: Path) -> dict[str, Any]:
    """One row of the table, in a new process."""
    paths = [folder / f"{part}-images-idx3-ubyte.gz" for part in ("train", "t10k")]
    train, test = map(read_images, paths)
    return pca(train, test) if kind == "pca" else autoencoder(kind, train, test)


def main() -> int:
    """Run the kinds one after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kinds", default="pca,vanilla,multilayer,regularized,convolutional")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    folder = data_folder("mnist")
    if folder is None:
        print(HELP)
        return 0
    results = []
    for kind in chosen.kinds.split(","):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results.append(pool.apply(run, (kind, folder)))
        print(results[-1], file=sys.stderr, flush=True)
    names = ("kind", "train", "test", "seconds", "epochs")
    print(table([{name: result[name] for name in names} for result in results]))
    if not chosen.no_record:
        record("mnist", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
