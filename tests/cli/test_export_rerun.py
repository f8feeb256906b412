"""`vlaw export rerun`: Rerun's own reader finds in the file what the lake has; nothing is replaced unasked."""

from __future__ import annotations

import io
import sys

import av
import numpy as np
import pytest
from asking import vlaw

from vlaw_assets.lake import labels
from vlaw_assets.lake.picking import pick
from vlaw_assets.reports.episodes.robots import robot_of

CHUNKS = pytest.importorskip("rerun.chunk")


pytestmark = pytest.mark.usefixtures("here")


def read(path) -> dict[str, dict[str, list]]:
    """Entity path -> component or timeline -> its values, as Rerun's reader gives them."""
    reader = CHUNKS.RrdReader(path)
    [stored] = reader.recordings()
    found: dict[str, dict[str, list]] = {}
    for chunk in reader.stream(store=stored):
        batch = chunk.to_record_batch()
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name != "rerun.controls.RowId":
                assert name not in found.setdefault(chunk.entity_path, {}), "all of it in one chunk"
                found[chunk.entity_path][name] = column.to_pylist()
    return found


def test_the_reader_finds_cameras_numbers_outcome_and_facts_of_every_episode(place, tmp_path):
    lake = place.lake
    result = vlaw("export", "rerun", "real_rollouts", "smoke", "1", "all.rrd", code=0)
    ref = lake.ledger.require("real_rollouts", "smoke|01")
    episodes = lake.read(ref).episodes(frames=True)
    assert f"all.rrd: {len(episodes)} episodes" in result.output
    found = read(tmp_path / "all.rrd")
    assert {path.split("/")[1] for path in found} - {"__properties"} == {e.episode_id for e in episodes}
    for episode in episodes:
        root = f"/{episode.episode_id}"
        picked = pick(lake, [(ref.artifact_id, episode.episode_id)], images=False)
        [item] = picked.values()
        robot = robot_of(ref, item.row["world"])
        assert {path for path in found if path.startswith(f"{root}/cameras/")} == {
            f"{root}/cameras/{name}" for name in robot.camera_names
        }
        for view, name in enumerate(robot.camera_names):
            camera = found[f"{root}/cameras/{name}"]
            assert camera["step"] == list(range(episode.num_steps + 1))
            assert seconds(camera["time"]) == pytest.approx(np.arange(episode.num_steps + 1) / robot.control_hz)
            [[blob]] = camera["AssetVideo:blob"]
            with av.open(io.BytesIO(bytes(blob))) as clip:
                frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
                rate = float(clip.streams.video[0].average_rate)
            assert len(frames) == len(episode.images)
            assert rate == pytest.approx(robot.control_hz)
            shown = [nanos for [nanos] in camera["VideoFrameReference:timestamp"]]
            assert np.array(shown) / 1e9 == pytest.approx(np.arange(len(frames)) / robot.control_hz, abs=1e-3)
            scale = frames[0].shape[0] // episode.images.shape[2]
            last = frames[-1].reshape(episode.images.shape[2], scale, -1, scale, 3).mean((1, 3))
            assert np.abs(last - episode.images[-1, view]).mean() < 12, "the camera's own last frame"
        for which, values, vector in (
            ("state", episode.states, robot.state),
            ("action", episode.actions, robot.action),
        ):
            numbers = found[f"{root}/{which}"]
            assert numbers["step"] == list(range(len(values)))
            assert numbers["Scalars:scalars"] == values.astype(np.float64).tolist()
            [names] = numbers["SeriesLines:names"]
            named = zip(vector.names, vector.units, strict=True)
            assert names == [f"{name} ({unit})" if unit else name for name, unit in named]
        rewards = {step: value for step, value in enumerate(item.rewards) if value is not None}
        assert found[f"{root}/reward"]["step"] == list(rewards)
        assert [value for [value] in found[f"{root}/reward"]["Scalars:scalars"]] == list(rewards.values())
        [[outcome]] = found[f"{root}/outcome"]["TextLog:text"]
        assert outcome == "success" if episode.success else outcome == f"failure: {episode.event}"
        facts = {name: value[0][0] for name, value in found[root].items()}
        assert facts["episode_id"] == episode.episode_id
        assert (facts["task"], facts["instruction"]) == (episode.task, episode.instruction)
        assert (facts["experiment"], facts["iteration"], facts["source"]) == ("smoke", 1, "rollout")
        [[text]] = found[f"{root}/about"]["TextDocument:text"]
        assert f"instruction: {episode.instruction}" in text.splitlines()


