"""Optimizers against their formulas: steps by hand, a quadratic to its minimum, groups, rules."""

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.errors import RequestError
from isthmus.kinds import Multilayer, Vanilla
from isthmus.losses import Squared
from isthmus.optim import KFAC, OPTIMIZERS, SGD, Adam, AdamW, Muon, Nesterov, RMSprop
from isthmus.optim.line_search import LineSearchOptimizer
from isthmus.types import Facts

FIRST_ORDER = {
    name: spec
    for name, spec in OPTIMIZERS.items()
    if not issubclass(spec, (KFAC, LineSearchOptimizer))
}


class Quadratic(nn.Module):
    """(w - target)' A (w - target) / 2 with a condition number of 25."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 4, dtype=torch.float64))
        self.target = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
        self.curvature = torch.tensor([1.0, 5.0, 12.0, 25.0], dtype=torch.float64) / 25

    def forward(self):
        return (self.curvature * (self.weight - self.target).square()).sum() / 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_ends_at_the_minimum_of_a_quadratic(name):
    # Nothing here is a linear layer, so that K-FAC leaves it to AdamW.
    settings = {"adamw_lr": 0.2, "schedule": "cosine"} if name == "kfac" else {}
    bowl, spec = Quadratic(), OPTIMIZERS[name](lr=0.2, weight_decay=0.0, **settings)
    optimizer, total = spec.build(bowl, Squared()), 600

    def closure():
        optimizer.zero_grad()
        loss = bowl()
        loss.backward()
        return loss

    for step in range(total):
        optimizer.param_groups[0]["lr"] = spec.lr * spec.factor(step, total)
        optimizer.step(closure)
    torch.testing.assert_close(bowl.weight[0], bowl.target, atol=1e-3, rtol=0)


LR, DECAY = 0.1, 0.3


def by_hand_sgd(w, gradients, *, nesterov=False, momentum=0.9):
    velocity = np.zeros_like(w)
    for gradient in gradients:
        g = gradient + DECAY * w
        velocity = g if not velocity.any() else momentum * velocity + g
        w = w - LR * (g + momentum * velocity if nesterov else velocity)
    return w


def by_hand_adam(w, gradients, *, decoupled=False, betas=(0.8, 0.95), eps=1e-3):
    mean, square = np.zeros_like(w), np.zeros_like(w)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient if decoupled else gradient + DECAY * w
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g**2
        way = (mean / (1 - betas[0] ** t)) / (np.sqrt(square / (1 - betas[1] ** t)) + eps)
        w = w - LR * (way + DECAY * w if decoupled else way)
    return w


def by_hand_rmsprop(w, gradients, *, alpha=0.9, momentum=0.5, eps=1e-3):
    square, velocity = np.zeros_like(w), np.zeros_like(w)
    for gradient in gradients:
        g = gradient + DECAY * w
        square = alpha * square + (1 - alpha) * g**2
        velocity = momentum * velocity + g / (np.sqrt(square) + eps)
        w = w - LR * velocity
    return w


def by_hand_muon(w, gradients, *, momentum=0.8, ns_steps=4):
    velocity = np.zeros_like(w)
    for gradient in gradients:
        velocity = momentum * velocity + (1 - momentum) * gradient
        u, s, vt = np.linalg.svd((1 - momentum) * gradient + momentum * velocity)
        # A few steps of Newton and Schulz bring each singular value near 1, not to it.
        x = s / np.linalg.norm(s)
        for _ in range(ns_steps):
            x = 3.4445 * x - 4.775 * x**3 + 2.0315 * x**5
        w = (
            w
            - LR * DECAY * w
            - LR * max(1, w.shape[0] / w.shape[1]) ** 0.5 * (u * x @ vt[: len(x)])
        )
    return w


ADAM = {"betas": (0.8, 0.95), "eps": 1e-3}
BY_HAND = {
    "sgd": (SGD(lr=LR, weight_decay=DECAY), by_hand_sgd, {}),
    "nesterov": (Nesterov(lr=LR, weight_decay=DECAY), by_hand_sgd, {"nesterov": True}),
    "rmsprop": (
        RMSprop(lr=LR, weight_decay=DECAY, alpha=0.9, momentum=0.5, eps=1e-3),
        by_hand_rmsprop,
        {},
    ),
    "muon": (Muon(lr=LR, weight_decay=DECAY, momentum=0.8, ns_steps=4), by_hand_muon, {}),
    "adam": (Adam(lr=LR, weight_decay=DECAY, **ADAM), by_hand_adam, {}),
    "adamw": (AdamW(lr=LR, weight_decay=DECAY, **ADAM), by_hand_adam, {"decoupled": True}),
}


def test_every_optimizer_is_worked_by_hand():
    assert BY_HAND.keys() == FIRST_ORDER.keys()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("name", BY_HAND)
def test_steps_are_those_of_the_formula(name, steps, rng):
    spec, formula, settings = BY_HAND[name]
    start, gradients = rng.normal(size=(2, 3)), rng.normal(size=(steps, 2, 3))
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.tensor(start))
    optimizer = spec.build(layer)
    for gradient in gradients:
        layer.weight.grad = torch.tensor(gradient)
        optimizer.step()
    expected = formula(start, gradients, **settings)
    # Muon makes its steps orthogonal in bfloat16, which has 8 bits.
    exact = {"rtol": 0, "atol": 0.02 * LR * steps} if name == "muon" else {"rtol": 1e-12}
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, **exact)


@pytest.mark.parametrize("kind", [Vanilla(), Multilayer(hidden=(5,), tied=True)], ids=str)
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_decay_shrinks_matrices_and_nothing_else(name, kind):
    network = kind.build(Facts(shape=(6,)), 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    OPTIMIZERS[name](lr=0.01, weight_decay=0.5).build(network).step()
    for label, parameter in network.named_parameters():
        assert bool((parameter < 1).all()) == (parameter.ndim > 1), label
        assert parameter.ndim > 1 or bool((parameter == 1).all()), label


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_weights_are_left_out(name):
    network = Vanilla().build(Facts(shape=(6,)), 2)
    network.linear.encode_weight.requires_grad_(False)
    optimizer = OPTIMIZERS[name]().build(network, Squared())
    moved = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(moved) == 3
    assert all(p is not network.linear.encode_weight for p in moved)


BAD_SETTINGS = [
    ({"lr": 0.0}, "lr=0.0 must be positive"),
    ({"lr": float("nan")}, "lr=nan"),
    ({"weight_decay": -1.0}, "weight_decay=-1.0 must not be negative"),
    ({"warmup": 1.0}, "warmup=1.0 must be at least 0 and below 1"),
    ({"schedule": "step"}, "schedule='step' is not known; use one of cosine, linear, constant"),
    ({"clip_norm": 0}, "clip_norm=0 must be positive, or None"),
    ({"momentum": 1.0}, "momentum=1.0 must be at least 0 and below 1"),
    ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\) must be two numbers"),
    ({"betas": (0.9,)}, r"betas=\(0.9,\)"),
    ({"eps": 0}, "eps=0 must be positive"),
]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (name, settings, message)
        for name, spec in OPTIMIZERS.items()
        for settings, message in BAD_SETTINGS
        if settings.keys() <= spec().get_params().keys()
    ],
    ids=str,
)
def test_a_bad_setting_is_named(name, settings, message):
    spec = OPTIMIZERS[name](**settings)
    with pytest.raises(RequestError, match=f"{type(spec).__name__}: {message}"):
        spec.check()
    with pytest.raises(RequestError, match=message):
        spec.build(nn.Linear(2, 2))


def test_nesterov_needs_momentum():
    assert SGD(momentum=0.0).build(nn.Linear(2, 2)).defaults["momentum"] == 0
    with pytest.raises(RequestError, match="momentum=0 is plain SGD; use SGD"):
        Nesterov(momentum=0.0).check()


def test_no_clipping_is_a_choice():
    SGD(clip_norm=None).check()
    assert SGD(clip_norm=None).clip_norm is None
