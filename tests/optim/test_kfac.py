"""K-FAC's factors and products against exact ones, and its steps against those of others."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.func import functional_call, jacrev

from isthmus import Autoencoder
from isthmus.errors import RequestError
from isthmus.kinds import Convolutional, Multilayer, Vanilla
from isthmus.losses import LOSSES, Bernoulli, Huber, Squared
from isthmus.optim import KFAC, SGD, AdamW
from isthmus.optim.curvature import ForwardObserver
from isthmus.training.checkpoint import Checkpointer
from isthmus.training.state import State
from isthmus.types import Facts


def network_of(kind, width=6, n_components=2, seed=0):
    """A network in double precision, none of whose weights is at zero."""
    torch.manual_seed(seed)
    network = kind.build(Facts(shape=(width,), low=-3.0, high=3.0), n_components).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def watched(network, x, loss, seed=0):
    """What K-FAC sees of one forward pass."""
    watch = ForwardObserver(network, loss, list(network.parameters()), seed)
    with watch:
        network(x)
    return watch.curvature


def exact(network, x, loss):
    """({name: (B, D, *shape) derivative of the output}, (B, D) Fisher of a row's loss)."""
    parameters = dict(network.named_parameters())

    def output(values, row):
        out = functional_call(network, values, (row[None],))
        return getattr(out, "reconstruction", out)[0]

    with torch.no_grad():
        jacobian = torch.func.vmap(jacrev(output), in_dims=(None, 0))(parameters, x)
        out = network(x)
        raw = getattr(out, "reconstruction", out)
    p = torch.sigmoid(raw)
    fisher = p * (1 - p) if isinstance(loss, Bernoulli) else torch.full_like(raw, 2.0)
    return jacobian, fisher / raw.shape[1]


def as_matrix(layer, values, names):
    """One layer's share of {name: tensor}, as K-FAC lays it out."""
    bias = None if layer.bias is None else values[names[id(layer.bias)]]
    return layer.matrix(values[names[id(layer.weight)]], bias)


KINDS = [
    Vanilla(),
    Vanilla(activation="sigmoid"),
    Multilayer(hidden=(5, 4), activation="tanh"),
    Multilayer(hidden=(5,), skip=False, output="bounded"),
]


@pytest.mark.parametrize("loss", [Squared(), Bernoulli(), Huber()], ids=str)
def test_the_losses_curvature_is_that_of_the_formula(loss, rng):
    raw = torch.tensor(rng.normal(size=(7, 3)) * 4)
    p = torch.sigmoid(raw)
    expected = p * (1 - p) if isinstance(loss, Bernoulli) else torch.full_like(raw, 2.0)
    torch.testing.assert_close(loss.curvature(raw), expected)


@pytest.mark.parametrize("loss", [Squared(), Bernoulli()], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_fisher_products_are_the_exact_ones(kind, loss, rng):
    network = network_of(kind)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    x = torch.tensor(rng.normal(size=(9, 6)))
    jacobian, fisher = exact(network, x, loss)
    seen = watched(network, x, loss)
    covered = {id(p) for layer in seen.layers for p in (layer.weight, layer.bias)}
    assert covered == names.keys()
    u, v = (
        {name: torch.tensor(rng.normal(size=p.shape)) for name, p in network.named_parameters()}
        for _ in range(2)
    )

    def pushed(way):
        return sum((jacobian[name].flatten(2) @ way[name].flatten() for name in way), 0)

    def ours(way):
        return seen.along([as_matrix(layer, way, names) for layer in seen.layers])

    for one, other in ((u, u), (u, v)):
        product = (fisher * pushed(one) * pushed(other)).sum() / len(x)
        torch.testing.assert_close(ours(one).dot(ours(other)), product)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_factors_are_the_exact_expectations(kind, rng):
    network, loss = network_of(kind), Squared()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    x = torch.tensor(rng.normal(size=(40, 6)))
    jacobian, fisher = exact(network, x, loss)
    many = [watched(network, x, loss, seed).factors() for seed in range(100)]
    for number, layer in enumerate(watched(network, x, loss).layers):
        inputs = many[0][number][0]
        outputs = torch.stack([factors[number][1] for factors in many]).mean(dim=0)
        # The derivative by a bias is that by the layer's output.
        by_output = jacobian[names[id(layer.bias)]]
        expected = torch.einsum("bdo,bd,bdp->op", by_output, fisher, by_output) / len(x)
        torch.testing.assert_close(outputs, expected, rtol=0.1, atol=0.05 * float(expected.max()))
        # dr_d/dW = (dr_d/ds) a', so that a is found where the derivative by s is known.
        weight = jacobian[names[id(layer.weight)]]
        weight = weight.transpose(2, 3) if layer.transposed else weight
        a = (
            torch.einsum("bdoi,bdo->bi", weight, by_output)
            / by_output.square().sum((1, 2))[:, None]
        )
        a = torch.cat([a, torch.ones(len(x), 1)], dim=1)
        torch.testing.assert_close(inputs, a.t() @ a / len(x))


def test_where_the_product_of_factors_is_the_fisher_it_is_exact(rng):
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3).double(), torch.tensor(rng.normal(size=(50, 4)))
    jacobian, fisher = exact(layer, x, Squared())
    flat = torch.cat([jacobian["weight"], jacobian["bias"][..., None]], dim=3).flatten(2)
    whole = torch.einsum("bdi,bd,bdj->ij", flat, fisher, flat) / len(x)
    many = [watched(layer, x, Squared(), seed).factors()[0] for seed in range(400)]
    inputs, outputs = (torch.stack(factor).mean(dim=0) for factor in zip(*many, strict=True))
    torch.testing.assert_close(torch.kron(outputs, inputs), whole, rtol=0.02, atol=0.02)


def closure_of(network, optimizer, x, loss=None):
    def closure():
        optimizer.zero_grad()
        value = (loss or Squared()).per_row(network(x).reconstruction, x).mean()
        value.backward()
        return value

    return closure


def test_one_layer_is_solved_in_one_step_of_no_damping(rng):
    x = torch.tensor(rng.normal(size=(60, 5)) * np.logspace(0, -3, 5))
    layer = nn.Linear(5, 5).double()
    optimizer = KFAC(lr=1.0, weight_decay=0.0, damping=1e-12, adamw_lr=1e-9).build(layer, Squared())

    def closure():
        optimizer.zero_grad()
        value = Squared().per_row(layer(x), x).mean()
        value.backward()
        return value

    first = float(closure().detach())
    optimizer.step(closure)
    # The factor of the outputs is one draw's, hence not quite; but all scales are gone at once.
    for _ in range(4):
        optimizer.step(closure)
    assert float(closure().detach()) < 1e-6 * first


def steps_to_pca(spec, x, best, most):
    torch.manual_seed(1)
    network = Vanilla().build(Facts(shape=(x.shape[1],)), 3).double()
    optimizer = spec.build(network, Squared())
    closure = closure_of(network, optimizer, x)
    for step in range(most):
        if float(optimizer.step(closure).detach()) <= 1.01 * best:
            return step
    return most


def test_a_badly_scaled_linear_autoencoder_reaches_pca_in_far_fewer_steps(rng):
    scales = np.array([30.0, 3.0, 0.3, *[0.03] * 7])
    x = rng.normal(size=(300, 10)) * scales @ np.linalg.qr(rng.normal(size=(10, 10)))[0]
    x = x - x.mean(axis=0)
    best = ((x - PCA(3).fit(x).inverse_transform(PCA(3).fit_transform(x))) ** 2).mean()
    x = torch.tensor(x)
    ours = steps_to_pca(KFAC(lr=1.0, weight_decay=0.0), x, best, 400)
    assert ours < 120
    for other in (SGD(lr=3e-4), AdamW(lr=0.003), AdamW(lr=0.03)):
        assert steps_to_pca(other, x, best, 10 * ours) == 10 * ours


def trained(spec, x, evaluations, kind, batch, loss=None, dtype=torch.float32):
    """The loss after so many gradients, about, and the network."""
    torch.manual_seed(0)
    loss = loss or Squared()
    network = kind.build(Facts(shape=tuple(x.shape[1:])), 4).to(dtype)
    optimizer, x = spec.build(network, loss), x.to(dtype)
    order = torch.randperm(len(x))
    for step in range(evaluations // spec.gradients_per_step):
        begin = step * batch % (len(x) - batch + 1)
        optimizer.step(closure_of(network, optimizer, x[order[begin : begin + batch]], loss))
    with torch.no_grad():
        return float(loss.per_row(network(x).reconstruction, x).mean()), network


def test_a_deep_sigmoid_autoencoder_gets_much_further_than_with_adamw(digits):
    x = torch.tensor(digits[:600].reshape(600, 64) / 255)
    kind = Multilayer(hidden=(40, 20, 10), skip=False, activation="sigmoid")
    ours, _ = trained(KFAC(lr=1.0, weight_decay=0.0), x, 800, kind, batch=600)
    for lr in (1e-3, 3e-3, 1e-2):
        for batch in (50, 600):
            theirs, _ = trained(AdamW(lr=lr), x, 800, kind, batch=batch)
            assert ours < 0.5 * theirs, (lr, batch)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "kind",
    [Multilayer(hidden=(8,)), Multilayer(hidden=(8,), tied=True), Convolutional(channels=(3,))],
    ids=str,
)
def test_every_loss_falls_on_every_kind_of_layer(digits, kind, name):
    x, loss = torch.tensor(digits[:100] / 255), LOSSES[name]()
    x = x[:, None] if isinstance(kind, Convolutional) else x.flatten(1)
    start, before = trained(KFAC(), x, 0, kind, 100, loss)
    end, after = trained(KFAC(), x, 120, kind, 100, loss)
    assert end < 0.97 * start
    still = [
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if torch.equal(old, new)
    ]
    assert still == []


def test_weight_decay_ends_where_ridge_regression_does(rng):
    x, decay = torch.tensor(rng.normal(size=(80, 4))), 0.05
    layer = nn.Linear(4, 4).double()
    optimizer = KFAC(weight_decay=decay).build(layer, Squared())
    with torch.no_grad():
        layer.weight.normal_()

    def closure():
        optimizer.zero_grad()
        value = Squared().per_row(layer(x), x).mean()
        value.backward()
        return value

    for _ in range(40):
        optimizer.step(closure)
    centred = x - x.mean(dim=0)
    square = centred.t() @ centred / len(x) * 2 / 4
    ridge = torch.linalg.solve(square + decay * torch.eye(4), square)
    torch.testing.assert_close(layer.weight.detach(), ridge.t(), atol=1e-4, rtol=0)


def test_a_step_that_makes_the_loss_rise_is_taken_back(rng):
    x = torch.tensor(rng.normal(size=(50, 6)))
    network = network_of(Multilayer(hidden=(5,), activation="tanh"))
    optimizer = KFAC(damping=1e-8, lr=1.0).build(network, Squared())
    closure = closure_of(network, optimizer, x)
    values = [float(optimizer.step(closure).detach()) for _ in range(10)]
    assert all(later <= earlier for earlier, later in pairwise(values))


def test_its_state_survives_save_and_resume_to_the_bit(rng, tmp_path):
    x = torch.tensor(rng.normal(size=(40, 1, 6)), dtype=torch.float32)
    kind = Convolutional(channels=(3,))

    def begun():
        torch.manual_seed(0)
        network = kind.build(Facts(shape=(1, 6)), 2)
        return network, KFAC(inverse_interval=4).build(network, Squared())

    def go_on(network, optimizer, first, last):
        for step in range(first, last):
            rows = x[step % 2 :: 2]
            optimizer.step(closure_of(network, optimizer, rows))

    whole, optimizer = begun()
    go_on(whole, optimizer, 0, 31)
    network, optimizer = begun()
    go_on(network, optimizer, 0, 14)
    Checkpointer(tmp_path, {}).save(State(seed=0), network, optimizer, 0.0)
    again, optimizer = begun()
    Checkpointer(tmp_path, {}).load(again, optimizer)
    go_on(again, optimizer, 14, 31)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_loaded_beginning_is_a_beginning(rng):
    x = torch.tensor(rng.normal(size=(30, 6)))
    network = network_of(Multilayer(hidden=(5,)))
    optimizer = KFAC().build(network, Squared())
    fresh, weights = optimizer.state_dict(), copy.deepcopy(network.state_dict())

    def five_steps():
        network.load_state_dict(weights)
        optimizer.load_state_dict(fresh)
        return [float(optimizer.step(closure_of(network, optimizer, x)).detach()) for _ in range(5)]

    assert five_steps() == five_steps()


def test_a_network_keeps_no_trace_and_a_copy_goes_on_alone(rng):
    x = torch.tensor(rng.normal(size=(30, 6)))
    network = network_of(Multilayer(hidden=(5,)))
    optimizer = KFAC().build(network, Squared())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    optimizer.step(closure_of(network, optimizer, x))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    twin, its = copy.deepcopy((network, optimizer))
    assert its.network is twin
    values = [
        float(o.step(closure_of(n, o, x)).detach())
        for n, o in ((network, optimizer), (twin, its), (network, optimizer), (twin, its))
    ]
    assert values[:2] == [values[0]] * 2
    assert values[2:] == [values[2]] * 2
    assert values[2] < values[0]


def test_hooks_go_even_when_the_closure_fails():
    network = network_of(Vanilla())
    optimizer = KFAC().build(network, Squared())

    def closure():
        network(torch.zeros(3, 6, dtype=torch.float64))
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        optimizer.step(closure)
    assert not network._forward_hooks
    assert not network._forward_pre_hooks


def test_a_loss_that_is_not_finite_moves_nothing():
    network = network_of(Vanilla())
    optimizer = KFAC().build(network, Squared())
    before = copy.deepcopy(network.state_dict())
    x = torch.full((3, 6), 1e300, dtype=torch.float64)
    optimizer.step(closure_of(network, optimizer, x))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("precision", ["bf16", "float32", "float64"])
def test_a_fit_in_every_precision_falls_and_goes_on(digits, precision):
    X = digits[:300].reshape(300, 64) / 255
    kind = Multilayer(hidden=(16,), dropout=0.1)
    ae = Autoencoder(
        3, kind=kind, optimizer=KFAC(), precision=precision, corruption="masking", max_epochs=12,
        pretraining="random", validation_fraction=0, random_state=0,
    ).fit(X)  # fmt: skip
    losses = [sum(record["train"].values()) for record in ae.history_ if "train" in record]
    assert losses[-1] < 0.9 * losses[0]
    ae.partial_fit(X)
    assert np.isfinite(ae.transform(X)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 1.5}, "lr=1.5 must be above 0 and at most 1"),
        ({"clip_norm": 1.0}, "clip_norm=1.0 would give the quadratic model"),
        ({"damping": 0.0}, "damping=0.0 must be positive"),
        ({"factor_decay": 1.0}, "factor_decay=1.0 must be at least 0 and below 1"),
        ({"inverse_interval": 0}, "inverse_interval=0 must be at least 1"),
        ({"adamw_lr": 0.0}, "adamw_lr=0.0 must be positive"),
    ],
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(RequestError, match=f"KFAC: {message}"):
        KFAC(**settings).build(nn.Linear(2, 2), Squared())


def test_it_asks_for_the_loss():
    with pytest.raises(RequestError, match=r"KFAC: build\(network, loss\) needs the loss"):
        KFAC().build(nn.Linear(2, 2))
