"""A study's rows in one DuckDB file: everything that its report asks for, without the lake that it ran in.

It is small beside the lake (no image, no step, no checkpoint), so it can lie beside the report and anyone can ask the
same questions: `duckdb FILE`, then `FROM study_success(p_study := 'claims')`. A study that ran in pieces, in lakes that
do not see each other, is put together from the files of the pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from vlaw_assets.lake import sealed
from vlaw_assets.query import opened, views
from vlaw_assets.query.catalogue import check_target, replaced
from vlaw_assets.query.questions import FOLDER, questions
from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_assets.lake import Lake

ABOUT = pa.schema([("study", pa.string()), ("layout", pa.int32()), ("made_at", pa.timestamp("us", tz="UTC"))])
LAYOUT = 1
TABLES = ("artifacts", "episodes", "evaluations", "reward_scores", "in_quarantine")
"""What is kept, with the columns that SQL shows of a lake."""
MODELS = ("policy", "world_model", "reward_model", "autoencoder")
"""Kinds of what all experiments begin with and that must be the same."""
DERIVED = ("study_artifacts", "thresholds")
"""Views over these tables, the same as over a lake."""
OF_STUDIES = "study_*.sql"

_ARTIFACTS = """
CREATE TEMP TABLE chosen AS
WITH own AS (
  SELECT artifact_id, owner_id FROM study_artifacts WHERE study = $study
  UNION ALL SELECT artifact_id, owner_id FROM artifacts WHERE asset = 'study' AND experiment = $study
  UNION ALL SELECT artifact_id, owner_id FROM artifacts WHERE partition = '' AND is_current
)
SELECT artifact_id FROM own UNION SELECT owner_id FROM own
"""
"""Of the study, what all experiments begin with, and whose rows these are."""
_ROWS = {
    "artifacts": "SELECT * FROM artifacts SEMI JOIN chosen USING (artifact_id) ORDER BY sequence",
    "episodes": "SELECT * FROM episodes SEMI JOIN chosen USING (artifact_id)",
    "evaluations": "SELECT * FROM evaluations SEMI JOIN chosen USING (artifact_id)",
    "reward_scores": "SELECT * FROM reward_scores SEMI JOIN chosen USING (artifact_id)",
    "in_quarantine": "SELECT * FROM in_quarantine WHERE episode_id IN (SELECT episode_id FROM kept.episodes)",
}


def write_study_file(lake: Lake | str | Path, study: str, file: str | Path, as_of: str | int | None = None) -> Path:
    """Writes the rows of `study` to `file`, all or nothing; one that is there is replaced in one step.

    Raises VlawError: the lake has nothing of that study; `file` is another kind of file, lies inside the lake or cannot
    be written; a pinned file is missing or changed.
    """
    lake = opened(lake, as_of)
    path = Path(file).expanduser().absolute()
    check_target(path, lake.paths.root, "a file of a study", "SELECT study FROM vlaw_study")
    sealed.check(lake.paths, lake.verified)
    refs = lake.ledger.artifacts()
    files = views.sources(lake, refs)
    named = [source for table in TABLES for source in files.get(table, ())]
    wrong = lake.verified.damage((source.ref, source.file) for source in named)
    if wrong:
        raise wrong
    about = {"study": study, "layout": LAYOUT, "made_at": datetime.now(UTC)}
    with replaced(path) as draft, duckdb.connect(config={"threads": 1}) as connection:
        views.make(connection, lake, refs, files)
        connection.execute(_ARTIFACTS, {"study": study})
        of_it = "SELECT 1 FROM artifacts SEMI JOIN chosen USING (artifact_id) WHERE partition <> '' LIMIT 1"
        if not connection.execute(of_it).fetchone():
            raise VlawError(
                f"there is nothing of a study {study!r}",
                where=str(lake.paths.root),
                remedy=f"Run it first: vlaw study {study}",
            )
        connection.execute(f"ATTACH {views.quoted(str(draft))} AS kept")
        for name in TABLES:
            connection.execute(f"CREATE TABLE kept.{name} AS {_ROWS[name]}")
        connection.execute("USE kept")
        views.make_table(connection, "vlaw_study", pa.Table.from_pylist([about], schema=ABOUT))
        _derive(connection)
        for question in questions(FOLDER, OF_STUDIES):
            connection.execute(question.macro())
        connection.execute("USE memory")
        connection.execute("DETACH kept")
    return path


class StudyFiles:
    """The rows of one or several files of a study, asked like a lake."""

    def __init__(self, files: Sequence[str | Path], study: str):
        """Raises VlawError for what is no such file, for files of another study, and for files that contradict each
        other."""
        self.differing = 0
        """Artifacts of one partition that several files have and made differently, as machines of two kinds do."""
        self._connection = duckdb.connect(config={"threads": 1, "autoload_known_extensions": False})
        for number, file in enumerate(files):
            self._attach(f"piece_{number}", Path(file), study)
        self._connection.execute("SET enable_external_access = false")  # whatever views a stranger's file may have
        for name in TABLES:
            together = " UNION ALL BY NAME ".join(
                f"SELECT {number} AS piece, * FROM piece_{number}.{name}" for number in range(len(files))
            )
            self._connection.execute(f"CREATE TABLE {name} AS {together}")
        self._hold_together([str(file) for file in files])
        # What two pieces made is the first one's; the other's rows are its own, and current no more.
        self._connection.execute(
            """
            CREATE OR REPLACE TABLE artifacts AS
            SELECT * EXCLUDE (piece, first)
              REPLACE (row_number() OVER (ORDER BY piece, sequence) - 1 AS sequence,
                is_current AND piece = first AS is_current)
            FROM (
              SELECT *, min(piece) FILTER (WHERE is_current) OVER (PARTITION BY asset, partition) AS first
              FROM artifacts
            )
            """
        )
        _derive(self._connection)

    def table(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """The result of one statement; parameters that are not given are NULL."""
        names = duckdb.extract_statements(sql)[0].named_parameters
        given = {name: (parameters or {}).get(name) for name in names}
        return self._connection.sql(sql, params=given).to_arrow_table()

    def close(self) -> None:
        self._connection.close()

    def _attach(self, name: str, file: Path, study: str) -> None:
        try:
            if not file.is_file():
                raise FileNotFoundError("there is no such file")
            self._connection.execute(f"ATTACH {views.quoted(str(file.absolute()))} AS {name} (READ_ONLY)")
            said = self._connection.execute(f"SELECT study, layout FROM {name}.vlaw_study").fetchone()
        except (OSError, duckdb.Error) as error:
            why = str(error).strip().partition("\n")[0]
            raise VlawError(
                f"the file has no rows of a study ({why})",
                where=str(file),
                remedy=f"write it where the study ran: vlaw export study {study} FILE.duckdb",
            ) from error
        if said != (study, LAYOUT):
            found = "nothing" if said is None else f"study {said[0]!r}, layout {said[1]}"
            raise VlawError(
                f"the file holds {found}, not study {study!r}, layout {LAYOUT}",
                where=str(file),
                remedy="name the file of this study, written by this version of vlaw",
            )

    def _hold_together(self, files: list[str]) -> None:
        """Raises VlawError where two files have one artifact, as files of one lake do, and where they began with other
        definitions or other models. Counts what they made of one partition and differently."""
        twice = self._connection.execute(
            "SELECT artifact_id, min(piece), max(piece) FROM artifacts GROUP BY artifact_id HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice:
            raise VlawError(
                f"both are of one lake: each has artifact {twice[0]}",
                where=f"{files[twice[1]]}, {files[twice[2]]}",
                remedy="leave the older one out; a lake's file holds everything of the study that the lake has",
            )
        made = self._connection.execute(
            """
            SELECT asset, partition, min(piece), max(piece), any_value(kind) AS kind FROM artifacts
            WHERE is_current AND asset <> 'study_progress'
            GROUP BY asset, partition HAVING count(DISTINCT content_digest) > 1 ORDER BY min(sequence)
            """
        ).fetchall()
        for asset, partition, first, second, kind in made:
            if asset == "study" or (not partition and kind in MODELS):
                named = f"{asset}[{partition}]" if partition else asset
                raise VlawError(
                    f"both have {named}, and not the same: these are not pieces of one study",
                    where=f"{files[first]}, {files[second]}",
                    remedy="run the pieces with one definition from the same weights, or leave one out",
                )
        self.differing = len(made)


def _derive(connection: duckdb.DuckDBPyConnection) -> None:
    for name in DERIVED:
        connection.execute(f"CREATE VIEW {name} AS {views.PLAIN[name]}")
