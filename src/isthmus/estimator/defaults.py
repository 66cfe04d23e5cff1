"""Defaults chosen from the sizes and values of the rows, each with its reason."""

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypedDict, TypeVar

import numpy as np
import torch
from torch import nn

from isthmus.data.preparation.fit import SIZE_FACTORS
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.schema import Schema
from isthmus.kinds import CodeNetwork
from isthmus.kinds.convolutional import default_channels
from isthmus.optim import Muon
from isthmus.pretraining import PCASolution
from isthmus.runtime.device import PRECISIONS
from isthmus.runtime.precision import VARIABLE as PRECISION_VARIABLE
from isthmus.runtime.precision import precision_from_environment, probe_bf16
from isthmus.runtime.threads import limit_threads

VARIANCE_WANTED, FEWEST_COMPONENTS, MOST_COMPONENTS = 0.9, 2, 32
VALIDATION_SHARE, VALIDATION_WANTED, VALIDATION_ENOUGH, VALIDATION_MOST = 0.1, 50, 5000, 0.25
SMALLEST_BATCH, LARGEST_BATCH, STEPS_PER_EPOCH = 64, 512, 50
GRADIENTS_WANTED, FEWEST_EPOCHS, MOST_EPOCHS = 5000, 20, 300
FEWEST_EPOCHS_TO_WAIT, FEWEST_STEPS_TO_WAIT = 10, 500
FEWEST_WEIGHTS_FOR_BF16 = 100_000
FEWEST_ROWS_FOR_MUON, FEWEST_WEIGHTS_FOR_MUON = 20_000, 100_000
MOST_MUON_COST = 4.0
"""Muon is used up to this cost of its orthogonalization, as a multiple of the gradient's."""
DOUBLE_VALUES = 20_000
MOST_LAYERS_AT_RANDOM = 4

T = TypeVar("T")
Value = str | int | float | None


class Choice(NamedTuple, Generic[T]):
    """A default and the reason for it."""

    value: T
    reason: str
    """One plain sentence without its full stop."""


class Decision(TypedDict):
    """A setting that was left open, what it became, and why; plain JSON values."""

    name: str
    value: Value
    reason: str


@dataclass
class Decisions:
    """Every setting that a fit chose itself, in the order of the choices."""

    records: list[Decision] = field(default_factory=list)

    def add(self, name: str, value: Value, reason: str) -> None:
        """Record a decision; a later one of the same name replaces the earlier one."""
        others = [record for record in self.records if record["name"] != name]
        self.records = [*others, Decision(name=name, value=value, reason=reason)]

    def choose(self, name: str, choice: Choice[T]) -> T:
        """Record a default and return its value."""
        value = choice.value
        plain = value if value is None or isinstance(value, (str, int, float)) else str(value)
        self.add(name, plain, choice.reason)
        return value


def choose_kind(schema: Schema) -> Choice[str]:
    """Convolutional for signals, and for images large enough for two stages, else multilayer.

    For images that can be halved only once, dense networks have a lower error in less time.
    """
    if schema.layout == "table":
        return Choice("multilayer", "the rows are a table")
    if schema.layout == "signal":
        return Choice("convolutional", "the rows are signals")
    if len(default_channels(schema.network_shape[1:])) == 1:
        return Choice("multilayer", "images this small can be halved only once")
    return Choice("convolutional", "the rows are images that can be halved more than once")


def choose_loss(preparation: Preparation, *, scaled: bool = False) -> Choice[str]:
    """Mixed if some columns are not plain numbers, Bernoulli for 0 and 1 only, else squared.

    Bernoulli requires that some feature holds both 0 and 1. If the user has set the preparation
    (`scaled`), the prepared values must be 0 and 1 too.
    """
    if preparation.schema.columns is not None:
        return Choice("mixed", "some columns are not plain numbers")
    varies = len(preparation.constant) < preparation.schema.n_features
    in_range = not scaled or 0 <= preparation.low <= preparation.high <= 1
    if preparation.binary and varies and in_range:
        return Choice("bernoulli", "every value is 0 or 1")
    if preparation.binary:
        return Choice("squared", "the values are constant, or scaled to more than 0 and 1")
    return Choice("squared", "the values are numbers, and not all of them are 0 or 1")


