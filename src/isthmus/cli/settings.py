"""The estimator's settings from the words of a command line."""

import csv
import types
from dataclasses import fields, replace
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from isthmus.cli.options import Choosing, Reading, Training
from isthmus.corruptions import CORRUPTIONS, Corruption
from isthmus.data import Schema
from isthmus.errors import RequestError, require
from isthmus.estimator.defaults import choose_kind
from isthmus.kinds import KINDS, Kind
from isthmus.losses import LOSSES, PENALTIES, PenaltySpec, Reconstruction
from isthmus.optim import OPTIMIZERS, OptimizerSpec
from isthmus.pretraining import PRETRAININGS, Pretraining
from isthmus.spec import Spec, resolve

AUTO = "auto"
TRUTH = {"true": True, "yes": True, "false": False, "no": False}


class Slot(NamedTuple):
    """An option that names a part, the parts there are, and what they have in common."""

    option: str
    registry: dict[str, Any]
    base: Any


KIND = Slot("--kind", KINDS, Kind)
LOSS = Slot("--loss", LOSSES, Reconstruction)
PENALTY = Slot("--penalty", PENALTIES, PenaltySpec)
CORRUPTION = Slot("--corruption", CORRUPTIONS, Corruption)
PRETRAINING = Slot("--pretraining", PRETRAININGS, Pretraining)
OPTIMIZER = Slot("--optimizer", OPTIMIZERS, OptimizerSpec)


def estimator_settings(training: Training, schema: Schema) -> dict[str, Any]:
    """The arguments of `Autoencoder` that the options stand for, for rows of this schema.

    Raises RequestError, naming the option, for a part, a setting or a value that is not known.
    """
    return {
        "kind": _kind(training, schema),
        "loss": training.loss if training.loss == AUTO else part(LOSS, training.loss),
        "penalties": tuple(part(PENALTY, text) for text in training.penalty or ()),
        "corruption": None
        if training.corruption is None
        else part(CORRUPTION, training.corruption),
        "pretraining": training.pretraining
        if training.pretraining == AUTO
        else part(PRETRAINING, training.pretraining),
        "optimizer": _optimizer(training),
        "max_epochs": training.epochs,
        "batch_size": _number_or(training.batch_size, "full", "--batch-size"),
        "early_stopping": not training.no_early_stopping,
        "preparation": training.preparation,
        "device": training.device,
        "precision": training.precision,
        "transform_max_iter": _number_or(training.transform_max_iter, AUTO, "--transform-max-iter"),
        "n_init": training.n_init,
        "random_state": training.seed,
    }


def part(slot: Slot, text: str) -> Any:
    """The spec that NAME[=VALUE][:SETTING=VALUE ...] stands for."""
    head, *rest = text.split(":")
    name, *first = head.split("=", 1)
    spec = resolve(name, slot.registry, slot.base, slot.option)
    pairs = [(_first_setting(spec), first[0])] if first else []
    for item in rest:
        setting, equals, value = item.partition("=")
        if not equals:
            raise RequestError(f"{slot.option} {text}: {item!r} should read SETTING=VALUE")
        pairs.append((setting, value))
    where = f"{slot.option} {name}"
    return replace(spec, **{key: _value(spec, key, value, where) for key, value in pairs})


def reading_options(reading: Reading, choosing: Choosing | None = None) -> dict[str, Any]:
    """The arguments of `open_source` that the options stand for."""
    found: dict[str, Any] = {
        "member": reading.member,
        "resize": None if reading.resize is None else size(reading.resize),
        "layout": reading.layout,
        "header": reading.header,
        "missing": () if reading.missing is None else words(reading.missing),
        "stream": reading.stream,
    }
    if choosing is not None:
        found["columns"] = None if choosing.columns is None else words(choosing.columns)
        found["drop"] = () if choosing.drop is None else words(choosing.drop)
        found["roles"] = {} if choosing.role is None else _roles(choosing.role)
    return found


def _roles(text: str) -> dict[str, str]:
    pairs = [item.rpartition("=") for item in words(text)]
    for name, equals, role in pairs:
        require(bool(name and equals), f"--role {role}: give NAME=ROLE, as in zip=categorical")
    return {name: role for name, _, role in pairs}


def words(text: str) -> list[str]:
    """The names in a list with commas; a name that holds one stands in double quotes."""
    return next(csv.reader([text]), [])


def whole_numbers(text: str, option: str) -> list[int]:
    """The numbers in a list with commas."""
    try:
        return [int(item) for item in text.split(",")]
    except ValueError as error:
        raise RequestError(f"{option} {text}: give whole numbers, as in 2,8,32") from error


def size(text: str) -> tuple[int, int]:
    """N or HxW as (height, width)."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise RequestError(f"--resize {text}: give one number, or height x width as in 32x48")
    return sides[0], sides[-1]


def _number_or(text: str | None, word: str, option: str) -> Any:
    """The whole number that the text is, or that word, or None."""
    if text is None or text == word:
        return text
    try:
        return int(text)
    except ValueError as error:
        raise RequestError(f"{option} {text}: give a whole number, or {word}") from error


def _kind(training: Training, schema: Schema) -> Any:
    if training.hidden is None:
        return training.kind if training.kind == AUTO else part(KIND, training.kind)
    spec = part(KIND, choose_kind(schema) if training.kind == AUTO else training.kind)
    if "hidden" not in _types(spec):
        raise RequestError(
            f"--hidden: the {_name(KINDS, spec)} kind has no hidden layers to set; leave it out, "
            "or use --kind multilayer"
        )
    return replace(spec, hidden=_value(spec, "hidden", training.hidden, "--hidden"))


def _optimizer(training: Training) -> Any:
    if training.optimizer == AUTO:
        require(training.lr is None, "--lr: say whose rate it is, as with --optimizer adamw")
        return AUTO
    spec = part(OPTIMIZER, training.optimizer)
    return spec if training.lr is None else replace(spec, lr=training.lr)


def _name(registry: dict[str, Any], spec: Spec) -> str:
    return next(name for name, cls in registry.items() if cls is type(spec))


def _types(spec: Any) -> dict[str, Any]:
    hints = get_type_hints(type(spec))
    return {field.name: hints[field.name] for field in fields(spec)}


def _first_setting(spec: Any) -> str:
    return next(iter(_types(spec)), "")


def _value(spec: Any, setting: str, text: str, where: str) -> Any:
    known = _types(spec)
    if not known:
        raise RequestError(f"{where}: has no settings; leave out what follows the name")
    if setting not in known:
        raise RequestError(f"{where}: has no setting {setting!r}; it has {', '.join(known)}")
    try:
        return _convert(text, known[setting])
    except (ValueError, KeyError) as error:
        raise RequestError(
            f"{where}: {setting}={text!r} is not {_described(known[setting])}"
        ) from error


def _convert(text: str, hint: Any) -> Any:
    """The text as a value of the annotated type."""
    if get_origin(hint) in (Union, types.UnionType):
        wanted = [option for option in get_args(hint) if option is not type(None)]
        return None if text.lower() == "none" else _convert(text, wanted[0])
    if get_origin(hint) is tuple:
        return tuple(_convert(item, get_args(hint)[0]) for item in text.split(",") if item)
    return TRUTH[text.lower()] if hint is bool else hint(text)


def _described(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)) if get_origin(hint) is None else str(hint)
