"""How the weights move: one file a family of optimizers, and the schedules of their rates."""

from isthmus.optim.adaptive import Adam, AdamW
from isthmus.optim.base import OptimizerSpec
from isthmus.optim.gradient import SGD, Nesterov
from isthmus.optim.schedules import SCHEDULES

OPTIMIZERS: dict[str, type[OptimizerSpec]] = {
    "sgd": SGD,
    "nesterov": Nesterov,
    "adam": Adam,
    "adamw": AdamW,
}

__all__ = ["OPTIMIZERS", "SCHEDULES", "SGD", "Adam", "AdamW", "Nesterov", "OptimizerSpec"]
