"""Single images: modes, rotation, damage, and bombs."""

import numpy as np
import pytest
from PIL import Image

from isthmus.data import open_source
from isthmus.errors import SourceError


def save(folder, name, values, mode=None, **options):
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(folder / name, **options)
    return folder / name


def grey(value, height=4, width=6):
    return np.full((height, width), value, np.uint8)


def everything(source):
    return source.read(np.arange(len(source)))


@pytest.mark.parametrize(
    ("mode", "becomes", "shape"),
    [
        ("1", "L", (4, 6)),
        ("L", "L", (4, 6)),
        ("P", "RGB", (4, 6, 3)),
        ("LA", "RGBA", (4, 6, 4)),
        ("RGBA", "RGBA", (4, 6, 4)),
    ],
)
def test_every_mode_of_png(tmp_path, mode, becomes, shape):
    save(tmp_path, "a.png", grey(255), mode)
    source = open_source(tmp_path)
    assert (source.schema.mode, source.schema.shape) == (becomes, shape)
    assert (everything(source) == 255).all()


def test_jpeg_is_decoded_and_turned_as_its_exif_says(tmp_path):
    left_dark = np.repeat(np.array([[0] * 8 + [255] * 8], np.uint8), 8, axis=0)
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it a quarter clockwise: dark on top
    save(tmp_path, "a.jpg", left_dark, exif=exif)
    source = open_source(tmp_path)
    assert source.schema.shape == (16, 8)
    turned = everything(source)[0]
    assert turned[:6].max() < 30
    assert turned[10:].min() > 225


def test_16_bit_images_are_refused_rather_than_cut(tmp_path):
    path = save(tmp_path, "a.png", np.full((4, 6), 1000, np.uint16))
    with pytest.raises(SourceError, match=f"^{path}: has I;16 pixels, which 8-bit.*npy"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_truncated_image_is_named(tmp_path, rng, name):
    path = save(tmp_path, name, rng.integers(0, 256, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    source = open_source(tmp_path)
    with pytest.raises(SourceError, match=f"^{path}: the image is damaged or truncated.*replace"):
        everything(source)


@pytest.mark.parametrize("content", [b"", b"hello", b"GIF89a" + bytes(20)])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.png: the image is damaged.*neither PNG nor JPEG"):
        open_source(tmp_path)


@pytest.mark.parametrize("limit", [15, 5])  # Pillow warns above the limit, and fails above twice it
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, limit):
    path = save(tmp_path, "a.png", grey(0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(SourceError, match=f"^{path}: the image has more than {limit} pixels"):
        open_source(tmp_path)


def test_an_image_that_may_not_be_read(tmp_path, monkeypatch):
    save(tmp_path, "a.png", grey(0))

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(SourceError, match=r"a\.png: may not be read"):
        open_source(tmp_path)


def test_broken_exif_is_no_reason_to_refuse_the_pixels(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # five tags are announced, and none follows
    save(tmp_path, "a.jpg", grey(200), exif=exif)
    assert abs(everything(open_source(tmp_path)).astype(int) - 200).max() < 3


def test_several_frames_are_refused(tmp_path):
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 255)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(SourceError, match=r"a\.png: holds 2 frames"):
        open_source(tmp_path).read(np.arange(1))
