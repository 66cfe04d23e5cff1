"""What a network's losses are on clean rows, between the steps."""

import functools

from torch import Tensor

from isthmus.data import rows_at_once
from isthmus.randomness import reseed
from isthmus.training.cancellation import heed
from isthmus.training.engines.base import Judge, Objective, losses, summed
from isthmus.training.rows import in_order
from isthmus.types import Network, WeightedRows

ROWS_AT_ONCE = {"cpu": 2048, "cuda": 16_384}


def judged(
    network: Network,
    objective: Objective,
    rows: WeightedRows,
    seed: int,
    most: int | None = None,
    judge: Judge | None = None,
) -> dict[str, float]:
    """The terms in evaluation mode, averaged over all rows (or the first `most`).

    By the network, or by `judge` where that is given.
    """
    judge = judge or functools.partial(losses, network, objective)
    n_rows = len(rows) if most is None else min(most, len(rows))
    if network.training:
        network.eval()
    reseed(seed, rows.weight.device)
    size = ROWS_AT_ONCE.get(rows.weight.device.type, ROWS_AT_ONCE["cpu"])
    resident: Tensor | None = getattr(rows, "resident", None)
    if resident is not None and resident.device.type == "cpu":
        size = min(size, rows_at_once(tuple(resident.shape[1:])))
    pieces = [range(n_rows)[start : start + size] for start in range(0, n_rows, size)]
    found = []
    for piece in pieces:
        heed()
        found.append(judge(in_order(rows, piece), rows.weight[piece.start : piece.stop]))
    sums = summed(found, map(len, pieces))
    return {name: float(value) / n_rows for name, value in sums.items()}
