"""Limits of SQL that hold whatever a statement does: time, memory, length, depth, size of the result; and no process
left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from factories import commit_all
from typer.testing import CliRunner

from vlaw_assets.cli import app
from vlaw_assets.lake import Lake
from vlaw_assets.query import Limits, connect
from vlaw_assets.query.limits import MOST_DEPTH, MOST_SQL
from vlaw_assets.query.worker_process import ROOT
from vlaw_models.errors import VlawError

DEADLINE_S = 1.0
SLACK_S = 6.0
"""A busy machine; without the kill, every one of these takes longer than a minute."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lake.open(tmp_path_factory.mktemp("limits") / "lake")
    commit_all(made)
    return made


@pytest.fixture(scope="module")
def query(lake):
    with connect(lake, memory_limit="500MB") as made:
        yield made


def rss(process_id: int | str = "self") -> int:
    """Bytes in memory."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def nested(count: int) -> str:
    return "SELECT * FROM (" * count + "SELECT 1" + ")" * count


def chained(what: str, count: int, sign: str) -> str:
    return sign.join([what] * count)


LARGE = f"repeat('x', {10**6})"
HOSTILE = {
    # What neither DuckDB's interrupt nor its memory limit reaches: constants are folded while the statement is bound.
    "lpad": "SELECT lpad('x', 2000000000, 'y')",
    "rpad in EXPLAIN": "EXPLAIN SELECT rpad('x', 2000000000, 'y')",
    "repeat": "SELECT repeat('xyz', 1300000000)",
    "printf": "SELECT printf('%2000000000d', 1)",
    "regexp_replace": "SELECT regexp_replace(repeat('a', 100000000), 'a', 'bbbbbbbbbbbbbbbbbbbb', 'g')",
    "string_split": "SELECT string_split(repeat('x ', 500000000), ' ')",
    "lists of lists": "SELECT list_transform(range(100000000), lambda x: list_transform(range(1000), lambda y: x * y))",
    # Parser and binder.
    "IN list": f"SELECT 1 WHERE 1 IN ({','.join(map(str, range(140_000)))})",
    "IN list over a view": f"SELECT count(*) FROM episodes WHERE seed IN ({','.join(map(str, range(140_000)))})",
    "columns": f"SELECT {chained('1', 300_000, ',')}",
    "parameters": f"SELECT {','.join(f'$p{i}' for i in range(50_000))}",
    "UNION chain": chained("SELECT 1", 50_000, " UNION ALL "),
    "ENUM": f"SELECT '{'e' * 10**5}'::ENUM('{'e' * 10**5}') FROM range(100000)",
    # Execution.
    "recursion without end": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "recursion that streams": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) FROM r",
    "cross join": "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 5",
    "series": "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "string_agg": f"SELECT string_agg({LARGE}, '') FROM range(10000000)",
    "list": "SELECT list(range) FROM range(1000000000)",
    "doubling CTEs": f"WITH "
    f"{','.join(f'a{i} AS (SELECT * FROM a{i - 1}, a{i - 1} b)' if i else 'a0 AS (SELECT 1)' for i in range(25))} "
    "SELECT count(*) FROM a24",
    # The size of the result.
    "three columns of a thousand million rows": "SELECT range, range, range FROM range(1000000000)",
    "unnest": "SELECT unnest(range(1000000000))",
    "35 million rows": "SELECT * FROM range(35000000)",
    "rows of NULL": "SELECT NULL FROM range(1000000000)",
    "few rows, many bytes": f"SELECT {LARGE} FROM range(1000)",
    "one row, many truth values": "SELECT list_transform(range(20000000), lambda x: true)",
    "one row, many NULLs": "SELECT list_transform(range(20000000), lambda x: NULL)",
    "structs": "SELECT list_transform(range(3000000), lambda x: {'a': x, 'b': {'c': NULL}})",
    "maps": "SELECT map(range(3000000), range(3000000))",
}


ONE_OF_EACH = (
    "lpad",
    "IN list over a view",
    "recursion without end",
    "string_agg",
    "35 million rows",
    "one row, many NULLs",
)
"""One for each limit and each place where a statement can come to it; the others are of the long tier."""


@pytest.mark.parametrize(
    "name", [name if name in ONE_OF_EACH else pytest.param(name, marks=pytest.mark.slow) for name in HOSTILE]
)
def test_it_ends_with_an_error_that_names_a_limit(query, name):
    begun, before = time.monotonic(), rss()
    with pytest.raises(VlawError) as caught:
        query.table(HOSTILE[name], timeout_s=DEADLINE_S)
    assert time.monotonic() - begun < DEADLINE_S + SLACK_S
    assert rss() - before < 200 << 20, "the parent holds no more than a result may have"
    limits = ("stopped after 1 s", "emory", "the result has more than 1000000 rows", "the result has more than 64 MB")
    assert any(limit in caught.value.what for limit in limits), caught.value
    assert any(word in caught.value.remedy for word in ("narrow", "LIMIT")), caught.value
    assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)], "it can be used on"


DEEP = {
    "400 subqueries": nested(400),
    "one too many": nested(MOST_DEPTH + 1),
    "10,000 subqueries": nested(10_000),
    "brackets": f"SELECT {'(' * 100_000}1{')' * 100_000}",
    "lists": f"SELECT {'[' * 20_000}1{']' * 20_000}",
    "structs": "SELECT " + "{'a': " * 5_000 + "1" + "}" * 5_000,
    "sum": f"SELECT {chained('1', 100_000, '+')}",
    "negations": f"SELECT {'NOT ' * 100_000}true",
    "cases": f"SELECT {'CASE WHEN true THEN ' * 5_000}1{' END' * 5_000}",
    "functions": f"SELECT {'abs(' * 50_000}1{')' * 50_000}",
    "comments": nested(400).replace("(", "/* ' */ ( -- )\n"),
}


@pytest.mark.parametrize("name", DEEP)
def test_what_is_nested_too_deeply_is_refused(query, name):
    with pytest.raises(VlawError, match="nested too deeply") as caught:
        query.table(DEEP[name], timeout_s=20)
    assert "flatten" in caught.value.remedy
    assert query.execute("SELECT 1").fetchall() == [(1,)]


def test_brackets_in_texts_are_no_depth(query):
    text = "(" * 1000
    assert query.execute(f"SELECT length('{text}'), 1 AS \"{text}\" /* {text} */ -- {text}").fetchall() == [(1000, 1)]
    assert query.execute(nested(MOST_DEPTH)).fetchall() == [(1,)]


def test_a_long_statement_is_refused_before_it_is_sent(query, lake, tmp_path, monkeypatch):
    for sql in (f"SELECT '{'x' * MOST_SQL}'", f"SELECT '{'é' * (MOST_SQL // 2)}'"):
        with pytest.raises(VlawError, match="more than 1000000 bytes"):
            query.table(sql)
    with pytest.raises(VlawError, match="parameters have more than"):
        query.table("SELECT length($a)", {"a": "x" * (17 << 20)})
    assert query.execute(
        "SELECT count(*) FROM (SELECT unnest($ids::INT[]))", {"ids": list(range(140_000))}
    ).fetchall() == [(140_000,)]
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    (tmp_path / "endless.sql").symlink_to("/dev/zero")
    (tmp_path / "long.sql").write_text(f"-- How long?\nSELECT '{'x' * MOST_SQL}'")
    for name in ("endless.sql", "long.sql"):
        assert CliRunner().invoke(app, ["sql", str(tmp_path / name)]).exit_code == 2


def test_limits_are_those_that_were_asked_for(lake):
    with connect(lake, limits=Limits(rows=10, bytes=1000)) as query:
        assert query.table("FROM range(10)").num_rows == 10
        with pytest.raises(VlawError, match="more than 10 rows"):
            query.table("FROM range(11)")
        with pytest.raises(VlawError, match="more than 0 MB"):
            query.table("SELECT repeat('x', 1000)")
    with pytest.raises(VlawError, match="'lots' is no amount of memory"):
        connect(lake, memory_limit="lots")
    assert [Limits(memory=text).memory_bytes for text in ("2GB", "1.5 KiB", "64mb", "1000")] == [
        2 * 10**9,
        1536,
        64 * 10**6,
        1000,
    ]


@pytest.mark.slow
def test_the_kernel_keeps_the_memory_limit(lake):
    """Of what DuckDB does not count: a list of a statement's constants, and its result on its way out."""
    with connect(lake, memory_limit="100MB", threads=1) as query:
        query.table("SELECT 1")
        worker = query.worker_pid
        highest, done = [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.005):
                try:
                    highest[0] = max(highest[0], rss(worker))
                except OSError:
                    return

        watcher = threading.Thread(target=watch)
        watcher.start()
        with pytest.raises(VlawError, match=r"emory|stopped"):
            query.table("SELECT lpad('x', 1000000000, 'y')", timeout_s=20)
        done.set()
        watcher.join()
        assert highest[0] < 700 << 20


