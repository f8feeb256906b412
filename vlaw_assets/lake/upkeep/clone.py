"""A scratch lake that stands where a lake stood before one of its artifacts: what a replay writes into.

Files are linked, not copied, where the disk allows it: data files, log entries, frames and checkpoints never change
once they are written. What does change is copied (FORMAT.json) or made anew (the ledger's log, its seal); locks and
drafts are left behind. Frames, steps and checkpoints come along for the artifacts asked for only, so a stage that reads
anything else fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.lake import checkpoints, deltalog, replica, seal
from vlaw_assets.lake.paths import Paths
from vlaw_assets.lake.schemas import TABLES
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

PART = ("steps",)
"""Delta tables of which only the rows of the closure come along; the others are small, and lookups go across
artifacts."""
LOG = "_delta_log"


def clone(lake: Lake, target: Path, refs: Iterable[ArtifactRef]) -> Paths:
    """Copies a lake into the new folder `target`, with the frames, steps and checkpoints of `refs` only. `rewind` it
    before use.

    Raises VlawError if `target` exists and is not an empty folder, or cannot be written.
    """
    source, paths = lake.paths, Paths(target.absolute())
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise VlawError("the scratch folder is not empty", where=str(target), remedy="Name a new folder.")
        for folder in (paths.checkpoints, paths.temporary, paths.locks):
            folder.mkdir()
        refs = list(refs)
        if copy := replica.of(source.root):
            _fetch(copy, source, refs)
        for path in _wanted(source, refs):
            _link(path, paths.root / path.relative_to(source.root))
        for name in TABLES:
            if name != "artifacts" and (source.table(name) / LOG).is_dir():
                # Other names are temporary files of commits being made, or summaries that other tools wrote.
                for path in (source.table(name) / LOG).glob(deltalog.ENTRIES):
                    _link(path, paths.table(name) / LOG / path.name)
        shutil.copy2(source.format, paths.format)
    except OSError as error:
        raise VlawError(
            f"the scratch lake cannot be made: {error.strerror}",
            where=str(target),
            remedy="See that the disk has space, or name another folder with --keep.",
        ) from error
    return paths


def rewind(lake: Lake, paths: Paths, artifact_id: str) -> None:
    """Makes the ledger of the clone at `paths` end just before `artifact_id` was committed to `lake`.

    Whatever was written into the clone since stays as files that no ledger row names.
    """
    log = paths.table("artifacts") / LOG
    if log.exists():
        shutil.rmtree(log)
    log.mkdir(parents=True)
    for version, entry in enumerate(_entries_before(lake.paths, artifact_id)):
        _link(entry.path, deltalog.entry_path(paths.table("artifacts"), version))
    seal.start(paths)


def _entries_before(source: Paths, artifact_id: str) -> list[deltalog.Entry]:
    """Log entries of `artifacts` up to that commit; of later ones those that changed the table's form and no row.

    Rows written before a change of format are read with the columns that came with it.
    """
    kept, found = [], False
    for entry in deltalog.entries(source.table("artifacts")):
        found = found or entry.info.get("vlaw.artifact_id") == artifact_id
        if not found or not (entry.added or entry.removed):
            kept.append(entry)
    if not found:
        raise VlawError(
            f"no commit of artifact {artifact_id!r} in the ledger's log",
            where=str(source.table("artifacts")),
            remedy="Verify the lake: vlaw audit ... --verify.",
        )
    return kept


def _fetch(copy: replica.Replica, source: Paths, refs: list[ArtifactRef]) -> None:
    """Of a lake in a bucket: have here what `_wanted` and the logs are. Raises VlawError for what is not as
    recorded."""
    entries = [entry for ref in refs for entry in ref.versions.values()]
    files = {file["path"]: file for entry in entries for file in (*entry["files"], *entry.get("log", ()))}
    problems = copy.problems(source.root, list(files.values()), deep=True)
    for location in sorted({ref.location for ref in refs} - {""}):
        problems += [f"{location}/{line}" for line in checkpoints.problems(source.root / location)]
    if problems:
        raise VlawError(
            f"{len(problems)} files are missing or changed: {', '.join(problems[:3])}",
            where=copy.bucket.address,
            remedy="See vlaw audit ... --verify; restore them from a copy.",
        )
    small = (*(f"delta/{name}/" for name in set(TABLES) - set(PART)), *(f"delta/{name}/{LOG}/" for name in PART))
    frames = tuple(f"{source.relative(source.frames)}/{name}/" for name in ("_versions", "_transactions", "_refs"))
    copy.pull_all(lambda item, path: item.name.startswith((*small, *frames)) and not path.exists())


def _wanted(source: Paths, refs: list[ArtifactRef]) -> list[Path]:
    """The files of the artifacts, the other tables, and the bookkeeping of Lance."""
    files = {source.root / file["path"] for ref in refs for entry in ref.versions.values() for file in entry["files"]}
    for name in set(TABLES) - set(PART):
        files |= {path for path in source.table(name).rglob("*.parquet") if LOG not in path.parts}
    for folder in ("_versions", "_transactions", "_refs"):
        files |= {path for path in (source.frames / folder).rglob("*") if path.is_file()}
    for ref in refs:
        if ref.location:
            files |= {path for path in (source.root / ref.location).rglob("*") if path.is_file()}
    missing = sorted(source.relative(path) for path in files if not path.is_file())
    if missing:
        raise VlawError(
            f"{len(missing)} files are missing: {', '.join(missing[:3])}",
            where=str(source.root),
            remedy="See vlaw audit ... --verify; restore them from a copy.",
        )
    return sorted(files)


def _link(path: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where that is not possible (another disk, a file system without
    links)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(path, target)
