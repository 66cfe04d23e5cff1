"""The exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARMUP = 10
"""After n steps the average spans at most about n / WARMUP of them, even if `decay` is high."""


@torch.no_grad()
def update_average(
    average: dict[str, Tensor], network: nn.Module, decay: float, steps: int
) -> dict[str, Tensor]:
    """The average after `steps` steps: decay * average + (1 - decay) * weights.

    Early in a fit the decay is lower, (1 + steps) / (10 + steps), so that the initial weights
    soon lose their influence. An empty `average` starts at the current weights.
    """
    weights = network.state_dict()
    if not average:
        return {name: value.detach().clone() for name, value in weights.items()}
    share = 1 - min(decay, (1 + steps) / (WARMUP + steps))
    for name, value in weights.items():
        if value.is_floating_point():
            average[name].lerp_(value, share)
    return average


@contextmanager
def averaged_weights(network: nn.Module, average: Mapping[str, Tensor]) -> Iterator[None]:
    """A context in which the network has the averaged weights, if there are any."""
    if not average:
        yield
        return
    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(dict(average))
    try:
        yield
    finally:
        network.load_state_dict(weights)
