"""Python arguments from the texts of command-line options."""

import csv
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import (
    Any,
    Generic,
    TypedDict,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from isthmus.cli.options import ColumnOptions, ReadingOptions, TrainingOptions
from isthmus.corruptions import CORRUPTIONS, Corruption
from isthmus.data.schema import Layout, Schema
from isthmus.errors import RequestError, require
from isthmus.estimator.defaults import choose_kind
from isthmus.kinds import KINDS, Kind
from isthmus.losses import LOSSES, PENALTIES, PenaltySpec, Reconstruction
from isthmus.optim import OPTIMIZERS, OptimizerSpec
from isthmus.pretraining import PRETRAININGS, Pretraining
from isthmus.spec import AnySpec, Spec, resolve

AUTO = "auto"
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}

TYPE_NAMES: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "none",
}


@dataclass(frozen=True)
class PartOption(Generic[AnySpec]):
    """An option that names a part, the registry of these parts, and their base class."""

    option: str
    registry: Mapping[str, type[AnySpec]]
    base: type[AnySpec]


KIND = PartOption("--kind", KINDS, Kind)
LOSS = PartOption("--loss", LOSSES, Reconstruction)
PENALTY = PartOption("--penalty", PENALTIES, PenaltySpec)
CORRUPTION = PartOption("--corruption", CORRUPTIONS, Corruption)
PRETRAINING = PartOption("--pretraining", PRETRAININGS, Pretraining)
OPTIMIZER = PartOption("--optimizer", OPTIMIZERS, OptimizerSpec)


class EstimatorArguments(TypedDict):
    """Keyword arguments of `Autoencoder` that the training options set."""

    kind: str | Kind
    loss: str | Reconstruction
    penalties: tuple[PenaltySpec, ...]
    corruption: Corruption | None
    pretraining: str | Pretraining
    optimizer: str | OptimizerSpec
    max_epochs: int | None
    batch_size: int | str | None
    early_stopping: bool
    preparation: str
    device: str
    precision: str
    transform_max_iter: int | str
    n_init: int
    random_state: int


class OpenArguments(TypedDict, total=False):
    """Keyword arguments of `open_source` that the reading and column options set."""

    member: str | None
    resize: tuple[int, int] | None
    layout: Layout | None
    header: bool | None
    missing: Sequence[str]
    stream: bool | None
    columns: Sequence[str] | None
    drop: Sequence[str]
    roles: Mapping[str, str]


def estimator_arguments(training: TrainingOptions, schema: Schema) -> EstimatorArguments:
    """The `Autoencoder` arguments that the options set, for rows of this schema.

    Raises RequestError, which names the option, for an unknown part, setting or value.
    """
    return {
        "kind": _kind(training, schema),
        "loss": parse_part_or_auto(LOSS, training.loss),
        "penalties": tuple(parse_part(PENALTY, text) for text in training.penalty or ()),
        "corruption": None
        if training.corruption is None
        else parse_part(CORRUPTION, training.corruption),
        "pretraining": parse_part_or_auto(PRETRAINING, training.pretraining),
        "optimizer": _optimizer(training),
        "max_epochs": training.max_epochs,
        "batch_size": None
        if training.batch_size is None
        else _integer_or(training.batch_size, "full", "--batch-size"),
        "early_stopping": not training.no_early_stopping,
        "preparation": training.preparation,
        "device": training.device,
        "precision": training.precision,
        "transform_max_iter": _integer_or(
            training.transform_max_iter, AUTO, "--transform-max-iter"
        ),
        "n_init": training.n_init,
        "random_state": training.random_state,
    }


def parse_part(part: PartOption[AnySpec], text: str, *auto: str) -> AnySpec:
    """The spec that NAME[=VALUE][:SETTING=VALUE ...] describes.

    `auto` is "auto" if that is another possible name, for the message.
    """
    head, *rest = text.split(":")
    name, *first = head.split("=", 1)
    if name not in part.registry:
        raise RequestError(
            f"{part.option} {name}: is not known; use one of {', '.join((*auto, *part.registry))}"
        )
    spec = resolve(name, part.registry, part.base, part.option)
    pairs = [(_first_setting(spec), first[0])] if first else []
    for item in rest:
        setting, equals, value = item.partition("=")
        if not equals:
            raise RequestError(f"{part.option} {text}: {item!r} should read SETTING=VALUE")
        pairs.append((setting, value))
    context = f"{part.option} {name}"
    return replace(spec, **{key: _setting_value(spec, key, value, context) for key, value in pairs})


def parse_part_or_auto(part: PartOption[AnySpec], text: str) -> str | AnySpec:
    """As `parse_part`, or the word "auto", which the estimator resolves."""
    return text if text == AUTO else parse_part(part, text, AUTO)


