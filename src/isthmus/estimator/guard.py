"""Never worse than PCA: is what training brought above chance?"""

import torch
from torch import Tensor

from isthmus.data import Rows, plain_batches
from isthmus.kinds import CodeNetwork
from isthmus.losses import Reconstruction
from isthmus.pretraining import PCASolution

CODING_ROWS = 2048
ERRORS_WANTED = 2.0


@torch.no_grad()
def beats_pca(
    network: CodeNetwork, loss: Reconstruction, held_out: Rows, solution: PCASolution
) -> bool:
    """Whether the network rebuilds held-out rows better than the PCA it began at.

    Better by more than two standard errors of the mean difference a row: the best of many epochs
    is a little better by chance alone, and PCA itself would gain from the held-out rows.
    """
    gains = []
    for positions in plain_batches(len(held_out), CODING_ROWS):
        x = held_out.take(positions)
        rebuilt = loss.mean(network(x).reconstruction)
        ours = (rebuilt - x).square().flatten(1).mean(dim=1)
        gains.append(pca_errors(solution, x) - ours)
    gain, weight = torch.cat(gains).double(), held_out.weight.double()
    mean = float((weight * gain).mean())
    error = float((weight * (gain - mean).square()).mean() / weight.sum()) ** 0.5
    return bool(mean > ERRORS_WANTED * error)


def pca_errors(solution: PCASolution, x: Tensor) -> Tensor:
    """(B,): each row's mean squared error after projection on the components."""
    components = solution.components.to(x.dtype)
    centred = x.flatten(1) - solution.mean.to(x.dtype)
    left: Tensor = (centred - centred @ components.t() @ components).square().mean(dim=1)
    return left
