"""The monitor reports each planted issue, is silent about healthy fits, and changes nothing."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

import isthmus
from isthmus import Autoencoder, kinds, optim
from isthmus.estimator import resolve
from isthmus.report import gather
from isthmus.training import checkpoint
from isthmus.training.diagnostics import monitor
from isthmus.training.diagnostics.code_stats import (
    MAX_ROWS,
    CodeStats,
    DiagnosticSample,
    linear_explained_variance,
)
from isthmus.training.diagnostics.findings import Issue, is_average
from isthmus.training.diagnostics.layer_stats import measure_activity
from isthmus.training.diagnostics.monitor import Monitor
from isthmus.training.trainer import Trainer
from isthmus.types import Network, Output, WeightedRows

# A fit that ends with a severe issue warns of it; only some tests check the warning.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
ANGLES = RNG.uniform(0, 2, size=(300, 2))
# A curved surface in ten dimensions, of which two linear units explain two thirds.
X = np.concatenate(
    [np.sin(ANGLES @ RNG.normal(size=(2, 5))), np.cos(2 * ANGLES @ RNG.normal(size=(2, 5)))], 1
)


def make(kind=None, size=2, **settings):
    settings = {"max_epochs": 40, "random_state": 0} | settings
    return Autoencoder(size, kind=kind or kinds.Multilayer(hidden=(16,)), **settings)


def findings(model):
    return {r["issue"]: r["message"] for r in model.history_ if r.get("event") == "diagnosis"}


def diagnostics_of(model):
    return [record["diagnostics"] for record in model.history_ if "diagnostics" in record]


@pytest.fixture(autouse=True)
def _check_often(monkeypatch):
    monkeypatch.setattr(monitor, "STEPS_BETWEEN_CHECKS", 10)


def plant(monkeypatch, change):
    """Every network that is built is changed by `change(network)`."""
    real = kinds.Multilayer.build

    def build(self, facts, n_components):
        network = real(self, facts, n_components)
        with torch.no_grad():
            change(network)
        return network

    monkeypatch.setattr(kinds.Multilayer, "build", build)


def plain(hidden, activation):
    return kinds.Multilayer(hidden=hidden, activation=activation, skip=False)


@pytest.mark.parametrize("optimizer", ["adamw", optim.SGD(lr=0.1)])
def test_twelve_sigmoid_layers_stay_at_the_mean_row(optimizer):
    kind = plain((32,) * 5, "sigmoid")
    model = make(kind, pretraining="random", optimizer=optimizer, max_epochs=25).fit(X)
    issues = findings(model)
    assert next(iter(issues)) == "average"
    assert (
        "1 of that of predicting the mean row, where a linear code leaves 0.4" in issues["average"]
    )
    assert "hidden layers are not learning" in issues["vanishing"]
    assert "(encoder.layers.0 to " in issues["vanishing"]
    assert "of that in decoder.layers.5" in issues["vanishing"]


def test_dead_units_are_named_with_their_layer(monkeypatch):
    plant(monkeypatch, lambda network: network.encoder.layers[1].bias.fill_(-100.0))
    issues = findings(make(plain((32, 16), "relu"), pretraining="random", max_epochs=12).fit(X))
    assert issues["dead"].startswith("layer encoder.layers.1: 100% of the units are dead")
    # The layers before them get no gradient, which is no separate issue.
    assert issues.keys() == {"average", "constant", "dead"}


def test_saturated_layers_are_named(monkeypatch):
    plant(monkeypatch, lambda network: network.encoder.layers[0].weight.mul_(1e4))
    issues = findings(make(plain((32,), "tanh"), pretraining="random", max_epochs=12).fit(X))
    assert issues["saturated"].startswith("layer encoder.layers.0: 100% of the activations")


@pytest.mark.parametrize("skip", [True, False])
def test_a_detached_encoder_is_named(monkeypatch, skip):
    def detach(network):
        encoder = network.encoder
        network.encoder.forward = lambda x: type(encoder).forward(encoder, x).detach()

    plant(monkeypatch, detach)
    model = make(kinds.Multilayer(hidden=(16,), skip=skip), pretraining="random").fit(X)
    issues = findings(model)
    assert issues.keys() == {"detached"}
    reached = "no gradient at all reaches layers encoder.layers.0 and encoder.layers.1;"
    assert issues["detached"].startswith(reached)


def change_code(monkeypatch, change):
    plant(
        monkeypatch,
        lambda n: setattr(n, "encode", lambda x: change(type(n).encode(n, x))),
    )


def test_a_constant_code_is_named(monkeypatch):
    change_code(monkeypatch, lambda code: 0 * code + 3)
    issues = findings(make(pretraining="random", max_epochs=12).fit(X))
    assert issues.keys() == {"average", "constant"}
    assert "the code is the same for every row" in issues["constant"]


def test_few_codes_for_many_rows_are_named(monkeypatch):
    change_code(monkeypatch, lambda code: code.sign().detach() + code - code.detach())
    issues = findings(make(pretraining="random", max_epochs=10).fit(X))
    assert "250 different rows have only 4 different codes" in issues["few_codes"]


def test_unused_units_are_named_if_they_could_be_of_use(monkeypatch):
    keep = torch.tensor([1.0, 1.0, 0.0, 0.0])
    change_code(monkeypatch, lambda code: code * keep.to(code))
    wide = np.random.default_rng(3).normal(size=(300, 6))
    issues = findings(make(size=4, pretraining="random").fit(wide))
    assert issues["unused"].startswith("2 units of the code are the same for every row")
    # The rows have two directions: unused units then miss nothing.
    flat = wide[:, :2] @ np.random.default_rng(4).normal(size=(2, 6))
    assert findings(make(size=4, pretraining="random").fit(flat)) == {}


def images(digits):
    return digits[:150]


HEALTHY = {
    "defaults": (lambda d: X, {"max_epochs": 20}),
    "deep relu": (
        lambda d: X,
        {"kind": plain((32, 16, 16), "relu"), "pretraining": "random", "max_epochs": 60},
    ),
    "tied, slow": (
        lambda d: X,
        {"kind": kinds.Multilayer(hidden=(16,), tied=True), "optimizer": "sgd"},
    ),
    "dropout": (lambda d: X, {"kind": kinds.Multilayer(dropout=0.3, activation="relu")}),
    "images": (images, {"size": 8, "kind": kinds.Convolutional(channels=(8,)), "max_epochs": 12}),
    "signals": (
        lambda d: np.sin(ANGLES[:, :1, None] * np.linspace(0, 6, 24))[:, None, 0],
        {"size": 3, "kind": kinds.Convolutional(channels=(4, 8)), "max_epochs": 10},
    ),
    "zeros and ones": (
        lambda d: (d[:300].reshape(300, -1) > 7).astype(float),
        {"size": 4, "kind": plain((32,), "silu"), "pretraining": "random", "max_epochs": 40},
    ),
    "sparse": (
        lambda d: d[:300].reshape(300, -1) / 16.0,
        {"size": 80, "kind": kinds.Regularized(sparsity=0.1, hidden=())},
    ),
    "noise": (lambda d: RNG.normal(size=(300, 30)), {"optimizer": "sgd"}),
    "noise, random start": (
        lambda d: RNG.normal(size=(300, 60)),
        {"kind": plain((16,), "silu"), "pretraining": "random"},
    ),
    "exactly linear": (
        lambda d: RNG.normal(size=(300, 2)) @ RNG.normal(size=(2, 8)),
        {"optimizer": "sgd"},
    ),
    "tiny": (lambda d: X[:12], {"validation_fraction": 0.0}),
    "nothing to learn": (lambda d: np.ones((60, 4)), {"pretraining": "random", "max_epochs": 20}),
    "untrained": (lambda d: X, {"max_epochs": 0, "pretraining": "random"}),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_fits_have_no_findings(digits, name):
    rows, settings = HEALTHY[name]
    model = make(**settings).fit(rows(digits))
    assert findings(model) == {}
    assert len(diagnostics_of(model)) >= 2 or settings.get("max_epochs") == 0


def weights(model):
    return [value.numpy().tobytes() for value in model.network_.state_dict().values()]


def test_the_monitor_changes_nothing(monkeypatch):
    monkeypatch.setattr(monitor, "STEPS_BETWEEN_CHECKS", 1)
    kind = kinds.Multilayer(hidden=(16, 8), dropout=0.2, activation="relu")
    settings = {"kind": kind, "corruption": "masking", "max_epochs": 12}
    with_it = make(**settings).fit(X)
    monkeypatch.setattr(resolve, "Monitor", lambda *_: None)
    without = make(**settings).fit(X)
    assert len(diagnostics_of(with_it)) == 12
    assert not diagnostics_of(without)
    assert weights(with_it) == weights(without)
    clock = {"diagnostics", "seconds"}
    assert [{k: v for k, v in r.items() if k not in clock} for r in with_it.history_] == [
        {k: v for k, v in r.items() if k not in clock} for r in without.history_
    ]
    modules = list(with_it.network_.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


class Rows(WeightedRows):
    """Weighted rows in memory."""

    def __init__(self, x, weight=None):
        self.x = torch.as_tensor(x)
        self.weight = torch.ones(len(x)) if weight is None else torch.as_tensor(weight)

    def __len__(self):
        return len(self.x)

    def take(self, positions):
        return self.x[torch.as_tensor(positions)]


class Tiny(Network):
    """Linear, batch norm, rectifier, code, noise; and a part that is always in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(10, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True)
        self.code, self.frozen, self.last = nn.Linear(6, 3), nn.Dropout(0.5), nn.Linear(3, 10)

    def forward(self, x):
        code = self.code(self.act(self.norm(self.first(x))))
        return Output(self.last(self.frozen(code)) + 0 * torch.rand(1), code)


