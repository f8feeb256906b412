"""Hostile SQL: everything but reading the views is refused, says why, and leaves no trace on the disk."""

from __future__ import annotations

import hashlib
import os

import pytest
from factories import PARTITION, commit_all

from vlaw_assets.lake import Lake
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError

ONE_SELECT = "only a single SELECT is admitted"
NO_FUNCTION = "is not admitted: SQL reads the views and nothing else"
NO_FILE = "SQL reads the views and no other file"

STATEMENTS = [
    "COPY (SELECT 1) TO '{out}'",
    "COPY episodes TO '{out}' (FORMAT parquet)",
    "COPY artifacts FROM '{file}'",
    "COPY (SELECT 1) TO '{data}'",
    "COPY episodes TO '{folder}' (FORMAT parquet, PARTITION_BY (task))",
    "COPY FROM DATABASE memory TO other",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{out}' AS x",
    "ATTACH '{file}' AS x",
    "ATTACH ':memory:' AS x",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{file}'",
    "INSTALL delta FROM community",
    "FORCE INSTALL delta",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "SET GLOBAL memory_limit = '1TB'",
    "SET allowed_paths = ['{file}']",
    "SET temp_directory = '{folder}'",
    "SET VARIABLE x = 1",
    "SET python_enable_replacements = true",
    "PRAGMA enable_profiling",
    "PRAGMA memory_limit = '1TB'",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CALL enable_logging(storage = 'file', storage_path = '{out}')",
    "CALL enable_profiling(save_location = '{out}')",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW episodes AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SCHEMA x",
    "CREATE SEQUENCE x",
    "CREATE TYPE x AS ENUM ('a')",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE PERSISTENT SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "DROP VIEW episodes",
    "DROP TABLE artifacts",
    "DROP SCHEMA main CASCADE",
    "INSERT INTO artifacts SELECT * FROM artifacts",
    "UPDATE artifacts SET asset = 'x'",
    "DELETE FROM episodes",
    "TRUNCATE artifacts",
    "MERGE INTO artifacts USING edges ON true WHEN MATCHED THEN DELETE",
    "ALTER VIEW episodes RENAME TO x",
    "COMMENT ON TABLE artifacts IS 'x'",
    "WITH d AS (DELETE FROM episodes RETURNING *) SELECT * FROM d",
    "WITH d AS (DELETE FROM artifacts RETURNING *) FROM d",
    "WITH d AS (INSERT INTO edges SELECT * FROM edges RETURNING *) FROM d",
    "WITH d AS (UPDATE edges SET role = '') SELECT 1",
    "WITH d AS (COPY (SELECT 1) TO '{data}') SELECT * FROM d",
    "WITH d AS (COPY episodes TO '{out}' (FORMAT csv)) FROM d",
    "SELECT (WITH d AS (COPY (SELECT 1 AS x) TO '{data}') SELECT count(*) FROM d)",
    "SELECT * FROM (WITH d AS MATERIALIZED (COPY (SELECT 1 AS x) TO '{data}') FROM d), LATERAL (SELECT 1)",
    "WITH a AS (WITH b AS (COPY (SELECT 1 AS x) TO '{data}') FROM b) SELECT * FROM a UNION SELECT 2",
    "DESCRIBE WITH d AS (COPY (SELECT 1) TO '{data}') SELECT * FROM d",
    "BEGIN TRANSACTION",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "SELECT 1; DROP VIEW episodes",
    "SELECT 1; SELECT 2",
    "/* SELECT */ DROP VIEW episodes",
    "SELECT 1 -- \n; DROP TABLE edges",
    "PIVOT episodes ON task USING count(*)",
    "",
    "-- nothing",
    ";",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "EXPLAIN COPY episodes TO '{data}' (FORMAT parquet)",
    "EXPLAIN (ANALYZE) SELECT 1",
    "EXPLAIN (FORMAT json) SELECT 1",
    "EXPLAIN EXPLAIN SELECT 1",
    "EXPLAIN SELECT 1; DROP VIEW episodes",
    "EXPLAIN SELECT 1; SELECT 2",
    "EXPLAIN CREATE TABLE x AS SELECT 1",
    "EXPLAIN DROP VIEW episodes",
    "EXPLAIN",
    "EXPLAIN ATTACH '{out}' AS x",
    "EXPLAIN WITH d AS (COPY (SELECT 1) TO '{data}') SELECT * FROM d",
    "/* EXPLAIN */ COPY (SELECT 1) TO '{out}'",
    "EXPLAIN /* SELECT */ ANALYZE SELECT 1",
    "explain\n-- x\nanalyze select 1",
    "EXPLAIN SET memory_limit = '1TB'",
]
FUNCTIONS = [
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_csv_auto('{log}')",
    "SELECT * FROM read_text('{log}')",
    "SELECT * FROM read_json('{log}')",
    "SELECT * FROM read_ndjson_objects('{log}')",
    "SELECT * FROM read_blob('{data}')",
    "SELECT * FROM READ_TEXT('{data}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM read_duckdb('{out}')",
    "SELECT * FROM read_csv('http://localhost:9/x.csv')",
    "SELECT * FROM \"read_text\"('{file}')",
    "SELECT * FROM /* read_parquet */ read_text/**/('{file}')",
    "SELECT (SELECT content FROM read_text('{file}'))",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION SELECT size FROM read_blob('{file}')) SELECT * FROM r",
    "SELECT * FROM episodes WHERE task IN (SELECT content FROM read_text('{file}'))",
    "SELECT * FROM episodes e, LATERAL (SELECT * FROM read_text('{file}')) t",
    "(SELECT 1) UNION ALL (SELECT size FROM read_blob('{file}'))",
    "SELECT count(*) FROM (VALUES (1)) v(x) ORDER BY (SELECT size FROM read_blob('{file}'))",
    "SELECT * FROM query('SELECT * FROM read_text(''{file}'')')",
    "SELECT * FROM query_table('{file}')",
    "SELECT * FROM query('CREATE TABLE x AS SELECT 1')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{file}'')'))",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{out}')",
    "SELECT * FROM enable_profiling(save_location = '{out}')",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM force_checkpoint()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function(1)",
    "SELECT * FROM duckdb_temporary_files()",
    "SELECT * FROM register_external_resource_type('x')",
    "DESCRIBE SELECT * FROM read_text('{file}')",
    "SUMMARIZE SELECT * FROM read_text('{file}')",
    "EXPLAIN SELECT * FROM read_text('{file}')",
    "SELECT write_log('x')",
    "SELECT sleep_ms(100000)",
]
FILES = [
    "SELECT * FROM read_parquet('{stray}')",
    "SELECT * FROM read_parquet('{artifacts}')",
    "SELECT * FROM '{stray}'",
    'SELECT * FROM "{stray}"',
    "SELECT * FROM '{file}'",
    "SELECT * FROM '{link}'",
    "SELECT * FROM read_parquet('{link}')",
    "SELECT * FROM read_parquet('{data}/../*')",
    "SELECT * FROM read_parquet('{folder}/**/*.parquet')",
    "SELECT * FROM read_parquet(['{data}', '{stray}'])",
    "SELECT * FROM parquet_metadata('{stray}')",
    "SELECT * FROM parquet_schema('{stray}')",
    "SELECT * FROM read_parquet('file:{stray}')",
    "SELECT * FROM parquet_file_metadata('{folder}/*')",
    "EXPLAIN SELECT * FROM '{stray}'",
]
OTHERS = [
    ("SELECT getenv('HOME')", "getenv does not exist"),
    ("SELECT * FROM lake", "Table with name lake does not exist"),
    ("SELECT * FROM names", "Table with name names does not exist"),
    ("SELECT FROM WHERE", "syntax error"),
    ("SELECT * FROM 's3://bucket/x.parquet'", "refused|disabled|httpfs|no other file"),
    ("SELECT * FROM read_parquet('http://localhost:9/x.parquet')", "disabled|httpfs|no other file"),
    ("SELECT error('mine')", "mine"),
    ("SELECT * FROM nowhere.episodes", "does not exist"),
    ("SELECT * FROM (PIVOT episodes ON task USING count(*))", "cannot be checked|single SELECT"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A locked connection, names of files to go for, and the folder in which nothing may change."""
    folder = tmp_path_factory.mktemp("hostile")
    lake = Lake.open(folder / "lake")
    commit_all(lake)
    data = lake.paths.root / lake.ledger.require("all", PARTITION).versions["episodes"]["files"][0]["path"]
    stray = lake.paths.root / "delta" / "episodes" / "stray.parquet"  # as of a killed run: there, and in no ledger row
    stray.write_bytes(data.read_bytes())
    link = data.with_name("link.parquet")
    os.symlink(stray, link)
    names = {
        "out": folder / "out",
        "file": lake.paths.format,
        "folder": lake.paths.root,
        "data": data,
        "stray": stray,
        "link": link,
        "log": lake.paths.table("episodes") / "_delta_log" / f"{0:020d}.json",
        "artifacts": next(lake.paths.table("artifacts").glob("*.parquet")),
    }
    with connect(lake) as query:
        yield query, names, folder


def state(folder):
    """Every file below `folder` and below the working folder's temporary one, with its digest."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} | {".tmp": os.path.exists(".tmp")}


def unharmed(place):
    """Whether the connection still answers; and every file with its digest."""
    query, _, folder = place
    answer = query.execute("SELECT count(*), count(DISTINCT task) FROM episodes").fetchall()
    return answer == [(4, 2)], state(folder)


@pytest.fixture(scope="module")
def before(place):
    return unharmed(place)


def run(place, sql):
    query, names, _ = place
    return query.execute(sql.format(**names)).fetchall()


@pytest.mark.parametrize("sql", STATEMENTS)
def test_only_one_select(place, before, sql):
    with pytest.raises(VlawError, match=f"{ONE_SELECT}|syntax error|Parser Error"):
        run(place, sql)
    assert unharmed(place) == before


@pytest.mark.parametrize("sql", FUNCTIONS)
def test_no_function_that_reads_or_does(place, before, sql):
    with pytest.raises(VlawError, match=NO_FUNCTION):
        run(place, sql)
    assert unharmed(place) == before


@pytest.mark.parametrize("sql", FILES)
def test_no_file_but_the_pinned_ones(place, before, sql):
    with pytest.raises(VlawError, match=NO_FILE):
        run(place, sql)
    assert unharmed(place) == before


@pytest.mark.parametrize(("sql", "why"), OTHERS)
def test_other_ways(place, before, sql, why):
    names = [1, 2, 3]  # a Python variable in reach of a replacement scan
    with pytest.raises(VlawError, match=why):
        run(place, sql)
    assert unharmed(place) == before
    assert names


def test_a_connection_that_refuses_still_answers(before):
    assert before[0] is True


def test_a_pinned_file_itself_is_readable(place):
    query, names, _ = place
    assert query.execute(f"SELECT count(*) FROM read_parquet('{names['data']}')").fetchall() == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN SELECT count(*) FROM episodes WHERE task = $t",
        "explain/**/select 1",
        "-- EXPLAIN\n explain /* x */ -- y\n WITH a AS (SELECT 1) FROM a",
        "EXPLAIN (SELECT 1)",
        "EXPLAIN FROM steps",
        "EXPLAIN DESCRIBE episodes;",
    ],
)
def test_explain_of_what_is_admitted_shows_a_plan(place, before, sql):
    rows = place[0].execute(sql).fetchall()
    assert [key for key, _ in rows] == ["physical_plan"]
    assert unharmed(place) == before