def seconds(times: list) -> list[float]:
    return [value.total_seconds() for value in times]


def test_the_file_has_a_layout_with_every_episode(place, tmp_path):
    vlaw("export", "rerun", "imagined_rollouts", "smoke", "1", "few.rrd", "--limit", "2", code=0)
    reader = CHUNKS.RrdReader(tmp_path / "few.rrd")
    [layout] = reader.blueprints()
    stored = [(c.entity_path, c.to_record_batch().to_pydict()) for c in reader.stream(store=layout)]
    origins = [
        value[0][0] for _, columns in stored for name, value in columns.items() if name == "ViewBlueprint:space_origin"
    ]
    found = read(tmp_path / "few.rrd")
    cameras = {path for path in found if "/cameras/" in path}
    assert len(cameras) > 2
    assert cameras <= set(origins)
    scored = [path for path in found if path.endswith("/score")]
    [[p]] = found[scored[0]]["Scalars:scalars"]
    [name] = {path.split("/")[1] for path in scored[:1]}
    assert 0 <= p <= 1
    assert found[f"/{name}"]["p_success"] == [[p]]


def test_an_episode_of_which_the_last_frame_was_kept_shows_it_at_its_step(place, tmp_path):
    sql = "select episode_id from episodes where purpose = 'evaluation' and num_frames = 1 order by 1 limit 1"
    vlaw("export", "rerun", sql, "last.rrd", "--no-redraw", code=0)
    found = read(tmp_path / "last.rrd")
    [root] = {path.split("/")[1] for path in found} - {"__properties"}
    steps = found[f"/{root}/state"]["step"]
    cameras = [found[path] for path in found if "/cameras/" in path]
    assert cameras
    assert all(camera["step"] == [steps[-1]] for camera in cameras)


def test_labels_that_people_gave_stand_beside_what_was_recorded(place, tmp_path):
    rollouts = place.lake.read(place.lake.ledger.require("real_rollouts", "smoke|01")).episodes()
    row = next(episode.episode_id for episode in rollouts if episode.success)
    labels.label_episodes(place.lake, [(row, "failure", "anna", "[b]it slid</b>")])
    vlaw("export", "rerun", row, "one.rrd", code=0)
    found = read(tmp_path / "one.rrd")
    assert found[f"/{row}/outcome"]["TextLog:text"] == [["success"]]
    [[said]] = found[f"/{row}/label"]["TextLog:text"]
    assert said.startswith("failure: anna, ")
    assert said.endswith(": [b]it slid</b>")
    assert found[f"/{row}"]["outcome"] == [["failure"]]


def test_a_file_is_replaced_only_if_asked_and_what_is_not_there_writes_nothing(place, tmp_path):
    (tmp_path / "there.rrd").write_text("mine")
    refused = vlaw("export", "rerun", "real_rollouts", "smoke", "1", "there.rrd", code=2)
    assert "--force" in refused.output
    assert (tmp_path / "there.rrd").read_text() == "mine"
    vlaw("export", "rerun", "nothing-of-the-kind", "none.rrd", code=2)
    forgotten = vlaw("export", "rerun", "real_rollouts", "smoke", "1", code=2)
    assert ".rrd" in forgotten.output
    assert [path.name for path in tmp_path.iterdir()] == ["there.rrd"]


def test_without_the_sdk_or_with_it_off_the_remedy_is_said_and_nothing_is_written(place, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rerun", None)
        refused = vlaw("export", "rerun", "real_rollouts", "smoke", "1", "none.rrd", code=2)
        assert 'pip install "vlaw[rerun]"' in " ".join(refused.output.split())
    monkeypatch.setenv("RERUN", "off")
    assert "RERUN" in vlaw("export", "rerun", "real_rollouts", "smoke", "1", "none.rrd", code=2).output
    assert not list(tmp_path.iterdir())
