"""Greedy layer-wise learning: one level after the other, each on what the finished ones make."""

import time
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from isthmus.data import read_ahead, sampled, shuffled
from isthmus.errors import DivergenceError, RequestError, require
from isthmus.kinds.blocks import Stack
from isthmus.pretraining.base import Job, Pretraining, Record, mixed
from isthmus.randomness import reseed
from isthmus.types import Index, WeightedRows

MOST_JUDGED = 2000
"""Rows that tell a level's error and free-energy gap well enough."""

ROWS_AT_ONCE = 500
STEPS_WANTED, MOST_EPOCHS = 1000, 200
CEILING, SMALLEST_CEILING = 2.0, 0.1
"""A level that rebuilds this many times worse than when it began has diverged."""


class Level(Protocol):
    """One level under way: a layer of the encoder and the layer of the decoder that mirrors it."""

    @property
    def units(self) -> str:
        """What is learned, in words."""

    @property
    def rate(self) -> str:
        """The setting that holds the level's learning rate."""

    def step(self, below: Tensor, weight: Tensor, epoch: int) -> None:
        """Learn from a batch (B, ...) of what lies below, whose rows count `weight` (B,)."""

    def errors(self, below: Tensor) -> Tensor:
        """(B,): how far each row is from what the level rebuilds of it."""

    def free_energy(self, below: Tensor) -> Tensor | None:
        """(B,) in nats, or None where the level has no such thing."""

    def finish(self) -> None:
        """Leave what was learned in the network."""


class Ladder:
    """The stacks of a network as levels, from the row (0) to the code (depth - 1)."""

    def __init__(self, job: Job, name: str) -> None:
        self.network, self.loss = job.network, job.loss
        encoder, decoder = job.network.encoder, job.network.decoder
        if encoder is None or decoder is None or encoder.depth < 2:
            raise RequestError(
                f"pretraining={name!r} goes layer by layer, and this network has no hidden layers; "
                "use pretraining='pca' or 'random', or a kind with hidden layers"
            )
        self.encoder: Stack = encoder
        self.decoder: Stack = decoder
        self.depth = encoder.depth

    @torch.no_grad()
    def below(self, level: int, x: Tensor) -> Tensor:
        """What level `level` learns to rebuild: rows for 0, else the activations of level - 1."""
        x = self.network.fill_missing(x)
        for i in range(level):
            x = self.encoder.bend(self.encoder.layer(i, x))
        return x

    def rows(self, below: Tensor) -> Tensor:
        """What lies below level 0 as the loss takes it: counts at the mean depth, where it is."""
        counts = self.network.counts
        return below if counts is None else counts.inverse(below)

    def up(self, level: int, below: Tensor) -> Tensor:
        """The level's own activations, of the code where it is the last."""
        above = self.encoder.layer(level, below)
        if level == self.depth - 1:
            return self.network.code_activation(above)  # type: ignore[no-any-return]
        return self.encoder.bend(above)

    def down(self, level: int, above: Tensor) -> Tensor:
        """What lies below, rebuilt: for level 0 the raw output, before the loss's `mean`."""
        back = self.decoder.layer(self.depth - 1 - level, above)
        if level:
            return self.decoder.bend(back)
        return self.network.clamp_output(back.reshape(-1, *self.network.facts.shape))


