"""Missing values: no part of any mean, error or gradient, and filled in by the reconstruction."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer

from isthmus import Autoencoder, corruptions, kinds, load, losses
from isthmus.baselines import PCABaseline
from isthmus.corruptions import CORRUPTIONS
from isthmus.data import open_source
from isthmus.data.preparation.fit import fit_preparation
from isthmus.data.preparation.statistics import compute_moments
from isthmus.data.splitting.holdout import hash_rows
from isthmus.errors import DataError
from isthmus.imputation.latent_prior import CodePrior, degrees_of_freedom
from isthmus.kinds import KINDS
from isthmus.losses import LOSSES
from isthmus.missing import filled, known_sums, mean_known, row_means
from isthmus.report import gather


@pytest.fixture(scope="module")
def complete():
    """(300, 12): rows of three hidden numbers and a little noise."""
    rng = np.random.default_rng(5)
    return rng.normal(size=(300, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(300, 12))


@pytest.fixture(scope="module")
def hidden(complete):
    """Which of them are missing: a fifth."""
    return np.random.default_rng(6).random(complete.shape) < 0.2


@pytest.fixture(scope="module")
def gappy(complete, hidden):
    """The rows with gaps."""
    return np.where(hidden, np.nan, complete)


@pytest.fixture(scope="module")
def fitted(gappy):
    """A fit of them, by default but for its length."""
    return Autoencoder(3, max_epochs=60, random_state=0).fit(gappy)


def test_means_and_sums_are_of_what_is_known():
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(mean_known(values), [2, 0])
    sums, counts = known_sums(values)
    np.testing.assert_array_equal(sums, [1, 0, 3])
    np.testing.assert_array_equal(counts, [1, 0, 1])
    assert row_means(torch.from_numpy(values)).tolist() == [2, 0]
    assert filled(torch.from_numpy(values), 7.0)[0].tolist() == [1, 7, 3]


def test_moments_are_those_of_numpy(gappy):
    found = compute_moments(open_source(gappy), np.arange(len(gappy)), np.ones(len(gappy)))
    np.testing.assert_allclose(found.mean, np.nanmean(gappy, axis=0))
    np.testing.assert_allclose(found.variance, np.nanvar(gappy, axis=0))
    np.testing.assert_array_equal(found.low, np.nanmin(gappy, axis=0))
    np.testing.assert_array_equal(found.high, np.nanmax(gappy, axis=0))
    np.testing.assert_allclose(found.missing, np.isnan(gappy).mean(axis=0))


def test_weighted_moments_of_blocks_are_those_of_repeated_rows(gappy, monkeypatch):
    weight = np.random.default_rng(0).integers(1, 4, len(gappy))
    monkeypatch.setattr("isthmus.data.splitting.holdout.BLOCK_BYTES", 7 * 8 * gappy.shape[1])
    found = compute_moments(open_source(gappy), np.arange(len(gappy)), weight.astype(float))
    repeated = np.repeat(gappy, weight, axis=0)
    np.testing.assert_allclose(found.mean, np.nanmean(repeated, axis=0))
    np.testing.assert_allclose(found.variance, np.nanvar(repeated, axis=0))


def test_nan_of_any_bit_pattern_is_the_same_gap():
    rows = np.array([[1.0, np.nan], [1.0, -np.nan]])
    rows.view(np.uint64)[1, 1] ^= 3
    one, other = hash_rows(open_source(rows), np.arange(2), seed=0)
    assert one == other


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_mean_over_what_is_known(name):
    loss, generator = LOSSES[name](), torch.Generator().manual_seed(0)
    raw = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.rand(4, 6, generator=generator, dtype=torch.float64)
    x[0, :2], x[1], x[2, 5] = torch.nan, torch.nan, torch.nan
    found = loss.row_loss(allow_missing=True)(raw, x)
    for row, value in enumerate(found):
        known = ~x[row].isnan()
        errors = loss.errors(raw[row][known], x[row][known]).detach()
        wanted = errors.mean().item() if known.any() else 0.0
        assert value.item() == pytest.approx(wanted, rel=1e-12)
    (gradient,) = torch.autograd.grad(found.sum(), raw)
    assert (gradient[x.isnan()] == 0).all()
    assert gradient.isfinite().all()
    assert torch.equal(
        loss.row_loss(allow_missing=True)(raw, filled(x)), loss.per_row_known(raw, filled(x))
    )
    assert torch.allclose(
        loss.row_loss(allow_missing=False)(raw, filled(x)), loss.errors(raw, filled(x)).mean(1)
    )


def test_errors_are_of_what_is_known_and_pca_is_beaten(fitted, gappy, complete, hidden):
    rebuilt = fitted.reconstruct(gappy)
    assert np.isfinite(rebuilt).all()
    squared = np.where(hidden, np.nan, (rebuilt - complete) ** 2)
    np.testing.assert_allclose(-fitted.score_samples(gappy), np.nanmean(squared, axis=1), rtol=1e-5)
    by_feature = fitted.reconstruction_error(gappy, by="feature")
    np.testing.assert_allclose(by_feature, np.nanmean(squared, axis=0), rtol=1e-5)
    mean_filled = SimpleImputer().fit_transform(gappy)
    pca = PCA(3).fit(mean_filled)
    theirs = pca.inverse_transform(pca.transform(mean_filled))
    theirs = np.nanmean(np.where(hidden, np.nan, (theirs - complete) ** 2))
    assert fitted.reconstruction_error(gappy) < 0.3 * theirs


def test_the_baseline_is_pca_of_rows_filled_with_means(fitted, gappy, complete, hidden):
    source, everything = open_source(gappy), np.arange(len(gappy))
    baseline = PCABaseline(3).fit(source, fitted.preparation_, everything)
    mean_filled = SimpleImputer().fit_transform(gappy)
    pca = PCA(3).fit(mean_filled)
    theirs = pca.inverse_transform(pca.transform(mean_filled))
    squared = np.where(hidden, np.nan, (theirs - complete) ** 2)
    found = baseline.evaluate(source, everything)
    np.testing.assert_allclose(found.per_feature, np.nanmean(squared, axis=0))
    curve = baseline.curve(source, everything)
    assert curve[2] == pytest.approx(found.explained_variance)


def test_gaps_are_filled_better_than_by_the_mean_and_the_rest_stays(
    fitted, gappy, complete, hidden
):
    found = fitted.impute(gappy)
    np.testing.assert_array_equal(found[~hidden], gappy[~hidden])
    by_mean = SimpleImputer().fit_transform(gappy)
    ours, theirs = (np.square(x - complete)[hidden].mean() for x in (found, by_mean))
    assert ours < 0.2 * theirs


def test_with_a_linear_network_it_is_the_conditional_mean_of_probabilistic_pca(gappy):
    """Tipping and Bishop (1999), in closed form from the model's own mean, components and noise."""
    ae = Autoencoder(3, max_epochs=0, precision="float64", random_state=0).fit(gappy)
    network, prior = ae.network_, ae.imputer_.prior
    x = ae.preparation_.encode(gappy, torch.float64)
    with torch.no_grad():
        offset = network.decode(torch.zeros(1, 3, dtype=torch.float64))
        back = network.decode(torch.eye(3, dtype=torch.float64)) - offset
    noise = 1 / (2 * float(prior.scale))
    covariance = torch.linalg.inv(prior.precision)
    together = back.t() @ covariance @ back + noise * torch.eye(12, dtype=torch.float64)
    mean = offset[0] + prior.location @ back
    rebuilt = network.decode(prior.map_code(network, ae.loss_, x)).detach()
    for row in range(20):
        known, gap = ~x[row].isnan(), x[row].isnan()
        gain = together[gap][:, known] @ torch.linalg.inv(together[known][:, known])
        wanted = mean[gap] + gain @ (x[row][known] - mean[known])
        torch.testing.assert_close(rebuilt[row][gap], wanted, rtol=1e-6, atol=1e-8)


