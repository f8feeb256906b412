"""Pictures of artifacts, for people: `pictures/<sha256>.png`, kept beside the data and named by ledger rows.

No data: they are drawn from it, and are in no content digest. The row's metrics name them ({"pictures": {title:
sha256}}), so whoever points at an artifact has its pictures too; what no row names is for the collector (garbage.py).
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake import checkpoints
from vlaw_assets.lake.durable import fsync_path, sha256_file
from vlaw_assets.lake.paths import Paths

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

METRIC, ORDER = "pictures", "pictures_in_order"
"""Keys of a row's metrics: title -> sha256, and the titles as they were kept (JSON of the ledger sorts keys)."""


def store(paths: Paths, png: bytes) -> str:
    """Keep a picture, durably. Returns its sha256. One that is there already is kept if it is whole."""
    digest = hashlib.sha256(png).hexdigest()
    target = path_of(paths, digest)
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(f".{digest}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(png)
        fsync_path(temporary)
        with checkpoints.exclusive(paths.checkpoints):
            if problem(paths, digest):
                temporary.replace(target)
            os.utime(target)  # as young as this draft, so that no collector takes it for an old leftover
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(target.parent)
    fsync_path(paths.root)
    return digest


def path_of(paths: Paths, digest: str) -> Path:
    return paths.pictures / f"{digest}.png"


def named(ref: ArtifactRef) -> dict[str, str]:
    """Title -> sha256 of an artifact's pictures, in the order in which they were kept."""
    found = ref.metrics.get(METRIC)
    if not isinstance(found, dict):
        return {}
    ordered = [title for title in ref.metrics.get(ORDER, ()) if title in found]
    return {title: found[title] for title in [*ordered, *found]}


def problem(paths: Paths, digest: str) -> str:
    """What is wrong with a stored picture; '' if it is as it was stored."""
    path = path_of(paths, digest)
    if not path.is_file():
        return "missing"
    return "" if sha256_file(path) == digest else "content changed (sha256 differs)"
