"""Training on a GPU: graphs equal single steps, and the results of a CPU."""

import numpy as np
import pytest
import torch

from isthmus import (
    Autoencoder,
    OutlierDetector,
    corruptions,
    fit_together,
    kinds,
    load,
    losses,
    optim,
)
from isthmus.training.engines import select
from isthmus.training.engines.cuda.graphs import CudaGraphs
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.engines.select import FitParts, select_engine
from isthmus.training.plan import Plan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def rows(n=1000, d=20, seed=0):
    draw = np.random.default_rng(seed)
    mixed = np.tanh(draw.normal(size=(n, 4)) @ draw.normal(size=(4, d)))
    return (mixed + 0.05 * draw.normal(size=(n, d))).astype(np.float32)


def fitted(X, **settings):
    wanted = {
        "kind": kinds.Multilayer(hidden=(30,)),
        "pretraining": "random",
        "optimizer": optim.AdamW(lr=0.003),
        "batch_size": 64,
        "max_epochs": 6,
        "early_stopping": False,
        "transform_max_iter": 0,
        "random_state": 0,
        "device": "cuda",
        "precision": "float32",
        "validation_fraction": 0.1,
        "loss": "squared",
    } | settings
    return Autoencoder(4, **wanted).fit(X)


def weights(model):
    return {name: p.detach().cpu() for name, p in model.network_.state_dict().items()}


def check_equal_weights(first, second, rtol=2e-3, atol=2e-4):
    own, others = weights(first), weights(second)
    for name, wanted in others.items():
        torch.testing.assert_close(own[name], wanted, rtol=rtol, atol=atol)


def check_weights_and_losses(first, second):
    """The weights agree, and the losses of all epochs."""
    check_equal_weights(first, second)
    records = [[r["train"] for r in m.history_ if "train" in r] for m in (first, second)]
    for own, wanted in zip(*records, strict=True):
        assert own == pytest.approx(wanted, rel=2e-3)


@pytest.fixture
def replays(monkeypatch):
    """The graph replays."""
    count = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph):
        count.append(1)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    return count


SETTINGS = {
    "plain": {},
    "vanilla": {"kind": "vanilla"},
    "sgd decay": {"optimizer": optim.AdamW(lr=0.003, weight_decay=0.1)},
    "bernoulli": {"loss": "bernoulli"},
    "huber": {"loss": losses.Huber(delta=0.3)},
    "penalty": {"penalties": (losses.L1(weight=0.01),)},
    "cosine": {"optimizer": optim.Adam(lr=0.003, schedule="cosine")},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_agrees_with_a_cpu(name, replays):
    X = rows()
    X = (X > 0).astype(np.float32) if name == "bernoulli" else X
    gpu = fitted(X, **SETTINGS[name])
    assert replays
    cpu = fitted(X, device="cpu", **SETTINGS[name])
    check_weights_and_losses(gpu, cpu)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"corruption": corruptions.Masking(rate=0.3)},
        {"kind": kinds.Multilayer(hidden=(30,), dropout=0.2)},
        {"precision": "bf16"},
        {"precision": "bf16", "kind": kinds.Multilayer(hidden=(30,), activation="sigmoid")},
        {"precision": "float64"},
    ],
    ids=str,
)
def test_graphs_equal_single_steps(settings, monkeypatch, replays):
    first = fitted(rows(), **settings)
    assert replays
    launched = len(replays)
    on_gpu = lambda fit: None  # noqa: E731
    engines = (select.Engine(AdamLoop.name, on_gpu, AdamLoop),)
    monkeypatch.setattr(select, "ENGINES", engines)
    second = fitted(rows(), **settings)
    assert len(replays) == launched
    check_equal_weights(first, second)


def test_rows_may_weigh_differently():
    X, weight = rows(), np.random.default_rng(1).uniform(0.1, 2, 1000)
    models = []
    for device in ("cuda", "cpu"):
        model = fitted(X, device=device)
        models.append(model.fit(X, sample_weight=weight))
    check_equal_weights(*models)


