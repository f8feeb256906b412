"""Single episodes of any artifacts, read without reading all that these artifacts hold.

A handle reads the tables of its artifact whole; this asks for the rows of a few episodes (lookup.py), so what it costs
goes with what is asked for. Every file that is read is known to be as it was recorded (verified.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.lake import frames
from vlaw_assets.lake.handles import episode_of
from vlaw_assets.lake.lookup import Lookup
from vlaw_assets.lake.schemas import EPISODES
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

Key = tuple[str, str]
"""(artifact that holds the episode, episode id)."""
_ROW = tuple(
    name for name in EPISODES.names if name not in ("asset", "partition_key", "experiment", "iteration", "created_at")
)
_STEP = ("artifact_id", "episode_id", "step", "timestamp", "state", "action", "reward")


@dataclass(frozen=True)
class Picked:
    """One episode, and what the lake says of it."""

    ref: ArtifactRef
    """The artifact that holds it."""
    row: dict[str, Any]
    """Its row of the table `episodes`."""
    episode: Episode
    rewards: tuple[float | None, ...]
    """Of each step; None where nobody judged."""

    @property
    def key(self) -> Key:
        return self.ref.artifact_id, self.episode.episode_id


def newest_holders(lake: Lake, ids: Collection[str]) -> dict[str, list[str]]:
    """Id -> the artifacts that hold an episode of this id, the one committed last first. VlawError for an unknown
    id."""
    refs = lake.ledger.artifacts()
    with Lookup(lake) as lookup:
        rows = lookup.rows("episodes", ids, refs, ["artifact_id", "episode_id"])
    place = {ref.artifact_id: number for number, ref in enumerate(refs)}
    found: dict[str, list[str]] = {}
    for artifact, name in sorted(rows, key=lambda row: -place[row[0]]):
        found.setdefault(name, []).append(artifact)
    unknown = sorted(set(ids) - found.keys())
    if unknown:
        raise VlawError(
            f"no artifact holds an episode {', '.join(map(repr, unknown[:3]))}{' ...' if unknown[3:] else ''}",
            where=str(lake.paths.root),
            remedy='Look it up: vlaw sql "select episode_id, task, purpose, success from episodes limit 20"',
        )
    return found


def pick(lake: Lake, keys: Collection[Key], *, images: bool = True) -> dict[Key, Picked]:
    """These episodes, in the order asked; without `images` they have none, (0, V, height, width, 3).

    Raises VlawError for one that is not there, and for a file that is gone or not as it was recorded.
    """
    holders = [lake.ledger.get(name) for name in dict.fromkeys(holder for holder, _ in keys)]
    ids = {name for _, name in keys}
    with Lookup(lake) as lookup:
        rows = {
            (row["artifact_id"], row["episode_id"]): row
            for values in lookup.rows("episodes", ids, holders, _ROW)
            for row in [dict(zip(_ROW, values, strict=True))]
        }
        steps: dict[Key, list[tuple[Any, ...]]] = {}
        for artifact, name, *values in lookup.rows("steps", ids, holders, _STEP):
            steps.setdefault((artifact, name), []).append(tuple(values))
    missing = [name for holder, name in keys if (holder, name) not in rows]
    if missing:
        raise VlawError(
            f"there is no episode {missing[0]!r} in that artifact",
            where=str(lake.paths.root),
            remedy="`vlaw audit --all --verify` names all damage",
        )
    drawn = frames_of(lake, [key for key in keys if rows[key]["num_frames"]]) if images else {}
    found = {}
    for key in keys:
        ordered = sorted(steps.get(key, ()))
        states, actions, rate = _arrays(ordered)
        rewards = tuple(step[4] for step in ordered[:-1])
        found[key] = Picked(
            lake.ledger.get(key[0]),
            rows[key],
            episode_of(rows[key], drawn.get(key), states, actions, rate),
            rewards,
        )
    return found


def _arrays(steps: Sequence[tuple[Any, ...]]) -> tuple[np.ndarray, np.ndarray, float]:
    """(states (T+1, D), actions (T, A), control_hz) of rows (step, timestamp, state, action, reward)."""
    if not steps:
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), 1.0
    states = np.array([state for _, _, state, _, _ in steps], np.float32)
    actions = np.array([action for _, _, _, action, _ in steps[:-1]], np.float32)
    # The last step's time is the longest known, so its rounding is the smallest.
    rate = round((len(steps) - 1) / steps[-1][1], 6) if len(steps) > 1 else 1.0
    return states, actions.reshape(len(steps) - 1, -1), rate


def frames_of(lake: Lake, keys: Collection[Key]) -> dict[Key, np.ndarray]:
    """The frames (T', V, h, w, 3) of those of these episodes that have any. Raises VlawError as `pick`."""
    found: dict[Key, np.ndarray] = {}
    for ref in [lake.ledger.get(name) for name in dict.fromkeys(holder for holder, _ in keys)]:
        entry, ids = ref.versions.get("frames"), [name for holder, name in keys if holder == ref.artifact_id]
        if entry is None or not ids:
            continue
        wrong = lake.verified.damage((ref, file) for file in entry["files"])
        if wrong:
            raise wrong
        found |= {(ref.artifact_id, name): images for name, images in frames.read(lake.paths, entry, ids).items()}
    return found
