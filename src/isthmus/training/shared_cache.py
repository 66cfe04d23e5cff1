"""A cache that fits of the same rows share while they run together."""

from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, TypeVar

R = TypeVar("R")

Cache = dict[Hashable, tuple[tuple[object, ...], Any]]
"""Results by key, each with its owners, so that their ids stay valid."""

CACHE: ContextVar[Cache | None] = ContextVar("cache", default=None)
"""The cache of the fits that run together, or None for a single fit."""


def cached(owners: tuple[object, ...], key: Hashable, make: Callable[[], R]) -> R:
    """The result of `make`, computed once per key and owners by fits that run together.

    Owners are compared by identity. Callers must not modify the result.
    """
    cache = CACHE.get()
    if cache is None:
        return make()
    full_key = key, tuple(map(id, owners))
    if full_key not in cache:
        cache[full_key] = owners, make()
    result: R = cache[full_key][1]
    return result
