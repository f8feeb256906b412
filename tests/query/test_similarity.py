"""Embeddings of episodes, the search among them, and coverage of failures: on lakes whose answers are known, and on
smoke."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from smoke_place import smoke_place
from typer.testing import CliRunner

from vlaw_assets.cli import app, coverage_page
from vlaw_assets.lake import Identity, Lake, canonical_json, embeddings
from vlaw_assets.lake.upkeep.garbage import find_garbage
from vlaw_assets.lineage.impact import impact
from vlaw_assets.query import similarity
from vlaw_assets.reports.coverage import coverage
from vlaw_models.episodes import Episode
from vlaw_models.errors import VlawError
from vlaw_models.metrics.coverage import nearest, neighbour_distance
from vlaw_models.reward_models.clip_judge import ClipJudge, ClipJudgeConfig
from vlaw_models.reward_models.embed import embed_episodes, steps_seen
from vlaw_models.reward_models.qwen_judge import QwenJudge, QwenJudgeConfig, toy_sizes
from vlaw_models.robots.tabletop.spec import SPEC

ROOT = Path(__file__).parents[2]
MODEL = "ab" * 32
KEY = "vlaw|01"
INSTRUCTIONS = ["stack the red block", "stack the blue block"]


# ---- the vectors


def clip(seed: int, steps: int = 12) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        task="stack",
        instruction=INSTRUCTIONS[seed % 2],
        seed=seed,
        success=True,
        event="success",
        images=rng.integers(0, 256, (steps + 1, 3, 32, 32, 3), dtype=np.uint8),
        states=np.zeros((steps + 1, 5), np.float32),
        actions=np.zeros((steps, 5), np.float32),
        cameras=SPEC.camera_names,
    )


@pytest.fixture(scope="module", params=["clip", "qwen"])
def judge_dir(request, tmp_path_factory):
    if request.param == "clip":
        judge = ClipJudge.build(
            ClipJudgeConfig(
                **ClipJudge.of_robot(SPEC), image_size=32, num_frames=8, channels=(8, 16, 24), width=32, layers=1
            ),
            INSTRUCTIONS,
            seed=3,
        )
    else:
        judge = QwenJudge.build(
            QwenJudgeConfig(
                **QwenJudge.of_robot(SPEC, ("exterior", "wrist")), num_frames=4, image_size=32, view_size=32
            ),
            toy_sizes(width=32, text_layers=1, vision_layers=1),
            INSTRUCTIONS,
            seed=3,
        )
    return judge.save(tmp_path_factory.mktemp("judge") / request.param)


def test_embeddings_are_unit_vectors_the_same_whatever_the_batch(judge_dir):
    clips = [clip(seed) for seed in range(5)]
    vectors = embed_episodes(judge_dir, clips, batch_size=5)
    assert vectors.shape[0] == 5
    assert vectors.shape[1] in (32, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(vectors, embed_episodes(judge_dir, iter(clips), batch_size=5))
    np.testing.assert_allclose(vectors, embed_episodes(judge_dir, clips, batch_size=2), atol=2e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3, "different episodes, different vectors"
    assert embed_episodes(judge_dir, []).shape == (0, 0)


def test_only_the_frames_that_the_judge_sees_are_needed(judge_dir):
    from vlaw_models.reward_models.base import load_judge

    whole, judge = clip(1), load_judge(judge_dir)
    seen = steps_seen(judge, whole.num_steps)
    assert len(seen) < whole.num_steps + 1
    few = Episode(**{**vars(whole), "images": whole.images[seen]})
    np.testing.assert_array_equal(embed_episodes(judge, [whole]), embed_episodes(judge, [few]))
    changed = Episode(**{**vars(whole), "images": 255 - whole.images})
    assert not np.allclose(embed_episodes(judge, [whole]), embed_episodes(judge, [changed]), atol=1e-4)
    with pytest.raises(VlawError, match="frames for 12 steps"):
        embed_episodes(judge, [Episode(**{**vars(whole), "images": whole.images[:2]})])


def test_a_video_is_near_to_itself_under_another_question():
    from vlaw_models.presets import foundation
    from vlaw_models.rollouts.demonstrate import iterate_demonstrations

    first, other, third = iterate_demonstrations(
        ("stack", "draw", "book"), 1, robot=SPEC, purpose="pretraining", seed=3
    )
    asked = Episode(**{**vars(first), "instruction": "stack the blue block on the green block"})
    a, b, *others = embed_episodes(foundation("tiny", "reward_model"), [first, asked, other, third])
    assert a @ b > max(a @ c for c in others)


# ---- lakes whose answers are known


def commit(lake: Lake, asset: str, partition: str, write, *, parents=(), recipe=None, force=False, kind=""):
    parents = dict(parents)
    identity = Identity(
        kind or asset,
        "code",
        canonical_json(recipe or {"asset": asset, "partition": partition}),
        tuple((role, ref.content_digest) for role, ref in parents.items()),
    )
    with lake.commit(asset=asset, partition=partition, identity=identity, run_id="run", force=force) as draft:
        if draft.reused is None:
            for role, ref in parents.items():
                draft.read(ref, role=role, by_row=True).episodes(frames=False)
            write(draft)
    return draft.ref


def unit(*degrees: float) -> np.ndarray:
    """Vectors in a plane at these angles, (N, 8) float32."""
    angles = np.radians(degrees)
    out = np.zeros((len(degrees), 8), np.float32)
    out[:, 0], out[:, 1] = np.cos(angles), np.sin(angles)
    return out


def far(a: float, b: float) -> float:
    """Cosine distance of two angles, degrees."""
    return 1 - np.cos(np.radians(a - b))


def episode(task: str, success: bool | None, start: str | None = None, seed: int = 0) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        task=task,
        instruction=f"do {task}",
        seed=seed,
        success=success,
        start_episode_id=start,
        event="" if success is None else "success" if success else "missed",
        images=rng.integers(0, 256, (3, 3, 8, 8, 3), dtype=np.uint8),
        states=np.zeros((3, 5), np.float32),
        actions=np.zeros((2, 5), np.float32),
    )


def embed(lake: Lake, partition: str, sources, angles, *, model: str = MODEL, force=False, recipe=None):
    """Commits episode_embeddings whose vectors are at `angles`, one list per source artifact."""

    def write(draft):
        for ref, degrees in zip(sources, angles, strict=True):
            rows = lake.read(ref).table("episodes").to_pylist()
            draft.write_embeddings(
                model,
                [
                    {
                        "owner": ref.owner,
                        "episode_id": row["episode_id"],
                        "task": row["task"],
                        "purpose": row["purpose"],
                        "outcome": "not judged"
                        if row["success"] is None
                        else "success"
                        if row["success"]
                        else "failure",
                    }
                    for row in rows
                ],
                unit(*degrees),
            )

    return commit(
        lake,
        "episode_embeddings",
        partition,
        write,
        force=force,
        recipe=recipe or {"features": "f", "in": partition},
        parents={ref.asset: ref for ref in sources},
    )


def ids(lake: Lake, ref) -> list[str]:
    return lake.read(ref).table("episodes")["episode_id"].to_pylist()


@pytest.fixture
def known(tmp_path):
    """Real: stack failures at 0, 4, 40 degrees, a success at 90, erase failure at 1. Imagined: see below."""
    lake = Lake.open(tmp_path / "lake")
    real = commit(
        lake,
        "real_rollouts",
        KEY,
        lambda draft: draft.write_episodes(
            [
                episode("stack", False, seed=0),
                episode("stack", False, seed=1),
                episode("stack", False, seed=2),
                episode("stack", True, seed=3),
                episode("erase", False, seed=4),
            ],
            purpose="rollout",
            world="tabletop",
        ),
    )
    r = ids(lake, real)
    # Of the imagined ones: accepted from r0, refused from r1, accepted from r3 (a success) and 2 degrees from r1.
    imagined = commit(
        lake,
        "imagined_rollouts",
        KEY,
        lambda draft: draft.write_episodes(
            [
                episode("stack", None, r[0], 5),
                episode("stack", None, r[1], 6),
                episode("stack", None, r[3], 7),
                episode("erase", None, r[4], 8),
            ],
            purpose="imagined",
            world="world_model",
        ),
        parents={"starts": real},
    )
    i = ids(lake, imagined)
    p = dict(zip(i, (0.9, 0.5, 0.95, 0.1), strict=True))
    commit(
        lake,
        "reward_scores",
        KEY,
        lambda draft: draft.write_scores(
            [{"episode_id": name, "owner": imagined.owner, "p_success": value} for name, value in p.items()]
        ),
        parents={"imagined_rollouts": imagined},
    )
    commit(lake, "training_set", KEY, lambda draft: draft.set_metrics({}), recipe={"score": {"alpha": 0.8}})
    made = embed(lake, KEY, [real, imagined], [(0, 4, 40, 90, 1), (60, 3, 6, 50)])
    return lake, real, imagined, made


def test_neighbours_come_by_distance_with_what_is_known_of_them(known):
    lake, real, imagined, made = known
    r, i = ids(lake, real), ids(lake, imagined)
    found = similarity.similar(lake, r[1], k=4)
    assert [n.episode_id for n in found.neighbours] == [i[1], i[2], r[4], r[0]]
    np.testing.assert_allclose(
        [n.distance for n in found.neighbours], [far(4, 3), far(4, 6), far(4, 1), far(4, 0)], atol=1e-6
    )
    assert (found.query.task, found.query.outcome, found.query.source, found.query.partition) == (
        "stack",
        "failure",
        "real",
        KEY,
    )
    first = found.neighbours[0]
    assert (first.outcome, first.source, first.p_success, first.owner) == (
        "not judged",
        "imagined",
        0.5,
        imagined.owner,
    )
    assert found.neighbours[2].task == "erase"
    assert found.neighbours[2].p_success is None
    assert found.searched == made.num_rows == 9


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"task": "erase"}, ["r4", "i3"]),
        ({"outcome": "failure"}, ["r4", "r0", "r2"]),
        ({"outcome": "success"}, ["r3"]),
        ({"source": "imagined", "k": 2}, ["i1", "i2"]),
        ({"task": "stack", "source": "real", "outcome": "failure"}, ["r0", "r2"]),
        ({"task": "fly"}, []),
        ({"experiment": "other"}, []),
        ({"experiment": "vlaw", "k": 1}, ["i1"]),
        ({"task": "it's"}, []),
    ],
)
def test_only_what_was_asked_for(known, asked, expected):
    lake, real, imagined, _ = known
    names = {"r": ids(lake, real), "i": ids(lake, imagined)}
    found = similarity.similar(lake, names["r"][1], **{"k": 9, **asked})
    assert [n.episode_id for n in found.neighbours] == [names[code[0]][int(code[1])] for code in expected]


def test_an_episode_embedded_by_two_experiments_is_found_once(known):
    lake, real, _, _ = known
    r = ids(lake, real)
    commit(
        lake, "real_rollouts", "twin|01", None, recipe={"asset": "real_rollouts", "partition": KEY}
    )  # shared: a pointer
    embed(lake, "twin|01", [real], [(0, 4, 40, 90, 1)])
    found = similarity.similar(lake, r[0], k=20)
    assert len(found.neighbours) == 8
    assert len({n.episode_id for n in found.neighbours}) == 8
    assert {n.partition for n in similarity.similar(lake, r[0], k=20, experiment="twin").neighbours} == {"twin|01"}


def test_rows_of_a_killed_run_are_invisible_and_garbage(known):
    lake, real, _, _ = known
    r = ids(lake, real)
    before = similarity.similar(lake, r[1], k=20)
    rows = [
        {
            "owner": real.owner,
            "episode_id": "rollout-ghost-00000",
            "task": "stack",
            "purpose": "rollout",
            "outcome": "failure",
        }
    ]
    written = embeddings.write(
        lake.paths, MODEL, embeddings.rows_of("killed-run", rows, unit(4), where="test"), artifact_id="killed-run"
    )
    after = similarity.similar(lake, r[1], k=20)
    assert [n.episode_id for n in after.neighbours] == [n.episode_id for n in before.neighbours]
    with pytest.raises(VlawError, match="there is no episode 'rollout-ghost-00000'"):
        similarity.similar(lake, "rollout-ghost-00000")
    assert [str(item.path.relative_to(lake.paths.root)) for item in find_garbage(lake, older_than_s=0)] == [
        written["files"][0]["path"]
    ]


def test_made_again_the_new_vectors_count_and_as_of_still_has_the_old(known):
    lake, real, imagined, made = known
    r = ids(lake, real)
    again = embed(lake, KEY, [real, imagined], [(0, 4, 40, 90, 3.9), (60, 3, 6, 50)], force=True)
    assert again.content_digest != made.content_digest
    assert similarity.similar(lake, r[1], k=1).neighbours[0].episode_id == r[4]
    then = similarity.similar(lake.as_of(made.artifact_id), r[1], k=1)
    assert then.neighbours[0].episode_id == ids(lake, imagined)[1]
    assert then.searched == 9
    with pytest.raises(VlawError, match="no embedding"):
        similarity.similar(lake.as_of(imagined.artifact_id), r[1])
    same = embed(lake, KEY, [real, imagined], [(0, 4, 40, 90, 3.9), (60, 3, 6, 50)], force=True)
    assert same.content_digest == again.content_digest, "same vectors, same content"
    assert same.artifact_id != again.artifact_id


def test_an_episode_of_a_replaced_version_says_where_it_is(known):
    lake, real, _, _ = known
    old = ids(lake, real)[0]
    commit(
        lake,
        "real_rollouts",
        KEY,
        lambda draft: draft.write_episodes([episode("stack", False)], purpose="rollout"),
        recipe={"other": 1},
    )
    commit(lake, "episode_embeddings", KEY, lambda draft: draft.set_metrics({}), recipe={"none": 1})
    with pytest.raises(VlawError, match="has been replaced") as caught:
        similarity.similar(lake, old)
    assert f"--as-of {real.artifact_id}" in caught.value.remedy


def test_the_newest_version_lost_rows_the_pinned_one_is_searched(known):
    import lance

    lake, real, _, made = known
    r = ids(lake, real)
    before = similarity.similar(lake, r[1], k=20)
    uri = lake.paths.embeddings / f"{made.versions['embeddings']['table']}.lance"
    lance.dataset(str(uri)).delete("task = 'stack'")
    assert lance.dataset(str(uri)).count_rows() < 9
    assert similarity.similar(lake, r[1], k=20) == before


def test_compacted_tables_give_the_same_answer_now_and_as_of(known):
    from vlaw_assets.lake.upkeep.compaction import compact

    lake, real, imagined, made = known
    r = ids(lake, real)
    before = similarity.similar(lake, r[1], k=20)
    embed(lake, KEY, [real, imagined], [(0, 4, 40, 90, 3.9), (60, 3, 6, 50)], force=True)
    after = similarity.similar(lake, r[1], k=20)
    assert after != before
    compact(lake)
    assert similarity.similar(lake, r[1], k=20) == after
    assert similarity.similar(lake.as_of(made.artifact_id), r[1], k=20) == before
    assert lake.read(made).embeddings().num_rows == 9


def test_tampering_is_named(known):
    lake, real, imagined, made = known
    entry = made.versions["embeddings"]
    assert lake.read(made).problems() == []
    assert len(entry["log"]) == 6, "manifest, transaction and tag, of this version and of the first"
    assert all((lake.paths.root / file["path"]).stat().st_size == file["size"] for file in entry["log"])
    path = lake.paths.root / entry["files"][0]["path"]
    good = path.read_bytes()
    path.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    assert path.name in lake.read(made).problems()[0]
    with pytest.raises(VlawError, match="damaged"):
        lake.read(made).embeddings()
    path.unlink()
    assert "missing" in lake.read(made).problems(deep=False)[0]
    assert embed(lake, KEY, [real, imagined], [(0, 4, 40, 90, 1), (60, 3, 6, 50)]).artifact_id != made.artifact_id, (
        "made again"
    )


@pytest.mark.parametrize(
    ("rows", "vectors", "what"),
    [
        (1, unit(0, 1), "1 rows with vectors"),
        (1, 2 * unit(0), "not of length 1"),
        (1, unit(0) * np.nan, "not of length 1"),
        (1, unit(0).astype(np.float64), "float64"),
        (1, np.ones((1, 1), np.float32), "vectors of .* for a table of"),
    ],
)
def test_bad_vectors_are_refused_before_the_ledger(known, rows, vectors, what):
    lake, *_ = known
    before = len(lake.ledger.artifacts())
    row = {"owner": "o", "episode_id": "e", "task": "t", "purpose": "rollout", "outcome": "failure"}
    with pytest.raises(VlawError, match=what):
        commit(
            lake, "episode_embeddings", "vlaw|02", lambda draft: draft.write_embeddings(MODEL, [row] * rows, vectors)
        )
    assert len(lake.ledger.artifacts()) == before


def test_models_do_not_mix(known):
    lake, real, imagined, _ = known
    embed(lake, "other|01", [imagined], [(4, 4, 4, 4)], model="cd" * 32)
    found = similarity.similar(lake, ids(lake, real)[1], k=20)
    assert found.searched == 9
    assert {n.partition for n in found.neighbours} == {KEY}


def test_impact_reaches_the_embedding_of_an_episode_and_of_what_was_imagined_from_it(known):
    lake, real, _, _ = known
    reached = {item.ref.asset: item for item in impact(lake, ids(lake, real)[0])}
    assert (reached["episode_embeddings"].how, reached["episode_embeddings"].rows) == ("rows", 2)
    reached = {item.ref.asset: item for item in impact(lake, ids(lake, real)[2])}
    assert reached["episode_embeddings"].rows == 1, "nothing was imagined from it"


# ---- the index


def many(lake: Lake, partition: str, count: int, seed: int):
    """Episodes without pixels, embedded at random; returns the ids and vectors."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"rollout-{seed}-{number:05d}" for number in range(count)]
    ref = commit(
        lake,
        "episode_embeddings",
        partition,
        lambda draft: draft.write_embeddings(
            MODEL,
            [
                {
                    "owner": "none",
                    "episode_id": name,
                    "task": ("a", "b")[n % 2],
                    "purpose": "rollout",
                    "outcome": "failure",
                }
                for n, name in enumerate(names)
            ],
            vectors,
        ),
        recipe={"features": "f", "in": partition},
    )
    return names, vectors, ref.versions["embeddings"]["table"]


