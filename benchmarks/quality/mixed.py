"""Whole mixed tables of real rows, and what fills in their hidden cells."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import make_column_selector
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder

ADULT = [
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
    *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week"),
    *("native-country", "income"),
]
NEIGHBOURS = 20
"""Of KNNImputer: better than its default of 5 on both tables."""


def adult(folder: Path, part: str = "train") -> pd.DataFrame:
    """Six columns of numbers and nine of words, one of them the income."""
    frame = pd.read_csv(
        folder / f"adult-{part}.csv",
        names=ADULT,
        header=None,
        na_values="?",
        skipinitialspace=True,
    )
    frame["income"] = frame["income"].str.rstrip(".")
    return _plain(frame)


def penguins(folder: Path) -> pd.DataFrame:
    """Five columns of numbers, of which one is the year, and three of words."""
    return _plain(pd.read_csv(folder / "penguins.csv"))


TABLES: dict[str, Callable[[Path], pd.DataFrame]] = {"adult": adult, "penguins": penguins}


def drawn(name: str, most: int, seed: int = 0) -> pd.DataFrame | None:
    """At most so many rows of a table, drawn at random; None where it is not there."""
    folder = data_folder(name)
    if folder is None:
        return None
    frame = TABLES[name](folder)
    order = np.random.default_rng(seed).permutation(len(frame))[:most]
    return frame.iloc[order].reset_index(drop=True)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64 and words as objects, with NaN and None for what is missing."""
    words = make_column_selector(dtype_exclude="number")(frame)
    for name in frame.columns:
        if name in words:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
        else:
            frame[name] = frame[name].astype(np.float64)
    return frame


def words_of(frame: pd.DataFrame) -> list[str]:
    """The columns that are no numbers."""
    return [name for name in frame.columns if frame[name].dtype == object]


def with_gaps(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, NDArray[Any]]:
    """The rows with this share of their known cells hidden, and which ones, (n, columns)."""
    drawn = np.random.default_rng([seed, 7]).random(frame.shape) < share
    hidden = drawn & frame.notna().to_numpy()
    gappy = frame.copy()
    for at, name in enumerate(frame.columns):
        nothing = None if frame[name].dtype == object else np.nan
        gappy[name] = frame[name].where(~hidden[:, at], nothing)
    return gappy, hidden


