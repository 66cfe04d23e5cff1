"""Layer-sequential unit variance: what every layer makes of the rows, and where rows would fade."""

import pytest
import torch

from isthmus import Autoencoder, kinds, pretraining
from isthmus.errors import RequestError
from isthmus.kinds import ACTIVATIONS

DEEP = (24, 20, 16, 12, 8)


def made(network, x):
    """What each layer makes of the rows, before the activation, (units or channels, values)."""
    found = []
    stacks = (network.encoder, network.decoder)
    layers = [stack.affine(i) for stack in stacks for i in range(stack.depth)]
    hooks = [
        layer.register_forward_hook(
            lambda *call: found.append(call[2].detach().transpose(0, 1).flatten(1))
        )
        for layer in layers
    ]
    network.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


def start(job, kind, rows):
    waiting = job(rows, kind)
    pretraining.LSUV().run(waiting)
    return waiting.network, waiting.train.x


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_every_layer_has_unit_variance_and_every_unit_mean_zero(job, act, digits):
    kind = kinds.Multilayer(hidden=DEEP, activation=act, skip=False)
    network, x = start(job, kind, digits[:300].reshape(300, -1) / 16.0)
    layers = made(network, x)
    assert len(layers) == 2 * (len(DEEP) + 1)
    for values in layers:
        torch.testing.assert_close(
            values.mean(dim=1), torch.zeros_like(values[:, 0]), atol=1e-4, rtol=0
        )
        assert float(values.square().mean()) == pytest.approx(1, rel=1e-4)


def test_torchs_own_start_lets_the_rows_fade(job, digits):
    rows = digits[:300].reshape(300, -1) / 16.0
    waiting = job(rows, kinds.Multilayer(hidden=DEEP, activation="sigmoid", skip=False))
    faded = made(waiting.network, waiting.train.x)[-1]
    assert float(faded.var(dim=1).mean()) < 1e-6


@pytest.mark.parametrize("skip", [True, False])
def test_filters_too(job, digits, skip):
    kind = kinds.Convolutional(channels=(4, 6), skip=skip)
    network, x = start(job, kind, digits[:200, None] / 16.0)
    for values in made(network, x):
        assert float(values.mean(dim=1).abs().max()) < 1e-4
        assert float(values.square().mean()) == pytest.approx(1, rel=1e-4)
    assert network.linear is None or not network.linear.encode_weight.any()


def test_tied_weights_stay_tied(job, digits):
    kind = kinds.Multilayer(hidden=(16,), tied=True, skip=False)
    network, x = start(job, kind, digits[:200].reshape(200, -1) / 16.0)
    encoder, decoder = network.encoder.affine(0), network.decoder.affine(1)
    assert decoder.source[0] is encoder
    assert all(float(v.mean(dim=1).abs().max()) < 1e-4 for v in made(network, x))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_deep_logistic_network_learns_from_there_and_not_from_torchs_start(digits):
    rows = digits.reshape(len(digits), -1) / 16.0
    kept = {
        way: Autoencoder(
            6,
            kind=kinds.Multilayer(hidden=(48, 32, 24, 16), activation="sigmoid", skip=False),
            pretraining=way,
            max_epochs=30,
            random_state=0,
        )
        .fit(rows)
        .explained_variance(rows)
        for way in ("random", "lsuv")
    }
    assert kept["random"] < 0.05
    assert kept["lsuv"] > 0.3


def test_rows_that_are_all_the_same_leave_the_weights_finite(job):
    kind = kinds.Multilayer(hidden=(8,), skip=False)
    network, _ = start(job, kind, torch.full((20, 5), 3.0).numpy())
    assert all(parameter.isfinite().all() for parameter in network.parameters())


def test_a_network_without_hidden_layers_is_refused(job, digits):
    with pytest.raises(RequestError, match="pretraining='lsuv' goes layer by layer"):
        start(job, kinds.Vanilla(), digits[:50].reshape(50, -1) / 16.0)
