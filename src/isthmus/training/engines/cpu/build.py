"""Compile the C kernel with the machine's own compiler when it first pays, and cache it.

Without a compiler only speed is lost. ISTHMUS_COMPILE=never turns compiling off.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from isthmus.errors import RequestError
from isthmus.files import replacing
from isthmus.runtime.cache import cache_folder, processor_name

SOURCE_NAMES = ("steps.c", "bf16_adam.c", "steps.h", "columns.h")
SOURCES = [Path(__file__).with_name("native") / name for name in SOURCE_NAMES]
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-pthread",
)
VARIABLE, NEVER = "ISTHMUS_COMPILE", "never"
TIMEOUT_SECONDS = 60
SYMBOL = "steps_double"
"""A function that every compiled kernel has."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel, or None if this machine cannot compile it."""
    folder = cache_folder()
    if folder is None or sys.platform == "win32":
        return None
    kernels = (_load_cached(folder, c) or _compile_and_load(folder, c) for c in _compilers())
    return next((kernel for kernel in kernels if kernel is not None), None)


def no_library() -> str | None:
    """The reason why there is no kernel, or None if there is one."""
    if library() is not None:
        return None
    if os.environ.get(VARIABLE) == NEVER:
        return f"{VARIABLE}={NEVER} is set"
    return "no working C compiler was found"


def _compilers() -> list[list[str]]:
    """Commands that compile C: $CC first, then the usual names."""
    if os.environ.get(VARIABLE) == NEVER:
        return []
    commands = [_split_command(os.environ.get("CC", "")), ["cc"], ["gcc"], ["clang"]]
    return [
        [program, *command[1:]]
        for command in commands
        if command and (program := shutil.which(command[0]))
    ]


def _split_command(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unclosed quotation
        return []


def _load_cached(folder: Path, compiler: list[str]) -> ctypes.CDLL | None:
    """The kernel that this compiler made before, if its bytes still match its name."""
    for path in sorted(folder.glob(f"steps-{_build_digest(compiler)}-*.so")):
        with contextlib.suppress(OSError):
            is_intact = path.name.endswith(f"-{_content_digest(path.read_bytes())}.so")
            if is_intact and _is_private(path):
                return _load(path)
    return None


def _compile_and_load(folder: Path, compiler: list[str]) -> ctypes.CDLL | None:
    """Compile and cache the kernel; None if that fails or the result cannot be run."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, RequestError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = _compile(compiler)
        path = folder / f"steps-{_build_digest(compiler)}-{_content_digest(content)}.so"
        with replacing(path) as fresh:
            fresh.write_bytes(content)
        if _is_private(path):
            return _load(path)
    return None


def _compile(compiler: list[str]) -> bytes:
    """The bytes of the compiled library."""
    with tempfile.TemporaryDirectory() as work:
        output = Path(work) / "steps.so"
        sources = [str(source) for source in SOURCES if source.suffix == ".c"]
        command = [*compiler, *FLAGS, *sources, "-o", str(output), "-lm"]
        subprocess.run(  # noqa: S603  our own sources, and the user's own compiler
            command, check=True, capture_output=True, timeout=TIMEOUT_SECONDS
        )
        return output.read_bytes()


def _load(path: Path) -> ctypes.CDLL | None:
    kernel = ctypes.CDLL(str(path))
    return kernel if hasattr(kernel, SYMBOL) else None


def _build_digest(compiler: list[str]) -> str:
    """A digest of everything that decides the compiled bytes: sources, compiler, processor."""
    digest = hashlib.blake2b(digest_size=12)
    for source in SOURCES:
        digest.update(source.read_bytes())
    changed = Path(compiler[0]).stat().st_mtime_ns
    digest.update(repr((compiler, changed, FLAGS, processor_name())).encode())
    return digest.hexdigest()


def _content_digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _is_private(path: Path) -> bool:
    """Whether only this user can have written a file that is about to be run."""
    for part in (path, path.parent):
        status = part.stat()
        if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
    return True
