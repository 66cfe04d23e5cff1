"""Turn the settings and the rows of a fit into its parts, and record every choice made for it."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from isthmus.corruptions import CORRUPTIONS, Corruption
from isthmus.counts import LogCounts, log_counts
from isthmus.data.loading.rows import Rows
from isthmus.data.preparation.preparation import Preparation
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.data.validate import check_any_value, check_rows
from isthmus.errors import RequestError, declare_role, require, setting
from isthmus.estimator import defaults
from isthmus.estimator.defaults import Decisions
from isthmus.estimator.pca_fallback import is_evidence
from isthmus.estimator.settings import AUTO, FULL, FitSettings
from isthmus.estimator.split import TrainValidationSplit, count_distinct_rows, mean_row, split_rows
from isthmus.kinds import KINDS, CodeNetwork, DenseForm, Kind
from isthmus.losses import LOSSES, PENALTIES, Objective, PenaltySpec, Reconstruction
from isthmus.optim import OPTIMIZERS, OptimizerSpec
from isthmus.pretraining import PCA, PRETRAININGS, Pretraining, Random
from isthmus.runtime.device import PRECISIONS, resolve_device
from isthmus.runtime.precision import precision_from_environment
from isthmus.runtime.threads import is_small
from isthmus.spec import is_bool, resolve
from isthmus.training.checkpoint import saved_fingerprint
from isthmus.training.diagnostics.monitor import Monitor
from isthmus.training.engines.select import FitParts, select_engine
from isthmus.training.plan import Plan
from isthmus.training.state import State
from isthmus.training.trainer import Trainer
from isthmus.types import Array, Facts, Index, shuffled_batches

CHECK_EVERY_ON_GPU = 50

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bf16": torch.float32}


@dataclass(frozen=True, kw_only=True)
class ResolvedFit:
    """The parts of a fit that the settings and the rows decide, before there is a network."""

    settings: FitSettings
    split: TrainValidationSplit
    device: torch.device
    loss: Reconstruction
    preparation: Preparation
    kind: Kind
    """The sizes that it leaves open are chosen with the number of components."""

    corruption: Corruption | None
    penalties: tuple[PenaltySpec, ...]
    pretraining: Pretraining
    """For "auto" `PCA` or `Random`; `resolve_training` looks at the network in the second case."""

    precision: defaults.Choice[str]
    """For "auto" that of a small network; `resolve_training` looks at the network."""

    train: Rows
    validation: Rows | None
    distinct: int
    """The number of different validation rows."""

    fill_value: Tensor | float
    """(D,): what missing values are replaced by at first, the mean of the known ones."""

    log_counts: LogCounts | None
    decisions: Decisions
    """Every choice so far; the steps that follow add theirs."""

    @property
    def facts(self) -> Facts:
        """What the network and the loss must know about the rows."""
        return self.preparation.facts

    @property
    def starts_at_pca(self) -> bool:
        """Whether training starts from the principal components."""
        return isinstance(self.pretraining, PCA)

    @property
    def penalized(self) -> bool:
        """Whether any penalty has a weight other than 0."""
        return any(penalty.weight for penalty in self.penalties)

    @property
    def is_comparable_to_pca(self) -> bool:
        """Whether plain squared error is the aim, so that PCA may replace the trained network."""
        plain = (
            (self.settings.loss == AUTO or self.loss.MINIMIZED_BY_PCA)
            # Declared counts ask for a count likelihood, which PCA's squared error is not.
            and self.preparation.counts is None
            and not self.penalized
            # A bounded output starts near PCA, not at it: there is no PCA to return to.
            and self.kind.output != "bounded"
        )
        # Setting validation_fraction=0 asks for training to be trusted.
        trusted = self.validation is None and self.settings.validation_fraction != AUTO
        return plain and not trusted and self.settings.max_epochs != 0


@dataclass(frozen=True, kw_only=True)
class ResolvedTraining:
    """The parts of a fit that the network decides too."""

    pretraining: Pretraining
    optimizer: OptimizerSpec
    precision: str
    plan: Plan


def resolve_fit(
    settings: FitSettings, source: Source, weight: Array, validation_source: Source | None
) -> ResolvedFit:
    """The parts of a fit of these rows; RequestError if the settings do not suit them.

    The order matters: each part may depend on those before it.
    """
    decisions = Decisions()
    device = resolve_device(settings.device)
    split = split_rows(settings, source, weight, validation_source)
    if settings.validation_fraction == AUTO:
        decisions.add("validation_rows", len(split.validation), split.reason)
    loss, preparation = resolve_loss_and_preparation(settings, split, decisions)
    kind = resolve_kind(settings, split.source.schema, loss, decisions)
    corruption = resolve_corruption(settings, kind)
    if corruption is not None and corruption.ADDS_MISSING:
        preparation = replace(preparation, allow_missing=True)
    if split.validation_source is not None:
        check_rows(split.validation_source, at_least=1, allow_missing=preparation.allow_missing)
        check_any_value(split.validation_source)
    if settings.device == AUTO:
        rows = len(split.train)
        choice = _choose_device(device, settings, kind, preparation.facts, rows)
        device = torch.device(decisions.choose("device", choice))
    precision = _first_precision(settings, len(split.train), preparation, device)
    dtype = DTYPES[_pinned(settings, precision).value]
    train, validation = split.open(preparation, dtype, device)
    pretraining = resolve_pretraining(settings, kind, decisions)
    return ResolvedFit(
        settings=settings,
        split=split,
        device=device,
        loss=loss,
        preparation=preparation,
        kind=kind,
        corruption=corruption,
        penalties=tuple(resolve_penalties(settings, kind)),
        pretraining=pretraining,
        precision=precision,
        train=train,
        validation=validation,
        distinct=count_distinct_rows(split, validation),
        fill_value=fill_value_of(train),
        log_counts=log_counts(preparation.facts),
        decisions=decisions,
    )


def resolve_training(parts: ResolvedFit, network: CodeNetwork) -> ResolvedTraining:
    """The parts that depend on the network: start, optimizer, batches, epochs and precision."""
    settings, decisions, rows = parts.settings, parts.decisions, len(parts.train)
    pretraining = parts.pretraining
    if settings.pretraining == AUTO and not parts.starts_at_pca:
        name = decisions.choose("pretraining", defaults.choose_pretraining(network))
        pretraining = PRETRAININGS[name]()
    optimizer = resolve_optimizer(settings, network, rows, decisions)
    batch_size = _batch_size(settings, optimizer, rows, decisions)
    epochs = settings.max_epochs
    if epochs is None:
        epochs = decisions.choose("max_epochs", enough_epochs(optimizer, rows, batch_size))
    if parts.starts_at_pca and parts.is_comparable_to_pca and not is_evidence(parts.distinct):
        reason = f"{parts.distinct} different validation rows cannot show a gain over PCA"
        decisions.add("max_epochs", 0, reason)
        epochs = 0
    precision = parts.precision.value
    if settings.precision == AUTO:
        choice = _precision(parts, optimizer, network, batch_size)
        precision = decisions.choose("precision", choice)
    return ResolvedTraining(
        pretraining=pretraining,
        optimizer=optimizer,
        precision=precision,
        plan=resolve_plan(settings, optimizer, epochs, rows, batch_size, parts.device, decisions),
    )


def _choose_device(
    device: torch.device, settings: FitSettings, kind: Kind, facts: Facts, rows: int
) -> defaults.Choice[str]:
    """The GPU if there is one, but the processor for small dense networks."""
    if device.type != "cuda":
        return defaults.Choice(str(device), "PyTorch finds no CUDA GPU")
    if _is_small_dense(settings, kind, facts, rows):
        reason = "one processor thread takes the steps of so small a dense network as fast as a GPU"
        return defaults.Choice("cpu", reason)
    return defaults.Choice(str(device), "PyTorch finds a GPU")


def _is_small_dense(settings: FitSettings, kind: Kind, facts: Facts, rows: int) -> bool:
    """Whether a network would be dense and small enough for the fast engines of a processor."""
    size = settings.n_components or min(defaults.MOST_COMPONENTS, facts.n_features)
    with torch.random.fork_rng(devices=[]):
        network = kind.resolved(facts, size).build(facts, size)
    batch = batch_size_set(settings, rows) or defaults.choose_batch_size(rows).value
    work = batch * network.multiply_adds
    return DenseForm.of(network) is not None and is_small(work, torch.device("cpu"))


def resolve_loss_and_preparation(
    settings: FitSettings, split: TrainValidationSplit, decisions: Decisions
) -> tuple[Reconstruction, Preparation]:
    """The reconstruction loss and the preparation, each of which may decide the other.

    Raises RequestError if the loss cannot take the prepared values.
    """
    origin = split.source.origin
    preparation: Preparation | None = None
    if settings.loss == AUTO:
        preparation = split.fit_preparation(settings.preparation)
        scaled = settings.preparation != AUTO
        choice = defaults.choose_loss(preparation, scaled=scaled)
        loss = LOSSES[decisions.choose("loss", choice)]()
    else:
        loss = resolve(settings.loss, LOSSES, Reconstruction, "loss")
        require(
            not loss.NEEDS_UNIT_RANGE or split.source.schema.columns is None,
            f"{origin}: the loss {type(loss).__name__} needs values from 0 to 1, and there are "
            f"columns of text, dates or counts; use {setting('loss', 'mixed')}",
        )
    scaling = loss.SCALING if settings.preparation == AUTO else settings.preparation
    if preparation is None or preparation.scaling != scaling != AUTO:
        preparation = split.fit_preparation(scaling)
    if not loss.SUPPORTS_COUNTS and preparation.counts is not None:
        preparation = replace(preparation, counts=None, scaling="standard")
    _check_values(loss, preparation, origin)
    if settings.preparation == AUTO:
        decisions.choose("preparation", defaults.explain_scaling(preparation))
    return loss.with_facts(preparation.facts), preparation


def _check_values(loss: Reconstruction, preparation: Preparation, origin: str) -> None:
    if loss.NEEDS_UNIT_RANGE and not 0 <= preparation.low <= preparation.high <= 1:
        raise RequestError(
            f"the loss {type(loss).__name__} needs values from 0 to 1, found "
            f"{preparation.low:.4g} to {preparation.high:.4g}; rescale the data or use "
            f"{setting('loss', 'squared')}"
        )
    require(
        not loss.needs_counts or preparation.counts is not None,
        f"{origin}: losses.Mixed(counts='negative_binomial') is for columns of counts, "
        "and no column is declared as one; declare them with "
        f"{declare_role('name', 'count')}, or leave it out",
    )


def resolve_kind(
    settings: FitSettings, schema: Schema, loss: Reconstruction, decisions: Decisions
) -> Kind:
    """The kind that was set, or the one that suits the rows, with the output the loss needs."""
    name = settings.kind
    if name == AUTO:
        name = decisions.choose("kind", defaults.choose_kind(schema))
    kind = resolve(name, KINDS, Kind, "kind")
    output = loss.network_output(kind.output)
    return kind if output == kind.output else replace(kind, output=output)


def resolve_pretraining(settings: FitSettings, kind: Kind, decisions: Decisions) -> Pretraining:
    """How the weights start; RequestError if a network of this kind cannot start so.

    For "auto" it is `PCA` if the kind has a linear path, else `Random` for now.
    """
    if settings.pretraining == AUTO:
        if not kind.starts_linear:
            return Random()
        decisions.add("pretraining", "pca", "the network has a linear path that can start at PCA")
        return PCA()
    start = resolve(settings.pretraining, PRETRAININGS, Pretraining, "pretraining")
    start.check()
    instead = setting("pretraining", "random")
    require(
        not isinstance(start, PCA) or kind.starts_linear,
        f"pretraining='pca' needs a network that can be linear, which {kind!r} is not (it is with "
        f"skip=True, no sparsity, and no tied sigmoid or tanh code); use {instead}",
    )
    return start


def resolve_penalties(settings: FitSettings, kind: Kind) -> list[PenaltySpec]:
    """The kind's own penalties, then those that were set."""
    own = [PENALTIES[name](**options) for name, options in kind.defaults().penalties]
    return own + [resolve(p, PENALTIES, PenaltySpec, "penalties") for p in settings.penalties]


