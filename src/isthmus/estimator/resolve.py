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
from isthmus.estimator import defaults as choices
from isthmus.estimator import shared_cache as sharing
from isthmus.estimator.settings import AUTO, Request
from isthmus.estimator.split import Division
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
from isthmus.spec import is_truth, resolve
from isthmus.training.cancellation import heed
from isthmus.training.concurrent import shared
from isthmus.training.diagnostics.monitor import Doctor
from isthmus.training.engines.base import AutogradStep
from isthmus.training.engines.dense.step import closed_step
from isthmus.training.engines.select import stride_of
from isthmus.training.plan import Plan
from isthmus.training.state import State
from isthmus.training.trainer import Trainer
from isthmus.types import Facts, Index, Source

CHECK_EVERY_ON_GPU = 50


def loss_and_preparation(request: Request, rows: Division) -> tuple[Reconstruction, Preparation]:
    """The reconstruction loss and the preparation, each of which the other may decide.

    Raises RequestError where the loss cannot take the prepared values.
    """
    prepare = functools.partial(sharing.preparation_of, rows)
    if request.loss == "auto":
        preparation = prepare(request.preparation)
        name = choices.choose_loss(preparation)
        loss = LOSSES[name]()
    else:
        loss = resolve(request.loss, LOSSES, Reconstruction, "loss")
        name = "bernoulli" if isinstance(loss, Bernoulli) else ""
        require(
            not name or rows.source.schema.columns is None,
            f"{rows.source.origin}: loss='bernoulli' needs values from 0 to 1, and there are "
            "columns of text, dates or counts; use loss='mixed'",
        )
        preparation = None
    scaling = request.preparation
    if scaling == "auto":
        scaling = choices.choose_scaling(name)
    if preparation is None or preparation.scaling != scaling != "auto":
        preparation = prepare(scaling)
    if not loss.JUDGES_COUNTS and preparation.counts is not None:
        preparation = replace(preparation, counts=None, scaling="columns")
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


def kind_of(request: Request, source: Source, loss: Reconstruction) -> Kind:
    """The kind asked for, or the one that suits the rows."""
    name = choices.choose_kind(source.schema) if request.kind == "auto" else request.kind
    kind = resolve(name, KINDS, Kind, "kind")
    logits = isinstance(loss, Bernoulli) or (isinstance(loss, Mixed) and kind.output == "bounded")
    if logits:
        kind.output = (
            "linear"  # the logits must be free: it is their probabilities that are bounded
        )
    return kind


def pretraining_of(request: Request, kind: Kind) -> Pretraining:
    """Where the weights start; RequestError where a network of this kind cannot start there.

    For "auto", whether that is PCA: which other start it is depends on the network.
    """
    if request.pretraining == AUTO:
        return PCA() if kind.starts_linear else Random()
    start = resolve(request.pretraining, PRETRAININGS, Pretraining, "pretraining")
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
            held_out=trainer.held_out,
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


def penalties_of(request: Request, kind: Kind) -> list[PenaltySpec]:
    """The kind's own penalties, then those asked for."""
    own = [PENALTIES[name](**settings) for name, settings in kind.wants().penalties]
    return own + [resolve(p, PENALTIES, PenaltySpec, "penalties") for p in request.penalties]


def noise_of(request: Request, kind: Kind) -> Corruption | None:
    """The noise asked for, else the kind's own, else None."""
    wanted = kind.wants().corruption
    if request.corruption is not None:
        noise = resolve(request.corruption, CORRUPTIONS, Corruption, "corruption")
    elif wanted is not None:
        noise = CORRUPTIONS[wanted[0]](**wanted[1])
    else:
        return None
    noise.check()
    return noise


def corruption_of(request: Request, kind: Kind, facts: Facts) -> Callable[[Tensor], Tensor] | None:
    """The noise as a function of a batch, or None."""
    noise = noise_of(request, kind)
    return None if noise is None else functools.partial(noise, facts=facts)


def optimizer_of(request: Request, network: CodeNetwork, rows: int) -> OptimizerSpec:
    """The optimizer asked for, or the one that suits the network and the number of its rows."""
    name = request.optimizer
    name = choices.choose_optimizer(rows, network) if name == "auto" else name
    return resolve(name, OPTIMIZERS, OptimizerSpec, "optimizer")


def work_of(network: CodeNetwork, batch_size: int) -> int:
    """About how many multiply-adds a batch takes."""
    return batch_size * network.multiply_adds


def patience_of(request: Request, epochs: int, rows: int, batch_size: int) -> int | None:
    """Epochs to wait for a better held-out loss, or None for ever."""
    wanted = request.early_stopping
    if not is_truth(wanted):
        return int(wanted)
    return choices.choose_patience(epochs, rows, batch_size) if wanted else None


def plan_of(
    request: Request,
    optimizer: OptimizerSpec,
    epochs: int,
    rows: int,
    batch_size: int,
    device: torch.device,
) -> Plan:
    """How long to train, and when to stop."""
    patience = patience_of(request, epochs, rows, batch_size)
    return Plan(
        max_epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        clip_norm=optimizer.clip_norm,
        averaging=optimizer.averaging,
        plateau=choices.choose_plateau(epochs) if optimizer.schedule == "plateau" else None,
        check_every=1 if device.type == "cpu" else CHECK_EVERY_ON_GPU,
        steps=epochs * -(-rows // batch_size),
    )


def trainer_of(
    request: Request,
    network: CodeNetwork,
    kind: Kind,
    loss: Reconstruction,
    optimizer: OptimizerSpec,
    plan: Plan,
    *,
    bf16: bool,
) -> Trainer:
    """The trainer of `network`, which still waits for its rows."""
    objective = Objective(loss, penalties_of(request, kind), gaps=network.facts.gaps)
    corrupt = corruption_of(request, kind, network.facts)
    closed = not optimizer.WATCHES
    step = closed_step(network, objective, corrupt, bf16=bf16) if closed else None
    method = optimizer.build(network, loss)
    return Trainer(
        network=network,
        step=step or AutogradStep(network, objective, corrupt, bf16=bf16),
        stride=shared(stride_of(step, method, plan)),
        objective=objective,
        optimizer=method,
        factors=optimizer.factors,
        batches=batches_of(plan.batch_size, request.seed),
        plan=plan,
        state=State(seed=request.seed),
        callbacks=request.callbacks,
        reporter=request.reporter,
        health=Doctor(loss.rebuilt, optimizer.evaluations_a_step),
    )


def is_dense(request: Request, kind: Kind) -> bool:
    """Whether a step will, as far as one can tell before there is a network, be a closed one."""
    adaptive = request.optimizer in (AUTO, "adam", "adamw") or type(request.optimizer) in (
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
