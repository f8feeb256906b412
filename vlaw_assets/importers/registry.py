"""The importers that there are, those shipped here and those of installed packages; importing a dataset by one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_assets.importers.description import Options
from vlaw_models.errors import VlawError
from vlaw_models.registry import Registry

if TYPE_CHECKING:
    from vlaw_assets.importers.base import Recordings
    from vlaw_assets.lake import ArtifactRef, Lake

IMPORTERS = Registry(
    "importer",
    "vlaw.importers",
    {
        "lerobot": "vlaw_assets.importers.lerobot:open_recordings",
        "droid": "vlaw_assets.importers.droid:open_recordings",
        "ctrl-world": "vlaw_assets.importers.ctrl_world:open_recordings",
    },
)
"""Name of a format -> function, see base.py."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
COMMIT = "vlaw_assets.importers.commit"
"""The module whose code is part of every import, besides the importer's."""


def open_recordings(importer: str, path: Path | str, options: Options) -> Recordings:
    """A dataset whose metadata were read. Raises VlawError for an unknown format and for what is wrong with them."""
    recordings: Recordings = IMPORTERS.load(importer, where="import")(Path(path), options)
    if options.latents_of and recordings.latents is None:
        raise VlawError(
            f"no latents are read from the format {importer!r}",
            where="import, latents_of",
            remedy="Leave it out: frames are encoded by whatever autoencoder is used.",
        )
    return recordings


def code_of(importer: str) -> str:
    """Digest of the code that reads and commits recordings of a format."""
    from vlaw_assets.pipeline.code_identity import code_digest

    return code_digest(IMPORTERS.entry(importer, where="import").module, COMMIT)


def name_for(path: Path, name: str = "") -> str:
    """The dataset's name in a lake: as given, else by its folder. Raises VlawError where that cannot be one."""
    folder = path.expanduser().resolve().name
    found = name or re.sub(r"[^A-Za-z0-9_-]", "_", folder)
    if not NAME.fullmatch(found) or not (name or folder.isascii()):
        what = repr(name) if name else f"the folder's name {folder!r}"
        raise VlawError(
            f"{what} cannot name a dataset",
            where=str(path),
            remedy="Give a name (--name) of letters a to z, digits, '_' and '-', at most 63, as in --name kitchen_1.",
        )
    return found


def import_recordings(
    lake: Lake, importer: str, path: Path | str, options: Options, *, name: str, run_id: str, force: bool = False
) -> ArtifactRef:
    """Opens a dataset and commits it (see `commit_recordings`). Raises VlawError before anything is committed."""
    from vlaw_assets.importers.commit import commit_recordings

    name = name_for(Path(path), name)
    recordings = open_recordings(importer, path, options)
    return commit_recordings(lake, recordings, options, code=code_of(importer), name=name, run_id=run_id, force=force)
