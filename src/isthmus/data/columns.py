"""Column: the role of a table's column, its categories, and the features it becomes."""

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from isthmus.errors import RequestError

Role = Literal["numeric", "count", "boolean", "categorical", "ordinal", "datetime"]
ROLES: tuple[str, ...] = get_args(Role)

IDENTIFIER = "identifier"
"""The role of a column that only identifies rows: it is left out."""

TimeType = Literal["", "date", "naive", "zoned", "duration"]
"""Dates in days; timestamps without and with a time zone and durations, in microseconds."""

Category = str | int | float | bool
C = TypeVar("C", bound=str | int | float | bool)

CATEGORY_ROLES = ("categorical", "ordinal")
"""The roles whose numbers are positions in a list of categories."""

MAX_ONE_HOT = 64
"""A column of more categories is encoded by random signs instead of one-hot."""

SIGNS_PER_BIT = 8
"""With half as many, 72 % of 400 categories are decoded right instead of 97 %; twice as many do
not help."""

ALL_COLUMNS = "*"
"""The name that declares a role for all columns without one of their own."""

MAX_NAMES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Column:
    """How the values of a column become numbers and features.

    Example:
        >>> from isthmus.data import Column
        >>> color = Column(role="categorical", categories=("blue", "red"))
        >>> color.has_categories, color.n_features
        (True, 2)
    """

    role: Role = "numeric"
    """What the values mean."""

    categories: tuple[Category, ...] = ()
    """The values of a categorical or ordinal column in the order of their codes 0, 1, 2, ..."""

    category_dtype: str = ""
    """pandas' dtype of the categories, if they come from a pandas category."""

    time_type: TimeType = ""
    """What the numbers of a datetime column mean; new rows are read in the same unit."""

    def __post_init__(self) -> None:
        """Turn a list read from JSON back into a tuple."""
        object.__setattr__(self, "categories", tuple(self.categories))

    @property
    def has_categories(self) -> bool:
        """Whether the numbers are positions in `categories`."""
        return self.role in CATEGORY_ROLES

    @property
    def uses_sign_codes(self) -> bool:
        """Whether there are too many categories for one-hot features."""
        return self.role == "categorical" and len(self.categories) > MAX_ONE_HOT

    @property
    def n_features(self) -> int:
        """The number of features the column becomes."""
        if self.role != "categorical":
            return 1
        n_categories = len(self.categories)
        if self.uses_sign_codes:
            return SIGNS_PER_BIT * (n_categories - 1).bit_length()
        return max(n_categories, 1)

    def check(self) -> None:
        """Raise ValueError if the fields contradict each other."""
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r}")
        if self.time_type not in get_args(TimeType) or (self.role != "datetime" and self.time_type):
            raise ValueError(f"a {self.role} column of the time type {self.time_type!r}")
        if bool(self.categories) and not self.has_categories:
            raise ValueError(f"a {self.role} column with categories")
        if not all(isinstance(category, (str, int, float, bool)) for category in self.categories):
            raise ValueError(f"categories {self.categories[:3]}")
        if len(set(map(_typed, self.categories))) < len(self.categories):
            raise ValueError("two equal categories")


def _typed(category: Category) -> tuple[type, Category]:
    return type(category), category  # 1, 1.0 and True are equal, but different categories


def describe_unknown(count: int) -> str:
    """The text that `count` values are not among a column's categories."""
    verb = "value was" if count == 1 else "values were"
    return (
        f"{count} {verb} not seen in training and {'is' if count == 1 else 'are'} taken as missing"
    )


def sorted_by_type(categories: Iterable[C]) -> tuple[C, ...]:
    """The categories sorted within each type, so that the order does not depend on the rows."""
    by_type = sorted(categories, key=lambda category: (type(category).__name__, category))
    groups = itertools.groupby(by_type, key=lambda category: type(category).__name__)
    return tuple(category for _, group in groups for category in group)


def listed(names: Iterable[object]) -> str:
    """The names, quoted and joined by commas; at most twenty of them."""
    quoted = [repr(name) for name in names]
    hidden = len(quoted) - MAX_NAMES_SHOWN
    return ", ".join(quoted[:MAX_NAMES_SHOWN]) + (f" and {hidden} more" if hidden > 0 else "")


def check_roles(roles: Mapping[str, str], names: Collection[str], origin: str) -> Mapping[str, str]:
    """The declared role of each column by name, with "*" resolved.

    Raises RequestError for a column that is not among `names` and for an unknown role.
    """
    if ALL_COLUMNS in roles and ALL_COLUMNS not in names:
        declared = {name: role for name, role in roles.items() if name != ALL_COLUMNS}
        roles = dict.fromkeys(names, roles[ALL_COLUMNS]) | declared
    for name, role in roles.items():
        if name not in names:
            raise RequestError(
                f"{origin}: there is no column {name!r} to be {role}; there are {listed(names)}"
            )
        if role not in (*ROLES, IDENTIFIER):
            words = ", ".join((*ROLES, IDENTIFIER))
            raise RequestError(f"{origin}: the role {role!r} of {name!r} is not one of {words}")
    return roles
