"""Steps on tables with columns of several kinds and missing values, against autograd."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import Autoencoder, SearchCV, fit_together, optim
from isthmus.corruptions import CORRUPTIONS
from isthmus.kinds import ACTIVATIONS, Regularized
from isthmus.kinds.blocks import Clipped
from isthmus.losses import L1, Bernoulli, Contraction, Huber, Mixed, Objective, Squared
from isthmus.randomness import reseed
from isthmus.training.engines.autograd import AutogradStep
from isthmus.training.engines.base import StepBatch
from isthmus.training.engines.cpu import build as compiling
from isthmus.training.engines.cpu import kernel
from isthmus.training.engines.cpu.kernel import CKernel
from isthmus.training.engines.dense import column_losses
from isthmus.training.engines.dense import step as closed_module
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.engines.dense.column_losses import ColumnLoss, ColumnTable
from isthmus.training.engines.dense.losses import AutogradLoss
from isthmus.training.engines.dense.matmul import NumpyMatMul, TorchMatMul
from isthmus.training.engines.dense.step import manual_step
from isthmus.training.plan import Plan
from isthmus.types import ColumnFacts, Facts

compiles = pytest.mark.skipif(compiling.library() is None, reason="needs a C compiler")

LOSSES = {
    "mixed": Mixed(),
    "mixed, huber": Mixed(numeric="huber", delta=0.6),
    "squared": Squared(),
    "huber": Huber(delta=0.6),
    "bernoulli": Bernoulli(),
}


def table_of(draw):
    """Facts of a table with columns at random, and eleven rows of it, some values missing."""
    kinds = draw.choice(["squared", "bernoulli", "categorical"], draw.integers(1, 7))
    sizes = [
        1 if kind == "bernoulli" else int(draw.integers(1 + (kind == "categorical"), 4))
        for kind in kinds
    ]
    columns = tuple(map(ColumnFacts, map(str, kinds), sizes))
    E = sum(sizes)
    facts = Facts(
        shape=(E,),
        allow_missing=True,
        columns=columns,
        mean=draw.uniform(0.1, 0.4, E),
        scale=draw.uniform(0.5, 2.0, E),
    )
    parts = []
    for kind, size in zip(kinds, sizes, strict=True):
        part = draw.normal(size=(11, size))
        if kind == "bernoulli":
            part = draw.integers(2, size=(11, 1)).astype(float)
        if kind == "categorical":
            part = np.eye(size)[draw.integers(size, size=11)]
        part[draw.random(11) < draw.choice([0.0, 0.3])] = np.nan
        parts.append(part)
    X = np.concatenate(parts, axis=1)
    mixed = X.copy()
    of_kind = np.repeat(kinds != "squared", sizes)
    mixed[:, of_kind] /= facts.scale[of_kind]
    return facts, X, mixed


def drawn(seed, name, *, plain=False, dropped=True):
    """A network with random weights, an objective, noise, and rows with weights."""
    draw = np.random.default_rng(seed)
    facts, X, mixed = table_of(draw)
    rows = mixed if name.startswith("mixed") else X
    if name == "bernoulli":
        rows = np.where(np.isnan(X), X, 1 / (1 + np.exp(-X)))
    if plain:
        facts = Facts(shape=facts.shape, allow_missing=True)
    if draw.integers(2) and len(rows) > 1:
        rows[1] = np.nan  # nothing is known of it
    hidden = tuple(int(width) for width in draw.integers(2, 9, draw.integers(0, 3)))
    kind = Regularized(
        hidden=hidden,
        activation=str(draw.choice(list(ACTIVATIONS))),
        skip=bool(draw.integers(2)) or not hidden,
        dropout=float(draw.choice([0.0, 0.3])) * dropped,
    )
    torch.manual_seed(seed)
    network = kind.build(facts, 3).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.7)
    penalties = [[], [L1(weight=0.3)], [Contraction(weight=0.0)]][draw.integers(3)]
    penalties = penalties if dropped else []
    noise = [None, "masking", "missing", "gaussian"][draw.integers(4)]
    corrupt = None if noise is None else functools.partial(CORRUPTIONS[noise](), facts=facts)
    weight = torch.from_numpy(draw.random(11)) if draw.integers(2) else torch.ones(1).expand(11)
    objective = Objective(LOSSES[name].with_facts(facts), penalties, allow_missing=True)
    return network, objective, corrupt, torch.from_numpy(rows), weight.double()


def run_steps(step, network, x, weight):
    """The terms and gradients of one step in training."""
    network.train()
    network.zero_grad()
    reseed(7, torch.device("cpu"))
    with step.bound():
        terms = step(x, weight)
        return terms, {name: p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("plain", [False, True], ids=["columns", "features"])
@pytest.mark.parametrize("by", [NumpyMatMul, TorchMatMul])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(12))
def test_it_equals_autograd(seed, name, by, plain, monkeypatch):
    monkeypatch.setattr(closed_module, "matmul_for", lambda weights, batch: by())
    network, objective, corrupt, x, weight = drawn(seed, name, plain=plain)
    closed = manual_step(network, objective, corrupt)
    wanted, gradients = run_steps(
        AutogradStep(network, objective, corrupt, bf16=False), network, x, weight
    )
    for _ in range(2):  # what the first has left must not count in the second
        terms, grads = run_steps(closed, network, x, weight)
        assert terms.keys() == wanted.keys()
        for term, other in wanted.items():
            torch.testing.assert_close(terms[term], other, rtol=1e-10, atol=1e-12)
        for parameter, gradient in gradients.items():
            torch.testing.assert_close(grads[parameter], gradient, rtol=1e-9, atol=1e-12)


PRECISE = {
    torch.float32: {"rtol": 5e-4, "atol": 5e-5},
    torch.float64: {"rtol": 1e-8, "atol": 1e-10},
}


def train_steps(make, seed, name, dtype, *, plain, threads=1):
    """The terms, evaluation and weights after some steps of an engine that `make` gives."""
    network, objective, _, x, weight = drawn(seed, name, plain=plain, dropped=False)
    draw = np.random.default_rng(seed)
    width = x.shape[1]
    if draw.integers(2):
        objective = Objective(objective.loss, allow_missing=True)
        ends = {"floor": np.full(width, -0.4), "ceiling": np.full(width, 0.5)}
        network.output = Clipped(**ends).double()
    network, x, weight = network.to(dtype), x.to(dtype), weight.to(dtype)
    x = x.repeat(3, 1)[:26]
    weight = weight.repeat(3)[:26] if weight.stride(0) else weight[:1].expand(26)
    decay = float(draw.choice([0.0, 0.1]))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=decay, eps=1e-6)
    step = manual_step(network, objective, None)
    assert step is not None
    plan = Plan(1, 11, None, [None, 1.0][draw.integers(2)], steps=1_000_000)
    with step.bound():
        engine = make(FlatAdam(step, optimizer, plan))
        engine.threads = threads
        steps = StepBatch(x, weight, [11, 1, 9, 5], [0.01, 0.02, 0.005, 0.01], [0] * 4)
        terms = [float(engine(steps)["reconstruction"]) for _ in range(3)]
        means = engine.adam.adopt()[0].clone()
        judged = None if engine.evaluator is None else engine.evaluator(x, weight)["reconstruction"]
    network.eval()
    with torch.no_grad():
        rows = objective.row_loss(network(x).reconstruction, x)
    if judged is not None:
        wanted = float((rows * weight).mean())
        assert float(judged) == pytest.approx(wanted, rel=PRECISE[dtype]["rtol"])
    return terms, means, [p.detach().clone() for p in network.parameters()]


@compiles
@pytest.mark.parametrize("dtype", PRECISE, ids=str)
@pytest.mark.parametrize("plain", [False, True], ids=["columns", "features"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(12))
def test_the_kernel_takes_the_same_steps(seed, name, plain, dtype):
    terms, means, weights = train_steps(CKernel, seed, name, dtype, plain=plain)
    wanted, others, known = train_steps(AdamLoop, seed, name, dtype, plain=plain)
    assert terms == pytest.approx(wanted, rel=PRECISE[dtype]["rtol"])
    torch.testing.assert_close(means, others, **PRECISE[dtype])
    for first, second in zip(weights, known, strict=True):
        torch.testing.assert_close(first, second, **PRECISE[dtype])


@compiles
@pytest.mark.parametrize("dtype", PRECISE, ids=str)
def test_shorter_vectors_give_the_same_result(dtype, monkeypatch, tmp_path):
    for name, flags in {"wide": ("-DBYTES=64",), "narrow": ("-DBYTES=32",)}.items():
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        monkeypatch.setattr(compiling, "FLAGS", (*compiling.FLAGS, "-Wno-psabi", *flags))
        made = compiling.library.__wrapped__()
        monkeypatch.setattr(kernel, "library", lambda made=made: made)
        for seed, loss in enumerate(LOSSES):
            terms, _, weights = train_steps(CKernel, seed, loss, dtype, plain=False)
            wanted, _, others = train_steps(AdamLoop, seed, loss, dtype, plain=False)
            assert terms == pytest.approx(wanted, rel=PRECISE[dtype]["rtol"])
            for weight, other in zip(weights, others, strict=True):
                torch.testing.assert_close(weight, other, **PRECISE[dtype])


@compiles
@pytest.mark.parametrize("seed", range(12))
def test_two_threads_give_the_same_bits_as_one(seed):
    one_thread, two_threads = (
        train_steps(CKernel, seed, "mixed", torch.float32, plain=False, threads=n) for n in (1, 2)
    )
    assert one_thread[0] == two_threads[0]
    for own, second in zip(one_thread[2], two_threads[2], strict=True):
        assert torch.equal(own, second)


@compiles
@pytest.mark.parametrize("field", ["weight", "scale", "share"])
def test_a_fault_of_the_kernel_is_caught(field, monkeypatch):
    of = kernel.NativeTable.of

    def wrong(parts, form, flat):
        return of(parts._replace(**{field: 1.1 * getattr(parts, field)}), form, flat)

    for seed in (3, 4, 5):
        wanted, _, _ = train_steps(AdamLoop, seed, "mixed", torch.float64, plain=False)
        with monkeypatch.context() as patched:
            patched.setattr(kernel.NativeTable, "of", wrong)
            patched.setattr(CKernel, "evaluator", None)
            terms, _, _ = train_steps(CKernel, seed, "mixed", torch.float64, plain=False)
        if terms != pytest.approx(wanted, rel=1e-6):
            return
    pytest.fail("three tables were judged as if nothing were wrong")


@compiles
def test_losses_of_wide_boolean_rows_are_exact():
    facts, draw = Facts(shape=(1500,)), np.random.default_rng(0)
    rows = torch.from_numpy((draw.random((8, 1500)) < 0.3).astype(np.float32))
    network = Regularized(hidden=()).build(facts, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=2)
    objective = Objective(Bernoulli().with_facts(facts))
    step = manual_step(network, objective, None)
    with torch.no_grad(), step.bound():
        engine = CKernel(
            FlatAdam(step, torch.optim.Adam(network.parameters()), Plan(1, 8, None, None))
        )
        terms = engine.evaluator(rows, torch.ones(1).expand(8))["reconstruction"]
        wanted = objective.row_loss(network.double()(rows.double()).reconstruction, rows.double())
    assert float(terms) == pytest.approx(float(wanted.mean()), rel=1e-5)


@pytest.mark.parametrize("make", [AdamLoop, pytest.param(CKernel, marks=compiles)])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_not_finite_is_returned(name, make):
    network, objective, _, x, weight = drawn(3, name, dropped=False)
    step = manual_step(network, objective, None)
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with step.bound():
        engine = make(
            FlatAdam(step, torch.optim.Adam(network.parameters()), Plan(1, 11, None, 1.0))
        )
        terms = engine(StepBatch(x, weight, [11], [0.01], [0]))
    assert not np.isfinite(float(terms["reconstruction"]))


def test_missing_values_train_their_fill_value():
    moved = 0
    for seed in range(12):
        network, objective, _, x, weight = drawn(seed, "mixed")
        _, grads = run_steps(manual_step(network, objective, None), network, x, weight)
        missing = x.isnan().any(0)
        assert not grads["fill_value"][~missing].any()
        moved += int((grads["fill_value"][missing] != 0).sum())
    assert moved


@pytest.mark.parametrize("field", ["weight", "scale", "share"])
def test_a_planted_fault_is_caught(field, monkeypatch):
    to = ColumnTable.to
    monkeypatch.setattr(
        column_losses.ColumnTable,
        "to",
        lambda parts, dtype: to(parts, dtype)._replace(**{field: 1.1 * getattr(parts, field)}),
    )
    caught = 0
    for seed in range(12):
        network, objective, _, x, weight = drawn(seed, "mixed")
        terms, _ = run_steps(manual_step(network, objective, None), network, x, weight)
        exact = AutogradStep(network, objective, None, bf16=False)
        wanted, _ = run_steps(exact, network, x, weight)
        caught += not torch.allclose(terms["reconstruction"], wanted["reconstruction"])
    assert caught > 6


def test_which_engine_evaluates():
    facts = Facts(shape=(4,))
    network = Regularized(hidden=(5,)).build(facts, 2)
    for loss in LOSSES.values():
        head = manual_step(network, Objective(loss.with_facts(facts)), None).loss
        assert isinstance(head, ColumnLoss) == (type(loss) is not Squared)
        heard = Objective(loss.with_facts(facts), [L1(weight=0.1)])
        assert isinstance(manual_step(network, heard, None).loss, AutogradLoss)
    assert ColumnTable.of(Squared()) is None  # it knows no rows


def frame(n=400, *, allow_missing=False):
    """Numbers, booleans and categories, with or without missing values."""
    draw = np.random.default_rng(0)
    z = draw.normal(size=(n, 2))
    table = pd.DataFrame({f"x{i}": z @ draw.normal(size=2) for i in range(3)})
    table["c"] = np.array(list("abcd"))[np.clip(np.round(z[:, 0]).astype(int) + 1, 0, 3)]
    table["b"] = z[:, 1] > 0
    if allow_missing:
        table.loc[draw.random(n) < 0.2, "x0"] = np.nan
        table.loc[draw.random(n) < 0.2, "c"] = None
    return table


SETTINGS = {"random_state": 0, "max_epochs": 6, "early_stopping": False, "precision": "float64"}


@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_fit_of_a_table_is_what_autograd_fits(allow_missing, monkeypatch):
    table = frame(allow_missing=allow_missing)
    own = Autoencoder(2, **SETTINGS).fit(table)
    assert own.facts_["engine"] == AdamLoop.name
    monkeypatch.setattr(
        "isthmus.training.engines.select.manual_step", lambda *args, **options: "a test"
    )
    second = Autoencoder(2, **SETTINGS).fit(table)
    assert second.facts_["engine"] == "autograd"
    for first, wanted in zip(own.network_.parameters(), second.network_.parameters(), strict=True):
        torch.testing.assert_close(first, wanted, rtol=1e-6, atol=1e-9)


def test_fits_of_tables_together_are_fits_alone():
    table = frame(allow_missing=True)
    models = [
        Autoencoder(2, optimizer=optim.AdamW(lr=lr), **SETTINGS) for lr in (0.001, 0.003, 0.01)
    ]
    alone = [Autoencoder(**first.get_params(deep=False)).fit(table) for first in models]
    for first, second in zip(fit_together(models, table), alone, strict=True):
        for own, wanted in zip(
            first.network_.parameters(), second.network_.parameters(), strict=True
        ):
            torch.testing.assert_close(own, wanted, rtol=1e-8, atol=1e-10)


def test_tables_are_searched():
    search = SearchCV(Autoencoder(2, **SETTINGS), {"n_components": [1, 2]}, cv=2).fit(frame())
    assert search.best_params_ == {"n_components": 2}
