"""Go on training a model that was loaded, whose own trainer is gone."""

from typing import Any

import torch

from isthmus.estimator import parts
from isthmus.estimator.request import Request
from isthmus.training.loop import Trainer
from isthmus.training.state import State


def trainer_again(estimator: Any, request: Request, rows: int, device: torch.device) -> Trainer:
    """A trainer for one more epoch over so many rows, from the facts that were saved."""
    facts, network = estimator.facts_, estimator.network_
    size, seen = (int(facts[name]) for name in ("batch_size", "training_rows"))
    optimizer = parts.optimizer_of(request, network, seen)
    plan = parts.plan_of(request, optimizer, 1, rows, size, device)
    bf16 = facts["precision"] == "bf16"
    trainer = parts.trainer_of(
        request, network, estimator.kind_, estimator.loss_, optimizer, plan, bf16=bf16
    )
    epochs = int(facts["epochs"])
    trainer.state = State(seed=request.seed, epoch=epochs, history=estimator.history_)
    return trainer
