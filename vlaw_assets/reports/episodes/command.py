"""The command that shows the episodes of an artifact: what pages print beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Collection
from pathlib import Path
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


def file_name(title: str) -> str:
    """What the page of that title is called where nobody names a file: 'watch_policy_vlaw_02.html'."""
    return f"watch_{re.sub(r'[^A-Za-z0-9_-]+', '_', title).strip('_')[:60] or 'episodes'}.html"


def watch_note(ref: ArtifactRef, folder: Path) -> str:
    """A line of HTML for a page in `folder`: the command, and a link where it was given already; '' for an artifact
    without episodes."""
    command, name = watch_command(ref), file_name(ref.name)
    if command is None:
        return ""
    pages = [name, f"{Path(name).stem}/index.html"]
    there = next((page for page in pages if (folder / page).is_file()), "")
    link = f': <a href="{html.escape(there)}">{html.escape(there)}</a>' if there else ""
    return f'<p class="note">Watch them with <code>{html.escape(command)}</code>{link}</p>'


def watch_command(ref: ArtifactRef) -> str | None:
    """'vlaw watch policy vlaw 02'; None for an artifact that has no episodes to watch."""
    return command_of(ref.asset, ref.partition, ref.kind, ref.versions)


def command_of(asset: str, partition: str, kind: str, tables: Collection[str]) -> str | None:
    """As `watch_command`, of an artifact that is known by these."""
    if kind not in WATCHABLE and not any(name in tables for name in TABLES):
        return None
    experiment, iteration = split_partition(partition)
    return f"vlaw watch {asset}" + (f" {experiment} {iteration:02d}" if experiment else "")
