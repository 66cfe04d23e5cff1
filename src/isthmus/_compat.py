"""Every private or undocumented interface of another library that isthmus uses.

Each has a test in `tests/test_compat.py` that fails when the interface disappears.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@functools.cache
def fused_adam() -> Callable[..., None]:
    """`torch._fused_adam_`: one in-place step of Adam on lists of tensors.

    The public `torch.optim.Adam(fused=True)` calls it after a loop over all parameters.
    """
    import torch

    function: Callable[..., None] = torch._fused_adam_
    return function


def aten() -> Any:
    """`torch.ops.aten`: activations and their derivatives written into existing memory."""
    import torch

    return torch.ops.aten


def cuda_generator(number: int) -> Any:
    """The default random generator of a GPU, from `torch.cuda.default_generators`."""
    import torch

    return torch.cuda.default_generators[number]


def check_n_features(estimator: Any, X: Any, *, reset: bool) -> None:
    """scikit-learn's check, or record, of the number of features of a fitted estimator."""
    from sklearn.utils.validation import _check_n_features

    _check_n_features(estimator, X, reset=reset)


def check_sample_weight(sample_weight: Any, X: Any, dtype: Any) -> Any:
    """scikit-learn's validation of sample weights (n,)."""
    from sklearn.utils.validation import _check_sample_weight

    return _check_sample_weight(sample_weight, X, dtype=dtype)


def select_rows(X: Any, rows: Any) -> Any:
    """scikit-learn's selection of rows from an array, list, frame or sparse matrix."""
    from sklearn.utils import _safe_indexing

    return _safe_indexing(X, rows)


def usage_error() -> type[Exception]:
    """The base class of typer's errors about wrong arguments, which typer does not export."""
    import typer

    error: type[Exception] = typer.BadParameter.__mro__[2]
    return error


OPTIMIZER_METHODS = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
"""The methods of torch's optimizers that `torch._compile._disable_dynamo` wraps."""

COMPILE_MARK = "__dynamo_disable"
"""The attribute in which that wrapper keeps the excluded method once the compiler is imported."""


def compiler_wrapped_methods() -> list[Any]:
    """The methods of torch's optimizers that this wrapper encloses."""
    from torch.optim import Optimizer

    methods = [getattr(getattr(Optimizer, n), "__wrapped__", None) for n in OPTIMIZER_METHODS]
    return [method for method in methods if method is not None]


@contextmanager
def optimizers_without_compiler() -> Iterator[None]:
    """A context in which torch's optimizers do not import the compiler to exclude themselves."""
    methods = [method for method in compiler_wrapped_methods() if not hasattr(method, COMPILE_MARK)]
    for method in methods:
        setattr(method, COMPILE_MARK, method)
    try:
        yield
    finally:
        for method in methods:
            delattr(method, COMPILE_MARK)