def test_gaps_do_not_draw_what_is_known_of_codes_together(complete):
    """Codes of rows with gaps filled by means vary too little; rows without gaps tell how much."""
    gappy = np.where(np.random.default_rng(8).random(complete.shape) < 0.4, np.nan, complete)
    ae = Autoencoder(3, max_epochs=0, precision="float64", random_state=0).fit(gappy)
    with torch.no_grad():
        offset = ae.network_.decode(torch.zeros(1, 3, dtype=torch.float64))
        back = (ae.network_.decode(torch.eye(3, dtype=torch.float64)) - offset).numpy()
        codes = ae.network_.encode(ae.preparation_.encode(gappy, torch.float64)).numpy()
    truth = np.cov(ae.preparation_.encode(complete, torch.float64).numpy().T, bias=True)
    learned = torch.linalg.inv(ae.imputer_.prior.precision).numpy()
    off, by_encoder = (
        np.square(back.T @ covariance @ back - truth).sum()
        for covariance in (learned, np.cov(codes.T, bias=True))
    )
    assert off < 0.3 * by_encoder


def words_and_numbers():
    """(300, 4): a column of six levels, a number, a truth and one of two levels, unrelated."""
    rng = np.random.default_rng(2)
    return pd.DataFrame(
        {
            "a": np.array(list("uvwxyz"))[rng.integers(0, 6, 300)],
            "b": rng.normal(size=300),
            "c": rng.random(300) < 0.5,
            "d": np.array(["yes", "no"])[rng.integers(0, 2, 300)],
        }
    )


