"""Rows of any shape go in and come out in that shape, through the widths that were asked for."""

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.errors import RequestError
from isthmus.kinds import KINDS, Convolutional, Multilayer, Regularized, Vanilla
from isthmus.kinds.blocks import Dense
from isthmus.kinds.convolutional import default_channels
from isthmus.kinds.multilayer import taper
from isthmus.types import Facts

TABLES = [(1,), (2,), (3,), (5,), (8,), (13,), (20,)]
SIGNALS = [(1, 1), (1, 7), (1, 140), (2, 7), (3, 1), (3, 140)]
IMAGES = [(1, 1, 1), (1, 3, 5), (1, 17, 31), (3, 8, 8), (2, 5, 4), (4, 9, 2), (1, 28, 28)]


@pytest.mark.parametrize("shape", TABLES + SIGNALS + IMAGES, ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_rows_come_back_in_their_shape(name, shape):
    components = min(3, int(np.prod(shape)))
    network = KINDS[name]().build(Facts(shape=shape), components)
    output = network(torch.randn(4, *shape))
    assert output.code.shape == (4, components)
    assert output.reconstruction.shape == (4, *shape)
    assert network.decode(torch.randn(1, components)).shape == (1, *shape)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 3, 5), (1, 17, 31), (1, 7), (2, 140), (6,)], ids=str
)
def test_every_stage_of_the_decoder_restores_the_size_its_mirror_met(shape, kernel_size):
    kind = Convolutional(channels=(2, 3, 4), kernel_size=kernel_size)
    network = kind.build(Facts(shape=shape), 1)
    met: dict[nn.Module, torch.Size] = {}
    for stack in (network.encoder, network.decoder):
        for convolution in stack.convolutions:
            convolution.register_forward_hook(
                lambda layer, given, out: met.update({layer: (given[0].shape, out.shape)})
            )
    network(torch.randn(2, *shape))
    down = [met[layer] for layer in network.encoder.convolutions]
    up = [met[layer] for layer in network.decoder.convolutions]
    assert up == [(after, before) for before, after in reversed(down)]
    for before, after in down:
        assert after[2:] == tuple(-(-side // 2) for side in before[2:])


def test_a_table_is_read_as_a_signal_of_one_channel():
    network = Convolutional(skip=False).build(Facts(shape=(20,)), 2)
    signal = Convolutional(skip=False).build(Facts(shape=(1, 20)), 2)
    signal.load_state_dict(network.state_dict())
    x = torch.randn(3, 20)
    assert torch.equal(network.encode(x), signal.encode(x[:, None]))
    assert torch.equal(network(x).reconstruction, signal(x[:, None]).reconstruction[:, 0])


@pytest.mark.parametrize(
    ("sides", "channels"),
    [
        ((1,), (16,)),
        ((8, 8), (32,)),
        ((13, 13), (32, 64)),
        ((28, 28), (32, 64, 128)),
        ((64, 64), (32, 64, 128, 128)),
        ((140,), (16, 32, 64, 64, 64)),
        ((1000, 9), (32,)),
        ((1000, 1000), (32, 64, 128, 128, 128)),
    ],
)
def test_stages_end_before_a_side_falls_below_four(sides, channels):
    assert default_channels(sides) == channels


@pytest.mark.parametrize(
    ("features", "components", "widths"),
    [
        (1, 1, (64,)),
        (20, 2, (64,)),
        (64, 8, (128, 64)),
        (200, 10, (400, 200, 100)),
        (784, 30, (1024, 512, 256)),
        (4096, 200, (1024, 512)),
        (64, 64, (128,)),
    ],
)
def test_taper(features, components, widths):
    assert taper(None, Facts(shape=(features,)), components) == widths


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("hidden", [(), (7,), (9, 5, 4)])
@pytest.mark.parametrize("kind", [Multilayer, Regularized])
def test_the_decoder_mirrors_the_encoder(kind, hidden, tied):
    network = kind(hidden=hidden, tied=tied).build(Facts(shape=(11,)), 3)
    if kind is Regularized and not hidden:
        assert network.encoder is None
        assert network.linear is not None
        return
    assert network.encoder.widths == (11, *hidden, 3)
    assert network.decoder.widths == (3, *hidden[::-1], 11)
    for layer, mirror in zip(network.encoder.layers, reversed(network.decoder.layers), strict=True):
        assert mirror.bias.shape == (layer.in_features,)


def test_none_tapers_and_auto_widths_are_used():
    network = Multilayer().build(Facts(shape=(64,)), 8)
    assert isinstance(network.encoder, Dense)
    assert network.encoder.widths == (64, *taper(None, Facts(shape=(64,)), 8), 8)


def test_only_a_regularized_code_may_be_wider_than_its_input():
    assert Regularized().build(Facts(shape=(3,)), 8)(torch.randn(2, 3)).code.shape == (2, 8)
    for kind in (Vanilla(), Multilayer(), Convolutional()):
        with pytest.raises(RequestError, match="n_components=4 is more than the 3 features"):
            kind.build(Facts(shape=(3,)), 4)
        assert kind.build(Facts(shape=(3,)), 3)(torch.randn(2, 3)).code.shape == (2, 3)


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 8, 8)])
def test_maps_lie_as_asked_and_give_the_same(shape):
    told, strides = {}, {}
    for name in ("auto", "channels_last", "contiguous"):
        torch.manual_seed(0)
        kind = Convolutional(channels=(4, 6), memory_format=name)
        network = kind.build(Facts(shape=shape), 3).double()
        convolution = network.encoder.convolutions[0]
        seen = []
        convolution.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        x = torch.rand(5, *shape, dtype=torch.float64)
        rebuilt = network(x).reconstruction
        (rebuilt - x).square().mean().backward()
        assert rebuilt.is_contiguous()
        told[name] = [rebuilt, *(parameter.grad for parameter in network.parameters())]
        strides[name] = seen[0].stride(1)
        chosen = kind.device_settings(torch.device("cpu"), Facts(shape=shape))
        assert chosen == {"memory_format": "channels_last" if name == "auto" else name}
    # Also of a single map, which is the same memory either way: torch asks for its strides.
    assert strides == {"auto": 1, "channels_last": 1, "contiguous": shape[1] * shape[2]}
    torch.testing.assert_close(told["auto"], told["contiguous"])
    torch.testing.assert_close(told["channels_last"], told["contiguous"])


