"""How fast is a network of a mixed table trained, beside the same in PyTorch by hand?

    python benchmarks/table_speed.py [--rows 20000] [--epochs 10] [--repeats 3] [--no-record]

Then seconds of what people do with few rows of it: a fit with defaults, eight starts, a search,
pieces that are learned one by one, and the first gaps filled in.

Six numbers, six categories of seven levels, two truths and, in a second table, a tenth of two
columns missing. One hidden layer of 64, a code of 4, batches of 64, Adam, a loss a column. By hand,
rows are tensors of numbers, truths and numbers of levels; the losses of all categories are one
operation. A fit of some epochs is taken from a longer one: that tells rows a second. Errors are of
the rows learned, after the shorter: squares of standardised numbers, and the share of levels that
are wrong.
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

NUMBERS, CATEGORIES, LEVELS, TRUTHS = 6, 6, 7, 2
HIDDEN, CODE, BATCH, RATE, MISSING = 64, 4, 64, 0.001, 0.1

Judged = tuple[float, float]
"""The error of numbers, and the share of levels that are wrong."""


class Table:
    """Rows near a curved surface of three dimensions, in columns of three kinds."""

    def __init__(self, rows: int, *, has_missing: bool) -> None:
        draw = np.random.default_rng(0)
        z = np.tanh(draw.normal(size=(rows, 3)))
        numbers = z @ draw.normal(size=(3, NUMBERS)) + 0.1 * draw.normal(size=(rows, NUMBERS))
        self.numbers = (numbers - numbers.mean(0)) / numbers.std(0)
        spread = z @ draw.normal(size=(3, CATEGORIES))
        self.levels = np.clip(np.round(2 * spread).astype(int) + LEVELS // 2, 0, LEVELS - 1)
        self.truths = z @ draw.normal(size=(3, TRUTHS)) > 0
        self.missing = draw.random((rows, 2)) < (MISSING if has_missing else 0)

    def frame(self) -> pd.DataFrame:
        """The rows as people have them."""
        made = pd.DataFrame(self.numbers).add_prefix("x")
        for at in range(CATEGORIES):
            made[f"c{at}"] = np.array(list("abcdefg"))[self.levels[:, at]]
        for at in range(TRUTHS):
            made[f"t{at}"] = self.truths[:, at]
        made.loc[self.missing[:, 0], "x0"] = np.nan
        made.loc[self.missing[:, 1], "c0"] = None
        return made

    def judged(self, numbers: NDArray[np.float64], levels: NDArray[np.object_]) -> Judged:
        """How far rows come back, of what is known of them."""
        off, wrong = (numbers - self.numbers) ** 2, levels != self.levels
        off[self.missing[:, 0], 0] = np.nan
        kept = ~self.missing[:, 1]
        return float(np.nanmean(off)), float(np.concatenate([wrong[kept, 0], *wrong.T[1:]]).mean())


def isthmus(rows: Table, epochs: int) -> Judged:
    """This library, with everything but the training itself switched off."""
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
    return rows.judged(back.filter(like="x").to_numpy(float), letters)


def by_hand(rows: Table, epochs: int) -> Judged:
    """PyTorch by someone who knows it: tensors, fused Adam, one loss for all categories."""
    torch.manual_seed(0)
    numbers = torch.from_numpy(rows.numbers).float()
    levels, truths = torch.from_numpy(rows.levels), torch.from_numpy(rows.truths).float()
    known = torch.ones(len(numbers), NUMBERS + CATEGORIES)
    known[:, 0] -= torch.from_numpy(rows.missing[:, 0]).float()
    known[:, NUMBERS] -= torch.from_numpy(rows.missing[:, 1]).float()
    shares = functional.one_hot(levels, LEVELS).float().mean(0)
    of_levels = 1 / -torch.special.xlogy(shares, shares).sum(1)
    of_truths = 1 / -sum(torch.special.xlogy(p, p) for p in (truths.mean(0), 1 - truths.mean(0)))
    hot = (functional.one_hot(levels, LEVELS).float() * known[:, NUMBERS:, None]).flatten(1)
    seen = torch.cat([numbers * known[:, :NUMBERS], hot, truths], 1)
    wide = seen.shape[1]
    layers = [nn.Linear(wide, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CODE)]
    layers += [nn.Linear(CODE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, wide)]
    network = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    ends = NUMBERS, NUMBERS + CATEGORIES * LEVELS
    for _ in range(epochs):
        order = torch.randperm(len(seen))
        for start in range(0, len(seen), BATCH):
            at = order[start : start + BATCH]
            raw, there = network(seen[at]), known[at]
            logits = raw[:, ends[0] : ends[1]].view(-1, CATEGORIES, LEVELS)
            lost = [
                (raw[:, :NUMBERS] - numbers[at]).square() * there[:, :NUMBERS],
                functional.cross_entropy(logits.mT, levels[at], reduction="none")
                * there[:, NUMBERS:]
                * of_levels,
                functional.binary_cross_entropy_with_logits(
                    raw[:, ends[1] :], truths[at], reduction="none"
                )
                * of_truths,
            ]
            columns = there.sum(1) + TRUTHS
            (torch.cat(lost, 1).sum(1) / columns).mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        raw = network(seen)
    found = raw[:, ends[0] : ends[1]].view(-1, CATEGORIES, LEVELS).argmax(2)
    return rows.judged(raw[:, :NUMBERS].double().numpy(), found.numpy())


TRAINED: dict[str, Callable[[Table, int], Judged]] = {"isthmus": isthmus, "by hand": by_hand}

LONGER = {"isthmus": 11, "by hand": 2}
"""How many times the epochs a second fit has. What is beside the epochs takes this library as long
as some of them, and strays."""

FEW_ROWS, PIECES = 3600, 10
GRID = {"batch_size": [32, 64, 128, 256]}


def in_use(repeats: int) -> list[dict[str, Any]]:
    """Seconds of what people do, medians; everything has been imported before."""
    frame = Table(FEW_ROWS, has_missing=True).frame()
    model = Autoencoder(CODE, random_state=0)
    uses: dict[str, Callable[[], Any]] = {
        "a fit": lambda: clone(model).fit(frame),
        "eight starts, the best kept (n_init=8)": lambda: (
            clone(model).set_params(n_init=8).fit(frame)
        ),
        "a search of 4 batch sizes on 3 folds": lambda: SearchCV(model, GRID, cv=3).fit(frame),
        f"{PIECES} pieces by partial_fit": lambda: clone(model).partial_fit(
            frame[at::PIECES] for at in range(PIECES)
        ),
        "a fit, and its first gaps filled in": lambda: clone(model).fit(frame).impute(frame),
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
    """Measure in turns, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("rows", 20_000), ("epochs", 10), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--no-record", action="store_true")
    wanted = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with two, each of these small steps waits for a second one
    results = []
    for has_missing in (False, True):
        rows = Table(wanted.rows, has_missing=has_missing)
        rates: dict[str, list[float]] = {name: [] for name in TRAINED}
        judged = {}
        for _ in range(wanted.repeats):
            for name, train in TRAINED.items():
                spent = []
                for times in (LONGER[name], 1):
                    began = time.perf_counter()
                    judged[name] = train(rows, times * wanted.epochs)
                    spent.append(time.perf_counter() - began)
                more = (LONGER[name] - 1) * wanted.epochs
                rates[name].append(wanted.rows * more / (spent[0] - spent[1]))
                print(has_missing, name, round(rates[name][-1]), judged[name], flush=True)
        for name, told in rates.items():
            line = {
                "missing": has_missing,
                "library": name,
                "rows a second": statistics.median(told),
            }
            error, wrong = judged[name]
            results.append(line | {"error of numbers": error, "levels wrong": wrong})
    torch.set_num_threads(threads)
    used = in_use(wanted.repeats)
    print(machine())
    print(table(results), table(used), sep="\n")
    if not wanted.no_record:
        record("table_speed", results + used)


if __name__ == "__main__":
    main()