def tiny():
    torch.manual_seed(0)
    network = Tiny().double().train()
    network.frozen.eval()
    return network


def test_a_check_restores_modes_buffers_and_random_state():
    network = tiny()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    record = Monitor(lambda raw, _: raw).examine(network, Rows(X))
    assert record["code_rank"] == 3
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[k]) for k, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_the_statistics_equal_those_of_numpy():
    network = tiny().eval()
    with torch.no_grad():
        network.norm.bias[:2] = -100.0  # two of six units are dead
        network.code.weight[2] = network.code.weight[1]  # one direction less
        network.code.bias[2] = network.code.bias[1]
    weight = np.linspace(0.5, 1.5, len(X))
    rows = Rows(X, weight)
    with torch.no_grad():
        output = network(rows.x)
    code, reconstruction = output.code.numpy(), output.reconstruction.numpy()
    positions = np.unique(np.linspace(0, len(X) - 1, MAX_ROWS).round().astype(int))
    mean = (weight @ X) / weight.sum()
    error = (weight[positions] @ ((reconstruction - X)[positions] ** 2)).sum()
    relative_error = error / (weight[positions] @ ((mean - X)[positions] ** 2)).sum()
    record = Monitor(lambda raw, _: raw).examine(network, rows)
    assert record["relative_error"] == pytest.approx(relative_error, rel=5e-3)
    assert record["code_rank"] == np.linalg.matrix_rank(code - code.mean(0), tol=1e-6) == 2
    variance = code[positions].var(axis=0)
    assert record["code_variance"] == pytest.approx([variance.min(), variance.max()], rel=5e-3)
    different = len(np.unique(code[positions].round(6), axis=0))
    assert record["distinct_codes"] == pytest.approx(different / len(positions), rel=5e-3)
    assert record["dead"] == {"norm": pytest.approx(1 / 3, rel=5e-3)}


