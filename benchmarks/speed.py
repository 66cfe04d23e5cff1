"""How fast does a network train, encode and start, beside other libraries and the machine's floor?

    python benchmarks/speed.py [--sizes 64-32 ...] [--rivals isthmus tuned ...] [--repeats 3]
        [--device cuda] [--quick] [--no-record]

Each measurement is a process of its own, in which a fit of some epochs is taken, then one of twice
as many, and both once more: the difference of the faster ones tells rows a second, and the shorter
what a fit costs beside them. Where it is short, longer fits tell; the error is that of the first
two. Repeats are interleaved. Rivals that are not installed are left out, which is said. `--quick`
is two sizes beside tuned PyTorch, once each and the larger one of few rows, for a look before a
release. The rate of matrix products is measured in the same run.
"""

import argparse
import functools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rivals
from common import machine, record, table
from isthmus.training.engines.cpu.build import library
from rivals import Rows, Size

SIZE_FACTORS = {
    "64-32": Size((64,), (), 32, 64, 20_000, 10),
    "30-16-8": Size((30,), (16,), 8, 64, 20_000, 10),
    "784-32": Size((784,), (), 32, 128, 20_000, 4),
    "784-1000-500-250-30": Size((784,), (1000, 500, 250), 30, 256, 20_000, 2),
    "4096-512": Size((4096,), (), 512, 256, 8_000, 2),
    "convolutional 28x28": Size((1, 28, 28), (32, 64, 64), 32, 128, 6_000, 2),
    "convolutional 64x64x3": Size((3, 64, 64), (32, 64, 64), 64, 128, 1_500, 2),
}
ON_GPU = {
    "64-32": Size((64,), (), 32, 64, 20_000, 100),
    "784-1000-500-250-30": Size((784,), (1000, 500, 250), 30, 256, 60_000, 10),
    "784-1000-500-250-30 by 4096": Size((784,), (1000, 500, 250), 30, 4096, 60_000, 60),
    "4096-512 by 4096": Size((4096,), (), 512, 4096, 40_000, 40),
    "convolutional 28x28": Size((1, 28, 28), (32, 64, 64), 32, 512, 20_000, 5),
}
"""More rows and epochs there, and larger batches: a GPU is idle in small ones."""

QUICK_SIZES = {
    "64-32": SIZE_FACTORS["64-32"],
    "784-1000-500-250-30, few rows": SIZE_FACTORS["784-1000-500-250-30"]._replace(rows=4_000),
}
QUICK_ON_GPU, QUICK_RIVALS = ("64-32", "784-1000-500-250-30"), ("isthmus", "tuned")

Key = tuple[str, str, int]
"""A rival, its setting, and the threads it may use."""

THREADS = (1, 2)
REPEATS = 3
GEMM_SIDE, SMALLER, MOST_SECONDS = 2048, 8, 5.0

LEAST_SECONDS, LONGER, MOST_EPOCHS = 0.7, 6, 2000
"""A difference of less is measured again with so many times the epochs."""

ROUNDS = 2
"""Fits of each length, of which the fastest counts: a short one that is held up makes the
difference too small, and the rate too high."""


def _tuned(bf16: bool, last: bool) -> Callable[..., Any]:
    return functools.partial(rivals.tuned, bf16=bf16, channels_last=last)


# Settings of each rival that are tried, of which the fastest counts.
RIVALS: dict[str, dict[str, Callable[..., Any]]] = {
    "isthmus": {"": rivals.isthmus},
    "tuned": {"fp32": _tuned(False, False), "bf16": _tuned(True, False)},
    "tutorial": {"": rivals.tutorial},
    "scikit-learn": {"": rivals.scikit_learn},
    "skorch": {"": rivals.skorch},
    "pythae": {"": rivals.pythae},
    "pyod": {"": rivals.pyod},
    "keras": {"": rivals.keras},
    "jax": {"": rivals.jax},
}
GPU_RIVALS: dict[str, dict[str, Callable[..., Any]]] = {
    "isthmus": {"": rivals.isthmus},
    "tuned": {
        "bf16": functools.partial(rivals.tuned_gpu, bf16=True, compiled=False),
        "bf16, compiled": functools.partial(rivals.tuned_gpu, bf16=True, compiled=True),
        "fp32, compiled": functools.partial(rivals.tuned_gpu, bf16=False, compiled=True),
    },
    "jax": {"": rivals.jax},
}
CONVOLUTIONAL: dict[str, dict[str, Callable[..., Any]]] = {
    "isthmus": {"": rivals.isthmus},
    "tuned": {"fp32": _tuned(False, False), "fp32, channels last": _tuned(False, True)},
    "tuned bf16": {"": _tuned(True, True)},
    "tutorial": {"": rivals.tutorial},
}


