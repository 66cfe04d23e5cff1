"""Which rows of a table do not belong, and why?

    python examples/anomaly_hunt.py [table.csv] [--rows 2000]

A detector learns a table in which odd rows hide, says where it draws the line and what that
promises, names the oddest rows with their reasons, is saved and loaded. In ten rows one number has
been multiplied by ten, a slip of the decimal point, so that finding them can be counted. The table
is Breast Cancer Wisconsin (UCI, https://doi.org/10.24432/C5DW2B; scikit-learn brings it): benign
tumours, and among them twenty malignant ones, real odd rows with their truth. Or give a table of
your own, a CSV with a header; any mix of numbers and text. Needs pandas.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from isthmus import OutlierDetector, load

MALIGNANT, SLIPS = 20, 10
USUAL, REAL, PLANTED = "", "malignant", "slip"


def read(path: Path | None, most: int) -> tuple[pd.DataFrame, pd.Series]:
    """At most so many rows, and what each is known to be."""
    if path is not None:
        rows = pd.read_csv(path, skipinitialspace=True)
        rows = rows.sample(min(most, len(rows)), random_state=0).reset_index(drop=True)
        return rows, pd.Series(USUAL, rows.index)
    rows, benign = load_breast_cancer(return_X_y=True, as_frame=True)
    few = rows[benign == 0].sample(MALIGNANT, random_state=0)
    many = rows[benign == 1].head(max(most - MALIGNANT, 2))
    kinds = [USUAL] * len(many) + [REAL] * MALIGNANT
    return pd.concat([many, few], ignore_index=True), pd.Series(kinds)


def plant(rows: pd.DataFrame, kinds: pd.Series) -> dict[int, str]:
    """Move the decimal point in one number of ten usual rows; the columns by their rows."""
    rng = np.random.default_rng(0)
    places: dict[int, str] = {}
    for row in rng.permutation(kinds.index[kinds == USUAL])[:SLIPS]:
        numbers = rows.loc[row].drop(rows.select_dtypes(exclude="number").columns).dropna()
        column = str(rng.choice(numbers.index[numbers != 0]))
        rows.loc[row, column] *= 10
        kinds[row], places[int(row)] = PLANTED, column
    return places


def show_oddest(detector: OutlierDetector, rows: pd.DataFrame, kinds: pd.Series) -> None:
    """The twelve rows of the highest scores, and the columns those come from."""
    oddest = np.argsort(-detector.decision_scores_)[:12]
    print("\n  row    score  truth      reasons")
    for row, reasons in zip(oddest, detector.explain(rows.iloc[oddest], n_reasons=2), strict=True):
        why = "; ".join(map(str, reasons))
        print(f"{row:5}{detector.decision_scores_[row]:9.1f}  {kinds[row]:9}  {why}")


def show_lines(detector: OutlierDetector, kinds: pd.Series) -> None:
    """How many rows are odd, and how many of them truly, as the line moves."""
    found = [kind for kind in (REAL, PLANTED) if (kinds == kind).any()]
    print("\nline drawn by            odd rows   precision" + "".join(f"{k:>12}" for k in found))
    for asked in ({"false_alarm_rate": 0.2}, {"false_alarm_rate": 0.05}, {"contamination": 0.05}):
        odd = detector.set_threshold(**asked).labels_ == 1
        name = ", ".join(f"{key} {value}" for key, value in asked.items())
        shares = [f"{(odd & (kinds == k)).sum()} of {(kinds == k).sum()}" for k in found]
        right = (kinds[odd] != USUAL).mean()
        print(f"{name:24}{odd.sum():9}{right:12.0%}" + "".join(f"{share:>12}" for share in shares))


def main(argv: Sequence[str] | None = None) -> int:
    """Plant, learn, look, move the line, save and load."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, help="a CSV file with a header")
    parser.add_argument("--rows", type=int, default=2000, help="how many rows to take, at most")
    asked = parser.parse_args(argv)

    rows, kinds = read(asked.table, asked.rows)
    places = plant(rows, kinds)
    detector = OutlierDetector(random_state=0).fit(rows)
    print(f"{len(rows)} rows of {rows.shape[1]} columns")
    print(f"A row is odd above a score of {detector.threshold_:.2f}:")
    print(detector.threshold_statement_)
    show_oddest(detector, rows, kinds)
    show_lines(detector, kinds)
    firsts = [reasons[0].column for reasons in detector.explain(rows.iloc[list(places)])]
    named = sum(map(str.__eq__, firsts, places.values()))
    print(f"\nThe first reason names the slip's column in {named} of {len(places)} rows.")
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "detector")
        again = load(Path(folder) / "detector")
        same = np.array_equal(again.predict(rows), detector.predict(rows))
    print(f"Saved and loaded, it {'says the same of every row' if same else 'DIFFERS'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