def test_a_row_is_as_many_numbers_as_its_features_can_vary_in():
    """NumPy's rank of the centred features is what they are."""
    source = open_source(words_and_numbers())
    fitted = fit_preparation(source, np.arange(300), np.ones(300))
    features = fitted.encode(source.read(np.arange(300)), torch.float64).numpy()
    assert features.shape[1] == 10
    assert np.linalg.matrix_rank(features - features.mean(axis=0)) == 8
    assert degrees_of_freedom(fitted.facts) == 8


def test_noise_is_what_a_code_leaves_of_a_row_and_not_of_its_columns():
    """A code of 4 numbers follows 4 of 8, though there are 4 columns."""
    gappy = words_and_numbers()
    gappy.loc[::10, "a"] = None
    ae = Autoencoder(4, max_epochs=30, random_state=0).fit(gappy)
    held = ae.model_.open_rows(open_source(gappy)).take(ae.validation_rows_)
    with torch.no_grad():
        errors = ae.loss_.per_row_known(ae.network_(held).reconstruction, held).double()
    columns = torch.as_tensor(gappy.notna().sum(axis=1).to_numpy()[ae.validation_rows_])
    noise = float((columns * errors).sum() / columns.sum()) * 8 / (8 - 4)
    assert 1 / (2 * float(ae.imputer_.prior.scale)) == pytest.approx(noise, rel=1e-5)


def test_what_tells_nothing_is_left_at_the_mean():
    """Columns that know nothing of each other: nobody can do better than the mean."""
    rng = np.random.default_rng(3)
    noise = rng.standard_t(5, size=(600, 6))
    gappy = np.where(rng.random(noise.shape) < 0.2, np.nan, noise)
    missing = np.isnan(gappy)
    found = Autoencoder(5, max_epochs=40, random_state=0).fit(gappy).impute(gappy)
    by_mean = SimpleImputer().fit_transform(gappy)
    ours, theirs = (np.square(x - noise)[missing].mean() for x in (found, by_mean))
    assert ours < 1.03 * theirs


