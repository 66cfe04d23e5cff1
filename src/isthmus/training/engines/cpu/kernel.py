"""Steps of small networks on a processor, by the kernel in C: see `native/steps.h`."""

import ctypes
import math
from ctypes import c_double, c_int, c_int64, c_void_p
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.kinds import DenseForm
from isthmus.runtime.device import is_small, processors
from isthmus.training.engines.base import Judge, Most, Steps, Terms
from isthmus.training.engines.cpu.build import library
from isthmus.training.engines.dense.adam_loop import Stride
from isthmus.training.engines.dense.column_losses import KINDS, ColumnHead, Parts
from isthmus.training.engines.dense.flat_parameters import Flat
from isthmus.training.engines.dense.losses import SquaredHead, named
from isthmus.training.engines.dense.step import ClosedStep
from isthmus.training.engines.layer_table import ends_of, is_told, layers_of, settings_of
from isthmus.training.plan import Plan

LEAST_SECONDS = 0.15
"""Of a fit's steps by NumPy, for which it pays to load the kernel. To compile it takes a second or
two, once on a machine."""

STEP_SECONDS, COLUMNS_SECONDS, OPERATIONS = 75e-6, 4e-4, 30e9
"""What a step takes at least by NumPy, how much more the losses of columns take, and how many
operations it does in a second: a rule, no stopwatch, so that a fit goes the same way each time."""

MOST_WORK, MOST_WEIGHTS = 30_000_000, 1 << 19
"""Multiply-adds of a batch, of a network with so many weights at most, up to which the kernel is
faster than two threads of torch, or as fast: weights stay in a processor's cache."""

MOST_LAYERS = 60
JUDGED_AT_ONCE = 256
"""Rows, which stay in a cache on their way through the network."""

ALONE, LONGEST_ALONE = 2, 64
"""Calls that are taken by one thread when two have waited for each other too long: twice as many
each time that this happens again, up to so many."""

NAMES = {torch.float32: "single", torch.float64: "double"}

STEPS = [
    *(c_void_p, c_int64, c_void_p),  # layers, how many, settings
    *(c_void_p, c_void_p, c_void_p, c_void_p, c_int64),  # weights, slopes, moments, how many
    *(
        c_double,
        c_void_p,
        c_void_p,
        c_void_p,
        c_void_p,
    ),  # steps so far, rows, weights, places, ends
    *(c_void_p, c_void_p, c_void_p, c_int64, c_int64),  # table, rates, sizes, how many, the largest
    *(c_int, c_int, c_void_p, c_void_p),  # whether decay is apart, who helps, memory, losses
]


