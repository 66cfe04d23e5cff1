"""Spec: a part described as data, clonable by scikit-learn, and to and from JSON."""

import copy
import functools
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from numbers import Number
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from sklearn.base import BaseEstimator

from isthmus.errors import ArtifactError, RequestError

TYPE = "type"
SHOWN = 200


class Spec(BaseEstimator):  # type: ignore[misc]
    """A part described by its settings; `build` (of each family) turns it into the part.

    Subclasses are `@dataclass(kw_only=True)`. They hold plain values only, so that
    scikit-learn can clone them and `to_json` can write them. Rules that join several
    fields are checked where the part is built, since `set_params` goes round the constructor.
    """

    def to_json(self) -> dict[str, Any]:
        """The class name and every setting, as values the json module writes."""
        assert is_dataclass(self), f"{type(self).__name__} must be a dataclass"
        return {TYPE: type(self).__name__} | {
            field.name: plain(getattr(self, field.name)) for field in fields(self)
        }


AnySpec = TypeVar("AnySpec", bound=Spec)


def plain(value: Any) -> Any:
    """`value` with specs as JSON objects, tuples as lists, and NumPy's numbers as Python's."""
    if isinstance(value, Spec):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def from_json(written: Any, classes: Mapping[str, type[Spec]]) -> Any:
    """What `to_json` wrote, rebuilt; `classes` maps class names to the classes to trust."""
    if isinstance(written, list):
        return tuple(from_json(item, classes) for item in written)
    if not (isinstance(written, dict) and TYPE in written):
        return written
    name = written[TYPE]
    if name not in classes:
        raise ArtifactError(
            f"the model uses {name!r}, which is not part of this isthmus; "
            f"hand its class over with load(..., specs=[{name}])"
        )
    settings = {key: from_json(value, classes) for key, value in written.items() if key != TYPE}
    try:
        return classes[name](**settings)
    except TypeError as error:
        raise ArtifactError(
            f"the model's {name} has settings this isthmus does not know: {error}"
        ) from error


def resolve(
    value: Any,
    registry: Mapping[str, type[AnySpec]],
    base: type[AnySpec],
    slot: str,
    others: Iterable[str | None] = (),
) -> AnySpec:
    """The spec that `value` (a registered name or a spec, of which it is a copy) stands for.

    `others` are what the caller would have taken too. Raises RequestError that lists the names when
    `value` is neither, or that names a setting of a wrong type.
    """
    if isinstance(value, str) and value in registry:
        return registry[value]()
    if isinstance(value, base):
        check_settings(value)
        return copy.deepcopy(value)  # what a fit used must not change with a later set_params
    names = ", ".join(repr(name) for name in (*registry, *others))
    raise RequestError(
        f"{slot}={shown(value)} is not known; use one of {names}, or in Python a spec of the class "
        f"{base.__name__}"
    )


def is_truth(value: Any) -> bool:
    """Whether `value` is True or False, Python's or NumPy's."""
    return isinstance(value, (bool, np.bool_))


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number, Python's or NumPy's; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number, Python's or NumPy's; True and False are none."""
    if is_whole(value):
        return abs(int(value)) <= sys.float_info.max
    return isinstance(value, (float, np.floating)) and math.isfinite(value)


def is_sequence(value: Any) -> bool:
    """Whether `value` is a tuple, a list or a NumPy array of one axis."""
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def shown(value: Any) -> str:
    """`value` as a message shows it: in one line, cut short where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


class Plain(NamedTuple):
    """What a setting of a plain type may hold, and how that is called."""

    words: str
    fits: Callable[[Any], bool]


PLAIN: dict[Any, Plain] = {
    float: Plain("a number", is_number),
    int: Plain("a whole number", is_whole),
    bool: Plain("True or False", is_truth),
    str: Plain("text", lambda value: isinstance(value, str)),
    NoneType: Plain("None", lambda value: value is None),
    ...: Plain("...", lambda _: True),
}
"""The annotations that are checked; so are tuples and unions of these."""


def check_settings(spec: Spec) -> None:
    """Raise RequestError where a setting of `spec` is not what its annotation says.

    Annotations with anything else than plain types are left to whoever wrote the spec.
    """
    cls: Any = type(spec)
    for name, hint in _checked(cls).items():
        value = getattr(spec, name)
        odd = _misfits(value, hint)
        if odd:
            raise RequestError(
                f"{cls.__name__}: {name}={shown(value)} must be {_words(hint)}; "
                f"found {_found(odd[0])}"
            )


@functools.cache
def _checked(cls: Any) -> dict[str, Any]:
    try:
        hints = get_type_hints(cls)
    except (AttributeError, NameError, TypeError):  # an annotation that only a type checker reads
        return {}
    own = {field.name: hints[field.name] for field in fields(cls)}
    return {name: hint for name, hint in own.items() if _is_plain(hint)}


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) in (tuple, Union, UnionType):
        return all(_is_plain(part) for part in get_args(hint))
    return get_origin(hint) is None and hint in PLAIN


def _misfits(value: Any, hint: Any) -> list[Any]:
    """What of `value`, itself or some of its items, is not what the hint says."""
    if get_origin(hint) is None:
        return [] if PLAIN[hint].fits(value) else [value]
    if get_origin(hint) is tuple:
        return _misfit_items(value, get_args(hint))
    found = [_misfits(value, part) for part in get_args(hint)]
    return [] if [] in found else found[0]


def _misfit_items(value: Any, hints: tuple[Any, ...]) -> list[Any]:
    endless = hints[-1:] == (...,)
    if endless and isinstance(value, (str, Number)):
        return []  # a part that takes any number of items says best how to write a single one
    if not is_sequence(value):
        return [value]
    pairs = ((item, hints[0]) for item in value) if endless else zip(value, hints, strict=False)
    return [odd for item, hint in pairs for odd in _misfits(item, hint)]


def _words(hint: Any) -> str:
    words = [_words(part) for part in get_args(hint)]
    if get_origin(hint) is tuple:
        return f"a tuple ({', '.join(words)})"
    return " or ".join(words) if words else PLAIN[hint].words


def _found(odd: Any) -> str:
    if isinstance(odd, (float, np.floating)) and not math.isfinite(odd):
        return f"{odd}, which is not finite"
    return type(odd).__name__
