"""The episode index of a LeRobot dataset v2.0 or v2.1: JSON lines, and one data and one video file for each episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlaw_assets.importers.files import BROKEN, Folder, shown
from vlaw_assets.importers.lerobot_format import Info
from vlaw_assets.importers.lerobot_index import Clips, EpisodeIndex, checked_texts
from vlaw_assets.importers.lerobot_labels import is_label
from vlaw_models.errors import VlawError

EPISODES = "meta/episodes.jsonl"


def read_index(folder: Folder, info: Info, cameras: Sequence[str], success_key: str) -> EpisodeIndex:
    """The index, checked; the frames of an episode are its whole video. See `lerobot_index.read_index`."""
    where = str(folder.root / EPISODES)
    lengths: dict[int, int] = {}
    tasks: dict[int, tuple[str, ...]] = {}
    labels: dict[str, dict[int, Any]] = {}
    for line, found in enumerate(folder.json_lines(EPISODES, what="episode index"), start=1):
        here = f"{where}, line {line}"
        number, length = _whole(found, "episode_index", 0, here), _whole(found, "length", 1, here)
        if number in lengths or number >= info.episodes:
            raise VlawError(
                f"info.json counts {info.episodes} episodes, the episode index has number {number}"
                f"{' twice' if number in lengths else ''}",
                where=here,
                remedy=BROKEN,
            )
        lengths[number] = length
        tasks[number] = tuple(checked_texts(found.get("tasks"), where=here))
        for name, value in found.items():
            if is_label(name) or name == success_key:
                labels.setdefault(name, {})[number] = value
    count = len(lengths)
    if not count:
        raise VlawError("the dataset has zero episodes", where=where, remedy="Record some, or give another dataset.")
    if count != info.episodes:
        raise VlawError(
            f"info.json counts {info.episodes} episodes, the episode index has {count}", where=where, remedy=BROKEN
        )
    numbers = np.arange(count)
    rows = np.array([lengths[number] for number in range(count)], np.int64)
    if rows.sum() != info.frames:
        raise VlawError(
            f"info.json counts {info.frames} frames, the episodes have {rows.sum()}", where=where, remedy=BROKEN
        )
    places = np.stack([numbers // max(info.chunks_size, 1), numbers], axis=1)
    clips = {key: Clips(places, np.zeros(count), rows / info.fps) for key in cameras}
    return EpisodeIndex(
        (EPISODES,),
        rows,
        [tasks[number] for number in range(count)],
        places,
        clips,
        {name: [values.get(number) for number in range(count)] for name, values in labels.items()},
    )


def _whole(found: dict[str, Any], key: str, least: int, where: str) -> int:
    value = found.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**40:
        raise VlawError(f"{key} is {shown(value)}", where=where, remedy=BROKEN)
    return value
