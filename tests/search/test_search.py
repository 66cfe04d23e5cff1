"""Searches over settings against scikit-learn's own, and against fits one by one."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.metrics import make_scorer, mean_squared_error
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier

from isthmus import Autoencoder, SearchCV, data, fit_together
from isthmus.errors import ArtifactError, DataError, RequestError
from isthmus.kinds import Multilayer
from isthmus.losses import L1
from isthmus.optim import AdamW
from isthmus.training import checkpoint

BASE = Autoencoder(
    2,
    kind=Multilayer(hidden=(6,)),
    pretraining="random",
    precision="float64",
    max_epochs=5,
    random_state=0,
)
GRID = {
    "optimizer": [AdamW(lr=0.001), AdamW(lr=0.01)],
    "penalties": [(), (L1(weight=0.1),)],
    "n_components": [1, 2],
}


@pytest.fixture
def rows(rng):
    return np.tanh(rng.normal(size=(150, 3)) @ rng.normal(size=(3, 7)))


def test_it_finds_what_scikit_learns_grid_search_finds(rows):
    ours, theirs = SearchCV(BASE, GRID, cv=3).fit(rows), GridSearchCV(BASE, GRID, cv=3).fit(rows)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_index_ == theirs.best_index_
    assert ours.n_splits_ == theirs.n_splits_ == 3
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-6)
    for name in (
        *(f"split{index}_test_score" for index in range(3)),
        "mean_test_score",
        "std_test_score",
    ):
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-5)
    np.testing.assert_array_equal(
        ours.cv_results_["rank_test_score"], theirs.cv_results_["rank_test_score"]
    )
    for name in ("params", "param_n_components", "param_optimizer"):
        assert list(ours.cv_results_[name]) == list(theirs.cv_results_[name])
    np.testing.assert_allclose(ours.transform(rows), theirs.transform(rows), rtol=1e-4, atol=1e-6)
    assert ours.score(rows) == pytest.approx(ours.best_estimator_.score(rows))
    codes = ours.transform(rows)
    np.testing.assert_array_equal(
        ours.inverse_transform(codes), ours.best_estimator_.inverse_transform(codes)
    )


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array, sparse.coo_array])
def test_sparse_rows_are_searched_as_scikit_learn_does(rows, form):
    given = form(np.where(np.abs(rows) > 0.5, rows, 0))
    grid = {"n_components": [1, 3]}
    ours, theirs = (search(BASE, grid, cv=2).fit(given) for search in (SearchCV, GridSearchCV))
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-5)
    np.testing.assert_allclose(ours.transform(given), theirs.transform(given), rtol=1e-4, atol=1e-6)


def test_fits_together_are_fits_one_by_one(rows):
    settings = [{"random_state": seed} for seed in range(4)] + [{"max_epochs": 2}]
    weight = np.arange(150) % 3 + 1.0
    alone = [
        clone(BASE).set_params(**changes).fit(rows, sample_weight=weight) for changes in settings
    ]
    given = [clone(BASE).set_params(**changes) for changes in settings]
    together = fit_together(given, rows, sample_weight=weight)
    for fit, other, same in zip(alone, together, given, strict=True):
        assert other is same
        np.testing.assert_allclose(fit.transform(rows), other.transform(rows), atol=1e-6)
        assert fit.n_features_in_ == other.n_features_in_


def test_frames_come_back_as_frames(rows):
    frame = pd.DataFrame(rows, columns=list("abcdefg"))
    (fit,) = fit_together([clone(BASE)], frame)
    assert list(fit.feature_names_in_) == list("abcdefg")
    assert isinstance(fit.reconstruct(frame), pd.DataFrame)
    result = SearchCV(BASE, {"max_epochs": [1, 40]}, cv=2).fit(frame)
    assert list(result.best_estimator_.feature_names_in_) == list("abcdefg")
    assert result.best_params_ == {"max_epochs": 40}


def test_draws_are_those_of_a_seed(rows):
    grid = {"n_components": [1, 2, 3], "max_epochs": [1, 2, 3]}
    first, again = (
        SearchCV(BASE, grid, n_iter=4, cv=2, random_state=1).fit(rows).cv_results_["params"]
        for _ in range(2)
    )
    assert first == again
    assert len(first) == 4
    with pytest.raises(RequestError, match="no setting lr"):
        SearchCV(BASE, {"lr": loguniform(1e-4, 1e-1)}, n_iter=2).fit(rows)


def test_custom_folds_and_scores(rows):
    def widest(estimator, X, y=None):
        return -float(np.abs(estimator.reconstruct(X) - X).max())

    folds = KFold(4, shuffle=True, random_state=0)
    ours = SearchCV(BASE, {"n_components": [1, 3]}, cv=folds, scoring=widest, refit=False).fit(rows)
    theirs = GridSearchCV(
        BASE, {"n_components": [1, 3]}, cv=folds, scoring=widest, refit=False
    ).fit(rows)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-5
    )
    assert not hasattr(ours, "best_estimator_")


def test_windows_of_recordings_are_searched_too(rng):
    recording = np.sin(np.arange(900) / 7)[:, None] + 0.1 * rng.normal(size=(900, 2))
    rows = data.windows(recording, length=30)
    grid = {"n_components": [1, 4]}
    result = SearchCV(Autoencoder(kind="multilayer", max_epochs=2), grid, cv=2).fit(rows)
    assert result.best_estimator_.reconstruct(rows).shape == recording.shape


def test_a_failed_fit_is_reported(rows):
    grid = {"n_components": [2, 99]}
    with pytest.warns(FitFailedWarning, match="99"):
        result = SearchCV(BASE, grid, cv=2).fit(rows)
    assert result.best_params_ == {"n_components": 2}
    assert np.isnan(result.cv_results_["mean_test_score"][1])
    assert list(result.cv_results_["rank_test_score"]) == [1, 2]
    with pytest.raises(RequestError, match="99"):
        SearchCV(BASE, grid, cv=2, error_score="raise").fit(rows)
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(RequestError, match="every fit failed"),
    ):
        SearchCV(BASE, {"n_components": [99]}, cv=2).fit(rows)


def test_rows_on_disk_are_refused(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    source = data.open_source(tmp_path / "rows.npy", stream=True)
    with pytest.raises(RequestError, match=r"rows\.npy.*cannot be cut into folds"):
        SearchCV(BASE, {"n_components": [1, 2]}).fit(source)


def test_two_fits_with_one_checkpoint_are_refused(rows, tmp_path):
    (tmp_path / "linked").symlink_to(tmp_path / "place")
    for other in ("place", "../" + tmp_path.name + "/place", "linked"):
        given = [
            clone(BASE).set_params(checkpoint=str(tmp_path / name)) for name in ("place", other)
        ]
        with pytest.raises(
            RequestError, match=r"estimators 0 and 1, .* a folder of its own"
        ) as why:
            fit_together(given, rows)
        assert "\n" not in str(why.value)
        assert not any(hasattr(fit, "network_") for fit in given)
        assert not (tmp_path / "place").exists()
    separate = [clone(BASE).set_params(checkpoint=tmp_path / f"{index}") for index in range(2)]
    fit_together([*separate, clone(BASE), clone(BASE)], rows)
    assert {path.name for path in tmp_path.iterdir()} == {"linked", "0", "1"}


def test_each_fit_of_a_search_has_checkpoints_of_its_own(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    place, epochs = tmp_path / "place", []

    def stop(record):
        epochs.append(record["epoch"])
        if len(epochs) == 13:
            raise KeyboardInterrupt

    grid = {"n_components": [1, 2]}
    base = clone(BASE).set_params(checkpoint=place, callbacks=(stop,))
    with pytest.raises(KeyboardInterrupt):
        SearchCV(base, grid, cv=2).fit(rows)
    search = SearchCV(clone(base), grid, cv=2)
    before = len(epochs)
    search.fit(rows, resume=True)
    whole = SearchCV(BASE, grid, cv=2).fit(rows)
    assert 0 < len(epochs) - before < 5 * BASE.max_epochs  # four fits and the best one
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], whole.cv_results_["mean_test_score"], rtol=1e-9
    )
    np.testing.assert_allclose(search.transform(rows), whole.transform(rows), rtol=1e-6, atol=1e-8)
    result = {str(path.parent.relative_to(place)) for path in place.rglob("*.safetensors")}
    assert result == {f"candidate-{i}/split-{j}" for i in range(2) for j in range(2)} | {"best"}
    assert base.checkpoint == place
    with pytest.raises(ArtifactError, match=r"split-0.*n_components"):
        SearchCV(base, {"n_components": [2, 1]}, cv=2).fit(rows, resume=True)
    alone = clone(BASE).set_params(n_components=2, checkpoint=place / "candidate-1" / "split-0")
    (train, test), _ = KFold(2).split(rows)
    again = alone.fit(rows[train], resume=True).score(rows[test])
    assert again == search.cv_results_["split0_test_score"][1]


def test_weights_are_cut_with_the_rows(rows):
    weight = np.random.default_rng(1).integers(0, 4, size=150).astype(float)
    grid = {"n_components": [1, 3]}
    ours = SearchCV(BASE, grid, cv=3).fit(rows, sample_weight=weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not support sample_weight")
        theirs = GridSearchCV(BASE, grid, cv=3).fit(rows, sample_weight=weight)
    plain = SearchCV(BASE, grid, cv=3).fit(rows)
    for name in (*(f"split{index}_test_score" for index in range(3)), "mean_test_score"):
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-5)
        assert not np.allclose(ours.cv_results_[name], plain.cv_results_[name], rtol=1e-5)
    np.testing.assert_allclose(ours.transform(rows), theirs.transform(rows), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"sample_weight.*149.*150"):
        SearchCV(BASE, grid, cv=3).fit(rows, sample_weight=weight[1:])
    with pytest.raises(DataError, match="negative"):
        SearchCV(BASE, grid, cv=3).fit(rows, sample_weight=weight - 1)


def test_anything_but_a_list_of_autoencoders_is_refused(rows):
    for given in (BASE, [BASE, PCA(2)], 3, "abc", [Autoencoder]):
        with pytest.raises(RequestError, match=r"a list such as \[Autoencoder") as why:
            fit_together(given, rows)
        assert "\n" not in str(why.value)
    fit, other = clone(BASE), clone(BASE)
    with pytest.raises(RequestError, match="estimators 0 and 2 are one object"):
        fit_together([fit, other, fit], rows)
    assert not hasattr(fit, "network_")
    assert not hasattr(other, "network_")
    assert fit_together([], rows) == []


def test_validation_rows_reach_every_fit(rows, rng):
    judges = np.tanh(rng.normal(size=(50, 3)) @ rng.normal(size=(3, 7)))
    settings = [{"n_components": size, "early_stopping": False} for size in (1, 2, 3)]
    for kind in (np.asarray, lambda values: pd.DataFrame(values, columns=list("abcdefg"))):
        X, V = kind(rows), kind(judges)
        alone = [clone(BASE).set_params(**changes).fit(X, validation=V) for changes in settings]
        together = fit_together(
            [clone(BASE).set_params(**changes) for changes in settings], X, validation=V
        )
        for fit, other in zip(alone, together, strict=True):
            assert len(fit.validation_rows_) == len(other.validation_rows_) == 0
            np.testing.assert_allclose(fit.transform(X), other.transform(X), atol=1e-6)
            ours, theirs = ([r for r in fit.history_ if "train" in r] for fit in (other, fit))
            assert len(ours) == BASE.max_epochs + 1
            for result, known in zip(ours, theirs, strict=True):
                assert result["validation"] == pytest.approx(known["validation"], rel=1e-9)


def test_validation_recordings_are_cut_like_the_others(rng):
    sounds = [
        np.sin(np.arange(length) / 7)[:, None] + 0.1 * rng.normal(size=(length, 2))
        for length in (900, 400)
    ]
    cut = data.windows(sounds[0], length=30)
    base = Autoencoder(2, kind="multilayer", max_epochs=2, random_state=0)
    alone = clone(base).fit(cut, validation=sounds[1])
    (other,) = fit_together([clone(base)], cut, validation=sounds[1])
    np.testing.assert_allclose(alone.transform(cut), other.transform(cut), rtol=1e-4, atol=1e-5)


def test_fits_together_are_resumed(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    epochs = []

    def stop(record):
        epochs.append(record["epoch"])
        if len(epochs) == 6:
            raise KeyboardInterrupt

    def made(**changes):
        return [
            clone(BASE).set_params(random_state=seed, callbacks=(stop,), **changes)
            for seed in range(2)
        ]

    fits = [fit.set_params(checkpoint=tmp_path / f"{index}") for index, fit in enumerate(made())]
    with pytest.raises(KeyboardInterrupt):
        fit_together(fits, rows)
    fit_together(fits, rows, resume=True)
    assert len(epochs) < 6 + 2 * BASE.max_epochs
    for fit, other in zip(fits, fit_together(made(), rows), strict=True):
        np.testing.assert_allclose(fit.transform(rows), other.transform(rows), atol=1e-6)


@pytest.mark.parametrize(
    "scoring", ["explained_variance", "r2", make_scorer(mean_squared_error), mean_squared_error, 3]
)
def test_scorers_that_need_predictions_are_refused_before_any_fit(rows, scoring):
    seen = []
    base = clone(BASE).set_params(callbacks=(seen.append,))
    with pytest.raises(RequestError, match=r"scoring=.* Autoencoder\.explained_variance") as why:
        SearchCV(base, {"n_components": [1, 2]}, cv=2, scoring=scoring).fit(rows)
    assert "\n" not in str(why.value)
    assert not seen


def test_the_scoring_that_messages_name_works(rows):
    grid, scoring = {"n_components": [1, 3]}, Autoencoder.explained_variance
    ours, theirs = (
        search(BASE, grid, cv=2, scoring=scoring).fit(rows) for search in (SearchCV, GridSearchCV)
    )
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-5
    )
    assert ours.score(rows) == ours.best_estimator_.explained_variance(rows)


def test_scoring_is_given_the_y_of_its_rows(rows):
    labels = (rows[:, 0] > 0).astype(int)

    def nearest(estimator, X, y):
        codes = estimator.transform(X)
        return float(KNeighborsClassifier(1).fit(codes[::2], y[::2]).score(codes[1::2], y[1::2]))

    grid = {"n_components": [1, 3]}
    ours, theirs = (
        search(BASE, grid, cv=3, scoring=nearest).fit(rows, labels)
        for search in (SearchCV, GridSearchCV)
    )
    for index in range(3):
        name = f"split{index}_test_score"
        np.testing.assert_allclose(ours.cv_results_[name], theirs.cv_results_[name])
    assert ours.score(rows, labels) == nearest(ours.best_estimator_, rows, labels)
    # A function without y is asked without, whatever decides the folds.
    alone = SearchCV(BASE, grid, cv=2, scoring=Autoencoder.explained_variance).fit(rows, labels)
    assert np.isfinite(alone.best_score_)


def test_failures_of_scoring_are_distinguished_from_failed_fits(rows):
    def picky(estimator, X):
        if estimator.n_components == 2:
            raise ValueError("no twos")
        return estimator.score(X)

    with pytest.warns(UserWarning, match="scoring failed: no twos") as record:
        result = SearchCV(BASE, {"n_components": [1, 2]}, cv=2, scoring=picky).fit(rows)
    assert not [w for w in record if issubclass(w.category, FitFailedWarning)]
    assert result.best_params_ == {"n_components": 1}
    assert np.isnan(result.cv_results_["mean_test_score"][1])
    with (
        pytest.warns(UserWarning, match="no twos"),
        pytest.raises(RequestError, match="scoring: it failed after every fit"),
    ):
        SearchCV(BASE, {"n_components": [2]}, cv=2, scoring=picky).fit(rows)
    with pytest.raises(ValueError, match=r"^no twos$"):
        SearchCV(BASE, {"n_components": [2]}, cv=2, scoring=picky, error_score="raise").fit(rows)
    with pytest.raises(RequestError, match="scoring: every combination has the score NaN"):
        SearchCV(BASE, {"n_components": [2]}, cv=2, scoring=lambda *_: np.nan).fit(rows)


def test_without_a_refit_the_reason_is_named(rows):
    search = SearchCV(BASE, {"n_components": [1, 2]}, cv=2)
    with pytest.raises(NotFittedError):
        search.transform(rows)
    search.fit(rows).set_params(refit=False).fit(rows)
    again = (
        SearchCV(BASE, {"n_components": [1]}, cv=2).fit(rows).set_params(scoring=lambda *_: np.nan)
    )
    with pytest.raises(RequestError, match="every combination"):
        again.fit(rows)
    assert not hasattr(again, "best_estimator_")  # of the search before
    for asked in (search.transform, search.inverse_transform, search.score):
        with pytest.raises(RequestError, match=r"refit=False.*best_params_"):
            asked(rows)


@pytest.mark.parametrize(
    ("grid", "remedy"),
    [
        ({"kind__hidden": [(4,)]}, r"kind='auto' is not a spec; give kind=kinds\.Multilayer\(\)"),
        (
            {"optimizer__lr": [0.1]},
            r"optimizer='auto' is not a spec; give optimizer=optim\.AdamW\(\)",
        ),
        ({"penalties__weight": [0.1]}, "give lists of penalties"),
        (
            {"optimizer": [AdamW()], "optimizer__rate": [1]},
            "AdamW has no setting rate; it has.*lr",
        ),
        (
            {"n_components": loguniform(1, 4)},
            "n_components can only be drawn at random; give n_iter",
        ),
        ([{}, {"n_components": loguniform(1, 4)}], "n_components can only be drawn.* give n_iter"),
        ({"n_components": 3}, "param_grid: .*n_components"),
    ],
)
def test_an_invalid_grid_is_refused_with_a_remedy(rows, grid, remedy):
    with pytest.raises(RequestError, match=remedy) as why:
        SearchCV(Autoencoder(2, max_epochs=1), grid, cv=2).fit(rows)
    assert "\n" not in str(why.value)


def test_settings_of_a_spec_are_searched_together_with_the_spec(rows):
    grid = {"kind": [Multilayer()], "kind__hidden": [(4,), (5, 3)]}
    result = SearchCV(Autoencoder(2, max_epochs=1, random_state=0), grid, cv=2).fit(rows)
    assert [params["kind__hidden"] for params in result.cv_results_["params"]] == [(4,), (5, 3)]
    assert result.best_estimator_.kind.hidden == result.best_params_["kind__hidden"]
    with pytest.raises(RequestError, match="n_iter=0 must be a whole number"):
        SearchCV(BASE, {"n_components": [1]}, n_iter=0).fit(rows)
