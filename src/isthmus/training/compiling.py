"""The kernel in C, compiled by the machine's own compiler when it is first worth it, and kept.

Where there is no compiler, nothing is lost but speed. ISTHMUS_COMPILE=never forbids it.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from isthmus.files import replacing

SOURCES = [Path(__file__).with_name("native") / name for name in ("steps.c", "steps.h")]
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


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None where nothing on this machine can compile it."""
    compiler, folder = _compiler(), _folder()
    if compiler is None or folder is None or sys.platform == "win32":
        return None
    place = folder / f"steps-{_digest(compiler)}.so"
    try:
        if (place.exists() or _compile(compiler, place)) and _is_ours(place):
            return ctypes.CDLL(str(place))
    except OSError:
        pass  # a folder that cannot be written, or nothing in which can be run
    return None


def _compiler() -> str | None:
    """The C compiler that $CC names, or the first that is found."""
    if os.environ.get("ISTHMUS_COMPILE") == FORBIDDEN:
        return None
    wanted = os.environ.get("CC", "").split()[:1]
    return next(
        (found for name in [*wanted, "cc", "gcc", "clang"] if (found := shutil.which(name))), None
    )


def _folder() -> Path | None:
    """Where compiled files are kept, for this user alone; None for one without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "isthmus"
    except RuntimeError:
        return None


def _digest(compiler: str) -> str:
    """What tells one compiled file from others: sources, compiler, processor."""
    told = hashlib.blake2b(digest_size=12)
    for source in SOURCES:
        told.update(source.read_bytes())
    told.update(repr((compiler, Path(compiler).stat().st_mtime_ns, FLAGS, _processor())).encode())
    return told.hexdigest()


def _processor() -> str:
    """What this processor can do: a home folder may be shared by machines that differ."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    known = sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    return "\n".join([platform.machine(), platform.processor(), *known])


def _compile(compiler: str, place: Path) -> bool:
    """Compile into `place`; whether that went well."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with replacing(place) as fresh:
            command = [compiler, *FLAGS, str(SOURCES[0]), "-o", str(fresh), "-lm"]
            subprocess.run(  # noqa: S603  what is compiled is ours, and who compiles it the user's
                command, check=True, capture_output=True, timeout=MOST_SECONDS
            )
    except subprocess.SubprocessError:
        return False
    return True


def _is_ours(place: Path) -> bool:
    """Whether nobody else can have written what is about to be run."""
    for path in (place, place.parent):
        found = path.stat()
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True
