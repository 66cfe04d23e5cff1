"""The training loop: epochs of steps, the best weights kept, divergence met, states saved.

It imports no kind, loss, optimizer or source: it is handed them.
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
from isthmus.training.cancellation import heed, uninterrupted
from isthmus.training.checkpoint import Checkpointer
from isthmus.training.diagnostics.findings import Finding
from isthmus.training.diagnostics.monitor import EVENT, Monitor, watched
from isthmus.training.ema import averaged_weights, update_average
from isthmus.training.engines.base import ManySteps, Terms, TrainingStep, summed
from isthmus.training.evaluate import judged
from isthmus.training.grad_clip import clip
from isthmus.training.plan import Plan, full_rate
from isthmus.training.reporters import Reporter, Silent, warn
from isthmus.training.rows import NoRows, as_one, batches_at_once, nothing_ahead, steps_on, taken
from isthmus.training.state import ALL_DONE, Record, State
from isthmus.types import Index, Network, Step, WeightedRows

RESCUE_SCALE, MOST_RESCUES = 0.25, 5
PLATEAU_SCALE = 0.5
CEILING = 10.0
MOST_RECORDS = 10_000
STARTING_ROWS = 8192
"""Training rows that tell the loss before the first step well enough."""

Callback = Callable[[Record], bool | None]


class DivergedError(ArithmeticError):
    """The loss is not finite, or far above where it began."""


@dataclass
class Trainer:
    """Everything one fit is made of, and the loop that runs it."""

    network: Network
    step: TrainingStep
    objective: Callable[[Step], dict[str, Tensor]]
    optimizer: torch.optim.Optimizer
    factors: Callable[[range, int], list[float]]
    batches: Callable[[int, int], Sequence[Index]]
    """(rows, epoch) to the positions of each batch."""

    plan: Plan
    state: State
    train: WeightedRows = field(default_factory=NoRows)
    validation: WeightedRows | None = None
    callbacks: Sequence[Callback] = ()
    reporter: Reporter = field(default_factory=Silent)
    checkpointer: Checkpointer | None = None
    monitor: Monitor | None = None
    """Who looks whether the network learns, if anyone."""

    stride: ManySteps | None = None
    """Who takes many steps in one go, if anyone can."""

    ahead: Callable[[Sequence[Index], int], AbstractContextManager[None]] = nothing_ahead
    """(batches, first) to a context inside which rows may be read before they are asked for."""

    def __post_init__(self) -> None:
        """Remember the full rates and the optimizer's beginning."""
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.fresh_optimizer = self.optimizer.state_dict()
        self.began = time.monotonic()
        self.resumable, self.steps = True, 0

    def run(self) -> State:
        """Train to the end and leave the best weights in the network.

        Raises DivergenceError when the loss cannot be kept finite even at much lower rates.
        KeyboardInterrupt is passed on after a last checkpoint.
        """
        with self.step.bound():
            return self._run()

    def _run(self) -> State:
        self.began = time.monotonic() - self.state.seconds
        self._begin()
        rows, epochs = len(self.train), self.plan.max_epochs
        try:
            self.reporter.start(rows=rows, epochs=epochs, first_epoch=self.state.epoch)
            while not self.state.done:
                self._epoch_or_rescue()
        except KeyboardInterrupt:
            # Half a step is no place to go on from; the last checkpoint is.
            self._checkpoint(force=True)
            raise
        finally:
            self.reporter.finish()
        self.network.load_state_dict(self.state.best)
        self.network.eval()
        self._conclude()
        return self.state

    def released(self) -> "Trainer":
        """This trainer without what only a running fit needs: a fitted model stays light."""
        self.optimizer.load_state_dict(self.fresh_optimizer)
        self.state = replace(self.state, best={}, average={})
        self.plan = replace(self.plan, ema_decay=0.0)  # what goes on goes on from what was kept
        self.callbacks, self.reporter, self.checkpointer = (), Silent(), None
        self.monitor = None
        self._rest()
        return self

    def _rest(self) -> None:
        """Keep nothing of rows, nor of what is bound to memory: a fitted model may be copied."""
        self.train, self.validation, self.ahead = NoRows(), None, nothing_ahead
        self.stride = self.stride and self.stride.anew()

    def one_more(self, rows: WeightedRows) -> None:
        """One epoch over `rows` at the full rate, with the optimizer as it was left.

        Raises DivergenceError, with the weights as they were before, when the loss is not finite.
        """
        self.train, self.factors, self.monitor = rows, full_rate, None
        before = copy.deepcopy(self.network.state_dict())
        self.state.sums, self.state.step = {}, 0
        try:
            with self.step.bound():
                trained = self._train_epoch()
        except DivergedError as problem:
            self.network.load_state_dict(before)
            raise DivergenceError(
                f"partial_fit: {problem}; scale the data or lower lr"
            ) from problem
        finally:
            self.network.eval()
            self._rest()
        self.state.epoch += 1
        self._remember({"epoch": self.state.epoch, "train": trained})

    def _remember(self, record: Record) -> None:
        """Keep what rows that come without end have told, but for what is long past."""
        history = self.state.history
        history.append(record)
        if len(history) > MOST_RECORDS:
            history.remove(next(one for one in history if one.keys() == record.keys()))

    def _begin(self) -> None:
        state = self.checkpointer.load(self.network, self.optimizer) if self.checkpointer else None
        if state is not None:
            self.state = state
            self.began = time.monotonic() - state.seconds
            self.reporter.message(f"resuming after epoch {state.epoch}, step {state.step}")
            return
        # The start itself is a candidate: training may only improve on it.
        terms = self.evaluate(self.validation or self.train)
        total = sum(terms.values())
        if not math.isfinite(total):
            raise DivergenceError(
                f"the loss is {total} before the first step; check the data for huge values"
            )
        self.state.ceiling = CEILING * max(total, 1.0)
        self._keep_best(terms)
        start = self.evaluate(self.train, most=STARTING_ROWS)
        self._record({"epoch": 0, "train": start, **self._validation_terms(terms)})
        if self.plan.max_epochs == 0:
            self.state.stopped = ALL_DONE

    def _validation_terms(self, terms: dict[str, float]) -> Record:
        return {} if self.validation is None else {"validation": terms}

    def _epoch_or_rescue(self) -> None:
        try:
            trained = self._train_epoch()
            with averaged_weights(self.network, self.state.average):
                terms = self.evaluate(self.validation or self.train)
                self._check_growth(terms, trained)
                monitor = self._diagnostics()
        except DivergedError as problem:
            self._rescue(problem)
            return
        with uninterrupted():
            self.resumable = False
            self.state.epoch, self.state.step, self.state.sums = self.state.epoch + 1, 0, {}
            self._judge(terms)
            lr, epoch = self.optimizer.param_groups[0]["lr"], self.state.epoch
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
        with self.ahead(batches, self.state.step):
            while self.state.step < len(batches):
                heed()
                many = self._steps_at_once(batches)
                if many:
                    self._train_batches(batches, many)
                else:
                    self._train_batch(batches, self.state.step)
        # Told here too, for an epoch that is resumed after its last step.
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
        with watched(monitor, self.network):
            terms = self._take_step(rows, seed_at(self.state.seed, index))
        if self.plan.ema_decay:
            self.state.average = update_average(
                self.state.average, self.network, self.plan.ema_decay, index
            )
        self.state.add(summed([terms], [len(rows)]))
        self.state.step = position + 1
        # What was seen of a step is in no checkpoint: the end of the epoch is the next one.
        self.resumable = monitor is None
        if self.state.step % self.plan.check_every == 0:
            self._check(terms)
        self.reporter.advance(len(rows))
        self._checkpoint()

    def _steps_at_once(self, batches: Sequence[Index]) -> int:
        """How many steps may be taken before anyone looks on; 0 where nobody can take several."""
        if self.stride is None or self.plan.ema_decay:
            return 0
        left = len(batches) - self.state.step
        if left > 1 and self._looks(len(batches)):
            left -= 1  # the last one is looked at by itself
        return min(left, batches_at_once(self.train, self.plan.batch_size, self.stride.most))

    def _train_batches(self, batches: Sequence[Index], many: int) -> None:
        assert self.stride is not None
        first = self.state.epoch * len(batches) + self.state.step
        chosen = [batches[self.state.step + i] for i in range(many)]
        sizes, total = [len(rows) for rows in chosen], len(batches) * max(self.plan.max_epochs, 1)
        rows, highest = as_one(chosen), self.rates[0] * self.state.lr_scale
        rates = [highest * one for one in self.factors(range(first, first + many), total)]
        monitor = self._monitor_for(self.state.step + many, len(batches))
        with uninterrupted():
            self.resumable = False
            with watched(monitor, self.network):
                seeds = Seeds(self.state.seed, range(first, first + many))
                steps = steps_on(self.train, rows, sizes=sizes, rates=rates, seeds=seeds)
                found = self.stride(steps)
            self.state.add(found)
            if self.plan.check_every == 1:
                self._check(found)
            self.state.step += many
            self.resumable = monitor is None
        self.reporter.advance(len(rows))
        self._checkpoint()

    def _monitor_for(self, step: int, steps: int) -> Monitor | None:
        """Who looks at step number `step` of an epoch of `steps`: the last one of some."""
        return self.monitor if step == steps and self._looks(steps) else None

    def _looks(self, steps: int) -> bool:
        """Whether the doctor looks at the end of the epoch under way."""
        return self.monitor is not None and self.monitor.due(self.state.epoch + 1, steps)

    def _diagnostics(self) -> Record:
        """What the doctor sees in the network as it is judged, at the end of some epochs."""
        if self.monitor is None or not self._looks(self.steps):
            return {}
        found = self.monitor.examine(self.network, self.train)
        return {"diagnostics": found} if found else {}

    def _warn(self) -> None:
        if self.monitor is not None:
            self._say(self.monitor.warning(self.state.history, self.plan.max_epochs))

    def _conclude(self) -> None:
        if self.monitor is not None:
            self._say(self.monitor.conclude(self.network, self.train, self.state.history).findings)

    def _say(self, findings: Iterable[Finding]) -> None:
        for issue, message in findings:
            event = {"event": EVENT, "epoch": self.state.epoch, "message": message}
            self.state.history.append(event | {"issue": issue.value})
            self.reporter.message(message)

    def _take_step(self, rows: Index, seed: int) -> dict[str, Tensor]:
        """One step of the optimizer on these rows; the terms as they were before it."""
        x, weight = taken(self.train, rows)
        before: dict[str, Tensor] = {}

        def closure() -> Any:  # torch's annotation says float, its optimizers take tensors
            # However often the optimizer asks: the same batch, the same noise, the same dropout.
            reseed(seed, x.device)
            self.optimizer.zero_grad()
            terms = self.step(x, weight)
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

    def _check_growth(self, judged: Mapping[str, float], learned: Mapping[str, float]) -> None:
        self._check(judged)
        loss = self.state.strayed(judged, learned)
        if loss is not None:
            raise DivergedError(f"the loss reached {loss:.4g}")

    def _rescue(self, problem: DivergedError) -> None:
        state, self.resumable = self.state, False
        state.rescues += 1
        if state.rescues > MOST_RESCUES:
            raise DivergenceError(
                f"training diverged {state.rescues} times ({problem}), the last at "
                f"{state.lr_scale:.2g} of the learning rate; scale the data or lower lr"
            )
        state.lr_scale *= RESCUE_SCALE
        state.step, state.sums = 0, {}
        state.average = {}
        self.network.load_state_dict(state.best)
        self.optimizer.load_state_dict(self.fresh_optimizer)
        text = (
            f"{problem} in epoch {state.epoch + 1}: went back to the weights of epoch "
            f"{state.best_epoch} and on with {state.lr_scale:.2g} of the learning rate"
        )
        state.history.append({"event": "diverged", "epoch": state.epoch + 1, "message": text})
        self.resumable = True
        self.reporter.message(text)
        warn(text)

    def _judge(self, terms: dict[str, float]) -> None:
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
            self.state.stopped = "a callback asked for it"
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

    def evaluate(self, rows: WeightedRows, most: int | None = None) -> dict[str, float]:
        """The terms of clean rows in evaluation mode, averaged over all (or the first `most`)."""
        # What averages weights puts them where only the network finds them.
        judge = None if self.stride is None or self.plan.ema_decay else self.stride.judge
        seed = seed_at(self.state.seed, -1)
        return judged(self.network, self.objective, rows, seed, most, judge)
