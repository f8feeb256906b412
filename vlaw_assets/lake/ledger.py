"""The ledger: which artifacts exist, what they were made from, and where their data lies.

Append-only. A row of `artifacts` is the one thing that makes data exist; everything is resolved through it and nothing
is ever looked up by "latest version of a table". Order is commit order (the Delta version), never a clock.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake.durable import canonical_json, digest_of
from vlaw_assets.lake.paths import partition_key, split_partition
from vlaw_assets.lake.schemas import ARTIFACTS
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", tuple(sorted((role, digest) for role, digest in self.parents)))

    @cached_property
    def digest(self) -> str:
        """sha256 (hex)."""
        return digest_of({"kind": self.kind, "code": self.code, "recipe": self.recipe, "parents": self.parents})

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
        versions, metrics = json.loads(row["versions_json"]), json.loads(row["metrics_json"])
        names = set(cls.__dataclass_fields__) - {"versions", "metrics"}
        return cls(versions=versions, metrics=metrics, **{name: row[name] for name in names})


class Ledger:
    """Reads the ledger of one lake. Each call sees what is committed by then; rows once read are kept."""

    def __init__(self, tables: Tables, where: Path):
        self._tables, self._where = tables, where
        self._version = -1
        self._files: set[str] = set()
        self._rows: dict[str, ArtifactRef] = {}

    def artifacts(self) -> list[ArtifactRef]:
        """Every artifact in commit order, superseded ones and pointers included."""
        self._refresh()
        return list(self._rows.values())

    def find(self, identity: Identity) -> ArtifactRef | None:
        """The newest artifact of this identity that holds its own data (never a pointer)."""
        digest = identity.digest
        own = (ref for ref in reversed(self.artifacts()) if not ref.source_artifact_id)
        return next((ref for ref in own if ref.identity_digest == digest), None)

    def current(self, asset: str, partition: str = "") -> ArtifactRef | None:
        """The version of an asset partition that was committed last."""
        refs = reversed(self.artifacts())
        return next((ref for ref in refs if ref.asset == asset and ref.partition == partition), None)

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

    def edges(self, artifact_id: str) -> list[tuple[str, ArtifactRef]]:
        """(role, parent) of what was read while making it; parents are owners of data. A pointer has its owner's."""
        owner = self.get(self.get(artifact_id).owner)
        rows = self._tables.read("edges", owner.versions.get("edges")).to_pylist()
        return [(row["role"], self.get(row["parent_id"])) for row in rows]

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

    def _refresh(self) -> None:
        table = self._tables.open("artifacts")
        version = table.version()
        if version == self._version:
            return
        # The commit that brought a row says so in its metadata; the files themselves carry no order.
        order = {
            entry["vlaw.artifact_id"]: entry["version"]
            for entry in table.history(version - max(self._version, 0) or None)
            if "vlaw.artifact_id" in entry
        }
        root = self._where / "delta" / "artifacts"
        paths = {action["path"] for action in _paths(table)}
        fresh = [
            ArtifactRef.from_row(row)
            for path in sorted(paths - self._files)
            for row in self._tables.read("artifacts", {"files": [{"path": str(root / path)}]}).to_pylist()
        ]
        for ref in sorted(fresh, key=lambda ref: order.get(ref.artifact_id, -1)):
            self._rows[ref.artifact_id] = ref
        self._version, self._files = version, self._files | paths


def _paths(table: Any) -> list[dict[str, Any]]:
    import pyarrow as pa

    return pa.table(table.get_add_actions(flatten=True)).select(["path"]).to_pylist()
