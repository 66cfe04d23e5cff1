"""Machines layer by layer: as good as scikit-learn's, unrolled as they were learned."""

import numpy as np
import pytest
import torch
from sklearn.neural_network import BernoulliRBM

from isthmus import kinds, losses
from isthmus.errors import DivergenceError, RequestError
from isthmus.pretraining import RBM, BoltzmannMachine
from isthmus.pretraining.greedy import LayerPairs

SHORT = {"epochs": 3, "batch_size": 20}
FAR = {"epochs": 12, "batch_size": 10, "lr": 0.1, "lr_linear": 0.01}


def machines(network, *, linear_rows):
    """The machines that the layers of an unrolled network stand for."""
    depth = network.encoder.depth
    found = []
    for i in range(depth):
        up, down = network.encoder.layers[i], network.decoder.layers[depth - 1 - i]
        found.append(
            BoltzmannMachine(
                up.weight.detach(),
                down.bias.detach(),
                up.bias.detach(),
                linear_visible=linear_rows and i == 0,
                linear_hidden=i == depth - 1,
            )
        )
    return found


def pseudo_likelihood(machine, bits):
    """The mean over the bits of log p(bit | all others), for every row in full."""
    v = torch.as_tensor(bits)
    whole, sums = machine.free_energy(v), torch.zeros(len(v), dtype=v.dtype)
    for i in range(v.shape[1]):
        flipped = v.clone()
        flipped[:, i] = 1 - flipped[:, i]
        sums += torch.nn.functional.logsigmoid(machine.free_energy(flipped) - whole)
    return float(sums.mean())


@pytest.mark.parametrize("persistent", [False, True])
def test_as_good_as_scikit_learn(bits, job, persistent):
    # scikit-learn's is persistent contrastive divergence at a constant rate, without momentum.
    rate = {"lr": 0.1, "momentum": 0.0, "weight_cost": 0.0}
    spec = RBM(epochs=15, batch_size=50, persistent=persistent, **rate)
    kind = kinds.Multilayer(hidden=(32,), activation="sigmoid")
    work = job(bits, kind, loss=losses.Bernoulli())
    spec.run(work)
    ours = machines(work.network, linear_rows=False)[0]
    theirs = BernoulliRBM(32, learning_rate=0.1, batch_size=50, n_iter=15, random_state=0)
    theirs.fit(bits)
    twin = BoltzmannMachine(
        *map(
            torch.as_tensor,
            (theirs.components_, theirs.intercept_visible_, theirs.intercept_hidden_),
        )
    )
    v = torch.as_tensor(bits)
    errors = [
        float((machine.visible(machine.hidden(v)) - v).square().mean()) for machine in (ours, twin)
    ]
    likely = [pseudo_likelihood(machine, bits) for machine in (ours, twin)]
    start = float((v - v.mean(0)).square().mean())
    assert errors[0] < 1.05 * errors[1] < 0.8 * start
    assert likely[0] > 1.02 * likely[1]  # both below zero: no more than 2 % worse


def test_the_recipe_of_2006_gets_far_in_a_few_epochs(bits, job):
    # 15 epochs at a constant rate, without momentum, end at a pseudo-likelihood of about -19.
    work = job(bits, kinds.Multilayer(hidden=(32,), activation="sigmoid"), loss=losses.Bernoulli())
    records = RBM(epochs=10, batch_size=50).run(work)
    assert records[10]["error"] < 0.05 < 0.12 < records[0]["error"]
    assert pseudo_likelihood(machines(work.network, linear_rows=False)[0], bits) > -16


