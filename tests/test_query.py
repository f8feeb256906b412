"""SQL over the lake: only committed rows, the questions of sql/ answered right, nothing but reading."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from lake_worker import PARTITION, commit_all, identity, sample_episodes

from vlaw_assets.lake import Lake
from vlaw_assets.query import connect, read_question
from vlaw_models.errors import VlawError

SQL = Path(__file__).parent.parent / "sql"
VIEWS = ("episodes", "steps", "reward_scores", "members", "evaluations", "artifacts", "edges")


def ask(query, name, **parameters):
    return query.table(read_question(SQL / f"{name}.sql")[1], parameters).to_pylist()


@pytest.fixture
def lake(tmp_path):
    return Lake.open(tmp_path / "lake")


@pytest.fixture
def loop(lake):
    """Two experiments that share rollouts: 10 real (5 successes), 4 imagined, their scores, a training set, a policy."""
    made = {}

    def step(asset, partition, parents, write, recipe=None):
        key = identity(asset, recipe, tuple(made[name] for name in parents))
        with lake.commit(asset=asset, partition=partition, identity=key, run_id="r") as draft:
            if draft.reused is None:
                write(draft, *(draft.read(made[name], role=name) for name in parents))
        made[asset] = draft.ref

    def rollouts(draft):
        draft.write_episodes(sample_episodes(10), purpose="rollout")

    def imagined(draft, real):
        starts = real.episodes()[:4]
        dreams = [dataclasses.replace(e, success=None, start_episode_id=e.episode_id) for e in starts]
        draft.write_episodes(dreams, purpose="imagined")

    def scores(draft, dreams):
        values = zip(dreams.episodes(frames=False), (0.9, 0.95, 0.85, 0.2), strict=True)
        draft.write_scores([{"episode_id": e.episode_id, "p_success": p} for e, p in values])

    def training_set(draft, real, dreams):
        sources = (("real", real), ("imagined", dreams))
        draft.write_members([
            {"episode_id": e.episode_id, "owner": h.ref.artifact_id, "weight": float(e.success is not False), "source": name}
            for name, h in sources
            for e in h.episodes(frames=False)
        ])

    def policy(draft, _members):
        (draft.checkpoint_dir() / "config.json").write_text("{}")

    for experiment in ("vlaw", "ablation"):
        partition = f"{experiment}|01"
        step("real_rollouts", partition, (), rollouts)
        step("imagined_rollouts", partition, ("real_rollouts",), imagined)
        step("reward_scores", partition, ("imagined_rollouts",), scores)
        step("training_set", partition, ("real_rollouts", "imagined_rollouts"), training_set)
        step("policy", partition, ("training_set",), policy, {"experiment": experiment})
    return lake


def test_empty_lake_has_all_views(lake):
    with connect(lake) as query:
        for view in VIEWS:
            assert query.execute(f"SELECT count(*) FROM {view}").fetchall() == [(0,)]


def test_views_show_committed_rows_only(lake):
    commit_all(lake)

    def fail(_draft):
        lake.tables.append("episodes", _stray_rows(lake), artifact_id="stray")
        raise RuntimeError("boom")

    with (
        pytest.raises(RuntimeError, match="boom"),
        lake.commit(asset="x", identity=identity("x"), run_id="r") as draft,
    ):
        fail(draft)
    assert lake.tables.open("episodes").to_pyarrow_table().num_rows == 5, "the stray row is in the Delta table"
    with connect(lake) as query:
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)]
        assert query.execute("SELECT count(DISTINCT artifact_id) FROM steps").fetchall() == [(2,)]
        found = query.execute("SELECT DISTINCT asset, partition_key FROM episodes ORDER BY 1").fetchall()
    assert found == [("all", "vlaw__01"), ("base", "foundation")]


def _stray_rows(lake):
    rows = lake.read(lake.ledger.require("base")).table("episodes").to_pylist()
    from vlaw_assets.lake.schemas import validated

    return validated("episodes", [row | {"artifact_id": "stray"} for row in rows], where="test")


def test_as_of_an_earlier_commit(lake):
    commit_all(lake)
    with connect(lake, at=0) as query:
        assert query.execute("SELECT asset, is_current FROM artifacts").fetchall() == [("base", True)]
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(1,)]


def test_superseded_artifacts_are_not_current(lake):
    commit_all(lake)
    commit_all(lake, force=True)
    with connect(lake) as query:
        rows = query.execute("SELECT is_current FROM artifacts WHERE asset = 'all' ORDER BY sequence").fetchall()
        assert rows == [(False,), (True,)]
        sql, parameters = read_question(SQL / "success_per_task.sql")[1], {"purpose": "rollout"}
        assert sum(row["trials"] for row in query.table(sql, parameters).to_pylist()) == 3, "counted once"


def test_success_per_task(loop):
    with connect(loop) as query:
        assert ask(query, "success_per_task") == [], "no evaluation yet"
        rows = ask(query, "success_per_task", purpose="rollout")
        only = ask(query, "success_per_task", purpose="rollout", experiment="ablation")
    assert [(r["experiment"], r["iteration"], r["task"], r["trials"], r["successes"]) for r in rows] == [
        ("ablation", 1, "book", 5, 5), ("ablation", 1, "stack", 5, 0), ("vlaw", 1, "book", 5, 5), ("vlaw", 1, "stack", 5, 0)
    ], "a reused artifact counts for both experiments"
    assert only == rows[:2]
    # Wilson score interval of 5 of 5: z = 1.96 gives [0.5655, 1] (Brown, Cai and DasGupta 2001).
    assert rows[0]["low"] == pytest.approx(0.5655, abs=1e-4)
    assert rows[0]["high"] == pytest.approx(1.0)
    assert rows[1]["high"] == pytest.approx(1 - 0.5655, abs=1e-4)


def test_closure_follows_reuse(loop):
    with connect(loop) as query:
        rows = ask(query, "closure", experiment="ablation", iteration="1")
        ref = loop.ledger.require("policy", "ablation|01")
        assert ask(query, "closure", artifact_id=ref.artifact_id) == rows
    assert [row["artifact_id"] for row in rows] == [
        item.artifact_id for item in sorted(loop.ledger.closure(ref), key=loop.ledger.artifacts().index)
    ]
    assert [(row["asset"], row["partition"]) for row in rows] == [
        ("real_rollouts", PARTITION), ("imagined_rollouts", PARTITION), ("training_set", PARTITION),
        ("policy", "ablation|01"),
    ]
    assert rows[0]["read_as_role"] == "real_rollouts"


def test_dataset_members(loop):
    with connect(loop) as query:
        for experiment in ("vlaw", "ablation"):
            rows = ask(query, "dataset_members", experiment=experiment, iteration="1")
            assert [(r["source"], r["task"], r["episodes"], r["used"]) for r in rows] == [
                ("imagined", "book", 2, 2), ("imagined", "stack", 2, 2), ("real", "book", 5, 5), ("real", "stack", 5, 0)
            ]


def test_imagined_against_real(loop):
    with connect(loop) as query:
        rows = ask(query, "imagined_against_real", experiment="vlaw")
        strict = ask(query, "imagined_against_real", experiment="vlaw", alpha="0.92")
    found = {r["task"]: (r["real_rate"], r["imagined_trials"], r["imagined_rate"], r["optimism"]) for r in rows}
    assert found == {"book": (1.0, 2, 0.5, -0.5), "stack": (0.0, 2, 1.0, 1.0)}
    assert {r["task"]: r["imagined_rate"] for r in strict} == {"book": 0.5, "stack": 0.0}


def test_impact(loop):
    episode = loop.read(loop.ledger.require("real_rollouts", PARTITION)).episodes(frames=False)[1].episode_id
    with connect(loop) as query:
        rows = ask(query, "impact", episode_id=episode)
        assert ask(query, "impact", episode_id="nobody") == []
    assert {(r["asset"], r["partition"]) for r in rows} == {(ref.asset, ref.partition) for ref in loop.ledger.artifacts()}
    assert {r["weight_as_member"] for r in rows if r["asset"] == "training_set"} == {1.0}


def test_every_file_of_sql_asks_a_question_and_runs(lake):
    files = sorted(SQL.glob("*.sql"))
    assert len(files) >= 4
    with connect(lake) as query:
        for file in files:
            question, sql = read_question(file)
            assert question.endswith("?"), file.name
            query.table(sql)


HOSTILE = [
    "COPY (SELECT 1) TO '{out}'", "COPY episodes TO '{out}' (FORMAT parquet)", "EXPORT DATABASE '{out}'",
    "ATTACH '{out}' AS x", "ATTACH '{file}' AS x", "DETACH memory", "USE memory",
    "INSTALL httpfs", "LOAD httpfs", "INSTALL delta FROM community", "FORCE INSTALL delta",
    "SET enable_external_access = true", "SET lock_configuration = false", "RESET enable_external_access",
    "SET GLOBAL memory_limit = '1TB'", "PRAGMA enable_profiling", "PRAGMA memory_limit = '1TB'",
    "CREATE TABLE x AS SELECT 1", "CREATE OR REPLACE VIEW episodes AS SELECT 1", "CREATE MACRO f() AS 1",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')", "DROP VIEW episodes", "DROP TABLE artifacts",
    "INSERT INTO artifacts SELECT * FROM artifacts", "UPDATE artifacts SET asset = 'x'", "DELETE FROM episodes",
    "ALTER VIEW episodes RENAME TO x", "WITH d AS (DELETE FROM episodes RETURNING *) SELECT * FROM d",
    "SELECT * FROM read_text('{file}')", "SELECT * FROM read_blob('{file}')", "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_json('{file}')", "SELECT * FROM read_parquet('{data}')", "SELECT * FROM parquet_metadata('{data}')",
    "SELECT * FROM '{data}'", "SELECT * FROM '{file}'", "SELECT * FROM glob('{folder}/*')", "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM read_csv('http://localhost:9/x.csv')", "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM lake", "SELECT * FROM query('CREATE TABLE x AS SELECT 1')", "SELECT getenv('HOME')",
    "SELECT 1; DROP VIEW episodes", "SELECT 1; SELECT 2", "BEGIN TRANSACTION", "CHECKPOINT", "VACUUM", "CALL pragma_version()",
    "EXPLAIN ANALYZE SELECT 1", "PREPARE p AS SELECT 1", "EXECUTE p", "SELECT FROM WHERE", "", "-- nothing",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_hostile_sql_is_refused(shared, sql):
    lake, folder = shared
    ref = lake.ledger.require("all", PARTITION)
    names = {
        "out": folder / "out", "file": lake.paths.format, "folder": lake.paths.root,
        "data": lake.paths.root / ref.versions["episodes"]["files"][0]["path"],
    }
    before = sorted(path for path in folder.rglob("*"))
    with connect(lake) as query:
        with pytest.raises(VlawError):
            query.execute(sql.format(**names)).fetchall()
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)]
    assert sorted(path for path in folder.rglob("*")) == before


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    lake = Lake.open(folder / "lake")
    commit_all(lake)
    return lake, folder


def test_parameters(shared):
    with connect(shared[0]) as query:
        assert query.execute("SELECT $a, $b::INTEGER + 1", {"b": "41"}).fetchall() == [(None, 42)]
        with pytest.raises(VlawError, match="no parameter c"):
            query.execute("SELECT $a", {"c": 1})
        injected = query.execute("SELECT count(*) FROM episodes WHERE task = $t", {"t": "x' OR '1'='1"}).fetchall()
        assert injected == [(0,)]


def test_runaway_query_is_stopped(shared):
    with connect(shared[0]) as query, pytest.raises(VlawError, match=r"0\.2 s"):
        query.table("SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 5", timeout_s=0.2)
