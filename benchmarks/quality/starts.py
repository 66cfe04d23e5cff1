"""Which initial weights are best for a network without a linear path?

    python benchmarks/quality/starts.py [--sets digits,...] [--starts random,lsuv,autoencoder]
        [--depths 2,5] [--activations silu,relu,tanh,sigmoid] [--no-record]

Plain networks (`skip=False`) with two and five hidden layers around a code of 4, and four
activations. Everything else is default, and codes are not refined. Error: mean squared, of the test
rows (a fifth), relative to PCA. The table shows geometric means over the sets.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from common import record, table
from defaults import Rows, divided, error_of_pca, load

N_COMPONENTS = 4
SETS = "digits,ecg5000,6_cardio,12_fault,40_vowels"
DEPTHS = {2: (64, 32), 5: (64, 48, 32, 24, 16)}
ACTIVATIONS = ("silu", "relu", "tanh", "sigmoid")


def measure(rows: Rows, start: str, depth: int, activation: str) -> dict[str, float]:
    """The error of test rows relative to PCA, and the seconds of the fit."""
    from isthmus import Autoencoder, kinds

    train, test = divided(rows)
    theirs = error_of_pca(N_COMPONENTS, train, test)
    kind = kinds.Multilayer(hidden=DEPTHS[depth], activation=activation, skip=False)
    began = time.perf_counter()
    model = Autoencoder(
        N_COMPONENTS, kind=kind, pretraining=start, transform_max_iter=0, random_state=0
    ).fit(train)
    seconds = time.perf_counter() - began
    ours = float(((test - model.reconstruct(test)) ** 2).mean())
    return {"ratio": ours / theirs, "seconds": seconds}


def main() -> int:
    """Run every start on every set and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--starts", default="random,lsuv,autoencoder")
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    parser.add_argument("--activations", default=",".join(ACTIVATIONS))
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    loaded = {name: load(name) for name in chosen.sets.split(",")}
    sets = {name: rows for name, rows in loaded.items() if rows is not None}
    for name in loaded.keys() - sets.keys():
        print(f"{name}: not found; set ISTHMUS_DATA", file=sys.stderr)
    results: list[dict[str, Any]] = []
    depths = map(int, chosen.depths.split(","))
    combinations = itertools.product(
        depths, chosen.activations.split(","), chosen.starts.split(",")
    )
    for depth, activation, start in combinations:
        figures = [measure(rows, start, depth, activation) for rows in sets.values()]
        results.append(
            {
                "hidden layers": depth,
                "activation": activation,
                "start": start,
                "mean ratio": float(np.exp(np.mean([np.log(f["ratio"]) for f in figures]))),
                "worst": max(f["ratio"] for f in figures),
                "seconds": sum(f["seconds"] for f in figures),
            }
        )
        print(results[-1], file=sys.stderr, flush=True)
    print(table(results))
    if not chosen.no_record:
        record("starts", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
