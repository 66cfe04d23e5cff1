"""Every optimizer and every schedule: a fit that was stopped goes on to the very same end."""

import pytest

from isthmus import optim
from isthmus.optim import OPTIMIZERS, SCHEDULES
from isthmus.training import checkpoint
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.trainer import Trainer

STEPS = 9
"""In the second epoch of a fit of six or seven steps an epoch."""

CLOCK = {"seconds", "training_seconds"}


def outcome(ae):
    weights = {k: v.numpy().tobytes() for k, v in ae.network_.state_dict().items()}
    history = [{k: v for k, v in r.items() if k not in CLOCK} for r in ae.history_]
    return weights, history


def add(sums, terms):
    """Add terms that are summed over rows already."""
    for name, term in terms.items():
        sums[name] = sums.get(name, 0.0) + term


@pytest.fixture
def stopped(fit, tmp_path, monkeypatch, apart):
    """stopped(part, ...) is the fit with that optimizer, stopped in the middle and gone on with."""
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    real, many, taken = Trainer._take_step, AdamLoop.__call__, []

    def interrupted(self, rows, seed):
        taken.append(seed)
        if len(taken) == STEPS:
            raise KeyboardInterrupt
        return real(self, rows, seed)

    def one_by_one(self, steps):
        sums = {}
        for step in apart(steps):
            taken.append(step)
            if len(taken) == STEPS:
                raise KeyboardInterrupt
            add(sums, many(self, step))
        return sums

    def run(part, change=None, **settings):
        settings |= {"checkpoint": tmp_path}
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_take_step", interrupted)
            patch.setattr(AdamLoop, "__call__", one_by_one)
            with pytest.raises(KeyboardInterrupt):
                fit("optimizer", part, **settings)
        with monkeypatch.context() as patch:
            if change is not None:
                change(patch)
            return outcome(fit("optimizer", part, resume=True, **settings))

    return run


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_to_the_same_weights(fit, tiny, stopped, name):
    part = tiny["optimizer"][name]
    assert stopped(part) == outcome(fit("optimizer", part))


def without_state(patch):
    """The planted fault: what the optimizer remembers is lost on the way."""
    real = checkpoint.Checkpointer.load

    def load(self, network, optimizer):
        fresh = optimizer.state_dict()
        state = real(self, network, optimizer)
        optimizer.load_state_dict(fresh)
        return state

    patch.setattr(checkpoint.Checkpointer, "load", load)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_remembers_matters(fit, tiny, stopped, name):
    part = tiny["optimizer"][name]
    assert stopped(part, without_state)[0] != outcome(fit("optimizer", part))[0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_goes_on_where_it_was(fit, stopped, name):
    part = optim.AdamW(lr=0.01, schedule=name)
    assert stopped(part, max_epochs=8) == outcome(fit("optimizer", part, max_epochs=8))


@pytest.mark.parametrize("name", SCHEDULES)
def test_early_stopping_keeps_the_best_epoch_of_every_schedule(fit, images, name):
    part = optim.AdamW(lr=0.3, schedule=name, warmup=0.2)
    ae = fit("optimizer", part, max_epochs=60, early_stopping=4, transform_max_iter=0)
    judged = {
        r["epoch"]: r["validation"]["reconstruction"] for r in ae.history_ if "validation" in r
    }
    assert ae.best_epoch_ == min(judged, key=judged.get)
    assert max(judged) == min(ae.best_epoch_ + 4, 60)
    again = ae.evaluate(images[ae.validation_rows_]).total / ae.preparation_.unit**2
    assert again == pytest.approx(judged[ae.best_epoch_], rel=1e-5)
