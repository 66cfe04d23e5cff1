"""What networks share: tied weights, dropout, the bounded output, operating points."""

import copy

import pytest
import torch
from torch import nn

from isthmus.kinds import ACTIVATIONS, KINDS, Convolutional, Multilayer, Regularized, Vanilla
from isthmus.kinds.blocks import Bounded
from isthmus.types import Facts

TIED = {
    "vanilla": Vanilla(tied=True, activation="tanh"),
    "multilayer": Multilayer(hidden=(5, 4), tied=True),
    "plain": Multilayer(hidden=(5, 4), tied=True, skip=False),
    "regularized": Regularized(hidden=(5,), tied=True, code_activation="sigmoid"),
    "single": Regularized(hidden=(), tied=True),
}


@pytest.mark.parametrize("name", TIED)
def test_tied_weights_are_one_parameter(name, build):
    network, free = build(TIED[name], (6,), 3), build(copy_untied(TIED[name]), (6,), 3)

    def matrices(module: nn.Module) -> int:
        return sum(p.ndim > 1 for p in module.parameters())

    assert matrices(free) == 2 * matrices(network)
    assert sorted(dict(network.named_parameters())) == sorted(network.state_dict())


def copy_untied(kind):
    return copy.copy(kind).set_params(tied=False)


@pytest.mark.parametrize("name", TIED)
def test_a_tied_weight_gathers_the_gradients_of_both_uses(name, build):
    network = build(TIED[name], (6,), 3)
    x = torch.randn(5, 6, dtype=torch.float64)
    both = gradients(network, lambda: (network(x).reconstruction - x).square().mean())
    code = network.encode(x).detach()
    decoding = gradients(network, lambda: (network.decode(code) - x).square().mean())
    for label, parameter in network.named_parameters():
        if parameter.ndim == 2:
            assert decoding[label].abs().max() > 1e-6
            assert not torch.allclose(both[label], decoding[label])
        i = (0,) * parameter.ndim
        assert both[label][i].item() == pytest.approx(slope(network, parameter, i, x), abs=1e-7)


def gradients(network, loss):
    network.zero_grad()
    loss().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in network.named_parameters()
    }


@torch.no_grad()
def slope(network, parameter, index, x, step=1e-6):
    values = []
    for sign in (1, -1):
        parameter[index] += sign * step
        values.append((network(x).reconstruction - x).square().mean().item())
        parameter[index] -= sign * step
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("name", TIED)
def test_a_copy_of_a_tied_network_is_tied_to_itself(name, build):
    network = build(TIED[name], (6,), 3)
    twin = copy.deepcopy(network)
    x = torch.randn(2, 6, dtype=torch.float64)
    before = twin(x).reconstruction
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(twin(x).reconstruction, before)
    assert twin.float()(x.float()).reconstruction.dtype == torch.float32


@pytest.mark.parametrize(
    "kind",
    [Multilayer(hidden=(5, 4)), Multilayer(hidden=(5,), tied=True), Convolutional(channels=(2, 3))],
    ids=str,
)
def test_nothing_bends_after_the_last_layer(kind, build):
    network = build(kind, (1, 4, 4), 3)
    code = torch.randn(5, 3, dtype=torch.float64)
    before = network.decoder(code).flatten(1)
    last = (getattr(network.decoder, "layers", None) or network.decoder.convolutions)[-1]
    last.register_forward_hook(lambda layer, given, out: -2 * out)
    torch.testing.assert_close(network.decoder(code).flatten(1), -2 * before)


