"""Names in a registry, read from its source, so that `--help` imports none of what they name."""

import ast
from functools import cache
from importlib.resources import files


@cache
def registered_names(module: str, registry: str) -> str:
    """The keys of the dictionary `registry` in the isthmus module of this dotted name, with commas.

    Raises LookupError if the module's source defines no such dictionary with literal keys.
    """
    for statement in ast.parse(_source(module)).body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(keys=keys)) if (
                name == registry
            ):
                return ", ".join(ast.literal_eval(key) for key in keys if key is not None)
    raise LookupError(f"{module} defines no dictionary {registry}")


def _source(module: str) -> str:
    """The source of a module or package; importlib would import the parents of a submodule."""
    package, *parents, name = module.split(".")
    folder = files(package).joinpath(*parents)
    path = folder / name / "__init__.py" if (folder / name).is_dir() else folder / f"{name}.py"
    return path.read_text(encoding="utf-8")
