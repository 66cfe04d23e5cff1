"""Fits in threads of the caller's: each as it is alone, and torch's generator as it was."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from joblib import parallel_backend
from sklearn.model_selection import GridSearchCV

from isthmus import Autoencoder, fit_together

X = np.random.default_rng(0).normal(size=(200, 12))


def estimator(seed=0, **settings):
    plain = {"max_epochs": 6, "pretraining": "random", "corruption": "gaussian"}
    return Autoencoder(3, random_state=seed, **plain | settings)


def alone(seed):
    return estimator(seed).fit(X).transform(X)


def continued(seed):
    return estimator(seed).fit(X[:150]).partial_fit(X[150:]).transform(X)


def together(seed):
    pair = fit_together([estimator(seed), estimator(seed + 100)], X)
    return np.stack([one.transform(X) for one in pair])


@pytest.mark.parametrize("job", [alone, continued, together])
def test_fits_in_threads_equal_fits_alone(job):
    expected = [job(seed) for seed in range(6)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(job, range(6)))
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_grid_search_in_threads_finds_what_one_in_turn_finds():
    def scores():
        search = GridSearchCV(estimator(), {"n_components": [1, 2, 3, 4]}, cv=2, n_jobs=3)
        return search.fit(X).cv_results_["mean_test_score"]

    with parallel_backend("threading"):
        found = scores()
    with parallel_backend("sequential"):
        np.testing.assert_array_equal(found, scores())


def test_a_fit_within_a_fit_goes_on_in_its_turn():
    found = []

    def inner(*_):
        found.append(together(0))

    (one, _) = fit_together([estimator(callbacks=(inner,)), estimator(1)], X)
    np.testing.assert_array_equal(one.transform(X), estimator().fit(X).transform(X))
    np.testing.assert_array_equal(found[0], together(0))
    assert len(found) == 6, "once an epoch"
