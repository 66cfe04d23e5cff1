"""The CUDA graph engine: several Adam steps on a GPU, captured once and launched together."""

# Shape letters: U steps of one graph, B rows in a batch.

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from isthmus.data.loading.rows import to_device
from isthmus.randomness import reseed
from isthmus.training.engines.base import BatchLimit, Evaluator, StepBatch, Terms, run_lengths
from isthmus.training.engines.dense.adam_state import FlatAdam, Update

STEPS_PER_GRAPH = 8
"""A launch costs as much as two or three kernels of a small network."""

Key = tuple[torch.Size, bool]
"""The shape of some batches (U, B, *shape), and whether the sample weights are equal."""


@dataclass
class CapturedSteps:
    """A graph of several steps, with its input and output tensors."""

    rows: Tensor
    """(U, B, *shape)"""

    weights: Tensor
    """(U, B): sample weights."""

    rates: Tensor
    """(U,): learning rates."""

    terms: Tensor
    """(U, terms): each term before its step."""

    graph: torch.cuda.CUDAGraph


class CudaGraphs:
    """Steps of Adam or AdamW on a GPU, launched as CUDA graphs.

    The first step with batches of a new size runs without a graph, which creates everything that
    has to exist before a capture.
    """

    name = "cuda graphs"
    limit = BatchLimit(batches=64, nbytes=1 << 28)
    releases_gil = False

    def __init__(self, adam: FlatAdam) -> None:
        self.adam = adam
        self.captured: dict[Key, CapturedSteps] = {}
        self._term_names: tuple[str, ...] = ()
        self._sizes_seen: set[Key] = set()
        self._owner: tuple[object, ...] = ()
        self._update: Update | None = None

    @property
    def evaluator(self) -> Evaluator | None:
        """None: the network itself evaluates as fast."""
        return None

    @torch.no_grad()
    def __call__(self, steps: StepBatch) -> Terms:
        """Take the steps; return every term before its step, summed over all rows, on the GPU."""
        flat, steps = self.adam.step.flat_parameters, steps.gathered()
        flat.reclaim()
        self._bind(*self.adam.adopt())
        # In single precision, which is what Adam's kernels take rates in.
        rates = to_device(torch.tensor(steps.rates, dtype=torch.float32), flat.values.device)
        # Noise needs a new seed per step, which a graph cannot set.
        max_steps = 1 if self.adam.step.is_random else STEPS_PER_GRAPH
        ends = [0, *itertools.accumulate(steps.sizes)]
        terms = [
            self._take(steps, piece, slice(ends[piece.start], ends[piece.stop]), rates)
            for piece in pieces(steps.sizes, max_steps)
        ]
        self.adam.publish()
        sizes = to_device(torch.tensor(steps.sizes), flat.values.device)
        sums = (torch.cat(terms).double() * sizes.double()[:, None]).sum(0)
        return dict(zip(self._term_names, sums.unbind(), strict=True))

    def detached(self) -> Self:
        """A copy without buffers or graphs; the moments stay in the optimizer's state."""
        return type(self)(self.adam.detached())

    def _bind(self, mean: Tensor, square: Tensor) -> None:
        """Drop graphs that were captured for other buffers."""
        flat = self.adam.step.flat_parameters
        owner = flat, mean.data_ptr(), square.data_ptr(), self.adam.count.data_ptr()
        if owner != self._owner:
            self.captured.clear()
            self._sizes_seen.clear()
            self._owner, self._update = owner, self.adam.make_update(flat, mean, square)

    def _take(self, steps: StepBatch, piece: range, part: slice, rates: Tensor) -> Tensor:
        """The terms (U, terms) of some steps with batches of one size."""
        rows = steps.rows[part].view(len(piece), -1, *steps.rows.shape[1:])
        weights = steps.weight[part].view(len(piece), -1)
        rates = rates[piece.start : piece.stop]
        key = rows.shape, steps.equal
        if self.adam.step.is_random:
            reseed(steps.seeds[piece.start], rows.device)
        if key not in self._sizes_seen:
            self._sizes_seen.add(key)
            inputs = zip(rows, weights, rates, strict=True)
            return torch.stack([self._step(*each) for each in inputs])
        captured = self.captured.get(key)
        if captured is None:
            captured = self.captured[key] = self._capture(rows, weights)
        captured.rows.copy_(rows)
        if not steps.equal:
            captured.weights.copy_(weights)
        captured.rates.copy_(rates)
        captured.graph.replay()
        return captured.terms.clone()

    def _step(self, x: Tensor, weight: Tensor, rate: Tensor) -> Tensor:
        """Take one step; return its terms."""
        assert self._update is not None
        terms = self.adam.step.forward_backward(x, weight)
        self._term_names = tuple(terms)
        values = torch.stack([torch.as_tensor(term, device=x.device) for term in terms.values()])
        self._update(rate)
        return values

    def _capture(self, like: Tensor, like_weights: Tensor) -> CapturedSteps:
        """A graph for steps with rows (U, B, *shape) and weights (U, B) like these."""
        rows, rates = torch.zeros_like(like), like.new_zeros(len(like), dtype=torch.float32)
        weights = like_weights.clone() if like_weights.stride(1) else like_weights
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(like.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(like.device))
        # Not torch.cuda.graph, which first spends 0.1 s on collecting garbage and freeing caches.
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                inputs = zip(rows, weights, rates, strict=True)
                terms = torch.stack([self._step(*each) for each in inputs])
            finally:
                graph.capture_end()
        torch.cuda.current_stream(like.device).wait_stream(stream)
        return CapturedSteps(rows, weights, rates, terms, graph)


def pieces(sizes: Sequence[int], max_steps: int) -> Iterator[range]:
    """Ranges of `max_steps` steps with batches of one size, and single steps for the rest."""
    start = 0
    for count, _ in run_lengths(sizes):
        end, full = start + count, start + count - count % max_steps
        yield from (range(first, first + max_steps) for first in range(start, full, max_steps))
        yield from (range(step, step + 1) for step in range(full, end))
        start = end
