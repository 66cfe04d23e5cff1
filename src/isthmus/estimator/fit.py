"""One fit: resolve its parts, build, start and train the network, and compare it with PCA."""

import functools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.data.loading.rows import Rows
from isthmus.data.loading.streamed_rows import StreamedRows
from isthmus.data.row_numbers import AllRowsExcept
from isthmus.data.source import Source
from isthmus.errors import DivergenceError, RequestError
from isthmus.estimator import defaults
from isthmus.estimator.code_refinement import (
    NO_REFINEMENT,
    CodeRefinement,
    check_refinable,
    decide_refinement,
    explain_refinement,
    obstacle,
    reconstruct,
)
from isthmus.estimator.fitted_model import FittedModel
from isthmus.estimator.pca_fallback import (
    beats_pca,
    describe_outcome,
    describe_pca,
    is_evidence,
    pca_figures,
    why_pca,
)
from isthmus.estimator.resolve import (
    ResolvedFit,
    ResolvedTraining,
    batches_of,
    enough_epochs,
    fill_value_of,
    give_rows,
    resolve_corruption,
    resolve_fit,
    resolve_optimizer,
    resolve_penalties,
    resolve_plan,
    resolve_training,
    trainer_of,
)
from isthmus.estimator.settings import AUTO, FULL, FitSettings
from isthmus.estimator.split import find_components, mean_row, open_rows
from isthmus.imputation.imputer import min_imputer_rows
from isthmus.imputation.lazy import LazyImputer, lazy_imputer
from isthmus.kinds import CodeNetwork
from isthmus.losses import Objective
from isthmus.pretraining import PCASolution, PretrainingJob, Random, registered_name
from isthmus.pretraining.pca import EXACT_SIDE
from isthmus.randomness import reseed
from isthmus.runtime.compiler import skip_compiler_import
from isthmus.runtime.threads import is_small, isolated_rng, limit_threads
from isthmus.training.cancellation import check_cancelled
from isthmus.training.checkpoint import Checkpointer
from isthmus.training.diagnostics.findings import Issue
from isthmus.training.reporters import warn
from isthmus.training.state import State
from isthmus.training.trainer import Trainer
from isthmus.types import Array, Index, RowNumbers

SQUARED, LAYERWISE = "squared", "layerwise"
"""The folders, inside that of the checkpoints, of a second fit: for squared error, or from layers
that were trained one by one."""

FitFacts = dict[str, Any]
"""What was chosen and what it cost, as plain JSON values."""


@dataclass(kw_only=True)
class FitResult:
    """A fitted model and the record of its fit."""

    model: FittedModel
    state: State
    train: RowNumbers
    validation: Index
    facts: FitFacts
    trainer: Trainer
    """Continues the training, for `partial_fit`."""


def fit_rows(
    settings: FitSettings,
    source: Source,
    weight: Array,
    validation_source: Source | None = None,
) -> FitResult:
    """Fit a model to the rows of a source; `weight` (n,) says how much each row counts."""
    return FitRun(resolve_fit(settings, source, weight, validation_source)).run()


