"""How many multiply-adds a row takes, counted by what each layer is seen to make."""

import pytest
import torch
from torch import nn

from isthmus import kinds
from isthmus.types import Facts


def counted(network, shape):
    """Products of one row's way through, from the shapes that go in and out of each module."""
    found = []

    def see(module, given, made):
        weight = module.weight
        # Of a transposed convolution each number that goes in meets a filter for each map made.
        several = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d)
        numbers = given[0][0].numel() if several else made[0].numel()
        found.append(numbers * weight[:, 0].numel() // len(weight) * weight.shape[1])

    for module in network.modules():
        if getattr(module, "weight", None) is not None:
            module.register_forward_hook(see)
    network(torch.zeros(1, *shape))
    straight = network.linear
    if straight is not None:
        found += [w.numel() for w in straight.parameters() if w.ndim > 1]
    return sum(found)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (kinds.Multilayer, (7,)),
        (kinds.Convolutional, (1, 28, 28)),
        (kinds.Convolutional, (3, 13, 9)),
        (kinds.Convolutional, (2, 50)),
        (kinds.Convolutional, (40,)),
    ],
)
def test_multiply_adds_are_those_of_all_layers(kind, shape, skip):
    network = kind(skip=skip).build(Facts(shape=shape), 3)
    assert network.multiply_adds == counted(network, shape)


def test_a_network_of_one_layer_has_two_matrices():
    assert kinds.Vanilla().build(Facts(shape=(64,)), 32).multiply_adds == 2 * 64 * 32
