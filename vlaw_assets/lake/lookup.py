"""Which rows name given episodes: one DuckDB query per table over the pinned Parquet files of many artifacts at once.

Impact and quarantine are made of these lookups; SQL for people is in vlaw_assets/query. Files are those that the ledger
names, so rows of killed runs and of compacted tables are never seen; Parquet's own minima and maxima rule most row
groups out, because ids of one artifact lie close together.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vlaw_assets.lake import disk
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import ArtifactRef, Lake

NAMING = {"episodes": ("episode_id", "start_episode_id"), "reward_scores": ("episode_id",), "members": ("episode_id",)}
"""Table -> columns in which a row names an episode, its own or another's."""
RESERVED = 16
"""Descriptors of a process that are not for data files: libraries, pipes, the log."""
LITERALS = 256
"""Up to so many ids are written into the query, where they prune row groups; more of them become a table to join."""


@cache
def _database(_process: int) -> Any:
    """One in-memory database per process (a new one costs more than a query); it holds nothing."""
    import duckdb

    return duckdb.connect(":memory:", config={"memory_limit": "2GB"})


@contextmanager
def connected(process: int) -> Iterator[Any]:
    """A cursor of the process's database, whose errors about files are VlawErrors that say what to do."""
    import duckdb

    cursor = _database(process).cursor()
    try:
        yield cursor
    except duckdb.Error as error:
        raise VlawError(
            f"rows cannot be read: {str(error).strip()}",
            where="the lake's data files",
            remedy="`vlaw audit ... --verify` names the files; restore them",
        ) from error
    finally:
        cursor.close()


def files_of(lake: Lake, table: str, among: Iterable[ArtifactRef], *, known: set[str] | None = None) -> list[str]:
    """Absolute paths of the files of the rows that these artifacts own, each of them verified, once (lake/verified.py).

    `known`: paths that need not be looked at again; those that were found good are added. Raises VlawError naming the
    artifact and the first file that is gone or changed.
    """
    owned = [
        (ref, file)
        for ref in among
        if table in ref.versions and not ref.source_artifact_id
        for file in ref.versions[table]["files"]
    ]
    known = set() if known is None else known
    wrong = lake.verified.damage((ref, file) for ref, file in owned if file["path"] not in known)
    if wrong:
        raise wrong
    known.update(file["path"] for _, file in owned)
    return [f"{lake.paths.root}/{file['path']}" for _, file in owned]


def source(lake: Lake, table: str, among: Iterable[ArtifactRef], columns: Sequence[str]) -> str:
    """A SELECT of these columns of the rows that these artifacts own: exactly the files that the ledger names,
    verified."""
    files = files_of(lake, table, among)
    if not files:
        types = {"success": "BOOLEAN", "weight": "DOUBLE", "num_steps": "INTEGER", "position": "BIGINT"}
        typed = ", ".join(f"NULL::{types.get(name, 'VARCHAR')} AS {name}" for name in columns)
        return f"SELECT {typed} WHERE false"
    quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
    return f"SELECT {', '.join(columns)} FROM read_parquet([{quoted}], hive_partitioning = false)"


class Lookup:
    """Lookups in one lake; use it in a `with` block."""

    def __init__(self, lake: Lake):
        self._lake, self._root = lake, lake.paths.root
        self._known: set[str] = set()
        self._connection = _database(os.getpid()).cursor()

    def __enter__(self) -> Lookup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def rows(
        self,
        table: str,
        ids: Collection[str],
        among: Iterable[ArtifactRef],
        columns: Sequence[str],
        *,
        column: str = "episode_id",
    ) -> list[tuple[Any, ...]]:
        """`columns` of the rows of `table` whose `column` is one of `ids`, of these artifacts' own data.

        Raises VlawError when a file that the ledger names is gone, changed or unreadable.
        """
        import duckdb
        import pyarrow as pa

        files = files_of(self._lake, table, among, known=self._known) if ids else []
        if not files:
            return []
        source, values = "read_parquet($files, hive_partitioning = false)", sorted(ids)
        if len(values) <= LITERALS:
            names = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
            where = f"{column} IN ({names})"
        else:
            self._connection.register("wanted", pa.table({"id": values}))
            where = f"{column} IN (SELECT id FROM wanted)"
        at_once = max(1, disk.more_files() // 2 - RESERVED)  # each is open until the query ends
        found: list[tuple[Any, ...]] = []
        try:
            for first in range(0, len(files), at_once):
                found += self._connection.execute(
                    f"SELECT {', '.join(columns)} FROM {source} WHERE {where}",
                    {"files": files[first : first + at_once]},
                ).fetchall()
            return found
        except duckdb.Error as error:
            disk.refuse_if_out_of_files(error)
            raise VlawError(
                f"rows of {table} cannot be read: {str(error).strip()}",
                where=str(self._root),
                remedy="`vlaw audit ... --verify` names the files; restore them",
            ) from error

    def holders(self, episode_id: str) -> list[ArtifactRef]:
        """The artifacts that hold an episode of this id, oldest first; more than one where it was made again by
        force."""
        refs = self._lake.ledger.artifacts()
        found = {artifact for (artifact,) in self.rows("episodes", [episode_id], refs, ["artifact_id"])}
        return [ref for ref in refs if ref.artifact_id in found]

    def known(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that some artifact holds as episodes."""
        return {name for (name,) in self.rows("episodes", ids, self._lake.ledger.artifacts(), ["episode_id"])}

    def with_started(self, ids: Iterable[str]) -> dict[str, str]:
        """Id -> the one of `ids` that it goes back to: the ids themselves, and episodes imagined from them."""
        refs = self._lake.ledger.artifacts()
        origin = {name: name for name in ids}
        fresh: set[str] = set(origin)
        while fresh:
            rows = self.rows("episodes", fresh, refs, ["episode_id", "start_episode_id"], column="start_episode_id")
            fresh = {name for name, _ in rows} - origin.keys()
            origin |= {name: origin[start] for name, start in rows if name in fresh}
        return origin

    def occurring(self, ids: Collection[str], among: Collection[ArtifactRef]) -> dict[str, set[str]]:
        """Artifact id -> those of `ids` that its rows name, as what they are, stand for or started from."""
        found: dict[str, set[str]] = {}
        for table, columns in NAMING.items():
            for column in columns:
                for artifact, name in self.rows(table, ids, among, ["artifact_id", column], column=column):
                    found.setdefault(artifact, set()).add(name)
        return found
