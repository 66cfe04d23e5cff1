"""Does memory stay flat, and does the network wait, where rows are streamed from Parquet files?

python benchmarks/streaming.py [--sizes 1 12] [--epochs 2] [--folder FOLDER]

Files of the given sizes (in 10^9 bytes) of the same 128 columns are made in a folder of their own,
used by one process for each measurement, and removed. The smallest is also read into memory, and
fitted by a deep network too; the others by one that is linear, which waits for its rows the most.
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
"""The last one for every file."""

GIGABYTE = 10**9
SPARE = 2 * GIGABYTE
COMMANDS = ("encode", "score")


def make(path: Path, size: float) -> int:
    """Write numbers that lie near a curved surface; how many rows they are."""
    rows = int(size * GIGABYTE / (4 * COLUMNS))
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(HIDDEN, COLUMNS)).astype(np.float32)
    schema = pa.schema([pa.field(f"c{at:03}", pa.float32()) for at in range(COLUMNS)])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for start in range(0, rows, GROUP_ROWS):
            some = min(GROUP_ROWS, rows - start)
            hidden = generator.standard_normal((some, HIDDEN), np.float32)
            values = np.tanh(hidden @ mixing)
            values += 0.3 * generator.standard_normal(values.shape, np.float32)
            columns = [pa.array(np.ascontiguousarray(column)) for column in values.T]
            writer.write_table(pa.table(columns, schema=schema))
    return rows


def peak() -> float:
    """The largest memory this process has had (VmHWM), in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (found,) = [line for line in lines if line.startswith("VmHWM")]
    return int(found.split()[1]) / 1024


def fit(path: Path, kind: str, epochs: int, model: Path, *, stream: bool) -> dict[str, Any]:
    """One fit; rows a second of its epochs but the first, by the clock and by the processor.

    The second counts the work of all threads, whatever else the machine does.
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
        "rows a second": rows / (marks[-1][0] - marks[0][0]),
        "rows a CPU second": rows / (marks[-1][1] - marks[0][1]),
        "error": ae.history_[-1].get("validation", {}).get("reconstruction"),
    }


def use(path: Path, command: str, model: Path) -> dict[str, Any]:
    """One run of the command line."""
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
        "rows a second": rows / seconds,
        "rows a CPU second": rows / worked,
    }


def measured(*arguments: object) -> dict[str, Any]:
    """What a process of its own says."""
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(arguments, found, flush=True)
    return found


def one(what: str, path: str, *rest: str) -> None:
    """A measurement, in this process."""
    if what == "fit":
        kind, epochs, model, stream = rest
        found = fit(Path(path), kind, int(epochs), Path(model), stream=stream == "stream")
    else:
        found = use(Path(path), what, Path(rest[0]))
    print(json.dumps(found | {"peak MB": peak()}))


def run(sizes: list[float], epochs: int, folder: Path) -> list[dict[str, Any]]:
    """All measurements, as rows of a table."""
    results = []
    for size in sizes:
        path, model = folder / f"{size:g}.parquet", folder / "model"
        began = time.perf_counter()
        make(path, size)
        print(f"made {path} in {time.perf_counter() - began:.0f} s", flush=True)
        places = ("stream", "memory") if size == min(sizes) else ("stream",)
        for kind in KINDS if size == min(sizes) else KINDS[-1:]:
            for place in places:
                found = measured("fit", path, kind, epochs, model, place)
                what = f"fit, {kind}"
                results.append({"GB": size, "what": what, "rows are": place} | _figures(found))
        for command in COMMANDS:
            found = measured(command, path, model)
            results.append({"GB": size, "what": command, "rows are": "stream"} | _figures(found))
        path.unlink()
    return results


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows": found["rows"],
        "peak MB": round(found["peak MB"]),
        "rows a second": round(found["rows a second"]),
        "rows a CPU second": round(found["rows a CPU second"]),
        "seconds in all": round(found["seconds"], 1),
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.25, 1, 12])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.one:
        one(*wanted.one)
        return
    with tempfile.TemporaryDirectory(dir=wanted.folder) as name:
        free, needed = shutil.disk_usage(name).free, 1.2 * max(wanted.sizes) * GIGABYTE + SPARE
        if free < needed:
            sys.exit(f"{name}: {free / GIGABYTE:.0f} GB are free, {needed / GIGABYTE:.0f} needed")
        print(machine(), flush=True)
        results = run(wanted.sizes, wanted.epochs, Path(name))
    record("streaming", results)
    print(table(results))


if __name__ == "__main__":
    main()
