"""The bfloat16 Adam engine for large dense networks on a processor; see `native/bf16_adam.c`."""

import functools
from ctypes import c_double, c_int, c_int64, c_void_p
from typing import Any, Self

import torch
from torch import Tensor

from isthmus.training.engines.base import BatchLimit, Evaluator, StepBatch, Terms
from isthmus.training.engines.cpu.build import library, no_library
from isthmus.training.engines.dense.adam_state import FlatAdam, Update
from isthmus.training.engines.dense.step import ManualStep
from isthmus.training.engines.layer_table import kernel_settings
from isthmus.training.plan import Plan

MIN_STEPS = 100
"""Steps of a fit from which compiling the kernel pays: a second or two, once on a machine."""

MOVE_ARGUMENTS = [
    *(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),  # settings, weights, grads, moments
    *(c_void_p, c_int64, c_int),  # bfloat16 copies of the weights, their number, decoupled decay
    *(c_double, c_double, c_int, c_void_p),  # rate, number of the step, threads, scratch
]


class Bf16Adam:
    """Steps of Adam with bfloat16 products and a single-precision update in C.

    Norm, clipping, decay, update and the new bfloat16 copies take one pass through memory. Between
    the steps of a call, gradients exist only in bfloat16.
    """

    name = "bf16 adam"
    limit = BatchLimit(batches=64, nbytes=1 << 24)
    releases_gil = False

    def __init__(self, adam: FlatAdam) -> None:
        self.adam = adam

    @property
    def evaluator(self) -> Evaluator | None:
        """None: rows are evaluated by the network in single precision."""
        return None

    @torch.no_grad()
    def __call__(self, steps: StepBatch) -> Terms:
        """Take the steps; return every term before its step, summed over all rows."""
        step, flat, steps = self.adam.step, self.adam.step.flat_parameters, steps.gathered()
        flat.reclaim()
        update = self._make_update(*self.adam.adopt())
        terms = self.adam.take_each(steps, step.run_passes, update)
        flat.sync_from_bf16()
        self.adam.publish()
        return terms

    def detached(self) -> Self:
        """A copy without buffers; the moments stay in the optimizer's state."""
        return type(self)(self.adam.detached())

    def _make_update(self, mean: Tensor, square: Tensor) -> Update:
        """A function that updates the weights and their bfloat16 copies."""
        flat = self.adam.step.flat_parameters
        flat.sync_to_bf16()
        assert flat.bf16 is not None
        scratch_size, move = functions()
        count, copies = len(flat.values), flat.bf16
        settings = torch.tensor(kernel_settings(self.adam), dtype=torch.float64)
        scratch = torch.zeros(scratch_size(count), dtype=torch.float64)
        buffers = settings, flat.values, copies.grad, mean, square, copies.value
        is_adamw, threads = int(self.adam.is_adamw), torch.get_num_threads()

        def update(rate: float | Tensor) -> None:
            self.adam.count.add_(1)
            pointers = [buffer.data_ptr() for buffer in buffers]
            number = float(self.adam.count)
            move(*pointers, count, is_adamw, rate, number, threads, scratch.data_ptr())

        return update


@functools.cache
def functions() -> tuple[Any, Any]:
    """The kernel's functions that return the scratch size, and that update weights."""
    kernel: Any = library()
    kernel.n_pieces.restype, kernel.n_pieces.argtypes = c_int64, [c_int64]
    kernel.bf16_adam_step.restype, kernel.bf16_adam_step.argtypes = None, MOVE_ARGUMENTS
    return kernel.n_pieces, kernel.bf16_adam_step


def unsupported(step: ManualStep, plan: Plan) -> str | None:
    """The reason why this engine cannot take the steps of a fit or does not pay, or None."""
    if not step.bf16:
        return "the precision is not bf16"
    if plan.steps < MIN_STEPS:
        return "the fit is too short to load the kernel"
    return no_library()
