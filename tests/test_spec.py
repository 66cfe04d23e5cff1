"""Specs: through JSON and scikit-learn and back, and the names they are known by."""

import json
from dataclasses import dataclass
from typing import Any, Literal, Optional

import numpy as np
import pytest
from sklearn.base import clone

from isthmus import losses
from isthmus.errors import ArtifactError, RequestError
from isthmus.spec import (
    Spec,
    from_json,
    is_bool,
    is_integer,
    is_number,
    resolve,
    short_repr,
    to_plain,
)


@dataclass(kw_only=True)
class Shade(Spec):
    """A part of a part."""

    depth: float = 0.5


@dataclass(kw_only=True)
class Colour(Shade):
    """A part with settings of every sort."""

    name: str = "red"
    widths: tuple[int, ...] | None = (3, 2)
    shade: Shade | None = None
    shades: tuple[Shade, ...] = ()
    on: bool = True


CLASSES = {"Shade": Shade, "Colour": Colour}
FULL = Colour(
    name="blue", widths=None, shade=Shade(depth=0.1), shades=(Shade(), Colour(widths=())), on=False
)


@pytest.mark.parametrize("spec", [Shade(), Colour(), FULL], ids=str)
def test_through_json_and_back(spec):
    written = json.loads(json.dumps(spec.to_json()))
    again = from_json(written, CLASSES)
    assert again == spec
    assert type(again) is type(spec)
    assert again.to_json() == spec.to_json()


def test_what_is_written():
    assert Colour(shade=Shade(depth=2.0)).to_json() == {
        "type": "Colour",
        "module": __name__,
        "depth": 0.5,
        "name": "red",
        "widths": [3, 2],
        "shade": {"type": "Shade", "module": __name__, "depth": 2.0},
        "shades": [],
        "on": True,
    }


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([8, 4]), [8, 4]),
        ((np.int32(8), Shade()), [8, {"type": "Shade", "module": __name__, "depth": 0.5}]),
        (None, None),
        ("red", "red"),
    ],
    ids=str,
)
def test_numpys_numbers_are_written_as_pythons(value, written):
    assert json.loads(json.dumps(to_plain(value))) == written


@pytest.mark.parametrize("spec", [Shade(depth=2.0), FULL], ids=str)
def test_a_clone_is_equal_and_apart(spec):
    twin = clone(spec)
    assert twin == spec
    assert twin is not spec
    twin.set_params(depth=9.0)
    assert spec.depth != 9.0


def test_settings_of_a_part_are_reached_by_name():
    spec = Colour(shade=Shade()).set_params(shade__depth=0.25, name="green")
    assert spec.get_params()["shade__depth"] == 0.25
    assert spec == Colour(shade=Shade(depth=0.25), name="green")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"type": "Hue"}, r"the model uses 'Hue', .* load\(..., specs=\[Hue\]\)"),
        ({"type": "Colour", "shades": [{"type": "Tint"}]}, "the model uses 'Tint'"),
        ({"type": "Shade", "deep": 1}, "the model's Shade has settings .* 'deep'"),
    ],
)
def test_what_is_not_known_is_named(written, message):
    with pytest.raises(ArtifactError, match=message):
        from_json(written, CLASSES)


def test_a_class_of_the_package_does_not_stand_for_another_of_its_name():
    @dataclass(kw_only=True)
    class Squared(losses.Squared):
        """A loss from outside the package."""

    written = Squared().to_json()
    with pytest.raises(ArtifactError, match=r"specs=\[Squared\]"):
        from_json(written, {"Squared": losses.Squared})
    assert type(from_json(written, {"Squared": Squared})) is Squared


def test_settings_without_the_decorator_are_refused():
    class Deep(Shade):
        layers: int = 3

    with pytest.raises(RequestError, match=r"Deep must be decorated with @dataclass"):
        resolve(Deep(), REGISTRY, Shade, "part")


def test_plain_values_are_read_as_they_are():
    assert from_json([1, [2, "a"], None], CLASSES) == (1, (2, "a"), None)
    assert from_json({"rate": 0.1}, CLASSES) == {"rate": 0.1}


REGISTRY = {"shade": Shade, "colour": Colour}


def test_a_name_or_a_spec_is_resolved():
    assert resolve("colour", REGISTRY, Shade, "part") == Colour()
    assert resolve(FULL, REGISTRY, Shade, "part") == FULL


def test_what_is_resolved_does_not_change_with_what_was_given():
    given = Colour(shade=Shade())
    resolved = resolve(given, REGISTRY, Shade, "part")
    given.set_params(name="green", shade__depth=7.0)
    assert resolved == Colour(shade=Shade())


@pytest.mark.parametrize("value", ["color", "Colour", None, 3, Colour, ["colour"], {"a": 1}])
def test_what_cannot_be_resolved_is_named_with_the_choices(value):
    with pytest.raises(RequestError) as caught:
        resolve(value, REGISTRY, Shade, "part")
    example = ", such as Colour()" if value is Colour else ""
    assert str(caught.value) == (
        f"part={value!r} is not known; use one of 'shade', 'colour', or in Python a spec of the "
        f"class Shade{example}"
    )


