"""Pretrainings: initial weights before training, and the registry of their names."""

from isthmus.pretraining.base import Pretraining, PretrainingJob, Random
from isthmus.pretraining.boltzmann import BoltzmannMachine
from isthmus.pretraining.greedy import LayerWise
from isthmus.pretraining.lsuv import LSUV
from isthmus.pretraining.pca import PCA, PCASolution, principal_components
from isthmus.pretraining.rbm import RBM
from isthmus.pretraining.stacked import AutoencoderStack

PRETRAININGS: dict[str, type[Pretraining]] = {
    "pca": PCA,
    "random": Random,
    "lsuv": LSUV,
    "rbm": RBM,
    "autoencoder": AutoencoderStack,
}
"""Pretrainings by name."""


def registered_name(start: Pretraining) -> str:
    """The registered name of a spec, or the lower-case name of its class.

    Example:
        >>> from isthmus.pretraining import LSUV, registered_name
        >>> registered_name(LSUV())
        'lsuv'
    """
    names = {cls: name for name, cls in PRETRAININGS.items()}
    return names.get(type(start), type(start).__name__.lower())


__all__ = [
    "LSUV",
    "PCA",
    "PRETRAININGS",
    "RBM",
    "AutoencoderStack",
    "BoltzmannMachine",
    "LayerWise",
    "PCASolution",
    "Pretraining",
    "PretrainingJob",
    "Random",
    "principal_components",
    "registered_name",
]
