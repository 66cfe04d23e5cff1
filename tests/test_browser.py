"""The browser that other tests rely on: it draws, it notices faults, and it can be had."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "install-browser"
STUB = "#!/bin/sh\nexit {status}\n"


@pytest.mark.browser
def test_a_file_is_drawn_at_the_width_asked_for(page, tmp_path):
    path = tmp_path / "a page.html"
    path.write_text("<title>isthmus</title><p style='color: rgb(1, 2, 3)'>narrow</p>")
    tab = page(path, width=390)
    assert tab.title() == "isthmus"
    assert tab.inner_text("p") == "narrow"
    assert tab.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(1, 2, 3)"
    assert tab.evaluate("innerWidth") == 390


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_sees_the_colour_scheme(page, scheme):
    tab = page("data:text/html,<p>narrow", color_scheme=scheme)
    assert tab.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ("<script>throw new Error('planted')</script>", "error: planted"),
        ("<script>console.error('planted')</script>", "planted"),
        ("<img src='http://example.org/a.png'>", "asked for http://example.org/a.png"),
    ],
)
def test_a_faulty_page_is_noticed(page, complaints, html, complaint):
    page(f"data:text/html,{html}")
    assert complaint in complaints
    complaints.clear()


def test_the_script_and_the_fixture_look_for_the_same_browsers():
    script = re.search(r"for name in (.+); do", SCRIPT.read_text()).group(1)
    fixture = re.search(r"BROWSERS = (.+)", (ROOT / "tests" / "conftest.py").read_text()).group(1)
    assert tuple(script.split()) == ast.literal_eval(fixture)


def install(folder, *, ci, **stubs):
    """Runs the script with only these commands (and what the script itself needs) on PATH."""
    for name in ("sh", "env", "id", "mktemp", "rm", "tail"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    for name, text in stubs.items():
        (folder / name.replace("_", "-")).write_text(text)
        (folder / name.replace("_", "-")).chmod(0o755)
    environment = {"PATH": str(folder), "CI": ci, "TMPDIR": str(folder)}
    return subprocess.run([SCRIPT], check=False, env=environment, capture_output=True, text=True)


def test_a_browser_that_is_there_is_left_alone(tmp_path):
    done = install(tmp_path, ci="true", chromium=STUB.format(status=0))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
@pytest.mark.parametrize("stubs", [{}, {"chromium_browser": STUB.format(status=1)}])
def test_without_a_browser_only_ci_fails(tmp_path, stubs, ci, status):
    done = install(
        tmp_path, ci=ci, apt_get=STUB.format(status=100), sudo=STUB.format(status=1), **stubs
    )
    assert done.returncode == status
    assert "the browser tests will be skipped" in done.stderr


def test_a_browser_is_installed_where_it_may(tmp_path):
    arrives = f"#!/bin/sh\n[ $2 = update ] || /usr/bin/ln -s /usr/bin/true {tmp_path}/chromium\n"
    done = install(tmp_path, ci="true", apt_get=arrives, sudo='#!/bin/sh\nshift\n"$@"\n')
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "chromium").exists()