def test_a_code_with_an_activation_imputes_too(gappy, complete, hidden):
    kind = kinds.Regularized(hidden=(16,), code_activation="sigmoid")
    ae = Autoencoder(4, kind=kind, max_epochs=60, random_state=0).fit(gappy)
    assert ae.imputer_.prior is None
    found, by_mean = ae.impute(gappy), SimpleImputer().fit_transform(gappy)
    ours, theirs = (np.square(x - complete)[hidden].mean() for x in (found, by_mean))
    assert ours < 0.8 * theirs


def test_what_would_be_there_is_not_known(gappy, hidden):
    """Only the gap counts: other numbers under the same mask change nothing."""
    under = np.ma.masked_array(np.where(hidden, 1e6, gappy), hidden)
    one, other = (Autoencoder(3, max_epochs=3, random_state=0).fit(X) for X in (gappy, under))
    np.testing.assert_array_equal(one.transform(gappy), other.transform(under))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_learns_with_gaps(name, gappy):
    signals = gappy[:, :, None] if name == "convolutional" else gappy
    ae = Autoencoder(3, kind=name, max_epochs=15, random_state=0).fit(signals)
    assert np.isfinite(ae.transform(signals)).all()
    losses = [sum(r["train"].values()) for r in ae.history_ if "train" in r]
    assert np.isfinite(losses).all()
    # Even a network that ends at PCA knows what to do.
    assert np.isfinite(ae.impute(signals)).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_leaves_gaps_alone(name, gappy):
    ae = Autoencoder(3, corruption=name, max_epochs=5, random_state=0).fit(gappy)
    assert np.isfinite(ae.score_samples(gappy)).all()
    assert all(w.isfinite().all() for w in ae.network_.state_dict().values())


@pytest.mark.parametrize("start", ["random", "lsuv", "rbm", "autoencoder"])
def test_every_start_knows_gaps(start, gappy):
    kind = kinds.Multilayer(hidden=(10, 6), activation="sigmoid", skip=False)
    ae = Autoencoder(3, kind=kind, pretraining=start, max_epochs=3, random_state=0).fit(gappy)
    records = [r for r in ae.history_ if "pretraining" in r]
    assert all(np.isfinite(r["error"]) for r in records if "error" in r)
    assert np.isfinite(ae.score(gappy))


@pytest.mark.parametrize(
    "settings",
    [
        {"penalties": (losses.L1(weight=0.01), losses.Contraction(weight=0.01))},
        {"optimizer": "kfac"},
        {"optimizer": "lbfgs"},
        {"precision": "bf16"},
        {"validation_fraction": 0.0},
    ],
    ids=str,
)
def test_other_parts_know_gaps(settings, gappy):
    ae = Autoencoder(3, max_epochs=4, random_state=0, **settings).fit(gappy)
    assert np.isfinite(ae.score_samples(gappy)).all()


def test_a_row_of_nothing_has_a_code_and_no_error(fitted):
    nothing = np.full((1, 12), np.nan)
    assert np.isfinite(fitted.transform(nothing)).all()
    assert fitted.score_samples(nothing) == [0]


def test_saved_and_resumed(fitted, gappy, tmp_path):
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.impute(gappy), fitted.impute(gappy))
    before = again.imputer_.prior
    again.partial_fit(gappy)
    assert np.isfinite(again.score(gappy))
    # What it knows of codes is what they are now.
    rows = again.model_.open_rows(open_source(gappy))
    now = CodePrior.fit(again.network_, again.loss_, rows, rows, again.model_.refinement.metric)
    torch.testing.assert_close(again.imputer_.prior.location, now.location)
    codes = torch.from_numpy(again.set_params(transform_max_iter=0).transform(gappy))
    assert (now.location - codes.mean(dim=0)).abs().max() < 0.1 * codes.std(dim=0).min()
    assert not torch.equal(again.imputer_.prior.location, before.location)


