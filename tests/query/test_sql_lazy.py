"""Only what statements name is made; what a statement sees is the same as if all had been."""

from __future__ import annotations

import shutil

import duckdb
import pytest
from factories import commit_all
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake, quarantine
from vlaw_assets.query import connect
from vlaw_assets.query.admission import admit
from vlaw_assets.query.questions import questions
from vlaw_assets.query.views import sources
from vlaw_models.errors import VlawError


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lake.open(tmp_path_factory.mktemp("lazy") / "lake")
    commit_all(made)
    return made


@pytest.fixture
def made(monkeypatch):
    """The names that every worker was given, in order."""
    from vlaw_assets.query.process import SqlProcess

    given, make = [], SqlProcess.make
    monkeypatch.setattr(
        SqlProcess,
        "make",
        lambda self, **setup: (given.append({*setup["tables"], *setup["definitions"]}), make(self, **setup))[1],
    )
    return given


def test_what_is_named_is_made_and_then_all(lake, made):
    with connect(lake) as query:
        assert query.execute("SELECT 1").fetchall() == [(1,)]
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)]
        worker = query.worker_pid
        for name in ("artifacts", "steps", "episodes", "frames", "reached_by([], NULL)"):
            query.execute(f"SELECT count(*) FROM {name}")
        assert query.worker_pid == worker, "no statement after that starts another"
    assert made == [set(), query.names]
    assert {"artifacts", "edges", "in_quarantine", "episodes", "study_artifacts", "reached_by"} <= query.names


def test_with_all_that_it_is_made_of(lake, made):
    with connect(lake) as query:
        for _ in range(3):
            assert query.execute("WITH x AS (FROM Episodes) SELECT count(*) FROM x").fetchall() == [(4,)]
        assert made == [{"episodes", "in_quarantine", "labels_in_force", "decisions_in_force"}]
        with pytest.raises(VlawError, match="no other file"):
            query.execute(f"FROM read_parquet('{lake.paths.format}')")
        path = sources(lake, lake.ledger.artifacts())["steps"][0].path
        assert query.execute(f"SELECT count(*) > 0 FROM '{path}'").fetchall() == [(True,)], (
            "a pinned file can be read by its path"
        )


LISTINGS = [
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "DESCRIBE",
    "SHOW TABLES FROM main",
    "FROM (SHOW TABLES)",
    "SHOW study_artifacts",
    "DESC study_artifacts",
    "DESC",
    "FROM information_schema.tables",
    "SELECT * FROM INFORMATION_SCHEMA.columns",
    'FROM "duckdb_tables"',
    "FROM duckdb_tables()",
    "FROM duckdb_views()",
    "FROM duckdb_columns",
    "FROM sqlite_master",
    "FROM pg_catalog.pg_tables",
    "FROM pg_views",
    "FROM pg_class",
    "FROM pragma_table_info('study' || '_artifacts')",
    "SELECT * FROM duckdb_functions() WHERE function_name = 'reached' || '_by'",
]


UNEQUAL = ("column_count", "estimated_size", "is_bound", "relnatts", "sql")
"""Columns that say what was before; so do numbers of things and of schemas."""


@pytest.fixture(scope="module")
def whole(lake):
    """A connection in which all that there is has been made."""
    with connect(lake) as made:
        made.execute(" ".join(["SELECT 1 --", *made.names]))
        yield made


@pytest.mark.parametrize(
    ("sql", "guess"),
    [
        pytest.param(sql, guess, marks=[] if number % every == 0 else [pytest.mark.slow])
        for guess, every in ((True, 2), (False, 4))
        for number, sql in enumerate(LISTINGS)
    ],
)
def test_a_listing_is_whole(lake, whole, sql, guess, monkeypatch):
    """Also where the words of the statement do not give it away: what was parsed does."""
    if not guess:
        import re

        monkeypatch.setattr("vlaw_assets.query.WIDE", re.compile("never"))
    with connect(lake) as query:
        query.execute("SELECT 1")
        columns = whole.table(sql).column_names
        kept = [name for name in columns if not name.endswith(("oid", "namespace")) and name not in UNEQUAL]
        found, expected = (sorted(map(str, one.table(sql).select(kept).to_pylist())) for one in (query, whole))
        assert found == expected
        assert found


