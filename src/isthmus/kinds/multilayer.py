"""Multilayer: dense layers that taper to the code, mirrored in the decoder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from isthmus.kinds.base import CodeNetwork, Kind, LinearPath
from isthmus.kinds.blocks import Dense, check_rate, whole_widths
from isthmus.types import Facts

WIDEST, NARROWEST, DEEPEST = 1024, 64, 3


@dataclass(kw_only=True)
class Multilayer(Kind):
    """Hidden layers that taper to a linear code, mirrored in the decoder.

    With `skip`, a parallel linear path lets the network start exactly at the PCA solution and learn
    the residual. Without it this is the deep autoencoder of Hinton and Salakhutdinov (2006).

    Example:
        >>> from isthmus.kinds import Multilayer
        >>> from isthmus.types import Facts
        >>> Multilayer().resolved(Facts(shape=(100,)), n_components=10).hidden
        (200, 100)
    """

    hidden: tuple[int, ...] | None = None
    """Widths of the encoder's hidden layers; None chooses them by the sizes of input and code."""

    skip: bool = True
    """Whether there is a linear path parallel to the layers."""

    tied: bool = False
    """Whether the decoder's weights are the encoder's, transposed."""

    @property
    def starts_linear(self) -> bool:
        """Whether the network has a linear path that can start at the PCA solution."""
        return self.skip

    def resolved(self, facts: Facts, n_components: int) -> Self:
        """A copy whose layer widths are chosen for the rows."""
        return replace(self, hidden=taper(self.hidden, facts, n_components))

    def build(self, facts: Facts, n_components: int) -> CodeNetwork:
        """The network for rows of `facts.shape`."""
        self.check_width(facts, n_components)
        check_rate("dropout", self.dropout)
        hidden = taper(self.hidden, facts, n_components)
        encoder = Dense((facts.n_features, *hidden, n_components), self.activation, self.dropout)
        decoder = encoder.mirrored(tied=self.tied)
        linear = LinearPath(facts.n_features, n_components, tied=self.tied) if self.skip else None
        return CodeNetwork(
            facts,
            encoder=encoder,
            decoder=decoder,
            linear=linear,
            output=self.output,
            gated=self.skip and self.tied,
        )


def taper(hidden: Sequence[int] | None, facts: Facts, n_components: int) -> tuple[int, ...]:
    """The given widths, checked; for None, widths that suit the sizes of input and code.

    They begin at twice the input (64 to 1024) and are halved while above twice the code.
    """
    if hidden is not None:
        return whole_widths("hidden", hidden)
    width = min(max(2 * facts.n_features, NARROWEST), WIDEST)
    widths = [width]
    while len(widths) < DEEPEST and width // 2 >= max(2 * n_components, NARROWEST):
        width //= 2
        widths.append(width)
    return tuple(widths)
