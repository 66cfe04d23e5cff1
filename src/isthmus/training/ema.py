"""Weight averaging: a running mean of the weights, smoother than any one of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

HEAD_START = 10
"""After n steps the mean spans no more than about n / HEAD_START of them, however slow it is."""


@torch.no_grad()
def update_average(
    average: dict[str, Tensor], network: nn.Module, decay: float, steps: int
) -> dict[str, Tensor]:
    """The running mean after `steps` steps: decay * mean + (1 - decay) * weights.

    Early on the decay is lower, (1 + steps) / (10 + steps), so that the start is soon forgotten.
    An empty `average` begins at the weights as they are.
    """
    weights = network.state_dict()
    if not average:
        return {name: value.detach().clone() for name, value in weights.items()}
    share = 1 - min(decay, (1 + steps) / (HEAD_START + steps))
    for name, value in weights.items():
        if value.is_floating_point():
            average[name].lerp_(value, share)
    return average


@contextmanager
def averaged_weights(network: nn.Module, average: Mapping[str, Tensor]) -> Iterator[None]:
    """The network with the averaged weights in it, where there are any, for as long as it takes."""
    if not average:
        yield
        return
    kept = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(dict(average))
    try:
        yield
    finally:
        network.load_state_dict(kept)
