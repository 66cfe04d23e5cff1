"""Autoencoders of one layer each, stacked: every level learns to rebuild the one below."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.errors import require
from isthmus.pretraining.base import Job
from isthmus.pretraining.greedy import Ladder, LayerWise


@dataclass(kw_only=True)
class AutoencoderStack(LayerWise):
    """An autoencoder for each layer, of dense and convolutional kinds alike.

    Each level rebuilds what lies below from a copy of it with values masked (Bengio et al. 2007,
    "Greedy layer-wise training of deep networks"; Vincent et al. 2010, "Stacked denoising
    autoencoders"): the row by the loss of the fit, activations by squared error, with Adam.
    """

    noise: float = 0.25
    """Share of the values set to zero on the way in, in [0, 1); 0 is a plain autoencoder."""

    lr: float = 3e-3
    """Learning rate of Adam, > 0."""

    def check(self) -> None:
        """Raise RequestError when the settings make no sense."""
        super().check()
        name = type(self).__name__
        require(0 <= self.noise < 1, f"{name}: noise={self.noise} must be at least 0 and below 1")
        require(self.lr > 0, f"{name}: lr={self.lr} must be positive")

    def ladder(self, job: Job) -> Ladder:
        """The levels of the network; RequestError where it has no hidden layers."""
        return Ladder(job, "autoencoder")

    def level(self, ladder: Ladder, level: int, job: Job) -> "AutoencoderLevel":
        """The level with the weights its layers were drawn with."""
        del job
        return AutoencoderLevel(self, ladder, level)


class AutoencoderLevel:
    """An autoencoder of one hidden layer: a layer of the encoder, its mirror in the decoder."""

    def __init__(self, spec: AutoencoderStack, ladder: Ladder, level: int) -> None:
        self.rate = "lr"
        self.noise, self.ladder, self.level = spec.noise, ladder, level
        layers = (ladder.encoder.affine(level), ladder.decoder.affine(ladder.depth - 1 - level))
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=spec.lr)
        self.units = "denoising autoencoder" if spec.noise else "autoencoder"

    def step(self, below: Tensor, weight: Tensor, epoch: int) -> None:
        """One step of Adam on a masked batch."""
        del epoch
        seen = below.masked_fill(torch.rand_like(below) < self.noise, 0.0)
        loss = (weight * self._rebuilding(seen, below)).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def errors(self, below: Tensor) -> Tensor:
        """(B,): the loss of clean rows, the mean over their values."""
        return self._rebuilding(below, below)

    def free_energy(self, below: Tensor) -> None:
        """None: there is no such thing."""

    def finish(self) -> None:
        """Nothing to do but forget gradients: the network's own layers have learned."""
        self.optimizer.zero_grad()

    def _rebuilding(self, seen: Tensor, below: Tensor) -> Tensor:
        back = self.ladder.down(self.level, self.ladder.up(self.level, seen)).reshape(below.shape)
        if self.level == 0:
            return self.ladder.loss.per_row(back, self.ladder.rows(below))
        return (back - below).square().flatten(1).mean(dim=1)
