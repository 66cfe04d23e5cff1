"""Background threads that compute items before they are needed, in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

THREAD_NAME = "isthmus-prefetch"


def prefetch(
    work: Callable[[T], R], items: Iterable[T], *, depth: int = 1, threads: int = 1
) -> Generator[R]:
    """`work(item)` for each item in order, with at most `depth` results computed in advance.

    A `depth` of 0 uses no thread. An exception in `work` is raised when its result is due. The
    threads have ended when the iterator is closed or an exception passes through it.
    """
    if depth < 1:
        yield from map(work, items)
        return
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(min(threads, depth), thread_name_prefix=THREAD_NAME)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
