"""A lake with real and imagined episodes of a robot with three cameras, and a training set of both: for exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from factories import commit, episode
from recorded_dataset import ARM

from vlaw_assets.lake import Draft, Lake
from vlaw_models.episodes import Episode

SIZE = (48, 64)
PARTITION = "vlaw|01"
OUTCOMES = (True, False, True)
"""Of the real episodes; nobody judged the imagined ones."""
STEPS = (6, 4, 5)
SCORES = (0.95, 0.25)
WEIGHTS = {"real0": 1.0, "real2": 0.5, "imagined0": 2.0}
RECIPE = {"robot": ARM.identity()}


def frames(steps: int, seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(steps + 1, 3, h, w, 3): a slope of light with a block that moves, another colour for every camera."""
    height, width = size
    light = np.add.outer(np.linspace(20, 120, height), np.linspace(0, 80, width))
    out = np.empty((steps + 1, 3, height, width, 3), np.uint8)
    for step in range(steps + 1):
        for view in range(3):
            picture = np.repeat(light[..., None], 3, axis=2) * np.roll([1.0, 0.8, 0.6], view)
            place = 4 + (6 * step + 5 * seed) % (width - 20)
            picture[16:32, place : place + 16] = np.roll([220, 60, 30], view)
            out[step, view] = picture
    return out


def arm_episode(seed: int, steps: int, *, success: bool | None, **more: Any) -> Episode:
    """Of the robot `arm`: state (2,), action (3,), 5 Hz."""
    rng = np.random.default_rng(seed)
    return episode(
        "cups",
        seed,
        success=success,
        instruction=f"lift the cup, {seed % 2}",
        images=more.pop("images", frames(steps, seed)),
        states=rng.random((steps + 1, 2), np.float32),
        actions=rng.random((steps, 3), np.float32),
        cameras=ARM.camera_names,
        control_hz=ARM.control_hz,
        **more,
    )


def exported_lake(root: Path) -> tuple[Lake, dict[str, str]]:
    """The lake, and its episodes' ids by short names: real0 to real2, imagined0, imagined1."""
    lake, ids = Lake.open(root, create=True), {}

    def named(prefix: str, purpose: str, found: Sequence[Episode]) -> Callable[[Draft], None]:
        def write(draft: Draft) -> None:
            world = "world_model" if purpose == "imagined" else ARM.world
            for number, name in enumerate(draft.write_episodes(found, purpose=purpose, world=world)):
                ids[f"{prefix}{number}"] = name

        return write

    found = [arm_episode(i, n, success=s) for i, (n, s) in enumerate(zip(STEPS, OUTCOMES, strict=True))]
    real = commit(lake, "real_rollouts", PARTITION, write=named("real", "rollout", found), recipe=RECIPE)
    dreams = [arm_episode(10 + i, 4, success=None, start=ids[f"real{i}"]) for i in range(2)]
    imagined = commit(
        lake,
        "imagined_rollouts",
        PARTITION,
        {"starts": real},
        named("imagined", "imagined", dreams),
        recipe=RECIPE,
        rows=("starts",),
    )
    scores = [
        {"episode_id": ids[f"imagined{i}"], "owner": imagined.artifact_id, "judge": "judge", "p_success": p}
        for i, p in enumerate(SCORES)
    ]
    commit(
        lake,
        "reward_scores",
        PARTITION,
        {"imagined_rollouts": imagined},
        lambda draft: draft.write_scores(scores),
        rows=("imagined_rollouts",),
    )
    members = [
        {
            "episode_id": ids[name],
            "owner": (imagined if name.startswith("imagined") else real).artifact_id,
            "weight": weight,
            "source": "real_negative" if name == "real2" else "imagined" if name.startswith("imagined") else "real",
        }
        for name, weight in WEIGHTS.items()
    ]

    def members_of(draft: Draft) -> None:
        for ref, role in ((real, "real"), (imagined, "imagined")):
            draft.read(ref, role, by_row=True).episodes(frames=False)
        draft.write_members(members)

    commit(
        lake,
        "training_set",
        PARTITION,
        {"real": real, "imagined": imagined},
        members_of,
        reads=(),
        rows=("real", "imagined"),
    )
    return lake, ids
