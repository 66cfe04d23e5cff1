"""The defaults follow the sizes alone, stay in their bounds, and are told in docs/design.md."""

import numpy as np
import pytest
import torch

from isthmus import Autoencoder
from isthmus.data import Schema
from isthmus.errors import ArtifactError
from isthmus.estimator import defaults, resolve
from isthmus.estimator.settings import FitSettings
from isthmus.kinds import Convolutional, Multilayer, Vanilla
from isthmus.optim import Muon
from isthmus.runtime.precision import Probe
from isthmus.types import Facts

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("layout", "shape", "kind"),
    [
        ("table", (9,), "multilayer"),
        ("signal", (50, 2), "convolutional"),
        ("signal", (8, 2), "convolutional"),
        ("image", (8, 8), "multilayer"),
        ("image", (12, 30, 3), "multilayer"),
        ("image", (13, 30, 3), "convolutional"),
        ("image", (28, 28), "convolutional"),
    ],
)
def test_the_kind_follows_the_layout(layout, shape, kind):
    schema = Schema(layout=layout, shape=shape, dtypes=("float32",))
    assert defaults.choose_kind(schema).value == kind


@pytest.mark.parametrize(
    ("rows", "validation"),
    [(4, 1), (100, 25), (367, 50), (1000, 100), (20_000, 2000), (60_000, 5000), (10**6, 5000)],
)
def test_rows_held_out(rows, validation):
    assert round(defaults.choose_validation_fraction(rows).value * rows) == validation


def test_batches_and_epochs_stay_in_their_bounds_and_near_their_aims():
    for rows in [2, 50, 300, 2000, 10_000, 60_000, 10**6]:
        batch = defaults.choose_batch_size(rows).value
        epochs = defaults.choose_epochs(rows, batch).value
        assert batch in (64, 128, 256, 512)
        assert 20 <= epochs <= 300
        steps = epochs * -(-rows // batch)
        assert steps >= 4900 or epochs == 300
        assert defaults.choose_patience(epochs, rows, batch).value >= max(10, epochs // 4)


@pytest.mark.parametrize(
    ("epochs", "rows", "waits"),
    [(20, 448, 71), (300, 448, 75), (40, 60_000, 10), (100, 60_000, 25), (20, 2, 500)],
)
def test_early_stopping_waits_for_epochs_and_for_steps(epochs, rows, waits):
    # 448 rows are 7 steps of 64 an epoch: 500 steps take 71 epochs. 60,000 are 118 of 512.
    batch = defaults.choose_batch_size(rows).value
    assert defaults.choose_patience(epochs, rows, batch).value == waits


@pytest.mark.parametrize("rows", [3200, 10_000, 25_600])
def test_about_fifty_steps_an_epoch_between_the_bounds(rows):
    assert 35 <= rows / defaults.choose_batch_size(rows).value <= 71


def test_muon_is_for_many_rows_and_large_matrices():
    images = Facts(shape=(1, 28, 28))
    large = Multilayer(hidden=(400, 200)).build(Facts(shape=(784,)), 8)
    small = Multilayer(hidden=(64,)).build(Facts(shape=(10,)), 2)
    filters = Convolutional(channels=(64, 128), skip=False).build(images, 2)
    assert defaults.choose_optimizer(20_000, large).value == "muon"
    assert defaults.choose_optimizer(19_999, large).value == "adamw"
    assert defaults.choose_optimizer(10**6, small).value == "adamw"
    assert defaults.choose_optimizer(10**6, filters).value == "adamw"
    logistic = Multilayer(hidden=(400, 200), activation="sigmoid").build(Facts(shape=(784,)), 8)
    assert defaults.choose_optimizer(10**6, logistic).value == "adamw"


def test_small_data_are_trained_in_double():
    assert defaults.choose_first_precision(20_000, CPU).value == "float64"
    assert defaults.choose_first_precision(20_001, CPU).value == "float32"


def measured(monkeypatch, *, fast):
    """As if the probe had measured bf16 to be twice as fast, or half as fast."""
    probe = Probe(float32=2.0, bf16=1.0) if fast else Probe(float32=1.0, bf16=2.0)
    monkeypatch.setattr(defaults, "probe_bf16", lambda *_: probe)


@pytest.mark.parametrize(("fast", "precision"), [(True, "bf16"), (False, "float32")])
def test_large_networks_take_bf16_only_if_it_is_measured_to_be_faster(monkeypatch, fast, precision):
    measured(monkeypatch, fast=fast)
    large = Multilayer(hidden=(400, 200)).build(Facts(shape=(100,)), 8)
    small = Multilayer(hidden=(16,)).build(Facts(shape=(100,)), 8)
    first = defaults.choose_first_precision(10**6, CPU)
    choice = defaults.choose_precision(first, large, 128, CPU)
    assert choice.value == precision
    assert "measured on this machine" in choice.reason
    assert defaults.choose_precision(first, small, 128, CPU).value == "float32"
    double = defaults.choose_first_precision(100, CPU)
    assert defaults.choose_precision(double, large, 128, CPU).value == "float64"


LARGE = {"kind": Multilayer(hidden=(400, 300)), "max_epochs": 2, "random_state": 0}


@pytest.mark.parametrize("wanted", ["float64", "float32", "bf16"])
def test_the_environment_replaces_the_choice_but_not_the_setting(monkeypatch, rng, wanted):
    rows = rng.normal(size=(300, 100))
    measured(monkeypatch, fast=wanted != "bf16")
    monkeypatch.setenv("ISTHMUS_PRECISION", wanted)
    model = Autoencoder(4, **LARGE).fit(rows)
    assert model.facts_["precision"] == wanted
    (decision,) = [d for d in model.facts_["decisions"] if d["name"] == "precision"]
    assert "ISTHMUS_PRECISION" in decision["reason"]
    assert Autoencoder(4, precision="float32", **LARGE).fit(rows).facts_["precision"] == "float32"


def test_a_resumed_fit_keeps_the_precision_of_its_checkpoint(monkeypatch, rng, tmp_path):
    rows = rng.normal(size=(300, 100))

    def interrupt(record):
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.training.checkpoint.EVERY_S", 0.0)
    measured(monkeypatch, fast=True)
    whole = Autoencoder(4, **LARGE).fit(rows)
    with pytest.raises(KeyboardInterrupt):
        Autoencoder(4, checkpoint=tmp_path, callbacks=(interrupt,), **LARGE).fit(rows)
    measured(monkeypatch, fast=False)  # as if the machine were another, or busy
    resumed = Autoencoder(4, checkpoint=tmp_path, **LARGE).fit(rows, resume=True)
    assert whole.facts_["precision"] == resumed.facts_["precision"] == "bf16"
    np.testing.assert_array_equal(resumed.transform(rows), whole.transform(rows))
    monkeypatch.setenv("ISTHMUS_PRECISION", "float32")
    with pytest.raises(ArtifactError, match="precision='bf16'"):
        Autoencoder(4, checkpoint=tmp_path, **LARGE).fit(rows, resume=True)


@pytest.mark.parametrize("fast", [True, False])
def test_a_remark_says_that_the_precision_that_was_set_is_slow(monkeypatch, fast):
    measured(monkeypatch, fast=fast)
    rows = np.random.default_rng(0).random((40, 5))
    for precision, told in (("bf16", not fast), ("float32", False)):
        model = Autoencoder(2, max_epochs=1, precision=precision, random_state=0).fit(rows)
        notes = [record["message"] for record in model.history_ if record.get("event") == "note"]
        assert any("'bf16' is slower here" in note for note in notes) == told


def test_bf16_ends_where_single_precision_ends(digits):
    rows = digits.reshape(len(digits), -1)
    errors = {}
    for precision in ("float32", "bf16"):
        kind = Multilayer(hidden=(64,))
        model = Autoencoder(8, kind=kind, max_epochs=30, precision=precision, random_state=0)
        errors[precision] = model.fit(rows).reconstruction_error(rows)
    assert errors["bf16"] == pytest.approx(errors["float32"], rel=0.03)
    assert np.isfinite(errors["bf16"])


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        ("adamw", "bf16"),
        ("muon", "bf16"),
        ("lbfgs", "float32"),
        ("kfac", "float32"),
        ("conjugate_gradient", "float32"),
    ],
)
def test_optimizers_that_compare_losses_do_not_use_bf16(monkeypatch, rng, optimizer, precision):
    measured(monkeypatch, fast=True)
    rows = rng.normal(size=(300, 100))
    kind = Multilayer(hidden=(400, 300))
    model = Autoencoder(4, kind=kind, optimizer=optimizer, max_epochs=0, random_state=0).fit(rows)
    assert model.facts_["weights"] > defaults.FEWEST_WEIGHTS_FOR_BF16
    assert model.facts_["precision"] == precision


