"""The imputer: conditional means, weights of estimates, and masked values."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize

from isthmus import Autoencoder, load
from isthmus.data import open_source
from isthmus.data.loading.rows import Rows
from isthmus.errors import ArtifactError
from isthmus.imputation.imputer import Imputer, MaskedRows
from isthmus.imputation.lazy import LazyImputer
from isthmus.imputation.multivariate_normal import MultivariateNormal
from isthmus.imputation.stacking import (
    POOLED_VALUES,
    ShrinkageStatistics,
    SufficientStatistics,
    convex_weights,
)


def related(rows=400, seed=0):
    """(rows, 5) correlated numbers around means of their own."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(rows, 5)) @ rng.normal(size=(5, 5))
    return mixed + rng.normal(size=(1, 5)) * 3


def holed(rows, share=0.3, seed=1):
    return np.where(np.random.default_rng(seed).random(rows.shape) < share, np.nan, rows)


def weighted(rows):
    return [(torch.tensor(rows), torch.ones(len(rows), dtype=torch.float64))]


def begun(rows, shrinkage=0.0):
    normal = MultivariateNormal.diagonal(weighted(rows), torch.tensor(np.nanmean(rows, axis=0)))
    return replace(normal, shrinkage=torch.tensor(shrinkage, dtype=torch.float64))


def test_missing_values_are_conditional_means():
    """In closed form from the covariance, row by row."""
    rows = holed(related(100))
    rows[3] = np.nan
    normal = begun(rows).after_em(weighted(rows))
    mean, covariance = normal.mean.numpy(), np.linalg.inv(normal.precision.numpy())
    result = normal(torch.tensor(rows)).numpy()
    for row, filled in zip(rows, result, strict=True):
        known, missing = ~np.isnan(row), np.isnan(row)
        gain = covariance[np.ix_(missing, known)] @ np.linalg.pinv(covariance[np.ix_(known, known)])
        np.testing.assert_allclose(
            filled[missing], mean[missing] + gain @ (row - mean)[known], rtol=1e-6
        )
        np.testing.assert_allclose(filled[known], row[known], rtol=1e-12)


def test_one_round_of_em_fits_complete_rows():
    rows, weight = related(50), np.random.default_rng(2).uniform(0.5, 2, 50)
    normal = begun(rows).after_em_round([(torch.tensor(rows), torch.tensor(weight))])
    np.testing.assert_allclose(normal.mean, np.average(rows, axis=0, weights=weight))
    covariance = np.cov(rows.T, aweights=weight, bias=True)
    np.testing.assert_allclose(np.linalg.inv(normal.precision.numpy()), covariance, rtol=1e-6)


def test_where_only_the_last_is_missing_em_ends_at_andersons_estimate():
    """Anderson (1957): regression on the complete rows, taken to all of them."""
    rows = related(300)[:, :2]
    rows[:120, 1] = np.nan
    normal = begun(rows)
    for _ in range(40):
        normal = normal.after_em(weighted(rows))
    first, (x, y) = rows[:, 0], rows[120:].T
    slope, start = np.polyfit(x, y, 1)
    left = np.mean((y - slope * x - start) ** 2)
    wanted = np.array([[1, slope], [slope, slope**2]]) * first.var() + [[0, 0], [0, left]]
    np.testing.assert_allclose(normal.mean, [first.mean(), slope * first.mean() + start], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.inv(normal.precision.numpy()), wanted, rtol=1e-5)


def test_no_round_of_em_makes_what_is_known_less_likely():
    rows = holed(related(150))
    normal, likely = begun(rows), []
    for _ in range(12):
        mean, covariance = normal.mean.numpy(), np.linalg.inv(normal.precision.numpy())
        likely.append(0.0)
        for row in rows:
            known = np.flatnonzero(~np.isnan(row))
            if len(known):
                part = covariance[np.ix_(known, known)]
                likely[-1] += stats.multivariate_normal.logpdf(row[known], mean[known], part)
        normal = normal.after_em_round(weighted(rows))
    assert (np.diff(likely) > 0).all()


