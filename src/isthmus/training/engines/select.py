"""Choose the engine of a fit: the first in an ordered table that supports it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from isthmus.losses import Objective
from isthmus.training.engines.autograd import AutogradStep
from isthmus.training.engines.base import (
    STEP_SHARING,
    Corrupt,
    MultiStep,
    TrainingStep,
)
from isthmus.training.engines.cpu import bf16_adam, kernel
from isthmus.training.engines.cuda.graphs import CudaGraphs
from isthmus.training.engines.dense.adam_loop import AdamLoop
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.engines.dense.step import ManualStep, manual_step
from isthmus.training.plan import Plan
from isthmus.types import Network


@dataclass
class FitParts:
    """What decides which engines can take the steps of a fit."""

    network: Network
    objective: Objective
    corrupt: Corrupt | None
    optimizer: torch.optim.Optimizer
    plan: Plan
    bf16: bool
    needs_autograd: bool = False
    """Whether the optimizer observes the forward and backward pass, as K-FAC does."""

    _manual: ManualStep | str | None = field(default=None, init=False)

    @property
    def device(self) -> torch.device:
        """The device of the network's weights."""
        return next(self.network.parameters()).device

    @property
    def manual(self) -> ManualStep | str:
        """The step with hand-derived gradients, or the reason why it is unavailable."""
        if self._manual is None:
            if self.needs_autograd:
                self._manual = "the optimizer observes autograd"
            else:
                parts = self.network, self.objective, self.corrupt
                self._manual = manual_step(*parts, bf16=self.bf16)
        return self._manual


class Engine(NamedTuple):
    """A way to take the steps of a fit."""

    name: str
    supports: Callable[[FitParts], str | None]
    """None if it can take the steps of a fit, else the reason why not."""

    multi_step: Callable[[FlatAdam], MultiStep] | None = None
    """Builds the implementation that takes several steps per call, if there is one."""


class Selection(NamedTuple):
    """The engine of a fit."""

    name: str
    step: TrainingStep
    multi_step: MultiStep | None
    passed_over: dict[str, str]
    """The engines before it in the table, with the reason why each was passed over."""

    @property
    def threads(self) -> int | None:
        """How many threads the engine divides a batch between, or None for those of torch."""
        return getattr(self.multi_step, "threads", None)

    @property
    def explanation(self) -> str:
        """Why this engine was selected, in words."""
        names: dict[str, list[str]] = {}
        for name, reason in self.passed_over.items():
            names.setdefault(reason, []).append(name)
        others = [f"not {' or '.join(which)}: {reason}" for reason, which in names.items()]
        return "; ".join(["the first engine in the table that supports the fit", *others])

    def detached(self) -> "Selection":
        """The same without buffers, to keep in a fitted model and to go on with later."""
        return self._replace(multi_step=self.multi_step and self.multi_step.detached())


def _manual_reason(fit: FitParts) -> str | None:
    return fit.manual if isinstance(fit.manual, str) else None


def _adam_reason(fit: FitParts) -> str | None:
    if type(fit.optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
        return "the optimizer is neither Adam nor AdamW"
    if fit.plan.ema_decay:
        return "the weights are averaged after each step"
    return _manual_reason(fit)


def _on_cuda(fit: FitParts) -> str | None:
    return _adam_reason(fit) or (None if fit.device.type == "cuda" else "the device is not a GPU")


def _on_cpu(fit: FitParts) -> str | None:
    return _adam_reason(fit) or ("the device is a GPU" if fit.device.type == "cuda" else None)


def _bf16_on_cpu(fit: FitParts) -> str | None:
    reason = _on_cpu(fit)
    return reason or bf16_adam.unsupported(_manual_of(fit), fit.plan)


def _small_on_cpu(fit: FitParts) -> str | None:
    reason = _on_cpu(fit)
    return reason or kernel.unsupported(_manual_of(fit), fit.plan)


def _manual_of(fit: FitParts) -> ManualStep:
    assert isinstance(fit.manual, ManualStep)
    return fit.manual


ENGINES = (
    Engine(CudaGraphs.name, _on_cuda, CudaGraphs),
    Engine(bf16_adam.Bf16Adam.name, _bf16_on_cpu, bf16_adam.Bf16Adam),
    Engine(kernel.CKernel.name, _small_on_cpu, kernel.CKernel),
    Engine(AdamLoop.name, _on_cpu, AdamLoop),
    Engine("manual gradients", _manual_reason),
    Engine("autograd", lambda _: None),
)
"""The engines in the order in which they are tried."""


def select_engine(fit: FitParts) -> Selection:
    """The first engine that supports a fit, and why those before it do not."""
    passed_over: dict[str, str] = {}
    for engine in ENGINES:
        reason = engine.supports(fit)
        if reason is None:
            break
        passed_over[engine.name] = reason
    multi_step: MultiStep | None = None
    if engine.multi_step is not None:
        multi_step = engine.multi_step(FlatAdam(_manual_of(fit), fit.optimizer, fit.plan))
        share = STEP_SHARING.get()
        multi_step = multi_step if share is None else share(multi_step)
    step: TrainingStep
    if isinstance(fit.manual, ManualStep):
        step = fit.manual
    else:
        step = AutogradStep(fit.network, fit.objective, fit.corrupt, bf16=fit.bf16)
    return Selection(engine.name, step, multi_step, passed_over)
