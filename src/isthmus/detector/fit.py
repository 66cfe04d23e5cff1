"""How a detector learns: rows set aside, rows held out, then autoencoders and their memories."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.base import clone

from isthmus.data import Subset, count_distinct
from isthmus.detector.defaults import default_autoencoder, draft, prepared_rows
from isthmus.detector.holdout import hold_out
from isthmus.detector.member import Member, deviations, pairs, usual_deviation
from isthmus.detector.memory import Memory, most_remembered, some_of
from isthmus.detector.overlaps import LearnedWindows
from isthmus.detector.trimming import typical_rows
from isthmus.errors import DataError, DivergenceError
from isthmus.estimator import Autoencoder
from isthmus.types import Array, Index, Source

FEWEST_ROWS = 2
FEWEST_DISTINCT, SHARE_DISTINCT = 20, 0.05


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What to learn, and how."""

    autoencoder: Autoencoder | None
    n_estimators: int
    n_neighbors: int
    robust: bool
    device: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a detector knows."""

    members: list[Member]
    held_out: Index
    """Rows that no autoencoder learned from, ascending."""

    held_out_scores: Array
    """Theirs, as long as they were in no memory either."""

    typical: Array
    """(n,) bool: which rows were not set aside."""

    rows: Index
    """(n,): which of the rows that were given these are; all of them, unless they stay on disk."""


def learn(lesson: Lesson, source: Source) -> Learned:
    """Fit the members on the rows of a source."""
    rows, missing = prepared_rows(draft(source, lesson.device, lesson.seed), source)
    everything = np.ones(len(rows), bool)
    typical = typical_rows(rows, lesson.seed) if lesson.robust else everything
    learned, held_out = hold_out(source, share_held_out(len(rows)), lesson.seed)
    in_play = np.zeros(len(rows), bool)
    # Windows that share samples with those held out are in neither part.
    in_play[np.asarray(learned)] = True
    learned_from = with_all_known(typical & in_play, missing, in_play)
    held_out, in_play = held_out[~learned_from[held_out]], in_play | learned_from
    fits = _fits(lesson, source, rows, learned_from)
    windows = LearnedWindows.of(source)
    first = [_member(fit, source, (typical & in_play, in_play), lesson, windows) for fit in fits]
    held_out_scores = scores(first, Subset(source, held_out)) if len(held_out) else np.empty(0)
    # Now that the threshold is known, rows that were held out are remembered as any.
    members = [
        _member(one.autoencoder, source, (typical, everything), lesson, windows, one.usual)
        for one in first
    ]
    return Learned(
        members=members,
        held_out=held_out,
        held_out_scores=held_out_scores,
        typical=typical,
        rows=np.arange(len(rows)),
    )


def _fits(lesson: Lesson, source: Source, rows: Array, learned_from: Array) -> list[Autoencoder]:
    """The autoencoders, fitted on some rows (n,) bool of a source, prepared (n, E)."""
    if learned_from.sum() < FEWEST_ROWS:
        raise DataError(f"{source.origin}: too few rows to learn from; give more")
    suits = lesson.autoencoder or default_autoencoder(
        rows[learned_from], source.schema, lesson.device, lesson.seed
    )
    weight = learned_from.astype(float)
    fits = [
        clone(suits).set_params(random_state=lesson.seed + i) for i in range(lesson.n_estimators)
    ]
    return [fit.fit(source, sample_weight=weight) for fit in fits]


def with_all_known(chosen: Array, missing: Array, rather: Array) -> Array:
    """(n,) bool: the rows `chosen`, and as few others as tell what some know and none of them does.

    Of features that have values in no chosen row networks could learn nothing, and where no chosen
    row has gaps, nothing of gaps. `missing` (n, E) are the gaps; others are taken from the rows
    `rather` (n,) where one of them knows as much as any.
    """
    chosen = chosen.copy()
    unknown = missing[chosen].all(axis=0) & ~missing.all(axis=0)
    while unknown.any():
        best = int(np.argmax(2 * (~missing[:, unknown]).sum(axis=1) + rather))
        chosen[best], unknown = True, unknown & missing[best]
    gappy = missing.any(axis=1)
    if gappy.any() and not (gappy & chosen).any():
        chosen[np.argmax(gappy)] = True
    return np.asarray(chosen)


def share_held_out(rows: int) -> float:
    """A fifth of the rows, at least 100 but never over a third, and at most 5000."""
    return min(max(0.2 * rows, 100), 5000, rows / 3) / rows


def contributions(members: list[Member], source: Source) -> Array:
    """(n, D): each column's part in the scores of rows, over all members alike."""
    return np.concatenate(list(_contributed(members, source)))


