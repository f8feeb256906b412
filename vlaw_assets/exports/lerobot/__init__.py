"""Episodes as a LeRobot dataset v3.0: written beside the folder, and renamed when all of it is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.exports.lerobot import layout
from vlaw_assets.exports.lerobot.card import card
from vlaw_assets.exports.lerobot.episodes import WHERE, Export, read
from vlaw_assets.exports.lerobot.old_format import into_old
from vlaw_assets.exports.lerobot.writing import Writing
from vlaw_assets.lake import disk
from vlaw_assets.lake.durable import fsync_files
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

Tell = Callable[[int, int], None]
"""(frames written, of)."""


@dataclass(frozen=True)
class Sizes:
    """Bytes at which the next file is begun, as LeRobot has it."""

    data: int = 100 << 20
    video: int = 200 << 20


def check_target(folder: Path, lake: Lake) -> None:
    """VlawError for a folder inside the lake, and for a place where something is."""
    if folder.resolve().is_relative_to(lake.paths.root.resolve()):
        raise VlawError("a dataset does not belong inside the lake", where=str(folder), remedy="Name another folder.")
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir() or any(folder.iterdir())):
        raise VlawError("it exists, and is no empty folder", where=str(folder), remedy="Name another folder.")


def write_dataset(
    lake: Lake,
    export: Export,
    folder: Path,
    *,
    title: str,
    licence: str = "",
    redraw: bool = True,
    sizes: Sizes = Sizes(),
    tell: Tell | None = None,
) -> int:
    """Writes the dataset into a new folder, whole or not at all; returns its bytes.

    Args:
        title: what the card calls it.
        redraw: draw frames that were not kept again, where a simulator can.

    VlawError for a folder that is there, damaged data, an episode without all of its frames, and a full disk.
    """
    check_target(folder, lake)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        draft.mkdir(parents=True)
        _write(lake, export, draft, redraw=redraw, sizes=sizes, tell=tell)
        text = card(lake, export, title=title, licence=licence)
        (draft / layout.CARD).write_text(text, encoding="utf-8")
        if export.layout.storage == layout.LANCE:
            from vlaw_assets.exports.lerobot.lance_storage import into_lance

            into_lance(draft, export.layout)
        elif export.layout.storage == layout.OLD:
            into_old(draft)
        files = [path for path in sorted(draft.rglob("*")) if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        fsync_files(files, root=draft)
        draft.replace(folder)
        fsync_files([folder / layout.CARD], root=folder.parent)
    except VlawError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and disk.cause(error) is None:
            raise
        raise disk.failure(
            error, "the dataset cannot be written", where=str(folder), remedy="Name another folder."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return size


def _write(lake: Lake, export: Export, root: Path, *, redraw: bool, sizes: Sizes, tell: Tell | None) -> None:
    done = 0
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(export.layout.cameras)))
        most = Sizes(0, 0) if export.layout.files.apart else sizes
        writing = Writing(root, export.layout, data_bytes=most.data, video_bytes=most.video)
        stack.callback(writing.abandon)
        for facts, pictures in read(lake, export, redraw=redraw):
            writing.add(facts, pictures, pool)
            done += facts.frames
            if tell:
                tell(done, export.frames)
        writing.finish()
    tasks, stats = writing.tasks, writing.stats()
    info = {
        "codebase_version": export.layout.files.version,
        "fps": export.layout.fps,
        "features": export.layout.features(),
        "total_episodes": len(export.facts),
        "total_frames": export.frames,
        "total_tasks": len(tasks),
        "chunks_size": layout.CHUNK,
        "data_files_size_in_mb": max(1, sizes.data >> 20),
        "video_files_size_in_mb": max(1, sizes.video >> 20),
        "data_path": export.layout.files.data,
        "video_path": export.layout.files.videos,
        "robot_type": export.layout.robot_type,
        "splits": {"train": f"0:{len(export.facts)}"},
    }
    for name, value in ((layout.INFO, info), (layout.STATS, stats)):
        (root / name).write_text(json.dumps(value, indent=4, allow_nan=False), encoding="utf-8")


__all__ = ["WHERE", "Export", "Sizes", "check_target", "write_dataset"]
