"""A draft: one materialization in the making. Reads through it become edges; leaving it commits once.

Order of a commit: data files, log entries and checkpoint reach the disk and are hashed; then one row is appended to
the Delta table `artifacts`. Before that row nothing of the draft can be seen, after it everything can.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import checkpoints, contents, disk, embeddings, labels, pictures, quarantine
from vlaw_assets.lake.artifact import CHOSEN_BY, PER_EPISODE, ArtifactRef, Edge, Identity
from vlaw_assets.lake.durable import canonical_json, digest_of
from vlaw_assets.lake.handles import Handle
from vlaw_assets.lake.rows import Rows, concatenated
from vlaw_assets.lake.schemas import validated
from vlaw_assets.lake.selection import lineage
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake


class Draft(Rows):
    """Made by `Lake.commit`, which holds the partition's lock around it."""

    def __init__(
        self,
        lake: Lake,
        *,
        asset: str,
        partition: str,
        identity: Identity,
        run_id: str,
        code_revision: str,
        force: bool,
    ):
        super().__init__(lake.paths, asset=asset, partition=partition, identity=identity)
        self.lake, self.run_id, self.code_revision = lake, run_id, code_revision
        self._began = time.monotonic()
        self.reused = None if force else self._reusable()
        """The artifact of this identity that is there already: then write nothing. Leaving the block points at it."""
        self.ref: ArtifactRef | None = None
        """The ledger row, after the block."""
        self._handles: dict[str, Handle] = {}
        self._edges: dict[tuple[str, str], Edge] = {}
        self._lists: dict[str, Edge] = {}
        """Edges to the lists that change how parents are read, by role."""
        self._state: Edge | None = None
        self._parents: dict[str, ArtifactRef] = {}
        self._allowed = {digest for _, digest in identity.parents}
        self._metrics: dict[str, Any] = {}
        self._checkpoint: Path | None = None

    def read(self, ref: ArtifactRef, role: str, *, by_row: bool = False) -> Handle:
        """A handle on exactly this artifact; using it is recorded as an edge of that role.

        Args:
            by_row: the promise that each row this draft writes depends only on the rows of this parent that it names
                (as a member, as what was scored, as the episode it started from).

        Raises VlawError for an artifact that the identity does not cover, neither as a parent nor below one already
        read: an input outside the identity would make the reuse of this artifact wrong.
        """
        owner = self.lake.ledger.get(ref.owner)
        if ref.content_digest not in self._allowed and ref.content_digest not in self._below():
            raise VlawError(
                f"{ref.name} is read as {role!r}, but is not among the parents of the identity",
                where=self._name,
                remedy="add (role, content digest) to Identity.parents",
            )
        if owner.artifact_id not in self._handles:
            self._handles[owner.artifact_id] = Handle(
                self.lake, owner, excluded=self.identity.excluded, labels=dict(self.identity.labels)
            )
        key, scope = (owner.artifact_id, role), "rows" if by_row else "whole"
        known = self._edges.get(key)
        if known is None or (known.scope, scope) == (
            "rows",
            "whole",
        ):  # one read of the whole is one too many for 'rows'
            self._edges[key] = Edge(owner.artifact_id, role, ref.artifact_id, scope, "all", "")
        return self._handles[owner.artifact_id]

    def _below(self) -> set[str]:
        """Content digests of what lies below the artifacts read so far. Slow next to the parents, and rarely asked
        for."""
        read = (handle.ref for handle in self._handles.values())
        return {item.content_digest for ref in read for item in self.lake.ledger.closure(ref)}

    def leave_out(self, listed: ArtifactRef) -> None:
        """Say which list of quarantined episodes `Identity.excluded` was taken from; an edge to it is recorded."""
        self._lists[quarantine.ROLE] = Edge(listed.owner, quarantine.ROLE, listed.artifact_id, "rows", "all", "")

    def label_by(self, listed: ArtifactRef) -> None:
        """Say which labels `Identity.labels` was taken from; an edge to them is recorded."""
        self._lists[labels.ROLE] = Edge(listed.owner, labels.ROLE, listed.artifact_id, "rows", "all", "")

    def stands_on(self, parents: Mapping[str, ArtifactRef], *, state: ArtifactRef | None = None) -> None:
        """Say what this is made of by role, and which state of the loop chose its models: an edge to that is recorded.

        The state needs not be in the identity: the models are. For an artifact that is reused these say how it stands
        in this partition, where its owner may have been made under another choice: then its pointer has edges of its
        own.
        """
        self._parents = dict(parents)
        if state is not None:
            self._state = Edge(state.owner, CHOSEN_BY, state.artifact_id, "whole", "all", "")

    def checkpoint_dir(self) -> Path:
        """An empty folder to save the checkpoint into; becomes `checkpoints/<sha256>/` when the block ends."""
        self._check_writing()
        if self._checkpoint is None:
            self._checkpoint = self._folder / "checkpoint"
            self._checkpoint.mkdir(parents=True)
        return self._checkpoint

    @property
    def checkpoint(self) -> Path | None:
        """The folder that `checkpoint_dir` gave; None where nobody asked for it."""
        return self._checkpoint

    def keep_picture(self, title: str, png: bytes) -> None:
        """Keep a picture for people beside the data (see pictures.py); the ledger row's metrics name it."""
        self._check_writing()
        self._metrics.setdefault(pictures.METRIC, {})[title] = pictures.store(self.lake.paths, png)
        self._metrics.setdefault(pictures.ORDER, []).append(title)

    def keep_page(self, title: str, page: str) -> None:
        """As `keep_picture`, of a page of HTML."""
        self._check_writing()
        digest = pictures.store(self.lake.paths, page.encode("utf-8"), pictures.PAGE)
        self._metrics.setdefault(pictures.PAGES, {})[title] = digest

    def set_metrics(self, metrics: dict[str, Any]) -> None:
        """Merge numbers and texts to keep with the ledger row. Not part of the content digest (they may hold times).

        `seconds` is the draft's own: how long it took from its beginning to its commit.
        """
        try:
            canonical_json(metrics)
        except (TypeError, ValueError) as error:
            raise VlawError(
                f"metrics are not plain JSON: {error}",
                where=self._name,
                remedy="use finite float, int, str, list, dict",
            ) from error
        self._metrics |= metrics

    def finish(self) -> None:
        """Commit. Called by `Lake.commit` at the end of the block. Raises VlawError if the disk fails: then nothing
        of the draft can be seen."""
        from deltalake.exceptions import DeltaError

        try:
            if self.reused is not None:
                self._commit_pointer(self.reused)
            else:
                self._commit_data()
        except (OSError, DeltaError) as error:
            raise disk.failure(
                error,
                "the commit failed and was not made",
                where=str(self.lake.paths.root),
                remedy="see that the disk works, then run it again",
            ) from error

    def _commit_data(self) -> None:
        rows = {name: validated(name, rows, where=self._name) for name, rows in self._rows.items() if rows}
        rows |= {name: concatenated(parts) for name, parts in self._columns.items()}
        location = ""
        if self._checkpoint is not None:
            digest = checkpoints.store(self._checkpoint, self.lake.paths.checkpoints)
            location = self.lake.paths.relative(self.lake.paths.checkpoints / digest)
            self._digests["checkpoint"] = [digest]
        versions = {}
        written = self._frames.commit(self.artifact_id)
        if written:
            versions["frames"] = written
        if self._embeddings:
            versions["embeddings"] = embeddings.write(
                self.lake.paths, self._model, concatenated(self._embeddings), artifact_id=self.artifact_id
            )
        if kept := self._latents.commit(self.artifact_id):
            versions["latents"] = kept
        counted = "episodes" if "episodes" in rows else next(iter(rows), None)
        rows |= {name: validated(name, found, where=self._name) for name, found in self._lineage().items() if found}
        spooled = {"steps": self._steps} if self._steps.num_rows else {}
        for name, table in {**rows, **spooled}.items():
            versions[name] = self.lake.tables.append(
                name, table, artifact_id=self.artifact_id, least=self.lake.ledger.newest_version(name)
            )
        self._commit_row(
            ArtifactRef(
                artifact_id=self.artifact_id,
                asset=self.asset,
                partition=self.partition,
                kind=self.identity.kind,
                content_digest=self._content_digest(),
                code_digest=self.identity.code,
                recipe_digest=self.identity.recipe_digest,
                parents_digest=self.identity.parents_digest,
                identity_digest=self.identity.digest,
                source_artifact_id="",
                location=location,
                versions=versions,
                recipe_json=self.identity.recipe,
                metrics=self._metrics | {"seconds": round(time.monotonic() - self._began, 3)},
                num_rows=rows[counted].num_rows
                if counted
                else sum(versions[kind]["rows"] for kind in PER_EPISODE if kind in versions),
                run_id=self.run_id,
                created_at=datetime.now(UTC),
                code_revision=self.code_revision,
                contents_json=canonical_json(
                    contents.at_commit(
                        self.lake, self.artifact_id, rows, per_episode=any(kind in versions for kind in PER_EPISODE)
                    )
                ),
            )
        )

    def _lineage(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `edges` and `reads`. Raises VlawError where a list changed what was read, and nobody said which."""
        asked = (
            (quarantine.ROLE, self.identity.excluded, "excluded", "leave_out"),
            (labels.ROLE, self.identity.labels, "relabelled", "label_by"),
        )
        for role, episodes, what, call in asked:
            if episodes and role not in self._lists:
                raise VlawError(
                    f"{len(episodes)} episodes are {what}, but by no list",
                    where=self._name,
                    remedy=f"call draft.{call}(the artifact of {role})",
                )
        edges = [*self._edges.values(), *([self._state] if self._state else []), *self._lists.values()]
        owner = self._owner_columns()
        return {name: [owner | row for row in rows] for name, rows in lineage(edges, self._handles).items()}

    def discard(self) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def committed(self) -> ArtifactRef:
        """The ledger row, once the block of `Lake.commit` has ended."""
        if self.ref is None:
            raise RuntimeError(f"{self.asset} is not committed yet")
        return self.ref

    def _reusable(self) -> ArtifactRef | None:
        """The artifact of this identity, unless files of it are gone: then making it again mends the lake."""
        found = self.lake.ledger.find(self.identity)
        return None if found is None or Handle(self.lake, found).problems(deep=False) else found

    def _commit_pointer(self, source: ArtifactRef) -> None:
        current = self.lake.ledger.current(self.asset, self.partition)
        edges = self._edges_here(source)
        if current is not None and current.owner == source.artifact_id and self._same_lineage(current, edges):
            self.ref = current
            return
        versions = source.versions
        if not self._same_lineage(source, edges):
            owner = self._owner_columns()
            rows = [owner | row for row in lineage(edges, {})["edges"]]
            made = self.lake.tables.append(
                "edges",
                validated("edges", rows, where=self._name),
                artifact_id=self.artifact_id,
                least=self.lake.ledger.newest_version("edges"),
            )
            versions = versions | {"edges": made}
        pointer = dataclasses.replace(
            source,
            versions=versions,
            artifact_id=self.artifact_id,
            asset=self.asset,
            partition=self.partition,
            source_artifact_id=source.artifact_id,
            run_id=self.run_id,
            created_at=datetime.now(UTC),
            code_revision=self.code_revision,
        )
        self._commit_row(pointer)

    def _edges_here(self, source: ArtifactRef) -> list[Edge]:
        """The edges of what is reused, with the names that its parents have in this partition, and with its choice."""
        edges = []
        for edge in self.lake.ledger.own_edges(source.artifact_id):
            here = self._parents.get(edge.role)
            if edge.role == CHOSEN_BY:
                continue
            edges.append(
                dataclasses.replace(edge, read_as=here.artifact_id) if here and here.owner == edge.parent else edge
            )
        chosen = [edge for edge in self.lake.ledger.own_edges(source.artifact_id) if edge.role == CHOSEN_BY]
        return [*edges, *([self._state] if self._state else chosen)]

    def _same_lineage(self, ref: ArtifactRef, edges: Sequence[Edge]) -> bool:
        """Whether the edges of an artifact lead where these lead; to a state of the same content is the same choice."""
        ledger = self.lake.ledger

        def where(edge: Edge) -> tuple[str, str]:
            return edge.role, ledger.get(edge.parent).content_digest if edge.role == CHOSEN_BY else ledger.node(edge)

        return {where(edge) for edge in ledger.edge_rows(ref.artifact_id)} == {where(edge) for edge in edges}

    def _commit_row(self, ref: ArtifactRef) -> None:
        self.ref = self.lake.ledger.append(ref)

    def _content_digest(self) -> str:
        if set(self._digests) == {"checkpoint"}:
            return self._digests["checkpoint"][0]
        if self._digests:
            return digest_of(self._digests)
        parents = [(role, self._handles[parent].ref.content_digest) for parent, role in self._edges]
        return digest_of({"kind": self.identity.kind, "read": sorted(parents)})
