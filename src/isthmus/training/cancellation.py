"""Cancel fits between steps, on Ctrl-C or from another thread."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class CancellationToken:
    """A cancellation flag that fits check before each step."""

    def __init__(self, parent: "CancellationToken | None" = None) -> None:
        """Cancelling the `parent` cancels this token too."""
        self.parent, self.is_set = parent, False

    @property
    def cancelled(self) -> bool:
        """Whether this token or a parent is cancelled."""
        return self.is_set or (self.parent is not None and self.parent.cancelled)

    def check(self) -> None:
        """Raise KeyboardInterrupt if the token is cancelled."""
        if self.cancelled:
            raise KeyboardInterrupt


CANCELLATION: ContextVar[CancellationToken | None] = ContextVar("cancellation", default=None)
"""The token of the current fit, if it runs together with others."""


def check_cancelled() -> None:
    """Raise KeyboardInterrupt if the current fit is cancelled."""
    token = CANCELLATION.get()
    if token is not None:
        token.check()


@contextmanager
def deferred_interrupts(token: CancellationToken | None = None) -> Iterator[None]:
    """A context that delays Ctrl-C to its end, where KeyboardInterrupt is raised.

    Ctrl-C sets the `token`, which a longer block checks. If SIGINT has another handler, or in
    another thread than the main one, the context does nothing.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    flag = token or CancellationToken()
    signal.signal(signal.SIGINT, lambda *_: setattr(flag, "is_set", True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if flag.is_set:
        raise KeyboardInterrupt
