"""How well are mixed tables reconstructed with one likelihood per column, with squares, and by PCA?

    python benchmarks/quality/mixed_tables.py [--sets adult,penguins] [--components 2,4,8]
        [--no-record]

Adult: 6000 training rows and 3000 rows of its test file. Penguins: 70 % and 30 %. Error: the mean
over columns of the squared error of standardised features. Each column has a total variance of 1,
so the error of a constant is 1. PCA has the same features and rows, with means for missing values.
Categories: the share of categories that are reconstructed exactly.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table
from mixed import adult, categorical_columns, drawn, penguins

TRAINING_ROWS, TEST_ROWS = 6000, 3000


def divided(name: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Training rows and test rows; None if the set is missing."""
    folder = data_folder(name)
    if folder is None:
        return None
    if name == "adult":
        train_rows, test = drawn(name, TRAINING_ROWS), adult(folder, "test")
        order = np.random.default_rng(0).permutation(len(test))[:TEST_ROWS]
        assert train_rows is not None
        return train_rows, test.iloc[order].reset_index(drop=True)
    frame = penguins(folder)
    order = np.random.default_rng(0).permutation(len(frame))
    parts = np.split(order, [round(0.7 * len(frame))])
    train_rows, test = (frame.iloc[part].reset_index(drop=True) for part in parts)
    return train_rows, test


def errors(rows: NDArray[Any], reconstructed: NDArray[Any], sums: Any) -> float:
    """The mean over columns of the mean over each column's observed values."""
    return float(np.nanmean(sums((rows - reconstructed) ** 2), axis=0).mean())


def right(reconstructed: pd.DataFrame, truth: pd.DataFrame) -> float:
    """The share of observed categories that are reconstructed exactly."""
    names = categorical_columns(truth)
    observed = truth[names].notna().to_numpy()
    same = reconstructed[names].to_numpy(object) == truth[names].to_numpy(object)
    return float(same[observed].mean())


def measure(name: str, train_rows: pd.DataFrame, test: pd.DataFrame, size: int) -> dict[str, Any]:
    """One line of the table."""
    from isthmus import Autoencoder

    line: dict[str, Any] = {"set": name, "components": size}
    for loss in ("auto", "squared"):
        began = time.perf_counter()
        model = Autoencoder(size, loss=loss, random_state=0).fit(train_rows)
        line[f"{loss} s"] = time.perf_counter() - began
        pairs = list(model.model_.measured_batches(opened(model, test)))
        x, reconstructed = (np.concatenate(part) for part in zip(*pairs, strict=True))
        line[f"{loss} error"] = errors(x, reconstructed, model.preparation_.column_sums)
        line[f"{loss} categories"] = right(model.reconstruct(test), test)
        line[f"{loss} epoch"] = model.best_epoch_
    line |= by_pca(model, train_rows, test, size)
    return line


def opened(model: Any, frame: pd.DataFrame) -> Any:
    """The prepared rows of a frame, for a fitted model."""
    from isthmus.data import open_source

    return model.model_.open_rows(open_source(frame))


def by_pca(model: Any, train_rows: pd.DataFrame, test: pd.DataFrame, size: int) -> dict[str, Any]:
    """The figures of PCA on the features that a fitted model has prepared."""
    from sklearn.decomposition import PCA

    prepared = model.preparation_
    train, x = (
        np.concatenate(
            [prepared.to_error_units(part) for _, part in opened(model, rows).in_order()]
        )
        for rows in (train_rows, test)
    )
    mean = np.nanmean(train, axis=0)
    pca = PCA(size).fit(np.where(np.isnan(train), mean, train))
    reconstructed = pca.inverse_transform(pca.transform(np.where(np.isnan(x), mean, x)))
    values = prepared.from_error_units(reconstructed)
    columns = prepared.schema.columns
    frame = pd.DataFrame(
        {
            name: np.asarray(column.categories, object)[values[:, i].astype(int)]
            if column.role == "categorical"
            else values[:, i]
            for i, (name, column) in enumerate(zip(train_rows.columns, columns, strict=True))
        }
    )
    return {
        "pca error": errors(x, reconstructed, prepared.column_sums),
        "pca categories": right(frame, test),
    }


def main() -> int:
    """Measure every set at every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default="adult,penguins")
    parser.add_argument("--components", default="2,4,8")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    results = []
    for name in chosen.sets.split(","):
        parts = divided(name)
        if parts is None:
            print(f"{name}: not found; set ISTHMUS_DATA", file=sys.stderr)
            continue
        for size in map(int, chosen.components.split(",")):
            results.append(measure(name, *parts, size))
            print(results[-1], file=sys.stderr, flush=True)
    if results:
        print(table(results))
    if results and not chosen.no_record:
        record("mixed tables", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
