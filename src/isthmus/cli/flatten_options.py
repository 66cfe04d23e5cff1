"""Option groups: a command that takes dataclasses becomes one that takes their fields."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def flatten_options(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with each parameter that is a dataclass replaced by that dataclass's fields.

    Typer reads the resulting signature. Several commands share a group of options this way.
    """
    groups: dict[str, type[DataclassInstance]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and is_dataclass(group):
            groups[parameter.name] = group
            parameters += _option_parameters(group)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(function)
    def command(**values: object) -> None:
        for name, group in groups.items():
            options = {field: values.pop(field) for field in _init_fields(group)}
            values[name] = group(**options)
        function(**values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _option_parameters(group: "type[DataclassInstance]") -> Iterator[inspect.Parameter]:
    """One keyword-only parameter for each option of the group, shown in its help panel."""
    hints = get_type_hints(group, include_extras=True)
    for name, default in _init_fields(group).items():
        (option,) = hints[name].__metadata__
        option.rich_help_panel = getattr(group, "PANEL", None)
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is MISSING else default,
            annotation=hints[name],
        )


def _init_fields(group: "type[DataclassInstance]") -> dict[str, object]:
    """The fields that the constructor takes, each with its default."""
    return {field.name: field.default for field in fields(group) if field.init}
