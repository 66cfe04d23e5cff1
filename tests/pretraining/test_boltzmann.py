"""The machine itself beside exact enumeration, integration, and scikit-learn's BernoulliRBM."""

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate
from sklearn.neural_network import BernoulliRBM

from isthmus.pretraining import RBM, BoltzmannMachine
from isthmus.pretraining.boltzmann import logit
from isthmus.pretraining.rbm import RBMTrainer

DOUBLE = torch.float64


def machine(visible=4, hidden=3, scale=0.7, **units):
    torch.manual_seed(1)
    return BoltzmannMachine(
        scale * torch.randn(hidden, visible, dtype=DOUBLE),
        scale * torch.randn(visible, dtype=DOUBLE),
        scale * torch.randn(hidden, dtype=DOUBLE),
        **units,
    )


def states(units):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=DOUBLE)


def energy(m, v, h):
    """(v states, h states), written out from the definition."""
    own_v = (v - m.visible_bias).square().sum(1) / 2 if m.linear_visible else -v @ m.visible_bias
    own_h = (h - m.hidden_bias).square().sum(1) / 2 if m.linear_hidden else -h @ m.hidden_bias
    return own_v[:, None] + own_h[None] - v @ m.weight.t() @ h.t()


def exact_gradient(m, rows):
    """The gradient of the mean log-likelihood, every state of the machine counted."""
    parameters = [p.clone().requires_grad_() for p in (m.weight, m.visible_bias, m.hidden_bias)]
    twin = BoltzmannMachine(*parameters)
    everything = energy(twin, states(len(m.visible_bias)), states(len(m.hidden_bias)))
    some = energy(twin, rows, states(len(m.hidden_bias)))
    likelihood = torch.logsumexp(-some, dim=1).mean() - torch.logsumexp(-everything.flatten(), 0)
    return torch.autograd.grad(likelihood, parameters)


def far(gradient, exact):
    """The distance of two gradients, relative to the length of the second."""
    apart = sum(float((a - b).square().sum()) for a, b in zip(gradient, exact, strict=True))
    return (apart / sum(float(b.square().sum()) for b in exact)) ** 0.5


@pytest.fixture
def rows(rng):
    return torch.as_tensor(rng.integers(0, 2, (40000, 4)) * [1, 1, 0, 1], dtype=DOUBLE)


def test_free_energy_and_conditionals_by_enumeration():
    m = machine()
    v, h = states(4), states(3)
    torch.testing.assert_close(m.free_energy(v), -torch.logsumexp(-energy(m, v, h), dim=1))
    p = torch.softmax(-energy(m, v, h), dim=1)
    torch.testing.assert_close(m.hidden(v), p @ h)
    p = torch.softmax(-energy(m, v, h).t(), dim=1)
    torch.testing.assert_close(m.visible(h), p @ v)


@pytest.mark.parametrize("linear_visible", [False, True])
def test_free_energy_with_a_linear_unit_above_by_integration(linear_visible):
    m = machine(3, 1, linear_visible=linear_visible, linear_hidden=True)
    v = torch.randn(5, 3, dtype=DOUBLE) if linear_visible else states(3)[:5]
    for row, found in zip(v, m.free_energy(v), strict=True):

        def density(h, row=row):
            return float(torch.exp(-energy(m, row[None], torch.tensor([[h]], dtype=DOUBLE))))

        whole, _ = integrate.quad(density, -20, 20)
        assert float(found) == pytest.approx(-np.log(whole), abs=1e-8)


def test_free_energy_of_linear_rows_is_that_of_a_mixture_of_gaussians():
    # Each state h of logistic units is a Gaussian at b + W' h; their weights follow from E.
    m = machine(3, 2, linear_visible=True)
    v, h = torch.randn(6, 3, dtype=DOUBLE), states(2)
    centres = m.visible(h)
    heights = h @ m.hidden_bias + (centres.square() - m.visible_bias.square()).sum(1) / 2
    logs = heights - (v[:, None] - centres).square().sum(2) / 2
    torch.testing.assert_close(m.free_energy(v), -torch.logsumexp(logs, dim=1))


def test_linear_units_are_drawn_with_unit_variance():
    m = machine(2, 2, linear_visible=True, linear_hidden=True)
    torch.manual_seed(0)
    mean = torch.tensor([1.0, -2.0], dtype=DOUBLE).expand(20000, 2)
    for draw in (m.sample_hidden(mean), m.sample_visible(mean)):
        torch.testing.assert_close(draw.mean(0), mean[0], atol=0.05, rtol=0)
        torch.testing.assert_close(draw.var(0), torch.ones(2, dtype=DOUBLE), atol=0.05, rtol=0)


