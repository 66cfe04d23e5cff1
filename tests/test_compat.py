"""The private interfaces that isthmus uses still exist and do what it needs."""

import copy

import torch

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
