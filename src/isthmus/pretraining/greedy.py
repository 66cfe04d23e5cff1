"""Greedy layer-wise pretraining: one layer pair after the other."""

import time
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import sample_positions
from isthmus.errors import DivergenceError, RequestError, require, setting
from isthmus.kinds.blocks import Stack
from isthmus.pretraining.base import Pretraining, PretrainingJob, PretrainingRecord, position_seed
from isthmus.randomness import reseed
from isthmus.types import Index, WeightedRows

MAX_ROWS = 2000
"""Rows by which the error and the free energy of a layer pair are estimated."""

ROWS_AT_ONCE = 500
STEPS_WANTED, MOST_EPOCHS = 1000, 200
CEILING, SMALLEST_CEILING = 2.0, 0.1
"""A layer pair has diverged if its error grows by this factor, and beyond the smallest."""


class LayerTrainer(Protocol):
    """The training of one layer pair: a layer of the encoder and its mirror in the decoder."""

    @property
    def units(self) -> str:
        """The name of the model that is trained."""

    @property
    def rate(self) -> str:
        """The name of the setting with the learning rate."""

    def step(self, below: Tensor, weight: Tensor, epoch: int) -> None:
        """Take a step on a batch of inputs (B, ...) with weights (B,)."""

    def errors(self, below: Tensor) -> Tensor:
        """(B,): the reconstruction error of each row of inputs."""

    def free_energy(self, below: Tensor) -> Tensor | None:
        """(B,) in nats, or None if the model has no free energy."""

    def finish(self) -> None:
        """Write the trained weights to the network."""


class LayerPairs:
    """The layers of encoder and decoder in pairs, from the row (0) to the code (depth - 1)."""

    def __init__(self, job: PretrainingJob, name: str) -> None:
        self.network, self.loss = job.network, job.loss
        encoder, decoder = job.network.encoder, job.network.decoder
        if encoder is None or decoder is None or encoder.depth < 2:
            raise RequestError(
                f"{setting('pretraining', name)} goes layer by layer, and this network has no "
                "hidden layers; "
                f"use {setting('pretraining', 'pca')}, or a kind with hidden layers"
            )
        self.encoder: Stack = encoder
        self.decoder: Stack = decoder
        self.depth = encoder.depth

    @torch.no_grad()
    def inputs(self, level: int, x: Tensor) -> Tensor:
        """The inputs of layer pair `level`: rows for 0, else the activations of level - 1."""
        x = self.network.fill_missing(x)
        for i in range(level):
            x = self.encoder.activate(self.encoder.layer(i, x))
        return x

    def rows(self, below: Tensor) -> Tensor:
        """The inputs of layer pair 0 as the loss takes them, with counts at size factor 1."""
        counts = self.network.counts
        return below if counts is None else counts.inverse(below)

    def up(self, level: int, below: Tensor) -> Tensor:
        """The activations of layer `level` of the encoder; the last one is the code."""
        above = self.encoder.layer(level, below)
        if level == self.depth - 1:
            return self.network.code_activation(above)  # type: ignore[no-any-return]
        return self.encoder.activate(above)

    def down(self, level: int, above: Tensor) -> Tensor:
        """The reconstruction of the inputs; for level 0 the raw output of the decoder."""
        back = self.decoder.layer(self.depth - 1 - level, above)
        if level:
            return self.decoder.activate(back)
        return self.network.clamp_output(back.reshape(-1, *self.network.facts.shape))


