"""What artifacts have for people: pictures and pages, `pictures/<sha256>.png` and `.html`, kept beside the data and
named by ledger rows.

No data: they are drawn from it, and are in no content digest. The row's metrics name them ({"pictures": {title:
sha256}}, "pages" likewise), so whoever points at an artifact has them too; what no row names is for the collector
(garbage.py).
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake import checkpoints, replica
from vlaw_assets.lake.durable import fsync_path, sha256_file
from vlaw_assets.lake.paths import Paths

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef

METRIC, ORDER = "pictures", "pictures_in_order"
"""Keys of a row's metrics: title -> sha256, and the titles as they were kept (JSON of the ledger sorts keys)."""
PAGES = "pages"
"""Key of a row's metrics: title -> sha256 of its pages."""
PNG, PAGE = "png", "html"
"""Endings of their files."""


def store(paths: Paths, file: bytes, kind: str = PNG) -> str:
    """Keep a picture or a page, durably. Returns its sha256. One that is there already is kept if it is whole."""
    digest = hashlib.sha256(file).hexdigest()
    target = path_of(paths, digest, kind)
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_name(f".{digest}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(file)
        fsync_path(temporary)
        with checkpoints.exclusive(paths.checkpoints):
            if problem(target):
                temporary.replace(target)
            if copy := replica.of(target):
                copy.bucket.put(copy.name(target), target)  # each time: so it is young
            os.utime(target)  # as young as this draft, so that no collector takes it for an old leftover
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(target.parent)
    fsync_path(paths.root)
    return digest


def path_of(paths: Paths, digest: str, kind: str = PNG) -> Path:
    return paths.pictures / f"{digest}.{kind}"


def named(ref: ArtifactRef) -> dict[str, str]:
    """Title -> sha256 of an artifact's pictures, in the order in which they were kept."""
    found = ref.metrics.get(METRIC)
    if not isinstance(found, dict):
        return {}
    ordered = [title for title in ref.metrics.get(ORDER, ()) if title in found]
    return {title: found[title] for title in [*ordered, *found]}


def pages(ref: ArtifactRef) -> dict[str, str]:
    """Title -> sha256 of an artifact's pages."""
    found = ref.metrics.get(PAGES)
    return dict(found) if isinstance(found, dict) else {}


def files(paths: Paths, ref: ArtifactRef) -> list[Path]:
    """The files of an artifact's pictures and pages, each once."""
    found = [path_of(paths, digest) for digest in named(ref).values()]
    found += [path_of(paths, digest, PAGE) for digest in pages(ref).values()]
    return list(dict.fromkeys(found))


def problem(path: Path) -> str:
    """What is wrong with a file that was stored; '' if it is as it was stored: its name says all of its bytes."""
    if copy := replica.of(path):
        copy.want(path)
    if not path.is_file():
        return "missing"
    return "" if sha256_file(path) == path.stem else "content changed (sha256 differs)"
