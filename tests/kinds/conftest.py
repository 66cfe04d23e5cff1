"""Networks of every kind in double precision, with no path silent."""

from collections.abc import Callable

import pytest
import torch

from isthmus.kinds import CodeNetwork, Kind
from isthmus.types import Facts


@pytest.fixture
def build() -> Callable[..., CodeNetwork]:
    """build(kind, shape, n_components) gives a network whose weights are all drawn at random."""

    def built(
        kind: Kind, shape: tuple[int, ...], n_components: int, *, low: float = -2, high: float = 2
    ) -> CodeNetwork:
        torch.manual_seed(0)
        network = kind.build(Facts(shape=shape, low=low, high=high), n_components).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=0.3)
        return network.eval()

    return built
