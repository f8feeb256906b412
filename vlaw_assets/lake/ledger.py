"""The ledger: which artifacts exist, what they were made from, and where their data lies.

Append-only. A row of `artifacts` is the one thing that makes data exist; everything is resolved through it and nothing
is ever looked up by "latest version of a table". Order is commit order (the Delta version), never a clock.

Rows are read from the log entries that committed them, which carry them beside the Parquet file that other readers of
the table use: a compaction of the tables changes neither rows nor order, and opening reads no Parquet file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import deltalog, replica, seal
from vlaw_assets.lake.artifact import EDGE, LONG, SHORT, ArtifactRef, Edge, Identity
from vlaw_assets.lake.kept import Kept
from vlaw_assets.lake.schemas import ADDED, validated
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake.tables import Tables


FEW = 300
"""Artifacts whose edges are read one by one."""


NEWEST = 64
"""More artifacts than are ever being committed side by side."""


class Ledger:
    """Reads the ledger of one lake. Each call sees what is committed by then; rows once read are kept."""

    def __init__(self, tables: Tables, where: Path, *, sealed: bool = True):
        """`sealed=False`: a ledger without a seal, or with a broken one, that is being migrated or accepted as it
        is."""
        self._tables, self._where = tables, where
        self._seal = seal.Watch(tables.paths) if sealed else None
        self._version = -1
        """The newest version of `artifacts` that was read and brought a row."""
        self._frozen = False
        self._rows: dict[str, ArtifactRef] = {}
        self._sequence: dict[str, int] = {}
        self._current: dict[tuple[str, str], ArtifactRef] = {}
        self._made: dict[str, ArtifactRef] = {}
        self._alike: dict[tuple[str, ...], list[ArtifactRef]] = {}
        self._edges: dict[str, tuple[Edge, ...]] = {}
        self._kept_edges: Kept | None = None

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

    def but_for_exclusions(self, identity: Identity) -> list[ArtifactRef]:
        """The artifacts of this identity but for the episodes left out, newest first; never a pointer."""
        self._refresh()
        key = identity.kind, identity.code, identity.recipe_digest, identity.parents_digest
        return self._alike.get(key, [])[::-1]

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
        """The newest version of a Delta table that an artifact stands on: its number is given to nobody again; -1 for
        none.

        Of the last artifacts that wrote to it: numbers follow commits, but for runs at work side by side.
        """
        newest = itertools.islice((ref for ref in reversed(self.artifacts()) if table in ref.versions), NEWEST)
        return max((ref.versions[table]["version"] for ref in newest), default=-1)

    def edge_rows(self, artifact_id: str) -> tuple[Edge, ...]:
        """What was read while making it, and what chose its models. Edges once read are kept.

        A pointer has its owner's, unless it has its own.
        """
        return self.own_edges(artifact_id) or self.own_edges(self.get(artifact_id).owner)

    def own_edges(self, artifact_id: str) -> tuple[Edge, ...]:
        """The edges that were committed with this very artifact; a pointer mostly has none."""
        if self.get(artifact_id).artifact_id not in self._edges:
            self._load_edges([artifact_id])
        return self._edges[artifact_id]

    def node(self, edge: Edge) -> str:
        """Id of the artifact that an edge leads to: the pointer it was read as if that one has edges of its own, else
        the owner."""
        return edge.read_as if edge.read_as != edge.parent and self.own_edges(edge.read_as) else edge.parent

    def edges(self, artifact_id: str) -> list[tuple[str, ArtifactRef]]:
        """(role, parent) of what was read while making it; parents are owners of data. A pointer has its owner's."""
        return [(edge.role, self.get(edge.parent)) for edge in self.edge_rows(artifact_id)]

    def closure(self, ref: ArtifactRef) -> list[ArtifactRef]:
        """Everything `ref` stands on, each artifact once, parents before children; it comes last.

        A pointer counts as what it points at, unless it has edges of its own (see `node`).
        """
        ordered: dict[str, ArtifactRef] = {}
        stack = [(ref.artifact_id if self.own_edges(ref.artifact_id) else ref.owner, False)]
        while stack:
            name, expanded = stack.pop()
            if name in ordered:
                continue
            if expanded:
                ordered[name] = self.get(name)
                continue
            stack.append((name, True))
            stack += [(self.node(edge), False) for edge in reversed(self.edge_rows(name))]
        return list(ordered.values())

    def edges_entry(self, ref: ArtifactRef) -> dict[str, Any] | None:
        """Where the edges lie that were committed with this artifact; a pointer mostly has none and repeats its owner's
        entry."""
        entry = ref.versions.get("edges")
        return None if ref.source_artifact_id and entry == self.get(ref.owner).versions.get("edges") else entry

    def append(self, ref: ArtifactRef) -> ArtifactRef:
        """Commit one row, durably, and extend the seal over it. Returns the row as the ledger has it.

        Raises OSError, DeltaError or (a bucket) VlawError when it was not committed; VlawError when the row is not
        sound or the seal broken.
        """
        from deltalake.exceptions import DeltaError

        row = validated("artifacts", [ref.to_row()], where=ref.name)
        sealed = seal.check(self._tables.paths)["version"]  # a version that was sealed is given to nobody again
        try:
            self._tables.write(
                "artifacts", row, artifact_id=ref.artifact_id, metadata={"vlaw.run_id": ref.run_id}, least=sealed
            )
        except (DeltaError, OSError, VlawError):
            # An error after the commit is not a failed commit: only the ledger itself can tell.
            if copy := replica.of(self._where):
                copy.stale()
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
            key = ref.kind, ref.code_digest, ref.recipe_digest, ref.parents_digest
            self._alike.setdefault(key, []).append(ref)

    def _refresh(self) -> None:
        if self._frozen:
            return
        if copy := replica.of(self._where):
            copy.refresh()
        table = self._tables.paths.table("artifacts")
        sealed = self._seal.sealed() if self._seal else 0  # asked before the log: what is sealed by now must be in it
        kept = Kept(self._tables.paths, "artifacts", SHORT, LONG) if self._version < 0 else None
        known = kept.rows if kept else {}
        newest, fresh = deltalog.newest(table, after=self._version, least=sealed), {}
        # Versions that are not ours (a compaction) are looked at again until the next one that is: a few, at most.
        last = self._version
        for version in range(self._version + 1, newest + 1):
            if version in known:
                refs = [ArtifactRef.from_kept(row) for row in known[version]]
            else:
                entry = deltalog.read_entry(table, version)
                if not self._tables.artifact_of(entry):
                    continue
                refs = list(self._tables.committed("artifacts", [entry], ArtifactRef.from_row))
                fresh[version] = lambda refs=refs: [ref.to_kept() for ref in refs]
            for ref in refs:
                self._add(ref)
            last = version
        self._version = last
        if kept:
            kept.keep(fresh)

    def _load_edges(self, names: Iterable[str]) -> None:
        """Read the log entries that brought the edges of these artifacts.

        After `FEW` of them: from what was kept of the log, or where little was, those of all at once, which keeps them.
        """
        table = self._tables.paths.table("edges")
        if self._kept_edges is None and len(self._edges) > FEW:
            self._kept_edges = Kept(self._tables.paths, "edges", ("child", *EDGE))
            names = names if self._kept_edges.nearly_all else self._rows
        known = self._kept_edges.rows if self._kept_edges else {}
        fresh: dict[int, Callable[[], list[tuple[list[Any], list[str]]]]] = {}
        found: dict[str, list[Edge]] = {name: [] for name in names if name not in self._edges}
        pinned = {entry["version"]: entry for name in found if (entry := self.edges_entry(self._rows[name]))}
        for version, entry in pinned.items():
            if version in known:
                edges = [(values[0], Edge(*values[1:])) for values, _ in known[version]]
            else:
                # Artifacts of a migrated lake do not pin their log entries; FORMAT.json does.
                log = deltalog.read_entry(
                    table, version, sha256=next((file["sha256"] for file in entry.get("log", ())), "")
                )
                edges = list(self._tables.committed("edges", [log], _edge, pinned=pinned))
                fresh[version] = partial(_plain, edges)
            for child, edge in edges:
                if child in found:
                    found[child].append(edge)
        for name, own in found.items():
            if len(own) != (self.edges_entry(self._rows[name]) or {"rows": 0})["rows"]:
                raise VlawError(
                    f"the edges of {self._rows[name].name} ({name}) are not those of its commit",
                    where=str(table),
                    remedy="`vlaw audit ... --verify` names the files; restore them from a backup",
                )
        self._edges |= {child: tuple(own) for child, own in found.items()}
        if self._kept_edges and len(fresh) > 1:
            self._kept_edges.keep(fresh)


def _plain(edges: Iterable[tuple[str, Edge]]) -> list[tuple[list[Any], list[str]]]:
    """As `Kept.keep` takes them."""
    return [([child, *(getattr(edge, name) for name in EDGE)], []) for child, edge in edges]


def _edge(row: dict[str, Any]) -> tuple[str, Edge]:
    filled = row | {name: value for name, value in ADDED["edges"].items() if row.get(name) is None}
    return row["artifact_id"], Edge(
        filled["parent_id"],
        filled["role"],
        filled["read_as"],
        filled["scope"],
        filled["selection"],
        filled["selection_id"],
    )
