"""Lance tables of what one model made of episodes, such as vectors and latents: a table per model, made when it is
first needed; batches go to disk at once, and one durable, tagged version per artifact makes them readable.

Rows have a column `artifact_id`. They count only once the ledger names them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from vlaw_assets.lake.durable import FileLock
from vlaw_assets.lake.lance_table import CREATED, LanceWriter, create_table, is_there
from vlaw_assets.lake.paths import Paths
from vlaw_models.errors import VlawError

NAME_LENGTH = 12
LOCK_S = 60.0


def table_name(model: str) -> str:
    """The name of the table of a model, given the model's content digest."""
    return model[:NAME_LENGTH]


class ModelTable(LanceWriter):
    """Rows of one artifact on their way into the table of a model."""

    def __init__(self, paths: Paths, folder: Path, model: str, schema: pa.Schema, column: str):
        """`column`: what the table is about; all of its rows have one type of it. Raises VlawError where the table
        there is of another type."""
        import lance

        self.name = table_name(model)
        super().__init__(paths, folder / f"{self.name}.lance", schema, "rows")
        self._create()
        if (found := lance.dataset(str(self.uri)).schema.field(column).type) != schema.field(column).type:
            raise VlawError(
                f"{column}s of {schema.field(column).type} for a table of {found}",
                where=str(self.uri),
                remedy=f"one model gives {column}s of one size: was another table moved here?",
            )

    def commit(self, artifact_id: str) -> dict[str, Any]:
        """One durable, tagged version: {"table", "version", "rows", "files", "log"}."""
        return {"table": self.name, **self.add_version(artifact_id, _first_version(self.uri))}

    def _create(self) -> None:
        """The empty table, if it is missing; one process at a time."""
        if is_there(self.uri):
            return
        lock = FileLock(self._paths.locks / f"{self.uri.parent.name}-create--{self.name}.lock")
        if not lock.acquire(holder="create", wait_s=LOCK_S):
            raise VlawError(
                "another process has been creating this table for a minute", where=str(self.uri), remedy="stop it"
            )
        try:
            if not is_there(self.uri):
                create_table(self.uri, self._schema, root=self._paths.root)
        finally:
            lock.release()


def _first_version(uri: Path) -> list[Path]:
    """Files of the empty version that the table began with, which is under no other digest: each artifact stands on it,
    so each names it. By their names, so that damage to it keeps nobody from writing."""
    tag = uri / "_refs" / "tags" / f"{CREATED}.json"
    if not tag.exists():  # without its tag Lance's clean-up may delete it
        return []
    first = [uri / "_versions" / f"{2**64 - 2:020d}.manifest", *sorted((uri / "_transactions").glob("0-*.txn")), tag]
    return [path for path in first if path.exists()]
