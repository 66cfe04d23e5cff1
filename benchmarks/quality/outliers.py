"""How well are outliers detected, compared with PyOD's detectors?

    pip install pyod tqdm
    python benchmarks/quality/outliers.py [--sets 6_cardio,...] [--seeds 5] [--keep LINES]
        [--no-record]

The sets of ADBench (Han et al. 2022) in both protocols. "clean": detectors learn from half of the
normal rows and score the other half and all anomalies. "mixed": they learn from all rows, including
anomalies, and score the same rows. All detectors have the same rows, one process and one thread.
Rivals have PyOD's defaults, on columns standardised by the training rows. isthmus has its own
defaults on unchanged rows. The figures published by Livernoche et al. (2023) are printed too.
"""

import argparse
import csv
import itertools
import json
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table

Scorer = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
PROTOCOLS = ("clean", "mixed")
PUBLISHED = {"clean": "published_aucroc_semi.csv", "mixed": "published_aucroc_unsup.csv"}
METHODS = ("isthmus", "AutoEncoder", "IForest", "ECOD", "PCA", "KNN")


def available_methods() -> tuple[str, ...]:
    """All methods, or isthmus alone if PyOD is not installed."""
    return METHODS if find_spec("pyod") else METHODS[:1]


def ours(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The scores of an OutlierDetector with its defaults."""
    from isthmus import OutlierDetector

    return -OutlierDetector(random_state=seed).fit(train).score_samples(test)


def rival(name: str) -> Scorer:
    """A function that scores rows by a detector of PyOD on standardised columns."""

    def score(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        from pyod.models import auto_encoder, ecod, iforest, knn, pca

        modules = (auto_encoder, ecod, iforest, knn, pca)
        kind = next(getattr(module, name) for module in modules if hasattr(module, name))
        settings = {"verbose": 0} if name == "AutoEncoder" else {}
        if name in ("AutoEncoder", "IForest", "PCA"):
            settings["random_state"] = seed
        spread = train.std(axis=0)
        varies = spread > 0
        train, test = (
            ((rows - train.mean(axis=0)) / np.where(varies, spread, 1))[:, varies]
            for rows in (train, test)
        )
        scores = kind(**settings).fit(train).decision_function(test)
        # If columns are collinear, PCA divides by variances of zero.
        return np.nan_to_num(scores, nan=1e30, posinf=1e30)

    return score


def split(
    rows: np.ndarray, labels: np.ndarray, protocol: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows, and the labels of the latter (1 for anomalies)."""
    if protocol == "mixed":
        return rows, rows, labels
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(labels == 0))
    chosen, others = np.array_split(normal, 2)
    tested = np.concatenate([others, np.flatnonzero(labels)])
    return rows[chosen], rows[tested], labels[tested]


def measure(path: Path, protocol: str, seed: int) -> dict[str, Any]:
    """One line: AUROC and average precision in percent, and seconds, of each method."""
    with np.load(path) as file:
        rows, labels = file["X"].astype(np.float64), file["y"].astype(int)
    train, test, truth = split(rows, labels, protocol, seed)
    line: dict[str, Any] = {"set": path.stem, "protocol": protocol, "seed": seed}
    for name in available_methods():
        began = time.perf_counter()
        scores = (ours if name == "isthmus" else rival(name))(train, test, seed)
        seconds = time.perf_counter() - began
        figures = roc_auc_score(truth, scores), average_precision_score(truth, scores)
        line[name] = [round(100 * figure, 2) for figure in figures] + [round(seconds, 2)]
    return line


def earlier_lines(path: Path | None) -> list[dict[str, Any]]:
    """The lines of an earlier, interrupted run."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measured(paths: list[Path], seeds: int, keep: Path | None) -> list[dict[str, Any]]:
    """All lines: those of an earlier run, and the measurements that it lacks."""
    lines = earlier_lines(keep)
    done = {(line["set"], line["protocol"], line["seed"]) for line in lines}
    for seed, path, protocol in itertools.product(range(seeds), paths, PROTOCOLS):
        if (path.stem, protocol, seed) in done:
            continue
        lines.append(measure(path, protocol, seed))
        print(lines[-1], file=sys.stderr, flush=True)
        if keep is not None:
            with keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    return lines


def summary(lines: list[dict[str, Any]], protocol: str) -> list[dict[str, Any]]:
    """Means over sets of means over seeds; seconds are those of one seed on all sets."""
    chosen = [line for line in lines if line["protocol"] == protocol]
    sets = sorted({line["set"] for line in chosen})
    rows = []
    for name in available_methods():
        means = [
            np.mean([line[name] for line in chosen if line["set"] == name_of_set], axis=0)
            for name_of_set in sets
        ]
        auroc, precision, _ = np.mean(means, axis=0)
        seconds = np.sum(means, axis=0)[2]
        rows.append({"method": name, "AUROC": auroc, "AP": precision, "seconds": seconds})
    return rows


def published(folder: Path, protocol: str, sets: set[str]) -> str:
    """The published mean AUROC of other methods on the same sets, highest first."""
    with (folder / PUBLISHED[protocol]).open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["dataset"] in sets]
    names = [name for name in lines[0] if name.endswith("_mean")]
    means = {name: np.mean([float(line[name]) for line in lines]) for name in names}
    order = sorted(means, key=lambda name: -means[name])
    return ", ".join(f"{name.removesuffix('_mean')} {means[name]:.2f}" for name in order)


def main() -> int:
    """Measure every set in both protocols and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default="")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--keep", type=Path, help="file of results, from which an interrupted run continues"
    )
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    folder = data_folder("adbench")
    if folder is None:
        print("adbench: not found; set ISTHMUS_DATA", file=sys.stderr)
        return 2
    if not find_spec("pyod"):
        print("pyod is not installed; its detectors are skipped", file=sys.stderr)
    torch.set_num_threads(1)
    selected = set(filter(None, chosen.sets.split(",")))
    paths = [path for path in sorted(folder.glob("*.npz")) if not selected or path.stem in selected]
    lines = measured(paths, chosen.seeds, chosen.keep)
    results = []
    for protocol in PROTOCOLS:
        rows = summary(lines, protocol)
        print(f"\n{protocol}\n\n{table(rows)}\n")
        print("published:", published(folder, protocol, {line["set"] for line in lines}))
        results += [{"protocol": protocol, "seeds": chosen.seeds, **row} for row in rows]
    if not chosen.no_record:
        record("outliers", results + lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
