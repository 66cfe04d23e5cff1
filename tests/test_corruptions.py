"""Noise: how much, how often, of what kind, and never on the row itself."""

import pytest
import torch
from scipy import stats

from isthmus.corruptions import (
    CORRUPTIONS,
    Gaussian,
    Masking,
    MissingValues,
    SaltAndPepper,
    SwapRows,
)
from isthmus.errors import RequestError
from isthmus.types import Facts

SHAPE = (2, 5, 10)
FACTS = Facts(shape=SHAPE, low=-3.5, high=7.25)
RATES = [0.0, 0.1, 0.25, 0.9]


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(200, *SHAPE, dtype=torch.float64)


def usual(share, rate, n):
    """Whether a share of n is what a rate gives, but for one case in a million."""
    return (
        stats.binomtest(round(share * n), n, rate).pvalue > 1e-6 if 0 < rate < 1 else share == rate
    )


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", [Masking, MissingValues, SaltAndPepper, SwapRows])
def test_the_rate_is_the_share_struck(kind, rate, x):
    mask = kind(rate=rate)(x, FACTS) != x
    assert usual(mask.double().mean().item(), rate, x.numel())
    # Not whole rows or whole columns: every value has its own luck.
    assert rate == 0 or 0 < mask.flatten(1).double().mean(dim=1).std() < 0.06
    assert rate == 0 or 0 < mask.double().mean(dim=0).std() < 0.06


def test_masked_values_are_zero(x):
    noisy = Masking(rate=0.3)(x, FACTS)
    assert (noisy[noisy != x] == 0).all()


def test_hidden_values_are_missing(x):
    noisy = MissingValues(rate=0.3)(x, FACTS)
    assert noisy[noisy != x].isnan().all()


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"swap"}))
def test_what_is_missing_stays_missing(name, x):
    x[:, 0] = torch.nan
    assert CORRUPTIONS[name]()(x, FACTS)[:, 0].isnan().all()


def test_salt_and_pepper_are_the_ends_of_the_data_half_each(x):
    noisy = SaltAndPepper(rate=0.3)(x, FACTS)
    grains = noisy[noisy != x]
    assert set(grains.tolist()) == {-3.5, 7.25}
    assert usual((grains == 7.25).double().mean().item(), 0.5, len(grains))


@pytest.mark.parametrize("std", [0.0, 0.1, 2.0])
def test_gaussian_noise_is_gaussian(std, x):
    noise = (Gaussian(std=std)(x, FACTS) - x).flatten()
    if std == 0:
        assert (noise == 0).all()
        return
    assert stats.kstest(noise.numpy() / std, "norm").pvalue > 1e-6


@pytest.mark.parametrize("n", [2, 3, 5, 200])
def test_a_swapped_value_is_another_rows_of_the_same_feature(n):
    numbers = torch.arange(n, dtype=torch.float64)[:, None].expand(n, 30)
    x = numbers + 1000 * torch.arange(30)
    for seed in range(20):
        torch.manual_seed(seed)
        noisy = SwapRows(rate=0.999)(x, FACTS)
        givers = noisy - 1000 * torch.arange(30)
        assert ((givers >= 0) & (givers < n)).all()
        # Nearly all are struck, and of those none kept its own.
        assert (givers == numbers).double().mean() < 0.2


def test_swapping_keeps_each_features_distribution(x):
    noisy = SwapRows(rate=0.5)(x, FACTS)
    for feature, theirs in zip(noisy.flatten(1).T, x.flatten(1).T, strict=True):
        assert stats.ks_2samp(feature.numpy(), theirs.numpy()).pvalue > 1e-6


def test_a_lonely_row_swaps_with_nobody(x):
    alone = SwapRows(rate=0.5)(x[:1], FACTS)
    assert torch.equal(alone, x[:1])
    assert alone.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_rows_are_left_as_they_were(name, x):
    before = x.clone()
    noisy = CORRUPTIONS[name]()(x, FACTS)
    assert torch.equal(x, before)
    assert not torch.equal(noisy, x)
    assert noisy.shape == x.shape
    assert noisy.dtype == x.dtype


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_decides(name, x):
    def noisy(seed):
        torch.manual_seed(seed)
        return CORRUPTIONS[name]()(x, FACTS).nan_to_num(nan=99.0)

    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (Gaussian(std=-0.1), "Gaussian: std=-0.1 must not be negative"),
        (Masking(rate=1.0), "Masking: rate=1.0 must be at least 0 and below 1"),
        (SaltAndPepper(rate=-0.5), "SaltAndPepper: rate=-0.5"),
        (SwapRows(rate=2), "SwapRows: rate=2"),
    ],
)
def test_a_bad_setting_is_named(noise, message):
    with pytest.raises(RequestError, match=message):
        noise.check()
