"""What the ledger says of one artifact: its identity, its row, and the edges to what was read for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from vlaw_assets.lake.durable import canonical_json, digest_of
from vlaw_assets.lake.kept import Row
from vlaw_assets.lake.paths import partition_folder
from vlaw_assets.lake.schemas import ADDED, ARTIFACTS
from vlaw_assets.partitions import split_partition

PER_EPISODE = ("embeddings", "latents")
"""Keys of an artifact's versions that are Lance tables with something of every episode that it read by rows."""


@dataclass(frozen=True)
class Identity:
    """What determines an artifact's content: equal identities are computed once."""

    kind: str
    code: str
    """Digest of the code that makes it."""
    recipe: str
    """Canonical JSON of the recipe keys it reads, seed and iteration included."""
    parents: tuple[tuple[str, str], ...]
    """(role, content digest) of what it is made from; kept sorted."""
    excluded: tuple[str, ...] = ()
    """Ids of quarantined episodes that its parents hold: they are left out. Kept sorted."""
    labels: tuple[tuple[str, bool | None], ...] = ()
    """(episode id, success) where a person has said otherwise than its parents' rows: then this holds; None for one
    that is for world models alone. Kept sorted."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", tuple(sorted((role, digest) for role, digest in self.parents)))
        object.__setattr__(self, "excluded", tuple(sorted(set(self.excluded))))
        object.__setattr__(self, "labels", tuple(sorted(set(self.labels))))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex)."""
        parts = {"kind": self.kind, "code": self.code, "recipe": self.recipe, "parents": self.parents}
        changed = {"excluded": self.excluded, "labels": self.labels}
        return digest_of(parts | {name: value for name, value in changed.items() if value})

    @property
    def parents_digest(self) -> str:
        return digest_of(self.parents)

    @property
    def recipe_digest(self) -> str:
        return digest_of(self.recipe)


@dataclass(frozen=True)
class ArtifactRef:
    """One row of the ledger: a version of an asset's partition."""

    artifact_id: str
    asset: str
    partition: str
    """'experiment|iteration', or '' for the foundation."""
    kind: str
    content_digest: str
    code_digest: str
    recipe_digest: str
    parents_digest: str
    identity_digest: str
    source_artifact_id: str
    """The artifact this row points at when it was reused; '' when its data are its own."""
    location: str
    """Checkpoint folder relative to the lake, or ''."""
    versions: dict[str, Any] = field(repr=False)
    """Per table: {"version", "rows", "files": [{path, size, sha256}]}: the exact bytes this artifact consists of."""
    recipe_json: str = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)
    num_rows: int
    run_id: str
    created_at: datetime
    code_revision: str = ""
    contents_json: str = field(default="", repr=False)
    """Counts of what it holds (see `contents.py`); '' where they were not made."""

    @property
    def owner(self) -> str:
        """Id of the artifact whose rows hold the data."""
        return self.source_artifact_id or self.artifact_id

    @property
    def per_episode(self) -> bool:
        """Whether it holds something of every episode that it read by rows."""
        return any(kind in self.versions for kind in PER_EPISODE)

    @property
    def name(self) -> str:
        """'policy[vlaw|01]' or 'base_policy', for messages."""
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset

    def to_row(self) -> dict[str, Any]:
        """The row of the Delta table `artifacts`."""
        experiment, iteration = split_partition(self.partition)
        row = {name: getattr(self, name) for name in PLAIN}
        return row | {
            "partition_key": partition_folder(self.partition),
            "experiment": experiment,
            "iteration": iteration,
            "versions_json": self.versions_json if "_texts" in self.__dict__ else canonical_json(self.versions),
            "metrics_json": self.metrics_json if "_texts" in self.__dict__ else canonical_json(self.metrics),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ArtifactRef:
        """From a row of the table or of a log entry. Raises KeyError, TypeError or ValueError for one that is
        damaged."""
        versions, metrics = json.loads(row["versions_json"]), json.loads(row["metrics_json"])
        _check_files(versions)
        filled = {**row, **{name: value for name, value in ADDED["artifacts"].items() if row.get(name) is None}}
        return cls(versions=versions, metrics=metrics, **{name: filled[name] for name in PLAIN})

    @classmethod
    def from_kept(cls, row: Row) -> ArtifactRef:
        """From a row that `from_row` has taken before (kept.py): not checked again, its long texts not decoded yet."""
        ref = object.__new__(cls)
        ref.__dict__.update(zip(SHORT, row[0], strict=True))
        ref.__dict__["created_at"] = datetime.fromisoformat(ref.__dict__["created_at"])
        ref.__dict__["_texts"] = row[1]
        return ref

    def to_kept(self) -> tuple[list[Any], list[str]]:
        """The values of `SHORT` and of `LONG`."""
        row = self.to_row()
        return [value.isoformat() if isinstance(value := row[name], datetime) else value for name in SHORT], [
            row[name] for name in LONG
        ]

    def __getattr__(self, name: str) -> Any:
        """What `from_kept` has left as text, when it is first asked for."""
        texts = self.__dict__.get("_texts")
        if texts is None or name not in (*LONG, "versions", "metrics"):
            raise AttributeError(name)
        value = texts[LONG.index(name)] if name in LONG else json.loads(texts[LONG.index(f"{name}_json")])
        self.__dict__[name] = value
        return value


def _check_files(versions: dict[str, Any]) -> None:
    """KeyError or TypeError for versions that do not say of every file what it was: a damaged name of a key, say."""
    for entry in versions.values():
        _ = int(entry["version"]), int(entry["rows"])
        for file in (*entry["files"], *entry.get("log", ())):
            _ = file["path"] + file["sha256"], int(file["size"])


CHOSEN_BY = "state"
"""Role of the edge to the loop's state that chose an artifact's models. It is in no identity: what is made of a model
is the same, whoever chose it. So a pointer has edges of its own where it was chosen, or what it stands on was,
otherwise than its owner."""


PLAIN = tuple(name for name in ARTIFACTS.names if name in ArtifactRef.__dataclass_fields__)
"""Fields that are columns as they are."""
LONG = ("versions_json", "metrics_json", "recipe_json")
SHORT = tuple(name for name in PLAIN if name not in LONG)


@dataclass(frozen=True)
class Edge:
    """One read: the artifact that holds `parent`'s data was read while the child was made."""

    parent: str
    """Id of the artifact that holds the data."""
    role: str
    """What it was read for; `CHOSEN_BY` says that it was not read, but chose what was."""
    read_as: str
    """Id of the artifact it was asked for by: the parent, or a pointer to it."""
    scope: str
    """'rows' or 'whole', see `rules.SCOPES`."""
    selection: str
    """'all', 'members' or 'listed', see `rules.SELECTIONS`."""
    selection_id: str


EDGE = tuple(Edge.__dataclass_fields__)
