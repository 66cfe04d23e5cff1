"""What was fitted on what, by what and where, as plain values."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from isthmus.data import Preparation, Schema
from isthmus.estimator import Autoencoder, to_artifact
from isthmus.types import Source

LIBRARIES = ("isthmus", "torch", "scikit-learn", "numpy")
MOST_NAMES = 50
CPU_LIST = Path("/proc/cpuinfo")


def facts(ae: Autoencoder, source: Source) -> dict[str, Any]:
    """The rows, the network, the training and the machine."""
    return {
        "data": _data(ae, source),
        "model": _model(ae),
        "training": _training(ae),
        "settings": _settings(ae),
        "versions": {name: metadata.version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
        "hardware": _hardware(ae),
    }


def unit_of(preparation: Preparation) -> str:
    """The unit of errors, in words."""
    if preparation.schema.columns is not None:
        return "where 1 is no better than the mean of each column or the shares of its levels"
    if preparation.scaling == "standard":
        return "in standard deviations of each column"
    if preparation.schema.dtypes == ("uint8",):
        return "with 8-bit values as 0 to 1"
    return "in the data's own unit"


def _data(ae: Autoencoder, source: Source) -> dict[str, Any]:
    schema, preparation = ae.preparation_.schema, ae.preparation_
    names, recording = schema.names, schema.recording
    channels = recording.sample.names if recording is not None else None
    return {
        "origin": source.origin,
        "rows": len(source),
        "layout": schema.layout,
        "shape": list(schema.shape),
        "network_shape": list(schema.network_shape),
        "features": schema.n_features,
        "dtypes": sorted(set(schema.dtypes)),
        "columns": None if names is None else list(names[:MOST_NAMES]),
        "channels": None if channels is None else list(channels[:MOST_NAMES]),
        "cut": _cut(schema),
        "constant": list(preparation.constant[:MOST_NAMES]),
        "n_constant": len(preparation.constant),
        "scaling": preparation.scaling,
        "unit": unit_of(preparation),
    }


def _cut(schema: Schema) -> str | None:
    """How rows were cut from recordings, in words."""
    if schema.recording is None:
        return None
    length, step = schema.shape[0], schema.recording.step
    if step is None:
        return f"whole series, of up to {length:,} samples"
    return f"windows of {length:,} samples, one every {step:,}"


def _model(ae: Autoencoder) -> dict[str, Any]:
    kind = ae.kind_.to_json()
    return {
        "kind": type(ae.kind_).__name__.lower(),
        "kind_settings": {name: value for name, value in kind.items() if name != "type"},
        "loss": type(ae.loss_).__name__.lower(),
        "n_components": ae.n_components_,
        "weights": int(ae.facts_["weights"]),
    }


def _training(ae: Autoencoder) -> dict[str, Any]:
    rows = ("outcome", "training_rows", "validation_rows")
    known = (*rows, "batch_size", "max_epochs", "pretraining")
    how: dict[str, Any] = {
        name: ae.facts_[name]
        for name in ("threads", "engine", "memory_format")
        if name in ae.facts_
    }
    epochs = [record["epoch"] for record in ae.history_ if "train" in record]
    return {name: ae.facts_[name] for name in known if name in ae.facts_} | {
        "epochs": max(epochs, default=0),
        "best_epoch": ae.best_epoch_,
        "device": str(ae.facts_["device"]),
        "precision": ae.facts_["precision"],
        **how,
        "seconds": float(ae.facts_["training_seconds"]),
        **{name: ae.facts_[name] for name in ("pretraining_seconds",) if name in ae.facts_},
    }


def _settings(ae: Autoencoder) -> dict[str, Any]:
    """What was asked for where it is not the default."""
    default = Autoencoder().get_params(deep=False)
    given = to_artifact(ae).settings
    return {name: value for name, value in given.items() if value != _listed(default[name])}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _hardware(ae: Autoencoder) -> dict[str, Any]:
    device = torch.device(str(ae.facts_["device"]))
    gpu = device.type == "cuda" and torch.cuda.is_available()
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if gpu else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    """The processor's name, as far as the system tells."""
    if CPU_LIST.is_file():
        text = CPU_LIST.read_text(errors="replace")
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if named:
            return named[1].strip()
    return platform.processor() or platform.machine()
