"""The C kernel engine: many Adam steps of a small dense network per call; see `native/steps.h`."""

import ctypes
import math
from ctypes import c_double, c_int, c_int64, c_void_p
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.kinds import DenseForm
from isthmus.runtime.threads import available_cpus, is_small
from isthmus.training.engines.base import BatchLimit, Evaluator, StepBatch, Terms
from isthmus.training.engines.cpu.build import library, no_library
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.engines.dense.column_losses import KINDS, ColumnLoss, ColumnTable
from isthmus.training.engines.dense.flat_parameters import FlatParameters
from isthmus.training.engines.dense.losses import SquaredLoss, named_terms
from isthmus.training.engines.dense.step import ManualStep
from isthmus.training.engines.layer_table import (
    kernel_layers,
    kernel_obstacle,
    kernel_settings,
    output_bounds,
)
from isthmus.training.plan import Plan

MIN_SECONDS = 0.15
"""The estimated time of a fit by NumPy from which loading the kernel pays. Compiling it takes a
second or two, once on a machine."""

STEP_SECONDS, COLUMNS_SECONDS, OPERATIONS_PER_SECOND = 75e-6, 4e-4, 30e9
"""The estimated time of a step by NumPy, and that of losses of columns. A rule instead of a
stopwatch, so that the same fit always takes the same engine."""

MAX_WORK, MAX_WEIGHTS = 30_000_000, 1 << 19
"""Multiply-adds per batch, and weights, up to which the kernel is at least as fast as two threads
of torch: the weights stay in the processor's cache."""

MAX_LAYERS = 60
EVALUATION_ROWS = 256
"""Rows to evaluate at a time; they stay in the cache on their way through the network."""

FIRST_PAUSE, MAX_PAUSE = 2, 64
"""Calls with one thread after two threads waited for each other too long. The number doubles each
time that this happens again."""

DTYPE_NAMES = {torch.float32: "single", torch.float64: "double"}

STEPS_ARGUMENTS = [
    *(c_void_p, c_int64, c_void_p),  # layers, their number, settings
    *(c_void_p, c_void_p, c_void_p, c_void_p, c_int64),  # weights, grads, moments, their number
    *(c_double, c_void_p, c_void_p, c_void_p, c_void_p),  # step count, rows, weights, positions,
    # bounds
    *(c_void_p, c_void_p, c_void_p, c_int64, c_int64),  # table, rates, sizes, their number, max
    *(c_int, c_int, c_void_p, c_void_p),  # decoupled decay, second thread, scratch, losses
]


class CKernel:
    """Steps of Adam or AdamW on a small dense network, entirely in C."""

    name = "c kernel"
    limit = BatchLimit(batches=1024, nbytes=1 << 24)
    releases_gil = True

    def __init__(self, adam: FlatAdam) -> None:
        self.adam = adam
        self.threads = min(torch.get_num_threads(), available_cpus(), 2)
        self._call: KernelCall | None = None

    @torch.no_grad()
    def __call__(self, steps: StepBatch) -> Terms:
        """Take the steps; return every term before its step, summed over all rows."""
        call = self._bound_call()
        error = call(steps, self.adam.adopt(), float(self.adam.count))
        self.adam.count.add_(len(steps.sizes))
        self.adam.publish()
        return named_terms(self.adam.step.loss, error)

    @property
    def evaluator(self) -> Evaluator | None:
        """The kernel's forward pass."""
        return self._evaluate

    def detached(self) -> Self:
        """A copy without buffers; the moments stay in the optimizer's state."""
        return type(self)(self.adam.detached())

    @torch.no_grad()
    def _evaluate(self, rows: Tensor, weight: Tensor) -> Terms:
        sizes = [len(piece) for piece in torch.split(rows, EVALUATION_ROWS)]
        error = self._bound_call()(StepBatch(rows, weight, sizes, [0.0] * len(sizes), ()))
        return named_terms(self.adam.step.loss, error / len(rows))

    def _bound_call(self) -> "KernelCall":
        """The kernel bound to the buffers in which the weights are now."""
        flat = self.adam.step.flat_parameters
        flat.reclaim()
        if self._call is None or self._call.flat is not flat:
            self._call = KernelCall(self.adam, flat, two_threads=self.threads > 1)
        return self._call