def test_widths_are_rounded_up_in_half_precision():
    X = rows(d=21)
    error = {p: fitted(X, precision=p).reconstruction_error(X) for p in ("bf16", "float32")}
    assert error["bf16"] == pytest.approx(error["float32"], rel=0.05)


def test_large_networks_are_as_good_in_half_precision(replays):
    X = rows(4000, 100)
    kind = kinds.Multilayer(hidden=(301, 150))
    error = {
        p: fitted(X, kind=kind, precision=p, max_epochs=20).reconstruction_error(X)
        for p in ("auto", "float32")
    }
    assert replays
    assert error["auto"] == pytest.approx(error["float32"], rel=0.05)


def test_a_fit_goes_on_with_the_same_bits(tmp_path):
    X = rows()
    fused = fitted(X, precision="bf16")
    folder = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        fitted(X, precision="bf16", checkpoint=folder, callbacks=(_interrupting(3),))
    settings = fused.get_params(deep=False) | {"checkpoint": folder}
    check_equal_weights(Autoencoder(**settings).fit(X, resume=True), fused, rtol=0, atol=0)


def _interrupting(epoch):
    def callback(record):
        if record["epoch"] == epoch:
            raise KeyboardInterrupt

    return callback


def test_a_loss_that_is_not_finite_is_handled():
    from isthmus.errors import DivergenceError

    X = rows()
    model = fitted(X)
    huge = np.full_like(X, 1e30)
    with pytest.raises(DivergenceError):
        model.partial_fit(huge)


def test_defaults_run_on_a_gpu(tmp_path):
    X = rows(2000)
    model = Autoencoder(3, random_state=0, device="cuda").fit(X)
    cpu = Autoencoder(3, random_state=0, device="cpu").fit(X)
    assert model.reconstruction_error(X) == pytest.approx(cpu.reconstruction_error(X), rel=0.1)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    np.testing.assert_allclose(again.transform(X), model.transform(X), rtol=1e-3, atol=1e-4)


def test_images_run_on_a_gpu():
    X = np.random.default_rng(0).integers(0, 255, (300, 16, 16), dtype=np.uint8)
    model = Autoencoder(3, random_state=0, device="cuda", max_epochs=3).fit(X)
    assert model.reconstruct(X[:5]).shape == (5, 16, 16)


def test_muon_runs_on_a_gpu():
    model = fitted(rows(), optimizer=optim.Muon(lr=0.02), precision="bf16")
    other = fitted(rows(), optimizer=optim.Muon(lr=0.02), device="cpu")
    X = rows()
    assert model.reconstruction_error(X) == pytest.approx(other.reconstruction_error(X), rel=0.1)


def test_fits_together_are_fits_alone_on_a_gpu():
    X = rows()
    settings = [{"optimizer": optim.AdamW(lr=lr)} for lr in (0.001, 0.003, 0.01)]
    alone = [fitted(X, **first) for first in settings]
    shared = alone[0].get_params(deep=False)
    together = fit_together([Autoencoder(**(shared | first)) for first in settings], X)
    for first, second in zip(together, alone, strict=True):
        check_equal_weights(first, second)


def test_the_detector_runs_on_a_gpu():
    X = rows()
    scores = OutlierDetector(random_state=0, device="cuda").fit(X).score_samples(X)
    assert scores.shape == (1000,)
    assert np.isfinite(scores).all()


def test_a_gpu_uses_graphs():
    network = kinds.Multilayer(hidden=(5,)).build(_facts(), 2)
    for device, kind in (("cpu", AdamLoop), ("cuda", CudaGraphs)):
        adam = torch.optim.Adam(network.to(device).parameters())
        objective = losses.Objective(losses.Squared())
        parts = FitParts(network, objective, None, adam, Plan(1, 64, None, None), bf16=False)
        assert type(select_engine(parts).multi_step) is kind


def _facts():
    from isthmus.types import Facts

    return Facts(shape=(4,))
