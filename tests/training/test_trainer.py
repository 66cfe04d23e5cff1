"""The trainer keeps the best weights, stops early, handles divergence, and reports progress."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from isthmus import Autoencoder, kinds, optim
from isthmus.errors import DivergenceError
from isthmus.training.engines.dense.step import ManualStep
from isthmus.training.reporters import LineReporter, ProgressBar, SilentReporter, describe

RNG = np.random.default_rng(0)
ANGLES = RNG.uniform(0, 2, size=(200, 2))
# A curved surface in ten dimensions: far from flat, so that training gains a lot over PCA.
X = np.concatenate(
    [np.sin(ANGLES @ RNG.normal(size=(2, 5))), np.cos(2 * ANGLES @ RNG.normal(size=(2, 5)))], 1
)
TRAIN, TEST = X[:150], X[150:]


def make(**settings):
    settings = {
        "kind": kinds.Multilayer(hidden=(16,)),
        "max_epochs": 30,
        "random_state": 0,
    } | settings
    return Autoencoder(2, **settings)


def validation(model):
    return [sum(r["validation"].values()) for r in model.history_ if "validation" in r]


def test_the_best_weights_are_the_ones_kept():
    model = make(max_epochs=60).fit(X)
    losses = validation(model)
    assert model.best_epoch_ == int(np.argmin(losses)) > 0
    again = model.evaluate(X[model.validation_rows_]).total / model.preparation_.unit**2
    assert again == pytest.approx(min(losses), rel=1e-9)


def test_training_stops_when_the_validation_loss_no_longer_falls():
    model = make(
        max_epochs=400, early_stopping=5, optimizer=optim.AdamW(schedule="constant", lr=0.02)
    ).fit(X)
    assert model.facts_["epochs"] == model.best_epoch_ + 5 < 400
    assert model.facts_["stopped"] == "no better loss for 5 epochs"


def test_without_early_stopping_all_epochs_run():
    model = make(early_stopping=False).fit(X)
    assert model.facts_["epochs"] == 30
    assert [r["epoch"] for r in model.history_] == list(range(31))


def test_given_validation_rows_are_used_instead_of_a_share():
    model = make().fit(TRAIN, validation=TEST)
    assert len(model.train_rows_) == 150
    assert len(model.validation_rows_) == 0
    again = model.evaluate(TEST).total / model.preparation_.unit**2
    assert again == pytest.approx(min(validation(model)), rel=1e-9)


def test_the_history_names_every_term():
    model = make(penalties=("l1", "contraction"), max_epochs=2).fit(X)
    for record in model.history_:
        assert (
            list(record["train"])
            == list(record["validation"])
            == ["reconstruction", "l1", "contraction"]
        )
    assert all(value > 0 for value in model.history_[-1]["train"].values())


def test_the_rate_warms_up_and_decays():
    spec = optim.AdamW(lr=0.01, warmup=0.2)
    rates = [r["lr"] for r in make(optimizer=spec, early_stopping=False).fit(X).history_[1:]]
    top = int(np.argmax(rates))
    assert 0.009 < rates[top] <= 0.01
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)
    assert rates[-1] < 1e-3


def test_callbacks_see_every_epoch_and_may_stop():
    seen = []
    model = make(callbacks=(lambda r: seen.append(r["epoch"]), lambda r: r["epoch"] == 4)).fit(X)
    assert seen == [1, 2, 3, 4]
    assert model.facts_["stopped"] == "a callback returned True"


def spoil(monkeypatch, when):
    calls = iter(range(10**9))
    real = ManualStep.forward_backward

    def step(self, x, weight):
        terms = real(self, x, weight)
        return {k: v * float("nan") for k, v in terms.items()} if when(next(calls)) else terms

    monkeypatch.setattr(ManualStep, "forward_backward", step)


def test_a_nan_restores_the_best_weights_at_a_lower_rate(monkeypatch):
    spoil(monkeypatch, lambda call: call == 30)
    with pytest.warns(ConvergenceWarning, match="restored the weights of epoch"):
        model = make().fit(X)
    events = [r for r in model.history_ if r.get("event") == "diverged"]
    assert len(events) == 1
    epochs = [r for r in model.history_ if "lr" in r]
    after = next(r for r in epochs if r["epoch"] == events[0]["epoch"])
    before = next(r for r in epochs if r["epoch"] == events[0]["epoch"] - 1)
    assert after["lr"] < 0.3 * before["lr"]
    assert np.isfinite(model.transform(X)).all()


def test_a_fit_that_cannot_be_restored_is_an_error(monkeypatch):
    spoil(monkeypatch, lambda call: True)
    model = make()
    with pytest.warns(ConvergenceWarning), pytest.raises(DivergenceError, match="diverged 6 times"):
        model.fit(X)
    assert not hasattr(model, "network_")


def test_an_absurd_rate_is_lowered():
    wild = optim.SGD(lr=300.0, clip_norm=None, warmup=0.0)
    with pytest.warns(ConvergenceWarning):
        model = make(optimizer=wild, pretraining="random").fit(X)
    assert model.explained_variance(X) > 0


def test_gradients_are_clipped_to_the_norm():
    spec = optim.SGD(lr=1.0, momentum=0.0, clip_norm=1e-3, warmup=0.0, schedule="constant")
    settings = {"optimizer": spec, "max_epochs": 1, "batch_size": 1000, "pretraining": "random"}
    start = make(**settings | {"max_epochs": 0}).fit(X).network_.state_dict()
    moved = make(**settings).fit(X)
    if moved.best_epoch_ == 0:
        pytest.fail("the clipped step did not lower the loss")
    after = moved.network_.state_dict()
    distance = np.sqrt(sum(float((after[k] - start[k]).square().sum()) for k in start))
    assert distance == pytest.approx(1e-3, rel=1e-5)


def test_there_is_one_line_per_epoch(capsys):
    make(verbose=1, max_epochs=3).fit(X)
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split()[:2] for line in said.err.splitlines()][:3] == [
        ["epoch", str(n)] for n in (1, 2, 3)
    ]


def test_silence_is_the_default(capsys):
    make(max_epochs=3).fit(X)
    assert capsys.readouterr() == ("", "")


def test_the_bar_appears_only_after_a_while(capsys, monkeypatch):
    monkeypatch.setattr("isthmus.training.reporters.BAR_AFTER_S", 0.0)
    bar = ProgressBar()
    bar.start(rows=10, epochs=2, first_epoch=0)
    bar.advance(5)
    assert bar.bar is not None
    bar.epoch(
        {"epoch": 1, "train": {"reconstruction": 0.5}, "validation": {"reconstruction": 0.25}}
    )
    bar.message("something happened")
    bar.finish()
    assert bar.bar is None
    said = capsys.readouterr()
    assert said.out == ""
    assert "something happened" in said.err


def test_the_line_of_a_record():
    record = {
        "epoch": 3,
        "train": {"reconstruction": 0.5, "l1": 0.25},
        "validation": {"reconstruction": 1.0},
    }
    assert describe(record) == "epoch 3  train 0.75  validation 1"
    assert isinstance(LineReporter(), SilentReporter)


SLOW = optim.AdamW(lr=1e-12, warmup=0.0, schedule="constant")
"""Weights that do not move cannot diverge."""


def test_a_row_that_outweighs_its_batch_is_not_divergence():
    rows = np.random.default_rng(3).normal(size=(1500, 10))
    rows[7] *= 1e4
    settings = {"pretraining": "random", "optimizer": SLOW, "max_epochs": 3}
    model = make(kind=kinds.Multilayer(skip=False), **settings)
    assert [r for r in model.fit(rows).history_ if r.get("event") == "diverged"] == []


def test_dropout_is_not_divergence():
    rows = np.tanh(np.random.default_rng(3).normal(size=(300, 20)))
    kind = kinds.Multilayer(hidden=(64, 32, 16), skip=False, dropout=0.5)
    model = make(kind=kind, pretraining="lsuv", optimizer=SLOW).fit(rows)
    assert [r for r in model.history_ if r.get("event") == "diverged"] == []


def test_a_full_batch_is_all_rows_of_every_call(monkeypatch):
    model = make(batch_size="full", max_epochs=1).fit(X[:20])
    steps, real = [], ManualStep.forward_backward
    monkeypatch.setattr(
        ManualStep,
        "forward_backward",
        lambda step, x, weight: steps.append(len(x)) or real(step, x, weight),
    )
    model.partial_fit(X)
    assert steps == [len(X)]
