"""Write a file or a folder beside its place and rename it there: whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.errors import RequestError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(folder: Path, doing: str) -> Iterator[None]:
    """Keep other processes from `doing` the same with `folder`, which is made where it is not.

    The lock goes with the process, however that ends. Where a system has no such locks there is
    none. Raises RequestError when another process holds it.
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
    """A temporary path to write; when the block ends well it takes the place of `path`.

    The temporary lies in the same directory, so that the rename stays on one file system. When
    the block raises, the temporary is removed and whatever was at `path` is untouched.

    Raises RequestError when `path` exists and `force` is False, when it is a folder that a file
    would replace, or when its parent does not exist.
    """
    target = Path(path)
    check_free(target, force=force)
    target = target.resolve()  # what a link points to is replaced, not the link
    if target.is_dir() and not folder:
        raise RequestError(f"{target}: is a folder, which no file replaces; choose another name")
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


def check_free(path: str | Path, *, force: bool) -> None:
    """Raise RequestError unless `path` can be written: a parent that exists, and no file there yet.

    With `force` a file may be there.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise RequestError(f"{target}: the folder {target.parent} does not exist; create it first")
    if target.is_symlink() and not target.exists():
        raise RequestError(f"{target}: is a link to nothing; remove it, or choose another name")
    if target.exists() and not force:
        raise RequestError(
            f"{target}: already exists; choose another name, or replace it with force=True "
            "(command line: --force)"
        )


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _swap(fresh: Path, target: Path, replaced: Path) -> None:
    # A file replaces a file in one step. A folder cannot, so the old one steps aside first and
    # comes back if the new one cannot take its place.
    if not target.is_dir():
        fresh.replace(target)
        return
    try:
        target.replace(replaced)
        fresh.replace(target)
    except BaseException:  # Ctrl-C, too, must not lose the old one
        if replaced.exists() and not target.exists():
            replaced.replace(target)
        raise
