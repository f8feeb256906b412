"""SQL over the lake: only committed rows, the questions of sql/ answered right, nothing but reading."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from asking import ask
from begun import commit_all
from factories import PARTITION, commit, identity, sample_episodes, write_checkpoint

from vlaw_assets.lake import Lake
from vlaw_assets.lake.schemas import TABLES
from vlaw_assets.query import connect, read_question
from vlaw_assets.query.catalogue import write_catalogue
from vlaw_models.errors import VlawError

SQL = Path(__file__).parents[2] / "sql"
VIEWS = (
    "episodes",
    "steps",
    "reward_scores",
    "members",
    "evaluations",
    "reads",
    "quarantine",
    "labels",
    "import_findings",
    "recorded_statistics",
    "refused_recordings",
    "frames",
    "artifacts",
    "edges",
)


@pytest.fixture
def lake(tmp_path):
    return Lake.open(tmp_path / "lake")


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """Two experiments that share rollouts: 10 real (5 successes), 4 imagined, their scores, a training set, a policy.
    To look at only."""
    lake = Lake.open(tmp_path_factory.mktemp("loop") / "lake")
    made = {}

    def step(asset, partition, parents, write, recipe=None):
        roles = {name: made[name] for name in parents}

        def read_and_write(draft):
            write(draft, *(draft.read(ref, role=role) for role, ref in roles.items()))

        made[asset] = commit(lake, asset, partition, roles, read_and_write, recipe=recipe)

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
        draft.write_members(
            [
                {
                    "episode_id": e.episode_id,
                    "owner": h.ref.artifact_id,
                    "weight": float(e.success is not False),
                    "source": name,
                }
                for name, h in sources
                for e in h.episodes(frames=False)
            ]
        )

    def policy(draft, _members):
        write_checkpoint(draft.checkpoint_dir())

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
    with connect(lake, as_of=0) as query:
        assert query.execute("SELECT asset, is_current FROM artifacts").fetchall() == [("base", True)]
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(1,)]


def test_as_of_sees_the_rows_of_that_moment(lake):
    first = commit_all(lake)
    with connect(lake) as query:
        before = [query.table(f"SELECT * FROM {view} ORDER BY ALL") for view in VIEWS]
    second = commit_all(lake, force=True)
    with connect(lake, as_of=first.artifact_id) as query:
        assert [query.table(f"SELECT * FROM {view} ORDER BY ALL") for view in VIEWS] == before
    with connect(lake.paths.root, as_of="vlaw|01") as query:
        assert query.execute("SELECT artifact_id FROM artifacts WHERE is_current AND asset = 'all'").fetchall() == [
            (second.artifact_id,)
        ]
    with pytest.raises(VlawError, match="first"):
        connect(lake, as_of="2001-01-01")


def test_frames_are_references(lake):
    commit_all(lake)
    real = lake.ledger.require("all", PARTITION)
    with connect(lake) as query:
        rows = query.table("SELECT * FROM frames WHERE artifact_id = $id", {"id": real.artifact_id}).to_pylist()
    assert len(rows) == real.versions["frames"]["rows"] == 3 * 5 * 3, (
        "3 episodes, 4 steps and the last frame, 3 cameras"
    )
    assert {row["lance_version"] for row in rows} == {real.versions["frames"]["version"]}
    import lance

    one = rows[7]
    found = (
        lance.dataset(one["lance_path"], version=one["lance_version"])
        .scanner(
            filter=" AND ".join(f"{name} = {one[name]!r}" for name in ("artifact_id", "episode_id", "step", "camera"))
        )
        .to_table()
        .to_pylist()
    )
    assert [row["format"] for row in found] == [one["format"]] == ["png"]


def test_frames_of_imagined_episodes_and_of_last_frames_only(lake):
    whole = sample_episodes(2)
    last = dataclasses.replace(whole[1], images=whole[1].images[-2:], success=None, start_episode_id="x")
    with lake.commit(asset="dreams", identity=identity("dreams"), run_id="r") as draft:
        draft.write_episodes(
            [dataclasses.replace(whole[0], success=None, start_episode_id="x"), last], purpose="imagined"
        )
    with connect(lake) as query:
        rows = query.execute("SELECT step, format, count(*) FROM frames GROUP BY ALL ORDER BY ALL").fetchall()
    assert rows == [(0, "png", 3), (1, "jpeg", 3), (2, "jpeg", 3), (3, "jpeg", 6), (4, "jpeg", 6)]


def test_folder_names_that_look_like_partitions(tmp_path):
    lake = Lake.open(tmp_path / "run=3, it's" / "lake")
    commit_all(lake)
    with connect(lake) as query:
        rows = query.execute("SELECT DISTINCT asset, partition_key FROM episodes WHERE task = 'book'").fetchall()
    assert rows == [("all", "vlaw__01")]
    for name in ("asset=wrong", "task=stack"):
        with pytest.raises(VlawError, match="rename that folder"):
            connect(Lake.open(tmp_path / name / "lake"))


def test_types_are_those_of_the_schema_with_rows_and_without(lake):
    with connect(lake) as query:
        empty = {view: query.execute(f"DESCRIBE {view}").fetchall() for view in VIEWS}
    commit_all(lake)
    with connect(lake) as query:
        assert {view: query.execute(f"DESCRIBE {view}").fetchall() for view in VIEWS} == empty
        for view in set(VIEWS) & set(TABLES) - {"edges", "artifacts"}:
            more = {
                "episodes": ["recorded", "label", "quarantined", "decision"],
                "evaluations": ["quarantined_trials", "corrected_trials"],
            }.get(view, [])
            assert query.table(f"SELECT * FROM {view}").schema.names == TABLES[view].names + more


@pytest.mark.parametrize("harm", ["gone", "truncated"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_damaged_file_is_named(lake, harm, when):
    commit_all(lake)
    ref = lake.ledger.require("all", PARTITION)
    path = lake.paths.root / ref.versions["steps"]["files"][0]["path"]

    def damage():
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-9])

    if when == "before":
        damage()
    with connect(lake) as query:
        damage() if when == "after" else None
        with pytest.raises(VlawError) as caught:
            query.table("SELECT count(*) FROM steps WHERE step > 1")
        for said in (ref.artifact_id, "all[vlaw|01]", str(path), "vlaw audit all vlaw 01 --verify"):
            assert said in str(caught.value)
        assert query.execute("SELECT count(*) FROM episodes").fetchall() == [(4,)], "other tables can be read"
    with pytest.raises(VlawError, match="all\\[vlaw"):
        write_catalogue(lake, lake.paths.root.parent / "x.duckdb")


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
        ("ablation", 1, "book", 5, 5),
        ("ablation", 1, "stack", 5, 0),
        ("vlaw", 1, "book", 5, 5),
        ("vlaw", 1, "stack", 5, 0),
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
        ("real_rollouts", PARTITION),
        ("imagined_rollouts", PARTITION),
        ("training_set", PARTITION),
        ("policy", "ablation|01"),
    ]
    assert rows[0]["read_as_role"] == "real_rollouts"


def test_dataset_members(loop):
    with connect(loop) as query:
        for experiment in ("vlaw", "ablation"):
            rows = ask(query, "dataset_members", experiment=experiment, iteration="1")
            assert [(r["source"], r["task"], r["episodes"], r["used"]) for r in rows] == [
                ("imagined", "book", 2, 2),
                ("imagined", "stack", 2, 2),
                ("real", "book", 5, 5),
                ("real", "stack", 5, 0),
            ]


def test_imagined_against_real(loop):
    with connect(loop) as query:
        rows = ask(query, "imagined_against_real", experiment="vlaw")
        strict = ask(query, "imagined_against_real", experiment="vlaw", alpha="0.92")
    found = {r["task"]: (r["real_rate"], r["imagined_trials"], r["imagined_rate"], r["optimism"]) for r in rows}
    assert found == {"book": (1.0, 2, 0.5, -0.5), "stack": (0.0, 2, 1.0, 1.0), "all": (0.5, 4, 0.75, 0.25)}
    assert {r["task"]: r["imagined_rate"] for r in strict} == {"book": 0.5, "stack": 0.0, "all": 0.25}


def test_impact(loop):
    episode = loop.read(loop.ledger.require("real_rollouts", PARTITION)).episodes(frames=False)[1].episode_id
    with connect(loop) as query:
        rows = ask(query, "impact", episode_id=episode)
        assert ask(query, "impact", episode_id="nobody") == []
    assert {(r["asset"], r["partition"]) for r in rows} == {
        (ref.asset, ref.partition) for ref in loop.ledger.artifacts()
    }
    assert {r["weight_as_member"] for r in rows if r["asset"] == "training_set"} == {1.0}


def test_every_file_of_sql_asks_a_question_and_runs(lake):
    files = sorted(SQL.glob("*.sql"))
    assert len(files) >= 4
    with connect(lake) as query:
        for file in files:
            question, sql = read_question(file)
            assert question.endswith("?"), file.name
            query.table(sql)


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
        query.table(
            "SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 5", timeout_s=0.2
        )
