"""From which size on do convolutions keep more of images than dense networks?

    python benchmarks/quality/small_images.py [--sets digits,mnist,...] [--sides 8,12,14,16]
        [--no-record]

Images are reduced by means over boxes, and a fifth of them is for testing. Both kinds have defaults
and a code of 8 numbers. The table has the explained variance of test images, and seconds.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

sys.path.append(str(Path(__file__).parents[1]))

from common import data_folder, record, table
from defaults import divided
from isthmus import Autoencoder
from isthmus.data import open_source

Images = NDArray[np.float64]
N_COMPONENTS, MOST_ROWS = 8, 3000
KINDS = ("multilayer", "convolutional")


def mnist(folder: Path) -> Images:
    """The first digits of the training set."""
    source = open_source(folder / "train-images-idx3-ubyte.gz")
    return np.asarray(source.read(np.arange(MOST_ROWS)), np.float64).reshape(-1, 28, 28)


def olivetti(folder: Path) -> Images:
    """All faces."""
    return np.load(folder / "olivetti_faces.npz")["faces"].reshape(-1, 64, 64).astype(np.float64)


def cifar10(folder: Path) -> Images:
    """A thousand photographs a file, in three colours."""
    files = [np.asarray(Image.open(folder / f"cifar10_batch_{i}.png")) for i in range(3)]
    return np.concatenate([pixels.reshape(-1, 32, 32, 3) for pixels in files]).astype(np.float64)


SETS = {"mnist": mnist, "olivetti": olivetti, "cifar10": cifar10}


def shrunk(images: Images, side: int) -> Images:
    """The images reduced to side x side pixels by means over boxes."""
    planes = np.moveaxis(images.reshape(*images.shape[:3], -1), 3, 1).astype(np.float32)
    reduced = [
        [
            np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BOX))
            for plane in channels
        ]
        for channels in planes
    ]
    return np.moveaxis(np.array(reduced, np.float64), 1, 3).squeeze()


def compare(name: str, images: Images) -> dict[str, Any]:
    """One line of the table."""
    train, test = divided(images)
    line: dict[str, Any] = {
        "set": name,
        "rows": len(train),
        "image": "x".join(map(str, images.shape[1:])),
    }
    for kind in KINDS:
        began = time.perf_counter()
        model = Autoencoder(N_COMPONENTS, kind=kind, random_state=0).fit(train)
        line[f"{kind} s"] = round(time.perf_counter() - began, 1)
        line[kind] = round(model.explained_variance(test), 4)
    print(line, flush=True)
    return line


def main() -> int:
    """Fit both kinds to every set in every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", default=",".join(["digits", *SETS]))
    parser.add_argument("--sides", default="8,12,14,16")
    parser.add_argument("--no-record", action="store_true")
    chosen = parser.parse_args()
    results = []
    for name in chosen.sets.split(","):
        if name == "digits":
            results.append(compare(name, load_digits().images))
            continue
        folder = data_folder(name)
        if folder is None:
            print(f"{name}: not found; set ISTHMUS_DATA", file=sys.stderr)
            continue
        images = SETS[name](folder)[:MOST_ROWS]
        results += [compare(name, shrunk(images, int(side))) for side in chosen.sides.split(",")]
    if not chosen.no_record:
        record("small_images", results)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
