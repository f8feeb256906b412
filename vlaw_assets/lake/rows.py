"""What a draft is given to store: rows of the data tables, frames and vectors, and the digests of their content.

The `write_*` methods check and keep. Frames and steps, which grow with the length of episodes, go to disk at once.
Digests leave out ids of attempts and times, so that equal content has equal digests, however many calls it was written
in.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from vlaw_assets.lake import embeddings, frames, latents
from vlaw_assets.lake.durable import canonical_json, digest_of
from vlaw_assets.lake.encoded import encode_episode, inner
from vlaw_assets.lake.paths import Paths, partition_folder
from vlaw_assets.lake.schemas import OWNER, STEPS, TABLES, TIMESTAMP, validated
from vlaw_assets.lake.spool import Spool
from vlaw_assets.partitions import split_partition
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    import pyarrow as pa

    from vlaw_assets.lake.artifact import ArtifactRef, Identity
    from vlaw_models.episodes import Episode

_SCORE = {"judge": "reward_model", "owner": None, "task": None}
_MEMBER: dict[str, Any] = {}
_EVALUATION = {"metric": "success_rate", "detail": None} | dict.fromkeys(
    ("policy", "world_model", "reward_model", "camera", "trials", "successes", "value", "low", "high")
)
_STATISTIC = ("vector", "number", "name", "unit", "count", "mean", "std", "min", "max", "q01", "q99")


class Rows:
    """The writing half of a `Draft`."""

    reused: ArtifactRef | None = None

    def __init__(self, paths: Paths, *, asset: str, partition: str, identity: Identity):
        self.asset, self.partition, self.identity = asset, partition, identity
        self.artifact_id = f"{identity.digest[:16]}-{uuid.uuid4().hex[:8]}"
        self._folder = paths.drafts(asset, partition) / self.artifact_id
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._digests: dict[str, list[str]] = {}
        self._columns: dict[str, list[Any]] = {}
        self._steps = Spool(self._folder / "steps.arrow", STEPS)
        self._ways: dict[str, str] = {}
        """Table -> 'rows' or 'columns': how it is written."""
        self._frames = frames.FrameWriter(paths)
        self._embeddings: list[Any] = []
        self._model = ""
        self._latents = latents.LatentWriter(paths)

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
        first = self._num_episodes
        parts = [
            encode_episode(
                episode,
                purpose=purpose,
                world=world,
                policy=policy,
                world_model=world_model,
                label_source=label_source,
                where=f"{self._name}, episode {index}",
            )
            for index, episode in enumerate(episodes, start=first)
        ]
        return self.write_encoded([concatenated(parts)] if parts else [])

    def write_encoded(self, parts: Iterable[pa.Table]) -> list[str]:
        """Add episodes that were encoded elsewhere (see encoded.py), in order, and return their ids; may be called once
        per batch. One part at a time is in memory, and all frames of a call go into one fragment of the table.

        What goes wrong while a part is made is raised as it is.
        """
        self._check_writing("episodes", "rows")
        names: list[str] = []
        taken = (self._taken(part, names) for part in parts if part.num_rows)
        self._frames.write_parts(images for images in taken if images.num_rows)
        return names

    def _taken(self, part: pa.Table, names: list[str]) -> pa.Table:
        """Keeps rows and steps of encoded episodes, adds their ids to `names`, and returns their frames."""
        import pyarrow as pa

        first, digests = self._num_episodes, part["content_digest"].to_pylist()
        ids = [
            f"{purpose}-{self.identity.digest[:12]}-{index:05d}"
            for index, purpose in enumerate(part["purpose"].to_pylist(), start=first)
        ]
        # Copied: what was read from a file stands on all of its bytes, pictures too.
        rows = part.drop_columns(["steps", "frames"]).take(pa.array(range(len(ids))))
        rows = rows.append_column("episode_id", pa.array(ids, pa.string()))
        rows = rows.append_column("episode_index", pa.array(range(first, first + len(ids)), pa.int32()))
        rows = rows.append_column("created_at", pa.repeat(pa.scalar(datetime.now(UTC), TIMESTAMP), len(ids)))
        self._columns.setdefault("episodes", []).append(
            validated("episodes", self._owned(rows, "episodes"), where=self._name)
        )
        self._digests.setdefault("episodes", []).extend(digests)
        self._steps.add(validated("steps", self._owned(inner(part, "steps", ids), "steps"), where=self._name))
        names += ids
        images = inner(part, "frames", ids)
        return images.append_column("artifact_id", pa.repeat(pa.scalar(self.artifact_id), len(images)))

    @property
    def _num_episodes(self) -> int:
        return sum(part.num_rows for part in self._columns.get("episodes", ()))

    def _owned(self, rows: pa.Table, name: str) -> pa.Table:
        """Rows with the columns that say whose they are."""
        import pyarrow as pa

        for key, value in self._owner_columns().items():
            rows = rows.append_column(key, pa.repeat(pa.scalar(value, TABLES[name].field(key).type), len(rows)))
        return rows

    @property
    def episode_digests(self) -> list[str]:
        """Content digests of the episodes written so far by `write_episodes`, in order."""
        return list(self._digests.get("episodes", ()))

    @property
    def episode_tasks(self) -> set[str]:
        """The tasks of the episodes written so far."""
        return {task for part in self._columns.get("episodes", ()) for task in part["task"].to_pylist()}

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

    def write_findings(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows {episode, row, rule, value, decision}: what an import noticed (importers/findings.py)."""
        import pyarrow as pa

        schema = TABLES["import_findings"]
        if rows:
            columns = {name: [row[name] for row in rows] for name in ("episode", "row", "rule", "value", "decision")}
            self.write_table(
                "import_findings",
                pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()}),
            )

    def write_statistics(self, rows: list[dict[str, Any]]) -> None:
        """Add rows {vector, number, name, unit, count, mean, std, min, max, q01, q99}, one per number of a robot's
        state and action."""
        self._add("recorded_statistics", rows, required=_STATISTIC, optional={})

    def write_list(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows of a list that a command changes (see listed.py), `at` in UTC: the complete list so far."""
        self._check_writing(name, "rows")
        kept = self._rows.setdefault(name, [])
        for row in rows:
            content = row | {"at": row["at"].isoformat()}
            self._digests.setdefault(name, []).append(hash_row(content, where=self._name))
            kept.append(row | self._owner_columns() | {"position": len(kept)})

    def write_table(self, name: str, columns: Any) -> None:
        """Add rows of a data table as Arrow columns (without those of the owner): for rows by the million.

        They follow what `write_table` was given before; a table is written either by rows or by columns. Episodes come
        with their ids, `episode_index` and digests, and without frames. Raises VlawError for a table written by rows.
        """
        import pyarrow as pa

        self._check_writing(name, "columns")
        if "position" in TABLES[name].names:
            first = sum(part.num_rows for part in self._columns.get(name, ()))
            columns = columns.append_column("position", pa.array(np.arange(first, first + columns.num_rows)))
        rows = validated(name, self._owned(columns, name), where=self._name)
        if name == "steps":
            self._steps.add(rows)
        else:
            self._columns.setdefault(name, []).append(rows)
        # Artifact ids differ between attempts, content must not; and it is what is stored, in the types of the table.
        content = rows.select([key for key in TABLES[name].names if key not in ("owner", "created_at", *OWNER)])
        self._digests.setdefault(name, []).append(digest_of_columns(content))

    def write_embeddings(self, model: str, rows: Sequence[dict[str, str]], vectors: np.ndarray) -> None:
        """Add vectors (N, D) float32 of length 1 with their rows {owner, episode_id, task, purpose, outcome}, in order.

        `model` is the content digest of what made them, the same in every call: each model has a table of its own.
        """
        self._check_writing()
        if not rows:
            return
        if self._model not in ("", model):
            raise VlawError("embeddings of two models in one artifact", where=self._name, remedy="make two artifacts")
        self._model = model
        self._embeddings.append(embeddings.rows_of(self.artifact_id, rows, vectors, where=self._name))
        # Artifact ids differ between attempts, content must not.
        content = self._embeddings[-1].drop_columns(["artifact_id", "owner"])
        self._digests.setdefault("embeddings", []).append(digest_of_columns(content))

    def write_latents(self, model: str, owner: str, episode_id: str, steps: range, made: np.ndarray) -> None:
        """Add the latents (T', C, V*h, w) float16 of an episode's frames, which are of these steps; `owner` is the
        artifact that holds it.

        `model` is the content digest of the autoencoder, the same in every call. They go to disk a few at a time.
        """
        self._check_writing()
        self._latents.add(self.artifact_id, model, owner, episode_id, steps, made, where=self._name)
        # Artifact ids differ between attempts, content must not.
        content = {
            "episode_id": episode_id,
            "shape": list(made.shape),
            "sha256": hashlib.sha256(made.tobytes()).hexdigest(),
        }
        self._digests.setdefault("latents", []).append(digest_of(content))

    def _add(
        self,
        name: str,
        rows: list[dict[str, Any]],
        *,
        required: Sequence[str],
        optional: dict[str, Any],
        rename: dict[str, str] | None = None,
    ) -> None:
        self._check_writing(name, "rows")
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

    def _check_writing(self, table: str = "", way: str = "") -> None:
        if self.reused is not None:
            raise VlawError(
                f"this artifact exists already ({self.reused.artifact_id}): nothing may be written",
                where=self._name,
                remedy="return when draft.reused is set, or commit with force=True",
            )
        for name in ("episodes", "steps") if table == "episodes" and way == "rows" else (table,):
            if self._ways.setdefault(name, way) != way:
                raise VlawError(
                    f"rows for {name} were written {'one by one' if way == 'columns' else 'as columns'} before",
                    where=self._name,
                    remedy="use one way",
                )

    def _owner_columns(self) -> dict[str, Any]:
        experiment, iteration = split_partition(self.partition)
        return {
            "artifact_id": self.artifact_id,
            "asset": self.asset,
            "partition_key": partition_folder(self.partition),
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


def concatenated(parts: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_tables(parts)


def digest_of_columns(columns: Any) -> str:
    """sha256 (hex) of an Arrow table's names, types and values: its IPC stream, all rows in one batch."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    columns = columns.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    return hashlib.sha256(sink.getvalue()).hexdigest()
