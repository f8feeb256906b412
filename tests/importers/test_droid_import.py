"""DROID as it was recorded: what comes out of an episode's folder, and what is found out about a bad one."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from test_ctrl_world_import import write_video

from vlaw_assets.importers.description import Options
from vlaw_assets.importers.droid import SHAPE, open_recordings
from vlaw_assets.importers.registry import import_recordings
from vlaw_assets.lake import Lake
from vlaw_assets.query import connect
from vlaw_models.errors import VlawError
from vlaw_models.robots.droid import IN_JOINT_VELOCITY

ROWS, STRIDE = 7, 3
SMALL = Options(image_size=(24, 40))
EPISODE = "AUTOLab/success/2023-07-07/Fri_Jul__7_09:42:23_2023"
UUID = "AUTOLab+5d05c5aa+2023-07-07-09h-42m-23s"


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """One episode of seven rows: row r has state .1 r, target .1 r + .05, and its frame in video v brightness
    20 + 60 v + 8 r."""
    h5py = pytest.importorskip("h5py")
    root = tmp_path_factory.mktemp("raw") / "droid"
    folder = root / EPISODE
    for view, serial in enumerate(("11111111", "22222222", "33333333")):
        write_video(folder / f"recordings/MP4/{serial}.mp4", [20 + 60 * view + 8 * row for row in range(ROWS)], SHAPE)
    metadata = {
        "uuid": UUID,
        "success": True,
        "current_task": "Do any task, and then reset the scene",
        "trajectory_length": ROWS,
        "ext1_cam_serial": "11111111",
        "ext2_cam_serial": 22222222,
        "wrist_cam_serial": "33333333",
    }
    (folder / f"metadata_{UUID}.json").write_text(json.dumps(metadata))
    row = 0.1 * np.arange(ROWS)
    with h5py.File(folder / "trajectory.h5", "w") as file:
        for group, shift in (("observation/robot_state", 0.0), ("action", 0.05)):
            file[f"{group}/cartesian_position"] = np.repeat(row[:, None] + shift, 6, axis=1)
            file[f"{group}/gripper_position"] = row + shift
        file["observation/timestamp/control/step_start"] = 1_688_748_143_000 + np.arange(ROWS) * 66
        file["observation/timestamp/skip_action"] = np.arange(ROWS) == 0
    said = {UUID: {"language_instruction1": "put the cup on the plate", "language_instruction2": "cup to plate"}}
    (root / "aggregated-annotations-030724.json").write_text(json.dumps(said))
    return root


@pytest.fixture
def dataset(recorded, tmp_path) -> Path:
    """A copy of one's own."""
    return Path(shutil.copytree(recorded, tmp_path / "droid"))


def trajectory(root: Path) -> Path:
    return root / EPISODE / "trajectory.h5"


def edit(root: Path, **changes: object) -> None:
    path = root / EPISODE / f"metadata_{UUID}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_third_row_with_the_last_target_before_the_next(recorded, tmp_path):
    recordings = open_recordings(recorded, SMALL)
    (read,) = recordings.read([0])
    episode = read.episode
    np.testing.assert_allclose(episode.states[:, 0], [0.0, 0.3, 0.6], atol=1e-6)
    np.testing.assert_allclose(episode.actions, np.repeat([[0.25], [0.55]], 7, axis=1), atol=1e-6)
    expected = [[20 + 60 * view + 8 * row for view in range(3)] for row in range(0, ROWS, STRIDE)]
    np.testing.assert_allclose(episode.images.astype(float).mean(axis=(2, 3, 4)), expected, atol=3)
    assert (episode.instruction, episode.success) == ("put the cup on the plate", True)
    assert episode.extra["instructions"][1:] == ["cup to plate", "Do any task, and then reset the scene"]
    assert [(finding.rule, finding.decision) for finding in read.findings] == [("skip_action", "keep")]
    assert (recordings.index[0].name, recordings.index[0].rows) == (UUID, ROWS)
    assert len(recordings.files) == 5
    lake = Lake.open(tmp_path / "lake")
    ref = import_recordings(lake, "droid", recorded, SMALL, name="raw", run_id="r")
    with connect(lake) as query:
        (row,) = query.table("SELECT decision, success, num_frames FROM episodes").to_pylist()
    assert row == {"decision": "keep", "success": True, "num_frames": 3}
    assert ref.metrics["judged"] == 1


def test_of_a_robot_that_is_commanded_in_joints_every_row_is_a_command(dataset, tmp_path, h5py):
    with h5py.File(trajectory(dataset), "r+") as file:
        joints = 0.01 * np.arange(ROWS)[:, None] + np.array([0, -0.5, 0, -2, 0, 1.5, 0])
        file["observation/robot_state/joint_positions"] = joints
        file["action/joint_velocity"] = 0.1 * joints
    options = Options(image_size=(24, 40), robot="droid_joint_velocity")
    ref = import_recordings(Lake.open(tmp_path / "lake"), "droid", dataset, options, name="droid", run_id="r")
    assert (ref.metrics["judged"], ref.metrics["robot"]) == (1, "droid_joint_velocity")
    (read,) = open_recordings(dataset, options).read([0])
    np.testing.assert_allclose(read.episode.states[:, :7], joints[::STRIDE], atol=1e-6)
    rows = IN_JOINT_VELOCITY.rows(read.episode.actions)
    np.testing.assert_allclose(rows[:, :7], 0.1 * joints[:6], atol=1e-6)


