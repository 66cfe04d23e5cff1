"""Measure once per machine whether a network trains faster in bfloat16 than in single precision."""

import copy
import hashlib
import json
import math
import os
import time
from typing import NamedTuple

import torch
from torch import nn

from isthmus.errors import RequestError
from isthmus.files import replacing
from isthmus.runtime.cache import cache_folder, processor_name

VARIABLE = "ISTHMUS_PRECISION"
"""The environment variable that replaces the choice of `precision="auto"`."""

MIN_SPEEDUP = 1.1
"""The speed of bfloat16 over single precision from which it is used."""

PROBE_ROWS = 128
REPEATS = 3


class Probe(NamedTuple):
    """The time of one forward and backward pass in each precision, in seconds."""

    float32: float
    bf16: float

    @property
    def speedup(self) -> float:
        """How many times as fast bfloat16 is."""
        return self.float32 / self.bf16

    @property
    def is_faster(self) -> bool:
        """Whether bfloat16 is faster by enough to be used."""
        return self.speedup >= MIN_SPEEDUP


def precision_from_environment(allowed: tuple[str, ...]) -> str | None:
    """The precision that `ISTHMUS_PRECISION` sets, or None if it is unset or "auto".

    Raises RequestError for a value that is not `allowed`.
    """
    value = os.environ.get(VARIABLE, "")
    if value in ("", "auto"):
        return None
    if value not in allowed:
        names = ", ".join(allowed)
        raise RequestError(f"{VARIABLE}={value!r} is not known; use one of {names}, or unset it")
    return value


def probe_bf16(network: nn.Module, shape: tuple[int, ...], batch_size: int) -> Probe:
    """The speed of a network on this processor in both precisions.

    It is measured once per machine, torch version, thread count, network shape and batch size, in
    tens of milliseconds. The answer is cached next to the compiled kernels.
    """
    rows = min(batch_size, PROBE_ROWS)
    key = _key(network, shape, rows)
    return _cached(key) or _store(key, _measure(network, shape, rows))


def _measure(network: nn.Module, shape: tuple[int, ...], rows: int) -> Probe:
    size = torch.Size((rows, *shape)).numel()
    x = torch.linspace(-1, 1, size).reshape(rows, *shape)  # without drawing random numbers
    single = copy.deepcopy(network).float().eval()
    times: dict[bool, list[float]] = {False: [], True: []}
    for repeat in range(REPEATS + 1):
        for bf16, seconds in times.items():
            start = time.perf_counter()
            with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = single(x).reconstruction
            output.sum().backward()
            if repeat:  # the first pass of each precision prepares memory and code
                seconds.append(time.perf_counter() - start)
    return Probe(min(times[False]), min(times[True]))


def _key(network: nn.Module, shape: tuple[int, ...], rows: int) -> str:
    layers = [tuple(parameter.shape) for parameter in network.parameters()]
    parts = [
        processor_name(),
        torch.__version__,
        str(torch.get_num_threads()),
        f"{type(network).__name__} {shape} {rows} {layers}",
    ]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()


_IN_MEMORY: dict[str, Probe] = {}


def _cached(key: str) -> Probe | None:
    if key in _IN_MEMORY:
        return _IN_MEMORY[key]
    folder = cache_folder()
    if folder is None:
        return None
    try:
        values = json.loads((folder / f"precision-{key}.json").read_text(encoding="utf-8"))
        probe = Probe(float(values["float32"]), float(values["bf16"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # missing or damaged: measured again
    if not (0 < probe.float32 < math.inf and 0 < probe.bf16 < math.inf):
        return None
    return _IN_MEMORY.setdefault(key, probe)


def _store(key: str, probe: Probe) -> Probe:
    _IN_MEMORY[key] = probe
    folder = cache_folder()
    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacing(folder / f"precision-{key}.json", force=True) as fresh:
                fresh.write_text(json.dumps(probe._asdict()) + "\n", encoding="utf-8")
        except (OSError, RequestError):
            pass  # a folder that cannot be written: measured again in the next process
    return probe
