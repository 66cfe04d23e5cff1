"""How near do imputed values come to those that were hidden?

    python benchmarks/imputation.py [--sets adult,penguins,...] [--shares 0.1,0.3] [--no-record]

Numbers of real rows are hidden at random; each method learns from the rows with these gaps and
fills them in. Error: mean squared, of the hidden values alone, over that of scikit-learn's
SimpleImputer (the column's mean). Rivals: IterativeImputer (Bayesian ridge regression of each
column on the others) and KNNImputer, with their defaults. Columns are standardised, for all alike.
"""

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from common import data_folder, record, table
from defaults import Rows, load, standardised

SETS = (
    "adult,penguins,iris,wine,cancer,digits,diabetes,6_cardio,12_fault,29_Pima,40_vowels,"
    "41_Waveform"
)
MOST_ROWS = 3000


def penguins(folder: Path) -> Rows:
    """The four measures of each penguin; the two of which none was measured are left out."""
    with (folder / "penguins.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    return standardised(
        np.array([[float(row[n]) for n in names] for row in rows if row[names[0]] != "NA"])
    )


def rows_of(name: str) -> Rows | None:
    """Complete rows, columns standardised, at most 3000; None where the set is not there."""
    if name != "penguins":
        rows = load(name)
        return None if rows is None else standardised(rows)[:MOST_ROWS]
    folder = data_folder(name)
    return None if folder is None else penguins(folder)


def measure(name: str, rows: Rows, share: float) -> dict[str, Any]:
    """One line of the table: each method's error over SimpleImputer's, and its seconds."""
    from isthmus import Autoencoder

    hidden = np.random.default_rng(0).random(rows.shape) < share
    gappy = np.where(hidden, np.nan, rows)
    methods = {
        "mean": lambda: SimpleImputer().fit_transform(gappy),
        "isthmus": lambda: Autoencoder(random_state=0).fit(gappy).impute(gappy),
        "iterative": lambda: IterativeImputer(random_state=0).fit_transform(gappy),
        "knn": lambda: KNNImputer().fit_transform(gappy),
    }
    line: dict[str, Any] = {"set": name, "hidden": share, "columns": rows.shape[1]}
    for method, fill in methods.items():
        began = time.perf_counter()
        found = fill()
        line[f"{method} s"] = time.perf_counter() - began
        line[method] = float(((found - rows)[hidden] ** 2).mean())
    return line | {m: line[m] / line["mean"] for m in ("isthmus", "iterative", "knn")}


def main() -> int:
    """Measure every set at every share and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--shares", default="0.1,0.3")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    results = []
    for name in chosen.sets.split(","):
        rows = rows_of(name)
        if rows is None:
            print(f"{name}: not found; set ISTHMUS_DATA", file=sys.stderr)
            continue
        for share in map(float, chosen.shares.split(",")):
            results.append(measure(name, rows, share))
            print(results[-1], file=sys.stderr, flush=True)
    print(table(results))
    for method in ("isthmus", "iterative", "knn"):
        ratios = np.log([line[method] for line in results])
        print(
            f"{method}: geometric mean {np.exp(ratios.mean()):.3f} of SimpleImputer's error, "
            f"worst {np.exp(ratios.max()):.3f}"
        )
    if not chosen.no_record:
        record("imputation", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
