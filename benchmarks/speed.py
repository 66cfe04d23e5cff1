"""How fast does a network train, compared with other libraries and with matrix products alone?

    python benchmarks/speed.py [--sizes 64-32 ...] [--rivals isthmus tuned ...] [--repeats 3]
        [--device cuda] [--quick] [--no-record]

Each measurement is a process of its own. It times a fit of some epochs and a fit of twice as many,
both twice, and takes the faster time of each. The difference gives rows per second; the shorter
time gives the fixed cost of a fit. If the difference is too small, both fits are repeated with more
epochs. The error is that of the first pair. Repeats are interleaved. Rivals that are not installed
are reported and skipped. `--quick` compares two sizes with tuned PyTorch, once each, as a check
before a release. The rate of matrix products is measured in the same run.
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

SIZES = {
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
"""A GPU gets more rows, more epochs and larger batches; small batches leave it idle."""

QUICK_SIZES = {
    "64-32": SIZES["64-32"],
    "784-1000-500-250-30, few rows": SIZES["784-1000-500-250-30"]._replace(rows=4_000),
}
QUICK_ON_GPU, QUICK_RIVALS = ("64-32", "784-1000-500-250-30"), ("isthmus", "tuned")

Key = tuple[str, str, int]
"""A rival, its setting, and its number of threads."""

THREADS = (1, 2)
REPEATS = 3
GEMM_SIDE, SMALLER, MOST_SECONDS = 2048, 8, 5.0

LEAST_SECONDS, LONGER, MOST_EPOCHS = 0.7, 6, 2000
"""A smaller difference in seconds is measured again with `LONGER` times the epochs."""

ROUNDS = 2
"""Fits of each length, of which the fastest counts. A delayed short fit would make the difference
too small and the rate too high."""


def _tuned(bf16: bool, last: bool) -> Callable[..., Any]:
    return functools.partial(rivals.tuned, bf16=bf16, channels_last=last)


# All settings of a rival are measured, and the fastest counts.
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
    """The rivals of a size and their settings."""
    convolutional = len(size_of(name, device).shape) > 1
    if device == "cpu":
        return CONVOLUTIONAL if convolutional else RIVALS
    return {k: v for k, v in GPU_RIVALS.items() if k != "jax" or not convolutional}


def size_of(name: str, device: str) -> Size:
    """The network and training settings called `name`."""
    return (QUICK_SIZES | SIZES if device == "cpu" else ON_GPU)[name]


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
    (peak_line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(peak_line.split()[1]) / 1024


def measure(name: str, rival: str, setting: str, threads: str, device: str) -> None:
    """Print the result of one measurement in this process, as JSON."""
    size = size_of(name, device)
    torch.set_num_threads(int(threads))
    train = entered(name, device)[rival][setting]
    if device != "cpu" and rival != "jax":  # JAX chooses the GPU itself
        train = functools.partial(train, device=device)
    rows = rows_of(size)
    few = rows[: 4 * size.batch] if device == "cpu" else rows
    train(size, few, 1 if device == "cpu" else size.epochs)  # imports and compilation
    if rival == "isthmus" and device == "cpu":
        library()  # compiled once per machine
    error, seconds, epochs = None, [0.0, 0.0], size.epochs
    while error is None or (seconds[1] - seconds[0] < LEAST_SECONDS and epochs < MOST_EPOCHS):
        epochs = size.epochs if error is None else LONGER * epochs
        seconds = [math.inf, math.inf]
        for doubled in (0, 1) * ROUNDS:
            began = time.perf_counter()
            reconstruct = train(size, rows, (1 + doubled) * epochs)
            seconds[doubled] = min(seconds[doubled], time.perf_counter() - began)
            if error is None and doubled:
                error = float(((reconstruct(rows[:4096]) - rows[:4096]) ** 2).mean())
    result = {
        "rows per second": size.rows * epochs / (seconds[1] - seconds[0]),
        "beside": 2 * seconds[0] - seconds[1],
        "error": error,
        "MB": peak(),
    }
    print(json.dumps(result))


def gemm(threads: int, dtype: torch.dtype, device: str = "cpu") -> float:
    """The rate of products of square matrices in 10^9 operations per second; the best of ten.

    Smaller matrices are used if one product takes over 5 s (bf16 on processors without it).
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


