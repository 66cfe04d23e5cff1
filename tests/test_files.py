"""Files and folders take their place whole or not at all, and leave nothing beside it."""

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from isthmus.data import open_source
from isthmus.data.output.write import write_rows
from isthmus.errors import RequestError
from isthmus.files import check_writable, replacing


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder, hidden ones too, and what it says."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def old(tmp_path):
    """A folder with a file and a model in it."""
    (tmp_path / "a.csv").write_text("old")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("old")
    (tmp_path / "model" / "history").write_text("old")
    return tmp_path


def write(fresh: Path, text: str = "new") -> None:
    (fresh / "weights" if fresh.is_dir() else fresh).write_text(text)


def write_and_raise(fresh: Path, error: BaseException) -> None:
    write(fresh)
    raise error


@pytest.mark.parametrize("name", ["b.csv", "a.csv"])
def test_a_file_takes_its_place_in_the_end(old, name):
    before = contents(old)
    with replacing(old / name) as fresh:
        write(fresh)
        assert {k: v for k, v in contents(old).items() if not k.startswith(".")} == before
        assert fresh.name == name
    assert contents(old) == before | {name: "new"}


@pytest.mark.parametrize("name", ["other", "model"])
def test_a_folder_takes_its_place_in_the_end(old, name):
    with replacing(old / name, folder=True) as fresh:
        write(fresh)
    kept = {k: v for k, v in contents(old).items() if not k.startswith(f"{name}/")}
    assert contents(old) == kept | {f"{name}/weights": "new"}


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("no")])
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_all_as_it_was(old, error, folder, exists):
    name = ("model" if folder else "a.csv") if exists else "fresh"
    before, entries = contents(old), sorted(old.iterdir())
    with pytest.raises(type(error)), replacing(old / name, folder=folder) as fresh:
        write_and_raise(fresh, error)
    assert contents(old) == before
    assert sorted(old.iterdir()) == entries


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("done", [False, True])
def test_an_interrupted_swap_leaves_the_old_folder_or_the_new(old, monkeypatch, error, after, done):
    before, rename, calls = contents(old), Path.replace, []

    def interrupted(path, target):
        calls.append(path)
        if len(calls) - 1 != after:
            return rename(path, target)
        if done:  # the signal came just behind the rename
            rename(path, target)
        raise error

    monkeypatch.setattr(Path, "replace", interrupted)
    try:
        with replacing(old / "model", folder=True) as fresh:
            write(fresh)
    except error:
        assert after < 2
    swapped = before | {"model/weights": "new"}
    swapped.pop("model/history")
    finished = after == 2 or (after == 1 and done)
    assert contents(old) == (swapped if finished else before)


@pytest.mark.parametrize("folder", [False, True])
def test_without_force_nothing_is_replaced(old, folder):
    name, before = "model" if folder else "a.csv", contents(old)
    with (
        pytest.raises(RequestError, match=f"{name}: already exists; .* with force=True$"),
        replacing(old / name, folder=folder, force=False),
    ):
        pytest.fail("nothing may be written")
    assert contents(old) == before
    with replacing(old / "fresh", folder=folder, force=False) as fresh:
        write(fresh)
    assert len(contents(old)) == len(before) + 1


def test_a_file_never_takes_the_place_of_a_folder(old):
    before = contents(old)
    with pytest.raises(RequestError, match="model: is a folder"), replacing(old / "model"):
        pytest.fail("nothing may be written")
    assert contents(old) == before


def test_images_replace_images_only(old):
    rows = np.zeros((2, 4, 4), np.uint8)
    schema = replace(open_source(rows).schema, container="images", mode="L")
    write_rows(old / "pictures", rows, schema)
    write_rows(old / "pictures", rows[:1], schema, force=True)
    assert [path.name for path in (old / "pictures").iterdir()] == ["000000.png"]
    before = contents(old / "model")
    with pytest.raises(RequestError, match="model: holds history, which is not a PNG image and"):
        write_rows(old / "model", rows, schema, force=True)
    assert contents(old / "model") == before


@pytest.mark.parametrize("target", ["missing/a.csv", "a.csv/b.csv"])
def test_a_parent_that_is_no_folder_is_named(old, target):
    with pytest.raises(RequestError, match=r"the folder .* does not exist; create it first"):
        check_writable(old / target, force=True)
    with pytest.raises(RequestError, match="does not exist"), replacing(old / target):
        pytest.fail("nothing may be written")
    assert sorted(path.name for path in old.iterdir()) == ["a.csv", "model"]


def test_a_block_that_writes_nothing_is_a_fault(old):
    before = contents(old)
    with pytest.raises(FileNotFoundError), replacing(old / "a.csv"):
        pass
    assert contents(old) == before


def test_what_is_written_can_be_read_by_those_who_could_read_any_new_file(old):
    (old / "plain").write_text("new")
    with replacing(old / "b.csv") as fresh:
        write(fresh)
    (old / "folder").mkdir()
    with replacing(old / "c", folder=True) as fresh:
        write(fresh)

    def mode(name):
        return stat.S_IMODE((old / name).stat().st_mode)

    assert mode("b.csv") == mode("c/weights") == mode("plain")
    assert mode("c") == mode("folder")
