"""What a page says of its episodes, as plain values: what the script in page.js reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.picking import Key, Picked, pick
from vlaw_assets.partitions import split_partition
from vlaw_assets.reports.episodes import around, clips
from vlaw_assets.reports.episodes.robots import numbers_of, robot_of

if TYPE_CHECKING:
    import numpy as np

    from vlaw_assets.lake import Lake

MOST_CLIPS = 180
"""Clips on a page of up to 60 episodes, with those beside them."""
MOST_BESIDE = 8
SHORT = 12
"""Characters of a digest."""
DIGITS = 5
FOUNDATION = "foundation"


@dataclass(frozen=True)
class Tile:
    """One place of the grid: an episode, or two of the same start."""

    keys: tuple[Key, ...]
    group: str = ""


@dataclass(frozen=True)
class Summary:
    """What stands above the grid."""

    lines: Sequence[str] = ()
    groups: Sequence[tuple[str, int]] = ()
    """(name, how many there are): a click shows them alone."""
    sides: Sequence[str] = ()
    """What the episodes of a tile are called, in order."""
    table: Sequence[Sequence[str]] = ()
    """Rows of text, the header first."""


@dataclass(frozen=True)
class Content:
    """All of a page."""

    data: dict[str, Any]
    clips: list[bytes] = field(repr=False)


def content(
    lake: Lake,
    tiles: Sequence[Tile],
    *,
    title: str,
    about: str,
    cut: str,
    command: str,
    summary: Summary | None = None,
    redraw: bool = True,
    tell: Callable[[int, int], None] | None = None,
) -> Content:
    """Reads the episodes of the tiles, and those that belong beside them. VlawError for damaged or missing data."""
    keys = dict.fromkeys(key for tile in tiles for key in tile.keys)
    shown = pick(lake, list(keys), images=False)
    each = min(MOST_BESIDE, max(1, MOST_CLIPS // max(1, len(shown)) - 1))
    others, reached = around.beside(lake, shown, each), around.reached(lake, shown.keys())
    like = around.alike(lake, shown)
    keys |= dict.fromkeys(item.key for found in (others, like) for listed in found.values() for item in listed)
    picked = pick(lake, list(keys), images=False)
    made = clips.clips_of(lake, picked, redraw=redraw, tell=tell)
    files = {key: clip.file for key, clip in made.items() if clip.file is not None}
    number = {key: place for place, key in enumerate(picked)}
    place_of = {key: place for place, key in enumerate(files)}
    scores = around.scores(lake, picked.keys())
    given = around.labelled(lake, {name for _, name in picked})
    apart = around.quarantined(lake, picked.keys())
    names: dict[str, Any] = {}
    episodes = []
    for key, item in picked.items():
        row = _plain(item) | {
            "clip": place_of.get(key),
            "frames": made[key].frames,
            "picture": made[key].said,
            "score": scores.get(key),
            "labels": [],
            "quarantined": apart.get(item.episode.episode_id),
            "reached": reached.get(key),
            "numbers": _numbers(item, names),
        }
        row |= given.get(item.episode.episode_id, {})
        row["beside"] = [
            {"episode": number[beside.key], "how": beside.how, "like": beside.distance is not None}
            for beside in (*others.get(key, ()), *like.get(key, ()))
            if beside.key in number
        ]
        episodes.append(row)
    summary = summary or Summary()
    data = {
        "title": title,
        "about": about,
        "cut": cut,
        "command": command,
        "labelling": None,
        "as_of": "" if lake.moment is None else str(lake.moment),
        "summary": {name: list(value) for name, value in vars(summary).items()},
        "tiles": [{"episodes": [number[key] for key in tile.keys], "group": tile.group} for tile in tiles],
        "episodes": episodes,
        "numbers": names,
    }
    return Content(data, list(files.values()))


def _plain(item: Picked) -> dict[str, Any]:
    row, episode = item.row, item.episode
    experiment, iteration = split_partition(item.ref.partition)
    outcome = "not judged" if episode.success is None else "success" if episode.success else "failure"
    return {
        "id": episode.episode_id,
        "artifact": item.ref.name,
        "artifact_id": item.ref.artifact_id,
        "partition": f"{experiment} {iteration:02d}" if experiment else FOUNDATION,
        "purpose": row["purpose"],
        "world": row["world"] or "",
        "task": episode.task,
        "instruction": episode.instruction,
        "outcome": outcome,
        "recorded": outcome if episode.event in ("", outcome) else f"{outcome}: {episode.event}",
        "event": episode.event,
        "label": row["label_source"],
        "seed": str(episode.seed),
        "start": episode.start_episode_id,
        "steps": episode.num_steps,
        "hz": episode.control_hz,
        "cameras": list(episode.cameras),
        "size": f"{row['width']}x{row['height']}",
        "policy": (row["policy"] or "")[:SHORT],
        "world_model": (row["world_model"] or "")[:SHORT],
        "extra": {str(name): str(value) for name, value in episode.extra.items()},
        "states": _rounded(episode.states),
        "actions": _rounded(episode.actions),
        "rewards": list(item.rewards) if any(value is not None for value in item.rewards) else [],
    }


def _numbers(item: Picked, names: dict[str, Any]) -> str:
    """The key in `names` under which the episode's numbers are named."""
    counts = [values.shape[1] for values in (item.episode.states, item.episode.actions)]
    key = f"{item.ref.artifact_id} {counts}"
    if key not in names:
        robot = robot_of(item.ref, item.row["world"] or "")
        pairs = zip(("state", "action"), counts, strict=True)
        names[key] = {which: numbers_of(robot, item.ref, which, count) for which, count in pairs}
    return key


def _rounded(values: np.ndarray) -> list[list[float]]:
    """As JSON has them: without digits that nobody sees, and without NaN."""
    return [[float(f"{value:.{DIGITS}g}") if math.isfinite(value) else 0.0 for value in row] for row in values.tolist()]


def of_keys(keys: Sequence[Key]) -> list[Tile]:
    """A tile for each episode."""
    return [Tile((key,)) for key in keys]
