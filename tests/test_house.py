"""The house rules that can be measured, and proof that each measurement finds a planted fault."""

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE_FOLDERS = ("src", "tests", "benchmarks", "scripts", "examples")

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_FILES_IN_A_FOLDER = 15
MAX_WORDS_PER_SENTENCE = 18

# "src/isthmus/file.py" or "src/isthmus/file.py:function": a reason must stand beside each.
TOO_LONG_ALLOWED: frozenset[str] = frozenset()

# The parts that print.
PRINTING_PARTS = ("cli", "report")

# What runs code that a file brings along when it is read.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"}
UNSAFE_CALLS = {
    "torch": {"load", "save"},
    "joblib": {"load", "dump"},
    "pandas": {"read_pickle"},
    "pd": {"read_pickle"},
}
UNSAFE_METHODS = {"read_pickle", "to_pickle"}

# Paths that exist on one machine only, written so that this file passes its own test.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root)/|(?<![\w.])/home/\w|\.\./sha[r]ed")

Function = ast.FunctionDef | ast.AsyncFunctionDef

ASSERTING = re.compile(r"^(assert|check|expect|verify)|^(raises|warns|fail|deprecated_call)$")


def python_files(root: Path, *folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def where(root: Path, path: Path, line: int = 1) -> str:
    return f"{path.relative_to(root).as_posix()}:{line}"


def opening_faults(root: Path) -> Iterator[str]:
    """Files that do not open with one sentence."""
    for path in python_files(root, *CODE_FOLDERS):
        opening = (ast.get_docstring(parse(path)) or "").split("\n\n")[0]
        if not opening.endswith((".", "?", "!")) or re.search(r"[.?!]\s+[A-Z]", opening):
            yield f"{where(root, path)} opens with {opening!r}, which is not one sentence"


def code_lines(function: Function) -> int:
    """The lines of a function without its docstring, which may hold an example."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


def length_faults(root: Path) -> Iterator[str]:
    """Files and functions that have grown out of shape."""
    for path in python_files(root, "src"):
        name = path.relative_to(root).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE_LINES and name not in TOO_LONG_ALLOWED:
            yield f"{name} has {lines} lines; at most {MAX_FILE_LINES}"
        for function in functions(parse(path)):
            lines = code_lines(function)
            if lines > MAX_FUNCTION_LINES and f"{name}:{function.name}" not in TOO_LONG_ALLOWED:
                yield f"{name}:{function.name} has {lines} lines; at most {MAX_FUNCTION_LINES}"


def folder_faults(root: Path) -> Iterator[str]:
    """Folders with too many files side by side."""
    folders = Counter(path.parent for path in python_files(root, "src", "tests"))
    for folder, files in folders.items():
        if files > MAX_FILES_IN_A_FOLDER:
            name = folder.relative_to(root).as_posix()
            yield f"{name}/ has {files} files; at most {MAX_FILES_IN_A_FOLDER}"


def printing_faults(root: Path) -> Iterator[str]:
    """Calls of print outside the parts that talk to people."""
    for path in python_files(root, "src"):
        part = path.relative_to(root / "src" / "isthmus").parts[0].removesuffix(".py")
        for node in ast.walk(parse(path)):
            named = isinstance(node, ast.Name) and node.id == "print"
            if named and part not in PRINTING_PARTS:
                yield f"{where(root, path, node.lineno)} prints"


def unsafe_faults(root: Path) -> Iterator[str]:
    """Anything that could run code out of a data or model file."""
    for path in python_files(root, "src"):
        for node in ast.walk(parse(path)):
            if what := _unsafe(node):
                yield f"{where(root, path, getattr(node, 'lineno', 1))} uses {what}"


def _unsafe(node: ast.AST) -> str | None:
    match node:
        case ast.Import(names=names):
            found = [alias.name for alias in names if alias.name.split(".")[0] in UNSAFE_MODULES]
        case ast.ImportFrom(module=str(module), names=names):
            banned = {alias.name for alias in names} & UNSAFE_CALLS.get(module, set())
            found = [module] if module.split(".")[0] in UNSAFE_MODULES else sorted(banned)
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in UNSAFE_CALLS.get(
            owner, ()
        ):
            found = [f"{owner}.{name}"]
        case ast.Attribute(attr=name) if name in UNSAFE_METHODS:
            found = [name]
        case ast.keyword(arg="allow_pickle", value=value):
            found = [] if ast.unparse(value) == "False" else ["allow_pickle"]
        case _:
            found = []
    return found[0] if found else None


def path_faults(root: Path, names: list[str]) -> Iterator[str]:
    """Text that names a path of somebody's machine."""
    for name in names:
        try:
            text = (root / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # not text, or deleted but not yet committed
        for number, line in enumerate(text.splitlines(), start=1):
            if found := MACHINE_PATH.search(line):
                yield f"{name}:{number} names {found[0]!r}, which other machines do not have"


def repository_files() -> list[str]:
    """Every file that is tracked or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout")
    return listed.stdout.splitlines()


def assertion_faults(root: Path) -> Iterator[str]:
    """Tests that would pass whatever the code does."""
    for path in python_files(root, "tests"):
        if not path.name.startswith("test_"):
            continue
        for function in functions(parse(path)):
            if function.name.startswith("test") and not any(map(_asserts, ast.walk(function))):
                yield f"{where(root, path, function.lineno)} {function.name} asserts nothing"


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return bool(ASSERTING.search(name))
    return isinstance(node, ast.Assert)


def pages(root: Path) -> list[Path]:
    """Every page that people read."""
    return sorted(root.glob("*.md")) + sorted((root / "docs").rglob("*.md"))


def word_lists(root: Path) -> dict[str, list[str]]:
    """The left columns of the tables of words in CONTRIBUTING.md, by their heads."""
    lists: dict[str, list[str]] = {}
    words: list[str] | None = None
    for line in (root / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            words = None
        elif cells[0].startswith("instead of"):
            words = lists.setdefault(cells[0], [])
        elif words is not None and not set(cells[0]) <= {"-"}:
            words += [word.strip() for word in cells[0].split(",")]
    return lists


def without_code(text: str) -> str:
    """A page whose code, comments, link targets and tables of words are blank, line by line."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])  # noqa: E731
    text = re.sub(r"^(```|~~~).*?^\1$", blank, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", blank, text, flags=re.DOTALL)
    text = re.sub(r"^\| *instead of.*?(?:\n(?!\|)|\Z)", blank, text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`]*`", lambda match: blank(match).replace(" ", "x"), text)
    return re.sub(r"\]\([^)\s]*\)", "]", text)


def plain_files(root: Path, pattern: str = "*.py") -> list[Path]:
    """The files of the package whose words and names are checked."""
    return sorted((root / "src").rglob(pattern))


def banned(words: list[str]) -> re.Pattern[str]:
    """Finds any of the words, also with a capital letter; "is None" is code, not "is none"."""
    spelled = (f"[{word[0]}{word[0].upper()}]{word[1:]}" for word in words)
    return re.compile(rf"\b(?:{'|'.join(spelled)})\b")


def word_faults(root: Path) -> Iterator[str]:
    """Words on pages, and in strings and comments of the package, that have a plain equivalent."""
    words = banned(word_lists(root)["instead of"])
    for path, line, text in texts(root):
        for match in words.finditer(text):
            yield f"{where(root, path, line)} says {match[0]!r}"


def texts(root: Path) -> Iterator[tuple[Path, int, str]]:
    """What people read: path, line and text of pages, strings, comments, and sources in C."""
    for path in [*pages(root), *plain_files(root, "*.[ch]")]:
        text = path.read_text(encoding="utf-8")
        lines = (without_code(text) if path.suffix == ".md" else text).splitlines()
        yield from ((path, number, line) for number, line in enumerate(lines, start=1))
    for path in plain_files(root):
        for token in tokens(path, tokenize.STRING, tokenize.COMMENT):
            yield path, token.start[0], token.string


def name_faults(root: Path) -> Iterator[str]:
    """Names in the package, whole or in part, that have a plain equivalent."""
    lists = word_lists(root)
    names = set(lists["instead of the name"])
    parts = set(lists["instead of a name with the part"])
    for path in plain_files(root):
        for token in tokens(path, tokenize.NAME):
            if token.string in names or parts & set(token.string.lower().split("_")):
                yield f"{where(root, path, token.start[0])} has the name {token.string!r}"


# Python 3.12 has tokens of their own for the text in f-strings.
TEXT_IN_FSTRING = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)


def tokens(path: Path, *kinds: int) -> Iterator[tokenize.TokenInfo]:
    """The tokens of these kinds in a file."""
    wanted = {*kinds, TEXT_IN_FSTRING} if tokenize.STRING in kinds else {*kinds}
    readline = io.StringIO(path.read_text(encoding="utf-8")).readline
    return (token for token in tokenize.generate_tokens(readline) if token.type in wanted)


def sentences(text: str) -> list[str]:
    """The sentences of a page, without code blocks, tables, headings and images.

    A list item is a paragraph of its own, and inline code is one word. A sentence ends at a full
    stop, a question mark or an exclamation mark before a space, or with its paragraph.
    """
    paragraphs: list[str] = [""]
    for line in without_code(text).splitlines():
        item = re.match(r"\s*(?:[-*+]|\d+\.)\s+", line)
        if not line.strip() or item or line.lstrip().startswith(("|", "#", "![")):
            paragraphs.append("")
        if not line.lstrip().startswith(("|", "#", "![")):
            paragraphs[-1] += f" {line[item.end() :] if item else line}"
    joined = [re.sub(r"\b(?:e\.g|i\.e|et al)\.", "so", text) for text in paragraphs]
    ends = r"(?<=[.!?])[*_)\"']*\s+"
    return [part for text in joined for part in re.split(ends, text) if re.search(r"\w", part)]


def sentence_faults(root: Path) -> Iterator[str]:
    """Pages whose sentences are too long on average."""
    for page in pages(root):
        counts = [len(re.findall(r"\S*\w\S*", part)) for part in sentences(read_page(page))]
        if counts and sum(counts) / len(counts) > MAX_WORDS_PER_SENTENCE:
            mean = sum(counts) / len(counts)
            yield f"{where(root, page)} has {mean:.1f} words per sentence"


def class_faults(root: Path) -> Iterator[str]:
    """Classes and type aliases of the package that share their name with another."""
    first: dict[str, Path] = {}
    for path in python_files(root, "src"):
        for name in class_names(parse(path)):
            if first.setdefault(name, path) != path:
                yield f"{where(root, path)} has a {name}, and so has {where(root, first[name])}"


def class_names(tree: ast.Module) -> Iterator[str]:
    """The names of classes and of type aliases in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (name for name in names if re.fullmatch(r"[A-Z][A-Za-z]*[a-z][A-Za-z]*", name))


def read_page(page: Path) -> str:
    return page.read_text(encoding="utf-8")


RULES = {
    "word": word_faults,
    "name": name_faults,
    "sentence": sentence_faults,
    "opening": opening_faults,
    "length": length_faults,
    "folder": folder_faults,
    "printing": printing_faults,
    "unsafe": unsafe_faults,
    "assertion": assertion_faults,
    "class": class_faults,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_its_rules(rule):
    assert list(RULES[rule](ROOT)) == []


def test_no_file_names_a_machine():
    assert list(path_faults(ROOT, repository_files())) == []


def plant(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


GOOD = '''"""A part that does one thing, e.g. this."""

import numpy as np


def read(path):
    """The text "pickle" and print() in a docstring harm nobody."""
    return np.load(path, allow_pickle=False)
'''
GOOD_TEST = '''"""Tests of one thing."""


def helper():
    pass


def test_it():
    with pytest.raises(ValueError):
        helper()


def test_like():
    np.testing.assert_allclose(1, 1)
'''
SRC = "src/isthmus/part.py"
TEST = "tests/test_part.py"
PAGE = "docs/guide/page.md"
WORDS = """# Contributing

| instead of | write |
|---|---|
| odd, in one go, is none | outlier |

| instead of the name | write |
|---|---|
| found | result |

| instead of a name with the part | write |
|---|---|
| odd, gaps | outlier |
"""
GOOD_PAGE = "# A page\n\nThis is short, `odd` or not, e.g. so. [So](odd.md) is None here.\n"
LONG = "word " * MAX_WORDS_PER_SENTENCE


@pytest.fixture(autouse=True)
def lists_of_words(tmp_path):
    """Every planted house has the tables of words."""
    plant(tmp_path, "CONTRIBUTING.md", WORDS)


@pytest.mark.parametrize("rule", RULES)
def test_a_sound_house_passes(tmp_path, rule):
    plant(tmp_path, SRC, GOOD)
    plant(tmp_path, "src/isthmus/cli.py", '"""Talks to people."""\nprint()\n')
    plant(tmp_path, TEST, GOOD_TEST)
    plant(tmp_path, PAGE, GOOD_PAGE)
    assert list(RULES[rule](tmp_path)) == []


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        ("word", PAGE, "# A page\n\n```sh\nodd\n```\nAn Odd row.\n"),
        ("word", PAGE, "| a table |\n|---|\n| odd |\n"),
        ("word", "README.md", "All in one go.\n"),
        ("word", SRC, '"""An odd row."""\n'),
        ("word", SRC, '"""A row."""\nx = 1  # odd\n'),
        ("word", SRC, '"""A row."""\nx = f"{x}: odd"\n'),
        ("word", "src/isthmus/part.c", "/* an odd row */\n"),
        ("name", SRC, '"""A row."""\nfound = 1\n'),
        ("name", SRC, '"""A row."""\ndef _count_gaps(): ...\n'),
        ("sentence", PAGE, f"{LONG}too long.\n"),
        ("sentence", PAGE, f"- {LONG}\n  too long\n\n| a table |\n"),
        ("sentence", "CHANGELOG.md", f"{LONG}`some code`.\n"),
        ("opening", SRC, ""),
        ("opening", "src/isthmus/data/__init__.py", "from isthmus.data.frame import Frame\n"),
        ("opening", SRC, '"""reads files"""\n'),
        ("opening", SRC, '"""Reads files. Writes them, too."""\n'),
        ("opening", SRC, '"""Reads files\n\nand more."""\n'),
        ("opening", "benchmarks/quality/mnist.py", "import time\n"),
        ("length", SRC, '"""Long."""\n' + "x = 1\n" * 600),
        ("length", SRC, '"""Long."""\ndef f():\n' + "    x = 1\n" * 60),
        ("length", SRC, '"""Long."""\nclass A:\n  async def f(self):\n' + "    x = 1\n" * 60),
        ("printing", SRC, '"""Prints."""\nprint("hello")\n'),
        ("printing", "src/isthmus/training/trainer.py", '"""Prints."""\ndef f(say=print): ...\n'),
        ("unsafe", SRC, "import pickle\n"),
        ("unsafe", SRC, "import json, dill\n"),
        ("unsafe", SRC, "def f():\n    from pickle import loads\n"),
        ("unsafe", SRC, "import cloudpickle.cloudpickle as c\n"),
        ("unsafe", SRC, "torch.load(path)\n"),
        ("unsafe", SRC, "save = torch.save\n"),
        ("unsafe", SRC, "from torch import nn, load\n"),
        ("unsafe", SRC, "joblib.dump(model, path)\n"),
        ("unsafe", SRC, "from joblib import dump\n"),
        ("unsafe", SRC, "np.load(path, allow_pickle=True)\n"),
        ("unsafe", SRC, "np.load(path, allow_pickle=trust)\n"),
        ("unsafe", SRC, "frame.to_pickle(path)\n"),
        ("assertion", TEST, "def test_it():\n    read()\n"),
        ("assertion", TEST, "class TestIt:\n    def test_it(self):\n        assertive = 1\n"),
        ("assertion", "tests/data/test_csv.py", "async def test_it():\n    '''assert'''\n"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, rule, name, text):
    plant(tmp_path, name, text)
    found = list(RULES[rule](tmp_path))
    assert len(found) == 1
    assert name in found[0]


@pytest.mark.parametrize("text", ["class Row: ...\n", "Row = tuple[int, int]\n"])
def test_two_classes_of_one_name_are_found(tmp_path, text):
    plant(tmp_path, "src/isthmus/a.py", "class Row: ...\nclass Other: ...\n")
    plant(tmp_path, "src/isthmus/data/b.py", text)
    assert list(class_faults(tmp_path)) == [
        "src/isthmus/data/b.py:1 has a Row, and so has src/isthmus/a.py:1"
    ]


def test_sentences_are_counted_as_stated():
    text = "# Head line\n\nOne two, e.g. `a b`. Three 3.5!\n- four\n  five\n\n| six |\n![x](y)\n"
    counts = [len(part.split()) for part in sentences(text)]
    assert counts == [4, 2, 2]


def test_the_lists_of_words_are_read():
    lists = word_lists(ROOT)
    assert {"odd", "in one go"} <= set(lists["instead of"])
    assert "found" in lists["instead of the name"]
    assert "gaps" in lists["instead of a name with the part"]


def test_a_crowded_folder_is_found(tmp_path):
    for number in range(MAX_FILES_IN_A_FOLDER):
        plant(tmp_path, f"src/isthmus/data/part_{number}.py", GOOD)
    assert list(folder_faults(tmp_path)) == []
    plant(tmp_path, "src/isthmus/data/one_more.py", GOOD)
    assert list(folder_faults(tmp_path)) == ["src/isthmus/data/ has 16 files; at most 15"]


@pytest.mark.parametrize("name", ["docs/a.md", "Makefile", "src/isthmus/part.py"])
@pytest.mark.parametrize("text", ["see /{}/main", "cd '/{}/x'", "data=/{}/data"])
@pytest.mark.parametrize("folder", ["work", "root", "home/ann"])
def test_a_machine_path_is_found(tmp_path, name, text, folder):
    plant(tmp_path, name, "fine\n" + text.format(folder))
    found = list(path_faults(tmp_path, [name]))
    assert len(found) == 1
    assert found[0].startswith(f"{name}:2 ")


@pytest.mark.parametrize(
    "text", ["https://example.org/work/a", "net/work/", "the /workers/ page", "~/data", "../data"]
)
def test_an_innocent_path_is_not(tmp_path, text):
    plant(tmp_path, "a.md", text)
    assert list(path_faults(tmp_path, ["a.md", "deleted.md"])) == []


def test_binary_files_are_passed_over(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"\xff/" + b"work/")
    assert list(path_faults(tmp_path, ["a.gz"])) == []