@dataclass(kw_only=True)
class Typed(Spec):
    """A part with a setting of every type that is checked, and of some that are not."""

    rate: float = 0.5
    count: int = 3
    on: bool = True
    name: str = "red"
    limit: float | None = None
    other: Optional[int] = None  # noqa: UP045  the old way of writing it
    pair: tuple[float, float] = (0.0, 1.0)
    widths: tuple[int, ...] | None = None
    hue: Literal["red", "blue"] = "red"
    anything: Any = None
    items: list[int] | None = None
    shade: Shade | None = None


FITTING = [
    {"rate": 1, "limit": 3, "pair": (0, 1)},
    {"rate": np.float32(0.1), "limit": np.int8(3), "pair": [np.float64(0.5), 1]},
    {"pair": np.array([0.5, 1.0]), "widths": np.array([8, 4])},
    {"count": np.int64(3), "other": np.uint8(3), "on": np.True_, "name": np.str_("blue")},
    {"widths": [8, np.int32(4)]},
    {"widths": ()},
    {"widths": 8},
    {"widths": "8,4"},
    {"hue": 3, "anything": object, "items": "abc", "shade": 3},
]
WRONG = [
    ("rate", "0.1", "rate='0.1' must be a number; found str"),
    ("rate", None, "rate=None must be a number; found NoneType"),
    ("rate", True, "rate=True must be a number; found bool"),
    ("rate", np.False_, "rate=np.False_ must be a number; found bool"),
    ("rate", 1j, "must be a number; found complex"),
    ("rate", np.array([0.1]), r"rate=array\(\[0.1\]\) must be a number; found ndarray"),
    ("rate", float("nan"), "rate=nan must be a number; found nan, which is not finite"),
    ("rate", np.float32("inf"), "must be a number; found inf, which is not finite"),
    ("rate", 10**400, "must be a number; found int"),
    ("limit", "1", "limit='1' must be a number or None; found str"),
    ("limit", float("inf"), "limit=inf must be a number or None; found inf, which"),
    ("count", 3.0, "count=3.0 must be a whole number; found float"),
    ("count", False, "count=False must be a whole number; found bool"),
    ("count", "3", "must be a whole number; found str"),
    ("other", 0.5, "other=0.5 must be a whole number or None; found float"),
    ("on", 1, "on=1 must be True or False; found int"),
    ("on", "no", "on='no' must be True or False; found str"),
    ("on", None, "must be True or False; found NoneType"),
    ("name", None, "name=None must be text; found NoneType"),
    ("name", ["red"], r"name=\['red'\] must be text; found list"),
    ("pair", 0.5, r"pair=0.5 must be a tuple \(a number, a number\); found float"),
    ("pair", "ab", "found str"),
    ("pair", (0.5, None), r"pair=\(0.5, None\) must be .*; found NoneType"),
    ("pair", {0.1: 0.2}, "found dict"),
    ("widths", (8, 4.5), r"must be a tuple \(a whole number, ...\) or None; found float"),
    ("widths", [True], "found bool"),
    ("widths", {8, 4}, "found set"),
    ("widths", object, "found type"),
    ("widths", np.array([[8], [4]]), r"widths=array\(\[\[8\], \[4\]\]\) must be .*; found ndarray"),
    ("widths", np.array([8.0]), "found float64"),
]


@pytest.mark.parametrize("settings", FITTING, ids=str)
def test_settings_of_their_types_are_taken(settings):
    resolved = resolve(Typed(**settings), REGISTRY, Typed, "part")
    for name, value in settings.items():
        np.testing.assert_array_equal(getattr(resolved, name), value)


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=str)
def test_a_setting_of_another_type_is_named(name, value, message):
    with pytest.raises(RequestError, match=message) as caught:
        resolve(Typed(**{name: value}), REGISTRY, Typed, "part")
    assert str(caught.value).startswith(f"Typed: {name}=")
    assert "\n" not in str(caught.value)


def test_a_setting_changed_later_is_checked_too():
    with pytest.raises(RequestError, match="Typed: count='many'"):
        resolve(Typed().set_params(count="many"), REGISTRY, Typed, "part")


def test_annotations_that_only_a_type_checker_reads_are_passed_over():
    @dataclass(kw_only=True)
    class Vague(Spec):
        rate: "Unheard" = 0.5  # noqa: F821
        count: int = 3

    assert resolve(Vague(count="many"), REGISTRY, Vague, "part").count == "many"


@pytest.mark.parametrize(
    ("value", "truth", "whole", "number"),
    [
        (True, True, False, False),
        (np.False_, True, False, False),
        (3, False, True, True),
        (np.int8(3), False, True, True),
        (3.0, False, False, True),
        (np.float16(3), False, False, True),
        (float("-inf"), False, False, False),
        ("3", False, False, False),
        (None, False, False, False),
        (np.array(3), False, False, False),
    ],
    ids=repr,
)
def test_what_counts_as_what(value, truth, whole, number):
    assert (is_bool(value), is_integer(value), is_number(value)) == (truth, whole, number)


def test_what_is_shown_is_one_short_line():
    assert short_repr(np.eye(2)) == "array([[1., 0.], [0., 1.]])"
    assert short_repr("a" * 999) == "'" + "a" * 199 + "..."
