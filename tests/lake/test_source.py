"""Episodes whose frames stay in Lance: what is read later is what is pinned, from any thread and process."""

from __future__ import annotations

import errno
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from begun import commit_all
from lake_worker import identity, sample_episodes

from vlaw_assets.lake import Lake, decoded, frames
from vlaw_models.errors import VlawError


@pytest.fixture
def lake(tmp_path):
    return Lake.open(tmp_path / "lake")


def _read(source, pairs):
    return source.take(pairs)


PAIRS = [(2, 1), (0, 0), (2, 1), (1, 3), (0, 2)]


def test_a_source_gives_what_episodes_give(lake):
    handle = lake.read(commit_all(lake))
    whole, source = handle.episodes(), handle.source()
    assert len(source) == len(whole)
    for index, episode in enumerate(whole):
        assert source[index].images.shape == episode.images.shape
        assert np.array_equal(source.frames(index), episode.images)
        assert np.array_equal(source[index].states, episode.states)
        assert (source[index].episode_id, source[index].success) == (episode.episode_id, episode.success)
    assert np.array_equal(source.take(PAIRS), np.stack([whole[number].images[step] for number, step in PAIRS]))


def test_a_source_is_filtered_and_noted_as_episodes_are(lake):
    ref = commit_all(lake)
    chosen = [episode.episode_id for episode in lake.read(ref).episodes(success=False)]
    for options in ({"success": False}, {"episode_ids": chosen}):
        handle = lake.read(ref)
        assert [episode.episode_id for episode in handle.source(**options)] == chosen
        assert handle.given() == set(chosen)
    assert [episode.task for episode in lake.read(ref).source(tasks=["book"])] == ["book"]


def test_many_batches_and_last_frames_only(lake):
    episodes = sample_episodes()
    for episode in episodes:
        episode.images = episode.images[-1:]
    with lake.commit(asset="policy_evaluation", partition="vlaw|01", identity=identity("e"), run_id="r") as draft:
        for episode in episodes:
            draft.write_episodes([episode], purpose="evaluation")
    source = lake.read(draft.ref).source()
    assert [len(episode.images) for episode in source] == [1] * len(episodes)
    pairs = [(index, 0) for index in range(len(episodes))]
    assert np.array_equal(source.take(pairs), np.concatenate([episode.images for episode in episodes]))


def test_other_artifacts_and_later_versions_are_not_seen(lake):
    source = lake.read(commit_all(lake)).source()
    before = source.take(PAIRS)
    commit_all(lake, partition="other|01", force=True)
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.take(PAIRS), before)


def test_threads_and_fresh_processes_read_the_same(lake):
    source = lake.read(commit_all(lake)).source()
    expected = source.take(PAIRS)
    with ThreadPoolExecutor(4) as threads:
        assert all(np.array_equal(read, expected) for read in threads.map(lambda _: source.take(PAIRS), range(16)))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        assert np.array_equal(processes.submit(_read, source, PAIRS).result(), expected)


def test_what_is_asked_for_again_is_kept_as_pixels_and_stays_what_it_was(lake, monkeypatch):
    handle = lake.read(commit_all(lake))
    whole, source = handle.episodes(), handle.source()
    expected = np.stack([whole[number].images[step] for number, step in PAIRS])
    decoded = []
    decode = frames.decode
    monkeypatch.setattr(frames, "decode", lambda data: decoded.append(len(data)) or decode(data))
    counts = []
    for _ in range(3):
        before = len(decoded)
        assert np.array_equal(source.take(PAIRS), expected)
        counts.append(len(decoded) - before)
    pictures = len(set(PAIRS)) * expected.shape[1]
    assert counts == [pictures, pictures, 0], "the first time may be the only one: nothing is written for it"
    every = [(number, step) for number, episode in enumerate(whole) for step in range(len(episode.images))]
    everything = np.stack([whole[number].images[step] for number, step in every])
    for _ in range(3):
        assert np.array_equal(source.take(every), everything), "kept and fresh frames side by side"
    before = len(decoded)
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.take(PAIRS), expected)
    assert len(decoded) == before + pictures, "a copy has nothing yet"


@pytest.mark.parametrize("trouble", ["no room", "full disk", "short write"])
def test_where_pixels_cannot_be_kept_frames_are_decoded_every_time(lake, monkeypatch, trouble):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    handle = lake.read(commit_all(lake))
    whole, source = handle.episodes(), handle.source()
    if trouble == "no room":
        monkeypatch.setattr(decoded, "MOST", 3000)
    else:
        monkeypatch.setattr(decoded.os, "pwrite", full if trouble == "full disk" else lambda *_: 1)
    expected = np.stack([whole[number].images[step] for number, step in PAIRS])
    for _ in range(4):
        assert np.array_equal(source.take(PAIRS), expected)


def test_damaged_frames_are_named_before_any_is_given(lake):
    ref = commit_all(lake)
    path = lake.paths.root / ref.versions["frames"]["files"][0]["path"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(VlawError, match="is damaged"):
        lake.read(ref).source()


def test_an_artifact_without_frames_has_none(lake):
    episodes = sample_episodes()
    for episode in episodes:
        episode.images = episode.images[:0]
    with lake.commit(asset="all", partition="vlaw|02", identity=identity("none"), run_id="r") as draft:
        draft.write_episodes(episodes, purpose="rollout")
    source = lake.read(draft.ref).source()
    assert [episode.images.shape for episode in source] == [(0, 3, 16, 24, 3)] * len(episodes)
    assert source.frames(0).shape == (0, 3, 16, 24, 3)
