"""The objective: its names, its weights, and its gradients against finite differences."""

import numpy as np
import pytest
import torch

from isthmus.errors import RequestError
from isthmus.kinds import Convolutional, Multilayer, Regularized, Vanilla
from isthmus.losses import (
    KL,
    L1,
    LOSSES,
    PENALTIES,
    RECONSTRUCTION,
    Contraction,
    Huber,
    Objective,
    Squared,
)
from isthmus.types import Step

NETWORKS = {
    "vanilla": Vanilla(activation="sigmoid"),
    "vanilla tied": Vanilla(activation="tanh", tied=True),
    "multilayer": Multilayer(hidden=(5, 4)),
    "multilayer tied": Multilayer(hidden=(5,), tied=True, activation="softplus"),
    "regularized": Regularized(hidden=(5,), code_activation="sigmoid", output="bounded"),
    "regularized single": Regularized(hidden=(), code_activation="elu"),
    "convolutional": Convolutional(channels=(2, 3), activation="gelu"),
}


def value(objective, step):
    """The sum of the terms, run again with the network as it is and the same luck."""
    torch.manual_seed(5)
    output = step.model(step.seen)
    terms = objective(Step(step.model, step.x, step.seen, output, step.weight))
    return torch.stack(list(terms.values())).sum()


@torch.no_grad()
def move(parameters, way, distance):
    for parameter, direction in zip(parameters, way, strict=True):
        parameter.add_(distance * direction)


@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_the_slope_in_any_direction(step_of, rng, name, loss, penalty):
    penalties = () if penalty is None else (PENALTIES[penalty](weight=0.3),)
    objective = Objective(LOSSES[loss](), penalties)
    step = step_of(NETWORKS[name], rng.uniform(size=(4, 1, 3, 2)), 2, weight=[0.5, 1.5, 2.0, 0.0])
    parameters = list(step.model.parameters())
    gradients = torch.autograd.grad(value(objective, step), parameters)
    for _ in range(2):
        way = [torch.randn_like(p) for p in parameters]
        expected = sum((g * w).sum() for g, w in zip(gradients, way, strict=True)).item()
        move(parameters, way, 1e-5)
        ahead = value(objective, step).item()
        move(parameters, way, -2e-5)
        behind = value(objective, step).item()
        move(parameters, way, 1e-5)
        assert (ahead - behind) / 2e-5 == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("penalty", ["l1", "kl"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_of_two_is_the_row_twice(step_of, rng, loss, penalty):
    objective = Objective(LOSSES[loss](), (PENALTIES[penalty](weight=0.3),))
    x = rng.uniform(size=(3, 4))
    weighted = step_of(NETWORKS["vanilla"], x, 2, weight=np.array([2, 1, 3]) / 2)
    repeated = step_of(NETWORKS["vanilla"], np.repeat(x, [2, 1, 3], axis=0), 2)
    ours, theirs = objective(weighted), objective(repeated)
    assert ours.keys() == theirs.keys() == {RECONSTRUCTION, penalty}
    for name, term in ours.items():
        assert term.item() == pytest.approx(theirs[name].item(), rel=1e-12)


def test_terms_have_names_of_their_own(step_of, rng):
    penalties = (L1(weight=0.1), KL(), L1(weight=0.2), Contraction(), L1(weight=0.3))
    step = step_of(NETWORKS["vanilla"], rng.uniform(size=(3, 4)), 2)
    terms = Objective(Squared(), penalties)(step)
    assert list(terms) == ["reconstruction", "l1", "kl", "l1 2", "contraction", "l1 3"]
    assert terms["l1 3"].item() == pytest.approx(3 * terms["l1"].item())


def test_a_networks_own_terms_are_kept(step_of, rng):
    step = step_of(NETWORKS["vanilla"], rng.uniform(size=(3, 4)), 2)
    own = {"commitment": torch.tensor(0.25, dtype=torch.float64)}
    terms = Objective(Squared(), (L1(),))(step._replace(output=step.output._replace(terms=own)))
    assert list(terms) == ["reconstruction", "commitment", "l1"]
    assert terms["commitment"].item() == 0.25


def test_the_loss_is_held_against_the_clean_row(step_of, rng):
    step = step_of(NETWORKS["multilayer"], rng.uniform(size=(3, 4)), 2)
    noisy = step._replace(seen=torch.zeros_like(step.x))
    assert Objective(Squared())(noisy) == Objective(Squared())(step)


@pytest.mark.parametrize("bad", [{"loss": Huber(delta=-1)}, {"penalties": (L1(), KL(weight=-1))}])
def test_bad_parts_are_refused_before_training(bad):
    with pytest.raises(RequestError, match="=-1 must"):
        Objective(**({"loss": Squared()} | bad))
