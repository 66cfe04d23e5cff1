"""The fitted model on arrays is what the estimator does, without scikit-learn's contract."""

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, load
from isthmus.data import open_source
from isthmus.errors import RequestError
from isthmus.estimator import FittedModel


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return np.tanh(rng.normal(size=(120, 3)) @ rng.normal(size=(3, 7)))


@pytest.fixture(scope="module")
def ae(rows):
    settings = {"max_epochs": 3, "transform_max_iter": 2, "validation_fraction": 0}
    return Autoencoder(2, random_state=0, **settings).fit(rows)


def test_it_gives_what_the_estimator_gives(ae, rows):
    model = ae.model_
    opened = model.open_rows(open_source(rows))
    codes = model.encode(opened)
    np.testing.assert_array_equal(codes, ae.transform(rows))
    np.testing.assert_array_equal(model.decode(codes), ae.inverse_transform(codes))
    np.testing.assert_array_equal(model.reconstruct(opened), ae.reconstruct(rows))
    np.testing.assert_array_equal(model.row_errors(opened), -ae.score_samples(rows))
    errors = ae.reconstruction_error(rows, by="value")
    np.testing.assert_array_equal(model.squared_errors(opened), errors)
    assert model.evaluate(opened).total == ae.reconstruction_error(rows)
    assert model.size_factors(opened) is None
    assert model.impute(opened) is None


def test_batches_of_tensors_go_through_it_one_by_one(ae, rows):
    model = ae.model_
    opened = model.open_rows(open_source(rows[:5]))
    ((x, code),) = model.encoded_batches(opened)
    assert (x.shape, code.shape, code.dtype) == ((5, 7), (5, 2), model.dtype)
    torch.testing.assert_close(model.encode_batch(x), code, rtol=0, atol=0)
    ((_, near),) = model.reconstructed_batches(opened)
    torch.testing.assert_close(model.decode_batch(code), near, rtol=0, atol=0)
    assert model.device == torch.device("cpu")


def test_other_refinement_steps_are_a_model_that_shares_the_parts(ae, rows):
    model = ae.model_
    assert model.with_steps("auto") is model
    plain = model.with_steps(0)
    assert (plain.network is model.network, model.refinement.steps) == (True, 2)
    opened = model.open_rows(open_source(rows))
    errors = [each.evaluate(opened).total for each in (plain, model)]
    assert errors[1] < errors[0]
    with pytest.raises(RequestError, match="transform_max_iter=-1 must be"):
        model.with_steps(-1).encode(opened)


def test_a_loaded_estimator_has_the_same_model(ae, rows, tmp_path):
    ae.save(tmp_path / "model")
    model = load(tmp_path / "model").model_
    assert isinstance(model, FittedModel)
    opened = model.open_rows(open_source(rows))
    np.testing.assert_array_equal(model.encode(opened), ae.transform(rows))
    assert model.refinement.steps == 2


def test_the_parts_are_attributes_of_the_estimator(ae):
    model = ae.model_
    assert ae.network_ is model.network
    assert ae.kind_ is model.kind
    assert ae.loss_ is model.loss
    assert ae.preparation_ is model.preparation
    assert not hasattr(Autoencoder(), "network_")


@pytest.mark.parametrize("epochs", [0, 3])
def test_partial_fit_counts_its_epochs(rows, epochs):
    model = Autoencoder(2, max_epochs=epochs, early_stopping=False, random_state=0)
    model = model.fit(rows) if epochs else model
    for _ in range(2):
        model.partial_fit(rows)
    assert model.facts_["epochs"] == epochs + 2
    assert model.facts_["stopped"] == "partial_fit"
    assert f"epoch {epochs + 2}" in model.facts_["outcome"]


@pytest.mark.parametrize(("size", "expected"), [(8, 8), (None, 32), ("full", 120)])
def test_partial_fit_takes_the_batch_size_that_is_set_now(rows, size, expected):
    fit = {"max_epochs": 3, "early_stopping": False, "random_state": 0, "batch_size": 32}
    as_before = Autoencoder(2, **fit).fit(rows).partial_fit(rows).transform(rows)
    model = Autoencoder(2, **fit).fit(rows).set_params(batch_size=size).partial_fit(rows)
    assert model.facts_["batch_size"] == expected
    assert np.array_equal(model.transform(rows), as_before) == (expected == 32)


def test_a_loaded_model_goes_on_counting(rows, tmp_path):
    model = Autoencoder(2, max_epochs=3, early_stopping=False, random_state=0).fit(rows)
    model.save(tmp_path / "fitted")
    loaded = load(tmp_path / "fitted").partial_fit(rows)
    np.testing.assert_array_equal(loaded.transform(rows), model.partial_fit(rows).transform(rows))
    loaded.save(tmp_path / "continued")
    assert load(tmp_path / "continued").partial_fit(rows).facts_["epochs"] == 5