def resolve_corruption(settings: FitSettings, kind: Kind) -> Corruption | None:
    """The corruption that was set, else the kind's own, else None."""
    own = kind.defaults().corruption
    if settings.corruption is not None:
        corruption = resolve(settings.corruption, CORRUPTIONS, Corruption, "corruption")
    elif own is not None:
        corruption = CORRUPTIONS[own[0]](**own[1])
    else:
        return None
    corruption.check()
    return corruption


def resolve_optimizer(
    settings: FitSettings, network: CodeNetwork, rows: int, decisions: Decisions
) -> OptimizerSpec:
    """The optimizer that was set, or the one that suits the network and the number of rows."""
    name = settings.optimizer
    if name == AUTO:
        batch = batch_size_set(settings, rows)
        name = decisions.choose("optimizer", defaults.choose_optimizer(rows, network, batch))
    return resolve(name, OPTIMIZERS, OptimizerSpec, "optimizer")


def batch_size_set(settings: FitSettings, rows: int) -> int | None:
    """The batch size that was set, at most all rows, or None if it is to be chosen."""
    if settings.batch_size is None:
        return None
    return rows if settings.batch_size == FULL else min(int(settings.batch_size), rows)


def _batch_size(
    settings: FitSettings, optimizer: OptimizerSpec, rows: int, decisions: Decisions
) -> int:
    batch_size = batch_size_set(settings, rows)
    if batch_size is not None:
        return batch_size
    wanted = optimizer.choose_batch_size(rows)
    if wanted:
        decisions.add(
            "batch_size", wanted, f"the size that {type(optimizer).__name__} works best with"
        )
        return int(wanted)
    return decisions.choose("batch_size", defaults.choose_batch_size(rows))


