"""Lakes that many tests begin with: made once in a process, then copied."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories

from vlaw_assets.lake import ArtifactRef, Lake

_kept = tempfile.TemporaryDirectory(prefix="begun-", ignore_cleanup_errors=True)


def begin(lake: Lake, name: str, make: Callable[[], object]) -> None:
    """Fills an empty lake: the first of this name by `make`, later ones with the same bytes."""
    root, kept = lake.paths.root, Path(_kept.name) / name
    if not kept.exists():
        make()
        shutil.copytree(root, kept)
        return
    for entry in root.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(kept, root, dirs_exist_ok=True)
    lake.__init__(lake.paths)  # what it knew of the empty lake is gone


def commit_all(lake: Lake, **options: Any) -> ArtifactRef:
    """`factories.commit_all`, for those to whom it is not what is tested."""
    if options or lake.ledger.artifacts():
        return factories.commit_all(lake, **options)
    begin(lake, "all", lambda: factories.commit_all(lake))
    return lake.ledger.require("all", factories.PARTITION)
