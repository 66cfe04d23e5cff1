"""How well are the outliers of a recording detected, compared with PCA on windows?

    python benchmarks/quality/outlier_timesteps.py [--no-record]

omi-1 has 19 metrics of a server: 8640 timesteps without an anomaly for training, and 4320 for
testing, of which 441 are labelled as outliers. Windows of several lengths start half or a quarter
of a length apart. PCA keeps 90 % of the variance of windows of standardised metrics. The score of a
timestep is its squared error, averaged over its windows, for both methods. Each timestep counts by
itself, without an adjustment to whole anomalies. "Itself" trains on the timesteps that it scores,
outliers included.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, roc_auc_score

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table

WINDOWS = ((8, 4), (16, 8), (32, 16), (64, 16))
VARIANCE = 0.9


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training timesteps, test timesteps, and the labels of the latter."""
    train, test = (
        np.loadtxt(folder / f"omi-1_{part}.csv", delimiter=",", skiprows=1)
        for part in ("train", "test")
    )
    return train[:, 1:20], test[:, 1:20], test[:, 20].astype(int)


def pca(train: np.ndarray, test: np.ndarray, length: int, hop: int) -> np.ndarray:
    """The error of each timestep by PCA on windows."""
    from isthmus import data

    spread = train.std(axis=0)
    scaled = [
        (rows - train.mean(axis=0)) / np.where(spread > 0, spread, 1) for rows in (train, test)
    ]
    train_windows, test_windows = (data.windows(rows, length=length, hop=hop) for rows in scaled)
    train_values, test_values = (
        source.read(np.arange(len(source))) for source in (train_windows, test_windows)
    )
    model = PCA(VARIANCE).fit(train_values.reshape(len(train_values), -1))
    flat = test_values.reshape(len(test_values), -1)
    reconstructed = model.inverse_transform(model.transform(flat)).reshape(test_values.shape)
    return np.asarray(test_windows.join((test_values - reconstructed) ** 2)[0].mean(axis=1))


def ours(train: np.ndarray, test: np.ndarray, length: int, hop: int, *, robust: bool) -> np.ndarray:
    """The score of each timestep by OutlierDetector, with defaults except for `robust`."""
    from isthmus import OutlierDetector, data

    detector = OutlierDetector(robust=robust).fit(data.windows(train, length=length, hop=hop))
    return np.asarray(detector.score_timesteps(test))


def main() -> int:
    """Measure every window and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    folder = data_folder("omi-1")
    if folder is None:
        print("omi-1: not found; set ISTHMUS_DATA", file=sys.stderr)
        return 2
    train, test, labels = read(folder)
    results = []
    for length, hop in WINDOWS:
        line: dict[str, Any] = {"window": length, "hop": hop}
        methods = {
            "PCA": lambda n=length, s=hop: pca(train, test, n, s),
            "isthmus": lambda n=length, s=hop: ours(train, test, n, s, robust=True),
            "isthmus, clean": lambda n=length, s=hop: ours(train, test, n, s, robust=False),
            "itself": lambda n=length, s=hop: ours(test, test, n, s, robust=True),
            "itself, clean": lambda n=length, s=hop: ours(test, test, n, s, robust=False),
        }
        for name, score in methods.items():
            began = time.perf_counter()
            scores = score()
            line[f"{name} seconds"] = round(time.perf_counter() - began, 1)
            line[f"{name} AUROC"] = 100 * float(roc_auc_score(labels, scores))
            line[f"{name} AP"] = 100 * float(average_precision_score(labels, scores))
        results.append(line)
        print(line, file=sys.stderr, flush=True)
    print(table(results))
    if not chosen.no_record:
        record("outlier_timesteps", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