def enough_epochs(optimizer: OptimizerSpec, rows: int, batch_size: int) -> defaults.Choice[int]:
    """Epochs enough for an optimizer and so many training rows."""
    evaluations, wanted = optimizer.gradients_per_step, optimizer.GRADIENT_BUDGET
    return defaults.choose_epochs(rows, batch_size, evaluations, wanted)


def _first_precision(
    settings: FitSettings, rows: int, preparation: Preparation, device: torch.device
) -> defaults.Choice[str]:
    if settings.precision != AUTO:
        return defaults.Choice(settings.precision, "it was set")
    return defaults.choose_first_precision(rows * preparation.facts.n_features, device)


def _precision(
    parts: ResolvedFit, optimizer: OptimizerSpec, network: CodeNetwork, batch_size: int
) -> defaults.Choice[str]:
    if parts.precision.value == "float32" and optimizer.COMPARES_LOSSES:
        reason = "the optimizer compares losses, which needs single precision at least"
        return defaults.Choice("float32", reason)
    choice = defaults.choose_precision(parts.precision, network, batch_size, parts.device)
    return _pinned(parts.settings, choice)


def _pinned(settings: FitSettings, choice: defaults.Choice[str]) -> defaults.Choice[str]:
    """The precision of the checkpoint to resume, since a measurement may differ; else the choice.

    A precision that is set, also by the environment variable, counts more.
    """
    is_set = settings.precision != AUTO or precision_from_environment(PRECISIONS) is not None
    if not settings.resume or settings.checkpoint is None or is_set:
        return choice
    precision = saved_fingerprint(settings.checkpoint).get("precision")
    if not isinstance(precision, str) or precision not in DTYPES or precision == choice.value:
        return choice
    return defaults.Choice(precision, "the checkpoint was written in this precision")


