"""AdamW and Muon at batches of 64, 256 and 1024 rows: the validation error after equal times.

    python benchmarks/optimizer_batches.py [--seconds 20 60] [--batches 64 256 1024] [--no-record]

The network is 784-1000-500-250-30 on 20,000 images of MNIST (or of curves, without the data). A
short fit of each pair measures its rate. The rate gives the number of epochs for each time, so that
the learning rate of every fit reaches its end with the fit. Without a batch size, the optimizer
takes its own.
"""

import argparse
import time
from typing import Any

from common import machine, record, table
from isthmus import Autoencoder, kinds, optim
from problems import curves, mnist

BATCHES = (64, 256, 1024)
OPTIMIZERS = {"adamw": optim.AdamW(), "muon": optim.Muon()}


class Clock:
    """A callback that notes the seconds and the validation error at the end of each epoch."""

    def __init__(self) -> None:
        self.began, self.epochs = time.perf_counter(), list[tuple[float, float]]()

    def __call__(self, epoch: dict[str, Any]) -> None:
        """Note the end of an epoch."""
        seconds = time.perf_counter() - self.began
        self.epochs.append((seconds, epoch["validation"]["reconstruction"]))

    @property
    def seconds_per_epoch(self) -> float:
        """The mean time of the epochs after the first, which includes the start."""
        (first, _), (last, _) = self.epochs[0], self.epochs[-1]
        return (last - first) / (len(self.epochs) - 1)


def fit(
    x: Any, optimizer: str, batch: int | None, epochs: int, precision: str
) -> tuple[Autoencoder, Clock]:
    """A fit of so many epochs, and its clock."""
    clock = Clock()
    model = Autoencoder(
        30,
        kind=kinds.Multilayer(hidden=(1000, 500, 250)),
        optimizer=OPTIMIZERS[optimizer],
        batch_size=batch,
        max_epochs=epochs,
        early_stopping=False,
        loss="squared",
        callbacks=(clock,),
        precision=precision,
        transform_max_iter=0,
        random_state=0,
    )
    return model.fit(x), clock


def main() -> None:
    """Measure every pair, print the table and record the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, nargs="+", default=[20.0, 60.0])
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    problem = mnist() or curves()
    x = problem.train[: options.rows]
    results = []
    for batch in (*options.batches, None):
        for name in OPTIMIZERS:
            if batch is None and name == "adamw":
                continue  # its own size is among the batches
            _, clock = fit(x, name, batch, 3, options.precision)
            for seconds in options.seconds:
                epochs = max(1, round(seconds / clock.seconds_per_epoch))
                model, run = fit(x, name, batch, epochs, options.precision)
                results.append(
                    {
                        "batch": model.facts_["batch_size"],
                        "optimizer": name,
                        "epochs": epochs,
                        "seconds": round(run.epochs[-1][0], 1),
                        "rows per second": round(
                            model.facts_["training_rows"] / clock.seconds_per_epoch
                        ),
                        "validation error": round(min(error for _, error in run.epochs), 5),
                    }
                )
                print(results[-1], flush=True)
    print(machine())
    if not options.no_record:
        record("optimizer_batches", results)
    print(f"{problem.name}, {len(x)} rows, {options.precision}")
    print(table(results))


if __name__ == "__main__":
    main()
