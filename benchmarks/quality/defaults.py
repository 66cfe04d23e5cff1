"""With defaults, is a fit ever worse than PCA of equal code size on test rows?

    python benchmarks/quality/defaults.py [--sets iris,...] [--components 2,8,32]
        [--optimizer muon] [--with lr=0.003,weight_decay=0.1] [--output linear] [--splits 1]
        [--no-record]

A fifth of the rows is for testing. Error: mean squared, in the units of the given rows. Tables
whose columns have different units are standardised beforehand, for both methods alike.
"""

import argparse
import csv
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn import datasets
from sklearn.decomposition import PCA

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table

Rows = NDArray[np.float64]
MOST_ROWS = 8000


def standardised(rows: Rows) -> Rows:
    """Columns to mean 0 and variance 1; constant columns are dropped."""
    rows = np.asarray(rows, np.float64)
    rows = rows[:, rows.std(axis=0) > 0]
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def adult(folder: Path) -> Rows:
    """The six numeric columns of the census table."""
    with (folder / "adult-train.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    return standardised(np.array([[float(row[i]) for i in (0, 2, 4, 10, 11, 12)] for row in rows]))


def ecg5000(folder: Path) -> Rows:
    """Single heartbeats of 140 samples."""
    return np.loadtxt(folder / "ECG5000_TRAIN.txt")[:, 1:]


def olivetti(folder: Path) -> Rows:
    """Faces, one feature per pixel, every second row and column."""
    faces = np.load(folder / "olivetti_faces.npz")["faces"][:, ::2, ::2]
    return faces.reshape(len(faces), -1) / 255.0


def cifar10(folder: Path) -> Rows:
    """A thousand photographs of 32 x 32 pixels, in grey."""
    pixels = np.asarray(Image.open(folder / "cifar10_batch_0.png")).reshape(-1, 1024, 3)
    return pixels.mean(axis=2) / 255.0


def counts(folder: Path) -> Rows:
    """Log counts of genes per cell."""
    (path,) = [path for path in folder.glob("*.npz") if path.name != "labels.npz"]
    file = np.load(path)
    rows = np.zeros(file["shape"])
    rows[np.repeat(np.arange(len(rows)), np.diff(file["indptr"])), file["indices"]] = file["data"]
    return np.log1p(rows)


SHIPPED: dict[str, Callable[[], Rows]] = {
    "iris": lambda: datasets.load_iris().data,
    "wine": lambda: standardised(datasets.load_wine().data),
    "diabetes": lambda: datasets.load_diabetes().data,
    "cancer": lambda: standardised(datasets.load_breast_cancer().data),
    "digits": lambda: datasets.load_digits().data,
}
FILES: dict[str, Callable[[Path], Rows]] = {
    "adult": adult,
    "ecg5000": ecg5000,
    "olivetti": olivetti,
    "cifar10": cifar10,
    "pbmc68k_reduced": counts,
    "worm_neuron": counts,
}
TABLES = (
    "2_annthyroid",
    "6_cardio",
    "12_fault",
    "14_glass",
    "18_Ionosphere",
    "21_Lymphography",
    "28_pendigits",
    "29_Pima",
    "39_vertebral",
    "40_vowels",
    "41_Waveform",
)


def load(name: str) -> Rows | None:
    """The rows of a set, or None if its file is missing."""
    if name in SHIPPED:
        return SHIPPED[name]()
    folder = data_folder(name if name in FILES else "adbench")
    if folder is None:
        return None
    rows = FILES[name](folder) if name in FILES else np.load(folder / f"{name}.npz")["X"]
    rows = rows if name in FILES else standardised(rows)
    return rows[np.random.default_rng(0).permutation(len(rows))[:MOST_ROWS]]


def divided(rows: Rows, split: int = 0) -> tuple[Rows, Rows]:
    """Training rows, and a fifth of the rows for testing."""
    order = np.random.default_rng(1 + split).permutation(len(rows))
    return rows[order[len(rows) // 5 :]], rows[order[: len(rows) // 5]]


def error_of_pca(n_components: int, train: Rows, test: Rows) -> float:
    """Mean squared error on test rows of scikit-learn's PCA of the training rows."""
    pca = PCA(n_components).fit(train)
    return float(((test - pca.inverse_transform(pca.transform(test))) ** 2).mean())


def compare(
    name: str, rows: Rows, n_components: int, settings: dict[str, Any], split: int
) -> dict[str, Any]:
    """One line of the table."""
    from isthmus import Autoencoder

    train, test = divided(rows, split)
    theirs = error_of_pca(n_components, train, test)
    began = time.perf_counter()
    model = Autoencoder(n_components, random_state=0, **settings).fit(train)
    seconds = time.perf_counter() - began
    ours = float(((test - model.reconstruct(test)) ** 2).mean())
    return {
        "set": name,
        "rows": len(rows),
        "features": rows.shape[1],
        "components": n_components,
        "pca": theirs,
        "isthmus": ours,
        "ratio": ours / theirs,
        "best epoch": model.best_epoch_,
        "seconds": seconds,
    }


def chosen_settings(chosen: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line changes from their defaults."""
    from isthmus.kinds import Multilayer
    from isthmus.optim import OPTIMIZERS

    settings: dict[str, Any] = {}
    if chosen.optimizer is not None:
        pairs = (setting.split("=") for setting in chosen.settings.split(",") if setting)
        rates = {key: json.loads(value) for key, value in pairs}
        settings["optimizer"] = OPTIMIZERS[chosen.optimizer](**rates)
    if chosen.output is not None:
        settings["kind"] = Multilayer(output=chosen.output)  # all sets here are tables
    return settings


def main() -> int:
    """Run every set at every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default=",".join([*SHIPPED, *FILES, *TABLES]))
    parser.add_argument("--components", default="2,8,32")
    parser.add_argument("--optimizer")
    parser.add_argument("--with", dest="settings", default="", metavar="NAME=VALUE,...")
    parser.add_argument("--output", choices=("linear", "bounded"))
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    settings = chosen_settings(chosen)
    results = []
    for name in chosen.sets.split(","):
        rows = load(name)
        if rows is None:
            print(
                f"{name}: not found; set ISTHMUS_DATA to the folder of data sets", file=sys.stderr
            )
            continue
        sizes = [size for size in map(int, chosen.components.split(",")) if size < min(rows.shape)]
        for size, split in itertools.product(sizes, range(chosen.splits)):
            results.append(compare(name, rows, size, settings, split))
            print(results[-1], file=sys.stderr, flush=True)
    print(table(results))
    ratios = np.array([result["ratio"] for result in results])
    total = sum(result["seconds"] for result in results)
    print(f"\ngeometric mean of ratios {np.exp(np.log(ratios).mean()):.3f}, ", end="")
    print(
        f"worst {ratios.max():.4f}, {total:.0f} s in all, {chosen.optimizer or 'default'} optimizer"
    )
    if not chosen.no_record:
        record("defaults", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
