"""Specs: through JSON and scikit-learn and back, and the names they are known by."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.base import clone

from isthmus.errors import ArtifactError, RequestError
from isthmus.spec import Spec, from_json, plain, resolve


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
        "depth": 0.5,
        "name": "red",
        "widths": [3, 2],
        "shade": {"type": "Shade", "depth": 2.0},
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
        ((np.int32(8), Shade()), [8, {"type": "Shade", "depth": 0.5}]),
        (None, None),
        ("red", "red"),
    ],
    ids=str,
)
def test_numpys_numbers_are_written_as_pythons(value, written):
    assert json.loads(json.dumps(plain(value))) == written


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
    assert str(caught.value) == (
        f"part={value!r} is not known; use one of 'shade', 'colour', or a spec such as Shade"
    )
