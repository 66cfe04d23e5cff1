"""Mixed tables, and methods that impute their hidden values."""

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
"""The neighbours of KNNImputer: better than its default of 5 on both tables."""


def adult(folder: Path, part: str = "train") -> pd.DataFrame:
    """Six numeric and nine categorical columns, one of them the income."""
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
    """Five numeric columns, one of them the year, and three categorical ones."""
    return _plain(pd.read_csv(folder / "penguins.csv"))


TABLES: dict[str, Callable[[Path], pd.DataFrame]] = {"adult": adult, "penguins": penguins}


def drawn(name: str, most: int, seed: int = 0) -> pd.DataFrame | None:
    """At most `most` rows of a table, drawn at random; None if it is missing."""
    folder = data_folder(name)
    if folder is None:
        return None
    frame = TABLES[name](folder)
    order = np.random.default_rng(seed).permutation(len(frame))[:most]
    return frame.iloc[order].reset_index(drop=True)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with numbers as float64, categories as objects, and NaN and None if missing."""
    categorical = make_column_selector(dtype_exclude="number")(frame)
    for name in frame.columns:
        if name in categorical:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
        else:
            frame[name] = frame[name].astype(np.float64)
    return frame


def categorical_columns(frame: pd.DataFrame) -> list[str]:
    """The names of the columns that are not numeric."""
    return [name for name in frame.columns if frame[name].dtype == object]


def with_hidden(frame: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, NDArray[Any]]:
    """The rows with a share of their values hidden, and the mask of those (n, columns)."""
    drawn = np.random.default_rng([seed, 7]).random(frame.shape) < share
    hidden = drawn & frame.notna().to_numpy()
    incomplete = frame.copy()
    for position, name in enumerate(frame.columns):
        fill_value = None if frame[name].dtype == object else np.nan
        incomplete[name] = frame[name].where(~hidden[:, position], fill_value)
    return incomplete, hidden


def cell_errors(filled: pd.DataFrame, truth: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """The squared error of each number, and 1 for each wrong category, by column."""
    errors = {}
    for name in truth.columns:
        if truth[name].dtype == object:
            wrong = filled[name].to_numpy(object) != truth[name].to_numpy(object)
            errors[name] = wrong.astype(np.float64)
        else:
            errors[name] = (filled[name].to_numpy(np.float64) - truth[name].to_numpy()) ** 2
    return errors


class Coding(NamedTuple):
    """A table as numbers, and back: standardised numbers, and indicators or ranks of categories.

    An indicator is 1 / sqrt(2), so that two categories are as far apart as numbers that differ by
    one standard deviation. The largest indicator gives the decoded category. `full` keeps all
    indicators. IterativeImputer needs one fewer: all of them add up to a constant, so it would
    leave a missing category at the means.
    """

    columns: tuple[tuple[str, tuple[float, float] | list[str]], ...]
    ordinal: bool = False
    full: bool = True

    @classmethod
    def of(cls, frame: pd.DataFrame, *, ordinal: bool = False, full: bool = True) -> "Coding":
        """The coding of a frame, learned from values that are not missing."""
        categorical, columns = categorical_columns(frame), []
        for name in frame.columns:
            if name in categorical:
                observed = frame[name].dropna()
                most_frequent = observed.mode()[0]
                last = [] if ordinal else [most_frequent]
                columns.append((name, [*sorted(set(observed) - set(last)), *last]))
            else:
                columns.append((name, (frame[name].mean(), frame[name].std() or 1.0)))
        return cls(tuple(columns), ordinal, full)

    def encode(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """(n, features), NaN where missing."""
        parts = []
        for name, coding in self.columns:
            if isinstance(coding, tuple):
                parts.append(((frame[name] - coding[0]) / coding[1]).to_numpy()[:, None])
                continue
            ranks = (
                frame[name].map({category: i for i, category in enumerate(coding)}).to_numpy(float)
            )
            missing = np.isnan(ranks)
            if self.ordinal:
                parts.append(ranks[:, None])
                continue
            part = np.eye(len(coding))[np.where(missing, 0, ranks).astype(int)] / np.sqrt(2)
            part[missing] = np.nan
            parts.append(part if self.full else part[:, :-1])
        return np.concatenate(parts, axis=1)

    def decode(self, values: NDArray[np.float64]) -> pd.DataFrame:
        """The table from its (n, features)."""
        columns, start = {}, 0
        for name, coding in self.columns:
            if isinstance(coding, tuple):
                columns[name] = pd.Series(values[:, start] * coding[1] + coding[0])
                start += 1
                continue
            width = 1 if self.ordinal else len(coding) - (not self.full)
            part = values[:, start : start + width]
            if not self.full:
                rest = 1 / np.sqrt(2) - part.sum(axis=1, keepdims=True)
                part = np.concatenate([part, rest], axis=1)
            ranks = np.rint(part[:, 0]) if self.ordinal else part.argmax(axis=1)
            ranks = np.clip(ranks, 0, len(coding) - 1).astype(int)
            columns[name] = pd.Series(np.asarray(coding, object)[ranks])
            start += width
        return pd.DataFrame(columns)


def by_columns(incomplete: pd.DataFrame) -> pd.DataFrame:
    """The table imputed by SimpleImputer: means, and the most frequent categories."""
    filled, categorical = incomplete.copy(), categorical_columns(incomplete)
    numbers = [name for name in incomplete.columns if name not in categorical]
    filled[numbers] = SimpleImputer().fit_transform(incomplete[numbers])
    most_frequent = SimpleImputer(strategy="most_frequent", missing_values=None)
    filled[categorical] = most_frequent.fit_transform(incomplete[categorical])
    return filled


def by_numbers(imputer: Any, incomplete: pd.DataFrame, **coded: bool) -> pd.DataFrame:
    """The table imputed by a numeric imputer on its coded form."""
    coding = Coding.of(incomplete, **coded)
    return coding.decode(imputer.fit_transform(coding.encode(incomplete)))


def by_isthmus(incomplete: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table imputed by an Autoencoder with its defaults."""
    from isthmus import Autoencoder

    filled: pd.DataFrame = Autoencoder(random_state=seed).fit(incomplete).impute(incomplete)
    return filled


def methods(seed: int) -> dict[str, Callable[[pd.DataFrame], pd.DataFrame]]:
    """The imputation methods by name; errors are relative to the first."""
    return {
        "simple": by_columns,
        "isthmus": lambda incomplete: by_isthmus(incomplete, seed),
        "iterative": lambda incomplete: by_numbers(
            IterativeImputer(random_state=seed), incomplete, full=False
        ),
        "iterative, ranks": lambda incomplete: by_numbers(
            IterativeImputer(random_state=seed), incomplete, ordinal=True
        ),
        "knn": lambda incomplete: by_numbers(KNNImputer(n_neighbors=NEIGHBOURS), incomplete),
    }


Errors = dict[str, dict[str, NDArray[np.float64]]]
"""The errors of hidden values by method and column."""


def errors_of(frame: pd.DataFrame, share: float, seed: int) -> tuple[Errors, dict[str, float]]:
    """The errors of the hidden values, and the seconds of each method."""
    incomplete, hidden = with_hidden(frame, share, seed)
    errors: Errors = {}
    seconds = {}
    for method, fill in methods(seed).items():
        began = time.perf_counter()
        all_errors = cell_errors(fill(incomplete), frame)
        seconds[method] = time.perf_counter() - began
        errors[method] = {
            name: values[hidden[:, i]] for i, (name, values) in enumerate(all_errors.items())
        }
    return errors, seconds
