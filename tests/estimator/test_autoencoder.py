"""What a user does with an Autoencoder: containers, pipelines, searches, weights, scores."""

import copy

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from isthmus import Autoencoder, corruptions, kinds, losses, optim
from isthmus.errors import DataError, RequestError

RNG = np.random.default_rng(0)
ANGLES = RNG.uniform(0, 2, size=(240, 2))
X = np.concatenate([np.sin(ANGLES @ RNG.normal(size=(2, 4))), ANGLES @ RNG.normal(size=(2, 4))], 1)


def make(n_components=2, **settings):
    settings = {
        "kind": kinds.Multilayer(hidden=(16,)),
        "max_epochs": 5,
        "random_state": 0,
    } | settings
    return Autoencoder(n_components, **settings)


def frame(library):
    columns = {
        "a": X[:, 0].astype(np.float32),
        "count": np.arange(240)[::-1].copy(),
        "yes": X[:, 1] > 0,
    }
    return {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[library](columns)


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int16", "bool"])
def test_an_array_comes_back_as_an_array_of_its_dtype(dtype):
    rows = (X > 0 if dtype == "bool" else 20 * X).clip(0).astype(dtype)
    model = make().fit(rows)
    rebuilt = model.inverse_transform(model.transform(rows))
    assert rebuilt.dtype == dtype
    assert rebuilt.shape == rows.shape


@pytest.mark.parametrize("kind", ["multilayer", "convolutional"])
@pytest.mark.parametrize("shape", [(8, 8), (5, 7, 3), (3, 9, 6)])
def test_images_come_back_as_images(shape, kind, rng):
    images = rng.integers(0, 256, size=(40, *shape), dtype=np.uint8)
    model = Autoencoder(2, kind=kind, max_epochs=1, random_state=0).fit(images)
    assert len(model.preparation_.facts.shape) == 3
    rebuilt = model.reconstruct(images)
    assert rebuilt.shape == images.shape
    assert rebuilt.dtype == np.uint8


def test_signals_come_back_as_signals(rng):
    signals = rng.normal(size=(40, 30, 2))
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(signals)
    assert model.preparation_.facts.shape == (2, 30)
    assert model.reconstruct(signals).shape == signals.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.bfloat16])
def test_a_tensor_comes_back_as_a_tensor(dtype):
    rows = torch.as_tensor(X.clip(0) * 20).to(dtype)
    rebuilt = make().fit(rows).reconstruct(rows)
    assert rebuilt.dtype == dtype
    assert rebuilt.shape == rows.shape


