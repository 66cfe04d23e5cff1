"""How far rebuilt rows are off, a row at a time."""

import numpy as np
from torch import Tensor

from isthmus.data.preparation.preparation import Preparation
from isthmus.missing import mean_known
from isthmus.types import Array

# Shape letters: B rows in a batch, E features as the network sees them, D features of the data.


def row_errors(preparation: Preparation, x: Tensor, rebuilt: Tensor) -> Array:
    """(B,): the mean squared error of each of some prepared rows (B, *shape), as metrics have it.

    Deviations are squared in the network's own precision, to which they are known.
    """
    off = (x - rebuilt).flatten(1)
    n_features = len(preparation.sums(np.zeros(off.shape[1])))
    told = off.square_().sum(dim=1).cpu().double().numpy()
    if np.isfinite(told).all():
        return np.asarray(told * (preparation.unit**2 / n_features))
    # Values are missing, or so far off that this precision has no square of it.
    measured = preparation.measured
    return mean_known(preparation.sums((measured(x) - measured(rebuilt)) ** 2))
