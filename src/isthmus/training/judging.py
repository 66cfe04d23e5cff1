"""What a network's losses are on clean rows, between the steps."""

import numpy as np

from isthmus.randomness import reseed
from isthmus.training.step import Objective, losses
from isthmus.types import Network, WeightedRows

ROWS_AT_ONCE = 2048


def judged(
    network: Network, objective: Objective, rows: WeightedRows, seed: int, most: int | None = None
) -> dict[str, float]:
    """The terms in evaluation mode, averaged over all rows (or the first `most`)."""
    n_rows = len(rows) if most is None else min(most, len(rows))
    network.eval()
    reseed(seed, rows.weight.device)
    sums: dict[str, float] = {}
    for start in range(0, n_rows, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, n_rows)
        x, weight = rows.take(np.arange(start, stop)), rows.weight[start:stop]
        for name, term in losses(network, objective, x, weight).items():
            sums[name] = sums.get(name, 0.0) + float(term) * (stop - start)
    return {name: value / n_rows for name, value in sums.items()}
