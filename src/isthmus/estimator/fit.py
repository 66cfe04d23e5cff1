"""One fit from rows to a trained network: split, prepare, build, start, train."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from isthmus.counts import counts_seen
from isthmus.data import Preparation, StreamedRows, check_any, check_rows, is_streamed
from isthmus.errors import RequestError
from isthmus.estimator import defaults as choices
from isthmus.estimator import pca_fallback as outcome
from isthmus.estimator import resolve as parts
from isthmus.estimator import shared_cache as sharing
from isthmus.estimator.code_refinement import (
    NOT_AT_ALL,
    Refining,
    check_free,
    obstacle,
    rebuilt,
    settle,
)
from isthmus.estimator.pca_fallback import beats_pca, is_evidence, pca_figures
from isthmus.estimator.settings import AUTO, FULL, Request
from isthmus.imputation.lazy import Later, imputer_of
from isthmus.kinds import CodeNetwork, Kind
from isthmus.losses import Reconstruction, Squared
from isthmus.pretraining import PCA, PRETRAININGS, PCASolution, Random, name_of
from isthmus.pretraining.pca import EXACT_SIDE
from isthmus.randomness import reseed
from isthmus.runtime import device as world
from isthmus.runtime import malloc as memory
from isthmus.training.checkpoint import Checkpointer
from isthmus.training.diagnostics.findings import Disease
from isthmus.training.reporters import warn
from isthmus.training.state import State
from isthmus.training.trainer import Trainer
from isthmus.types import Array, Index, Numbers, Source


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


SQUARED, LAYERWISE = "squared", "layerwise"
"""The folders, inside that of the checkpoints, of a second fit: for squared error, or from layers
learned one by one."""

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bf16": torch.float32}


class Fitting:
    """One fit, its parts resolved in order: each may depend on those before it."""

    def __init__(
        self, request: Request, source: Source, weight: Array, validation: Source | None = None
    ) -> None:
        self.request, self.source = request, source
        self.device = world.resolve_device(request.device)
        self.division = sharing.division_of(request, source, weight, validation)
        self.loss, self.preparation = parts.loss_and_preparation(request, self.division)
        self.kind = parts.kind_of(request, source, self.loss)
        self.noise = parts.noise_of(request, self.kind)
        if self.noise is not None and self.noise.MAKES_GAPS:
            self.preparation = replace(self.preparation, gaps=True)
        if validation is not None:
            check_rows(validation, at_least=1, gaps=self.preparation.gaps)
            check_any(validation)
        self.precision = self._first_precision()
        seen_as = self.preparation, DTYPES[self.precision], self.device
        self.train, self.held_out = sharing.opened(self.division, *seen_as)
        self.pretraining = parts.pretraining_of(request, self.kind)
        self.at_pca = isinstance(self.pretraining, PCA)
        self.penalties = parts.penalties_of(request, self.kind)
        self.distinct = 0 if self.held_out is None else sharing.distinct_of(self.held_out)
        """How many different rows are held out."""

        self.stand_in = self._find_stand_in()
        self.mean: Tensor | None = None
        self.counts_seen = counts_seen(self.preparation.facts)
        self.threads, self.work, self.engine = 1, 0, ""
        self.outcome = outcome.Outcome(len(self.division.train), len(self.division.held_out))

    def run(self) -> Fitted:
        """Build, start and train the network."""
        with world.without_compiler(), world.private_randomness(self.device):
            reseed(self.request.seed, self.device)
            if not parts.is_dense(self.request, self.kind):
                world.import_ahead()
            network, solution = self._built()
            trainer = self._trainer(network)
            self._remark(trainer.state)
            self.work = parts.work_of(network, trainer.plan.batch_size)
            with world.threads(self.work, self.device):
                self.threads = torch.get_num_threads()
                with memory.kept(self.work, self.device):
                    unbeaten = self._trained(network, solution, trainer)
                return self._concluded(network, trainer, unbeaten)

    def _trained(
        self, network: CodeNetwork, solution: PCASolution | None, trainer: Trainer
    ) -> PCASolution | None:
        """Train the network; the principal components over which nothing was gained, if any."""
        parts.pretrain(self.pretraining, self.loss, network, trainer)
        # Who keeps a running mean of the weights takes one step after the other.
        many = None if trainer.plan.averaging else trainer.stride
        self.engine = (many or trainer.step).engine
        state = trainer.run()
        self.refining = self._settle(network, state)
        gained = solution is None or self._gained(network, solution, state)
        return None if gained else solution

    def _concluded(
        self, network: CodeNetwork, trainer: Trainer, unbeaten: PCASolution | None
    ) -> Fitted:
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
            self.refining = self._settle(network, state)
        elif trainer.health is not None:
            for finding in trainer.health.verdict.grave:
                warn(finding.message)
        return self._fitted(network, trainer)

    def _built(self) -> tuple[CodeNetwork, PCASolution | None]:
        """The network, at the principal components where it starts there."""
        self.n_components, solution = self._size_and_start()
        facts = self.preparation.facts
        self.kind = self.kind.settled(facts, self.n_components)
        network = self.kind.build(facts, self.n_components).to(self.device, self.train.dtype)
        network.stand_in_with(self.stand_in)
        check_free(self.request.transform_max_iter, network, self.n_components)
        if solution is not None:
            self._start(network, solution)
        elif self.request.pretraining == AUTO:
            self.pretraining = PRETRAININGS[choices.choose_start(network)]()
        self.optimizer = parts.optimizer_of(self.request, network, len(self.train))
        return network, solution

    def _again(self, folder: str, **changes: Any) -> Fitted:
        """A second fit, with some settings changed and checkpoints in a folder of its own."""
        place = self.request.checkpoint
        request = replace(self.request, checkpoint=place and place / folder, **changes)
        rows = self.division
        return Fitting(request, rows.source, rows.weight, rows.validation).run()

    def _curable(self, network: CodeNetwork, trainer: Trainer) -> bool:
        """Whether layers learned one by one may help a network that learned the average.

        Only where nobody asked for the start that failed.
        """
        chosen = self.request.pretraining == AUTO and isinstance(self.pretraining, Random)
        ill = trainer.health is not None and trainer.health.verdict.disease == Disease.AVERAGE
        return chosen and ill and network.encoder is not None

    def _cured(self, failed: State) -> Fitted:
        text = "starting anew, from layers learned one by one (pretraining='autoencoder')"
        self.request.reporter.message(text)
        cured = self._again(LAYERWISE, pretraining="autoencoder")
        start = name_of(self.pretraining)
        event = {"event": "restart", "epoch": 0, "message": text, "start": start}
        event["given_up"] = [record for record in failed.history if "train" in record]
        cured.state.history.insert(0, event)
        return cured

    def _remark(self, state: State) -> None:
        slow = choices.remarks_on(self.precision, self.device)
        for text in (*self.preparation.remarks, *self.division.remarks, *slow):
            state.history.append({"event": "note", "epoch": 0, "message": text})
            self.request.reporter.message(text)

    def _first_precision(self) -> str:
        # Whether bf16 pays depends on the network, which is not built yet.
        if self.request.precision != "auto":
            return self.request.precision
        values = len(self.division.train) * self.preparation.facts.n_features
        return choices.choose_precision(values, None, self.device)

    def _size_and_start(self) -> tuple[int, PCASolution | None]:
        """The code size, and the principal components to start from, if any."""
        wanted, width = self.request.n_components, self.preparation.facts.n_features
        if wanted is not None:
            self._check_width(wanted)
            return wanted, self._principal(wanted) if self.at_pca else None
        solution = self._principal(min(choices.MOST_COMPONENTS, width))
        size = choices.choose_components(solution, width)
        return size, solution.first(size) if self.at_pca else None

    def _check_width(self, wanted: int) -> None:
        try:
            self.kind.check_width(self.preparation.facts, wanted)
        except RequestError as error:
            raise RequestError(f"{self.source.origin}: {error}") from error

    def _find_stand_in(self) -> Tensor | float:
        """What stands in for missing values at first: (D,), the mean of those that are known."""
        return sharing.mean_of(self.train).flatten() if self.preparation.gaps else 0.0

    def _principal(self, n_components: int) -> PCASolution:
        rows = self.train
        if isinstance(rows, StreamedRows) and self.preparation.facts.n_features > EXACT_SIDE:
            rows = rows.in_memory()  # more than one pass would be needed over all of them
        solution = sharing.principal_of(
            rows, n_components, self.request.split_seed, self.stand_in, self.counts_seen
        )
        plain = rows is self.train and self.counts_seen is None
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
        plain = self.request.loss in ("auto", "squared")
        # Whoever declares counts asks for their likelihood, of which PCA knows nothing.
        plain = plain and self.preparation.counts is None
        plain = plain and not any(penalty.weight for penalty in self.penalties)
        # A bounded output starts near PCA, not at it: there is no PCA to return to.
        plain = plain and self.kind.output != "bounded"
        # Whoever asks for no held-out rows has asked for training to be trusted.
        trusted = self.held_out is None and self.request.validation_fraction != "auto"
        return plain and not trusted and self.request.max_epochs != 0

    def _gained(self, network: CodeNetwork, solution: PCASolution, state: State) -> bool:
        if not self._asks():
            return True
        # The start itself, read through another precision, is no gain.
        if self.held_out is None or not is_evidence(self.distinct) or state.best_epoch == 0:
            return False
        plane = network.decoder is None and network.output is None and not self.preparation.gaps
        if plane and self.noise is None and isinstance(self.loss, Squared):
            # What it rebuilds lies in a plane of K dimensions, and PCA's is the best of them all.
            return False
        rebuild = functools.partial(rebuilt, self.refining, network, self.loss)
        rows = self.train, self.held_out
        return beats_pca(rebuild, network.limited, *rows, solution, self.distinct)

    def _return_to_pca(self, network: CodeNetwork, state: State, solution: PCASolution) -> None:
        few = state.epoch < self._enough_epochs(self.plan.batch_size)
        text = outcome.why_pca(state, self.distinct, few_epochs=few)
        event = {"event": "pca", "epoch": 0, "message": text}
        if self.held_out is not None:
            event["held_out"] = pca_figures(solution, self.held_out, network, self.preparation.unit)
        # With nothing gained over PCA, PCA may as well learn from the held-out rows too.
        self.division = self.division.together()
        self.outcome.returned(len(self.division.train), self.distinct)
        self.train = self.division.open_train(self.preparation, DTYPES[self.precision], self.device)
        self.stand_in = self._find_stand_in()
        network.stand_in_with(self.stand_in)
        network.silence()
        self._start(network, self._principal(self.n_components))
        state.best_epoch = 0
        state.history.append(event)
        self.request.reporter.message(text)

    def _trainer(self, network: CodeNetwork) -> Trainer:
        request, rows = self.request, len(self.train)
        wish = self.optimizer.choose_batch_size(rows)
        asked = rows if request.batch_size == FULL else request.batch_size
        batch = int(asked or wish or choices.choose_batch_size(rows))
        epochs = request.max_epochs
        epochs = self._enough_epochs(batch) if epochs is None else epochs
        if self.at_pca and self._asks() and not is_evidence(self.distinct):
            epochs = 0  # what cannot be judged would be thrown away
        values = rows * self.preparation.facts.n_features
        open_yet = request.precision == "auto" and self.precision == "float32"
        if open_yet and not self.optimizer.COMPARES:
            self.precision = choices.choose_precision(values, network, self.device)
        self.plan = parts.plan_of(request, self.optimizer, epochs, rows, batch, self.device)
        trainer = parts.trainer_of(
            request,
            network,
            self.kind,
            self.loss,
            self.optimizer,
            self.plan,
            bf16=self.precision == "bf16",
        )
        trainer.train, trainer.held_out = self.train, self.held_out
        parts.read_by(trainer, self.train, batch)
        trainer.checkpointer = self._checkpointer()
        return trainer

    def _enough_epochs(self, batch_size: int) -> int:
        evaluations, wanted = self.optimizer.evaluations_a_step, self.optimizer.ENOUGH_GRADIENTS
        return choices.choose_epochs(len(self.division.train), batch_size, evaluations, wanted)

    def _checkpointer(self) -> Checkpointer | None:
        if self.request.checkpoint is None:
            return None
        checkpointer = Checkpointer(self.request.checkpoint, self._fingerprint())
        if not self.request.resume:
            checkpointer.clear()
            for folder in (SQUARED, LAYERWISE):
                replace(checkpointer, folder=self.request.checkpoint / folder).clear()
        return checkpointer

    def _fingerprint(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be resumed."""
        return {
            "seed": self.request.seed,
            **self.division.fingerprint(),
            "preparation": self.preparation.scaling,
            "kind": self.kind.to_json(),
            "loss": self.loss.to_json(),
            "penalties": [penalty.to_json() for penalty in self.penalties],
            "corruption": repr(self.request.corruption),
            "optimizer": self.optimizer.to_json(),
            "pretraining": self.pretraining.to_json(),
            "n_components": self.n_components,
            "max_epochs": self.plan.max_epochs,
            "batch_size": self.plan.batch_size,
            "patience": self.plan.patience,
            "precision": self.precision,
            "device": self.device.type,
        }

    def _settle(self, network: CodeNetwork, state: State) -> Refining:
        """How the codes of rows will be found."""
        if obstacle(network, self.n_components):
            return NOT_AT_ALL
        free = self.noise is None and not any(penalty.weight for penalty in self.penalties)
        return settle(
            self.request.transform_max_iter,
            network,
            self.loss,
            self.train,
            self.held_out or self.train,
            plain=free and state.best_epoch > 0,
            seed=self.request.seed,
        )

    def _imputer(self, network: CodeNetwork, mean: Tensor) -> Later | None:
        if not self.preparation.gaps:
            return None
        rows, centre = (self.train, self.held_out or self.train), mean.to(self.device)
        metric, seed = self.refining.metric, self.request.seed
        return imputer_of(network, self.loss, rows, metric, centre, seed, self.work)

    def _tell_refining(self, state: State) -> None:
        if self.refining.steps:
            text = self.refining.message
            state.history.append({"event": "refined", "epoch": state.best_epoch, "message": text})
            self.request.reporter.message(text)

    def _fitted(self, network: CodeNetwork, trainer: Trainer) -> Fitted:
        self._tell_refining(trainer.state)
        mean = self._mean_row()
        return Fitted(
            network=network,
            kind=self.kind,
            loss=self.loss,
            preparation=self.preparation,
            mean=mean,
            refining=self.refining,
            imputer=self._imputer(network, mean),
            state=trainer.state,
            train=self.division.train,
            held_out=self.division.held_out,
            facts=self._facts(network, trainer.state) | {"transform_max_iter": self.refining.steps},
            trainer=self._released(trainer),
        )

    def _released(self, trainer: Trainer) -> Trainer:
        trainer.batches = parts.batches_of(self.plan.batch_size, self.request.seed)
        return trainer.released()

    def _mean_row(self) -> Tensor:
        """The mean row; of rows on disk, one pass over which costs, as it is known already."""
        if self.mean is None or not is_streamed(self.source):
            return sharing.mean_of(self.train)
        return self.mean.to(self.train.dtype).reshape(1, *self.preparation.facts.shape).cpu()

    def _facts(self, network: CodeNetwork, state: State) -> dict[str, Any]:
        return {
            "outcome": self.outcome.told(state, self.plan.max_epochs),
            "rows": len(self.source),
            "training_rows": self.outcome.learned,
            "held_out_rows": self.outcome.held_out,
            "n_components": self.n_components,
            "batch_size": self.plan.batch_size,
            "max_epochs": self.plan.max_epochs,
            "epochs": state.epoch,
            "stopped": state.stopped,
            "precision": self.precision,
            "device": str(self.device),
            "threads": self.threads,
            "steps": self.engine,
            **self.kind.chosen_on(self.device, self.preparation.facts),
            "pretraining": name_of(self.pretraining),
            "optimizer": type(self.optimizer).__name__,
            "weights": sum(p.numel() for p in network.parameters()),
            "training_seconds": round(state.seconds, 3),
            **parts.pretraining_facts(state),
        }
