"""Every network with a linear path begins at scikit-learn's PCA, and can leave it."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from isthmus.kinds import ACTIVATIONS, KINDS, Convolutional, Multilayer, Regularized, Vanilla
from isthmus.optim import AdamW
from isthmus.types import Facts

ROWS, SIDE, K = 60, 4, 3
BOUNDED = [name for name in ACTIVATIONS if ACTIVATIONS[name].code_range]
OPEN = [name for name in ACTIVATIONS if name not in BOUNDED]

LINEAR_CODES = {
    "vanilla": Vanilla(),
    "vanilla tied": Vanilla(tied=True),
    "multilayer": Multilayer(hidden=(7,)),
    "multilayer deep": Multilayer(hidden=(9, 6, 5), activation="tanh"),
    "multilayer without layers": Multilayer(hidden=()),
    "multilayer tied": Multilayer(hidden=(9, 6), tied=True),
    "regularized": Regularized(hidden=(7,)),
    "regularized single": Regularized(hidden=(), skip=False),
    "regularized tied": Regularized(hidden=(7,), tied=True),
    "convolutional": Convolutional(channels=(3, 4)),
    "convolutional elu": Convolutional(activation="elu", channels=(3,)),
}


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Correlated pixels, far from zero, in no more than 3 standard deviations."""
    rng = np.random.default_rng(0)
    low_rank = rng.uniform(-1.7, 1.7, (ROWS, 6)) @ rng.normal(size=(6, SIDE * SIDE))
    return 5 + low_rank + 0.1 * rng.normal(size=(ROWS, SIDE * SIDE))


def start(kind, rows, n_components=K, *, components=None, link=(1.0, 0.0)):
    """The network at its start, the PCA it was given, and the rows as images."""
    pca = PCA(min(components or n_components, *rows.shape)).fit(rows)
    shape = (1, SIDE, SIDE)
    torch.manual_seed(1)
    facts = Facts(shape=shape, low=rows.min(), high=rows.max())
    network = kind.build(facts, n_components).double()
    scales = np.sqrt(pca.explained_variance_ * (ROWS - 1) / ROWS)
    real = scales > 1e-9
    parts = (pca.components_[real], scales[real], pca.mean_)
    network.start_linear(*map(torch.tensor, parts), link)
    return network.eval(), pca, torch.tensor(rows).reshape(-1, *shape)


def rebuilt(pca, rows):
    return pca.inverse_transform(pca.transform(rows))


def reconstruction(network, x):
    return network(x).reconstruction.detach().flatten(1).numpy()


def test_every_kind_is_here():
    assert {type(kind) for kind in LINEAR_CODES.values()} == set(KINDS.values())


