"""The mixed loss against torch's and scipy's likelihoods, and the balance of its columns."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from isthmus.errors import RequestError
from isthmus.losses import Huber, Mixed, Squared
from isthmus.types import ColumnFacts, Facts

KINDS = ("squared", "categorical", "bernoulli", "count", "categorical", "squared")
SIZES = (1, 3, 1, 1, 2, 4)
STARTS = np.cumsum((0, *SIZES))
MEAN = np.array([0, 0.5, 0.3, 0.2, 0.9, 3.0, 0.25, 0.75, 0, 0, 0, 0])
SCALE = np.repeat([2.0, 0.8, 0.3, 2.5, 0.6, 1.5], SIZES)
GENERATOR = torch.Generator().manual_seed(0)


def facts_of(kinds=KINDS, sizes=SIZES, mean=MEAN, scale=SCALE):
    columns = tuple(ColumnFacts(*pair) for pair in zip(kinds, sizes, strict=True))
    likely = np.repeat([kind != "squared" for kind in kinds], sizes)
    prepared = np.where(likely, mean / scale, mean)
    return Facts(
        shape=(len(mean),), columns=columns, mean=prepared, scale=scale, allow_missing=True
    )


FACTS = facts_of()
LOSS = Mixed().with_facts(FACTS)


def column(values, at):
    return values[:, STARTS[at] : STARTS[at + 1]]


def rows(n=50):
    """(n, 12) prepared rows, and levels, truths and counts as they are drawn."""
    rng = np.random.default_rng(1)
    categories, pair = rng.integers(0, 3, n), rng.integers(0, 2, n)
    truth, count = rng.integers(0, 2, n), rng.poisson(3, n)
    values = np.concatenate(
        [
            rng.normal(size=(n, 1)),
            np.eye(3)[categories] / 0.8,
            truth[:, None] / 0.3,
            count[:, None] / 2.5,
            np.eye(2)[pair] / 0.6,
            rng.normal(size=(n, 4)),
        ],
        axis=1,
    )
    return torch.from_numpy(values), categories, truth, count


def raw_of(n=50):
    return torch.randn(n, 12, generator=GENERATOR, dtype=torch.float64)


def test_each_column_is_judged_by_its_own_likelihood():
    x, categories, truth, count = rows()
    raw = raw_of()
    errors = LOSS.errors(raw, x) * len(SIZES) / 12
    entropy = stats.entropy([0.5, 0.3, 0.2])
    ours = column(errors, 1).sum(dim=1) * entropy
    theirs = functional.cross_entropy(column(raw, 1), torch.as_tensor(categories), reduction="none")
    torch.testing.assert_close(ours, theirs)

    p = torch.sigmoid(column(raw, 2))[:, 0].numpy()
    ours = column(errors, 2)[:, 0].numpy() * stats.entropy([0.9, 0.1])
    np.testing.assert_allclose(ours, -stats.bernoulli.logpmf(truth, p))

    rate = column(raw, 3)[:, 0].exp().numpy()
    deviance = stats.poisson.logpmf(count, np.maximum(count, 1e-300)) - stats.poisson.logpmf(
        count, rate
    )
    np.testing.assert_allclose(column(errors, 3)[:, 0].numpy(), deviance * 2 * 3.0 / 2.5**2)
    torch.testing.assert_close(column(errors, 0), (column(raw, 0) - column(x, 0)).square())


def test_knowing_only_the_mean_costs_one_in_every_column():
    n = 40_000
    rng = np.random.default_rng(2)
    level, truth = rng.choice(3, n, p=[0.5, 0.3, 0.2]), rng.random(n) < 0.9
    count, number = rng.poisson(50, n), rng.normal(size=n)
    spread = [(np.eye(3)[level].var(axis=0).sum()) ** 0.5, truth.std(), count.std()]
    scale = np.repeat([1.0, *spread], (1, 3, 1, 1))
    mean = np.array([0, 0.5, 0.3, 0.2, 0.9, 50])
    facts = facts_of(("squared", "categorical", "bernoulli", "count"), (1, 3, 1, 1), mean, scale)
    loss = Mixed().with_facts(facts)
    features = np.concatenate(
        [number[:, None], np.eye(3)[level], truth[:, None], count[:, None]], axis=1
    )
    x = torch.from_numpy(features / scale)
    slope, offset = loss.link
    raw = (slope * torch.as_tensor(facts.mean) + offset).expand_as(x)
    torch.testing.assert_close(loss.mean(raw)[0], torch.as_tensor(facts.mean))
    costs = loss.errors(raw, x).mean(dim=0) * 4 / 6
    sums = [costs[0], costs[1:4].sum(), costs[4], costs[5]]
    assert [float(cost) for cost in sums] == pytest.approx([1] * 4, rel=0.03)


def test_a_row_is_the_mean_over_columns_whatever_their_width():
    x, *_ = rows()
    raw = raw_of()
    for loss in (LOSS, Squared().with_facts(FACTS), Huber().with_facts(FACTS)):
        errors = loss.errors(raw, x) * len(SIZES) / 12
        expected = errors.sum(dim=1) / len(SIZES)
        torch.testing.assert_close(loss.per_row(raw, x), expected)
        torch.testing.assert_close(loss.per_row_known(raw, x), expected)
        gone = x.clone()
        gone[:, STARTS[1] : STARTS[2]] = torch.nan
        left = errors.sum(dim=1) - column(errors, 1).sum(dim=1)
        torch.testing.assert_close(loss.per_row_known(raw, gone), left / (len(SIZES) - 1))
    nothing = torch.full_like(x, torch.nan)
    assert LOSS.per_row_known(raw, nothing).tolist() == [0.0] * 50


def test_means_are_probabilities_and_rates():
    raw = raw_of()
    mean = LOSS.mean(raw) * torch.as_tensor(SCALE)
    torch.testing.assert_close(column(mean, 1), torch.softmax(column(raw, 1), dim=1))
    torch.testing.assert_close(column(mean, 4), torch.softmax(column(raw, 4), dim=1))
    torch.testing.assert_close(column(mean, 2), torch.sigmoid(column(raw, 2)))
    torch.testing.assert_close(column(mean, 3), column(raw, 3).exp())
    torch.testing.assert_close(column(LOSS.mean(raw), 5), column(raw, 5))


def test_gradients_are_those_of_finite_differences_and_finite_far_out():
    x, *_ = rows(3)
    raw = raw_of(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: LOSS.per_row(r, x), raw)
    far = torch.full_like(x, 1e4).requires_grad_()
    LOSS.per_row(far, x).sum().backward()
    assert far.grad.isfinite().all()


def test_the_curvature_is_the_diagonal_of_the_second_derivative():
    raw = raw_of(1)
    x = LOSS.mean(raw)
    hessian = torch.autograd.functional.hessian(lambda r: LOSS.errors(r, x).sum(), raw)
    torch.testing.assert_close(LOSS.curvature(raw)[0], hessian[0, :, 0].diagonal())


def test_the_link_is_the_tangent_at_the_mean():
    slope, offset = LOSS.link
    mean = torch.as_tensor(FACTS.mean)
    nudge = torch.zeros(12, dtype=torch.float64)
    nudge[[0, 4, 8]] = 1e-5
    nudge[1:4] = torch.tensor([2.0, -1, -1]) * 1e-5  # shares add up to one
    back = LOSS.mean((slope * (mean + nudge) + offset)[None])[0]
    torch.testing.assert_close(back, mean + nudge, atol=1e-8, rtol=0)


def test_without_columns_it_is_the_loss_of_numbers():
    x, raw = torch.randn(4, 3, generator=GENERATOR), torch.randn(4, 3, generator=GENERATOR)
    torch.testing.assert_close(Mixed().errors(raw, x), Squared().errors(raw, x))
    huber = Mixed(numeric="huber", delta=0.5)
    torch.testing.assert_close(huber.errors(raw, x), Huber(delta=0.5).errors(raw, x))
    assert Mixed().link == (1.0, 0.0)


def test_huber_is_for_the_numbers_alone():
    x, *_ = rows()
    raw = raw_of() * 3
    ours = Mixed(numeric="huber").with_facts(FACTS).errors(raw, x)
    torch.testing.assert_close(column(ours, 1), column(LOSS.errors(raw, x), 1))
    assert (column(ours, 0) < column(LOSS.errors(raw, x), 0)).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"numeric": "odd"}, "numeric='odd'"),
        ({"delta": 0}, "delta=0"),
        ({"counts": "odd"}, "counts='odd'"),
    ],
)
def test_odd_settings(settings, message):
    with pytest.raises(RequestError, match=message):
        Mixed(**settings).check()
