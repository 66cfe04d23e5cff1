"""The data in examples/ is what its READMEs say: checked against scikit-learn's own copy."""

import csv
import runpy
import zlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FILES = ("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz")


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(ROOT / "scripts" / "make_digits.py"))["make"]()


def test_images_are_scikit_learns(digits):
    assert digits.shape == (1797, 8, 8)
    levels = np.rint(digits * (16 / 255))
    np.testing.assert_array_equal(levels, load_digits().images)
    assert (digits.min(), digits.max()) == (0, 255)


def test_labels_are_scikit_learns(digit_labels):
    np.testing.assert_array_equal(digit_labels, load_digits().target)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (FILES[0], bytes([0, 0, 8, 3, 0, 0, 7, 5, 0, 0, 0, 8, 0, 0, 0, 8])),
        (FILES[1], bytes([0, 0, 8, 1, 0, 0, 7, 5])),
    ],
)
def test_headers_follow_the_format(name, header):
    content = zlib.decompress((EXAMPLES / "digits" / name).read_bytes(), wbits=31)
    assert content.startswith(header)
    assert len(content) == len(header) + 1797 * (64 if "images" in name else 1)


@pytest.mark.parametrize("name", FILES)
def test_the_script_makes_the_shipped_files_again(made, name):
    shipped = (EXAMPLES / "digits" / name).read_bytes()
    if "ng" in zlib.ZLIB_RUNTIME_VERSION:  # another compressor: same content, other bytes
        assert zlib.decompress(made[name], wbits=31) == zlib.decompress(shipped, wbits=31)
    else:
        assert made[name] == shipped


def test_penguins_are_as_described():
    with (EXAMPLES / "penguins" / "penguins.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 344
    assert len(rows[0]) == 8
    assert sum(value == "NA" for row in rows for value in row.values()) == 19
    assert {row["species"] for row in rows} == {"Adelie", "Chinstrap", "Gentoo"}
