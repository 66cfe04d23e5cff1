"""Adam on weights with bf16 copies: the C kernel against torch."""

import functools

import pytest
import torch

from isthmus import Autoencoder, corruptions, kinds, optim
from isthmus.losses import Huber, Objective, Squared
from isthmus.training.engines.base import StepBatch
from isthmus.training.engines.cpu import bf16_adam
from isthmus.training.engines.cpu import build as compiling
from isthmus.training.engines.cpu.bf16_adam import Bf16Adam
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.engines.dense.step import manual_step
from isthmus.training.plan import Plan
from isthmus.types import Facts

pytestmark = pytest.mark.skipif(compiling.library() is None, reason="needs a C compiler")

METHODS = {
    "adam": (torch.optim.Adam, {}, None),
    "adam clipped": (torch.optim.Adam, {"betas": (0.5, 0.9)}, 0.01),
    "adam decaying": (torch.optim.Adam, {"weight_decay": 0.1}, 1.0),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1, "eps": 1e-4}, None),
    "adamw clipped": (torch.optim.AdamW, {"weight_decay": 0.1}, 0.5),
    "adam without mean": (torch.optim.Adam, {"betas": (0.0, 0.99)}, 1e9),
}


def engine_of(make, method, *, wide=300, corrupt=None, loss=None):
    """A bound step in bf16 with an engine on it, of the same weights each time."""
    facts = Facts(shape=(wide,))
    torch.manual_seed(0)
    net = kinds.Multilayer(hidden=(200,)).build(facts, 7)
    objective = Objective((loss or Squared()).with_facts(facts))
    step = manual_step(net, objective, corrupt, bf16=True)
    kind, settings, clip = METHODS[method]
    plan = Plan(1, 64, None, clip, steps=1_000)
    return step, make(FlatAdam(step, kind(net.parameters(), lr=0.01, **settings), plan))


