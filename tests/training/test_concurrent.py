"""Concurrent fits have the results of single fits."""

import threading
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from isthmus import Autoencoder, fit_together
from isthmus.errors import RequestError, options_in_messages
from isthmus.kinds import Multilayer, Vanilla
from isthmus.losses import L1, Contraction
from isthmus.optim import Adam, AdamW
from isthmus.training.concurrent import run_together
from isthmus.training.engines import batched
from isthmus.training.engines.cpu import build, kernel
from isthmus.training.shared_cache import cached

BASE = {
    "n_components": 2,
    "kind": Multilayer(hidden=(8,)),
    "precision": "float64",
    "pretraining": "random",
    "max_epochs": 6,
    "batch_size": 16,
    "random_state": 0,
}
DROPPING = Multilayer(hidden=(8,), dropout=0.2)
SETTINGS = {
    "seeds": [{"random_state": seed} for seed in range(3)],
    "rates": [{"optimizer": AdamW(lr=rate)} for rate in (0.001, 0.003, 0.01)],
    "decays": [{"optimizer": AdamW(weight_decay=decay)} for decay in (0.0, 0.1)],
    "decays of the gradient": [{"optimizer": Adam(weight_decay=decay)} for decay in (0.0, 0.1)],
    "schedules": [{"optimizer": AdamW(schedule=name)} for name in ("constant", "cosine")],
    "penalties": [{"penalties": (L1(weight=weight),)} for weight in (0.01, 0.1)],
    "penalties of other names": [{"penalties": p} for p in (("l1",), ("kl",), ("l1", "kl"))],
    "penalties without weight": [{"penalties": p} for p in ((L1(weight=0),), (), ())],
    "contractions": [
        {"kind": Vanilla(activation="tanh"), "penalties": (Contraction(weight=weight), "l1")}
        for weight in (0.01, 0.1)
    ],
    "noise": [{"corruption": name} for name in ("gaussian", "masking", None)],
    "dropout": [{"kind": DROPPING, "random_state": seed} for seed in range(3)],
    "losses": [{"loss": loss} for loss in ("squared", "huber")],
    "epochs": [{"max_epochs": epochs} for epochs in (1, 4, 6)],
    "batches": [{"batch_size": size} for size in (16, 20)],
    "forms": [{"kind": Multilayer(hidden=(width,))} for width in (8, 8, 9)],
    "a start at PCA": [{"pretraining": "pca", "random_state": seed} for seed in range(2)],
    "what has no closed form": [{"kind": Multilayer(hidden=(8,), tied=True)}, {}],
    "other optimizers": [{"optimizer": "sgd"}, {"optimizer": "lbfgs"}, {}, {"random_state": 5}],
}


@pytest.fixture
def rows(rng):
    return np.tanh(rng.normal(size=(150, 3)) @ rng.normal(size=(3, 7)))


@pytest.fixture
def stacks(monkeypatch):
    """The number of networks in each batched step."""
    sizes, before = [], batched.BatchedSteps.__call__

    def counted(self, asked):
        sizes.append(len(asked))
        return before(self, asked)

    monkeypatch.setattr(batched.BatchedSteps, "__call__", counted)
    return sizes


def made(settings):
    return Autoencoder(**(BASE | settings))


def assert_same(first, second):
    assert len(first.history_) == len(second.history_)
    assert first.best_epoch_ == second.best_epoch_
    for name, value in first.network_.state_dict().items():
        torch.testing.assert_close(
            value, second.network_.state_dict()[name], rtol=1e-7, atol=1e-9, msg=name
        )
    for record, twin in zip(first.history_, second.history_, strict=True):
        assert record.get("train", {}).keys() == twin.get("train", {}).keys()
        assert record.get("train", {}) == pytest.approx(twin.get("train", {}), rel=1e-9)
        assert record.get("validation", {}) == pytest.approx(twin.get("validation", {}), rel=1e-9)


@pytest.mark.parametrize("name", SETTINGS)
def test_concurrent_fits_equal_single_fits(rows, stacks, name):
    alone = [made(settings).fit(rows) for settings in SETTINGS[name]]
    assert not stacks
    fits = [made(settings) for settings in SETTINGS[name]]
    together = run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    for first, second in zip(alone, together, strict=True):
        assert_same(first, second)
    equal_weights = name not in ("batches", "what has no closed form", "penalties of other names")
    assert bool(stacks) == equal_weights


def test_rows_may_differ(rng, stacks):
    tables = [rng.normal(size=(n, 7)) for n in (150, 150, 149, 60)]
    alone = [made({}).fit(table) for table in tables]
    jobs = [lambda table=table: made({}).fit(table) for table in tables]
    for first, second in zip(alone, run_together(jobs), strict=True):
        assert_same(first, second)
    assert stacks


