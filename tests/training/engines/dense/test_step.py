"""The manual step against autograd, over random configurations."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from isthmus.corruptions import CORRUPTIONS
from isthmus.kinds import (
    ACTIVATIONS,
    CodeNetwork,
    Convolutional,
    DenseForm,
    Multilayer,
    Regularized,
    Vanilla,
)
from isthmus.losses import (
    KL,
    L1,
    Bernoulli,
    Contraction,
    Huber,
    Mixed,
    Objective,
    Squared,
)
from isthmus.randomness import reseed
from isthmus.training.engines.autograd import AutogradStep
from isthmus.training.engines.dense import step as closed_module
from isthmus.training.engines.dense.matmul import NumpyMatMul, TorchMatMul
from isthmus.training.engines.dense.step import manual_step, matmul_for
from isthmus.types import Facts

CPU = torch.device("cpu")


def drawn(seed):
    """A network with random weights, an objective, a corruption, and rows with weights."""
    draw = np.random.default_rng(seed)
    D, K, B = (int(draw.integers(*ends)) for ends in ((3, 12), (1, 6), (1, 9)))
    hidden = tuple(int(width) for width in draw.integers(2, 9, draw.integers(0, 4)))
    act = str(draw.choice(list(ACTIVATIONS)))
    rate = float(draw.choice([0.0, 0.3]))
    kind = Regularized(
        hidden=hidden,
        activation=act,
        code_activation=str(draw.choice(list(ACTIVATIONS))),
        skip=bool(draw.integers(2)) or not hidden,
        dropout=rate,
        output=str(draw.choice(["auto", "linear"])),
    )
    clamp_output = bool(draw.integers(2))
    facts = Facts(
        shape=(D,) if draw.integers(2) else (1, D),
        low=-1.0,
        high=1.0,
        floor=np.full(D, -0.2) if clamp_output else None,
        ceiling=np.full(D, 0.3) if clamp_output else None,
    )
    torch.manual_seed(seed)
    network = kind.build(facts, K).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.7)
    loss = [Squared(), Huber(delta=0.5), Bernoulli()][draw.integers(3)].with_facts(facts)
    penalties = [[], [L1(weight=0.3)], [KL(weight=0.2), L1(weight=0.1)]][draw.integers(3)]
    noise = [None, CORRUPTIONS["masking"](rate=0.4), CORRUPTIONS["gaussian"](std=0.2)]
    noise = noise[draw.integers(3)]
    corrupt = None if noise is None else functools.partial(noise, facts=facts)
    x = torch.from_numpy(draw.random((B, *facts.shape)))
    weight = torch.from_numpy(draw.random(B)) if draw.integers(2) else torch.ones(1).expand(B)
    return network, Objective(loss, penalties), corrupt, x, weight.double()


def run_steps(step, network, x, weight):
    """The terms and gradients of one step in training."""
    network.train()
    network.zero_grad()
    reseed(7, CPU)
    with step.bound():
        terms = step(x, weight)
        return terms, {name: p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("by", [NumpyMatMul, TorchMatMul])
@pytest.mark.parametrize("seed", range(120))
def test_it_equals_autograd(seed, by, monkeypatch):
    monkeypatch.setattr(closed_module, "matmul_for", lambda weights, batch: by())
    network, objective, corrupt, x, weight = drawn(seed)
    manual = manual_step(network, objective, corrupt)
    terms, grads = run_steps(manual, network, x, weight)
    wanted, gradients = run_steps(
        AutogradStep(network, objective, corrupt, bf16=False), network, x, weight
    )
    assert terms.keys() == wanted.keys()
    for name, term in wanted.items():
        torch.testing.assert_close(terms[name], term, rtol=1e-10, atol=1e-12)
    for name, gradient in gradients.items():
        torch.testing.assert_close(grads[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("by", [NumpyMatMul, TorchMatMul])
@pytest.mark.parametrize("noise", [None, "gaussian"])
@pytest.mark.parametrize(
    "others", [[], [L1(weight=0.3), Contraction(weight=0.2)], [Contraction(weight=0.0)]]
)
@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.derivative])
def test_contraction_of_one_layer_equals_autograd(name, others, noise, by, monkeypatch):
    monkeypatch.setattr(closed_module, "matmul_for", lambda weights, batch: by())
    facts = Facts(shape=(2, 3))
    torch.manual_seed(5)
    network = Vanilla(activation=name).build(facts, 4).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    corrupt = None if noise is None else functools.partial(CORRUPTIONS[noise](), facts=facts)
    objective = Objective(Squared().with_facts(facts), [Contraction(weight=0.7), *others])
    x, weight = torch.randn(5, 2, 3).double(), torch.rand(5).double()
    manual = manual_step(network, objective, corrupt)
    for _ in range(2):  # what the first has left must not count in the second
        terms, grads = run_steps(manual, network, x, weight)
        wanted, gradients = run_steps(
            AutogradStep(network, objective, corrupt, bf16=False), network, x, weight
        )
        torch.testing.assert_close(terms, wanted, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(grads, gradients, rtol=1e-9, atol=1e-12)


def drops(seed):
    """Whether anything is dropped, which with other widths or numbers are other masks."""
    form = closed_module.DenseForm.of(drawn(seed)[0])
    return form.dropout > 0 or form.code_dropout > 0


def rounds(seed):
    """Whether widths are rounded up, and nothing is drawn for them."""
    network, _, corrupt, _, _ = drawn(seed)
    form = closed_module.DenseForm.of(network)
    steady = all(activation.keeps_zero for activation in form.activations)
    return steady and corrupt is None and not drops(seed)


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("seed", [seed for seed in range(40) if not drops(seed)])
def test_in_half_precision_it_equals_autograd_up_to_rounding(seed, multiple, monkeypatch):
    network, objective, corrupt, x, weight = drawn(seed)
    network, x, weight = network.float(), x.float(), weight.float()
    form = closed_module.DenseForm.of(network)
    steady = all(activation.keeps_zero for activation in form.activations)
    rounded = multiple if steady else 1
    monkeypatch.setattr(closed_module, "width_multiple", lambda form, device, bf16: rounded)
    manual = manual_step(network, objective, corrupt, bf16=True)
    terms, grads = run_steps(manual, network, x, weight)
    exact = AutogradStep(network, objective, corrupt, bf16=False)
    wanted, gradients = run_steps(exact, network, x, weight)
    scale = max(float(gradient.norm()) for gradient in gradients.values())
    for name, term in wanted.items():
        torch.testing.assert_close(terms[name], term, rtol=0.03, atol=0.01)
    for name, gradient in gradients.items():
        assert float((grads[name] - gradient).norm()) < 0.1 * scale


@pytest.mark.parametrize("seed", [seed for seed in range(160) if rounds(seed)])
def test_rounded_widths_change_nothing(seed, monkeypatch):
    network, objective, _, x, weight = drawn(seed)
    monkeypatch.setattr(closed_module, "matmul_for", lambda weights, batch: TorchMatMul())
    terms, grads = run_steps(manual_step(network, objective, None), network, x, weight)
    monkeypatch.setattr(closed_module, "width_multiple", lambda form, device, bf16: 8)
    step = manual_step(network, objective, None)
    wider, others = run_steps(step, network, x, weight)
    assert step._flat is None
    for name, term in terms.items():
        torch.testing.assert_close(wider[name], term, rtol=1e-12, atol=1e-14)
    for name, grad in grads.items():
        torch.testing.assert_close(others[name], grad, rtol=1e-10, atol=1e-12)


def test_widths_are_rounded_up_if_zeros_stay_zeros():
    gpu, facts = torch.device("cuda"), Facts(shape=(5,))
    forms = {
        name: closed_module.DenseForm.of(Multilayer(hidden=(5,), activation=name).build(facts, 2))
        for name in ACTIVATIONS
    }
    for name, activation in ACTIVATIONS.items():
        steady = float(activation.module()(torch.zeros(1))) == 0
        assert activation.keeps_zero == steady
        assert closed_module.width_multiple(forms[name], gpu, bf16=True) == (8 if steady else 1)
    assert closed_module.width_multiple(forms["relu"], gpu, bf16=False) == 1
    assert closed_module.width_multiple(forms["relu"], CPU, bf16=True) == 1


def test_small_products_use_numpy():
    assert type(matmul_for(torch.zeros(4000), 64)) is NumpyMatMul
    assert type(matmul_for(torch.zeros(4_000_000), 64)) is TorchMatMul
    assert type(matmul_for(torch.zeros(4000, device="meta"), 64)) is TorchMatMul


@pytest.mark.parametrize("fault", ["activation", "dropout", "shared", "frozen", "no bias"])
def test_networks_of_unlike_layers_are_left_to_autograd(fault):
    facts = Facts(shape=(4,))
    parts = [Multilayer(hidden=(5, 5), skip=False).build(facts, 4) for _ in range(2)]
    other = {
        "activation": Multilayer(hidden=(5, 5), skip=False, activation="tanh"),
        "dropout": Multilayer(hidden=(5, 5), skip=False, dropout=0.1),
    }
    if fault in other:
        parts[1] = other[fault].build(facts, 4)
    network = CodeNetwork(facts, encoder=parts[0].encoder, decoder=parts[1].decoder)
    layer = network.encoder.affine(1)
    if fault == "shared":
        layer.bias = network.encoder.affine(0).bias
    elif fault == "frozen":
        layer.weight.requires_grad_(False)
    elif fault == "no bias":
        layer.bias = None
    assert DenseForm.of(network) is None
    assert isinstance(manual_step(network, Objective(Squared().with_facts(facts)), None), str)


def test_a_planted_fault_is_caught(monkeypatch):
    silu, sigmoid = ACTIVATIONS["silu"], ACTIVATIONS["sigmoid"]
    wrong = silu.in_place._replace(backward=sigmoid.in_place.backward)
    monkeypatch.setitem(ACTIVATIONS, "silu", dataclasses.replace(silu, in_place=wrong))
    monkeypatch.setattr("isthmus.kinds.activations.check_activation", lambda _: None)
    facts = Facts(shape=(4,))
    network = Multilayer(hidden=(5,)).build(facts, 2).double()
    with torch.no_grad():
        network.decoder.affine(1).weight.normal_()
    x, weight = torch.randn(6, 4).double(), torch.ones(6).double()
    objective = Objective(Squared().with_facts(facts))
    _, grads = run_steps(manual_step(network, objective, None), network, x, weight)
    _, gradients = run_steps(AutogradStep(network, objective, None, bf16=False), network, x, weight)
    name = "decoder.layers.0.weight"
    assert not torch.allclose(grads[name], gradients[name])


@pytest.mark.parametrize(
    ("kind", "facts", "objective"),
    [
        (Multilayer(tied=True), Facts(shape=(6,)), Objective(Squared())),
        (
            Vanilla(),
            Facts(shape=(6,), allow_missing=True),
            Objective(Squared(), [Contraction()], allow_missing=True),
        ),
        (Multilayer(output="bounded"), Facts(shape=(6,), low=0, high=1), Objective(Squared())),
        (Convolutional(), Facts(shape=(1, 16, 16)), Objective(Squared())),
        (Multilayer(), Facts(shape=(6,)), Objective(Squared(), [Contraction()])),
        (Vanilla(activation="gelu"), Facts(shape=(6,)), Objective(Squared(), [Contraction()])),
    ],
)
def test_unsupported_networks_have_a_reason(kind, facts, objective):
    reason = manual_step(kind.build(facts, 2), objective, None)
    assert isinstance(reason, str)


def test_weights_have_their_own_memory_afterwards():
    network = Multilayer(hidden=(5,)).build(Facts(shape=(4,)), 2)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    step = manual_step(network, Objective(Squared()), None)
    with step.bound():
        pointers = {p.untyped_storage().data_ptr() for p in network.parameters()}
        assert len(pointers) == 1
    assert len({p.untyped_storage().data_ptr() for p in network.parameters()}) == len(before)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)
        assert parameter.grad is None


def test_a_mixed_loss_goes_through_the_head(monkeypatch):
    from isthmus.types import ColumnFacts

    columns = (ColumnFacts("squared", 1), ColumnFacts("categorical", 3), ColumnFacts("count", 1))
    facts = Facts(
        shape=(5,), columns=columns, mean=np.full(5, 0.4), scale=np.ones(5), low=0.0, high=1.0
    )
    network = Multilayer(hidden=(4,)).build(facts, 2).double()
    x = torch.rand(7, 5).double()
    objective = Objective(Mixed().with_facts(facts))
    step = manual_step(network, objective, None)
    terms, grads = run_steps(step, network, x, torch.ones(7).double())
    autograd = AutogradStep(network, objective, None, bf16=False)
    wanted, gradients = run_steps(autograd, network, x, torch.ones(7).double())
    torch.testing.assert_close(terms, wanted)
    torch.testing.assert_close(grads, gradients)
