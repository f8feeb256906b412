"""Clips for people: frames as an MP4 file (H.264) that every browser plays, encoded by the FFmpeg inside PyAV."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np

from vlaw_models.errors import VlawError

ENCODER, QUALITY = "libx264", "23"
"""x264's constant rate factor: pictures of 64 pixels, doubled, show no blocks yet."""
LEAST_HEIGHT = 96
"""Pixels. Smaller frames are enlarged by a whole number: H.264 keeps one colour for four pixels."""
MOST_HEIGHT = 240
"""Pixels. Larger frames are shrunk to it: several clips are watched side by side."""
KEY_EVERY = 10
"""Frames between two that stand alone: what a browser decodes at most to show any one of them."""


def side_by_side(images: np.ndarray) -> np.ndarray:
    """(T, V, h, w, 3) -> (T, h, V*w, 3): all cameras of an episode in one picture, in their order."""
    steps, views, height, width, colours = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(steps, height, views * width, colours)


def encode_mp4(frames: np.ndarray, rate: float, *, most_height: int = MOST_HEIGHT) -> bytes:
    """An MP4 file of (T, h, w, 3) uint8 frames at `rate` frames per second, enlarged where they are small,
    shrunk where they are higher than `most_height`.

    Odd sides lose their last row or column (H.264 has even ones). Same frames, same bytes, where the sides of the clip
    are multiples of 16: at the edge of others x264 chooses by what lies beyond it. VlawError for no frames, other
    arrays, a rate that is not above 0, and where PyAV has no H.264 encoder.
    """
    import av

    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3 or not len(frames) or not rate > 0:
        raise VlawError(
            f"a clip of {frames.dtype} {frames.shape} at {rate:g} frames per second",
            where="mp4",
            remedy="Give uint8 frames (T, h, w, 3), at least one, and a rate above 0.",
        )
    enlarged = max(1, -(-LEAST_HEIGHT // frames.shape[1]))
    shrunk = min(1.0, most_height / frames.shape[1])
    height, width = (max(2, round(side * enlarged * shrunk) // 2 * 2) for side in frames.shape[1:3])
    if ENCODER not in av.codec.codecs_available:
        raise VlawError(
            "PyAV was built without an H.264 encoder", where="mp4", remedy="Install the wheel of PyAV: pip install av"
        )
    buffer, pace = io.BytesIO(), Fraction(rate).limit_denominator(1000)
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream(ENCODER, rate=pace)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = KEY_EVERY, 1
        stream.codec_context.options = {"crf": QUALITY, "preset": "veryfast", "bf": "0", "flags": "+bitexact"}
        for frame in frames:
            large = frame.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
            if shrunk == 1.0:
                large = large[:height, :width]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(large), format="rgb24")
            file.mux(stream.encode(picture.reformat(width, height, "yuv420p", interpolation="AREA")))
        file.mux(stream.encode())
    return buffer.getvalue()
