"""The user's words for the parts of a fit, made into the parts themselves."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from isthmus.corruptions import CORRUPTIONS, Corruption
from isthmus.data import Preparation, Rows, epoch_batches, is_streamed
from isthmus.errors import RequestError, require
from isthmus.estimator import defaults, shared_cache
from isthmus.estimator.settings import AUTO, FitSettings
from isthmus.estimator.split import TrainValidationSplit
from isthmus.kinds import KINDS, CodeNetwork, Kind
from isthmus.losses import (
    LOSSES,
    PENALTIES,
    Bernoulli,
    Mixed,
    Objective,
    PenaltySpec,
    Reconstruction,
)
from isthmus.optim import OPTIMIZERS, OptimizerSpec
from isthmus.pretraining import PCA, PRETRAININGS, Job, Pretraining, Random, name_of
from isthmus.spec import is_bool, resolve
from isthmus.training.cancellation import heed
from isthmus.training.concurrent import shared
from isthmus.training.diagnostics.monitor import Monitor
from isthmus.training.engines.base import AutogradStep
from isthmus.training.engines.dense.step import closed_step
from isthmus.training.engines.select import stride_of
from isthmus.training.plan import Plan
from isthmus.training.state import State
from isthmus.training.trainer import Trainer
from isthmus.types import Facts, Index, Source

CHECK_EVERY_ON_GPU = 50


def loss_and_preparation(
    settings: FitSettings, rows: TrainValidationSplit
) -> tuple[Reconstruction, Preparation]:
    """The reconstruction loss and the preparation, each of which the other may decide.

    Raises RequestError where the loss cannot take the prepared values.
    """
    prepare = functools.partial(shared_cache.preparation_of, rows)
    if settings.loss == "auto":
        preparation = prepare(settings.preparation)
        name = defaults.choose_loss(preparation)
        loss = LOSSES[name]()
    else:
        loss = resolve(settings.loss, LOSSES, Reconstruction, "loss")
        name = "bernoulli" if isinstance(loss, Bernoulli) else ""
        require(
            not name or rows.source.schema.columns is None,
            f"{rows.source.origin}: loss='bernoulli' needs values from 0 to 1, and there are "
            "columns of text, dates or counts; use loss='mixed'",
        )
        preparation = None
    scaling = settings.preparation
    if scaling == "auto":
        scaling = defaults.choose_scaling(name)
    if preparation is None or preparation.scaling != scaling != "auto":
        preparation = prepare(scaling)
    if not loss.JUDGES_COUNTS and preparation.counts is not None:
        preparation = replace(preparation, counts=None, scaling="standard")
    _check_range(loss, preparation)
    require(
        not isinstance(loss, Mixed) or loss.counts == "poisson" or preparation.counts is not None,
        f"{rows.source.origin}: losses.Mixed(counts='negative_binomial') is for columns of counts, "
        "and there is none; declare them with roles={'name': 'count'} (command line: --role "
        "name=count), or leave it out",
    )
    return loss.bound(preparation.facts), preparation


def _check_range(loss: Reconstruction, preparation: Preparation) -> None:
    if isinstance(loss, Bernoulli) and not 0 <= preparation.low <= preparation.high <= 1:
        raise RequestError(
            f"loss='bernoulli' needs values from 0 to 1, found {preparation.low:.4g} to "
            f"{preparation.high:.4g}; rescale the data or use loss='squared'"
        )


def kind_of(settings: FitSettings, source: Source, loss: Reconstruction) -> Kind:
    """The kind asked for, or the one that suits the rows."""
    name = defaults.choose_kind(source.schema) if settings.kind == "auto" else settings.kind
    kind = resolve(name, KINDS, Kind, "kind")
    logits = isinstance(loss, Bernoulli) or (isinstance(loss, Mixed) and kind.output == "bounded")
    if logits:
        kind.output = (
            "linear"  # the logits must be free: it is their probabilities that are bounded
        )
    return kind


def pretraining_of(settings: FitSettings, kind: Kind) -> Pretraining:
    """Where the weights start; RequestError where a network of this kind cannot start there.

    For "auto", whether that is PCA: which other start it is depends on the network.
    """
    if settings.pretraining == AUTO:
        return PCA() if kind.starts_linear else Random()
    start = resolve(settings.pretraining, PRETRAININGS, Pretraining, "pretraining")
    start.check()
    require(
        not isinstance(start, PCA) or kind.starts_linear,
        f"pretraining='pca' needs a network that can be linear, which {kind!r} is not (it is with "
        "skip=True, no sparsity, and no tied sigmoid or tanh code); use pretraining='random'",
    )
    return start


def pretrain(
    start: Pretraining, loss: Reconstruction, network: CodeNetwork, trainer: Trainer
) -> None:
    """Bring the network to its start, unless the checkpoint that `trainer` resumes is past it."""
    checkpointer = trainer.checkpointer
    if checkpointer is not None and checkpointer.path.exists():
        return
    records = start.run(
        Job(
            network=network,
            loss=loss,
            train=trainer.train,
            validation=trainer.validation,
            seed=trainer.state.seed,
            tell=trainer.reporter.message,
            heed=heed,
        )
    )
    trainer.state.history += [{"pretraining": name_of(start)} | record for record in records]
    if records and checkpointer is not None:
        checkpointer.last_s = -math.inf  # what took long is kept from the first step on


def pretraining_facts(state: State) -> dict[str, float]:
    """What pretraining cost, where there was one; a resumed fit knows it from its history."""
    seconds = [record["seconds"] for record in state.history if "pretraining" in record]
    return {"pretraining_seconds": max(seconds)} if seconds else {}


def penalties_of(settings: FitSettings, kind: Kind) -> list[PenaltySpec]:
    """The kind's own penalties, then those asked for."""
    own = [PENALTIES[name](**settings) for name, settings in kind.defaults().penalties]
    return own + [resolve(p, PENALTIES, PenaltySpec, "penalties") for p in settings.penalties]


