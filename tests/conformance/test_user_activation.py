"""An activation that a user registers works everywhere, without any engine knowing it."""

import numpy as np
import pytest
import torch
from torch import nn

import isthmus
from isthmus import Autoencoder
from isthmus.kinds import ACTIVATIONS, Activation, DenseForm, Multilayer, Vanilla
from isthmus.types import Facts

MISH = Activation(module=nn.Mish, keeps_zero=True)


@pytest.fixture
def mish(monkeypatch):
    """The name of an activation with nothing but its module."""
    monkeypatch.setitem(ACTIVATIONS, "mish", MISH)
    return "mish"


def fitted(kind, images, **settings):
    own = {"pretraining": "random", "max_epochs": 3, "batch_size": 8, "random_state": 0}
    return Autoencoder(2, kind=kind, **(own | settings)).fit(images)


def test_a_fit_by_autograd_is_saved_and_loaded(mish, images, tmp_path):
    model = fitted(Multilayer(hidden=(8,), activation=mish), images)
    assert model.facts_["engine"].startswith("autograd")
    model.save(tmp_path / "model")
    again = isthmus.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(images), model.transform(images))
    assert type(again.network_.encoder.activation) is nn.Mish


def test_a_copy_of_a_registered_activation_gives_the_same_fit(monkeypatch, images):
    # The copy has no in-place operations, so that autograd must agree with the fast engine.
    monkeypatch.setitem(ACTIVATIONS, "silu_copy", Activation(module=nn.SiLU))
    fast, slow = (
        fitted(Multilayer(hidden=(8,), activation=n), images) for n in ("silu", "silu_copy")
    )
    assert not fast.facts_["engine"].startswith("autograd")
    assert slow.facts_["engine"].startswith("autograd")
    np.testing.assert_allclose(slow.transform(images), fast.transform(images), rtol=1e-3, atol=1e-4)


def test_a_code_activation_starts_at_pca_only_with_an_operating_point(mish, images, monkeypatch):
    assert not Vanilla(activation=mish).starts_linear
    fitted(Vanilla(activation=mish), images, penalties=("contraction",))
    point = ACTIVATIONS["silu"].operating_point
    monkeypatch.setitem(ACTIVATIONS, mish, Activation(module=nn.Mish, operating_point=point))
    assert Vanilla(activation=mish).starts_linear
    assert Vanilla(activation=mish, tied=True).starts_linear
    assert fitted(Vanilla(activation=mish), images, pretraining="pca").n_features_in_ == 20


def test_two_activations_of_one_module_class_are_kept_apart(monkeypatch):
    leaky = {f"leaky{i}": Activation(module=lambda i=i: nn.LeakyReLU(i / 10)) for i in (1, 2)}
    for name, activation in leaky.items():
        monkeypatch.setitem(ACTIVATIONS, name, activation)
    network = Multilayer(hidden=(4,), activation="leaky2").build(Facts(shape=(3,)), 2)
    assert network.encoder.activation(torch.tensor(-1.0)) == pytest.approx(-0.2)
    assert DenseForm.of(network) is None
