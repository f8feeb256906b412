"""Content-addressed checkpoints: `checkpoints/<sha256>/` with a manifest of every file in it.

The folder's name is the digest of its manifest and the manifest holds the digest of every file, so a checkpoint
proves itself: no other record is needed to tell whether it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from vlaw_assets.lake import disk, replica
from vlaw_assets.lake.durable import (
    FileLock,
    as_written,
    digest_of,
    file_problems,
    fsync_files,
    fsync_path,
    sha256_file,
    write_json,
)
from vlaw_models.errors import VlawError

MANIFEST = "MANIFEST.json"
LOCK_S = 60.0
PICKLES = {".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"}
"""Formats that run code when loaded. Only safetensors and JSON go into a lake."""


def manifest_of(folder: Path) -> dict[str, dict[str, Any]]:
    """{relative path: {"sha256", "size"}} of all files below `folder`. Raises VlawError for pickles and links."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise VlawError("a checkpoint may not hold links", where=f"{folder}/{name}", remedy="copy the file instead")
        if path.is_dir() or name == MANIFEST:
            continue
        if path.suffix in PICKLES:
            raise VlawError("a checkpoint may not hold pickles", where=f"{folder}/{name}", remedy="save as safetensors")
        files[name] = {"sha256": sha256_file(path), "size": path.stat().st_size}
    return files


def store(draft: Path, checkpoints: Path) -> str:
    """Move a finished draft folder to `checkpoints/<sha256>/`, durably. Returns the sha256.

    The same content already there is kept if it is whole and replaced if it is damaged.
    """
    files = manifest_of(draft)
    if not files:
        raise VlawError("the checkpoint folder is empty", where=str(draft), remedy="write the model's files into it")
    digest = digest_of(files)
    write_json(draft / MANIFEST, {"digest": digest, "files": files})
    fsync_files([draft / name for name in files], root=draft)
    target = checkpoints / digest
    if copy := replica.of(checkpoints):
        with exclusive(checkpoints):
            if target.exists():
                target.rename(draft.with_name(f"{draft.name}.before"))  # a copy: whole or not
            draft.rename(target)
            copy.publish_folder(target)
        return digest
    with exclusive(checkpoints):
        if not target.exists():
            draft.rename(target)
            fsync_path(checkpoints)
            return digest
        os.utime(target)  # as young as this draft, so that no collector takes it for an old leftover
    if not problems(target):
        shutil.rmtree(draft)
        return digest
    with exclusive(checkpoints):
        target.rename(draft.with_name(f"{draft.name}.damaged"))  # the draft's temporary folder is cleared at its end
        draft.rename(target)
        fsync_path(checkpoints)
    return digest


def exclusive(checkpoints: Path) -> AbstractContextManager[None]:
    """For the moment in which a checkpoint is moved in, found to be there already, or collected."""
    lock = FileLock(checkpoints.parent / "locks" / "checkpoints.lock")
    return lock.hold("checkpoints", wait_s=LOCK_S, remedy="stop it, and run this again")


def listed(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What belongs to a stored checkpoint, without reading it: the files of its manifest, each {path, size, sha256},
    and what is wrong with the manifest and the folder's list of files, one line each."""
    if copy := replica.of(folder):
        copy.list_folder(folder)
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        recorded = json.loads(text)["files"]
        files = [
            {"path": name, "sha256": entry["sha256"], "size": entry["size"]} for name, entry in sorted(recorded.items())
        ]
    except FileNotFoundError:
        return [], [f"{MANIFEST}: missing" if folder.is_dir() else "the folder is missing"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        disk.refuse_if_out_of_files(error)
        return [], [f"{MANIFEST}: unreadable ({type(error).__name__})"]
    found = []
    if digest_of(recorded) != folder.name or text != as_written({"digest": folder.name, "files": recorded}):
        found.append(f"{MANIFEST}: does not match the folder's name")
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    return files, [
        *found,
        *(f"{name}: not part of the checkpoint" for name in sorted(here - set(recorded) - {MANIFEST})),
    ]


def is_there(folder: Path) -> bool:
    """Whether a checkpoint is stored, whole or not."""
    return copy.is_there(folder) if (copy := replica.of(folder)) else folder.is_dir()


def problems(folder: Path) -> list[str]:
    """What is wrong with a stored checkpoint, one line per file; empty when every byte is as it was stored."""
    files, found = listed(folder)
    return [*found, *file_problems(folder, files)]


def verified(folder: Path) -> Path:
    """`folder`, after re-hashing every file. Raises VlawError naming the files that are missing or changed."""
    found = problems(folder)
    if found:
        raise VlawError(
            f"checkpoint is damaged: {'; '.join(found)}",
            where=str(folder),
            remedy="restore the files, or materialize the asset that made it again with force",
        )
    return folder
