"""The defaults: one rule for all data, from the sizes and the values of the rows alone."""

import numpy as np
import torch
from torch import nn

from isthmus.data import Preparation, Schema
from isthmus.kinds import CodeNetwork
from isthmus.kinds.convolutional import stages
from isthmus.pretraining import PCASolution
from isthmus.runtime.device import has_fast_bf16

VARIANCE_WANTED, FEWEST_COMPONENTS, MOST_COMPONENTS = 0.9, 2, 32
VALIDATION_SHARE, VALIDATION_WANTED, VALIDATION_ENOUGH, VALIDATION_MOST = 0.1, 50, 5000, 0.25
SMALLEST_BATCH, LARGEST_BATCH, STEPS_AN_EPOCH = 64, 512, 50
GRADIENTS_WANTED, FEWEST_EPOCHS, MOST_EPOCHS = 5000, 20, 300
FEWEST_EPOCHS_TO_WAIT, FEWEST_STEPS_TO_WAIT = 10, 500
FEWEST_WEIGHTS_FOR_BF16 = 100_000
FEWEST_ROWS_FOR_MUON, FEWEST_WEIGHTS_FOR_MUON = 20_000, 100_000
DOUBLE_VALUES = 20_000
MOST_LAYERS_AT_RANDOM = 4


def choose_kind(schema: Schema) -> str:
    """Convolutional for signals, and images large enough for two stages, else multilayer.

    Of images that are halved but once, dense networks keep more, in a small part of the time.
    """
    small = schema.layout == "image" and len(stages(schema.network_shape[1:])) == 1
    return "multilayer" if schema.layout == "table" or small else "convolutional"


def choose_loss(preparation: Preparation) -> str:
    """Mixed where columns are not all numbers, Bernoulli where all are 0 or 1, else squared.

    Of zeros and ones, some feature must hold both.
    """
    if preparation.schema.columns is not None:
        return "mixed"
    varies = len(preparation.constant) < preparation.schema.n_features
    return "bernoulli" if preparation.binary and varies else "squared"


def choose_scaling(loss: str) -> str:
    """To [0, 1] for the Bernoulli loss, else from the data."""
    return "unit" if loss == "bernoulli" else "auto"


def choose_components(solution: PCASolution, n_features: int) -> int:
    """The components that hold 90 % of the variance, from 2 to 32, fewer than the features."""
    shares = (solution.scales.square().cumsum(0) / max(solution.total_variance, 1e-300)).tolist()
    enough = 1 + sum(share < VARIANCE_WANTED for share in shares)
    most = max(1, min(MOST_COMPONENTS, n_features - 1))
    return int(np.clip(enough, min(FEWEST_COMPONENTS, most), most))


def choose_validation_fraction(rows: float) -> float:
    """A tenth of the rows, at least 50 but never over a quarter, and at most 5000."""
    wanted = max(VALIDATION_SHARE * rows, VALIDATION_WANTED)
    return min(wanted, VALIDATION_ENOUGH, VALIDATION_MOST * rows) / max(rows, 1)


def choose_optimizer(rows: int, network: nn.Module) -> str:
    """Muon for large networks of matrices and many rows, else AdamW.

    To make a matrix orthogonal costs as much as the gradient of a batch about as large as its
    shorter side; only many rows come in such batches. Filters of convolutions are no matrices, and
    its steps of one size for all directions drive logistic units to their flat ends.
    """
    matrices = sum(p.numel() for p in network.parameters() if p.ndim == 2)
    others = sum(p.numel() for p in network.parameters() if p.ndim > 2)
    logistic = any(isinstance(module, nn.Sigmoid) for module in network.modules())
    suits = matrices >= max(FEWEST_WEIGHTS_FOR_MUON, 10 * others) and not logistic
    return "muon" if suits and rows >= FEWEST_ROWS_FOR_MUON else "adamw"


def choose_start(network: CodeNetwork) -> str:
    """Layer by layer for deep networks without a linear path, else at random.

    A random start of few layers learns as far in half the time, or turns out to have learned the
    average, and is then begun anew.
    """
    deep = network.encoder is not None and network.encoder.depth > MOST_LAYERS_AT_RANDOM
    return "autoencoder" if deep else "random"


def choose_batch_size(rows: int) -> int:
    """A power of two from 64 to 512 that gives about 50 steps an epoch."""
    power = 2 ** round(np.log2(max(rows / STEPS_AN_EPOCH, 1)))
    return int(np.clip(power, SMALLEST_BATCH, LARGEST_BATCH))


def choose_epochs(
    rows: int, batch_size: int, evaluations: int = 1, wanted: int = GRADIENTS_WANTED
) -> int:
    """Enough epochs for about `wanted` gradients, `evaluations` a step, from 20 to 300."""
    steps = -(-rows // batch_size) * evaluations
    return int(np.clip(round(wanted / steps), FEWEST_EPOCHS, MOST_EPOCHS))


def choose_patience(epochs: int, rows: int, batch_size: int) -> int:
    """A quarter of the epochs, at least 10 of them and at least 500 steps.

    A short fit of few rows takes so few steps that nothing is told by some epochs without gain.
    """
    steps = -(-rows // batch_size)
    return max(FEWEST_EPOCHS_TO_WAIT, epochs // 4, FEWEST_STEPS_TO_WAIT // steps)


def choose_plateau(epochs: int) -> int:
    """A twentieth of the epochs, at least 2."""
    return max(2, epochs // 20)


def remarks_on(precision: str, device: torch.device) -> tuple[str, ...]:
    """What is to be said of a precision that was asked for."""
    if precision != "bf16" or has_fast_bf16(device):
        return ()
    return ("precision='bf16' is slower here than 'float32', which this device multiplies faster",)


def choose_precision(values: int, network: nn.Module | None, device: torch.device) -> str:
    """Double for small data, bf16 for large networks where it is fast, else single.

    Optimizers that compare losses are not asked here: theirs is single precision at least.
    """
    if values <= DOUBLE_VALUES and device.type == "cpu":
        return "float64"
    weights = 0 if network is None else sum(p.numel() for p in network.parameters())
    if weights >= FEWEST_WEIGHTS_FOR_BF16 and has_fast_bf16(device):
        return "bf16"
    return "float32"
