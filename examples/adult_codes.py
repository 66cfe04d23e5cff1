"""A mixed table becomes 8 numbers per row: what can a classifier, or a reader, still do with them?

    python examples/adult_codes.py [adult-train.csv] [--rows 4000] [--components K]

An autoencoder takes a pandas table of text, numbers and missing values as it is. Its codes are used
by two classifiers and compared with the raw table and with PCA of one-hot columns at the same size.
Then the rows are reconstructed. The real table is UCI's Adult (https://doi.org/10.24432/C5XW20, the
file adult.data). Without a file, the script takes the small table of penguins in its folder. Needs
pandas.
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
    """PCA of a mixed table: standardized numbers, and one-hot columns for text."""

    def __init__(self, rows: pd.DataFrame, n_components: int) -> None:
        self.numeric = [str(name) for name in rows.select_dtypes("number")]
        self.text = [str(name) for name in rows if name not in self.numeric]
        self.scaler = StandardScaler().fit(rows[self.numeric])
        self.encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
        self.encoder.fit(rows[self.text])
        self.pca = PCA(n_components, random_state=0).fit(self.one_hot(rows))

    def one_hot(self, rows: pd.DataFrame) -> Any:
        """(n, numbers + categories): the table as numbers; missing text is a category too."""
        numbers = self.scaler.transform(rows[self.numeric])
        return np.hstack([numbers, self.encoder.transform(rows[self.text])])

    def transform(self, rows: pd.DataFrame) -> Any:
        """(n, n_components): the codes."""
        return self.pca.transform(self.one_hot(rows))

    def reconstruct(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The table from its codes; text is the category with the largest value."""
        values = self.pca.inverse_transform(self.transform(rows))
        numbers, categories = np.split(values, [len(self.numeric)], axis=1)
        table = pd.DataFrame(self.scaler.inverse_transform(numbers), rows.index, self.numeric)
        table[self.text] = self.encoder.inverse_transform(categories)
        return table


def read(path: Path | None, max_rows: int) -> tuple[pd.DataFrame, pd.Series, str]:
    """At most `max_rows` rows, the class of each row, and the class as a question."""
    question, column, positive = "Which penguins are male?", "sex", "male"
    if path is None:
        rows = pd.read_csv(PENGUINS).dropna()
    else:
        question, column, positive = "Who earns more than $50,000 a year?", "income", ">50K"
        rows = pd.read_csv(path, names=ADULT, na_values="?", skipinitialspace=True)
        del rows["fnlwgt"]  # the sampling weight of a row, which does not describe the person
    rows = rows.sample(min(max_rows, len(rows)), random_state=0)
    return rows, rows.pop(column) == positive, question


def classify(train: Any, test: Any, train_labels: pd.Series, test_labels: pd.Series) -> str:
    """Balanced accuracy and AUROC on test rows, of a linear and of a boosted classifier."""
    line, linear = "", make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    for model in (linear, HistGradientBoostingClassifier(random_state=0)):
        probability = model.fit(train, train_labels).predict_proba(test)[:, 1]
        accuracy = balanced_accuracy_score(test_labels, probability > 0.5)
        line += f"{accuracy:12.3f} {roc_auc_score(test_labels, probability):8.3f}"
    return line


def compare(rows: pd.DataFrame, reconstruction: pd.DataFrame, scale: pd.Series) -> str:
    """Squared error of the numbers, in variances, and the percentage of correct categories."""
    numbers, text = rows[scale.index], rows.drop(columns=scale.index)
    error = (((numbers - reconstruction[scale.index]) / scale) ** 2).mean().mean()
    correct = (text == reconstruction[text.columns]).where(text.notna()).mean().mean()
    return f"{error:16.3f} {correct:19.1%}"


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path, help="UCI's adult.data, or a copy of it")
    parser.add_argument("--rows", type=int, default=4000, help="maximum number of rows")
    parser.add_argument("--components", type=int, help="numbers per code; 8, for penguins 3")
    arguments = parser.parse_args(argv)
    rows, labels, question = read(arguments.table, arguments.rows)
    train, test, train_labels, test_labels = train_test_split(
        rows, labels, stratify=labels, random_state=0
    )
    size = arguments.components or (8 if arguments.table else 3)
    autoencoder, pca = Autoencoder(size, random_state=0).fit(train), OneHotPCA(train, size)
    print(f"{question} {labels.mean():.0%}. {len(train)} training rows, {len(test)} test rows;")
    print(f"{len(pca.numeric)} columns of numbers, {len(pca.text)} of text with", end=" ")
    print(f"{train[pca.text].nunique().sum()} categories,", end=" ")
    print(f"{train.isna().sum().sum()} missing values.")

    print(f"\n{'':14} numbers   logistic regression    gradient boosting")
    print(f"{'trained on':14} per row    balanced    AUROC    balanced    AUROC")
    codes = {"raw table": pca.one_hot, "PCA": pca.transform, "autoencoder": autoencoder.transform}
    for name, encode in codes.items():
        train_code, test_code = encode(train), encode(test)
        result = classify(train_code, test_code, train_labels, test_labels)
        print(f"{name:14}{train_code.shape[1]:8}{result}")
    print(f"\n{'reconstruction':14}error of numbers  correct categories")
    constant = train.mode().iloc[0].to_dict() | train[pca.numeric].mean().to_dict()
    scale = pd.Series(pca.scaler.scale_, pca.numeric)
    for name, reconstruction in {
        "mean, mode": test.assign(**constant),
        "PCA": pca.reconstruct(test),
        "autoencoder": autoencoder.reconstruct(test),
    }.items():
        print(f"{name:14}{compare(test, reconstruction, scale)}")
    return 0


if __name__ == "__main__":
    # A category that no training row has is taken as missing, by PCA too.
    warnings.filterwarnings("ignore", message=".*not seen in training")
    sys.exit(main())
