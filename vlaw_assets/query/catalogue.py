"""A catalogue file: what SQL shows of a lake at one moment, for the DuckDB command line, its UI and BI tools.

It is written all or nothing. It is a snapshot: a small DuckDB database with the ledger as tables, views by absolute
path over the Parquet files that the ledger named then, the questions of `sql/` as table macros, and one row saying of
which lake and moment it is. It protects nothing: whoever opens the file has a plain DuckDB connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from vlaw_assets.lake import disk, sealed
from vlaw_assets.lake.paths import FORMAT_VERSION
from vlaw_assets.query import opened, views
from vlaw_assets.query.questions import FOLDER, questions
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

_ABOUT = pa.schema(
    [
        ("lake", pa.string()),
        ("lake_format", pa.int32()),
        ("as_of_sequence", pa.int64()),
        ("as_of_artifact_id", pa.string()),
        ("made_at", pa.timestamp("us", tz="UTC")),
    ]
)
_QUESTIONS = pa.schema([(name, pa.string()) for name in ("name", "question", "parameters", "call")])


def write_catalogue(lake: Lake | str | Path, file: str | Path, as_of: str | int | None = None) -> Path:
    """Write the catalogue of `lake` (as of that moment) to `file`; one that is there is replaced in one step.

    Tables `artifacts`, `edges`, `vlaw_catalogue` (lake, lake_format, as_of_sequence, as_of_artifact_id, made_at) and
    `vlaw_questions` (name, question, parameters, call); a view for every data table, for `frames` and for
    `study_artifacts`.

    Every file is verified, at the time of writing: what happens to it later, whoever opens the catalogue will not
    notice.

    Raises VlawError: `file` is something else than a catalogue, lies inside the lake or cannot be written; a pinned
    file is missing or changed.
    """
    lake = opened(lake, as_of)
    path = Path(file).expanduser().absolute()
    check_target(path, lake.paths.root, "a catalogue", "SELECT lake, as_of_sequence FROM vlaw_catalogue")
    sealed.check(lake.paths, lake.verified)
    refs = lake.ledger.artifacts()
    files = views.sources(lake, refs)
    wrong = lake.verified.damage((source.ref, source.file) for listed in files.values() for source in listed)
    if wrong:
        raise wrong
    about = {
        "lake": str(lake.paths.root),
        "lake_format": FORMAT_VERSION,
        "made_at": datetime.now(UTC),
        "as_of_sequence": len(refs) - 1 if refs else None,
        "as_of_artifact_id": refs[-1].artifact_id if refs else None,
    }
    asked = questions() if FOLDER.is_dir() else []
    rows = [{"name": q.name, "question": q.text, "parameters": q.explained, "call": q.call} for q in asked]
    with replaced(path) as draft, duckdb.connect(str(draft), config={"threads": 1}) as connection:
        views.make(connection, lake, refs, files)
        views.make_table(connection, "vlaw_catalogue", pa.Table.from_pylist([about], schema=_ABOUT))
        views.make_table(connection, "vlaw_questions", pa.Table.from_pylist(rows, schema=_QUESTIONS))
        for question in asked:
            connection.execute(question.macro())
        connection.execute("CHECKPOINT")
    return path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Where to write a DuckDB file that takes the place of `path` in one step, once it is whole.

    Raises VlawError where it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    except (OSError, duckdb.IOException) as error:
        raise disk.failure(
            error, "the file cannot be written", where=str(path), remedy="choose a file in a folder you can write to"
        ) from error
    finally:
        for left in (draft, draft.with_name(f"{draft.name}.wal")):
            left.unlink(missing_ok=True)


def check_target(path: Path, lake: Path, kind: str, sign: str) -> None:
    """Raises VlawError unless `path` is outside the lake and free, or a DuckDB file that answers `sign`: it is of the
    kind."""
    if path.resolve().is_relative_to(lake.resolve()):
        raise VlawError(f"{kind} does not belong inside the lake", where=str(path), remedy="choose another folder")
    if not path.parent.is_dir():
        raise VlawError(f"the folder of {kind} is not there", where=str(path), remedy=f"mkdir -p {path.parent}")
    if not os.path.lexists(path):
        return
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            connection.execute(sign).fetchone()
    except duckdb.Error as error:
        why = str(error).strip().partition("\n")[0]
        raise VlawError(
            f"the file is there and is not {kind} that vlaw wrote ({why})",
            where=str(path),
            remedy="choose another name, or delete the file yourself",
        ) from error
