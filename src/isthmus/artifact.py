"""The model folder: model.json, weights.safetensors and history.jsonl, written atomically."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from isthmus.errors import ArtifactError, RequestError
from isthmus.files import check_writable, replacing

if TYPE_CHECKING:
    from torch import Tensor  # reading model.json must not import torch

FORMAT = 2
"""The version of the folder's layout; no other version can be read."""

MODEL, WEIGHTS, HISTORY, REPORT, REPORT_DATA = (
    "model.json",
    "weights.safetensors",
    "history.jsonl",
    "report.html",
    "report.json",
)
MODEL_FILES = (MODEL, WEIGHTS, HISTORY, REPORT, REPORT_DATA)
DETECTOR = "detector.json"
"""The file that a detector's folder holds in addition to the folders of its models."""

DIGEST = "weights_blake2b"
LIBRARIES = ("torch", "scikit-learn", "numpy", "safetensors")


@dataclass(kw_only=True)
class Artifact:
    """A fitted model as plain values and tensors."""

    settings: dict[str, Any]
    """The estimator's constructor arguments."""

    kind: dict[str, Any]
    loss: dict[str, Any]
    preparation: dict[str, Any]
    facts: dict[str, Any]
    """The facts of the fit: what was chosen, and its cost."""

    weights: "Mapping[str, Tensor]"
    history: list[dict[str, Any]]
    versions: dict[str, str] = field(default_factory=dict)
    """The versions of isthmus, Python and the libraries that wrote it."""


def save(
    artifact: Artifact,
    folder: str | Path,
    *,
    force: bool = True,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write the model folder atomically, with the text files of `extra` in addition.

    Raises:
        RequestError: `folder` exists and `force` is False, or it is not a model folder. Other
            folders are never replaced.
    """
    from safetensors.torch import save as serialized

    target = Path(folder)
    check_place(target, force=force)
    description = {
        "format": FORMAT,
        "versions": versions(),
        "settings": artifact.settings,
        "kind": artifact.kind,
        "loss": artifact.loss,
        "facts": artifact.facts,
        "preparation": artifact.preparation,
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in artifact.weights.items()}
    # Not save_file: it hides the error of a full disk, and its file is not readable by others.
    weights = serialized(tensors)
    description[DIGEST] = _digest(weights)
    with replacing(target, folder=True, force=force) as fresh:
        _write(fresh / MODEL, json.dumps(description, indent=1) + "\n")
        _write(fresh / HISTORY, "".join(json.dumps(record) + "\n" for record in artifact.history))
        (fresh / WEIGHTS).write_bytes(weights)
        for name, text in (extra or {}).items():
            _write(fresh / name, text)


def load(folder: str | Path) -> Artifact:
    """The artifact in `folder`.

    Raises:
        ArtifactError: The folder is missing, damaged, foreign or of another format; the message
            names the file.
    """
    path = Path(folder)
    written = describe(path)
    try:
        return Artifact(
            settings=written["settings"],
            kind=written["kind"],
            loss=written["loss"],
            preparation=written["preparation"],
            facts=written["facts"],
            versions=written["versions"],
            weights=_read_weights(path / WEIGHTS, written.get(DIGEST)),
            history=_read_history(path / HISTORY),
        )
    except KeyError as error:
        raise ArtifactError(
            f"{path / MODEL}: {error} is missing; the file was edited or cut"
        ) from error


def describe(folder: str | Path) -> dict[str, Any]:
    """The content of model.json: settings, kind, loss, preparation, facts and versions.

    Raises:
        ArtifactError: As `load` does, but the weights are not read.
    """
    path = Path(folder)
    if (path / DETECTOR).is_file():
        raise ArtifactError(
            f"{path}: is a detector, not a model; pass it to isthmus detect --detector, or give "
            "the folder that fit wrote"
        )
    if not (path / MODEL).is_file():
        problem = "is not a model folder (it has no model.json)"
        problem = problem if path.exists() else "does not exist"
        raise ArtifactError(f"{path}: {problem}; give the folder that fit or save wrote")
    return check_format(path / MODEL, _read_json(path / MODEL))


def check_place(folder: str | Path, *, force: bool) -> None:
    """Raise RequestError unless a model can be written to `folder`; see `save`."""
    target = Path(folder)
    if target.exists() and not is_model(target) and any_content(target):
        raise RequestError(f"{target}: exists and is not a model folder; choose another name")
    check_writable(target, force=force)
    other = next((name for name in _content(target) if name not in MODEL_FILES), None)
    if other is not None:
        raise RequestError(
            f"{target}: holds {other}, which is not part of a model and would be lost; move it "
            "out, or choose another name"
        )


def is_model(folder: str | Path) -> bool:
    """Whether `folder` holds a model.json of isthmus: other tools use that name too."""
    try:
        written = json.loads((Path(folder) / MODEL).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(written, dict) and {"format", "kind", "preparation"} <= written.keys()


def any_content(path: Path) -> bool:
    """Whether `path` is a file or a folder that is not empty."""
    return not path.is_dir() or any(path.iterdir())


def _content(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []


def check_format(path: Path, written: object, current: int = FORMAT) -> dict[str, Any]:
    """The JSON object `written` in `path`, if it has the `current` format number.

    Raises:
        ArtifactError: It has another format; the message names the version that wrote it.
    """
    number = written.get("format") if isinstance(written, dict) else None
    if not isinstance(written, dict) or not isinstance(number, int) or number < 1:
        raise ArtifactError(f"{path}: has no format number; it was not written by isthmus")
    if number == current:
        return written
    writers = written.get("versions")
    writer = writers.get("isthmus") if isinstance(writers, dict) else None
    named = (
        writer
        if isinstance(writer, str)
        else f"an{'other' if number > current else ' older'} version"
    )
    remedy = "upgrade isthmus" if number > current else "fit and save the model again"
    raise ArtifactError(
        f"{path}: format {number} was written by isthmus {named}, and this version reads format "
        f"{current}; {remedy}"
    )


def versions() -> dict[str, str]:
    """The versions of isthmus, Python and the libraries it uses."""
    main = {"isthmus": metadata.version("isthmus"), "python": platform.python_version()}
    return main | {name: metadata.version(name) for name in LIBRARIES}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _read_json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: cannot be read as JSON ({error}); save the model again"
        ) from error
    return content


def _read_weights(path: Path, digest: str | None) -> "dict[str, Tensor]":
    from safetensors.torch import load as deserialized

    try:
        written = path.read_bytes()
        tensors = deserialized(written)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); save the model again") from error
    if digest is not None and digest != _digest(written):
        raise ArtifactError(
            f"{path}: is not the file that {MODEL} was written with; save the model again"
        )
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ArtifactError(f"{path}: {name} holds NaN or infinity; save the model again")
    return tensors


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _read_history(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); save the model again") from error


def format_spec(written: object) -> str:
    """The result of `Spec.to_json` as one line of text: names with their settings."""
    if isinstance(written, dict) and "type" in written:
        inside = ", ".join(f"{k}={format_spec(v)}" for k, v in written.items() if k != "type")
        return f"{written['type']}({inside})" if inside else str(written["type"])
    if isinstance(written, list):
        return ", ".join(map(format_spec, written)) or "none"
    return str(written)
