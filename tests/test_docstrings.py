"""Docstrings: their examples run, and every public name has one."""

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import isthmus
from isthmus import corruptions, data, kinds, losses, optim, pretraining

NAMESPACES = (kinds, losses, optim, corruptions, pretraining, data)

MODULES = [
    module.name
    for module in pkgutil.walk_packages(isthmus.__path__, "isthmus.")
    if not module.name.endswith("__main__")
]

# Public classes and functions whose docstring has no example yet; the list may only become shorter.
WITHOUT_EXAMPLE: set[str] = set()


def documented_names() -> list[tuple[ModuleType, str]]:
    """Every public name, with the namespace that exports it."""
    top = [(isthmus, name) for name in isthmus.__all__]
    return top + [(space, name) for space in NAMESPACES for name in space.__all__]


def functions_and_classes() -> dict[str, object]:
    """The public functions and classes by their dotted name."""
    named = {f"{space.__name__}.{name}": getattr(space, name) for space, name in documented_names()}
    return {
        name: value
        for name, value in named.items()
        if inspect.isclass(value) or inspect.isfunction(value)
    }


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_every_public_name_has_a_docstring():
    own = [name for name, value in functions_and_classes().items() if not value.__doc__]
    spaces = [space.__name__ for space in (isthmus, *NAMESPACES) if not space.__doc__]
    assert own + spaces == []


def test_public_classes_and_functions_have_an_example():
    examples = {
        name: "Example:" in value.__doc__ and ">>>" in value.__doc__
        for name, value in functions_and_classes().items()
    }
    assert {name for name, has_example in examples.items() if not has_example} == WITHOUT_EXAMPLE


def test_an_example_that_is_wrong_is_caught():
    def double(x):
        """Twice the number.

        >>> double(2)
        5
        """
        return 2 * x

    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    for example in finder.find(double, "double", globs={"double": double}):
        runner.run(example, out=lambda _: None)
    assert runner.failures == 1
