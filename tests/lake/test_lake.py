"""The lake: what is committed reads back exactly, equal identities are computed once, damage is named."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from factories import PARTITION, commit_all, identity, sample_episodes, weights

from vlaw_assets.lake import Identity, Lake
from vlaw_assets.lake.upkeep.garbage import find_garbage
from vlaw_models.errors import VlawError


@pytest.fixture
def lake(tmp_path):
    return Lake.open(tmp_path / "lake")


def test_committed_data_reads_back_exactly(lake):
    ref = commit_all(lake)
    again = Lake.open(lake.paths.root)
    assert again.ledger.artifacts() == lake.ledger.artifacts()
    handle = again.read(again.ledger.require("all", PARTITION))
    assert handle.ref == ref
    written = sample_episodes()
    read = handle.episodes()
    assert len(read) == len(written)
    for old, new in zip(written, read, strict=True):
        for field in ("task", "instruction", "seed", "success", "event", "start_episode_id", "extra"):
            assert getattr(new, field) == getattr(old, field), field
        for field in ("images", "states", "actions"):
            assert np.array_equal(getattr(new, field), getattr(old, field)), field
            assert getattr(new, field).dtype == getattr(old, field).dtype, field
    assert handle.table("reward_scores")["p_success"].to_pylist() == [0.25]
    assert handle.members()["owner"].to_pylist() == [ref.artifact_id]
    assert handle.table("evaluations")["successes"].to_pylist() == [1]
    assert (handle.checkpoint() / "sub" / "model.safetensors").read_bytes() == weights("Sample")
    assert not handle.problems()
    assert ref.created_at.utcoffset().total_seconds() == 0


def test_reading_a_part(lake):
    handle = lake.read(commit_all(lake))
    written = sample_episodes()
    assert [e.seed for e in handle.episodes(tasks=["book"])] == [1001]
    assert [e.seed for e in handle.episodes(success=False)] == [1000, 1002]
    bare = handle.episodes(frames=False)
    assert bare[0].images.shape == (0, 3, 16, 24, 3)
    assert np.array_equal(bare[2].actions, written[2].actions)
    some = handle.episodes(steps=[0, 3])
    assert np.array_equal(some[1].images, written[1].images[[0, 3]])
    assert handle.episodes(steps=[])[0].images.shape == (0, 3, 16, 24, 3)


def test_last_frames_only_and_many_batches(lake):
    last_only = [dataclasses.replace(e, images=e.images[-1:]) for e in sample_episodes(5)]
    with lake.commit(asset="evaluation", partition=PARTITION, identity=identity("e"), run_id="r") as draft:
        ids = draft.write_episodes(last_only[:2], purpose="evaluation")
        ids += draft.write_episodes(last_only[2:], purpose="evaluation")
    handle = lake.read(draft.ref)
    read = handle.episodes()
    assert [e.episode_id for e in read] == ids
    assert all(np.array_equal(a.images, b.images) for a, b in zip(last_only, read, strict=True))
    assert [len(e.images) for e in handle.episodes(steps=[0])] == [0] * 5
    assert np.array_equal(handle.episodes(steps=[4])[3].images, last_only[3].images)


def test_imagined_frames_keep_the_real_first_frame_and_shrink_the_rest(lake):
    ramp = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 4, (5, 3, 64, 64, 3), dtype=np.uint8)
    smooth = ramp[None, None, :, :, None] // 2 + noise
    episode = dataclasses.replace(sample_episodes(1)[0], images=smooth, success=None)
    with lake.commit(asset="imagined", partition=PARTITION, identity=identity("i"), run_id="r") as draft:
        draft.write_episodes([episode], purpose="imagined", world_model="w")
    handle = lake.read(draft.ref)
    read = handle.episodes()[0]
    assert read.success is None
    assert np.array_equal(read.images[0], smooth[0])
    assert not np.array_equal(read.images[1:], smooth[1:])
    assert np.abs(read.images[1:].astype(int) - smooth[1:]).mean() < 2.0
    assert handle.table("steps")["reward"].null_count == 5


def test_equal_identities_are_computed_once(lake):
    first = commit_all(lake)
    rows_before = len(lake.ledger.artifacts())
    assert commit_all(lake) == first
    assert len(lake.ledger.artifacts()) == rows_before, "the same partition again adds nothing"

    pointer = commit_all(lake, partition="ablation|01")
    assert pointer.source_artifact_id == first.artifact_id
    assert pointer.artifact_id != first.artifact_id
    assert pointer.content_digest == first.content_digest
    assert lake.read(pointer).episodes()[1].episode_id == lake.read(first).episodes()[1].episode_id
    parents = identity("everything", {"seed": 1}, {"start": lake.ledger.require("base")})
    assert lake.ledger.find(parents) == first, "a pointer is never found"
    assert [r.asset for r in lake.ledger.closure(pointer)] == ["base", "all"]

    third = commit_all(lake, partition="other|01")
    assert third.source_artifact_id == first.artifact_id, "pointers do not form chains"


def test_nothing_may_be_written_when_reused(lake):
    ref = commit_all(lake)
    same = identity("everything", {"seed": 1}, {"start": lake.ledger.require("base")})
    assert lake.ledger.find(same) == ref
    with (
        pytest.raises(VlawError, match="exists already"),
        lake.commit(asset="all", partition="x|01", identity=same, run_id="r") as draft,
    ):
        draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
    assert lake.ledger.current("all", "x|01") is None


def test_forced_run_replaces_and_keeps_history(lake):
    first = commit_all(lake)
    second = commit_all(lake, force=True)
    assert second.artifact_id != first.artifact_id
    assert second.content_digest == first.content_digest, "same inputs, same digest"
    assert lake.ledger.current("all", PARTITION) == second
    assert lake.ledger.get(first.artifact_id) == first
    assert len(lake.read(second).episodes()) == len(lake.read(first).episodes()) == 3


def test_content_digest_sees_every_part(lake):
    def digest(partition, change):
        episodes = sample_episodes(1)
        change(episodes[0])
        with lake.commit(asset="a", partition=partition, identity=identity(partition), run_id=partition) as draft:
            draft.write_episodes(episodes, purpose="rollout")
        return draft.ref.content_digest

    def flip(name):
        def change(episode):
            array = getattr(episode, name)
            array.flat[-1] = array.flat[-1] // 2 + 1

        return change

    changes = {
        "none": lambda e: None,
        "images": flip("images"),
        "states": flip("states"),
        "actions": flip("actions"),
        "success": lambda e: setattr(e, "success", None),
        "event": lambda e: setattr(e, "event", "z"),
        "extra": lambda e: setattr(e, "extra", {}),
        "seed": lambda e: setattr(e, "seed", 5),
    }
    digests = {name: digest(f"{name}|01", change) for name, change in changes.items()}
    assert len(set(digests.values())) == len(changes), digests
    assert digest("again|01", changes["none"]) == digests["none"], "partition, run and identity are not content"


def test_edges_are_what_was_read(lake):
    ref = commit_all(lake)
    base = lake.ledger.require("base")
    assert lake.ledger.edges(ref.artifact_id) == [("start", base)]
    with lake.commit(asset="b", partition=PARTITION, identity=identity("b", parents={"set": ref}), run_id="r") as draft:
        draft.read(ref, role="set")
        draft.read(base, role="below")  # covered: the parent stands on it
        draft.write_scores([{"episode_id": "e", "p_success": 0.5}])
    assert sorted(role for role, _ in lake.ledger.edges(draft.ref.artifact_id)) == ["below", "set"]
    closure = lake.ledger.closure(draft.ref)
    assert [r.asset for r in closure] == ["base", "all", "b"]


def test_an_input_outside_the_identity_is_refused(lake):
    ref = commit_all(lake)
    with (
        pytest.raises(VlawError, match="not among the parents"),
        lake.commit(asset="b", partition=PARTITION, identity=identity("b"), run_id="r") as draft,
    ):
        draft.read(ref, role="set")
    assert lake.ledger.current("b", PARTITION) is None


def test_row_order_survives(lake):
    owner = commit_all(lake).artifact_id
    with lake.commit(asset="c", identity=identity("c"), run_id="r") as draft:
        draft.write_members(
            [
                {"episode_id": f"e{n * 7919 % 20000}", "owner": owner, "weight": 1.0, "source": "real"}
                for n in range(20000)
            ]
        )
    read = lake.read(draft.ref).members()["episode_id"].to_pylist()
    assert read == [f"e{n * 7919 % 20000}" for n in range(20000)]


def test_identity_is_independent_of_the_order_of_parents():
    one = Identity("k", "c", "{}", (("a", "1"), ("b", "2")))
    other = Identity("k", "c", "{}", (("b", "2"), ("a", "1")))
    assert one.digest == other.digest
    assert one.digest != Identity("k", "c", "{}", (("a", "2"), ("b", "1"))).digest


def test_missing_partition_says_what_to_materialize(lake):
    with pytest.raises(VlawError, match=r"materialize asset policy, partition vlaw\|01"):
        lake.ledger.require("policy", PARTITION)


@pytest.mark.parametrize("partition", ["a b|01", "../x|01", "vlaw|x", "vlaw", "vlaw|01|02", "x/y|01"])
def test_partition_keys_cannot_leave_their_folder(lake, partition):
    with (
        pytest.raises(VlawError, match="experiment"),
        lake.commit(asset="c", partition=partition, identity=identity("c"), run_id="r"),
    ):
        pass


def test_lance_versions_are_tagged_and_garbage_is_found(lake):
    import lance

    ref = commit_all(lake)
    tags = lance.dataset(str(lake.paths.frames)).tags.list()
    assert tags[f"artifact-{ref.artifact_id}"]["version"] == ref.versions["frames"]["version"]
    assert find_garbage(lake, older_than_s=0) == []
    stray = lake.paths.checkpoints / ("0" * 64)
    stray.mkdir()
    (stray / "x.json").write_text("12345")
    assert [(item.path, item.size) for item in find_garbage(lake, older_than_s=0)] == [(stray, 5)]
    assert find_garbage(lake) == [], "young files may belong to a run at work"


def test_delta_log_is_kept_forever(lake):
    from deltalake import DeltaTable

    for folder in (lake.paths.root / "delta").iterdir():
        configuration = DeltaTable(str(folder)).metadata().configuration
        assert configuration["delta.enableExpiredLogCleanup"] == "false"
        assert configuration["delta.logRetentionDuration"] == "interval 5200 weeks"


def test_opening_what_is_no_lake(tmp_path):
    with pytest.raises(VlawError, match="no lake"):
        Lake.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()

    (tmp_path / "file").write_text("x")
    with pytest.raises(VlawError):
        Lake.open(tmp_path / "file")
    with pytest.raises(VlawError):
        Lake.open(tmp_path / "file" / "lake")

    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    with pytest.raises(VlawError, match=r"thesis\.txt"):
        Lake.open(tmp_path / "home")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.txt"]

    with pytest.raises(VlawError, match="local folder"):
        Lake.open("gs://bucket/lake")


@pytest.mark.parametrize("name", ["a%20b", "läke", "h#1", "q?"])
def test_paths_that_get_encoded_are_refused(tmp_path, name):
    with pytest.raises(VlawError, match="percent-encode"):
        Lake.open(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_paths_with_other_odd_characters_work(tmp_path):
    lake = Lake.open(tmp_path / "my lake, the 'asset=1' (+@) one")
    commit_all(lake)
    handle = lake.read(Lake.open(lake.paths.root).ledger.require("all", PARTITION))
    assert handle.table("episodes")["asset"].to_pylist() == ["all"] * 3
    assert len(handle.episodes()) == 3
    assert list(tmp_path.iterdir()) == [lake.paths.root]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": "vlaw-lake", "version": 99}', "format 99"),
        ('{"format": "other", "version": 1}', "other"),
        ("{", "FORMAT"),
    ],
)
def test_other_formats_are_refused(lake, content, message):
    lake.paths.format.write_text(content)
    for create in (True, False):
        with pytest.raises(VlawError, match=message):
            Lake.open(lake.paths.root, create=create)


def test_read_only_lake_reads_and_refuses_to_write(lake, monkeypatch):
    ref = commit_all(lake)
    from pathlib import Path

    real = Path.write_bytes

    def read_only(self, data):
        if self.name.startswith(".writable-"):
            raise OSError(30, "Read-only file system")
        return real(self, data)

    # Permission bits do not stop root, so the refusal of the system itself is put in its place.
    monkeypatch.setattr(Path, "write_bytes", read_only)
    with pytest.raises(VlawError, match="Read-only file system"):
        Lake.open(lake.paths.root)
    reader = Lake.open(lake.paths.root, create=False)
    assert reader.read(reader.ledger.get(ref.artifact_id)).episodes()
    with (
        pytest.raises(VlawError, match="Read-only file system"),
        reader.commit(asset="c", identity=identity("c"), run_id="r"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
def test_folder_without_write_permission(lake):
    lake.paths.root.chmod(0o555)
    try:
        with pytest.raises(VlawError, match="cannot be written"):
            Lake.open(lake.paths.root)
    finally:
        lake.paths.root.chmod(0o755)
