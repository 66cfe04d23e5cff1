"""Regularized: penalties or a corruption restrict the code, which may exceed the input."""

from dataclasses import dataclass, replace
from typing import Self

from isthmus.errors import require
from isthmus.kinds.activations import can_start_linear
from isthmus.kinds.base import CodeNetwork, Kind, KindDefaults, LinearPath
from isthmus.kinds.blocks import Dense, check_rate
from isthmus.kinds.multilayer import taper
from isthmus.types import Facts


@dataclass(kw_only=True)
class Regularized(Kind):
    """Dense layers with a sparse, contractive or denoising code.

    Sparse: L1 on the code, or KL to a target rate (Ng 2011). Contractive: the squared norm of the
    encoder's Jacobian (Rifai et al. 2011). Denoising: reconstruct the row from one with masked
    values (Vincent et al. 2008). A weight of 0 disables each; the default is denoising alone. The
    estimator's `penalties` are added to these, and its `corruption` replaces this one.

    Example:
        >>> from isthmus.kinds import Regularized
        >>> from isthmus.types import Facts
        >>> kind = Regularized(hidden=(), sparsity=0.01)
        >>> kind.build(Facts(shape=(5,)), n_components=8).code_activation
        ReLU()
    """

    hidden: tuple[int, ...] | None = None
    """Widths of the encoder's hidden layers; None chooses them, () is a single layer."""

    code_activation: str = "auto"
    """The activation of the code; "auto" is relu with L1, sigmoid with KL, else linear."""

    sparsity: float = 0.0
    """Weight of the sparsity penalty."""

    target_rate: float | None = None
    """The target mean activity of a unit, in (0, 1): sparsity is then KL to it, else L1."""

    contraction: float = 0.0
    """Weight of the contraction penalty."""

    denoising: float = 0.1
    """Share of the input values that are masked in training, in [0, 1)."""

    skip: bool = True
    """Whether there is a linear path parallel to the hidden layers."""

    tied: bool = False
    """Whether the decoder's weights are the encoder's, transposed. Then no penalty on the
    code can be evaded by a small encoder and a large decoder."""

    @property
    def overcomplete(self) -> bool:
        """Whether the code may be wider than the input: yes."""
        return True

    @property
    def starts_linear(self) -> bool:
        """Whether the network can start at PCA; a sparse code cannot."""
        linear = self.skip or (isinstance(self.hidden, (tuple, list)) and not self.hidden)
        if not linear or self.sparsity:
            return False
        return can_start_linear(self._code_activation(), tied=self.tied)

    def defaults(self) -> KindDefaults:
        """The penalties and the corruption of the settings, as registered names."""
        penalties: list[tuple[str, dict[str, float]]] = []
        if self.sparsity and self.target_rate is None:
            penalties.append(("l1", {"weight": self.sparsity}))
        elif self.sparsity and self.target_rate is not None:
            penalties.append(("kl", {"weight": self.sparsity, "target_rate": self.target_rate}))
        if self.contraction:
            penalties.append(("contraction", {"weight": self.contraction}))
        noise = ("masking", {"rate": self.denoising}) if self.denoising else None
        return KindDefaults(tuple(penalties), noise)

    def resolved(self, facts: Facts, n_components: int) -> Self:
        """A copy whose layer widths are chosen for the rows."""
        return replace(self, hidden=taper(self.hidden, facts, n_components))

    def build(self, facts: Facts, n_components: int) -> CodeNetwork:
        """The network for rows of `facts.shape`."""
        self.check_width(facts, n_components)
        check_rate("dropout", self.dropout)
        check_rate("denoising", self.denoising)
        require(
            self.target_rate is None or 0 < self.target_rate < 1,
            f"target_rate={self.target_rate} must lie between 0 and 1",
        )
        require(
            self.target_rate is None or self.sparsity > 0,
            f"target_rate={self.target_rate} has no effect with sparsity=0; give sparsity a weight",
        )
        hidden = taper(self.hidden, facts, n_components)
        skip = self.skip or not hidden
        encoder = decoder = None
        if hidden:
            encoder = Dense(
                (facts.n_features, *hidden, n_components), self.activation, self.dropout
            )
            decoder = encoder.mirrored(tied=self.tied)
        return CodeNetwork(
            facts,
            encoder=encoder,
            decoder=decoder,
            linear=LinearPath(facts.n_features, n_components, tied=self.tied) if skip else None,
            code_activation=self._code_activation(),
            output=self.output,
            gated=bool(hidden) and skip and self.tied,
            code_dropout=0.0 if hidden else self.dropout,
        )

    def _code_activation(self) -> str:
        if self.code_activation != "auto":
            return self.code_activation
        if not self.sparsity:
            return "linear"
        return "relu" if self.target_rate is None else "sigmoid"
