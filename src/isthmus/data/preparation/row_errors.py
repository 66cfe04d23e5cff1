"""The reconstruction error of each row."""

import numpy as np
from torch import Tensor

from isthmus.data.preparation.preparation import Preparation
from isthmus.missing import mean_known
from isthmus.types import Array

# Shape letters: B rows in a batch, E features as the network sees them, D features of the data.


def row_errors(preparation: Preparation, x: Tensor, reconstruction: Tensor) -> Array:
    """(B,): the mean squared error of each of the prepared rows (B, *shape), in metrics' units.

    Deviations are squared in the network's own precision, which limits them anyway.
    """
    deviations = (x - reconstruction).flatten(1)
    n_features = len(preparation.column_sums(np.zeros(deviations.shape[1])))
    errors = deviations.square_().sum(dim=1).cpu().double().numpy()
    if np.isfinite(errors).all():
        return np.asarray(errors * (preparation.unit**2 / n_features))
    # Values are missing, or their squares overflow this precision.
    convert = preparation.to_error_units
    return mean_known(preparation.column_sums((convert(x) - convert(reconstruction)) ** 2))
