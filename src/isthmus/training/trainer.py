"""The trainer: epochs of steps, early stopping, recovery from divergence, and checkpoints.

It imports no kind, loss, optimizer or source; all of them are passed in.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import DivergenceError
from isthmus.randomness import Seeds, reseed, seed_at
from isthmus.training.cancellation import check_cancelled, deferred_interrupts
from isthmus.training.checkpoint import Checkpointer
from isthmus.training.diagnostics.findings import Finding
from isthmus.training.diagnostics.monitor import EVENT, Monitor, observed_step
from isthmus.training.ema import averaged_weights, update_average
from isthmus.training.engines.base import Terms, sum_terms
from isthmus.training.engines.select import Selection
from isthmus.training.evaluate import evaluate
from isthmus.training.grad_clip import clip
from isthmus.training.plan import Plan, full_rate
from isthmus.training.reporters import Reporter, SilentReporter, warn
from isthmus.training.rows import (
    NoRows,
    batches_per_call,
    concatenate_batches,
    no_read_ahead,
    step_batch,
    take_rows,
)
from isthmus.training.state import ALL_DONE, Record, State
from isthmus.types import Index, Network, Step, WeightedRows

RESTORE_SCALE, MAX_RESTORES = 0.25, 5
PLATEAU_SCALE = 0.5
CEILING_FACTOR = 10.0
"""An epoch has diverged if its losses are above this many times the initial loss."""

MAX_RECORDS = 10_000
START_ROWS = 8192
"""Training rows on which the loss before the first step is evaluated."""

Callback = Callable[[Record], bool | None]


class DivergedError(ArithmeticError):
    """The loss is not finite, or far above its initial value."""


@dataclass
class Trainer:
    """The parts of one fit, and the loop that trains with them."""

    network: Network
    engine: Selection
    """How steps are taken: `step` for one at a time, `multi_step` for several per call."""

    objective: Callable[[Step], dict[str, Tensor]]
    optimizer: torch.optim.Optimizer
    factors: Callable[[range, int], list[float]]
    batches: Callable[[int, int], Sequence[Index]]
    """Maps (number of rows, epoch) to the positions of each batch."""

    plan: Plan
    state: State
    train: WeightedRows = field(default_factory=NoRows)
    validation: WeightedRows | None = None
    callbacks: Sequence[Callback] = ()
    reporter: Reporter = field(default_factory=SilentReporter)
    checkpointer: Checkpointer | None = None
    monitor: Monitor | None = None
    """Diagnoses networks that do not learn, or None."""

    read_ahead: Callable[[Sequence[Index], int], AbstractContextManager[None]] = no_read_ahead
    """Maps (batches, first) to a context in which rows may be read in advance."""

    def __post_init__(self) -> None:
        """Store the full learning rates and the optimizer's initial state."""
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.fresh_optimizer = self.optimizer.state_dict()
        self.began = time.monotonic()
        self.resumable, self.steps = True, 0  # a checkpoint may be written; steps per epoch

    def run(self) -> State:
        """Train to the end, and load the best weights into the network.

        Raises DivergenceError if the loss is not finite even at much lower learning rates.
        KeyboardInterrupt is re-raised after a last checkpoint.
        """
        with self.engine.step.bound():
            return self._run()

    def _run(self) -> State:
        self.began = time.monotonic() - self.state.seconds
        self._begin()
        rows, epochs = len(self.train), self.plan.max_epochs
        try:
            self.reporter.start(rows=rows, epochs=epochs, first_epoch=self.state.epoch)
            while not self.state.done:
                self._epoch_or_restore()
        except KeyboardInterrupt:
            # Inside a step nothing is written: the last checkpoint stays.
            self._checkpoint(force=True)
            raise
        finally:
            self.reporter.finish()
        self.network.load_state_dict(self.state.best)
        self.network.eval()
        self._conclude()
        return self.state

    def released(self) -> "Trainer":
        """This trainer without what only a running fit needs, so that a model stays small."""
        self.optimizer.load_state_dict(self.fresh_optimizer)
        self.state = replace(self.state, best={}, average={})
        self.plan = replace(
            self.plan, ema_decay=0.0
        )  # partial_fit continues from the averaged weights
        self.callbacks, self.reporter, self.checkpointer = (), SilentReporter(), None
        self.monitor = None
        self._release_rows()
        return self

    def _release_rows(self) -> None:
        """Drop rows and buffers, so that a fitted model can be copied and pickled."""
        self.train, self.validation, self.read_ahead = NoRows(), None, no_read_ahead
        self.engine = self.engine.detached()

    def train_one_epoch(self, rows: WeightedRows) -> None:
        """Train one more epoch over `rows` at the full learning rate, for `partial_fit`.

        Raises DivergenceError, with the weights as before, if the loss is not finite.
        """
        self.train, self.factors, self.monitor = rows, full_rate, None
        before = copy.deepcopy(self.network.state_dict())
        self.state.sums, self.state.step = {}, 0
        try:
            with self.engine.step.bound():
                trained = self._train_epoch()
        except DivergedError as problem:
            self.network.load_state_dict(before)
            raise DivergenceError(
                f"partial_fit: {problem}; scale the data or lower lr"
            ) from problem
        finally:
            self.network.eval()
            self._release_rows()
        self.state.epoch += 1
        self._append({"epoch": self.state.epoch, "train": trained})

    def _append(self, record: Record) -> None:
        """Append a record, and drop the oldest one of its form if there are too many."""
        history = self.state.history
        history.append(record)
        if len(history) > MAX_RECORDS:
            history.remove(next(old for old in history if old.keys() == record.keys()))

    def _begin(self) -> None:
        state = self.checkpointer.load(self.network, self.optimizer) if self.checkpointer else None
        if state is not None:
            self.state = state
            self.began = time.monotonic() - state.seconds
            self.reporter.message(f"resuming after epoch {state.epoch}, step {state.step}")
            return
        # The initial weights are a candidate for the best ones.
        terms = self.evaluate(self.validation or self.train)
        total = sum(terms.values())
        if not math.isfinite(total):
            raise DivergenceError(
                f"the loss is {total} before the first step; check the data for huge values"
            )
        self.state.ceiling = CEILING_FACTOR * max(total, 1.0)
        self._keep_best(terms)
        start = self.evaluate(self.train, max_rows=START_ROWS)
        self._record({"epoch": 0, "train": start, **self._validation_terms(terms)})
        if self.plan.max_epochs == 0:
            self.state.stopped = ALL_DONE

    def _validation_terms(self, terms: dict[str, float]) -> Record:
        return {} if self.validation is None else {"validation": terms}

    def _epoch_or_restore(self) -> None:
        try:
            trained = self._train_epoch()
            with averaged_weights(self.network, self.state.average):
                terms = self.evaluate(self.validation or self.train)
                self._check_growth(terms, trained)
                monitor = self._diagnostics()
        except DivergedError as problem:
            self._restore(problem)
            return
        with deferred_interrupts():
            self.resumable = False
            self.state.epoch, self.state.step, self.state.sums = self.state.epoch + 1, 0, {}
            self._update_best(terms)
            lr, epoch = float(self.optimizer.param_groups[0]["lr"]), self.state.epoch
            record = {
                "epoch": epoch,
                "lr": lr,
                "train": trained,
                **self._validation_terms(terms),
            } | monitor
            self._record(record)
            self.reporter.epoch(record)
            self._warn()
            self._decide_stop(record)
            self.resumable = True
        self._checkpoint(force=self.state.done)

    def _train_epoch(self) -> dict[str, float]:
        self.network.train()
        batches = self.batches(len(self.train), self.state.epoch)
        self.steps = len(batches)
        total = len(batches) * max(self.plan.max_epochs, 1)
        with self.read_ahead(batches, self.state.step):
            while self.state.step < len(batches):
                check_cancelled()
                n_steps = self._steps_per_call(batches)
                if n_steps:
                    self._train_batches(batches, n_steps)
                else:
                    self._train_batch(batches, self.state.step)
        # Also here, for an epoch that is resumed after its last step.
        self._set_rate((self.state.epoch + 1) * len(batches) - 1, total)
        self.network.eval()
        trained = {name: float(value) / len(self.train) for name, value in self.state.sums.items()}
        self._check(trained)
        return trained

    def _train_batch(self, batches: Sequence[Index], position: int) -> None:
        index = self.state.epoch * len(batches) + position
        self._set_rate(index, len(batches) * max(self.plan.max_epochs, 1))
        rows = batches[position]
        monitor = self._monitor_for(position + 1, len(batches))
        with observed_step(monitor, self.network):
            terms = self._take_step(rows, seed_at(self.state.seed, index))
        if self.plan.ema_decay:
            self.state.average = update_average(
                self.state.average, self.network, self.plan.ema_decay, index
            )
        self.state.add(sum_terms([terms], [len(rows)]))
        self.state.step = position + 1
        # A checkpoint does not hold what the monitor measured; the next one follows the epoch.
        self.resumable = monitor is None
        if self.state.step % self.plan.check_every == 0:
            self._check(terms)
        self.reporter.advance(len(rows))
        self._checkpoint()

    def _steps_per_call(self, batches: Sequence[Index]) -> int:
        """The number of steps to take in the next call, or 0 to take a single step."""
        if self.engine.multi_step is None or self.plan.ema_decay:
            return 0
        left = len(batches) - self.state.step
        if left > 1 and self._monitor_is_due(len(batches)):
            left -= 1  # the monitor observes the last step on its own
        return min(
            left, batches_per_call(self.train, self.plan.batch_size, self.engine.multi_step.limit)
        )

    def _train_batches(self, batches: Sequence[Index], n_steps: int) -> None:
        assert self.engine.multi_step is not None
        first = self.state.epoch * len(batches) + self.state.step
        chosen = [batches[self.state.step + i] for i in range(n_steps)]
        sizes, total = [len(rows) for rows in chosen], len(batches) * max(self.plan.max_epochs, 1)
        rows, highest = concatenate_batches(chosen), self.rates[0] * self.state.lr_scale
        rates = [highest * factor for factor in self.factors(range(first, first + n_steps), total)]
        monitor = self._monitor_for(self.state.step + n_steps, len(batches))
        with deferred_interrupts():
            self.resumable = False
            with observed_step(monitor, self.network):
                seeds = Seeds(self.state.seed, range(first, first + n_steps))
                steps = step_batch(self.train, rows, sizes=sizes, rates=rates, seeds=seeds)
                terms = self.engine.multi_step(steps)
            self.state.add(terms)
            if self.plan.check_every == 1:
                self._check(terms)
            self.state.step += n_steps
            self.resumable = monitor is None
        self.reporter.advance(len(rows))
        self._checkpoint()

    def _monitor_for(self, step: int, steps: int) -> Monitor | None:
        """The monitor, if it observes this step: the last one of some epochs."""
        return self.monitor if step == steps and self._monitor_is_due(steps) else None

    def _monitor_is_due(self, steps: int) -> bool:
        """Whether the monitor examines the network at the end of the current epoch."""
        return self.monitor is not None and self.monitor.due(self.state.epoch + 1, steps)

    def _diagnostics(self) -> Record:
        """The monitor's measurements at the end of some epochs."""
        if self.monitor is None or not self._monitor_is_due(self.steps):
            return {}
        measured = self.monitor.examine(self.network, self.train)
        return {"diagnostics": measured} if measured else {}

    def _warn(self) -> None:
        if self.monitor is not None:
            self._report(self.monitor.warning(self.state.history, self.plan.max_epochs))

    def _conclude(self) -> None:
        if self.monitor is not None:
            self._report(
                self.monitor.conclude(self.network, self.train, self.state.history).findings
            )

    def _report(self, findings: Iterable[Finding]) -> None:
        for issue, message in findings:
            event = {"event": EVENT, "epoch": self.state.epoch, "message": message}
            self.state.history.append(event | {"issue": issue.value})
            self.reporter.message(message)

    def _take_step(self, rows: Index, seed: int) -> dict[str, Tensor]:
        """Take one optimizer step on these rows; return the terms before it."""
        x, weight = take_rows(self.train, rows)
        before: dict[str, Tensor] = {}

        def closure() -> Any:  # torch's annotation says float, its optimizers take tensors
            # Each evaluation sees the same batch, noise and dropout.
            reseed(seed, x.device)
            self.optimizer.zero_grad()
            terms = self.engine.step(x, weight)
            if self.plan.clip_norm is not None:
                clip(self.network.parameters(), self.plan.clip_norm)
            if not before:
                before.update(terms)
                self.resumable = False
            return torch.stack(list(terms.values())).sum()

        self.optimizer.step(closure)
        return before

    def _set_rate(self, step: int, total: int) -> None:
        (factor,) = self.factors(range(step, step + 1), total)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor * self.state.lr_scale

    def _check(self, terms: Terms) -> None:
        total = sum(float(term) for term in terms.values())
        if not math.isfinite(total):
            raise DivergedError(f"the loss reached {total:.4g}")

    def _check_growth(self, evaluated: Mapping[str, float], trained: Mapping[str, float]) -> None:
        self._check(evaluated)
        loss = self.state.diverged_loss(evaluated, trained)
        if loss is not None:
            raise DivergedError(f"the loss reached {loss:.4g}")

    def _restore(self, problem: DivergedError) -> None:
        state, self.resumable = self.state, False
        state.restores += 1
        if state.restores > MAX_RESTORES:
            raise DivergenceError(
                f"training diverged {state.restores} times ({problem}), the last at "
                f"{state.lr_scale:.2g} of the learning rate; scale the data or lower lr"
            )
        state.lr_scale *= RESTORE_SCALE
        state.step, state.sums = 0, {}
        state.average = {}
        self.network.load_state_dict(state.best)
        self.optimizer.load_state_dict(self.fresh_optimizer)
        text = (
            f"{problem} in epoch {state.epoch + 1}: restored the weights of epoch "
            f"{state.best_epoch}; continuing at {state.lr_scale:.2g} times the learning rate"
        )
        state.history.append({"event": "diverged", "epoch": state.epoch + 1, "message": text})
        self.resumable = True
        self.reporter.message(text)
        warn(text)

    def _update_best(self, terms: dict[str, float]) -> None:
        if sum(terms.values()) < self.state.best_loss:
            self._keep_best(terms)
            self.state.best_epoch, self.state.waited = self.state.epoch, 0
        else:
            self.state.waited += 1
            if self.plan.plateau is not None and self.state.waited % self.plan.plateau == 0:
                self.state.lr_scale *= PLATEAU_SCALE

    def _keep_best(self, terms: dict[str, float]) -> None:
        self.state.best_loss = sum(terms.values())
        weights = self.state.average or self.network.state_dict()
        self.state.best = {k: v.detach().clone() for k, v in weights.items()}

    def _decide_stop(self, record: Record) -> None:
        if any([callback(record) for callback in self.callbacks]):  # noqa: C419  every one is called
            self.state.stopped = "a callback returned True"
        elif self.plan.patience is not None and self.state.waited >= self.plan.patience:
            self.state.stopped = f"no better loss for {self.state.waited} epochs"
        elif self.state.epoch >= self.plan.max_epochs:
            self.state.stopped = ALL_DONE

    def _record(self, record: Record) -> None:
        self.state.seconds = time.monotonic() - self.began
        self.state.history.append(record | {"seconds": round(self.state.seconds, 3)})

    def _checkpoint(self, *, force: bool = False) -> None:
        if self.checkpointer is None or not self.resumable:
            return
        now = time.monotonic() - self.began
        if force or self.checkpointer.due(now):
            self.state.seconds = now
            self.checkpointer.save(self.state, self.network, self.optimizer, now)

    def evaluate(self, rows: WeightedRows, max_rows: int | None = None) -> dict[str, float]:
        """The terms of clean rows in evaluation mode, averaged over all or the first `max_rows`."""
        # With averaged weights, only the network itself has them.
        multi_step = None if self.plan.ema_decay else self.engine.multi_step
        evaluator = None if multi_step is None else multi_step.evaluator
        seed = seed_at(self.state.seed, -1)
        return evaluate(self.network, self.objective, rows, seed, max_rows, evaluator)
