"""How fast does a network train on a mixed table, compared with the same network in plain PyTorch?

    python benchmarks/table_speed.py [--rows 20000] [--epochs 10] [--repeats 3] [--no-record]

It then measures the seconds of common uses on few rows: a fit with defaults, eight starts, a
search, partial fits of pieces, and a fit with a first imputation.

The table has six numeric columns, six categorical columns with seven categories, and two boolean
columns. In a second table, a tenth of the values of two columns is missing. The network has one
hidden layer of 64 and a code of 4, batches of 64, Adam, and one loss per column. The PyTorch rival
has tensors of numbers, booleans and category indices, and one operation for all categorical losses.
Rows per second come from the difference of a longer and a shorter fit. Errors are those of the
training rows after the shorter fit: the squared error of standardised numbers, and the share of
wrong categories.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from common import machine, record, table
from isthmus import Autoencoder, SearchCV, kinds, optim

NUMBERS, CATEGORICAL, CATEGORIES, BOOLEANS = 6, 6, 7, 2
HIDDEN, CODE, BATCH, RATE, MISSING = 64, 4, 64, 0.001, 0.1

Errors = tuple[float, float]
"""The error of the numbers, and the share of wrong categories."""


class Table:
    """Rows near a curved surface of three dimensions, in columns of three types."""

    def __init__(self, rows: int, *, has_missing: bool) -> None:
        draw = np.random.default_rng(0)
        z = np.tanh(draw.normal(size=(rows, 3)))
        numbers = z @ draw.normal(size=(3, NUMBERS)) + 0.1 * draw.normal(size=(rows, NUMBERS))
        self.numbers = (numbers - numbers.mean(0)) / numbers.std(0)
        spread = z @ draw.normal(size=(3, CATEGORICAL))
        self.categories = np.clip(
            np.round(2 * spread).astype(int) + CATEGORIES // 2,
            0,
            CATEGORIES - 1,
        )
        self.booleans = z @ draw.normal(size=(3, BOOLEANS)) > 0
        self.missing = draw.random((rows, 2)) < (MISSING if has_missing else 0)

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame."""
        frame = pd.DataFrame(self.numbers).add_prefix("x")
        for column in range(CATEGORICAL):
            frame[f"c{column}"] = np.array(list("abcdefg"))[self.categories[:, column]]
        for column in range(BOOLEANS):
            frame[f"t{column}"] = self.booleans[:, column]
        frame.loc[self.missing[:, 0], "x0"] = np.nan
        frame.loc[self.missing[:, 1], "c0"] = None
        return frame

    def errors(self, numbers: NDArray[np.float64], categories: NDArray[np.object_]) -> Errors:
        """The errors of reconstructed rows, of values that are not missing."""
        squares, wrong = (numbers - self.numbers) ** 2, categories != self.categories
        squares[self.missing[:, 0], 0] = np.nan
        observed = ~self.missing[:, 1]
        return float(np.nanmean(squares)), float(
            np.concatenate([wrong[observed, 0], *wrong.T[1:]]).mean()
        )


def isthmus(rows: Table, epochs: int) -> Errors:
    """The isthmus library, with everything but training switched off."""
    frame = rows.frame()
    fitted = Autoencoder(
        CODE,
        kind=kinds.Multilayer(hidden=(HIDDEN,), activation="relu", skip=False),
        optimizer=optim.Adam(lr=RATE, schedule="constant"),
        pretraining="random",
        batch_size=BATCH,
        max_epochs=epochs,
        early_stopping=False,
        transform_max_iter=0,
        precision="float32",
        random_state=0,
    ).fit(frame, validation=frame.iloc[:256])
    back = fitted.reconstruct(frame)
    letters = np.searchsorted(list("abcdefg"), back.filter(like="c").to_numpy(str))
    return rows.errors(back.filter(like="x").to_numpy(float), letters)


