"""The private interfaces that isthmus uses still exist and do what it needs."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from sklearn.base import BaseEstimator

from isthmus import _compat


def test_the_fused_step_is_that_of_the_public_optimizer():
    torch.manual_seed(0)
    values, grads = torch.randn(50), torch.randn(50)
    parameter = torch.nn.Parameter(values.clone())
    public = torch.optim.Adam([parameter], lr=0.01, betas=(0.8, 0.9), eps=1e-6)
    mean, square, steps = torch.zeros(50), torch.zeros(50), torch.zeros(())
    for _ in range(3):
        parameter.grad = grads.clone()
        public.step()
        steps += 1
        settings = {"lr": 0.01, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.0, "eps": 1e-6}
        _compat.fused_adam()(
            [values], [grads], [mean], [square], [], [steps], amsgrad=False, maximize=False,
            **settings,
        )  # fmt: skip
    torch.testing.assert_close(values, parameter.detach(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(square, public.state[parameter]["exp_avg_sq"])


def test_every_wrapped_method_of_the_optimizers_is_there():
    assert len(_compat.compiler_wrapped_methods()) == len(_compat.OPTIMIZER_METHODS)


def test_the_marks_are_gone_afterwards():
    methods = _compat.compiler_wrapped_methods()
    before = [copy.copy(vars(method)) for method in methods]
    with _compat.optimizers_without_compiler():
        assert all(hasattr(method, _compat.COMPILE_MARK) for method in methods)
    assert [vars(method) for method in methods] == before


def test_activations_are_written_into_memory_that_exists():
    x, out = torch.linspace(-2, 2, 9), torch.empty(9)
    _compat.aten().silu.out(x, out=out)
    torch.testing.assert_close(out, torch.nn.functional.silu(x))
    grad = torch.ones(9)
    _compat.aten().silu_backward.grad_input(grad.clone(), x, grad_input=grad)
    z = x.clone().requires_grad_()
    torch.nn.functional.silu(z).sum().backward()
    torch.testing.assert_close(grad, z.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_generator_of_a_gpu_is_seeded():
    _compat.cuda_generator(0).manual_seed(7)
    assert torch.cuda.initial_seed() == 7


def test_the_number_of_features_is_recorded_and_checked():
    estimator = BaseEstimator()
    _compat.check_n_features(estimator, np.empty((0, 3)), reset=True)
    assert estimator.n_features_in_ == 3
    with pytest.raises(ValueError, match="features"):
        _compat.check_n_features(estimator, np.empty((0, 4)), reset=False)


def test_sample_weights_are_validated():
    weight = _compat.check_sample_weight(None, np.empty((4, 0)), np.float64)
    assert weight.tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="sample_weight"):
        _compat.check_sample_weight([1.0], np.empty((4, 0)), np.float64)


def test_rows_are_selected_from_any_container():
    rows = np.array([2, 0])
    assert _compat.select_rows([5, 6, 7], rows) == [7, 5]
    assert _compat.select_rows(pd.DataFrame({"a": [5, 6, 7]}), rows)["a"].tolist() == [7, 5]


def test_every_error_of_usage_has_one_base():
    assert issubclass(typer.BadParameter, _compat.usage_error())
    assert not issubclass(KeyboardInterrupt, _compat.usage_error())
    assert _compat.usage_error() is not Exception
    assert _compat.usage_error().__name__ == "ClickException"