@pytest.mark.parametrize("bernoulli", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_the_unrolled_network_is_the_machines_up_and_down(bits, job, bernoulli, tied, skip):
    X = bits[:200] if bernoulli else 3 * (bits[:200] - bits[:200].mean())
    kind = kinds.Multilayer(hidden=(20, 10), activation="sigmoid", tied=tied, skip=skip)
    work = job(X, kind, loss=losses.Bernoulli() if bernoulli else losses.Squared())
    RBM(**FAR).run(work)
    x = torch.as_tensor(X)
    up = machines(untied(work.network), linear_rows=not bernoulli)
    code = x
    for machine in up:
        code = machine.hidden(code)
    back = code
    for machine in reversed(up):
        back = machine.visible(back)
    with torch.no_grad():
        torch.testing.assert_close(work.network.encode(x), code)
        torch.testing.assert_close(work.loss.mean(work.network(x).reconstruction), back)
    assert code.std(dim=0).min() > 0.01


def untied(network):
    """A look at the network whose decoder's layers all have weights to read."""
    for up, down in zip(network.encoder.layers, reversed(network.decoder.layers), strict=True):
        if hasattr(down, "weight"):
            assert torch.equal(down.weight, up.weight.t())
    return network


def test_a_sigmoid_code_is_learned_as_logistic_units(bits, job):
    kind = kinds.Regularized(
        hidden=(16,), activation="sigmoid", sparsity=0.1, target_rate=0.2, skip=False
    )
    work = job(bits[:200], kind)
    records = RBM(**SHORT).run(work)
    assert [r["units"] for r in records if r["epoch"] == 0] == [
        "RBM of linear to logistic units",
        "RBM of logistic units",
    ]


def test_records_and_lines_tell_each_layer_and_epoch(bits, job):
    lines = []
    work = job(bits[:400], validation=bits[400:500], report=lines.append, loss=losses.Bernoulli())
    records = RBM(**SHORT).run(work)
    assert [(r["layer"], r["epoch"]) for r in records] == [
        (layer, epoch) for layer in (1, 2, 3) for epoch in range(4)
    ]
    assert [(r["below"], r["above"]) for r in records[::4]] == [(64, 20), (20, 10), (10, 3)]
    assert all(np.isfinite(r[name]) for r in records for name in ("error", "validation_error"))
    assert records[3]["error"] < records[0]["error"]
    seconds = [r["seconds"] for r in records]
    assert seconds == sorted(seconds)
    assert lines[1].startswith("layer 2 of 3, 20 to 10, RBM of logistic units: error ")
    assert "difference in free energy" in lines[1]
    assert lines[2].startswith("layer 3 of 3, 10 to 3, RBM of logistic to linear units: ")


def test_the_gap_is_held_out_minus_training_free_energy(bits, job):
    # As many training rows as there are held-out ones, evenly spaced, each with its weight.
    work = job(bits[:101], validation=bits[500:506], weight=np.arange(1, 102))
    records = RBM(**SHORT).run(work)
    first = machines(work.network, linear_rows=True)[0]
    chosen = [0, 20, 40, 60, 80, 100]
    energies = first.free_energy(torch.as_tensor(bits[:101][chosen])).numpy()
    known = np.average(energies, weights=1.0 + np.array(chosen))
    unseen = float(first.free_energy(torch.as_tensor(bits[500:506])).mean())
    assert records[3]["free_energy_gap"] == pytest.approx(unseen - known, rel=1e-9)


def test_without_held_out_rows_there_is_no_gap(bits, job):
    assert all("free_energy_gap" not in r for r in RBM(**SHORT).run(job(bits[:100])))


def test_a_rate_that_is_too_high_is_named(rng, job):
    X = 30 * rng.normal(size=(200, 10))
    with pytest.raises(DivergenceError, match=r"layer 1 of 3, 10 to 20, .* lower lr_linear"):
        RBM(epochs=5, lr_linear=10.0).run(job(X))


def test_rows_that_are_all_the_same_are_no_reason_to_stop(job):
    for loss in (losses.Bernoulli(), losses.Squared()):
        work = job(np.tile([0.0, 1.0, 0.5], (150, 2)), loss=loss, size=2)
        records = RBM(epochs=8, lr=0.5).run(work)
        assert records[-1]["error"] < 0.1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (kinds.Vanilla(), "no hidden layers"),
        (kinds.Multilayer(hidden=()), "no hidden layers"),
        (kinds.Regularized(hidden=(), activation="sigmoid"), "no hidden layers"),
        (kinds.Multilayer(hidden=(8,)), r"use kind=kinds.Multilayer\(activation='sigmoid'\)"),
        (kinds.Convolutional(channels=(3,), activation="sigmoid"), "needs dense layers"),
        (
            kinds.Multilayer(hidden=(8,), activation="sigmoid", output="bounded"),
            "use output='auto'",
        ),
    ],
    ids=str,
)
def test_networks_that_are_no_machines_are_refused(bits, job, kind, words):
    with pytest.raises(RequestError, match=words) as caught:
        RBM().run(job(bits[:50], kind))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"k": 0}, "k=0 must be at least 1"),
        ({"lr": 0.0}, "lr=0.0 must be positive"),
        ({"lr_linear": -1.0}, "lr_linear=-1.0 must be positive"),
        ({"momentum": 1.0}, "momentum=1.0 must be at least 0 and below 1"),
        ({"weight_cost": -0.1}, "weight_cost=-0.1 must not be negative"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(RequestError, match=words):
        RBM(**settings).check()


def test_levels_see_the_probabilities_below(bits, job):
    work = job(bits[:10], kinds.Multilayer(hidden=(20, 10), activation="sigmoid", dropout=0.5))
    ladder, x = LayerPairs(work, "rbm"), torch.as_tensor(bits[:10])
    work.network.eval()
    layers = work.network.encoder.layers
    assert torch.equal(ladder.inputs(0, x), x)
    expected = torch.sigmoid(layers[1](torch.sigmoid(layers[0](x)))).detach()
    assert torch.equal(ladder.inputs(2, x), expected)
