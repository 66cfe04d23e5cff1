"""32 small fits for a search, all at once, beside 32 fits of scikit-learn's MLPRegressor.

    python benchmarks/many_fits.py [--fits 32] [--rows 20000] [--epochs 10] [--repeats 2]
        [--device cuda]

64 numbers in 32, batches of 64, Adam, a learning rate of its own for each fit; interleaved. This
library's fits divide, judge and end as any fit does.
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone

import rivals
import speed
from common import machine, record, table
from isthmus import Autoencoder, fit_together, kinds, optim

SIZE = speed.SIZE_FACTORS["64-32"]


def ours(rate: float, epochs: int, device: str) -> Autoencoder:
    """One fit of this library."""
    return Autoencoder(
        32,
        kind=kinds.Vanilla(),
        optimizer=optim.Adam(lr=rate, schedule="constant"),
        pretraining="random",
        batch_size=64,
        max_epochs=epochs,
        early_stopping=False,
        transform_max_iter=0,
        random_state=0,
        device=device,
        precision="float32",
    )


def run(
    name: str, rates: list[float], epochs: int, rows: rivals.Rows, device: str
) -> tuple[float, float]:
    """Seconds of all fits, and the least error of any."""
    began = time.perf_counter()
    if name == "isthmus, together":
        fits: Any = fit_together([ours(rate, epochs, device) for rate in rates], rows)
    elif name == "isthmus, one by one":
        fits = [ours(rate, epochs, device).fit(rows) for rate in rates]
    else:
        jobs = 2 if name.endswith("two processes") else 1
        one = delayed(lambda model: clone(model).fit(rows, rows))
        fits = Parallel(n_jobs=jobs)(one(rivals.perceptron(SIZE, epochs, rate)) for rate in rates)
    seconds = time.perf_counter() - began
    rebuild = [fit.reconstruct if hasattr(fit, "reconstruct") else fit.predict for fit in fits]
    return seconds, min(float(((one(rows[:4096]) - rows[:4096]) ** 2).mean()) for one in rebuild)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("fits", 32), ("rows", 20_000), ("epochs", 10), ("repeats", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-record", action="store_true")
    wanted = parser.parse_args()
    rows = speed.rows_of(SIZE._replace(rows=wanted.rows))
    rates = np.geomspace(1e-4, 1e-2, wanted.fits).tolist()
    names = ["isthmus, together", "isthmus, one by one", "scikit-learn"]
    names.append("scikit-learn, two processes")
    run(names[0], rates[:2], 1, rows, wanted.device)  # what is imported at first use
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(wanted.repeats):
        for name in names:
            found[name].append(run(name, rates, wanted.epochs, rows, wanted.device))
            print(name, found[name][-1], flush=True)
    seconds = {name: statistics.median(run[0] for run in runs) for name, runs in found.items()}
    results = [
        {
            "fits": name,
            "seconds": round(seconds[name], 2),
            "of isthmus, together": round(seconds[name] / seconds[names[0]], 2),
            "least error": round(found[name][0][1], 5),
        }
        for name in names
    ]
    print(machine())
    if not wanted.no_record:
        record("many_fits", results)
    print(table(results))


if __name__ == "__main__":
    main()
