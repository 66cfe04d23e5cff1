"""Several fits at once: each goes its own way, steps that suit are taken together."""

import functools
import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from isthmus.runtime.device import TAKEN, one_at_a_time, threads, threads_kept
from isthmus.training.cancellation import STOP, Stop, heed, uninterrupted
from isthmus.training.engines.base import Judge, ManySteps, Steps, Terms
from isthmus.training.engines.batched import Stack, likeness
from isthmus.training.engines.cpu.kernel import Compiled
from isthmus.training.engines.dense.adam_loop import Stride
from isthmus.training.reporters import WHO

R = TypeVar("R")

A_WHILE = 0.1
"""Seconds."""

Asked = tuple[Stride, Steps]
Known = dict[Hashable, tuple[tuple[object, ...], Any]]
"""What was worked out for all, with the objects that it belongs to, which so stay what they are."""


class World(NamedTuple):
    """What torch keeps for the whole process, or for a thread, and a fit changes."""

    threads: int
    states: tuple[Tensor, ...]

    @classmethod
    def now(cls) -> Self:
        """As it is."""
        cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        states = (torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if cuda else ()))
        return cls(torch.get_num_threads(), states)

    def restore(self) -> None:
        """Make it so again."""
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        torch.set_rng_state(self.states[0])
        if len(self.states) > 1:
            torch.cuda.set_rng_state_all(self.states[1:])


class Member(Generic[R]):
    """One fit, in a thread of its own that only ever runs while all others wait, or are apart.

    Random state and number of threads are its own while it runs: it cannot tell that there are
    others.
    """

    def __init__(
        self, job: Callable[[], R], name: str, world: World, known: Known, desk: "Desk"
    ) -> None:
        self.job, self.name, self.world, self.known, self.desk = job, name, world, known, desk
        self.who = WHO.get() + (f"{name}: " if name else "")
        self.turn, self.over = threading.Semaphore(0), threading.Semaphore(0)
        self.asked: Asked | None = None
        self.answer: Terms = {}
        self.results: list[R] = []
        self.error: BaseException | None = None
        self.away, self.ended = False, threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def go_on(self) -> None:
        """Let it run until it asks for steps, or ends."""
        if self.thread.ident is None:
            self.thread.start()
        self.turn.release()
        # Ctrl-C in the very moment in which a wait begins is seen when that ends.
        while not self.over.acquire(timeout=A_WHILE):
            pass

    def end(self) -> None:
        """Wait until it has ended, as it was told to; it may be anywhere on its way."""
        self.turn.release()  # nobody else is let run any more, so one too many does no harm
        if self.thread.ident is not None:
            self.ended.wait()  # of a join that is interrupted Python 3.11 makes an end
            self.thread.join()

    @property
    def outcome(self) -> R | Exception:
        """What the job returned, or the exception it ended with."""
        return self.error if isinstance(self.error, Exception) else self.results[0]

    def check(self) -> None:
        """Pass on what ended it, where that is no Exception."""
        if self.error is not None and not isinstance(self.error, Exception):
            raise self.error

    def steps(self, stride: Stride, steps: Steps) -> Terms:
        """Ask for steps, from inside the job, and wait until they were taken."""
        self.asked, self.world = (stride, steps), World.now()
        self.over.release()
        self._resume()
        self.asked = None
        return self.answer

    def apart(self, work: Callable[[], Terms]) -> Terms:
        """Do what needs nobody's attention, while another member has its turn."""
        self.world, self.away = World.now(), True
        self.over.release()
        try:
            with self.desk.cores:
                return work()
        finally:
            self.desk.back.put(self)
            self._resume()

    def _resume(self) -> None:
        """Wait for its turn, and find everything as it was left."""
        self.turn.acquire()
        self.world.restore()
        self.away = False
        heed()

    def _work(self) -> None:
        MEMBER.set(self)
        TAKEN.set(True)  # by whoever runs the crew
        STOP.set(self.desk.stop)
        WHO.set(self.who)
        try:
            self._resume()
            self.results.append(self.job())
        except BaseException as error:  # whoever runs the crew is told
            self.error = error
            if self.name:
                error.add_note(f"raised by {self.name}")
        finally:
            self.ended.set()
            self.over.release()


MEMBER: ContextVar[Member[Any] | None] = ContextVar("member", default=None)
"""The member whose job runs here."""


class Desk(NamedTuple):
    """Where members who are apart meet again."""

    back: "queue.SimpleQueue[Member[Any]]"
    """Who has come back."""

    cores: threading.Semaphore
    """How many may be apart at the same time: as many as there are processors, and one more who
    waits for Python to go on."""

    stop: Stop
    """The word that ends all of them."""


