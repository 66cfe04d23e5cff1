"""Spec: a component described by its settings, with clones, JSON and checks of their types."""

import copy
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from numbers import Number
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from sklearn.base import BaseEstimator

from isthmus.errors import ArtifactError, RequestError

TYPE, MODULE = "type", "module"
MAX_REPR = 200


class Spec(BaseEstimator):  # type: ignore[misc]
    """A component described by its settings; each family has a method that builds the component.

    Subclasses are `@dataclass(kw_only=True)`. They hold plain values only, so that scikit-learn
    can clone them and `to_json` can write them. Rules between settings are checked when the
    component is built, since `set_params` bypasses the constructor.
    """

    def to_json(self) -> dict[str, object]:
        """The class name and every setting, as values that the json module writes.

        The module is named too if it is not part of this package.
        """
        assert is_dataclass(self), f"{type(self).__name__} must be a dataclass"
        module = type(self).__module__
        head = {TYPE: type(self).__name__} | ({} if _is_own(module) else {MODULE: module})
        return head | {field.name: to_plain(getattr(self, field.name)) for field in fields(self)}


AnySpec = TypeVar("AnySpec", bound=Spec)


def to_plain(value: object) -> object:
    """`value` with specs as JSON objects, tuples as lists, and NumPy numbers as Python numbers."""
    if isinstance(value, Spec):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def from_json(written: object, classes: Mapping[str, type[Spec]]) -> Any:
    """The inverse of `to_json`; `classes` maps class names to the classes that may be built."""
    if isinstance(written, list):
        return tuple(from_json(item, classes) for item in written)
    if not (isinstance(written, dict) and TYPE in written):
        return written
    name = written[TYPE]
    is_foreign = name not in classes or (MODULE in written and _is_own(classes[name].__module__))
    if is_foreign:
        raise ArtifactError(
            f"the model uses {name!r}, which is not part of this isthmus; "
            f"pass its class to load(..., specs=[{name}])"
        )
    settings = {
        key: from_json(value, classes)
        for key, value in written.items()
        if key not in (TYPE, MODULE)
    }
    try:
        return classes[name](**settings)
    except TypeError as error:
        raise ArtifactError(
            f"the model's {name} has settings that this isthmus does not have: {error}"
        ) from error


def _is_own(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] == __name__.split(".")[0]


def resolve(
    value: object,
    registry: Mapping[str, type[AnySpec]],
    base: type[AnySpec],
    slot: str,
    others: Iterable[str | None] = (),
) -> AnySpec:
    """The spec that `value` stands for: a registered name, or a spec, which is copied.

    `others` are further values that the caller accepts; the message lists them.

    Raises:
        RequestError: `value` is neither, or a setting has a wrong type.
    """
    if isinstance(value, str) and value in registry:
        return registry[value]()
    if isinstance(value, base):
        check_settings(value)
        return copy.deepcopy(value)  # a later set_params must not change what a fit used
    names = ", ".join(repr(name) for name in (*registry, *others))
    example = ""
    if isinstance(value, type) and issubclass(value, base):
        example = f", such as {value.__name__}()"
    raise RequestError(
        f"{slot}={short_repr(value)} is not known; use one of {names}, or in Python a spec of the "
        f"class {base.__name__}{example}"
    )


def is_bool(value: object) -> TypeGuard[bool]:
    """Whether `value` is True or False, as a Python or NumPy value."""
    return isinstance(value, (bool, np.bool_))


def is_integer(value: object) -> TypeGuard[int]:
    """Whether `value` is a Python or NumPy integer, but not True or False."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is a finite Python or NumPy number, but not True or False."""
    if is_integer(value):
        return abs(int(value)) <= sys.float_info.max
    return isinstance(value, (float, np.floating)) and math.isfinite(value)


def is_sequence(value: object) -> bool:
    """Whether `value` is a tuple, a list or a one-dimensional NumPy array."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def short_repr(value: object) -> str:
    """The repr of `value` on one line, cut to 200 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_REPR else text[:MAX_REPR] + "..."


class SettingType(NamedTuple):
    """A type of setting: its name in messages, and its check."""

    name: str
    accepts: Callable[[object], bool]


SETTING_TYPES: dict[object, SettingType] = {
    float: SettingType("a number", is_number),
    int: SettingType("a whole number", is_integer),
    bool: SettingType("True or False", is_bool),
    str: SettingType("text", lambda value: isinstance(value, str)),
    NoneType: SettingType("None", lambda value: value is None),
    ...: SettingType("...", lambda _: True),
}
"""The annotations that are checked, also inside tuples and unions."""


def check_settings(spec: Spec) -> None:
    """Raise RequestError if a setting of `spec` does not have the type of its annotation.

    Annotations with other types than those of `SETTING_TYPES` are not checked.
    """
    cls: type = type(spec)
    own = [hint for hint in inspect.get_annotations(cls).values() if "ClassVar" not in str(hint)]
    if own and "__dataclass_params__" not in vars(cls):
        raise RequestError(f"{cls.__name__} must be decorated with @dataclass(kw_only=True)")
    for name, hint in _checked_hints(cls).items():
        value = getattr(spec, name)
        invalid = _invalid_parts(value, hint)
        if invalid:
            raise RequestError(
                f"{cls.__name__}: {name}={short_repr(value)} must be {_describe(hint)}; "
                f"found {_describe_value(invalid[0])}"
            )


@functools.cache
def _checked_hints(cls: type) -> dict[str, object]:
    try:
        hints = get_type_hints(cls)
    except (AttributeError, NameError, TypeError):  # an annotation that only a type checker reads
        return {}
    assert is_dataclass(cls)
    names = [field.name for field in fields(cls)]
    return {name: hints[name] for name in names if _is_checkable(hints[name])}


def _is_checkable(hint: object) -> bool:
    if get_origin(hint) in (tuple, Union, UnionType):
        return all(_is_checkable(part) for part in get_args(hint))
    return get_origin(hint) is None and hint in SETTING_TYPES


def _invalid_parts(value: object, hint: object) -> list[object]:
    """The parts of `value`, itself or items of it, that do not have the annotated type."""
    if get_origin(hint) is None:
        return [] if SETTING_TYPES[hint].accepts(value) else [value]
    if get_origin(hint) is tuple:
        return _invalid_items(value, get_args(hint))
    alternatives = [_invalid_parts(value, part) for part in get_args(hint)]
    return [] if [] in alternatives else alternatives[0]


def _invalid_items(value: Any, hints: tuple[object, ...]) -> list[object]:
    any_length = hints[-1:] == (...,)
    if any_length and isinstance(value, (str, Number)):
        return []  # the component's own check says best how to write a single item
    if not is_sequence(value):
        return [value]
    pairs = ((item, hints[0]) for item in value) if any_length else zip(value, hints, strict=False)
    return [invalid for item, hint in pairs for invalid in _invalid_parts(item, hint)]


def _describe(hint: object) -> str:
    names = [_describe(part) for part in get_args(hint)]
    if get_origin(hint) is tuple:
        return f"a tuple ({', '.join(names)})"
    return " or ".join(names) if names else SETTING_TYPES[hint].name


def _describe_value(value: object) -> str:
    if isinstance(value, (float, np.floating)) and not math.isfinite(value):
        return f"{value}, which is not finite"
    return type(value).__name__
