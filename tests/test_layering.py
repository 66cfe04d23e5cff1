"""The layers of the package: who may import whom, read from the source without running it.

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

# The units of a package are its files and folders. A unit imports from those in earlier sets of
# its package only, never from its own set. Packages without a list only have no import ring.
FLOORS: dict[str, list[set[str]]] = {
    "isthmus": [
        {"types", "errors", "_compat"},
        {"spec", "files", "missing", "randomness"},
        {"counts", "corruptions", "runtime"},
        {"data", "kinds", "losses", "optim", "metrics", "refinement"},
        {"pretraining", "training"},
        {"artifact", "baselines", "imputation"},
        {"estimator"},
        {"detector", "search"},
        {"loading", "report"},
        {"cli"},
        {"__init__", "__main__"},
    ],
    "isthmus.data": [
        {"columns", "row_numbers", "prefetch"},
        {"schema"},
        {"source"},
        {"arrays", "on_disk"},
        {"splitting"},
        {"tables"},
        {"signals", "formats"},
        {"open", "validate"},
        {"labels", "preparation"},
        {"loading", "output"},
        {"recording_files"},
        {"windows"},
        {"__init__"},
    ],
    "isthmus.training": [
        {"cancellation", "ema", "grad_clip", "plan", "shared_cache"},
        {"engines"},
        {"rows", "state"},
        {"checkpoint", "evaluate", "reporters"},
        {"concurrent"},
        {"diagnostics"},
        {"trainer"},
        {"__init__"},
    ],
    "isthmus.training.engines": [
        {"base"},
        {"autograd", "dense"},
        {"layer_table"},
        {"cpu", "cuda"},
        {"batched", "select"},
        {"__init__"},
    ],
    "isthmus.report": [
        {"formatting", "plot"},
        {"data", "html"},
        {"compare", "summary"},
        {"sections"},
        {"gather", "page"},
        {"outlier_page"},
        {"__init__"},
    ],
    "isthmus.cli": [
        {"console", "exit_codes", "flatten_options", "registered_names"},
        {"options", "progress"},
        {"settings"},
        {"io"},
        {"run"},
        {"commands"},
        {"app"},
        {"__init__"},
    ],
}
FLOOR = {
    package: {unit: level for level, units in enumerate(floors) for unit in units}
    for package, floors in FLOORS.items()
}

# The trainer is handed what it trains; it knows none of it by name.
STRANGERS = {"isthmus.training.trainer": {"kinds", "losses", "optim", "data"}}

# Everything else is written for one process on one device.
WORLD = "isthmus.runtime.device"


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


def _unit(module: str, package: str) -> str:
    """The file or folder of a package that a module inside it belongs to."""
    inner = module[len(package) + 1 :]
    return inner.split(".")[0] if inner else "__init__"


def _packages(module: str) -> Iterator[str]:
    """The packages with floors that a module is in, the outermost first."""
    parts = module.split(".")
    names = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return (name for name in names if name in FLOOR)


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
    for package in _packages(module):
        here = _unit(module, package)
        if here not in FLOOR[package] and (here != "__init__" or module != package):
            yield 1, f"{here} has no floor in {package}; give it one in tests/test_layering.py"
            return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for found in _imports(tree):
        yield from ((found.line, message) for message in _import_problems(module, found, known))
    if module != WORLD:
        yield from ((line, f"only {WORLD} uses torch.distributed") for line in _distributed(tree))


def _import_problems(module: str, found: Import, known: dict[str, Path]) -> Iterator[str]:
    if found.module.startswith("."):
        yield "relative import; write the whole name"
    elif found.module == "?" and module != "isthmus":
        yield "imports a module whose name is computed; nobody can read where it points"
    elif found.name is None and found.module.split(".")[0] == "isthmus":
        yield f"import {found.module}; write from {found.module} import ..."
    elif target := _target(found, known):
        yield from _target_problems(module, target, known)


def _target_problems(module: str, target: str, known: dict[str, Path]) -> Iterator[str]:
    if target not in known:
        yield f"imports {target}, which is not there"
    elif target == "isthmus":
        yield "imports from the package's front door; import from the part that has it"
    elif _unit(target, "isthmus") in STRANGERS.get(module, ()):
        yield f"{module} imports {_unit(target, 'isthmus')}, which it should be handed"
    else:
        yield from _arrows_up(module, target)


def _arrows_up(module: str, target: str) -> Iterator[str]:
    """What is wrong with an import inside the innermost package that holds both modules."""
    shared = [package for package in _packages(module) if f"{target}.".startswith(f"{package}.")]
    for package in shared:
        here, there = _unit(module, package), _unit(target, package)
        floor = FLOOR[package]
        if there != here and there in floor and floor[there] >= floor[here]:
            relation = "its own floor" if floor[there] == floor[here] else "a floor above"
            yield f"{here} imports {there}, a part of {relation}"


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


@pytest.mark.parametrize("package", FLOORS)
def test_no_floor_repeats_a_part(package):
    assert sum(len(parts) for parts in FLOORS[package]) == len(FLOOR[package])


@pytest.mark.parametrize("package", FLOORS)
def test_every_floor_holds_parts_that_are_there(package):
    folder = PACKAGE.parent.joinpath(*package.split("."))
    there = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/*.py")}
    assert set(FLOOR[package]) == there


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
    "training/trainer.py": "from isthmus.training.plan import plan\nfrom isthmus import types\n",
    "training/plan.py": "from isthmus.types import Step\nfrom isthmus.losses import SQUARED\n",
    "runtime/device.py": "import torch.distributed as dist\nfrom torch import distributed\n",
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
        ("losses/l1.py", "class A:\n    from isthmus.training.plan import plan", "a floor above"),
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
        ("kinds/new.py", "import torch.distributed", "only isthmus.runtime.device"),
        ("kinds/new.py", "import torch.distributed.fsdp as f", "only isthmus.runtime.device"),
        ("kinds/new.py", "from torch import nn, distributed", "only isthmus.runtime.device"),
        ("kinds/new.py", "from torch.distributed import fsdp", "only isthmus.runtime.device"),
        ("kinds/new.py", "torch.distributed.init()", "only isthmus.runtime.device"),
        (
            "training/engines/base.py",
            "import_module('torch.distributed')",
            "only isthmus.runtime.device",
        ),
        ("training/trainer.py", "from isthmus.kinds import KINDS", "should be handed"),
        ("training/trainer.py", "from isthmus import data", "should be handed"),
        ("training/trainer.py", "def f():\n    from isthmus.losses import L1", "should be handed"),
        ("training/trainer.py", "from isthmus.optim.sgd import SGD", "should be handed"),
        ("explore.py", "", "explore has no floor"),
        ("explore/page.py", "", "explore has no floor"),
        ("data/odd.py", "", "odd has no floor in isthmus.data"),
        ("data/schema.py", "from isthmus.data.open import f", "schema imports open, a part of a"),
        ("data/tables/a.py", "from isthmus.data.formats.b import f", "tables imports formats"),
        ("training/plan.py", "from isthmus.training.ema import f", "its own floor"),
        ("kinds/base.py", "from isthmus.kinds import vanilla", "import ring"),
        ("kinds/base.py", "from isthmus.kinds import KINDS", "import ring"),
        ("kinds/base.py", "def f():\n    from isthmus.kinds.vanilla import V", "import ring"),
        ("kinds/base.py", "from isthmus.kinds.base import Network", "import ring"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, name, text, message):
    planted = {
        **{f"{part}/__init__.py": "" for part in ("data", "data/tables", "data/formats", "optim")},
        **dict.fromkeys(("optim/sgd.py", "data/open.py", "data/formats/b.py"), ""),
        "training/ema.py": "",
    }
    found = problems(write(tmp_path, GOOD | planted | {name: text}))
    assert len(found) == 1, found
    assert message in found[0]
