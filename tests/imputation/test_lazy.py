"""What is learned when somebody first asks for it: for which network, from what, with what."""

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
from isthmus.runtime import device
from isthmus.training.trainer import DivergedError, Trainer

SETTINGS = {"max_epochs": 3, "random_state": 0}


def mixed(rows=120, seed=0):
    """A table of two numbers and a category that hang together, some values missing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    table = pd.DataFrame({"x": x, "y": 2 * x + 0.1 * rng.normal(size=rows)})
    table["c"] = np.where(x > 0, "high", "low")
    table.loc[::7, "y"] = np.nan
    return table


@pytest.fixture
def learned(monkeypatch):
    """The networks for which was learned what fills in missing values, and torch's threads then."""
    found, learn = [], Imputer.learn

    def seen(network, *rest, **options):
        found.append((network, torch.get_num_threads()))
        return learn(network, *rest, **options)

    monkeypatch.setattr(Imputer, "learn", staticmethod(seen))
    return found


@pytest.fixture
def two_threads():
    """Two threads for torch, whatever it was told before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def at_once(monkeypatch):
    """Let fits learn it at their end, as those of very wide rows do."""
    monkeypatch.setattr(lazy, "MOST_BYTES", 0)


def test_a_fit_learns_it_when_it_is_first_asked_for(learned):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    ae.score(mixed())
    ae.reconstruct(mixed())
    assert not learned
    for _ in range(2):
        assert not ae.impute(mixed()).isna().to_numpy().any()
    assert [network for network, _ in learned] == [ae.network_]


def test_later_or_at_once_it_is_the_same(monkeypatch, learned):
    given = mixed()
    one = Autoencoder(2, **SETTINGS).fit(given)
    kept = given.copy()
    given.loc[:, ["x", "y"]] = 0.0  # what becomes of the rows after a fit is no matter
    at_once(monkeypatch)
    other = Autoencoder(2, **SETTINGS).fit(kept)
    assert len(learned) == 1
    pd.testing.assert_frame_equal(one.impute(kept), other.impute(kept))


@contextlib.contextmanager
def in_double():
    """Tensors are in double precision unless somebody says otherwise."""
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
def test_it_is_learned_whatever_mode_torch_is_in(mode, precision):
    settings = SETTINGS | {"precision": precision}
    ae, other = (Autoencoder(2, **settings).fit(mixed()) for _ in range(2))
    with mode():
        found = ae.imputer_.tensors()
    for name, tensor in other.imputer_.tensors().items():
        assert torch.equal(found[name], tensor), name
    pd.testing.assert_frame_equal(ae.impute(mixed()), other.impute(mixed()))


def test_who_asks_at_the_same_time_waits_for_the_first(learned):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    with ThreadPoolExecutor(4) as pool:
        found = [one.result() for one in [pool.submit(lambda: ae.imputer_) for _ in range(4)]]
    assert len(learned) == 1
    assert all(one is found[0] for one in found)


def test_where_rows_are_wide_no_copies_are_made(monkeypatch, learned):
    at_once(monkeypatch)

    def never(rows):
        raise AssertionError(f"a copy of {len(rows)} rows")

    monkeypatch.setattr(lazy.Sample, "of", staticmethod(never))
    Autoencoder(2, **SETTINGS).fit(mixed())
    assert len(learned) == 1


def test_it_leaves_no_trace_in_the_random_numbers_of_others():
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    before = torch.get_rng_state()
    ae.impute(mixed())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_keeps_no_more_rows_than_it_needs(monkeypatch):
    monkeypatch.setattr(lazy, "ROWS_TO_LEARN", 50)
    kept, of = [], lazy.Sample.of

    def seen(rows):
        sample = of(rows)
        kept.append(weakref.ref(sample))
        return sample

    monkeypatch.setattr(lazy.Sample, "of", staticmethod(seen))
    given = mixed(300)
    alive = weakref.ref(given)
    ae = Autoencoder(2, **SETTINGS).fit(given)
    del given
    gc.collect()
    assert alive() is None
    assert [len(sample()) for sample in kept] == [50, 50]  # to learn from, and held out
    ae.impute(mixed())
    gc.collect()
    assert [sample() for sample in kept] == [None, None]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda ae: pickle.loads(pickle.dumps(ae))])
def test_copies_have_learned_it_and_hold_no_rows(copied, learned):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    other = copied(ae)
    assert len(learned) == 1
    assert isinstance(other._imputer._imputer, Imputer)
    pd.testing.assert_frame_equal(other.impute(mixed()), ae.impute(mixed()))
    assert len(learned) == 1


def test_a_saved_model_has_learned_it(tmp_path, learned):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    ae.save(tmp_path / "model")
    again = load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.impute(mixed()), ae.impute(mixed()))
    assert len(learned) == 1


def test_an_interrupted_lesson_is_begun_anew(monkeypatch):
    ae, other = (Autoencoder(2, **SETTINGS).fit(mixed()) for _ in range(2))
    with monkeypatch.context() as patched:

        def stopped(*_, **__):
            raise KeyboardInterrupt

        patched.setattr(Imputer, "learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            ae.impute(mixed())
    pd.testing.assert_frame_equal(ae.impute(mixed()), other.impute(mixed()))


def test_of_several_starts_only_the_best_learns_it(learned):
    ae = Autoencoder(2, n_init=3, **SETTINGS).fit(mixed())
    ae.impute(mixed())
    assert [network for network, _ in learned] == [ae.network_]


def test_of_a_search_only_who_is_asked_learns_it(learned):
    search = SearchCV(Autoencoder(2, **SETTINGS), {"batch_size": [16, 32]}, cv=2).fit(mixed())
    assert not learned
    search.best_estimator_.impute(mixed())
    assert [network for network, _ in learned] == [search.best_estimator_.network_]


def test_a_function_that_judges_a_search_may_ask_for_it(learned):
    def gaps_left(estimator, X):
        return -int(estimator.impute(X).isna().to_numpy().sum())

    model = Autoencoder(2, **SETTINGS)
    search = SearchCV(model, {"batch_size": [16, 32]}, cv=2, scoring=gaps_left).fit(mixed())
    assert len(learned) == 4
    assert search.best_score_ == 0


def test_who_compares_models_or_looks_for_outliers_need_not_wait_for_it(learned):
    compare(mixed(), [1, 2], max_epochs=2)
    detector = OutlierDetector(Autoencoder(2, **SETTINGS)).fit(mixed())
    detector.predict(mixed())
    assert not learned
    assert not detector.estimators_[0].impute(mixed()).isna().to_numpy().any()


def test_one_more_epoch_forgets_it(learned):
    ae = Autoencoder(2, **SETTINGS).fit(mixed())
    before = ae.impute(mixed())
    for _ in range(3):
        ae.partial_fit(mixed(seed=1))
    assert len(learned) == 1
    assert not ae.impute(mixed()).equals(before)
    assert len(learned) == 2


def test_of_few_rows_more_it_stays_that_of_the_network_as_it_was(learned):
    ae, asked = (Autoencoder(2, **SETTINGS).fit(mixed()) for _ in range(2))
    asked.impute(mixed())
    weights = []
    for one in (ae, asked):
        one.partial_fit(mixed(12))
        weights.append(one.imputer_.weights)
    assert len(learned) == 2
    assert torch.equal(*weights)


@pytest.mark.parametrize("asked", [False, True])
def test_after_ctrl_c_it_is_learned_for_the_network_as_it_is(monkeypatch, learned, asked):
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
    learned.clear()
    ae.impute(mixed())
    assert len(learned) == 1


@pytest.mark.parametrize("asked", [False, True])
def test_after_divergence_it_stays_that_of_the_network_as_it_was(monkeypatch, asked):
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
def test_for_small_networks_it_is_learned_by_one_thread(learned):
    """Two wait for each other at every operation, and beside other fits for much longer."""
    Autoencoder(2, **SETTINGS).fit(mixed()).impute(mixed())
    assert [threads for _, threads in learned] == [1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_for_large_ones_by_as_many_as_there_are(learned, monkeypatch):
    monkeypatch.setattr(device, "SMALL_WORK", 0)
    Autoencoder(2, **SETTINGS).fit(mixed()).impute(mixed())
    assert [threads for _, threads in learned] == [2]


@pytest.mark.usefixtures("two_threads")
def test_one_more_epoch_of_a_small_network_is_by_one_thread(monkeypatch):
    threads, one_more = [], Trainer.one_more

    def seen(self, rows):
        threads.append(torch.get_num_threads())
        one_more(self, rows)

    monkeypatch.setattr(Trainer, "one_more", seen)
    ae = Autoencoder(2, **SETTINGS)
    for _ in range(2):
        ae.partial_fit(mixed())
    assert threads == [1, 1]
    assert torch.get_num_threads() == 2
