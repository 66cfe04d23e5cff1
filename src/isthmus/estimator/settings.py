"""What the user asked for, checked where no data are needed."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from isthmus.corruptions import CORRUPTIONS, Corruption
from isthmus.data import SCALINGS
from isthmus.errors import RequestError, require
from isthmus.kinds import KINDS, Kind
from isthmus.losses import LOSSES, PENALTIES, PenaltySpec, Reconstruction
from isthmus.optim import OPTIMIZERS, OptimizerSpec
from isthmus.pretraining import PRETRAININGS, Pretraining
from isthmus.runtime.device import PRECISIONS
from isthmus.spec import Spec, is_bool, is_integer, is_number, is_sequence, resolve, short_repr
from isthmus.training.checkpoint import NAME as CHECKPOINT
from isthmus.training.reporters import Lines, Reporter, Silent
from isthmus.training.trainer import Callback

AUTO, FULL = "auto", "full"


@dataclass(kw_only=True)
class FitSettings:
    """What the user asked for: the estimator's settings and the seed drawn from `random_state`."""

    n_components: int | None
    kind: str | Kind
    loss: str | Reconstruction
    penalties: Sequence[str | PenaltySpec]
    corruption: str | Corruption | None
    pretraining: str | Pretraining
    optimizer: str | OptimizerSpec
    max_epochs: int | None
    batch_size: int | str | None
    validation_fraction: float | str
    early_stopping: bool | int
    preparation: str
    device: str
    precision: str
    transform_max_iter: int | str
    n_init: int
    callbacks: Sequence[Callback]
    seed: int
    split_seed: int
    """What decides which rows are held out."""

    reporter: Reporter
    checkpoint: Path | None
    resume: bool

    @classmethod
    def of(cls, parameters: Mapping[str, Any], *, resume: bool) -> "FitSettings":
        """The settings of an estimator, checked; RequestError where one makes no sense."""
        own = {name: parameters[name] for name in cls.shared()}
        seed = seed_of(parameters["random_state"])
        wanted = cls(
            **{k: v.item() if isinstance(v, np.generic) else v for k, v in own.items()},
            seed=seed,
            split_seed=seed,
            reporter=reporter_of(parameters["verbose"]),
            checkpoint=folder_of(parameters["checkpoint"]),
            resume=resume,
        )
        check_fit_settings(wanted)
        return wanted

    @classmethod
    def shared(cls) -> list[str]:
        """The fields that are settings of the estimator under the same name."""
        return [
            f.name
            for f in fields(cls)
            if f.name not in ("seed", "split_seed", "reporter", "checkpoint", "resume")
        ]


class Rule(NamedTuple):
    """What a setting must be."""

    fits: Callable[[Any], bool]
    words: str


class Slot(NamedTuple):
    """What fits where a part goes: a registered name, a spec, or one of some other values."""

    registry: Mapping[str, type[Any]]
    base: type[Spec]
    others: tuple[str | None, ...] = ()


RULES = {
    "n_components": Rule(
        lambda value: value is None or is_integer(value), "a whole number, or None"
    ),
    "max_epochs": Rule(
        lambda value: value is None or _counts(value, 0), "a whole number, at least 0, or None"
    ),
    "batch_size": Rule(
        lambda value: value is None or _among(value, (FULL,)) or _counts(value, 1),
        "a whole number, at least 1, 'full', or None",
    ),
    "validation_fraction": Rule(
        lambda value: _among(value, (AUTO,)) or (is_number(value) and 0 <= value < 1),
        "'auto' or a number, at least 0 and below 1",
    ),
    "transform_max_iter": Rule(
        lambda value: _among(value, (AUTO,)) or _counts(value, 0),
        "'auto' or a whole number, at least 0",
    ),
    "n_init": Rule(lambda value: _counts(value, 1), "a whole number, at least 1"),
    "early_stopping": Rule(
        lambda value: is_bool(value) or _counts(value, 1),
        "True, False, or a whole number, at least 1",
    ),
}

CHOICES = {
    "preparation": SCALINGS,
    "precision": PRECISIONS,
}

