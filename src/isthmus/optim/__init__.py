"""Optimizers, one file per family, and learning rate schedules."""

from isthmus.optim.adaptive import Adam, AdamW, RMSprop
from isthmus.optim.base import OptimizerSpec
from isthmus.optim.conjugate import UPDATES, ConjugateGradient
from isthmus.optim.gradient import SGD, Nesterov
from isthmus.optim.kfac import KFAC
from isthmus.optim.muon import Muon
from isthmus.optim.quasi_newton import LBFGS
from isthmus.optim.schedules import SCHEDULES

__all__ = [
    "KFAC",
    "LBFGS",
    "OPTIMIZERS",
    "SCHEDULES",
    "SGD",
    "UPDATES",
    "Adam",
    "AdamW",
    "ConjugateGradient",
    "Muon",
    "Nesterov",
    "OptimizerSpec",
    "RMSprop",
]

OPTIMIZERS: dict[str, type[OptimizerSpec]] = {
    "sgd": SGD,
    "nesterov": Nesterov,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
    "muon": Muon,
    "conjugate_gradient": ConjugateGradient,
    "lbfgs": LBFGS,
    "kfac": KFAC,
}
"""Optimizer specs by name."""