@dataclass(kw_only=True)
class LayerWise(Pretraining):
    """Levels learned one after the other, from the row to the code (Bengio et al. 2007).

    A linear path beside the layers starts at zero. Dropout and penalties wait for the training
    that follows.
    """

    FEWEST_EPOCHS: ClassVar[int] = 10

    epochs: int | None = None
    """Passes over the rows for each layer, >= 1; None is 10 (for RBMs 20), and more where rows are
    few: as many as make 1000 steps, at most 200."""

    batch_size: int = 100
    """Rows a step, >= 1."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        name = type(self).__name__
        require(
            self.epochs is None or self.epochs >= 1,
            f"{name}: epochs={self.epochs} must be at least 1",
        )
        require(self.batch_size >= 1, f"{name}: batch_size={self.batch_size} must be at least 1")

    def ladder(self, job: Job) -> Ladder:
        """The levels of the network; RequestError where it cannot start so."""
        raise NotImplementedError

    def level(self, ladder: Ladder, level: int, job: Job) -> Level:
        """Level `level`, ready to learn; torch's generator is seeded for it."""
        raise NotImplementedError

    def run(self, job: Job) -> list[Record]:
        """Learn level by level; a record for each level and epoch, epoch 0 before the first step.

        Raises RequestError for a network without hidden layers, DivergenceError for a level whose
        error is not finite or grows far beyond its beginning.
        """
        self.check()
        ladder = self.ladder(job)
        reseed(mixed(job.seed, 0), job.train.weight.device)
        job.network.reset_nonlinear()
        job.network.eval()  # no dropout: each level is its own, complete model
        began, records = time.monotonic(), []
        judges = _Judges(job)
        for i in range(ladder.depth):
            reseed(mixed(job.seed, i + 1), job.train.weight.device)
            level = self.level(ladder, i, job)
            records += self._learn(level, i, ladder, job, judges, began)
            level.finish()
        return records

    def _learn(
        self, level: Level, i: int, ladder: Ladder, job: Job, judges: "_Judges", began: float
    ) -> list[Record]:
        below, above = _widths(ladder, i, job.train)
        what = f"layer {i + 1} of {ladder.depth}, {below} to {above}, {level.units}"
        started = time.monotonic()
        records: list[Record] = []
        for epoch in range(self._epochs(len(job.train)) + 1):
            if epoch:
                self._epoch(level, i, epoch, ladder, job)
            figures = judges.figures(level, i, ladder)
            position = {"layer": i + 1, "epoch": epoch, "below": below, "above": above}
            seconds = round(time.monotonic() - began, 3)
            records.append(position | {"units": level.units} | figures | {"seconds": seconds})
            _check(figures["error"], records[0]["error"], f"{what}, in epoch {epoch}", level.rate)
        job.tell(f"{what}: {_told(records)}, {time.monotonic() - started:.3g} s")
        return records

    def _epochs(self, rows: int) -> int:
        if self.epochs is not None:
            return self.epochs
        steps = -(-rows // self.batch_size)
        return min(max(STEPS_WANTED // steps, self.FEWEST_EPOCHS), MOST_EPOCHS)

    def _epoch(self, level: Level, i: int, epoch: int, ladder: Ladder, job: Job) -> None:
        seed = mixed(job.seed, i + 1)
        batches = shuffled(job.train, self.batch_size, seed=seed, epoch=epoch)
        with read_ahead(job.train, batches):
            for number, positions in enumerate(batches):
                job.heed()
                x, weight = job.train.take(positions), job.train.weight[torch.as_tensor(positions)]
                reseed(mixed(job.seed, i + 1, epoch, number), x.device)
                level.step(ladder.below(i, x), weight, epoch)


class _Judges:
    """Training rows, evenly spaced, and as many held-out ones, that every level is judged by."""

    def __init__(self, job: Job) -> None:
        validation = job.validation if job.validation is not None and len(job.validation) else None
        most = min(len(job.train), MOST_JUDGED, len(validation) if validation else MOST_JUDGED)
        self.train = job.train, _spread(job.train, most)
        self.validation = None if validation is None else (validation, _spread(validation, most))

    @torch.no_grad()
    def figures(self, level: Level, i: int, ladder: Ladder) -> Record:
        """The level's error, and where there are held-out rows what it is of them."""
        error, energy = self._means(level, i, ladder, *self.train)
        found = {"error": error}
        if self.validation is not None:
            found["validation_error"], unseen = self._means(level, i, ladder, *self.validation)
            if energy is not None and unseen is not None:
                found["free_energy_gap"] = unseen - energy
        return found

    @staticmethod
    def _means(
        level: Level, i: int, ladder: Ladder, rows: WeightedRows, positions: Index
    ) -> tuple[float, float | None]:
        errors, energies, weights = [], [], []
        for start in range(0, len(positions), ROWS_AT_ONCE):
            at = positions[start : start + ROWS_AT_ONCE]
            below = ladder.below(i, rows.take(at))
            weights.append(rows.weight[torch.as_tensor(at)].double())
            errors.append(level.errors(below).double())
            energies.append(level.free_energy(below))
        weight = torch.cat(weights)
        error = float(weight @ torch.cat(errors) / weight.sum())
        known = [energy.double() for energy in energies if energy is not None]
        return error, float(weight @ torch.cat(known) / weight.sum()) if known else None


def _spread(rows: WeightedRows, wanted: int) -> Index:
    quick = sampled(rows, len(rows))
    return quick[np.linspace(0, len(quick) - 1, min(wanted, len(quick))).astype(np.intp)]


def _widths(ladder: Ladder, i: int, rows: WeightedRows) -> tuple[int, int]:
    below = ladder.below(i, rows.take(np.arange(1)))
    with torch.no_grad():
        return below[0].numel(), ladder.up(i, below)[0].numel()


def _check(error: float, first: float, what: str, rate: str) -> None:
    # Written so that a NaN is caught too.
    if not error <= max(CEILING * first, SMALLEST_CEILING):
        raise DivergenceError(
            f"pretraining diverged: {what}, the error reached {error:.4g} (it began at "
            f"{first:.4g}); lower {rate}"
        )


def _told(records: list[Record]) -> str:
    first, last = records[0], records[-1]
    text = f"error {first['error']:.3g} -> {last['error']:.3g}"
    if "free_energy_gap" in last:
        text += f", free-energy gap {last['free_energy_gap']:.3g}"
    return text
