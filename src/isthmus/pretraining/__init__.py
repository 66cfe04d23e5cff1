"""Where the weights start, and the table of the ways."""

from isthmus.pretraining.base import Job, Pretraining, Random
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


def name_of(start: Pretraining) -> str:
    """The registered name of a spec; that of its class where it has none."""
    names = {cls: name for name, cls in PRETRAININGS.items()}
    return names.get(type(start), type(start).__name__.lower())


__all__ = [
    "LSUV",
    "PCA",
    "PRETRAININGS",
    "RBM",
    "AutoencoderStack",
    "BoltzmannMachine",
    "Job",
    "LayerWise",
    "PCASolution",
    "Pretraining",
    "Random",
    "name_of",
    "principal_components",
]