def by_hand(rows: Table, epochs: int) -> Errors:
    """Plain PyTorch, tuned: tensors, fused Adam, one loss for all categorical columns."""
    torch.manual_seed(0)
    numbers = torch.from_numpy(rows.numbers).float()
    categories, booleans = (
        torch.from_numpy(rows.categories),
        torch.from_numpy(rows.booleans).float(),
    )
    observed_values = torch.ones(len(numbers), NUMBERS + CATEGORICAL)
    observed_values[:, 0] -= torch.from_numpy(rows.missing[:, 0]).float()
    observed_values[:, NUMBERS] -= torch.from_numpy(rows.missing[:, 1]).float()
    shares = functional.one_hot(categories, CATEGORIES).float().mean(0)
    category_weights = 1 / -torch.special.xlogy(shares, shares).sum(1)
    boolean_weights = 1 / -sum(
        torch.special.xlogy(p, p) for p in (booleans.mean(0), 1 - booleans.mean(0))
    )
    hot = (
        functional.one_hot(categories, CATEGORIES).float() * observed_values[:, NUMBERS:, None]
    ).flatten(1)
    seen = torch.cat([numbers * observed_values[:, :NUMBERS], hot, booleans], 1)
    wide = seen.shape[1]
    layers = [nn.Linear(wide, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CODE)]
    layers += [nn.Linear(CODE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, wide)]
    network = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    ends = NUMBERS, NUMBERS + CATEGORICAL * CATEGORIES
    for _ in range(epochs):
        order = torch.randperm(len(seen))
        for start in range(0, len(seen), BATCH):
            batch = order[start : start + BATCH]
            raw, present = network(seen[batch]), observed_values[batch]
            logits = raw[:, ends[0] : ends[1]].view(-1, CATEGORICAL, CATEGORIES)
            losses = [
                (raw[:, :NUMBERS] - numbers[batch]).square() * present[:, :NUMBERS],
                functional.cross_entropy(logits.mT, categories[batch], reduction="none")
                * present[:, NUMBERS:]
                * category_weights,
                functional.binary_cross_entropy_with_logits(
                    raw[:, ends[1] :], booleans[batch], reduction="none"
                )
                * boolean_weights,
            ]
            columns = present.sum(1) + BOOLEANS
            (torch.cat(losses, 1).sum(1) / columns).mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        raw = network(seen)
    predicted = raw[:, ends[0] : ends[1]].view(-1, CATEGORICAL, CATEGORIES).argmax(2)
    return rows.errors(raw[:, :NUMBERS].double().numpy(), predicted.numpy())


TRAINED: dict[str, Callable[[Table, int], Errors]] = {"isthmus": isthmus, "by hand": by_hand}

LONGER = {"isthmus": 11, "by hand": 2}
"""The factor of the epochs of the longer fit. The fixed cost of isthmus is that of several epochs
and varies, so it needs a large one."""

FEW_ROWS, PIECES = 3600, 10
GRID = {"batch_size": [32, 64, 128, 256]}


def in_use(repeats: int) -> list[dict[str, Any]]:
    """The median seconds of common uses, after all imports."""
    frame = Table(FEW_ROWS, has_missing=True).frame()
    model = Autoencoder(CODE, random_state=0)
    uses: dict[str, Callable[[], Any]] = {
        "a fit": lambda: clone(model).fit(frame),
        "the best of eight starts (n_init=8)": lambda: clone(model).set_params(n_init=8).fit(frame),
        "a search of 4 batch sizes on 3 folds": lambda: SearchCV(model, GRID, cv=3).fit(frame),
        f"{PIECES} pieces by partial_fit": lambda: clone(model).partial_fit(
            frame[piece::PIECES] for piece in range(PIECES)
        ),
        "a fit and a first imputation": lambda: clone(model).fit(frame).impute(frame),
    }
    clone(model).set_params(max_epochs=1).fit(frame).impute(frame)
    spent: dict[str, list[float]] = {name: [] for name in uses}
    for _ in range(repeats):
        for name, use in uses.items():
            began = time.perf_counter()
            use()
            spent[name].append(time.perf_counter() - began)
            print(name, round(spent[name][-1], 2), flush=True)
    return [{"use": name, "seconds": statistics.median(each)} for name, each in spent.items()]


def main() -> None:
    """Measure in turns, print the tables and record the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("rows", 20_000), ("epochs", 10), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these steps are too small to gain from a second thread
    results = []
    for has_missing in (False, True):
        rows = Table(options.rows, has_missing=has_missing)
        rates: dict[str, list[float]] = {name: [] for name in TRAINED}
        errors = {}
        for _ in range(options.repeats):
            for name, train in TRAINED.items():
                spent = []
                for times in (LONGER[name], 1):
                    began = time.perf_counter()
                    errors[name] = train(rows, times * options.epochs)
                    spent.append(time.perf_counter() - began)
                more = (LONGER[name] - 1) * options.epochs
                rates[name].append(options.rows * more / (spent[0] - spent[1]))
                print(has_missing, name, round(rates[name][-1]), errors[name], flush=True)
        for name, rates_of_library in rates.items():
            line = {
                "missing": has_missing,
                "library": name,
                "rows per second": statistics.median(rates_of_library),
            }
            error, wrong = errors[name]
            results.append(line | {"error of numbers": error, "categories wrong": wrong})
    torch.set_num_threads(threads)
    used = in_use(options.repeats)
    print(machine())
    print(table(results), table(used), sep="\n")
    if not options.no_record:
        record("table_speed", results + used)


if __name__ == "__main__":
    main()
