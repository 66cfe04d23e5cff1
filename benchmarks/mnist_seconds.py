"""How many seconds until 784-1000-500-250-30 reaches the classic test error on MNIST?

    python benchmarks/mnist_seconds.py [--device cuda] [--epochs 30] [--batch 512] [--lr 0.003]
        [--precision auto] [--no-record]

Metric: squared error per image on the 10,000 test images. The target is 3.00, the error of Hinton
and Salakhutdinov (2006). The fit uses AdamW from the principal components. The clock starts at the
call of `fit` and stops while the test images are evaluated after each epoch. A fit of one epoch
before it covers imports and compilation.
"""

import argparse
import sys
import time
from typing import Any

import torch

from common import machine, record
from isthmus import Autoencoder, kinds, optim
from problems import Problem, mnist

GOAL = 3.0


class Clock:
    """Seconds of a fit, and the test error after each epoch."""

    def __init__(self, test: torch.Tensor, unit: float) -> None:
        """`test` are prepared images; `unit` converts their values to pixels in [0, 1]."""
        self.test, self.unit = test, unit
        self.network: Any = None
        self.paused = 0.0
        self.curve: list[tuple[float, float]] = []
        self.began = time.perf_counter()

    def __call__(self, record: dict[str, Any]) -> None:
        """Evaluate the test images while the clock is stopped."""
        del record
        if self.test.is_cuda:
            torch.cuda.synchronize()
        stopped = time.perf_counter()
        with torch.no_grad():
            reconstruction = self.network(self.test).reconstruction
            squares = (reconstruction - self.test).square().sum() * self.unit**2
            error = float(squares) / len(self.test)
        self.curve.append((stopped - self.began - self.paused, error))
        self.paused += time.perf_counter() - stopped


class TimedMultilayer(kinds.Multilayer):
    """A Multilayer that gives its network to the last clock."""

    def build(self, facts: Any, n_components: int) -> Any:
        """The network of the kind."""
        network = super().build(facts, n_components)
        clock = CLOCKS[-1]
        if clock is not None:
            clock.network = network
        return network


CLOCKS: list[Clock | None] = []


def fit(problem: Problem, options: argparse.Namespace, epochs: int, clock: Clock | None) -> Any:
    """One fit, timed by `clock` unless it is None."""
    CLOCKS.append(clock)
    return Autoencoder(
        problem.n_components,
        kind=(TimedMultilayer if clock else kinds.Multilayer)(hidden=problem.hidden),
        loss="squared",
        pretraining="pca",
        optimizer=optim.AdamW(lr=options.lr),
        batch_size=options.batch,
        max_epochs=epochs,
        early_stopping=False,
        transform_max_iter=0,
        callbacks=() if clock is None else (clock,),
        device=options.device,
        precision=options.precision,
        random_state=0,
    ).fit(problem.train, validation=problem.train[:2000])


def main() -> int:
    """Fit, print the result and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    problem = mnist()
    if problem is None:
        print("MNIST was not found; set ISTHMUS_DATA to a folder that holds mnist/. Skipped.")
        return 0
    first = fit(problem, options, 1, None)
    test = first.preparation_.encode(problem.test, torch.float32).to(options.device)
    clock = Clock(test, first.preparation_.unit)
    fit(problem, options, options.epochs, clock)
    curve = clock.curve
    reached = next((seconds for seconds, error in curve if error <= GOAL), None)
    result = {
        **{name: getattr(options, name) for name in ("device", "batch", "lr", "precision")},
        "epochs": options.epochs,
        f"seconds to {GOAL}": reached and round(reached, 3),
        "seconds": round(curve[-1][0], 3),
        "test error": round(curve[-1][1], 3),
        "lowest": round(min(error for _, error in curve), 3),
    }
    print(machine(), result)
    if not options.no_record:
        record("mnist_seconds", [result])
    return 0


if __name__ == "__main__":
    sys.exit(main())
