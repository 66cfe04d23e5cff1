"""A mixed table becomes 8 numbers a row: what can a classifier, or a reader, still do with them?

    python examples/adult_codes.py [adult-train.csv] [--rows 4000] [--components K]

A pandas table of text, numbers and gaps goes into an autoencoder as it is. Its codes go into two
classifiers, beside the raw table and PCA of one-hot columns at the same size, and the rows come
back. The real table is UCI's Adult (https://doi.org/10.24432/C5XW20, the file adult.data). Without
a file it is the penguins beside this script, complete and few. Needs pandas.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from isthmus import Autoencoder

PENGUINS = Path(__file__).parent / "penguins" / "penguins.csv"
ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation"),
    *("relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week"),
    *("native_country", "income"),
)


class OneHotPCA:
    """PCA as one writes it by hand: numbers standardised, a column of 0 and 1 for each level."""

    def __init__(self, rows: pd.DataFrame, n_components: int) -> None:
        self.numbers = [str(name) for name in rows.select_dtypes("number")]
        self.texts = [str(name) for name in rows if name not in self.numbers]
        self.scaler = StandardScaler().fit(rows[self.numbers])
        self.encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
        self.encoder.fit(rows[self.texts])
        self.pca = PCA(n_components, random_state=0).fit(self.one_hot(rows))

    def one_hot(self, rows: pd.DataFrame) -> Any:
        """(n, numbers + levels): the whole table as numbers; a gap is a level too."""
        numbers = self.scaler.transform(rows[self.numbers])
        return np.hstack([numbers, self.encoder.transform(rows[self.texts])])

    def transform(self, rows: pd.DataFrame) -> Any:
        """(n, n_components): the codes."""
        return self.pca.transform(self.one_hot(rows))

    def reconstruct(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The table again; of each text the level that stands out most."""
        back = self.pca.inverse_transform(self.transform(rows))
        numbers, levels = np.split(back, [len(self.numbers)], axis=1)
        rebuilt = pd.DataFrame(self.scaler.inverse_transform(numbers), rows.index, self.numbers)
        rebuilt[self.texts] = self.encoder.inverse_transform(levels)
        return rebuilt


def read(path: Path | None, most: int) -> tuple[pd.DataFrame, pd.Series, str]:
    """At most so many rows, what is to be told of each of them, and that as a question."""
    question, column, level = "Which penguins are male?", "sex", "male"
    if path is None:
        rows = pd.read_csv(PENGUINS).dropna()
    else:
        question, column, level = "Who earns more than $50,000 a year?", "income", ">50K"
        rows = pd.read_csv(path, names=ADULT, na_values="?", skipinitialspace=True)
        del rows["fnlwgt"]  # how many people a row stands for: it says nothing of them
    rows = rows.sample(min(most, len(rows)), random_state=0)
    return rows, rows.pop(column) == level, question


def judged(train: Any, test: Any, truth: pd.Series, answer: pd.Series) -> str:
    """Balanced accuracy and AUROC on new rows, of a linear and of a boosted classifier."""
    line, linear = "", make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    for model in (linear, HistGradientBoostingClassifier(random_state=0)):
        chance = model.fit(train, truth).predict_proba(test)[:, 1]
        accuracy = balanced_accuracy_score(answer, chance > 0.5)
        line += f"{accuracy:12.3f} {roc_auc_score(answer, chance):8.3f}"
    return line


def came_back(rows: pd.DataFrame, rebuilt: pd.DataFrame, spread: pd.Series) -> str:
    """Squared error of the numbers, in variances, and the share of levels that are right."""
    numbers, texts = rows[spread.index], rows.drop(columns=spread.index)
    error = (((numbers - rebuilt[spread.index]) / spread) ** 2).mean().mean()
    right = (texts == rebuilt[texts.columns]).where(texts.notna()).mean().mean()
    return f"{error:16.3f} {right:13.1%}"


def main(argv: Sequence[str] | None = None) -> int:
    """Learn, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, help="UCI's adult.data, or a copy of it")
    parser.add_argument("--rows", type=int, default=4000, help="how many rows to take, at most")
    parser.add_argument("--components", type=int, help="numbers in a code; 8, of penguins 3")
    asked = parser.parse_args(argv)
    rows, truth, question = read(asked.table, asked.rows)
    train, test, known, sought = train_test_split(rows, truth, stratify=truth, random_state=0)
    size = asked.components or (8 if asked.table else 3)
    ae, pca = Autoencoder(size, random_state=0).fit(train), OneHotPCA(train, size)
    print(
        f"{question} {truth.mean():.0%}. {len(train)} rows to learn from, {len(test)} to judge by;"
    )
    print(f"{len(pca.numbers)} columns of numbers, {len(pca.texts)} of text with", end=" ")
    print(f"{train[pca.texts].nunique().sum()} levels, {train.isna().sum().sum()} gaps.")

    print(f"\n{'':14} numbers   logistic regression    gradient boosting")
    print(f"{'learned from':14}   a row    balanced    AUROC    balanced    AUROC")
    ways = {"raw table": pca.one_hot, "PCA": pca.transform, "autoencoder": ae.transform}
    for name, code in ways.items():
        seen, new = code(train), code(test)
        print(f"{name:14}{seen.shape[1]:8}{judged(seen, new, known, sought)}")
    print(f"\n{'rebuilt by':14}error of numbers  levels right")
    usual = train.mode().iloc[0].to_dict() | train[pca.numbers].mean().to_dict()
    back = {"mean, mode": test.assign(**usual), "PCA": pca.reconstruct(test)}
    for name, rebuilt in (back | {"autoencoder": ae.reconstruct(test)}).items():
        print(f"{name:14}{came_back(test, rebuilt, pd.Series(pca.scaler.scale_, pca.numbers))}")
    return 0


if __name__ == "__main__":
    # A level that is in none of the rows to learn from is taken as missing, by PCA too.
    warnings.filterwarnings("ignore", message=".*none that the model knows")
    sys.exit(main())