@pytest.mark.parametrize("make_sparse", [sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix])
def test_a_sparse_matrix_gives_what_the_dense_one_gives(make_sparse):
    rows = np.where(X > 0.3, X, 0.0)
    dense, thin = make().fit(rows), make().fit(make_sparse(rows))
    np.testing.assert_allclose(thin.transform(make_sparse(rows)), dense.transform(rows), rtol=1e-6)
    assert sparse.issparse(thin.reconstruct(make_sparse(rows)))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_frame_comes_back_as_a_frame_with_its_dtypes(library):
    rows = frame(library)
    model = make().fit(rows)
    rebuilt = model.reconstruct(rows)
    assert type(rebuilt) is type(rows)
    if library == "pyarrow":
        assert rebuilt.schema == rows.schema
    else:
        assert list(rebuilt.columns) == list(rows.columns)
        assert list(rebuilt.dtypes) == list(rows.dtypes)
    assert list(model.feature_names_in_) == ["a", "count", "yes"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output(library):
    rows = frame(library)
    codes = make().set_output(transform=library).fit_transform(rows)
    assert list(codes.columns) == ["autoencoder0", "autoencoder1"]
    assert type(codes) is type(rows)


def test_columns_in_another_order_are_refused_as_scikit_learn_does():
    rows = frame("pandas")
    with pytest.raises(ValueError, match="same order"):
        make().fit(rows).transform(rows[["yes", "a", "count"]])


def test_in_a_pipeline():
    labels = (ANGLES[:, 0] > 1).astype(int)
    model = make_pipeline(StandardScaler(), make(), LogisticRegression()).fit(X, labels)
    assert model.score(X, labels) > 0.6


@pytest.mark.parametrize(
    "grid",
    [
        {"kind__hidden": [(8,), (16, 8)]},
        {"kind": [kinds.Vanilla(), kinds.Multilayer(hidden=(8,))]},
        {"n_components": [1, 3]},
        {"optimizer": [optim.Adam(), optim.Nesterov()], "penalties": [(), (losses.L1(),)]},
    ],
)
def test_in_a_grid_search(grid):
    search = GridSearchCV(make(max_epochs=2), grid, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_.keys() == grid.keys()


def test_more_components_score_better():
    search = GridSearchCV(make(kind="vanilla"), {"n_components": [1, 2, 4]}, cv=3).fit(X)
    assert search.best_params_ == {"n_components": 4}


def test_cross_validation_in_two_processes_agrees_with_one():
    scores = cross_val_score(make(), X, cv=2, n_jobs=2)
    assert (scores == cross_val_score(make(), X, cv=2)).all()


def test_fits_in_other_processes_are_the_same():
    (there,) = joblib.Parallel(n_jobs=2)([joblib.delayed(make().fit)(X)])
    np.testing.assert_array_equal(there.transform(X), make().fit(X).transform(X))


def test_clone_and_deepcopy():
    model = make(penalties=(losses.L1(weight=0.5),), corruption=corruptions.Masking(rate=0.5)).fit(
        X
    )
    assert clone(model).get_params()["penalties"][0].weight == 0.5
    assert not hasattr(clone(model), "network_")
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin.transform(X), model.transform(X))
    twin.partial_fit(X)
    assert (twin.transform(X) != model.transform(X)).any()


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (make(random_state=s).fit(X).network_.state_dict() for s in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_torch_and_numpy_randomness_are_left_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    make().fit(X)
    assert (torch.rand(1), np.random.random()) == expected


def test_the_number_of_threads_is_left_alone():
    before = torch.get_num_threads()
    make().fit(X)
    assert torch.get_num_threads() == before


def test_scores_are_minus_the_mean_squared_error_in_the_units_of_the_rows():
    model = make().fit(X)
    error = (X - model.reconstruct(X)) ** 2
    np.testing.assert_allclose(model.score_samples(X), -error.mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(model.score(X), -error.mean(), rtol=1e-4)
    np.testing.assert_allclose(
        model.reconstruction_error(X, by="feature"), error.mean(axis=0), rtol=1e-4
    )
    centred = ((X - X[model.train_rows_].mean(axis=0)) ** 2).sum()
    np.testing.assert_allclose(model.explained_variance(X), 1 - error.sum() / centred, rtol=1e-4)


def test_scores_do_not_depend_on_the_batch():
    model = make().fit(X)
    one_by_one = np.concatenate([model.score_samples(X[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(one_by_one, model.score_samples(X)[:20], rtol=1e-9)


def test_pixels_are_measured_from_0_to_1(digits):
    flat = digits.reshape(len(digits), -1)
    model = make(8, kind=kinds.Vanilla(output="linear")).fit(flat)
    scaled = flat / 255
    pca = PCA(8).fit(scaled)
    error = ((scaled - pca.inverse_transform(pca.transform(scaled))) ** 2).mean()
    assert model.reconstruction_error(flat) == pytest.approx(error, rel=1e-6)


def test_vanilla_is_pca():
    model = make(3, kind="vanilla", max_epochs=40).fit(X)
    pca = PCA(3).fit(X)
    np.testing.assert_allclose(
        model.reconstruct(X), pca.inverse_transform(pca.transform(X)), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["vanilla", "multilayer", "regularized", "convolutional"])
def test_the_defaults_are_never_worse_than_pca_on_new_rows(kind):
    train, test = X[:180], X[180:]
    model = Autoencoder(2, kind=kind, random_state=0).fit(train)
    pca = PCA(2).fit(train)
    theirs = ((test - pca.inverse_transform(pca.transform(test))) ** 2).mean()
    assert model.reconstruction_error(test) <= theirs * (1 + 1e-6)
    if kind != "vanilla":
        assert model.reconstruction_error(test) < 0.5 * theirs


def test_pure_noise_ends_at_pca(rng):
    noise = rng.normal(size=(60, 12))
    model = Autoencoder(3, random_state=0).fit(noise)
    pca = PCA(3).fit(noise)
    assert model.best_epoch_ == 0
    np.testing.assert_allclose(
        model.reconstruct(noise), pca.inverse_transform(pca.transform(noise)), atol=1e-6
    )
    assert any("PCA" in r.get("message", "") for r in model.history_)


def test_binary_rows_take_the_bernoulli_loss(digits):
    rows = (digits.reshape(len(digits), -1) > 100).astype(np.uint8)
    model = make(8, max_epochs=20).fit(rows)
    assert isinstance(model.loss_, losses.Bernoulli)
    assert set(np.unique(model.reconstruct(rows))) <= {0, 1}


@pytest.mark.parametrize("loss", ["squared", "huber", "bernoulli"])
def test_the_output_reaches_the_range_of_the_data(loss):
    spread = np.concatenate([X, -X]) if loss != "bernoulli" else (X - X.min()) / (X.max() - X.min())
    model = make(8, loss=loss, max_epochs=300, optimizer=optim.Adam(lr=0.01), early_stopping=False)
    rebuilt = model.fit(spread).reconstruct(spread)
    assert rebuilt.min() == pytest.approx(spread.min(), abs=0.1)
    assert rebuilt.max() == pytest.approx(spread.max(), abs=0.1)


def test_a_callers_rows_are_never_written_to():
    rows = X.copy()
    rows.flags.writeable = False
    make().fit(rows).reconstruct(rows)
    assert (rows == X).all()


def test_weights_count_rows():
    weight = np.zeros(len(X))
    weight[:100] = 1
    some = make().fit(X, sample_weight=weight)
    np.testing.assert_allclose(
        some.transform(X), make().fit(X[:100]).transform(X), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("weight", "match"),
    [(-np.ones(240), "240 weights are negative"), (np.eye(240)[0], "fewer than 2")],
)
def test_weights_that_make_no_sense(weight, match):
    with pytest.raises(DataError, match=match):
        make().fit(X, sample_weight=weight)


def test_partial_fit_goes_on_from_a_fit():
    model = make(max_epochs=1).fit(X)
    first = model.reconstruction_error(X)
    for _ in range(30):
        model.partial_fit(X)
    assert model.reconstruction_error(X) < first
    assert [r["epoch"] for r in model.history_ if "epoch" in r][-1] == 31


def test_partial_fit_from_nothing_learns():
    model = make()
    for start in [0, 80, 160] * 20:
        model.partial_fit(X[start : start + 80])
    pca = PCA(2).fit(X)
    theirs = ((X - pca.inverse_transform(pca.transform(X))) ** 2).mean()
    assert model.reconstruction_error(X) < theirs


def test_partial_fit_refuses_other_columns():
    with pytest.raises(ValueError, match="features"):
        make().partial_fit(X).partial_fit(X[:, :3])


def test_the_size_of_the_code_follows_the_variance():
    rows = np.random.default_rng(0).normal(size=(300, 5)) @ np.random.default_rng(1).normal(
        size=(5, 20)
    )
    model = Autoencoder(max_epochs=1, random_state=0).fit(rows)
    shares = np.cumsum(PCA().fit(rows[model.train_rows_]).explained_variance_ratio_)
    assert model.n_components_ == int(np.argmax(shares >= 0.9)) + 1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_components": 9}, "n_components=9 is more than the 8 features"),
        ({"n_components": 0}, "n_components=0 must be"),
        ({"kind": "wide"}, "kind='wide' is not known; use one of 'vanilla'"),
        ({"loss": "l2"}, "loss='l2' is not known"),
        ({"loss": "bernoulli"}, "needs values from 0 to 1"),
        ({"penalties": ("l3",)}, "penalties='l3' is not known"),
        ({"corruption": "rain"}, "corruption='rain' is not known"),
        ({"pretraining": "luck"}, "pretraining='luck' is not known"),
        (
            {"kind": kinds.Multilayer(skip=False), "pretraining": "pca"},
            "needs a network that can be linear",
        ),
        ({"optimizer": "magic"}, "optimizer='magic' is not known"),
        ({"optimizer": optim.Adam(lr=-1)}, "lr=-1 must be positive"),
        ({"max_epochs": -1}, "max_epochs=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"precision": "float8"}, "precision='float8' is not known"),
        ({"preparation": "rank"}, "preparation='rank' is not known"),
        ({"device": "abacus"}, "device='abacus' cannot be used here"),
        ({"kind": kinds.Multilayer(hidden=(0,))}, "every width must be a whole number"),
        ({"kind": kinds.Multilayer(activation="step")}, "activation='step' is not known"),
        ({"kind": kinds.Multilayer(dropout=1.0)}, "dropout=1.0"),
    ],
)
def test_settings_that_make_no_sense(settings, match):
    with pytest.raises(RequestError, match=match):
        make(**settings).fit(X)


def test_codes_of_the_wrong_width():
    with pytest.raises(
        DataError, match=r"codes of shape \(3, 5\) do not fit this model; expected \(rows, 2\)"
    ):
        make().fit(X).inverse_transform(np.zeros((3, 5)))


def test_codes_with_gaps():
    with pytest.raises(DataError, match="NaN or infinity, first in row 1"):
        make().fit(X).inverse_transform(np.array([[0, 0], [0, np.nan]]))


def test_by_something_else():
    with pytest.raises(RequestError, match="by='column'"):
        make().fit(X).reconstruction_error(X, by="column")


def test_constant_columns_are_named():
    rows = pd.DataFrame({"a": X[:, 0], "flat": 7.0, "b": 1000 * X[:, 1]})
    model = make(1).fit(rows)
    assert model.preparation_.constant == ("flat",)
    np.testing.assert_allclose(model.reconstruct(rows)["flat"], 7.0, atol=1e-6)


def test_masked_values_are_missing_values(rng):
    values = rng.normal(size=(40, 3))
    values[3, 2] = -99999
    mask = values == -99999
    masked = np.ma.array(values, mask=mask)
    knowing = Autoencoder(2, max_epochs=1, random_state=0).fit(masked)
    nan = np.where(mask, np.nan, values)
    np.testing.assert_array_equal(knowing.transform(masked), knowing.transform(nan))
    same = Autoencoder(2, max_epochs=1, random_state=0).fit(nan)
    np.testing.assert_array_equal(knowing.transform(masked), same.transform(masked))
    with pytest.raises(ValueError, match="row 3"):
        Autoencoder(2, max_epochs=1).fit(values).transform(masked)
    plain = Autoencoder(2, max_epochs=1, random_state=0).fit(values)
    unmasked = Autoencoder(2, max_epochs=1, random_state=0).fit(np.ma.array(values))
    np.testing.assert_array_equal(plain.transform(values), unmasked.transform(values))


@pytest.mark.parametrize(
    ("rows", "settings"),
    [(np.full((10, 3), np.inf), {}), (np.zeros((10, 3)), {"n_components": 5})],
    ids=["rows", "settings"],
)
def test_a_refit_that_is_refused_leaves_the_model_as_it_was(rng, rows, settings):
    x = pd.DataFrame(rng.normal(size=(40, 6)), columns=list("abcdef"))
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(x)
    codes = model.transform(x)
    with pytest.raises(ValueError, match=r"infinity|n_components"):
        model.set_params(**settings).fit(rows)
    np.testing.assert_array_equal(model.transform(x), codes)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("method", ["transform", "score", "reconstruct"])
def test_rows_too_far_out_to_be_coded_are_named(rng, precision, method):
    x = rng.normal(size=(60, 4))
    model = Autoencoder(2, max_epochs=1, precision=precision, random_state=0).fit(x)
    x[7] *= 1e300
    with pytest.raises(DataError, match="row 7, counting from 0, is too far"):
        getattr(model, method)(x)


def test_constants_beyond_all_squares_are_refused():
    with pytest.raises(DataError, match=r"reach 1e\+300"):
        Autoencoder(2, max_epochs=1).fit(np.full((30, 3), 1e300))


def test_a_frame_comes_back_with_its_index(rng):
    x = pd.DataFrame(rng.normal(size=(30, 3)), columns=list("abc"), index=np.arange(100, 130))
    rebuilt = Autoencoder(2, max_epochs=1, random_state=0).fit(x).reconstruct(x)
    assert list(rebuilt.index) == list(x.index)


def test_a_fitted_model_goes_on_with_single_rows(rng):
    x = rng.normal(size=(40, 3))
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(x, validation=x[:1])
    before = model.transform(x)
    model.partial_fit(x[:1])
    assert (model.transform(x) != before).any()


def test_what_is_remarked_of_the_rows_is_told_and_kept(rng, capsys):
    rows = rng.standard_normal((40, 4)) * [1, 1, 1, 1000]
    ae = Autoencoder(2, max_epochs=1, verbose=1, random_state=0).fit(rows)
    (remark,) = ae.preparation_.remarks
    assert remark in capsys.readouterr().err
    assert [r["message"] for r in ae.history_ if r.get("event") == "note"] == [remark]
