"""The deviance of counts against scipy's likelihoods, and its derivatives."""

import numpy as np
import pytest
import torch
from scipy import stats

from isthmus.losses import Mixed
from isthmus.losses.deviance import half_deviance, information
from isthmus.types import ColumnFacts, CountFacts, Facts

COUNTS = np.array([0, 1, 2, 7, 40, 900])
RATES = np.array([0.003, 0.4, 2.0, 9.0, 300.0])


def tensor(values):
    return torch.as_tensor(np.asarray(values, np.float64))


def grid(dispersion):
    """Log-rates, counts and dispersions of every pair of a count and a rate."""
    counts, rates = np.meshgrid(COUNTS, RATES)
    return tensor(np.log(rates)), tensor(counts), tensor(np.full(counts.shape, dispersion))


@pytest.mark.parametrize("dispersion", [1e-3, 0.3, 2.0, 50.0])
def test_it_is_the_likelihood_lost_against_the_count_itself(dispersion):
    log_rate, x, spread = grid(dispersion)
    size = 1 / dispersion

    def log_likelihood(rate):
        return stats.nbinom.logpmf(x.numpy(), size, size / (size + rate))

    own = log_likelihood(np.maximum(x.numpy(), 1e-300))
    expected = own - log_likelihood(log_rate.exp().numpy())
    found = half_deviance(log_rate, x, spread).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dispersion", [0.0, 1e-14])
def test_without_dispersion_it_is_poisson(dispersion):
    log_rate, x, spread = grid(dispersion)
    counts, rate = x.numpy(), log_rate.exp().numpy()
    own = stats.poisson.logpmf(counts, np.maximum(counts, 1e-300))
    found = half_deviance(log_rate, x, spread).numpy()
    np.testing.assert_allclose(found, own - stats.poisson.logpmf(counts, rate), atol=1e-9)


@pytest.mark.parametrize("dispersion", [0.0, 0.4])
def test_its_derivatives_are_those_of_finite_differences(dispersion):
    log_rate, x, spread = grid(dispersion)
    log_rate.requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: half_deviance(raw, x, spread), log_rate)
    (slope,) = torch.autograd.grad(half_deviance(log_rate, x, spread).sum(), log_rate)
    rate = log_rate.detach().exp()
    torch.testing.assert_close(slope, (rate - x) / (1 + dispersion * rate))


@pytest.mark.parametrize("dispersion", [0.0, 0.4])
def test_the_information_is_the_mean_curvature(dispersion):
    rate, k = 3.0, np.arange(2000)
    size = 1 / max(dispersion, 1e-9)
    p = stats.nbinom.pmf(k, size, size / (size + rate))
    raw = torch.full((len(k),), np.log(rate), dtype=torch.float64, requires_grad=True)
    spread = torch.full_like(raw, dispersion)
    lost = half_deviance(raw, tensor(k), spread)
    (slope,) = torch.autograd.grad(lost.sum(), raw, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), raw)
    found = information(tensor(rate), tensor(dispersion))
    assert float(found) == pytest.approx(float(p @ second.numpy()), rel=1e-6)


def test_single_precision_is_enough():
    for dispersion in (0.0, 1e-6, 0.01, 3.0):
        exact = half_deviance(*grid(dispersion))
        found = half_deviance(*(values.float() for values in grid(dispersion)))
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=2e-3)


def counts_facts(has_size_factors=False, dispersion=(0.0, 0.5)):
    """Two columns of counts of means 3 and 8, next to a number or, with size factors, alone."""
    kinds = ["count", "count"] if has_size_factors else ["squared", "count", "count"]
    scale = np.array([2.0, 6.0] if has_size_factors else [1.0, 2.0, 6.0])
    mean = np.array([1.5, 8 / 6] if has_size_factors else [0.0, 1.5, 8 / 6])
    counts = CountFacts(
        has_size_factors=has_size_factors,
        dispersion=np.array(dispersion),
        cost=np.array([0.7, 0.9]),
        poisson_cost=np.array([0.7, 4.0]),
        log_mean=np.array([1.3, 2.0]),
        log_scale=np.array([0.5, 0.8]),
    )
    columns = tuple(ColumnFacts(kind, 1) for kind in kinds)
    return Facts(shape=(len(kinds),), columns=columns, mean=mean, scale=scale, counts=counts)


def test_columns_are_divided_by_what_they_cost():
    facts = counts_facts()
    x, raw = tensor([[0.3, 4 / 2, 11 / 6]]), tensor([[0.1, 0.9, 1.7]])
    log_rate, count = raw[:, 1:], tensor([[4.0, 11.0]])
    wide = half_deviance(log_rate, count, tensor([[0.0, 0.5]])) / tensor([0.7, 0.9])
    narrow = half_deviance(log_rate, count, tensor([[0.0, 0.0]])) / tensor([0.7, 4.0])
    of_wide = Mixed(counts="negative_binomial").with_facts(facts).errors(raw, x)
    torch.testing.assert_close(of_wide[:, 1:], wide)
    torch.testing.assert_close(Mixed().with_facts(facts).errors(raw, x)[:, 1:], narrow)


def test_the_curvature_of_counts_is_what_they_tell_divided_by_their_cost():
    facts, raw = counts_facts(), tensor([[0.1, 0.9, 1.7]])
    rate = raw[0, 1:].exp()
    wide = Mixed(counts="negative_binomial").with_facts(facts).curvature(raw)[0, 1:]
    torch.testing.assert_close(wide, rate / (1 + tensor([0.0, 0.5]) * rate) / tensor([0.7, 0.9]))
    narrow = Mixed().with_facts(facts).curvature(raw)[0, 1:]
    torch.testing.assert_close(narrow, rate / tensor([0.7, 4.0]))


def test_the_start_is_the_mean_of_each_count():
    loss = Mixed().with_facts(counts_facts())
    slope, offset = loss.link
    nothing_seen = torch.zeros(1, 3, dtype=torch.float64)
    mean = loss.mean(slope * nothing_seen + offset) * tensor([1.0, 2.0, 6.0])
    torch.testing.assert_close(mean, tensor([[0.0, 3.0, 8.0]]))


def test_a_row_twice_as_deep_is_expected_to_hold_twice_as_much():
    loss = Mixed().with_facts(counts_facts(has_size_factors=True))
    x = tensor([[3.0, 8.0], [6.0, 16.0], [1.0, 21.0]]) / tensor([2.0, 6.0])
    torch.testing.assert_close(loss.size_factors(x), tensor([[1.0], [2.0], [2.0]]))
    raw = tensor([[3.0, 8.0]]).log().expand(3, 2)
    lost = loss.errors(raw, x)
    torch.testing.assert_close(lost[:2], torch.zeros(2, 2, dtype=torch.float64))
    assert (lost[2] > 0.05).all()
    rates = loss.reconstruct(raw, x) * tensor([2.0, 6.0])
    torch.testing.assert_close(rates, tensor([[3.0, 8.0], [6.0, 16.0], [6.0, 16.0]]))


def test_the_depth_of_a_row_with_gaps_is_told_by_what_is_known():
    loss = Mixed().with_facts(counts_facts(has_size_factors=True))
    x = tensor([[6.0, np.nan], [np.nan, 4.0], [np.nan, np.nan]]) / tensor([2.0, 6.0])
    torch.testing.assert_close(loss.size_factors(x), tensor([[2.0], [0.5], [1.0]]))
    raw = tensor([[3.0, 8.0]]).log().expand(3, 2)
    zeros = torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(loss.per_row_known(raw, x), zeros)
