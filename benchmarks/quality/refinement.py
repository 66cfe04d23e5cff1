"""How much do refined codes gain over the encoder's own, and what do they cost?

    python benchmarks/quality/refinement.py [--sets iris,...] [--components 2,8,32] [--no-record]

The sets and the split are those of defaults.py. Each set and size has one fit with defaults, whose
codes are refined in 0 to 8 steps (`transform_max_iter`). Error: mean squared, of test rows,
relative to PCA.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from common import record, table
from defaults import FILES, SHIPPED, TABLES, Rows, divided, error_of_pca, load

STEPS = (0, 1, 2, 4, 8)


def measure(name: str, rows: Rows, n_components: int) -> dict[str, Any]:
    """One line of the table: the error relative to PCA and ms per 1000 rows, by steps."""
    from isthmus import Autoencoder

    train, test = divided(rows)
    theirs = error_of_pca(n_components, train, test)
    model = Autoencoder(n_components, random_state=0, transform_max_iter=max(STEPS)).fit(train)
    line: dict[str, Any] = {"set": name, "components": n_components}
    for steps in STEPS:
        model.set_params(transform_max_iter=steps)
        began = time.perf_counter()
        reconstruction = model.reconstruct(test)
        line[f"ms {steps}"] = 1e6 * (time.perf_counter() - began) / len(test)
        line[f"{steps} steps"] = float(((test - reconstruction) ** 2).mean()) / theirs
    return line


def main() -> int:
    """Measure every set at every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default=",".join([*SHIPPED, *FILES, *TABLES]))
    parser.add_argument("--components", default="2,8,32")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    results = []
    for name in chosen.sets.split(","):
        rows = load(name)
        if rows is None:
            print(f"{name}: not found; set ISTHMUS_DATA", file=sys.stderr)
            continue
        for size in map(int, chosen.components.split(",")):
            if size < min(rows.shape):
                results.append(measure(name, rows, size))
                print(results[-1], file=sys.stderr, flush=True)
    errors = [f"{steps} steps" for steps in STEPS]
    print(table([{key: line[key] for key in ("set", "components", *errors)} for line in results]))
    for steps in STEPS:
        ratios = np.log([line[f"{steps} steps"] for line in results])
        cost = np.median([line[f"ms {steps}"] / line["ms 0"] for line in results])
        print(
            f"{steps} steps: geometric mean {np.exp(ratios.mean()):.4f}, "
            f"worst {np.exp(ratios.max()):.4f}, {cost:.2f} times the time of none"
        )
    if not chosen.no_record:
        record("refinement", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
