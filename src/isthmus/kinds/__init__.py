"""The kinds of autoencoder, one file each, and the registries of kinds and activations."""

from isthmus.kinds.activations import (
    ACTIVATIONS,
    Activation,
    InPlace,
    OperatingPoint,
    check_activation,
)
from isthmus.kinds.base import CodeNetwork, Kind, KindDefaults, LinearPath
from isthmus.kinds.convolutional import Convolutional
from isthmus.kinds.dense_form import DenseForm
from isthmus.kinds.multilayer import Multilayer
from isthmus.kinds.regularized import Regularized
from isthmus.kinds.vanilla import Vanilla

KINDS: dict[str, type[Kind]] = {
    "vanilla": Vanilla,
    "multilayer": Multilayer,
    "regularized": Regularized,
    "convolutional": Convolutional,
}
"""Kinds by name."""

__all__ = [
    "ACTIVATIONS",
    "KINDS",
    "Activation",
    "CodeNetwork",
    "Convolutional",
    "DenseForm",
    "InPlace",
    "Kind",
    "KindDefaults",
    "LinearPath",
    "Multilayer",
    "OperatingPoint",
    "Regularized",
    "Vanilla",
    "check_activation",
]
