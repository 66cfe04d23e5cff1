"""Gradients shortened to a norm, against torch's own way in double precision."""

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
    """Slopes of a norm of about `scale` times the root of their number, and the same in double."""
    torch.manual_seed(0)
    grads = torch.randn(length) * scale
    return grads, grads.double()


def shortened(exact, most):
    """By torch, where squares of single precision are far from any end."""
    parameter = torch.nn.Parameter(torch.zeros_like(exact))
    parameter.grad = exact.clone()
    torch.nn.utils.clip_grad_norm_([parameter], most)
    return parameter.grad.float()


@pytest.mark.parametrize("length", [50, 100_000])
@pytest.mark.parametrize("scale", SCALES)
def test_flat_slopes_are_clipped_as_torch_clips_them(length, scale):
    grads, exact = drawn(length, scale)
    with np.errstate(all="ignore"):  # as a stride does
        make_clipper(grads, 0.7)()
    torch.testing.assert_close(grads, shortened(exact, 0.7), equal_nan=True)


@pytest.mark.parametrize("scale", SCALES)
def test_slopes_of_parameters_are_clipped_together(scale):
    grads, exact = drawn(60, scale)
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in (10, 45, 5, 3)]
    for parameter, part in zip(parameters, torch.split(grads, (10, 45, 5)), strict=False):
        parameter.grad = part.clone()
    clip(iter(parameters), 0.7)
    assert parameters[3].grad is None
    found = torch.cat([parameter.grad for parameter in parameters[:3]])
    torch.testing.assert_close(found, shortened(exact, 0.7), equal_nan=True)


def test_norms_of_a_stack():
    grads = torch.stack([drawn(40, scale)[0] for scale in (1.0, 1e25, np.inf)])
    wanted = torch.linalg.vector_norm(grads.double(), dim=1).float()
    torch.testing.assert_close(norms(grads), wanted)


@pytest.mark.parametrize("scale", [1.0, 1e12, 1e15])
def test_rows_of_any_scale_are_learned_alike_however_steps_are_taken(scale, monkeypatch):
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

    def told(model):
        losses = [sum(record["train"].values()) for record in model.history_ if "train" in record]
        return model.facts_["engine"], losses

    one, stacked = (
        told(Autoencoder(3, **settings).fit(X)),
        told(fit_together([Autoencoder(3, **settings), Autoencoder(3, **settings)], X)[1]),
    )
    monkeypatch.setattr(kernel, "MIN_SECONDS", 0.0)
    in_c = told(Autoencoder(3, **settings).fit(X))
    monkeypatch.setattr(select, "manual_step", lambda *args, **options: "a test")
    wanted = told(Autoencoder(3, **settings).fit(X))
    assert (one[0], wanted[0]) == (AdamLoop.name, "autograd")
    for _, losses in (one, stacked, in_c):
        assert losses == pytest.approx(wanted[1], rel=1e-2)
