"""Spec: a part described as data, clonable by scikit-learn, and to and from JSON."""

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator

from isthmus.errors import ArtifactError, RequestError

TYPE = "type"


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
    value: Any, registry: Mapping[str, type[AnySpec]], base: type[AnySpec], slot: str
) -> AnySpec:
    """The spec that `value` (a registered name or a spec, of which it is a copy) stands for.

    Raises RequestError that lists the names when `value` is neither.
    """
    if isinstance(value, str) and value in registry:
        return registry[value]()
    if isinstance(value, base):
        return copy.deepcopy(value)  # what a fit used must not change with a later set_params
    names = ", ".join(repr(name) for name in registry)
    raise RequestError(
        f"{slot}={value!r} is not known; use one of {names}, or a spec such as {base.__name__}"
    )
