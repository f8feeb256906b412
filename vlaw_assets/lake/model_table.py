"""Lance tables of what one model made of episodes, such as vectors and latents: a table per model, made when it is
first needed; batches go to disk at once, and one durable, tagged version per artifact makes them readable.

Rows have a column `artifact_id`. They count only once the ledger names them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from vlaw_assets.lake import disk
from vlaw_assets.lake.durable import FileLock, fsync_files, sha256_file
from vlaw_assets.lake.frames import log_files, settled_hint
from vlaw_assets.lake.paths import Paths
from vlaw_models.errors import VlawError

STORAGE_VERSION = "2.1"
NAME_LENGTH = 12
LOCK_S = 60.0
CREATED = "created"
"""Tag of the version that a new table has before any row."""


def table_name(model: str) -> str:
    """The name of the table of a model, given the model's content digest."""
    return model[:NAME_LENGTH]


class ModelTable:
    """Rows of one artifact on their way into the table of a model."""

    def __init__(self, paths: Paths, folder: Path, model: str, schema: pa.Schema, column: str):
        """`column`: what the table is about; all of its rows have one type of it. Raises VlawError where the table
        there is of another type."""
        import lance

        self._paths, self._schema, self.name = paths, schema, table_name(model)
        self.uri = folder / f"{self.name}.lance"
        self._create()
        if (found := lance.dataset(str(self.uri)).schema.field(column).type) != schema.field(column).type:
            raise VlawError(
                f"{column}s of {schema.field(column).type} for a table of {found}",
                where=str(self.uri),
                remedy=f"one model gives {column}s of one size: was another table moved here?",
            )
        self._fragments: list[Any] = []
        self._rows = 0

    def write(self, rows: pa.Table) -> None:
        """Raises VlawError where the disk does not take them."""
        from lance.fragment import write_fragments

        self._rows += rows.num_rows
        try:
            self._fragments += write_fragments(
                rows, str(self.uri), schema=self._schema, mode="append", data_storage_version=STORAGE_VERSION
            )
        except OSError as error:
            raise disk.failure(
                error,
                "rows cannot be written",
                where=str(self.uri),
                remedy="see that the disk works, then run it again",
            ) from error

    def commit(self, artifact_id: str) -> dict[str, Any]:
        """One durable, tagged version: {"table", "version", "rows", "files", "log"}."""
        import lance

        uri = str(self.uri)
        files = [self.uri / "data" / file.path for fragment in self._fragments for file in fragment.files]
        fsync_files(files, root=self._paths.root)
        dataset = lance.LanceDataset.commit(
            uri,
            lance.LanceOperation.Append(self._fragments),
            read_version=lance.dataset(uri).version,
            commit_message=artifact_id,
            max_retries=100,
        )
        tag = f"artifact-{artifact_id}"
        dataset.tags.create(tag, dataset.version)  # Lance's clean-up deletes versions that have no tag
        log = [*log_files(dataset, self.uri, tag), *_first_version(self.uri)]
        fsync_files([*log, settled_hint(self.uri)], root=self._paths.root, missing_ok=True)
        return {
            "table": self.name,
            "version": dataset.version,
            "rows": self._rows,
            "files": [self._described(path) for path in files],
            "log": [self._described(path) for path in log],
        }

    def _create(self) -> None:
        """The empty table, if it is missing; one process at a time."""
        import lance

        if any((self.uri / "_versions").glob("*.manifest")):
            return
        lock = FileLock(self._paths.locks / f"{self.uri.parent.name}-create--{self.name}.lock")
        if not lock.acquire(holder="create", wait_s=LOCK_S):
            raise VlawError(
                "another process has been creating this table for a minute", where=str(self.uri), remedy="stop it"
            )
        try:
            if not any((self.uri / "_versions").glob("*.manifest")):
                self.uri.parent.mkdir(parents=True, exist_ok=True)
                dataset = lance.write_dataset(
                    self._schema.empty_table(), str(self.uri), mode="overwrite", data_storage_version=STORAGE_VERSION
                )
                dataset.tags.create(CREATED, dataset.version)
                fsync_files(log_files(dataset, self.uri, CREATED), root=self._paths.root)
        finally:
            lock.release()

    def _described(self, path: Path) -> dict[str, Any]:
        return {"path": self._paths.relative(path), "size": path.stat().st_size, "sha256": sha256_file(path)}


def _first_version(uri: Path) -> list[Path]:
    """Files of the empty version that the table began with, which is under no other digest: each artifact stands on it,
    so each names it. By their names, so that damage to it keeps nobody from writing."""
    tag = uri / "_refs" / "tags" / f"{CREATED}.json"
    if not tag.exists():  # without its tag Lance's clean-up may delete it
        return []
    first = [uri / "_versions" / f"{2**64 - 2:020d}.manifest", *sorted((uri / "_transactions").glob("0-*.txn")), tag]
    return [path for path in first if path.exists()]
