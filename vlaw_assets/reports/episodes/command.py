"""The command that shows the episodes of an artifact: what pages print beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlaw_assets.partitions import split_partition

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

LIMIT = 60
"""Episodes on one page, where nobody asks for more."""
WATCHABLE = frozenset({"policy", "world_model", "reward_model"})
"""Kinds of models that have episodes which show what they do."""
TABLES = ("episodes", "members", "reward_scores")
"""Tables whose rows are, or name, episodes."""


def watch_command(ref: ArtifactRef) -> str | None:
    """'vlaw watch policy vlaw 02'; None for an artifact that has no episodes to watch."""
    if ref.kind not in WATCHABLE and not any(name in ref.versions for name in TABLES):
        return None
    experiment, iteration = split_partition(ref.partition)
    return f"vlaw watch {ref.asset}" + (f" {experiment} {iteration:02d}" if experiment else "")
