"""CUDA graphs without a GPU: a Python function replaces each graph."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from isthmus import kinds
from isthmus.corruptions import Masking
from isthmus.losses import Bernoulli, Objective, Squared
from isthmus.training.engines.base import StepBatch, run_lengths
from isthmus.training.engines.cuda import graphs
from isthmus.training.engines.cuda.graphs import CapturedSteps, CudaGraphs, pieces
from isthmus.training.engines.dense import adam_state
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.engines.dense.step import manual_step
from isthmus.training.plan import Plan
from isthmus.types import Facts

PLAN = Plan(max_epochs=1, batch_size=8, patience=None, clip_norm=1.0)


class Played(CudaGraphs):
    """CUDA graphs replaced by Python: a replay takes the steps from the input buffers."""

    launched = 0

    def _capture(self, like, weighing):
        rows, rates = torch.zeros_like(like), torch.zeros(len(like))
        weights = weighing.clone() if weighing.stride(1) else weighing
        terms = torch.zeros(len(like), len(self._term_names))

        def replay():
            self.launched += 1
            for each in zip(rows, weights, rates, terms, strict=True):
                each[3].copy_(self._step(*each[:3]))

        return CapturedSteps(rows, weights, rates, terms, SimpleNamespace(replay=replay))


@pytest.fixture(autouse=True)
def _on_a_processor(monkeypatch):
    # Only Adam's kernels on a GPU take a rate that is a tensor.
    adam = adam_state.fused_adam()

    def with_number(*args, lr, **options):
        adam(*args, lr=float(lr), **options)

    monkeypatch.setattr(adam_state, "fused_adam", lambda: with_number)
    monkeypatch.setattr(graphs, "STEPS_PER_GRAPH", 4)


def run_steps(make, sizes, *, loss=None, corrupt=None, weighed=False, at=False, bf16=False):
    facts = Facts(shape=(6,), low=0.0, high=1.0)
    torch.manual_seed(0)
    network = kinds.Multilayer(hidden=(5,)).build(facts, 2)
    noise = None if corrupt is None else lambda x: corrupt(x, facts=facts)
    step = manual_step(network, Objective((loss or Squared()).with_facts(facts)), noise, bf16=bf16)
    n = sum(sizes)
    rows = torch.rand(n, 6)
    weight = torch.rand(n) if weighed else torch.ones(1).expand(n)
    where = torch.randperm(n) if at else None
    rates = [0.01 * (1 + number % 3) for number in range(len(sizes))]
    with step.bound():
        engine = make(
            FlatAdam(step, torch.optim.AdamW(network.parameters(), weight_decay=0.1), PLAN)
        )
        steps = StepBatch(rows, weight, sizes, rates, list(range(len(sizes))), where)
        terms = [engine(steps) for _ in range(3)]
        result = step.flat_parameters.values.clone()
    return terms, result, engine


CASES = {
    "alike": {"sizes": [8] * 9},
    "a smaller last one": {"sizes": [8] * 6 + [3]},
    "positions": {"sizes": [8] * 6 + [3], "at": True},
    "weights": {"sizes": [8] * 6 + [3], "weighed": True, "at": True},
    "noise": {"sizes": [8] * 5, "corrupt": Masking(rate=0.3)},
    "another loss": {"sizes": [8] * 6, "loss": Bernoulli()},
    "half precision": {"sizes": [8] * 6, "bf16": True},
}


@pytest.mark.parametrize("name", CASES)
def test_graphs_equal_single_steps(name):
    terms, values, engine = run_steps(Played, **CASES[name])
    wanted, others, _ = run_steps(AdamLoop, **CASES[name])
    assert engine.launched
    torch.testing.assert_close(values, others, rtol=2e-5, atol=1e-6)
    for first, second in zip(terms, wanted, strict=True):
        assert first.keys() == second.keys()
        for term in first:
            assert float(first[term]) == pytest.approx(float(second[term]), rel=1e-4)


def test_a_planted_fault_is_caught(monkeypatch):
    real = Played._step
    monkeypatch.setattr(
        Played, "_step", lambda self, x, weight, rate: real(self, x, weight, 2 * rate)
    )
    _, values, _ = run_steps(Played, [8] * 9)
    _, others, _ = run_steps(AdamLoop, [8] * 9)
    assert not torch.allclose(values, others, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "sizes", [[8], [8] * 3, [8] * 4, [8] * 11, [8] * 5 + [3], [3, 8, 8], [1, 2]]
)
def test_pieces_cover_all_steps_in_order(sizes):
    result = list(pieces(sizes, 4))
    assert [number for piece in result for number in piece] == list(range(len(sizes)))
    for piece in result:
        assert len(piece) in (1, 4)
        assert len({sizes[number] for number in piece}) == 1
    assert all(first.stop == second.start for first, second in pairwise(result))
    assert [size for many, size in run_lengths(sizes) for _ in range(many)] == sizes