def open_arguments(
    reading: ReadingOptions, column_options: ColumnOptions | None = None
) -> OpenArguments:
    """The `open_source` arguments that the options set."""
    arguments: OpenArguments = {
        "member": reading.member,
        "resize": None if reading.resize is None else parse_size(reading.resize),
        "layout": cast("Layout | None", reading.layout),  # open_source checks it
        "header": reading.header,
        "missing": () if reading.missing is None else split_names(reading.missing),
        "stream": reading.stream,
    }
    if column_options is not None:
        columns, drop, role = column_options.columns, column_options.drop, column_options.role
        arguments["columns"] = None if columns is None else split_names(columns)
        arguments["drop"] = () if drop is None else split_names(drop)
        arguments["roles"] = {} if role is None else _parse_roles(role)
    return arguments


def _parse_roles(text: str) -> dict[str, str]:
    pairs = [item.rpartition("=") for item in split_names(text)]
    for name, equals, role in pairs:
        require(bool(name and equals), f"--role {role}: give NAME=ROLE, as in zip=categorical")
    return {name: role for name, _, role in pairs}


def split_names(text: str) -> list[str]:
    """The names in a comma-separated list; a name that contains a comma is double-quoted."""
    return next(csv.reader([text]), [])


def parse_integers(text: str, option: str) -> list[int]:
    """The integers in a comma-separated list."""
    try:
        return [int(item) for item in text.split(",")]
    except ValueError as error:
        raise RequestError(f"{option} {text}: give whole numbers, as in 2,8,32") from error


def parse_size(text: str) -> tuple[int, int]:
    """N or HxW as (height, width)."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise RequestError(f"--resize {text}: give one number, or height x width as in 32x48")
    return sides[0], sides[-1]


def _integer_or(text: str, word: str, option: str) -> int | str:
    """The text as an integer, unless it is the one word allowed instead."""
    if text == word:
        return text
    try:
        return int(text)
    except ValueError as error:
        raise RequestError(f"{option} {text}: give a whole number, or {word}") from error


def _kind(training: TrainingOptions, schema: Schema) -> str | Kind:
    if training.hidden is None:
        return parse_part_or_auto(KIND, training.kind)
    name = choose_kind(schema).value if training.kind == AUTO else training.kind
    spec = parse_part(KIND, name)
    if "hidden" not in _setting_types(spec):
        name = next(name for name, kind in KINDS.items() if kind is type(spec))
        raise RequestError(
            f"--hidden: the {name} kind has no hidden layers to set; leave it out, or use --kind "
            "multilayer"
        )
    changes: dict[str, Any] = {
        "hidden": _setting_value(spec, "hidden", training.hidden, "--hidden")
    }
    return replace(spec, **changes)


def _optimizer(training: TrainingOptions) -> str | OptimizerSpec:
    if training.optimizer == AUTO:
        require(
            training.lr is None,
            "--lr: needs --optimizer, such as --optimizer adamw, to set its learning rate",
        )
        return AUTO
    spec = parse_part(OPTIMIZER, training.optimizer, AUTO)
    return spec if training.lr is None else replace(spec, lr=training.lr)


def _setting_types(spec: Spec) -> dict[str, object]:
    """The type hint of each setting of a spec, in their order."""
    hints = get_type_hints(type(spec))
    return {field.name: hints[field.name] for field in fields(spec)}


def _first_setting(spec: Spec) -> str:
    return next(iter(_setting_types(spec)), "")


def _setting_value(spec: Spec, setting: str, text: str, context: str) -> object:
    types_by_name = _setting_types(spec)
    if not types_by_name:
        raise RequestError(f"{context}: has no settings; leave out what follows the name")
    if setting not in types_by_name:
        raise RequestError(
            f"{context}: has no setting {setting!r}; it has {', '.join(types_by_name)}"
        )
    try:
        return _convert(text, types_by_name[setting])
    except (ValueError, KeyError) as error:
        raise RequestError(
            f"{context}: {setting}={text!r} is not {_type_name(types_by_name[setting])}"
        ) from error


def _convert(text: str, hint: object) -> object:
    """The text as a value of the annotated type."""
    if get_origin(hint) in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return None if text.lower() == "none" else _convert(text, options[0])
    if get_origin(hint) is tuple:
        return tuple(_convert(item, get_args(hint)[0]) for item in text.split(",") if item)
    if hint is bool:
        return BOOLEANS[text.lower()]
    assert isinstance(hint, type)
    result: object = hint(text)
    return result


def _type_name(hint: object) -> str:
    """The values that a setting of this type takes, in words."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_type_name, get_args(hint)))
    if get_origin(hint) is tuple:
        noun = "whole numbers" if get_args(hint)[0] is int else "numbers"
        return f"{noun} separated by commas"
    return TYPE_NAMES.get(hint, str(hint))
