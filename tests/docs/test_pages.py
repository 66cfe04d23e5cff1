"""The pages run and resolve: code blocks, commands, links, and paths that they name."""

import contextlib
import io
import re
import shlex
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
import typer.main

from isthmus.baselines import BASELINES
from isthmus.cli.app import app
from isthmus.data import FORMATS
from isthmus.kinds import ACTIVATIONS, KINDS
from isthmus.optim import OPTIMIZERS, SCHEDULES
from isthmus.pretraining import PRETRAININGS
from isthmus.report import SECTIONS
from isthmus.training.diagnostics.findings import Issue
from isthmus.training.engines.select import ENGINES

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
PATH = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|c|h|md|jsonl|toml)|(?:[\w.-]+/)+")

# Paths that a reader's own files have in an example.
READERS_OWN = {"again/", "photos/", "readings/", "history.jsonl", "data/"}


class Block(NamedTuple):
    """A fenced block and the line on which it begins."""

    language: str
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def run_blocks(text: str, name: str) -> Iterator[tuple[Block, str, str]]:
    """Run the python blocks in one namespace; yield those with an output, what was printed, wanted.

    A `text` block right after a `python` block is the output of that block.
    """
    namespace: dict[str, Any] = {"__name__": "__docs__"}
    for block, after in pairwise([*blocks(text), Block("", "", 0)]):
        if block.language != "python":
            continue
        printed = io.StringIO()
        code = compile("\n" * block.line + block.text, name, "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        if after.language == "text" and after.line == block.line + block.text.count("\n") + 3:
            yield block, printed.getvalue(), after.text


def bad_commands(text: str) -> Iterator[str]:
    """Lines of `isthmus` in shell blocks that the command line does not accept."""
    command: Any = typer.main.get_command(app)
    for block in blocks(text):
        for line in block.text.splitlines() if block.language == "sh" else ():
            name, *arguments = shlex.split(line, comments=True) or [""]
            if name != "isthmus":
                continue
            try:
                sub = command.commands[arguments[0]]
                sub.make_context(arguments[0], arguments[1:]).close()
            except Exception as error:
                yield f"{line}: {type(error).__name__}: {error}"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page."""
    text = prose(page.read_text(encoding="utf-8"))
    return {slug(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


def bad_links(page: Path) -> Iterator[str]:
    """Relative links of a page to files or headings that do not exist."""
    for target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            yield f"{target}: there is no such file"
        elif anchor and anchor not in anchors(path):
            yield f"{target}: there is no such heading"


def bad_paths(text: str, root: Path) -> Iterator[str]:
    """Paths in backticks that are in no folder from which they could be meant."""
    bases = (root, root / "src" / "isthmus", root / "docs")
    for path in " ".join(CODE.findall(prose(text))).split():
        named = PATH.fullmatch(path) and path not in READERS_OWN
        if named and not any((base / path).exists() for base in bases):
            yield path


def bad_attributes(text: str, root: Path) -> Iterator[str]:
    """Fitted attributes in backticks that no file of the package mentions."""
    sources = [path.read_text(encoding="utf-8") for path in (root / "src").rglob("*.py")]
    for attribute in re.findall(r"`(?:\w+\.)?([a-z]\w*_)\b", prose(text)):
        if not any(re.search(rf"\b{attribute}\b", source) for source in sources):
            yield attribute


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUNNING = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
REGISTRIES = (ACTIVATIONS, BASELINES, FORMATS, SECTIONS)


@pytest.fixture
def registries():
    """What a page adds to a registry is gone after its test."""
    with contextlib.ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(patch.dict(registry))
        yield


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_code_blocks_run_and_print_what_follows(page, tmp_path, monkeypatch, registries):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a short fit may warn that it has not converged
        for block, printed, wanted in run_blocks(page.read_text(encoding="utf-8"), page.name):
            assert printed == wanted, f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_accepted(page):
    assert list(bad_commands(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_paths_and_attributes_resolve(page):
    assert list(bad_links(page)) == []
    if page.name != "CHANGELOG.md":  # which names files of the past
        text = page.read_text(encoding="utf-8")
        assert [*bad_paths(text, ROOT), *bad_attributes(text, ROOT)] == []


def test_every_page_is_linked_from_the_readme_or_from_an_index():
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        if page.name == "README.md"
        for target in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert [name_of(page) for page in PAGES[1:] if page not in linked] == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/performance.md", [engine.name for engine in ENGINES]),
        ("docs/guide/training.md", [*PRETRAININGS, *OPTIMIZERS, *SCHEDULES, *Issue]),
        ("docs/features.md", [*KINDS]),
    ],
)
def test_every_registered_name_is_explained(page, names):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in names if not re.search(rf"[`\"]{name}[`\"]", text)] == []


def test_the_layers_of_the_design_are_those_of_the_imports():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (diagram,) = (block.text for block in blocks(text) if block.language == "mermaid")
    parts = {path.stem for path in (ROOT / "src" / "isthmus").glob("[a-z]*")}
    assert [part for part in sorted(parts - {"py"}) if not re.search(rf"\b{part}\b", diagram)] == []


def fenced(language: str, text: str) -> str:
    return f"# A page\n\n```{language}\n{text}```\n"


def test_a_wrong_output_is_found():
    text = fenced("python", "print(1 + 1)\n") + "\n" + fenced("text", "3\n").partition("\n\n")[2]
    ((_, printed, wanted),) = run_blocks(text, "page")
    assert (printed, wanted) == ("2\n", "3\n")


def test_a_block_that_fails_is_found():
    with pytest.raises(NameError):
        list(run_blocks(fenced("python", "unknown\n"), "page"))


@pytest.mark.parametrize(
    "line",
    ["isthmus learn x -o m", "isthmus fit x -o m --step 3", "isthmus fit", "isthmus info a b"],
)
def test_a_wrong_command_is_found(line):
    assert len(list(bad_commands(fenced("sh", f"{line}   # note\n")))) == 1


def test_wrong_links_and_paths_are_found(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# One `two`, three\n[x](b.md) [y](#four) [z](#one-two-three) [w](a.md#five)\n")
    assert [fault.split(":")[0] for fault in bad_links(page)] == ["b.md", "#four", "a.md#five"]
    text = "`python src/part.py x` `a.md` `kinds/` `name.csv` `photos/`\n```sh\n`b.py`\n```\n"
    assert list(bad_paths(text, tmp_path)) == ["src/part.py", "kinds/"]


def test_a_wrong_attribute_is_found(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "part.py").write_text("self.facts_ = {}\n")
    text = "`facts_` `ae.facts_[1]` `fits_` and `n_init`\n```python\n`x_`\n```\n"
    assert list(bad_attributes(text, tmp_path)) == ["fits_"]
