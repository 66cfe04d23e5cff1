"""The floors of the house: who may import whom, read from the source without running it.

The floors are those of docs/design.md. An import counts wherever it stands: at the top of a
file, inside a function, or under TYPE_CHECKING.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "isthmus"

# A part is a file or a folder directly in the package. It imports from floors above it in this
# list only (nearer the ground), never from its own floor.
FLOORS: list[set[str]] = [
    {"types", "errors"},
    {"spec", "files", "gaps", "randomness"},
    {"counts"},
    {"data", "kinds", "losses", "optim", "metrics", "refinement"},
    {"pretraining", "training"},
    {"artifact"},
    {"estimator", "baselines"},
    {"detector", "search"},
    {"report"},
    {"cli"},
    {"__init__", "__main__"},
]
FLOOR = {part: level for level, parts in enumerate(FLOORS) for part in parts}

# The training loop is handed what it trains; it knows none of it by name.
STRANGERS = {"isthmus.training.loop": {"kinds", "losses", "optim", "data"}}

# Everything else is written for one process on one device.
WORLD = "isthmus.training.world"


class Import(NamedTuple):
    """One import: the module that is named, the name taken from it (if any), and the line."""

    module: str
    name: str | None
    line: int


def modules(package: Path) -> dict[str, Path]:
    """Every module of a package folder by its dotted name."""
    return {_dotted(path, package): path for path in sorted(package.rglob("*.py"))}


def problems(package: Path) -> list[str]:
    """Every broken rule of the package in this folder, one line each."""
    known = modules(package)
    found = [
        f"{path.relative_to(package.parent)}:{line}: {message}"
        for module, path in known.items()
        for line, message in _file_problems(module, path, known)
    ]
    return found + _rings(known)


def _dotted(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _part(module: str) -> str:
    """The part that a module of the package belongs to."""
    return module.split(".")[1] if "." in module else "__init__"


def _imports(tree: ast.AST) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import("." * node.level + (node.module or ""), alias.name, node.lineno)
        elif isinstance(node, ast.Call) and _names(node.func) & {"import_module", "__import__"}:
            target = node.args[0] if node.args else None
            constant = isinstance(target, ast.Constant) and isinstance(target.value, str)
            yield Import(target.value if constant else "?", "?", node.lineno)


def _names(function: ast.expr) -> set[str]:
    """The last name of a called expression: {"c"} for a.b.c."""
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    return {name} if name else set()


def _file_problems(module: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    here = _part(module)
    if here not in FLOOR:
        yield 1, f"{here} has no floor; give it one in tests/test_layering.py"
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for found in _imports(tree):
        yield from ((found.line, message) for message in _import_problems(module, found, known))
    if module != WORLD:
        yield from ((line, f"only {WORLD} uses torch.distributed") for line in _distributed(tree))


def _import_problems(module: str, found: Import, known: dict[str, Path]) -> Iterator[str]:
    if found.module.startswith("."):
        yield "relative import; write the whole name"
    elif found.module == "?" and _part(module) != "__init__":
        yield "imports a module whose name is computed; nobody can read where it points"
    elif found.name is None and found.module.split(".")[0] == "isthmus":
        yield f"import {found.module}; write from {found.module} import ..."
    elif target := _target(found, known):
        yield from _target_problems(module, target, known)


def _target_problems(module: str, target: str, known: dict[str, Path]) -> Iterator[str]:
    here, there = _part(module), _part(target)
    if target not in known or there not in FLOOR:
        yield f"imports {target}, which is not there"
    elif there == "__init__":
        yield "imports from the package's front door; import from the part that has it"
    elif there != here and FLOOR[there] >= FLOOR[here]:
        relation = "its own floor" if FLOOR[there] == FLOOR[here] else "a floor above"
        yield f"{here} imports {there}, a part of {relation}"
    elif there in STRANGERS.get(module, ()):
        yield f"{module} imports {there}, which it should be handed"


def _target(found: Import, known: dict[str, Path]) -> str | None:
    """The module of the package that an import reaches, or None when it reaches outside."""
    if found.module.split(".")[0] != "isthmus":
        return None
    inner = f"{found.module}.{found.name}"
    return inner if inner in known else found.module


def _distributed(tree: ast.AST) -> Iterator[int]:
    for found in _imports(tree):
        named = f"{found.module}.{found.name}."
        if named.startswith("torch.distributed."):
            yield found.line
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.distributed":
            yield node.lineno


def _rings(known: dict[str, Path]) -> list[str]:
    """The first ring of modules that import one another, if there is one."""
    graph = {
        module: {
            target
            for found in _imports(ast.parse(path.read_text(encoding="utf-8")))
            if (target := _target(found, known))
        }
        for module, path in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"import ring: {' <- '.join(error.args[1])}"]
    return []


def test_every_import_points_down():
    assert problems(PACKAGE) == []


def test_no_floor_repeats_a_part():
    assert sum(len(parts) for parts in FLOORS) == len(FLOOR)


GOOD = {
    "__init__.py": "import importlib\nimportlib.import_module(name)\n",
    "__main__.py": "from isthmus.cli import main\n",
    "errors.py": "import json\n",
    "types.py": "from torch import Tensor\n",
    "spec.py": "from isthmus.errors import RequestError\n",
    "kinds/__init__.py": "from isthmus.kinds.vanilla import Vanilla\n",
    "kinds/base.py": "from isthmus import types\nfrom isthmus.types import Output\n",
    "kinds/vanilla.py": "from isthmus.kinds import base\nfrom isthmus.kinds.base import Network\n",
    "losses/__init__.py": "from isthmus.types import Penalty\n",
    "training/__init__.py": "",
    "training/loop.py": "from isthmus.training.step import step\nfrom isthmus import types\n",
    "training/step.py": "from isthmus.types import Step\nfrom isthmus.losses import SQUARED\n",
    "training/world.py": "import torch.distributed as dist\nfrom torch import distributed\n",
    "cli.py": "def main():\n    from isthmus.kinds import KINDS\n    import_module('json')\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "isthmus"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return package


def test_a_sound_package_passes(tmp_path):
    assert problems(write(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("losses/l1.py", "from isthmus.kinds.vanilla import Vanilla", "losses imports kinds"),
        ("losses/l1.py", "from isthmus import kinds", "its own floor"),
        ("losses/l1.py", "def f():\n    from isthmus.cli import main", "a floor above"),
        ("losses/l1.py", "if TYPE_CHECKING:\n    from isthmus.cli import main", "a floor above"),
        ("losses/l1.py", "class A:\n    from isthmus.training.step import step", "a floor above"),
        ("losses/l1.py", "importlib.import_module('isthmus.cli')", "a floor above"),
        ("losses/l1.py", "__import__('isthmus.cli')", "a floor above"),
        ("losses/l1.py", "import_module('isthmus.' + name)", "computed"),
        ("errors.py", "from isthmus.types import Output", "its own floor"),
        ("types.py", "from isthmus.spec import Spec", "a floor above"),
        ("kinds/new.py", "from .base import Network", "relative import"),
        ("kinds/new.py", "from . import base", "relative import"),
        ("kinds/new.py", "from ..types import Output", "relative import"),
        ("kinds/new.py", "import isthmus", "import isthmus; write from"),
        ("kinds/new.py", "import isthmus.types", "import isthmus.types; write from"),
        ("kinds/new.py", "import isthmus.types as t", "import isthmus.types; write from"),
        ("kinds/new.py", "import json, isthmus.types", "import isthmus.types; write from"),
        ("kinds/new.py", "from isthmus import Autoencoder", "front door"),
        ("kinds/new.py", "from isthmus import *", "front door"),
        ("kinds/new.py", "from isthmus.nowhere import x", "not there"),
        ("kinds/new.py", "from isthmus.types.nowhere import x", "not there"),
        ("kinds/new.py", "import torch.distributed", "only isthmus.training.world"),
        ("kinds/new.py", "import torch.distributed.fsdp as f", "only isthmus.training.world"),
        ("kinds/new.py", "from torch import nn, distributed", "only isthmus.training.world"),
        ("kinds/new.py", "from torch.distributed import fsdp", "only isthmus.training.world"),
        ("kinds/new.py", "torch.distributed.init()", "only isthmus.training.world"),
        ("training/step.py", "import_module('torch.distributed')", "only isthmus.training.world"),
        ("training/loop.py", "from isthmus.kinds import KINDS", "should be handed"),
        ("training/loop.py", "from isthmus import data", "should be handed"),
        ("training/loop.py", "def f():\n    from isthmus.losses import L1", "should be handed"),
        ("training/loop.py", "from isthmus.optim.sgd import SGD", "should be handed"),
        ("explore.py", "", "explore has no floor"),
        ("explore/page.py", "", "explore has no floor"),
        ("kinds/base.py", "from isthmus.kinds import vanilla", "import ring"),
        ("kinds/base.py", "from isthmus.kinds import KINDS", "import ring"),
        ("kinds/base.py", "def f():\n    from isthmus.kinds.vanilla import V", "import ring"),
        ("kinds/base.py", "from isthmus.kinds.base import Network", "import ring"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, name, text, message):
    planted = {"data/__init__.py": "", "optim/__init__.py": "", "optim/sgd.py": ""}
    found = problems(write(tmp_path, GOOD | planted | {name: text}))
    assert len(found) == 1, found
    assert message in found[0]
