"""Normal scores of heavy-tailed columns: which are, there and back, and against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.preprocessing import QuantileTransformer

from isthmus import Autoencoder, load
from isthmus.data import Preparation, open_source
from isthmus.data.preparation.fit import fit_preparation
from isthmus.data.preparation.quantiles import QuantileMap, fit_quantile_map
from isthmus.errors import ArtifactError, RequestError

N = 4000


def column(distribution, n=N, seed=0):
    return distribution.rvs(n, random_state=seed)


def line(values, weight=None):
    return fit_quantile_map(values, np.ones(len(values)) if weight is None else weight)


@pytest.mark.parametrize(
    ("distribution", "heavy"),
    [
        (stats.norm(5, 3), False),
        (stats.uniform(), False),
        (stats.expon(), False),
        (stats.poisson(50), False),
        (stats.lognorm(1.5), True),
        (stats.cauchy(), True),
        (stats.pareto(2), True),
    ],
)
def test_which_tails_are_heavy(distribution, heavy):
    values = column(distribution)
    assert (line(values) is not None) == heavy
    assert (line(-1e6 * values + 7) is not None) == heavy


def test_few_values_have_no_tail_and_missing_ones_are_ignored():
    assert line(np.array([0.0] * 900 + [1e6] * 100)) is None
    values = column(stats.lognorm(1.5))
    with_missing = np.concatenate([values, np.full(N, np.nan)])
    assert line(with_missing) == line(values)


def test_scores_are_those_of_scikit_learn():
    values = column(stats.lognorm(1.5))
    theirs = QuantileTransformer(n_quantiles=N, output_distribution="normal", subsample=None)
    expected = theirs.fit_transform(values[:, None])[:, 0]
    inner = np.abs(expected) < 2  # theirs ends at the ends, ours half a rank before
    fitted = line(values).transform(values)
    np.testing.assert_allclose(fitted[inner], expected[inner], atol=0.02)
    assert stats.kstest(fitted, "norm").statistic < 0.01


def test_there_and_back_is_exact_and_straight_beyond_the_ends():
    values = column(stats.cauchy())
    fitted = line(values)
    points = np.concatenate([np.linspace(values.min(), values.max(), 1001), [-1e9, 1e9]])
    np.testing.assert_allclose(
        fitted.inverse_transform(fitted.transform(points)), points, rtol=1e-9, atol=1e-6
    )
    assert (np.diff(fitted.transform(np.sort(points))) > 0).all()
    last = fitted.values[-1]
    steps = np.diff(fitted.transform(np.array([last, last + 10, last + 20])))
    assert steps[0] == pytest.approx(steps[1])


def test_a_pile_of_zeros_has_one_score_from_which_zero_comes_back():
    rng = np.random.default_rng(0)
    gain = np.where(rng.random(N) < 0.9, 0.0, np.exp(8 + rng.normal(size=N)))
    fitted = line(gain)
    assert fitted.inverse_transform(fitted.transform(gain)) == pytest.approx(gain)
    assert fitted.transform(np.zeros(1)) == pytest.approx(stats.norm.ppf((gain == 0).mean() / 2))


def test_a_weight_of_two_is_two_rows():
    values, rng = column(stats.lognorm(1.5), n=300), np.random.default_rng(0)
    weight = rng.integers(1, 3, 300)
    assert line(values, weight.astype(float)) == line(np.repeat(values, weight))


def table(seed=0, n=600):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=n)
    income = np.exp(2 * base + 0.2 * rng.normal(size=n))
    group = np.where(base > 0, "a", "b")
    return pd.DataFrame({"age": 40 + 9 * base + rng.normal(size=n), "income": income, "g": group})


@pytest.mark.parametrize("columns", [["age", "income"], ["age", "income", "g"]])
def test_tables_there_and_back(columns):
    frame = table()[columns]
    source = open_source(frame)
    rows = np.arange(len(frame))
    fitted = fit_preparation(source, rows, np.ones(len(rows)), "quantiles")
    assert [line is not None for line in fitted.quantile_maps] == [False, True, False][
        : len(columns)
    ]
    assert "'income' is heavy-tailed" in fitted.remarks[-1]
    prepared = fitted.encode(source.read(rows), torch.float64)
    np.testing.assert_allclose(fitted.decode(prepared), source.read(rows), rtol=1e-9)
    assert prepared[:, 1].abs().max() < 4
    assert prepared.mean(dim=0)[1].item() == pytest.approx(0, abs=1e-9)
    assert Preparation.from_json(fitted.to_json()) == fitted


def test_a_fit_rebuilds_what_is_heavy_tailed_and_is_saved(tmp_path):
    ae = Autoencoder(1, preparation="quantiles", max_epochs=20, random_state=0).fit(table())
    new = table(seed=1)
    back = ae.reconstruct(new)
    away = np.abs(np.log(back["income"]) - np.log(new["income"]))
    assert away.median() < 0.5
    ae.save(tmp_path / "m")
    pd.testing.assert_frame_equal(load(tmp_path / "m").reconstruct(new), back)


def test_invalid_maps_and_rows_are_refused():
    source = open_source(table())
    fitted = fit_preparation(source, np.arange(600), np.ones(600), "quantiles")
    broken = fitted.to_json() | {"quantile_maps": [None, QuantileMap((1.0, 1.0), (0.0, 1.0)), None]}
    with pytest.raises(ArtifactError, match="not strictly increasing"):
        Preparation.from_json(broken)
    with pytest.raises(RequestError, match="these rows are signals"):
        fit_preparation(
            open_source(np.random.default_rng(0).normal(size=(30, 50, 2))),
            np.arange(30),
            np.ones(30),
            "quantiles",
        )
