"""How close do imputed values come to the values that were hidden?

    python benchmarks/quality/imputation.py [--sets adult,penguins,...] [--shares 0.1,0.3]
        [--no-record]
    python benchmarks/quality/imputation.py --tables adult,penguins [--rows 3000] [--seeds 2]

Values of numeric rows are hidden at random. Each method learns from the rows with these missing
values and imputes them. Error: mean squared, of the hidden values alone, relative to scikit-learn's
SimpleImputer (the column's mean). Rivals: IterativeImputer (Bayesian ridge regression of each
column on the others) and KNNImputer, with their defaults. Columns are standardised for all.

With --tables, values of every column of mixed tables are hidden, categorical ones too (mixed.py).
Numbers have the squared error relative to SimpleImputer (their mean). Categories have the share of
wrong ones relative to SimpleImputer (the most frequent). KNNImputer gets categories as indicators,
and the largest one is read back. IterativeImputer gets indicators without that of the most frequent
category, and in a second run the alphabetical ranks.
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

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table
from defaults import Rows, load, standardised
from mixed import Errors, categorical_columns, drawn, errors_of

SETS = (
    "adult,penguins,iris,wine,cancer,digits,diabetes,6_cardio,12_fault,29_Pima,40_vowels,"
    "41_Waveform"
)
MOST_ROWS = 3000


def penguins(folder: Path) -> Rows:
    """The four measures of each penguin, without the two that have no measures."""
    with (folder / "penguins.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    return standardised(
        np.array([[float(row[n]) for n in names] for row in rows if row[names[0]] != "NA"])
    )


def rows_of(name: str) -> Rows | None:
    """At most 3000 complete rows with standardised columns; None if the set is missing."""
    if name != "penguins":
        rows = load(name)
        return None if rows is None else standardised(rows)[:MOST_ROWS]
    folder = data_folder(name)
    return None if folder is None else penguins(folder)


def measure(name: str, rows: Rows, share: float) -> dict[str, Any]:
    """One line of the table: the relative error and the seconds of each method."""
    from isthmus import Autoencoder

    hidden = np.random.default_rng(0).random(rows.shape) < share
    incomplete = np.where(hidden, np.nan, rows)
    methods = {
        "mean": lambda: SimpleImputer().fit_transform(incomplete),
        "isthmus": lambda: Autoencoder(random_state=0).fit(incomplete).impute(incomplete),
        "iterative": lambda: IterativeImputer(random_state=0).fit_transform(incomplete),
        "knn": lambda: KNNImputer().fit_transform(incomplete),
    }
    line: dict[str, Any] = {"set": name, "hidden": share, "columns": rows.shape[1]}
    for method, fill in methods.items():
        began = time.perf_counter()
        filled = fill()
        line[f"{method} s"] = time.perf_counter() - began
        line[method] = float(((filled - rows)[hidden] ** 2).mean())
    return line | {m: line[m] / line["mean"] for m in ("isthmus", "iterative", "knn")}


def measure_table(name: str, share: float, most: int, seeds: int) -> list[dict[str, Any]]:
    """A line per column, one of all numbers and one of all categories, over all seeds."""
    frame = drawn(name, most)
    if frame is None:
        print(f"{name}: not found; set ISTHMUS_DATA", file=sys.stderr)
        return []
    runs = [errors_of(frame, share, seed) for seed in range(seeds)]
    joined = {
        method: {
            column: np.concatenate([errors[method][column] for errors, _ in runs])
            for column in frame.columns
        }
        for method in runs[0][0]
    }
    categorical = categorical_columns(frame)
    numbers = [column for column in frame.columns if column not in categorical]
    head = {"set": name, "rows": len(frame), "hidden": share}
    lines = [head | _of_column(joined, column, column in categorical) for column in frame.columns]
    both = [{"column": "all numbers", "cells": sum(len(joined["simple"][c]) for c in numbers)}]
    both += [
        {"column": "all categories", "cells": sum(len(joined["simple"][c]) for c in categorical)}
    ]
    for method in (method for method in joined if method != "simple"):
        of_numbers = [line[method] for line in lines if line["column"] in numbers]
        both[0][method] = float(np.exp(np.log(of_numbers).mean()))
        wrong, theirs = (sum(joined[m][c].sum() for c in categorical) for m in (method, "simple"))
        both[1][method] = float(wrong / theirs)
        both[0][f"{method} s"] = sum(seconds[method] for _, seconds in runs) / seeds
        both[1][f"{method} s"] = both[0][f"{method} s"]
    simple = sum(joined["simple"][c].sum() for c in categorical) / both[1]["cells"]
    both[0] |= {"simple": "", "z": ""}
    both[1] |= {"simple": float(simple), "z": ""}
    return lines + [head | line for line in both]


def _of_column(errors: Errors, column: str, is_categorical: bool) -> dict[str, Any]:
    """The relative error of each method, and how many standard errors isthmus is above."""
    simple = errors["simple"][column]
    line: dict[str, Any] = {
        "column": column,
        "cells": len(simple),
        "simple": float(simple.mean()) if is_categorical else float(np.sqrt(simple.mean())),
    }
    for method in (method for method in errors if method != "simple"):
        line[method] = float(errors[method][column].sum() / simple.sum())
    more = errors["isthmus"][column] - simple
    spread = more.std() / np.sqrt(len(more))
    return line | {"z": float(more.mean() / spread) if spread > 0 else 0.0}


def main_tables(chosen: argparse.Namespace) -> int:
    """Measure mixed tables and print a table per set and share."""
    results = []
    for name in chosen.tables.split(","):
        for share in map(float, chosen.shares.split(",")):
            lines = measure_table(name, share, chosen.rows, chosen.seeds)
            if lines:
                print(table([{k: v for k, v in x.items() if k[-2:] != " s"} for x in lines]))
                seconds = {k: round(v, 1) for k, v in lines[-1].items() if k[-2:] == " s"}
                print(f"seconds: {seconds}\n", flush=True)
            results += lines
    if results and not chosen.no_record:
        record("imputation of mixed tables", results)
    return 0


def main() -> int:
    """Measure every set at every share and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default=SETS)
    parser.add_argument("--shares", default="0.1,0.3")
    parser.add_argument("--tables", help="mixed tables instead: adult,penguins")
    parser.add_argument("--rows", type=int, default=MOST_ROWS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    if chosen.tables is not None:
        return main_tables(chosen)
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
