"""The restricted Boltzmann machine: free energy, conditionals and contrastive divergence."""

# Shape letters: B rows in a batch, V visible units, H hidden units.

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

RAREST = 0.01
"""The least share of rows in which a unit is taken to be on or off for its initial bias."""


class Gradient(NamedTuple):
    """The gradient of the log-likelihood of the rows."""

    weight: Tensor
    """(H, V)."""

    visible_bias: Tensor
    """(V,)."""

    hidden_bias: Tensor
    """(H,)."""


class BoltzmannMachine:
    """E(v, h) = e(v, b) + e(h, c) - h' W v, units of each side logistic or linear.

    Logistic (Bernoulli) units are 0 or 1, with e(u, a) = -a' u; linear (Gaussian) units are real
    with unit variance, e(u, a) = |u - a|^2 / 2. Given one side, the units of the other are
    independent with mean b + W' h or c + W v, through the logistic function where they are
    logistic (Hinton and Salakhutdinov 2006; Hinton 2012, "A practical guide to training
    restricted Boltzmann machines"). Random numbers come from torch's global generator.

    Example:
        >>> import torch
        >>> from isthmus.pretraining import BoltzmannMachine
        >>> machine = BoltzmannMachine(torch.zeros(2, 3), torch.zeros(3), torch.zeros(2))
        >>> machine.hidden(torch.ones(1, 3))
        tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        weight: Tensor,
        visible_bias: Tensor,
        hidden_bias: Tensor,
        *,
        linear_visible: bool = False,
        linear_hidden: bool = False,
    ) -> None:
        """Units from `weight` (H, V), `visible_bias` (V,) and `hidden_bias` (H,)."""
        self.weight, self.visible_bias, self.hidden_bias = weight, visible_bias, hidden_bias
        self.linear_visible, self.linear_hidden = linear_visible, linear_hidden

    def hidden(self, visible: Tensor) -> Tensor:
        """(B, V) to (B, H): the mean of the hidden units, p(h = 1 | v) for logistic units."""
        total = functional.linear(visible, self.weight, self.hidden_bias)
        return total if self.linear_hidden else torch.sigmoid(total)

    def visible(self, hidden: Tensor) -> Tensor:
        """(B, H) to (B, V): the mean of the visible units given the hidden ones."""
        total = functional.linear(hidden, self.weight.t(), self.visible_bias)
        return total if self.linear_visible else torch.sigmoid(total)

    def sample_hidden(self, mean: Tensor) -> Tensor:
        """States of hidden units with these means."""
        return _sample(mean, linear=self.linear_hidden)

    def sample_visible(self, mean: Tensor) -> Tensor:
        """States of visible units with these means."""
        return _sample(mean, linear=self.linear_visible)

    def free_energy(self, visible: Tensor) -> Tensor:
        """(B, V) to (B,): F(v) = -log of the sum (or integral) of exp(-E(v, h)) over all h.

        With x = c + W v: e(v, b) - sum log(1 + exp x) for logistic hidden units (Hinton 2012,
        equation 25), e(v, b) - sum (x^2 - c^2 + log 2 pi) / 2 for linear ones.
        """
        x = functional.linear(visible, self.weight, self.hidden_bias)
        if self.linear_hidden:
            constant = len(self.hidden_bias) * math.log(2 * math.pi)
            hidden = (x.square() - self.hidden_bias.square()).sum(dim=1) / 2 + constant / 2
        else:
            hidden = functional.softplus(x).sum(dim=1)
        if self.linear_visible:
            return (visible - self.visible_bias).square().sum(dim=1) / 2 - hidden
        return -visible @ self.visible_bias - hidden

    def gradient(
        self, rows: Tensor, weight: Tensor, k: int, chains: Tensor | None = None
    ) -> tuple[Gradient, Tensor]:
        """Contrastive divergence (Hinton 2002): statistics of the rows minus those k steps later.

        Rows (B, V) have weights (B,). The chains start at the rows, or continue from the visible
        states `chains` (C, V) (persistent: Tieleman 2008). Their final states are returned. One
        step from the rows uses the means of the visible units (Hinton and Salakhutdinov 2006);
        longer chains sample states, as Gibbs sampling requires.
        """
        hidden = self.hidden(rows)
        draws = k > 1 or chains is not None
        visible, above = (rows, hidden) if chains is None else (chains, self.hidden(chains))
        for _ in range(k):
            visible = self.visible(self.sample_hidden(above))
            visible = self.sample_visible(visible) if draws else visible
            above = self.hidden(visible)
        share = weight / len(rows)
        # Persistent chains belong to no row; together they weigh as much as the batch.
        chain_share = share if chains is None else share.sum().expand(len(chains)) / len(chains)
        gradient = Gradient(
            (share[:, None] * hidden).t() @ rows - (chain_share[:, None] * above).t() @ visible,
            share @ rows - chain_share @ visible,
            share @ hidden - chain_share @ above,
        )
        return gradient, visible


def _sample(mean: Tensor, *, linear: bool) -> Tensor:
    if linear:
        return mean + torch.randn_like(mean)
    return (torch.rand_like(mean) < mean).to(mean.dtype)


def logit(share: Tensor) -> Tensor:
    """The bias of a unit that is on in this share of the rows (Hinton 2012, section 8.1)."""
    share = share.clamp(RAREST, 1 - RAREST)
    return torch.log(share / (1 - share))
