"""What a column of a table means: numbers, counts, truths, categories, ranks or dates."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from isthmus.errors import RequestError

Role = Literal["numeric", "count", "boolean", "categorical", "ordinal", "datetime"]
MOST_FEATURES = 64
SIGNS_A_BIT = 8
"""With half as many 72 % of 400 levels are right where 97 % are; with twice as many no more."""

ROLES: tuple[str, ...] = get_args(Role)
IDENTIFIER = "identifier"
"""The role of a column that tells rows apart and nothing else: it is left out."""

Moment = Literal["", "date", "naive", "zoned", "span"]
"""Days; moments without and in a time zone, and spans, in microseconds; "" for what is no time."""

Level = str | int | float | bool

LEVELLED = ("categorical", "ordinal")
"""The roles whose numbers are positions in a list of levels."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """How the values of one column become one number each, and what is to be made of those."""

    role: Role = "numeric"

    levels: tuple[Level, ...] = ()
    """The values of a categorical or ordinal column in the order of their codes 0, 1, 2, ..."""

    level_dtype: str = ""
    """What pandas calls the dtype of a category's levels, where it has one."""

    moment: Moment = ""
    """What the numbers of a datetime column stand for: new rows are read in the same unit."""

    def __post_init__(self) -> None:
        """Make a list read from JSON into the tuple it was."""
        object.__setattr__(self, "levels", tuple(self.levels))

    @property
    def levelled(self) -> bool:
        """Whether its numbers are positions among its levels."""
        return self.role in LEVELLED

    def check(self) -> None:
        """Raise ValueError where the fields do not fit one another."""
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r}")
        if self.moment not in get_args(Moment) or (self.role != "datetime" and self.moment):
            raise ValueError(f"a {self.role} column of the moments {self.moment!r}")
        if bool(self.levels) and not self.levelled:
            raise ValueError(f"a {self.role} column with levels")
        if not all(isinstance(level, (str, int, float, bool)) for level in self.levels):
            raise ValueError(f"levels {self.levels[:3]}")
        if len(set(map(_key, self.levels))) < len(self.levels):
            raise ValueError("two equal levels")


def _key(level: Level) -> tuple[type, Level]:
    return type(level), level  # 1, 1.0 and True are equal, yet not the same level


def unknown(count: int) -> str:
    """What becomes of so many values that are none of a column's levels, in words."""
    one = count == 1
    return (
        f"{count} {'value is' if one else 'values are'} none that the model knows, and "
        f"{'is' if one else 'are'} taken as missing"
    )


def in_order(levels: Any) -> tuple[Any, ...]:
    """Levels sorted within their types, so that their order does not hang on that of the rows."""
    by_type = sorted(levels, key=lambda level: (type(level).__name__, level))
    groups = itertools.groupby(by_type, key=lambda level: type(level).__name__)
    return tuple(level for _, group in groups for level in group)


EVERY = "*"
"""Stands for all columns that no role is declared for by name."""


SHOWN = 20
"""Columns that a message names."""


def listed(names: Iterable[str]) -> str:
    """The names, quoted and joined, cut short after twenty."""
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - SHOWN} more" if len(quoted) > SHOWN else ""
    return ", ".join(quoted[:SHOWN]) + more


def check_roles(roles: Mapping[str, str], known: Any, origin: str) -> Mapping[str, str]:
    """The roles of columns by name, where "*" is for all others that are `known`.

    Raises RequestError for a column that is not, or a role that there is not.
    """
    if EVERY in roles and EVERY not in known:
        roles = dict.fromkeys(known, roles[EVERY]) | {
            name: role for name, role in roles.items() if name != EVERY
        }
    for name, role in roles.items():
        if name not in known:
            raise RequestError(
                f"{origin}: there is no column {name!r} to be {role}; there are {listed(known)}"
            )
        if role not in (*ROLES, IDENTIFIER):
            words = ", ".join((*ROLES, IDENTIFIER))
            raise RequestError(f"{origin}: the role {role!r} of {name!r} is not one of {words}")
    return roles


def coded(column: Column) -> bool:
    """Whether a column has too many levels for a feature each."""
    return column.role == "categorical" and len(column.levels) > MOST_FEATURES


def width(column: Column) -> int:
    """How many features a column is."""
    if column.role != "categorical":
        return 1
    levels = len(column.levels)
    return SIGNS_A_BIT * (levels - 1).bit_length() if coded(column) else max(levels, 1)