def test_cameras_are_chosen_by_name(recorded):
    swapped = {"exterior_1": "ext2", "exterior_2": "ext2", "wrist": "wrist"}
    (read,) = open_recordings(recorded, Options(image_size=(24, 40), cameras=swapped)).read([0])
    brightness = read.episode.images[0].astype(float).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, [80, 80, 140], atol=3)
    with pytest.raises(VlawError, match="which video is camera 'wrist'"):
        open_recordings(recorded, Options(cameras={**swapped, "wrist": "hand"}))


def rewrite(key: str, make) -> object:
    """Replaces a dataset of the trajectory by what `make(h5py, file, old values)` returns, or does itself."""

    def spoil(root: Path) -> None:
        import h5py

        with h5py.File(trajectory(root), "r+") as file:
            old = file[key][()]
            del file[key]
            made = make(h5py, file, old)
            if made is not None:
                file[key] = made

    return spoil


STATE, START = "observation/robot_state/cartesian_position", "observation/timestamp/control/step_start"


def elsewhere(h5py, file, _old):
    other = Path(file.filename).with_name("other.h5")
    with h5py.File(other, "w") as made:
        made["x"] = np.zeros((ROWS, 6))
    file[STATE] = h5py.ExternalLink("other.h5", "x")


def from_bytes(_h5py, file, _old):
    secret = Path(file.filename).with_name("secret")
    secret.write_bytes(bytes(8 * 6 * ROWS))
    file.create_dataset(STATE, (ROWS, 6), "f8", external=[(str(secret), 0, 8 * 6 * ROWS)])


FAULTS = {
    "no file": (lambda root: trajectory(root).unlink(), "missing"),
    "no hdf5": (lambda root: trajectory(root).write_bytes(b"text"), "cannot be read"),
    "cut": (lambda root: trajectory(root).write_bytes(trajectory(root).read_bytes()[:3000]), "cannot be read"),
    "no states": (rewrite(STATE, lambda *_: None), f"no {STATE}"),
    "other width": (rewrite(STATE, lambda _h, _f, old: old[:, :5]), r"must be numbers \(rows, 6\)"),
    "texts": (rewrite(STATE, lambda _h, _f, old: old.astype("S8")), "must be numbers"),
    "other length": (rewrite("action/gripper_position", lambda _h, _f, old: old[:-1]), "6 of action/gripper_position"),
    "not finite": (rewrite(STATE, lambda _h, _f, old: np.where(old == old[3], np.nan, old)), "in row 3"),
    "a link": (rewrite(STATE, elsewhere), "a link to somewhere else"),
    "another file's bytes": (rewrite(STATE, from_bytes), "no dataset of this file"),
    "a bomb": (
        rewrite(STATE, lambda _h, f, _o: f.create_dataset(STATE, (10**9, 6), "f8", chunks=(1000, 6)) and None),
        "at most 200000",
    ),
    "back in time": (rewrite(START, lambda _h, _f, old: old[::-1]), "row 1 is not later"),
    "another rate": (rewrite(START, lambda _h, _f, old: old[0] + (old - old[0]) * 3), "198 ms apart, not 67"),
    "a gap": (rewrite(START, lambda _h, _f, old: old + 5000 * (np.arange(ROWS) > 3)), "row 4 is 5.1 s after"),
    "success says both": (lambda root: edit(root, success=False), "the folder says otherwise"),
    "odd label": (lambda root: edit(root, success="yes"), "labels are true or false"),
    "no serial": (lambda root: edit(root, wrist_cam_serial=None), "camera wrist is not known"),
    "a path for a serial": (lambda root: edit(root, wrist_cam_serial="../../x"), "camera wrist is not known"),
    "no video": (lambda root: edit(root, wrist_cam_serial="9"), "the video is missing"),
    "a short video": (
        lambda root: write_video(root / EPISODE / "recordings/MP4/33333333.mp4", [9] * 4, SHAPE),
        "4 frames for 7 rows",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_a_finding_of_its_episode(dataset, case):
    spoil, words = FAULTS[case]
    spoil(dataset)
    (read,) = open_recordings(dataset, SMALL).read([0])
    assert read.episode is None
    assert re.search(words, read.excluded.value), read.excluded.value
    assert read.excluded.episode == 0


def test_without_instructions_and_label_it_is_for_world_models(dataset):
    next(dataset.glob("aggregated*")).unlink()
    edit(dataset, current_task=" ", success=None)
    (dataset / EPISODE).rename(dataset / "episode")
    (read,) = open_recordings(dataset, SMALL).read([0])
    assert (read.episode.instruction, read.episode.success) == ("unspecified", None)


def test_a_folder_without_episodes_is_refused(h5py, tmp_path):
    with pytest.raises(VlawError, match=r"no metadata_\*\.json"):
        open_recordings(tmp_path, SMALL)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(VlawError, match="needs the package h5py") as caught:
        open_recordings(tmp_path, SMALL)
    assert "vlaw[droid]" in caught.value.remedy
