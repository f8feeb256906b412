"""A draft: one materialization in the making. Reads through it become edges; leaving it commits once.

Order of a commit: data files, log entries and checkpoint reach the disk and are hashed; then one row is appended to
the Delta table `artifacts`. Before that row nothing of the draft can be seen, after it everything can.
"""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.lake import checkpoints, frames
from vlaw_assets.lake.durable import canonical_json, digest_of
from vlaw_assets.lake.episodes import episode_row, step_rows
from vlaw_assets.lake.handles import Handle
from vlaw_assets.lake.ledger import ArtifactRef, Identity
from vlaw_assets.lake.paths import partition_key, split_partition
from vlaw_assets.lake.schemas import validated
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake
    from vlaw_models.episodes import Episode

_SCORE = {"judge": "reward_model", "owner": None, "task": None}
_MEMBER: dict[str, Any] = {}
_EVALUATION = {"metric": "success_rate", "detail": None} | dict.fromkeys(
    ("policy", "world_model", "reward_model", "camera", "trials", "successes", "value", "low", "high")
)


class Draft:
    """Made by `Lake.commit`, which holds the partition's lock around it."""

    def __init__(
        self, lake: Lake, *, asset: str, partition: str, identity: Identity, run_id: str, code_revision: str, force: bool
    ):
        self.lake, self.asset, self.partition, self.identity = lake, asset, partition, identity
        self.run_id, self.code_revision = run_id, code_revision
        self.artifact_id = f"{identity.digest[:16]}-{uuid.uuid4().hex[:8]}"
        self.reused = None if force else self._reusable()
        """The artifact of this identity that is there already: then write nothing. Leaving the block points at it."""
        self.ref: ArtifactRef | None = None
        """The ledger row, after the block."""
        self._folder = lake.paths.drafts(asset, partition) / self.artifact_id
        self._handles: dict[str, Handle] = {}
        self._edges: dict[tuple[str, str], str] = {}
        self._allowed = {digest for _, digest in identity.parents}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._digests: dict[str, list[str]] = {}
        self._frames = frames.FrameWriter(lake.paths)
        self._metrics: dict[str, Any] = {}
        self._checkpoint: Path | None = None

    def read(self, ref: ArtifactRef, role: str) -> Handle:
        """A handle on exactly this artifact; using it is recorded as an edge of that role.

        Raises VlawError for an artifact that the identity does not cover, neither as a parent nor below one already
        read: an input outside the identity would make the reuse of this artifact wrong.
        """
        owner = self.lake.ledger.get(ref.owner)
        if ref.content_digest not in self._allowed:
            raise VlawError(
                f"{ref.name} is read as {role!r}, but is not among the parents of the identity",
                where=self._name,
                remedy="add (role, content digest) to Identity.parents",
            )
        if owner.artifact_id not in self._handles:
            self._handles[owner.artifact_id] = Handle(self.lake, owner)
            self._allowed |= {item.content_digest for item in self.lake.ledger.closure(owner)}
        self._edges.setdefault((owner.artifact_id, role), ref.artifact_id)
        return self._handles[owner.artifact_id]

    def write_episodes(
        self,
        episodes: Sequence[Episode],
        *,
        purpose: str,
        world: str | None = None,
        policy: str | None = None,
        world_model: str | None = None,
        label_source: str | None = None,
    ) -> list[str]:
        """Add episodes, in order; may be called once per batch. Frames go to disk now, the rest when the block ends.

        Args:
            policy, world_model: content digests of what acted and of what it acted in.
            label_source: who judged success; default 'world' where success is known, else ''.

        Returns: the ids given to the episodes, the same in every attempt at this identity.
        """
        self._check_writing()
        rows = self._rows.setdefault("episodes", [])
        steps = self._rows.setdefault("steps", [])
        ids, images = [], []
        for episode in episodes:
            index = len(rows)
            episode_id = f"{purpose}-{self.identity.digest[:12]}-{index:05d}"
            row = episode_row(
                episode,
                purpose=purpose, world=world, policy=policy, world_model=world_model, label_source=label_source,
                where=f"{self._name}, episode {index}",
            )
            self._digests.setdefault("episodes", []).append(row["content_digest"])
            owner = self._owner_columns()
            rows.append(row | owner | {"episode_id": episode_id, "episode_index": index})
            steps += [step | owner | {"episode_id": episode_id} for step in step_rows(episode)]
            if len(episode.images):
                images.append(
                    frames.frame_rows(episode, artifact_id=self.artifact_id, episode_id=episode_id, purpose=purpose)
                )
            ids.append(episode_id)
        if images:
            import pyarrow as pa

            self._frames.write(pa.concat_tables(images))
        return ids

    def write_scores(self, rows: list[dict[str, Any]]) -> None:
        """Add rows {episode_id, p_success, [owner, judge, task]}."""
        self._add("reward_scores", rows, required=("episode_id", "p_success"), optional=_SCORE)

    def write_members(self, rows: list[dict[str, Any]]) -> None:
        """Add rows {episode_id, owner, weight, source}: this artifact is a dataset of them, in this order."""
        self._add("members", rows, required=("episode_id", "owner", "weight", "source"), optional=_MEMBER)

    def write_evaluations(self, rows: list[dict[str, Any]]) -> None:
        """Add rows {task, [metric, policy, world_model, reward_model, camera, trials, successes, value, low, high,
        detail]}."""
        rows = [{**row, "detail": canonical_json(row.get("detail") or {})} for row in rows]
        self._add("evaluations", rows, required=("task",), optional=_EVALUATION, rename={"detail": "detail_json"})

    def checkpoint_dir(self) -> Path:
        """An empty folder to save the checkpoint into; becomes `checkpoints/<sha256>/` when the block ends."""
        self._check_writing()
        if self._checkpoint is None:
            self._checkpoint = self._folder / "checkpoint"
            self._checkpoint.mkdir(parents=True)
        return self._checkpoint

    def set_metrics(self, metrics: dict[str, Any]) -> None:
        """Merge numbers and texts to keep with the ledger row. Not part of the content digest (they may hold times)."""
        try:
            canonical_json(metrics)
        except (TypeError, ValueError) as error:
            raise VlawError(
                f"metrics are not plain JSON: {error}", where=self._name, remedy="use finite float, int, str, list, dict"
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
            raise VlawError(
                f"the commit failed and was not made: {error}",
                where=str(self.lake.paths.root),
                remedy="see that the disk has space and works, then run it again",
            ) from error

    def _commit_data(self) -> None:
        rows = {name: validated(name, rows, where=self._name) for name, rows in self._rows.items() if rows}
        location = ""
        if self._checkpoint is not None:
            digest = checkpoints.store(self._checkpoint, self.lake.paths.checkpoints)
            location = self.lake.paths.relative(self.lake.paths.checkpoints / digest)
            self._digests["checkpoint"] = [digest]
        versions = {}
        written = self._frames.commit(self.artifact_id)
        if written:
            versions["frames"] = written
        edges = [
            self._owner_columns() | {"parent_id": parent, "role": role, "read_as": read_as}
            for (parent, role), read_as in self._edges.items()
        ]
        if edges:
            rows["edges"] = validated("edges", edges, where=self._name)
        for name, table in rows.items():
            versions[name] = self.lake.tables.append(name, table, artifact_id=self.artifact_id)
        counted = "episodes" if "episodes" in rows else next((name for name in rows if name != "edges"), None)
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
                metrics=self._metrics,
                num_rows=rows[counted].num_rows if counted else 0,
                run_id=self.run_id,
                created_at=datetime.now(UTC),
                code_revision=self.code_revision,
            )
        )

    def discard(self) -> None:
        """Remove the temporary folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _reusable(self) -> ArtifactRef | None:
        """The artifact of this identity, unless files of it are gone: then making it again mends the lake."""
        found = self.lake.ledger.find(self.identity)
        return None if found is None or Handle(self.lake, found).problems(deep=False) else found

    def _commit_pointer(self, source: ArtifactRef) -> None:
        current = self.lake.ledger.current(self.asset, self.partition)
        if current is not None and current.owner == source.artifact_id:
            self.ref = current
            return
        pointer = dataclasses.replace(
            source,
            artifact_id=self.artifact_id,
            asset=self.asset,
            partition=self.partition,
            source_artifact_id=source.artifact_id,
            run_id=self.run_id,
            created_at=datetime.now(UTC),
            code_revision=self.code_revision,
        )
        self._commit_row(pointer)

    def _commit_row(self, ref: ArtifactRef) -> None:
        from deltalake.exceptions import DeltaError

        row = validated("artifacts", [ref.to_row()], where=self._name)
        try:
            self.lake.tables.write("artifacts", row, artifact_id=ref.artifact_id, metadata={"vlaw.run_id": self.run_id})
        except (DeltaError, OSError):
            # An error after the commit is not a failed commit: only the ledger itself can tell.
            if all(item.artifact_id != ref.artifact_id for item in self.lake.ledger.artifacts()):
                raise
        self.ref = self.lake.ledger.get(ref.artifact_id)

    def _content_digest(self) -> str:
        if set(self._digests) == {"checkpoint"}:
            return self._digests["checkpoint"][0]
        if self._digests:
            return digest_of(self._digests)
        parents = [(role, self._handles[parent].ref.content_digest) for parent, role in self._edges]
        return digest_of({"kind": self.identity.kind, "read": sorted(parents)})

    def _add(
        self,
        name: str,
        rows: list[dict[str, Any]],
        *,
        required: Sequence[str],
        optional: dict[str, Any],
        rename: dict[str, str] | None = None,
    ) -> None:
        self._check_writing()
        kept = self._rows.setdefault(name, [])
        for given in rows:
            unknown, missing = set(given) - set(required) - set(optional), set(required) - set(given)
            if unknown or missing:
                raise VlawError(
                    f"a row for {name} has unknown keys {sorted(unknown)} or lacks {sorted(missing)}",
                    where=self._name,
                    remedy=f"required: {sorted(required)}; optional: {sorted(optional)}",
                )
            row = {key: _plain(value) for key, value in (optional | given).items()}
            # Artifact ids differ between attempts, content must not.
            content = {key: value for key, value in row.items() if key != "owner"}
            self._digests.setdefault(name, []).append(hash_row(content, where=f"{self._name}, {name}"))
            renamed = {(rename or {}).get(key, key): value for key, value in row.items()}
            kept.append(renamed | self._owner_columns() | {"position": len(kept)})

    def _check_writing(self) -> None:
        if self.reused is not None:
            raise VlawError(
                f"this artifact exists already ({self.reused.artifact_id}): nothing may be written",
                where=self._name,
                remedy="return when draft.reused is set, or commit with force=True",
            )

    def _owner_columns(self) -> dict[str, Any]:
        experiment, iteration = split_partition(self.partition)
        return {
            "artifact_id": self.artifact_id,
            "asset": self.asset,
            "partition_key": partition_key(self.partition),
            "experiment": experiment,
            "iteration": iteration,
        }

    @property
    def _name(self) -> str:
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def hash_row(row: dict[str, Any], *, where: str) -> str:
    """Digest of one row of plain values. Raises VlawError for NaN and objects."""
    try:
        return digest_of(row)
    except (TypeError, ValueError) as error:
        raise VlawError(f"a value is not finite or not plain: {error}", where=where, remedy="mend the row") from error
