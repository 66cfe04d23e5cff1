"""Does memory stay flat, and does the network wait for rows streamed from Parquet files?

    python benchmarks/streaming.py [--sizes 1 12] [--epochs 2] [--folder FOLDER] [--no-record]

Files of the given sizes (in 10^9 bytes) with the same 128 columns are written to a temporary
folder. Each measurement is a process of its own. The smallest file is also read into memory and
fitted by a deep network too. The others are fitted by a linear one, which waits for rows the most.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from common import machine, record, table
from isthmus import Autoencoder
from isthmus.data import open_source

COLUMNS, GROUP_ROWS, HIDDEN, COMPONENTS, BATCH = 128, 1 << 16, 12, 16, 2048
KINDS = ("multilayer", "vanilla")
"""The last one is fitted to every file."""

GIGABYTE = 10**9
SPARE = 2 * GIGABYTE
COMMANDS = ("encode", "score")


def make(path: Path, size: float) -> int:
    """Write rows near a curved surface, and return their number."""
    rows = int(size * GIGABYTE / (4 * COLUMNS))
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(HIDDEN, COLUMNS)).astype(np.float32)
    schema = pa.schema([pa.field(f"c{column:03}", pa.float32()) for column in range(COLUMNS)])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, rows, GROUP_ROWS):
            count = min(GROUP_ROWS, rows - start)
            hidden = generator.standard_normal((count, HIDDEN), np.float32)
            values = np.tanh(hidden @ mixing)
            values += 0.3 * generator.standard_normal(values.shape, np.float32)
            columns = [pa.array(np.ascontiguousarray(column)) for column in values.T]
            writer.write_table(pa.table(columns, schema=schema))
    return rows


def peak() -> float:
    """The largest memory this process has had (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (peak_line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(peak_line.split()[1]) / 1024


def fit(path: Path, kind: str, epochs: int, model: Path, *, stream: bool) -> dict[str, Any]:
    """The figures of one fit; rates are over all epochs but the first.

    CPU seconds count the work of all threads, whatever else the machine does.
    """
    torch.set_num_threads(1)
    marks: list[tuple[float, float]] = []
    began = time.perf_counter()
    source = open_source(path, stream=stream)
    ae = Autoencoder(
        COMPONENTS,
        kind=kind,
        max_epochs=epochs,
        batch_size=BATCH,
        random_state=0,
        loss="huber",
        callbacks=(lambda _: marks.append((time.perf_counter(), time.process_time())),),
    ).fit(source)
    seconds = time.perf_counter() - began
    ae.save(model)
    rows = (len(marks) - 1) * ae.facts_["training_rows"]
    return {
        "rows": len(source),
        "seconds": seconds,
        "rows per second": rows / (marks[-1][0] - marks[0][0]),
        "rows per CPU second": rows / (marks[-1][1] - marks[0][1]),
        "error": ae.history_[-1].get("validation", {}).get("reconstruction"),
    }


def use(path: Path, command: str, model: Path) -> dict[str, Any]:
    """The figures of one run of the command line."""
    from isthmus.cli import main

    torch.set_num_threads(1)
    output, began = model.with_name("output.parquet"), time.perf_counter()
    code = main([command, str(model), str(path), "-o", str(output), "--quiet", "--force"])
    seconds, worked = time.perf_counter() - began, time.process_time()
    rows = pq.ParquetFile(output).metadata.num_rows
    output.unlink()
    return {
        "code": code,
        "rows": rows,
        "seconds": seconds,
        "rows per second": rows / seconds,
        "rows per CPU second": rows / worked,
    }


def measure_in_process(*arguments: object) -> dict[str, Any]:
    """The figures of one measurement in a new process."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(arguments, figures, flush=True)
    return figures


def measure(task: str, path: str, *rest: str) -> None:
    """Print the figures of one measurement in this process, as JSON."""
    if task == "fit":
        kind, epochs, model, stream = rest
        figures = fit(Path(path), kind, int(epochs), Path(model), stream=stream == "stream")
    else:
        figures = use(Path(path), task, Path(rest[0]))
    print(json.dumps(figures | {"peak MB": peak()}))


def run(sizes: list[float], epochs: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of the table."""
    results = []
    for size in sizes:
        path, model = folder / f"{size:g}.parquet", folder / "model"
        began = time.perf_counter()
        make(path, size)
        print(f"made {path} in {time.perf_counter() - began:.0f} s", flush=True)
        locations = ("stream", "memory") if size == min(sizes) else ("stream",)
        for kind in KINDS if size == min(sizes) else KINDS[-1:]:
            for location in locations:
                figures = measure_in_process("fit", path, kind, epochs, model, location)
                task = f"fit, {kind}"
                results.append({"GB": size, "what": task, "rows are": location} | _line(figures))
        for command in COMMANDS:
            figures = measure_in_process(command, path, model)
            results.append({"GB": size, "what": command, "rows are": "stream"} | _line(figures))
        path.unlink()
    return results


def _line(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows": figures["rows"],
        "peak MB": round(figures["peak MB"]),
        "rows per second": round(figures["rows per second"]),
        "rows per CPU second": round(figures["rows per CPU second"]),
        "seconds in all": round(figures["seconds"], 1),
    }


def main() -> None:
    """Measure, print the table and record the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.25, 1, 12])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--no-record", action="store_true")
    parser.add_argument("--one", dest="measurement", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measurement:
        measure(*options.measurement)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        free, needed = shutil.disk_usage(name).free, 1.2 * max(options.sizes) * GIGABYTE + SPARE
        if free < needed:
            sys.exit(f"{name}: {free / GIGABYTE:.0f} GB are free, {needed / GIGABYTE:.0f} needed")
        print(machine(), flush=True)
        results = run(options.sizes, options.epochs, Path(name))
    if not options.no_record:
        record("streaming", results)
    print(table(results))


if __name__ == "__main__":
    main()
