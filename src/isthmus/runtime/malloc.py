"""The memory of large steps, kept from one to the next.

The GNU C library hands what a step has freed back to the system, above an end that is soon reached,
and each page that the next step asks for again costs a fault: a seventh to a quarter of the time of
a step of convolutions.
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
"""Settings of `mallopt`, as the library's malloc.h numbers them."""

MEGABYTE = 1 << 20
LARGEST_BLOCK = 32 * MEGABYTE
"""Blocks up to this are taken from what was kept; more than this the library does not allow."""

KEPT, TAKEN = 1024 * MEGABYTE, 64 * MEGABYTE
"""Free memory that is not handed back, and what is asked of the system at a time."""

AFTERWARDS = 2 * LARGEST_BLOCK, 128 * 1024
"""The same two as the library itself has them once a block of 32 MB was freed."""


def kept(work: int, device: torch.device) -> AbstractContextManager[None]:
    """A block in which freed memory is kept for the next step, where a batch's `work` is large.

    `work` is in multiply-adds. What the block has freed is handed back at its end. Whoever has set
    the library's own variables (MALLOC_TRIM_THRESHOLD_ and its like, GLIBC_TUNABLES) is obeyed.
    """
    if device.type != "cpu" or is_small(work, device) or _is_set() or not _is_glibc():
        return nullcontext()
    return _KEPT


@contextmanager
def _keeping() -> Iterator[None]:
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
    _set(library, KEPT, TAKEN)
    try:
        yield
    finally:
        _set(library, *AFTERWARDS)
        library.malloc_trim(0)


_KEPT = SharedContext(_keeping)


def _set(library: ctypes.CDLL, threshold: int, pad: int) -> None:
    library.mallopt(TRIM_THRESHOLD, threshold)
    library.mallopt(TOP_PAD, pad)


def _is_set() -> bool:
    names = [name for name in os.environ if name.startswith("MALLOC_")]
    return bool(names) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
