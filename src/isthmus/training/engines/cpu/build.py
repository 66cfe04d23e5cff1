"""The kernel in C, compiled by the machine's own compiler when it is first worth it, and kept.

Where there is no compiler, nothing is lost but speed. ISTHMUS_COMPILE=never forbids it.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from isthmus.errors import RequestError
from isthmus.files import replacing

NAMES = ("steps.c", "moves.c", "steps.h", "columns.h")
SOURCES = [Path(__file__).with_name("native") / name for name in NAMES]
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-pthread",
)
FORBIDDEN = "never"
MOST_SECONDS = 60
SYMBOL = "steps_double"
"""One of the functions that the kernel has."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where nothing on this machine can compile it."""
    folder = _folder()
    if folder is None or sys.platform == "win32":
        return None
    found = (_kept(folder, compiler) or _made(folder, compiler) for compiler in _compilers())
    return next((kernel for kernel in found if kernel is not None), None)


def _compilers() -> list[list[str]]:
    """Commands that compile C: what $CC says, and those that go by a usual name."""
    if os.environ.get("ISTHMUS_COMPILE") == FORBIDDEN:
        return []
    commands = [_words(os.environ.get("CC", "")), ["cc"], ["gcc"], ["clang"]]
    return [
        [found, *command[1:]]
        for command in commands
        if command and (found := shutil.which(command[0]))
    ]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation that does not end
        return []


def _folder() -> Path | None:
    """Where compiled files are kept, for this user alone; None for one without a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "isthmus"
    except RuntimeError:
        return None


def _kept(folder: Path, compiler: list[str]) -> ctypes.CDLL | None:
    """What this compiler made before, if its bytes are still those that its name tells."""
    for place in sorted(folder.glob(f"steps-{_digest(compiler)}-*.so")):
        with contextlib.suppress(OSError):
            if place.name.endswith(f"-{_digest_of(place.read_bytes())}.so") and _is_ours(place):
                return _loaded(place)
    return None


def _made(folder: Path, compiler: list[str]) -> ctypes.CDLL | None:
    """Compile and keep it; None where that cannot be done, or what was made cannot be run."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, RequestError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = _compiled(compiler)
        place = folder / f"steps-{_digest(compiler)}-{_digest_of(content)}.so"
        with replacing(place) as fresh:
            fresh.write_bytes(content)
        if _is_ours(place):
            return _loaded(place)
    return None


def _compiled(compiler: list[str]) -> bytes:
    """The bytes of the compiled file."""
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / "steps.so"
        texts = [str(source) for source in SOURCES if source.suffix == ".c"]
        command = [*compiler, *FLAGS, *texts, "-o", str(made), "-lm"]
        subprocess.run(  # noqa: S603  what is compiled is ours, and who compiles it the user's
            command, check=True, capture_output=True, timeout=MOST_SECONDS
        )
        return made.read_bytes()


def _loaded(place: Path) -> ctypes.CDLL | None:
    kernel = ctypes.CDLL(str(place))
    return kernel if hasattr(kernel, SYMBOL) else None


def _digest(compiler: list[str]) -> str:
    """What tells one compiled file from others: sources, compiler, processor."""
    told = hashlib.blake2b(digest_size=12)
    for source in SOURCES:
        told.update(source.read_bytes())
    changed = Path(compiler[0]).stat().st_mtime_ns
    told.update(repr((compiler, changed, FLAGS, _processor())).encode())
    return told.hexdigest()


def _digest_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _processor() -> str:
    """What this processor can do: a home folder may be shared by machines that differ."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    known = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return "\n".join([platform.machine(), platform.processor(), *known])


def _is_ours(place: Path) -> bool:
    """Whether nobody else can have written what is about to be run."""
    for path in (place, place.parent):
        found = path.stat()
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True
