"""Sources of episodes: images that are read when they are indexed behave as the arrays that they stand for."""

from __future__ import annotations

import os

import numpy as np
import pytest
from factories import episode

from vlaw_models.episodes import Episode
from vlaw_models.sources import Frames, MemoryEpisodes, ScratchEpisodes, gather


def episodes(count: int = 3) -> list[Episode]:
    rng = np.random.default_rng(0)
    return [
        episode("stack", index, success=None, steps=index + 1, cameras=2, size=(4, 6), dims=(5, 5), noise=rng)
        for index in range(count)
    ]


@pytest.fixture(params=[MemoryEpisodes, ScratchEpisodes])
def source(request):
    if request.param is MemoryEpisodes:
        return MemoryEpisodes(episodes())
    scratch = ScratchEpisodes()
    scratch.append(episodes()[:1])
    scratch.append(episodes()[1:])
    return scratch


def test_frames_are_those_of_the_episodes(source):
    for index, (one, found) in enumerate(zip(episodes(), source, strict=True)):
        assert found.seed == one.seed
        assert np.array_equal(found.states, one.states)
        assert np.array_equal(source.frames(index), one.images)
        assert np.array_equal(source.frames(index, [1, 0, 1]), one.images[[1, 0, 1]])
        assert source.frames(index, []).shape == (0, 2, 4, 6, 3)
        loaded = source.loaded(index)
        assert isinstance(loaded.images, np.ndarray)
        assert np.array_equal(loaded.images, one.images)


@pytest.mark.parametrize(
    "key",
    [
        *(0, -1, slice(None), slice(1, None), slice(None, None, -1), [2, 0, 2], np.array([1]), (slice(None), 1)),
        *((0, 1), (slice(None), [1, 0]), (slice(-1, None), slice(None), 2), (..., 0), np.array([True, False] * 2)),
    ],
    ids=repr,
)
def test_images_are_indexed_as_arrays_are(key):
    scratch, plain = ScratchEpisodes(), episodes()
    scratch.append(plain)
    images = scratch[2].images
    assert isinstance(images, Frames)
    assert (len(images), images.shape, images.dtype, images.ndim) == (4, (4, 2, 4, 6, 3), np.uint8, 5)
    assert np.array_equal(images[key], plain[2].images[key])
    assert np.array_equal(np.asarray(images), plain[2].images)
    assert np.array_equal(np.stack(list(images)), plain[2].images)
    with pytest.raises(IndexError):
        images[4]


def test_gather_reads_several_sources_and_arrays_in_the_order_asked_for(source):
    plain = episodes(4)
    images = [*(episode.images for episode in source), plain[3].images]
    pairs = [(2, 3), (3, 0), (0, 1), (2, 3), (1, 2), (3, 4)]
    assert np.array_equal(gather(images, pairs), np.stack([plain[number].images[step] for number, step in pairs]))


def test_scratch_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scratch = ScratchEpisodes()
    scratch.append(episodes())
    assert os.listdir(tmp_path) == []
