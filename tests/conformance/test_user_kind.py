"""A kind and losses from outside the package give the results that their formulas say."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from isthmus import Autoencoder, kinds, losses

N, D, K = 400, 6, 2


class ResidualNetwork(kinds.CodeNetwork):
    """r = V h + c + M(h) with layers of its own, which `encoder` and `decoder` do not hold."""

    def __init__(self, facts, kind, n_components):
        path = kinds.LinearPath(facts.n_features, n_components)
        super().__init__(facts, linear=path, output=kind.output)
        self.hidden = nn.Sequential(nn.Linear(n_components, 32), nn.Tanh())
        self.last = nn.Linear(32, facts.n_features, bias=False)
        nn.init.zeros_(self.last.weight)

    def decode(self, code):
        raw = self.linear.decode(code) + self.last(self.hidden(code))
        return self.clamp_output(raw.reshape(-1, *self.facts.shape))


@dataclass(kw_only=True)
class Residual(kinds.Kind):
    """A linear encoder and a decoder of its own."""

    def build(self, facts, n_components):
        return ResidualNetwork(facts, self, n_components)


@dataclass(kw_only=True)
class Absolute(losses.Reconstruction):
    """|x - r|, whose second derivative is 0."""

    def errors(self, raw, x):
        return (raw - x).abs()


@dataclass(kw_only=True)
class Brier(losses.Reconstruction):
    """The squared error of probabilities, from logits."""

    SCALING = "none"
    NEEDS_UNIT_RANGE = True

    def errors(self, raw, x):
        return (raw.sigmoid() - x).square()

    def mean(self, raw):
        return raw.sigmoid()


@pytest.fixture(scope="module")
def curved():
    """Rows on a curved surface of two dimensions, which planes do not describe."""
    z = np.random.default_rng(0).uniform(-2, 2, size=(N, K))
    return np.column_stack([z, np.sin(2 * z), z**2])


@pytest.fixture(scope="module")
def flat():
    """Normal rows with a different variance in each column."""
    return np.random.default_rng(1).normal(size=(N, D)) * np.arange(1, D + 1)


def test_a_decoder_of_its_own_counts_as_nonlinear(curved):
    model = Autoencoder(K, kind=Residual(), random_state=0, transform_max_iter=0).fit(curved)
    assert model.facts_["outcome"].startswith("the network")
    error = ((model.reconstruct(curved) - curved) ** 2).mean()
    plane = PCA(K).fit(curved)
    pca = ((plane.inverse_transform(plane.transform(curved)) - curved) ** 2).mean()
    assert error < pca / 2
    reasons = {
        d["name"]: d["reason"]
        for d in Autoencoder(K, kind=Residual()).fit(curved).facts_["decisions"]
    }
    assert "linear" not in reasons["transform_max_iter"]


def test_what_returns_to_pca_is_pca(flat, monkeypatch):
    monkeypatch.setattr("isthmus.estimator.fit.beats_pca", lambda *_: False)
    model = Autoencoder(K, kind=Residual(), random_state=0, preparation="global").fit(flat)
    assert model.facts_["outcome"].startswith("PCA")
    assert model.facts_["epochs"] > 0
    pca = PCA(K).fit(flat)
    expected = pca.inverse_transform(pca.transform(flat))
    np.testing.assert_allclose(model.reconstruct(flat), expected, atol=1e-4)


def test_a_loss_without_curvature_is_refined(curved):
    settings = {"kind": Residual(), "loss": Absolute(), "max_epochs": 5, "random_state": 0}
    plain = Autoencoder(K, transform_max_iter=0, **settings).fit(curved)
    refined = Autoencoder(K, transform_max_iter=4, **settings).fit(curved)
    raw = torch.zeros(3, D)
    torch.testing.assert_close(Absolute().curvature(raw), torch.ones(3, D))
    before, after = (np.abs(each.reconstruct(curved) - curved).mean() for each in (plain, refined))
    assert after < before


def test_logits_are_not_bounded():
    x = (np.random.default_rng(2).random((N, D)) < 0.5).astype(float)
    model = Autoencoder(D, loss=Brier(), max_epochs=60, random_state=0).fit(x)
    assert model.network_.output is None
    assert ((model.reconstruct(x) - x) ** 2).mean() < 0.01
