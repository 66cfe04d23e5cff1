"""Atomic writes: a file or folder is written under a temporary name and then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.errors import RequestError, either

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """A context that locks `folder` against other processes; a missing folder is created.

    `doing` names the action in the message. The lock ends with the process. Systems without such
    locks (Windows) are not protected.

    Raises:
        RequestError: Another process holds the lock.
    """
    if fcntl is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise RequestError(
            f"{folder}: another process is {doing}; wait for it, or choose another output"
        ) from error
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing(path: str | Path, *, folder: bool = False, force: bool = True) -> Iterator[Path]:
    """A context with a temporary path to write, which replaces `path` when the block succeeds.

    The temporary path is in the same directory, so that the rename stays on one file system. If
    the block raises, the temporary path is removed and `path` is unchanged.

    Raises:
        RequestError: `path` exists and `force` is False, it is a folder that a file would replace,
            or its parent does not exist.
    """
    target = Path(path)
    check_writable(target, force=force)
    target = target.resolve()  # a link stays, its target is replaced
    if target.is_dir() and not folder:
        raise RequestError(
            f"{target}: is a folder, which a file cannot replace; choose another name"
        )
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    fresh = work / target.name
    try:
        if folder:
            fresh.mkdir()
        yield fresh
        if not folder:
            _sync(fresh)
        _swap(fresh, target, work / "replaced")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_writable(path: str | Path, *, force: bool) -> None:
    """Raise RequestError unless `path` can be written: its parent exists, and `path` does not.

    With `force`, `path` may exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise RequestError(f"{target}: the folder {target.parent} does not exist; create it first")
    if target.is_symlink() and not target.exists():
        raise RequestError(f"{target}: is a broken symbolic link; remove it or choose another name")
    if target.exists() and not force:
        raise RequestError(
            f"{target}: already exists; choose another name, or replace it with "
            f"{either('force=True', '--force')}"
        )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _swap(fresh: Path, target: Path, replaced: Path) -> None:
    # A file replaces a file in one step. A folder cannot, so the old folder is renamed first, and
    # restored if the rename of the new one fails.
    if not target.is_dir():
        fresh.replace(target)
        return
    try:
        target.replace(replaced)
        fresh.replace(target)
    except BaseException:  # also on Ctrl-C the old folder is restored
        if replaced.exists() and not target.exists():
            replaced.replace(target)
        raise