def test_a_covariance_is_drawn_to_its_diagonal_where_few_rows_tell_of_it():
    """Of unrelated features all that is learned is chance; of others it is not."""
    rng = np.random.default_rng(3)
    alike = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 8)) + 0.1 * rng.normal(size=(2000, 8))
    shrinkages = []
    for rows in (rng.normal(size=(60, 12)), alike):
        learned, validation = rows[::2], rows[1::2]
        truth, weight = torch.tensor(validation), torch.ones(len(validation))
        gappy = torch.tensor(holed(validation, 0.2))
        mean = torch.tensor(learned.mean(axis=0))
        normal = MultivariateNormal.fit(weighted(learned), mean, [(gappy, truth, weight)])
        shrinkages.append(float(normal.shrinkage))
    assert shrinkages[0] >= 0.3
    assert shrinkages[1] <= 0.01


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 2, 3])
def test_weights_are_the_best_that_scipy_finds(size, seed):
    rng = np.random.default_rng(seed)
    estimates = rng.normal(size=(30, size)) + rng.normal(size=(30, 1))
    truth = estimates @ rng.uniform(-1, 1.5, size) + rng.normal(size=30)
    gram, cross = estimates.T @ estimates, estimates.T @ truth
    result = convex_weights(torch.tensor(gram)[None], torch.tensor(cross)[None])[0].numpy()
    bounds, rule = [(0, 1)] * size, {"type": "ineq", "fun": lambda w: 1 - w.sum()}
    best = minimize(
        lambda w: w @ gram @ w - 2 * w @ cross,
        np.full(size, 0.5 / size),
        jac=lambda w: 2 * (gram @ w - cross),
        bounds=bounds,
        constraints=rule,
        tol=1e-12,
    )
    np.testing.assert_allclose(result, best.x, atol=1e-4)
    assert (result >= 0).all()
    assert result.sum() <= 1 + 1e-6


def statistics(estimates, truth):
    """Of one feature: estimates (J, n) of true values (n,)."""
    seen, aim = torch.tensor(estimates)[..., None], torch.tensor(truth)[:, None]
    return SufficientStatistics.of(seen, aim, torch.ones_like(aim).bool(), torch.ones(len(truth)))


def test_equal_estimates_share_one_weight():
    truth = np.random.default_rng(0).normal(size=200)
    weights = statistics(np.stack([truth, truth]), truth).weights()
    assert weights.sum().item() == pytest.approx(1, abs=1e-3)


def test_an_uninformative_estimate_has_no_weight():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=5000)
    good, bad = truth + 0.1 * rng.normal(size=5000), 10 * rng.normal(size=5000)
    weights = statistics(np.stack([bad, good]), truth).weights()[:, 0]
    assert weights[0] < 0.01
    assert weights[1] > 0.95
    assert statistics(bad[None], truth).weights().item() < 0.01


def test_a_feature_of_few_values_has_the_weights_of_all():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(10 * POOLED_VALUES, 2))
    estimates = torch.tensor(np.stack([truth, np.zeros_like(truth)]))
    counted = torch.ones(truth.shape, dtype=torch.bool)
    counted[3:, 1] = False
    estimates[0, :3, 1] *= -1  # three values that contradict all others
    result = SufficientStatistics.of(
        estimates, torch.tensor(truth), counted, torch.ones(len(truth))
    )
    assert (result.weights()[0] > 0.9).all()


def test_the_variance_of_a_slope_is_whites():
    """Of his covariance X'X^-1 (sum x x' e^2) X'X^-1 for one regressor; weights are 1."""
    rng = np.random.default_rng(4)
    expected = rng.normal(size=(80, 1))
    truth = expected + rng.standard_t(3, size=(80, 1))
    bread = np.linalg.inv(expected.T @ expected)
    meat = (expected * (truth - expected)).T @ (expected * (truth - expected))
    variance = (bread @ meat @ bread).item()
    counted = torch.ones(80, 1, dtype=torch.bool)
    parts = torch.tensor(expected), torch.tensor(truth), counted, torch.ones(80)
    result = ShrinkageStatistics.of(*parts)
    assert result.factor(1.0).item() == pytest.approx(1 / (1 + variance))
    assert result.factor(2.0).item() == pytest.approx(1 / (1 + 2 * variance))
    # The same values again are no news: a half from here and a half from there is the whole.
    halves = [ShrinkageStatistics.of(*(p[s] for p in parts)) for s in (slice(40), slice(40, 80))]
    assert (halves[0] | halves[1]).factor(1.0).item() == pytest.approx(1 / (1 + variance))


def test_one_outlier_shrinks_all_estimates():
    expected = np.full((100, 1), 0.1)
    truth = np.zeros((100, 1))
    expected[0], truth[0] = 3, 20
    counted = torch.ones(100, 1, dtype=torch.bool)
    parts = torch.tensor(expected), torch.tensor(truth), counted, torch.ones(100)
    assert ShrinkageStatistics.of(*parts).factor(1.0) < 0.1


@pytest.fixture(scope="module")
def fitted():
    """A default fit of curved rows with missing values, the rows, and which values are masked."""
    rng = np.random.default_rng(7)
    angles = rng.uniform(0, 2, size=(400, 2))
    rows = np.sin(angles @ rng.normal(size=(2, 8))) + 0.02 * rng.normal(size=(400, 8))
    masked = rng.random(rows.shape) < 0.2
    gappy = np.where(masked, np.nan, rows)
    return Autoencoder(2, max_epochs=60, random_state=0).fit(gappy), gappy, rows, masked


def test_the_combined_estimate_is_better_than_each(fitted):
    ae, gappy, rows, masked = fitted
    x = ae.preparation_.encode(gappy, ae.model_.mean.dtype)
    ways = ae.imputer_.estimates(ae.network_, ae.loss_, x)
    alone = [np.square(ae.preparation_.decode(way) - rows)[masked].mean() for way in ways]
    together = np.square(ae.impute(gappy) - rows)[masked].mean()
    assert len(alone) == 3
    assert together < min(alone)
    assert together < 0.8 * max(alone)


