"""The code itself: a map of the rows in two dimensions, and how the units are used."""

from typing import Any

import numpy as np

from isthmus.errors import RequestError
from isthmus.metrics import code_usage
from isthmus.types import Array, Index

# n rows, K code units.

WHITE = 1.2
"""Codes vary alike in all directions when the first holds less than this many times its share."""

MOST_POINTS, MOST_CATEGORIES, MOST_CORRELATED, MOST_LISTED = 3000, 20, 64, 2000


def code_map(codes: Array, rows: Index) -> dict[str, Any]:
    """Where (n, K) codes lie in two dimensions: their own, or their first two directions."""
    width = codes.shape[1]
    if width == 1:
        return {"x": _short(codes[:, 0]), "y": None, "rows": rows.tolist(), "shares": [1.0]}
    points, shares = (codes, None) if width == 2 else _principal(codes)
    if shares is not None and shares[0] < WHITE * 1 / width:
        # All directions are alike; the first two numbers are the leading ones after a PCA start.
        points, shares = codes[:, :2], None
    return {
        "x": _short(points[:, 0]),
        "y": _short(points[:, 1]),
        "rows": rows.tolist(),
        "shares": shares,
    }


def _principal(codes: Array) -> tuple[Array, list[float]]:
    centred = codes - codes.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    first = vectors[:, ::-1][:, :2]
    # The sign of a direction is arbitrary; its largest entry is made positive.
    first = first * np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])
    total = max(float(values.sum()), 1e-300)
    return centred @ first, (values[::-1][:2] / total).tolist()


def colouring(color: Any, name: str | None, n_rows: int, rows: Index) -> dict[str, Any] | None:
    """The colour of the chosen rows: categories or numbers; None where none was given.

    Whole numbers of up to 20 values, booleans and text are categories; the rarest of more than
    20 texts become "other". Raises RequestError unless there is one for each of the `n_rows`.
    """
    if color is None:
        return None
    values = np.asarray(color)
    if values.shape != (n_rows,):
        raise RequestError(
            f"color has shape {values.shape}, but there are {n_rows} rows; give one for each row"
        )
    name = name or "colour"
    distinct = np.unique(
        values[~_missing(values)].astype(str if values.dtype.kind == "O" else values.dtype)
    )
    few = len(distinct) <= MOST_CATEGORIES
    whole = values.dtype.kind in "iub" or (
        values.dtype.kind == "f" and bool((distinct == np.round(distinct)).all())
    )
    if values.dtype.kind not in "iubf" or (whole and few):
        return {"name": name} | _categories(values, rows)
    picked = values[rows].astype(np.float64)
    return {"name": name, "numbers": [float(v) if np.isfinite(v) else None for v in picked]}


def _missing(values: Array) -> Array:
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "O":
        return np.array([v is None or v != v for v in values], dtype=bool)  # noqa: PLR0124
    return np.zeros(len(values), dtype=bool)


def _categories(values: Array, rows: Index) -> dict[str, Any]:
    texts = np.array([_text(v) for v in values.tolist()], dtype=object)
    texts[_missing(values)] = "missing"
    names, counts = np.unique(texts.astype(str), return_counts=True)
    kept = set(names[np.argsort(-counts, kind="stable")][: MOST_CATEGORIES - 1])
    if len(names) > MOST_CATEGORIES:
        texts = np.array([text if text in kept else "other" for text in texts], dtype=object)
    listed = sorted(set(texts[rows]), key=_natural)
    number = {text: i for i, text in enumerate(listed)}
    return {"categories": listed, "of": [number[text] for text in texts[rows]]}


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers first and by size, then text, "other" and "missing" last."""
    if text in ("other", "missing"):
        return (2, 0.0, text)
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def usage(codes: Array) -> dict[str, Any]:
    """Variance a unit, which are dead, which repeat another, and how they correlate."""
    used = code_usage(codes)
    width = codes.shape[1]
    copies = np.flatnonzero(used.duplicate_of >= 0)
    several = 2 <= width <= MOST_CORRELATED
    return {
        "units": width,
        "variance": np.sort(used.variance)[::-1][:MOST_LISTED].tolist()
        if width > MOST_CORRELATED
        else used.variance.tolist(),
        "in_order": width <= MOST_CORRELATED,
        "dead": np.flatnonzero(used.dead)[:MOST_LISTED].tolist(),
        "n_dead": int(used.dead.sum()),
        "duplicates": [[int(i), int(used.duplicate_of[i])] for i in copies[:MOST_LISTED]],
        "n_duplicates": len(copies),
        "smallest": float(used.variance.min()),
        "largest": float(used.variance.max()),
        "correlation": np.round(used.correlation, 3).tolist() if several else None,
        "strongest": float(np.abs(np.tril(used.correlation, k=-1)).max()),
        "rows": len(codes),
    }


def _short(values: Array) -> list[float]:
    """Values with six digits that count, which is enough to place a point."""
    return [float(f"{value:.6g}") for value in values]
