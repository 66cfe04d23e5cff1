"""AdamW and Muon at batches of 64, 256 and 1024 rows: seconds to a validation error.

The network is 784-1000-500-250-30 on 20,000 images of MNIST (or of curves, without the data). The
target is the error that AdamW at its default batch size has reached after `--target-epochs` epochs.
Each fit stops at the target or after `--seconds`.

    python benchmarks/optimizer_batches.py
"""

import argparse
import time
from typing import Any

import torch

from common import record, table
from isthmus import Autoencoder, kinds, optim
from problems import curves, mnist

BATCHES = (64, 256, 1024)
OPTIMIZERS = {"adamw": optim.AdamW(), "muon": optim.Muon()}


class Watch:
    """A callback that notes the validation error and the time of each epoch."""

    def __init__(self, target: float, seconds: float) -> None:
        self.target, self.seconds, self.start = target, seconds, time.monotonic()
        self.errors: list[tuple[float, float]] = []

    def __call__(self, epoch: dict[str, Any]) -> bool:
        """Stop at the target or when the time is up."""
        passed = time.monotonic() - self.start
        self.errors.append((passed, epoch["validation"]["reconstruction"]))
        return self.errors[-1][1] <= self.target or passed > self.seconds

    def seconds_to_target(self) -> float | None:
        """The first time at which the error was at the target."""
        return next((t for t, error in self.errors if error <= self.target), None)


def fit(x: Any, optimizer: Any, batch: int | None, watch: Watch, precision: str) -> Autoencoder:
    """One fit, watched."""
    ae = Autoencoder(
        30,
        kind=kinds.Multilayer(hidden=(1000, 500, 250)),
        optimizer=optimizer,
        batch_size=batch,
        max_epochs=1000,
        early_stopping=False,
        loss="squared",
        callbacks=(watch,),
        precision=precision,
        transform_max_iter=0,
        random_state=0,
    )
    return ae.fit(x)


def main() -> None:
    """Measure every pair and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--target-epochs", type=int, default=6)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    wanted = parser.parse_args()
    problem = mnist() or curves()
    x = problem.train[: wanted.rows]
    first = Watch(0.0, 1e9)

    def stop(_epoch: dict[str, Any]) -> bool:
        return len(first.errors) >= wanted.target_epochs

    ae = Autoencoder(
        30,
        kind=kinds.Multilayer(hidden=(1000, 500, 250)),
        optimizer="adamw",
        loss="squared",
        callbacks=(first, stop),
        precision=wanted.precision,
        transform_max_iter=0,
        random_state=0,
    ).fit(x)
    target = min(error for _, error in first.errors)
    print(
        f"target {target:.5f}, reached by {ae.facts_['optimizer']} with {ae.facts_['batch_size']}"
    )
    rows = []
    for batch in (*wanted.batches, None):
        for name, optimizer in OPTIMIZERS.items():
            watch = Watch(target, wanted.seconds)
            model = fit(x, optimizer, batch, watch, wanted.precision)
            seconds = watch.seconds_to_target()
            rate = model.facts_["training_rows"] * len(watch.errors) / watch.errors[-1][0]
            rows.append(
                {
                    "data": problem.name,
                    "batch": model.facts_["batch_size"],
                    "optimizer": name,
                    "precision": model.facts_["precision"],
                    "seconds to target": None if seconds is None else round(seconds, 1),
                    "best error": min(error for _, error in watch.errors),
                    "rows per second": round(rate),
                    "threads": torch.get_num_threads(),
                }
            )
            print(rows[-1], flush=True)
    print(table(rows))
    record("optimizer_batches", rows)


if __name__ == "__main__":
    main()
