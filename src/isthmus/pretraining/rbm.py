"""Restricted Boltzmann machines, one per layer, unrolled into encoder and decoder."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from isthmus.data.loading.rows import consecutive_batches
from isthmus.errors import require
from isthmus.kinds.blocks import Bounded, Dense
from isthmus.losses import Bernoulli
from isthmus.pretraining.base import PretrainingJob
from isthmus.pretraining.boltzmann import BoltzmannMachine, logit
from isthmus.pretraining.greedy import LayerPairs, LayerWise
from isthmus.types import WeightedRows

EARLY_EPOCHS, EARLY_MOMENTUM = 5, 0.5
FIRST_STD = 0.01


@dataclass(kw_only=True)
class RBM(LayerWise):
    """A restricted Boltzmann machine per layer, trained by contrastive divergence.

    The recipe is that of Hinton and Salakhutdinov (2006), "Reducing the dimensionality of data with
    neural networks". Units are logistic, with the probabilities of the layer below as input. The
    code has linear units of unit variance unless its activation is the sigmoid, and so does the row
    unless the loss is Bernoulli. W and the hidden biases become the encoder's layer, W' and the
    visible biases the decoder's. It needs dense layers with activation "sigmoid".

    Example:
        >>> from isthmus.pretraining import RBM
        >>> RBM(k=2).to_json()["k"]
        2
    """

    FEWEST_EPOCHS: ClassVar[int] = 20

    k: int = 1
    """Gibbs steps of contrastive divergence, >= 1."""

    persistent: bool = False
    """Whether the chains continue from step to step instead of starting at the rows (Tieleman
    2008)."""

    lr: float = 0.1
    """Learning rate of machines with logistic units on both sides, > 0."""

    lr_linear: float = 0.001
    """Learning rate of machines with linear units, which diverge more easily, > 0."""

    momentum: float = 0.9
    """Share of the last step that the next one repeats, in [0, 1); at most 0.5 in the first five
    epochs."""

    weight_cost: float = 2e-4
    """How strongly weights are pulled to zero, >= 0; biases are left alone."""

    def check(self) -> None:
        """Raise RequestError if a setting is out of range."""
        super().check()
        require(self.k >= 1, f"RBM: k={self.k} must be at least 1")
        require(self.lr > 0, f"RBM: lr={self.lr} must be positive")
        require(self.lr_linear > 0, f"RBM: lr_linear={self.lr_linear} must be positive")
        require(
            0 <= self.momentum < 1,
            f"RBM: momentum={self.momentum} must be at least 0 and below 1",
        )
        require(self.weight_cost >= 0, f"RBM: weight_cost={self.weight_cost} must not be negative")

    def layer_pairs(self, job: PretrainingJob) -> LayerPairs:
        """The layer pairs of the network; RequestError unless their units suit an RBM."""
        pairs = LayerPairs(job, "rbm")
        require(
            isinstance(pairs.encoder, Dense) and isinstance(pairs.encoder.activation, nn.Sigmoid),
            "pretraining='rbm' needs dense layers of logistic units; use "
            "kind=kinds.Multilayer(activation='sigmoid')",
        )
        require(
            not isinstance(pairs.network.output, Bounded),
            "pretraining='rbm' needs an output without bounds; use output='auto'",
        )
        return pairs

    def trainer(self, pairs: LayerPairs, level: int, job: PretrainingJob) -> "RBMTrainer":
        """The trainer of a machine with small random weights."""
        weight = getattr(pairs.encoder.affine(level), "weight").detach()  # noqa: B009
        nn.init.normal_(weight, std=FIRST_STD)
        last = level == pairs.depth - 1
        linear_visible = level == 0 and not isinstance(pairs.loss, Bernoulli)
        visible_bias = weight.new_zeros(weight.shape[1])
        if level == 0:
            mean = _mean(pairs, job.train)
            visible_bias = mean if linear_visible else logit(mean)
        machine = BoltzmannMachine(
            weight,
            visible_bias,
            weight.new_zeros(weight.shape[0]),
            linear_visible=linear_visible,
            linear_hidden=last and pairs.network.code_activation_name != "sigmoid",
        )
        return RBMTrainer(self, pairs, level, machine)


class RBMTrainer:
    """Trains one machine and writes it to the network."""

    def __init__(self, spec: RBM, pairs: LayerPairs, level: int, machine: BoltzmannMachine) -> None:
        self.spec, self.machine = spec, machine
        self.layers: tuple[Any, Any] = (
            pairs.encoder.affine(level),
            pairs.decoder.affine(pairs.depth - 1 - level),
        )
        parameters = (machine.weight, machine.visible_bias, machine.hidden_bias)
        self.parameters = parameters
        self.moves = [torch.zeros_like(parameter) for parameter in parameters]
        self.chains: Tensor | None = None
        linear = machine.linear_visible or machine.linear_hidden
        self.rate = "lr_linear" if linear else "lr"
        self.lr = spec.lr_linear if linear else spec.lr

    @property
    def units(self) -> str:
        """The kinds of units of the machine."""
        below = "linear" if self.machine.linear_visible else "logistic"
        above = "linear" if self.machine.linear_hidden else "logistic"
        return f"RBM of {below} units" if below == above else f"RBM of {below} to {above} units"

    @torch.no_grad()
    def step(self, below: Tensor, weight: Tensor, epoch: int) -> None:
        """One step of contrastive divergence, with momentum and weight cost."""
        rows = below.flatten(1)
        if self.spec.persistent and self.chains is None:
            self.chains = rows
        gradient, ends = self.machine.gradient(rows, weight, self.spec.k, self.chains)
        if self.spec.persistent:
            self.chains = ends
        momentum = self.spec.momentum
        if epoch <= EARLY_EPOCHS:
            momentum = min(momentum, EARLY_MOMENTUM)
        costs = (self.spec.weight_cost, 0.0, 0.0)
        for parameter, move, rise, cost in zip(
            self.parameters, self.moves, gradient, costs, strict=True
        ):
            move.mul_(momentum).add_(rise - cost * parameter, alpha=self.lr)
            parameter.add_(move)

    def errors(self, below: Tensor) -> Tensor:
        """(B,): mean squared error over the units, up and down by the means."""
        rows = below.flatten(1)
        rebuilt = self.machine.visible(self.machine.hidden(rows))
        return (rebuilt - rows).square().mean(dim=1)

    def free_energy(self, below: Tensor) -> Tensor:
        """(B,) in nats."""
        return self.machine.free_energy(below.flatten(1))

    @torch.no_grad()
    def finish(self) -> None:
        """Write W to the encoder and W' to the decoder, unless the decoder is tied."""
        up, down = self.layers
        up.weight.copy_(self.machine.weight)
        up.bias.copy_(self.machine.hidden_bias)
        if hasattr(down, "weight"):
            down.weight.copy_(self.machine.weight.t())
        down.bias.copy_(self.machine.visible_bias)


def _mean(pairs: LayerPairs, rows: WeightedRows) -> Tensor:
    """(V,): the weighted mean of all rows, completed where values are missing."""
    sums = [
        rows.weight[torch.as_tensor(positions)] @ pairs.inputs(0, rows.take(positions)).flatten(1)
        for positions in consecutive_batches(len(rows))
    ]
    return torch.stack(sums).sum(dim=0) / rows.weight.sum()
