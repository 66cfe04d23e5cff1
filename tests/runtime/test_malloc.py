"""Large fits keep the memory they free, and return it at the end."""

import subprocess
import sys

import pytest

from isthmus.runtime.malloc import _is_glibc

FAULTS = 10 * 160 / 2
"""Half of the page faults of ten steps that request all of their memory, in 2 MB pages."""

STEPS = """
import resource, sys, threading
import torch
from isthmus.runtime import malloc

def faults(work):
    with malloc.keep_freed_memory(work, torch.device("cpu")):
        for step in range(12):
            if step == 2:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            blocks = [torch.ones(5 * 2**20) for _ in range(8)]  # 160 MB, which are freed again
            del blocks
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mb():
    lines = open("/proc/self/status", encoding="utf-8").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
"""


def numbers_printed(code: str, **environment: str) -> list[float]:
    """The numbers that a separate process prints."""
    command = [sys.executable, "-c", STEPS + code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [float(word) for word in ran.stdout.split()]


@pytest.mark.skipif(not _is_glibc(), reason="only the GNU C library can be configured")
def test_steps_of_large_fits_reuse_freed_memory():
    small, large = numbers_printed("print(faults(1), faults(10**9))")
    assert small > FAULTS
    assert large < small / 20, "freed memory is not kept"


@pytest.mark.skipif(not _is_glibc(), reason="only the GNU C library can be configured")
def test_memory_is_returned_after_the_last_of_several_fits():
    both_fits, last_fit, no_fit = numbers_printed("""
first, second = (malloc.keep_freed_memory(10**9, torch.device("cpu")) for _ in range(2))
first.__enter__(); second.__enter__()
blocks = [torch.ones(5 * 2**20) for _ in range(8)]
del blocks
print(resident_mb())
first.__exit__(None, None, None)
print(resident_mb())
second.__exit__(None, None, None)
print(resident_mb())
""")
    assert last_fit == pytest.approx(both_fits, abs=8)
    assert no_fit < last_fit - 120


@pytest.mark.skipif(not _is_glibc(), reason="only the GNU C library can be configured")
def test_settings_from_the_environment_are_respected():
    (n_faults,) = numbers_printed("print(faults(10**9))", MALLOC_TRIM_THRESHOLD_="1000000")
    assert n_faults > FAULTS
