"""Rows beside their reconstructions, and the error of each feature, ready to be drawn."""

from typing import Any

import numpy as np

from isthmus.data import Preparation, Schema, Subset
from isthmus.data.tables.from_numbers import as_text
from isthmus.report.data.pictures import levels_of, pictures, size_of
from isthmus.report.data.row_access import in_chunks, looked_at, rebuilt
from isthmus.types import Array, Index, Source

# n rows, D features, C channels, T points in time, H x W pixels.

TYPICAL_IMAGES, TYPICAL_SIGNALS, TYPICAL_TABLE_ROWS, EXTREME_ROWS = 10, 6, 6, 5
MOST_POINTS, MOST_CHANNELS, ALL_COLUMNS, MOST_COLUMNS, MOST_BARS, MOST_SIDE = 300, 3, 16, 12, 30, 64


def typical(errors: Array, most: int) -> Index:
    """Positions whose errors are evenly spread over the ranks, the best first."""
    order = np.argsort(errors, kind="stable")
    wanted = min(most, len(order))
    return np.asarray(order[((np.arange(wanted) + 0.5) / wanted * len(order)).astype(int)])


def groups(ae: Any, source: Source, rows: Index, errors: Array) -> dict[str, Any]:
    """Typical rows, the best and the worst of `rows`, each beside its reconstruction."""
    layout = source.schema.layout
    most = {"image": TYPICAL_IMAGES, "signal": TYPICAL_SIGNALS, "table": TYPICAL_TABLE_ROWS}[layout]
    order = np.argsort(errors, kind="stable")
    extreme = min(EXTREME_ROWS, max(1, len(rows) // 4)) if layout != "signal" else 3
    chosen = {
        "typical": typical(errors, most),
        "best": order[:extreme],
        "worst": order[::-1][:extreme],
    }
    if len(rows) <= most:
        chosen = {"typical": order}
    return {name: _group(ae, source, rows[at], errors[at]) for name, at in chosen.items()}


def _group(ae: Any, source: Source, rows: Index, errors: Array) -> dict[str, Any]:
    schema: Schema = source.schema
    picked = Subset(source, rows)
    found, back = source.read(rows), rebuilt(ae, picked)
    group = {"rows": rows.tolist(), "errors": errors.tolist()}
    if schema.layout == "image":
        levels = levels_of(source, looked_at(source))
        height, width, _ = size_of(schema)
        return group | {
            "found": pictures(found, schema, levels),
            "rebuilt": pictures(back, schema, levels),
            "size": [height, width],
        }
    if schema.layout == "signal":
        where: Index | None = getattr(picked, "extents", None)
        back = back if where is None else _ending(back, where)
        places = None if where is None else _places(where, schema)
        lines = {"found": _lines(found, schema), "rebuilt": _lines(back, schema)}
        return group | lines | {"places": places}
    return group | _table(found, back, ae.preparation_)


def _ending(rows: Array, where: Index) -> Array:
    """Signals (n, T, ...) with nothing behind the ends of those that are shorter."""
    length = (where[:, 2] - where[:, 1]).reshape(-1, *[1] * (rows.ndim - 1))
    time = np.arange(rows.shape[1]).reshape(1, -1, *[1] * (rows.ndim - 2))
    return rows if (length == rows.shape[1]).all() else np.where(time < length, rows, np.nan)


def _places(where: Index, schema: Schema) -> list[str]:
    """Where in which recording each row lies, in words."""
    if schema.recording is None or schema.recording.step is None:
        return [f"{stop - start:,} samples" for _, start, stop in where.tolist()]
    several = len(np.unique(where[:, 0])) > 1
    return [
        f"from sample {start:,}" + (f" of recording {recording:,}" if several else "")
        for recording, start, _ in where.tolist()
    ]


def channels_of(values: Array, schema: Schema) -> Array:
    """(n, C, T) of signals (n, T) or (n, T, C)."""
    return values[:, None] if len(schema.shape) == 1 else np.moveaxis(values, -1, 1)


def _lines(values: Array, schema: Schema) -> list[list[list[float]]]:
    """[row][channel][time], shortened where long; None where a value is missing."""
    signals = channels_of(values, schema)[:, :MOST_CHANNELS].astype(np.float64)
    return [[_plain(in_chunks(line, MOST_POINTS)) for line in signal] for signal in signals]


def _table(found: Array, back: Array, preparation: Preparation) -> dict[str, Any]:
    off = _off(found, back, preparation)
    columns = np.arange(off.shape[1])
    if len(columns) > ALL_COLUMNS:
        largest = np.argsort(-np.abs(off).max(axis=0), kind="stable")[:MOST_COLUMNS]
        columns = np.sort(largest)
    names = preparation.schema.feature_names()
    return {
        "columns": [names[i] for i in columns],
        "n_columns": off.shape[1],
        "found": _cells(found, columns, preparation.schema),
        "rebuilt": _cells(back, columns, preparation.schema),
        "off": off[:, columns].tolist(),
    }


def _off(found: Array, back: Array, preparation: Preparation) -> Array:
    """(n, D): how far each column is off, in standard deviations; of a category, without a sign."""
    away = np.nan_to_num(_prepared(found, preparation) - _prepared(back, preparation))
    if preparation.expansion is None:
        return np.asarray(away)
    together = preparation.expansion.sums(away)
    single = np.asarray(preparation.expansion.sizes) == 1
    distance = np.sqrt(preparation.sums(away**2))
    return np.asarray(np.where(single, together, distance))


def _cells(values: Array, columns: Index, schema: Schema) -> list[list[Any]]:
    """[row][column]: numbers, levels and dates as people read them; None where one is missing."""
    if schema.columns is None:
        return _plain(values[:, columns])
    dtypes = schema.dtypes * (schema.n_features if len(schema.dtypes) == 1 else 1)
    shown = [as_text(values[:, i], schema.columns[i], dtypes[i]) for i in columns]
    return [list(row) for row in zip(*shown, strict=True)]


def _prepared(values: Array, preparation: Preparation) -> Array:
    return preparation.encode(values).double().numpy()


def _plain(values: Array) -> list[Any]:
    """Values of any dtype as the json module writes them; None where one is missing."""
    plain = np.asarray(values, object)
    if values.dtype.kind == "f":
        plain[np.isnan(values)] = None
    return plain.tolist()  # type: ignore[no-any-return]


def per_feature(ae_error: Array, pca_error: Array, schema: Schema) -> dict[str, Any] | None:
    """The root mean squared error of each feature, ready to be drawn; None for one feature."""
    if len(ae_error) < 2:
        return None
    ours, theirs = np.sqrt(ae_error), np.sqrt(pca_error)
    if schema.layout == "image":
        return {"ae": _heat(ae_error, schema), "size": list(size_of(schema)[:2])}
    if schema.layout == "signal":
        shape = (1, *schema.shape)
        return {
            "ae": _lines(ours.reshape(shape), schema)[0],
            "pca": _lines(theirs.reshape(shape), schema)[0],
            "points": schema.shape[0],
            "channels": schema.recording and schema.recording.sample.names,
        }
    order = np.argsort(-ours, kind="stable")[:MOST_BARS]
    names = schema.feature_names()
    return {
        "names": [names[i] for i in order],
        "ae": ours[order].tolist(),
        "pca": theirs[order].tolist(),
        "features": len(ours),
    }


def _heat(squared: Array, schema: Schema) -> list[list[float]]:
    """(H, W) root mean squared error over the channels, in at most 64 x 64 cells."""
    image = squared.reshape(schema.shape)
    if image.ndim == 3:
        image = image.mean(axis=0 if schema.channels_first else -1)
    small = in_chunks(in_chunks(image, MOST_SIDE).T, MOST_SIDE).T
    return np.sqrt(small).tolist()  # type: ignore[no-any-return]
