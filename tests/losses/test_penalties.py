"""Penalties against hand-written formulas, and the contraction against the whole Jacobian."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from isthmus.errors import RequestError
from isthmus.kinds import ACTIVATIONS, Convolutional, Multilayer, Regularized, Vanilla
from isthmus.losses import KL, L1, PENALTIES, Contraction, estimated_norm

DERIVATIVES = {name: a.derivative for name, a in ACTIVATIONS.items() if a.derivative}

# Of one batch: only over all training rows is their mean 1.
WEIGHTS = [None, [1.0, 1.0, 1.0, 1.0], [0.5, 2.0, 3.5, 0.0]]


@pytest.mark.parametrize("weight", WEIGHTS, ids=str)
def test_l1_is_the_mean_size(coded, rng, weight):
    codes = rng.normal(size=(4, 5))
    rows = np.abs(codes).mean(axis=1)
    expected = 0.7 * np.mean(rows if weight is None else weight * rows)
    assert L1(weight=0.7)(coded(codes, weight)).item() == pytest.approx(expected, rel=1e-12)


RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "open": None}


@pytest.mark.parametrize("weight", WEIGHTS, ids=str)
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("name", RANGES)
def test_kl_is_the_divergence_from_the_target(coded, rng, name, rate, weight):
    z = rng.normal(size=(4, 5))
    codes = {"sigmoid": special.expit(z), "tanh": np.tanh(z), "open": z}[name]
    activity = {"sigmoid": codes, "tanh": (codes + 1) / 2, "open": special.expit(z)}[name]
    mean = np.average(activity, axis=0, weights=weight)
    expected = (special.rel_entr(rate, mean) + special.rel_entr(1 - rate, 1 - mean)).mean()
    ours = KL(weight=2.0, target_rate=rate)(coded(codes, weight, RANGES[name]))
    assert ours.item() == pytest.approx(2 * expected, rel=1e-12)


def test_kl_is_zero_at_the_target_and_finite_at_the_ends(coded):
    at = coded(np.full((4, 5), 0.05), None, (0.0, 1.0))
    assert KL(weight=1.0)(at).item() == pytest.approx(0, abs=1e-15)
    for end in (0.0, 1.0):
        assert math.isfinite(KL(weight=1.0)(coded(np.full((4, 5), end), None, (0.0, 1.0))).item())


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu"])
def test_kl_knows_the_range_of_the_network(step_of, coded, rng, name):
    step = step_of(Vanilla(activation=name), rng.normal(size=(4, 6)))
    twin = coded(step.output.code.detach(), None, RANGES.get(name))
    assert KL()(step).item() == pytest.approx(KL()(twin).item(), rel=1e-12)


def jacobian_norm(network, x):
    """(B,): every row's squared Frobenius norm, from the whole Jacobian."""
    rows = [torch.func.jacrev(lambda one: network.encode(one[None])[0])(row) for row in x]
    return torch.stack([row.square().sum() for row in rows]).detach()


@pytest.mark.parametrize("weight", WEIGHTS, ids=str)
@pytest.mark.parametrize("activation", DERIVATIVES)
def test_the_closed_form_is_the_jacobians_norm(step_of, rng, activation, weight):
    step = step_of(Vanilla(activation=activation), rng.normal(size=(4, 6)), weight=weight)
    assert step.model.dense_encoder().derivative is DERIVATIVES[activation]
    expected = np.average(jacobian_norm(step.model, step.x), weights=weight)
    assert Contraction(weight=1.0)(step).item() == pytest.approx(
        expected * step.weight.mean().item(), rel=1e-10
    )


def test_one_layer_of_regularized_has_the_closed_form_too(step_of, rng):
    step = step_of(Regularized(hidden=(), code_activation="sigmoid"), rng.normal(size=(4, 6)))
    expected = jacobian_norm(step.model, step.x).mean().item()
    assert Contraction(weight=1.0)(step).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("activation", DERIVATIVES)
