"""The C kernel against the steps of NumPy and torch, in both precisions."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, kinds, optim
from isthmus.corruptions import Masking
from isthmus.losses import L1, Mixed, Objective, Squared
from isthmus.training.engines.base import StepBatch, evaluate_batch
from isthmus.training.engines.cpu import build, kernel
from isthmus.training.engines.cpu.kernel import CKernel, unsupported
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.engines.dense.step import manual_step
from isthmus.training.engines.select import FitParts, select_engine
from isthmus.training.plan import Plan
from isthmus.types import Facts

PRECISE = {
    torch.float32: {"rtol": 2e-4, "atol": 2e-5},
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},
}
LONG = Plan(max_epochs=1, batch_size=64, patience=None, clip_norm=None, steps=1_000_000)

pytestmark = pytest.mark.skipif(build.library() is None, reason="needs a C compiler")


def network(kind, D, K, dtype, *, clamp_output=False, seed=0):
    """A network with random weights, and its objective."""
    ends = {"floor": np.full(D, -0.2), "ceiling": np.full(D, 0.3)} if clamp_output else {}
    facts = Facts(shape=(D,), low=-1.0, high=1.0, **ends)
    torch.manual_seed(seed)
    made = kind.build(facts, K).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made, Objective(Squared().with_facts(facts))


def drawn(seed):
    """A random configuration of network, batches and optimizer."""
    draw = np.random.default_rng(seed)
    hidden = tuple(int(width) for width in draw.integers(1, 40, draw.integers(0, 4)))
    kind = kinds.Regularized(
        hidden=hidden,
        activation=str(draw.choice(list(kinds.ACTIVATIONS))),
        code_activation=str(draw.choice(list(kinds.ACTIVATIONS))),
        skip=bool(draw.integers(2)) or not hidden,
    )
    D, K = int(draw.integers(1, 70)), int(draw.integers(1, 20))
    method = [torch.optim.Adam, torch.optim.AdamW][draw.integers(2)]
    settings = {"weight_decay": float(draw.choice([0.0, 0.1])), "eps": 1e-6}
    clip = [None, 1.0, 0.01][draw.integers(3)]
    sizes = [int(size) for size in draw.integers(1, 20, 5)]
    weighed, clamp_output = bool(draw.integers(2)), bool(draw.integers(2))
    return (kind, D, K, clamp_output), (method, settings, clip), (sizes, weighed)


def run_steps(make, dtype, seed):
    """The terms and the weights after some steps of an engine that `make` gives."""
    (kind, D, K, clamp_output), (method, settings, clip), (sizes, weighed) = drawn(seed)
    net, objective = network(kind, D, K, dtype, clamp_output=clamp_output, seed=seed)
    rows = torch.randn(sum(sizes), D, dtype=dtype)
    weight = torch.rand(len(rows), dtype=dtype) if weighed else torch.ones(1).expand(len(rows))
    step = manual_step(net, objective, None)
    plan = Plan(1, max(sizes), None, clip, steps=1_000_000)
    with step.bound():
        engine = make(FlatAdam(step, method(net.parameters(), lr=0.01, **settings), plan))
        rates = [0.01, 0.02, 0.005, 0.01, 0.003]
        terms = [engine(StepBatch(rows, weight, sizes, rates, [0] * 5)) for _ in range(2)]
        state = engine.adam.optimizer.state_dict()["state"]
    return terms, [p.detach().clone() for p in net.parameters()], state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("seed", range(60))
def test_it_equals_numpy_and_torch(seed, dtype):
    terms, weights, state = run_steps(CKernel, dtype, seed)
    wanted, others, known = run_steps(AdamLoop, dtype, seed)
    for first, second in zip(terms, wanted, strict=True):
        assert first.keys() == second.keys()
        assert float(first["reconstruction"]) == pytest.approx(
            float(second["reconstruction"]), rel=PRECISE[dtype]["rtol"]
        )
    for weight, second in zip(weights, others, strict=True):
        torch.testing.assert_close(weight, second, **PRECISE[dtype])
    for number, moments in known.items():
        for name, moment in moments.items():
            torch.testing.assert_close(state[number][name], moment, **PRECISE[dtype])


def with_help(adam):
    """An engine whose two threads take half of each batch."""
    engine = CKernel(adam)
    engine.threads = 2
    return engine


@pytest.mark.parametrize("seed", range(20))
def test_two_threads_give_the_same_bits_as_one(seed):
    terms, weights, _ = run_steps(with_help, torch.float32, seed)
    wanted, others, _ = run_steps(CKernel, torch.float32, seed)
    assert [float(first["reconstruction"]) for first in terms] == [
        float(first["reconstruction"]) for first in wanted
    ]
    for weight, second in zip(weights, others, strict=True):
        torch.testing.assert_close(weight, second, rtol=0, atol=0)


def test_a_stalled_kernel_goes_on_with_one_thread():
    net, objective = network(kinds.Multilayer(hidden=(5,)), 4, 2, torch.float32)
    step = manual_step(net, objective, None)
    steps = StepBatch(torch.rand(8, 4), torch.ones(1).expand(8), [4, 4], [0.01] * 2, [0] * 2)
    stalls = [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    helped, coming = [], iter(stalls)

    def stalling(*args):
        helped.append(args[-3])
        return next(coming)

    with step.bound():
        engine = with_help(FlatAdam(step, torch.optim.Adam(net.parameters()), LONG))
        engine(steps)
        engine._call.run, engine._call.pause = stalling, 0
        for _ in stalls:
            engine(steps)
    # Alone for two calls, then for four, and for two again when two threads have gone well.
    assert helped == [1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1]


def test_a_planted_fault_is_caught(monkeypatch):
    kernel_settings = kernel.kernel_settings

    def halved(engine, **how):
        return [
            value / 2 if number == 5 else value
            for number, value in enumerate(kernel_settings(engine, **how))
        ]

    monkeypatch.setattr(kernel, "kernel_settings", halved)
    _, weights, _ = run_steps(CKernel, torch.float64, 3)
    _, others, _ = run_steps(AdamLoop, torch.float64, 3)
    assert not all(map(torch.allclose, weights, others))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_it_evaluates_as_the_network_does(seed, threads, dtype):
    (kind, D, K, clamp_output), _, (_, weighed) = drawn(seed)
    net, objective = network(kind, D, K, dtype, clamp_output=clamp_output, seed=seed)
    rows = torch.randn(600, D, dtype=dtype)
    weight = torch.rand(600, dtype=dtype) if weighed else torch.ones(1).expand(600)
    step = manual_step(net, objective, None)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    with step.bound():
        engine = CKernel(FlatAdam(step, torch.optim.Adam(net.parameters()), LONG))
        engine.threads = threads
        terms = engine.evaluator(rows, weight)
    wanted = evaluate_batch(net.eval(), objective, rows, weight)
    assert terms.keys() == wanted.keys()
    rtol = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(
        terms["reconstruction"], wanted["reconstruction"].double(), rtol=rtol, atol=0
    )
    for parameter, known in zip(net.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), known, rtol=0, atol=0)


@pytest.mark.parametrize(("available_cpus", "expected"), [(1, False), (2, True)])
def test_it_starts_no_second_thread_on_one_processor(available_cpus, expected, monkeypatch):
    monkeypatch.setattr(kernel, "available_cpus", lambda: available_cpus)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    net, objective = network(kinds.Vanilla(), 6, 2, torch.float32)
    step, adam = manual_step(net, objective, None), torch.optim.Adam(net.parameters())
    with step.bound():
        engine = CKernel(FlatAdam(step, adam, Plan(1, 8, None, None, steps=1_000_000)))
        assert engine._bound_call().two_threads == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shorter_vectors_give_the_same_result(dtype, monkeypatch, tmp_path):
    widths = {"wide": ("-DBYTES=64",), "narrow": ("-DBYTES=32",)}
    for name, flags in widths.items():
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-Wno-psabi", *flags))
        made = build.library.__wrapped__()
        monkeypatch.setattr(kernel, "library", lambda made=made: made)
        for seed in range(12):
            _, weights, _ = run_steps(CKernel, dtype, seed)
            _, others, _ = run_steps(AdamLoop, dtype, seed)
            for weight, other in zip(weights, others, strict=True):
                torch.testing.assert_close(weight, other, **PRECISE[dtype])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_loss_that_is_not_finite_is_returned(value):
    for make in (CKernel, AdamLoop):
        net, objective = network(
            kinds.Multilayer(hidden=(5,), activation="sigmoid"), 4, 2, torch.float32
        )
        rows = torch.full((8, 4), float(value))
        step = manual_step(net, objective, None)
        with step.bound():
            engine = make(FlatAdam(step, torch.optim.Adam(net.parameters()), LONG))
            terms = engine(StepBatch(rows, torch.ones(1).expand(8), [4, 4], [0.01] * 2, [0] * 2))
        assert not np.isfinite(float(terms["reconstruction"]))


def rows_of(n=600, d=12):
    draw = np.random.default_rng(0)
    return np.tanh(draw.normal(size=(n, 3)) @ draw.normal(size=(3, d))) + 0.05 * draw.normal(
        size=(n, d)
    )


def fitted(X, **settings):
    wanted = {
        "kind": kinds.Multilayer(hidden=(16,)),
        "pretraining": "random",
        "optimizer": optim.AdamW(),
        "batch_size": 20,
        "max_epochs": 100,
        "early_stopping": False,
        "random_state": 0,
    }
    return Autoencoder(3, **(wanted | settings))


@pytest.fixture
def calls(monkeypatch):
    """The calls of the kernel during a fit."""
    count, call = [], CKernel.__call__

    def counted(self, steps):
        count.append(len(steps.sizes))
        return call(self, steps)

    monkeypatch.setattr(CKernel, "__call__", counted)
    return count


def test_long_fits_use_it(calls, monkeypatch):
    X = rows_of()
    model = fitted(X).fit(X)
    assert sum(calls) > 2000
    calls.clear()
    monkeypatch.setattr(kernel, "MIN_SECONDS", 1e9)
    other = fitted(X).fit(X)
    assert not calls
    assert model.reconstruction_error(X) == pytest.approx(other.reconstruction_error(X), rel=1e-3)


def test_a_fit_goes_on_with_the_same_bits(calls, tmp_path):
    X = rows_of()
    whole = fitted(X).fit(X)
    made = fitted(X, checkpoint=tmp_path / "c", callbacks=(_interrupting,))
    with pytest.raises(KeyboardInterrupt):
        made.fit(X)
    model = made.set_params(callbacks=()).fit(X, resume=True)
    assert calls
    for first, second in zip(model.network_.parameters(), whole.network_.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def _interrupting(record):
    if record["epoch"] == 30:
        raise KeyboardInterrupt


def test_partial_fit_takes_any_number_of_rows(calls):
    X = rows_of()
    model = fitted(X).fit(X)
    calls.clear()
    before = model.reconstruction_error(X)
    model.partial_fit(X[:7]).set_params(batch_size="full").partial_fit(X)
    assert calls
    assert np.isfinite(model.reconstruction_error(X))
    assert model.reconstruction_error(X) < 2 * before


@pytest.mark.parametrize(
    ("D", "loss", "batch", "steps"),
    [(64, Squared(), 64, 1160), (784, Squared(), 128, 110), (64, Mixed(), 64, 300)],
)
def test_it_is_for_fits_that_are_long_enough(D, loss, batch, steps):
    facts = Facts(shape=(D,))
    network = kinds.Vanilla().build(facts, 32)
    step = manual_step(network, Objective(loss.with_facts(facts)), None)
    for share, pays in ((0.9, False), (1.1, True)):
        plan = Plan(1, batch, None, None, steps=int(share * steps))
        assert (unsupported(step, plan) is None) == pays


@pytest.mark.parametrize(
    ("D", "K", "batch", "does"),
    [
        (784, 64, 290, True),  # 100,352 weights and 848 biases: 29.3 million multiply-adds
        (784, 64, 300, False),
        (4000, 65, 32, True),  # 520,000 weights and 4,065 biases
        (4000, 66, 32, False),  # 532,066 in all; 17 million multiply-adds
        (4000, 66, 16, True),  # below ten million a batch it takes any
    ],
)
def test_it_is_for_networks_that_stay_in_a_cache(D, K, batch, does):
    facts = Facts(shape=(D,))
    network = kinds.Vanilla().build(facts, K)
    step = manual_step(network, Objective(Squared().with_facts(facts)), None)
    assert (unsupported(step, Plan(1, batch, None, None, steps=10_000)) is None) == does


@pytest.mark.parametrize(
    ("kind", "penalties", "corrupt", "plan", "reason"),
    [
        (kinds.Multilayer(hidden=(5,)), [L1(weight=0.1)], None, LONG, "a penalty"),
        (kinds.Multilayer(hidden=(5,)), [], Masking(rate=0.1), LONG, "corruption"),
        (kinds.Multilayer(hidden=(5,), dropout=0.1), [], None, LONG, "dropout"),
        (kinds.Multilayer(hidden=(5,)), [], None, Plan(1, 64, None, None, steps=100), "too short"),
        (kinds.Multilayer(hidden=(8000,)), [], None, LONG, "too large"),
    ],
)
def test_unsupported_fits_have_a_reason(kind, penalties, corrupt, plan, reason):
    facts = Facts(shape=(40,))
    network, objective = kind.build(facts, 2), Objective(Squared().with_facts(facts), penalties)
    adam = torch.optim.Adam(network.parameters())
    selection = select_engine(FitParts(network, objective, corrupt, adam, plan, bf16=False))
    assert type(selection.multi_step) is AdamLoop
    assert selection.name == AdamLoop.name
    assert reason in selection.passed_over[CKernel.name]


def run(code, tmp_path, **environment):
    variables = {"XDG_CACHE_HOME": str(tmp_path), "PATH": os.environ["PATH"]} | environment
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout


def test_it_is_compiled_once_and_cached(tmp_path):
    code = "from isthmus.training.engines.cpu.build import library; print(library()._name)"
    name = run(code, tmp_path).strip()
    written = Path(name).stat().st_mtime_ns
    assert name.startswith(str(tmp_path))
    assert run(code, tmp_path).strip() == name
    assert Path(name).stat().st_mtime_ns == written
    assert list((tmp_path / "isthmus").iterdir()) == [Path(name)]
    assert stat.S_IMODE((tmp_path / "isthmus").stat().st_mode) == 0o700


def test_a_file_that_others_may_have_written_is_not_run(tmp_path):
    code = "from isthmus.training.engines.cpu.build import library; print(library())"
    assert "CDLL" in run(code, tmp_path)
    (tmp_path / "isthmus").chmod(0o777)
    assert run(code, tmp_path).strip() == "None"


@pytest.mark.parametrize("environment", [{"ISTHMUS_COMPILE": "never"}, {"PATH": "/nowhere"}])
def test_without_a_compiler_results_are_the_same(environment, tmp_path):
    code = "from isthmus.training.engines.cpu.build import library; print(library())"
    assert run(code, tmp_path, **environment).strip() == "None"
    assert not list(tmp_path.iterdir())


def test_a_read_only_cache_folder_gives_no_kernel(tmp_path):
    code = "from isthmus.training.engines.cpu.build import library; print(library())"
    (tmp_path / "file").write_text("")
    assert run(code, tmp_path, XDG_CACHE_HOME=str(tmp_path / "file")).strip() == "None"


@pytest.mark.parametrize("left", [b"", b"no library at all", 4096, 9000])
def test_a_damaged_library_is_compiled_again(left, tmp_path):
    code = "from isthmus.training.engines.cpu.build import library; print(library()._name)"
    place = Path(run(code, tmp_path).strip())
    whole = place.read_bytes()
    place.write_bytes(whole[:left] if isinstance(left, int) else left)
    assert run(code, tmp_path).strip() == str(place)
    assert place.read_bytes() == whole


def test_another_library_of_that_name_is_not_used(tmp_path):
    code = "from isthmus.training.engines.cpu.build import library; print(library()._name)"
    place = Path(run(code, tmp_path).strip())
    source = tmp_path / "other.c"
    source.write_text("int other(void) { return 1; }")
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", place], check=True)
    whole = "; import ctypes; print(ctypes.CDLL(library()._name).steps_double is not None)"
    assert run(code + whole, tmp_path).split() == [str(place), "True"]


@pytest.mark.parametrize("stored", ["x/cache", "."])
def test_a_relative_cache_folder_is_not_used(stored, tmp_path):
    code = "from isthmus.runtime.cache import cache_folder; print(cache_folder())"
    result = run(code, tmp_path, XDG_CACHE_HOME=stored, HOME=str(tmp_path)).strip()
    assert result == str(tmp_path / ".cache" / "isthmus")


@pytest.mark.parametrize(
    "compiler", ["env cc", "cc -std=gnu11", "false", "echo", "true", "no", '"']
)
def test_any_command_may_compile_and_others_are_tried_after_it(compiler, tmp_path):
    code = "from isthmus.training.engines.cpu.build import library; print(library())"
    assert "CDLL" in run(code, tmp_path, CC=compiler)


def test_a_user_without_a_home_has_no_kernel(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert build.library.__wrapped__() is None


def test_a_compiler_that_fails_gives_no_kernel(tmp_path):
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("cc", "gcc", "clang"):
        (fake / name).write_text("#!/bin/sh\nexit 1\n")
        (fake / name).chmod(0o755)
    code = "from isthmus.training.engines.cpu.build import library; print(library())"
    assert run(code, tmp_path, PATH=f"{fake}:/bin").strip() == "None"
    assert not list((tmp_path / "isthmus").iterdir())