@dataclass(kw_only=True)
class LayerWise(Pretraining):
    """Base of layer-wise pretrainings, from the row to the code (Bengio et al. 2007).

    A parallel linear path starts at zero. Dropout and penalties are used in training only.

    Example:
        >>> from isthmus.pretraining import RBM, AutoencoderStack, LayerWise
        >>> [issubclass(cls, LayerWise) for cls in (RBM, AutoencoderStack)]
        [True, True]
    """

    FEWEST_EPOCHS: ClassVar[int] = 10

    epochs: int | None = None
    """Epochs per layer, >= 1. None is 10 (for RBMs 20), and for few rows as many as make 1000
    steps, at most 200."""

    batch_size: int = 100
    """Rows per step, >= 1."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        name = type(self).__name__
        require(
            self.epochs is None or self.epochs >= 1,
            f"{name}: epochs={self.epochs} must be at least 1",
        )
        require(self.batch_size >= 1, f"{name}: batch_size={self.batch_size} must be at least 1")

    def layer_pairs(self, job: PretrainingJob) -> LayerPairs:
        """The layer pairs of the network; RequestError if it does not support them."""
        raise NotImplementedError

    def trainer(self, pairs: LayerPairs, level: int, job: PretrainingJob) -> LayerTrainer:
        """The trainer of layer pair `level`; torch's generator is seeded for it."""
        raise NotImplementedError

    def run(self, job: PretrainingJob) -> list[PretrainingRecord]:
        """Train pair by pair; return a record per pair and epoch, with epoch 0 before training.

        Raises:
            RequestError: The network has no hidden layers.
            DivergenceError: An error is not finite or grows far above its initial value.
        """
        self.check()
        pairs = self.layer_pairs(job)
        reseed(position_seed(job.seed, 0), job.train.weight.device)
        job.network.reset_nonlinear()
        job.network.eval()  # no dropout: each layer pair is a complete model
        began, records = time.monotonic(), []
        evaluation_rows = _EvaluationRows(job)
        for i in range(pairs.depth):
            reseed(position_seed(job.seed, i + 1), job.train.weight.device)
            level = self.trainer(pairs, i, job)
            records += self._learn(level, i, pairs, job, evaluation_rows, began)
            level.finish()
        return records

    def _learn(
        self,
        level: LayerTrainer,
        i: int,
        pairs: LayerPairs,
        job: PretrainingJob,
        evaluation_rows: "_EvaluationRows",
        began: float,
    ) -> list[PretrainingRecord]:
        below, above = _widths(pairs, i, job.train)
        what = f"layer {i + 1} of {pairs.depth}, {below} to {above}, {level.units}"
        started = time.monotonic()
        records: list[PretrainingRecord] = []
        for epoch in range(self._epochs(len(job.train)) + 1):
            if epoch:
                self._epoch(level, i, epoch, pairs, job)
            figures = evaluation_rows.figures(level, i, pairs)
            position = {"layer": i + 1, "epoch": epoch, "below": below, "above": above}
            seconds = round(time.monotonic() - began, 3)
            records.append(position | {"units": level.units} | figures | {"seconds": seconds})
            _check(figures["error"], records[0]["error"], f"{what}, in epoch {epoch}", level.rate)
        job.report(f"{what}: {_summary(records)}, {time.monotonic() - started:.3g} s")
        return records

    def _epochs(self, rows: int) -> int:
        if self.epochs is not None:
            return self.epochs
        steps = -(-rows // self.batch_size)
        return min(max(STEPS_WANTED // steps, self.FEWEST_EPOCHS), MOST_EPOCHS)

    def _epoch(
        self, level: LayerTrainer, i: int, epoch: int, pairs: LayerPairs, job: PretrainingJob
    ) -> None:
        seed = position_seed(job.seed, i + 1)
        batches = job.train.batches(self.batch_size, seed=seed, epoch=epoch)
        with job.train.prefetch(batches):
            for number, positions in enumerate(batches):
                job.check_cancelled()
                x, weight = job.train.take(positions), job.train.weight[torch.as_tensor(positions)]
                reseed(position_seed(job.seed, i + 1, epoch, number), x.device)
                level.step(pairs.inputs(i, x), weight, epoch)


class _EvaluationRows:
    """Evenly spaced training rows, and as many validation rows, to evaluate every layer pair."""

    def __init__(self, job: PretrainingJob) -> None:
        validation = job.validation if job.validation is not None and len(job.validation) else None
        most = min(
            len(job.train),
            MAX_ROWS,
            len(validation) if validation else MAX_ROWS,
        )
        self.train = job.train, _spread(job.train, most)
        self.validation = None if validation is None else (validation, _spread(validation, most))

    @torch.no_grad()
    def figures(self, level: LayerTrainer, i: int, pairs: LayerPairs) -> PretrainingRecord:
        """The errors on training and validation rows."""
        error, energy = self._means(level, i, pairs, *self.train)
        figures = {"error": error}
        if self.validation is not None:
            figures["validation_error"], unseen = self._means(level, i, pairs, *self.validation)
            if energy is not None and unseen is not None:
                figures["free_energy_gap"] = unseen - energy
        return figures

    @staticmethod
    def _means(
        level: LayerTrainer, i: int, pairs: LayerPairs, rows: WeightedRows, positions: Index
    ) -> tuple[float, float | None]:
        errors, energies, weights = [], [], []
        for start in range(0, len(positions), ROWS_AT_ONCE):
            block = positions[start : start + ROWS_AT_ONCE]
            below = pairs.inputs(i, rows.take(block))
            weights.append(rows.weight[torch.as_tensor(block)].double())
            errors.append(level.errors(below).double())
            energies.append(level.free_energy(below))
        weight = torch.cat(weights)
        error = float(weight @ torch.cat(errors) / weight.sum())
        known = [energy.double() for energy in energies if energy is not None]
        return error, float(weight @ torch.cat(known) / weight.sum()) if known else None


def _spread(rows: WeightedRows, wanted: int) -> Index:
    quick = sample_positions(rows, len(rows))
    return quick[np.linspace(0, len(quick) - 1, min(wanted, len(quick))).astype(np.intp)]


def _widths(pairs: LayerPairs, i: int, rows: WeightedRows) -> tuple[int, int]:
    below = pairs.inputs(i, rows.take(np.arange(1)))
    with torch.no_grad():
        return below[0].numel(), pairs.up(i, below)[0].numel()


def _check(error: float, first: float, what: str, rate: str) -> None:
    # Written so that a NaN is caught too.
    if not error <= max(CEILING * first, SMALLEST_CEILING):
        raise DivergenceError(
            f"pretraining diverged: {what}, the error reached {error:.4g} (it began at "
            f"{first:.4g}); lower {rate}"
        )


def _summary(records: list[PretrainingRecord]) -> str:
    first, last = records[0], records[-1]
    text = f"error {first['error']:.3g} -> {last['error']:.3g}"
    if "free_energy_gap" in last:
        text += f", difference in free energy {last['free_energy_gap']:.3g}"
    return text