@pytest.fixture
def side_by_side(monkeypatch):
    """The numbers of fits that were in the C kernel at the same time."""
    monkeypatch.setattr(kernel, "MIN_SECONDS", 0.0)
    if build.library() is None:
        pytest.skip("needs a C compiler")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # of which the crew makes use
    most, inside, call = [], [], kernel.KernelCall.__call__
    met = threading.Barrier(2, timeout=20)

    def counted(self, *args):
        inside.append(1)
        most.append(len(inside))
        if len(most) <= 2:
            met.wait()  # the first two wait for each other
        result = call(self, *args)
        inside.pop()
        return result

    monkeypatch.setattr(kernel.KernelCall, "__call__", counted)
    return most


def test_fits_in_the_kernel_run_in_parallel(rows, side_by_side):
    settings = [{"random_state": seed, "batch_size": 20 + seed} for seed in range(4)]
    fits = [made(first) for first in settings]
    together = run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    assert 2 <= max(side_by_side) <= 3  # two processors, and one more fit that waits for Python
    for first, second in zip(together, settings, strict=True):
        alone = made(second).fit(rows)
        for weight, wanted in zip(
            first.network_.parameters(), alone.network_.parameters(), strict=True
        ):
            torch.testing.assert_close(weight, wanted, rtol=0, atol=0)


