"""A package that somebody else wrote, as pip would leave it: modules, and a dist-info folder with entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, package: str, files: Mapping[str, str], entries: Mapping[str, Mapping[str, str]]) -> None:
    """Writes `files` (path in `folder` -> text) and the entry points of a distribution: group -> name -> target."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in named.items())
            for group, named in entries.items()
        )
    )
