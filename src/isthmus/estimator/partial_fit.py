"""Go on training a fitted model: one more epoch, over rows or pieces of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from isthmus.data import AllBut, Rows, is_streamed
from isthmus.errors import DivergenceError, require
from isthmus.estimator import resolve
from isthmus.estimator.settings import FULL, FitSettings
from isthmus.estimator.split import rows_of
from isthmus.imputation.imputer import rows_to_go_on
from isthmus.imputation.lazy import lazy_imputer
from isthmus.runtime.device import private_randomness, threads
from isthmus.training.state import State
from isthmus.training.trainer import Trainer
from isthmus.types import Array, Source


def fit_each(estimator: Any, pieces: Iterator[Any], sample_weight: Any) -> None:
    """`partial_fit` of one piece after the other, of which one is in memory at a time."""
    require(sample_weight is None, "sample_weight: give each piece its own, call by call")
    given = False
    for piece in pieces:
        given = True
        estimator.partial_fit(piece)
    require(given, "X is an iterator that gave no rows; give at least one piece")


def one_more_epoch(estimator: Any, source: Source, weight: Array) -> None:
    """One more epoch over `source` with the trainer of the last fit."""
    counted = AllBut(len(source)) if is_streamed(source) else np.flatnonzero(weight > 0)
    dtype, device = estimator._where()
    rows = rows_of(
        source, estimator.preparation_, counted, weight[counted], dtype=dtype, device=device
    )
    if not hasattr(estimator, "_trainer"):
        settings = estimator._request(resume=False)
        estimator._trainer = _trainer_again(estimator, settings, len(rows), device)
    trainer = estimator._trainer
    size = len(rows) if estimator.batch_size == FULL else trainer.plan.batch_size
    resolve.read_by(trainer, rows, size)
    work = resolve.work_of(estimator.network_, size)
    with _imputer_anew(estimator, rows, work), private_randomness(device), threads(work, device):
        trainer.one_more(rows)
    epoch = trainer.state.epoch
    estimator.facts_["outcome"] = f"the network of epoch {epoch}, the last one by partial_fit"
    trainer.batches = resolve.batches_of(size, trainer.state.seed)


@contextmanager
def _imputer_anew(estimator: Any, rows: Rows, work: int) -> Iterator[None]:
    """A block in which the network moves, of whose `rows` its imputer is to be learned then.

    Few rows tell too little: then it stays that of the network as it was.
    """
    imputer, centre = estimator._imputer, estimator.mean_.to(rows.device)
    goes_on = imputer is not None
    if goes_on and len(rows) < rows_to_go_on(centre, estimator.n_components_):
        imputer()
        goes_on = False
    try:
        yield
    except DivergenceError:
        goes_on = False  # the weights are what they were
        raise
    finally:
        if goes_on:
            known = estimator.network_, estimator.loss_, (rows, rows), estimator.metric_
            estimator._imputer = lazy_imputer(*known, centre, 0, work)


def _trainer_again(
    estimator: Any, settings: FitSettings, rows: int, device: torch.device
) -> Trainer:
    """The trainer of a model that was loaded, from the facts that were saved."""
    facts, network = estimator.facts_, estimator.network_
    size, seen = (int(facts[name]) for name in ("batch_size", "training_rows"))
    optimizer = resolve.optimizer_of(settings, network, seen)
    plan = resolve.plan_of(settings, optimizer, 1, rows, size, device)
    bf16 = facts["precision"] == "bf16"
    trainer = resolve.trainer_of(
        settings, network, estimator.kind_, estimator.loss_, optimizer, plan, bf16=bf16
    )
    epochs = int(facts["epochs"])
    trainer.state = State(seed=settings.seed, epoch=epochs, history=estimator.history_)
    return trainer
