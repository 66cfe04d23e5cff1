"""The Adam loop engine: several steps of Adam per call, on weights in one buffer."""

from typing import Self

import numpy as np
import torch

from isthmus.training.engines.base import BatchLimit, Evaluator, StepBatch, Terms
from isthmus.training.engines.dense.adam_state import FlatAdam


class AdamLoop:
    """Steps of torch's Adam or AdamW with hand-derived gradients.

    The weights equal those of single steps within rounding.
    """

    name = "adam loop"
    limit = BatchLimit(batches=64, nbytes=1 << 20)
    """Rows that stay in the processor's cache from copying to use."""

    releases_gil = False

    def __init__(self, adam: FlatAdam) -> None:
        self.adam = adam

    @property
    def evaluator(self) -> Evaluator | None:
        """None: the network itself evaluates as fast."""
        return None

    @torch.no_grad()
    @np.errstate(all="ignore")
    def __call__(self, steps: StepBatch) -> Terms:
        """Take the steps; return every term before its step, summed over all rows."""
        step, flat, steps = self.adam.step, self.adam.step.flat_parameters, steps.gathered()
        flat.reclaim()
        update = self.adam.make_update(flat, *self.adam.adopt())
        terms = self.adam.take_each(steps, step.forward_backward, update)
        self.adam.publish()
        return terms

    def detached(self) -> Self:
        """A copy without buffers; the moments stay in the optimizer's state."""
        return type(self)(self.adam.detached())
