"""Outlier scores, written block by block; only the rows with the highest scores are kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.cli.io.open_data import id_columns
from isthmus.cli.io.outputs import holds_text
from isthmus.data.arrays import ArraySource
from isthmus.data.output.append import appending_rows
from isthmus.data.output.write import table_schema
from isthmus.data.source import Source
from isthmus.detector import OutlierDetector, Reason
from isthmus.types import Array, Index

NOTED_ROWS, REPORTED_ROWS = 5, 25
"""Outliers named on standard error, and on the report page."""

N_REASONS = 3
SCORE, OUTLIER, REASON = "score", "outlier", "reason_{}"
"""The columns written."""

WriteScores = Callable[[Array, Array, Sequence[Sequence[Reason]] | None], None]


class ScoreSummary:
    """The scores of all rows: how many are outliers, the highest ones, means per column."""

    def __init__(self, detector: OutlierDetector, source: Source, *, keep_scores: bool) -> None:
        self.detector, self.source = detector, source
        self.rows = self.outliers = 0
        self.top_rows: Index = np.arange(0)
        """The rows with the highest scores, highest first, at most 25."""

        self.top_scores: Array = np.empty(0)
        """Their scores."""

        self.scores: list[Array] | None = [] if keep_scores else None
        """The scores of all rows, in blocks, if they are kept."""

        self._outlier_sums = self._sums = np.zeros(1)

    def add(self, block: Source) -> tuple[Array, Array]:
        """Scores the next rows: their scores (B,), and which of them are outliers (B,)."""
        contributions = self.detector.contributions(block)
        scores = contributions.sum(axis=1)
        is_outlier = scores > self.detector.threshold_
        self._outlier_sums = self._outlier_sums + contributions[is_outlier].sum(axis=0)
        self._sums = self._sums + contributions.sum(axis=0)
        self._keep_top(scores)
        if self.scores is not None:
            self.scores.append(scores)
        self.rows += len(scores)
        self.outliers += int(is_outlier.sum())
        return scores, is_outlier

    def _keep_top(self, scores: Array) -> None:
        rows = np.append(self.top_rows, self.rows + np.arange(len(scores)))
        scores = np.append(self.top_scores, scores)
        order = np.argsort(-scores, kind="stable")[:REPORTED_ROWS]
        self.top_rows, self.top_scores = rows[order], scores[order]

    @property
    def mean_contributions(self) -> Array:
        """(D,): each column's mean part in the scores of the outliers, or of all rows if none."""
        return self._outlier_sums / self.outliers if self.outliers else self._sums / self.rows

    def reasons(self, n_rows: int) -> list[list[Reason]]:
        """The reasons for the highest scores, for at most `n_rows` rows."""
        rows = self.top_rows[:n_rows]
        if not len(rows):
            return []
        order = np.argsort(rows)
        values = self.source.read(rows[order])
        block = ArraySource(values, self.source.schema, origin=self.source.origin)
        reasons = self.detector.explain(block, N_REASONS)
        return [reasons[int(index)] for index in np.argsort(order)]


@contextmanager
def score_writer(
    target: Path, source: Source, *, explained: bool, force: bool
) -> Iterator[WriteScores]:
    """A function that appends a block of scores (B,), which are outliers (B,), and reasons."""
    is_table = holds_text(target)
    ids = id_columns(source) if is_table else {}
    reason_columns = [REASON.format(index + 1) for index in range(N_REASONS if explained else 0)]
    schema, done = table_schema((*ids, SCORE, OUTLIER, *reason_columns), "float64"), 0
    with appending_rows(target, schema, len(source), force=force) as append:

        def write(
            scores: Array, is_outlier: Array, reasons: Sequence[Sequence[Reason]] | None
        ) -> None:
            nonlocal done
            stop = done + len(scores)
            if is_table:
                block_ids = {name: column[done:stop] for name, column in ids.items()}
                append(_table(block_ids, scores, is_outlier, reasons or (), reason_columns))
            else:
                append(np.stack([scores, is_outlier], axis=1))
            done = stop

        yield write


def _table(
    ids: Mapping[str, Sequence[object] | Array],
    scores: Array,
    is_outlier: Array,
    reasons: Sequence[Sequence[Reason]],
    reason_columns: Sequence[str],
) -> Any:
    """A pyarrow table of the identifying columns, the scores, 1 for outliers, and reasons."""
    import pyarrow as pa

    columns: dict[str, object] = {**ids, SCORE: scores, OUTLIER: is_outlier.astype(np.int64)}
    for index, name in enumerate(reason_columns):
        texts = [str(row[index]) if index < len(row) else None for row in reasons]
        columns[name] = pa.array(texts, pa.string())
    return pa.table(columns)
