"""Where a fit runs: the device, the precision and the threads."""

import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from threadpoolctl import ThreadpoolController
from torch.optim import Optimizer

from isthmus.errors import RequestError, require
from isthmus.spec import short_repr

COMPILER, MARK = "torch._dynamo", "__dynamo_disable"
LEFT_ALONE = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")

PRECISIONS = ("auto", "float64", "float32", "bf16")
SMALL_WORK = 10_000_000
"""Multiply-adds a batch below which a second thread brings nothing where all cores are free, and
costs ten times where they are not: each step then waits for the slower one."""


def resolve_device(name: str | torch.device) -> torch.device:
    """The device `name` is or stands for; "auto" is the GPU when there is one.

    Raises RequestError for a name torch does not know or a device that is not there.
    """
    name = str(name) if isinstance(name, torch.device) else name
    require(
        isinstance(name, str), f"device={short_repr(name)} must be a name, such as 'cpu' or 'auto'"
    )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise RequestError(
            f"device={name!r} cannot be used here ({reason}); use 'cpu' or 'auto'"
        ) from error
    require(device.type != "meta", f"device={name!r} computes nothing; use 'cpu' or 'auto'")
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and probe is not None and bool(probe())


def import_ahead() -> None:
    """Begin to import in the background what torch's optimizers import at their first use.

    Worth it beside work that leaves Python's lock alone, such as the products of a PCA.
    """
    threading.Thread(target=importlib.import_module, args=(COMPILER,), daemon=True).start()


class Overlapping:
    """A change to the whole process, for the time from when the first of some blocks begins.

    It is undone when the last of those that ran at the same time has ended.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[None]]) -> None:
        self.change, self.lock, self.blocks = change, threading.Lock(), 0
        self.made = ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if not self.blocks:
                self.made.enter_context(self.change())
            self.blocks += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.blocks -= 1
            if not self.blocks:
                self.made.close()


@contextmanager
def _optimizers_told() -> Iterator[None]:
    methods = [getattr(getattr(Optimizer, name), "__wrapped__", None) for name in LEFT_ALONE]
    told: list[Any] = [one for one in methods if one is not None and not hasattr(one, MARK)]
    for one in told:
        setattr(one, MARK, one)
    try:
        yield
    finally:
        for one in told:
            delattr(one, MARK)


_OPTIMIZERS_TOLD = Overlapping(_optimizers_told)


def without_compiler() -> AbstractContextManager[None]:
    """Spare a fit the import of torch's compiler, which takes longer than many a fit.

    Some methods of torch's optimizers import it at their first use, to tell it to leave them alone
    (`torch._compile._disable_dynamo`). While it is not there, they need not tell it.
    """
    return nullcontext() if COMPILER in sys.modules else _OPTIMIZERS_TOLD


def processors() -> int:
    """How many processors this process may use, whatever torch was told."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_small(work: int, device: torch.device) -> bool:
    """Whether a batch of so many multiply-adds is less than what asking for it costs."""
    return device.type == "cpu" and work < SMALL_WORK


@contextmanager
def threads(work: int, device: torch.device) -> Iterator[None]:
    """Run a block with one thread, torch's and NumPy's, when a batch's `work` is small.

    `work` is in multiply-adds.
    """
    before = torch.get_num_threads()
    if before == 1 or not is_small(work, device):
        yield
        return
    with _pools().limit(limits=1, user_api="blas"):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Leave the numbers of threads as they were, in whichever order they are changed inside."""
    before = torch.get_num_threads()
    with _pools().limit(limits=None):
        try:
            yield
        finally:
            torch.set_num_threads(before)


@functools.cache
def _pools() -> ThreadpoolController:
    """The thread pools of the libraries of linear algebra."""
    return ThreadpoolController()


_TURN, TAKEN = threading.Lock(), ContextVar("taken", default=False)
"""Whose turn it is to fit, and whether this thread, or the one that it fits for, has it."""


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for the fits of other threads to end.

    Random numbers and the number of threads are the process's: two fits would draw from each
    other's. A fit within a fit, of a callback say, goes on in the turn that its thread has.
    """
    if TAKEN.get():
        yield
        return
    with _TURN:
        before = TAKEN.set(True)
        try:
            yield
        finally:
            TAKEN.reset(before)


@contextmanager
def private_randomness(device: torch.device) -> Iterator[None]:
    """Leave torch's global random state as it was found, and draw from it alone."""
    devices = [device] if device.type == "cuda" else []
    with one_at_a_time(), torch.random.fork_rng(devices=devices):
        yield