class FitRun:
    """One fit, from its resolved parts to a fitted model."""

    def __init__(self, parts: ResolvedFit) -> None:
        self.parts, self.settings, self.decisions = parts, parts.settings, parts.decisions
        self.kind, self.n_components = parts.kind, 0
        self.threads, self.work = 1, 0
        # A model that returns to PCA learns from the validation rows too.
        self.split, self.train, self.fill_value = parts.split, parts.train, parts.fill_value
        self.mean: Tensor | None = None
        self.initial_weights: dict[str, Tensor] = {}
        self.outcome = ""

    def run(self) -> FitResult:
        """Build, start and train the network."""
        parts = self.parts
        with skip_compiler_import(), isolated_rng(parts.device):
            reseed(self.settings.seed, parts.device)
            network, solution = self._build()
            training = resolve_training(parts, network)
            trainer = self._trainer(network, training)
            self._note_remarks(network, trainer.state, training)
            self.work = work_of(network, training.plan.batch_size)
            with limit_threads(self.work, parts.device):
                self._note_threads(trainer.engine.threads)
                run_pretraining(parts, training, network, trainer)
                trainer.run()
                refinement = self._refinement(network, trainer.state)
                gained = solution is None or self._gained(
                    network, solution, trainer.state, refinement
                )
                unbeaten = None if gained else solution
                return self._conclude(network, training, trainer, refinement, unbeaten)

    def _build(self) -> tuple[CodeNetwork, PCASolution | None]:
        """The network and, if it starts there, the principal components."""
        parts = self.parts
        self.n_components, solution = self._code_size()
        self.kind = parts.kind.resolved(parts.facts, self.n_components)
        network = self.kind.build(parts.facts, self.n_components)
        network = network.to(parts.device, parts.train.dtype)
        network.set_fill_value(parts.fill_value)
        check_refinable(self.settings.transform_max_iter, network, self.n_components)
        if solution is not None:
            # `zero_nonlinear` covers the stacks; a kind may have other layers that begin at zero.
            self.initial_weights = {
                name: values.clone()
                for name, values in network.state_dict().items()
                if not name.startswith(("encoder.", "decoder."))
            }
            self._start_at_pca(network, solution)
        return network, solution

    def _code_size(self) -> tuple[int, PCASolution | None]:
        """The number of components, and the principal components to start from, if any."""
        parts, wanted, width = self.parts, self.settings.n_components, self.parts.facts.n_features
        if wanted is not None:
            try:
                parts.kind.check_width(parts.facts, wanted)
            except RequestError as error:
                raise RequestError(f"{parts.split.source.origin}: {error}") from error
            return wanted, self._components(wanted) if parts.starts_at_pca else None
        solution = self._components(min(defaults.MOST_COMPONENTS, width))
        choice = defaults.choose_components(solution, width)
        size = self.decisions.choose("n_components", choice)
        return size, solution.first(size) if parts.starts_at_pca else None

    def _components(self, n_components: int) -> PCASolution:
        rows, seen = self.train, self.parts.log_counts
        if isinstance(rows, StreamedRows) and self.parts.facts.n_features > EXACT_SIDE:
            rows = rows.in_memory()  # more than one pass would be needed over all of them
        seed = self.settings.split_seed
        solution = find_components(rows, n_components, seed, self.fill_value, seen)
        self.mean = solution.mean if rows is self.train and seen is None else None
        return solution

    def _start_at_pca(self, network: CodeNetwork, solution: PCASolution) -> None:
        dtype = self.train.dtype
        network.start_linear(
            solution.components.to(dtype),
            solution.scales.to(dtype),
            solution.mean.to(dtype),
            self.parts.loss.link,
        )

    def _trainer(self, network: CodeNetwork, training: ResolvedTraining) -> Trainer:
        parts = self.parts
        trainer = trainer_of(
            self.settings,
            network,
            Objective(parts.loss, parts.penalties, allow_missing=parts.preparation.allow_missing),
            parts.corruption,
            training.optimizer,
            training.plan,
            bf16=training.precision == "bf16",
        )
        engine = trainer.engine
        self.decisions.add("engine", engine.name, engine.explanation)
        trainer.train, trainer.validation = parts.train, parts.validation
        give_rows(trainer, parts.train, training.plan.batch_size)
        trainer.checkpointer = self._checkpointer(training)
        return trainer

    def _checkpointer(self, training: ResolvedTraining) -> Checkpointer | None:
        folder = self.settings.checkpoint
        if folder is None:
            return None
        checkpointer = Checkpointer(folder, self._fingerprint(training))
        if not self.settings.resume:
            checkpointer.clear()
            for name in (SQUARED, LAYERWISE):
                replace(checkpointer, folder=folder / name).clear()
        return checkpointer

    def _fingerprint(self, training: ResolvedTraining) -> dict[str, Any]:
        """What must be the same for a checkpoint to be resumed."""
        parts = self.parts
        return {
            "seed": self.settings.seed,
            **parts.split.fingerprint(),
            "preparation": parts.preparation.scaling,
            "kind": self.kind.to_json(),
            "loss": parts.loss.to_json(),
            "penalties": [penalty.to_json() for penalty in parts.penalties],
            "corruption": parts.corruption and parts.corruption.to_json(),
            "optimizer": training.optimizer.to_json(),
            "pretraining": training.pretraining.to_json(),
            "n_components": self.n_components,
            "max_epochs": training.plan.max_epochs,
            "batch_size": training.plan.batch_size,
            "patience": training.plan.patience,
            "precision": training.precision,
            "device": parts.device.type,
        }

    def _note_remarks(self, network: CodeNetwork, state: State, training: ResolvedTraining) -> None:
        parts, size = self.parts, training.plan.batch_size
        slow = tuple[str, ...]()
        if self.settings.precision != AUTO:
            slow = defaults.precision_remarks(training.precision, network, size, parts.device)
        for text in (*parts.preparation.remarks, *parts.split.remarks, *slow):
            state.history.append({"event": "note", "epoch": 0, "message": text})
            self.settings.reporter.message(text)

    def _note_threads(self, of_engine: int | None) -> None:
        self.threads, reason = torch.get_num_threads(), "PyTorch is set to this number"
        if of_engine is not None:
            self.threads, reason = of_engine, "the engine divides a batch between two at most"
        elif is_small(self.work, self.parts.device):
            reason = "one thread is the fastest for batches of so few multiply-adds"
        self.decisions.add("threads", self.threads, reason)

    def _refinement(self, network: CodeNetwork, state: State) -> CodeRefinement:
        """How the codes of rows are found."""
        parts, wanted, refinement = self.parts, self.settings.transform_max_iter, NO_REFINEMENT
        plain = parts.corruption is None and not parts.penalized and state.best_epoch > 0
        if obstacle(network, self.n_components) is None:
            refinement = decide_refinement(
                wanted,
                network,
                parts.loss,
                self.train,
                parts.validation or self.train,
                plain=plain,
                seed=self.settings.seed,
            )
        if wanted == AUTO:
            choice = explain_refinement(refinement, plain=plain, linear=network.decodes_linearly)
            self.decisions.choose("transform_max_iter", choice)
        return refinement

    def _gained(
        self,
        network: CodeNetwork,
        solution: PCASolution,
        state: State,
        refinement: CodeRefinement,
    ) -> bool:
        """Whether the trained network is kept, rather than the PCA it started from."""
        parts = self.parts
        if not parts.is_comparable_to_pca:
            return True
        # The start itself, in another precision, is no gain.
        if parts.validation is None or not is_evidence(parts.distinct) or state.best_epoch == 0:
            return False
        linear = network.decodes_linearly and network.output is None
        plane = linear and not parts.preparation.allow_missing
        if plane and parts.corruption is None and parts.loss.MINIMIZED_BY_PCA:
            # Its reconstructions lie in a plane of K dimensions, and PCA's plane is the best.
            return False
        round_trip = functools.partial(reconstruct, refinement, network, parts.loss)
        rows = parts.train, parts.validation
        return beats_pca(round_trip, network.clamp_output, *rows, solution, parts.distinct)

    def _conclude(
        self,
        network: CodeNetwork,
        training: ResolvedTraining,
        trainer: Trainer,
        refinement: CodeRefinement,
        unbeaten: PCASolution | None,
    ) -> FitResult:
        """The result: the trained network, that of a second fit, or PCA."""
        state = trainer.state
        if unbeaten is not None and not self.parts.loss.MINIMIZED_BY_PCA:
            # PCA minimises squared error, and so must a network that is to beat it.
            loss = type(self.parts.loss).__name__
            reason = f"with {loss} the network was no better than PCA, which minimises this error"
            return self._fit_again(SQUARED, "loss", "squared", reason)
        if self._learned_the_average(network, training, trainer):
            second = self._restart_layerwise(training, state)
            if second.state.best_loss < state.best_loss:
                return second
        if unbeaten is not None:
            self._return_to_pca(network, training, state, unbeaten)
            refinement = self._refinement(network, state)
        else:
            self._note_comparison()
            for finding in () if trainer.monitor is None else trainer.monitor.diagnosis.severe:
                warn(finding.message)
        return self._result(network, training, trainer, refinement)

    def _fit_again(self, folder: str, name: str, value: str, reason: str) -> FitResult:
        """A second fit with one other setting, and checkpoints in a folder of its own."""
        checkpoint, split = self.settings.checkpoint, self.parts.split
        changes: dict[str, Any] = {"checkpoint": checkpoint and checkpoint / folder, name: value}
        settings = replace(self.settings, **changes)
        result = fit_rows(settings, split.source, split.weight, split.validation_source)
        decision = defaults.Decision(name=name, value=value, reason=reason)
        result.facts["decisions"] = [*result.facts["decisions"], decision]
        return result

    def _learned_the_average(
        self, network: CodeNetwork, training: ResolvedTraining, trainer: Trainer
    ) -> bool:
        """Whether a random start that was chosen by default has ended at the average row."""
        chosen = self.settings.pretraining == AUTO and isinstance(training.pretraining, Random)
        monitor = trainer.monitor
        average = monitor is not None and monitor.diagnosis.issue == Issue.AVERAGE
        return chosen and average and network.encoder is not None

    def _restart_layerwise(self, training: ResolvedTraining, failed: State) -> FitResult:
        text = "starting again, with layers trained one by one (pretraining='autoencoder')"
        self.settings.reporter.message(text)
        reason = "from random weights the network learned nothing but the average row"
        second = self._fit_again(LAYERWISE, "pretraining", "autoencoder", reason)
        start = registered_name(training.pretraining)
        event = {"event": "restart", "epoch": 0, "message": text, "start": start}
        event["given_up"] = [record for record in failed.history if "train" in record]
        second.state.history.insert(0, event)
        return second

    def _return_to_pca(
        self,
        network: CodeNetwork,
        training: ResolvedTraining,
        state: State,
        solution: PCASolution,
    ) -> None:
        """Replace the trained network by the PCA of all rows."""
        parts = self.parts
        enough = enough_epochs(training.optimizer, len(parts.split.train), training.plan.batch_size)
        text = why_pca(state, parts.distinct, few_epochs=state.epoch < enough.value)
        event = {"event": "pca", "epoch": 0, "message": text}
        if parts.validation is not None:
            event["validation"] = pca_figures(
                solution, parts.validation, network, parts.preparation.unit
            )
        # Since nothing was gained over PCA, it may learn from the validation rows too.
        self.split = parts.split.without_validation()
        rows, validation = len(self.split.train), len(parts.split.validation)
        self.outcome = describe_pca(rows, validation, parts.distinct)
        self.train = self.split.open_train(parts.preparation, parts.train.dtype, parts.device)
        self.fill_value = fill_value_of(self.train)
        network.load_state_dict(self.initial_weights, strict=False)
        network.zero_nonlinear()
        network.set_fill_value(self.fill_value)
        self._start_at_pca(network, self._components(self.n_components))
        state.best_epoch = 0
        state.history.append(event)
        self.settings.reporter.message(text)
        self.decisions.add("outcome", "pca", text)

    def _note_comparison(self) -> None:
        parts = self.parts
        if parts.starts_at_pca and parts.is_comparable_to_pca:
            reason = "its error on the validation rows is lower than PCA's by more than chance"
            self.decisions.add("outcome", "network", reason)

    def _result(
        self,
        network: CodeNetwork,
        training: ResolvedTraining,
        trainer: Trainer,
        refinement: CodeRefinement,
    ) -> FitResult:
        parts, state = self.parts, trainer.state
        if refinement.steps:
            text = refinement.message
            state.history.append({"event": "refined", "epoch": state.best_epoch, "message": text})
            self.settings.reporter.message(text)
        mean = self._mean_row()
        trainer.batches = batches_of(training.plan.batch_size, self.settings.seed)
        return FitResult(
            model=FittedModel(
                network=network,
                kind=self.kind,
                loss=parts.loss,
                preparation=parts.preparation,
                mean=mean,
                n_components=self.n_components,
                refinement=refinement,
                imputer=self._imputer(network, mean, refinement),
            ),
            state=state,
            train=self.split.train,
            validation=self.split.validation,
            facts=self._facts(network, training, trainer, refinement),
            trainer=trainer.released(),
        )

    def _mean_row(self) -> Tensor:
        """The mean row; for rows on disk that of PCA, which saves one pass over them."""
        if self.mean is None or not self.split.source.is_streamed:
            return mean_row(self.train)
        return self.mean.to(self.train.dtype).reshape(1, *self.parts.facts.shape).cpu()

    def _imputer(
        self, network: CodeNetwork, mean: Tensor, refinement: CodeRefinement
    ) -> LazyImputer | None:
        parts = self.parts
        if not parts.preparation.allow_missing:
            return None
        rows, centre = (self.train, parts.validation or self.train), mean.to(parts.device)
        metric, seed = refinement.metric, self.settings.seed
        return lazy_imputer(network, parts.loss, rows, metric, centre, seed, self.work)

    def _facts(
        self,
        network: CodeNetwork,
        training: ResolvedTraining,
        trainer: Trainer,
        refinement: CodeRefinement,
    ) -> FitFacts:
        parts, plan, state = self.parts, training.plan, trainer.state
        return {
            "outcome": self.outcome or describe_outcome(state, plan.max_epochs),
            "rows": len(parts.split.source),
            "training_rows": len(parts.split.train),
            "validation_rows": len(parts.split.validation),
            "n_components": self.n_components,
            "batch_size": plan.batch_size,
            "max_epochs": plan.max_epochs,
            "epochs": state.epoch,
            "stopped": state.stopped,
            "precision": training.precision,
            "device": str(parts.device),
            "threads": self.threads,
            "engine": trainer.engine.name,
            **self.kind.device_settings(parts.device, parts.facts),
            "pretraining": registered_name(training.pretraining),
            "optimizer": type(training.optimizer).__name__,
            "weights": sum(p.numel() for p in network.parameters()),
            "training_seconds": round(state.seconds, 3),
            **_pretraining_seconds(state),
            "transform_max_iter": refinement.steps,
            "decisions": self.decisions.records,
        }


