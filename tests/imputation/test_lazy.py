"""The imputer is fitted on first use: for which network, on which rows, with which threads."""

import contextlib
import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import Autoencoder, OutlierDetector, SearchCV, load
from isthmus.errors import DivergenceError
from isthmus.imputation import lazy
from isthmus.imputation.imputer import Imputer
from isthmus.report.compare import compare
from isthmus.runtime import threads
from isthmus.training.trainer import DivergedError, Trainer

SETTINGS = {"max_epochs": 3, "random_state": 0}


def mixed(rows=120, seed=0):
    """A table of two related numbers and a category, with missing values."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    table = pd.DataFrame({"x": x, "y": 2 * x + 0.1 * rng.normal(size=rows)})
    table["c"] = np.where(x > 0, "high", "low")
    table.loc[::7, "y"] = np.nan
    return table


@pytest.fixture
def fits(monkeypatch):
    """A list that grows by the network and the number of threads at each fit of an imputer."""
    calls, fit = [], Imputer.fit

    def recorded(network, *rest, **options):
        calls.append((network, torch.get_num_threads()))
        return fit(network, *rest, **options)

    monkeypatch.setattr(Imputer, "fit", staticmethod(recorded))
    return calls


@pytest.fixture
def two_threads():
    """Two threads for torch, whatever was set before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def at_once(monkeypatch):
    """Let fits fit the imputer at their end, as those of very wide rows do."""
    monkeypatch.setattr(lazy, "MAX_DEFERRED_BYTES", 0)


def test_the_imputer_is_fitted_on_first_use(fits):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    ae.score(mixed())
    ae.reconstruct(mixed())
    assert not fits
    for _ in range(2):
        assert not ae.impute(mixed()).isna().to_numpy().any()
    assert [network for network, _ in fits] == [ae.network_]


def test_a_deferred_imputer_is_the_same(monkeypatch, fits):
    given = mixed()
    one = Autoencoder(2, **SETTINGS).fit(given)
    copies = given.copy()
    given.loc[:, ["x", "y"]] = 0.0  # what becomes of the rows after a fit is no matter
    at_once(monkeypatch)
    other = Autoencoder(2, **SETTINGS).fit(copies)
    assert len(fits) == 1
    pd.testing.assert_frame_equal(one.impute(copies), other.impute(copies))


