"""Rows are judged block by block, and written as they are; of all rows only the oddest are kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.cli.io.open_data import beside
from isthmus.cli.io.outputs import TEXT_HAS_A_PLACE
from isthmus.data import appending_rows, table_schema
from isthmus.data.arrays import ArraySource
from isthmus.detector import OutlierDetector, Reason
from isthmus.types import Array, Index, Source

SHOWN, REASONS, KEPT = 5, 3, 25
SCORE, ODD, REASON = "score", "odd", "reason_{}"

Write = Callable[[Array, Array, Sequence[Sequence[Reason]] | None], None]


class Judged:
    """What all rows say together."""

    def __init__(self, detector: OutlierDetector, source: Source, *, keep_scores: bool) -> None:
        self.detector, self.source = detector, source
        self.rows = self.odd = 0
        self.worst: Index = np.arange(0)
        """The rows of the largest scores, oddest first, at most 25, and these scores."""

        self.worst_scores: Array = np.empty(0)
        self.scores: list[Array] | None = [] if keep_scores else None
        self._of_odd = self._of_all = np.zeros(1)

    def see(self, block: Source) -> tuple[Array, Array]:
        """The scores (B,) of some more rows, and which of them are odd."""
        parts = self.detector.contributions(block)
        scores = parts.sum(axis=1)
        odd = scores > self.detector.threshold_
        self._of_odd = self._of_odd + parts[odd].sum(axis=0)
        self._of_all = self._of_all + parts.sum(axis=0)
        self._keep_worst(scores)
        if self.scores is not None:
            self.scores.append(scores)
        self.rows, self.odd = self.rows + len(scores), self.odd + int(odd.sum())
        return scores, odd

    def _keep_worst(self, scores: Array) -> None:
        rows = np.append(self.worst, self.rows + np.arange(len(scores)))
        found = np.append(self.worst_scores, scores)
        order = np.argsort(-found, kind="stable")[:KEPT]
        self.worst, self.worst_scores = rows[order], found[order]

    @property
    def columns(self) -> Array:
        """(D,): the mean part of each column in the scores of odd rows, or of all if none is."""
        return self._of_odd / self.odd if self.odd else self._of_all / self.rows

    def reasons(self, most: int, n_reasons: int = REASONS) -> list[list[Reason]]:
        """Why the oddest rows score as they do."""
        rows = self.worst[:most]
        if not len(rows):
            return []
        order = np.argsort(rows)
        values = self.source.read(rows[order])
        some = ArraySource(values, self.source.schema, origin=self.source.origin)
        found = self.detector.explain(some, n_reasons)
        return [found[int(place)] for place in np.argsort(order)]


@contextmanager
def writing_scores(
    target: Path, source: Source, *, explained: bool, force: bool
) -> Iterator[Write]:
    """What takes the scores (B,) of one block after the other, which are odd, and perhaps why."""
    named = target.suffix.lower() in TEXT_HAS_A_PLACE
    told: Mapping[str, Any] = beside(source) if named else {}
    words = [REASON.format(place + 1) for place in range(REASONS if explained else 0)]
    schema, done = table_schema((*told, SCORE, ODD, *words), "float64"), 0
    with appending_rows(target, schema, len(source), force=force) as append:

        def write(scores: Array, odd: Array, reasons: Sequence[Sequence[Reason]] | None) -> None:
            nonlocal done
            stop = done + len(scores)
            if named:
                names = {name: values[done:stop] for name, values in told.items()}
                append(_table(names, scores, odd, reasons or (), words))
            else:
                append(np.stack([scores, odd], axis=1))
            done = stop

        yield write


def _table(
    names: Mapping[str, Any],
    scores: Array,
    odd: Array,
    reasons: Sequence[Sequence[Reason]],
    words: Sequence[str],
) -> Any:
    """A row for each row: what it is called, its score, whether it is odd, and perhaps why."""
    import pyarrow as pa

    columns = {**names, SCORE: scores, ODD: odd.astype(np.int64)}
    for place, word in enumerate(words):
        texts = [str(some[place]) if place < len(some) else None for some in reasons]
        columns[word] = pa.array(texts, pa.string())
    return pa.table(columns)
