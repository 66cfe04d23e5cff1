"""Gradient clipping by norm, against torch in double precision."""

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, fit_together, kinds, optim
from isthmus.training.engines import select
from isthmus.training.engines.cpu import kernel
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.grad_clip import clip, make_clipper, norms

SCALES = [1e-3, 1.0, 1e3, 1e25, np.inf, np.nan]


def drawn(length, scale):
    """Gradients of norm `scale` times the root of their number, and the same in double."""
    torch.manual_seed(0)
    grads = torch.randn(length) * scale
    return grads, grads.double()


def clipped(exact, most):
    """Clipped by torch in double precision, which cannot overflow here."""
    parameter = torch.nn.Parameter(torch.zeros_like(exact))
    parameter.grad = exact.clone()
    torch.nn.utils.clip_grad_norm_([parameter], most)
    return parameter.grad.float()


@pytest.mark.parametrize("length", [50, 100_000])
@pytest.mark.parametrize("scale", SCALES)
def test_flat_gradients_are_clipped_as_torch_clips_them(length, scale):
    grads, exact = drawn(length, scale)
    with np.errstate(all="ignore"):  # as a stride does
        make_clipper(grads, 0.7)()
    torch.testing.assert_close(grads, clipped(exact, 0.7), equal_nan=True)


@pytest.mark.parametrize("scale", SCALES)
def test_gradients_of_parameters_are_clipped_together(scale):
    grads, exact = drawn(60, scale)
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (10, 45, 5, 3)]
    for parameter, part in zip(parameters, torch.split(grads, (10, 45, 5)), strict=False):
        parameter.grad = part.clone()
    clip(iter(parameters), 0.7)
    assert parameters[3].grad is None
    result = torch.cat([parameter.grad for parameter in parameters[:3]])
    torch.testing.assert_close(result, clipped(exact, 0.7), equal_nan=True)


def test_norms_of_a_stack():
    grads = torch.stack([drawn(40, scale)[0] for scale in (1.0, 1e25, np.inf)])
    wanted = torch.linalg.vector_norm(grads.double(), dim=1).float()
    torch.testing.assert_close(norms(grads), wanted)


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e15])
def test_rows_of_any_scale_are_learned_equally_by_all_engines(scale, monkeypatch):
    draw = np.random.default_rng(0)
    X = draw.normal(size=(150, 3)) @ draw.normal(size=(3, 7)) * scale
    settings = {
        "kind": kinds.Multilayer(hidden=(8,)),
        "optimizer": optim.AdamW(lr=0.01),
        "precision": "float32",
        "preparation": "none",
        "pretraining": "random",
        "max_epochs": 10,
        "batch_size": 16,
        "early_stopping": False,
        "random_state": 0,
    }

    def engine_and_losses(model):
        losses = [sum(record["train"].values()) for record in model.history_ if "train" in record]
        return model.facts_["engine"], losses

    single, stacked = (
        engine_and_losses(Autoencoder(3, **settings).fit(X)),
        engine_and_losses(
            fit_together([Autoencoder(3, **settings), Autoencoder(3, **settings)], X)[1]
        ),
    )
    monkeypatch.setattr(kernel, "MIN_SECONDS", 0.0)
    in_c = engine_and_losses(Autoencoder(3, **settings).fit(X))
    monkeypatch.setattr(select, "manual_step", lambda *args, **options: "a test")
    wanted = engine_and_losses(Autoencoder(3, **settings).fit(X))
    assert (single[0], wanted[0]) == (AdamLoop.name, "autograd")
    for _, losses in (single, stacked, in_c):
        assert losses == pytest.approx(wanted[1], rel=1e-2)