def measure_in_process(*arguments: object) -> dict[str, Any] | None:
    """The result of one measurement in a new process; None, with a message, if it fails."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    threads = {"OMP_NUM_THREADS": str(arguments[3]), "OPENBLAS_NUM_THREADS": str(arguments[3])}
    keras = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | threads | keras
    )
    if done.returncode:
        print("failed:", done.stderr.strip().splitlines()[-1:], flush=True)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(result, flush=True)
    return result


def planned(
    name: str, selected: list[str] | None, repeats: int, device: str, *, bf16: bool
) -> list[Key]:
    """The measurements of one size in their order, with all rivals interleaved.

    Settings in bf16 are measured only if the machine multiplies bf16 faster than fp32.
    """
    rivals_of_size = entered(name, device)
    keys = []
    for rival in (r for r in selected or rivals_of_size if r in rivals_of_size):
        # isthmus chooses its number of threads itself.
        alone = device != "cpu" or rival == "isthmus"
        for threads in THREADS[-1:] if alone else THREADS:
            settings = [s for s in rivals_of_size[rival] if bf16 or "bf16" not in rival + s]
            keys += [(rival, setting, threads) for setting in settings]
    return keys * repeats


def side_by_side(
    name: str, keys: list[Key], device: str, first: int, total: int, floor: float
) -> list[dict[str, Any]]:
    """The table rows of all rivals on one size; progress is numbered from `first`."""
    runs: dict[Key, list[dict[str, Any]]] = {}
    for number, key in enumerate(keys, first):
        print(f"{number} of {total}:", name, *key, device, end=" ", flush=True)
        result = measure_in_process(name, *key, device)
        if result:
            runs.setdefault(key, []).append(result)
    successful = dict.fromkeys(key[0] for key in keys if key in runs)
    return [_line(name, size_of(name, device), rival, runs, floor) for rival in successful]


def _line(
    name: str, size: Size, rival: str, runs: dict[Key, list[dict[str, Any]]], floor: float
) -> dict[str, Any]:
    """The medians of a rival's fastest setting; `floor` is the best rate of matrix products."""
    of_rival = {key: results for key, results in runs.items() if key[0] == rival}
    rate = {
        key: statistics.median(result["rows per second"] for result in results)
        for key, results in of_rival.items()
    }
    best = max(rate, key=lambda key: rate[key])
    rates = [run["rows per second"] for run in of_rival[best]]
    operations = 6 * size.products * rate[best] / 1e9
    return {
        "size": name,
        "library": rival,
        "setting": ", ".join(part for part in (best[1], f"{best[2]} threads") if part),
        "rows per second": round(rate[best]),
        "spread": f"{min(rates) / rate[best]:.2f}-{max(rates) / rate[best]:.2f}",
        "GFLOP/s": round(operations, 1),
        "of GEMM": round(operations / floor, 2),
        "beside s": round(statistics.median(run["beside"] for run in of_rival[best]), 3),
        "error": round(statistics.median(run["error"] for run in of_rival[best]), 5),
        "MB": round(max(run["MB"] for run in of_rival[best])),
    }


def floor_of(device: str) -> dict[str, float]:
    """The rate of matrix products in 10^9 operations per second, by precision and threads."""
    return {
        f"GEMM {str(dtype).removeprefix('torch.')}, {threads} threads": round(
            gemm(threads, dtype, device), 1
        )
        for dtype in (torch.float32, torch.bfloat16)
        for threads in (THREADS if device == "cpu" else THREADS[-1:])
    }


def arguments() -> argparse.Namespace:
    """The options of the command line, with their values checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes, rivals = list(SIZES), list(dict.fromkeys([*RIVALS, *GPU_RIVALS, *CONVOLUTIONAL]))
    parser.add_argument(
        "--sizes",
        nargs="+",
        metavar="SIZE",
        help=f"networks to train; by default all: {', '.join(map(repr, sizes))} on a processor, "
        f"{', '.join(map(repr, ON_GPU))} on a GPU",
    )
    parser.add_argument(
        "--rivals",
        nargs="+",
        metavar="RIVAL",
        help=f"libraries to compare; by default all: {', '.join(map(repr, rivals))}",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        help=f"measurements of each, of which the median is reported ({REPEATS}; with --quick 1)",
    )
    parser.add_argument(
        "--device", default="cpu", help="device in the words of torch, such as cuda (cpu)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="compare two sizes with tuned PyTorch, once each, in two minutes; nothing is recorded",
    )
    parser.add_argument(
        "--no-record",
        action="store_true",
        help="do not append the results to benchmarks/results.jsonl",
    )
    parser.add_argument("--one", dest="measurement", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cpu = options.device == "cpu"
    sizes_of_device = QUICK_SIZES | SIZES if cpu else ON_GPU
    for name in options.sizes or ():
        if name not in sizes_of_device:
            parser.error(
                f"--sizes {name!r} is not known; use one of {', '.join(map(repr, sizes_of_device))}"
            )
    for name in options.rivals or ():
        if name not in rivals:
            parser.error(
                f"--rivals {name!r} is not known; use one of {', '.join(map(repr, rivals))}"
            )
    if options.quick:
        options.sizes = options.sizes or list(QUICK_SIZES if cpu else QUICK_ON_GPU)
        options.rivals = options.rivals or list(QUICK_RIVALS)
    options.sizes = options.sizes or list(SIZES if cpu else ON_GPU)
    options.repeats = options.repeats or (1 if options.quick else REPEATS)
    return options


def main() -> None:
    """Measure, print the table and record the results."""
    options = arguments()
    if options.measurement:
        measure(*options.measurement)
        return
    floor = floor_of(options.device)
    print(machine(), floor, flush=True)
    fast = [rate for kind, rate in floor.items() if "bfloat16" in kind]
    plain = [rate for kind, rate in floor.items() if "bfloat16" not in kind]
    bf16 = max(fast) > max(plain) or options.device != "cpu"
    plans = {
        size: planned(size, options.rivals, options.repeats, options.device, bf16=bf16)
        for size in options.sizes
    }
    total, first = sum(map(len, plans.values())), 1
    results: list[dict[str, Any]] = []
    for size, keys in plans.items():
        results += side_by_side(size, keys, options.device, first, total, max(fast + plain))
        first += len(keys)
    if not results:
        return
    if not (options.quick or options.no_record):
        record("speed", [floor, *results])
    print(table(results))


if __name__ == "__main__":
    main()