def work_of(network: CodeNetwork, batch_size: int) -> int:
    """About how many multiply-adds a batch takes."""
    return batch_size * network.multiply_adds


def run_pretraining(
    parts: ResolvedFit, training: ResolvedTraining, network: CodeNetwork, trainer: Trainer
) -> None:
    """Run the pretraining, unless the checkpoint that the trainer resumes is past it."""
    checkpointer = trainer.checkpointer
    if checkpointer is not None and checkpointer.path.exists():
        return
    records = training.pretraining.run(
        PretrainingJob(
            network=network,
            loss=parts.loss,
            train=trainer.train,
            validation=trainer.validation,
            seed=trainer.state.seed,
            report=trainer.reporter.message,
            check_cancelled=check_cancelled,
        )
    )
    name = registered_name(training.pretraining)
    trainer.state.history += [{"pretraining": name} | record for record in records]
    if records and checkpointer is not None:
        checkpointer.last_s = -math.inf  # a long pretraining is saved with the first step


def _pretraining_seconds(state: State) -> dict[str, float]:
    """The time of the pretraining, if there was one; a resumed fit has it in its history."""
    seconds = [record["seconds"] for record in state.history if "pretraining" in record]
    return {"pretraining_seconds": max(seconds)} if seconds else {}


def train_one_epoch(
    model: FittedModel,
    trainer: Trainer,
    source: Source,
    weight: Array,
    batch_size: int | str | None,
) -> int:
    """Train a fitted model for one more epoch over the rows of a source; return the batch size.

    None leaves the batch size of the fit.

    Raises DivergenceError, with the weights as before, if the loss is not finite.
    """
    rows = rows_of_weight(model, source, weight)
    size = trainer.plan.batch_size
    if batch_size is not None:
        size = len(rows) if batch_size == FULL else int(batch_size)
    give_rows(trainer, rows, size)
    work, device = work_of(model.network, size), model.device
    with _imputer_relearned(model, rows, work), isolated_rng(device), limit_threads(work, device):
        trainer.train_one_epoch(rows)
    trainer.batches = batches_of(size, trainer.state.seed)
    return size


