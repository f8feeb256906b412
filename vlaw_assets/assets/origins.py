"""What the embedded simulator can be reset to: the task and seed of episodes recorded on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlaw_assets.lake import Handle
    from vlaw_models.episodes import Start

EMBEDDED = "tabletop"
"""World of the episodes that the embedded simulator can be reset to: by task and seed."""


def origins_in(handle: Handle) -> dict[str, Start]:
    """Episode id -> (task, seed) of an artifact's episodes of the embedded robot; imported ones have no simulator
    seed."""
    from vlaw_models.episodes import Start

    return {
        row["episode_id"]: Start(row["task"], row["seed"])
        for row in handle.table("episodes").to_pylist()
        if row["world"] == EMBEDDED
    }
