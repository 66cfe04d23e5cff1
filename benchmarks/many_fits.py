"""Is a search of 32 small concurrent fits faster than 32 fits of scikit-learn's MLPRegressor?

    python benchmarks/many_fits.py [--fits 32] [--rows 20000] [--epochs 10] [--repeats 2]
        [--device cuda] [--no-record]

64 features, a code of 32, batches of 64 and Adam, with a different learning rate for each fit.
Repeats are interleaved. The fits of isthmus split off validation rows as any fit does.
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

SIZE = speed.SIZES["64-32"]


def ours(rate: float, epochs: int, device: str) -> Autoencoder:
    """The autoencoder of one fit."""
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
    """The seconds of all fits together, and the lowest error of any."""
    began = time.perf_counter()
    if name == "isthmus, together":
        fits: Any = fit_together([ours(rate, epochs, device) for rate in rates], rows)
    elif name == "isthmus, one by one":
        fits = [ours(rate, epochs, device).fit(rows) for rate in rates]
    else:
        jobs = 2 if name.endswith("two processes") else 1
        fit = delayed(lambda model: clone(model).fit(rows, rows))
        fits = Parallel(n_jobs=jobs)(fit(rivals.perceptron(SIZE, epochs, rate)) for rate in rates)
    seconds = time.perf_counter() - began
    predictors = [fit.reconstruct if hasattr(fit, "reconstruct") else fit.predict for fit in fits]
    return seconds, min(float(((f(rows[:4096]) - rows[:4096]) ** 2).mean()) for f in predictors)


def main() -> None:
    """Measure, print the table and record the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("fits", 32), ("rows", 20_000), ("epochs", 10), ("repeats", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    rows = speed.rows_of(SIZE._replace(rows=options.rows))
    rates = np.geomspace(1e-4, 1e-2, options.fits).tolist()
    names = ["isthmus, together", "isthmus, one by one", "scikit-learn"]
    names.append("scikit-learn, two processes")
    run(names[0], rates[:2], 1, rows, options.device)  # imports at first use
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            runs[name].append(run(name, rates, options.epochs, rows, options.device))
            print(name, runs[name][-1], flush=True)
    seconds = {name: statistics.median(pair[0] for pair in pairs) for name, pairs in runs.items()}
    results = [
        {
            "fits": name,
            "seconds": round(seconds[name], 2),
            "relative to isthmus, together": round(seconds[name] / seconds[names[0]], 2),
            "lowest error": round(runs[name][0][1], 5),
        }
        for name in names
    ]
    print(machine())
    if not options.no_record:
        record("many_fits", results)
    print(table(results))


if __name__ == "__main__":
    main()