class KernelCall:
    """The kernel with all arguments that stay the same from call to call."""

    def __init__(self, adam: FlatAdam, flat: FlatParameters, *, two_threads: bool) -> None:
        """Use a second thread for half of each batch with `two_threads`; results are equal."""
        form, loss = adam.step.form, adam.step.loss
        self.flat, self.max_batch = flat, 0
        self.layers = torch.tensor(kernel_layers(form, flat), dtype=torch.int64)
        self.settings = {
            learning: torch.tensor(kernel_settings(adam, learning=learning), dtype=torch.float64)
            for learning in (True, False)
        }
        self.bounds = None if form.limit is None else output_bounds(form, flat.values)
        table = loss.table if isinstance(loss, ColumnLoss) else None
        self.table = None if table is None else NativeTable.of(table, form, flat)
        self.is_adamw = int(adam.is_adamw)
        self.scratch_size, self.run = functions(flat.values.dtype)
        self.scratch, self.pause, self.next_pause = torch.empty(0), 0, FIRST_PAUSE
        self.two_threads = two_threads

    def __call__(
        self, steps: StepBatch, moments: tuple[Tensor, Tensor] | None = None, count: float = 0.0
    ) -> Tensor:
        """The loss summed over all rows; with `moments`, also update the weights."""
        mean, square = moments or (None, None)
        layers, flat, max_batch = self.layers, self.flat, max(steps.sizes)
        if max_batch > self.max_batch:
            size = self.scratch_size(pointer(layers), len(layers), max_batch, len(flat.values))
            self.scratch, self.max_batch = torch.zeros(size, dtype=torch.uint8), max_batch
        rows, weights = steps.rows.contiguous(), None if steps.equal else steps.weight.contiguous()
        sizes, rates = torch.tensor(steps.sizes), torch.tensor(steps.rates, dtype=torch.float64)
        losses = torch.zeros(len(sizes), dtype=torch.float64)
        two_threads = self.two_threads and not self.pause
        stalled = self.run(
            *(pointer(layers), len(layers), pointer(self.settings[mean is not None])),
            *(pointer(flat.values), pointer(flat.grads)),
            *(pointer(mean), pointer(square), len(flat.values)),
            *(count, pointer(rows), pointer(weights), pointer(steps.positions)),
            *(pointer(self.bounds), None if self.table is None else ctypes.byref(self.table)),
            *(pointer(rates), pointer(sizes), len(sizes), self.max_batch),
            *(self.is_adamw, int(two_threads), pointer(self.scratch), pointer(losses)),
        )
        self._adapt_threads(two_threads=two_threads, stalled=bool(stalled))
        return torch.dot(losses, sizes.double())

    def _adapt_threads(self, *, two_threads: bool, stalled: bool) -> None:
        """Pause the second thread if the other processor is busy with something else."""
        if stalled:
            self.pause, self.next_pause = self.next_pause, min(2 * self.next_pause, MAX_PAUSE)
        elif two_threads:
            self.next_pause = FIRST_PAUSE
        else:
            self.pause = max(0, self.pause - 1)


class NativeTable(ctypes.Structure):
    """A `ColumnTable` in C."""

    _fields_ = (
        *(("columns", c_void_p), ("count", c_int64), ("has_categories", c_int64)),
        *(("fill_value", c_int64), ("min_columns", c_double), ("delta", c_double)),
        ("features", c_void_p),
    )
    memory: tuple[Tensor, Tensor]
    """The tensors that the fields point to."""

    @classmethod
    def of(cls, table: ColumnTable, form: DenseForm, flat: FlatParameters) -> Self:
        """The structure for weights that lie in `flat`."""
        runs = table.runs()
        columns = torch.tensor(runs, dtype=torch.int64)
        numbers = np.stack([table.scale, table.weight, table.share])
        features = torch.as_tensor(numbers, dtype=flat.values.dtype).contiguous()
        fill_value = -1 if form.fill_value is None else flat.offsets[form.fill_value]
        delta = math.inf if table.delta is None else table.delta
        has_categories = int(any(kind == KINDS.index("categorical") for kind, _, _ in runs))
        head = pointer(columns), len(runs), has_categories, fill_value
        structure = cls(*head, table.min_columns, delta, pointer(features))
        structure.memory = columns, features
        return structure


def pointer(tensor: Tensor | None) -> int | None:
    """The address of a tensor's numbers, or None."""
    return None if tensor is None else tensor.data_ptr()


def functions(dtype: torch.dtype) -> tuple[Any, Any]:
    """The kernel's functions that return the scratch size, and that take steps."""
    kernel = library()
    assert kernel is not None
    scratch_size = getattr(kernel, f"scratch_size_{DTYPE_NAMES[dtype]}")
    scratch_size.restype, scratch_size.argtypes = c_int64, [c_void_p, c_int64, c_int64, c_int64]
    run = getattr(kernel, f"steps_{DTYPE_NAMES[dtype]}")
    run.restype, run.argtypes = c_int, STEPS_ARGUMENTS
    return scratch_size, run


def unsupported(step: ManualStep, plan: Plan) -> str | None:
    """The reason why the kernel cannot take the steps of a fit or does not pay, or None."""
    parameters = list(step.network.parameters())
    weights, device = sum(parameter.numel() for parameter in parameters), parameters[0].device
    work = plan.batch_size * weights
    fits_cache = device.type == "cpu" and weights <= MAX_WEIGHTS and work < MAX_WORK
    if not (fits_cache or is_small(work, device)):
        return "the network is too large"
    reason = kernel_obstacle(step, SquaredLoss, ColumnLoss)
    if reason is not None:
        return reason
    if parameters[0].dtype not in DTYPE_NAMES or len(parameters) > MAX_LAYERS:
        return "it has another precision or too many layers"
    if plan.steps * _numpy_seconds(step, work) < MIN_SECONDS:
        return "the fit is too short to load the kernel"
    return no_library()


def _numpy_seconds(step: ManualStep, work: int) -> float:
    """The estimated time of a step by NumPy, with `work` multiply-adds in each direction."""
    columns = COLUMNS_SECONDS if isinstance(step.loss, ColumnLoss) else 0.0
    return STEP_SECONDS + columns + 6 * work / OPERATIONS_PER_SECOND
