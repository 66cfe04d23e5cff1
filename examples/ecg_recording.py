"""An electrocardiogram is compressed to a narrow code: which beats are reconstructed worst?

    python examples/ecg_recording.py [100.dat] [--rows 1000] [--components 8]

An autoencoder is trained on windows of the first part of a recording, and reconstructs all of it
from its codes. It is compared with PCA of the same windows at the same size. The worst
reconstructions are compared with the annotations of cardiologists. The real recording is record 100
of the MIT-BIH Arrhythmia Database, with 100.atr in the same folder
(https://physionet.org/content/mitdb/). Without a file, a synthetic recording is made.
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

RATE, LENGTH, HOP = 360, 256, 128  # samples per second, as in all of MIT-BIH; per window; between
BEATS, SKIP, NOTE = {1: "normal", 5: "ventricular", 8: "atrial premature"}, 59, 63


def read_signal(path: Path) -> Any:
    """(time, 2) millivolts. Format 212: three bytes hold two 12-bit numbers in two's complement."""
    low, both, high = np.fromfile(path, np.uint8).reshape(-1, 3).astype(int).T
    # The middle byte holds the upper four bits of the first number, then those of the second.
    pairs = np.stack([low + 256 * (both % 16), high + 256 * (both // 16)], axis=1)
    return (np.where(pairs < 2048, pairs, pairs - 4096) - 1024) / 200  # MIT-BIH's zero and gain


def read_annotations(path: Path) -> dict[int, str]:
    """The kind of each beat by its sample: 6 bits for the kind, 10 for the time since the last."""
    annotations: dict[int, str] = {}
    words = iter(np.fromfile(path, "<u2").tolist() if path.exists() else [])
    sample = 0
    for word in words:
        code, value = divmod(word, 1024)
        if code == SKIP:  # a time of two words, the upper first
            sample += (next(words) << 16) + next(words)
        elif code == NOTE:  # `value` letters, two per word
            _ = [next(words) for _ in range((value + 1) // 2)]
        elif code < SKIP:
            sample += value
            annotations |= {sample: BEATS[code]} if code in BEATS else {}
    return annotations


def synthesize(beats: int) -> tuple[Any, dict[int, str]]:
    """Two leads (time, 2) of some beats, every thirtieth early and wide, and their annotations."""
    rng, ventricular = np.random.default_rng(0), np.arange(beats) % 30 == 20
    peaks = np.cumsum(RATE * (rng.normal(0.8, 0.04, beats) - 0.25 * ventricular)).astype(int)
    signal = rng.normal(0, 0.02, (peaks[-1] + RATE, 2))
    time = np.arange(-RATE // 2, RATE // 2)[:, None] / RATE
    p, r, s, t, wide = (
        np.exp(-(((time - centre) / width) ** 2) / 2)
        for centre, width in ((-0.2, 0.025), (0, 0.012), (0.03, 0.01), (0.25, 0.05), (0, 0.05))
    )
    normal = p * (0.15, 0.05) + r * (1, 0.5) - s * (0.2, 0.3) + t * (0.3, 0.1)
    for peak, early in zip(peaks, ventricular, strict=True):
        beat = wide * (1, -0.5) - t * (0.3, 0.1) if early else normal
        signal[peak - RATE // 2 : peak + RATE // 2] += beat
    kinds = [BEATS[5 if early else 1] for early in ventricular]
    return signal, dict(zip(map(int, peaks), kinds, strict=True))


def reconstruct_by_pca(train: Any, windows: Any, n_components: int) -> Any:
    """The recording that PCA of the same windows gives, joined like the autoencoder's."""
    train_values, values = (part.read(np.arange(len(part))) for part in (train, windows))
    pca = PCA(n_components, random_state=0).fit(train_values.reshape(len(train_values), -1))
    codes = pca.transform(values.reshape(len(values), -1))
    return windows.join(pca.inverse_transform(codes).reshape(values.shape))[0]


def print_worst(errors: Any, annotations: dict[int, str], n_train: int) -> None:
    """Print the ten samples of the largest errors, a second or more apart, and their beats."""
    remaining = errors.copy()
    print("\nmin:sec   error  beats within half a second")
    for _ in range(10):
        sample = int(remaining.argmax())
        remaining[max(sample - RATE, 0) : sample + RATE] = 0
        near = [kind for beat, kind in annotations.items() if abs(beat - sample) <= RATE // 2]
        time = f"{sample // RATE // 60:4}:{sample // RATE % 60:02}"
        note = " (training part)" if sample < n_train else ""
        print(f"{time} {errors[sample]:7.4f}  {', '.join(near)}{note}")


def print_beats(errors: Any, annotations: dict[int, str]) -> None:
    """Print the errors of the beats of each kind."""
    at_beats, kinds = errors[list(annotations)], np.array(list(annotations.values()))
    print("\nbeats             number  median error")
    for kind in sorted(set(kinds)):
        selected = at_beats[kinds == kind]
        print(f"{kind:16}{len(selected):8}{np.median(selected):14.4f}")
    auroc = roc_auc_score(kinds != "normal", at_beats)
    print(f"In {auroc:.1%} of pairs of a normal beat and another kind, the latter is worse.")


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, reconstruct, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("signal", nargs="?", type=Path, help="100.dat, with 100.atr in its folder")
    parser.add_argument("--rows", type=int, default=1000, help="number of training windows")
    parser.add_argument("--components", type=int, default=8, help="numbers per code")
    arguments = parser.parse_args(argv)
    path = arguments.signal
    print("A synthetic recording:" if path is None else f"{path.name}:", end=" ")
    if path is None:
        signal, annotations = synthesize(arguments.rows)
    else:
        signal, annotations = read_signal(path), read_annotations(path.with_suffix(".atr"))
    n_train = min((arguments.rows + 1) * HOP, len(signal) * 2 // 3)
    train, windows = (data.windows(s, length=LENGTH, hop=HOP) for s in (signal[:n_train], signal))
    # 25 epochs take half a minute; without max_epochs a fit continues while it improves.
    autoencoder = Autoencoder(arguments.components, max_epochs=25, random_state=0).fit(train)
    print(f"{len(signal) / RATE / 60:.1f} minutes, {len(windows)} windows of {LENGTH} samples,")
    print(f"{arguments.components} numbers each; trained on the first {len(train)}.")
    print("\nmean squared error  training  the rest")
    reconstructions = {
        "mean": signal[:n_train].mean(axis=0),
        "PCA": reconstruct_by_pca(train, windows, arguments.components),
        "autoencoder": autoencoder.reconstruct(signal),
    }
    for name, reconstruction in reconstructions.items():
        squares = (signal - reconstruction) ** 2
        print(f"{name:18}{squares[:n_train].mean():10.5f}{squares[n_train:].mean():10.5f}")
    errors = autoencoder.reconstruction_error(signal, by="timestep")
    errors = np.convolve(errors, np.ones(RATE // 2) / (RATE // 2), mode="same")
    print_worst(errors, annotations, n_train)
    if len(set(annotations.values())) > 1:
        print_beats(errors, annotations)
    return 0


if __name__ == "__main__":
    sys.exit(main())