@contextlib.contextmanager
def in_double():
    """A context in which double precision is the default of tensors."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    "mode",
    [torch.inference_mode, torch.no_grad, lambda: torch.autocast("cpu", torch.bfloat16), in_double],
)
def test_the_mode_of_torch_does_not_matter(mode, precision):
    settings = SETTINGS | {"precision": precision}
    ae, other = (Autoencoder(2, **settings).fit(mixed()) for _ in range(2))
    with mode():
        result = ae.imputer_.tensors()
    for name, tensor in other.imputer_.tensors().items():
        assert torch.equal(result[name], tensor), name
    pd.testing.assert_frame_equal(ae.impute(mixed()), other.impute(mixed()))


def test_concurrent_uses_wait_for_one_fit(fits):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    with ThreadPoolExecutor(4) as pool:
        result = [
            future.result() for future in [pool.submit(lambda: ae.imputer_) for _ in range(4)]
        ]
    assert len(fits) == 1
    assert all(imputer is result[0] for imputer in result)


def test_wide_rows_are_not_copied(monkeypatch, fits):
    at_once(monkeypatch)

    def never(rows):
        raise AssertionError(f"a copy of {len(rows)} rows")

    monkeypatch.setattr(lazy.SampledRows, "of", staticmethod(never))
    Autoencoder(2, **SETTINGS).fit(mixed())
    assert len(fits) == 1


def test_the_global_random_state_is_unchanged():
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    before = torch.get_rng_state()
    ae.impute(mixed())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_keeps_no_more_rows_than_it_needs(monkeypatch):
    monkeypatch.setattr(lazy, "MAX_FIT_ROWS", 50)
    copies, of = [], lazy.SampledRows.of

    def seen(rows):
        sample = of(rows)
        copies.append(weakref.ref(sample))
        return sample

    monkeypatch.setattr(lazy.SampledRows, "of", staticmethod(seen))
    given = mixed(300)
    alive = weakref.ref(given)
    ae = Autoencoder(2, **SETTINGS).fit(given)
    del given
    gc.collect()
    assert alive() is None
    assert [len(sample()) for sample in copies] == [50, 50]  # to learn from, and held out
    ae.impute(mixed())
    gc.collect()
    assert [sample() for sample in copies] == [None, None]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda ae: pickle.loads(pickle.dumps(ae))])
def test_copies_are_fitted_and_hold_no_rows(copied, fits):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    other = copied(ae)
    assert len(fits) == 1
    assert isinstance(other.model_.imputer._imputer, Imputer)
    pd.testing.assert_frame_equal(other.impute(mixed()), ae.impute(mixed()))
    assert len(fits) == 1


def test_a_saved_model_has_a_fitted_imputer(tmp_path, fits):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    ae.save(tmp_path / "model")
    again = load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.impute(mixed()), ae.impute(mixed()))
    assert len(fits) == 1


def test_an_interrupted_fit_is_repeated(monkeypatch):
    ae, other = (Autoencoder(2, **SETTINGS).fit(mixed()) for _ in range(2))
    with monkeypatch.context() as patched:

        def stopped(*_, **__):
            raise KeyboardInterrupt

        patched.setattr(Imputer, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            ae.impute(mixed())
    pd.testing.assert_frame_equal(ae.impute(mixed()), other.impute(mixed()))


def test_only_the_best_start_fits_an_imputer(fits):
    ae = Autoencoder(2, n_init=3, **SETTINGS).fit(mixed())
    ae.impute(mixed())
    assert [network for network, _ in fits] == [ae.network_]


def test_only_the_used_model_of_a_search_fits_an_imputer(fits):
    search = SearchCV(Autoencoder(2, **SETTINGS), {"batch_size": [16, 32]}, cv=2).fit(mixed())
    assert not fits
    search.best_estimator_.impute(mixed())
    assert [network for network, _ in fits] == [search.best_estimator_.network_]


def test_the_scoring_of_a_search_may_impute(fits):
    def missing_left(estimator, X):
        return -int(estimator.impute(X).isna().to_numpy().sum())

    model = Autoencoder(2, **SETTINGS)
    search = SearchCV(model, {"batch_size": [16, 32]}, cv=2, scoring=missing_left).fit(mixed())
    assert len(fits) == 4
    assert search.best_score_ == 0


def test_comparisons_and_detectors_fit_no_imputer(fits):
    compare(mixed(), [1, 2], max_epochs=2)
    detector = OutlierDetector(Autoencoder(2, **SETTINGS)).fit(mixed())
    detector.predict(mixed())
    assert not fits
    assert not detector.estimators_[0].impute(mixed()).isna().to_numpy().any()


def test_partial_fit_discards_the_imputer(fits):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    before = ae.impute(mixed())
    for _ in range(3):
        ae.partial_fit(mixed(seed=1))
    assert len(fits) == 1
    assert not ae.impute(mixed()).equals(before)
    assert len(fits) == 2


def test_partial_fit_on_few_rows_keeps_the_imputer(fits):
    ae, asked = (Autoencoder(2, **SETTINGS).fit(mixed()) for _ in range(2))
    asked.impute(mixed())
    weights = []
    for model in (ae, asked):
        model.partial_fit(mixed(12))
        weights.append(model.imputer_.weights)
    assert len(fits) == 2
    assert torch.equal(*weights)


@pytest.mark.parametrize("asked", [False, True])
def test_after_ctrl_c_the_imputer_is_that_of_the_changed_network(monkeypatch, fits, asked):
    ae = Autoencoder(2, optimizer="sgd", batch_size=8, **SETTINGS).fit(mixed())
    if asked:
        ae.impute(mixed())
    calls, batch = [], Trainer._train_batch

    def stopped(self, *rest):
        calls.append(rest)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return batch(self, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_batch", stopped)
        with pytest.raises(KeyboardInterrupt):
            ae.partial_fit(mixed(seed=1))
    fits.clear()
    ae.impute(mixed())
    assert len(fits) == 1


@pytest.mark.parametrize("asked", [False, True])
def test_after_divergence_the_imputer_is_that_of_the_restored_network(monkeypatch, asked):
    ae, other = (Autoencoder(2, **SETTINGS).fit(mixed()) for _ in range(2))
    if asked:
        ae.impute(mixed())

    def diverged(self):
        with torch.no_grad():
            next(self.network.parameters()).fill_(torch.nan)
        raise DivergedError("too far")

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_train_epoch", diverged)
        with pytest.raises(DivergenceError, match="partial_fit: too far"):
            ae.partial_fit(mixed(seed=1))
    pd.testing.assert_frame_equal(ae.impute(mixed()), other.impute(mixed()))


@pytest.mark.usefixtures("two_threads")
def test_small_networks_use_one_thread(fits):
    """Two threads wait for each other at every operation, which takes longer than the operation."""
    Autoencoder(2, **SETTINGS).fit(mixed()).impute(mixed())
    assert [count for _, count in fits] == [1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_large_networks_use_all_threads(fits, monkeypatch):
    monkeypatch.setattr(threads, "SMALL_WORK", 0)
    Autoencoder(2, **SETTINGS).fit(mixed()).impute(mixed())
    assert [count for _, count in fits] == [2]


@pytest.mark.usefixtures("two_threads")
def test_partial_fit_of_a_small_network_uses_one_thread(monkeypatch):
    counts, train_one_epoch = [], Trainer.train_one_epoch

    def recorded(self, rows):
        counts.append(torch.get_num_threads())
        train_one_epoch(self, rows)

    monkeypatch.setattr(Trainer, "train_one_epoch", recorded)
    ae = Autoencoder(2, **SETTINGS)
    for _ in range(2):
        ae.partial_fit(mixed())
    assert counts == [1, 1]
    assert torch.get_num_threads() == 2