def scores(members: list[Member], source: Source) -> Array:
    """(n,): what the columns of each row contribute together; a batch at a time is in memory."""
    return np.concatenate([np.nansum(part, axis=1) for part in _contributed(members, source)])


def _contributed(members: list[Member], source: Source) -> Iterator[Array]:
    """The contributions (B, D) of one batch of rows after the other."""
    for parts in zip(*(member.contributed(source) for member in members), strict=True):
        yield np.asarray(sum(parts) / len(members))


def check_spread(found: Array, source: Source) -> None:
    """Raise DivergenceError where the scores (n,) do not tell the rows of a source apart."""
    if not np.isfinite(found).all():
        raise DivergenceError("some scores are not finite; scale the data")
    distinct = count_distinct(source, np.arange(len(source)))
    if distinct == 1:
        raise DivergenceError(f"{source.origin}: all rows are the same; none of them can be odd")
    told = len(np.unique(found))
    if distinct >= FEWEST_DISTINCT and told < SHARE_DISTINCT * distinct:
        raise DivergenceError(
            f"the detector has collapsed: {distinct} different rows have {told} different scores; "
            "look for columns that drown all others, or give another autoencoder"
        )


def _member(
    fit: Autoencoder,
    source: Source,
    kept: tuple[Array, Array],
    lesson: Lesson,
    windows: LearnedWindows | None,
    usual: Array | None = None,
) -> Member:
    """A member that remembers the typical rows, and all where those are not the same.

    Without `usual` deviations some of all these rows tell what is usual.
    """
    typical, everything = kept
    wanted = [typical] if np.array_equal(typical, everything) else [typical, everything]
    most = most_remembered(fit.preparation_.facts.n_features)
    drawn = [some_of(np.flatnonzero(rows), lesson.seed, most) for rows in wanted]
    some = some_of(np.flatnonzero(everything), lesson.seed)
    *found, judged = _picked(fit, source, [*drawn, some])
    where = None if windows is None else windows.find(source)
    memories = [
        _memory(rebuilt, lesson, rows, where, windows)
        for (_, rebuilt), rows in zip(found, drawn, strict=True)
    ]
    if usual is None:
        place = None if where is None else where[some]
        usual = usual_deviation(deviations(*judged, memories, fit.preparation_.sums, place))
    return Member(fit, memories, usual, windows)


def _memory(
    rebuilt: Array,
    lesson: Lesson,
    rows: Index,
    where: Index | None,
    windows: LearnedWindows | None,
) -> Memory:
    if where is None or windows is None:
        return Memory(rebuilt, lesson.n_neighbors)
    return Memory(rebuilt, lesson.n_neighbors, where[rows], windows.most_shared)


def _picked(fit: Autoencoder, source: Source, wanted: list[Index]) -> list[tuple[Array, Array]]:
    """For each choice of rows (ascending) these and what their codes rebuild, (M, E) float32."""
    parts: list[list[tuple[Array, Array]]] = [[] for _ in wanted]
    start = 0
    for batch in pairs(fit, source):
        for part, chosen in zip(parts, wanted, strict=True):
            low, high = np.searchsorted(chosen, (start, start + len(batch[0])))
            here = chosen[low:high] - start
            part.append((batch[0][here].astype(np.float32), batch[1][here].astype(np.float32)))
        start += len(batch[0])
    return [
        (np.concatenate([rows for rows, _ in part]), np.concatenate([again for _, again in part]))
        for part in parts
    ]
