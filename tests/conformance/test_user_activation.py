"""An activation that a user registers works everywhere, without any engine knowing it."""

import numpy as np
import pytest
import torch
from torch import nn

import isthmus
from isthmus import Autoencoder
from isthmus.errors import RequestError
from isthmus.kinds import (
    ACTIVATIONS,
    Activation,
    DenseForm,
    InPlace,
    Multilayer,
    OperatingPoint,
    Vanilla,
    check_activation,
)
from isthmus.kinds.activations import activation
from isthmus.training.diagnostics.layer_stats import is_activation
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
    for name, record in leaky.items():
        monkeypatch.setitem(ACTIVATIONS, name, record)
    network = Multilayer(hidden=(4,), activation="leaky2").build(Facts(shape=(3,)), 2)
    assert network.encoder.activation(torch.tensor(-1.0)) == pytest.approx(-0.2)
    assert DenseForm.of(network) is None


def softsign(**changes):
    """The record of softsign, z / (1 + |z|), with some fields changed."""
    right = {
        "module": nn.Softsign,
        "derivative": lambda z: (1 + z.abs()) ** -2,
        "second_derivative": lambda z: -2 * z.sign() * (1 + z.abs()) ** -3,
        "code_range": (-1.0, 1.0),
        "in_place": InPlace(_softsign_forward, _softsign_backward),
        "keeps_zero": True,
    }
    return Activation(**(right | changes))


def _softsign_forward(z, *, out):
    return torch.div(z, 1 + z.abs(), out=out)


def _softsign_backward(grad, z, *, grad_input):
    return torch.mul(grad, (1 + z.abs()) ** -2, out=grad_input)


def _forward_only(grad, z, *, grad_input):
    return torch.mul(grad, 1 + z.abs(), out=grad_input)


def test_a_right_record_passes_every_check(monkeypatch, images):
    monkeypatch.setitem(ACTIVATIONS, "softsign", softsign())
    check_activation("softsign")
    model = fitted(Multilayer(hidden=(8,), activation="softsign"), images)
    assert model.facts_["engine"] == "adam loop"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_records_of_the_package_pass_every_check(name):
    assert check_activation(name) is None


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"derivative": torch.ones_like}, "derivative differs"),
        ({"second_derivative": torch.zeros_like}, "second_derivative differs"),
        ({"in_place": InPlace(_softsign_forward, _forward_only)}, "in_place differs"),
        ({"in_place": InPlace(torch.tanh, _softsign_backward)}, "in_place differs"),
        (
            {"in_place": InPlace(_softsign_forward, _softsign_backward, saves_output=True)},
            "in_place differs",
        ),
        (
            {"module": nn.Sigmoid, "derivative": None, "second_derivative": None, "in_place": None},
            "keeps_zero is set",
        ),
        ({"code_range": (0.0, 1.0)}, "leaves its code_range"),
        ({"operating_point": OperatingPoint(1.0, 0.0, 1.0, 0.0)}, "operating_point"),
        ({"kernel_code": 4}, "kernel_code"),
        ({"kernel_code": 1000}, "kernel_code"),
        ({"module": nn.PReLU}, "has weights"),
    ],
)
def test_a_record_that_contradicts_its_module_is_refused(monkeypatch, images, changes, fault):
    monkeypatch.setitem(ACTIVATIONS, "wrong", softsign(**changes))
    with pytest.raises(RequestError, match=f"'wrong'.*{fault}"):
        fitted(Multilayer(hidden=(8,), activation="wrong"), images)


def test_only_activations_are_observed(monkeypatch):
    chain = lambda: nn.Sequential(nn.Softsign(), nn.Dropout(0.0))  # noqa: E731
    monkeypatch.setitem(ACTIVATIONS, "chain", Activation(module=chain))
    assert is_activation(activation("chain"))
    assert is_activation(nn.SiLU())
    assert not is_activation(nn.Sequential(nn.Linear(2, 2)))
    assert not is_activation(activation("linear"))
