"""Several starts: the best of the fits that each of them is alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, load
from isthmus.data.arrays import array_source
from isthmus.errors import DivergenceError
from isthmus.estimator import restarts
from isthmus.kinds import Multilayer

BASE = {"kind": Multilayer(hidden=(6,), skip=False), "max_epochs": 12, "precision": "float64"}


@pytest.fixture
def rows(rng):
    return np.tanh(rng.normal(size=(200, 3)) @ rng.normal(size=(3, 7)))


def seeds_of(random_state, n_init):
    settings = Autoencoder(random_state=random_state, n_init=n_init)._settings(resume=False)
    return [(each.seed, each.split_seed) for each in restarts.settings_of_starts(settings)]


def test_the_first_start_is_that_of_one_alone(rows):
    assert seeds_of(3, 1) == seeds_of(3, 5)[:1]
    assert seeds_of(3, 4) == seeds_of(3, 5)[:4]
    assert len({seed for seed, _ in seeds_of(3, 20)}) == 20
    assert len({split for _, split in seeds_of(3, 20)}) == 1


def test_the_best_on_held_out_rows_is_kept(rows):
    fit = Autoencoder(2, n_init=4, random_state=1, **BASE).fit(rows)
    errors = fit.facts_["init_errors"]
    assert len(set(errors)) == 4
    assert fit.reconstruction_error(rows[fit.validation_rows_]) == pytest.approx(min(errors))
    one = Autoencoder(2, random_state=1, **BASE).fit(rows)
    assert one.reconstruction_error(rows[one.validation_rows_]) == pytest.approx(errors[0])
    np.testing.assert_array_equal(one.validation_rows_, fit.validation_rows_)
    (told,) = [record for record in fit.history_ if record.get("event") == "restarts"]
    assert f"number {int(np.argmin(errors)) + 1}:" in told["message"]


def test_it_is_the_same_every_time_and_is_saved(rows, tmp_path):
    first, again = (Autoencoder(2, n_init=3, random_state=1, **BASE).fit(rows) for _ in range(2))
    np.testing.assert_array_equal(first.transform(rows), again.transform(rows))
    first.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.n_init == 3
    np.testing.assert_array_equal(loaded.transform(rows), first.transform(rows))


def test_rows_given_to_judge_by_decide(rows, rng):
    judges = np.tanh(rng.normal(size=(50, 7)))
    fit = Autoencoder(2, n_init=3, random_state=1, **BASE).fit(rows, validation=judges)
    assert fit.reconstruction_error(judges) == pytest.approx(min(fit.facts_["init_errors"]))


def test_without_held_out_rows_those_of_training_decide(rows):
    fit = Autoencoder(2, n_init=3, random_state=1, validation_fraction=0, **BASE).fit(rows)
    assert fit.reconstruction_error(rows) == pytest.approx(min(fit.facts_["init_errors"]))


def test_a_start_that_fails_is_given_up(rows, monkeypatch):
    before, calls = restarts.fit_rows, []

    def failing(*parts):
        calls.append(1)
        if len(calls) == 2:
            raise DivergenceError("too far")
        return before(*parts)

    monkeypatch.setattr(restarts, "fit_rows", failing)
    with pytest.warns(UserWarning, match="a start was given up: too far"):
        fit = Autoencoder(2, n_init=3, random_state=1, **BASE).fit(rows)
    assert len(fit.facts_["init_errors"]) == 2
    (told,) = [record["message"] for record in fit.history_ if record.get("event") == "restarts"]
    number = 1 if fit.facts_["init_errors"][0] == min(fit.facts_["init_errors"]) else 3
    assert told.startswith(f"the best of 3 starts, number {number}: ")
    assert told.endswith("; 1 diverged")


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ((1.950, 1.974, 1.906, 1.943, 1.938), "number 3: error 1.906 on them, the others 1.938 to"),
        ((1.5, 1.25), "number 2: error 1.25 on them, the other 1.5"),
        ((1.5, 1.5), "number 1: error 1.5 on them, the other 1.5"),
        ((2.0, 1.5, 1.5), "number 2: error 1.5 on them, the others 1.5 to 2"),
        ((2.0, 1.5, 2.0), "number 2: error 1.5 on them, the others 2"),
        ((0.5,), "the best of 1 starts, number 1: error 0.5 on them"),
    ],
)
def test_the_best_is_not_counted_among_the_others(errors, told):
    numbered = dict(enumerate(errors, 1))
    best = min(numbered, key=numbered.__getitem__)
    found = restarts._sentence(numbered, best, "them", 0)
    whole = "the others 1.938 to 1.974" if len(errors) == 5 else told
    assert told in found
    assert found.endswith(whole)


def test_all_starts_are_judged_by_the_same_rows(rows, monkeypatch):
    """One that came back to PCA too, though it has learned from the rows held out by the others."""
    before, calls = restarts.fit_rows, []

    def learned(settings, source, weight, validation):
        calls.append(1)
        if len(calls) == 2:
            settings = replace(settings, validation_fraction=0.0)
        return before(settings, source, weight, validation)

    monkeypatch.setattr(restarts, "fit_rows", learned)
    fit = Autoencoder(2, n_init=2, random_state=1, **BASE).fit(rows)
    (_, second) = seeds_of(1, 2)
    alone = Autoencoder(2, validation_fraction=0.0, random_state=1, **BASE)
    settings = replace(alone._settings(resume=False), seed=second[0])
    alone._set_result(before(settings, array_source(rows), np.ones(len(rows)), None))
    validation = Autoencoder(2, random_state=1, **BASE).fit(rows).validation_rows_
    assert fit.facts_["init_errors"][1] == pytest.approx(
        alone.reconstruction_error(rows[validation]), rel=1e-6
    )


def test_without_held_out_rows_none_are_named(rows):
    fit = Autoencoder(2, n_init=2, random_state=1, validation_fraction=0, **BASE).fit(rows)
    (told,) = [record["message"] for record in fit.history_ if record.get("event") == "restarts"]
    assert "on the rows of training, the other " in told


def test_it_is_resumed(rows, tmp_path):
    def stop(record):
        if record["epoch"] == 5:
            raise KeyboardInterrupt

    settings = BASE | {"n_init": 3, "random_state": 1, "checkpoint": tmp_path / "place"}
    with pytest.raises(KeyboardInterrupt):
        Autoencoder(2, callbacks=(stop,), **settings).fit(rows)
    resumed = Autoencoder(2, **settings).fit(rows, resume=True)
    whole = Autoencoder(2, **(settings | {"checkpoint": None})).fit(rows)
    torch.testing.assert_close(resumed.network_.state_dict(), whole.network_.state_dict())