def cell_errors(filled: pd.DataFrame, truth: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Of every cell: squared error of a number, 1 for a wrong word and 0 for the right one."""
    found = {}
    for name in truth.columns:
        if truth[name].dtype == object:
            wrong = filled[name].to_numpy(object) != truth[name].to_numpy(object)
            found[name] = wrong.astype(np.float64)
        else:
            found[name] = (filled[name].to_numpy(np.float64) - truth[name].to_numpy()) ** 2
    return found


class Coding(NamedTuple):
    """A table as numbers alone, and back: numbers standardised, words as indicators or ranks.

    An indicator is 1 / sqrt(2), so that two words are as far apart as numbers one standard
    deviation from each other. The word read back is that of the largest indicator. `full` or not:
    IterativeImputer, given all indicators of a missing word, learns each from the means that stand
    in for the others, which with it add up to a constant, and so leaves all at their means.
    """

    columns: tuple[tuple[str, tuple[float, float] | list[str]], ...]
    ordinal: bool = False
    full: bool = True

    @classmethod
    def of(cls, frame: pd.DataFrame, *, ordinal: bool = False, full: bool = True) -> "Coding":
        """From what is known of the rows."""
        words, columns = words_of(frame), []
        for name in frame.columns:
            if name in words:
                known = frame[name].dropna()
                often = known.mode()[0]
                last = [] if ordinal else [often]
                columns.append((name, [*sorted(set(known) - set(last)), *last]))
            else:
                columns.append((name, (frame[name].mean(), frame[name].std() or 1.0)))
        return cls(tuple(columns), ordinal, full)

    def encode(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """(n, features), NaN where missing."""
        parts = []
        for name, known in self.columns:
            if isinstance(known, tuple):
                parts.append(((frame[name] - known[0]) / known[1]).to_numpy()[:, None])
                continue
            at = frame[name].map({level: i for i, level in enumerate(known)}).to_numpy(float)
            missing = np.isnan(at)
            if self.ordinal:
                parts.append(at[:, None])
                continue
            part = np.eye(len(known))[np.where(missing, 0, at).astype(int)] / np.sqrt(2)
            part[missing] = np.nan
            parts.append(part if self.full else part[:, :-1])
        return np.concatenate(parts, axis=1)

    def decode(self, values: NDArray[np.float64]) -> pd.DataFrame:
        """The table from its (n, features)."""
        found, start = {}, 0
        for name, known in self.columns:
            if isinstance(known, tuple):
                found[name] = pd.Series(values[:, start] * known[1] + known[0])
                start += 1
                continue
            width = 1 if self.ordinal else len(known) - (not self.full)
            part = values[:, start : start + width]
            if not self.full:
                rest = 1 / np.sqrt(2) - part.sum(axis=1, keepdims=True)
                part = np.concatenate([part, rest], axis=1)
            at = np.rint(part[:, 0]) if self.ordinal else part.argmax(axis=1)
            at = np.clip(at, 0, len(known) - 1).astype(int)
            found[name] = pd.Series(np.asarray(known, object)[at])
            start += width
        return pd.DataFrame(found)


def by_columns(gappy: pd.DataFrame) -> pd.DataFrame:
    """SimpleImputer: the mean of numbers, the most frequent word."""
    filled, words = gappy.copy(), words_of(gappy)
    numbers = [name for name in gappy.columns if name not in words]
    filled[numbers] = SimpleImputer().fit_transform(gappy[numbers])
    often = SimpleImputer(strategy="most_frequent", missing_values=None)
    filled[words] = often.fit_transform(gappy[words])
    return filled


def by_numbers(imputer: Any, gappy: pd.DataFrame, **coded: bool) -> pd.DataFrame:
    """An imputer of numbers, on the coded table."""
    coding = Coding.of(gappy, **coded)
    return coding.decode(imputer.fit_transform(coding.encode(gappy)))


def by_isthmus(gappy: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The defaults."""
    from isthmus import Autoencoder

    filled: pd.DataFrame = Autoencoder(random_state=seed).fit(gappy).impute(gappy)
    return filled


def methods(seed: int) -> dict[str, Callable[[pd.DataFrame], pd.DataFrame]]:
    """What fills in a table, by its name; the first is what the others are measured by."""
    return {
        "simple": by_columns,
        "isthmus": lambda gappy: by_isthmus(gappy, seed),
        "iterative": lambda gappy: by_numbers(
            IterativeImputer(random_state=seed), gappy, full=False
        ),
        "iterative, ranks": lambda gappy: by_numbers(
            IterativeImputer(random_state=seed), gappy, ordinal=True
        ),
        "knn": lambda gappy: by_numbers(KNNImputer(n_neighbors=NEIGHBOURS), gappy),
    }


Errors = dict[str, dict[str, NDArray[np.float64]]]
"""The errors of hidden cells by method and column."""


def errors_of(frame: pd.DataFrame, share: float, seed: int) -> tuple[Errors, dict[str, float]]:
    """The errors of the hidden cells, and the seconds of each method."""
    gappy, hidden = with_gaps(frame, share, seed)
    errors: Errors = {}
    seconds = {}
    for method, fill in methods(seed).items():
        began = time.perf_counter()
        every = cell_errors(fill(gappy), frame)
        seconds[method] = time.perf_counter() - began
        errors[method] = {
            name: cells[hidden[:, at]] for at, (name, cells) in enumerate(every.items())
        }
    return errors, seconds
