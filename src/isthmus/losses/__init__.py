"""Reconstruction losses, penalties, and the objective that adds them up."""

from isthmus.losses.mixed import Mixed
from isthmus.losses.objective import RECONSTRUCTION, Objective
from isthmus.losses.penalties import KL, L1, Contraction, PenaltySpec, estimated_norm
from isthmus.losses.reconstruction import Bernoulli, Huber, Reconstruction, Squared

LOSSES: dict[str, type[Reconstruction]] = {
    "squared": Squared,
    "bernoulli": Bernoulli,
    "huber": Huber,
    "mixed": Mixed,
}
"""Reconstruction losses by name."""

PENALTIES: dict[str, type[PenaltySpec]] = {
    "l1": L1,
    "kl": KL,
    "contraction": Contraction,
}
"""Penalties by name."""

__all__ = [
    "KL",
    "L1",
    "LOSSES",
    "PENALTIES",
    "RECONSTRUCTION",
    "Bernoulli",
    "Contraction",
    "Huber",
    "Mixed",
    "Objective",
    "PenaltySpec",
    "Reconstruction",
    "Squared",
    "estimated_norm",
]