def test_a_full_batch_is_all_training_rows(rng):
    rows = rng.normal(size=(300, 5))
    settings = {"batch_size": "full", "pretraining": "random", "max_epochs": 1}
    model = Autoencoder(2, random_state=0, **settings).fit(rows)
    assert model.facts_["batch_size"] == len(model.train_rows_) < 300


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        (Multilayer(hidden=(8,) * 3), "pca"),
        (Multilayer(hidden=(8,) * 3, skip=False), "random"),
        (Multilayer(hidden=(8,) * 4, skip=False), "autoencoder"),
        (Multilayer(hidden=(), skip=False), "random"),
        (Vanilla(activation="tanh", tied=True), "random"),
    ],
    ids=str,
)
def test_where_weights_start_depends_on_the_linear_path_and_the_depth(rng, kind, start):
    rows = rng.normal(size=(60, 10))
    settings = {"max_epochs": 0, "validation_fraction": 0, "random_state": 0}
    assert Autoencoder(2, kind=kind, **settings).fit(rows).facts_["pretraining"] == start


@pytest.mark.parametrize(
    ("kind", "device"),
    [(Multilayer(hidden=(16,)), "cpu"), (Multilayer(hidden=(2000, 2000)), "cuda")],
)
def test_small_dense_networks_stay_on_the_processor(kind, device):
    before, facts = torch.get_rng_state(), Facts(shape=(10,))
    settings = FitSettings.of(Autoencoder(2, kind=kind).get_params(deep=False), resume=False)
    gpu = torch.device("cuda")
    assert resolve._choose_device(gpu, settings, kind, facts, rows=60).value == device
    assert torch.equal(torch.get_rng_state(), before)


def test_muon_is_for_large_batches():
    large = Multilayer(hidden=(1000, 500, 250)).build(Facts(shape=(784,)), 30)
    assert defaults.choose_optimizer(20_000, large).value == "muon"
    assert defaults.choose_optimizer(20_000, large, batch_size=1024).value == "muon"
    small_batches = defaults.choose_optimizer(20_000, large, batch_size=256)
    assert small_batches.value == "adamw"
    assert "in batches of 256" in small_batches.reason


def test_the_cost_of_muon_is_that_of_its_products():
    network = torch.nn.Linear(300, 100)  # one matrix (100, 300); the bias costs nothing
    iteration = 2 * 100 * 100 * 300 + 100**3
    gradient = 3 * 64 * 100 * 300
    assert Muon(ns_steps=5).relative_cost(network, 64) == pytest.approx(5 * iteration / gradient)
    assert Muon().relative_cost(torch.nn.ReLU(), 64) == 0
