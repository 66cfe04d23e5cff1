"""Stacked autoencoders: each layer is pretrained to reconstruct its inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from isthmus.errors import require
from isthmus.pretraining.base import PretrainingJob
from isthmus.pretraining.greedy import LayerPairs, LayerWise


@dataclass(kw_only=True)
class AutoencoderStack(LayerWise):
    """A denoising autoencoder per layer, for dense and convolutional kinds.

    Each layer pair reconstructs its inputs from a copy with masked values, with Adam. The loss is
    that of the fit for rows and the squared error for activations.

    Source: Bengio et al. (2007), "Greedy layer-wise training of deep networks"; Vincent et al.
    (2010), "Stacked denoising autoencoders".

    Example:
        >>> from isthmus.pretraining import AutoencoderStack
        >>> AutoencoderStack(masking_rate=0.1).to_json()["masking_rate"]
        0.1
    """

    masking_rate: float = 0.25
    """Share of the inputs set to zero, in [0, 1); 0 is a plain autoencoder."""

    lr: float = 3e-3
    """Learning rate of Adam, > 0."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        name = type(self).__name__
        require(
            0 <= self.masking_rate < 1,
            f"{name}: masking_rate={self.masking_rate} must be at least 0 and below 1",
        )
        require(self.lr > 0, f"{name}: lr={self.lr} must be positive")

    def layer_pairs(self, job: PretrainingJob) -> LayerPairs:
        """The layer pairs of the network; RequestError without hidden layers."""
        return LayerPairs(job, "autoencoder")

    def trainer(self, pairs: LayerPairs, level: int, job: PretrainingJob) -> "AutoencoderTrainer":
        """The trainer of a layer pair with its initial weights."""
        del job
        return AutoencoderTrainer(self, pairs, level)


class AutoencoderTrainer:
    """Trains a layer of the encoder and its mirror in the decoder."""

    def __init__(self, spec: AutoencoderStack, pairs: LayerPairs, level: int) -> None:
        self.rate = "lr"
        self.masking_rate, self.pairs, self.level = spec.masking_rate, pairs, level
        layers = (pairs.encoder.affine(level), pairs.decoder.affine(pairs.depth - 1 - level))
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=spec.lr)
        self.units = "denoising autoencoder" if spec.masking_rate else "autoencoder"

    def step(self, below: Tensor, weight: Tensor, epoch: int) -> None:
        """One step of Adam on a masked batch."""
        del epoch
        seen = below.masked_fill(torch.rand_like(below) < self.masking_rate, 0.0)
        loss = (weight * self._reconstruction_error(seen, below)).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def errors(self, below: Tensor) -> Tensor:
        """(B,): the loss of clean rows, the mean over their values."""
        return self._reconstruction_error(below, below)

    def free_energy(self, below: Tensor) -> None:
        """None: an autoencoder has no free energy."""

    def finish(self) -> None:
        """Clear the gradients; the weights are those of the network."""
        self.optimizer.zero_grad()

    def _reconstruction_error(self, seen: Tensor, below: Tensor) -> Tensor:
        back = self.pairs.down(self.level, self.pairs.up(self.level, seen)).reshape(below.shape)
        if self.level == 0:
            return self.pairs.loss.per_row(back, self.pairs.rows(below))
        return (back - below).square().flatten(1).mean(dim=1)
