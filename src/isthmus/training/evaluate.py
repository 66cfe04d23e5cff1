"""The losses of a network on clean rows, between the steps of a fit."""

import functools

from isthmus.data.loading.rows import inference_batch_size
from isthmus.randomness import reseed
from isthmus.training.cancellation import check_cancelled
from isthmus.training.engines.base import Evaluator, TermsFunction, evaluate_batch, sum_terms
from isthmus.training.rows import consecutive_rows
from isthmus.types import Network, WeightedRows

EVALUATION_ROWS = {"cpu": 2048, "cuda": 16_384}


def evaluate(
    network: Network,
    objective: TermsFunction,
    rows: WeightedRows,
    seed: int,
    max_rows: int | None = None,
    evaluator: Evaluator | None = None,
) -> dict[str, float]:
    """The terms in evaluation mode, averaged over all rows or the first `max_rows`.

    They are computed by the `evaluator`, or else by the network.
    """
    evaluator = evaluator or functools.partial(evaluate_batch, network, objective)
    n_rows = len(rows) if max_rows is None else min(max_rows, len(rows))
    if network.training:
        network.eval()
    reseed(seed, rows.weight.device)
    size = EVALUATION_ROWS.get(rows.weight.device.type, EVALUATION_ROWS["cpu"])
    resident = rows.resident
    if resident is not None and resident.device.type == "cpu":
        size = min(size, inference_batch_size(tuple(resident.shape[1:])))
    pieces = [range(n_rows)[start : start + size] for start in range(0, n_rows, size)]
    terms = []
    for piece in pieces:
        check_cancelled()
        weight = rows.weight[piece.start : piece.stop]
        terms.append(evaluator(consecutive_rows(rows, piece), weight))
    sums = sum_terms(terms, map(len, pieces))
    return {name: float(value) / n_rows for name, value in sums.items()}
