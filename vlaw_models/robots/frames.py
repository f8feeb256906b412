"""How a camera's picture becomes a frame of its robot, for what is imported and for what a policy is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

STRETCH = 1.2
"""By how much a picture may be squeezed: 16:9 into DROID's 192x320 is 1.07, 4:3 would be 1.25."""


def keeps_shape(picture: tuple[int, int], frame: tuple[int, int]) -> bool:
    """Whether a picture (height, width) may be resized to a frame (height, width) without being squeezed."""
    ratio = (picture[1] / picture[0]) / (frame[1] / frame[0])
    return max(ratio, 1 / ratio) <= STRETCH


def shrink(picture: Image, size: tuple[int, int]) -> np.ndarray:
    """An RGB picture as (height, width, 3) uint8 of `size` (height, width), as Ctrl-World does: by averaging areas
    where it shrinks, bilinear where it grows."""
    import numpy as np
    from PIL import Image

    height, width = size
    shrinks = height <= picture.height and width <= picture.width
    way = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(picture.resize((width, height), way))
