"""Frames of a video file, found by the time at which each is shown (PyAV).

A file is opened as what its first bytes say it is, MP4 or Matroska, never by trying formats: there are some that are
lists of other files. It is given to the decoder as open bytes, so no name in it leads anywhere. Going forward decodes
each frame once; going back seeks to the key frame before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from vlaw_assets.importers.findings import Fault
from vlaw_models.errors import VlawError
from vlaw_models.robots.frames import shrink

if TYPE_CHECKING:
    from av import VideoFrame

MAX_SIDE = 4096
"""Larger frames are refused before they are decoded."""
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
"""What an MP4 file begins with, behind four bytes."""
MATROSKA = b"\x1a\x45\xdf\xa3"
NEAR = 0.499
"""How far from its row a frame may be shown, in rows: half a row would be as near to the next one."""
FAR = 5.0
"""Seconds from which on skipping is done by seeking."""
MOST_FRAMES = 64
"""Frames of a video for one row: more are no recording."""


class VideoError(Fault):
    """What is wrong with one stretch of a video."""

    def __init__(self, what: str, row: int | None = None, rule: str = "video") -> None:
        super().__init__(what, row, rule)


class Video:
    """One open video file. `VideoError` where it is damaged or of another shape than declared."""

    def __init__(self, file: BinaryIO, shape: tuple[int, int]) -> None:
        """`shape` is the (height, width) that the dataset declares."""
        import av
        from av.video.reformatter import VideoReformatter

        self._file, self._shape = file, shape
        self._converter = VideoReformatter()
        self._frames: Iterator[VideoFrame] = iter(())
        self._waiting: tuple[float, VideoFrame] | None = None
        self._shown = float("inf")
        """When the last frame that was used or passed over is shown; infinite where decoding has not begun."""
        try:
            self._container = av.open(
                file,
                mode="r",
                format=container_format(file),
                options={"max_pixels": str(MAX_SIDE * MAX_SIDE)},
                container_options={"enable_drefs": "0", "use_absolute_path": "0"},
                io_open=_refuse,
            )
        except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
            file.close()
            raise VideoError(f"the video cannot be decoded: {str(error)[:160]}") from error
        except VideoError:
            file.close()
            raise
        try:
            self._check_stream()
        except VideoError:
            self.close()
            raise

    def _check_stream(self) -> None:
        if not self._container.streams.video:
            raise VideoError("the file holds no video")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None or not self._stream.time_base:
            raise VideoError("no decoder is known for the video")
        self._stream.codec_context.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
        self._check_size(self._stream.height, self._stream.width)

    def _check_size(self, height: int, width: int) -> None:
        if not height or not width:
            raise VideoError(f"the video has no size, or more than {MAX_SIDE} pixels a side", rule="video_shape")
        if (height, width) != self._shape or max(self._shape) > MAX_SIDE:
            raise VideoError(
                f"the video is {width}x{height} pixels, the dataset declares {self._shape[1]}x{self._shape[0]} "
                f"(at most {MAX_SIDE})",
                rule="video_shape",
            )

    @property
    def count(self) -> int:
        """Frames of the file by its own word; 0 where it does not say."""
        return max(0, int(self._stream.frames))

    @property
    def rate(self) -> float:
        """Frames per second by the file's own word. `VideoError` where it does not say."""
        rate = self._stream.average_rate
        if not rate:
            raise VideoError("the video does not say how many frames a second it has", rule="video_time")
        return float(rate)

    def read(
        self, begin: float, count: int, fps: float, keep: Sequence[int], image_size: tuple[int, int]
    ) -> np.ndarray:
        """The frames of `keep` (ascending) of `count` rows, the first of which is shown at `begin` seconds and the
        others 1 / `fps` apart: (len(keep), height, width, 3) uint8.

        Every row must have a frame that is shown less than half a row away from it, also where it is not kept.
        `VideoError` names the first one that has none.
        """
        import av

        frames = np.empty((len(keep), *image_size, 3), np.uint8)
        places = {int(row): place for place, row in enumerate(keep)}
        away = np.full(count, np.inf)
        try:
            self._go_to(begin, fps)
            used = 0
            for shown, frame in self._rest():
                at = (shown - begin) * fps
                if at > count - 1 + NEAR:
                    self._waiting = (shown, frame)
                    break
                self._shown = shown
                if at < -NEAR:
                    continue
                row, used = round(at), used + 1
                if used > MOST_FRAMES * count:
                    raise VideoError(f"the video has more than {MOST_FRAMES} frames for a row", row)
                if abs(at - row) > NEAR or abs(at - row) >= away[row]:
                    continue
                away[row] = abs(at - row)
                if frame.is_corrupt:
                    raise VideoError(f"the frame of row {row} is damaged", row)
                if row in places:
                    frames[places[row]] = self._shrunk(frame, image_size)
                if row == count - 1 and away[row] < 0.1:
                    break
        except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
            done = int(np.isfinite(away).sum())
            raise VideoError(f"the video cannot be decoded after {done} frames: {str(error)[:160]}", done) from error
        missing = np.flatnonzero(~np.isfinite(away))
        if len(missing):
            first = int(missing[0])
            raise VideoError(
                f"the video has no frame for row {first}, within half a row of {begin + first / fps:.3f} s "
                f"({len(missing)} of {count} rows have none)",
                first,
                "video_time",
            )
        return frames

    def _go_to(self, begin: float, fps: float) -> None:
        """So that the next frames are those from `begin` on, or a little earlier."""
        earliest = begin - NEAR / fps
        next_shown = self._waiting[0] if self._waiting else self._shown
        if self._shown < earliest and next_shown > earliest - FAR:
            return
        if self._shown == float("inf") and begin < FAR:
            self._frames, self._shown = self._container.decode(self._stream), -float("inf")
            return
        self._seek(max(earliest, 0.0))
        first = next(self._rest(), None)
        if first is not None and first[0] > earliest + 2 * NEAR / fps and begin > 0:
            self._seek(0.0)  # the file's own table of key frames is wrong
        else:
            self._waiting = first

    def _seek(self, seconds: float) -> None:
        self._container.seek(int(seconds / self._stream.time_base), stream=self._stream)
        self._frames, self._waiting, self._shown = self._container.decode(self._stream), None, -float("inf")

    def _rest(self) -> Iterator[tuple[float, VideoFrame]]:
        if self._waiting is not None:
            first, self._waiting = self._waiting, None
            yield first
        for frame in self._frames:
            if frame.pts is None:
                raise VideoError("a frame of the video does not say when it is shown")
            yield float(frame.pts * self._stream.time_base), frame

    def _shrunk(self, frame: VideoFrame, image_size: tuple[int, int]) -> np.ndarray:
        from PIL import Image

        self._check_size(frame.height, frame.width)
        parts = frame.format.components
        if len(parts) == 1 and parts[0].bits > 8:
            raise VideoError(f"the video holds depth ({frame.format.name}), not colours", rule="depth")
        # One converter for all frames: making it takes longer than using it.
        return shrink(Image.fromarray(self._converter.reformat(frame, format="rgb24").to_ndarray()), image_size)

    def close(self) -> None:
        self._container.close()
        self._file.close()


