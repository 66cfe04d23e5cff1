"""One fit from rows to a trained network: split, prepare, build, start, train."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from isthmus.counts import log_counts
from isthmus.data import Preparation, StreamedRows, check_any, check_rows, is_streamed
from isthmus.errors import RequestError
from isthmus.estimator import defaults, pca_fallback, resolve, shared_cache
from isthmus.estimator.code_refinement import (
    NO_REFINEMENT,
    CodeRefinement,
    check_free,
    decide_refinement,
    obstacle,
    rebuilt,
)
from isthmus.estimator.pca_fallback import beats_pca, is_evidence, pca_figures
from isthmus.estimator.settings import AUTO, FULL, FitSettings
from isthmus.imputation.lazy import LazyImputer, lazy_imputer
from isthmus.kinds import CodeNetwork, Kind
from isthmus.losses import Reconstruction, Squared
from isthmus.pretraining import PCA, PRETRAININGS, PCASolution, Random, name_of
from isthmus.pretraining.pca import EXACT_SIDE
from isthmus.randomness import reseed
from isthmus.runtime import device as world
from isthmus.runtime import malloc
from isthmus.training.checkpoint import Checkpointer
from isthmus.training.diagnostics.findings import Issue
from isthmus.training.reporters import warn
from isthmus.training.state import State
from isthmus.training.trainer import Trainer
from isthmus.types import Array, Index, Numbers, Source


@dataclass(kw_only=True)
class FitResult:
    """What a fit leaves behind."""

    network: CodeNetwork
    kind: Kind
    loss: Reconstruction
    preparation: Preparation
    mean: Tensor
    """(1, *network_shape): the prepared training rows' mean, what no code at all would give."""

    refinement: CodeRefinement
    imputer: LazyImputer | None
    """Where rows may have gaps."""

    state: State
    train: Numbers
    validation: Index
    facts: dict[str, Any]
    trainer: Trainer


SQUARED, LAYERWISE = "squared", "layerwise"
"""The folders, inside that of the checkpoints, of a second fit: for squared error, or from layers
learned one by one."""

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bf16": torch.float32}


