"""What comes back of whole mixed tables, by a likelihood a column, by squares, and by PCA?

    python benchmarks/quality/mixed_tables.py [--sets adult,penguins] [--components 2,4,8] [--no-record]

Adult: 6000 rows of the training file are learned and 3000 of the test file rebuilt; penguins: 70 %
and 30 %. Error: the mean over columns of the library's squared error of standardised features, of
which each column has variance 1 in all, so that 1 knows nothing. PCA has the same features and the
same rows, gaps filled with means. Levels: the share of known words that come back right.
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
from mixed import adult, drawn, penguins, words_of

LEARNED, JUDGED = 6000, 3000


def divided(name: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Rows to learn from and rows to judge by; None where the set is not there."""
    folder = data_folder(name)
    if folder is None:
        return None
    if name == "adult":
        learned, test = drawn(name, LEARNED), adult(folder, "test")
        order = np.random.default_rng(0).permutation(len(test))[:JUDGED]
        assert learned is not None
        return learned, test.iloc[order].reset_index(drop=True)
    frame = penguins(folder)
    order = np.random.default_rng(0).permutation(len(frame))
    parts = np.split(order, [round(0.7 * len(frame))])
    learned, test = (frame.iloc[part].reset_index(drop=True) for part in parts)
    return learned, test


def errors(rows: NDArray[Any], rebuilt: NDArray[Any], sums: Any) -> float:
    """The mean over columns of the mean over what is known of each."""
    return float(np.nanmean(sums((rows - rebuilt) ** 2), axis=0).mean())


def right(rebuilt: pd.DataFrame, truth: pd.DataFrame) -> float:
    """The share of known words that come back right."""
    words = words_of(truth)
    known = truth[words].notna().to_numpy()
    same = rebuilt[words].to_numpy(object) == truth[words].to_numpy(object)
    return float(same[known].mean())


def measure(name: str, learned: pd.DataFrame, test: pd.DataFrame, size: int) -> dict[str, Any]:
    """One line of the table."""
    from isthmus import Autoencoder

    line: dict[str, Any] = {"set": name, "numbers": size}
    for loss in ("auto", "squared"):
        began = time.perf_counter()
        model = Autoencoder(size, loss=loss, random_state=0).fit(learned)
        line[f"{loss} s"] = time.perf_counter() - began
        pairs = list(model.model_.measured_batches(opened(model, test)))
        x, rebuilt = (np.concatenate(part) for part in zip(*pairs, strict=True))
        line[f"{loss} error"] = errors(x, rebuilt, model.preparation_.column_sums)
        line[f"{loss} levels"] = right(model.reconstruct(test), test)
        line[f"{loss} epoch"] = model.best_epoch_
    line |= by_pca(model, learned, test, size)
    return line


def opened(model: Any, frame: pd.DataFrame) -> Any:
    """The prepared rows of a frame, for a fitted model."""
    from isthmus.data import open_source

    return model.model_.open_rows(open_source(frame))


def by_pca(model: Any, learned: pd.DataFrame, test: pd.DataFrame, size: int) -> dict[str, Any]:
    """The same of PCA, on the features of a fitted model's rows."""
    from sklearn.decomposition import PCA

    prepared = model.preparation_
    train, x = (
        np.concatenate(
            [prepared.to_error_units(part) for _, part in opened(model, frame).in_order()]
        )
        for frame in (learned, test)
    )
    mean = np.nanmean(train, axis=0)
    pca = PCA(size).fit(np.where(np.isnan(train), mean, train))
    rebuilt = pca.inverse_transform(pca.transform(np.where(np.isnan(x), mean, x)))
    values = prepared.from_error_units(rebuilt)
    columns = prepared.schema.columns
    back = pd.DataFrame(
        {
            name: np.asarray(column.categories, object)[values[:, at].astype(int)]
            if column.role == "categorical"
            else values[:, at]
            for at, (name, column) in enumerate(zip(learned.columns, columns, strict=True))
        }
    )
    return {"pca error": errors(x, rebuilt, prepared.column_sums), "pca levels": right(back, test)}


def main() -> int:
    """Every set at every size."""
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
