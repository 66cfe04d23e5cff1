"""Which rows of a table are outliers, and why?

    python examples/anomaly_hunt.py [table.csv] [--rows 2000]

A detector is fitted on a table that contains outliers. The script prints the threshold with its
guarantee, and the rows of the highest scores with their reasons. Then it saves and loads the
detector. In ten rows one number has been multiplied by ten, a misplaced decimal point, so that
detections can be counted. The table is Breast Cancer Wisconsin (UCI,
https://doi.org/10.24432/C5DW2B; scikit-learn includes it): benign tumours and twenty malignant
ones, which are real outliers with known labels. You can give your own table instead, a CSV file
with a header and any mix of numbers and text. Needs pandas.
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

MALIGNANT, SLIPS, SHOWN = 20, 10, 12
NORMAL, REAL, PLANTED = "", "malignant", "slip"


def read(path: Path | None, max_rows: int) -> tuple[pd.DataFrame, pd.Series]:
    """At most `max_rows` rows, and the label of each."""
    if path is not None:
        rows = pd.read_csv(path, skipinitialspace=True)
        rows = rows.sample(min(max_rows, len(rows)), random_state=0).reset_index(drop=True)
        return rows, pd.Series(NORMAL, rows.index)
    rows, benign = load_breast_cancer(return_X_y=True, as_frame=True)
    outliers = rows[benign == 0].sample(MALIGNANT, random_state=0)
    normal = rows[benign == 1].head(max(max_rows - MALIGNANT, 2))
    labels = [NORMAL] * len(normal) + [REAL] * MALIGNANT
    return pd.concat([normal, outliers], ignore_index=True), pd.Series(labels)


def plant(rows: pd.DataFrame, labels: pd.Series) -> dict[int, str]:
    """Multiply one number by ten in each of ten normal rows; the changed columns by row."""
    rng = np.random.default_rng(0)
    changed: dict[int, str] = {}
    for row in rng.permutation(labels.index[labels == NORMAL])[:SLIPS]:
        numbers = rows.loc[row].drop(rows.select_dtypes(exclude="number").columns).dropna()
        column = str(rng.choice(numbers.index[numbers != 0]))
        rows.loc[row, column] *= 10
        labels[row], changed[int(row)] = PLANTED, column
    return changed


def print_highest_scores(detector: OutlierDetector, rows: pd.DataFrame, labels: pd.Series) -> None:
    """Print the twelve rows of the highest scores, and the columns that contribute most."""
    highest = np.argsort(-detector.decision_scores_)[:SHOWN]
    print("\n  row    score  label      reasons")
    for row, reasons in zip(
        highest, detector.explain(rows.iloc[highest], n_reasons=2), strict=True
    ):
        text = "; ".join(map(str, reasons))
        print(f"{row:5}{detector.decision_scores_[row]:9.1f}  {labels[row]:9}  {text}")


def print_thresholds(detector: OutlierDetector, labels: pd.Series) -> None:
    """Print the number of outliers, and how many are true ones, for several thresholds."""
    present = [label for label in (REAL, PLANTED) if (labels == label).any()]
    header = "".join(f"{label:>12}" for label in present)
    print(f"\n{'threshold from':24}{'outliers':>9}{'precision':>12}{header}")
    for settings in (
        {"false_alarm_rate": 0.2},
        {"false_alarm_rate": 0.05},
        {"contamination": 0.05},
    ):
        outliers = detector.set_threshold(**settings).labels_ == 1
        name = ", ".join(f"{key} {value}" for key, value in settings.items())
        counts = [
            f"{(outliers & (labels == label)).sum()} of {(labels == label).sum()}"
            for label in present
        ]
        precision = (labels[outliers] != NORMAL).mean()
        cells = "".join(f"{count:>12}" for count in counts)
        print(f"{name:24}{outliers.sum():9}{precision:12.0%}{cells}")


def main(argv: Sequence[str] | None = None) -> int:
    """Plant outliers, fit, print, change the threshold, save and load."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, help="a CSV file with a header")
    parser.add_argument("--rows", type=int, default=2000, help="maximum number of rows")
    arguments = parser.parse_args(argv)

    rows, labels = read(arguments.table, arguments.rows)
    changed = plant(rows, labels)
    detector = OutlierDetector(random_state=0).fit(rows)
    print(f"{len(rows)} rows of {rows.shape[1]} columns")
    print(f"Rows with a score above {detector.threshold_:.2f} are outliers:")
    print(detector.threshold_statement_)
    print_highest_scores(detector, rows, labels)
    print_thresholds(detector, labels)
    first = [reasons[0].column for reasons in detector.explain(rows.iloc[list(changed)])]
    correct = sum(map(str.__eq__, first, changed.values()))
    print(f"\nThe first reason names the changed column in {correct} of {len(changed)} rows.")
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "detector")
        loaded = load(Path(folder) / "detector")
        assert isinstance(loaded, OutlierDetector)
        same = np.array_equal(loaded.predict(rows), detector.predict(rows))
    print(
        f"The saved detector predicts {'the same for every row' if same else 'DIFFERENT labels'}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