def test_one_step_of_contrastive_divergence_is_the_expectation_over_its_states(rows):
    m = machine()
    torch.manual_seed(0)
    found, _ = m.gradient(rows, torch.ones(len(rows), dtype=DOUBLE), k=1)
    v, h = states(4), states(3)
    on = m.hidden(v)
    chance = torch.stack([torch.where(s > 0, on, 1 - on).prod(dim=1) for s in h], dim=1)
    rebuilt = m.visible(h)
    share = torch.stack([(rows == s).all(dim=1).double().mean() for s in v])
    ends = share @ chance  # how often each hidden state is drawn
    again = m.hidden(rebuilt)
    expected = (
        (share[:, None] * on).t() @ v - (ends[:, None] * again).t() @ rebuilt,
        share @ v - ends @ rebuilt,
        share @ on - ends @ again,
    )
    assert far(found, expected) < 0.02


def test_longer_chains_come_nearer_to_the_likelihood(rows):
    m = machine(scale=3)
    exact, weight = exact_gradient(m, rows), torch.ones(len(rows), dtype=DOUBLE)
    torch.manual_seed(0)
    apart = {k: far(m.gradient(rows, weight, k)[0], exact) for k in (1, 2, 30)}
    assert apart[30] < 0.01 < 0.03 < apart[2] < 0.1 < apart[1]


def test_persistent_chains_forget_where_they_began(rows):
    m = machine(scale=0.5)
    exact, weight = exact_gradient(m, rows), torch.ones(len(rows), dtype=DOUBLE)
    torch.manual_seed(0)
    chains = torch.ones(30000, 4, dtype=DOUBLE)
    for _ in range(30):
        gradient, chains = m.gradient(rows, weight, 1, chains)
    assert far(gradient, exact) < 0.03


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("linear_visible", [False, True])
def test_weights_of_rows_count_in_the_gradient(k, linear_visible, rng):
    m = machine(linear_visible=linear_visible)
    x = torch.as_tensor(rng.integers(0, 2, (50, 4)), dtype=DOUBLE)
    weight = torch.ones(50, dtype=DOUBLE)
    weight[25:] = 0
    torch.manual_seed(0)
    one, _ = m.gradient(x, weight, k)
    torch.manual_seed(0)
    x[25:] = 1 - x[25:]
    other, _ = m.gradient(x, weight, k)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


def test_the_same_as_scikit_learn_for_the_same_weights(bits):
    theirs = BernoulliRBM(30, n_iter=2, random_state=0).fit(bits)
    m = BoltzmannMachine(
        *map(
            torch.as_tensor,
            (theirs.components_, theirs.intercept_visible_, theirs.intercept_hidden_),
        )
    )
    v = torch.as_tensor(bits)
    np.testing.assert_allclose(m.free_energy(v), theirs._free_energy(bits), rtol=1e-10)
    np.testing.assert_allclose(m.hidden(v), theirs.transform(bits), rtol=1e-9)


def test_the_bias_of_a_unit_that_is_never_on_is_finite():
    found = logit(torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=DOUBLE))
    expected = torch.log(torch.tensor([0.01 / 0.99, 1 / 3, 1.0, 0.99 / 0.01], dtype=DOUBLE))
    torch.testing.assert_close(found, expected)


def test_momentum_and_weight_cost():
    m = machine(linear_visible=False)
    spec = RBM(lr=0.5, momentum=0.8, weight_cost=0.1)
    level = RBMTrainer.__new__(RBMTrainer)
    level.spec, level.machine, level.chains, level.lr = spec, m, None, spec.lr
    level.parameters = (m.weight, m.visible_bias, m.hidden_bias)
    level.moves = [torch.zeros_like(p) for p in level.parameters]
    x, weight = states(4), torch.ones(16, dtype=DOUBLE)
    move, expected = torch.zeros_like(m.weight), m.weight.clone()
    for epoch, momentum in ((1, 0.5), (5, 0.5), (6, 0.8)):
        torch.manual_seed(epoch)
        gradient, _ = m.gradient(x, weight, 1)
        move = momentum * move + 0.5 * (gradient.weight - 0.1 * expected)
        expected = expected + move
        torch.manual_seed(epoch)
        level.step(x, weight, epoch)
        torch.testing.assert_close(m.weight, expected)