def entered(name: str, device: str) -> dict[str, dict[str, Callable[..., Any]]]:
    """Who takes part with which settings."""
    convolutional = len(size_of(name, device).shape) > 1
    if device == "cpu":
        return CONVOLUTIONAL if convolutional else RIVALS
    return {k: v for k, v in GPU_RIVALS.items() if k != "jax" or not convolutional}


def size_of(name: str, device: str) -> Size:
    """The size of that name."""
    return (QUICK_SIZES | SIZE_FACTORS if device == "cpu" else ON_GPU)[name]


def rows_of(size: Size) -> Rows:
    """Rows near a curved surface of eight dimensions, with noise; variance about 1."""
    draw, width = np.random.default_rng(0), int(np.prod(size.shape))
    mixing = draw.normal(size=(8, width))
    rows = np.tanh(draw.normal(size=(size.rows, 8)) @ mixing / 2)
    rows += 0.1 * draw.normal(size=rows.shape)
    return rows.reshape(size.rows, *size.shape).astype(np.float32)


def peak() -> float:
    """The largest memory this process has had (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (found,) = [line for line in lines if line.startswith("VmHWM")]
    return int(found.split()[1]) / 1024


def one(name: str, rival: str, setting: str, threads: str, device: str) -> None:
    """One measurement, in this process."""
    size = size_of(name, device)
    torch.set_num_threads(int(threads))
    train = entered(name, device)[rival][setting]
    if device != "cpu" and rival != "jax":  # which takes the GPU that there is
        train = functools.partial(train, device=device)
    rows = rows_of(size)
    few = rows[: 4 * size.batch] if device == "cpu" else rows
    train(size, few, 1 if device == "cpu" else size.epochs)  # imports, and what is compiled there
    if rival == "isthmus" and device == "cpu":
        library()  # compiled once on a machine
    error, seconds, epochs = None, [0.0, 0.0], size.epochs
    while error is None or (seconds[1] - seconds[0] < LEAST_SECONDS and epochs < MOST_EPOCHS):
        epochs = size.epochs if error is None else LONGER * epochs
        seconds = [math.inf, math.inf]
        for at in (0, 1) * ROUNDS:
            began = time.perf_counter()
            rebuild = train(size, rows, (1 + at) * epochs)
            seconds[at] = min(seconds[at], time.perf_counter() - began)
            if error is None and at:
                error = float(((rebuild(rows[:4096]) - rows[:4096]) ** 2).mean())
    found = {
        "rows a second": size.rows * epochs / (seconds[1] - seconds[0]),
        "beside": 2 * seconds[0] - seconds[1],
        "error": error,
        "MB": peak(),
    }
    print(json.dumps(found))


def gemm(threads: int, dtype: torch.dtype, device: str = "cpu") -> float:
    """Products of square matrices a second, in 10^9 operations; the best of ten, or of 5 s.

    Where one of that size would take so long (bf16 on processors without it), smaller ones tell.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    side = GEMM_SIDE if device == "cpu" else 4 * GEMM_SIDE
    small = side // SMALLER
    best = _product_seconds(small, dtype, device)
    if best * SMALLER**3 < MOST_SECONDS:
        small, best = side, _product_seconds(side, dtype, device)
    torch.set_num_threads(before)
    return 2 * small**3 / best / 1e9


def _product_seconds(side: int, dtype: torch.dtype, device: str) -> float:
    wait = (lambda: None) if device == "cpu" else torch.cuda.synchronize
    a = torch.randn(side, side, device=device).to(dtype)
    best, spent = 1e9, 0.0
    for _ in range(10):
        wait()
        began = time.perf_counter()
        a @ a
        wait()
        best = min(best, time.perf_counter() - began)
        spent += time.perf_counter() - began
        if spent > MOST_SECONDS:
            break
    return best


def measured(*arguments: object) -> dict[str, Any] | None:
    """What a process of its own says; None where it fails, which is said."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    threads = {"OMP_NUM_THREADS": str(arguments[3]), "OPENBLAS_NUM_THREADS": str(arguments[3])}
    keras = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | threads | keras
    )
    if done.returncode:
        print("failed:", done.stderr.strip().splitlines()[-1:], flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found, flush=True)
    return found


def planned(
    name: str, wanted: list[str] | None, repeats: int, device: str, *, bf16: bool
) -> list[Key]:
    """The measurements of one size, all rivals interleaved, in their order.

    Settings in bf16 are tried only where the machine multiplies it faster.
    """
    known = entered(name, device)
    keys = []
    for rival in (one for one in wanted or known if one in known):
        # This library chooses the threads by itself, of all that there are.
        alone = device != "cpu" or rival == "isthmus"
        for threads in THREADS[-1:] if alone else THREADS:
            settings = [one for one in known[rival] if bf16 or "bf16" not in rival + one]
            keys += [(rival, setting, threads) for setting in settings]
    return keys * repeats


def side_by_side(
    name: str, keys: list[Key], device: str, first: int, total: int, floor: float
) -> list[dict[str, Any]]:
    """All rivals on one size, each by its fastest setting; numbers begin at `first`."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for number, key in enumerate(keys, first):
        print(f"{number} of {total}:", name, *key, device, end=" ", flush=True)
        told = measured(name, *key, device)
        if told:
            found.setdefault(key, []).append(told)
    there = dict.fromkeys(key[0] for key in keys if key in found)
    return [_line(name, size_of(name, device), rival, found, floor) for rival in there]