def explain_scaling(preparation: Preparation) -> Choice[str]:
    """The scaling that "auto" became, and why."""
    scaling = preparation.scaling
    if scaling == "unit":
        reason = "the loss needs values from 0 to 1"
    elif scaling == SIZE_FACTORS:
        reason = "every column is a count, and there are enough of them to estimate size factors"
    elif preparation.schema.columns is not None:
        reason = "the columns are of different kinds, so each is scaled by itself"
    elif scaling == "standard":
        reason = "the named columns do not share one range, so each is scaled by itself"
    else:
        reason = "one scale for all features keeps the metric of the data, as in PCA"
    return Choice(scaling, reason)


def choose_components(solution: PCASolution, n_features: int) -> Choice[int]:
    """The components that hold 90 % of the variance, from 2 to 32, fewer than the features."""
    shares = (solution.scales.square().cumsum(0) / max(solution.total_variance, 1e-300)).tolist()
    enough = 1 + sum(share < VARIANCE_WANTED for share in shares)
    most = max(1, min(MOST_COMPONENTS, n_features - 1))
    fewest = min(FEWEST_COMPONENTS, most)
    size = int(np.clip(enough, fewest, most))
    share = shares[min(size, len(shares)) - 1] if shares else 0.0
    return Choice(
        size,
        f"{size} principal components hold {share:.0%} of the variance; the aim is "
        f"{VARIANCE_WANTED:.0%}, with {fewest} to {most} components",
    )


def choose_validation_fraction(rows: float) -> Choice[float]:
    """A tenth of the rows, at least 50 but never over a quarter, and at most 5000."""
    wanted = max(VALIDATION_SHARE * rows, VALIDATION_WANTED)
    fraction = min(wanted, VALIDATION_ENOUGH, VALIDATION_MOST * rows) / max(rows, 1)
    return Choice(fraction, "a tenth of the rows, from 50 to 5,000, and never over a quarter")


def choose_optimizer(rows: int, network: nn.Module, batch_size: int | None = None) -> Choice[str]:
    """Muon for large networks of matrices and many rows in large batches, else AdamW.

    Orthogonalizing a matrix costs as much as the gradient of a batch about as large as its shorter
    side, so it pays in large batches only; `batch_size` is None if Muon may choose it. Convolution
    filters are not matrices. Muon's steps have one size in all directions, which drives logistic
    units into saturation.
    """
    matrices = sum(p.numel() for p in network.parameters() if p.ndim == 2)
    others = sum(p.numel() for p in network.parameters() if p.ndim > 2)
    logistic = any(isinstance(module, nn.Sigmoid) for module in network.modules())
    if matrices < max(FEWEST_WEIGHTS_FOR_MUON, 10 * others):
        return Choice("adamw", "the network is not a large dense one")
    if logistic:
        return Choice("adamw", "the network has logistic units")
    if rows < FEWEST_ROWS_FOR_MUON:
        return Choice("adamw", f"there are fewer than {FEWEST_ROWS_FOR_MUON:,} training rows")
    batch_size = batch_size or Muon().choose_batch_size(rows)
    cost = Muon().relative_cost(network, batch_size)
    if cost > MOST_MUON_COST:
        reason = f"in batches of {batch_size}, Muon's step costs {cost:.2g} times a gradient"
        return Choice("adamw", reason)
    return Choice("muon", f"a large dense network and {FEWEST_ROWS_FOR_MUON:,} rows or more")


def choose_pretraining(network: CodeNetwork) -> Choice[str]:
    """Layer by layer for deep networks without a linear path, else random weights.

    A random start of few layers learns as much in half the time. If it learned only the average
    row, the fit starts again layer by layer.
    """
    if network.encoder is not None and network.encoder.depth > MOST_LAYERS_AT_RANDOM:
        return Choice("autoencoder", "the network is deep and has no linear path to start from PCA")
    return Choice("random", "the network has few layers and no linear path to start from PCA")


