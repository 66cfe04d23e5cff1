"""Weights with copies in bf16, moved by the kernel in C, against the way that torch moves them."""

import functools

import pytest
import torch

from isthmus import Autoencoder, corruptions, kinds, optim
from isthmus.losses import Huber, Objective, Squared
from isthmus.training.engines import select
from isthmus.training.engines.base import Steps
from isthmus.training.engines.cpu import bf16_adam
from isthmus.training.engines.cpu import build as compiling
from isthmus.training.engines.cpu.bf16_adam import Lowered
from isthmus.training.engines.dense.adam_loop import Stride
from isthmus.training.engines.dense.step import closed_step
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


def stride_of(make, method, *, wide=300, corrupt=None, loss=None):
    """A bound step in bf16 with a stride on it, of the same weights each time."""
    facts = Facts(shape=(wide,))
    torch.manual_seed(0)
    net = kinds.Multilayer(hidden=(200,)).build(facts, 7)
    objective = Objective((loss or Squared()).bound(facts))
    step = closed_step(net, objective, corrupt, bf16=True)
    kind, settings, clip = METHODS[method]
    plan = Plan(1, 64, None, clip, steps=1_000)
    return step, make(step, kind(net.parameters(), lr=0.01, **settings), plan)


def moved(make, method, threads, scale=1.0):
    """Weights, moments and copies after three steps with slopes at random."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    step, stride = stride_of(make, method)
    draw = torch.Generator().manual_seed(1)
    with step.bound(), torch.no_grad():
        flat = step.store
        mean, square = stride.adopt()
        advance = stride.advance(flat, mean, square)
        for rate in (0.01, 0.003, 0.02):
            slopes = torch.randn(len(flat.values), generator=draw).mul_(scale).bfloat16()
            flat.low.slope.copy_(slopes)
            if make is Stride:
                flat.lift()
            advance(rate)
        stride.end()
        if make is Stride:
            flat.lower()
        found = flat.values, mean, square, flat.low.value, stride.count
        found = [one.clone() for one in found]
    torch.set_num_threads(before)
    return found


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_it_moves_as_torch_does(method, threads):
    own, wanted = moved(Lowered, method, threads), moved(Stride, method, threads)
    assert len(own[0]) > bf16_adam.functions()[0](1) << 15  # more than a thread takes at a time
    for one, other in zip(own[1:3], wanted[1:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    # Where a slope and a decay make nothing together, what is left of them is rounding.
    torch.testing.assert_close(own[0], wanted[0], rtol=1e-5, atol=5e-5)
    # Copies are those of its own weights, to the bit.
    assert torch.equal(own[3], own[0].bfloat16())
    assert own[4] == wanted[4] == 3


def test_slopes_whose_squares_are_beyond_single_precision_are_clipped_too():
    own, wanted = (moved(make, "adam clipped", 1, scale=1e25) for make in (Lowered, Stride))
    assert float(wanted[1].norm()) == pytest.approx(0.01, rel=0.5)
    for one, other in zip(own[:3], wanted[:3], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("method", ["adam clipped", "adamw"])
def test_any_number_of_threads_gives_the_same_bits(method):
    for one, other in zip(moved(Lowered, method, 1), moved(Lowered, method, 2), strict=True):
        assert torch.equal(one, other)


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
    slopes = low.clone()
    buffers = settings, values, slopes, zeros, zeros.clone(), low
    places = [each.data_ptr() for each in buffers]
    bf16_adam.functions()[1](*places, len(values), 0, 0.01, 1.0, 2, None)
    finite = ~wanted.isnan()
    assert torch.equal(low[finite], wanted[finite])
    assert low[~finite].isnan().all()


def test_a_planted_fault_is_caught(monkeypatch):
    settings_of = bf16_adam.settings_of
    halved = lambda stride: [s / 2 if at == 5 else s for at, s in enumerate(settings_of(stride))]  # noqa: E731
    monkeypatch.setattr(bf16_adam, "settings_of", halved)
    own, wanted = moved(Lowered, "adam", 1), moved(Stride, "adam", 1)
    assert not torch.allclose(own[1], wanted[1], rtol=1e-3)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("loss", [Squared(), Huber(delta=0.3)], ids=["squared", "huber"])
def test_strides_are_alike(loss, noisy):
    facts = Facts(shape=(40,))
    corrupt = functools.partial(corruptions.Masking(rate=0.2), facts=facts) if noisy else None
    rows, rates = torch.rand(128, 40), [0.001] * 4
    found = []
    for make in (Lowered, Stride):
        step, stride = stride_of(make, "adamw clipped", wide=40, corrupt=corrupt, loss=loss)
        steps = Steps(rows, torch.ones(1).expand(128), [32] * 4, rates, [0] * 4)
        with step.bound():
            told = [float(stride(steps)["reconstruction"]) for _ in range(10)]
            slopes = step.store.slopes.clone()
        state = stride.optimizer.state_dict()["state"]
        found.append((told, slopes, [p.detach().clone() for p in step.network.parameters()]))
        assert {float(one["step"]) for one in state.values()} == {40}
    (told, slopes, weights), (wanted, others, known) = found
    assert told[-1] < 0.9 * told[0]
    # A weight that rounds the other way in bf16 is off by a part in 250.
    assert told == pytest.approx(wanted, rel=2e-3)
    torch.testing.assert_close(slopes, others, rtol=0.1, atol=1e-3)
    for one, other in zip(weights, known, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=2e-3)


def test_fits_in_bf16_are_moved_by_it(monkeypatch):
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
    assert long.facts_["engine"] == Lowered.engine
    assert fitted(2).facts_["engine"] == Stride.engine  # so few are not worth it
    monkeypatch.setattr(select, "can_lower", lambda step, plan: False)
    plain = fitted(12)
    assert plain.facts_["engine"] == Stride.engine
    losses = [
        [record["train"]["reconstruction"] for record in model.history_ if "train" in record]
        for model in (long, plain)
    ]
    assert len(losses[0]) >= 12
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
