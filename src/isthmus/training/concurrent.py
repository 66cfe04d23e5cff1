"""Run several fits concurrently and batch their compatible training steps."""

import contextvars
import functools
import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor

from isthmus.runtime.threads import fit_lock, limit_threads, preserve_threads
from isthmus.training.cancellation import (
    CANCELLATION,
    CancellationToken,
    check_cancelled,
    deferred_interrupts,
)
from isthmus.training.engines.base import STEP_SHARING, Evaluator, MultiStep, StepBatch, Terms
from isthmus.training.engines.batched import BatchedSteps, batch_key
from isthmus.training.engines.dense.adam_state import FlatAdam
from isthmus.training.reporters import MESSAGE_PREFIX
from isthmus.training.shared_cache import CACHE, Cache

R = TypeVar("R")

POLL_SECONDS = 0.1


class AdamEngine(MultiStep, Protocol):
    """An engine that takes steps of Adam, as all that can be batched do."""

    adam: FlatAdam


class StepRequest(NamedTuple):
    """Steps that a fit waits for."""

    engine: AdamEngine
    steps: StepBatch


class TorchState(NamedTuple):
    """The thread count and random state of torch, which every fit changes."""

    threads: int
    rng_states: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> Self:
        """The current state."""
        cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        states = (torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if cuda else ()))
        return cls(torch.get_num_threads(), states)

    def restore(self) -> None:
        """Make this the current state."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        torch.set_rng_state(self.rng_states[0])
        if len(self.rng_states) > 1:
            torch.cuda.set_rng_state_all(self.rng_states[1:])


class Shared(NamedTuple):
    """What the tasks of one call share."""

    cache: Cache
    returned: "queue.SimpleQueue[FitTask[Any]]"
    """Tasks that have finished work in the background."""

    slots: threading.Semaphore
    """Limits the tasks that work in the background: one per processor, and one that waits for
    Python's lock."""

    cancellation: CancellationToken


class FitTask(Generic[R]):
    """A fit in a thread of its own, which runs only while all other tasks wait.

    The exception is work in the background, in an engine that releases Python's lock. Each task
    has its own random state and thread count, so its results do not depend on the other tasks.
    """

    def __init__(self, job: Callable[[], R], name: str, state: TorchState, shared: Shared) -> None:
        self.job, self.name, self.state, self.shared = job, name, state, shared
        self.prefix = MESSAGE_PREFIX.get() + (f"{name}: " if name else "")
        self.request: StepRequest | None = None
        self.response: Terms = {}
        self.in_background = False
        self._results: list[R] = []
        self._error: BaseException | None = None
        self._may_run, self._has_paused = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = threading.Event()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run_job,), daemon=True)

    def resume(self) -> None:
        """Let the task run until it waits for steps, goes to the background, or ends."""
        if self._thread.ident is None:
            self._thread.start()
        self._may_run.release()
        # With a timeout, because Ctrl-C at the start of a wait shows only when the wait ends.
        while not self._has_paused.acquire(timeout=POLL_SECONDS):
            pass

    def join(self) -> None:
        """Wait until a task that was cancelled, or has finished, has ended."""
        self._may_run.release()  # it may be waiting; one release too many does no harm now
        if self._thread.ident is not None:
            self._ended.wait()  # Python 3.11 gives up an interrupted join
            self._thread.join()

    @property
    def outcome(self) -> R | Exception:
        """The result of the job, or its exception."""
        return self._error if isinstance(self._error, Exception) else self._results[0]

    def raise_base_exception(self) -> None:
        """Raise the error that ended the task, unless it is an Exception."""
        if self._error is not None and not isinstance(self._error, Exception):
            raise self._error

    def take_steps(self, engine: AdamEngine, steps: StepBatch) -> Terms:
        """Inside the job: request steps, and wait until they are taken."""
        self.request, self.state = StepRequest(engine, steps), TorchState.now()
        self._has_paused.release()
        self._wait_for_turn()
        self.request = None
        return self.response

    def run_in_background(self, work: Callable[[], Terms]) -> Terms:
        """Inside the job: run work that releases Python's lock, while another task has its turn."""
        self.state, self.in_background = TorchState.now(), True
        self._has_paused.release()
        try:
            with self.shared.slots:
                return work()
        finally:
            self.shared.returned.put(self)
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._may_run.acquire()
        self.state.restore()
        self.in_background = False
        check_cancelled()

    def _run_job(self) -> None:
        STEP_SHARING.set(functools.partial(SharedEngine.of, self))
        CACHE.set(self.shared.cache)
        CANCELLATION.set(self.shared.cancellation)
        MESSAGE_PREFIX.set(self.prefix)
        try:
            self._wait_for_turn()
            self._results.append(self.job())
        except BaseException as error:  # reported by `outcome` and `raise_base_exception`
            self._error = error
            if self.name:
                error.add_note(f"raised by {self.name}")
        finally:
            self._ended.set()
            self._has_paused.release()


