"""A checkpoint holds the whole state of a fit: each part is needed and none is ignored."""

import dataclasses
import itertools
import json
import pkgutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.exceptions import ConvergenceWarning

from isthmus import Autoencoder, corruptions, kinds, losses, optim
from isthmus.errors import ArtifactError, DivergenceError
from isthmus.training import checkpoint
from isthmus.training.engines.dense.step import ManualStep
from isthmus.training.state import TENSOR_FIELDS, State

X = np.random.default_rng(0).normal(size=(120, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
STOP_AT_STEP = 61
DIVERGE_AT_STEP = 25
NOT_RESULTS = {"seconds", "training_seconds"}
"""What may differ between two runs of the same fit: the clock."""


def make(folder, **settings):
    settings = {
        "kind": kinds.Multilayer(hidden=(12,), dropout=0.2),
        "corruption": corruptions.Masking(rate=0.1),
        "loss": "huber",  # which is not held against PCA: the best epoch stays the best
        "optimizer": optim.AdamW(ema_decay=0.8),
        "max_epochs": 14,
        "batch_size": 16,
        "early_stopping": 6,
        "random_state": 3,
    } | settings
    return Autoencoder(2, checkpoint=folder, **settings)


class Trouble:
    """Makes one step's loss NaN, and presses Ctrl-C at another."""

    def __init__(self, monkeypatch, *, stop):
        self.calls = 0
        real = ManualStep.forward_backward

        def step(inner, x, weight):
            self.calls += 1
            if stop and self.calls == STOP_AT_STEP:
                raise KeyboardInterrupt
            terms = real(inner, x, weight)
            spoil = self.calls == DIVERGE_AT_STEP
            return {k: v * float("nan") if spoil else v for k, v in terms.items()}

        monkeypatch.setattr(ManualStep, "forward_backward", step)


def outcome(model):
    """Weights, history and the like of a fit, as one comparable value."""
    weights = {k: v.numpy().tobytes() for k, v in model.network_.state_dict().items()}
    history = [{k: v for k, v in r.items() if k not in NOT_RESULTS} for r in model.history_]
    facts = {k: v for k, v in model.facts_.items() if k not in NOT_RESULTS}
    return weights, history, facts, model.best_epoch_


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """(outcome of a fit never stopped, the checkpoint of the same fit stopped in mid-epoch)."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        Trouble(patch, stop=False)
        with pytest.warns(ConvergenceWarning):
            whole = outcome(make(None).fit(X))
    with pytest.MonkeyPatch.context() as patch:
        Trouble(patch, stop=True)
        with pytest.warns(ConvergenceWarning), pytest.raises(KeyboardInterrupt):
            make(folder).fit(X)
    with safe_open(folder / checkpoint.NAME, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    return whole, tensors, metadata


def resumed(folder, tensors, metadata):
    save_file(tensors, folder / checkpoint.NAME, metadata)
    return outcome(make(folder).fit(X, resume=True))


def test_resumed_equals_never_stopped(stopped, tmp_path):
    whole, tensors, metadata = stopped
    assert resumed(tmp_path, tensors, metadata) == whole


def test_the_checkpoint_is_from_the_middle_of_an_epoch(stopped):
    state = json.loads(stopped[2]["state"])
    default = State(seed=0)
    same = [
        field.name
        for field in dataclasses.fields(State)
        if field.name not in TENSOR_FIELDS and state[field.name] == getattr(default, field.name)
    ]
    # Only a fit that has ended has a reason for it.
    assert same == ["stopped"]


GUARDS = ("ceiling", "restores")
LEFT_OUT = (*TENSOR_FIELDS, *GUARDS, *NOT_RESULTS)
FIELDS = [field.name for field in dataclasses.fields(State) if field.name not in LEFT_OUT]


def with_state(metadata, **changes):
    return metadata | {"state": json.dumps(json.loads(metadata["state"]) | changes)}


@pytest.mark.parametrize("name", FIELDS)
def test_every_part_of_the_state_matters(stopped, tmp_path, name):
    whole, tensors, metadata = stopped
    # The value of a fresh fit, as if it had been left out; for what is fresh here, another.
    left_out = {"seed": 4, "stopped": "early"}.get(name, getattr(State(seed=0), name))
    assert resumed(tmp_path, tensors, with_state(metadata, **{name: left_out})) != whole


def test_the_ceiling_and_the_count_of_rescues_are_kept(stopped, tmp_path):
    _, tensors, metadata = stopped
    with pytest.raises(DivergenceError, match="diverged 6 times"):
        resumed(tmp_path, tensors, with_state(metadata, ceiling=1e-12, restores=5))
    with pytest.warns(ConvergenceWarning), pytest.raises(DivergenceError, match="diverged 6 times"):
        resumed(tmp_path, tensors, with_state(metadata, ceiling=1e-12, restores=4))


@pytest.mark.parametrize("part", ["network.", "best.", "average.", "optimizer."])
def test_every_tensor_matters(stopped, tmp_path, part):
    whole, tensors, metadata = stopped
    names = [name for name in tensors if name.startswith(part)]
    assert names
    spoiled = {k: torch.zeros_like(v) if k in names else v for k, v in tensors.items()}
    if part == "best.":  # so that the best of the rest of the fit cannot hide it
        metadata = with_state(metadata, best_loss=0.0)
        whole = resumed(tmp_path, tensors, metadata)
    assert resumed(tmp_path, spoiled, metadata) != whole


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("random_state", 4),
        ("max_epochs", 15),
        ("batch_size", 8),
        ("early_stopping", 7),
        ("validation_fraction", 0.3),
        ("n_components", 3),
    ],
)
def test_a_checkpoint_of_other_settings_is_rejected(stopped, tmp_path, setting, value):
    _, tensors, metadata = stopped
    save_file(tensors, tmp_path / checkpoint.NAME, metadata)
    with pytest.raises(ArtifactError, match="was written with"):
        make(tmp_path).set_params(**{setting: value}).fit(X, resume=True)


def test_a_checkpoint_of_other_data_is_rejected(stopped, tmp_path):
    _, tensors, metadata = stopped
    save_file(tensors, tmp_path / checkpoint.NAME, metadata)
    with pytest.raises(ArtifactError, match="was written with rows"):
        make(tmp_path).fit(X + 0.01 * X**2, resume=True)


def test_a_damaged_checkpoint_is_rejected(stopped, tmp_path):
    _, tensors, metadata = stopped
    path = tmp_path / checkpoint.NAME
    save_file(tensors, path, metadata)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="damaged"):
        make(tmp_path).fit(X, resume=True)


def test_without_resume_the_checkpoint_is_not_used(stopped, tmp_path):
    whole, tensors, metadata = stopped
    save_file(tensors, tmp_path / checkpoint.NAME, with_state(metadata, best_loss=0.0))
    assert outcome(make(tmp_path).fit(X)) == outcome(make(None).fit(X)) != whole


def test_resume_without_a_checkpoint_starts_a_new_fit(tmp_path):
    assert outcome(make(tmp_path).fit(X, resume=True)) == outcome(make(None).fit(X))


@pytest.mark.parametrize(
    "after", ["torch.optim.AdamW.step", "isthmus.training.trainer.Trainer._update_best"]
)
def test_ctrl_c_in_the_middle_of_a_change_costs_nothing_but_time(tmp_path, monkeypatch, after):
    whole = outcome(make(None).fit(X))
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    owner, name = after.rsplit(".", 1)
    owner = pkgutil.resolve_name(owner.replace("loop.", "loop:"))
    real, calls = getattr(owner, name), iter(range(10**9))

    def interrupted(*args, **kwargs):
        result = real(*args, **kwargs)
        if next(calls) == 5:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path).fit(X)
    assert outcome(make(tmp_path).fit(X, resume=True)) == whole


def test_the_files_of_a_killed_write_are_removed(tmp_path):
    stale = tmp_path / f".{checkpoint.NAME}.abc"
    stale.mkdir()
    (stale / checkpoint.NAME).write_bytes(b"half")
    make(tmp_path).fit(X, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.NAME]


def test_a_checkpoint_of_other_validation_rows_or_weights_is_rejected(tmp_path):
    model = make(tmp_path, max_epochs=2)
    model.fit(X, validation=X[:20])
    with pytest.raises(ArtifactError, match="was written with validation") as caught:
        model.fit(X, validation=X[20:40], resume=True)
    assert len(str(caught.value)) < 500
    with pytest.raises(ArtifactError, match="was written with"):
        model.fit(X, validation=X[:20], sample_weight=np.arange(120), resume=True)


def exclusive_ors():
    """Rows of 0 and 1 for which the Bernoulli loss gains nothing over PCA, the squared one does."""
    rng = np.random.default_rng(2)
    rng.random((300, 24))
    a, b, c = (rng.random((400, 3)) < 0.5).T.astype(int)
    rows = np.stack([a ^ b, b ^ c, a ^ c, a & b, a | c, a ^ b ^ c], axis=1)
    return np.abs(rows - (rng.random(rows.shape) < 0.1)).astype(float)


def binary(folder, stop_at=None, **settings):
    """A fit in two stages of 30 epochs, stopped as Ctrl-C would at an epoch counted over both."""
    epochs = itertools.count(1)

    def stop(_):
        if next(epochs) == stop_at:
            raise KeyboardInterrupt

    # With codes refined the Bernoulli loss would gain something: there were no second stage.
    given = {"max_epochs": 30, "random_state": 3, "transform_max_iter": 0, "callbacks": (stop,)}
    given |= settings
    return Autoencoder(2, checkpoint=folder, **given)


def test_a_fit_stopped_in_its_second_stage_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    rows = exclusive_ors()
    whole = binary(None).fit(rows)
    assert (whole.loss_, whole.best_epoch_ > 0) == (losses.Squared(), True)
    with pytest.raises(KeyboardInterrupt):
        binary(tmp_path, stop_at=44).fit(rows)
    # 43 epochs were done: the rest are 17, and one more would be a second beginning.
    assert outcome(binary(tmp_path, stop_at=18).fit(rows, resume=True)) == outcome(whole)


def test_a_fresh_start_leaves_nothing_of_a_second_stage(tmp_path):
    rows = exclusive_ors()
    with pytest.raises(KeyboardInterrupt):
        binary(tmp_path, stop_at=44).fit(rows)
    with pytest.raises(KeyboardInterrupt):
        binary(tmp_path, stop_at=5, max_epochs=32).fit(rows)
    resumed = binary(tmp_path, max_epochs=32).fit(rows, resume=True)
    assert outcome(resumed) == outcome(binary(None, max_epochs=32).fit(rows))


def test_loaded_tensors_are_aligned_as_computed_ones(tmp_path):
    # In single precision sums depend on it: vector instructions begin at multiples of 64 bytes.
    path = tmp_path / "some.safetensors"
    save_file({name: torch.ones(n) for name, n in (("a", 3), ("b", 17), ("c", 64))}, path)
    tensors, _ = checkpoint._read(path)
    assert [tensor.data_ptr() % 64 for tensor in tensors.values()] == [0, 0, 0]
