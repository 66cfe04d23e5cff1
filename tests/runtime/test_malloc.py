"""What large fits keep of the memory they have freed, and that it is handed back."""

import subprocess
import sys

import pytest

from isthmus.runtime.malloc import _is_glibc

FAULTS = 10 * 160 / 2
"""Of ten steps that ask the system for all of their memory, in pages of 2 MB or less."""

STEPS = """
import resource, sys, threading
import torch
from isthmus.runtime import malloc

def faults(work):
    with malloc.kept(work, torch.device("cpu")):
        for step in range(12):
            if step == 2:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            blocks = [torch.ones(5 * 2**20) for _ in range(8)]  # 160 MB, which are freed again
            del blocks
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    lines = open("/proc/self/status", encoding="utf-8").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
"""


def said(code: str, **environment: str) -> list[float]:
    """What a process of its own prints, in numbers."""
    command = [sys.executable, "-c", STEPS + code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [float(word) for word in ran.stdout.split()]


@pytest.mark.skipif(not _is_glibc(), reason="only the GNU C library can be told")
def test_steps_of_large_fits_take_what_the_one_before_has_freed():
    small, large = said("print(faults(1), faults(10**9))")
    assert small > FAULTS
    assert large < small / 20, "what is freed is not kept"


@pytest.mark.skipif(not _is_glibc(), reason="only the GNU C library can be told")
def test_memory_is_handed_back_after_the_last_of_several_fits():
    both, one, none = said("""
first, second = (malloc.kept(10**9, torch.device("cpu")) for _ in range(2))
first.__enter__(); second.__enter__()
blocks = [torch.ones(5 * 2**20) for _ in range(8)]
del blocks
print(held())
first.__exit__(None, None, None)
print(held())
second.__exit__(None, None, None)
print(held())
""")
    assert one == pytest.approx(both, abs=8)
    assert none < one - 120


@pytest.mark.skipif(not _is_glibc(), reason="only the GNU C library can be told")
def test_whoever_has_set_the_library_is_obeyed():
    (own,) = said("print(faults(10**9))", MALLOC_TRIM_THRESHOLD_="1000000")
    assert own > FAULTS