def nearest_names(vector, names, vectors, k):
    order = np.argsort(1 - vectors @ vector, kind="stable")
    return [names[i] for i in order[1 : k + 1]]


def test_index_is_built_when_worth_it_finds_the_same_and_losing_it_costs_no_row(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    few, _, table = many(lake, "a|01", 100, 1)
    assert not embeddings.refresh_index(lake.paths, table), "not worth it"
    assert not similarity.similar(lake, few[0], k=1).indexed
    names, _, _ = many(lake, "a|02", 400, 2)
    assert embeddings.refresh_index(lake.paths, table)
    assert not embeddings.refresh_index(lake.paths, table), "there already"
    mine = similarity.similar(lake, names[7], k=5, experiment="a")
    assert mine.indexed
    exact = similarity.similar(lake, names[7], k=5, exact=True)
    assert not exact.indexed
    assert [n.episode_id for n in mine.neighbours] == [n.episode_id for n in exact.neighbours]
    # Rows that came after the index are found, and by the same distances.
    newer, newer_vectors, _ = many(lake, "a|03", 50, 3)
    found = similarity.similar(lake, newer[3], k=1000)
    assert found.indexed
    assert len(found.neighbours) == 549
    assert [n.episode_id for n in found.neighbours if n.episode_id in newer] == nearest_names(
        newer_vectors[3], newer, newer_vectors, 49
    )
    shutil.rmtree(lake.paths.embeddings / f"{table}.lance" / "_indices")
    without = similarity.similar(lake, names[7], k=5)
    assert not without.indexed
    assert without.neighbours == exact.neighbours
    assert embeddings.refresh_index(lake.paths, table), "rebuilt from the rows"
    assert similarity.similar(lake, names[7], k=5).indexed
    # Tagged versions, and with them what the ledger pins, are as they were.
    for partition in ("a|01", "a|02", "a|03"):
        assert lake.read(lake.ledger.require("episode_embeddings", partition)).problems() == []


def test_only_one_process_builds_the_index(tmp_path):
    from vlaw_assets.lake.durable import FileLock

    lake = Lake.open(tmp_path / "lake")
    _, _, table = many(lake, "a|01", 300, 1)
    lock = FileLock(lake.paths.locks / f"embeddings-index--{table}.lock")
    assert lock.acquire(holder="other")
    try:
        assert not embeddings.refresh_index(lake.paths, table)
    finally:
        lock.release()
    assert embeddings.refresh_index(lake.paths, table)


def test_two_processes_make_the_table_of_a_model_together(tmp_path):
    lake = Lake.open(tmp_path / "lake")
    code = """
import json, sys
import numpy as np
from vlaw_assets.lake import embeddings
from vlaw_assets.lake.paths import Paths
from pathlib import Path
row = {"owner": "none", "episode_id": "e", "task": "t", "purpose": "rollout", "outcome": "failure"}
for number in range(3):
    name = f"{sys.argv[2]}-{number}"
    table = embeddings.rows_of(name, [row] * 20, np.eye(20, 8, dtype=np.float32) + np.eye(20, 8, -8, dtype=np.float32)
                               + np.eye(20, 8, -16, dtype=np.float32), where="test")
    print(json.dumps(embeddings.write(Paths(Path(sys.argv[1])), "ab" * 32, table, artifact_id=name)))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(lake.paths.root), name],
            text=True,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in "ab"
    ]
    entries = []
    for process in running:
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        entries += [json.loads(line) for line in out.splitlines()]
    assert len({entry["version"] for entry in entries}) == 6
    for entry in entries:
        assert set(embeddings.read(lake.paths, entry)["artifact_id"].to_pylist()) == {
            Path(entry["log"][2]["path"]).stem[9:]
        }


# ---- coverage


def test_neighbour_distance_is_the_median_to_the_nearest_other():
    assert neighbour_distance(unit(0, 1, 10)) == pytest.approx(far(0, 1), abs=1e-6)  # 1, 1, 9 degrees
    assert neighbour_distance(unit(0)) is None
    index, apart = nearest(unit(0, 50), unit(48, 3))
    assert index.tolist() == [1, 0]
    np.testing.assert_allclose(apart, [far(0, 3), far(50, 48)], atol=1e-6)
    assert nearest(unit(0), np.empty((0, 8), np.float32))[0].tolist() == [-1]


def test_coverage_by_start_and_by_similarity(known):
    lake, real, imagined, _ = known
    r, i = ids(lake, real), ids(lake, imagined)
    found = coverage(lake, KEY)
    by_id = {item.episode_id: item for item in found.failures}
    assert set(by_id) == {r[0], r[1], r[2], r[4]}, "the success is no failure"
    # Stack at 0, 4, 40, 90 degrees: nearest others at 4, 4, 36, 50, so the median is halfway between far(4) and
    # far(36).
    assert found.near["stack"] == pytest.approx((far(0, 4) + far(0, 36)) / 2, abs=1e-6)
    assert found.near["erase"] is None
    assert (by_id[r[0]].by_start, by_id[r[0]].tries, by_id[r[0]].accepted, by_id[r[0]].best) == (i[0], 1, 1, 0.9)
    assert by_id[r[0]].by_similarity == i[2], "6 degrees away; the one it started is at 60"
    assert (by_id[r[1]].by_start, by_id[r[1]].best) == (None, 0.5), "refused by the judge"
    assert (by_id[r[1]].by_similarity, by_id[r[1]].distance) == (i[2], pytest.approx(far(4, 6), abs=1e-6)), (
        "i1 is nearer, but refused"
    )
    assert by_id[r[2]].by_similarity == i[0], "20 degrees"
    assert not by_id[r[4]].covered
    assert by_id[r[4]].distance is None, "no accepted one of its task, however near those of others are"


def test_coverage_without_embeddings_is_by_start_only_and_says_so(known):
    lake, _, _, made = known
    found = coverage(lake.as_of(lake.ledger.sequence(made.artifact_id) - 1), KEY)
    assert not found.embedded
    assert sum(item.covered for item in found.failures) == 1
    assert [item.by_similarity for item in found.failures] == [None] * 4
    assert coverage(lake, "vlaw|02") is None


def test_the_page_counts_and_shows_them(known):
    lake, *_ = known
    page = "\n".join(coverage_page.sections(lake, KEY))
    assert "<td>stack</td><td>3</td><td>1</td><td>3</td><td>3</td><td>0</td><td>2</td><td>1</td>" in page
    assert "<td>erase</td><td>1</td><td>0</td><td>0</td><td>0</td><td>1</td><td>1</td><td>0</td>" in page
    assert "P(yes) &gt; 0.8" in page
    assert "neighbour distance" in page
    for title in ("Covered by start", "Covered by similarity only", "Not covered"):
        assert title in page
    assert page.count("data:image/png;base64,") == 3


# ---- the loop and the command line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return smoke_place(tmp_path_factory)


@pytest.fixture
def vlaw(place, monkeypatch, tmp_path):
    for key, value in place.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_the_asset_embeds_every_episode_with_the_pretrained_judge(place):
    lake, key = place.lake, "smoke|01"
    ref = lake.ledger.require("episode_embeddings", key)
    table = lake.read(ref).embeddings()
    expected = {
        name: lake.ledger.require(asset, key).owner
        for asset in ("real_rollouts", "imagined_rollouts", "validation_rollouts")
        for name in ids(lake, lake.ledger.require(asset, key))
    }
    assert dict(zip(table["episode_id"].to_pylist(), table["owner"].to_pylist(), strict=True)) == expected
    assert ref.num_rows == len(expected) == sum(ref.metrics["embedded"].values())
    judge = lake.ledger.require("pretrained_reward_model", "")
    assert ref.versions["embeddings"]["table"] == judge.content_digest[:12]
    scopes = {edge.role: edge.scope for edge in lake.ledger.edge_rows(ref.owner)}
    assert scopes == {
        "pretrained_reward_model": "whole",
        "real_rollouts": "rows",
        "imagined_rollouts": "rows",
        "validation_rollouts": "rows",
    }
    imagined = lake.read(lake.ledger.require("imagined_rollouts", key)).episodes()
    again = embed_episodes(lake.read(judge).checkpoint(), imagined)
    stored = dict(zip(table["episode_id"].to_pylist(), table["vector"].to_pylist(), strict=True))
    np.testing.assert_allclose(again, [stored[item.episode_id] for item in imagined], atol=2e-5)


def test_similar_for_people_programs_and_eyes(vlaw, place, tmp_path):
    name = ids(place.lake, place.lake.ledger.require("real_rollouts", "smoke|01"))[0]
    found = json.loads(vlaw("similar", name, "-k", "3", "--json").stdout)
    assert found["query"]["episode_id"] == name
    assert len(found["neighbours"]) == 3
    distances = [item["distance"] for item in found["neighbours"]]
    assert distances == sorted(distances)
    task = found["query"]["task"]
    same = json.loads(vlaw("similar", name, "--task", "same", "--source", "imagined", "--json").stdout)["neighbours"]
    assert {(item["task"], item["source"]) for item in same} == {(task, "imagined")}
    assert all(0 <= item["p_success"] <= 1 for item in same)
    shown = vlaw("similar", name, "-k", "3", "--sheet", "sheet.png").stdout
    assert all(item["episode_id"] in shown for item in found["neighbours"])
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    none = vlaw("similar", name, "--task", "fly")
    assert none.exit_code == 0
    assert re.search(r"No other episode among \d+ embeddings with task fly", none.stdout)


def test_similar_says_what_is_wrong(vlaw, place):
    demonstration = ids(place.lake, place.lake.ledger.require("expert_demonstrations"))[0]
    name = ids(place.lake, place.lake.ledger.require("real_rollouts", "smoke|01"))[0]
    before = place.lake.ledger.require("imagined_rollouts", "smoke|01").artifact_id
    for arguments, what in (
        (("nope",), "there is no episode 'nope'"),
        ((demonstration,), "episodes of expert_demonstrations are not embedded"),
        ((name, "--as-of", before), "--iterations 1 --only episode_embeddings"),
        ((name, "--outcome", "good"), "no outcome 'good'"),
        ((name, "--source", "dream"), "no source 'dream'"),
        ((name, "-k", "0"), "0 neighbours"),
        ((name, "--sheet", "/proc/none/x.png"), "cannot be written"),
    ):
        result = vlaw("similar", *arguments)
        assert result.exit_code == 2, arguments
        assert what in result.stderr
        assert "remedy:" in result.stderr


def test_the_report_shows_coverage(vlaw, place, tmp_path):
    assert vlaw("report", "smoke", "1", "--out", "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text()
    found = coverage(place.lake, "smoke|01")
    assert found.embedded
    if found.failures:
        assert "Did imagination cover the failures?" in page
        total = f"<td>{len(found.failures)}</td><td>{sum(item.by_start is not None for item in found.failures)}</td>"
        assert total in page
