"""The two environment variables that say where the lake and the user's recipes are; nothing below the commands reads them.

A file of its own: commands that only look at the lake start twice as fast without Dagster, which definitions.py needs.
"""

from __future__ import annotations

import os


def default_lake() -> str:
    """VLAW_LAKE, or lake/ in the working directory."""
    return os.environ.get("VLAW_LAKE") or "lake"


def default_recipes() -> str | None:
    """VLAW_RECIPES, or None for the packaged recipes only."""
    return os.environ.get("VLAW_RECIPES") or None