class Compiled(Stride):
    """A stride of a small network, every step of it in C."""

    kernel: "Kernel | None" = None
    engine = "compiled C"
    most = Most(batches=1024, nbytes=1 << 24)

    def __init__(self, step: ClosedStep, optimizer: torch.optim.Optimizer, plan: Plan) -> None:
        super().__init__(step, optimizer, plan)
        self.threads = min(torch.get_num_threads(), processors())

    @torch.no_grad()
    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows."""
        kernel = self._kernel()
        mean, square = self.adopt()
        told = kernel(steps, (mean, square), float(self.count))
        self.count.add_(len(steps.sizes))
        self.end()
        return named(self.step.head, told)

    @property
    def judge(self) -> Judge | None:
        """The first half of its steps, on rows that nothing is learned from."""
        return self._judged

    @torch.no_grad()
    def _judged(self, rows: Tensor, weight: Tensor) -> Terms:
        sizes = [len(one) for one in torch.split(rows, JUDGED_AT_ONCE)]
        told = self._kernel()(Steps(rows, weight, sizes, [0.0] * len(sizes), ()))
        return named(self.step.head, told / len(rows))

    def _kernel(self) -> "Kernel":
        """The kernel on the weights as they are."""
        flat = self.step.store
        flat.gather()
        if self.kernel is None or self.kernel.flat is not flat:
            self.kernel = Kernel(self, flat)
        return self.kernel


class Kernel:
    """The kernel with all that stays the same from one call to the next."""

    def __init__(self, stride: Compiled, flat: Flat) -> None:
        form = stride.step.form
        self.flat, self.room = flat, 0
        self.layers = torch.tensor(layers_of(form, flat), dtype=torch.int64)
        self.settings = {
            learning: torch.tensor(settings_of(stride, learning=learning), dtype=torch.float64)
            for learning in (True, False)
        }
        self.ends = None if form.limit is None else ends_of([form], flat.values)
        head = stride.step.head
        self.table = Table.of(head.parts, form, flat) if isinstance(head, ColumnHead) else None
        self.apart = int(isinstance(stride.optimizer, torch.optim.AdamW))
        self.needs, self.run = functions(flat.values.dtype)
        self.memory, self.alone, self.patience = torch.empty(0), 0, ALONE
        self.helped = stride.threads > 1
        """Whether a second thread takes half of each batch. What that gives is the same."""

    def __call__(
        self, steps: Steps, moments: tuple[Tensor, Tensor] | None = None, done: float = 0.0
    ) -> Tensor:
        """The loss of all rows together; moves the weights where it has `moments`."""
        mean, square = moments or (None, None)
        layers, flat, most = self.layers, self.flat, max(steps.sizes)
        if most > self.room:
            size = self.needs(at(layers), len(layers), most, len(flat.values))
            self.memory, self.room = torch.zeros(size, dtype=torch.uint8), most
        rows, weights = steps.rows.contiguous(), None if steps.equal else steps.weight.contiguous()
        sizes, rates = torch.tensor(steps.sizes), torch.tensor(steps.rates, dtype=torch.float64)
        told = torch.zeros(len(sizes), dtype=torch.float64)
        helped = self.helped and not self.alone
        stalled = self.run(
            *(at(layers), len(layers), at(self.settings[mean is not None])),
            *(at(flat.values), at(flat.slopes), at(mean), at(square), len(flat.values)),
            *(done, at(rows), at(weights), at(steps.at), at(self.ends)),
            None if self.table is None else ctypes.byref(self.table),
            *(at(rates), at(sizes), len(sizes), self.room),
            *(self.apart, int(helped), at(self.memory), at(told)),
        )
        self._decide(helped=helped, stalled=bool(stalled))
        return torch.dot(told, sizes.double())

    def _decide(self, *, helped: bool, stalled: bool) -> None:
        """Where the second processor is busy with something else, be alone for a while."""
        if stalled:
            self.alone, self.patience = self.patience, min(2 * self.patience, LONGEST_ALONE)
        elif helped:
            self.patience = ALONE
        else:
            self.alone = max(0, self.alone - 1)


class Table(ctypes.Structure):
    """How rows are judged whose columns are of several kinds, or of which values are missing."""

    _fields_ = (
        *(("columns", c_void_p), ("count", c_int64), ("has_levels", c_int64)),
        *(("stand_in", c_int64), ("least", c_double), ("delta", c_double)),
        ("features", c_void_p),
    )
    held: tuple[Tensor, Tensor]
    """The memory that it points to."""

    @classmethod
    def of(cls, parts: Parts, form: DenseForm, flat: Flat) -> Self:
        """That of the columns of a head, for weights that lie in `flat`."""
        runs = parts.runs()
        columns = torch.tensor(runs, dtype=torch.int64)
        numbers = np.stack([parts.scale, parts.weight, parts.share])
        features = torch.as_tensor(numbers, dtype=flat.values.dtype).contiguous()
        fill_value = -1 if form.fill_value is None else flat.starts[form.fill_value]
        delta = math.inf if parts.delta is None else parts.delta
        has_levels = int(any(kind == KINDS.index("levels") for kind, _, _ in runs))
        places = at(columns), len(runs), has_levels, fill_value
        made = cls(*places, parts.least, delta, at(features))
        made.held = columns, features
        return made


def at(tensor: Tensor | None) -> int | None:
    """Where the numbers of a tensor are."""
    return None if tensor is None else tensor.data_ptr()


def functions(dtype: torch.dtype) -> tuple[Any, Any]:
    """Those of the kernel that tell the memory it needs, and take steps."""
    kernel = library()
    assert kernel is not None
    room = getattr(kernel, f"room_{NAMES[dtype]}")
    room.restype, room.argtypes = c_int64, [c_void_p, c_int64, c_int64, c_int64]
    run = getattr(kernel, f"steps_{NAMES[dtype]}")
    run.restype, run.argtypes = c_int, STEPS
    return room, run


def can_compile(step: ClosedStep, plan: Plan) -> bool:
    """Whether the kernel can take the steps of a fit, and pays."""
    parameters = list(step.network.parameters())
    weights, device = sum(parameter.numel() for parameter in parameters), parameters[0].device
    work = plan.batch_size * weights
    handy = device.type == "cpu" and weights <= MOST_WEIGHTS and work < MOST_WORK
    if (
        not (handy or is_small(work, device))
        or not is_told(step, SquaredHead, ColumnHead)
        or parameters[0].dtype not in NAMES
        or plan.steps * _seconds(step, work) < LEAST_SECONDS
    ):
        return False
    return len(parameters) <= MOST_LAYERS and library() is not None


def _seconds(step: ClosedStep, work: int) -> float:
    """About how long NumPy takes for a step of so many multiply-adds each way."""
    columns = COLUMNS_SECONDS if isinstance(step.head, ColumnHead) else 0.0
    return STEP_SECONDS + columns + 6 * work / OPERATIONS
