"""How well are the odd moments of a recording told from the others, beside PCA on windows?

    python benchmarks/quality/outlier_timesteps.py [--no-record]

omi-1: 19 metrics of a server, 8640 moments without an anomaly to learn from and 4320 to judge, of
which 441 are labelled odd. Windows of several lengths, half or a quarter of one apart. PCA keeps
90 % of the variance of windows of standardised metrics; the score of a moment is its squared error,
averaged over its windows, for both. Moment by moment, with no adjustment to whole anomalies.
"Itself" learns from the very moments that it judges, odd ones among them.
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
    """The moments to learn from, those to judge, and which of these are odd."""
    train, test = (
        np.loadtxt(folder / f"omi-1_{part}.csv", delimiter=",", skiprows=1)
        for part in ("train", "test")
    )
    return train[:, 1:20], test[:, 1:20], test[:, 20].astype(int)


def pca(train: np.ndarray, test: np.ndarray, length: int, hop: int) -> np.ndarray:
    """The error of each moment by PCA on windows."""
    from isthmus import data

    spread = train.std(axis=0)
    scaled = [
        (rows - train.mean(axis=0)) / np.where(spread > 0, spread, 1) for rows in (train, test)
    ]
    learned, judged = (data.windows(rows, length=length, hop=hop) for rows in scaled)
    known, new = (source.read(np.arange(len(source))) for source in (learned, judged))
    model = PCA(VARIANCE).fit(known.reshape(len(known), -1))
    flat = new.reshape(len(new), -1)
    rebuilt = model.inverse_transform(model.transform(flat)).reshape(new.shape)
    return np.asarray(judged.join((new - rebuilt) ** 2)[0].mean(axis=1))


def ours(train: np.ndarray, test: np.ndarray, length: int, hop: int, *, robust: bool) -> np.ndarray:
    """The score of each moment by OutlierDetector with its defaults, but for `robust`."""
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
    train, test, odd = read(folder)
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
            found = score()
            line[f"{name} seconds"] = round(time.perf_counter() - began, 1)
            line[f"{name} AUROC"] = 100 * float(roc_auc_score(odd, found))
            line[f"{name} AP"] = 100 * float(average_precision_score(odd, found))
        results.append(line)
        print(line, file=sys.stderr, flush=True)
    print(table(results))
    if not chosen.no_record:
        record("outlier_timesteps", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
