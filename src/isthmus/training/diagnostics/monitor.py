"""The doctor: is this network learning, or is it learning the average?"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.randomness import reseed
from isthmus.training.diagnostics.code_stats import (
    CodeFigures,
    Look,
    Sample,
    error_of,
    share_rebuilt_linearly,
)
from isthmus.training.diagnostics.findings import (
    Diagnosis,
    Finding,
    average_of,
    diagnose,
    is_average,
)
from isthmus.training.diagnostics.layer_stats import StepWatch, activity_of
from isthmus.training.shared_cache import cached
from isthmus.training.state import Record
from isthmus.types import Network, WeightedRows

EVENT = "diagnosis"
"""What the history calls a finding."""

HEALTHY = Diagnosis()

STEPS_BETWEEN_LOOKS = 400
"""At least; a look costs about as much as two to forty steps, the more the faster these are."""

LOOKS_TO_WARN = 3

FEWEST_LOOKS = 2
"""A shorter fit has not learned *yet*, and may have met layers whose way was still silenced."""

MANY_UNUSED = 0.25
"""Share of the code's units out of use from which on it is asked what they could do."""

SUSPECT = 0.8
"""Share of the mean row's error from which on it is asked what a linear code would leave."""


@dataclass
class Monitor:
    """Looks at a fit now and then, changes nothing, and says at its end what is wrong.

    What it needs to remember is in the records of the history, so that a resumed fit ends with
    the same verdict.
    """

    data: Callable[[Tensor, Tensor], Tensor]
    """Turns the network's raw output for rows into data, as the loss understands it."""

    gradients: int = 1
    """How many a step takes, about: methods that take many learn as much in fewer steps."""

    diagnosis: Diagnosis = HEALTHY
    """The verdict on the fit, once `conclude` has been asked for it."""

    layers: dict[str, list[float]] = field(default_factory=dict)
    """What the last watched step did to each layer, until the epoch's record takes it."""

    sample: Sample | None = None

    def due(self, epoch: int, steps: int) -> bool:
        """Whether to look at epoch number `epoch` (from 1), of `steps` steps."""
        return epoch % math.ceil(STEPS_BETWEEN_LOOKS / max(steps * self.gradients, 1)) == 0

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Watch the step of the optimizer taken inside the block."""
        watch = StepWatch(network)
        with watch():
            yield
        self.layers = watch.seen

    def examine(self, network: Network, rows: WeightedRows) -> Record:
        """The record of this epoch: of the watched step, and of the network on a sample of `rows`.

        Its "layers" are, for each, the norms of its gradient, of its weights and of the step; its
        other entries are those of `Look.record`.
        """
        look = self._look(network, rows)
        layers, self.layers = self.layers, {}
        return ({} if look is None else look.record()) | ({"layers": layers} if layers else {})

    def warning(self, history: Sequence[Record], epochs: int) -> Iterator[Finding]:
        """What is worth saying before the fit ends: that a quarter of it has learned nothing."""
        looks = [record for record in history if "diagnostics" in record][-LOOKS_TO_WARN:]
        told = any(record.get("event") == EVENT for record in history)
        ill = len(looks) == LOOKS_TO_WARN and all(is_average(look["diagnostics"]) for look in looks)
        if ill and not told and "diagnostics" in history[-1] and 4 * looks[-1]["epoch"] >= epochs:
            yield from average_of(looks[-1]["diagnostics"])

    def conclude(self, network: Network, rows: WeightedRows, history: list[Record]) -> Diagnosis:
        """The verdict on the fit whose result is `network` as it is now.

        A warning given on the way is taken out of the history: the verdict stands in its place.
        """
        history[:] = [record for record in history if record.get("event") != EVENT]
        records = [record["diagnostics"] for record in history if "diagnostics" in record]
        look = self._look(network, rows) if len(records) >= FEWEST_LOOKS else None
        self.sample = None
        self.diagnosis = HEALTHY if look is None else diagnose(look, network, records)
        return self.diagnosis

    @torch.no_grad()
    def _look(self, network: Network, rows: WeightedRows) -> Look | None:
        """What the network does to the sample, or None where that says nothing."""
        if self.sample is None:
            self.sample = cached((rows,), "sample", lambda: Sample.of(rows))
        x, weight, mean, distinct, mean_error = self.sample
        if mean_error == 0:
            return None
        with _undisturbed(network, x.device):
            output, activity = activity_of(network, x)
        if not bool(output.code.isfinite().all() & output.reconstruction.isfinite().all()):
            return None  # a row of the sample may lie too far out where the mean loss is finite
        beside_mean = error_of(self.data(output.reconstruction, x), x, weight) / mean_error
        code, size = CodeFigures.of(output.code), output.code.flatten(1).shape[1]
        linear = idle = None
        if not beside_mean < SUSPECT:
            linear = 1 - share_rebuilt_linearly(x, mean, weight, size)
        if MANY_UNUSED * size <= code.unused < size:
            used = share_rebuilt_linearly(x, mean, weight, size - code.unused)
            idle = share_rebuilt_linearly(x, mean, weight, size) - used
        return Look(activity, code, distinct, beside_mean, linear, idle)


def watched(monitor: Monitor | None, network: nn.Module) -> Any:
    """The context in which to take a step: watched where there is a doctor."""
    return nullcontext() if monitor is None else monitor.watching(network)


@contextmanager
def _undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode and a fixed seed for a while; modes and randomness are then as before."""
    modes = [(module, module.training) for module in network.modules()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        reseed(0, device)
        network.eval()
        try:
            yield
        finally:
            for module, training in modes:
                if module.training != training:  # to set it costs more than to look
                    module.training = training
