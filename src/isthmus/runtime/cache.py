"""The folder of this user for compiled kernels and measurements, and the processor's name."""

import functools
import os
import platform
from pathlib import Path


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/isthmus` or `~/.cache/isthmus`; None for a user without a home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "isthmus"
    except RuntimeError:
        return None


@functools.cache
def processor_name() -> str:
    """The processor's model and instructions; machines that differ may share a home folder."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    wanted = ("model name", "flags", "Features")
    details = sorted({line for line in lines if line.startswith(wanted)})
    return "\n".join([platform.machine(), platform.processor(), *details])
