"""Keep freed memory in the process between the steps of large networks (glibc only).

By default, glibc soon returns the memory that a step frees to the system. The next step then causes
a page fault for each page: a seventh to a quarter of the time of a step of convolutions.
"""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from isthmus.runtime.compiler import SharedContext
from isthmus.runtime.threads import is_small

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""The parameters of `mallopt`, as numbered in glibc's malloc.h."""

MEGABYTE = 1 << 20
MAX_BLOCK = 32 * MEGABYTE
"""The largest block that is served from freed memory; glibc allows no higher value."""

KEEP_BYTES, GROW_BYTES = 1024 * MEGABYTE, 64 * MEGABYTE
"""Free memory that is not returned to the system, and the size of each request to it."""

DEFAULTS = 2 * MAX_BLOCK, 128 * 1024
"""The same two values as glibc itself sets them after a block of 32 MB was freed."""


def keep_freed_memory(work: int, device: torch.device) -> AbstractContextManager[None]:
    """A context that keeps freed memory for the next step if `work` is large.

    `work` is the number of multiply-adds per batch. The memory is returned to the system at the
    end. Nothing changes if the variables of glibc (MALLOC_*, GLIBC_TUNABLES) configure malloc.
    """
    if device.type != "cpu" or is_small(work, device) or _is_configured() or not _is_glibc():
        return nullcontext()
    return _KEEP_FREED_MEMORY


@contextmanager
def _tuned_malloc() -> Iterator[None]:
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_THRESHOLD, MAX_BLOCK)
    _set(libc, KEEP_BYTES, GROW_BYTES)
    try:
        yield
    finally:
        _set(libc, *DEFAULTS)
        libc.malloc_trim(0)


_KEEP_FREED_MEMORY = SharedContext(_tuned_malloc)


def _set(libc: ctypes.CDLL, threshold: int, pad: int) -> None:
    libc.mallopt(TRIM_THRESHOLD, threshold)
    libc.mallopt(TOP_PAD, pad)


def _is_configured() -> bool:
    names = [name for name in os.environ if name.startswith("MALLOC_")]
    return bool(names) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
