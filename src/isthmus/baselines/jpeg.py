"""JPEG files of images, as Pillow writes them with optimised tables."""

import io
from collections.abc import Sequence

from PIL import Image

from isthmus.baselines.base import ImageCodec
from isthmus.types import Array

FULL_COLOUR, HALVED_COLOUR = 0, 2
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", 2


class JPEGBaseline(ImageCodec):
    """JPEG; colour images are tried with full and with halved colour resolution."""

    label = "JPEG"

    def variants(self, *, colour: bool) -> Sequence[int]:
        """Values of Pillow's `subsampling`."""
        return (FULL_COLOUR, HALVED_COLOUR) if colour else (FULL_COLOUR,)

    def encode(self, image: Array, quality: int, variant: int = FULL_COLOUR) -> bytes:
        """A JPEG file of a uint8 image (H, W) or (H, W, 3)."""
        buffer = io.BytesIO()
        Image.fromarray(image).save(
            buffer, "JPEG", quality=quality, subsampling=variant, optimize=True
        )
        return buffer.getvalue()

    def payload_length(self, file: bytes) -> int:
        """Bytes between the header of the scan and the end of the image."""
        marker = file.index(START_OF_SCAN)
        header = int.from_bytes(file[marker + 2 : marker + 4], "big")
        return len(file) - marker - 2 - header - END_OF_IMAGE
