"""What a robot's simulator can be reset to: the task and seed of episodes recorded on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlaw_assets.lake import Handle
    from vlaw_models.episodes import Start
    from vlaw_models.robots.spec import RobotSpec

RECORDED = "recorded"
"""Label source of imported episodes."""


def origins_in(handle: Handle, robot: RobotSpec) -> dict[str, Start]:
    """Episode id -> (task, seed) of an artifact's episodes of the robot's own simulator; recordings have no seed of
    its."""
    from vlaw_models.episodes import Start

    return {
        row["episode_id"]: Start(row["task"], row["seed"])
        for row in handle.table("episodes").to_pylist()
        if row["world"] == robot.world and row["label_source"] != RECORDED
    }