def container_format(file: BinaryIO) -> str:
    """The format that the file's first bytes are of. `VideoError` for any but MP4 and Matroska."""
    start = file.read(12)
    file.seek(0)
    if start[4:8] in BOXES:
        return "mp4"
    if start[:4] == MATROSKA:
        return "matroska"
    raise VideoError("the file is neither MP4 nor Matroska, whatever it is called", rule="video_format")


def _refuse(url: str, *_: Any) -> Any:
    raise VideoError(f"the video refers to another file: {url[:120]!r}", rule="video_format")


def read_frames(
    file: BinaryIO, count: int, *, fps: float, keep: np.ndarray, shape: tuple[int, int], image_size: tuple[int, int]
) -> np.ndarray:
    """`Video.read` of a file that is one episode: exactly `count` frames from 0 s on. Closes the file."""
    video = Video(file, shape)
    try:
        if video.count > count:
            raise VideoError(f"the video is longer than the {count} frames of its episode", count, "video_time")
        return video.read(0.0, count, fps, keep.tolist(), image_size)
    finally:
        video.close()


def refusal(fault: VideoError, where: str) -> VlawError:
    """The fault as an error for a person."""
    return VlawError(
        fault.what,
        where=where,
        remedy="A recording that was not finalized, a damaged copy, or a video of another dataset: copy it again.",
    )
