"""The environment variables that say where the lake, the user's recipes and the inbox are, and where heavy parts run;
nothing below the commands reads them.

A file of its own: commands that only look at the lake start twice as fast without Dagster, which definitions.py needs.
"""

from __future__ import annotations

import os
from pathlib import Path

from vlaw_assets.local_folder import check_local, is_bucket


def default_lake() -> str:
    """VLAW_LAKE, or lake/ in the working directory; of a lake in a bucket the folder that has copies of it, which opens
    it. Raises VlawError where that is another address such as gs://bucket/lake."""
    path = given_lake()
    check_local(path, bucket=True)
    if is_bucket(path):
        from vlaw_assets.lake import replica_of

        copy = replica_of(path)
        return str(copy.root) if copy else path
    return path


def given_lake() -> str:
    """As `default_lake`, whatever it is: for code that must load before anything can be refused."""
    return os.environ.get("VLAW_LAKE") or "lake"


def default_recipes() -> str | None:
    """VLAW_RECIPES, or None for the packaged recipes only."""
    return os.environ.get("VLAW_RECIPES") or None


def given_inbox() -> str | None:
    """VLAW_INBOX, or None for `inbox/` in the lake's folder."""
    return os.environ.get("VLAW_INBOX") or None


def given_engine() -> str:
    """VLAW_ENGINE, or '' for the process of a run."""
    return os.environ.get("VLAW_ENGINE") or ""


def recipes_folder() -> Path | None:
    """`default_recipes` as a path."""
    return Path(path) if (path := default_recipes()) else None