class SharedEngine:
    """The engine of a task: its steps are taken together with those of the other tasks.

    An engine that releases Python's lock works in the background instead.
    """

    def __init__(self, engine: AdamEngine, task: FitTask[Any]) -> None:
        self.engine, self.task = engine, task
        self.name, self.limit, self.releases_gil = engine.name, engine.limit, engine.releases_gil

    @classmethod
    def of(cls, task: FitTask[Any], engine: MultiStep) -> MultiStep:
        """The shared engine of a task."""
        if engine.releases_gil:
            engine.threads = 1  # type: ignore[attr-defined]  # the other tasks need the processors
        return cast("MultiStep", cls(cast("AdamEngine", engine), task))

    @property
    def evaluator(self) -> Evaluator | None:
        """The engine's evaluator, run in the background."""
        evaluator = self.engine.evaluator
        if evaluator is None:
            return None
        return lambda rows, weight: self.task.run_in_background(
            functools.partial(evaluator, rows, weight)
        )

    def __call__(self, steps: StepBatch) -> Terms:
        """Take the steps; return every term before its step, summed over all rows."""
        if self.releases_gil:
            return self.task.run_in_background(functools.partial(self.engine, steps))
        return self.task.take_steps(self.engine, steps)

    def detached(self) -> MultiStep:
        """A copy of the engine itself, for use after the task has ended."""
        return self.engine.detached()


def run_together(
    jobs: Sequence[Callable[[], R]], first: int = 1, total: int | None = None
) -> list[R | Exception]:
    """The result of each job, or its exception; fits inside the jobs share their steps.

    Each fit takes the steps that it would take alone, within rounding. A BaseException such as
    KeyboardInterrupt is re-raised after all jobs have ended. Ctrl-C ends each job before its next
    step. Messages and warnings of a fit begin with its number, and its exceptions have a note.
    The numbers begin at `first`, of `total` in all.
    """
    token = CancellationToken(CANCELLATION.get())
    with fit_lock(), deferred_interrupts(token), preserve_threads():
        state = TorchState.now()
        slots = threading.Semaphore(state.threads + 1)
        shared = Shared(Cache(), queue.SimpleQueue(), slots, token)
        total = total or len(jobs)
        numbers = range(first, first + len(jobs))
        names = [f"fit {number} of {total}" if total > 1 else "" for number in numbers]
        tasks = [FitTask(*each, state, shared) for each in zip(jobs, names, strict=True)]
        return _run_tasks(tasks, shared)


def _run_tasks(tasks: Sequence[FitTask[R]], shared: Shared) -> list[R | Exception]:
    before, batcher = TorchState.now(), _StepBatcher()
    ready, waiting = deque[FitTask[Any]](tasks), list[FitTask[Any]]()
    try:
        while ready or waiting or any(task.in_background for task in tasks):
            shared.cancellation.check()
            if ready:
                task = ready.popleft()
                task.resume()
                task.raise_base_exception()
                if task.request is not None and not task.in_background:
                    waiting.append(task)
            elif any(task.in_background for task in tasks):
                ready.append(shared.returned.get())
            else:
                batcher.take_steps(waiting)
                ready.extend(waiting)
                waiting.clear()
    except BaseException:
        shared.cancellation.is_set = True  # first, before anything that can be interrupted again
        _join_all(tasks)
        raise
    finally:
        before.restore()
    for task in tasks:
        task.join()
    return [task.outcome for task in tasks]


def _join_all(tasks: Sequence[FitTask[Any]]) -> None:
    """Join all tasks, one after the other, however often Ctrl-C interrupts it."""
    while True:
        with suppress(BaseException):
            for task in tasks:
                task.join()
            return


class _StepBatcher:
    def __init__(self) -> None:
        self.batched: dict[tuple[int, ...], BatchedSteps] = {}

    def take_steps(self, waiting: Sequence[FitTask[Any]]) -> None:
        """Take the steps that the tasks wait for, those with equal keys together."""
        groups: dict[Hashable, list[tuple[FitTask[Any], StepRequest]]] = {}
        for task in waiting:
            assert task.request is not None
            key = batch_key(task.request.engine.adam, task.request.steps)
            groups.setdefault(key, []).append((task, task.request))
        previous, self.batched = self.batched, {}
        for group in groups.values():
            responses = self._responses([request for _, request in group], previous)
            for (task, _), response in zip(group, responses, strict=True):
                task.response = response

    def _responses(
        self, requests: Sequence[StepRequest], previous: dict[tuple[int, ...], BatchedSteps]
    ) -> Sequence[Terms]:
        adams = [request.engine.adam for request in requests]
        values = adams[0].step.flat_parameters.values
        work = len(requests) * values.numel() * max(requests[0].steps.sizes)
        with limit_threads(work, values.device):
            if len(requests) == 1 or adams[0].step.bf16:
                return [request.engine(request.steps) for request in requests]
            key = tuple(map(id, adams))
            batched = self.batched[key] = previous.get(key) or BatchedSteps(adams)
            return batched([request.steps for request in requests])
