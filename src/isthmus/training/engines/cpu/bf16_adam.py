"""Steps of large networks in bf16 on a processor, whose weights are moved by `native/moves.c`."""

import functools
from collections.abc import Callable
from ctypes import c_double, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from isthmus.training.engines.base import Most, Terms
from isthmus.training.engines.cpu.build import library
from isthmus.training.engines.dense.adam_loop import Stride
from isthmus.training.engines.dense.flat_parameters import Flat
from isthmus.training.engines.dense.step import ClosedStep
from isthmus.training.engines.layer_table import settings_of
from isthmus.training.plan import Plan

FEWEST_STEPS = 100
"""Of a fit, for which it pays to compile the kernel, once on a machine, in a second or two."""

MOVE = [
    *(c_void_p, c_void_p, c_void_p, c_void_p, c_void_p),  # settings, weights, slopes, moments
    *(c_void_p, c_int64, c_int),  # copies of weights, how many, whether decay is apart
    *(c_double, c_double, c_int, c_void_p),  # rate, number of the step, threads, memory
]


class Lowered(Stride):
    """A stride in which norm, clipping, decay, step and copies are one way through memory.

    Between its steps nobody looks at the slopes in single precision: they are there at its end.
    """

    engine = "closed form, moved in C"
    most = Most(batches=64, nbytes=1 << 24)

    def passed(self, x: Tensor, weight: Tensor) -> Terms:
        """A step on the copies of the weights, whose slopes are left in their precision."""
        return self.step.worked(x, weight)

    def end(self) -> None:
        """Leave steps, weights and gradients where others look for them."""
        self.step.store.lift()
        super().end()

    def advance(self, flat: Flat, mean: Tensor, square: Tensor) -> Callable[[float | Tensor], None]:
        """What moves the weights, whose copies are up to date from now on."""
        flat.lower()
        assert flat.low is not None
        pieces, move = functions()
        count, low = len(flat.values), flat.low
        settings = torch.tensor(settings_of(self), dtype=torch.float64)
        squares = torch.zeros(pieces(count), dtype=torch.float64)
        buffers = settings, flat.values, low.slope, mean, square, low.value
        apart, threads = int(isinstance(self.optimizer, torch.optim.AdamW)), torch.get_num_threads()

        def advance(rate: float | Tensor) -> None:
            self.count.add_(1)
            places = [each.data_ptr() for each in buffers]
            step = float(self.count)
            move(*places, count, apart, rate, step, threads, squares.data_ptr())

        return advance


@functools.cache
def functions() -> tuple[Any, Any]:
    """Those of the kernel that tell the memory it needs, and move weights."""
    kernel: Any = library()
    kernel.pieces_of.restype, kernel.pieces_of.argtypes = c_int64, [c_int64]
    kernel.move_lowered.restype, kernel.move_lowered.argtypes = None, MOVE
    return kernel.pieces_of, kernel.move_lowered


def can_lower(step: ClosedStep, plan: Plan) -> bool:
    """Whether weights have copies in bf16 that the kernel can keep, and it pays."""
    return step.bf16 and plan.steps >= FEWEST_STEPS and library() is not None
