"""The objective of training: a reconstruction loss plus penalties."""

import copy
from collections.abc import Collection, Sequence

from torch import Tensor

from isthmus.losses.penalties import PenaltySpec
from isthmus.losses.reconstruction import Reconstruction
from isthmus.types import Step

RECONSTRUCTION = "reconstruction"


class Objective:
    """A reconstruction loss plus penalties; a call returns every term by name.

    Example:
        >>> import torch
        >>> from isthmus.kinds import Vanilla
        >>> from isthmus.losses import L1, Objective, Squared
        >>> from isthmus.types import Facts, Step
        >>> network = Vanilla().build(Facts(shape=(4,)), 2)
        >>> x = torch.ones(3, 4)
        >>> sorted(Objective(Squared(), [L1()])(Step(network, x, x, network(x), torch.ones(3))))
        ['l1', 'reconstruction']
    """

    def __init__(
        self,
        loss: Reconstruction,
        penalties: Sequence[PenaltySpec] = (),
        *,
        allow_missing: bool = False,
    ) -> None:
        self.loss, self.allow_missing = loss, allow_missing
        self.row_loss = loss.row_loss(allow_missing=allow_missing)
        self.penalties = dict(zip(_distinct(penalties), penalties, strict=True))
        for part in (loss, *penalties):
            part.check()

    def __call__(self, step: Step) -> dict[str, Tensor]:
        """The terms of one batch, each a weighted scalar; their sum is minimized."""
        rows = self.row_loss(step.output.reconstruction, step.x)
        terms = {RECONSTRUCTION: step.mean(rows), **step.output.terms}
        return terms | {name: penalty(step) for name, penalty in self.penalties.items()}

    def without(self, names: Collection[str]) -> "Objective":
        """A copy without the named penalties; the others keep their names."""
        rest = copy.copy(self)
        rest.penalties = {k: penalty for k, penalty in self.penalties.items() if k not in names}
        return rest


def _distinct(penalties: Sequence[PenaltySpec]) -> list[str]:
    names: list[str] = []
    for penalty in penalties:
        again = sum(name.split(" ")[0] == penalty.name for name in names)
        names.append(f"{penalty.name} {again + 1}" if again else penalty.name)
    return names
