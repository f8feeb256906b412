"""The clips of a page: every camera of an episode side by side, at the robot's own speed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vlaw_assets.lake.picking import Key, Picked, frames_of
from vlaw_assets.reports.episodes.robots import robot_of
from vlaw_models.mp4 import encode_mp4, side_by_side

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_models.robots.spec import RobotSpec

THREADS, TOGETHER = 2, 16
"""Clips that are encoded side by side, and episodes whose frames are in memory together, at most."""
MOST_BYTES = 256 << 20
"""Of these frames, but for one episode that has more."""
RECORDED = "recorded"
"""label_source of episodes that came from a recording: no simulator gives them back."""
DRAWN = "Frames drawn again from the recorded actions: the simulator came to the recorded states."
LAST = "Only the last frame was kept."
NONE = "No frames were kept."
CHANGED = "Only the last frame was kept: the simulator here does not come to the recorded states."


@dataclass(frozen=True)
class Clip:
    """What there is to watch of an episode."""

    file: bytes | None
    """MP4; None without frames."""
    frames: int
    said: str
    """What is to be said of the frames; '' where all were kept."""


@dataclass(frozen=True)
class Pictures:
    """The frames there are of an episode."""

    item: Picked
    images: np.ndarray | None
    """(T', V, h, w, 3), the last T' of its frames; None where there are none."""
    said: str
    """What is to be said of them; '' where all were kept."""


def clips_of(
    lake: Lake, shown: Mapping[Key, Picked], *, redraw: bool, tell: Callable[[int, int], None] | None = None
) -> dict[Key, Clip]:
    """The clip of each episode, all cameras side by side. Arguments and errors as `pictures_of`."""
    found: dict[Key, Clip] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pictures_of(lake, shown, redraw=redraw, tell=tell):
            for pictures, file in zip(part, pool.map(_encoded, part), strict=True):
                frames = 0 if pictures.images is None else len(pictures.images)
                found[pictures.item.key] = Clip(file, frames, pictures.said)
    return found


def pictures_of(
    lake: Lake, shown: Mapping[Key, Picked], *, redraw: bool, tell: Callable[[int, int], None] | None = None
) -> Iterator[list[Pictures]]:
    """The frames of each episode, a few episodes at a time. `shown` have no images.

    `redraw`: frames that were not kept are drawn again where a simulator can. `tell`: called with (done, of) meanwhile.
    VlawError for damaged or missing frames.
    """
    again = {key: robot for key, item in shown.items() if redraw and (robot := _simulated(item)) is not None}
    done = 0
    for part in _parts(list(shown.values()), again.keys()):
        frames = frames_of(lake, [item.key for item in part if item.row["num_frames"]])
        said = {item.key: _kept(item) for item in part}
        for robot in {again[item.key].name: again[item.key] for item in part if item.key in again}.values():
            listed = [item for item in part if item.key in again and again[item.key].name == robot.name]
            for item, images in zip(listed, _drawn(listed, frames, robot), strict=True):
                said[item.key] = CHANGED if images is None else DRAWN
                frames[item.key] = frames[item.key] if images is None else images
            done += len(listed)
            if tell:
                tell(done, len(again))
        yield [Pictures(item, frames.get(item.key), said[item.key]) for item in part]


def _parts(items: Sequence[Picked], whole: Collection[Key]) -> Iterator[list[Picked]]:
    """The episodes in groups whose frames are in memory together; `whole` will have all of theirs."""
    part: list[Picked] = []
    size = 0
    for item in items:
        frames = item.episode.num_steps + 1 if item.key in whole else item.row["num_frames"]
        own = frames * int(np.prod(item.episode.images.shape[1:]))
        if part and (size + own > MOST_BYTES or len(part) == TOGETHER):
            yield part
            part, size = [], 0
        part.append(item)
        size += own
    if part:
        yield part


def _kept(item: Picked) -> str:
    count = item.row["num_frames"]
    if count > item.episode.num_steps:
        return ""
    return NONE if not count else LAST if count == 1 else f"The last {count} frames were kept."


def _simulated(item: Picked) -> RobotSpec | None:
    """The robot whose simulator can draw the frames that were not kept; None where there are none, or no such robot."""
    if not 0 < item.row["num_frames"] <= item.episode.num_steps or item.row["label_source"] == RECORDED:
        return None
    robot = robot_of(item.ref, item.row["world"] or "")
    return robot if robot is not None and robot.simulator and item.row["world"] == robot.world else None


def _drawn(items: Sequence[Picked], frames: Mapping[Key, np.ndarray], robot: RobotSpec) -> list[np.ndarray | None]:
    from vlaw_models.rollouts.redraw import redraw

    return redraw([replace(item.episode, images=frames[item.key]) for item in items], robot)


def _encoded(pictures: Pictures) -> bytes | None:
    images = pictures.images
    return None if images is None else encode_mp4(side_by_side(images), pictures.item.episode.control_hz)
