"""Shared helpers of the benchmarks: data folders, the machine, and the record of results."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results.jsonl")
LIBRARIES = ("isthmus", "torch", "scikit-learn", "numpy")


def data_folder(name: str) -> Path | None:
    """The path of the folder `name` in $ISTHMUS_DATA, data/ or a folder near the checkout."""
    folders = [ROOT / "data", ROOT.parent / "shared" / "data"]
    if "ISTHMUS_DATA" in os.environ:
        folders.insert(0, Path(os.environ["ISTHMUS_DATA"]))
    return next((folder / name for folder in folders if (folder / name).is_dir()), None)


def machine() -> dict[str, Any]:
    """Processor, cores, threads and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    } | {name: metadata.version(name) for name in LIBRARIES}


def record(benchmark: str, results: list[dict[str, Any]]) -> None:
    """Append one dated line to results.jsonl."""
    line = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "benchmark": benchmark,
        "machine": machine(),
        "results": results,
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    names = list(rows[0])
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(_cell(row[name]) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
