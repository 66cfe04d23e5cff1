"""The settings of a fit, checked as far as that is possible without data."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from sklearn.utils import check_random_state

from isthmus.corruptions import CORRUPTIONS, Corruption
from isthmus.data.preparation.fit import SCALINGS
from isthmus.errors import RequestError, require
from isthmus.kinds import KINDS, Kind
from isthmus.losses import LOSSES, PENALTIES, PenaltySpec, Reconstruction
from isthmus.optim import OPTIMIZERS, OptimizerSpec
from isthmus.pretraining import PRETRAININGS, Pretraining
from isthmus.runtime.device import PRECISIONS
from isthmus.spec import Spec, is_bool, is_integer, is_number, is_sequence, resolve, short_repr
from isthmus.training.checkpoint import NAME as CHECKPOINT
from isthmus.training.reporters import LineReporter, Reporter, SilentReporter
from isthmus.training.trainer import Callback

AUTO, FULL = "auto", "full"


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """The estimator's settings, checked and immutable, and the seed drawn from `random_state`."""

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
    """The seed that draws the validation rows; the same for all starts of a fit."""

    reporter: Reporter
    checkpoint: Path | None
    resume: bool

    @classmethod
    def of(cls, parameters: Mapping[str, Any], *, resume: bool) -> "FitSettings":
        """The settings of an estimator; RequestError if one has a wrong type or range."""
        drawn = {"seed", "split_seed", "reporter", "checkpoint", "resume"}
        names = [field.name for field in fields(cls) if field.name not in drawn]
        seed = seed_of(parameters["random_state"])
        values = {name: parameters[name] for name in names}
        settings = cls(
            **{k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()},
            seed=seed,
            split_seed=seed,
            reporter=reporter_of(parameters["verbose"]),
            checkpoint=folder_of(parameters["checkpoint"]),
            resume=resume,
        )
        check_fit_settings(settings)
        return settings


class Rule(NamedTuple):
    """The values that a setting may have, as a test and in words."""

    fits: Callable[[object], bool]
    words: str


class Slot(NamedTuple):
    """The values of a setting that takes a registered name, a spec, or one of some other values."""

    registry: Mapping[str, type[Spec]]
    base: type[Spec]
    others: tuple[str | None, ...] = ()


RULES = {
    "n_components": Rule(
        lambda value: value is None or is_integer(value), "a whole number, or None"
    ),
    "max_epochs": Rule(
        lambda value: value is None or _at_least(value, 0), "a whole number, at least 0, or None"
    ),
    "batch_size": Rule(
        lambda value: value is None or _is_one_of(value, (FULL,)) or _at_least(value, 1),
        "a whole number, at least 1, 'full', or None",
    ),
    "validation_fraction": Rule(
        lambda value: _is_one_of(value, (AUTO,)) or (is_number(value) and 0 <= value < 1),
        "'auto' or a number, at least 0 and below 1",
    ),
    "transform_max_iter": Rule(
        lambda value: _is_one_of(value, (AUTO,)) or _at_least(value, 0),
        "'auto' or a whole number, at least 0",
    ),
    "n_init": Rule(lambda value: _at_least(value, 1), "a whole number, at least 1"),
    "early_stopping": Rule(
        lambda value: is_bool(value) or _at_least(value, 1),
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
    """Raise RequestError if a setting has a wrong type or range, whatever the data."""
    for name, rule in RULES.items():
        value = getattr(settings, name)
        require(rule.fits(value), f"{name}={short_repr(value)} must be {rule.words}")
    for name, known in CHOICES.items():
        value = getattr(settings, name)
        require(
            _is_one_of(value, known),
            f"{name}={short_repr(value)} is not known; use one of {', '.join(known)}",
        )
    for name, slot in SLOTS.items():
        value = getattr(settings, name)
        if not _is_one_of(value, slot.others):
            resolve(value, slot.registry, slot.base, name, slot.others)
    _check_penalties(settings.penalties)
    _check_callbacks(settings.callbacks)
    if settings.checkpoint is not None:
        _check_folder(settings.checkpoint)
    elif settings.resume:
        raise RequestError(
            "resume=True goes on from a checkpoint, and the estimator has none; give "
            "checkpoint=, the folder where it is kept"
        )


def _at_least(value: object, least: int) -> bool:
    return is_integer(value) and value >= least


def _is_one_of(value: object, choices: Sequence[str | None]) -> bool:
    # An array compares item by item, so it is excluded first.
    return (value is None or isinstance(value, str)) and value in choices


def _check_penalties(penalties: Sequence[str | PenaltySpec]) -> None:
    example = short_repr(penalties) if isinstance(penalties, (str, Spec)) else "'l1'"
    require(
        is_sequence(penalties),
        f"penalties={short_repr(penalties)} must be a sequence, such as ({example},)",
    )
    for penalty in penalties:
        resolve(penalty, PENALTIES, PenaltySpec, "penalties")


def _check_callbacks(callbacks: Sequence[Callback]) -> None:
    require(
        is_sequence(callbacks) and all(map(callable, callbacks)),
        f"callbacks={short_repr(callbacks)} must be a sequence of functions, such as (print,)",
    )


def _check_folder(folder: Path) -> None:
    """Raise RequestError unless the folder exists, or can be made, and is writable."""
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
    """The folder itself, or the first one above it that exists."""
    for path in (folder, *folder.parents):
        try:
            path.stat()
        except FileNotFoundError:
            continue
        return path
    return Path()


def seed_of(random_state: object) -> int:
    """A seed drawn from scikit-learn's `random_state`; RequestError for another type."""
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise RequestError(
            f"random_state={short_repr(random_state)} must be a whole number from 0 to 2**32 - 1, "
            "a NumPy RandomState, or None"
        ) from error


def reporter_of(verbose: object) -> Reporter:
    """The reporter for `verbose`, a number or a reporter; RequestError for another type."""
    if is_bool(verbose) or is_integer(verbose):
        return LineReporter() if verbose else SilentReporter()
    methods = [name for name in vars(Reporter) if not name.startswith("_")]
    require(
        not isinstance(verbose, type)
        and all(callable(getattr(verbose, name, None)) for name in methods),
        f"verbose={short_repr(verbose)} must be 0, 1, or an object with the methods "
        f"{', '.join(methods)}",
    )
    return cast("Reporter", verbose)


def folder_of(checkpoint: object) -> Path | None:
    """The folder named by `checkpoint`, or None; RequestError if it is not a path."""
    if checkpoint is None:
        return None
    path = os.fspath(checkpoint) if isinstance(checkpoint, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path:
        raise RequestError(
            f"checkpoint={short_repr(checkpoint)} must be the path of a folder, or None"
        )
    return Path(path)