def noise_of(settings: FitSettings, kind: Kind) -> Corruption | None:
    """The noise asked for, else the kind's own, else None."""
    wanted = kind.defaults().corruption
    if settings.corruption is not None:
        noise = resolve(settings.corruption, CORRUPTIONS, Corruption, "corruption")
    elif wanted is not None:
        noise = CORRUPTIONS[wanted[0]](**wanted[1])
    else:
        return None
    noise.check()
    return noise


def corruption_of(
    settings: FitSettings, kind: Kind, facts: Facts
) -> Callable[[Tensor], Tensor] | None:
    """The noise as a function of a batch, or None."""
    noise = noise_of(settings, kind)
    return None if noise is None else functools.partial(noise, facts=facts)


def optimizer_of(settings: FitSettings, network: CodeNetwork, rows: int) -> OptimizerSpec:
    """The optimizer asked for, or the one that suits the network and the number of its rows."""
    name = settings.optimizer
    name = defaults.choose_optimizer(rows, network) if name == "auto" else name
    return resolve(name, OPTIMIZERS, OptimizerSpec, "optimizer")


def work_of(network: CodeNetwork, batch_size: int) -> int:
    """About how many multiply-adds a batch takes."""
    return batch_size * network.multiply_adds


def patience_of(settings: FitSettings, epochs: int, rows: int, batch_size: int) -> int | None:
    """Epochs to wait for a better held-out loss, or None for ever."""
    wanted = settings.early_stopping
    if not is_bool(wanted):
        return int(wanted)
    return defaults.choose_patience(epochs, rows, batch_size) if wanted else None


def plan_of(
    settings: FitSettings,
    optimizer: OptimizerSpec,
    epochs: int,
    rows: int,
    batch_size: int,
    device: torch.device,
) -> Plan:
    """How long to train, and when to stop."""
    patience = patience_of(settings, epochs, rows, batch_size)
    return Plan(
        max_epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        clip_norm=optimizer.clip_norm,
        ema_decay=optimizer.ema_decay,
        plateau=defaults.choose_plateau(epochs) if optimizer.schedule == "plateau" else None,
        check_every=1 if device.type == "cpu" else CHECK_EVERY_ON_GPU,
        steps=epochs * -(-rows // batch_size),
    )


def trainer_of(
    settings: FitSettings,
    network: CodeNetwork,
    kind: Kind,
    loss: Reconstruction,
    optimizer: OptimizerSpec,
    plan: Plan,
    *,
    bf16: bool,
) -> Trainer:
    """The trainer of `network`, which still waits for its rows."""
    objective = Objective(
        loss, penalties_of(settings, kind), allow_missing=network.facts.allow_missing
    )
    corrupt = corruption_of(settings, kind, network.facts)
    closed = not optimizer.OBSERVES_FORWARD
    step = closed_step(network, objective, corrupt, bf16=bf16) if closed else None
    method = optimizer.build(network, loss)
    return Trainer(
        network=network,
        step=step or AutogradStep(network, objective, corrupt, bf16=bf16),
        stride=shared(stride_of(step, method, plan)),
        objective=objective,
        optimizer=method,
        factors=optimizer.factors,
        batches=batches_of(plan.batch_size, settings.seed),
        plan=plan,
        state=State(seed=settings.seed),
        callbacks=settings.callbacks,
        reporter=settings.reporter,
        monitor=Monitor(loss.rebuilt, optimizer.gradients_per_step),
    )


def is_dense(settings: FitSettings, kind: Kind) -> bool:
    """Whether a step will, as far as one can tell before there is a network, be a closed one."""
    adaptive = settings.optimizer in (AUTO, "adam", "adamw") or type(settings.optimizer) in (
        OPTIMIZERS["adam"],
        OPTIMIZERS["adamw"],
    )
    tied = getattr(kind, "tied", False)
    return adaptive and not tied and not isinstance(kind, KINDS["convolutional"])


def batches_of(size: int, seed: int) -> Callable[[int, int], Sequence[Index]]:
    """(rows, epoch) to the positions of each batch of `size` rows."""
    return functools.partial(_batches, size, seed)


def _batches(size: int, seed: int, rows: int, epoch: int) -> list[Index]:
    return epoch_batches(rows, size, seed=seed, epoch=epoch)


def read_by(trainer: Trainer, rows: Rows, size: int) -> None:
    """Let a trainer take `rows` in batches of `size`, as it suits the place where they are."""
    seed = trainer.state.seed
    trainer.batches, trainer.ahead = batches_of(size, seed), rows.ahead
    if is_streamed(rows.source):
        trainer.batches = functools.partial(_batches_on_disk, rows, size, seed)


def _batches_on_disk(rows: Rows, size: int, seed: int, n_rows: int, epoch: int) -> Sequence[Index]:
    del n_rows
    return rows.batches(size, seed=seed, epoch=epoch)
