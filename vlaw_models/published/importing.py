"""`vlaw weights import`: from a published layout to checkpoint folders of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vlaw_models.errors import VlawError
from vlaw_models.published.cosmos import cosmos
from vlaw_models.published.diffusion import clip, ctrl_world, svd
from vlaw_models.published.judges import qwen3_vl
from vlaw_models.published.part import Options, Part
from vlaw_models.published.pi import pi0, pi05

KINDS: dict[str, Callable[[Path, Options], list[Part]]] = {
    "svd": svd,
    "ctrl-world": ctrl_world,
    "clip": clip,
    "cosmos": cosmos,
    "qwen3-vl": qwen3_vl,
    "pi0": pi0,
    "pi05": pi05,
}


def import_weights(kind: str, path: Path, out: Path, options: Options) -> dict[Path, Part]:
    """Writes `out`, or a folder below it for each model where a layout has several; returns what was written.

    Everything is read and checked before the first byte is written. Raises VlawError for an unknown kind, weights that
    are missing, damaged, a pickle or of another architecture (keys named), and for an `out` that is not empty.
    """
    if kind not in KINDS:
        raise VlawError(f"there is no layout {kind!r}", where="KIND", remedy=f"Give one of: {', '.join(KINDS)}.")
    path, out = path.expanduser(), out.expanduser()
    if not path.exists():
        raise VlawError("there is nothing to import", where=str(path), remedy="Give the published folder or file.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VlawError("there is something already", where=str(out), remedy="Give another folder as --out.")
    parts = KINDS[kind](path, options)
    folders = {out if len(parts) == 1 else out / part.key: part for part in parts}
    for folder, part in folders.items():
        part.write(folder, kind=kind)
    return folders
