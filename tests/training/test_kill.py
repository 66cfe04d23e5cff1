"""A fit killed (SIGKILL) at ten random times and resumed ends with bit-identical weights."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_fit.py")


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_ten_times_and_resumed(tmp_path, seed):
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    kills, same, left = ran.stdout.split(maxsplit=2)
    assert int(kills) == 10, "a fit ended before its kill; this test shows less than it should"
    assert same == "True", "the resumed weights differ from those of a fit never stopped"
    assert left.strip() == "['checkpoint.safetensors']"
