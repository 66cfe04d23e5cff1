"""Many steps on a GPU: recorded once as a CUDA graph, then launched as one."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.data.batches import sent
from isthmus.randomness import reseed
from isthmus.training.closed import ClosedStep
from isthmus.training.flat import Flat
from isthmus.training.plan import Plan
from isthmus.training.step import Steps, Terms
from isthmus.training.stride import Moved, Stride, shorten
from isthmus.training.whole import ByKernel, suits

UNROLLED = 8
"""Steps in one graph. A launch costs what two or three kernels of a small network take."""

WORTH_FUSING = 50_000_000_000
"""Weights times steps from which on it pays to load what compiles Adam's kernels: they save 14 ps
of each, and that takes the better part of a second."""

Move = Callable[[Tensor], None]
Key = tuple[int, torch.Size, bool]
"""Steps, shape of a batch, whether rows count alike."""


@dataclass
class Recording:
    """Steps of one graph, with the memory that they are fed by and answer in."""

    rows: Tensor
    """(U, B, *shape): the batches of U steps."""

    weights: Tensor
    """(U, B): how much each row counts."""

    rates: Tensor
    """(U,): learning rates."""

    told: Tensor
    """(U, terms): each term before its step."""

    graph: torch.cuda.CUDAGraph


class Recorded(Stride):
    """A stride whose steps are launched together, without a look at the device in between.

    The first step with batches of a size is taken as on any device, and so prepares what must be
    there before anything can be recorded.
    """

    names: tuple[str, ...] = ()

    def __init__(self, step: ClosedStep, optimizer: torch.optim.Optimizer, plan: Plan) -> None:
        super().__init__(step, optimizer, plan)
        self.recordings: dict[Key, Recording] = {}
        self.tried: set[Key] = set()
        self.held: tuple[object, ...] = ()
        self.move: Move | None = None

    @torch.no_grad()
    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows; on the device."""
        flat = self.step.store
        flat.gather()
        mean, square = self.adopt()
        self._hold(flat, mean, square)
        flat.lower()
        # In single precision, which is what Adam's kernels take rates in.
        rates = sent(torch.tensor(steps.rates, dtype=torch.float32), flat.values.device)
        # Noise is seeded anew for each step, which a graph cannot do.
        most = 1 if self.step.draws else UNROLLED
        told = [self._taken(steps, piece, rates) for piece in pieces(steps, most)]
        flat.lift()
        self.end()
        sizes = sent(torch.tensor(steps.sizes), flat.values.device)
        sums = (torch.cat(told).double() * sizes.double()[:, None]).sum(0)
        return dict(zip(self.names, sums.unbind(), strict=True))

    def _hold(self, flat: Flat, mean: Tensor, square: Tensor) -> None:
        """Forget what was recorded of other memory."""
        held = flat, mean.data_ptr(), square.data_ptr(), self.count.data_ptr()
        if held != self.held:
            self.recordings.clear()
            self.tried.clear()
            self.held, self.move = held, self._moving(flat, mean, square)

    def _moving(self, flat: Flat, mean: Tensor, square: Tensor) -> Move:
        if can_fuse(flat, self.plan):
            # Triton comes with torch for GPUs alone.
            from isthmus.training.fused import FusedAdam, Moving

            group = self.optimizer.param_groups[0]
            apart = isinstance(self.optimizer, torch.optim.AdamW)

            low, slopes = flat.low or (None, flat.slopes)
            moving = Moving(flat.values, slopes, mean, square, low, self.count)
            return FusedAdam(moving, flat.matrices, group, self.plan.clip_norm, apart=apart)
        moved = Moved(flat.values, flat.slopes, mean, square, self.count)
        mover = self._mover(moved, flat.matrices)

        def move(rate: Tensor) -> None:
            flat.lift()
            if self.plan.clip_norm is not None:
                shorten(flat.slopes, self.plan.clip_norm)
            mover(rate)
            flat.lower()

        return move

    def _taken(self, steps: Steps, piece: range, rates: Tensor) -> Tensor:
        """The terms (U, terms) of some steps of one size."""
        first, some = piece.start, slice(piece.start, piece.stop)
        x, weight = steps.batches[first], steps.weights[first]
        key = len(piece), x.shape, weight.stride(0) == 0
        if self.step.draws:
            reseed(steps.seeds[first], x.device)
        if key not in self.tried:
            self.tried.add(key)
            return torch.stack(
                [self._one(steps.batches[i], steps.weights[i], rates[i]) for i in piece]
            )
        found = self.recordings.get(key)
        if found is None:
            found = self.recordings[key] = self._record(len(piece), x, weight)
        torch.stack(list(steps.batches[some]), out=found.rows)
        if weight.stride(0):
            torch.stack(list(steps.weights[some]), out=found.weights)
        found.rates.copy_(rates[some])
        found.graph.replay()
        return found.told.clone()

    def _one(self, x: Tensor, weight: Tensor, rate: Tensor) -> Tensor:
        """One step; its terms."""
        assert self.move is not None
        terms = self.step.worked(x, weight)
        self.names = tuple(terms)
        found = torch.stack([torch.as_tensor(term, device=x.device) for term in terms.values()])
        self.move(rate)
        return found

    def _record(self, many: int, x: Tensor, weight: Tensor) -> Recording:
        rows, rates = x.new_zeros(many, *x.shape), x.new_zeros(many, dtype=torch.float32)
        weights = x.new_ones(many, len(x)) if weight.stride(0) else weight[:1].expand(many, len(x))
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(x.device))
        # Not by torch.cuda.graph, which first collects garbage and empties caches for 0.1 s.
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                told = torch.stack(
                    [self._one(*each) for each in zip(rows, weights, rates, strict=True)]
                )
            finally:
                graph.capture_end()
        torch.cuda.current_stream(x.device).wait_stream(stream)
        return Recording(rows, weights, rates, told, graph)


def can_fuse(flat: Flat, plan: Plan) -> bool:
    """Whether kernels of our own can move such weights, and pay for being loaded."""
    pays = len(flat.values) * plan.steps >= WORTH_FUSING
    known = flat.values.dtype == torch.float32
    return pays and known and importlib.util.find_spec("triton") is not None


def pieces(steps: Steps, most: int) -> Iterator[range]:
    """Runs of steps with batches of one size: of `most` steps, and what is left one by one."""
    sizes, start = steps.sizes, 0
    while start < len(sizes):
        alike = list(sizes[start : start + most]).count(sizes[start])
        many = most if alike == most else 1
        yield range(start, start + many)
        start += many


def stride_of(step: object, optimizer: torch.optim.Optimizer, plan: Plan) -> Stride | None:
    """A stride where a step has a closed form and the optimizer is Adam or AdamW, else None."""
    plain = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
    if not plain or not isinstance(step, ClosedStep):
        return None
    if next(step.network.parameters()).device.type != "cuda":
        return Stride(step, optimizer, plan)
    return (ByKernel if suits([step], [plan]) else Recorded)(step, optimizer, plan)