SLOTS = {
    "kind": Slot(KINDS, Kind, (AUTO,)),
    "loss": Slot(LOSSES, Reconstruction, (AUTO,)),
    "corruption": Slot(CORRUPTIONS, Corruption, (None,)),
    "pretraining": Slot(PRETRAININGS, Pretraining, (AUTO,)),
    "optimizer": Slot(OPTIMIZERS, OptimizerSpec, (AUTO,)),
}


def check_fit_settings(settings: FitSettings) -> None:
    """Raise RequestError where a setting is of another type or range, whatever the data."""
    for name, rule in RULES.items():
        value = getattr(settings, name)
        require(rule.fits(value), f"{name}={short_repr(value)} must be {rule.words}")
    for name, known in CHOICES.items():
        value = getattr(settings, name)
        require(
            _among(value, known),
            f"{name}={short_repr(value)} is not known; use one of {', '.join(known)}",
        )
    for name, slot in SLOTS.items():
        value = getattr(settings, name)
        if not _among(value, slot.others):
            resolve(value, slot.registry, slot.base, name, slot.others)
    _check_penalties(settings.penalties)
    _check_callbacks(settings.callbacks)
    if settings.checkpoint is not None:
        _check_place(settings.checkpoint)
    elif settings.resume:
        raise RequestError(
            "resume=True goes on from a checkpoint, and the estimator has none; give "
            "checkpoint=, the folder where it is kept"
        )


def _counts(value: Any, least: int) -> bool:
    return is_integer(value) and value >= least


def _among(value: Any, known: Sequence[str | None]) -> bool:
    # An array, which compares item by item, is among nothing.
    return (value is None or isinstance(value, str)) and value in known


def _check_penalties(penalties: Any) -> None:
    one = short_repr(penalties) if isinstance(penalties, (str, Spec)) else "'l1'"
    require(
        is_sequence(penalties),
        f"penalties={short_repr(penalties)} must be a sequence, such as ({one},)",
    )
    for penalty in penalties:
        resolve(penalty, PENALTIES, PenaltySpec, "penalties")


def _check_callbacks(callbacks: Any) -> None:
    require(
        is_sequence(callbacks) and all(map(callable, callbacks)),
        f"callbacks={short_repr(callbacks)} must be a sequence of functions, such as (print,)",
    )


def _check_place(folder: Path) -> None:
    """Raise RequestError unless there is, or can be, such a folder to write into."""
    try:
        with tempfile.TemporaryDirectory(dir=_nearest(folder), prefix=f".{CHECKPOINT}."):
            pass
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"checkpoint={str(folder)!r} cannot be a folder to write into ({reason}); "
            "name another place"
        ) from error


def _nearest(folder: Path) -> Path:
    """The folder itself, or the first one above it that is there."""
    for place in (folder, *folder.parents):
        try:
            place.stat()
        except FileNotFoundError:
            continue
        return place
    return Path()


def seed_of(random_state: Any) -> int:
    """A seed drawn from what scikit-learn takes as `random_state`; RequestError for else."""
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise RequestError(
            f"random_state={short_repr(random_state)} must be a whole number from 0 to 2**32 - 1, "
            "a NumPy RandomState, or None"
        ) from error


def reporter_of(verbose: Any) -> Reporter:
    """The reporter that `verbose`, a number or a reporter itself, asks for; else RequestError."""
    if is_bool(verbose) or is_integer(verbose):
        return Lines() if verbose else Silent()
    methods = [name for name in vars(Reporter) if not name.startswith("_")]
    require(
        not isinstance(verbose, type)
        and all(callable(getattr(verbose, name, None)) for name in methods),
        f"verbose={short_repr(verbose)} must be 0, 1, or an object with the methods "
        f"{', '.join(methods)}",
    )
    reporter: Reporter = verbose
    return reporter


def folder_of(checkpoint: Any) -> Path | None:
    """The folder that `checkpoint` names, or None; RequestError where it is no path."""
    if checkpoint is None:
        return None
    path = os.fspath(checkpoint) if isinstance(checkpoint, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path:
        raise RequestError(
            f"checkpoint={short_repr(checkpoint)} must be the path of a folder, or None"
        )
    return Path(path)
