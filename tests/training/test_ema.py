"""The average of the weights: its formula, and that it is evaluated and becomes the result."""

import numpy as np
import pytest
import torch
from torch import nn

from isthmus import Autoencoder, kinds, optim
from isthmus.training.ema import averaged_weights, update_average

X = np.random.default_rng(0).normal(size=(100, 6)) @ np.random.default_rng(1).normal(size=(6, 6))


def test_the_average_follows_the_formula():
    layer, average, expected = nn.Linear(2, 1, bias=False), {}, None
    for step in range(60):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[float(step), float(step**2)]]))
        average = update_average(average, layer, 0.7, step)
        now = np.array([[step, step**2]], float)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = now if expected is None else decay * expected + (1 - decay) * now
        np.testing.assert_allclose(average["weight"].numpy(), expected, rtol=1e-5)


def test_the_weights_are_restored():
    layer = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    mean = {name: torch.zeros_like(value) for name, value in before.items()}
    with averaged_weights(layer, mean):
        assert not layer.weight.any()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_the_average_is_evaluated_and_becomes_the_result(monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def recorded(self, closure=None):
        loss = step(self, closure)
        seen.append([p.detach().clone() for group in self.param_groups for p in group["params"]])
        return loss

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    model = Autoencoder(
        2,
        kind=kinds.Multilayer(hidden=(8,), skip=False),
        optimizer=optim.AdamW(ema_decay=0.9),
        max_epochs=6,
        batch_size=16,
        early_stopping=False,
        transform_max_iter=0,
        random_state=0,
    ).fit(X)
    steps = len(seen) // 6 * model.best_epoch_
    mean = seen[0]
    for n in range(1, steps):
        decay = min(0.9, (1 + n) / (10 + n))
        mean = [decay * m + (1 - decay) * w for m, w in zip(mean, seen[n], strict=True)]
    parameters = list(model.network_.parameters())
    stored = [p for p in parameters if p.ndim > 1] + [p for p in parameters if p.ndim <= 1]
    assert model.best_epoch_ > 0
    for ours, theirs in zip(stored, mean, strict=True):
        torch.testing.assert_close(ours.detach(), theirs)
    loss = model.history_[model.best_epoch_]["validation"]["reconstruction"]
    again = model.evaluate(X[model.validation_rows_]).total / model.preparation_.unit**2
    assert loss == pytest.approx(again, rel=1e-5)


def test_a_plateau_halves_the_rate():
    model = Autoencoder(
        2,
        optimizer=optim.AdamW(schedule="plateau", warmup=0.0, lr=1e-3),
        max_epochs=60,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    epochs = [r for r in model.history_ if "validation" in r]
    best, waited, scale = np.inf, 0, 1.0
    for record in epochs:
        if "lr" in record:
            assert record["lr"] == pytest.approx(1e-3 * scale)
        loss = sum(record["validation"].values())
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited and waited % 3 == 0:
            scale /= 2
    assert scale < 1