def test_the_linear_code_is_pca_of_one_half_tested_on_the_other():
    x, weight = torch.as_tensor(X), torch.ones(len(X))
    mean = x.mean(dim=0, keepdim=True)
    centred = X - X.mean(axis=0)
    _, vectors = np.linalg.eigh(centred[::2].T @ centred[::2])
    projected = centred[1::2] @ vectors[:, -2:]
    expected = (projected**2).sum() / (centred[1::2] ** 2).sum()
    assert linear_explained_variance(x, mean, weight, 2) == pytest.approx(expected, rel=1e-9)
    assert linear_explained_variance(x, mean, weight, 50) == pytest.approx(1.0)
    assert linear_explained_variance(x[:1], mean, weight[:1], 2) == 0.0


def test_code_statistics():
    plane = np.random.default_rng(1).normal(size=(100, 2))
    wide = torch.as_tensor(np.column_stack([plane, plane.sum(1), 1e-9 * plane[:, 0], plane[:, 0]]))
    stats = CodeStats.of(wide)
    assert (stats.rank, stats.unused, stats.distinct, stats.constant) == (2, 1, 100, False)
    noise = 5 + 1e-7 * torch.randn(100, 3)
    assert CodeStats.of(noise).constant
    assert (CodeStats.of(noise).rank, CodeStats.of(noise).unused) == (0, 3)
    assert CodeStats.of(torch.eye(4).repeat(25, 1)).distinct == 4


