"""Help texts, read from where settings are documented without importing what they belong to."""

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

ENTRY = re.compile(r"^ {8}(\w+): (.*(?:\n {12,}.*)*)", re.MULTILINE)
"""A setting in the estimator's docstring: its name, and text that may go on below."""

REGISTERED = re.compile(r"(?:names or specs|a name or a spec) from `[\w.]+`(?:, or None)?")
PYTHON_ONLY = re.compile(r", or a spec from `[\w.]+`|; see `[\w.]+`")


def setting(name: str, *, names: tuple[str, str] | None = None) -> str:
    """What the estimator's docstring says of its setting `name`, in the command line's words.

    `names` is (file, registry): the names to put where the docstring speaks of names or specs.
    """
    text = " ".join(_settings()[name].split())
    if names is not None:
        text = REGISTERED.sub(", ".join(registered(*names)), text)
    return _plain(text)


def field(file: str, owner: str, name: str) -> str:
    """The text below field `name` of class `owner` in the package's `file`."""
    for node in _parsed(file).body:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            return _plain(_below(node.body, name))
    raise LookupError(f"{file} has no class {owner}")


def registered(file: str, registry: str) -> list[str]:
    """The names in the dictionary `registry` of the package's `file`."""
    for node in _parsed(file).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=found), value=ast.Dict(keys=keys)):
                if found == registry:
                    return [str(key.value) for key in keys if isinstance(key, ast.Constant)]
    raise LookupError(f"{file} has no dictionary {registry}")


def paragraphs(function: Callable[..., object]) -> str:
    """The function's docstring, each paragraph on one line, to be wrapped to the terminal."""
    text = inspect.getdoc(function) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _below(body: list[ast.stmt], name: str) -> str:
    for line, after in pairwise(body):
        match line, after:
            case ast.AnnAssign(target=ast.Name(id=found)), ast.Expr(value=ast.Constant(value=text)):
                if found == name:
                    return str(text)
    raise LookupError(f"field {name} has no text below it")


@cache
def _settings() -> dict[str, str]:
    source = (PACKAGE / "estimator" / "autoencoder.py").read_text(encoding="utf-8")
    listed = source.split("    Parameters:\n", 1)[1].split("    Attributes:\n", 1)[0]
    return dict(ENTRY.findall(listed))


@cache
def _parsed(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def _plain(text: str) -> str:
    text = PYTHON_ONLY.sub("", " ".join(text.split()))
    text = re.sub(r"(^|\. )None\b", r"\1The default", text)
    return re.sub(r"\bNone\b", "the default", text).replace('"', "").replace("`", "")
