"""Similar episodes, from vectors whose distances are known: found by distance, of the pinned version, in lakes that
were damaged, compacted or made again."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from factories import commit
from known_vectors import KEY, MODEL, embed, episode, far, ids, known_vectors, unit

from vlaw_assets.lake import Lake, embeddings
from vlaw_assets.lake.labels import label_episodes
from vlaw_assets.lake.upkeep.garbage import find_garbage
from vlaw_assets.lineage.impact import impact
from vlaw_assets.query import similarity
from vlaw_models.errors import VlawError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    lake = Lake.open(tmp_path_factory.mktemp("vectors") / "lake")
    return lake.paths.root, known_vectors(lake)


@pytest.fixture
def known(made, tmp_path):
    """(lake, real_rollouts, imagined_rollouts, episode_embeddings), to change."""
    shutil.copytree(made[0], tmp_path / "lake")
    return Lake.open(tmp_path / "lake"), *made[1]


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


def test_outcomes_are_by_the_labels_in_force(known):
    lake, real, imagined, _ = known
    r, i = ids(lake, real), ids(lake, imagined)

    def found(outcome):
        return {n.episode_id: n.outcome for n in similarity.similar(lake, r[1], k=9, outcome=outcome).neighbours}

    label_episodes(lake, [(r[4], "success", "ann", "it stood"), (i[1], "near_success", "ann", "almost")])
    assert found("success") == dict.fromkeys((r[3], r[4]), "success")
    assert found("failure") == dict.fromkeys((r[0], r[2], i[1]), "failure")
    assert i[1] not in found("not judged")
    assert similarity.similar(lake, i[1]).query.outcome == "failure"


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
    commit(lake, "real_rollouts", "twin|01")  # shared: a pointer
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
        write=lambda draft: draft.write_episodes([episode("stack", False)], purpose="rollout"),
        recipe={"other": 1},
    )
    commit(lake, "episode_embeddings", KEY, recipe={"none": 1})
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
            lake,
            "episode_embeddings",
            "vlaw|02",
            write=lambda draft: draft.write_embeddings(MODEL, [row] * rows, vectors),
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


def test_of_a_recording_its_copy_is_asked(known):
    lake, _, _, _ = known
    recorded = commit(
        lake,
        "recorded_episodes",
        "lab|00",
        write=lambda draft: draft.write_episodes([episode("stack", success=True, seed=50)] * 2, purpose="rollout"),
    )
    first, second = ids(lake, recorded)
    copies = commit(
        lake,
        "real_rollouts",
        "lab|01",
        write=lambda draft: draft.write_episodes([episode("stack", success=True, start=first)], purpose="rollout"),
        recipe={"of": "lab"},
    )
    embed(lake, "lab|01", [copies], [(5.0,)])
    found = similarity.similar(lake, first, k=1)
    assert found.query.episode_id == ids(lake, copies)[0]
    assert found.neighbours[0].distance < far(5, 3)
    with pytest.raises(VlawError, match="not embedded") as caught:
        similarity.similar(lake, second, k=1)
    assert "recorded:NAME" in caught.value.remedy
