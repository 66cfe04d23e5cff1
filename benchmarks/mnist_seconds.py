"""How many seconds until 784-1000-500-250-30 rebuilds new digits of MNIST as the classic did?

    python benchmarks/mnist_seconds.py [--device cuda] [--epochs 30] [--batch 512] [--lr 0.003]
        [--precision auto] [--no-record]

Metric: squared error an image on the 10,000 test images; 3.00 is that of Hinton and Salakhutdinov
(2006). AdamW from the principal components; the clock runs from the call of `fit` on, stops while
the test images are looked at after each epoch; before it runs, a fit of one epoch has imported and
compiled what is needed.
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
        """`test` are images as the network sees them, whose 1 is `unit` of a pixel's."""
        self.test, self.unit = test, unit
        self.network: Any = None
        self.away = 0.0
        self.curve: list[tuple[float, float]] = []
        self.began = time.perf_counter()

    def __call__(self, record: dict[str, Any]) -> None:
        """Look at the test images, while the clock stands still."""
        del record
        if self.test.is_cuda:
            torch.cuda.synchronize()
        stopped = time.perf_counter()
        with torch.no_grad():
            rebuilt = self.network(self.test).reconstruction
            off = (rebuilt - self.test).square().sum() * self.unit**2
            error = float(off) / len(self.test)
        self.curve.append((stopped - self.began - self.away, error))
        self.away += time.perf_counter() - stopped


class Watched(kinds.Multilayer):
    """The kind, whose network a clock then sees."""

    def build(self, facts: Any, n_components: int) -> Any:
        """The network of the kind."""
        network = super().build(facts, n_components)
        clock = CLOCKS[-1]
        if clock is not None:
            clock.network = network
        return network


CLOCKS: list[Clock | None] = []


def fit(problem: Problem, wanted: argparse.Namespace, epochs: int, clock: Clock | None) -> Any:
    """One fit, watched where there is a clock."""
    CLOCKS.append(clock)
    return Autoencoder(
        problem.n_components,
        kind=(Watched if clock else kinds.Multilayer)(hidden=problem.hidden),
        loss="squared",
        pretraining="pca",
        optimizer=optim.AdamW(lr=wanted.lr),
        batch_size=wanted.batch,
        max_epochs=epochs,
        early_stopping=False,
        transform_max_iter=0,
        callbacks=() if clock is None else (clock,),
        device=wanted.device,
        precision=wanted.precision,
        random_state=0,
    ).fit(problem.train, validation=problem.train[:2000])


def main() -> int:
    """Fit, tell and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-record", action="store_true")
    wanted = parser.parse_args()
    problem = mnist()
    if problem is None:
        print("MNIST was not found; set ISTHMUS_DATA to a folder that holds mnist/. Skipped.")
        return 0
    known = fit(problem, wanted, 1, None)
    test = known.preparation_.encode(problem.test, torch.float32).to(wanted.device)
    clock = Clock(test, known.preparation_.unit)
    fit(problem, wanted, wanted.epochs, clock)
    curve = clock.curve
    reached = next((seconds for seconds, error in curve if error <= GOAL), None)
    result = {
        **{name: getattr(wanted, name) for name in ("device", "batch", "lr", "precision")},
        "epochs": wanted.epochs,
        f"seconds to {GOAL}": reached and round(reached, 3),
        "seconds": round(curve[-1][0], 3),
        "test error": round(curve[-1][1], 3),
        "least": round(min(error for _, error in curve), 3),
    }
    print(machine(), result)
    if not wanted.no_record:
        record("mnist_seconds", [result])
    return 0


if __name__ == "__main__":
    sys.exit(main())
