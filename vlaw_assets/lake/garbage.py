"""What lies in a lake without a ledger row that needs it: leftovers of killed and failed runs. Finding only.

Nothing here deletes. Leftover rows are in no view and in no read, so garbage costs space and nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake.schemas import TABLES

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

DAY_S = 86400.0


@dataclass(frozen=True)
class Garbage:
    """A file or folder that no ledger row names."""

    path: Path
    size: int
    """Bytes."""


def find_garbage(lake: Lake, *, older_than_s: float = DAY_S) -> list[Garbage]:
    """Data files, frames and checkpoints that no artifact consists of.

    Args:
        older_than_s: leave out what changed since; it may belong to a run that has not committed yet.
    """
    needed: set[Path] = set()
    for ref in lake.ledger.artifacts():
        needed |= {lake.paths.root / file["path"] for entry in ref.versions.values() for file in entry["files"]}
        if ref.location:
            needed.add(lake.paths.root / ref.location)
    found = [path for name in TABLES if name != "artifacts" for path in lake.paths.table(name).rglob("*.parquet")]
    found += (lake.paths.frames / "data").glob("*.lance")
    found += lake.paths.checkpoints.iterdir()
    limit = time.time() - older_than_s
    return [
        Garbage(path, _size(path))
        for path in sorted(found)
        if path not in needed and "_delta_log" not in path.parts and path.stat().st_mtime <= limit
    ]


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(file.stat().st_size for file in files)
