"""Threads, random state and the lock of fits: process-wide settings that a fit changes."""

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from threadpoolctl import ThreadpoolController

SMALL_WORK = 10_000_000
"""Multiply-adds per batch below which one thread is used. With all cores free, a second thread
gains nothing; with busy cores it costs ten times the step, which then waits for the slower one."""


def available_cpus() -> int:
    """The number of processors this process may use, whatever torch's own setting is."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_small(work: int, device: torch.device) -> bool:
    """Whether a batch of `work` multiply-adds takes less time than the calls it needs."""
    return device.type == "cpu" and work < SMALL_WORK


@contextmanager
def limit_threads(work: int, device: torch.device) -> Iterator[None]:
    """A context in which torch and NumPy use one thread if `work`, in multiply-adds, is small."""
    before = torch.get_num_threads()
    if before == 1 or not is_small(work, device):
        yield
        return
    with _thread_pools().limit(limits=1, user_api="blas"):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def preserve_threads() -> Iterator[None]:
    """A context after which the numbers of threads are as before, however it changed them."""
    before = torch.get_num_threads()
    with _thread_pools().limit(limits=None):
        try:
            yield
        finally:
            torch.set_num_threads(before)


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """The thread pools of the linear algebra libraries."""
    return ThreadpoolController()


_LOCK = threading.Lock()
HOLDS_FIT_LOCK: ContextVar[bool] = ContextVar("holds_fit_lock", default=False)
"""Whether the current context, or the one that it works for, holds the process-wide fit lock."""


@contextmanager
def fit_lock() -> Iterator[None]:
    """A context that waits for the fits of other threads to end; reentrant.

    Random numbers and thread counts belong to the process, so two fits would affect each other. A
    fit inside a fit, in a callback for example, uses the lock that its thread holds.
    """
    if HOLDS_FIT_LOCK.get():
        yield
        return
    with _LOCK:
        token = HOLDS_FIT_LOCK.set(True)
        try:
            yield
        finally:
            HOLDS_FIT_LOCK.reset(token)


@contextmanager
def isolated_rng(device: torch.device) -> Iterator[None]:
    """A context that restores torch's global random state afterwards; it holds the fit lock."""
    devices = [device] if device.type == "cuda" else []
    with fit_lock(), torch.random.fork_rng(devices=devices):
        yield
