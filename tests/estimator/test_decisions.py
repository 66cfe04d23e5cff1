"""Every setting that a fit chose itself is in its facts, with the value and the reason."""

import json

import numpy as np
import pytest

from isthmus import Autoencoder, kinds, load

CHOSEN = {
    *("n_components", "kind", "loss", "preparation", "pretraining", "optimizer", "batch_size"),
    *("max_epochs", "patience", "validation_rows", "precision", "device", "threads", "engine"),
    *("transform_max_iter", "outcome"),
}
SET = {
    "n_components": 2,
    "kind": "vanilla",
    "loss": "squared",
    "preparation": "global",
    "pretraining": "random",
    "optimizer": "adam",
    "batch_size": 32,
    "max_epochs": 1,
    "early_stopping": False,
    "validation_fraction": 0.2,
    "precision": "float64",
    "device": "cpu",
    "transform_max_iter": 0,
}


@pytest.fixture
def rows(rng):
    return np.tanh(rng.normal(size=(120, 3)) @ rng.normal(size=(3, 7)))


def decisions(model):
    return {record["name"]: record for record in model.facts_["decisions"]}


def test_every_open_setting_is_a_decision_with_a_reason(rows):
    model = Autoencoder(random_state=0).fit(rows)
    made = decisions(model)
    assert made.keys() == CHOSEN
    assert all(record.keys() == {"name", "value", "reason"} for record in made.values())
    assert all(len(record["reason"].split()) > 2 for record in made.values())


def test_the_values_are_those_in_use(rows):
    model = Autoencoder(max_epochs=3, random_state=0).fit(rows)
    made = {name: record["value"] for name, record in decisions(model).items()}
    for name in ("n_components", "batch_size", "precision", "device", "threads", "engine"):
        assert made[name] == model.facts_[name]
    assert made["pretraining"] == model.facts_["pretraining"]
    assert made["transform_max_iter"] == model.facts_["transform_max_iter"]
    assert made["validation_rows"] == model.facts_["validation_rows"]
    assert made["preparation"] == model.preparation_.scaling
    assert type(model.kind_) is kinds.KINDS[made["kind"]]
    assert "max_epochs" not in made


def test_what_was_set_is_no_decision(rows):
    model = Autoencoder(random_state=0, **SET).fit(rows)
    assert decisions(model).keys() == {"threads", "engine"}


@pytest.mark.parametrize(
    ("settings", "name", "value", "words"),
    [
        ({"kind": kinds.Multilayer(hidden=(8,), skip=False)}, "pretraining", "random", "few"),
        ({"kind": kinds.Multilayer(hidden=(8,) * 4, skip=False)}, "pretraining", "autoen", "deep"),
        ({"optimizer": "lbfgs", "max_epochs": 1}, "batch_size", "", "LBFGS"),
        ({"optimizer": "kfac", "max_epochs": 1}, "engine", "autograd", "optimizer"),
        ({"penalties": ("l1",), "max_epochs": 1}, "transform_max_iter", "0", "penalty"),
        ({"n_init": 2, "max_epochs": 2}, "best_start", "", "the best of 2 starts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_names_what_decided(rows, settings, name, value, words):
    record = decisions(Autoencoder(2, random_state=0, **settings).fit(rows))[name]
    assert str(record["value"]).startswith(value)
    assert words in record["reason"]


def test_a_return_to_pca_is_the_last_word_on_the_outcome(rng):
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(rng.normal(size=(200, 6)))
    record = decisions(model)["outcome"]
    assert record["value"] == "pca"
    assert record["reason"] in [event.get("message") for event in model.history_]


def test_too_few_validation_rows_end_training_before_it_begins(rng):
    model = Autoencoder(2, max_epochs=9, random_state=0).fit(rng.normal(size=(8, 6)))
    record = decisions(model)["max_epochs"]
    assert record["value"] == model.facts_["max_epochs"] == 0
    assert "2 different validation rows" in record["reason"]


@pytest.mark.parametrize("preparation", ["global", "standard", "quantiles"])
def test_the_loss_follows_a_preparation_that_was_set(rng, preparation):
    model = Autoencoder(2, max_epochs=0, preparation=preparation, random_state=0)
    model.fit(rng.random((60, 5)) < 0.4)
    assert decisions(model)["loss"]["value"] == "squared"


def test_a_batch_has_at_most_all_rows(rng):
    model = Autoencoder(2, max_epochs=1, batch_size=10_000, random_state=0)
    model.fit(rng.normal(size=(60, 5)))
    assert model.facts_["batch_size"] == model.facts_["training_rows"]


def test_loss_and_preparation_decide_each_other(rng):
    model = Autoencoder(2, max_epochs=0, random_state=0).fit(rng.random((60, 5)) < 0.4)
    made = decisions(model)
    assert (made["loss"]["value"], made["preparation"]["value"]) == ("bernoulli", "unit")
    assert "0 to 1" in made["preparation"]["reason"]


def test_decisions_are_saved_with_the_model(rows, tmp_path):
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(rows)
    assert json.loads(json.dumps(model.facts_["decisions"])) == model.facts_["decisions"]
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").facts_["decisions"] == model.facts_["decisions"]


def test_a_fit_never_changes_the_specs_of_the_user(rng):
    kind = kinds.Multilayer(hidden=None, output="bounded")
    before = kind.to_json()
    model = Autoencoder(2, kind=kind, loss="bernoulli", max_epochs=0, random_state=0)
    model.fit(rng.random((60, 5)))
    assert kind.to_json() == before
    assert (model.kind is kind, model.kind_.output) == (True, "linear")
