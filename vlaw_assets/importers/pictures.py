"""Pictures that a dataset holds one by one: PNG, JPEG or WebP, as bytes in a row or as files of their own."""

from __future__ import annotations

import io

import numpy as np

from vlaw_assets.importers.videos import MAX_SIDE, VideoError
from vlaw_models.robots.frames import shrink

FORMATS = ("PNG", "JPEG", "WEBP")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of more than eight bits: no colours."""
MAX_BYTES = 64 * 2**20


def read_picture(data: bytes, shape: tuple[int, int], image_size: tuple[int, int], *, row: int) -> np.ndarray:
    """The picture of one row as (height, width, 3) uint8. `VideoError` where it is damaged, of another (height, width)
    than `shape`, or holds no colours."""
    from PIL import Image, UnidentifiedImageError

    if len(data) > MAX_BYTES:
        raise VideoError(f"the picture of row {row} has {len(data)} bytes", row)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            # Known from the header: nothing was decoded yet.
            if (picture.height, picture.width) != shape or max(shape) > MAX_SIDE:
                raise VideoError(
                    f"the picture of row {row} is {picture.width}x{picture.height} pixels, the dataset declares "
                    f"{shape[1]}x{shape[0]} (at most {MAX_SIDE})",
                    row,
                    "video_shape",
                )
            if picture.mode in DEEP:
                raise VideoError(f"the picture of row {row} holds depth ({picture.mode}), not colours", row, "depth")
            return shrink(picture.convert("RGB"), image_size)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise VideoError(f"the picture of row {row} cannot be decoded: {str(error)[:160]}", row) from error
