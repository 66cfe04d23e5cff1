"""Many steps on a GPU: recorded once as a CUDA graph, then launched as one."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.data.loading.rows import sent
from isthmus.randomness import reseed
from isthmus.training.engines.base import Most, Steps, Terms, runs
from isthmus.training.engines.dense.adam_loop import Stride
from isthmus.training.engines.dense.flat_parameters import Flat
from isthmus.training.engines.dense.step import ClosedStep
from isthmus.training.plan import Plan

UNROLLED = 8
"""Steps in one graph. A launch costs what two or three kernels of a small network take."""

Move = Callable[[Tensor], None]
Key = tuple[torch.Size, bool]
"""The shape of some batches (U, B, *shape), and whether rows count alike."""


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
    engine = "closed form, as CUDA graphs"
    most = Most(batches=64, nbytes=1 << 28)

    def __init__(self, step: ClosedStep, optimizer: torch.optim.Optimizer, plan: Plan) -> None:
        super().__init__(step, optimizer, plan)
        self.recordings: dict[Key, Recording] = {}
        self.tried: set[Key] = set()
        self.held: tuple[object, ...] = ()
        self.move: Move | None = None

    @torch.no_grad()
    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows; on the device."""
        flat, steps = self.step.store, steps.gathered()
        flat.gather()
        mean, square = self.adopt()
        self._hold(flat, mean, square)
        # In single precision, which is what Adam's kernels take rates in.
        rates = sent(torch.tensor(steps.rates, dtype=torch.float32), flat.values.device)
        # Noise is seeded anew for each step, which a graph cannot do.
        most = 1 if self.step.draws else UNROLLED
        ends = [0, *itertools.accumulate(steps.sizes)]
        told = [
            self._taken(steps, piece, slice(ends[piece.start], ends[piece.stop]), rates)
            for piece in pieces(steps.sizes, most)
        ]
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
            self.held, self.move = held, self.advance(flat, mean, square)

    def _taken(self, steps: Steps, piece: range, part: slice, rates: Tensor) -> Tensor:
        """The terms (U, terms) of some steps of one size, whose rows are a part of all."""
        many = len(piece)
        rows = steps.rows[part].view(many, -1, *steps.rows.shape[1:])
        weights = steps.weight[part].view(many, -1)
        rates = rates[piece.start : piece.stop]
        key = rows.shape, steps.equal
        if self.step.draws:
            reseed(steps.seeds[piece.start], rows.device)
        if key not in self.tried:
            self.tried.add(key)
            return torch.stack(
                [self._one(*each) for each in zip(rows, weights, rates, strict=True)]
            )
        found = self.recordings.get(key)
        if found is None:
            found = self.recordings[key] = self._record(rows, weights)
        found.rows.copy_(rows)
        if not steps.equal:
            found.weights.copy_(weights)
        found.rates.copy_(rates)
        found.graph.replay()
        return found.told.clone()

    def _one(self, x: Tensor, weight: Tensor, rate: Tensor) -> Tensor:
        """One step; its terms."""
        assert self.move is not None
        terms = self.step.passed(x, weight)
        self.names = tuple(terms)
        found = torch.stack([torch.as_tensor(term, device=x.device) for term in terms.values()])
        self.move(rate)
        return found

    def _record(self, like: Tensor, weighing: Tensor) -> Recording:
        """For steps with rows (U, B, *shape) and weights (U, B) such as these."""
        rows, rates = torch.zeros_like(like), like.new_zeros(len(like), dtype=torch.float32)
        weights = weighing.clone() if weighing.stride(1) else weighing
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(like.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(like.device))
        # Not by torch.cuda.graph, which first collects garbage and empties caches for 0.1 s.
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                told = torch.stack(
                    [self._one(*each) for each in zip(rows, weights, rates, strict=True)]
                )
            finally:
                graph.capture_end()
        torch.cuda.current_stream(like.device).wait_stream(stream)
        return Recording(rows, weights, rates, told, graph)


def pieces(sizes: Sequence[int], most: int) -> Iterator[range]:
    """Runs of steps with batches of one size: of `most` steps, and what is left one by one."""
    start = 0
    for many, _ in runs(sizes):
        end, whole = start + many, start + many - many % most
        yield from (range(at, at + most) for at in range(start, whole, most))
        yield from (range(at, at + 1) for at in range(whole, end))
        start = end
