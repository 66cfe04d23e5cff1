"""Vanilla: one hidden layer, the code."""

from dataclasses import dataclass

from isthmus.kinds.activations import can_start_linear
from isthmus.kinds.base import CodeNetwork, Kind, LinearPath
from isthmus.kinds.blocks import check_rate
from isthmus.types import Facts


@dataclass(kw_only=True)
class Vanilla(Kind):
    """One hidden layer, the code: h = act(W x + b), r = V h + c.

    With the linear activation and squared error its best possible result is PCA's (Baldi and
    Hornik 1989); with any other code activation the reconstructions still lie in a K-dimensional
    plane, so no setting can end below PCA on the training rows.

    Example:
        >>> from isthmus.kinds import Vanilla
        >>> from isthmus.types import Facts
        >>> Vanilla(activation="tanh").build(Facts(shape=(5,)), n_components=2).code_range
        (-1.0, 1.0)
    """

    activation: str = "linear"
    """The activation of the code; one of `kinds.ACTIVATIONS`."""

    tied: bool = False
    """Whether the decoder's weight is the encoder's, transposed."""

    @property
    def starts_linear(self) -> bool:
        """Whether the network can start at PCA: see `Activation.can_start_linear`."""
        return can_start_linear(self.activation, tied=self.tied)

    def build(self, facts: Facts, n_components: int) -> CodeNetwork:
        """The network for rows of `facts.shape`."""
        self.check_width(facts, n_components)
        check_rate("dropout", self.dropout)
        return CodeNetwork(
            facts,
            linear=LinearPath(facts.n_features, n_components, tied=self.tied),
            code_activation=self.activation,
            output=self.output,
            code_dropout=self.dropout,
        )