def _line(
    name: str, size: Size, rival: str, found: dict[Key, list[dict[str, Any]]], floor: float
) -> dict[str, Any]:
    """The median of a rival's fastest setting; `floor` is the machine's best rate of products."""
    own = {key: runs for key, runs in found.items() if key[0] == rival}
    rate = {
        key: statistics.median(run["rows a second"] for run in runs) for key, runs in own.items()
    }
    best = max(rate, key=lambda key: rate[key])
    rates = [run["rows a second"] for run in own[best]]
    operations = 6 * size.products * rate[best] / 1e9
    return {
        "size": name,
        "library": rival,
        "setting": ", ".join(part for part in (best[1], f"{best[2]} threads") if part),
        "rows a second": round(rate[best]),
        "spread": f"{min(rates) / rate[best]:.2f}-{max(rates) / rate[best]:.2f}",
        "GFLOP/s": round(operations, 1),
        "of GEMM": round(operations / floor, 2),
        "beside s": round(statistics.median(run["beside"] for run in own[best]), 3),
        "error": round(statistics.median(run["error"] for run in own[best]), 5),
        "MB": round(max(run["MB"] for run in own[best])),
    }


def floor_of(device: str) -> dict[str, float]:
    """The machine's rate of matrix products, in 10^9 operations a second, by precision, threads."""
    return {
        f"GEMM {str(dtype).removeprefix('torch.')}, {threads} threads": round(
            gemm(threads, dtype, device), 1
        )
        for dtype in (torch.float32, torch.bfloat16)
        for threads in (THREADS if device == "cpu" else THREADS[-1:])
    }


def asked() -> argparse.Namespace:
    """What the command line asks for, all of it known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes, rivals = list(SIZE_FACTORS), list(dict.fromkeys([*RIVALS, *GPU_RIVALS, *CONVOLUTIONAL]))
    parser.add_argument(
        "--sizes",
        nargs="+",
        metavar="SIZE",
        help=f"networks to train, all unless given: {', '.join(map(repr, sizes))} on a processor, "
        f"{', '.join(map(repr, ON_GPU))} on a GPU",
    )
    parser.add_argument(
        "--rivals",
        nargs="+",
        metavar="RIVAL",
        help=f"libraries to train them with, all unless given: {', '.join(map(repr, rivals))}",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        help=f"measurements of each, of which the median counts ({REPEATS}; with --quick 1)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU as torch calls it (cpu)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two sizes beside tuned PyTorch, once each, in two minutes or so; nothing is recorded",
    )
    parser.add_argument(
        "--no-record",
        action="store_true",
        help="do not append the results to benchmarks/results.jsonl, as is done else",
    )
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    cpu = wanted.device == "cpu"
    known = QUICK_SIZES | SIZE_FACTORS if cpu else ON_GPU
    for name in wanted.sizes or ():
        if name not in known:
            parser.error(f"--sizes {name!r} is not known; use of {', '.join(map(repr, known))}")
    for name in wanted.rivals or ():
        if name not in rivals:
            parser.error(f"--rivals {name!r} is not known; use of {', '.join(map(repr, rivals))}")
    if wanted.quick:
        wanted.sizes = wanted.sizes or list(QUICK_SIZES if cpu else QUICK_ON_GPU)
        wanted.rivals = wanted.rivals or list(QUICK_RIVALS)
    wanted.sizes = wanted.sizes or list(SIZE_FACTORS if cpu else ON_GPU)
    wanted.repeats = wanted.repeats or (1 if wanted.quick else REPEATS)
    return wanted


def main() -> None:
    """Measure and write the results."""
    wanted = asked()
    if wanted.one:
        one(*wanted.one)
        return
    floor = floor_of(wanted.device)
    print(machine(), floor, flush=True)
    fast = [rate for kind, rate in floor.items() if "bfloat16" in kind]
    plain = [rate for kind, rate in floor.items() if "bfloat16" not in kind]
    bf16 = max(fast) > max(plain) or wanted.device != "cpu"
    plans = {
        size: planned(size, wanted.rivals, wanted.repeats, wanted.device, bf16=bf16)
        for size in wanted.sizes
    }
    total, first = sum(map(len, plans.values())), 1
    results: list[dict[str, Any]] = []
    for size, keys in plans.items():
        results += side_by_side(size, keys, wanted.device, first, total, max(fast + plain))
        first += len(keys)
    if not results:
        return
    if not (wanted.quick or wanted.no_record):
        record("speed", [floor, *results])
    print(table(results))


if __name__ == "__main__":
    main()
