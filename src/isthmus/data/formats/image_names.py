"""The names that decoded images are given in their folder."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from isthmus.errors import RequestError


def file_names(row_names: Sequence[str] | None, count: int) -> list[str]:
    """A relative .png path for each of `count` images, after the files they came from.

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
