"""Facts of a fit as plain values: the rows, the network, the training and the machine."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import TypedDict, cast

import torch

from isthmus.data.preparation.preparation import Preparation
from isthmus.data.schema import Schema
from isthmus.data.source import Source
from isthmus.estimator import Autoencoder
from isthmus.report.data.records import DataFacts, ModelFacts, TrainingFacts

LIBRARIES = ("isthmus", "torch", "scikit-learn", "numpy")
MOST_NAMES = 50
CPU_LIST = Path("/proc/cpuinfo")

BEFORE = ("outcome", "training_rows", "validation_rows", "batch_size", "max_epochs", "pretraining")
AFTER = ("threads", "engine", "memory_format", "pretraining_seconds")


class Hardware(TypedDict):
    """The machine."""

    cpu: str
    cores: int | None
    threads: int
    gpu: str | None
    system: str


def unit_of(preparation: Preparation) -> str:
    """The unit of errors, in words."""
    if preparation.schema.columns is not None:
        return "scaled so that 1 is the error of predicting column means and category shares"
    if preparation.scaling == "standard":
        return "in standard deviations of each column"
    if preparation.schema.dtypes == ("uint8",):
        return "with 8-bit values scaled to 0 to 1"
    return "in the unit of the data"


def data_facts(ae: Autoencoder, source: Source) -> DataFacts:
    """Form, names and preparation of the rows."""
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
    length, hop = schema.shape[0], schema.recording.hop
    if hop is None:
        return f"whole series, of up to {length:,} samples"
    return f"windows of {length:,} samples, one every {hop:,}"


def model_facts(ae: Autoencoder) -> ModelFacts:
    """Kind, loss and size of the network."""
    kind = ae.kind_.to_json()
    return {
        "kind": type(ae.kind_).__name__.lower(),
        "kind_settings": {name: value for name, value in kind.items() if name != "type"},
        "loss": type(ae.loss_).__name__.lower(),
        "n_components": ae.n_components_,
        "weights": int(ae.facts_["weights"]),
    }


def training_facts(ae: Autoencoder) -> TrainingFacts:
    """Rows, epochs, time and device of the training."""
    epochs = [record["epoch"] for record in ae.history_ if "train" in record]
    facts = {name: ae.facts_[name] for name in BEFORE if name in ae.facts_} | {
        "epochs": max(epochs, default=0),
        "best_epoch": ae.best_epoch_,
        "device": str(ae.facts_["device"]),
        "precision": ae.facts_["precision"],
        "seconds": float(ae.facts_["training_seconds"]),
    }
    facts |= {name: ae.facts_[name] for name in AFTER if name in ae.facts_}
    return cast("TrainingFacts", facts)


def changed_settings(ae: Autoencoder) -> dict[str, object]:
    """The settings that differ from the defaults."""
    default = Autoencoder().get_params(deep=False)
    given = ae.to_artifact().settings
    return {name: value for name, value in given.items() if value != _listed(default[name])}


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def versions() -> dict[str, str]:
    """The versions of the libraries and of Python."""
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    return libraries | {"python": platform.python_version()}


def hardware(ae: Autoencoder) -> Hardware:
    """The machine of this process, and the device of the fit."""
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
    """The name of the processor, if the system reports it."""
    if CPU_LIST.is_file():
        text = CPU_LIST.read_text(errors="replace")
        model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if model:
            return model[1].strip()
    return platform.processor() or platform.machine()
