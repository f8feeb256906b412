"""The clips of a page: every camera of an episode side by side, at the robot's own speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from vlaw_assets.lake.picking import Key, Picked
from vlaw_assets.reports.episodes.robots import robot_of
from vlaw_models.mp4 import encode_mp4, side_by_side

if TYPE_CHECKING:
    from vlaw_models.robots.spec import RobotSpec

THREADS = 2
RECORDED = "recorded"
"""label_source of episodes that came from a recording: no simulator gives them back."""
DRAWN = "Frames drawn again from the recorded actions: the simulator came to the recorded states."
LAST = "Only the last frame was kept."
NONE = "No frames were kept."
CHANGED = "Only the last frame was kept: the simulator here does not come to the recorded states."


def with_frames(
    shown: Mapping[Key, Picked], *, redraw: bool, tell: Callable[[int, int], None] | None = None
) -> dict[Key, tuple[np.ndarray | None, str]]:
    """Per episode its frames (T', V, h, w, 3), None where there are none, and what is to be said of them.

    `redraw`: those that were not kept are drawn again where a simulator can. `tell`: called with (done, of) meanwhile.
    """
    found: dict[Key, tuple[np.ndarray | None, str]] = {}
    again: dict[str, list[Picked]] = {}
    robots: dict[str, RobotSpec] = {}
    for key, picked in shown.items():
        images = np.asarray(picked.episode.images)
        found[key] = (images, "") if len(images) else (None, NONE)
        if 0 < len(images) <= picked.episode.num_steps:
            found[key] = images, LAST if len(images) == 1 else f"The last {len(images)} frames were kept."
            robot = robot_of(picked.ref, picked.row["world"] or "")
            if redraw and robot is not None and _simulated(picked, robot):
                robots[robot.name] = robot
                again.setdefault(robot.name, []).append(picked)
    done, count = 0, sum(map(len, again.values()))
    for name, listed in again.items():
        from vlaw_models.rollouts.redraw import TOGETHER
        from vlaw_models.rollouts.redraw import redraw as draw

        for begin in range(0, len(listed), TOGETHER):
            part = listed[begin : begin + TOGETHER]
            for picked, drawn in zip(part, draw([item.episode for item in part], robots[name]), strict=True):
                found[picked.key] = (drawn, DRAWN) if drawn is not None else (found[picked.key][0], CHANGED)
            done += len(part)
            if tell:
                tell(done, count)
    return found


def _simulated(picked: Picked, robot: RobotSpec) -> bool:
    return bool(robot.simulator) and picked.row["world"] == robot.world and picked.row["label_source"] != RECORDED


def encoded(frames: Mapping[Key, np.ndarray | None], rates: Mapping[Key, float]) -> dict[Key, bytes]:
    """The MP4 file of each episode that has frames."""
    keys = [key for key, images in frames.items() if images is not None]

    def encode(key: Key) -> bytes:
        return encode_mp4(side_by_side(frames[key]), rates[key])  # type: ignore[arg-type]  # None is left out above

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(keys, pool.map(encode, keys), strict=True))
