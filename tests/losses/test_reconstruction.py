"""Reconstruction losses against scikit-learn and SciPy, their means, links and rules."""

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.metrics import log_loss, mean_squared_error

from isthmus.errors import RequestError
from isthmus.losses import LOSSES, Bernoulli, Huber, Squared

SHAPES = [(5,), (2, 7), (3, 4, 5)]


@pytest.fixture(params=SHAPES, ids=str)
def pair(request, rng):
    """(raw, x): what a network gave and what it should be, x in [0, 1]."""
    shape = (6, *request.param)
    return torch.tensor(3 * rng.normal(size=shape)), torch.tensor(rng.uniform(size=shape))


def flat(tensor):
    return tensor.flatten(1).numpy()


def test_squared_is_scikit_learns_mean_squared_error(pair):
    raw, x = pair
    ours = Squared().per_row(raw, x).numpy()
    theirs = [mean_squared_error(a, b) for a, b in zip(flat(x), flat(raw), strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("delta", [0.1, 1.0, 2.5])
def test_huber_is_twice_scipys(pair, delta):
    raw, x = pair
    ours = Huber(delta=delta).per_row(raw, x).numpy()
    theirs = 2 * special.huber(delta, flat(raw) - flat(x)).mean(axis=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_huber_with_a_far_corner_is_squared(pair):
    raw, x = pair
    torch.testing.assert_close(Huber(delta=1e6).per_row(raw, x), Squared().per_row(raw, x))


def test_bernoulli_is_scikit_learns_log_loss(pair, rng):
    raw, _ = pair
    x = torch.tensor(rng.integers(0, 2, raw.shape).astype(float))
    ours = Bernoulli().per_row(raw, x).numpy()
    p = special.expit(flat(raw))
    theirs = [log_loss(a, b, labels=[0, 1]) for a, b in zip(flat(x), p, strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_bernoulli_between_the_ends_and_far_out(pair):
    raw, x = pair
    p = special.expit(flat(raw))
    theirs = -(special.xlogy(flat(x), p) + special.xlog1py(1 - flat(x), -p)).mean(axis=1)
    np.testing.assert_allclose(Bernoulli().per_row(raw, x).numpy(), theirs, rtol=1e-9)
    far = torch.tensor([[1e4, -1e4]], dtype=torch.float64)
    assert Bernoulli().per_row(far, torch.tensor([[0.0, 1.0]]).double()).item() == 1e4
    assert Bernoulli().per_row(far, torch.tensor([[1.0, 0.0]]).double()).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_least_where_the_mean_is_the_row(name):
    x = torch.full((1, 1), 0.3, dtype=torch.float64)
    raw = torch.linspace(-3, 3, 6001, dtype=torch.float64)[:, None]
    loss = LOSSES[name]()
    best = raw[loss.per_row(raw, x.expand_as(raw)).argmin()]
    assert loss.mean(best).item() == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_the_link_leads_back_to_the_row(name):
    loss = LOSSES[name]()
    slope, offset = loss.link
    x = torch.linspace(0.4, 0.6, 21, dtype=torch.float64)
    torch.testing.assert_close(loss.mean(slope * x + offset), x, atol=2e-3, rtol=0)
    middle = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    (rise,) = torch.autograd.grad(loss.mean(slope * middle + offset), middle)
    assert rise.item() == pytest.approx(1.0)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_a_bad_delta_is_named(delta):
    with pytest.raises(RequestError, match=f"delta={delta} must be positive"):
        Huber(delta=delta).check()