@pytest.mark.parametrize(("act", "deep"), [(nn.ReLU(), -1.0), (nn.SiLU(), -20.0), (nn.Tanh(), 9.0)])
def test_dead_and_saturated_units_are_counted(act, deep):
    class OneLayer(Network):
        def __init__(self):
            super().__init__()
            self.first, self.act, self.last = nn.Linear(4, 4), act, nn.Linear(4, 4)

        def forward(self, x):
            code = self.last(self.act(self.first(x)))
            return Output(code, code)

    network = OneLayer()
    with torch.no_grad():
        network.first.weight.copy_(torch.eye(4))
        network.first.bias.copy_(torch.tensor([0.0, 0.0, 0.0, deep]))
    x = torch.randn(50, 4).clamp(-0.9, 0.9)
    _, activity = measure_activity(network, x)
    assert activity.dead == {"first": 0.25}
    # Only an activation with two flat ends can be saturated: half of a rectifier is always flat.
    assert activity.saturated == ({"first": 0.25} if isinstance(act, nn.Tanh) else {})


def test_the_norms_are_those_of_the_gradient_weights_and_step():
    network, rate = tiny(), 0.1
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    before = network.first.weight.detach().clone()
    monitor = Monitor(lambda raw, _: raw)
    with monitor.observe_step(network):
        network(torch.as_tensor(X)).reconstruction.square().mean().backward()
        optimizer.step()
    gradient, weight, step = monitor.layers["first"]
    assert gradient == pytest.approx(float(network.first.weight.grad.norm()), rel=5e-3)
    assert weight == pytest.approx(float(before.norm()), rel=5e-3)
    assert step == pytest.approx(rate * gradient, rel=1e-2)
    assert monitor.layers.keys() == {"first", "code", "last"}


def test_a_short_fit_is_not_diagnosed():
    model = make(plain((32,) * 5, "sigmoid"), pretraining="random", max_epochs=5).fit(X)
    assert len(diagnostics_of(model)) == 1
    assert findings(model) == {}


def test_a_record_is_small_and_plain():
    model = make(kinds.Multilayer(hidden=(32, 16)), max_epochs=3).fit(X)
    record = diagnostics_of(model)[-1]
    assert json.loads(json.dumps(record)) == record
    assert len(json.dumps(record)) < 600


def test_a_sample_is_drawn_evenly_and_not_too_large():
    assert len(DiagnosticSample.of(Rows(np.arange(5000.0)[:, None])).x) == MAX_ROWS
    assert len(DiagnosticSample.of(Rows(np.zeros((300, 4, 64, 64)))).x) == 32
    assert DiagnosticSample.of(Rows(np.full((300, 4), 1e6 / 3))).mean_error == 0


def test_the_diagnosis_stays_on_the_monitor(monkeypatch):
    seen = []
    real = Trainer.released
    monkeypatch.setattr(
        Trainer, "released", lambda self: seen.append(self.monitor.diagnosis) or real(self)
    )
    make(max_epochs=12).fit(X)
    make(plain((32,) * 5, "sigmoid"), pretraining="random", max_epochs=12).fit(X)
    assert [diagnosis.issue for diagnosis in seen] == ["", "average"]
    assert seen[1].issue == Issue.AVERAGE


def test_a_finding_is_reported_early_and_at_the_end_and_recorded_once(capsys, tmp_path):
    kind = plain((16,) * 5, "sigmoid")
    model = make(kind, pretraining="random", max_epochs=30, verbose=1).fit(X)
    lines = capsys.readouterr().err.splitlines()
    said = [i for i, line in enumerate(lines) if "has learned the average" in line]
    assert len(said) == 2
    assert lines[said[0] - 1].startswith("epoch 9 ")  # 4 steps per epoch: the third check
    events = [r for r in model.history_ if r.get("issue") == "average"]
    assert len(events) == 1
    model.save(tmp_path / "model")
    assert isthmus.load(tmp_path / "model").history_ == model.history_
    shown = gather(model, X)["history"]["events"]
    assert events[0]["message"] in [event["message"] for event in shown]


