"""Delay the import of torch's compiler, which takes longer than many fits."""

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from isthmus._compat import optimizers_without_compiler

COMPILER = "torch._dynamo"


class SharedContext:
    """A process-wide change that overlapping blocks share: entered once and left with the last."""

    def __init__(self, change: Callable[[], AbstractContextManager[None]]) -> None:
        self.change, self.lock, self.blocks = change, threading.Lock(), 0
        self.stack = ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if not self.blocks:
                self.stack.enter_context(self.change())
            self.blocks += 1

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.blocks -= 1
            if not self.blocks:
                self.stack.close()


_SKIP_IMPORT = SharedContext(optimizers_without_compiler)


def skip_compiler_import() -> AbstractContextManager[None]:
    """A context in which torch's optimizers do not import the compiler at their first use.

    They import it only to exclude themselves from compilation, which needs no exclusion as long
    as the compiler is not imported.
    """
    return nullcontext() if COMPILER in sys.modules else _SKIP_IMPORT
