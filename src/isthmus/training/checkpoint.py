"""Checkpoints: the whole state of a fit in one safetensors file, replaced atomically."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

from isthmus.errors import ArtifactError
from isthmus.files import replacing
from isthmus.spec import short_repr
from isthmus.training.state import TENSOR_FIELDS, State

NAME = "checkpoint.safetensors"
FORMAT = "3"
TENSOR, ITEMS = "tensor", "items"
EVERY_S = 30.0
"""Seconds between checkpoints, and so the most work that a crash can lose."""


@dataclass
class Checkpointer:
    """Writes the state of a fit to a folder at intervals, and reads it back.

    `fingerprint` describes the settings and the data. A checkpoint of another fit is rejected.
    """

    folder: Path
    fingerprint: Mapping[str, Any]
    every_s: float = field(default_factory=lambda: EVERY_S)
    last_s: float = 0.0

    @property
    def path(self) -> Path:
        """The path of the checkpoint."""
        return self.folder / NAME

    def due(self, now_s: float) -> bool:
        """Whether `every_s` seconds have passed since the last write."""
        return now_s - self.last_s >= self.every_s

    def save(
        self, state: State, network: nn.Module, optimizer: torch.optim.Optimizer, now_s: float
    ) -> None:
        """Write a checkpoint; a reader sees the old file or the new one, never a part."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{part}.{name}": value
            for part, values in state.tensors.items()
            for name, value in values.items()
        }
        tensors |= {f"network.{name}": value for name, value in network.state_dict().items()}
        optimizer_state = _packed(optimizer.state_dict()["state"], "optimizer", tensors)
        scalars = asdict_plain(state)
        metadata = {
            "format": FORMAT,
            "state": json.dumps(scalars),
            "optimizer": json.dumps(optimizer_state),
            "fingerprint": json.dumps(self.fingerprint),
        }
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with replacing(self.path) as fresh:
            # Not save_file: its error for a full disk does not say that the disk is full.
            fresh.write_bytes(serialized(plain, metadata))
        self.last_s = now_s

    def load(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
        """The saved state, or None without a checkpoint; restores the network and the optimizer.

        Raises ArtifactError for a damaged file or a checkpoint of another fit.
        """
        self._sweep()
        if not self.path.exists():
            return None
        tensors, metadata = _read(self.path)
        self._check(metadata)
        state = State(**json.loads(metadata["state"]))
        device = next(network.parameters()).device
        for part in TENSOR_FIELDS:
            values = {name: v.to(device) for name, v in _under(tensors, f"{part}.").items()}
            setattr(state, part, values)
        network.load_state_dict(_under(tensors, "network."))
        groups = optimizer.state_dict()["param_groups"]
        optimizer_state = _unpacked(json.loads(metadata["optimizer"]), tensors)
        optimizer.load_state_dict({"state": optimizer_state, "param_groups": groups})
        return state

    def clear(self) -> None:
        """Remove the checkpoint, and its folder if it is then empty."""
        self._sweep()
        self.path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _sweep(self) -> None:
        # A process that was killed while writing leaves its temporary folder.
        for stale in self.folder.glob(f".{NAME}.*"):
            shutil.rmtree(stale, ignore_errors=True)

    def _check(self, metadata: Mapping[str, str]) -> None:
        if metadata.get("format") != FORMAT:
            raise ArtifactError(
                f"{self.path}: not a checkpoint of this format; remove it to start again"
            )
        saved = json.loads(metadata["fingerprint"])
        current = json.loads(json.dumps(self.fingerprint))
        changed = [
            key for key in current.keys() | saved.keys() if saved.get(key) != current.get(key)
        ]
        if changed:
            key = min(changed)
            raise ArtifactError(
                f"{self.path}: the checkpoint was written with {key}={short_repr(saved.get(key))}, "
                f"this fit has {key}={short_repr(current.get(key))}; use the same settings and "
                "data, or start again without resume"
            )


def saved_fingerprint(folder: Path) -> dict[str, Any]:
    """The fingerprint of the checkpoint in a folder; empty without a readable checkpoint.

    A damaged checkpoint is reported when it is loaded.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            fingerprint = json.loads((file.metadata() or {}).get("fingerprint", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}
    return fingerprint if isinstance(fingerprint, dict) else {}


def asdict_plain(state: State) -> dict[str, Any]:
    """The fields of the state that hold no tensors."""
    sums: dict[str, Tensor | float] = {name: float(v) for name, v in state.sums.items()}
    plain = asdict(replace(state, average={}, best={}, sums=sums))
    return {name: value for name, value in plain.items() if name not in TENSOR_FIELDS}


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` in a form for JSON: its tensors move to `tensors`, and their names replace them."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, dict):
        # JSON keys are text, but the keys of an optimizer's state are parameter numbers.
        return {
            ITEMS: [[key, _packed(item, f"{name}.{key}", tensors)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        return [_packed(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    return value


def _unpacked(written: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value from which `_packed` made `written`."""
    if isinstance(written, list):
        return [_unpacked(item, tensors) for item in written]
    if not isinstance(written, dict):
        return written
    if TENSOR in written:
        return tensors[written[TENSOR]]
    return {key: _unpacked(item, tensors) for key, item in written[ITEMS]}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            # Copied, since a file's tensors have any alignment, on which sums depend.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"{path}: the checkpoint is damaged ({error}); remove it to start again"
        ) from error
