"""Ctrl-C while many steps are under way, and fits in threads that it does not reach."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Stop:
    """A word to fits that they shall end, which they look for before each step."""

    def __init__(self, above: "Stop | None" = None) -> None:
        """With the word `above` it, which is meant for these fits too."""
        self.above, self.told = above, False

    @property
    def asked(self) -> bool:
        """Whether the word was given."""
        return self.told or (self.above is not None and self.above.asked)

    def heed(self) -> None:
        """Raise KeyboardInterrupt where the word was given."""
        if self.asked:
            raise KeyboardInterrupt


STOP: ContextVar[Stop | None] = ContextVar("stop", default=None)
"""That of the fit under way, where it is one of several at once."""


def heed() -> None:
    """Raise KeyboardInterrupt where the fit under way shall end."""
    stop = STOP.get()
    if stop is not None:
        stop.heed()


@contextmanager
def uninterrupted(stop: Stop | None = None) -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended: it takes moments, and half of it is no use.

    A longer block looks for `stop`, which Ctrl-C sets, however often it comes. Raises
    KeyboardInterrupt behind the block. Where Ctrl-C does something else, or is another thread's,
    this does nothing.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    word = stop or Stop()
    signal.signal(signal.SIGINT, lambda *_: setattr(word, "told", True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if word.told:
        raise KeyboardInterrupt