def test_derivatives_are_autograds(activation):
    z = torch.tensor([-40, -9, -2.0, -0.3, 0.3, 2.0, 9.0, 40.0], dtype=torch.float64)
    z.requires_grad_()
    (theirs,) = torch.autograd.grad(ACTIVATIONS[activation].module()(z).sum(), z)
    torch.testing.assert_close(DERIVATIVES[activation](z.detach()), theirs, rtol=1e-9, atol=1e-15)


ENCODERS = {
    "multilayer": (Multilayer(hidden=(7, 5), activation="tanh"), (6,)),
    "plain": (Multilayer(hidden=(7,), skip=False), (6,)),
    "tied": (Multilayer(hidden=(7,), tied=True), (6,)),
    "gelu": (Vanilla(activation="gelu"), (6,)),
    "image": (Convolutional(channels=(2, 3)), (2, 5, 3)),
    "signal": (Convolutional(channels=(2,), activation="softplus"), (1, 9)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_estimate_is_right_on_average(step_of, rng, name):
    kind, shape = ENCODERS[name]
    step = step_of(kind, rng.normal(size=(3, *shape)))
    exact = jacobian_norm(step.model, step.x)
    draws = torch.stack([estimated_norm(step.model.encode, step.x, 1).detach() for _ in range(600)])
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((draws.mean(dim=0) - exact).abs() < 4.5 * error + 1e-9 * exact).all()


def test_a_code_of_one_unit_needs_no_luck(step_of, rng):
    step = step_of(Multilayer(hidden=(7,)), rng.normal(size=(3, 6)), 1)
    torch.testing.assert_close(
        estimated_norm(step.model.encode, step.x, 1), jacobian_norm(step.model, step.x)
    )


def test_more_probes_scatter_less(step_of, rng):
    step = step_of(Multilayer(hidden=(7,)), rng.normal(size=(3, 6)))

    def scatter(probes):
        draws = [Contraction(probes=probes)(step).item() for _ in range(150)]
        return np.std(draws)

    assert scatter(16) < 0.5 * scatter(1)


def test_the_contraction_is_that_of_the_clean_row(step_of, rng):
    step = step_of(Vanilla(activation="tanh"), rng.normal(size=(4, 6)))
    noisy = step._replace(
        seen=torch.zeros_like(step.x), output=step.model(torch.zeros_like(step.x))
    )
    assert Contraction()(noisy).item() == Contraction()(step).item()


def test_the_estimate_works_without_gradients_and_leaves_none(step_of, rng):
    step = step_of(Multilayer(hidden=(5,)), rng.normal(size=(4, 6)))
    with torch.no_grad():
        value = Contraction()(step)
    assert math.isfinite(value.item())
    assert not value.requires_grad
    assert all(parameter.grad is None for parameter in step.model.parameters())


@pytest.mark.parametrize("name", PENALTIES)
def test_no_weight_no_term_whatever_the_codes(coded, name):
    step = coded(np.full((4, 5), np.inf))
    torch.manual_seed(3)
    assert PENALTIES[name](weight=0.0)(step).item() == 0
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


@pytest.mark.parametrize("name", PENALTIES)
def test_the_weight_multiplies(step_of, rng, name):
    step = step_of(Vanilla(activation="sigmoid"), rng.normal(size=(4, 6)))
    one, three = PENALTIES[name](weight=1.0)(step), PENALTIES[name](weight=3.0)(step)
    assert three.item() == pytest.approx(3 * one.item(), rel=1e-12)
    assert one.item() == PENALTIES[name](weight=1.0).value(step).item()


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("weight", [-1e-9, float("nan")])
def test_a_bad_weight_is_named(name, weight):
    with pytest.raises(RequestError, match=f"{PENALTIES[name].__name__}: weight={weight}"):
        PENALTIES[name](weight=weight).check()


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (KL(target_rate=0.0), "target_rate=0.0 must lie between 0 and 1"),
        (KL(target_rate=1), "target_rate=1 must"),
        (Contraction(probes=0), "probes=0 must be at least 1"),
    ],
)
def test_other_bad_settings_are_named(penalty, message):
    with pytest.raises(RequestError, match=message):
        penalty.check()
