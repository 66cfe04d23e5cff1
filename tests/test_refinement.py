"""Refined codes are those of least squares where that is known, and raise no row's loss."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from isthmus import Autoencoder, kinds, load
from isthmus.errors import RequestError
from isthmus.kinds import KINDS
from isthmus.losses import LOSSES, Bernoulli, Squared
from isthmus.refinement import Refinement, _curvature_pair, _direction, inverse_curvature
from isthmus.types import Network

RNG = np.random.default_rng(0)


class Plane(Network):
    """A linear decoder with an encoder that knows nothing."""

    def __init__(self, weight, link=nn.Identity()):  # noqa: B008
        super().__init__()
        self.weight, self.link = torch.as_tensor(weight), link

    def encode(self, x):
        return x.new_zeros(len(x), self.weight.shape[1])

    def decode(self, code):
        return self.link(code @ self.weight.t())


WEIGHT = RNG.normal(size=(40, 3)) * np.array([0.5, 1.0, 3.0])
ROWS = torch.as_tensor(RNG.normal(size=(50, 40)))


def test_the_metric_is_the_inverse_of_the_mean_curvature():
    many = ROWS[:1].expand(20_000, 40)
    found = inverse_curvature(Plane(WEIGHT), Squared(), many, seed=0)
    exact = np.linalg.inv(2 * WEIGHT.T @ WEIGHT / 40)
    # Drawn by chance, and damped by a thousandth of the mean curvature.
    scale = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    np.testing.assert_allclose(found.numpy() / scale, exact / scale, atol=0.1)


def test_codes_of_a_plane_are_those_of_least_squares():
    network = Plane(WEIGHT)
    metric = inverse_curvature(network, Squared(), ROWS, seed=0)
    code = Refinement(network, Squared().per_row, metric)(ROWS, network.encode(ROWS), 12)
    exact = np.linalg.lstsq(WEIGHT, ROWS.numpy().T, rcond=None)[0].T
    np.testing.assert_allclose(code.numpy() * WEIGHT.std(0), exact * WEIGHT.std(0), atol=1e-3)


def test_codes_of_logits_are_those_of_scipy():
    bits, network, loss = (ROWS > 0).double(), Plane(WEIGHT[:, 1:2]), Bernoulli()
    metric = inverse_curvature(network, loss, bits, seed=0)
    code = Refinement(network, loss.per_row, metric)(bits, network.encode(bits), 10)
    for i in range(5):

        def value(h, row=bits[i : i + 1]):
            return float(loss.per_row(network.decode(torch.as_tensor(h)[None]), row))

        assert value(code[i].numpy()) == pytest.approx(minimize(value, [0.0]).fun, abs=1e-6)


def test_the_direction_is_that_of_the_bfgs_formula():
    # Nocedal and Wright 2006, equation 6.17, for one row; pairs of negative curvature are left out.
    rng = np.random.default_rng(5)
    hessian = np.diag([1.0, 4.0, 9.0])
    steps = [*rng.normal(size=(2, 3)), -rng.normal(size=3)]
    changes = [hessian @ steps[0], hessian @ steps[1], -hessian @ steps[2]]
    inverse = metric = np.diag([0.5, 0.5, 0.5])
    for s, y in zip(steps[:2], changes[:2], strict=True):
        rest = np.eye(3) - np.outer(s, y) / (s @ y)
        inverse = rest @ inverse @ rest.T + np.outer(s, s) / (s @ y)
    gradient = rng.normal(size=3)
    pairs = [
        _curvature_pair(torch.tensor(s)[None], torch.tensor(y)[None])
        for s, y in zip(steps, changes, strict=True)
    ]
    found = _direction(torch.tensor(gradient)[None], pairs, torch.tensor(metric))
    np.testing.assert_allclose(found[0], inverse @ gradient, rtol=1e-10)


@pytest.mark.parametrize("metric", [1e-6, 1.0, 1e9])
def test_no_loss_rises_whatever_the_metric(metric):
    network, loss = Plane(WEIGHT, nn.Tanh()), Squared()
    start = torch.as_tensor(RNG.normal(size=(50, 3)))
    refine = Refinement(network, loss.per_row, metric * torch.eye(3, dtype=torch.float64))
    losses = [loss.per_row(network.decode(refine(ROWS, start, n)), ROWS) for n in (0, 1, 2, 4, 8)]
    for before, after in pairwise(losses):
        assert (after <= before).all()
    assert torch.equal(refine(ROWS, start, 0), start)


def test_rows_do_not_know_of_one_another():
    network, loss = Plane(WEIGHT, nn.Tanh()), Squared()
    refine = Refinement(network, loss.per_row, torch.eye(3, dtype=torch.float64))
    together = refine(ROWS, network.encode(ROWS), 6)
    alone = torch.cat([refine(row[None], network.encode(row[None]), 6) for row in ROWS])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(refine(ROWS.flip(0), network.encode(ROWS), 6).flip(0), together)


def curved(n=400, seed=0):
    angles = np.random.default_rng(seed).uniform(0, 2, size=(n, 2))
    waves = np.random.default_rng(9).normal(size=(2, 12))
    return np.sin(angles @ waves) + 0.05 * np.random.default_rng(seed).normal(size=(n, 12))


def fitted(**settings):
    settings = {"max_epochs": 60, "random_state": 0} | settings
    return Autoencoder(2, **settings).fit(curved())


def told(model):
    return [record["message"] for record in model.history_ if record.get("event") == "refined"]


def test_new_rows_are_rebuilt_better_and_the_history_says_so():
    model, new = fitted(), curved(seed=1)
    assert model.facts_["transform_max_iter"] == 4
    (text,) = told(model)
    assert text.startswith(
        "codes are refined in 4 steps when rows are transformed, which lowers the err"
    )
    assert f"the error of {len(model.validation_rows_)} validation rows by " in text
    assert "the error of 400 training rows by " in told(fitted(validation_fraction=0))[0]
    errors = model.reconstruction_error(new, by="row")
    model.set_params(transform_max_iter=0)
    encoders = model.reconstruction_error(new, by="row")
    assert (errors <= encoders * (1 + 1e-9)).all()
    assert errors.mean() < 0.98 * encoders.mean()


@pytest.fixture
def images(digits):
    return digits[:200]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_and_loss_can_be_refined(images, name, loss):
    settings = {"kind": name, "loss": loss, "preparation": "unit", "max_epochs": 3}
    model = Autoencoder(2, transform_max_iter=3, random_state=0, **settings).fit(images)
    assert model.facts_["transform_max_iter"] == 3
    refined = model.transform(images)
    x = model.preparation_.encode(images, torch.float64).to(model.model_.dtype)

    def losses(codes):
        raw = model.network_.decode(torch.as_tensor(codes).to(x))
        return model.loss_.per_row(raw, x).detach().numpy()

    plain = model.set_params(transform_max_iter=0).transform(images)
    assert (losses(refined) <= losses(plain) * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"penalties": ("l1",)},
        {"corruption": "masking"},
        {"kind": "regularized"},
        {"kind": "vanilla"},
        {"max_epochs": 0},
        {"transform_max_iter": 0},
    ],
    ids=str,
)
def test_it_is_left_where_another_code_is_wanted_or_nothing_is_gained(settings):
    model = fitted(**({"max_epochs": 5} | settings))
    assert model.facts_["transform_max_iter"] == 0
    assert told(model) == []
    plain = model.transform(curved())
    assert np.array_equal(model.set_params(transform_max_iter="auto").transform(curved()), plain)
    # Whoever wants it all the same can have it later.
    losses = model.reconstruction_error(curved(), by="row")
    refined = model.set_params(transform_max_iter=3).reconstruction_error(curved(), by="row")
    assert (refined <= losses * (1 + 1e-9)).all()


def test_a_gain_too_small_to_be_worth_the_time_is_left(monkeypatch):
    monkeypatch.setattr("isthmus.estimator.code_refinement.WORTHWHILE", 0.9)
    assert fitted().facts_["transform_max_iter"] == 0
    assert fitted(transform_max_iter=4).facts_["transform_max_iter"] == 4


def test_pca_can_be_asked_for_refined_codes_and_has_the_best_already():
    noise = RNG.normal(size=(60, 8))
    model = Autoencoder(2, transform_max_iter=4, max_epochs=3, random_state=0).fit(noise)
    assert model.history_[-2]["event"] == "pca"
    codes = model.transform(noise)
    np.testing.assert_allclose(
        codes, model.set_params(transform_max_iter=0).transform(noise), atol=1e-4
    )


@pytest.mark.parametrize("settings", [{}, {"loss": "bernoulli", "preparation": "unit"}], ids=str)
def test_inference_mode_is_no_hindrance(tmp_path, settings):
    rows = (curved() + 2) / 4
    with torch.inference_mode():
        model = Autoencoder(2, max_epochs=20, transform_max_iter=2, random_state=0, **settings)
        inside = model.fit(rows).transform(rows)
        model.save(tmp_path / "model")
        loaded = load(tmp_path / "model").transform(rows)
    assert np.array_equal(inside, loaded)
    assert np.array_equal(inside, model.transform(rows))
    model.partial_fit(rows)


def test_what_cannot_be_refined_is_told_before_training(monkeypatch):
    monkeypatch.setattr("isthmus.training.trainer.Trainer.run", lambda _: pytest.fail("it trained"))
    with pytest.raises(RequestError, match="transform_max_iter=3 needs a code without an act"):
        fitted(kind=kinds.Vanilla(activation="tanh"), transform_max_iter=3)
    wide = kinds.Regularized(hidden=())
    with pytest.raises(RequestError, match="is for codes of up to 512 numbers, this one has 600"):
        Autoencoder(600, kind=wide, transform_max_iter=3, random_state=0).fit(curved())


def test_codes_of_an_activation_cannot_be_refined_later():
    model = fitted(kind=kinds.Vanilla(activation="sigmoid"), max_epochs=1)
    with pytest.raises(RequestError, match="the codes of this model cannot be refined, since an"):
        model.set_params(transform_max_iter=2).transform(curved())


@pytest.mark.parametrize("value", [-3, 2.5, "bad", None, True, [1]])
def test_a_wrong_number_of_steps_is_refused_later_too(value):
    model = fitted(max_epochs=1)
    with pytest.raises(RequestError, match=r"transform_max_iter=.* must be 'auto' or a whole numb"):
        model.set_params(transform_max_iter=value).transform(curved())


def test_many_steps_end_where_scipy_ends():
    network, loss = Plane(WEIGHT, nn.Tanh()), Squared()
    metric = inverse_curvature(network, loss, ROWS, seed=0)
    code = Refinement(network, loss.per_row, metric)(ROWS, network.encode(ROWS), 60)
    for i in range(5):

        def value(h, row=ROWS[i : i + 1]):
            at = torch.tensor(np.array(h), requires_grad=True)
            error = loss.per_row(network.decode(at[None]), row).sum()
            error.backward()
            return float(error.detach()), at.grad.numpy()

        found = minimize(value, code[i].numpy(), jac=True, options={"gtol": 1e-10})
        assert value(code[i].numpy())[0] == pytest.approx(found.fun, rel=1e-6)


@pytest.mark.parametrize("value", [-1, 2.5, "always", None, True])
def test_what_is_no_number_of_steps_is_refused(value):
    with pytest.raises(RequestError, match=r"transform_max_iter=.* must be 'auto' or a whole numb"):
        fitted(transform_max_iter=value)


def test_wide_rows_are_refined_a_few_at_a_time(monkeypatch):
    model, new = fitted(), curved(seed=1)
    together, seen = model.transform(new), []
    real = Refinement.__call__

    def spy(self, x, code, iterations):
        seen.append(len(x))
        return real(self, x, code, iterations)

    monkeypatch.setattr(Refinement, "__call__", spy)
    monkeypatch.setattr("isthmus.estimator.code_refinement.VALUES_AT_ONCE", 12 * 150)
    np.testing.assert_allclose(model.transform(new), together, rtol=1e-5, atol=1e-6)
    assert seen == [150, 150, 100]
    monkeypatch.setattr("isthmus.estimator.code_refinement.VALUES_AT_ONCE", 1)
    np.testing.assert_allclose(model.transform(new[:5]), together[:5], rtol=1e-5, atol=1e-6)


def test_a_saved_model_finds_the_same_codes(tmp_path):
    model = fitted()
    model.save(tmp_path / "model")
    again, new = load(tmp_path / "model"), curved(seed=2)
    assert np.array_equal(again.transform(new), model.transform(new))
    again.set_params(transform_max_iter=0)
    assert not np.allclose(again.transform(new), model.transform(new), rtol=1e-3)