def test_explain_runs_nothing(place):
    plan = (
        place[0]
        .execute("EXPLAIN SELECT error('it ran') FROM episodes WHERE random() >= 0", timeout_s=5)
        .fetchall()[0][1]
    )
    assert "PARQUET" in plan.upper(), plan
    with pytest.raises(VlawError, match="it ran"):
        place[0].execute("SELECT error('it ran') FROM episodes WHERE random() >= 0")


def test_settings_are_locked(place):
    settings = dict(place[0].execute("SELECT name, value FROM duckdb_settings()").fetchall())
    assert settings["enable_external_access"] == "false"
    assert settings["allowed_directories"] == "[]", "a temporary folder would be one"
    assert settings["temp_directory"] == ""
    assert settings["lock_configuration"] == "true"
    assert settings["python_enable_replacements"] == "false"
    assert settings["allow_persistent_secrets"] == settings["autoload_known_extensions"] == "false"
    assert place[0].execute("SELECT database_name FROM duckdb_tables() GROUP BY ALL").fetchall() == [("memory",)]


def test_memory_is_limited_and_nothing_is_spilled(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lake = Lake.open(place[2] / "lake")
    with connect(lake, memory_limit="60MB", threads=1) as query, pytest.raises(VlawError, match="memory_limit"):
        query.table("SELECT list(range) FROM (SELECT range FROM range(20000000) ORDER BY hash(range))")
    assert list(tmp_path.iterdir()) == []


def test_there_are_enough_of_them():
    assert len(STATEMENTS) + len(FUNCTIONS) + len(FILES) + len(OTHERS) >= 60
