"""One batch after its forward pass, as penalties see it."""

from collections.abc import Callable

import pytest
import torch

from isthmus.types import Facts, Output, Step


@pytest.fixture
def step_of() -> Callable[..., Step]:
    """step_of(kind, x, n_components, weight=...) runs a network with random weights on x."""

    def step(kind, x, n_components=3, *, weight=None, std=0.5):
        torch.manual_seed(0)
        x = torch.as_tensor(x, dtype=torch.float64)
        facts = Facts(shape=tuple(x.shape[1:]), low=float(x.min()), high=float(x.max()))
        network = kind.build(facts, n_components).double()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=std)
        weight = torch.ones(len(x), dtype=torch.float64) if weight is None else weight
        return Step(network, x, x, network(x), torch.as_tensor(weight, dtype=torch.float64))

    return step


@pytest.fixture
def coded() -> Callable[..., Step]:
    """coded(codes, weight, code_range) is a step of a network that gave these codes."""

    def step(codes, weight=None, code_range=None):
        codes = torch.as_tensor(codes, dtype=torch.float64)
        weight = torch.ones(len(codes)) if weight is None else torch.as_tensor(weight)
        network = torch.nn.Module()
        network.code_range = code_range
        return Step(network, codes, codes, Output(codes, codes), weight.double())

    return step