def test_a_worker_that_crashes_is_an_error_and_is_replaced(query):
    for signal_number, said in (
        (signal.SIGABRT, "SIGABRT"),
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGSEGV, "nested too deeply"),
    ):
        query.execute("SELECT 1")
        worker = query.worker_pid
        threading.Timer(0.3, os.kill, (worker, signal_number)).start()
        with pytest.raises(VlawError, match=said):
            query.table(HOSTILE["cross join"], timeout_s=20)
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)]
        assert query.worker_pid != worker


@pytest.mark.slow
def test_a_worker_that_has_grown_is_replaced(lake):
    with connect(lake, memory_limit="400MB") as query:
        first = query.worker_pid
        assert query.execute("SELECT 1").fetchall() == [(1,)]
        assert query.worker_pid == first
        with pytest.raises(VlawError, match="emory"):
            query.table("SELECT length(string_agg(repeat('x', 1000), '')) FROM range(1000000)")
        for _ in range(2):  # without that, the second one finds no memory left
            assert query.execute(
                "SELECT count(*) FROM (SELECT range FROM range(5000000) ORDER BY hash(range))"
            ).fetchall() == [(5000000,)]


def test_no_process_is_left(lake):
    query = connect(lake)
    worker = query.worker_pid
    query.close()
    assert not alive(worker)
    forgotten = connect(lake)
    worker = forgotten.worker_pid
    del forgotten
    assert not alive(worker)
    with pytest.raises(VlawError):
        connect(lake.paths.root / "nothing")


def alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("thread", [False, True])
def test_a_worker_ends_with_its_parent(lake, busy, thread):
    """However that ends; also while the worker is in the middle of a statement, at the latest at its deadline."""
    program = f"""
import sys, threading
from vlaw_assets.query import connect
def main():
    query = connect({str(lake.paths.root)!r})
    query.execute("SELECT 1")
    print(query.worker_pid, flush=True)
    if {busy}:
        query.execute({HOSTILE["cross join"]!r}, timeout_s=2)
    sys.stdin.read()
if {thread}:
    other = threading.Thread(target=main)
    other.start()
    other.join()
else:
    main()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as parent:
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        assert alive(worker)
        parent.kill()
    deadline = time.monotonic() + 10
    while alive(worker):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)


def test_a_connection_made_in_a_thread_outlives_it(lake):
    made = []
    thread = threading.Thread(target=lambda: made.append(connect(lake)))
    thread.start()
    thread.join()
    with made[0] as query:
        time.sleep(0.2)
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)]


def test_several_threads_share_a_connection(query):
    found: list[int] = []

    def ask(number: int) -> None:
        found.extend(query.execute(f"SELECT {number} + max(range) FROM range(100000)").fetchone()[0] for _ in range(5))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(99999 + number for number in range(4) for _ in range(5))


def test_values_are_those_of_duckdb(query):
    import duckdb

    sql = """SELECT 1 AS a, sum(range) AS b, 'x' AS c, NULL AS d, 1.5::DECIMAL(5, 2) AS e, DATE '2026-01-02' AS f,
        [1, NULL] AS g,
        {'k': [true]} AS h, '\\xAA'::BLOB AS i, 1e300 AS j, 170141183460469231731687303715884105727::HUGEINT AS k,
        [] AS l,
        'b'::ENUM('a', 'b') AS m FROM range(5)"""
    assert query.execute(sql).fetchall() == duckdb.connect().execute(sql).fetchall()
    rows = query.execute("SELECT range AS n FROM range(4)")
    assert [name for name, _ in rows.description] == ["n"]
    assert (rows.fetchone(), rows.fetchone(), rows.fetchall(), rows.fetchone()) == ((0,), (1,), [(2,), (3,)], None)
    with pytest.raises(VlawError, match="cast it to VARCHAR"):
        query.table("SELECT ['b'::ENUM('a', 'b')]")


def test_nothing_can_be_written_by_the_worker(query):
    query.execute("SELECT 1")
    limits = Path(f"/proc/{query.worker_pid}/limits").read_text()
    assert "Max file size             0 " in limits
    assert "Max core file size        0 " in limits


def test_on_the_command_line(lake, monkeypatch):
    monkeypatch.setenv("VLAW_LAKE", str(lake.paths.root))
    for arguments, said in (
        (("SELECT lpad('x', 2000000000, 'y')", "--timeout", "1"), "stopped after 1 s"),
        (("FROM range(35000000)",), "more than 1000000 rows"),
        (("SELECT list(range) FROM range(1000000000)", "--memory", "50MB"), "--memory"),
        ((nested(400),), "nested too deeply"),
        (("SELECT 1", "--memory", "much"), "no amount of memory"),
    ):
        result = CliRunner().invoke(app, ["sql", *arguments])
        assert result.exit_code == 2, result.output
        assert said in " ".join(result.output.split()), result.output
