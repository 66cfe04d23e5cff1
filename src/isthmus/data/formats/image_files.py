"""Opens a PNG or JPEG file safely and reads its size and mode before decoding its pixels."""

import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from isthmus.data.formats.base import first_line
from isthmus.errors import RequestError, SourceError
from isthmus.types import Array


def file_names(row_names: Sequence[str] | None, count: int) -> list[str]:
    """A relative .png path for each of `count` images, named after their original files.

    Two images that differ in their suffix only (a.jpg, a.png) keep it (a.jpg.png, a.png.png).
    """
    if row_names is None:
        return [f"{index:06d}.png" for index in range(count)]
    if len(row_names) != count:
        raise RequestError(
            f"there are {count} images and {len(row_names)} names; give each image one"
        )
    paths = [_inside(name) for name in row_names]
    short = [str(path.with_suffix(".png")) for path in paths]
    times = Counter(short)
    names = [
        name if times[name] == 1 else f"{path}.png" for path, name in zip(paths, short, strict=True)
    ]
    if len(set(names)) < count:
        raise RequestError("several images have the same name; give each its own")
    return names


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise RequestError(
            f"the image name {name!r} leads out of the folder; use relative names without '..'"
        )
    return path


ROW_MODES = (
    dict.fromkeys(("1", "L"), "L")
    | dict.fromkeys(("P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), "RGB")
    | dict.fromkeys(("LA", "La", "PA", "RGBA", "RGBa"), "RGBA")
)
"""The mode of rows (L, RGB or RGBA) for each of Pillow's 8-bit modes."""

ORIENTATION = 0x0112
"""The EXIF tag with the rotation that a viewer applies."""

ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The rotation for each value of that tag."""

SIDEWAYS = tuple(ROTATIONS[value] for value in (5, 6, 7, 8))
OPENING = threading.Lock()


class Head(NamedTuple):
    """The properties of an image file that are read before its pixels are decoded."""

    size: tuple[int, int]
    """(height, width), upright"""

    mode: str


def read_head(path: Path) -> Head:
    """The size and mode that the image will have as a row."""
    with _opened(path) as (image, turn):
        width, height = image.size
        size = (width, height) if turn in SIDEWAYS else (height, width)
        return Head(size, _general_mode(path, image))


def read_pixels(path: Path, mode: str, resize: tuple[int, int] | None) -> Array:
    """The pixels in `mode`, upright, and resized to (height, width) if `resize` is given."""
    with _opened(path) as (image, turn):
        pixels = image.convert(mode)
    if turn is not None:
        pixels = pixels.transpose(turn)
    if resize is not None:
        pixels = pixels.resize(resize[::-1], Image.Resampling.LANCZOS)
    return np.asarray(pixels)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, Image.Transpose | None]]:
    """The image and its rotation; every error of Pillow becomes one SourceError."""
    try:
        image, turn = _open_quietly(path)
        with image:
            yield image, turn
    except SourceError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise SourceError(
            f"{path}: the image has more than {limit} pixels, the most Pillow opens safely; "
            "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from error
    except PermissionError as error:
        raise SourceError(f"{path}: may not be read; change its permissions") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise SourceError(
            f"{path}: the image is damaged or truncated ({_reason(error)}); "
            "replace it or move it out"
        ) from error


def _open_quietly(path: Path) -> tuple[Image.Image, Image.Transpose | None]:
    # Pillow warns of broken EXIF, but the pixels are still usable. The lock keeps concurrent
    # threads from restoring one another's warning filters.
    with OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(path, formats=("PNG", "JPEG"))
        if getattr(image, "n_frames", 1) > 1:
            frames = image.n_frames  # type: ignore[attr-defined]
            image.close()
            raise SourceError(
                f"{path}: holds {frames} frames, and a row is one image; split it into single ones"
            )
        return image, _turn(image)


def _turn(image: Image.Image) -> Image.Transpose | None:
    # Pillow decodes a whole PNG to look for EXIF, and viewers ignore it there.
    return None if image.format == "PNG" else ROTATIONS.get(image.getexif().get(ORIENTATION, 1))


def _reason(error: Exception) -> str:
    unknown = "cannot identify image file"
    return "neither PNG nor JPEG" if unknown in str(error) else first_line(error)


def _general_mode(path: Path, image: Image.Image) -> str:
    if image.mode not in ROW_MODES:
        raise SourceError(
            f"{path}: has {image.mode} pixels, which 8-bit images cannot hold; "
            "convert the images to 8 bits, or put their values into a .npy file to keep them exact"
        )
    return "RGBA" if "transparency" in image.info else ROW_MODES[image.mode]
