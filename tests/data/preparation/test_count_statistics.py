"""What is learned of counts, against the same by hand and against what they were drawn from."""

import numpy as np
import pytest
from scipy import sparse, stats

from isthmus.data import Preparation, open_source
from isthmus.data.preparation.count_statistics import half_deviance
from isthmus.data.preparation.fit import fit_preparation
from isthmus.data.splitting import holdout
from isthmus.errors import ArtifactError, RequestError


def drawn(n=4000, d=60, size=2.0, seed=0):
    """(n, d) negative binomial counts of dispersion 1 / size in rows of unlike depth."""
    rng = np.random.default_rng(seed)
    depth, rate = np.exp(0.6 * rng.normal(size=n)), np.exp(rng.normal(size=d))
    mean = np.outer(depth, rate)
    return rng.negative_binomial(size, size / (size + mean)), depth


def prepared(X, scaling="auto", weight=None, roles="count"):
    weight = np.ones(len(X)) if weight is None else weight
    return fit_preparation(open_source(X, roles=roles), np.arange(len(X)), weight, scaling)


def test_size_factors_are_totals_over_the_mean_total():
    X, depth = drawn()
    fitted = prepared(X).size_factors(X)
    np.testing.assert_allclose(fitted, X.sum(axis=1) / X.sum(axis=1).mean())
    assert np.corrcoef(np.log(fitted), np.log(depth))[0, 1] > 0.95
    np.testing.assert_allclose(prepared(X).size_factors(sparse.csr_array(X)), fitted)
    np.testing.assert_array_equal(prepared(X, "standard").size_factors(X), np.ones(len(X)))


def test_an_empty_row_has_the_size_of_one_count():
    X, _ = drawn()
    fitted = prepared(X)
    np.testing.assert_allclose(fitted.size_factors(X[:1] * 0), 1 / X.sum(axis=1).mean())


@pytest.mark.parametrize(("size", "sized"), [(2.0, True), (0.5, True), (5.0, False)])
def test_the_dispersion_is_that_which_counts_were_drawn_with(size, sized):
    X, _ = drawn(size=size)
    if not sized:
        rng = np.random.default_rng(1)
        rate = np.exp(rng.normal(size=60))
        X = rng.negative_binomial(size, size / (size + rate), X.shape)
    fitted = prepared(X, "size_factors" if sized else "standard").counts.dispersion
    assert np.median(fitted) == pytest.approx(1 / size, rel=0.15)


def test_poisson_counts_have_next_to_no_dispersion():
    X = np.random.default_rng(0).poisson(4, (4000, 60))
    assert prepared(X, "standard").counts.dispersion.max() < 0.02


def test_what_it_costs_to_know_nothing_but_the_mean():
    X, _ = drawn(n=500)
    weight = np.random.default_rng(1).uniform(0.5, 2, 500)
    fitted = prepared(X, weight=weight)
    mean = np.average(X, axis=0, weights=weight)
    s = (X.sum(axis=1) / np.average(X.sum(axis=1), weights=weight))[:, None]
    spread = fitted.counts.dispersion
    size, rate = 1 / np.maximum(spread, 1e-12), s * mean
    own = stats.nbinom.logpmf(X, size, size / (size + np.maximum(X, 1e-300)))
    lost = own - stats.nbinom.logpmf(X, size, size / (size + rate))
    expected = np.average(lost, axis=0, weights=weight)
    # Where the dispersion is nearly 0, scipy's own sums cancel.
    np.testing.assert_allclose(fitted.counts.cost, expected, rtol=1e-4)
    wide = spread > 0.01
    assert wide.sum() > 40
    np.testing.assert_allclose(fitted.counts.cost[wide], expected[wide], rtol=1e-8)
    poisson = stats.poisson.logpmf(X, np.maximum(X, 1e-300)) - stats.poisson.logpmf(X, rate)
    expected = np.average(poisson, axis=0, weights=weight)
    np.testing.assert_allclose(fitted.counts.poisson_cost, expected, rtol=1e-9)
    logs = np.log1p(X / s)
    np.testing.assert_allclose(fitted.counts.log_mean, np.average(logs, axis=0, weights=weight))


def test_missing_values_are_left_out():
    X, _ = drawn(n=300)
    with_missing = X.astype(float)
    with_missing[::3, 1] = np.nan
    fitted = prepared(with_missing, "standard").counts
    alone = prepared(X[np.isfinite(with_missing[:, 1])], "standard").counts
    assert fitted.cost[1] == pytest.approx(alone.cost[1])
    assert fitted.log_scale[1] == pytest.approx(alone.log_scale[1])


def test_sparse_blocks_and_arrays_tell_the_same(monkeypatch):
    X, _ = drawn(n=200)
    whole = prepared(X)
    monkeypatch.setattr(holdout, "BLOCK_BYTES", 8 * 60 * 7)
    pieces = fit_preparation(
        open_source(sparse.csr_array(X), roles="count"), np.arange(200), np.ones(200)
    )
    for name in ("cost", "poisson_cost", "dispersion", "log_mean", "log_scale"):
        ours, theirs = getattr(pieces.counts, name), getattr(whole.counts, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_columns_without_any_count_or_without_change_cost_something():
    X = np.column_stack([np.zeros(100, int), np.full(100, 3), np.arange(100) == 7])
    fitted = prepared(X, "standard").counts
    assert (fitted.cost >= np.log(100) / 100 - 1e-12).all()
    assert np.isfinite(half_deviance(X, np.full(X.shape, 0.01), fitted.dispersion)).all()


def test_when_rows_have_size_factors():
    X, _ = drawn(n=60)
    assert prepared(X).scaling == "size_factors"
    assert prepared(X, "standard").scaling == "standard"
    assert prepared(X[:, :49]).scaling == "standard"
    assert prepared(X[:, :49], "size_factors").scaling == "size_factors"
    assert prepared(X, roles={"*": "count", "3": "numeric"}).scaling == "standard"


@pytest.mark.parametrize("roles", ["numeric", {"*": "count", "3": "numeric"}])
def test_sizes_are_for_counts_alone(roles):
    with pytest.raises(RequestError, match="'size_factors' is for rows of nothing but counts"):
        prepared(drawn(n=60)[0], "size_factors", roles=roles)


def test_it_is_written_and_read():
    fitted = prepared(drawn(n=60)[0])
    written = fitted.to_json()
    again = Preparation.from_json(written)
    np.testing.assert_array_equal(again.counts.cost, fitted.counts.cost)
    assert again.counts.has_size_factors
    assert Preparation.from_json({k: v for k, v in written.items() if k != "counts"}).counts is None
    for name, wrong in (("cost", [0.0] * 60), ("dispersion", [-1.0] * 60), ("log_mean", [1.0])):
        broken = written | {"counts": written["counts"] | {name: wrong}}
        with pytest.raises(ArtifactError, match=f"{name} of 60 counts"):
            Preparation.from_json(broken)