class FitRun:
    """One fit, its parts resolved in order: each may depend on those before it."""

    def __init__(
        self,
        settings: FitSettings,
        source: Source,
        weight: Array,
        validation_source: Source | None = None,
    ) -> None:
        self.settings, self.source = settings, source
        self.device = world.resolve_device(settings.device)
        self.split = shared_cache.split_of(settings, source, weight, validation_source)
        self.loss, self.preparation = resolve.loss_and_preparation(settings, self.split)
        self.kind = resolve.kind_of(settings, source, self.loss)
        self.noise = resolve.noise_of(settings, self.kind)
        if self.noise is not None and self.noise.ADDS_MISSING:
            self.preparation = replace(self.preparation, allow_missing=True)
        if validation_source is not None:
            check_rows(validation_source, at_least=1, allow_missing=self.preparation.allow_missing)
            check_any(validation_source)
        self.precision = self._first_precision()
        seen_as = self.preparation, DTYPES[self.precision], self.device
        self.train, self.validation = shared_cache.opened(self.split, *seen_as)
        self.pretraining = resolve.pretraining_of(settings, self.kind)
        self.at_pca = isinstance(self.pretraining, PCA)
        self.penalties = resolve.penalties_of(settings, self.kind)
        self.distinct = 0 if self.validation is None else shared_cache.distinct_of(self.validation)
        """How many different rows are held out."""

        self.fill_value = self._find_fill_value()
        self.mean: Tensor | None = None
        self.log_counts = log_counts(self.preparation.facts)
        self.threads, self.work, self.engine = 1, 0, ""
        self.pca_fallback = pca_fallback.Outcome(len(self.split.train), len(self.split.validation))

    def run(self) -> FitResult:
        """Build, start and train the network."""
        with world.without_compiler(), world.private_randomness(self.device):
            reseed(self.settings.seed, self.device)
            if not resolve.is_dense(self.settings, self.kind):
                world.import_ahead()
            network, solution = self._built()
            trainer = self._trainer(network)
            self._remark(trainer.state)
            self.work = resolve.work_of(network, trainer.plan.batch_size)
            with world.threads(self.work, self.device):
                self.threads = torch.get_num_threads()
                with malloc.kept(self.work, self.device):
                    unbeaten = self._trained(network, solution, trainer)
                return self._concluded(network, trainer, unbeaten)

    def _trained(
        self, network: CodeNetwork, solution: PCASolution | None, trainer: Trainer
    ) -> PCASolution | None:
        """Train the network; the principal components over which nothing was gained, if any."""
        resolve.pretrain(self.pretraining, self.loss, network, trainer)
        # Who keeps a running mean of the weights takes one step after the other.
        many = None if trainer.plan.ema_decay else trainer.stride
        self.engine = (many or trainer.step).engine
        state = trainer.run()
        self.refinement = self._decide_refinement(network, state)
        gained = solution is None or self._gained(network, solution, state)
        return None if gained else solution

    def _concluded(
        self, network: CodeNetwork, trainer: Trainer, unbeaten: PCASolution | None
    ) -> FitResult:
        """What is left behind: by this fit, by a second one where that is better, or PCA."""
        state = trainer.state
        if unbeaten is not None and not isinstance(self.loss, Squared):
            # PCA minimises squared error, and so must whatever is to beat it.
            return self._again(SQUARED, loss="squared")
        if self._curable(network, trainer):
            cured = self._cured(state)
            if cured.state.best_loss < state.best_loss:
                return cured
        if unbeaten is not None:
            self._return_to_pca(network, state, unbeaten)
            self.refinement = self._decide_refinement(network, state)
        elif trainer.monitor is not None:
            for finding in trainer.monitor.diagnosis.severe:
                warn(finding.message)
        return self._fitted(network, trainer)

    def _built(self) -> tuple[CodeNetwork, PCASolution | None]:
        """The network, at the principal components where it starts there."""
        self.n_components, solution = self._size_and_start()
        facts = self.preparation.facts
        self.kind = self.kind.resolved(facts, self.n_components)
        network = self.kind.build(facts, self.n_components).to(self.device, self.train.dtype)
        network.set_fill_value(self.fill_value)
        check_free(self.settings.transform_max_iter, network, self.n_components)
        if solution is not None:
            self._start(network, solution)
        elif self.settings.pretraining == AUTO:
            self.pretraining = PRETRAININGS[defaults.choose_start(network)]()
        self.optimizer = resolve.optimizer_of(self.settings, network, len(self.train))
        return network, solution

    def _again(self, folder: str, **changes: Any) -> FitResult:
        """A second fit, with some settings changed and checkpoints in a folder of its own."""
        place = self.settings.checkpoint
        settings = replace(self.settings, checkpoint=place and place / folder, **changes)
        rows = self.split
        return FitRun(settings, rows.source, rows.weight, rows.validation_source).run()

    def _curable(self, network: CodeNetwork, trainer: Trainer) -> bool:
        """Whether layers learned one by one may help a network that learned the average.

        Only where nobody asked for the start that failed.
        """
        chosen = self.settings.pretraining == AUTO and isinstance(self.pretraining, Random)
        ill = trainer.monitor is not None and trainer.monitor.diagnosis.issue == Issue.AVERAGE
        return chosen and ill and network.encoder is not None

    def _cured(self, failed: State) -> FitResult:
        text = "starting anew, from layers learned one by one (pretraining='autoencoder')"
        self.settings.reporter.message(text)
        cured = self._again(LAYERWISE, pretraining="autoencoder")
        start = name_of(self.pretraining)
        event = {"event": "restart", "epoch": 0, "message": text, "start": start}
        event["given_up"] = [record for record in failed.history if "train" in record]
        cured.state.history.insert(0, event)
        return cured

    def _remark(self, state: State) -> None:
        slow = defaults.remarks_on(self.precision, self.device)
        for text in (*self.preparation.remarks, *self.split.remarks, *slow):
            state.history.append({"event": "note", "epoch": 0, "message": text})
            self.settings.reporter.message(text)

    def _first_precision(self) -> str:
        # Whether bf16 pays depends on the network, which is not built yet.
        if self.settings.precision != "auto":
            return self.settings.precision
        values = len(self.split.train) * self.preparation.facts.n_features
        return defaults.choose_precision(values, None, self.device)

    def _size_and_start(self) -> tuple[int, PCASolution | None]:
        """The code size, and the principal components to start from, if any."""
        wanted, width = self.settings.n_components, self.preparation.facts.n_features
        if wanted is not None:
            self._check_width(wanted)
            return wanted, self._principal(wanted) if self.at_pca else None
        solution = self._principal(min(defaults.MOST_COMPONENTS, width))
        size = defaults.choose_components(solution, width)
        return size, solution.first(size) if self.at_pca else None

    def _check_width(self, wanted: int) -> None:
        try:
            self.kind.check_width(self.preparation.facts, wanted)
        except RequestError as error:
            raise RequestError(f"{self.source.origin}: {error}") from error

    def _find_fill_value(self) -> Tensor | float:
        """What stands in for missing values at first: (D,), the mean of those that are known."""
        return shared_cache.mean_of(self.train).flatten() if self.preparation.allow_missing else 0.0

    def _principal(self, n_components: int) -> PCASolution:
        rows = self.train
        if isinstance(rows, StreamedRows) and self.preparation.facts.n_features > EXACT_SIDE:
            rows = rows.in_memory()  # more than one pass would be needed over all of them
        solution = shared_cache.principal_of(
            rows, n_components, self.settings.split_seed, self.fill_value, self.log_counts
        )
        plain = rows is self.train and self.log_counts is None
        self.mean = solution.mean if plain else None
        return solution

    def _start(self, network: CodeNetwork, solution: PCASolution) -> None:
        dtype = self.train.dtype
        network.start_linear(
            solution.components.to(dtype),
            solution.scales.to(dtype),
            solution.mean.to(dtype),
            self.loss.link,
        )

    def _asks(self) -> bool:
        """Whether plain error is the aim, so that the result may be held against PCA's."""
        plain = self.settings.loss in ("auto", "squared")
        # Whoever declares counts asks for their likelihood, of which PCA knows nothing.
        plain = plain and self.preparation.counts is None
        plain = plain and not any(penalty.weight for penalty in self.penalties)
        # A bounded output starts near PCA, not at it: there is no PCA to return to.
        plain = plain and self.kind.output != "bounded"
        # Whoever asks for no held-out rows has asked for training to be trusted.
        trusted = self.validation is None and self.settings.validation_fraction != "auto"
        return plain and not trusted and self.settings.max_epochs != 0

    def _gained(self, network: CodeNetwork, solution: PCASolution, state: State) -> bool:
        if not self._asks():
            return True
        # The start itself, read through another precision, is no gain.
        if self.validation is None or not is_evidence(self.distinct) or state.best_epoch == 0:
            return False
        plane = (
            network.decoder is None
            and network.output is None
            and not self.preparation.allow_missing
        )
        if plane and self.noise is None and isinstance(self.loss, Squared):
            # What it rebuilds lies in a plane of K dimensions, and PCA's is the best of them all.
            return False
        rebuild = functools.partial(rebuilt, self.refinement, network, self.loss)
        rows = self.train, self.validation
        return beats_pca(rebuild, network.clamp_output, *rows, solution, self.distinct)

    def _return_to_pca(self, network: CodeNetwork, state: State, solution: PCASolution) -> None:
        few = state.epoch < self._enough_epochs(self.plan.batch_size)
        text = pca_fallback.why_pca(state, self.distinct, few_epochs=few)
        event = {"event": "pca", "epoch": 0, "message": text}
        if self.validation is not None:
            event["validation"] = pca_figures(
                solution, self.validation, network, self.preparation.unit
            )
        # With nothing gained over PCA, PCA may as well learn from the held-out rows too.
        self.split = self.split.together()
        self.pca_fallback.returned(len(self.split.train), self.distinct)
        self.train = self.split.open_train(self.preparation, DTYPES[self.precision], self.device)
        self.fill_value = self._find_fill_value()
        network.set_fill_value(self.fill_value)
        network.zero_nonlinear()
        self._start(network, self._principal(self.n_components))
        state.best_epoch = 0
        state.history.append(event)
        self.settings.reporter.message(text)

    def _trainer(self, network: CodeNetwork) -> Trainer:
        settings, rows = self.settings, len(self.train)
        wish = self.optimizer.choose_batch_size(rows)
        asked = rows if settings.batch_size == FULL else settings.batch_size
        batch = int(asked or wish or defaults.choose_batch_size(rows))
        epochs = settings.max_epochs
        epochs = self._enough_epochs(batch) if epochs is None else epochs
        if self.at_pca and self._asks() and not is_evidence(self.distinct):
            epochs = 0  # what cannot be judged would be thrown away
        values = rows * self.preparation.facts.n_features
        open_yet = settings.precision == "auto" and self.precision == "float32"
        if open_yet and not self.optimizer.COMPARES_LOSSES:
            self.precision = defaults.choose_precision(values, network, self.device)
        self.plan = resolve.plan_of(settings, self.optimizer, epochs, rows, batch, self.device)
        trainer = resolve.trainer_of(
            settings,
            network,
            self.kind,
            self.loss,
            self.optimizer,
            self.plan,
            bf16=self.precision == "bf16",
        )
        trainer.train, trainer.validation = self.train, self.validation
        resolve.read_by(trainer, self.train, batch)
        trainer.checkpointer = self._checkpointer()
        return trainer

    def _enough_epochs(self, batch_size: int) -> int:
        evaluations, wanted = self.optimizer.gradients_per_step, self.optimizer.GRADIENT_BUDGET
        return defaults.choose_epochs(len(self.split.train), batch_size, evaluations, wanted)

    def _checkpointer(self) -> Checkpointer | None:
        if self.settings.checkpoint is None:
            return None
        checkpointer = Checkpointer(self.settings.checkpoint, self._fingerprint())
        if not self.settings.resume:
            checkpointer.clear()
            for folder in (SQUARED, LAYERWISE):
                replace(checkpointer, folder=self.settings.checkpoint / folder).clear()
        return checkpointer

    def _fingerprint(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be resumed."""
        return {
            "seed": self.settings.seed,
            **self.split.fingerprint(),
            "preparation": self.preparation.scaling,
            "kind": self.kind.to_json(),
            "loss": self.loss.to_json(),
            "penalties": [penalty.to_json() for penalty in self.penalties],
            "corruption": repr(self.settings.corruption),
            "optimizer": self.optimizer.to_json(),
            "pretraining": self.pretraining.to_json(),
            "n_components": self.n_components,
            "max_epochs": self.plan.max_epochs,
            "batch_size": self.plan.batch_size,
            "patience": self.plan.patience,
            "precision": self.precision,
            "device": self.device.type,
        }

    def _decide_refinement(self, network: CodeNetwork, state: State) -> CodeRefinement:
        """How the codes of rows will be found."""
        if obstacle(network, self.n_components):
            return NO_REFINEMENT
        free = self.noise is None and not any(penalty.weight for penalty in self.penalties)
        return decide_refinement(
            self.settings.transform_max_iter,
            network,
            self.loss,
            self.train,
            self.validation or self.train,
            plain=free and state.best_epoch > 0,
            seed=self.settings.seed,
        )

    def _imputer(self, network: CodeNetwork, mean: Tensor) -> LazyImputer | None:
        if not self.preparation.allow_missing:
            return None
        rows, centre = (self.train, self.validation or self.train), mean.to(self.device)
        metric, seed = self.refinement.metric, self.settings.seed
        return lazy_imputer(network, self.loss, rows, metric, centre, seed, self.work)

    def _report_refinement(self, state: State) -> None:
        if self.refinement.steps:
            text = self.refinement.message
            state.history.append({"event": "refined", "epoch": state.best_epoch, "message": text})
            self.settings.reporter.message(text)

    def _fitted(self, network: CodeNetwork, trainer: Trainer) -> FitResult:
        self._report_refinement(trainer.state)
        mean = self._mean_row()
        return FitResult(
            network=network,
            kind=self.kind,
            loss=self.loss,
            preparation=self.preparation,
            mean=mean,
            refinement=self.refinement,
            imputer=self._imputer(network, mean),
            state=trainer.state,
            train=self.split.train,
            validation=self.split.validation,
            facts=self._facts(network, trainer.state)
            | {"transform_max_iter": self.refinement.steps},
            trainer=self._released(trainer),
        )

    def _released(self, trainer: Trainer) -> Trainer:
        trainer.batches = resolve.batches_of(self.plan.batch_size, self.settings.seed)
        return trainer.released()

    def _mean_row(self) -> Tensor:
        """The mean row; of rows on disk, one pass over which costs, as it is known already."""
        if self.mean is None or not is_streamed(self.source):
            return shared_cache.mean_of(self.train)
        return self.mean.to(self.train.dtype).reshape(1, *self.preparation.facts.shape).cpu()

    def _facts(self, network: CodeNetwork, state: State) -> dict[str, Any]:
        return {
            "outcome": self.pca_fallback.told(state, self.plan.max_epochs),
            "rows": len(self.source),
            "training_rows": self.pca_fallback.learned,
            "validation_rows": self.pca_fallback.validation,
            "n_components": self.n_components,
            "batch_size": self.plan.batch_size,
            "max_epochs": self.plan.max_epochs,
            "epochs": state.epoch,
            "stopped": state.stopped,
            "precision": self.precision,
            "device": str(self.device),
            "threads": self.threads,
            "engine": self.engine,
            **self.kind.chosen_on(self.device, self.preparation.facts),
            "pretraining": name_of(self.pretraining),
            "optimizer": type(self.optimizer).__name__,
            "weights": sum(p.numel() for p in network.parameters()),
            "training_seconds": round(state.seconds, 3),
            **resolve.pretraining_facts(state),
        }
