"""`vlaw export mp4`: a clip per episode, which opens and has every frame; nothing is replaced unasked."""

from __future__ import annotations

import av
import pytest
from asking import vlaw

from vlaw_assets.query import connect

pytestmark = pytest.mark.usefixtures("here")


def test_every_episode_of_an_artifact_has_its_clip(place, tmp_path):
    lake = place.lake
    result = vlaw("export", "mp4", "real_rollouts", "smoke", "1", "--out", "clips", code=0)
    ref = lake.ledger.require("real_rollouts", "smoke|01")
    episodes = lake.read(ref).episodes(frames=True)
    assert f"clips: {len(episodes)} clips of {len(episodes)} episodes" in result.output
    assert len(list((tmp_path / "clips").iterdir())) == len(episodes)
    for episode in episodes:
        with av.open(tmp_path / "clips" / f"{episode.episode_id}.mp4") as clip:
            frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert len(frames) == len(episode.images)
        height, views = episode.images.shape[2], episode.images.shape[1]
        assert frames[0].shape[1] >= views * height, "all cameras side by side"
    again = vlaw("export", "mp4", "real_rollouts", "smoke", "1", "--out", "clips", code=2)
    assert "of the clips are there" in again.output
    vlaw("export", "mp4", "real_rollouts", "smoke", "1", "--out", "clips", "--force", code=0)


def test_episodes_are_found_by_sql_and_by_id_and_what_is_not_there_writes_nothing(place, tmp_path):
    sql = "select episode_id from episodes where purpose = 'rollout' order by episode_id limit 1"
    vlaw("export", "mp4", sql, "--out", "one", code=0)
    with connect(place.lake) as query:
        [episode] = query.table(sql, {}).to_pylist()
    assert [path.stem for path in (tmp_path / "one").iterdir()] == [episode["episode_id"]]
    refused = vlaw("export", "mp4", "nothing-of-the-kind", "--out", "none", code=2)
    assert "nothing-of-the-kind" in refused.output
    assert not (tmp_path / "none").exists()