def resolve_patience(
    settings: FitSettings, epochs: int, rows: int, batch_size: int, decisions: Decisions
) -> int | None:
    """Epochs to wait for a lower validation loss, or None to never stop early."""
    wanted = settings.early_stopping
    if not is_bool(wanted):
        return int(wanted)
    if not wanted:
        return None
    return decisions.choose("patience", defaults.choose_patience(epochs, rows, batch_size))


def resolve_plan(
    settings: FitSettings,
    optimizer: OptimizerSpec,
    epochs: int,
    rows: int,
    batch_size: int,
    device: torch.device,
    decisions: Decisions,
) -> Plan:
    """How long to train, and when to stop."""
    return Plan(
        max_epochs=epochs,
        batch_size=batch_size,
        patience=resolve_patience(settings, epochs, rows, batch_size, decisions),
        clip_norm=optimizer.clip_norm,
        ema_decay=optimizer.ema_decay,
        plateau=defaults.choose_plateau(epochs) if optimizer.schedule == "plateau" else None,
        check_every=1 if device.type == "cpu" else CHECK_EVERY_ON_GPU,
        steps=epochs * -(-rows // batch_size),
    )


def trainer_of(
    settings: FitSettings,
    network: CodeNetwork,
    objective: Objective,
    corruption: Corruption | None,
    optimizer: OptimizerSpec,
    plan: Plan,
    *,
    bf16: bool,
) -> Trainer:
    """The trainer of `network`; `give_rows` gives it its rows."""
    loss, corrupt = objective.loss, None
    if corruption is not None:
        corrupt = functools.partial(corruption, facts=network.facts)
    method = optimizer.build(network, loss)
    parts = FitParts(
        network,
        objective,
        corrupt,
        method,
        plan,
        bf16=bf16,
        needs_autograd=optimizer.OBSERVES_FORWARD,
    )
    return Trainer(
        network=network,
        engine=select_engine(parts),
        objective=objective,
        optimizer=method,
        factors=optimizer.factors,
        batches=batches_of(plan.batch_size, settings.seed),
        plan=plan,
        state=State(seed=settings.seed),
        callbacks=settings.callbacks,
        reporter=settings.reporter,
        monitor=Monitor(loss.reconstruct, optimizer.gradients_per_step),
    )


def fill_value_of(rows: Rows) -> Tensor | float:
    """(D,): the mean of the known values if any may be missing, else 0."""
    return mean_row(rows).flatten() if rows.preparation.allow_missing else 0.0


def give_rows(trainer: Trainer, rows: Rows, batch_size: int) -> None:
    """Let a trainer draw its batches from `rows`, as it suits where these are stored."""
    trainer.batches = functools.partial(_batches_of_rows, rows, batch_size, trainer.state.seed)
    trainer.read_ahead = rows.prefetch


def _batches_of_rows(rows: Rows, size: int, seed: int, n_rows: int, epoch: int) -> Sequence[Index]:
    del n_rows
    return rows.batches(size, seed=seed, epoch=epoch)


def batches_of(size: int, seed: int) -> Callable[[int, int], Sequence[Index]]:
    """A function of (rows, epoch) that gives the positions of each batch of `size` rows."""
    return functools.partial(_shuffled, size, seed)


def _shuffled(size: int, seed: int, rows: int, epoch: int) -> list[Index]:
    return shuffled_batches(rows, size, seed=seed, epoch=epoch)