WITH_DROPOUT = {
    "vanilla": Vanilla(dropout=0.5),
    "multilayer": Multilayer(hidden=(32,), dropout=0.5),
    "regularized": Regularized(hidden=(32,), dropout=0.5),
    "single": Regularized(hidden=(), dropout=0.5),
    "image": Convolutional(channels=(8,), dropout=0.5),
}


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_falls_in_training_only(name, build):
    network = build(WITH_DROPOUT[name], (1, 4, 4), 6)
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    rebuilt = network(x).reconstruction
    assert torch.equal(network(x).reconstruction, rebuilt)
    network.train()
    assert not torch.equal(network(x).reconstruction, network(x).reconstruction)
    if name in ("vanilla", "single"):  # linear, so that the mean over the masks is the whole
        many = torch.stack([network(x).reconstruction for _ in range(1000)]).mean(dim=0)
        torch.testing.assert_close(many, rebuilt, atol=0.3, rtol=0)
    assert torch.equal(network(x).code, network.eval()(x).code) == (name in ("vanilla", "single"))


def test_there_is_a_tiny_network_with_dropout_of_every_kind():
    assert {type(kind) for kind in WITH_DROPOUT.values()} == set(KINDS.values())


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.5, 0.25), (2.0, 2.0), (-1e4, 1e4)])
def test_a_bounded_output_reaches_both_ends_and_keeps_within_its_margin(low, high):
    bounded = Bounded(low, high).double()
    room = 0.05 * max(high - low, 1e-6)
    ends = bounded(torch.tensor([-1e9, 1e9], dtype=torch.float64))
    torch.testing.assert_close(
        ends, torch.tensor([low - room, high + room], dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
    reached = bounded(torch.tensor([-3.1, 3.1], dtype=torch.float64))
    assert reached[0] <= low
    assert reached[1] >= high
    slope, offset = bounded.linearised()
    middle = torch.tensor((low + high) / 2, dtype=torch.float64)
    torch.testing.assert_close(bounded(slope * middle + offset), middle)
    near = middle + 0.01 * (high - low)
    assert abs(bounded(slope * near + offset) - near) < 1e-4 * (high - low) + 1e-12


@pytest.mark.parametrize("name", KINDS)
def test_a_bounded_network_never_leaves_the_margin(name, build):
    network = build(KINDS[name](output="bounded"), (1, 4, 4), 2, low=0.0, high=1.0)
    x = 100 * torch.randn(50, 1, 4, 4, dtype=torch.float64)
    rebuilt = network(x).reconstruction
    assert -0.05 - 1e-12 <= rebuilt.min() < 0.05
    assert 0.95 < rebuilt.max() <= 1.05 + 1e-12


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_a_line_around_its_operating_point(name):
    point, z = ACTIVATIONS[name].operating_point, torch.linspace(-3, 3, 601, dtype=torch.float64)
    act = ACTIVATIONS[name].module()(point.gain * z + point.offset)
    assert (act - point.rise * z - point.level).abs().max() < 0.03 * point.rise


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_code_ranges_are_the_activations_ends(name):
    far = ACTIVATIONS[name].module()(torch.tensor([-60.0, 60.0], dtype=torch.float64)).tolist()
    code_range = ACTIVATIONS[name].code_range
    if code_range is not None:
        assert far == pytest.approx(code_range)
    else:
        assert far[1] == pytest.approx(60.0)
    network = Vanilla(activation=name).build(Facts(shape=(3,)), 2)
    assert network.code_range == code_range


def test_wants_names_what_the_settings_ask_for():
    assert Vanilla().defaults() == ((), None)
    assert Regularized().defaults() == ((), ("masking", {"rate": 0.1}))
    assert Regularized(denoising=0.0, sparsity=0.2).defaults() == ((("l1", {"weight": 0.2}),), None)
    both = Regularized(denoising=0.0, sparsity=0.2, target_rate=0.1, contraction=0.3).defaults()
    assert both.penalties == (
        ("kl", {"weight": 0.2, "target_rate": 0.1}),
        ("contraction", {"weight": 0.3}),
    )


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        (Regularized(), "linear"),
        (Regularized(sparsity=0.1), "relu"),
        (Regularized(sparsity=0.1, target_rate=0.1), "sigmoid"),
        (Regularized(sparsity=0.1, code_activation="tanh"), "tanh"),
    ],
    ids=str,
)
def test_the_code_of_a_sparse_network_can_be_sparse(kind, activation):
    assert kind.build(Facts(shape=(5,)), 7).code_activation_name == activation
