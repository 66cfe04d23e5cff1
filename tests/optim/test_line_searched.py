"""Conjugate gradients and L-BFGS against scipy, and the line search against its own conditions."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der
from torch import nn

from isthmus.errors import RequestError
from isthmus.kinds import Multilayer
from isthmus.optim import LBFGS, UPDATES, ConjugateGradient
from isthmus.optim.conjugate import DirectionHistory, NonlinearConjugateGradient
from isthmus.optim.line_search import Point, StrongWolfe
from isthmus.types import Facts

LINES = {
    "parabola": lambda t: (t - 3) ** 2,
    "narrow": lambda t: 1e4 * (t - 0.01) ** 2,
    "far": lambda t: (t / 500 - 1) ** 2,
    "wavy": lambda t: torch.sin(3 * t + 2) + (t - 4) ** 2 / 4,
    "steep then flat": lambda t: torch.exp(-5 * t) + 0.01 * t**2,
    "cliff": lambda t: -t + torch.where(t > 2, (t - 2) ** 4 * 1e6, torch.zeros_like(t)),
    "nan beyond 5": lambda t: -torch.log(5 - t) - 3 * t,
    "More and Thuente 1": lambda t: -t / (t**2 + 2),
    "More and Thuente 2": lambda t: (t + 0.1) ** 5 - 2 * (t + 0.1) ** 4,
}


def along(line):
    def at(step):
        t = torch.tensor(float(step), dtype=torch.float64, requires_grad=True)
        value = line(t)
        (derivative,) = torch.autograd.grad(value, t)
        return Point(float(step), float(value.detach()), float(derivative), derivative)

    return at


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("c2", [0.1, 0.9])
@pytest.mark.parametrize("name", LINES)
def test_what_a_search_finds_meets_both_wolfe_conditions(name, c2, first):
    at = along(LINES[name])
    start = at(0.0)
    assert start.derivative < 0
    found = StrongWolfe(c1=1e-4, c2=c2, max_evaluations=60).search(at, start, first)
    assert found.step > 0
    assert found.value <= start.value + 1e-4 * found.step * start.derivative
    assert abs(found.derivative) <= c2 * abs(start.derivative)


def test_a_search_stops_after_its_evaluations_with_the_best_it_saw():
    calls = []

    def at(step):
        calls.append(step)
        return along(LINES["far"])(step)

    start = along(LINES["far"])(0.0)
    found = StrongWolfe(max_evaluations=3).search(at, start, 1.0)
    assert len(calls) == 3
    assert found.step == max(calls)


def test_where_nothing_falls_a_search_stays():
    start = Point(0.0, 1.0, -1.0, torch.zeros(1))  # a slope that lies
    found = StrongWolfe(max_evaluations=10).search(
        lambda t: Point(t, 1 + t, 1.0, torch.zeros(1)), start, 1.0
    )
    assert found is start


def descend(optimizer, loss, most=3000, tolerance=1e-6):
    """Steps until the gradient is small; how many it took."""

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(1, most + 1):
        optimizer.step(closure)
        closure()
        if max(float(p.grad.abs().max()) for p in parameters) < tolerance:
            return step
    raise AssertionError(f"no minimum after {most} steps")


@pytest.mark.parametrize("size", [2, 10])
@pytest.mark.parametrize("update", UPDATES)
def test_rosenbrocks_valley_is_followed_as_fast_as_scipy_follows_it(update, size):
    start = np.where(np.arange(size) % 2, 1.0, -1.2)
    theirs = minimize(rosen, start, jac=rosen_der, method="CG", options={"gtol": 1e-6})
    x = nn.Parameter(torch.tensor(start))
    optimizer = NonlinearConjugateGradient([x], update=update, searches=1)

    def valley():
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    steps = descend(optimizer, valley)
    np.testing.assert_allclose(x.detach().numpy(), theirs.x, atol=1e-4)
    assert steps <= 2 * theirs.nit


def small_autoencoder(rng):
    """A network without a linear path, its loss, that as scipy wants it, and where to begin."""
    torch.manual_seed(0)
    kind = Multilayer(hidden=(5,), skip=False, activation="tanh")
    network = kind.build(Facts(shape=(6,)), 2).double()
    rows = torch.tensor(rng.normal(size=(60, 2)) @ rng.normal(size=(2, 6)))

    def loss():
        penalty = sum(p.square().sum() for p in network.parameters())
        return (network(rows).reconstruction - rows).square().mean() + 1e-3 * penalty

    def flat(vector):
        nn.utils.vector_to_parameters(torch.tensor(vector), network.parameters())
        network.zero_grad()
        value = loss()
        value.backward()
        return value.item(), torch.cat([p.grad.flatten() for p in network.parameters()]).numpy()

    # It has many minima; all methods begin in the basin of one.
    start = nn.utils.parameters_to_vector(network.parameters()).detach().numpy().copy()
    deep = minimize(flat, start, jac=True, method="BFGS").x
    start = deep + 0.05 * rng.normal(size=deep.shape)
    return network, loss, flat, start


@pytest.mark.parametrize("update", UPDATES)
def test_a_small_autoencoder_ends_where_scipy_ends(update, rng):
    network, loss, flat, start = small_autoencoder(rng)
    options = {"gtol": 1e-6, "maxiter": 5000}
    theirs = minimize(flat, start, jac=True, method="CG", options=options)
    nn.utils.vector_to_parameters(torch.tensor(start), network.parameters())
    optimizer = ConjugateGradient(update=update, searches=1).build(network)
    steps = descend(optimizer, loss, most=5000)
    assert float(loss().detach()) == pytest.approx(theirs.fun, rel=1e-4)
    assert steps <= 2 * theirs.nit


def test_lbfgs_ends_where_scipys_ends(rng):
    network, loss, flat, start = small_autoencoder(rng)
    theirs = minimize(flat, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-8})
    nn.utils.vector_to_parameters(torch.tensor(start), network.parameters())
    descend(LBFGS().build(network), loss, tolerance=1e-4)
    assert float(loss().detach()) == pytest.approx(theirs.fun, rel=1e-3)


@pytest.mark.parametrize("update", UPDATES)
def test_on_a_quadratic_every_update_ends_within_as_many_searches_as_it_has_axes(update, rng):
    root = torch.tensor(rng.normal(size=(6, 6)))
    matrix, target = root @ root.t() + torch.eye(6), torch.tensor(rng.normal(size=6))
    x = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    exact = StrongWolfe(c2=1e-9, c1=1e-10, max_evaluations=100)
    optimizer = NonlinearConjugateGradient([x], update=update, searches=1, wolfe=exact)
    assert descend(optimizer, lambda: (x - target) @ matrix @ (x - target), tolerance=1e-5) <= 6


def test_the_updates_are_those_of_the_papers():
    g, g0, d = (torch.tensor(v) for v in ([1.0, 2.0], [2.0, -1.0], [-2.0, 3.0]))
    history, y = DirectionHistory(g, g0, d), np.array([-1.0, 3.0])
    along_y = -2 * -1 + 3 * 3
    assert UPDATES["fletcher_reeves"](history) == pytest.approx(5 / 5)
    assert UPDATES["polak_ribiere"](history) == pytest.approx((1 * -1 + 2 * 3) / 5)
    assert UPDATES["hestenes_stiefel"](history) == pytest.approx(5 / along_y)
    hager_zhang = (y - 2 * np.array([-2.0, 3.0]) * (y @ y) / along_y) @ [1.0, 2.0] / along_y
    least = -1 / (13**0.5 * 0.01)
    assert UPDATES["hager_zhang"](history) == pytest.approx(max(hager_zhang, least))
    assert UPDATES["polak_ribiere"](DirectionHistory(g0 * 0.1, g0, d)) == 0


def test_another_batch_begins_with_its_own_gradient():
    x = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))
    optimizer = NonlinearConjugateGradient([x], searches=1)
    seen = []

    def on(axis):
        def closure():
            optimizer.zero_grad()
            loss = (x[axis] - 5).square() + 0.1 * x.square().sum()
            loss.backward()
            seen.append(x.grad.clone())
            return loss

        return closure

    optimizer.step(on(0))
    optimizer.step(on(1))
    first = len(seen)
    direction = optimizer.state[x]["direction"]
    assert first > 2
    torch.testing.assert_close(direction, -optimizer.state[x]["gradient"])


@pytest.mark.parametrize("spec", [ConjugateGradient, LBFGS])
@pytest.mark.parametrize("setting", ["clip_norm", "weight_decay"])
def test_nothing_may_change_the_gradient_a_line_search_relies_on(spec, setting):
    with pytest.raises(RequestError, match=f"{spec.__name__}: {setting}=0.1"):
        spec(**{setting: 0.1}).build(nn.Linear(2, 2))