def choose_batch_size(rows: int) -> Choice[int]:
    """A power of two from 64 to 512 that gives about 50 steps per epoch."""
    power = 2 ** round(np.log2(max(rows / STEPS_PER_EPOCH, 1)))
    size = int(np.clip(power, SMALLEST_BATCH, LARGEST_BATCH))
    return Choice(
        size, f"a power of two from 64 to 512, for about {STEPS_PER_EPOCH} steps per epoch"
    )


def choose_epochs(
    rows: int, batch_size: int, evaluations: int = 1, wanted: int = GRADIENTS_WANTED
) -> Choice[int]:
    """Enough epochs for about `wanted` gradients, with `evaluations` per step, from 20 to 300."""
    steps = -(-rows // batch_size) * evaluations
    epochs = int(np.clip(round(wanted / steps), FEWEST_EPOCHS, MOST_EPOCHS))
    return Choice(
        epochs, f"about {wanted:,} gradients, with {FEWEST_EPOCHS} to {MOST_EPOCHS} epochs"
    )


def choose_patience(epochs: int, rows: int, batch_size: int) -> Choice[int]:
    """A quarter of the epochs, at least 10 of them and at least 500 steps.

    With few rows an epoch has so few steps that some epochs without a gain show nothing.
    """
    steps = -(-rows // batch_size)
    patience = max(FEWEST_EPOCHS_TO_WAIT, epochs // 4, FEWEST_STEPS_TO_WAIT // steps)
    return Choice(patience, "a quarter of the epochs, at least 10 epochs and 500 steps")


def choose_plateau(epochs: int) -> int:
    """A twentieth of the epochs, at least 2."""
    return max(2, epochs // 20)


def precision_remarks(
    precision: str, network: CodeNetwork, batch_size: int, device: torch.device
) -> tuple[str, ...]:
    """A remark if the precision that was set is slow for this network on the device."""
    if precision != "bf16":
        return ()
    fast, reason = measure_bf16(network, batch_size, device)
    return () if fast else (f"precision='bf16' is slower here than 'float32': {reason}",)


def choose_first_precision(values: int, device: torch.device) -> Choice[str]:
    """Double for small data on a processor, else single; `ISTHMUS_PRECISION` replaces the choice.

    A large network may still take bf16, which keeps rows and weights in single precision.
    """
    from_environment = precision_from_environment(PRECISIONS)
    if from_environment is not None:
        return Choice(from_environment, f"the environment variable {PRECISION_VARIABLE} is set")
    if values <= DOUBLE_VALUES and device.type == "cpu":
        return Choice("float64", f"the training rows hold at most {DOUBLE_VALUES:,} values")
    return Choice("float32", f"the training rows hold more than {DOUBLE_VALUES:,} values")


def choose_precision(
    first: Choice[str], network: CodeNetwork, batch_size: int, device: torch.device
) -> Choice[str]:
    """bf16 for large networks that train faster in it on this device, else the first choice.

    The speed is measured, since no flag of a processor tells it. Optimizers that compare losses
    need single precision at least, and do not ask.
    """
    if first.value != "float32" or precision_from_environment(PRECISIONS) is not None:
        return first
    if sum(p.numel() for p in network.parameters()) < FEWEST_WEIGHTS_FOR_BF16:
        return Choice("float32", f"the network has fewer than {FEWEST_WEIGHTS_FOR_BF16:,} weights")
    fast, reason = measure_bf16(network, batch_size, device)
    return Choice("bf16" if fast else "float32", reason)


def measure_bf16(network: CodeNetwork, batch_size: int, device: torch.device) -> tuple[bool, str]:
    """Whether a network trains faster in bfloat16 than in single precision, and why."""
    if device.type == "cuda":
        fast = bool(torch.cuda.is_bf16_supported())
        return fast, f"the GPU {'has' if fast else 'lacks'} units for bf16"
    if device.type != "cpu":
        return False, "bf16 is used on processors and CUDA GPUs only"
    with limit_threads(batch_size * network.multiply_adds, device):
        probe = probe_bf16(network, network.facts.shape, batch_size)
    return probe.is_faster, (
        f"a forward and backward pass takes {1000 * probe.float32:.3g} ms in float32 and "
        f"{1000 * probe.bf16:.3g} ms in bf16, measured on this machine"
    )