@pytest.mark.parametrize("name", LINEAR_CODES)
def test_linear_codes_start_exactly_at_pca(name, rows):
    network, pca, x = start(LINEAR_CODES[name], rows)
    np.testing.assert_allclose(reconstruction(network, x), rebuilt(pca, rows), atol=1e-8, rtol=0)
    codes, theirs = network.encode(x).detach().numpy(), pca.transform(rows)
    if not network.linear.tied:
        theirs = theirs / theirs.std(axis=0)
    np.testing.assert_allclose(codes, theirs, atol=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", [Vanilla, Regularized])
def test_curved_codes_start_near_pca(kind, activation, rows):
    settings = {"activation": activation} if kind is Vanilla else {"code_activation": activation}
    assert_near_pca(kind(**settings), rows)


@pytest.mark.parametrize("activation", OPEN)
def test_tied_codes_that_straighten_out_start_near_pca(activation, rows):
    assert_near_pca(Vanilla(tied=True, activation=activation), rows)
    assert_near_pca(Regularized(tied=True, hidden=(5,), code_activation=activation), 30 * rows)


def assert_near_pca(kind, rows):
    network, pca, x = start(kind, rows)
    off = reconstruction(network, x) - rebuilt(pca, rows)
    assert kind.starts_linear
    assert np.abs(off).max() < 0.02 * rows.std(axis=0).max()


@pytest.mark.parametrize("activation", BOUNDED)
def test_tied_codes_that_bend_for_ever_do_not_claim_a_linear_start(activation):
    assert not Vanilla(tied=True, activation=activation).starts_linear
    assert not Regularized(tied=True, code_activation=activation).starts_linear
    assert Vanilla(activation=activation).starts_linear
    assert Regularized(code_activation=activation).starts_linear


@pytest.mark.parametrize(
    ("kind", "linear"),
    [
        (Multilayer(skip=False), False),
        (Convolutional(skip=False), False),
        (Regularized(skip=False), False),
        (Regularized(skip=False, hidden=(4,)), False),
        (Regularized(skip=False, hidden=()), True),
        (Regularized(skip=False, hidden=[]), True),
        (Regularized(sparsity=0.1), False),
        (Regularized(sparsity=0.1, hidden=()), False),
        *((kind(), True) for kind in KINDS.values()),
    ],
    ids=str,
)
def test_who_starts_linear(kind, linear):
    assert kind.starts_linear == linear


@pytest.mark.parametrize("tied", [False, True])
def test_an_overcomplete_code_starts_at_the_rows_themselves(tied, rows):
    kind = Regularized(hidden=(5,), tied=tied)
    network, _, x = start(kind, rows, 20, components=16)
    atol = 1e-4 if tied else 1e-8  # the resting units of a tied path hum, or they would never wake
    np.testing.assert_allclose(reconstruction(network, x), rows, atol=atol, rtol=0)
    codes = network.encode(x).detach().numpy()
    assert codes.shape == (ROWS, 20)
    assert tied or np.allclose(codes[:, :16].std(axis=0), 1)


@pytest.mark.parametrize("kind", [Vanilla(), Vanilla(activation="relu"), Multilayer(hidden=(5,))])
def test_rows_of_lower_rank_leave_units_at_rest(kind, rng):
    flat = 3 + rng.uniform(-1, 1, (ROWS, 2)) @ rng.normal(size=(2, SIDE * SIDE))
    network, _, x = start(kind, flat, 5)
    np.testing.assert_allclose(reconstruction(network, x), flat, atol=1e-6)
    gradients = gradients_after(network, x + torch.randn_like(x))
    assert (gradients["linear.decode_weight"][2:].norm(dim=1) > 1e-6).all()


def test_constant_rows_start_at_their_mean():
    flat = np.full((ROWS, SIDE * SIDE), 0.1)
    network, _, x = start(Vanilla(), flat, 2)
    np.testing.assert_allclose(reconstruction(network, x), flat, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_a_link_is_applied_to_what_pca_rebuilds(tied, rows):
    network, pca, x = start(Vanilla(tied=tied), rows, link=(4.0, -2.0))
    wanted = 4 * rebuilt(pca, rows) - 2
    np.testing.assert_allclose(reconstruction(network, x), wanted, atol=1e-8)


def test_a_bounded_output_starts_near_pca(rows):
    network, pca, x = start(Vanilla(output="bounded"), rows)
    ours, theirs = reconstruction(network, x), rebuilt(pca, rows)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99
    assert ours.min() > network.output.low
    assert ours.max() < network.output.high


def gradients_after(network, x):
    network.zero_grad()
    (network(x).reconstruction - x).square().mean().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


NONLINEAR = LINEAR_CODES.keys() - {
    "vanilla",
    "vanilla tied",
    "multilayer without layers",  # its stacks are straight, too, and PCA is where they end
    "regularized single",
}


@pytest.mark.parametrize("name", sorted(NONLINEAR))
def test_the_silent_paths_wake_up(name, rows):
    network, _, x = start(LINEAR_CODES[name], rows)
    code = network.encode(x).detach()
    assert torch.equal(code, network.linear.encode(x).detach())
    assert torch.equal(network.decode(code).flatten(1), network.linear.decode(code))
    gradients_after(network, x)
    # PCA's residual is orthogonal to its components, so only the decoder can learn at first.
    first = last_layer(network.decoder).weight if network.gate is None else network.gate
    assert first.abs().max() == 0
    assert first.grad.abs().max() > 1e-6
    optimizer = AdamW().build(network)
    for _ in range(4):  # then the encoder's last layer, then what lies before it
        optimizer.step()
        gradients = gradients_after(network, x)
    assert [name for name, gradient in gradients.items() if gradient.abs().max() < 1e-10] == []
    assert (network.encode(x) - network.linear.encode(x)).abs().max() > 1e-10
    assert (network.decode(code).flatten(1) - network.linear.decode(code)).abs().max() > 1e-10


def last_layer(stack):
    return stack.layers[-1] if hasattr(stack, "layers") else stack.convolutions[-1]
