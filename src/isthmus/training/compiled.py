"""Steps of small networks on a processor, by the kernel in C: see `native/steps.h`."""

from ctypes import c_double, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from isthmus.training.closed import ClosedStep
from isthmus.training.compiling import library
from isthmus.training.heads import SquaredHead
from isthmus.training.plan import Plan
from isthmus.training.slots import ends_of, layers_of, settings_of
from isthmus.training.step import Steps, Terms
from isthmus.training.stride import Stride
from isthmus.training.whole import named
from isthmus.training.world import SMALL_WORK

FEWEST_STEPS = 2000
"""Of a fit, for which it pays to load the kernel. To compile it takes a second or two, once on a
machine."""

MOST_LAYERS = 60
NAMES = {torch.float32: "single", torch.float64: "double"}

STEPS = [
    *(c_void_p, c_int64, c_void_p),  # layers, how many, settings
    *(c_void_p, c_void_p, c_void_p, c_void_p, c_int64),  # weights, slopes, moments, how many
    *(c_double, c_void_p, c_void_p, c_void_p),  # steps so far, rows, their weights, ends
    *(c_void_p, c_void_p, c_int64, c_int64),  # rates, sizes, how many, the largest
    *(c_int, c_void_p, c_void_p),  # whether decay is apart, memory, losses
]


class Compiled(Stride):
    """A stride of a small network, every step of it in C."""

    @torch.no_grad()
    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows."""
        flat = self.step.store
        flat.gather()
        mean, square = self.adopt()
        told = self._taken(steps, mean, square)
        self.end()
        return named(self.step, told)

    def _taken(self, steps: Steps, mean: Tensor, square: Tensor) -> Tensor:
        """The squared error of all rows together."""
        flat, most = self.step.store, max(steps.sizes)
        values, apart = flat.values, isinstance(self.optimizer, torch.optim.AdamW)
        layers = torch.tensor(layers_of(self.step.form, flat), dtype=torch.int64)
        room, run = functions(values.dtype)
        memory = torch.zeros(room(at(layers), len(layers), most), dtype=torch.uint8)
        ends = ends_of([self.step.form], values) if self.step.form.limit is not None else None
        rows, weights = steps.rows.contiguous(), None if steps.equal else steps.weight.contiguous()
        sizes, rates = torch.tensor(steps.sizes), torch.tensor(steps.rates, dtype=torch.float64)
        settings = torch.tensor(settings_of(self), dtype=torch.float64)
        told = torch.zeros(len(sizes), dtype=torch.float64)
        count = run(
            *(at(layers), len(layers), at(settings)),
            *(at(values), at(flat.slopes), at(mean), at(square), len(values)),
            *(float(self.count), at(rows), at(weights), at(ends)),
            *(at(rates), at(sizes), len(sizes), most),
            *(int(apart), at(memory), at(told)),
        )
        self.count.fill_(count)
        return torch.dot(told, sizes.double())


def at(tensor: Tensor | None) -> int | None:
    """Where the numbers of a tensor are."""
    return None if tensor is None else tensor.data_ptr()


def functions(dtype: torch.dtype) -> tuple[Any, Any]:
    """Those of the kernel that tell the memory it needs, and take steps."""
    kernel = library()
    assert kernel is not None
    room = getattr(kernel, f"room_{NAMES[dtype]}")
    room.restype, room.argtypes = c_int64, [c_void_p, c_int64, c_int64]
    run = getattr(kernel, f"steps_{NAMES[dtype]}")
    run.restype, run.argtypes = c_double, STEPS
    return room, run


def can_compile(step: ClosedStep, plan: Plan) -> bool:
    """Whether the kernel can take the steps of a fit, and pays."""
    parameters = list(step.network.parameters())
    work = plan.batch_size * sum(parameter.numel() for parameter in parameters)
    small = parameters[0].device.type == "cpu" and work < SMALL_WORK
    plain = isinstance(step.head, SquaredHead) and not step.draws and not step.bf16
    if not small or not plain or parameters[0].dtype not in NAMES or plan.steps < FEWEST_STEPS:
        return False
    return len(parameters) <= MOST_LAYERS and library() is not None
