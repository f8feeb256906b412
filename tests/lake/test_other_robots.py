"""Episodes of any robot are stored and read back: their cameras by name, their rate in the times of their steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from factories import commit, episode

from vlaw_assets.lake import Lake
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError

ARM = {"cameras": ("left", "right", "hand", "belly"), "control_hz": 15.0}


def recorded(**changes):
    made = episode(cameras=4, size=(6, 10), dims=(7, 8), steps=30, noise=3)
    return dataclasses.replace(made, **{**ARM, **changes})


def stored(tmp_path, name: str, *episodes):
    lake = Lake.open(tmp_path / name, create=True)
    ref = commit(
        lake, "made", "one|01", write=lambda draft: draft.write_episodes(episodes, purpose="rollout", world="arm")
    )
    return lake, ref


def test_cameras_and_rate_come_back_as_they_were(tmp_path):
    given = recorded()
    lake, ref = stored(tmp_path, "lake", given, dataclasses.replace(given, control_hz=30.0))
    one, faster = lake.read(ref).episodes()
    assert (one.cameras, one.control_hz, faster.control_hz) == (ARM["cameras"], 15.0, 30.0)
    for name in ("images", "states", "actions"):
        np.testing.assert_array_equal(getattr(one, name), getattr(given, name))
    times = [row["timestamp"] for row in lake.read(ref).table("steps").to_pylist()]
    np.testing.assert_allclose(times, [*np.arange(31) / 15, *np.arange(31) / 30])
    asked = connect(lake).execute("select distinct camera from frames order by camera").fetchall()
    assert [name for (name,) in asked] == sorted(ARM["cameras"])


@pytest.mark.parametrize("rate", [3.0, 5.0, 10.0, 15.0, 29.97, 50.0, 1000.0])
def test_a_rate_is_read_back_exactly(tmp_path, rate):
    lake, ref = stored(tmp_path, "lake", recorded(control_hz=rate))
    assert lake.read(ref).episodes(frames=False)[0].control_hz == rate


def test_names_and_rate_are_part_of_the_content(tmp_path):
    digests = {
        stored(tmp_path, str(number), recorded(**changes))[1].content_digest
        for number, changes in enumerate(
            ({}, {"cameras": ("left", "right", "belly", "hand")}, {"control_hz": 5.0}, {"cameras": ()})
        )
    }
    assert len(digests) == 4


def test_views_that_nobody_named_are_numbered(tmp_path):
    lake, ref = stored(tmp_path, "lake", recorded(cameras=()))
    assert lake.read(ref).episodes()[0].cameras == tuple(f"camera_{view}" for view in range(4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"cameras": ("left", "right")}, "2 named cameras for 4 views"), ({"control_hz": 0.0}, "control_hz is 0")],
)
def test_an_episode_that_contradicts_itself_is_refused(tmp_path, changes, words):
    with pytest.raises(VlawError, match=words):
        stored(tmp_path, "lake", recorded(**changes))