def test_a_fit_that_recovers_has_no_finding():
    average = {"relative_error": 0.99, "linear_relative_error": 0.5}
    assert is_average(average)
    nothing_to_learn = {"relative_error": 0.99, "linear_relative_error": 0.97}
    assert not is_average(nothing_to_learn)
    monitor = Monitor(lambda raw, _: raw)
    history = [{"epoch": n, "lr": 0.1, "train": {}, "diagnostics": average} for n in (1, 2, 3)]
    assert [finding.issue for finding in monitor.warning(history, 8)] == ["average"]
    assert list(monitor.warning(history, 100)) == []  # not a quarter of the fit yet
    assert list(monitor.warning(history[:2], 8)) == []
    history.append({"event": "diagnosis", "epoch": 3, "message": "", "issue": "average"})
    history.append(history[2] | {"epoch": 4})
    assert list(monitor.warning(history, 8)) == []  # reported before
    model = make(max_epochs=2).fit(X)
    rows = Rows((X - X.mean(0)).astype(np.float64))
    monitor.conclude(model.network_, rows, history)
    assert [record for record in history if "event" in record] == []


def test_a_resumed_fit_has_the_same_history(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    settings = {"pretraining": "random", "kind": plain((16,) * 5, "sigmoid"), "max_epochs": 16}

    def history(model):
        return [{k: v for k, v in r.items() if k != "seconds"} for r in model.history_]

    whole = history(make(**settings).fit(X))
    real, calls = Trainer._diagnostics, iter(range(100))

    def interrupted(self):
        if next(calls) == 9:  # after the last, observed step of an epoch
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_diagnostics", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(**settings, checkpoint=tmp_path).fit(X)
    again = make(**settings, checkpoint=tmp_path).fit(X, resume=True)
    assert "average" in findings(again)
    assert history(again) == whole


def test_partial_fit_is_not_monitored():
    model = make(max_epochs=2).fit(X)
    before = len(diagnostics_of(model))
    model.partial_fit(X)
    assert len(diagnostics_of(model)) == before
    assert model.history_[-1].keys() == {"epoch", "train"}


def test_a_fit_that_learned_the_average_restarts_layer_by_layer(capsys):
    kind = plain((32,) * 3, "sigmoid")
    random = make(kind, pretraining="random", max_epochs=40).fit(X)
    auto = make(kind, max_epochs=40, verbose=1).fit(X)
    assert "average" in findings(random)
    assert auto.facts_["pretraining"] == "autoencoder"
    assert auto.history_[0]["event"] == "restart"
    assert "starting again" in capsys.readouterr().err
    assert findings(auto) == {}
    first, random_epochs = (
        [(record["epoch"], record["train"]) for record in records if "train" in record]
        for records in (auto.history_[0]["given_up"], random.history_)
    )
    assert first == random_epochs
    assert auto.reconstruction_error(X) < 0.8 * random.reconstruction_error(X)


def test_a_start_that_was_set_is_not_replaced():
    model = make(plain((32,) * 3, "sigmoid"), pretraining="random", max_epochs=40).fit(X)
    assert model.facts_["pretraining"] == "random"
    assert not any(record.get("event") == "restart" for record in model.history_)


def test_a_severe_issue_warns_and_a_restarted_or_healthy_fit_does_not():
    kind = plain((32,) * 3, "sigmoid")
    with pytest.warns(ConvergenceWarning, match="the network has learned the average"):
        make(kind, pretraining="random", max_epochs=40).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(kind, max_epochs=40).fit(X)
        make(max_epochs=20).fit(X)


@pytest.mark.parametrize(("optimizer", "epochs"), [("conjugate_gradient", 45), ("kfac", 60)])
def test_full_batches_are_checked_by_number_of_gradients(monkeypatch, optimizer, epochs):
    monkeypatch.setattr(monitor, "STEPS_BETWEEN_CHECKS", 100)
    settings = {"batch_size": "full", "optimizer": optimizer, "max_epochs": epochs}
    model = make(plain((32,) * 7, "sigmoid"), pretraining="random", **settings).fit(X)
    gradients = optim.OPTIMIZERS[optimizer]().gradients_per_step
    assert len(diagnostics_of(model)) == epochs // math.ceil(100 / gradients)
    assert "average" in findings(model)


def test_an_issue_that_is_not_severe_does_not_warn(monkeypatch):
    plant(monkeypatch, lambda network: network.encoder.layers[0].bias.fill_(-100.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(kinds.Multilayer(hidden=(32, 16), activation="relu")).fit(X)
    assert set(findings(model)) <= {"dead"}
