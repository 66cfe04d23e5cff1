"""Is each optimizer's default rate a good one, and how do they compare at equal gradients?

    python benchmarks/quality/optimizers.py [--gradients 2400] [--optimizers adamw,kfac,...]
        [--with weight_decay=0.001,damping=0.1] [--no-record]

The data are scikit-learn's digits. The network is 64-100-50-25-6 with a random start, without a
linear path, and with logistic or SiLU units: a deep network that first-order methods leave on a
plateau. Each optimizer trains for an equal number of gradients at its default rate, at a third and
at three times of it. Errors: squared, per image, summed over its pixels in [0, 1]. A fifth of the
images is for testing.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

sys.path.append(str(Path(__file__).parents[1]))

from common import record, table

N_COMPONENTS, HIDDEN = 6, (100, 50, 25)
FACTORS = (1 / 3, 1.0, 3.0)

Rows = NDArray[np.float64]


def split() -> tuple[Rows, Rows]:
    """Training and test images, pixels in [0, 1]."""
    rows = load_digits().data / 16
    order = np.random.default_rng(0).permutation(len(rows))
    return rows[order[len(rows) // 5 :]], rows[order[: len(rows) // 5]]


def error(reconstruction: Rows, rows: Rows) -> float:
    """Squared error per image."""
    return float(((reconstruction - rows) ** 2).sum(axis=1).mean())


def measure(
    name: str,
    factor: float,
    activation: str,
    gradients: int,
    settings: dict[str, Any],
    train: Rows,
    test: Rows,
) -> dict[str, Any]:
    """One line of the table."""
    from isthmus import Autoencoder, kinds, optim

    spec = optim.OPTIMIZERS[name](**settings)
    spec.lr *= factor
    batch = spec.choose_batch_size(len(train)) or 64
    steps = gradients // spec.gradients_per_step
    epochs = max(1, round(steps / -(-len(train) // batch)))
    began = time.perf_counter()
    model = Autoencoder(
        N_COMPONENTS,
        kind=kinds.Multilayer(hidden=HIDDEN, activation=activation, skip=False),
        pretraining="random",
        optimizer=spec,
        batch_size=batch,
        max_epochs=epochs,
        validation_fraction=0.0,
        early_stopping=False,
        random_state=0,
    ).fit(train)
    return {
        "optimizer": name,
        "lr": spec.lr,
        "default": factor == 1.0,
        "units": activation,
        "batch": batch,
        "epochs": epochs,
        "train": error(model.reconstruct(train), train),
        "test": error(model.reconstruct(test), test),
        "seconds": time.perf_counter() - began,
    }


def main() -> int:
    """Run every optimizer at every rate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gradients", type=int, default=2400)
    parser.add_argument(
        "--optimizers", default="sgd,nesterov,rmsprop,adam,adamw,muon,kfac,conjugate_gradient,lbfgs"
    )
    parser.add_argument("--activations", default="silu,sigmoid")
    parser.add_argument("--with", dest="settings", default="", metavar="NAME=VALUE,...")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    train, test = split()
    pca = PCA(N_COMPONENTS).fit(train)
    theirs = [error(pca.inverse_transform(pca.transform(rows)), rows) for rows in (train, test)]
    print(f"PCA: train {theirs[0]:.3f}, test {theirs[1]:.3f}", file=sys.stderr)
    pairs = (setting.split("=") for setting in chosen.settings.split(",") if setting)
    settings = {key: json.loads(value) for key, value in pairs}
    results = []
    for activation in chosen.activations.split(","):
        for name in chosen.optimizers.split(","):
            for factor in FACTORS:
                if name == "kfac" and factor > 1:
                    continue  # its rate is a share of the step of its quadratic model
                settings_of_run = (activation, chosen.gradients, settings)
                results.append(measure(name, factor, *settings_of_run, train, test))
                print(results[-1], file=sys.stderr, flush=True)
    print(table(results))
    if not chosen.no_record:
        record("optimizers", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
