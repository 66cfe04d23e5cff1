"""Whole fits from a pretrained start: far ahead of a random one, exact, resumable, told."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, kinds, load, optim, pretraining
from isthmus.errors import ArtifactError, RequestError
from isthmus.report import gather, render

DEEP = kinds.Multilayer(hidden=(100, 50, 25), activation="sigmoid", skip=False)
TAKES_TIME = "seconds"


def fit(X, start, **settings):
    chosen = {
        "kind": kinds.Multilayer(hidden=(20, 10), activation="sigmoid"),
        "max_epochs": 3,
        "random_state": 0,
        "precision": "float32",
        "batch_size": 50,
    }
    sample_weight, resume = settings.pop("sample_weight", None), settings.pop("resume", False)
    ae = Autoencoder(4, pretraining=start, **(chosen | settings))
    return ae.fit(X, sample_weight=sample_weight, resume=resume)


def same_bits(one, other):
    weights = other.network_.state_dict()
    return all(torch.equal(w, weights[name]) for name, w in one.network_.state_dict().items())


def untimed(history):
    return [{k: v for k, v in record.items() if k != TAKES_TIME} for record in history]


@pytest.fixture
def rows(digits):
    """(400, 64) in the digits' own unit."""
    return digits[:400].reshape(400, -1).astype(float)


SHORT = {
    "rbm": pretraining.RBM(epochs=2),
    "autoencoder": pretraining.AutoencoderStack(epochs=2),
}
each = pytest.mark.parametrize("name", SHORT)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_deep_sigmoid_network_leaves_the_mean_only_when_pretrained(digits):
    X = digits.reshape(len(digits), -1).astype(float)
    kept = {
        start: fit(
            X, start, kind=DEEP, optimizer=optim.SGD(lr=0.1), max_epochs=8
        ).explained_variance(X)
        for start in ("random", "rbm", "autoencoder")
    }
    assert kept["random"] < 0.02
    assert kept["rbm"] > 0.3
    assert kept["autoencoder"] > 0.3


@each
def test_pretraining_is_told(rows, name):
    ae = fit(rows, SHORT[name], max_epochs=2)
    told = [record for record in ae.history_ if "pretraining" in record]
    assert [(r["pretraining"], r["layer"], r["epoch"]) for r in told] == [
        (name, layer, epoch) for layer in (1, 2, 3) for epoch in range(3)
    ]
    assert ae.facts_["pretraining"] == name
    assert ae.facts_["pretraining_seconds"] == told[-1]["seconds"] > 0
    report = gather(ae, rows)
    assert report["training"]["pretraining_seconds"] > 0
    assert report["history"]["epochs"] == [0, 1, 2]
    layers = report["pretraining"]
    assert [(x["layer"], x["below"], x["above"]) for x in layers] == [
        (1, 64, 20),
        (2, 20, 10),
        (3, 10, 4),
    ]
    assert all(len(layer["error"]) == len(layer["epochs"]) == 3 for layer in layers)
    page = render(report)
    assert '<section id="pretraining">' in page
    assert ("difference in free energy of each layer" in page) == (name == "rbm")


def test_a_plain_fit_has_no_such_section(rows):
    ae = fit(rows, "random", max_epochs=1)
    assert "pretraining_seconds" not in ae.facts_
    assert '<section id="pretraining">' not in render(gather(ae, rows))


@each
def test_the_seed_alone_decides(rows, name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = fit(rows, SHORT[name])
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    np.random.seed(3)
    two = fit(rows, SHORT[name])
    assert same_bits(one, two)
    assert untimed(one.history_) == untimed(two.history_)
    assert not same_bits(one, fit(rows, SHORT[name], random_state=1))


@each
def test_rows_without_weight_do_not_matter(rows, name):
    weight = np.ones(len(rows))
    weight[::3] = 0
    other = rows.copy()
    other[::3] = 16.0
    one = fit(rows, SHORT[name], sample_weight=weight)
    assert same_bits(one, fit(other, SHORT[name], sample_weight=weight))


@each
def test_a_killed_fit_goes_on_without_learning_its_start_again(rows, name, tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.training.checkpoint.EVERY_S", 1e9)

    def kill(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    whole = fit(rows, SHORT[name], max_epochs=4)
    folder = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        fit(rows, SHORT[name], max_epochs=4, checkpoint=folder, callbacks=(kill,))
    monkeypatch.setattr(type(SHORT[name]), "run", None)
    resumed = fit(rows, SHORT[name], max_epochs=4, checkpoint=folder, resume=True)
    assert same_bits(whole, resumed)
    assert untimed(whole.history_) == untimed(resumed.history_)
    assert resumed.facts_["pretraining_seconds"] > 0
    with pytest.raises(ArtifactError, match="pretraining="):
        fit(rows, "random", max_epochs=4, checkpoint=folder, resume=True)


@each
def test_saved_and_loaded(rows, name, tmp_path):
    ae = fit(rows, SHORT[name])
    ae.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.pretraining == SHORT[name]
    assert again.history_ == ae.history_
    np.testing.assert_array_equal(again.transform(rows), ae.transform(rows))


def test_images_start_from_convolutions_that_learned_alone(digits):
    kind = kinds.Convolutional(channels=(6, 8))
    settings = {"kind": kind, "max_epochs": 0}
    kept = {
        start: fit(digits[:500], start, **settings).explained_variance(digits[:500])
        for start in ("random", "autoencoder")
    }
    assert kept["autoencoder"] > kept["random"] + 0.1


def test_sets_of_black_and_white_rows_start_from_logistic_units(bits):
    ae = fit(bits[:300], SHORT["rbm"], max_epochs=0)
    assert type(ae.loss_).__name__ == "Bernoulli"
    assert ae.history_[0]["units"] == "RBM of logistic units"


@pytest.mark.parametrize("start", ["rbm", "autoencoder"])
def test_a_network_without_hidden_layers_is_refused(rows, start):
    with pytest.raises(RequestError, match=f"pretraining='{start}' goes layer by layer"):
        fit(rows, start, kind="vanilla")


def test_the_default_network_is_told_which_units_machines_need(rows):
    with pytest.raises(RequestError, match=r"use kind=kinds\.Multilayer"):
        fit(rows, "rbm", kind="multilayer")


@dataclass(kw_only=True)
class Constant(pretraining.Pretraining):
    """Every weight at the same value."""

    value: float = 0.25
    """That value."""

    def run(self, job):
        with torch.no_grad():
            for parameter in job.network.parameters():
                parameter.fill_(self.value)
        return [{"layer": 1, "epoch": 0, "error": 0.0, "seconds": 0.0}]


def test_a_start_of_one_s_own(rows):
    ae = fit(rows, Constant(value=0.5), max_epochs=0)
    assert all((w == 0.5).all() for w in ae.network_.state_dict().values())
    assert ae.facts_["pretraining"] == "constant"
