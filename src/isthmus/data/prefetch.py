"""Work done ahead of its time by threads, handed over in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

NAME = "isthmus-ahead"
"""What the threads are called."""


def ahead(
    work: Callable[[T], R], items: Iterable[T], *, depth: int = 1, threads: int = 1
) -> Generator[R]:
    """`work(item)` for each item in order, at most `depth` of them begun before they are asked for.

    With a `depth` of 0 there is no thread. What `work` raises is raised where its answer is asked
    for. When the iterator is closed, or an error passes through it, the threads have ended.
    """
    if depth < 1:
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(min(threads, depth), thread_name_prefix=NAME)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