def test_no_view_of_duckdb_that_lists_is_missed(lake):
    """Those that can be named without their schema; a new version of DuckDB may have others."""
    from vlaw_assets.query.admission import LISTS

    with connect(lake) as query:
        rows = query.execute(
            "SELECT view_name FROM duckdb_views() WHERE internal AND schema_name <> 'information_schema'"
        ).fetchall()
    assert rows
    assert [name for (name,) in rows if not name.startswith(LISTS)] == []


def test_what_is_not_there_is_said_of_all(lake):
    with connect(lake) as query:
        query.execute("SELECT 1")
        with pytest.raises(VlawError, match=r'(?s)Table with name episods does not exist.*"episodes"'):
            query.execute("FROM episods")


@pytest.mark.parametrize("first", ["SELECT 1", "SELECT count(*) FROM artifacts", "SHOW TABLES"])
def test_a_broken_view_is_said_when_it_is_named(lake, tmp_path, first):
    shutil.copytree(lake.paths.root, tmp_path / "lake")
    copy = Lake.open(tmp_path / "lake")
    file = next(ref.versions["steps"]["files"][0] for ref in copy.ledger.artifacts() if "steps" in ref.versions)
    (copy.paths.root / file["path"]).unlink()
    with connect(copy) as query:
        query.execute(first)
        for _ in range(2):
            with pytest.raises(VlawError, match=r"(?s)missing.*verify"):
                query.execute("SELECT * FROM steps")
            assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)], "the others can be read"
        shutil.copy(lake.paths.root / file["path"], copy.paths.root / file["path"])
        assert query.table("SELECT * FROM steps").num_rows > 0


def test_a_connection_stays_at_its_moment(lake, tmp_path):
    """Whenever its tables are made; a lazy one is of the moment at which something of the lake is first named."""
    shutil.copytree(lake.paths.root, tmp_path / "lake")
    copy = Lake.open(tmp_path / "lake")
    count, seen = len(copy.ledger.artifacts()), "SELECT count(*), (SELECT count(*) FROM in_quarantine) FROM artifacts"
    with connect(copy) as query, connect(copy, lazy=True) as lazy:
        for one in (query, lazy):
            one.execute("SELECT 1")
        episode = some_episode(copy)
        quarantine.add(copy, [episode], why="blurred", by="tester")
        assert query.execute(seen).fetchall() == [(count, 0)]
        assert lazy.execute(seen).fetchall()[0][0] == count + 1
        quarantine.release(copy, [episode], why="sharp", by="tester")
        assert lazy.execute("SELECT count(*) FROM quarantine").fetchall() == [(1,)], "and stays there"
        assert lazy.execute(seen).fetchall()[0][0] == count + 1


def some_episode(lake: Lake) -> str:
    with connect(lake) as query:
        return query.execute("SELECT min(episode_id) FROM episodes").fetchone()[0]


def test_a_ledger_that_was_forged_is_said_whatever_is_asked(lake, tmp_path, monkeypatch):
    shutil.copytree(lake.paths.root, tmp_path / "lake")
    copy = Lake.open(tmp_path / "lake")
    chain = copy.paths.chain.read_bytes()
    monkeypatch.setenv("VLAW_LAKE", str(copy.paths.root))
    for forged in (
        chain.replace(b'"size":', b'"size":1', 1),
        chain.replace(b"}\n{", b"},{\n", 1),
        chain.replace(b"\n", b" 1\n", 1),
    ):
        copy.paths.chain.write_bytes(forged)
        with pytest.raises(VlawError, match=r"ledger\.chain"):
            connect(copy)
        for sql in ("SELECT 1", "SELECT count(*) FROM artifacts", "SHOW TABLES", "FROM episodes", "FROM 'x.parquet'"):
            result = CliRunner().invoke(app, ["sql", sql])
            assert result.exit_code == 2, result.output
            assert "ledger.chain" in result.output


def test_no_shipped_question_needs_more_than_it_names():
    """A division is no path: the parser has the operator among the names."""
    for question in questions():
        admitted = admit(duckdb.connect(), question.sql)
        assert (admitted.any_file, admitted.lists) == (False, False), question.name
    for path in ("a.parquet", "/tmp/a", "./a", "é/", "main.x/y"):
        assert admit(duckdb.connect(), f'SELECT 1 / 2 FROM "{path}"').any_file, path


def test_a_question_is_given_what_it_names_at_once(lake, made):
    with connect(lake) as query:
        query.table(next(question.sql for question in questions() if question.name == "success_per_task"))
    assert made == [{"artifacts", "episodes", "in_quarantine", "labels_in_force", "decisions_in_force", "quarantine"}]
