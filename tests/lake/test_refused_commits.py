"""What fails within a commit, or may not be committed, is said and leaves nothing; what was damaged is made again."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from factories import PARTITION, commit_all, fill, identity, sample_episodes

from vlaw_assets.lake import Lake
from vlaw_models.errors import VlawError


@pytest.fixture
def lake(tmp_path):
    return Lake.open(tmp_path / "lake")


def test_exception_inside_leaves_nothing(lake):
    before = lake.ledger.artifacts()

    def fill_and_fail(draft):
        fill(draft)
        raise RuntimeError("boom")

    with (
        pytest.raises(RuntimeError, match="boom"),
        lake.commit(asset="all", partition=PARTITION, identity=identity("x"), run_id="r") as draft,
    ):
        fill_and_fail(draft)
    assert draft.ref is None
    assert Lake.open(lake.paths.root).ledger.artifacts() == before
    assert not list(lake.paths.temporary.rglob("*.json"))
    assert not list(lake.paths.checkpoints.iterdir())
    commit_all(lake)  # the lock is free again


def test_failing_disk_is_a_clear_error_and_commits_nothing(lake, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lake.tables, "write", full)
    with (
        pytest.raises(VlawError, match="the disk is full"),
        lake.commit(asset="all", partition=PARTITION, identity=identity("x"), run_id="r") as draft,
    ):
        fill(draft)
    assert Lake.open(lake.paths.root).ledger.artifacts() == []


def test_error_after_the_commit_is_not_a_failed_commit(lake, monkeypatch):
    write = lake.tables.write

    def lost_answer(name, *args, **kwargs):
        result = write(name, *args, **kwargs)
        if name == "artifacts":
            raise OSError("the answer got lost")
        return result

    monkeypatch.setattr(lake.tables, "write", lost_answer)
    with lake.commit(asset="all", partition=PARTITION, identity=identity("x"), run_id="r") as draft:
        fill(draft)
    assert lake.ledger.current("all", PARTITION) == draft.ref is not None


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "extra", "manifest"])
def test_damaged_checkpoint_is_named_and_mended_by_force(lake, damage):
    ref = commit_all(lake)
    folder = lake.paths.root / ref.location
    victim = folder / "sub" / "model.safetensors"
    data = bytearray(victim.read_bytes())
    if damage == "flip":
        data[1000] ^= 1
        victim.write_bytes(data)
    elif damage == "truncate":
        victim.write_bytes(data[:-1])
    elif damage == "delete":
        victim.unlink()
    elif damage == "extra":
        victim = folder / "sub" / "evil.json"
        victim.write_text("{}")
    else:
        victim = folder / "MANIFEST.json"
        victim.write_text(json.dumps(json.loads(victim.read_text()) | {"files": {}}))
    with pytest.raises(VlawError) as caught:
        lake.read(ref).checkpoint()
    assert victim.name in str(caught.value)
    assert any(victim.name in line for line in lake.read(ref).problems())

    mended = commit_all(lake, force=True)
    assert mended.location == ref.location
    assert lake.read(mended).checkpoint() == folder
    assert lake.read(ref).checkpoint() == folder


@pytest.mark.parametrize("table", ["episodes", "steps", "frames", "members"])
def test_damaged_data_file_is_named(lake, table):
    ref = commit_all(lake)
    path = lake.paths.root / ref.versions[table]["files"][0]["path"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    handle = lake.read(ref)
    with pytest.raises(VlawError) as caught:
        handle.members() if table == "members" else handle.episodes()
    assert path.name in str(caught.value)


def test_lost_data_is_made_again_instead_of_reused(lake):
    ref = commit_all(lake)
    shutil.rmtree(lake.paths.root / ref.location)
    again = commit_all(lake)
    assert not again.source_artifact_id
    assert again.artifact_id != ref.artifact_id
    assert again.content_digest == ref.content_digest
    assert lake.read(again).checkpoint().is_dir()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: (folder / "model.pt").write_bytes(b"x"), "pickles"),
        (lambda folder: (folder / "model.json").symlink_to("/etc/hostname"), "links"),
        (lambda folder: (folder / "sub").mkdir(), "empty"),
    ],
)
def test_checkpoints_hold_plain_files_only(lake, write, message):
    with (
        pytest.raises(VlawError, match=message),
        lake.commit(asset="c", identity=identity("c"), run_id="r") as draft,
    ):
        write(draft.checkpoint_dir())
    assert lake.ledger.artifacts() == []


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda d: d.write_scores([{"episode_id": "e", "p_success": 1.5}]), "p_success"),
        (lambda d: d.write_scores([{"episode_id": "e", "p_success": float("nan")}]), "finite"),
        (lambda d: d.write_scores([{"episode_id": "e", "p_sucess": 0.5}]), "p_sucess"),
        (lambda d: d.write_members([{"episode_id": "e", "owner": "a", "weight": -1.0, "source": "real"}]), "weight"),
        (
            lambda d: d.write_members([{"episode_id": None, "owner": "a", "weight": 1.0, "source": "real"}]),
            "episode_id",
        ),
        (lambda d: d.write_evaluations([{"task": "t", "trials": -1}]), "trials"),
        (lambda d: d.write_episodes(sample_episodes(1), purpose="dream"), "purpose"),
        (lambda d: d.set_metrics({"x": float("inf")}), "metrics"),
    ],
)
def test_bad_rows_are_refused(lake, write, name):
    with (
        pytest.raises(VlawError, match=name),
        lake.commit(asset="c", identity=identity("c"), run_id="r") as draft,
    ):
        write(draft)
    assert lake.ledger.artifacts() == []


def test_bad_episodes_are_refused(lake):
    good = sample_episodes(1)[0]
    broken = good.states.copy()
    broken[1, 1] = np.nan
    bad = [
        dataclasses.replace(good, states=broken),
        dataclasses.replace(good, states=good.states[:-1]),
        dataclasses.replace(good, images=good.images.astype(np.float32)),
        dataclasses.replace(good, images=np.concatenate([good.images, good.images])),
        dataclasses.replace(good, extra={"object": object()}),
    ]
    for episode in bad:
        with (
            pytest.raises(VlawError, match="episode 0"),
            lake.commit(asset="c", identity=identity("c"), run_id="r") as draft,
        ):
            draft.write_episodes([episode], purpose="rollout")