def test_rows_that_hardly_count_hardly_matter(complete, gappy, hidden):
    strangers = np.random.default_rng(1).normal(8, 3, size=gappy.shape)
    both = np.concatenate([gappy, strangers])
    found = []
    for weight in (0.0, 1e-9):
        sample_weight = np.repeat([1.0, weight], len(gappy))
        ae = Autoencoder(3, max_epochs=20, validation_fraction=0.2, random_state=0)
        imputed = ae.fit(both, sample_weight=sample_weight).impute(gappy)
        found.append(np.square(imputed - complete)[hidden].mean())
    by_mean = np.square(SimpleImputer().fit_transform(gappy) - complete)[hidden].mean()
    assert max(found) < 0.05 * by_mean


def test_a_code_as_wide_as_the_row_imputes_too(gappy, complete, hidden):
    found = Autoencoder(12, max_epochs=5, random_state=0).fit(gappy).impute(gappy)
    by_mean = SimpleImputer().fit_transform(gappy)
    ours, theirs = (np.square(x - complete)[hidden].mean() for x in (found, by_mean))
    assert ours < 0.2 * theirs


@pytest.mark.parametrize("rows", [1, 2])
def test_a_few_more_rows_do_not_spoil_it(fitted, gappy, complete, hidden, tmp_path, rows):
    fitted.save(tmp_path / "model")
    ae = load(tmp_path / "model")
    ae.partial_fit(complete[:rows])
    before, after = (np.square(x.impute(gappy) - complete)[hidden].mean() for x in (fitted, ae))
    assert after < 1.5 * before


@pytest.mark.parametrize("library", ["polars", "pandas", "pyarrow"])
def test_whole_numbers_that_no_float_holds_stay_as_they_were(library):
    large = [2**60 + 1 + i if i % 5 else None for i in range(30)]
    columns = {"t": large, "v": [float(i) for i in range(30)]}
    frame = {
        "polars": lambda: pl.DataFrame(columns),
        "pandas": lambda: pd.DataFrame(columns | {"t": pd.array(large, "Int64")}),
        "pyarrow": lambda: pl.DataFrame(columns).to_arrow(),
    }[library]()
    ae = Autoencoder(1, max_epochs=2, random_state=0).fit(frame)
    filled = ae.impute(frame)["t"]
    filled = filled.to_pylist() if library == "pyarrow" else list(filled)
    assert [value for i, value in enumerate(filled) if i % 5] == [v for v in large if v is not None]
    assert all(abs(filled[i] - 2**60) < 10_000 for i in range(0, 30, 5))


def test_held_out_rows_of_nothing_are_refused(gappy):
    with pytest.raises(DataError, match="no row holds any value"):
        Autoencoder(3, max_epochs=1).fit(gappy, validation=np.full((5, 12), np.nan))


def test_learned_row_by_row(gappy, complete, hidden):
    ae = Autoencoder(3, random_state=0)
    for _ in range(60):
        ae.partial_fit(gappy)
    found, by_mean = ae.impute(gappy), SimpleImputer().fit_transform(gappy)
    ours, theirs = (np.square(x - complete)[hidden].mean() for x in (found, by_mean))
    assert ours < 0.3 * theirs


def test_a_model_of_complete_rows_says_that_it_knows_no_gaps(complete, gappy):
    ae = Autoencoder(3, max_epochs=2, random_state=0).fit(complete)
    with pytest.raises(DataError, match=r"are NaN \(missing\); the first.*corruption='missing'"):
        ae.transform(gappy)
    taught = Autoencoder(
        3, corruption=corruptions.MissingValues(rate=0.2), max_epochs=60, random_state=0
    )
    assert np.isfinite(taught.fit(complete).impute(gappy)).all()


def test_held_out_rows_may_have_gaps_where_the_others_may(complete, gappy):
    with pytest.raises(DataError, match="NaN"):
        Autoencoder(3, max_epochs=1).fit(complete, validation=gappy)
    Autoencoder(3, max_epochs=1).fit(gappy, validation=gappy)


