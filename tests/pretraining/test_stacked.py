"""Autoencoders layer by layer, on dense and convolutional networks."""

import dataclasses

import numpy as np
import pytest
import torch

from isthmus import kinds, losses
from isthmus.errors import DivergenceError, RequestError
from isthmus.pretraining import AutoencoderStack
from isthmus.pretraining.greedy import LayerPairs
from isthmus.pretraining.stacked import AutoencoderTrainer


@pytest.fixture
def images(digits):
    """(300, 1, 8, 8), as convolutions take them, of about unit variance."""
    return (digits[:300, None] - 5.0) / 6.0


def falls(records):
    """The last error of each layer as a share of its first."""
    layers = {record["layer"] for record in records}
    told = [[r["error"] for r in records if r["layer"] == layer] for layer in sorted(layers)]
    return [errors[-1] / errors[0] for errors in told]


KINDS = [
    kinds.Multilayer(hidden=(30, 20, 10), activation="sigmoid"),
    kinds.Multilayer(hidden=(30, 20), tied=True, dropout=0.3),
    kinds.Multilayer(hidden=(30, 20), skip=False, tied=True),
    kinds.Multilayer(hidden=(30,), output="bounded"),
    kinds.Regularized(hidden=(30, 20), code_activation="tanh"),
    kinds.Convolutional(channels=(4, 8)),
    kinds.Convolutional(channels=(4, 8), skip=False, activation="sigmoid"),
]


@pytest.mark.parametrize("masking_rate", [0.0, 0.25])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_each_level_learns_to_rebuild_what_lies_below(images, job, kind, masking_rate):
    lines = []
    work = job(images, kind, size=4, report=lines.append, validation=images[:50])
    records = AutoencoderStack(epochs=8, masking_rate=masking_rate, batch_size=20).run(work)
    assert len(lines) == work.network.encoder.depth
    assert max(falls(records)) < 0.95
    assert lines[0].startswith(f"layer 1 of {len(lines)}, 64 to ")
    assert all("free_energy_gap" not in r and r["validation_error"] > 0 for r in records)
    assert all(p.grad is None and p.isfinite().all() for p in work.network.parameters())


def test_it_ends_before_the_step_at_which_it_is_told_to(images, job, monkeypatch):
    steps, step = [], AutoencoderTrainer.step

    def counted(self, *batch):
        steps.append(1)
        step(self, *batch)

    def check_cancelled():
        if len(steps) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(AutoencoderTrainer, "step", counted)
    work = dataclasses.replace(job(images, size=4), check_cancelled=check_cancelled)
    with pytest.raises(KeyboardInterrupt):
        AutoencoderStack(epochs=8, batch_size=20).run(work)
    assert len(steps) == 4


def test_the_first_level_is_learned_by_the_loss_of_the_fit(bits, job):
    work = job(bits[:300], kinds.Multilayer(hidden=(30,)), loss=losses.Bernoulli())
    records = AutoencoderStack(epochs=5, batch_size=20).run(work)
    assert records[0]["error"] == pytest.approx(np.log(2), abs=0.05)  # nats a bit, knowing nothing
    assert records[5]["error"] < 0.35


@pytest.mark.parametrize("kind", KINDS[-3:], ids=str)
def test_levels_up_and_down_are_the_network(images, job, kind):
    work = job(images, kind, size=4)
    work.network.reset_nonlinear()
    work.network.eval()
    ladder, x = LayerPairs(work, "autoencoder"), torch.as_tensor(images)
    code = ladder.up(ladder.depth - 1, ladder.inputs(ladder.depth - 1, x))
    back = code
    for level in reversed(range(ladder.depth)):
        back = ladder.down(level, back)
    output = work.network(x)
    torch.testing.assert_close(code, output.code)
    torch.testing.assert_close(back.reshape(x.shape), output.reconstruction)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_reach_every_weight_from_there(images, job, kind):
    work = job(images, kind, size=4)
    AutoencoderStack(epochs=1).run(work)
    output = work.network(work.train.x)
    work.loss.per_row(output.reconstruction, work.train.x).mean().backward()
    still = [n for n, p in work.network.named_parameters() if not p.grad.abs().max() > 0]
    assert still == []


def test_rows_without_weight_do_not_matter(images, job):
    weight = np.ones(len(images))
    weight[::3] = 0
    other = images.copy()
    other[::3] = 7.0
    found = []
    for X in (images, other):
        work = job(X, kinds.Multilayer(hidden=(20,)), weight=weight)
        AutoencoderStack(epochs=2).run(work)
        found.append(work.network.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_rate_that_is_too_high_is_named(images, job):
    with pytest.raises(DivergenceError, match=r"layer 1 of 2, 64 to 20, .* lower lr"):
        AutoencoderStack(lr=100.0).run(job(images, kinds.Multilayer(hidden=(20,))))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"masking_rate": 1.0}, "masking_rate=1.0 must be at least 0 and below 1"),
        ({"masking_rate": -0.1}, "masking_rate=-0.1 must be at least 0 and below 1"),
        ({"lr": 0.0}, "lr=0.0 must be positive"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(RequestError, match=words):
        AutoencoderStack(**settings).check()


@pytest.mark.parametrize("kind", [kinds.Vanilla(), kinds.Multilayer(hidden=())], ids=str)
def test_networks_without_hidden_layers_are_refused(images, job, kind):
    with pytest.raises(RequestError, match="no hidden layers; use pretraining='pca'"):
        AutoencoderStack().run(job(images, kind))