def test_an_interrupt_ends_fits_in_the_kernel_too(rows, side_by_side, tmp_path):
    def stop(record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    places = [tmp_path / name for name in "abc"]
    fits = [
        made({"checkpoint": place, "random_state": number}) for number, place in enumerate(places)
    ]
    fits[1].set_params(callbacks=(stop,))
    with pytest.raises(KeyboardInterrupt):
        run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    assert not [item for item in threading.enumerate() if item.daemon and "_run_job" in item.name]
    assert side_by_side


def test_an_error_in_the_kernel_fails_only_its_fit(rows, monkeypatch):
    monkeypatch.setattr(kernel, "MIN_SECONDS", 0.0)
    if build.library() is None:
        pytest.skip("needs a C compiler")
    call = kernel.CKernel.__call__

    def failing(self, steps):
        if self.adam.plan.batch_size == 33:
            raise RuntimeError("enough")
        return call(self, steps)

    monkeypatch.setattr(kernel.CKernel, "__call__", failing)
    fits = [made({}), made({"batch_size": 33}), made({"random_state": 1})]
    together = run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    assert str(together[1]) == "enough"
    assert_same(together[0], made({}).fit(rows))
    assert_same(together[2], made({"random_state": 1}).fit(rows))


def test_a_planted_fault_is_caught(rows, monkeypatch):
    before = batched.BatchedSteps._clip

    def mixed(self):
        before(self)
        self.grads[0] += 1e-4 * self.grads[1]

    monkeypatch.setattr(batched.BatchedSteps, "_clip", mixed)
    fits = [made({"random_state": seed}) for seed in range(2)]
    together = run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    with pytest.raises(AssertionError):
        assert_same(made({"random_state": 0}).fit(rows), together[0])


def test_a_fit_that_fails_does_not_affect_the_others(rows, stacks):
    def stop(record):
        if record["epoch"] == 3:
            raise RuntimeError("enough")

    fits = [made({}), made({"callbacks": (stop,)}), made({"random_state": 1})]
    together = run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    assert str(together[1]) == "enough"
    assert_same(together[0], made({}).fit(rows))
    assert_same(together[2], made({"random_state": 1}).fit(rows))
    assert set(stacks) == {2, 3}


def test_a_fit_that_diverges_is_restored_alone(rows):
    wild = {"optimizer": AdamW(lr=100.0, clip_norm=None), "preparation": "none"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = [made(wild).fit(rows), made({"preparation": "none"}).fit(rows)]
        fits = [made(wild), made({"preparation": "none"})]
        together = run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    assert any(record.get("event") == "diverged" for record in together[0].history_)
    for first, second in zip(alone, together, strict=True):
        assert_same(first, second)


def test_an_interrupt_ends_all_fits_so_that_they_can_resume(rows, tmp_path):
    def stop(record):
        if record["epoch"] == 4:
            raise KeyboardInterrupt

    places = [tmp_path / name for name in "ab"]
    fits = [made({"checkpoint": places[0]}), made({"checkpoint": places[1], "callbacks": (stop,)})]
    with pytest.raises(KeyboardInterrupt):
        run_together([lambda fit=fit: fit.fit(rows) for fit in fits])
    whole = made({}).fit(rows)
    for place in places:
        resumed = made({"checkpoint": place}).fit(rows, resume=True)
        assert_same(whole, resumed)


def test_random_state_and_threads_are_left_as_they_were(rows):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    run_together([lambda seed=seed: made({"random_state": seed}).fit(rows) for seed in range(2)])
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == threads


def test_shared_results_are_computed_once(rows):
    made_of, owner = [], object()

    def work():
        made_of.append(1)
        return len(made_of)

    jobs = [lambda: cached((owner,), "key", work)] * 3
    assert run_together(jobs) == [1, 1, 1]
    assert run_together(jobs) == [2, 2, 2]
    assert cached((owner,), "key", work) == 3
    others = [lambda: cached((object(),), "key", work)] * 2
    assert run_together(others) == [4, 5]


def test_no_jobs_no_results():
    assert run_together([]) == []


WAYS = {
    "in C": {},
    "a stack": {"corruption": "gaussian"},
    "step by step": {"optimizer": "muon"},
    "no closed form": {"kind": Multilayer(hidden=(8,), tied=True)},
}


@pytest.fixture
def _soon_in_c(monkeypatch):
    monkeypatch.setattr(kernel, "MIN_SECONDS", 0.0)


@pytest.mark.usefixtures("_soon_in_c")
@pytest.mark.parametrize("way", WAYS)
def test_partial_fit_continues_as_after_a_single_fit(rows, way):
    settings = [WAYS[way], WAYS[way] | {"random_state": 3}]
    alone = [made(first).fit(rows).partial_fit(rows) for first in settings]
    together = fit_together([made(first) for first in settings], rows)
    for first, second in zip(alone, together, strict=True):
        assert_same(first, second.partial_fit(rows))
    starts = made(WAYS[way] | {"n_init": 2}).fit(rows)
    before = [weight.detach().clone() for weight in starts.network_.parameters()]
    starts.partial_fit(rows)
    moved = zip(before, starts.network_.parameters(), strict=True)
    assert not all(torch.equal(first, second) for first, second in moved)


def test_messages_name_the_fit(rows, capsys):
    wild = {"optimizer": AdamW(lr=100.0, clip_norm=None), "preparation": "none", "verbose": 1}
    fits = [made({"verbose": 1, "max_epochs": 2}), made(wild), made({"max_epochs": 2})]
    with pytest.warns(ConvergenceWarning) as caught:
        fit_together(fits, rows)
    warned = [str(item.message) for item in caught if item.category is ConvergenceWarning]
    assert warned
    assert all(line.startswith("fit 2 of 3: the loss reached ") for line in warned)
    lines = capsys.readouterr().err.splitlines()
    assert {line[:12] for line in lines} == {"fit 1 of 3: ", "fit 2 of 3: "}
    assert [line[:24] for line in lines if line.startswith("fit 1 of 3: epoch")] == [
        "fit 1 of 3: epoch 1  tra",
        "fit 1 of 3: epoch 2  tra",
    ]
    assert not [item for fit in fits for item in fit.history_ if "fit 2" in item.get("message", "")]
    made({"verbose": 1, "max_epochs": 1}).fit(rows)
    assert capsys.readouterr().err.startswith("epoch 1  ")


def test_numbers_of_fits_go_on_from_group_to_group(rows, capsys, monkeypatch):
    monkeypatch.setattr("isthmus.search.together.MAX_CONCURRENT", 2)
    fit_together([made({"verbose": 1, "max_epochs": 1}) for _ in range(3)], rows)
    lines = capsys.readouterr().err.splitlines()
    assert {line[:12] for line in lines} == {f"fit {i} of 3: " for i in (1, 2, 3)}


def test_messages_in_threads_name_options_too(rows):
    fits = [made({}), made({"loss": "bernoulli"})]
    with options_in_messages(), pytest.raises(RequestError, match="use --loss squared"):
        fit_together(fits, rows)


def test_messages_of_nested_fits_name_both(rows, capsys):
    fits = [made({}), made({"verbose": 1, "n_init": 3, "max_epochs": 1})]
    fit_together(fits, rows)
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith("fit 2 of 2: fit 1 of 3: epoch 1  ")
    assert others[-1].startswith("fit 2 of 2: the best of 3 starts")


def test_an_error_has_a_note_of_the_fit_that_raised_it(rows):
    fits = [made({}), made({"n_components": 0}), made({})]
    with pytest.raises(RequestError, match="n_components") as caught:
        fit_together(fits, rows)
    assert caught.value.__notes__ == ["raised by fit 2 of 3"]
    with pytest.raises(RequestError) as caught:
        fit_together(fits[1:2], rows)
    assert not hasattr(caught.value, "__notes__")
