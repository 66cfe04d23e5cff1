"""Counts from files: declared with a star, coded, given back, scored, and refused where wrong."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

FIT = ("--n-components", "2", "--max-epochs", "3")


def counts(n=120, d=60, seed=0):
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) * 0.7)
    return rng.poisson(np.exp(0.5 * rng.normal(size=(n, 1))) * rate)


@pytest.fixture(params=["sparse.npz", ".npy", ".csv", ".parquet"])
def stored(request, tmp_path):
    path, X = tmp_path / f"counts{request.param}", counts()
    frame = pd.DataFrame(X, columns=[f"gene{i}" for i in range(X.shape[1])])
    {
        "sparse.npz": lambda: sparse.save_npz(path, sparse.csr_array(X)),
        ".npy": lambda: np.save(path, X),
        ".csv": lambda: frame.to_csv(path, index=False),
        ".parquet": lambda: frame.to_parquet(path),
    }[request.param]()
    return path


def test_there_and_back(isthmus, stored, tmp_path):
    model, codes, back = (tmp_path / name for name in ("model", "codes.csv", "back.parquet"))
    for command in (
        ("fit", stored, "-o", model, "--role", "*=count", *FIT),
        ("encode", model, stored, "-o", codes),
        ("score", model, stored, "-o", tmp_path / "scores.csv"),
    ):
        done = isthmus(*command)
        assert done.code == 0, done
    assert (model / "report.html").exists()
    assert len(pd.read_csv(codes)) == 120
    back = tmp_path / f"back{''.join(stored.suffixes)}"
    done = isthmus("decode", model, codes, "-o", back)
    assert done.code == 0, done


def test_what_is_no_count_is_one_line(isthmus, tmp_path):
    X = counts()
    X[7, 3] = -2
    path = tmp_path / "counts.npz"
    sparse.save_npz(path, sparse.csr_array(X))
    done = isthmus("fit", path, "-o", tmp_path / "model", "--role", "*=count", *FIT)
    assert done.code == 2
    assert f"{path}: column '3' was declared count, and -2 at row 7, counting from 0" in done.err
    assert not (tmp_path / "model").exists()
