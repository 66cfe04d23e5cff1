"""Never worse than PCA: is what training brought above chance?"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from isthmus.data import Rows, is_streamed, plain_batches
from isthmus.gaps import filled, row_means
from isthmus.kinds import CodeNetwork
from isthmus.pretraining import PCASolution

FEWEST_ROWS = 5
"""Different rows held out below which nothing can be told from them."""


@torch.no_grad()
def beats_pca(
    rebuild: Callable[[Tensor], Tensor],
    limited: Callable[[Tensor], Tensor],
    train: Rows,
    held_out: Rows,
    solution: PCASolution,
    distinct: int,
) -> bool:
    """Whether `rebuild`, a trained network's round trip, does better than PCA of all rows would.

    The gain over the PCA it began at, on the held-out rows, must exceed one standard error (the
    best of many epochs is a little better by chance alone) plus what PCA itself would gain by
    learning from the held-out rows too (cut off at the ends of the features' ranges, as the
    network's output is): PCA's error on new rows lies above, and on its own rows
    below, a common limit by about a / n (Akaike 1974), so that a share f of more rows brings
    f (held-out error - training error) / 2. Only the `distinct` held-out rows are evidence: copies
    of a row say nothing new, and fewer than FEWEST_ROWS say nothing at all.
    """
    theirs = pca_errors(solution, held_out, limited)
    gain = theirs - _errors(rebuild, held_out)
    weight = held_out.weight.double()
    mean = float((weight * gain).mean())
    spread = float((weight * (gain - mean).square()).mean() / distinct) ** 0.5
    own = _own_error(solution, train, limited)
    share = held_out.total / (held_out.total + train.total)
    more_rows = share * max(float((weight * theirs).mean()) - own, 0.0) / 2
    return bool(mean > more_rows + spread)


def _own_error(solution: PCASolution, train: Rows, limited: Callable[[Tensor], Tensor]) -> float:
    """PCA's mean error on the rows it was learned from; of rows on disk, on those in memory."""
    if is_streamed(train.source) and len(train.sampled) < len(train):
        x = train.take(train.sampled)
        return float(_pca_errors(solution, x, train, limited).mean())
    return float((train.weight.double() * pca_errors(solution, train, limited)).mean())


def pca_errors(
    solution: PCASolution, rows: Rows, limited: Callable[[Tensor], Tensor] = torch.positive
) -> Tensor:
    """(n,) float64: each row's mean squared error after projection on the components.

    Missing values are taken for the mean, and then not judged.
    `limited` is what a network does to its output because features' ranges end.
    """
    return torch.cat([_pca_errors(solution, x, rows, limited) for x in _blocks(rows)])


def _pca_errors(
    solution: PCASolution, x: Tensor, rows: Rows, limited: Callable[[Tensor], Tensor]
) -> Tensor:
    centred = filled(x.flatten(1).double() - solution.mean)
    flat = centred @ solution.components.t() @ solution.components + solution.mean
    rebuilt = limited(flat.reshape(x.shape))
    return row_means((x - rebuilt).square(), rows.preparation.facts.share)


def pca_figures(
    solution: PCASolution, held_out: Rows, network: CodeNetwork, unit: float
) -> dict[str, float]:
    """What PCA of the training rows makes of the held-out ones, errors in units of `unit`."""
    lost = float(pca_errors(solution, held_out, network.limited).mean())
    around_mean = float(pca_errors(solution.first(0), held_out).mean())
    explained = 1 - lost / around_mean if around_mean > 0 else float("nan")
    return {"rows": len(held_out), "error": lost * unit**2, "explained_variance": explained}


def _errors(rebuild: Callable[[Tensor], Tensor], rows: Rows) -> Tensor:
    share = rows.preparation.facts.share
    errors = [row_means((rebuild(x) - x).double().square(), share) for x in _blocks(rows)]
    return torch.cat(errors)


def _blocks(rows: Rows) -> Iterator[Tensor]:
    return (rows.take(positions) for positions in plain_batches(len(rows)))