class Shared:
    """A stride of a member, taken when all others have asked for one too.

    One that Python has no part in is taken at once, while the others go on.
    """

    def __init__(self, stride: Stride, member: Member[Any]) -> None:
        self.stride, self.member = stride, member
        self.most, self.engine = stride.most, stride.engine
        if isinstance(stride, Compiled):
            stride.threads = 1  # the others need the processors

    @property
    def judge(self) -> Judge | None:
        """That of the stride, while the others go on."""
        judge = self.stride.judge
        if judge is None:
            return None
        return lambda rows, weight: self.member.apart(functools.partial(judge, rows, weight))

    def __call__(self, steps: Steps) -> Terms:
        """Every term as it was before its step, summed over all rows."""
        if isinstance(self.stride, Compiled):
            return self.member.apart(functools.partial(self.stride, steps))
        return self.member.steps(self.stride, steps)

    def anew(self) -> Stride:
        """The stride alone: there is no crew where its fit has ended."""
        return self.stride.anew()


def once(owners: tuple[object, ...], key: Hashable, make: Callable[[], R]) -> R:
    """What `make` gives, worked out once for all fits of a crew.

    `key` and the very objects that are its `owners` decide it; whoever has it must not change it.
    """
    member = MEMBER.get()
    if member is None:
        return make()
    place = key, tuple(map(id, owners))
    if place not in member.known:
        member.known[place] = owners, make()
    found: R = member.known[place][1]
    return found


def shared(stride: Stride | None) -> ManySteps | None:
    """A stride, taken together with those of the other members where this fit is one of a crew."""
    member = MEMBER.get()
    return stride if stride is None or member is None else Shared(stride, member)


def run_together(jobs: Sequence[Callable[[], R]]) -> list[R | Exception]:
    """What each job returns, or the exception it ended with; fits inside them share their steps.

    Each fit takes the steps it would take alone, within rounding. What is no Exception, such as
    KeyboardInterrupt, is passed on when every job has ended. Ctrl-C, however often it comes, ends
    each of them before its next step. Lines and warnings of a fit begin with its number, from 1,
    and what it raises has a note of it.
    """
    stop = Stop(STOP.get())
    with one_at_a_time(), uninterrupted(stop), threads_kept():
        known, world = Known(), World.now()
        desk = Desk(queue.SimpleQueue(), threading.Semaphore(world.threads + 1), stop)
        names = [
            f"fit {at} of {len(jobs)}" if len(jobs) > 1 else "" for at in range(1, len(jobs) + 1)
        ]
        members = [Member(*each, world, known, desk) for each in zip(jobs, names, strict=True)]
        return _together(members, desk)


def _together(members: Sequence[Member[R]], desk: Desk) -> list[R | Exception]:
    before, crew = World.now(), _Crew()
    ready, waiting = deque[Member[Any]](members), list[Member[Any]]()
    try:
        while ready or waiting or any(member.away for member in members):
            desk.stop.heed()
            if ready:
                member = ready.popleft()
                member.go_on()
                member.check()
                if member.asked is not None and not member.away:
                    waiting.append(member)
            elif any(member.away for member in members):
                ready.append(desk.back.get())
            else:
                crew.serve(waiting)
                ready.extend(waiting)
                waiting.clear()
    except BaseException:
        desk.stop.told = True  # before anything that may be interrupted in turn
        _end(members)
        raise
    finally:
        before.restore()
    for member in members:
        member.end()
    return [member.outcome for member in members]


def _end(members: Sequence[Member[Any]]) -> None:
    """End every job that has begun, one after the other, so that each can tidy up.

    However often that is interrupted, where it can be: what has to be told is on its way already.
    """
    while True:
        with suppress(BaseException):
            for member in members:
                member.end()
            return


class _Crew:
    def __init__(self) -> None:
        self.stacks: dict[tuple[int, ...], Stack] = {}

    def serve(self, waiting: Sequence[Member[Any]]) -> None:
        """Take the steps that everybody waits for."""
        groups: dict[Hashable, list[Member[Any]]] = {}
        for member in waiting:
            assert member.asked is not None
            groups.setdefault(likeness(*member.asked), []).append(member)
        stacks, self.stacks = self.stacks, {}
        for group in groups.values():
            asked = [member.asked for member in group if member.asked is not None]
            strides, steps = [one[0] for one in asked], [one[1] for one in asked]
            answers = self._taken(strides, steps, stacks)
            for member, answer in zip(group, answers, strict=True):
                member.answer = answer

    def _taken(
        self,
        strides: Sequence[Stride],
        steps: Sequence[Steps],
        stacks: dict[tuple[int, ...], Stack],
    ) -> Sequence[Terms]:
        values = strides[0].step.store.values
        work = len(strides) * values.numel() * max(steps[0].sizes)
        with threads(work, values.device):
            if len(strides) == 1 or strides[0].step.bf16:
                return [stride(one) for stride, one in zip(strides, steps, strict=True)]
            key = tuple(map(id, strides))
            stack = self.stacks[key] = stacks.get(key) or Stack(strides)
            return stack(steps)
