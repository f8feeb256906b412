"""Where things lie inside a lake folder, and how partition keys become folder names. No input or output here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlaw_models.errors import VlawError

FORMAT_NAME, FORMAT_VERSION = "vlaw-lake", 3
FOUNDATION = "foundation"
"""Partition folder of assets that have no partition (an empty partition value would be read back as NULL by Delta)."""

_ODD = re.compile(r"[^A-Za-z0-9 _./=+,@()'-]")
"""Delta fails on '%'; Lance's tags make a percent-encoded twin of the folder for '#', '?' and letters beyond ASCII."""
_ASSET = re.compile(r"[A-Za-z0-9_]+")
_PARTITION = re.compile(r"([A-Za-z0-9_-]+)\|([0-9]+)")


def partition_folder(partition: str) -> str:
    """'vlaw|01' -> 'vlaw__01', '' -> 'foundation': the value of the column `partition_key`.

    Only [A-Za-z0-9_-]: other characters get percent-escaped in folder names, and then Delta's vacuum passes over them.
    Raises VlawError for anything else.
    """
    if partition == "":
        return FOUNDATION
    if not _PARTITION.fullmatch(partition):
        raise VlawError(
            f"partition {partition!r} is not of the form experiment|iteration",
            where="lake",
            remedy="use letters, digits, '_' and '-' for the experiment and digits for the iteration, as in 'vlaw|01'",
        )
    return partition.replace("|", "__")


def check_asset(asset: str) -> str:
    """The asset's name, if it can be a folder name. Raises VlawError otherwise."""
    if not _ASSET.fullmatch(asset):
        raise VlawError(
            f"asset name {asset!r} is not an identifier", where="lake", remedy="use letters, digits and '_'"
        )
    return asset


def lake_root(path: str | Path) -> Path:
    """The absolute folder of a lake. Raises VlawError for odd characters."""
    root = Path(path).expanduser().absolute()
    odd = sorted(set(_ODD.findall(str(root))))
    if odd:
        raise VlawError(
            f"the lake's path holds {' '.join(map(repr, odd))}, which Delta and Lance percent-encode",
            where=str(root),
            remedy="use a path of letters, digits, spaces and _ . - = + , @ ( ) '",
        )
    return root


@dataclass(frozen=True)
class Paths:
    """The folders of one lake."""

    root: Path

    @property
    def format(self) -> Path:
        return self.root / "FORMAT.json"

    @property
    def seal(self) -> Path:
        return self.root / "ledger.seal"

    @property
    def chain(self) -> Path:
        return self.root / "ledger.chain"

    @property
    def embeddings(self) -> Path:
        return self.root / "lance" / "embeddings"

    @property
    def latents(self) -> Path:
        return self.root / "lance" / "latents"

    @property
    def lance_tables(self) -> list[Path]:
        """All tables of Lance that there are."""
        return [self.frames, *sorted(self.embeddings.glob("*.lance")), *sorted(self.latents.glob("*.lance"))]

    def lance_table(self, kind: str, entry: Mapping[str, Any]) -> Path:
        """The table that an entry of the ledger is about; `kind` is its key."""
        return self.frames if kind == "frames" else self.root / "lance" / kind / f"{entry['table']}.lance"

    @property
    def frames(self) -> Path:
        return self.root / "lance" / "frames.lance"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def sessions(self) -> Path:
        """What was served: one folder each (serving/session.py). No artifact, and nothing that one is made from."""
        return self.root / "sessions"

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def collector_lock(self) -> Path:
        """The lease of whoever collects garbage or compacts: one at a time."""
        return self.locks / "gc.lock"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def imports(self) -> Path:
        """What imports have read and not committed yet: one folder each, by identity. Whoever holds the lock of that
        name may change it."""
        return self.root / "imports"

    @property
    def training(self) -> Path:
        """The states of trainings that are not committed yet: one folder each, by the identity of what is trained, so
        that it goes on where it was interrupted. Whoever has claimed the identity may change it."""
        return self.root / "training"

    def claim(self, identity_digest: str) -> Path:
        """The lock of whoever makes what has this identity. The digest's first digits: at most 4096 files, and a wait
        for a stranger is rare and harmless."""
        return self.locks / f"identity--{identity_digest[:3]}.lock"

    def lock_aside(self, folder: Path) -> Path:
        """The lock of what lies in a folder that is not committed: of drafts, of an import, of a training."""
        return self.claim(folder.name) if folder.parent == self.training else self.locks / f"{folder.name}.lock"

    def table(self, name: str) -> Path:
        return self.root / "delta" / name

    def lock(self, asset: str, partition: str) -> Path:
        return self.locks / f"{self.slot(asset, partition)}.lock"

    def drafts(self, asset: str, partition: str) -> Path:
        """Temporary folder of the drafts of one asset partition; whoever holds the partition's lock may clear it."""
        return self.temporary / self.slot(asset, partition)

    @staticmethod
    def slot(asset: str, partition: str) -> str:
        return f"{check_asset(asset)}--{partition_folder(partition)}"

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
