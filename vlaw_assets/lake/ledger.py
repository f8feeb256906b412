"""The ledger: which artifacts exist, what they were made from, and where their data lies.

Append-only. A row of `artifacts` is the one thing that makes data exist; everything is resolved through it and nothing
is ever looked up by "latest version of a table". Order is commit order (the Delta version), never a clock.

Rows are read from the log entries that committed them, which carry them beside the Parquet file that other readers of
the table use: a compaction of the tables changes neither rows nor order, and opening reads no Parquet file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import deltalog, seal
from vlaw_assets.lake.durable import canonical_json, digest_of
from vlaw_assets.lake.paths import partition_key, split_partition
from vlaw_assets.lake.schemas import ADDED, ARTIFACTS, validated
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake.tables import Tables


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", tuple(sorted((role, digest) for role, digest in self.parents)))
        object.__setattr__(self, "excluded", tuple(sorted(set(self.excluded))))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex)."""
        parts = {"kind": self.kind, "code": self.code, "recipe": self.recipe, "parents": self.parents}
        return digest_of(parts | ({"excluded": self.excluded} if self.excluded else {}))

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
    def name(self) -> str:
        """'policy[vlaw|01]' or 'base_policy', for messages."""
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset

    def to_row(self) -> dict[str, Any]:
        """The row of the Delta table `artifacts`."""
        experiment, iteration = split_partition(self.partition)
        row = {name: getattr(self, name) for name in ARTIFACTS.names if hasattr(self, name)}
        return row | {
            "partition_key": partition_key(self.partition),
            "experiment": experiment,
            "iteration": iteration,
            "versions_json": canonical_json(self.versions),
            "metrics_json": canonical_json(self.metrics),
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> ArtifactRef:
        """From a row of the table or of a log entry. Raises KeyError, TypeError or ValueError for one that is damaged."""
        versions, metrics = json.loads(row["versions_json"]), json.loads(row["metrics_json"])
        names = set(cls.__dataclass_fields__) - {"versions", "metrics"}
        filled = row | {name: value for name, value in ADDED["artifacts"].items() if row.get(name) is None}
        return cls(versions=versions, metrics=metrics, **{name: filled[name] for name in names})


@dataclass(frozen=True)
class Edge:
    """One read: the artifact that holds `parent`'s data was read while the child was made."""

    parent: str
    """Id of the artifact that holds the data."""
    role: str
    read_as: str
    """Id of the artifact it was asked for by: the parent, or a pointer to it."""
    scope: str
    """'rows' or 'whole', see `schemas.SCOPES`."""
    selection: str
    """'all', 'members' or 'listed', see `schemas.SELECTIONS`."""
    selection_id: str


class Ledger:
    """Reads the ledger of one lake. Each call sees what is committed by then; rows once read are kept."""

    def __init__(self, tables: Tables, where: Path, *, sealed: bool = True):
        """`sealed=False`: a ledger without a seal, or with a broken one, that is being migrated or accepted as it is."""
        self._tables, self._where = tables, where
        self._seal = seal.Watch(tables.paths) if sealed else None
        self._version = -1
        self._frozen = False
        self._rows: dict[str, ArtifactRef] = {}
        self._sequence: dict[str, int] = {}
        self._current: dict[tuple[str, str], ArtifactRef] = {}
        self._made: dict[str, ArtifactRef] = {}
        self._edges: dict[str, tuple[Edge, ...]] = {}

    def artifacts(self) -> list[ArtifactRef]:
        """Every artifact in commit order, superseded ones and pointers included."""
        self._refresh()
        return list(self._rows.values())

    def sequence(self, artifact_id: str) -> int:
        """The place of an artifact in commit order, from 0. Raises VlawError if the ledger has none of that id."""
        return self._sequence[self.get(artifact_id).artifact_id]

    def until(self, sequence: int) -> Ledger:
        """The ledger as it was right after the artifact at that place; it stays so, whatever is committed."""
        past = Ledger(self._tables, self._where)
        for ref in self.artifacts()[: sequence + 1]:
            past._add(ref)
        past._edges, past._frozen = self._edges, True
        return past

    def find(self, identity: Identity) -> ArtifactRef | None:
        """The newest artifact of this identity that holds its own data (never a pointer)."""
        self._refresh()
        return self._made.get(identity.digest)

    def current(self, asset: str, partition: str = "") -> ArtifactRef | None:
        """The version of an asset partition that was committed last."""
        self._refresh()
        return self._current.get((asset, partition))

    def require(self, asset: str, partition: str = "") -> ArtifactRef:
        """Like `current`. Raises VlawError saying what to materialize if there is none."""
        ref = self.current(asset, partition)
        if ref is None:
            name = f"{asset}[{partition}]" if partition else asset
            what = f"asset {asset}, partition {partition}" if partition else f"asset {asset}"
            raise VlawError(f"{name} is not in the ledger", where=str(self._where), remedy=f"materialize {what} first")
        return ref

    def get(self, artifact_id: str) -> ArtifactRef:
        """The artifact of that id. Raises VlawError if the ledger has none."""
        ref = self._rows.get(artifact_id)
        if ref is None:
            self._refresh()
            ref = self._rows.get(artifact_id)
        if ref is None:
            raise VlawError(
                f"no artifact {artifact_id!r} in the ledger", where=str(self._where), remedy="look it up in `artifacts`"
            )
        return ref

    def newest_version(self, table: str) -> int:
        """The newest version of a Delta table that an artifact stands on: its number is given to nobody again; -1 for none."""
        return max((ref.versions[table]["version"] for ref in self.artifacts() if table in ref.versions), default=-1)

    def edge_rows(self, artifact_id: str) -> tuple[Edge, ...]:
        """What was read while making it; a pointer has its owner's. Edges of all artifacts are read at once, and kept."""
        owner = self.get(artifact_id).owner
        if owner not in self._edges:
            self._load_edges()
        return self._edges[owner]

    def edges(self, artifact_id: str) -> list[tuple[str, ArtifactRef]]:
        """(role, parent) of what was read while making it; parents are owners of data. A pointer has its owner's."""
        return [(edge.role, self.get(edge.parent)) for edge in self.edge_rows(artifact_id)]

    def closure(self, ref: ArtifactRef) -> list[ArtifactRef]:
        """Everything `ref` stands on, each artifact once, parents before children; its owner comes last."""
        ordered: dict[str, ArtifactRef] = {}
        stack = [(self.get(ref.owner), False)]
        while stack:
            item, expanded = stack.pop()
            if item.artifact_id in ordered:
                continue
            if expanded:
                ordered[item.artifact_id] = item
                continue
            stack.append((item, True))
            stack += [(parent, False) for _, parent in reversed(self.edges(item.artifact_id))]
        return list(ordered.values())

    def append(self, ref: ArtifactRef) -> ArtifactRef:
        """Commit one row, durably, and extend the seal over it. Returns the row as the ledger has it.

        Raises OSError or DeltaError when it was not committed; VlawError when the row is not sound or the seal broken.
        """
        from deltalake.exceptions import DeltaError

        row = validated("artifacts", [ref.to_row()], where=ref.name)
        sealed = seal.check(self._tables.paths)["version"]  # a version that was sealed is given to nobody again
        try:
            self._tables.write("artifacts", row, artifact_id=ref.artifact_id, metadata={"vlaw.run_id": ref.run_id}, least=sealed)
        except (DeltaError, OSError):
            # An error after the commit is not a failed commit: only the ledger itself can tell.
            if all(item.artifact_id != ref.artifact_id for item in self.artifacts()):
                raise
        committed = self.get(ref.artifact_id)
        seal.extend(self._tables.paths)
        return committed

    def _add(self, ref: ArtifactRef) -> None:
        self._sequence[ref.artifact_id] = self._sequence.get(ref.artifact_id, len(self._rows))
        self._rows[ref.artifact_id] = ref
        self._current[ref.asset, ref.partition] = ref
        if not ref.source_artifact_id:
            self._made[ref.identity_digest] = ref

    def _refresh(self) -> None:
        if self._frozen:
            return
        table = self._tables.paths.table("artifacts")
        sealed = self._seal.sealed() if self._seal else 0  # asked before the log: what is sealed by now must be in it
        fresh = [
            entry for entry in deltalog.entries(table, after=self._version, least=sealed) if self._tables.artifact_of(entry)
        ]
        for ref in self._tables.committed("artifacts", fresh, ArtifactRef.from_row):
            self._add(ref)
        # Versions that are not ours (a compaction) are looked at again until the next one that is: a few, at most.
        self._version = fresh[-1].version if fresh else self._version

    def _load_edges(self) -> None:
        """One pass over the log entries that brought the edges of every artifact whose edges are not known yet."""
        wanted = [ref for ref in self._rows.values() if not ref.source_artifact_id and ref.artifact_id not in self._edges]
        found: dict[str, list[Edge]] = {ref.artifact_id: [] for ref in wanted}
        versions = [ref.versions["edges"]["version"] for ref in wanted if "edges" in ref.versions]
        table = self._tables.paths.table("edges")
        fresh = [deltalog.read_entry(table, version) for version in dict.fromkeys(versions)]
        for child, edge in self._tables.committed("edges", fresh, _edge):
            if child in found:
                found[child].append(edge)
        for ref in wanted:
            if len(found[ref.artifact_id]) != ref.versions.get("edges", {"rows": 0})["rows"]:
                raise VlawError(f"the edges of {ref.name} ({ref.artifact_id}) are not those of its commit", where=str(table),
                                remedy="`vlaw audit ... --verify` names the files; restore them from a backup")
        self._edges |= {child: tuple(edges) for child, edges in found.items()}


def _edge(row: dict[str, Any]) -> tuple[str, Edge]:
    filled = row | {name: value for name, value in ADDED["edges"].items() if row.get(name) is None}
    return row["artifact_id"], Edge(
        filled["parent_id"], filled["role"], filled["read_as"], filled["scope"], filled["selection"], filled["selection_id"]
    )
