"""The monitor of a fit: is the network learning, or is it learning the average?"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from isthmus.randomness import reseed
from isthmus.training.diagnostics.code_stats import (
    CodeStats,
    DiagnosticSample,
    NetworkStats,
    linear_explained_variance,
    squared_error,
)
from isthmus.training.diagnostics.findings import (
    Diagnosis,
    Finding,
    average_finding,
    diagnose,
    is_average,
)
from isthmus.training.diagnostics.layer_stats import LayerStepNorms, measure_activity
from isthmus.training.shared_cache import cached
from isthmus.training.state import Record
from isthmus.types import Network, WeightedRows

EVENT = "diagnosis"
"""The event of a finding in the history."""

HEALTHY = Diagnosis()

STEPS_BETWEEN_CHECKS = 400
"""At least. A check costs as much as two to forty steps, and more of them if they are fast."""

CHECKS_TO_WARN = 3

MIN_CHECKS = 2
"""A fit with fewer checks is not diagnosed: it has not learned *yet*, and layers parallel to a
linear path may still be at zero."""

MANY_UNUSED = 0.25
"""The share of unused code units from which on their possible use is measured."""

HIGH_ERROR = 0.8
"""The relative error from which on a linear code is measured for comparison."""


@dataclass
class Monitor:
    """Checks a fit at regular intervals without changing it, and diagnoses it at the end.

    All that it must remember is in the history, so a resumed fit ends with the same diagnosis.
    """

    data: Callable[[Tensor, Tensor], Tensor]
    """Maps (raw network output, rows) to data, as the loss does."""

    gradients: int = 1
    """About how many gradients a step takes: methods that take several learn in fewer steps."""

    diagnosis: Diagnosis = HEALTHY
    """The diagnosis of the fit, after `conclude`."""

    layers: dict[str, list[float]] = field(default_factory=dict)
    """The norms of the last observed step by layer, until `examine` records them."""

    sample: DiagnosticSample | None = None

    def due(self, epoch: int, steps: int) -> bool:
        """Whether to check the fit in epoch number `epoch` (from 1), of `steps` steps."""
        return epoch % math.ceil(STEPS_BETWEEN_CHECKS / max(steps * self.gradients, 1)) == 0

    @contextmanager
    def observe_step(self, network: nn.Module) -> Iterator[None]:
        """A context that measures the optimizer step taken in it."""
        step = LayerStepNorms(network)
        with step():
            yield
        self.layers = step.norms

    def examine(self, network: Network, rows: WeightedRows) -> Record:
        """The record of this epoch: the observed step, and the network on a sample of `rows`.

        Its "layers" are the norms of each layer's gradient, of its weights and of the step. Its
        other entries are those of `NetworkStats.record`.
        """
        stats = self._stats(network, rows)
        layers, self.layers = self.layers, {}
        return ({} if stats is None else stats.record()) | ({"layers": layers} if layers else {})

    def warning(self, history: Sequence[Record], epochs: int) -> Iterator[Finding]:
        """An early finding: the network is still the average after a quarter of the fit."""
        checks = [record for record in history if "diagnostics" in record][-CHECKS_TO_WARN:]
        if len(checks) < CHECKS_TO_WARN or "diagnostics" not in history[-1]:
            return
        has_warned = any(record.get("event") == EVENT for record in history)
        if has_warned or 4 * checks[-1]["epoch"] < epochs:
            return
        if all(is_average(record["diagnostics"]) for record in checks):
            yield from average_finding(checks[-1]["diagnostics"])

    def conclude(self, network: Network, rows: WeightedRows, history: list[Record]) -> Diagnosis:
        """The diagnosis of the fit that ended with `network`.

        It replaces an early warning, which is removed from the history.
        """
        history[:] = [record for record in history if record.get("event") != EVENT]
        records = [record["diagnostics"] for record in history if "diagnostics" in record]
        stats = self._stats(network, rows) if len(records) >= MIN_CHECKS else None
        self.sample = None
        self.diagnosis = HEALTHY if stats is None else diagnose(stats, network, records)
        return self.diagnosis

    @torch.no_grad()
    def _stats(self, network: Network, rows: WeightedRows) -> NetworkStats | None:
        """The network's behaviour on the sample, or None if nothing can be measured."""
        if self.sample is None:
            self.sample = cached((rows,), "sample", lambda: DiagnosticSample.of(rows))
        x, weight, mean, distinct, mean_error = self.sample
        if mean_error == 0:
            return None
        with _evaluation_mode(network, x.device):
            output, activity = measure_activity(network, x)
        if not bool(output.code.isfinite().all() & output.reconstruction.isfinite().all()):
            return None  # an extreme row may overflow although the mean loss is finite
        reconstruction = self.data(output.reconstruction, x)
        relative_error = squared_error(reconstruction, x, weight) / mean_error
        code, size = CodeStats.of(output.code), output.code.flatten(1).shape[1]
        linear_error = unused_variance = None
        if not relative_error < HIGH_ERROR:
            linear_error = 1 - linear_explained_variance(x, mean, weight, size)
        if MANY_UNUSED * size <= code.unused < size:
            used = linear_explained_variance(x, mean, weight, size - code.unused)
            unused_variance = linear_explained_variance(x, mean, weight, size) - used
        return NetworkStats(activity, code, distinct, relative_error, linear_error, unused_variance)


def observed_step(monitor: Monitor | None, network: nn.Module) -> AbstractContextManager[None]:
    """A context in which to take a step, which `monitor` measures if there is one."""
    return nullcontext() if monitor is None else monitor.observe_step(network)


@contextmanager
def _evaluation_mode(network: nn.Module, device: torch.device) -> Iterator[None]:
    """A context in evaluation mode with a fixed seed; modes and random state are restored."""
    modes = [(module, module.training) for module in network.modules()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        reseed(0, device)
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                if module.training != training:  # setting it costs more than comparing
                    module.training = training
