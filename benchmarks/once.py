"""A start of the weights that several runs share, learned by the first of them only."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_model, save_file

from isthmus.pretraining import PRETRAININGS, Job, Pretraining


@dataclass(kw_only=True)
class Once(Pretraining):
    """Weights learned by `start` and kept in the file `path`, or taken from there."""

    start: str
    path: str

    def run(self, job: Job) -> list[dict[str, Any]]:
        """Learn or take them; a record then says what learning them has cost."""
        path = Path(self.path)
        if path.exists():
            load_model(job.network, path)
            with safe_open(path, framework="pt") as file:
                cost = json.loads(file.metadata()["cost"])
            return [{"event": "kept start", "kept": self.start, **cost}]
        worked, began = time.process_time(), time.perf_counter()
        records = PRETRAININGS[self.start]().run(job)
        cost = {
            "of the processor": time.process_time() - worked,
            "seconds": time.perf_counter() - began,
        }
        new = path.with_suffix(".new")
        save_file(job.network.state_dict(), new, {"cost": json.dumps(cost)})
        new.rename(path)
        return records


def cost_of_start(history: list[dict[str, Any]]) -> tuple[float, float]:
    """Processor's and clock's seconds that another run has spent on this one's start."""
    kept = [record for record in history if "kept" in record]
    return (kept[0]["of the processor"], kept[0]["seconds"]) if kept else (0.0, 0.0)