def rows_of(ae, gappy):
    """The training and validation rows of a fit."""
    source, dtype = open_source(gappy), ae.model_.mean.dtype
    parts = ae.train_rows_, ae.validation_rows_
    return [Rows(source, ae.preparation_, np.asarray(p), dtype=dtype) for p in parts]


@pytest.mark.parametrize("judge", ["train", "validation"])
def test_a_network_that_memorizes_its_rows_gets_no_weight(fitted, judge, monkeypatch):
    """A planted fault: it answers with the training row it was given, and else with noise."""
    ae, gappy, rows, _ = fitted
    train, validation = rows_of(ae, gappy)
    full = ae.preparation_.encode(rows, ae.model_.mean.dtype)
    known = full[torch.as_tensor(np.asarray(ae.train_rows_))]

    def estimates(self, network, loss, x):
        same = ((x[:, None] - known[None]).abs().nan_to_num(0) < 1e-9).all(dim=2)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        by_heart = torch.where(same.any(1)[:, None], known[same.int().argmax(1)], 3 * noise)
        return torch.stack([by_heart, self.normal(x).to(x)])

    monkeypatch.setattr(Imputer, "estimates", estimates)
    validation = train if judge == "train" else validation
    settings = {"centre": ae.model_.mean, "seed": 0}
    imputer = Imputer.fit(ae.network_, ae.loss_, train, validation, None, **settings)
    trust = imputer.weights.mean(dim=1)
    if judge == "train":
        assert trust[0] > 0.9
    else:
        assert trust[0] < 0.05
        assert trust[1] > 0.5


def test_masks_leave_out_missing_values_and_are_repeatable(fitted):
    ae, gappy, _, _ = fitted
    _, validation = rows_of(ae, gappy)
    masked = MaskedRows(validation, np.arange(len(validation)), None, seed=3)
    first, second = list(masked), list(masked)
    assert masked.rounds == 10
    assert len(first) == 10
    for (x, truth, _), (repeated, _, _) in zip(first, second, strict=True):
        torch.testing.assert_close(x, repeated, equal_nan=True, rtol=0, atol=0)
        assert x.isnan()[truth.isnan()].all()
    counts = sum((x.isnan() & ~truth.isnan()).double() for x, truth, _ in first)
    often = counts[counts > 0]
    # Once masked, a value comes as often as the share and the rounds say.
    assert float(often.square().sum() / often.sum()) == pytest.approx(masked.repeats, rel=0.1)


def test_estimates_stay_in_the_range_of_the_rows(fitted):
    ae, gappy, _, _ = fitted
    far = np.full((3, 8), np.nan)
    far[:, :4] = 100 * np.array([[1], [-1], [3]])
    filled = ae.impute(far)
    assert (filled[:, 4:] <= np.nanmax(gappy, axis=0)[4:] + 1e-6).all()
    assert (filled[:, 4:] >= np.nanmin(gappy, axis=0)[4:] - 1e-6).all()


def test_a_saved_imputer_is_the_same_and_invalid_parts_are_refused(fitted, tmp_path):
    ae, gappy, _, _ = fitted
    ae.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.impute(gappy), ae.impute(gappy))
    ae.model_.imputer = LazyImputer(replace(ae.imputer_, weights=ae.imputer_.weights[:2]))
    try:
        ae.save(tmp_path / "invalid")
        with pytest.raises(ArtifactError, match="the imputer's tensors have the shapes"):
            load(tmp_path / "invalid")
    finally:
        ae.model_.imputer = loaded.model_.imputer


def test_wide_rows_are_estimated_by_the_network_alone(monkeypatch, tmp_path):
    monkeypatch.setattr("isthmus.imputation.imputer.MAX_NORMAL_FEATURES", 4)
    rows = related(200)
    ae = Autoencoder(3, max_epochs=5, random_state=0).fit(holed(rows))
    assert ae.imputer_.normal is None
    assert ae.imputer_.weights.shape == (1, 5)
    ae.save(tmp_path / "model")
    imputed = load(tmp_path / "model").impute(holed(rows))
    np.testing.assert_array_equal(imputed, ae.impute(holed(rows)))
    assert np.isfinite(imputed).all()


def test_without_validation_rows_half_of_the_masked_rows_are_held_out():
    """Noise of 20 features from 60 rows: rows must not determine the weight of their own fit."""
    rng = np.random.default_rng(5)
    gappy = holed(rng.normal(size=(60, 20)), 0.1)
    ae = Autoencoder(2, validation_fraction=0, max_epochs=1, random_state=0).fit(gappy)
    assert float(ae.imputer_.normal.shrinkage) >= 0.3
    assert float(ae.imputer_.weights[-1].mean()) < 0.3