def test_infinity_is_no_gap(gappy):
    X = gappy.copy()
    X[7, 3] = np.inf
    with pytest.raises(DataError, match=r"1 value in 1 row is infinity; the first.*row 7"):
        Autoencoder(3).fit(X)


def test_a_feature_without_any_value_is_named(gappy):
    frame = pd.DataFrame(gappy, columns=[f"c{i}" for i in range(12)])
    frame["c4"] = np.nan
    with pytest.raises(DataError, match="'c4' has no value at all"):
        Autoencoder(3).fit(frame)


def test_gaps_are_told(fitted, hidden):
    notes = [r["message"] for r in fitted.history_ if r.get("event") == "note"]
    assert any(f"{hidden.mean():.1%} of the values are missing, in 12 columns" in n for n in notes)


@pytest.fixture
def table():
    """(120,) rows of numbers, whole numbers and booleans with gaps, as columns."""
    rng = np.random.default_rng(1)
    size = rng.normal(10, 3, 120)
    table = pd.DataFrame(
        {
            "size": size,
            "count": pd.array(np.round(2 * size + rng.normal(size=120)), dtype="Int64"),
            "large": pd.array(size > 10, dtype="boolean"),
            "other": (3 * size + rng.normal(size=120)).astype("float32"),
        },
        index=pd.RangeIndex(1000, 1120),
    )
    for column in table:
        table.loc[rng.choice(table.index, 12, replace=False), column] = pd.NA
    return table


def test_a_pandas_table_comes_back_complete_in_its_own_dtypes(table):
    found = Autoencoder(2, max_epochs=20, random_state=0).fit(table).impute(table)
    assert not found.isna().any().any()
    assert (found.dtypes == table.dtypes).all()
    assert found.index.equals(table.index)
    for column in table:
        known = table[column].notna()
        assert (found.loc[known, column] == table.loc[known, column]).all()


def test_a_polars_table_comes_back_complete_in_its_own_dtypes(table):
    frame = pl.from_pandas(table.reset_index(drop=True), nan_to_null=True)
    found = Autoencoder(2, max_epochs=20, random_state=0).fit(frame).impute(frame)
    assert found.schema == frame.schema
    assert found.null_count().sum_horizontal().item() == 0


def test_the_report_shows_gaps(fitted, gappy):
    report = gather(fitted, gappy)
    json.dumps(report, allow_nan=False)
    rows = [row for group in report["rows"].values() for row in group["original"]]
    assert any(value is None for row in rows for value in row)
    measured = report["measured"]
    assert measured["ae"]["error"] < measured["baselines"]["pca"]["error"]


@pytest.mark.parametrize("shape", [(6, 6), (36, 1)])
def test_images_and_signals_with_gaps_are_drawn_too(shape):
    rng = np.random.default_rng(2)
    X = (rng.normal(size=(200, 2)) @ rng.normal(size=(2, 36))).reshape(200, *shape)
    X[rng.random(X.shape) < 0.1] = np.nan
    ae = Autoencoder(2, max_epochs=5, random_state=0).fit(X)
    report = gather(ae, X)
    json.dumps(report, allow_nan=False)
    assert report["images"] is None
    assert np.isfinite(ae.impute(X)).all()


def test_real_measurements_are_filled_in_better_than_by_the_mean():
    X = load_breast_cancer().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    mask = np.random.default_rng(0).random(X.shape) < 0.2
    gappy = np.where(mask, np.nan, X)
    found = Autoencoder(8, max_epochs=60, random_state=0).fit(gappy).impute(gappy)
    by_mean = SimpleImputer().fit_transform(gappy)
    ours, theirs = (np.square(x - X)[mask].mean() for x in (found, by_mean))
    assert ours < 0.4 * theirs
