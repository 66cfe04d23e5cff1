"""Fitted models are Python objects like others: copied, pickled, sent to other processes."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, OutlierDetector, SearchCV, fit_together
from isthmus.kinds import Multilayer
from isthmus.optim import OPTIMIZERS, Adam
from isthmus.training.engines.cpu import kernel

SETTINGS = {name: {"optimizer": name} for name in OPTIMIZERS} | {
    "convolutional": {"kind": "convolutional"},
    "no closed form": {"kind": Multilayer(hidden=(8,), tied=True)},
    "noise": {"corruption": "gaussian"},
    "a running mean": {"optimizer": Adam(ema_decay=0.9)},
    "a penalty": {"penalties": ("l1",)},
    "several starts": {"n_init": 2},
}
WAYS = {"pickle": lambda model: pickle.loads(pickle.dumps(model)), "deepcopy": copy.deepcopy}


@pytest.fixture(autouse=True)
def _soon_in_c(monkeypatch):
    monkeypatch.setattr(kernel, "MIN_SECONDS", 0.0)


@pytest.fixture
def rows(rng):
    return np.tanh(rng.normal(size=(80, 3)) @ rng.normal(size=(3, 16)))


def made(**settings):
    base = {"max_epochs": 3, "batch_size": 16, "early_stopping": False, "random_state": 0}
    return Autoencoder(2, **base | settings)


def assert_same(one, other, X):
    np.testing.assert_array_equal(one.transform(X), other.transform(X))
    for weight, its in zip(one.network_.parameters(), other.network_.parameters(), strict=True):
        torch.testing.assert_close(weight, its, rtol=0, atol=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_is_the_model_and_goes_on_as_it_does(rows, name, way):
    X = rows.reshape(-1, 4, 4) if name == "convolutional" else rows
    model = made(**SETTINGS[name]).fit(X)
    for _ in range(2):  # behind a fit, and behind a partial_fit
        twin = WAYS[way](model)
        assert_same(model, twin, X)
        before = model.transform(X)
        twin.partial_fit(X)
        np.testing.assert_array_equal(model.transform(X), before)
        assert_same(model.partial_fit(X), twin, X)


@pytest.mark.parametrize("settings", [{}, {"corruption": "gaussian"}, {"optimizer": "muon"}])
def test_fits_taken_together_are_copied(rows, settings):
    fits = fit_together([made(random_state=seed, **settings) for seed in range(2)], rows)
    for model in fits:
        for way in WAYS.values():
            assert_same(copy.deepcopy(model).partial_fit(rows), way(model).partial_fit(rows), rows)


def test_a_copy_is_no_larger_behind_partial_fit_than_what_there_is_to_keep(rows):
    model = made(kind=Multilayer(hidden=(50,))).fit(rows)
    weights = sum(weight.nbytes for weight in model.network_.parameters())
    before = len(pickle.dumps(model))
    after = len(pickle.dumps(model.partial_fit(rows)))
    assert after - before < 3 * weights + 10_000  # the optimizer's two moments


def test_what_has_models_inside_is_copied(rows):
    search = SearchCV(made(), {"n_components": [2]}, cv=2).fit(rows)
    detector = OutlierDetector(made(), random_state=0).fit(rows)
    for way in WAYS.values():
        np.testing.assert_array_equal(way(search).transform(rows), search.transform(rows))
        told = way(detector).score_samples(rows)
        np.testing.assert_array_equal(told, detector.score_samples(rows))


def test_other_processes_give_fitted_models_back(rows):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        model = pool.submit(fitted, rows).result()
    assert_same(model, fitted(rows), rows)
    assert model.facts_["engine"] == fitted(rows).facts_["engine"]


def fitted(X):
    kernel.MIN_SECONDS = 0.0  # in the other process too
    return made().fit(X).partial_fit(X)
