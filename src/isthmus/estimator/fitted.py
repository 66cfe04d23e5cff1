"""What a fit leaves behind."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from isthmus.data import Preparation
from isthmus.estimator.later import Later
from isthmus.estimator.refining import Refining
from isthmus.kinds import CodeNetwork, Kind
from isthmus.losses import Reconstruction
from isthmus.training.loop import Trainer
from isthmus.training.state import State
from isthmus.types import Index, Numbers


@dataclass(kw_only=True)
class Fitted:
    """What a fit leaves behind."""

    network: CodeNetwork
    kind: Kind
    loss: Reconstruction
    preparation: Preparation
    mean: Tensor
    """(1, *network_shape): the prepared training rows' mean, what no code at all would give."""

    refining: Refining
    imputer: Later | None
    """Where rows may have gaps."""

    state: State
    train: Numbers
    held_out: Index
    facts: dict[str, Any]
    trainer: Trainer