def rows_of_weight(model: FittedModel, source: Source, weight: Array) -> Rows:
    """The prepared rows of a source whose weight is above 0."""
    chosen = AllRowsExcept(len(source)) if source.is_streamed else np.flatnonzero(weight > 0)
    return open_rows(
        source,
        model.preparation,
        chosen,
        weight[chosen],
        dtype=model.dtype,
        device=model.device,
    )


@contextmanager
def _imputer_relearned(model: FittedModel, rows: Rows, work: int) -> Iterator[None]:
    """A context that changes the network, after which its imputer is learned from these rows.

    If they are too few to learn from, it stays the imputer of the network as it was before.
    """
    imputer, centre = model.imputer, model.mean.to(rows.device)
    relearn = imputer is not None
    if imputer is not None and len(rows) < min_imputer_rows(centre, model.n_components):
        imputer()
        relearn = False
    try:
        yield
    except DivergenceError:
        relearn = False  # the weights are as before
        raise
    finally:
        if relearn:
            metric, both = model.refinement.metric, (rows, rows)
            model.imputer = lazy_imputer(model.network, model.loss, both, metric, centre, 0, work)


def trainer_of_saved(
    settings: FitSettings,
    model: FittedModel,
    facts: Mapping[str, Any],
    history: list[dict[str, Any]],
    rows: int,
) -> Trainer:
    """The trainer of a model that was loaded, from the facts that were saved with it."""
    size, training_rows = int(facts["batch_size"]), int(facts["training_rows"])
    ignored = defaults.Decisions()
    optimizer = resolve_optimizer(settings, model.network, training_rows, ignored)
    plan = resolve_plan(settings, optimizer, 1, rows, size, model.device, ignored)
    penalties = resolve_penalties(settings, model.kind)
    allow_missing = model.network.facts.allow_missing
    trainer = trainer_of(
        settings,
        model.network,
        Objective(model.loss, penalties, allow_missing=allow_missing),
        resolve_corruption(settings, model.kind),
        optimizer,
        plan,
        bf16=facts["precision"] == "bf16",
    )
    trainer.state = State(seed=settings.seed, epoch=int(facts["epochs"]), history=history)
    return trainer
