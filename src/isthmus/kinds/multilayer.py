"""Multilayer: smaller and smaller dense layers down to the code, mirrored back."""

from dataclasses import dataclass, replace
from typing import Any, Self

from isthmus.kinds.base import CodeNetwork, Kind, LinearPath
from isthmus.kinds.blocks import Dense, check_rate, whole_widths
from isthmus.types import Facts

WIDEST, NARROWEST, DEEPEST = 1024, 64, 3


@dataclass(kw_only=True)
class Multilayer(Kind):
    """Hidden layers that taper to a linear code, mirrored back (Hinton and Salakhutdinov 2006).

    With `skip`, a linear path runs beside the layers, so that the network can begin exactly at
    the PCA solution and learn what is left; without it this is the plain classical network.
    """

    hidden: tuple[int, ...] | None = None
    """Widths of the encoder's hidden layers; None tapers them from the sizes of input and code."""

    skip: bool = True
    """Whether a linear path runs beside the layers."""

    tied: bool = False
    """Whether the decoder's weights are the encoder's, transposed."""

    @property
    def starts_linear(self) -> bool:
        """Whether the network has a linear path that can start at the PCA solution."""
        return self.skip

    def resolved(self, facts: Facts, n_components: int) -> Self:
        """The same kind with its layer widths chosen."""
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


def taper(hidden: Any, facts: Facts, n_components: int) -> tuple[int, ...]:
    """The widths asked for, checked; where that is None, those that suit input and code.

    They go from twice the input (64 to 1024), halved while they stay above twice the code.
    """
    if hidden is not None:
        return whole_widths("hidden", hidden)
    width = min(max(2 * facts.n_features, NARROWEST), WIDEST)
    widths = [width]
    while len(widths) < DEEPEST and width // 2 >= max(2 * n_components, NARROWEST):
        width //= 2
        widths.append(width)
    return tuple(widths)
