"""An electrocardiogram goes through a narrow code and comes back: where does it come back worst?

    python examples/ecg_recording.py [100.dat] [--rows 1000] [--components 8]

An autoencoder learns windows of the first part of a recording, then rebuilds all of it from its
codes, beside PCA of the same windows at the same size. What comes back worst is held against the
marks of cardiologists. The real recording is record 100 of the MIT-BIH Arrhythmia Database, with
100.atr beside it (https://physionet.org/content/mitdb/). Without a file a synthetic one is made.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from isthmus import Autoencoder, data

RATE, LENGTH, STEP = 360, 256, 128  # samples a second, as in all of MIT-BIH; in a window
BEATS, SKIP, NOTE = {1: "normal", 5: "ventricular", 8: "atrial premature"}, 59, 63


def read_signal(path: Path) -> Any:
    """(time, 2) millivolts. Format 212: three bytes hold two 12-bit numbers in two's complement."""
    low, both, high = np.fromfile(path, np.uint8).reshape(-1, 3).astype(int).T
    # The middle byte has the upper four bits of both: of the first below, of the second above.
    pairs = np.stack([low + 256 * (both % 16), high + 256 * (both // 16)], axis=1)
    return (np.where(pairs < 2048, pairs, pairs - 4096) - 1024) / 200  # MIT-BIH's zero and gain


def read_marks(path: Path) -> dict[int, str]:
    """The kind of each beat by its sample: 6 bits say what, 10 how long after the last mark."""
    marks: dict[int, str] = {}
    words, at = iter(np.fromfile(path, "<u2").tolist() if path.exists() else []), 0
    for word in words:
        code, value = divmod(word, 1024)
        if code == SKIP:  # a time of two words, the upper first
            at += (next(words) << 16) + next(words)
        elif code == NOTE:  # so many letters, two a word
            _ = [next(words) for _ in range((value + 1) // 2)]
        elif code < SKIP:
            at += value
            marks |= {at: BEATS[code]} if code in BEATS else {}
    return marks


def synthetic(beats: int) -> tuple[Any, dict[int, str]]:
    """Two leads (time, 2) of so many beats, every thirtieth early and wide, and their marks."""
    rng, odd = np.random.default_rng(0), np.arange(beats) % 30 == 20
    peaks = np.cumsum(RATE * (rng.normal(0.8, 0.04, beats) - 0.25 * odd)).astype(int)
    signal = rng.normal(0, 0.02, (peaks[-1] + RATE, 2))
    time = np.arange(-RATE // 2, RATE // 2)[:, None] / RATE
    p, r, s, t, wide = (
        np.exp(-(((time - when) / width) ** 2) / 2)
        for when, width in ((-0.2, 0.025), (0, 0.012), (0.03, 0.01), (0.25, 0.05), (0, 0.05))
    )
    normal = p * (0.15, 0.05) + r * (1, 0.5) - s * (0.2, 0.3) + t * (0.3, 0.1)
    for peak, early in zip(peaks, odd, strict=True):
        beat = wide * (1, -0.5) - t * (0.3, 0.1) if early else normal
        signal[peak - RATE // 2 : peak + RATE // 2] += beat
    return signal, {int(p): BEATS[5 if early else 1] for p, early in zip(peaks, odd, strict=True)}


def by_pca(learned: Any, every: Any, n_components: int) -> Any:
    """The recording that PCA of the same windows gives, joined as the autoencoder's are."""
    first, windows = (rows.read(np.arange(len(rows))) for rows in (learned, every))
    pca = PCA(n_components, random_state=0).fit(first.reshape(len(first), -1))
    codes = pca.transform(windows.reshape(len(windows), -1))
    return every.joined(pca.inverse_transform(codes).reshape(windows.shape))[0]


def show_worst(errors: Any, marks: dict[int, str], cut: int) -> None:
    """The ten moments that came back worst, a second or more apart, and the beats there."""
    left = errors.copy()
    print("\nmin:sec   error  within half a second")
    for _ in range(10):
        at = int(left.argmax())
        left[max(at - RATE, 0) : at + RATE] = 0
        near = [kind for beat, kind in marks.items() if abs(beat - at) <= RATE // 2]
        where = f"{at // RATE // 60:4}:{at // RATE % 60:02} {errors[at]:7.4f}"
        print(f"{where}  {', '.join(near)}{' (learned from)' if at < cut else ''}")


def show_beats(errors: Any, marks: dict[int, str]) -> None:
    """How well beats of each kind came back."""
    each, kinds = errors[list(marks)], np.array(list(marks.values()))
    print("\nbeats             number  median error")
    for kind in sorted(set(kinds)):
        some = each[kinds == kind]
        print(f"{kind:16}{len(some):8}{np.median(some):14.4f}")
    share = roc_auc_score(kinds != "normal", each)
    print(f"Of a normal beat and one of another kind, the other is worse in {share:.1%} of pairs.")


def main(argv: Sequence[str] | None = None) -> int:
    """Learn, rebuild, look for the worst."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("signal", nargs="?", type=Path, help="100.dat, with 100.atr beside it")
    parser.add_argument("--rows", type=int, default=1000, help="how many windows to learn from")
    parser.add_argument("--components", type=int, default=8, help="how many numbers a code has")
    asked = parser.parse_args(argv)
    path = asked.signal
    print("A synthetic recording:" if path is None else f"{path.name}:", end=" ")
    found = (read_signal(path), read_marks(path.with_suffix(".atr"))) if path else None
    signal, marks = found or synthetic(asked.rows)
    cut = min((asked.rows + 1) * STEP, len(signal) * 2 // 3)
    learned, every = (data.windows(s, length=LENGTH, step=STEP) for s in (signal[:cut], signal))
    # Few epochs, to be done in half a minute; without max_epochs a fit goes on while it gains.
    ae = Autoencoder(asked.components, max_epochs=25, random_state=0).fit(learned)
    print(f"{len(signal) / RATE / 60:.1f} minutes, {len(every)} windows of {LENGTH} samples,")
    print(f"{asked.components} numbers each; learned from the first {len(learned)}.")
    print("\nmean squared error   learned   the rest")
    back = {"mean": signal[:cut].mean(axis=0), "PCA": by_pca(learned, every, asked.components)}
    for name, rebuilt in (back | {"autoencoder": ae.reconstruct(signal)}).items():
        squared = (signal - rebuilt) ** 2
        print(f"{name:18}{squared[:cut].mean():10.5f} {squared[cut:].mean():10.5f}")
    errors = ae.reconstruction_error(signal, by="sample")
    errors = np.convolve(errors, np.ones(RATE // 2) / (RATE // 2), mode="same")
    show_worst(errors, marks, cut)
    if len(set(marks.values())) > 1:
        show_beats(errors, marks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
