"""Frames of a video file, decoded once from front to back and shrunk at once (PyAV).

Reading in order needs no seeking, and finds out whether the file is as long as its dataset says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vlaw_models.errors import VlawError

MAX_SIDE = 4096
"""Larger frames are refused before they are converted."""


def read_frames(
    path: Path, count: int, *, keep: np.ndarray, shape: tuple[int, int], image_size: tuple[int, int]
) -> np.ndarray:
    """The frames numbered `keep` (ascending) of a video with exactly `count` frames, (len(keep), height, width, 3)
    uint8.

    `shape` is the (height, width) that the dataset declares, `image_size` the one asked for. Frames are squeezed to it,
    as Ctrl-World does: by averaging areas where they shrink, bilinear where they grow. VlawError where the file is
    damaged, of another shape, or has more or fewer frames.
    """
    import av
    from PIL import Image

    height, width = image_size
    wanted = set(keep.tolist())
    frames = np.empty((len(keep), *image_size, 3), np.uint8)
    seen = kept = 0
    try:
        with av.open(str(path), mode="r") as container:
            if not container.streams.video:
                raise VlawError("the file holds no video", where=str(path), remedy="Copy the dataset again.")
            stream = container.streams.video[0]
            if (stream.height, stream.width) != shape or max(shape) > MAX_SIDE:
                raise VlawError(
                    f"the video is {stream.width}x{stream.height} pixels, the dataset declares "
                    f"{shape[1]}x{shape[0]} (at most {MAX_SIDE})",
                    where=str(path),
                    remedy="The video belongs to another dataset, or info.json is wrong.",
                )
            for frame in container.decode(stream):
                if seen == count:
                    raise VlawError(
                        f"the video is longer than the {count} frames of its episodes",
                        where=str(path),
                        remedy="Video and episode index do not belong together: copy the dataset again.",
                    )
                if seen in wanted:
                    picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
                    shrinks = height <= picture.height and width <= picture.width
                    way = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
                    frames[kept] = np.asarray(picture.resize((width, height), way))
                    kept += 1
                seen += 1
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VlawError(
            f"the video cannot be decoded after {seen} frames: {str(error)[:160]}",
            where=str(path),
            remedy="The file is damaged: copy the dataset again.",
        ) from error
    if seen != count:
        raise VlawError(
            f"the video has {seen} frames, its episodes have {count}",
            where=str(path),
            remedy="A recording that was not finalized, or a damaged copy: repair or copy the dataset again.",
        )
    return frames
