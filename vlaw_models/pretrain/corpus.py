"""The pretraining corpus: a broad collection of mixed-quality episodes, kept in flat arrays on disk.

One folder per corpus: `images.npy` (N, T+1, V, h, w, 3) uint8, `states.npy`, `actions.npy`,
`points.npy` (N, T+1, V, P, 2) float32 (Simulator.demonstrator; imagined episodes have none) and `episodes.json`. Loaded
memory-mapped, so several learners share one copy. It is working data of `vlaw pretrain`, not an artifact of the lake.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from vlaw_models.episodes import Episode

POINTS = "points"
_PLAIN = ("task", "instruction", "seed", "success", "event", "cameras", "control_hz")


def save_corpus(folder: Path, episodes: Iterable[Episode], count: int) -> None:
    """Writes `count` episodes of equal length as they come; a large corpus never is in memory as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    images, states, actions, points, rows = None, [], [], [], []
    for index, episode in enumerate(episodes):
        if images is None:
            images = np.lib.format.open_memmap(
                folder / "images.npy", mode="w+", dtype=np.uint8, shape=(count, *episode.images.shape)
            )
        images[index] = episode.images
        states.append(episode.states)
        actions.append(episode.actions)
        if POINTS in episode.extra:
            points.append(episode.extra[POINTS])
        rows.append({name: getattr(episode, name) for name in _PLAIN})
    if images is not None:
        images.flush()
    np.save(folder / "states.npy", np.stack(states))
    np.save(folder / "actions.npy", np.stack(actions))
    if points:
        np.save(folder / "points.npy", np.stack(points))
    (folder / "episodes.json").write_text(json.dumps(rows))  # last: its presence marks a complete corpus


def load_corpus(folder: Path) -> list[Episode]:
    """The episodes of a folder; pictures stay on disk until they are touched."""
    rows = json.loads((folder / "episodes.json").read_text())
    images = np.load(folder / "images.npy", mmap_mode="r")
    states, actions = (np.load(folder / f"{name}.npy") for name in ("states", "actions"))
    points = np.load(folder / "points.npy") if (folder / "points.npy").exists() else None
    return [
        Episode(
            images=images[i],
            states=states[i],
            actions=actions[i],
            extra={} if points is None else {POINTS: points[i]},
            **{**row, "cameras": tuple(row["cameras"])},
        )
        for i, row in enumerate(rows)
    ]


def cached_corpus(folder: Path, make: Callable[[], Iterable[Episode]], *, count: int) -> list[Episode]:
    """The corpus in `folder`, made first where it is not there yet (pretraining resumes after an interruption)."""
    if not (folder / "episodes.json").exists():
        save_corpus(folder, make(), count)
    return load_corpus(folder)
