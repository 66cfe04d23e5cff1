"""Which way the steps of a fit are taken, many at a time."""

import torch

from isthmus.training.engines.cpu.bf16_adam import Lowered, can_lower
from isthmus.training.engines.cpu.kernel import Compiled, can_compile
from isthmus.training.engines.cuda.fused import ByKernel, suits
from isthmus.training.engines.cuda.graphs import Recorded
from isthmus.training.engines.dense.adam_loop import Stride
from isthmus.training.engines.dense.step import ClosedStep
from isthmus.training.plan import Plan


def stride_of(step: object, optimizer: torch.optim.Optimizer, plan: Plan) -> Stride | None:
    """A stride where a step has a closed form and the optimizer is Adam or AdamW, else None."""
    plain = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
    if not plain or not isinstance(step, ClosedStep):
        return None
    if next(step.network.parameters()).is_cuda:
        return (ByKernel if suits([step], [plan]) else Recorded)(step, optimizer, plan)
    if can_lower(step, plan):
        return Lowered(step, optimizer, plan)
    return (Compiled if can_compile(step, plan) else Stride)(step, optimizer, plan)
