"""Errors and code usage against scikit-learn, numpy and arithmetic."""

import numpy as np
import pytest
from sklearn.metrics import explained_variance_score, mean_squared_error, r2_score

from isthmus.metrics import code_usage, psnr, reconstruction_error


def test_errors_are_scikit_learns(rng):
    x = rng.normal(size=(50, 4)) + 3
    back = x + rng.normal(size=x.shape) * [0.1, 0.2, 0.5, 1.0]
    found = reconstruction_error([(x, back)], x.mean(axis=0))
    by_feature = mean_squared_error(x, back, multioutput="raw_values")
    np.testing.assert_allclose(found.per_feature, by_feature)
    np.testing.assert_allclose(
        found.per_row, mean_squared_error(x.T, back.T, multioutput="raw_values")
    )
    assert found.total == pytest.approx(mean_squared_error(x, back))
    weighted = r2_score(x, back, multioutput="variance_weighted")
    assert found.explained_variance == pytest.approx(weighted)


def test_a_wrong_mean_costs_explained_variance(rng):
    # Unlike scikit-learn's score of that name, a constant offset is an error here.
    x = rng.normal(size=(50, 4))
    found = reconstruction_error([(x, x + 1)], x.mean(axis=0))
    assert explained_variance_score(x, x + 1) == pytest.approx(1)
    assert found.explained_variance == pytest.approx(1 - 200 / ((x - x.mean(axis=0)) ** 2).sum())


def test_the_mean_row_explains_nothing_and_the_row_itself_all(rng):
    x = rng.normal(size=(50, 4))
    mean = x.mean(axis=0)
    assert reconstruction_error(
        [(x, np.tile(mean, (50, 1)))], mean
    ).explained_variance == pytest.approx(0)
    assert reconstruction_error([(x, x)], mean).explained_variance == 1


@pytest.mark.parametrize("cuts", [[], [1], [10, 20], [49]])
def test_blocks_change_nothing(rng, cuts):
    x, back = rng.normal(size=(2, 50, 4))
    whole = reconstruction_error([(x, back)], np.zeros(4))
    blocks = zip(np.split(x, cuts), np.split(back, cuts), strict=True)
    cut = reconstruction_error(blocks, np.zeros(4))
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_single_precision_rows_are_summed_in_double():
    x = np.full((100_000, 1), 0.1, np.float32)
    found = reconstruction_error([(x, np.zeros_like(x))], np.zeros(1))
    assert found.total == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-12)


def test_rows_that_do_not_vary_have_no_explained_variance():
    found = reconstruction_error([(np.ones((3, 2)), np.zeros((3, 2)))], np.ones(2))
    assert np.isnan(found.explained_variance)
    assert found.total == 1


def test_usage_is_numpys_variance_and_correlation(rng):
    codes = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3))
    used = code_usage(codes)
    np.testing.assert_allclose(used.variance, codes.var(axis=0))
    np.testing.assert_allclose(used.correlation, np.corrcoef(codes.T), atol=1e-12)
    assert not used.dead.any()
    assert (used.duplicate_of == -1).all()


def test_dead_units_and_copies_are_found(rng):
    codes = rng.normal(size=(300, 5))
    codes[:, 1] *= 1e-4
    codes[:, 3], codes[:, 4] = -2 * codes[:, 0], codes[:, 2] + 0.01 * codes[:, 0]
    used = code_usage(codes)
    assert used.dead.tolist() == [False, True, False, False, False]
    assert used.duplicate_of.tolist() == [-1, -1, -1, 0, 2]
    assert (used.correlation[1] == np.eye(5)[1]).all()


def test_a_code_that_never_changes_is_dead():
    used = code_usage(np.ones((10, 2)))
    assert used.dead.all()
    assert (used.correlation == np.eye(2)).all()


def test_psnr_is_in_decibels_of_the_peak():
    assert psnr(255.0**2 / 100) == pytest.approx(20)
    assert psnr(0.01, peak=1.0) == pytest.approx(20)
    assert psnr(0.0) == float("inf")


def test_no_unit_of_a_constant_code_is_in_use():
    noise = np.random.default_rng(0).normal(size=(50, 3))
    assert code_usage(5 + 1e-6 * noise).dead.all()
    assert not code_usage(5 + 1e-2 * noise).dead.any()
    assert code_usage(np.zeros((4, 2))).dead.all()