BAD_SETTINGS = (
    ({"activation": "swish"}, "activation='swish' is not known; use one of linear, silu"),
    ({"output": "clipped"}, "output='clipped' is not known"),
    ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
    ({"dropout": -0.1}, "dropout=-0.1"),
    ({"hidden": (8, 0)}, r"hidden=\(8, 0\): every width must be a whole number >= 1"),
    ({"hidden": (8.5,)}, r"hidden=\(8.5,\)"),
    ({"hidden": (8.0,)}, r"hidden=\(8.0,\)"),
    ({"hidden": 64}, r"hidden=64 must be a tuple of widths, such as \(64,\)"),
    ({"channels": ()}, r"channels=\(\) has no stage"),
    ({"channels": (-1,)}, r"channels=\(-1,\)"),
    ({"kernel_size": 4}, "kernel_size=4 must be a positive, uneven number"),
    ({"kernel_size": -1}, "kernel_size=-1"),
    ({"memory_format": "last"}, "memory_format='last' is not known; use one of auto, channels_"),
    ({"denoising": 1.5}, "denoising=1.5"),
    ({"target_rate": 1.0}, "target_rate=1.0 must lie between 0 and 1"),
    ({"code_activation": "step"}, "activation='step' is not known"),
)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (name, settings, message)
        for name, kind in KINDS.items()
        for settings, message in BAD_SETTINGS
        if settings.keys() <= kind().get_params().keys()
    ],
    ids=str,
)
def test_a_bad_setting_is_named(name, settings, message):
    with pytest.raises(RequestError, match=message):
        KINDS[name](**settings).build(Facts(shape=(6,), low=0.0, high=1.0), 2)


@pytest.mark.parametrize("components", [0, -3, 2.5, "8"])
@pytest.mark.parametrize("name", KINDS)
def test_a_code_size_that_makes_no_sense_is_named(name, components):
    with pytest.raises(RequestError, match=f"n_components={components!r}"):
        KINDS[name]().build(Facts(shape=(20,)), components)


def test_numpy_widths_are_widths():
    network = Multilayer(hidden=np.array([8, 4])).build(Facts(shape=(6,)), np.int64(2))
    assert network.encoder.widths == (6, 8, 4, 2)
