"""Embeddings of episodes in Lance: one table per model, one tagged version per artifact, reads pinned by the ledger.

Which rows a person may see is decided by query/similarity.py: those of committed artifacts.

Vectors of different models are not comparable, so each model has a table of its own, named by the start of the model's
content digest. The index is derived: it is rebuilt from the rows, is in no digest, and losing it costs speed only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vlaw_assets.lake import disk, replica
from vlaw_assets.lake.durable import FileLock, fsync_files
from vlaw_assets.lake.lance_table import fragments_of, log_files, settled_hint
from vlaw_assets.lake.model_table import ModelTable
from vlaw_assets.lake.paths import Paths
from vlaw_models.errors import VlawError

TEXTS = ("artifact_id", "owner", "episode_id", "task", "purpose", "outcome")
"""Columns besides the vector. `owner` is the artifact that holds the episode, `artifact_id` the one that embedded
it."""
OUTCOMES = ("success", "failure", "not judged")

INDEX_FROM = 256
"""Fewer vectors than this are compared one by one just as quickly."""
UNINDEXED_SHARE = 0.25
"""The index is rebuilt when more than this share of the rows came after it. Those rows are compared one by one until
then, and rebuilding at a fixed share keeps the cost per row constant however many artifacts there are."""
ROWS_PER_CELL = 1000
"""Of the index. A search opens a few cells and compares every vector in them."""


def folder(paths: Paths, name: str) -> Path:
    return paths.embeddings / f"{name}.lance"


def schema(dimension: int) -> pa.Schema:
    texts = [pa.field(name, pa.string()) for name in TEXTS]
    return pa.schema([*texts, pa.field("vector", pa.list_(pa.float32(), dimension))])


def rows_of(artifact_id: str, rows: Sequence[dict[str, str]], vectors: np.ndarray, *, where: str) -> pa.Table:
    """The table to write. Raises VlawError for vectors that do not fit the rows, are not finite or not of length 1."""
    if vectors.ndim != 2 or len(vectors) != len(rows) or not vectors.size or vectors.dtype != np.float32:
        raise VlawError(
            f"{len(rows)} rows with vectors of shape {vectors.shape} {vectors.dtype}",
            where=where,
            remedy="give one float32 vector per row",
        )
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4):
        raise VlawError("a vector is not of length 1", where=where, remedy="normalise the vectors")
    unknown = sorted({row["outcome"] for row in rows} - set(OUTCOMES))
    if unknown:
        raise VlawError(f"unknown outcomes {unknown}", where=where, remedy=f"one of {', '.join(OUTCOMES)}")
    columns = [pa.array([artifact_id] * len(rows), pa.string())]
    columns += [pa.array([row[name] for row in rows], pa.string()) for name in TEXTS[1:]]
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1), pa.float32())
    columns.append(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
    return pa.Table.from_arrays(columns, schema=schema(vectors.shape[1]))


def write(paths: Paths, model: str, table: pa.Table, *, artifact_id: str) -> dict[str, Any]:
    """Append the rows as one durable, tagged Lance version: {"table", "version", "rows", "files", "log"}.

    They count only once the ledger names them. Raises VlawError where the model's table holds vectors of another size.
    """
    made = ModelTable(paths, paths.embeddings, model, table.schema, "vector")
    made.write(table)
    return made.commit(artifact_id)


def read(paths: Paths, entry: dict[str, Any] | None) -> pa.Table:
    """Exactly the rows behind one entry returned by `write`, in the order written. Raises VlawError if files are
    gone."""
    if not entry:
        return schema(1).empty_table()
    uri = folder(paths, entry["table"])
    try:
        dataset, fragments = fragments_of(uri, entry)
        table = dataset.scanner(fragments=fragments, scan_in_order=True).to_table()
    except (OSError, ValueError) as error:
        disk.refuse_if_out_of_files(error)
        raise VlawError(
            f"embeddings cannot be read: {error}",
            where=str(uri),
            remedy="restore the files, or materialize episode_embeddings again with --force",
        ) from error
    if table.num_rows != entry["rows"]:
        raise VlawError(
            f"{table.num_rows} embeddings where the ledger has {entry['rows']}",
            where=str(uri),
            remedy="restore the table, or materialize episode_embeddings again with --force",
        )
    return table


def nearest(table: Any, vector: np.ndarray, where: str, k: int, *, indexed: bool) -> list[dict[str, Any]]:
    """The `k` rows of a Lance dataset nearest to a vector, with their "_distance" (cosine), where `where` ('' for all)
    holds.

    The condition comes first and the search after it, so k rows are found if there are k. Raises OSError or ValueError
    of Lance.
    """
    asked = {"column": "vector", "q": vector, "k": k, "metric": "cosine", "use_index": indexed}
    columns = [*TEXTS, "_distance"]
    return table.to_table(columns=columns, nearest=asked, filter=where or None, prefilter=True).to_pylist()


def among(ids: Iterable[str]) -> str:
    """The condition that a row belongs to one of these artifacts."""
    return f"artifact_id IN ({', '.join(map(quoted, sorted(ids)))})"


def quoted(text: str) -> str:
    """A string literal of the filter language; a quote inside is doubled."""
    return "'" + text.replace("'", "''") + "'"


def refresh_index(paths: Paths, name: str) -> bool:
    """Build or rebuild the search index where it is worth it; True if it was. Never touches rows or tagged versions.

    One process at a time; a second one goes on without, since the rows can be searched all the same.
    """
    import lance

    uri = folder(paths, name)
    if replica.of(uri) is not None:
        return False  # an index is of this host's copy, and its version would take another commit's place
    lock = FileLock(paths.locks / f"embeddings-index--{name}.lock")
    if not lock.acquire(holder="index"):
        return False
    try:
        total = lance.dataset(str(uri)).count_rows()
        if total < INDEX_FROM or total - _indexed(uri) <= UNINDEXED_SHARE * total:
            return False
        import lancedb  # a second to import: not for lakes without need of an index
        from lancedb.index import IvfFlat

        table = lancedb.connect(str(paths.embeddings)).open_table(name)
        cells = max(1, total // ROWS_PER_CELL)
        table.create_index("vector", config=IvfFlat(distance_type="cosine", num_partitions=cells), replace=True)
        # The newest manifest now names the index: one torn by a power cut would close the table to appends.
        files = [path for path in (uri / "_indices").rglob("*") if path.is_file()]
        dataset = lance.dataset(str(uri))
        fsync_files([*files, *log_files(dataset, uri, "")[:-1], settled_hint(uri)], root=paths.root, missing_ok=True)
        return True
    finally:
        lock.release()


def _indexed(uri: Path) -> int:
    """How many rows the newest version's index has; 0 without one, and where files of it are gone."""
    import lance

    found = [
        index
        for index in lance.dataset(str(uri)).describe_indices()
        if all((uri / "_indices" / segment.uuid).is_dir() for segment in index.segments)
    ]
    return max((index.num_rows_indexed for index in found), default=0)
