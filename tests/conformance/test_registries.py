"""The registries: their names, a tiny example of each part, and parts through JSON and clones."""

import inspect
import json

import pytest
from sklearn.base import clone

from isthmus import corruptions, kinds, losses, optim, pretraining
from isthmus.corruptions import CORRUPTIONS
from isthmus.kinds import KINDS
from isthmus.losses import LOSSES, PENALTIES
from isthmus.optim import OPTIMIZERS
from isthmus.pretraining import PRETRAININGS
from isthmus.spec import from_json, resolve

REGISTRIES = {
    "kind": (KINDS, kinds, kinds.Kind),
    "loss": (LOSSES, losses, losses.Reconstruction),
    "penalties": (PENALTIES, losses, losses.PenaltySpec),
    "corruption": (CORRUPTIONS, corruptions, corruptions.Corruption),
    "pretraining": (PRETRAININGS, pretraining, pretraining.Pretraining),
    "optimizer": (OPTIMIZERS, optim, optim.OptimizerSpec),
}
PARTS = [(slot, name) for slot, (registry, *_) in REGISTRIES.items() for name in registry]
CLASSES = {cls.__name__: cls for registry, *_ in REGISTRIES.values() for cls in registry.values()}


def test_every_part_has_a_tiny_example(tiny):
    assert tiny.keys() == REGISTRIES.keys()
    for slot, (registry, *_) in REGISTRIES.items():
        assert tiny[slot].keys() == registry.keys()
        assert {name: type(part) for name, part in tiny[slot].items()} == registry


def test_no_two_parts_share_a_class_name():
    assert len(CLASSES) == len(PARTS)


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_names_are_what_the_class_is_called_in_small_letters(slot, name):
    registry, module, _ = REGISTRIES[slot]
    assert name == name.lower()
    assert name.isidentifier()
    assert registry[name].__name__.lower().startswith(name.replace("_", ""))
    assert getattr(module, registry[name].__name__) is registry[name]
    assert registry[name].__name__ in module.__all__


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_a_name_stands_for_the_defaults(slot, name):
    registry, _, base = REGISTRIES[slot]
    resolved = resolve(name, registry, base, slot)
    assert resolved == registry[name]()
    assert resolve(resolved, registry, base, slot) == resolved


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_every_setting_is_explained(slot, name):
    cls = REGISTRIES[slot][0][name]
    assert inspect.getdoc(cls)
    source = "".join(
        inspect.getsource(part) for part in cls.__mro__ if "isthmus" in part.__module__
    )
    for setting in cls().get_params():
        _, _, after = source.partition(f"    {setting}: ")
        assert after.split("\n")[1].lstrip().startswith('"""'), setting


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_through_json_and_back(tiny, slot, name, example):
    part = tiny[slot][name] if example else REGISTRIES[slot][0][name]()
    again = from_json(json.loads(json.dumps(part.to_json(), allow_nan=False)), CLASSES)
    assert again == part
    assert type(again) is type(part)


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_a_clone_is_equal_and_apart(tiny, slot, name):
    part = tiny[slot][name]
    twin = clone(part)
    assert twin == part
    assert twin is not part
    for setting in part.get_params(deep=False):
        twin.set_params(**{setting: "changed"})
        assert getattr(part, setting) != "changed"