def stepped(make, method, threads, scale=1.0):
    """Weights, moments and copies after three steps with random gradients."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    step, engine = engine_of(make, method)
    draw = torch.Generator().manual_seed(1)
    with step.bound(), torch.no_grad():
        flat = step.flat_parameters
        mean, square = engine.adam.adopt()
        if make is AdamLoop:
            update = engine.adam.make_update(flat, mean, square)
        else:
            update = engine._make_update(mean, square)
        for rate in (0.01, 0.003, 0.02):
            grads = torch.randn(len(flat.values), generator=draw).mul_(scale).bfloat16()
            flat.bf16.grad.copy_(grads)
            if make is AdamLoop:
                flat.sync_from_bf16()
            update(rate)
        engine.adam.publish()
        if make is AdamLoop:
            flat.sync_to_bf16()
        result = flat.values, mean, square, flat.bf16.value, engine.adam.count
        result = [item.clone() for item in result]
    torch.set_num_threads(before)
    return result


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_it_steps_as_torch_does(method, threads):
    own, wanted = stepped(Bf16Adam, method, threads), stepped(AdamLoop, method, threads)
    assert len(own[0]) > bf16_adam.functions()[0](1) << 15  # more than a thread takes at a time
    for first, second in zip(own[1:3], wanted[1:3], strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    # Where a slope and a decay make nothing together, what is left of them is rounding.
    torch.testing.assert_close(own[0], wanted[0], rtol=1e-5, atol=5e-5)
    # Copies are those of its own weights, to the bit.
    assert torch.equal(own[3], own[0].bfloat16())
    assert own[4] == wanted[4] == 3


def test_gradients_whose_squares_overflow_are_clipped_too():
    own, wanted = (stepped(make, "adam clipped", 1, scale=1e25) for make in (Bf16Adam, AdamLoop))
    assert float(wanted[1].norm()) == pytest.approx(0.01, rel=0.5)
    for first, second in zip(own[:3], wanted[:3], strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["adam clipped", "adamw"])
def test_any_number_of_threads_gives_the_same_bits(method):
    for first, second in zip(
        stepped(Bf16Adam, method, 1), stepped(Bf16Adam, method, 2), strict=True
    ):
        assert torch.equal(first, second)


def test_copies_are_rounded_as_torch_rounds():
    values = torch.cat(
        [
            torch.arange(0, 1 << 32, 9973, dtype=torch.int64).to(torch.int32).view(torch.float32),
            torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), 0.0, -0.0, torch.nan]),
        ]
    )
    settings = torch.tensor([torch.inf, 0, 1, 0, 0, 0.1, 0.001, -0.1, -0.001, 1e-8]).double()
    values = values[~values.isinf()]
    wanted = values.bfloat16()
    zeros, low = torch.zeros_like(values), torch.zeros_like(values, dtype=torch.bfloat16)
    grads = low.clone()
    buffers = settings, values, grads, zeros, zeros.clone(), low
    places = [each.data_ptr() for each in buffers]
    bf16_adam.functions()[1](*places, len(values), 0, 0.01, 1.0, 2, None)
    finite = ~wanted.isnan()
    assert torch.equal(low[finite], wanted[finite])
    assert low[~finite].isnan().all()


def test_a_planted_fault_is_caught(monkeypatch):
    kernel_settings = bf16_adam.kernel_settings

    def halved(adam):
        return [s / 2 if index == 5 else s for index, s in enumerate(kernel_settings(adam))]

    monkeypatch.setattr(bf16_adam, "kernel_settings", halved)
    own, wanted = stepped(Bf16Adam, "adam", 1), stepped(AdamLoop, "adam", 1)
    assert not torch.allclose(own[1], wanted[1], rtol=1e-3)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("loss", [Squared(), Huber(delta=0.3)], ids=["squared", "huber"])
def test_engines_agree(loss, noisy):
    facts = Facts(shape=(40,))
    corrupt = functools.partial(corruptions.Masking(rate=0.2), facts=facts) if noisy else None
    rows, rates = torch.rand(128, 40), [0.001] * 4
    result = []
    for make in (Bf16Adam, AdamLoop):
        step, engine = engine_of(make, "adamw clipped", wide=40, corrupt=corrupt, loss=loss)
        steps = StepBatch(rows, torch.ones(1).expand(128), [32] * 4, rates, [0] * 4)
        with step.bound():
            terms = [float(engine(steps)["reconstruction"]) for _ in range(10)]
            grads = step.flat_parameters.grads.clone()
        state = engine.adam.optimizer.state_dict()["state"]
        result.append((terms, grads, [p.detach().clone() for p in step.network.parameters()]))
        assert {float(first["step"]) for first in state.values()} == {40}
    (terms, grads, weights), (wanted, others, known) = result
    assert terms[-1] < 0.9 * terms[0]
    # A weight that rounds the other way in bf16 is off by a part in 250.
    assert terms == pytest.approx(wanted, rel=2e-3)
    torch.testing.assert_close(grads, others, rtol=0.1, atol=1e-3)
    for first, second in zip(weights, known, strict=True):
        torch.testing.assert_close(first, second, rtol=0.02, atol=2e-3)


def test_fits_in_bf16_use_it(monkeypatch):
    X = torch.tanh(torch.randn(640, 3) @ torch.randn(3, 30)).numpy()

    def fitted(epochs):
        settings = {
            "kind": kinds.Multilayer(hidden=(20,)),
            "optimizer": optim.AdamW(lr=0.003),
            "precision": "bf16",
            "batch_size": 64,
            "max_epochs": epochs,
            "early_stopping": False,
            "random_state": 0,
            "device": "cpu",
            "transform_max_iter": 0,
        }
        return Autoencoder(3, **settings).fit(X)

    long = fitted(12)
    assert long.facts_["engine"] == Bf16Adam.name
    assert fitted(2).facts_["engine"] == AdamLoop.name  # so few are not worth it
    monkeypatch.setattr(bf16_adam, "unsupported", lambda step, plan: "a test")
    plain = fitted(12)
    assert plain.facts_["engine"] == AdamLoop.name
    losses = [
        [record["train"]["reconstruction"] for record in model.history_ if "train" in record]
        for model in (long, plain)
    ]
    assert len(losses[0]) >= 12
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
