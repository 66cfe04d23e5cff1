"""How well do convolutional and multilayer networks reconstruct signals, compared with PCA?

    python benchmarks/quality/signals.py [--sets ecg5000,gunpoint,mitbih] [--components 2,8,32]
        [--kinds convolutional,multilayer] [--no-record]

Heartbeats (ECG5000: 500 of 140 samples) and motion curves (GunPoint: 200 of 150) are rows, and a
fifth of them is for testing. MIT-BIH record 100 is one recording of 650,000 samples and two leads.
Its first two thirds are for training, in windows of 128 samples that do not overlap. Windows of the
last third are for testing. Code sizes are equal. Error: mean squared, in the units of the signals.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table
from defaults import divided, ecg5000, error_of_pca

Rows = NDArray[np.float64]
WINDOW = HOP = 128


class Task(NamedTuple):
    """A source for the fit, and training and test rows (n, length, channels)."""

    source: Any
    train: Rows
    test: Rows


def rows_of(read: Callable[[Path], Rows]) -> Callable[[Path], Task]:
    """A function that makes a task of complete rows (n, time)."""

    def task(folder: Path) -> Task:
        train, test = divided(read(folder)[:, :, None])
        return Task(_signal_source(train), train, test)

    return task


def gunpoint(folder: Path) -> Rows:
    """Both parts of the archive: 50 and 150 curves of 150 samples."""
    paths = (folder / "GunPoint_TRAIN.ts", folder / "GunPoint_TEST.ts")
    lines = [line.strip() for path in paths for line in path.read_text().splitlines()]
    curves = [line.rsplit(":", 1)[0] for line in lines if line and line[0] not in "#@"]
    return np.array([curve.split(",") for curve in curves], float)


def mitbih(folder: Path) -> Task:
    """Windows of record 100 in millivolts, (650000, 2)."""
    from isthmus.data import windows

    packed = np.fromfile(folder / "100.dat", np.uint8).reshape(-1, 3).astype(np.int32)
    first, second = packed[:, 0] | (packed[:, 1] & 15) << 8, packed[:, 2] | (packed[:, 1] >> 4) << 8
    recording = (np.stack([first, second], axis=1) - 1024) / 200
    cut = len(recording) * 2 // 3
    train_windows, test_windows = (
        windows(part, length=WINDOW, hop=HOP) for part in (recording[:cut], recording[cut:])
    )
    rows = (source.read(np.arange(len(source))) for source in (train_windows, test_windows))
    return Task(train_windows, *rows)


SETS: dict[str, tuple[str, Callable[[Path], Task]]] = {
    "ecg5000": ("ecg5000", rows_of(ecg5000)),
    "gunpoint": ("gunpoint", rows_of(gunpoint)),
    "mitbih": ("mitbih_100", mitbih),
}


def _signal_source(rows: Rows) -> Any:
    from isthmus.data import array_source

    return array_source(rows, layout="signal")


def compare(name: str, task: Task, n_components: int, kind: str) -> dict[str, Any]:
    """One line of the table."""
    from isthmus import Autoencoder

    flat = [rows.reshape(len(rows), -1) for rows in (task.train, task.test)]
    theirs = error_of_pca(n_components, *flat)
    began = time.perf_counter()
    model = Autoencoder(n_components, kind=kind, random_state=0).fit(task.source)
    seconds = time.perf_counter() - began
    reconstruction = model.reconstruct(
        _signal_source(task.test)
    )  # each window by itself, as by PCA
    ours = float(((task.test - reconstruction) ** 2).mean())
    return {
        "set": name,
        "rows": len(task.train),
        "samples": task.train.shape[1],
        "channels": task.train.shape[2],
        "components": n_components,
        "kind": kind,
        "pca": theirs,
        "isthmus": ours,
        "ratio": ours / theirs,
        "best epoch": model.best_epoch_,
        "seconds": seconds,
    }


def main() -> int:
    """Run every set at every size with every kind and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--components", default="2,8,32")
    parser.add_argument("--kinds", default="convolutional,multilayer")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sizes, kinds = map(int, chosen.components.split(",")), chosen.kinds.split(",")
    settings = list(itertools.product(sizes, kinds))
    results = []
    for name in chosen.sets.split(","):
        folder_name, read = SETS[name]
        folder = data_folder(folder_name)
        if folder is None:
            print(f"{name}: not found; set ISTHMUS_DATA to the data's folder", file=sys.stderr)
            continue
        task = read(folder)
        for size, kind in settings:
            results.append(compare(name, task, size, kind))
            print(results[-1], file=sys.stderr, flush=True)
    print(table(results))
    if not chosen.no_record:
        record("signals", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
